# SPDX-License-Identifier: GPL-3.0-or-later
"""A few of the schedules of faults of which `make faults` runs thousands; `tools/faults/schedule.py` has their rules.

And schedules that once went wrong, each with the story of its mistake.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from indi_multifocus import focuser_position
from indi_multifocus.controller.channel import Channel
from indi_multifocus.controller.session import LinkLost, Session
from indi_multifocus.position_state import Event
from indi_multifocus.settings import files
from indi_multifocus.simulation.firmware import Firmware
from tools.faults.__main__ import kinds_of
from tools.faults.schedule import EVERYTHING, FAULTS, run
from tools.faults.world import World


@pytest.mark.parametrize("kind", FAULTS)
def test_no_schedule_of_one_kind_of_fault_leads_to_a_lie(kind: str) -> None:
    for seed in range(3):
        assert run(seed, kinds_of(kind)).problems == []


@pytest.mark.parametrize("first", range(0, 60, 10))
def test_no_schedule_of_several_faults_leads_to_a_lie(first: int) -> None:
    for seed in range(first, first + 10):
        assert run(seed, kinds_of(EVERYTHING)).problems == []


def test_a_seed_gives_the_same_run_again() -> None:
    runs: list[list[str]] = [[], []]
    for lines in runs:
        run(7, trace=lines.append)
    assert runs[0] == runs[1]
    assert len(runs[0]) > 100


def test_a_driver_that_believes_everything_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Channel, "_is_unverified", lambda *_: False)
    power = kinds_of("power of a controller fed by its USB cable")
    assert any("wrong by" in problem for seed in range(30) for problem in run(seed, power).problems)


def test_a_driver_that_stays_busy_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(focuser_position, "observe", lambda *_, **__: Event.SEEN_MOVING)
    monkeypatch.setattr("tools.faults.schedule.MAX_S", 60.0)
    assert any("Busy for ever" in problem for seed in range(10) for problem in run(seed).problems)


def test_a_driver_that_never_sleeps_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Session, "wake_s", lambda _: 0.0)
    assert any("does not sleep" in problem for problem in run(1).problems)


def test_a_reply_that_gets_late_while_its_end_is_left_to_come_in_does_not_keep_the_driver_awake() -> None:
    assert run(1364, kinds_of("replies cut short")).problems == []


@pytest.mark.parametrize("seed", [14, 2030])
def test_what_was_lost_behind_a_uart_is_not_answered_by_the_replies_to_later_orders(seed: int) -> None:
    """Where a late status was taken for merely late, although another query waited for its reply."""
    assert run(seed, kinds_of(EVERYTHING)).problems == []


# Stories of schedules, each of which once ended with a wrong position and Ok


class Story:
    """A world in which the test says what happens."""

    def __init__(self, world: World) -> None:
        self.world, self.box = world, world.box
        world.start_driver()
        self.connect()
        world.run_for(3.0)

    def connect(self) -> None:
        self.new("CONNECTION", "Switch", "CONNECT", "On")

    def new(self, name: str, kind: str, element: str, value: object, device: str = "MultiFocus 1") -> None:
        """As indiserver passes it on."""
        one = f'    <one{kind} name="{element}">\n{value}\n    </one{kind}>\n'
        self.world.say(f'<new{kind}Vector device="{device}" name="{name}">\n{one}</new{kind}Vector>\n')

    def move(self, position: int) -> None:
        self.world.allowed[1] = range(-9_999_999, 10_000_000)
        self.new("ABS_FOCUS_POSITION", "Number", "FOCUS_ABSOLUTE_POSITION", position)

    def restart(self) -> None:
        self.world.kill_driver()
        self.world.run_for(0.1)
        self.world.start_driver()
        self.connect()

    @property
    def shown(self) -> tuple[str, float]:
        """State and position, when all is quiet."""
        self.world.run_for(60.0)
        view = self.world.view
        position = view.value(DEVICE, "ABS_FOCUS_POSITION", "FOCUS_ABSOLUTE_POSITION")
        return view.state(DEVICE, "ABS_FOCUS_POSITION"), float(position)


DEVICE, OTHER = "MultiFocus 1", "MultiFocus 2"


@pytest.fixture(params=[3, 4, 5, 6])
def story(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Story]:
    """Seeds differ in generation, polling period, time-out and the speed of the line."""
    with World(request.param, tmp_path).inhabited() as world:
        yield Story(world)


def test_power_that_is_off_for_longer_than_the_move_needs_is_no_arrival(story: Story) -> None:
    story.move(200)
    story.world.run_for(1.0)
    story.box.power_off()
    story.box.pull()
    story.world.run_for(30.0)
    story.box.power_on()
    story.box.plug()
    assert story.shown == ("Alert", 200)


def test_who_sees_the_link_lost_and_restarts_the_driver_gets_no_arrival_either(story: Story) -> None:
    story.move(200)
    story.world.run_for(1.0)
    story.box.power_off()
    story.box.pull()
    story.world.run_for(5.0)
    story.restart()
    story.world.run_for(30.0)
    story.box.power_on()
    story.box.plug()
    story.connect()
    assert story.shown == ("Alert", 200)


def test_an_earlier_target_is_no_arrival_after_a_restart(story: Story) -> None:
    story.move(5000)
    story.world.run_for(1.0)
    story.box.silent = True
    story.box.lose_input = 1000
    story.move(90)
    story.world.run_for(0.1)
    story.world.kill_driver()
    story.box.heal()
    story.box.power_off()
    story.world.boot = "another"
    story.box.power_on()
    story.world.start_driver()
    story.connect()
    assert story.shown == ("Alert", 5000)


def test_the_place_that_is_shown_is_no_way_back_to_it_after_a_loss_of_power(story: Story) -> None:
    story.move(255)
    story.world.run_for(1.0)
    story.box.power_off()
    story.world.run_for(0.3)
    story.box.power_on()
    story.box.silent = True
    shown = int(story.world.view.value(DEVICE, "ABS_FOCUS_POSITION", "FOCUS_ABSOLUTE_POSITION"))
    story.move(shown)
    story.world.run_for(10.0)
    story.box.silent = False
    assert story.shown == ("Alert", shown)


def test_a_way_that_a_new_driver_finds_cannot_have_begun_at_a_false_end(story: Story) -> None:
    story.move(-2000)
    story.world.run_for(0.03)
    story.box.power_off()
    story.world.run_for(0.2)
    story.box.power_on()
    story.box.silent = True
    story.move(1)
    story.world.run_for(0.1)
    story.box.silent = False
    story.restart()
    assert story.shown == ("Alert", 1.0)


def test_answers_that_pass_for_those_that_were_lost_prove_no_arrival(story: Story) -> None:
    story.move(40)
    assert story.world.driver is not None
    poll_thread = story.world.driver._controller._thread
    while story.box.shaft_steps(1) < 25 or (poll_thread._session is not None and not poll_thread._session.quiet):
        story.world.run_for(0.0005)
    story.box.power_off()
    story.new("FOCUS_ABORT_MOTION", "Switch", "ABORT", "On")
    story.world.run_for(0.4)
    story.box.power_on()
    story.new("FOCUS_ABORT_MOTION", "Switch", "ABORT", "On")
    story.world.run_for(0.001)
    story.move(40)
    state, position = story.shown
    assert (state, position) == ("Alert", 40.0)
    assert story.box.shaft_steps(1) < 39


def test_a_stop_on_a_way_that_began_at_a_false_end_is_no_place_to_believe(story: Story) -> None:
    story.move(-40)
    story.world.run_for(0.3)
    story.box.power_off()
    story.world.run_for(0.3)
    story.box.power_on()
    story.box.latency_s = 0.15
    story.move(-500)
    story.world.run_for(0.05)
    story.new("FOCUS_ABORT_MOTION", "Switch", "ABORT", "On")
    state, position = story.shown
    assert abs(story.box.shaft_steps(1) - position) > 2, "it did not go as the story wants it"
    assert state == "Alert"


def test_a_move_that_was_given_up_is_not_sent_before_the_one_that_replaced_it(story: Story) -> None:
    sent: list[str] = []
    story.world.trace = sent.append
    story.box.change_reply.append(lambda reply: b"0\r\n")
    story.move(-100)
    story.world.run_for(0.0)
    story.move(100)
    state, position = story.shown
    assert (state, position) == ("Ok", 100.0)
    written = [line for line in sent if " > b'" in line]
    replaced = [number for number, line in enumerate(written) if "+100" in line]
    assert replaced
    assert not any("-100" in line for line in written[replaced[0] :])


def test_a_moment_of_nonsense_on_a_line_with_long_delays_leaves_the_position_verified(story: Story) -> None:
    story.box.latency_s = 0.15
    story.move(2000)
    story.world.run_for(5.0)
    for _ in range(3):
        story.box.noise(b"gnat\r\n")
        story.world.run_for(3.0)
    assert story.shown == ("Ok", 2000.0)


def test_a_zero_that_only_seemed_to_fail_counts(story: Story) -> None:
    story.move(40)
    story.world.run_for(5.0)
    story.new("FOCUS_SYNC", "Number", "FOCUS_SYNC_VALUE", 900)
    story.new("FOCUS_ABORT_MOTION", "Switch", "ABORT", "On")
    story.box.silent = True
    story.new("FOCUS_SYNC", "Number", "FOCUS_SYNC_VALUE", 0)
    story.world.run_for(10.0)
    story.box.heal()
    state, position = story.shown
    assert (state in ("Ok", "Idle"), position) == (True, 0)


def test_the_place_that_is_called_0_at_once_after_an_inward_move_is_its_end(story: Story) -> None:
    for _ in range(20):
        begin = story.box.shaft_steps(1)
        story.move(-25)
        while story.world.view.state(DEVICE, "ABS_FOCUS_POSITION") != "Ok":
            story.world.run_for(0.0005)
        story.new("FOCUS_SYNC", "Number", "FOCUS_SYNC_VALUE", 0)
        assert story.shown == ("Ok", 0.0)
        assert story.box.shaft_steps(1) == begin - 25


def test_a_zero_meant_for_another_channel_leaves_the_position_unverified(story: Story) -> None:
    story.move(40)
    story.world.run_for(5.0)
    story.box.stray_input(b"1Z\n")
    story.box.noise(b"")
    assert story.shown == ("Alert", 0)


def test_a_zero_is_seen_to_its_end_by_who_connects_at_once_again(story: Story) -> None:
    story.move(40)
    story.world.run_for(5.0)
    story.new("CONNECTION", "Switch", "CONNECT", "On", OTHER)
    story.world.run_for(1.0)
    story.new("FOCUS_SYNC", "Number", "FOCUS_SYNC_VALUE", 900)
    story.world.run_for(1.0)
    story.new("FOCUS_SYNC", "Number", "FOCUS_SYNC_VALUE", 0)
    story.new("CONNECTION", "Switch", "DISCONNECT", "On")
    story.connect()
    state, position = story.shown
    # Where that was the only channel, the link was closed before the zero was sent.
    assert (state, position) == ("Ok", 0.0 if story.world.channels > 1 else 900.0)
    assert story.world.view.state(DEVICE, "FOCUS_SYNC") == "Ok"


def test_a_reversal_is_seen_to_its_end_by_who_connects_at_once_again(story: Story) -> None:
    story.new("CONNECTION", "Switch", "CONNECT", "On", OTHER)
    story.world.run_for(1.0)
    story.new("FOCUS_REVERSE_MOTION", "Switch", "INDI_ENABLED", "On")
    story.new("CONNECTION", "Switch", "DISCONNECT", "On")
    story.connect()
    assert story.shown == ("Ok", 0.0)
    assert story.world.view.state(DEVICE, "FOCUS_REVERSE_MOTION") in ("Ok", "Idle")
    assert story.world.view.value(DEVICE, "FOCUS_REVERSE_MOTION", "INDI_ENABLED") == "On"


@pytest.mark.parametrize("end", ["disconnected", "ended", "killed"])
def test_a_stop_that_could_not_be_sent_comes_first_when_the_controller_is_back(story: Story, end: str) -> None:
    story.move(4000)
    story.world.run_for(1.0)
    story.box.pull()
    story.world.run_for(1.0)
    story.new("FOCUS_ABORT_MOTION", "Switch", "ABORT", "On")
    story.world.run_for(0.5)
    if end == "disconnected":
        story.new("CONNECTION", "Switch", "DISCONNECT", "On")
    else:
        story.world.end_driver() if end == "ended" else story.world.kill_driver()
        story.world.start_driver()
    story.box.plug()
    story.connect()
    _, position = story.shown
    assert story.world.view.state(DEVICE, "FOCUS_ABORT_MOTION") != "Busy"
    assert position < 1000
    assert position == int(story.box.shaft_steps(1))


def test_a_stop_that_another_controller_answers_is_answered(story: Story) -> None:
    story.move(4000)
    story.world.run_for(1.0)
    story.box.firmware = Firmware(3 - story.world.generation, story.world.channels)
    story.box.change_reply.append(lambda reply: b"0\r\n")
    story.new("FOCUS_ABORT_MOTION", "Switch", "ABORT", "On")
    assert story.shown[0] == "Alert"
    assert story.world.view.busy(DEVICE) == []


def test_fans_that_are_switched_by_who_disconnects_at_once_are_not_busy_for_ever(story: Story) -> None:
    story.new("FAN", "Switch", "INDI_ENABLED", "On")
    story.world.run_for(0.0)
    story.new("CONNECTION", "Switch", "DISCONNECT", "On")
    story.connect()
    assert story.shown == ("Ok", 0.0)
    assert story.world.view.busy(DEVICE) == []


# What a power cut of the computer leaves


def cut_power(story: Story) -> None:
    story.world.cut_power()
    story.world.run_for(5.0)
    story.box.power_on()
    story.world.start_driver()
    story.connect()


@pytest.mark.parametrize("position", [900, 0])
def test_a_sync_that_was_answered_outlives_a_power_cut(story: Story, position: int) -> None:
    story.move(40)
    story.world.run_for(5.0)
    answers: list[str] = []
    story.world.view.when_set = lambda device, name: answers.append(story.world.view.state(device, name) + name)
    story.new("FOCUS_SYNC", "Number", "FOCUS_SYNC_VALUE", position)
    while "OkFOCUS_SYNC" not in answers:
        story.world.run_for(0.0005)
    cut_power(story)
    assert story.shown == ("Ok", position)


def test_a_power_cut_just_after_the_start_of_a_move_leaves_the_position_unverified(story: Story) -> None:
    for after_s in (0.0, 0.001, 0.1):
        story.new("FOCUS_SYNC", "Number", "FOCUS_SYNC_VALUE", 0)
        story.world.run_for(1.0)
        story.move(4000)
        story.world.run_for(after_s)
        cut_power(story)
        assert story.shown in (("Alert", 4000), ("Ok", 0.0))


def test_a_driver_that_does_not_synchronise_its_folder_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_sync_folder", lambda path: None)
    blackout = kinds_of("power of controller and computer")
    assert any("wrong by" in problem for seed in range(40) for problem in run(seed, blackout).problems)


def test_a_port_that_fails_while_an_order_is_sent_is_a_lost_link(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    assert story.world.driver is not None
    session = story.world.driver._controller._thread._session
    assert session is not None
    story.world.run_for(0.0)
    monkeypatch.setattr(session, "write", failing)
    story.move(200)
    assert story.world.view.state(DEVICE, "ABS_FOCUS_POSITION") == "Busy"
    shown = story.shown
    messages = [text for _, text in story.world.view.texts if "the port is gone" in text]
    assert (shown, bool(messages)) == (("Alert", 0), True)


def failing() -> None:
    raise LinkLost("the port is gone")
