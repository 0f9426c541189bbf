# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a moving channel is believed to arrive, and which claims are believed, with computed times and no clock.

What a motor really does is asked of the simulated firmware, which is exact to the timer interrupt.
"""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from indi_multifocus.firmware import BUILDS, Firmware
from indi_multifocus.motion import NOMINAL_STEPS_PER_S, Motion
from indi_multifocus.protocol import Status, parse_line

BOTH = pytest.mark.parametrize("generation", [1, 2])
SLACK_INTERRUPTS = 4
"""The interrupt that switches the motor on, and those in which the times lie that were asked for."""


def ask(firmware: Firmware, now: float) -> tuple[int, int]:
    """Target and current steps of channel 1."""
    (_, line), *_ = firmware.feed(b"?\n", now)
    status = parse_line(line.rstrip())
    assert isinstance(status, Status)
    return status.targets[0], status.currents[0]


def arrived(firmware: Firmware, now: float) -> bool:
    target, current = ask(firmware, now)
    return target == current


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
def test_the_first_status_of_a_move_foretells_its_end_from_the_speed_of_the_generation(generation: int) -> None:
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
def test_at_the_foretold_moment_it_has_arrived_and_a_step_earlier_it_had_not(
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
    before_s = arrival_s - 1 / speed - slack_s
    if before_s > now:
        assert not arrived(firmware, before_s)
    assert arrived(firmware, arrival_s + slack_s)


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
    assert not arrived(firmware, arrival_s * 0.98)
    assert arrived(firmware, arrival_s * 1.02)


def test_two_statuses_of_the_same_step_measure_nothing() -> None:
    motion = Motion(61.0)
    motion.status(0.0, 0.0, 1000, 0)
    motion.status(0.0, 0.0, 1000, 0)
    motion.status(0.001, 0.001, 1000, 1)
    assert not motion.speed_is_measured
    assert motion.speed_steps_per_s == 61.0


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
def test_a_new_target_in_mid_move_is_foretold_by_itself(generation: int) -> None:
    speed = NOMINAL_STEPS_PER_S[generation]
    firmware = Firmware(generation)
    firmware.feed(b"1+1000\n", 0.0)
    motion = Motion(speed)
    for now in (0.0, 1.0, 2.0):
        motion.status(now, now, *ask(firmware, now))
    firmware.feed(b"1-100\n", 3.0)
    motion.status(3.0, 3.0, *ask(firmware, 3.0))
    first = motion.arrival_s()
    assert first == pytest.approx(3.0 + (3.0 * speed + 100) / speed, abs=2 / speed)
    motion.status(4.0, 4.0, *ask(firmware, 4.0))
    second = motion.arrival_s()
    assert first is not None
    assert second is not None
    assert second <= first
    assert arrived(firmware, second + SLACK_INTERRUPTS / BUILDS[generation].timer_hz)


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
    heard_s = 0.0
    for pause_s, there_s, back_s in polls:
        before_s, asked_s = asked_s, heard_s + pause_s
        taken_s = asked_s + there_s
        heard_s = taken_s + back_s
        target_now, current = ask(firmware, taken_s)
        if motion.speed_is_measured:
            assert motion.could_travel(current - before, heard_s - before_s)
        motion.status(asked_s, heard_s, target_now, current)
        before = current
