# SPDX-License-Identifier: GPL-3.0-or-later
"""The poll thread, over a real pseudo-terminal: what it does with a simulated controller, and with what goes wrong.

What a status means for a channel is tested in test_channel.py, without a port.
"""

from __future__ import annotations

import ast
import inspect
import select
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import serial
from support import DEADLINE_S, Bridge, Lines, eventually

from indi_multifocus.controller import poll_thread as controller_module
from indi_multifocus.controller import session as session_module
from indi_multifocus.controller.channel import Channel
from indi_multifocus.controller.controller import Controller
from indi_multifocus.controller.poll_thread import PollThread
from indi_multifocus.controller.polling import LATE_S
from indi_multifocus.controller.port import open_port
from indi_multifocus.controller.requests import (
    PortSettings,
    Schedule,
)
from indi_multifocus.controller.session import MAX_IN_FLIGHT, Session
from indi_multifocus.controller.snapshot import (
    ChannelState,
    Link,
    Snapshot,
)
from indi_multifocus.simulation import firmware
from indi_multifocus.simulator import Simulator

pytestmark = pytest.mark.usefixtures("no_thread_is_left")

BOTH = pytest.mark.parametrize("generation", [1, 2])
NEVER_S = 3600.0
"""A period after which nothing is waited for: what happens then was not done by the clock."""
PROBES = ("28FF641E8C160497", "28EFE61E0B0000B9")


class Box:
    """A controller thread, and what it published."""

    def __init__(self, probes: tuple[str, ...] = ()) -> None:
        self.snapshots: list[Snapshot] = []
        self.traffic: list[str] = []
        self.failures: list[str] = []
        self.controller = Controller(
            self.snapshots.append, trace=self.traffic.append, failed=self.failures.append, probes=probes
        )
        self.controller.set_schedule(Schedule(moving_s=0.02, idle_s=NEVER_S))

    def open(self, port: str, reply_timeout_s: float = 5.0) -> None:
        """Open the link, and wait for what becomes of it."""
        attempt = self.controller.open(PortSettings(port, 9600, reply_timeout_s))
        self.wait(lambda now: now.attempt == attempt and now.link not in (Link.OPENING,), "an end of the opening")

    def open_well(self, port: str, reply_timeout_s: float = 5.0) -> None:
        """Open the link, which must succeed."""
        self.open(port, reply_timeout_s)
        assert self.now.link is Link.UP, self.now

    @property
    def now(self) -> Snapshot:
        return self.snapshots[-1] if self.snapshots else Snapshot()

    def channel(self, channel: int) -> ChannelState:
        return self.now.channels[channel - 1]

    def wait(self, condition: Callable[[Snapshot], object], what: str) -> Snapshot:
        """The latest snapshot, as soon as `condition` is true of it."""
        return eventually(lambda: next((now for now in [self.now] if condition(now)), None), what) or self.now

    def wait_link(self, link: Link) -> Snapshot:
        return self.wait(lambda now: now.link is link, f"the link to be {link.value}")

    def wait_done(self, channel: int, request: int) -> ChannelState:
        """The channel's state, as soon as it reflects the request and stands."""

        def done(now: Snapshot) -> bool:
            state = now.channels[channel - 1]
            return state.request >= request and not state.moving

        return self.wait(done, f"request {request} of channel {channel} to be done").channels[channel - 1]

    def move_and_wait(self, channel: int, steps: int, via: int | None = None) -> ChannelState:
        return self.wait_done(channel, self.controller.move(channel, steps, via))

    def wait_moving(self, channel: int) -> None:
        self.wait(lambda now: now.channels[channel - 1].current != self.channel(channel).target, "a channel to move")


@pytest.fixture
def box() -> Iterator[Box]:
    made = Box()
    yield made
    made.controller.shutdown(DEADLINE_S)


@pytest.fixture
def link(tmp_path: Path) -> str:
    """A name of the port that stays the same when the cable is plugged in again."""
    return str(tmp_path / "focuser")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again at once."""
    monkeypatch.setattr(controller_module, "BACK_OFF_S", (0.02,))


@pytest.fixture
def short_handshake(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up after a moment: for controllers that never answer."""
    monkeypatch.setattr(session_module, "HANDSHAKE_S", 0.3)
    monkeypatch.setattr(session_module, "ASK_AGAIN_S", 0.1)


def is_free(port: str) -> bool:
    open_port(port, 9600).close()
    return True


def speak_otherwise(simulator: Simulator, data: bytes) -> None:
    """Be another instrument: say this again and again, and answer nothing."""
    simulator.silence(True)
    simulator.babble(data, 0.01)


# Opening


@BOTH
@pytest.mark.parametrize("channels", [1, 2, 9])
def test_opening_tells_generation_channels_and_positions(box: Box, generation: int, channels: int) -> None:
    assert box.now.link is Link.CLOSED
    with Simulator(generation=generation, channels=channels, speed=1e6) as simulator:
        box.open_well(simulator.port)
        assert (box.now.generation, len(box.now.channels)) == (generation, channels)
        assert box.now.fans is (None if generation == 1 else False)
        assert box.move_and_wait(channels, -321).current == -321
        box.controller.close()
        box.wait_link(Link.CLOSED)
        box.open_well(simulator.port)
        assert (box.channel(channels).target, box.channel(channels).current) == (-321, -321)
        assert not box.channel(channels).moving


def test_an_attempt_is_opening_first_and_carries_its_number(box: Box) -> None:
    with Simulator() as simulator:
        box.open_well(simulator.port)
    assert [now.link for now in box.snapshots[:2]] == [Link.OPENING, Link.UP]
    assert box.snapshots[0].attempt == box.snapshots[1].attempt > 0


def test_a_first_attempt_that_fails_is_reported_and_not_repeated(box: Box, link: str) -> None:
    box.open(link)
    assert box.now.link is Link.CLOSED
    assert link in box.now.reason
    with Simulator(link=link) as simulator:
        lines = Lines(simulator)
        box.open_well(link)
        box.controller.close()
        box.wait_link(Link.CLOSED)
        assert box.now.reason == ""
        simulator.pull_cable()
        box.open(link)
        published = len(box.snapshots)
        simulator.replug_cable()
        asked = len(lines())
        box.controller.switch_fans(True)  # it wakes up, and has nothing to do
        assert (len(box.snapshots), len(lines())) == (published, asked)


@pytest.mark.usefixtures("short_handshake")
def test_a_port_where_nothing_answers_is_given_up_and_free(box: Box) -> None:
    with Simulator() as simulator:
        simulator.silence(True)
        lines = Lines(simulator)
        box.open(simulator.port)
        assert box.now.link is Link.CLOSED
        assert f"nothing answers on {simulator.port}" in box.now.reason
        assert "power" in box.now.reason
        assert lines.polls() > 2, "it was asked more than once"
        assert is_free(simulator.port)


@pytest.mark.usefixtures("short_handshake")
@pytest.mark.parametrize(
    "wrong",
    [
        lambda simulator: simulator.echo(True),
        lambda simulator: simulator.answer_unknown(True),
        lambda simulator: speak_otherwise(simulator, b"$GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9\r\n"),
        lambda simulator: speak_otherwise(simulator, b"\0\xff" * 500),
        lambda simulator: simulator.mangle_replies(lambda reply: b"OK\r\n"),
        lambda simulator: simulator.mangle_replies(lambda reply: reply.replace(b"T1", b"T2")),
        lambda simulator: simulator.truncate_replies(5),
    ],
    ids=["echo", "unknown", "gps", "noise", "other", "channels", "cut"],
)
def test_what_answers_and_is_no_controller_is_given_up_and_the_port_free(
    box: Box, wrong: Callable[[Simulator], None]
) -> None:
    with Simulator() as simulator:
        wrong(simulator)
        box.open(simulator.port)
        assert box.now.link is Link.CLOSED
        assert simulator.port in box.now.reason
        assert "focus controller" in box.now.reason
        assert is_free(simulator.port)


def test_a_port_in_use_is_left_alone(box: Box) -> None:
    with Simulator() as simulator, serial.Serial(simulator.port, exclusive=True):
        box.open(simulator.port)
        assert box.now.link is Link.CLOSED
        assert "in use by another program" in box.now.reason
        assert simulator.received == []


@BOTH
@pytest.mark.parametrize("rest", [b"1", b"1+", b"?\n?\n?", b"\n", b"\n\n\n", b"x" * 12, b"1+50\n#"])
def test_what_another_program_left_on_the_line_does_not_matter(box: Box, generation: int, rest: bytes) -> None:
    with Simulator(generation=generation) as simulator:
        with serial.Serial(simulator.port) as before:
            before.write(rest)
            eventually(simulator.in_use, "the other program")
        box.open_well(simulator.port)
        assert box.now.generation == generation
        box.wait_done(2, box.controller.stop(2))


def test_an_open_link_is_ours_alone_and_a_closed_one_is_free(box: Box) -> None:
    with Simulator() as simulator:
        box.open_well(simulator.port)
        with pytest.raises(serial.SerialException):
            serial.Serial(simulator.port, exclusive=True)
        box.controller.close()
        box.wait_link(Link.CLOSED)
        assert is_free(simulator.port)
        assert not simulator.in_use()


def test_closing_and_opening_at_once_ends_open(box: Box) -> None:
    with Simulator() as simulator:
        box.open_well(simulator.port)
        for _ in range(20):
            box.controller.close()
            attempt = box.controller.open(PortSettings(simulator.port))
        box.wait(lambda now: now.attempt == attempt and now.link is Link.UP, "the last attempt to succeed")
        for _ in range(20):
            box.controller.open(PortSettings(simulator.port))
            box.controller.close()
        box.wait_link(Link.CLOSED)
        eventually(lambda: not simulator.in_use(), "the port to be free")


def test_closing_leaves_a_move_to_finish_but_sends_a_stop_that_was_asked_for(box: Box) -> None:
    with Simulator() as simulator:
        box.open_well(simulator.port)
        box.wait(lambda now: not now.channels[0].moving, "rest")
        box.controller.move(1, 5000)
        box.controller.move(2, 5000)
        eventually(lambda: simulator.target(1) == simulator.target(2) == 5000, "the moves to begin")
        box.controller.stop(2)
        box.controller.close()
        box.wait_link(Link.CLOSED)
        eventually(lambda: simulator.target(2) != 5000, "the stop")
        assert simulator.target(1) == 5000
        assert simulator.standstill(1) is None


def test_the_thread_ends_with_the_port_free_whatever_it_was_doing(box: Box, link: str) -> None:
    with Simulator(link=link) as simulator:
        box.open_well(link)
        simulator.pull_cable()
        box.wait_link(Link.LOST)
        box.controller.shutdown(DEADLINE_S)
        simulator.replug_cable()
        moving = Box()
        moving.open_well(link)
        moving.controller.move(1, 5000)
        moving.wait_moving(1)
        moving.controller.shutdown(DEADLINE_S)
        assert is_free(link)
        assert simulator.target(1) == 5000
        simulator.silence(True)
        waiting = Box()
        waiting.controller.open(PortSettings(link))
        waiting.wait_link(Link.OPENING)
        waiting.controller.shutdown(DEADLINE_S)
        assert is_free(link)


# Moving


@BOTH
def test_both_channels_move_at_the_same_time_and_independently(box: Box, generation: int) -> None:
    with Simulator(generation=generation) as simulator:
        box.open_well(simulator.port)
        first, second = box.controller.move(1, 5000), box.controller.move(2, -5000)
        eventually(lambda: simulator.position(1) > 3 and simulator.position(2) < -3, "both to move")
        box.wait(lambda now: now.channels[0].current > 3 and now.channels[1].current < -3, "both to be seen to move")
        stopped = box.wait_done(1, box.controller.stop(1))
        assert stopped.request > second > first
        assert 0 < stopped.current == stopped.target == simulator.position(1) < 5000
        assert box.channel(2).moving
        assert simulator.standstill(2) is None
        back = box.wait_done(1, box.controller.move(1, stopped.current - 10))
        assert back.current == stopped.current - 10
        assert box.channel(2).moving
        assert box.channel(2).target == -5000


@BOTH
@pytest.mark.parametrize("steps", [1, -1, 500, -500])
def test_a_move_is_done_when_a_status_after_it_shows_the_target(box: Box, generation: int, steps: int) -> None:
    with Simulator(generation=generation, speed=30) as simulator:
        box.open_well(simulator.port)
        request = box.controller.move(1, steps)
        assert box.wait_done(1, request).current == steps
        of_the_move = [now.channels[0] for now in box.snapshots if now.channels and now.channels[0].request >= request]
        assert [state for state in of_the_move if not state.moving and state.current != steps] == []
        assert simulator.position(1) == steps


def test_a_new_target_in_mid_move_is_taken_at_once(box: Box) -> None:
    with Simulator() as simulator:
        box.open_well(simulator.port)
        first = box.controller.move(1, 5000)
        box.wait(lambda now: now.channels[0].current > 5, "the move to be under way")
        second = box.controller.move(1, -3)
        box.wait(lambda now: now.channels[0].target == -3, "the new target")
        state = box.wait_done(1, second)
        assert (state.current, state.request) == (-3, second)
        assert second > first


def test_the_last_target_of_a_flood_wins_and_the_others_wait_in_no_queue(box: Box) -> None:
    with Simulator(speed=1000) as simulator:
        box.open_well(simulator.port)
        lines = Lines(simulator)
        for steps in range(1, 2001):
            request = box.controller.move(1, steps)
        assert box.wait_done(1, request).current == 2000
        assert lines.orders()[-1] == b"1+2000"
        lines = let_as_many_lines_wait_as_may(box, simulator)
        for steps in range(1, 2001):
            box.controller.move(1, steps)
        box.controller.stop(2)
        eventually(lambda: b"2S" in lines(), "the stop")
        assert lines.orders() == [b"2S"]


def test_a_flood_for_one_channel_does_not_keep_the_other_from_moving(box: Box) -> None:
    with Simulator(speed=1000) as simulator:
        box.open_well(simulator.port)
        request = 0
        for steps in range(1, 500):
            box.controller.move(1, steps)
            if steps == 250:
                request = box.controller.move(2, 77)
        assert box.wait_done(2, request).current == 77


# Stopping


@BOTH
def test_a_stop_leaves_the_channel_where_it_stands(box: Box, generation: int) -> None:
    with Simulator(generation=generation) as simulator:
        box.open_well(simulator.port)
        box.controller.move(2, -5000)
        box.wait(lambda now: now.channels[1].current < -5, "the move to be under way")
        state = box.wait_done(2, box.controller.stop(2))
        assert state.fault == ""
        assert -5000 < state.current == state.target < -5
        assert simulator.position(2) == simulator.target(2) == state.current
        assert simulator.standstill(2) is not None


def received_part(traffic: list[str]) -> str:
    """What was received, of a trace."""
    return b"".join(ast.literal_eval(line[2:]) for line in traffic if line.startswith("<")).decode()


def test_a_stop_is_on_the_wire_while_a_reply_still_comes_in(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    with Simulator(baud_pacing=True) as simulator:
        box.open_well(simulator.port)
        box.controller.move(1, 5000)
        box.wait(lambda now: now.channels[0].current > 2, "the move to be under way")
        box.controller.set_tracing(True)
        # So slow that a status takes 2 s, during which the stop is asked for.
        monkeypatch.setattr(firmware, "BAUD", 240)

        eventually(lambda: "T1=" in received_part(box.traffic).rpartition("\n")[2], "the beginning of a status")
        lines = Lines(simulator)
        box.controller.stop(1)
        eventually(lambda: b"1S" in lines(), "the stop")
        traffic = box.traffic[:]
        stop = next(at for at, line in enumerate(traffic) if line.startswith("> b'1S"))
        assert not received_part(traffic[:stop]).endswith("\n"), "the stop waited for the end of the reply"


def let_as_many_lines_wait_as_may(box: Box, simulator: Simulator) -> Lines:
    """Move channel 1 again and again without any reply, until nothing more is sent. Returns the lines from there on."""
    simulator.delay_replies(NEVER_S)
    lines = Lines(simulator)
    steps = 5000
    while len(lines()) < MAX_IN_FLIGHT:
        steps += 1
        box.controller.move(1, steps)
        eventually(lambda: lines()[-2:] == [b"1+%d" % steps, b"?"], "the move and a question")  # noqa: B023
    return Lines(simulator)


def test_a_stop_goes_out_however_many_replies_are_due(box: Box) -> None:
    with Simulator() as simulator:
        box.open_well(simulator.port, reply_timeout_s=NEVER_S)
        lines = let_as_many_lines_wait_as_may(box, simulator)
        box.controller.move(1, 1234)
        box.controller.stop(1)
        box.controller.stop(2)
        eventually(lambda: len(lines.orders()) == 2, "the stops")
        assert set(lines.orders()) == {b"1S", b"2S"}


def test_a_move_that_waits_is_cancelled_by_a_stop(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    with Simulator() as simulator:
        box.open_well(simulator.port)
        lines = Lines(simulator)
        monkeypatch.setattr(session_module, "MAX_IN_FLIGHT", 0)  # as if ever so many replies were due
        box.controller.move(2, 4000)
        request = box.controller.stop(2)
        assert box.wait_done(2, request).current == 0
        monkeypatch.undo()
        box.wait_done(1, box.controller.move(1, 3))
        assert lines.orders() == [b"2S", b"1+3"]
        assert simulator.standstill(2) == 0


def test_what_may_wait_for_replies_fits_the_buffer_of_the_usb_port() -> None:
    assert MAX_IN_FLIGHT * len(b"9-9999999\n") <= 64


def test_stops_while_one_is_under_way_are_served_by_that_one(box: Box) -> None:
    with Simulator() as simulator:
        box.open_well(simulator.port)
        simulator.delay_replies(0.2)
        lines = Lines(simulator)
        for _ in range(50):
            request = box.controller.stop(1)
        box.wait_done(1, request)
        assert 1 <= lines.orders().count(b"1S") <= 4


def test_a_move_after_a_stop_is_carried_out(box: Box) -> None:
    with Simulator(speed=100) as simulator:
        box.open_well(simulator.port)
        for steps in range(10, 200, 10):
            box.controller.move(1, 5000)
            box.controller.stop(1)
            assert box.wait_done(1, box.controller.move(1, steps)).current == steps


# Backlash: by way of


def test_a_move_by_way_of_another_place_is_one_move(box: Box) -> None:
    with Simulator(speed=20) as simulator:
        box.open_well(simulator.port)
        lines = Lines(simulator)
        request = box.controller.move(1, 300, via=400)
        assert box.wait_done(1, request).current == 300
        assert lines.orders() == [b"1+400", b"1+300"]
        since = next(at for at, now in enumerate(box.snapshots) if now.channels and now.channels[0].request == request)
        states = [now.channels[0] for now in box.snapshots[since:]]
        assert {state.target for state in states} == {300}, "what is on the way is nobody's target"
        assert [state.moving for state in states].count(False) == 1
        assert max(state.current for state in states) == 400


def test_a_stop_on_the_way_there_forgets_the_way_back(box: Box) -> None:
    with Simulator() as simulator:
        box.open_well(simulator.port)
        lines = Lines(simulator)
        box.controller.move(1, 4900, via=5000)
        box.wait(lambda now: now.channels[0].current > 2, "the move to be under way")
        state = box.wait_done(1, box.controller.stop(1))
        assert state.target == state.current == simulator.position(1)
        assert lines.orders() == [b"1+5000", b"1S"]


def test_a_way_by_another_place_survives_the_loss_of_its_command(box: Box) -> None:
    with Simulator(speed=20) as simulator:
        box.open_well(simulator.port)
        simulator.lose_input(2)  # "1+" of 1+400: what is left is no command
        state = box.move_and_wait(1, 300, via=400)
        assert (state.current, state.fault) == (300, "")
        assert simulator.position(1) == 300


# Zero


@BOTH
def test_zero_calls_this_place_zero(box: Box, generation: int) -> None:
    with Simulator(generation=generation, speed=20) as simulator:
        box.open_well(simulator.port)
        box.move_and_wait(1, 123)
        request = box.controller.zero(1)
        state = box.wait_done(1, request)
        assert (state.current, state.target, state.request, state.unverified_count) == (0, 0, request, 0)
        assert box.move_and_wait(1, 10).unverified_count == 0
        assert simulator.shaft(1) >> firmware.BUILDS[generation].shift == 133


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_a_zero_and_the_move_after_it_are_each_carried_out_once(box: Box, lost: int) -> None:
    with Simulator() as simulator:
        box.open_well(simulator.port)
        box.move_and_wait(1, 7)
        # The answers are spoilt, and late; repeated then, a zero would name the place on the way.
        simulator.delay_replies(0.05)
        simulator.lose_output(lost)
        box.controller.zero(1)
        state = box.wait_done(1, box.controller.move(1, 10))
        assert (state.current, state.fault) == (10, "")
        assert simulator.shaft(1) >> firmware.BUILDS[2].shift == 17


def test_a_stop_while_replies_make_no_sense_cancels_the_move_that_was_to_be_said_again(box: Box) -> None:
    with Simulator() as simulator:
        box.open_well(simulator.port)
        lines = Lines(simulator)
        simulator.lose_input(2)  # so it does not understand the move
        simulator.delay_replies(0.2)
        box.controller.set_tracing(True)
        box.controller.move(1, 500)
        eventually(lambda: any(line.startswith("!") for line in box.traffic), "the reply that makes no sense")
        request = box.controller.stop(1)
        assert box.wait_done(1, request).current == 0
        assert b"1+500" not in lines.orders()
        assert simulator.standstill(1) == 0


def test_closing_sends_a_stop_also_while_replies_make_no_sense(box: Box) -> None:
    with Simulator() as simulator:
        box.open_well(simulator.port)
        box.controller.move(1, 5000)
        eventually(lambda: simulator.position(1) > 2, "the move")
        simulator.mangle_replies(lambda reply: b"")
        box.controller.set_tracing(True)
        simulator.garbage(b"?!\r\n")
        eventually(lambda: any(line.startswith("!") for line in box.traffic), "the reply that makes no sense")
        box.controller.stop(1)
        box.controller.close()
        box.wait_link(Link.CLOSED)
        eventually(lambda: simulator.standstill(1) is not None, "the stop")
        assert simulator.position(1) < 5000


# What the controller must not get


@pytest.mark.parametrize(("generation", "steps"), [(1, 10_000_000), (1, -10_000_000), (2, 1_000_000), (2, -1_000_000)])
def test_a_target_that_the_generation_cannot_take_fails_and_is_not_sent(box: Box, generation: int, steps: int) -> None:
    with Simulator(generation=generation, held=True) as simulator:
        box.open_well(simulator.port)
        lines = Lines(simulator)
        state = box.move_and_wait(1, steps)
        assert str(steps) in state.fault
        assert lines.orders() == []
        assert box.wait_done(1, box.controller.stop(1)).fault == ""


@pytest.mark.parametrize(("generation", "steps"), [(1, 9_999_999), (1, -9_999_999), (2, 999_999), (2, -999_999)])
def test_the_farthest_target_of_the_generation_is_taken(box: Box, generation: int, steps: int) -> None:
    with Simulator(generation=generation, held=True) as simulator:
        box.open_well(simulator.port)
        box.controller.move(1, steps)
        box.wait(lambda now: now.channels[0].target == steps, "the target")
        assert simulator.target(1) == steps


# When to ask


@BOTH
def test_an_arrival_is_noticed_without_any_regular_poll(box: Box, generation: int) -> None:
    with Simulator(generation=generation) as simulator:
        box.controller.set_schedule(Schedule(moving_s=NEVER_S, idle_s=NEVER_S))
        box.open_well(simulator.port)
        lines = Lines(simulator)
        first, second = box.controller.move(1, 15), box.controller.move(2, -35)
        assert box.wait_done(1, first).current == 15
        assert box.wait_done(2, second).current == -35
        # One with each move, and one at each predicted arrival; some more where this machine was late.
        assert lines.polls() <= 12


def test_both_legs_of_a_way_are_predicted(box: Box) -> None:
    with Simulator() as simulator:
        box.controller.set_schedule(Schedule(moving_s=NEVER_S, idle_s=NEVER_S))
        box.open_well(simulator.port)
        assert box.move_and_wait(1, 20, via=40).current == 20


def test_a_motor_slower_than_believed_is_waited_for(box: Box) -> None:
    with Simulator(speed=0.5) as simulator:
        box.controller.set_schedule(Schedule(moving_s=NEVER_S, idle_s=NEVER_S))
        box.open_well(simulator.port)
        lines = Lines(simulator)
        assert box.move_and_wait(1, 20).fault == ""
        assert simulator.position(1) == 20
        assert lines.polls() < 40, "it is asked less and less often"


def test_a_channel_at_rest_is_asked_at_the_idle_period_and_a_moving_one_at_the_other(box: Box) -> None:
    with Simulator() as simulator:
        box.controller.set_schedule(Schedule(moving_s=NEVER_S, idle_s=0.01))
        box.open_well(simulator.port)
        lines = Lines(simulator)
        eventually(lambda: lines.polls() > 5, "polls at rest")
        box.controller.set_schedule(Schedule(moving_s=0.01, idle_s=NEVER_S))
        box.controller.move(1, 5000)
        lines = Lines(simulator)
        eventually(lambda: lines.polls() > 10, "polls while it moves")
        box.wait_done(1, box.controller.stop(1))


def test_a_new_schedule_counts_at_once(box: Box) -> None:
    with Simulator() as simulator:
        box.controller.set_schedule(Schedule(moving_s=NEVER_S, idle_s=NEVER_S))
        box.open_well(simulator.port)
        box.controller.move(1, 5000)
        box.wait(lambda now: now.channels[0].target == 5000, "the move to begin")
        box.controller.set_schedule(Schedule(moving_s=0.01, idle_s=NEVER_S))
        box.wait(lambda now: now.channels[0].current > 5, "its progress")
        box.wait_done(1, box.controller.stop(1))
        box.controller.set_schedule(Schedule(moving_s=0.01, idle_s=0.01))
        lines = Lines(simulator)
        eventually(lambda: lines.polls() > 3, "polls at rest")


# The link is lost


@BOTH
def test_a_pulled_cable_is_reported_once_and_the_link_comes_back(box: Box, link: str, generation: int) -> None:
    with Simulator(generation=generation, speed=20, link=link) as simulator:
        box.open_well(link)
        box.move_and_wait(1, 100)
        published = len(box.snapshots)
        simulator.pull_cable()
        box.wait_link(Link.LOST)
        assert link in box.now.reason
        assert box.channel(1).current == 100, "the last that is known"
        attempts = threading.Event()
        again = open_port

        def count(name: str, baud: int) -> object:
            tried.append(name)
            if len(tried) > 5:
                attempts.set()
            return again(name, baud)

        tried: list[str] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(controller_module, "open_port", count)
            assert attempts.wait(DEADLINE_S)
            assert len(box.snapshots) == published + 1
            simulator.replug_cable()
            box.wait_link(Link.UP)
        assert (box.now.reconnects, box.now.reason, box.now.generation) == (1, "", generation)
        assert (box.channel(1).current, box.channel(1).unverified_count, box.channel(1).fault) == (100, 0, "")
        assert box.move_and_wait(1, 50).current == 50


def test_every_return_of_the_link_is_counted(box: Box, link: str) -> None:
    with Simulator(link=link) as simulator:
        box.open_well(link)
        for count in (1, 2, 3):
            simulator.pull_cable()
            box.wait_link(Link.LOST)
            simulator.replug_cable()
            assert box.wait_link(Link.UP).reconnects == count


def test_a_move_that_ended_while_the_cable_was_out_is_unverified_when_it_is_back(box: Box, link: str) -> None:
    """A controller that its cable feeds has lost its power in mid-move, and claims the same arrival."""
    with Simulator(link=link) as simulator:
        box.open_well(link)
        request = box.controller.move(1, 40)
        box.wait(lambda now: now.channels[0].current > 2, "the move to be under way")
        simulator.pull_cable()
        box.wait_link(Link.LOST)
        assert box.channel(1).moving
        eventually(lambda: simulator.position(1) == 40, "the motor to arrive")
        simulator.replug_cable()
        state = box.wait_done(1, request)
        assert (state.current, state.unverified_count, state.fault) == (40, 1, "")


def test_a_move_that_goes_on_while_the_cable_is_out_is_followed_again(box: Box, link: str) -> None:
    with Simulator(link=link) as simulator:
        box.open_well(link)
        box.controller.move(1, 5000)
        box.wait(lambda now: now.channels[0].current > 2, "the move to be under way")
        simulator.pull_cable()
        box.wait_link(Link.LOST)
        at = simulator.position(1)
        simulator.replug_cable()
        box.wait(lambda now: now.link is Link.UP and now.channels[0].current > at, "the move to be seen")
        assert box.channel(1).moving
        assert box.channel(1).unverified_count == 0
        box.wait_done(1, box.controller.stop(1))


def test_a_move_asked_for_without_a_link_fails_and_is_not_made_up_for(box: Box, link: str) -> None:
    with Simulator(link=link) as simulator:
        box.open_well(link)
        simulator.pull_cable()
        box.wait_link(Link.LOST)
        request = box.controller.move(1, 500)
        zero = box.controller.zero(2)
        box.wait(
            lambda now: now.channels[0].request >= request and now.channels[1].request >= zero, "both to be refused"
        )
        assert "not carried out" in box.channel(1).fault
        assert "not carried out" in box.channel(2).fault
        lines = Lines(simulator)
        simulator.replug_cable()
        box.wait_link(Link.UP)
        box.wait_done(1, box.controller.stop(1))
        assert lines.orders() == [b"1S"]


def test_a_stop_asked_for_without_a_link_is_the_first_thing_said_when_it_is_back(box: Box, link: str) -> None:
    with Simulator(link=link) as simulator:
        box.open_well(link)
        box.controller.move(1, 5000)
        box.wait(lambda now: now.channels[0].current > 2, "the move to be under way")
        simulator.pull_cable()
        box.wait_link(Link.LOST)
        lines = Lines(simulator)
        request = box.controller.stop(1)
        simulator.replug_cable()
        assert box.wait_done(1, request).current == simulator.position(1) < 5000
        assert set(lines.orders()) == {b"1S"}, "at once, and again when replies can be believed"


def test_a_stop_whose_answer_was_lost_with_the_link_is_said_again(box: Box, link: str) -> None:
    with Simulator(link=link) as simulator:
        box.open_well(link)
        box.controller.move(1, 5000)
        box.wait(lambda now: now.channels[0].current > 2, "the move to be under way")
        simulator.lose_input(10_000)
        box.controller.set_tracing(True)
        request = box.controller.stop(1)
        eventually(lambda: any(line.startswith("> b'1S") for line in box.traffic), "the stop to be on its way")
        simulator.pull_cable()
        box.wait_link(Link.LOST)
        simulator.lose_input(0)
        simulator.replug_cable()
        assert box.wait_done(1, request).current == simulator.position(1) < 5000


def test_a_move_lost_with_the_link_fails_and_is_not_made_up_for(box: Box, link: str) -> None:
    with Simulator(link=link) as simulator:
        box.open_well(link)
        simulator.lose_input(10_000)
        box.controller.set_tracing(True)
        request = box.controller.move(1, 500)
        eventually(lambda: any(line.startswith("> b'1+500") for line in box.traffic), "the move to be on its way")
        simulator.pull_cable()
        box.wait_link(Link.LOST)
        simulator.lose_input(0)
        simulator.replug_cable()
        state = box.wait_done(1, request)
        assert "500" in state.fault
        assert (state.current, simulator.target(1)) == (0, 0)


def test_a_move_whose_answer_was_lost_with_the_link_is_followed(box: Box, link: str) -> None:
    with Simulator(link=link) as simulator:
        box.open_well(link)
        simulator.silence(True)
        request = box.controller.move(1, 30)
        eventually(lambda: simulator.target(1) == 30, "the move to be on its way")
        simulator.pull_cable()
        box.wait_link(Link.LOST)
        simulator.silence(False)
        simulator.replug_cable()
        state = box.wait_done(1, request)
        assert (state.current, state.fault, state.unverified_count) == (30, "", 0)


def test_closing_ends_the_attempts_to_get_a_link_back(box: Box, link: str) -> None:
    with Simulator(link=link) as simulator:
        box.open_well(link)
        simulator.pull_cable()
        box.wait_link(Link.LOST)
        box.controller.close()
        box.wait_link(Link.CLOSED)
        simulator.replug_cable()
        assert not simulator.in_use()
        box.open_well(link)
        assert box.now.reconnects == 0


def test_another_controller_on_the_same_cable_is_known_for_what_it_is(box: Box, link: str) -> None:
    with Simulator(generation=2, channels=2, link=link):
        box.open_well(link)
    box.wait_link(Link.LOST)
    with Simulator(generation=1, channels=1, link=link) as other:
        box.wait_link(Link.UP)
        assert (box.now.generation, len(box.now.channels), box.now.fans) == (1, 1, None)
        assert box.move_and_wait(1, 5).current == 5
        assert other.position(1) == 5


# The two threads


def test_nobody_but_the_poll_thread_touches_a_session_or_a_channel(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere: list[str] = []

    def watch(owner: type, name: str, method: Callable[..., object]) -> None:
        def watched(*args: Any, **named: Any) -> object:
            if threading.current_thread().name != "poll":
                elsewhere.append(name)
            return method(*args, **named)

        monkeypatch.setattr(owner, name, watched)

    for owner in (Session, Channel):
        for name, member in list(vars(owner).items()):
            if inspect.isfunction(member):
                watch(owner, name, member)
    with Simulator(speed=20) as simulator:
        box.open_well(simulator.port)
        box.move_and_wait(1, 50, via=60)
        box.wait_done(2, box.controller.zero(2))
        box.wait_done(1, box.controller.stop(1))
        box.controller.switch_fans(True)
        box.wait(lambda now: now.fans is True, "the fans to be on")
        simulator.garbage(b"gnat\r\n")
        box.move_and_wait(1, 0)
        box.controller.close()
        box.wait_link(Link.CLOSED)
    assert elsewhere == []


# Noise on the line


@pytest.mark.parametrize(
    "noise", [b"\r\n", b"?\r\n", b"$\r\n", b"\0", b"\xff\xfe\r\n", b"T1=+0", b"1\r\n", b"x" * 1000, b"FAILED\r\n"]
)
def test_noise_costs_a_moment_and_never_a_wrong_belief(box: Box, noise: bytes) -> None:
    with Simulator() as simulator:
        box.open_well(simulator.port)
        box.controller.move(2, 10)
        for steps in (5, -5):
            simulator.garbage(noise)
            state = box.move_and_wait(1, steps)
            assert (state.current, state.unverified_count, state.fault) == (steps, 0, "")
            simulator.garbage(noise)
        box.wait(lambda now: now.channels[1].current == 10 and not now.channels[1].moving, "the other channel")
        positions = {now.channels[0].current for now in box.snapshots if now.channels}
        assert min(positions) == -5
        assert max(positions) == 5
        assert all(now.link is not Link.LOST for now in box.snapshots)


@pytest.mark.parametrize("count", range(1, 7))
def test_bytes_lost_on_the_way_there_cost_a_moment_and_no_move(box: Box, count: int) -> None:
    with Simulator(speed=20) as simulator:
        box.open_well(simulator.port)
        simulator.lose_input(count)
        state = box.move_and_wait(1, 200)
        assert state.fault == ""
        assert state.current == simulator.position(1) == 200


@pytest.mark.parametrize("count", [len("1+200\n?"), len("1+200\n?\n")])
def test_a_move_of_which_nothing_arrives_fails_when_the_answer_does_not_come(box: Box, count: int) -> None:
    with Simulator() as simulator:
        box.open_well(simulator.port, reply_timeout_s=0.2)
        simulator.lose_input(count)
        state = box.move_and_wait(1, 200)
        assert "the move to 200" in state.fault
        assert (state.current, box.now.reconnects, simulator.target(1)) == (0, 1, 0)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 10, 40, 60])
def test_bytes_lost_on_the_way_back_cost_a_moment_and_no_move(box: Box, count: int) -> None:
    with Simulator(speed=20) as simulator:
        box.open_well(simulator.port, reply_timeout_s=0.2)
        simulator.lose_output(count)
        state = box.move_and_wait(1, 200)
        assert state.fault == ""
        assert state.current == simulator.position(1) == 200


def test_a_controller_that_falls_silent_is_lost_and_found_again(box: Box) -> None:
    with Simulator() as simulator:
        box.controller.set_schedule(Schedule(moving_s=0.02, idle_s=0.05))
        box.open_well(simulator.port, reply_timeout_s=0.2)
        simulator.silence(True)
        assert "does not answer" in box.wait_link(Link.LOST).reason
        simulator.silence(False)
        assert box.wait_link(Link.UP).reconnects == 1


def test_a_controller_that_is_slow_to_answer_is_waited_for(box: Box) -> None:
    with Simulator(speed=20) as simulator:
        simulator.delay_replies(0.05)
        box.open_well(simulator.port)
        assert box.move_and_wait(1, 100).current == 100
        assert box.move_and_wait(2, -100, via=-150).current == -100
        assert all(now.link is not Link.LOST for now in box.snapshots)


def test_everything_works_at_a_real_9600_baud(box: Box) -> None:
    with Simulator(speed=20, baud_pacing=True) as simulator:
        box.open_well(simulator.port)
        first, second = box.controller.move(1, 100), box.controller.move(2, -100, via=-120)
        assert box.wait_done(1, first).current == 100
        assert box.wait_done(2, second).current == -100


# Loss of power


@BOTH
@pytest.mark.parametrize("target", [5000, -5000])
def test_power_lost_in_mid_move_makes_the_arrival_unverified(box: Box, link: str, generation: int, target: int) -> None:
    with Simulator(generation=generation, link=link) as simulator:
        box.open_well(link)
        box.controller.move(1, target)
        box.wait(lambda now: abs(now.channels[0].current) > 5, "the move to be under way")
        simulator.power_cycle()
        box.wait(lambda now: now.link is Link.UP and now.reconnects > 0, "the link")
        assert (box.channel(1).current, box.channel(1).moving, box.channel(1).unverified_count) == (target, False, 1)
        assert box.channel(2).unverified_count == 0, "the one that stood is where it was"


@BOTH
def test_power_lost_in_mid_move_behind_a_cable_that_stays_is_noticed_too(box: Box, generation: int) -> None:
    with Simulator(generation=generation) as simulator:
        box.open_well(simulator.port)
        box.controller.move(1, 5000)
        box.wait(lambda now: now.channels[0].current > 30, "the move to be under way")
        simulator.brown_out()
        box.wait(lambda now: now.channels[0].current == 5000, "the claim")
        assert box.channel(1).unverified_count == 1


@BOTH
def test_power_lost_at_rest_leaves_the_position_verified(box: Box, link: str, generation: int) -> None:
    with Simulator(generation=generation, link=link, speed=20) as simulator:
        box.open_well(link)
        box.move_and_wait(1, 400)
        box.move_and_wait(2, -400)
        simulator.power_cycle()
        box.wait(lambda now: now.link is Link.UP and now.reconnects > 0, "the link")
        assert [state.unverified_count for state in box.now.channels] == [0, 0]
        assert [state.current for state in box.now.channels] == [400, -400]


def only_at_the_arrival(box: Box) -> None:
    """Begin a move of which only the beginning and the arrival are polled."""
    box.controller.set_schedule(Schedule(moving_s=NEVER_S, idle_s=NEVER_S))
    box.controller.move(1, 60)
    box.wait(lambda now: now.channels[0].target == 60, "the move to begin")


@BOTH
def test_an_arrival_that_a_network_reports_late_is_unverified(box: Box, generation: int) -> None:
    """The query may have waited there until a controller that lost its power was back."""
    with Simulator(generation=generation) as simulator, Bridge(simulator.port) as bridge:
        box.open_well(f"socket://127.0.0.1:{bridge.number}")
        only_at_the_arrival(box)
        simulator.delay_replies(1.5 * LATE_S)
        box.wait(lambda now: now.channels[0].current == 60, "the arrival")
        assert box.channel(1).unverified_count == 1


@BOTH
def test_a_serial_port_may_report_an_arrival_late(box: Box, generation: int) -> None:
    """The kernel of a busy machine delivers what it has received up to 0.4 s late."""
    with Simulator(generation=generation) as simulator:
        box.open_well(simulator.port)
        only_at_the_arrival(box)
        simulator.delay_replies(1.5 * LATE_S)
        box.wait(lambda now: now.channels[0].current == 60, "the arrival")
        assert box.channel(1).unverified_count == 0


@BOTH
def test_a_late_arrival_that_may_be_the_reply_to_a_later_query_is_unverified(box: Box, generation: int) -> None:
    """Power lost behind a UART: the replies to what was sent after it fit what was lost with it."""
    with Simulator(generation=generation) as simulator:
        box.open_well(simulator.port)
        box.controller.set_schedule(Schedule(moving_s=NEVER_S, idle_s=NEVER_S))
        box.controller.move(1, 60)
        box.wait(lambda now: now.channels[0].target == 60, "the move to begin")
        simulator.brown_out(1.5 * LATE_S)
        box.controller.move(2, 5)
        eventually(lambda: simulator._power_back_at is None, "the power to be back")
        box.controller.move(1, 61)
        box.wait(lambda now: now.channels[0].current >= 60, "the claim that it arrived")
        claims = [now.channels[0] for now in box.snapshots if now.channels and now.channels[0].current >= 60]
        assert claims[0].unverified_count == 1


@BOTH
def test_an_arrival_that_only_this_machine_sees_late_is_verified(
    box: Box, monkeypatch: pytest.MonkeyPatch, generation: int
) -> None:
    """It was there to be read at once, but the thread did not get to run."""
    busy = threading.Event()

    class Select:
        @staticmethod
        def select(reading: list[Any], *others: Any) -> Any:
            ready = select.select(reading, *others)
            if busy.is_set() and any(isinstance(one, Session) for one in ready[0]):
                time.sleep(1.5 * LATE_S)
            return ready

    monkeypatch.setattr(controller_module, "select", Select)
    with Simulator(generation=generation) as simulator, Bridge(simulator.port) as bridge:
        box.open_well(f"socket://127.0.0.1:{bridge.number}")
        only_at_the_arrival(box)
        busy.set()
        box.wait(lambda now: now.channels[0].current == 60, "the arrival")
        assert box.channel(1).unverified_count == 0


def test_a_reply_that_is_there_counts_although_this_machine_reads_it_after_the_time_out(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread slept while it gathered the reply, as a driver does that is stopped, or a machine that swaps."""
    busy, timeout_s = threading.Event(), 0.3
    slept: list[float] = []

    class Select:
        @staticmethod
        def select(reading: list[Any], *others: Any) -> Any:
            ready = select.select(reading, *others)
            if busy.is_set() and not any(isinstance(one, Session) for one in reading):
                time.sleep(1.5 * timeout_s)
                slept.append(time.monotonic())
            return ready

    monkeypatch.setattr(controller_module, "select", Select)
    with Simulator(baud_pacing=True) as simulator:
        box.open_well(simulator.port, timeout_s)
        busy.set()
        assert box.move_and_wait(1, 5).current == 5
        assert slept
        assert all(now.link is not Link.LOST for now in box.snapshots)


# Motors that do not do as ordered


@BOTH
def test_a_motor_that_does_not_turn_is_stopped_and_the_move_has_failed(box: Box, generation: int) -> None:
    with Simulator(generation=generation) as simulator:
        box.open_well(simulator.port)
        box.controller.move(2, -5000)
        box.wait(lambda now: now.channels[1].current < -5, "the other to be under way")
        simulator.stall(1)
        lines = Lines(simulator)
        state = box.move_and_wait(1, 500)
        assert "stalled at 0 on the way to 500" in state.fault
        assert lines.orders() == [b"1+500", b"1S"]
        assert simulator.target(1) == 0
        assert box.channel(2).moving
        assert box.channel(2).fault == ""
        simulator.stall(1, False)
        state = box.move_and_wait(1, 20)
        assert (state.current, state.fault) == (20, "")


def test_a_stuck_motor_is_noticed_without_regular_polls(box: Box) -> None:
    with Simulator() as simulator:
        box.controller.set_schedule(Schedule(moving_s=NEVER_S, idle_s=NEVER_S))
        box.open_well(simulator.port)
        simulator.stall(1)
        lines = Lines(simulator)
        assert "stalled" in box.move_and_wait(1, 20).fault
        assert lines.polls() < 40, "it is asked less and less often"


def test_a_move_that_takes_too_long_is_stopped_and_has_failed(box: Box) -> None:
    with Simulator() as simulator:
        box.controller.set_schedule(Schedule(moving_s=0.02, idle_s=NEVER_S, move_timeout_s=0.3))
        box.open_well(simulator.port)
        lines = Lines(simulator)
        state = box.move_and_wait(1, 5000)
        assert "did not reach 5000 in time" in state.fault
        assert 0 < state.current < 5000
        assert simulator.target(1) == simulator.position(1) == state.current
        assert lines.orders() == [b"1+5000", b"1S"]


def test_a_move_that_takes_too_long_while_nobody_asks_is_stopped(box: Box) -> None:
    with Simulator() as simulator:
        box.controller.set_schedule(Schedule(moving_s=NEVER_S, idle_s=NEVER_S, move_timeout_s=0.3))
        box.open_well(simulator.port)
        assert "did not reach 5000 in time" in box.move_and_wait(1, 5000).fault


# Fans and temperatures


def test_fans_are_switched_and_their_state_is_published(box: Box) -> None:
    with Simulator() as simulator:
        box.open_well(simulator.port)
        box.controller.switch_fans(True)
        box.wait(lambda now: now.fans is True, "the fans to be on")
        assert simulator.fans
        for on in (True, False, False, True, True):
            request = box.controller.switch_fans(on)
            assert box.wait(lambda now: now.fans_request >= request, "the order").fans is on  # noqa: B023
            assert simulator.fans is on


@pytest.mark.parametrize("lose", ["lose_input", "lose_output"])
@pytest.mark.parametrize("count", range(1, 6))
def test_the_fans_are_switched_and_known_also_when_bytes_are_lost(box: Box, lose: str, count: int) -> None:
    with Simulator() as simulator:
        box.open_well(simulator.port, reply_timeout_s=0.2)
        getattr(simulator, lose)(count)
        request = box.controller.switch_fans(True)
        now = box.wait(lambda now: now.fans_request >= request, "the order")
        assert now.fans is simulator.fans
        assert now.fans or now.reconnects, "only with the link is an order lost"


def test_fans_that_are_on_already_are_known_to_be(box: Box) -> None:
    with Simulator() as simulator:
        box.open_well(simulator.port)
        box.controller.switch_fans(True)
        box.wait(lambda now: now.fans is True, "the fans to be on")
        box.controller.close()
        box.wait_link(Link.CLOSED)
        box.open_well(simulator.port)
        assert box.now.fans is True


def test_the_first_generation_is_sent_nothing_about_fans(box: Box) -> None:
    with Simulator(generation=1) as simulator:
        box.open_well(simulator.port)
        lines = Lines(simulator)
        box.controller.switch_fans(True)
        box.wait_done(1, box.controller.stop(1))
        assert set(lines()) == {b"1S", b"?"}


def test_the_probes_are_measured_in_turn_while_nothing_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(firmware, "MEASUREMENT_S", 0.05)
    box = Box(PROBES)
    try:
        with Simulator(probes={PROBES[0]: 12.25}) as simulator:
            box.controller.set_schedule(Schedule(moving_s=0.02, idle_s=0.02))
            box.open_well(simulator.port)
            box.wait(lambda now: len(now.temperatures) == 2, "both probes")
            assert dict(box.now.temperatures) == {PROBES[0]: 12.25, PROBES[1]: None}
            simulator.set_probe(PROBES[0], -3.5)
            box.wait(lambda now: dict(now.temperatures)[PROBES[0]] == -3.5, "a new temperature")
            asked = [line for _, line in simulator.received if line.startswith(b"@")]
            assert all(first != second for first, second in zip(asked, asked[1:]))
            # While one moves none is measured: nothing would be answered meanwhile.
            box.controller.move(1, 5000)
            eventually(lambda: simulator.target(1) == 5000, "the move")
            lines = Lines(simulator)
            eventually(lambda: lines.polls() > 20, "some polls")
            assert [line for line in lines() if line.startswith(b"@")] == []
            box.wait_done(1, box.controller.stop(1))
            eventually(lambda: any(line.startswith(b"@") for line in lines()), "a measurement at rest")
    finally:
        box.controller.shutdown(DEADLINE_S)


def test_a_move_asked_for_during_a_measurement_follows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(firmware, "MEASUREMENT_S", 0.5)
    box = Box(PROBES[:1])
    try:
        with Simulator(probes={PROBES[0]: 12.25}, speed=20) as simulator:
            box.controller.set_schedule(Schedule(moving_s=0.02, idle_s=0.02))
            box.open_well(simulator.port, reply_timeout_s=0.2)
            eventually(lambda: any(line.startswith(b"@") for _, line in simulator.received), "a measurement")
            assert box.move_and_wait(1, 100).current == 100
            assert all(now.link is not Link.LOST for now in box.snapshots)
    finally:
        box.controller.shutdown(DEADLINE_S)


def test_the_first_generation_never_gets_a_probe_s_address() -> None:
    box = Box(PROBES)
    try:
        with Simulator(generation=1) as simulator:
            box.controller.set_schedule(Schedule(moving_s=0.01, idle_s=0.01))
            box.open_well(simulator.port)
            lines = Lines(simulator)
            eventually(lambda: lines.polls() > 20, "some polls")
            assert [line for _, line in simulator.received if b"@" in line or len(line) > 15] == []
            assert box.now.temperatures == ()
    finally:
        box.controller.shutdown(DEADLINE_S)


# The rest


def test_traffic_is_traced_when_it_is_wanted_and_only_then(box: Box) -> None:
    with Simulator() as simulator:
        box.open_well(simulator.port)
        box.wait_done(1, box.controller.stop(1))
        assert box.traffic == []
        box.controller.set_tracing(True)
        box.wait_done(1, box.controller.stop(1))
        assert box.traffic[0] == "> b'1S\\n'"
        assert any(line.startswith("< b'$\\r\\n") for line in box.traffic)


@pytest.mark.parametrize("broken", ["_take_status", "_take_snapshot"])
def test_an_error_of_our_own_stops_what_moves_and_is_reported(
    box: Box, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, broken: str
) -> None:
    with Simulator() as simulator:
        box.open_well(simulator.port)
        box.controller.move(1, 5000)
        eventually(lambda: simulator.position(1) > 2, "the move")

        def fail(*_: object, **__: object) -> None:
            raise ZeroDivisionError("a bug")

        monkeypatch.setattr(PollThread, broken, fail)
        eventually(lambda: box.failures, "the report")
        assert "a bug" in box.failures[0]
        eventually(lambda: simulator.standstill(1) is not None, "the stop")
        assert simulator.position(1) < 5000
        assert "Traceback" in caplog.text
        assert box.controller.shutdown(DEADLINE_S)


def test_a_controller_behind_a_network_bridge_works_like_another(box: Box) -> None:
    with Simulator(speed=20) as simulator, Bridge(simulator.port) as bridge:
        box.open_well(f"socket://127.0.0.1:{bridge.number}")
        assert box.move_and_wait(1, 100).current == 100
        bridge.hang_up()
        box.wait(lambda now: now.reconnects == 1 and now.link is Link.UP, "the link")
        assert box.move_and_wait(1, 0).current == 0
