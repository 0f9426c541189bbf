# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a moving channel is believed to arrive, and which claims are believed, with computed times and no clock.

What a motor really does is asked of the simulated firmware, which is exact to the timer interrupt.
"""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from indi_multifocus.controller.motion import NOMINAL_STEPS_PER_S, Motion
from indi_multifocus.controller.protocol import Status, parse_line
from indi_multifocus.simulation.firmware import BUILDS, Firmware

BOTH = pytest.mark.parametrize("generation", [1, 2])
SLACK_INTERRUPTS = 4
"""The interrupt that switches the motor on, and those in which the times lie that were asked for."""


def ask(firmware: Firmware, now: float) -> tuple[int, int]:
    """Target and current steps of channel 1."""
    (_, line), *_ = firmware.feed(b"?\n", now)
    status = parse_line(line.rstrip())
    assert isinstance(status, Status)
    return status.targets[0], status.currents[0]


def stands(firmware: Firmware, now: float) -> bool:
    """Whether the motor does, to the microstep."""
    firmware._advance(now)
    return not firmware._motor(1).moving


def test_a_channel_at_rest_has_no_arrival() -> None:
    motion = Motion(61.0)
    assert motion.arrival_s() is None
    motion.status(1.0, 1.0, 500, 500)
    assert motion.arrival_s() is None
    motion.status(2.0, 2.0, 1000, 500)
    assert motion.arrival_s() is not None
    motion.status(11.0, 11.0, 1000, 1000)
    assert motion.arrival_s() is None


@BOTH
def test_the_first_status_of_a_move_predicts_its_end_from_the_speed_of_the_generation(generation: int) -> None:
    speed = NOMINAL_STEPS_PER_S[generation]
    motion = Motion(speed)
    motion.status(100.0, 100.0, 1000, 0)
    assert motion.arrival_s() == pytest.approx(100.0 + 1000 / speed)
    assert motion.travel_time_s(-1000) == pytest.approx(1000 / speed)


def test_the_nominal_speeds_are_those_of_the_firmware() -> None:
    for generation, build in BUILDS.items():
        assert NOMINAL_STEPS_PER_S[generation] == build.timer_hz / 2 / (1 << build.shift)


@given(
    generation=st.sampled_from([1, 2]),
    start=st.integers(-2000, 2000),
    target=st.integers(-2000, 2000),
    asked=st.lists(st.floats(0, 0.999), min_size=1, max_size=20),
)
def test_at_the_predicted_moment_it_stands_within_a_step(
    generation: int, start: int, target: int, asked: list[float]
) -> None:
    assume(abs(target - start) > 2)
    build = BUILDS[generation]
    firmware = Firmware(generation, eeprom=[start << build.shift, 0])
    firmware.feed(b"1%+d\n" % target, 0.0)
    speed = NOMINAL_STEPS_PER_S[generation]
    motion = Motion(speed)
    for fraction in sorted(asked):
        now = fraction * (abs(target - start) - 1) / speed
        motion.status(now, now, *ask(firmware, now))
    arrival_s = motion.arrival_s()
    assert arrival_s is not None
    slack_s = SLACK_INTERRUPTS / build.timer_hz
    late_s = 1 / speed if target < start else 0.0
    before_s = arrival_s - 1 / speed + late_s - slack_s
    if before_s > now:
        assert not stands(firmware, before_s)
    assert stands(firmware, arrival_s + late_s + slack_s)


@given(
    generation=st.sampled_from([1, 2]),
    target=st.integers(-300, 300),
    asked=st.lists(st.floats(0, 5), max_size=6),
)
def test_a_move_that_was_seen_to_begin_is_not_over_before_the_motor_stands(
    generation: int, target: int, asked: list[float]
) -> None:
    build = BUILDS[generation]
    firmware = Firmware(generation)
    firmware.feed(b"1%+d\n" % target, 0.0)
    motion = Motion(NOMINAL_STEPS_PER_S[generation])
    slack_s = SLACK_INTERRUPTS / build.timer_hz
    for now in [0.0, *sorted(asked)]:
        motion.status(now, now, *ask(firmware, now))
        if not motion.moving:
            assert stands(firmware, now + slack_s)
            break
    else:
        arrival_s = motion.arrival_s()
        assert arrival_s is not None
        end_s = max(now, arrival_s) + slack_s
        motion.status(end_s, end_s, *ask(firmware, end_s))
        assert not motion.moving
        assert stands(firmware, end_s)


def test_each_status_more_makes_the_end_of_a_move_more_certain() -> None:
    for sign in (1, -1):
        motion = Motion(100.0)
        ends = []
        for at_s, done in ((0.0, 0), (0.107, 10), (0.501, 51), (0.6, 60)):
            motion.status(at_s, at_s, sign * 100, sign * done)
            ends.append(motion.arrival_s())
        # Rounded down, the statuses tell of 1.0, 1.007, 0.991 and 1.0 s.
        assert ends == pytest.approx([1.0, 1.0, 0.991, 0.991] if sign > 0 else [1.0, 1.007, 1.007, 1.007])


@BOTH
def test_inward_the_target_is_shown_before_the_last_step_is_done(generation: int) -> None:
    speed = NOMINAL_STEPS_PER_S[generation]
    motion = Motion(speed)
    motion.status(0.0, 0.0, -100, 0)
    end_s = 100 / speed
    in_the_last_step_s = end_s - 0.5 / speed
    motion.status(in_the_last_step_s, in_the_last_step_s, -100, -100)
    assert motion.arrival_s() == pytest.approx(end_s)
    motion.status(end_s, end_s, -100, -100)
    assert motion.arrival_s() is None
    motion.status(9.0, 9.0, -200, -100)
    assert motion.arrival_s() == pytest.approx(9.0 + end_s)


def test_a_motor_that_is_quicker_than_believed_is_waited_for_no_longer_than_a_step() -> None:
    motion = Motion(50.0)
    motion.status(0.0, 0.0, -1000, 0)
    motion.status(0.1, 0.1, -1000, -1000)
    assert motion.arrival_s() == pytest.approx(0.12)
    motion.status(0.11, 0.11, -1000, -1000)
    assert motion.arrival_s() == pytest.approx(0.12)
    motion.status(0.121, 0.121, -1000, -1000)
    assert not motion.moving


@pytest.mark.parametrize("target", [1000, -1000])
def test_a_motor_that_was_stopped_on_its_way_stands_at_once(target: int) -> None:
    motion = Motion(61.0)
    motion.status(0.0, 0.0, target, 0)
    motion.status(1.0, 1.0, target, target // 20)
    motion.status(1.1, 1.1, target // 18, target // 18)
    assert not motion.moving


@BOTH
@pytest.mark.parametrize("factor", [0.2, 0.5, 2.0, 30.0])
@pytest.mark.parametrize("target", [5000, -5000])
def test_a_motor_of_another_speed_is_measured(generation: int, factor: float, target: int) -> None:
    speed = NOMINAL_STEPS_PER_S[generation] * factor
    firmware = Firmware(generation, speed=factor)
    firmware.feed(b"1%+d\n" % target, 0.0)
    motion = Motion(NOMINAL_STEPS_PER_S[generation])
    for percent in range(0, 40, 2):
        now = 5000 / speed * percent / 100
        motion.status(now, now, *ask(firmware, now))
    assert motion.speed_is_measured
    assert motion.speed_steps_per_s == pytest.approx(speed, rel=0.01)
    arrival_s = motion.arrival_s()
    assert arrival_s is not None
    assert not stands(firmware, arrival_s * 0.98)
    assert stands(firmware, arrival_s * 1.02)


def test_two_statuses_of_the_same_step_measure_nothing() -> None:
    motion = Motion(61.0)
    motion.status(0.0, 0.0, 1000, 0)
    motion.status(0.0, 0.0, 1000, 0)
    motion.status(0.001, 0.001, 1000, 1)
    assert not motion.speed_is_measured
    assert motion.speed_steps_per_s == 61.0


def test_a_motor_that_stands_says_nothing_of_its_speed() -> None:
    motion = Motion(61.0)
    motion.status(0.0, 0.0, 1000, 0)
    motion.status(60.0, 60.0, 1000, 1000)
    assert not motion.speed_is_measured


def test_a_speed_is_measured_only_where_a_step_more_or_less_makes_little_difference() -> None:
    motion = Motion(61.0)
    motion.status(0.0, 0.0, 1000, 0)
    motion.status(1.0, 1.0, 1000, 6)
    few = motion.speed_is_measured
    motion.status(10.0, 10.0, 1000, 60)
    many = motion.speed_is_measured
    assert (few, many) == (False, True)
    assert motion.speed_steps_per_s == pytest.approx(6.0, rel=0.02)


@BOTH
@pytest.mark.parametrize(("first", "target"), [(1000, 2000), (1000, -100), (-1000, -2000), (-1000, 100)])
def test_a_new_target_in_mid_move_is_predicted_by_itself(generation: int, first: int, target: int) -> None:
    speed = NOMINAL_STEPS_PER_S[generation]
    firmware = Firmware(generation)
    firmware.feed(b"1%+d\n" % first, 0.0)
    motion = Motion(speed)
    for now in (0.0, 1.0, 2.0):
        motion.status(now, now, *ask(firmware, now))
    firmware.feed(b"1%+d\n" % target, 3.0)
    for now in (3.0, 3.5, 4.0):
        motion.status(now, now, *ask(firmware, now))
    arrival_s = motion.arrival_s()
    assert arrival_s == pytest.approx(3.0 + abs(target - first / 1000 * 3.0 * speed) / speed, abs=2 / speed)
    assert arrival_s is not None
    step_s = 1 / speed
    assert not stands(firmware, arrival_s - step_s)
    assert stands(firmware, arrival_s + step_s)


def test_the_speed_that_was_measured_in_one_move_serves_the_next() -> None:
    motion = Motion(61.0)
    motion.status(0.0, 0.0, 1000, 0)
    motion.status(1.0, 1.0, 1000, 500)
    motion.status(2.0, 2.0, 1000, 1000)
    motion.status(10.0, 10.0, 0, 1000)
    assert motion.arrival_s() == pytest.approx(12.0, rel=0.01)


@BOTH
def test_a_way_that_the_motor_can_go_in_the_time_is_believed_and_a_longer_one_is_not(generation: int) -> None:
    motion = Motion(NOMINAL_STEPS_PER_S[generation])
    way = round(NOMINAL_STEPS_PER_S[generation] * 10)
    for sign in (1, -1):
        assert motion.could_travel(sign * way, 10.0)
        assert not motion.could_travel(sign * way, 8.0)
        assert not motion.could_travel(sign * 1000, 0.2)
    assert motion.could_travel(0, 0.0)


def test_a_motor_that_was_seen_to_be_quick_is_believed_to_be_so() -> None:
    motion = Motion(61.0)
    assert not motion.could_travel(10_000, 1.0)
    motion.status(0.0, 0.0, 100_000, 0)
    motion.status(1.0, 1.0, 100_000, 10_000)
    assert motion.could_travel(10_000, 1.0)
    assert not motion.could_travel(20_000, 1.0)


@given(
    generation=st.sampled_from([1, 2]),
    target=st.integers(-5000, 5000),
    times=st.lists(st.floats(0, 100), min_size=2, max_size=12),
)
def test_what_a_motor_really_does_is_always_believed(generation: int, target: int, times: list[float]) -> None:
    firmware = Firmware(generation)
    firmware.feed(b"1%+d\n" % target, 0.0)
    motion = Motion(NOMINAL_STEPS_PER_S[generation])
    before_s, before = 0.0, 0
    for now in sorted(times):
        target_now, current = ask(firmware, now)
        assert motion.could_travel(current - before, now - before_s)
        motion.status(now, now, target_now, current)
        before_s, before = now, current


@given(
    target=st.integers(-50_000, 50_000),
    factor=st.floats(1, 50),
    polls=st.lists(st.tuples(st.floats(0.001, 0.5), st.floats(0, 0.3), st.floats(0, 0.3)), min_size=2, max_size=12),
)
def test_a_motor_is_believed_also_by_a_machine_that_is_too_busy_to_ask_in_time(
    target: int, factor: float, polls: list[tuple[float, float, float]]
) -> None:
    firmware = Firmware(2, speed=factor)
    firmware.feed(b"1%+d\n" % target, 0.0)
    motion = Motion(NOMINAL_STEPS_PER_S[2])
    motion.status(0.0, 0.0, *ask(firmware, 0.0))
    asked_s, before = 0.0, 0
    received_s = 0.0
    for pause_s, there_s, back_s in polls:
        before_s, asked_s = asked_s, received_s + pause_s
        taken_s = asked_s + there_s
        received_s = taken_s + back_s
        target_now, current = ask(firmware, taken_s)
        if motion.speed_is_measured:
            assert motion.could_travel(current - before, received_s - before_s)
        motion.status(asked_s, received_s, target_now, current)
        before = current


def test_a_status_that_was_asked_for_behind_an_order_is_no_reason_to_look_for_the_end_too_soon() -> None:
    outward, inward = Motion(100.0), Motion(100.0)
    outward.status(5.0, 5.06, 50, 0, late_s=0.008)
    inward.status(5.0, 5.06, -50, 0, late_s=0.008)
    assert outward.arrival_s() == pytest.approx(5.508)
    assert inward.arrival_s() == pytest.approx(5.5), "how late it was is not certain, and a later status tells more"
