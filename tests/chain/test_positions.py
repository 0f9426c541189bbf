# SPDX-License-Identifier: GPL-3.0-or-later
"""One number for one place, whatever is done to it; and no move leads out of the travel.

Hypothesis tries sequences of what users can do and of what happens to them, with the whole driver, its poll thread and
a simulated controller on a pseudo-terminal. Only times are not the real ones: motors run 3000 times as fast, the driver
is informed, a lost link is tried again at once (BACK_OFF_S), and a motor that is held back to be caught on its
way is not taken for a stalled one (STALL_S).

The model here is two numbers, `sign` and `offset`, that follow from what the driver answered with Ok. What the
controller counts is asked of the simulator, and so is every target that was ever sent to it.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from support import DriverInside, FocuserClient, Lines, Received, eventually

from indi_multifocus.controller import channel
from indi_multifocus.controller import poll_thread as controller
from indi_multifocus.controller.motion import NOMINAL_STEPS_PER_S
from indi_multifocus.settings.driver_settings import Settings
from indi_multifocus.simulator import Simulator

pytestmark = pytest.mark.usefixtures("no_thread_is_left")

FASTER = 3000.0
DEVICE = "MultiFocus 1"
TRAVEL = (0, 4000)

POSITIONS = st.integers(-3000, 7000)
INSIDE = st.integers(0, 4000)
EVENTS = ["abort", "retarget", "sync", "zero", "reverse", "limit", "restart", "reconnect", "power"]


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    for generation, speed in list(NOMINAL_STEPS_PER_S.items()):
        monkeypatch.setitem(NOMINAL_STEPS_PER_S, generation, speed * FASTER)
    monkeypatch.setattr(controller, "BACK_OFF_S", (0.02,))
    monkeypatch.setattr(channel, "STALL_S", 60.0)


class Bench:
    """A simulated controller, the driver on it, and a client of it."""

    def __init__(self, generation: int = 2, *, speed: float = FASTER, moving_s: float = 0.01) -> None:
        self._stack = ExitStack()
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        self._environment = pytest.MonkeyPatch()
        self._stack.callback(self._environment.undo)
        self._environment.setenv("HOME", str(folder))
        self.simulator = self._stack.enter_context(
            Simulator(generation=generation, channels=1, speed=speed, link=folder / "port", eeprom=folder / "eeprom")
        )
        self._settings = Settings(
            port=self.simulator.port, channels=1, default_travel=TRAVEL, moving_s=moving_s, idle_s=0.05
        )
        self._driver = ExitStack()
        self.start_driver()

    def start_driver(self) -> None:
        self.client: FocuserClient = self._driver.enter_context(DriverInside(self._settings))
        self.client.connect(1)

    def restart_driver(self) -> None:
        self._driver.close()
        self.start_driver()

    def close(self) -> None:
        with self._stack:
            self._driver.close()

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # What a client does

    def ask(self, name: str, values: Mapping[str, Any]) -> Received:
        """Send it, and return what became of it: the first answer that is not Busy."""
        return self.ask_at_once((name, values))[0]

    def ask_at_once(self, *orders: tuple[str, Mapping[str, Any]]) -> list[Received]:
        """Send these without waiting in between, and return what became of each."""
        client = self.client
        client.settle(DEVICE)  # so that every later message is about what follows
        since = len(client.received)
        for name, values in orders:
            client.new(DEVICE, name, values)

        def answers() -> list[Received]:
            """One for each order: of a property that was sent twice, the second answer is the second order's."""
            there = [
                answer
                for answer in client.received[since:]
                if answer.device == DEVICE and answer.state not in ("Busy", "")
            ]
            found = []
            for name, _ in orders:
                answer = next((answer for answer in there if answer.name == name), None)
                if answer is None:
                    return []
                there.remove(answer)
                found.append(answer)
            return found

        return client.wait(answers, f"answers about {[name for name, _ in orders]}")

    def send(self, name: str, values: Mapping[str, Any]) -> None:
        self.client.new(DEVICE, name, values)

    def move(self, position: int) -> Received:
        return self.ask("ABS_FOCUS_POSITION", {"FOCUS_ABSOLUTE_POSITION": position})

    def sync(self, position: int) -> Received:
        return self.ask("FOCUS_SYNC", {"FOCUS_SYNC_VALUE": position})

    def reverse(self, on: bool) -> Received:
        return self.ask("FOCUS_REVERSE_MOTION", {"INDI_ENABLED" if on else "INDI_DISABLED": "On"})

    def backlash(self, steps: int) -> None:
        assert self.ask("FOCUS_BACKLASH_TOGGLE", {"INDI_ENABLED": "On"}).state == "Ok"
        assert self.ask("FOCUS_BACKLASH_STEPS", {"FOCUS_BACKLASH_VALUE": steps}).state == "Ok"

    def begin(self, position: int) -> None:
        """Set out for `position` and be on the way until `let_go`."""
        self.simulator.stall(1)
        self.client.settle(DEVICE)
        self.send("ABS_FOCUS_POSITION", {"FOCUS_ABSOLUTE_POSITION": position})
        self.client.wait_state(DEVICE, "ABS_FOCUS_POSITION", "Busy")
        eventually(lambda: self.simulator.target(1) != self.simulator.position(1), "the controller to take the move")

    def let_go(self) -> None:
        self.simulator.stall(1, False)

    # What there is to see

    @property
    def position(self) -> int:
        return int(self.client.position(1))

    def travel(self) -> tuple[int, int]:
        low = self.client.value(DEVICE, "FOCUS_MIN", "FOCUS_MIN_VALUE")
        high = self.client.value(DEVICE, "FOCUS_MAX", "FOCUS_MAX_VALUE")
        return int(low), int(high)

    def rest(self, position: Callable[[], int]) -> None:
        """Wait until motor and driver are at rest and the driver says that it is at `position`."""
        client = self.client

        def at_rest() -> bool:
            return (
                self.simulator.standstill(1) is not None
                and client.state(DEVICE, "ABS_FOCUS_POSITION") not in ("Busy", "")
                and self.position == position()
            )

        try:
            client.wait(at_rest, "the driver to agree with the controller")
        except AssertionError as error:
            raise AssertionError(
                f"{error}: the driver says {self.position}, the controller is at {self.simulator.position(1)} "
                f"on the way to {self.simulator.target(1)}, which is position {position()}"
            ) from None


class Positions(RuleBasedStateMachine):
    """See the top of this file."""

    bench: Bench

    @initialize(generation=st.sampled_from([1, 2]))
    def begin(self, generation: int) -> None:
        self.bench = Bench(generation)
        self.sign, self.offset = 1, 0
        self.low, self.high = TRAVEL
        self.moves = Lines(self.bench.simulator)
        # Of the controller's zero, in microsteps of the shaft; None after a power failure in mid-move.
        self.zero_at: int | None = 0

    def teardown(self) -> None:
        if hasattr(self, "bench"):
            self.bench.close()

    def place(self) -> int:
        """The message that users should read."""
        return self.sign * self.bench.simulator.position(1) + self.offset

    def rest(self) -> None:
        self.bench.rest(self.place)

    def check_moves(self, begun_at: int) -> None:
        """Every target that was sent is in the travel, or from outside of it nearer to it."""
        orders, self.moves = self.moves.orders(), Lines(self.bench.simulator)
        for order in orders:
            found = re.fullmatch(rb"1([+-]\d+)", order)
            if found is None:
                assert order in (b"1S", b"1Z"), order
                continue
            target = self.sign * int(found[1]) + self.offset
            low, high = min(self.low, begun_at), max(self.high, begun_at)
            assert low <= target <= high, f"sent to {target}, from {begun_at} in a travel of {self.low} to {self.high}"

    @invariant()
    def all_agree(self) -> None:
        """Driver, controller, and the shaft of the motor."""
        if not hasattr(self, "bench"):
            return
        self.rest()
        simulator = self.bench.simulator
        assert self.bench.travel() == (self.low, self.high)
        if self.zero_at is not None:
            assert simulator.microsteps(1) == simulator.shaft(1) - self.zero_at
        self.check_moves(self.place())

    # At rest

    def is_allowed(self, position: int, now: int) -> bool:
        """Whether a move may lead there, begun at rest at `now`."""
        return self.low <= position <= self.high or now <= position < self.low or self.high < position <= now

    @rule(position=POSITIONS)
    def move(self, position: int) -> None:
        now = self.place()
        answer = self.bench.move(position)
        allowed = self.is_allowed(position, now)
        assert ("out of bounds" in answer.message) == (not allowed)
        self.rest()
        assert self.place() == (position if allowed else now)
        self.check_moves(now)

    @rule(steps=st.integers(0, 2500), inward=st.booleans())
    def move_by(self, steps: int, inward: bool) -> None:
        now = self.place()
        bench = self.bench
        assert bench.ask("FOCUS_MOTION", {"FOCUS_INWARD" if inward else "FOCUS_OUTWARD": "On"}).state == "Ok"
        bench.ask("REL_FOCUS_POSITION", {"FOCUS_RELATIVE_POSITION": steps})
        self.rest()
        wanted = now - steps if inward else now + steps
        assert self.place() == (wanted if self.is_allowed(wanted, now) else now)
        self.check_moves(now)

    @rule(position=POSITIONS.filter(bool))
    def sync(self, position: int) -> None:
        self.check_moves(self.place())
        answer = self.bench.sync(position)
        assert (answer.state == "Ok") == (self.low <= position <= self.high)
        if answer.state == "Ok":
            self.offset = position - self.sign * self.bench.simulator.position(1)

    @rule()
    def zero(self) -> None:
        answer = self.bench.sync(0)
        assert answer.state == "Ok"
        self.offset = 0
        assert self.bench.simulator.microsteps(1) == 0
        self.zero_at = self.bench.simulator.shaft(1)

    @rule(position=INSIDE, synced=st.none() | INSIDE.filter(bool))
    def zero_and_move_at_once(self, position: int, synced: int | None) -> None:
        """What is sent after a zero means positions as they are after it."""
        orders: list[tuple[str, Mapping[str, Any]]] = [("FOCUS_SYNC", {"FOCUS_SYNC_VALUE": 0})]
        if synced is not None:
            orders.append(("FOCUS_SYNC", {"FOCUS_SYNC_VALUE": synced}))
        orders.append(("ABS_FOCUS_POSITION", {"FOCUS_ABSOLUTE_POSITION": position}))
        done, *others = self.bench.ask_at_once(*orders)
        assert done.state == "Ok"
        self.offset = 0
        if synced is not None:
            assert (others[0].state == "Ok") == (self.low <= synced <= self.high)
            self.offset = synced if others[0].state == "Ok" else 0
        begun_at = self.offset
        if self.low <= position <= self.high:
            self.bench.rest(lambda: position)
        self.rest()
        self.zero_at = self.bench.simulator.shaft(1) - self.bench.simulator.microsteps(1)
        self.check_moves(begun_at)

    @rule(on=st.booleans())
    def reverse(self, on: bool) -> None:
        self.check_moves(self.place())
        before = self.place()
        assert self.bench.reverse(on).state == "Ok"
        self.sign = -1 if on else 1
        self.offset = before - self.sign * self.bench.simulator.position(1)

    @rule(position=POSITIONS, low=st.booleans())
    def limit(self, position: int, low: bool) -> None:
        name = "FOCUS_MIN" if low else "FOCUS_MAX"
        answer = self.bench.ask(name, {f"{name}_VALUE": position})
        assert (answer.state == "Ok") == (position < self.high if low else position > self.low)
        if answer.state == "Ok":
            self.low, self.high = (position, self.high) if low else (self.low, position)
            for vector, element in (
                ("ABS_FOCUS_POSITION", "FOCUS_ABSOLUTE_POSITION"),
                ("FOCUS_SYNC", "FOCUS_SYNC_VALUE"),
                ("Presets", "PRESET_3"),
            ):
                assert self.bench.client.devices[DEVICE][vector].ranges[element][:2] == (self.low, self.high)

    @rule(steps=st.integers(0, 500))
    def backlash(self, steps: int) -> None:
        self.bench.backlash(steps)

    @rule(position=POSITIONS)
    def preset(self, position: int) -> None:
        now = self.place()
        answer = self.bench.ask("Presets", {"PRESET_2": position})
        assert (answer.state == "Ok") == (self.low <= position <= self.high)
        if answer.state == "Ok":
            assert self.bench.ask("Goto", {"Preset 2": "On"}).state == "Ok"
            self.bench.rest(lambda: position)
        self.check_moves(now)

    @rule()
    def restart_driver(self) -> None:
        self.bench.restart_driver()

    @rule()
    def reconnect(self) -> None:
        self.bench.client.disconnect(1)
        self.bench.client.connect(1)

    @rule()
    def restart_controller(self) -> None:
        self.lose_power()

    def lose_power(self) -> None:
        reconnects = int(self.bench.client.value(DEVICE, "FOCUS_LINK_INFO", "RECONNECTS"))
        self.bench.simulator.power_cycle()
        self.bench.client.wait(
            lambda: self.bench.client.value(DEVICE, "FOCUS_LINK_INFO", "RECONNECTS") == str(reconnects + 1), "the link"
        )

    # On the way

    @rule(position=INSIDE)
    def abort(self, position: int) -> None:
        now = self.place()
        self.bench.send("ABS_FOCUS_POSITION", {"FOCUS_ABSOLUTE_POSITION": position})
        self.bench.client.abort(1)
        self.rest()
        self.check_moves(now)

    @rule(event=st.sampled_from(EVENTS), share=st.integers(0, 1000), other=POSITIONS, flag=st.booleans())
    def on_the_way(self, event: str, share: int, other: int, flag: bool) -> None:
        now, bench = self.place(), self.bench
        position = self.low + (self.high - self.low) * share // 1000
        if position == now:
            return
        bench.begin(position)
        if event == "abort":
            bench.client.abort(1)
        elif event == "retarget":
            bench.send("ABS_FOCUS_POSITION", {"FOCUS_ABSOLUTE_POSITION": other})
            bench.client.settle(DEVICE)
        elif event in ("sync", "zero"):
            answer = bench.sync(0 if event == "zero" else self.low or self.high)
            assert (answer.state, "while moving" in answer.message) == ("Alert", True)
        elif event == "reverse":
            answer = bench.reverse(flag)
            assert (answer.state, "while moving" in answer.message) == ("Alert", True)
        elif event == "limit" and other > self.low:
            assert bench.ask("FOCUS_MAX", {"FOCUS_MAX_VALUE": other}).state == "Ok"
            self.check_moves(now)
            self.high = other
            if position > other:
                bench.client.wait(lambda: bench.client.state(DEVICE, "ABS_FOCUS_POSITION") != "Busy", "a stop")
                assert self.place() == now
        elif event == "restart":
            bench.restart_driver()
        elif event == "reconnect":
            bench.client.disconnect(1)
            bench.client.connect(1)
        elif event == "power":
            self.lose_power()
            self.zero_at = None
        bench.let_go()
        self.rest()
        if event in ("sync", "zero", "reverse"):
            assert self.place() == position
        self.check_moves(now)


def test_driver_and_controller_agree_on_the_place_and_no_move_leaves_the_travel() -> None:
    run_state_machine_as_test(
        Positions,
        settings=settings(
            max_examples=60,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


# The same one by one, so that each is tried every time


def test_the_place_keeps_its_number_when_the_direction_is_reversed() -> None:
    with Bench() as bench:
        bench.move(300)
        assert bench.reverse(True).state == "Ok"
        bench.rest(lambda: 300)
        bench.move(500)
        assert (bench.position, bench.simulator.position(1)) == (500, 100)
        bench.restart_driver()
        bench.rest(lambda: 500)
        assert bench.reverse(False).state == "Ok"
        bench.move(600)
        assert (bench.position, bench.simulator.position(1)) == (600, 200)


def test_a_sync_outlives_the_driver_and_the_controller() -> None:
    with Bench() as bench:
        bench.move(300)
        assert bench.sync(1300).state == "Ok"
        bench.restart_driver()
        bench.rest(lambda: 1300)
        bench.simulator.power_cycle()
        bench.client.wait(lambda: bench.client.value(DEVICE, "FOCUS_LINK_INFO", "RECONNECTS") == "1", "the link")
        bench.rest(lambda: 1300)
        bench.move(1310)
        assert bench.simulator.position(1) == 310


def test_a_move_sent_with_a_zero_means_positions_after_the_zero() -> None:
    with Bench() as bench:
        bench.move(300)
        bench.sync(1300)
        orders = Lines(bench.simulator)
        bench.ask_at_once(
            ("FOCUS_SYNC", {"FOCUS_SYNC_VALUE": 0}),
            ("FOCUS_MOTION", {"FOCUS_OUTWARD": "On"}),
            ("REL_FOCUS_POSITION", {"FOCUS_RELATIVE_POSITION": 20}),
        )
        bench.rest(lambda: 20)
        assert orders.orders() == [b"1Z", b"1+20"]


def test_a_client_never_receives_an_arrival_before_the_move_that_waits_for_a_zero() -> None:
    with Bench() as bench:
        bench.move(300)
        bench.simulator.delay_replies(0.1)
        since = len(bench.client.received)
        bench.send("FOCUS_SYNC", {"FOCUS_SYNC_VALUE": 0})
        bench.send("FOCUS_SYNC", {"FOCUS_SYNC_VALUE": 1000})
        bench.move(1200)
        bench.simulator.delay_replies(0)
        states = [
            (answer.state, answer.values["FOCUS_ABSOLUTE_POSITION"])
            for answer in bench.client.received[since:]
            if answer.name == "ABS_FOCUS_POSITION"
        ]
        assert states[-1] == ("Ok", "1200")
        assert {state for state, _ in states[:-1]} == {"Busy"}


def test_an_abort_drops_what_waits_for_a_zero() -> None:
    with Bench() as bench:
        bench.move(300)
        bench.simulator.delay_replies(0.1)
        orders = Lines(bench.simulator)
        bench.send("FOCUS_SYNC", {"FOCUS_SYNC_VALUE": 0})
        bench.send("ABS_FOCUS_POSITION", {"FOCUS_ABSOLUTE_POSITION": 1000})
        bench.client.abort(1)
        bench.simulator.delay_replies(0)
        bench.client.settle(DEVICE)
        assert not [order for order in orders.orders() if order[1:2] in (b"+", b"-")]
        bench.client.wait(lambda: bench.client.state(DEVICE, "FOCUS_SYNC") in ("Ok", "Alert"), "the sync")
        zeroed = bench.client.state(DEVICE, "FOCUS_SYNC") == "Ok"
        assert zeroed == (b"1Z" in orders.orders())
        bench.rest(lambda: 0 if zeroed else 300)


@pytest.mark.parametrize("end", ["disconnect", "restart"])
def test_a_zero_whose_answer_was_not_received_is_remembered(end: str) -> None:
    with Bench() as bench:
        bench.move(300)
        bench.sync(1300)
        bench.simulator.delay_replies(0.2)
        orders = Lines(bench.simulator)
        bench.send("FOCUS_SYNC", {"FOCUS_SYNC_VALUE": 0})
        eventually(lambda: b"1Z" in orders.orders(), "the controller to take the zero")
        if end == "disconnect":
            bench.client.disconnect(1)
            bench.simulator.delay_replies(0)
            bench.client.connect(1)
        else:
            bench.simulator.delay_replies(0)
            bench.restart_driver()
        bench.rest(lambda: 0)
        bench.restart_driver()
        bench.rest(lambda: 0)


def test_a_zero_that_the_controller_never_took_changes_nothing() -> None:
    with Bench() as bench:
        bench.move(300)
        bench.sync(1300)
        bench.client.settle(DEVICE)
        bench.simulator.pull_cable()
        bench.client.wait_state(DEVICE, "ABS_FOCUS_POSITION", "Alert")
        answer = bench.sync(0)
        assert (answer.state, "does not answer" in answer.message) == ("Alert", True)
        bench.simulator.replug_cable()
        bench.rest(lambda: 1300)


def test_a_travel_that_excludes_the_end_of_a_running_move_stops_it() -> None:
    with Bench() as bench:
        bench.begin(3000)
        since = len(bench.client.received)
        assert bench.ask("FOCUS_MAX", {"FOCUS_MAX_VALUE": 2000}).state == "Ok"
        bench.client.wait_message("the move to 3000 would leave the new travel", since)
        bench.client.wait_state(DEVICE, "ABS_FOCUS_POSITION", "Idle")
        bench.let_go()
        bench.rest(lambda: 0)
        assert bench.simulator.target(1) == 0


def test_a_travel_that_includes_the_end_of_a_running_move_lets_it_go_on() -> None:
    with Bench() as bench:
        bench.begin(1500)
        assert bench.ask("FOCUS_MAX", {"FOCUS_MAX_VALUE": 2000}).state == "Ok"
        bench.let_go()
        bench.rest(lambda: 1500)


def test_from_outside_the_travel_a_move_may_lead_nearer_to_it_but_not_farther() -> None:
    with Bench() as bench:
        bench.move(3000)
        bench.ask("FOCUS_MAX", {"FOCUS_MAX_VALUE": 1000})
        refused = bench.move(3001)
        assert (refused.state, "out of bounds" in refused.message) == ("Alert", True)
        assert bench.move(2000).values == {"FOCUS_ABSOLUTE_POSITION": "2000"}
        assert bench.client.state(DEVICE, "ABS_FOCUS_POSITION") == "Alert"
        assert bench.move(1000).state == "Ok"


def test_from_far_outside_the_travel_a_relative_move_leads_back_into_it() -> None:
    with Bench() as bench:
        bench.move(3000)
        bench.ask("FOCUS_MAX", {"FOCUS_MAX_VALUE": 1000})
        assert bench.ask("REL_FOCUS_POSITION", {"FOCUS_RELATIVE_POSITION": 2500}).state == "Ok"
        bench.rest(lambda: 500)


def test_a_relative_move_of_fewer_than_no_steps_is_refused() -> None:
    with Bench() as bench:
        bench.move(3000)
        answer = bench.ask("REL_FOCUS_POSITION", {"FOCUS_RELATIVE_POSITION": -100})
        assert (answer.state, "FOCUS_MOTION sets the direction" in answer.message) == ("Alert", True)
        bench.rest(lambda: 3000)


def test_on_the_way_into_the_travel_no_move_leads_out_again() -> None:
    """The driver's last status is from before the motor moved: by then it is far nearer than the status says."""
    with Bench(speed=20.0, moving_s=60.0) as bench:
        bench.simulator.stall(1)
        bench.ask("FOCUS_MAX", {"FOCUS_MAX_VALUE": 5000})
        bench.sync(5000)
        bench.ask("FOCUS_MAX", {"FOCUS_MAX_VALUE": 4000})
        bench.begin(0)
        bench.let_go()
        eventually(lambda: bench.simulator.position(1) < -500, "the motor to be on its way")
        bench.client.settle(DEVICE)
        since = len(bench.client.received)
        bench.send("ABS_FOCUS_POSITION", {"FOCUS_ABSOLUTE_POSITION": 4900})
        bench.client.wait_message("out of bounds", since)
        bench.client.abort(1)


def test_an_outward_move_overshoots_and_comes_back_as_one_move_and_an_inward_one_goes_straight() -> None:
    with Bench() as bench:
        bench.backlash(100)
        orders, since = Lines(bench.simulator), len(bench.client.received)
        bench.move(1000)
        assert orders.orders() == [b"1+1100", b"1+1000"]
        states = [answer.state for answer in bench.client.received[since:] if answer.name == "ABS_FOCUS_POSITION"]
        assert states[-1] == "Ok"
        assert set(states[:-1]) == {"Busy"}
        bench.move(500)
        assert orders.orders()[2:] == [b"1+500"]


def test_outward_is_towards_larger_positions_also_where_the_direction_is_reversed() -> None:
    with Bench() as bench:
        bench.move(1000)
        bench.reverse(True)
        bench.backlash(100)
        orders = Lines(bench.simulator)
        bench.move(1200)
        bench.move(1100)
        assert orders.orders() == [b"1+700", b"1+800", b"1+900"]


def test_an_abort_stops_both_legs_of_a_move_with_backlash() -> None:
    with Bench() as bench:
        bench.backlash(100)
        orders = Lines(bench.simulator)
        bench.begin(1000)
        bench.client.abort(1)
        bench.let_go()
        bench.rest(lambda: 0)
        assert orders.orders() == [b"1+1100", b"1S"]


def test_the_turning_point_is_nobody_s_target_not_even_while_it_is_stopped() -> None:
    with Bench(speed=5) as bench:
        bench.backlash(200)
        client = bench.client
        client.settle(DEVICE)
        since = len(client.received)
        bench.send("ABS_FOCUS_POSITION", {"FOCUS_ABSOLUTE_POSITION": 1000})
        client.wait(lambda: bench.position > 100, "the way outward")
        client.abort(1)
        targets = [
            answer.values["FOCUS_TARGET_VALUE"] for answer in client.received[since:] if answer.name == "FOCUS_TARGET"
        ]
        assert targets == ["1000", str(bench.position)]


def test_backlash_is_taken_up_within_the_travel_and_by_no_more_than_it_is() -> None:
    with Bench() as bench:
        bench.backlash(100)
        orders = Lines(bench.simulator)
        bench.move(3950)
        assert orders.orders() == [b"1+4000", b"1+3950"]
        bench.move(4000)
        assert orders.orders()[2:] == [b"1+4000"], "there is nothing beyond the end"
        bench.ask("FOCUS_MAX", {"FOCUS_MAX_VALUE": 1000})
        bench.move(3000)
        assert orders.orders()[3:] == [b"1+3000"]


def test_what_is_done_on_the_driver_s_own_simulator_does_not_touch_the_real_focuser() -> None:
    with Bench() as bench:
        client = bench.client
        bench.move(300)
        bench.sync(1300)
        client.disconnect(1)
        assert bench.ask("SIMULATION", {"ENABLE": "On"}).state == "Ok"
        client.connect(1)
        bench.client.wait(lambda: bench.position == 0, "the simulator's own place")
        assert bench.sync(77).state == "Ok"
        assert bench.reverse(True).state == "Ok"
        bench.ask("FOCUS_MAX", {"FOCUS_MAX_VALUE": 2000})
        client.disconnect(1)
        assert bench.ask("SIMULATION", {"DISABLE": "On"}).state == "Ok"
        client.connect(1)
        bench.rest(lambda: 1300)
        assert client.devices[DEVICE]["FOCUS_REVERSE_MOTION"].on == ["INDI_DISABLED"]
        bench.restart_driver()
        bench.rest(lambda: 1300)
        assert bench.travel() == TRAVEL
