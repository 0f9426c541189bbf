# SPDX-License-Identifier: GPL-3.0-or-later
"""One channel of the controller as an INDI focuser: what each of its properties does.

Used by `driver.py`, in the main thread. Two things drive a focuser: what clients send (the `_new_…` handlers) and what
the controller is known to do (`show`, with each snapshot). Neither waits for the other: a handler hands a request to
the controller and answers Busy, and a later snapshot shows what became of it.

What the properties are is in `properties.py`, whether a move may be made in `moves.py`, and which state a position
shows in `position_state.py`. Positions are what users see: position = sign × controller steps + offset.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from .controller.motion import NOMINAL_STEPS_PER_S, Motion
from .controller.poll_thread import Controller
from .controller.protocol import max_steps
from .controller.snapshot import ChannelState, Link, Snapshot
from .indi import Device, NewVector, NumberVector, Output, Refused, State, SwitchVector, Value, Vector
from .moves import Circumstances, Plan, plan_move
from .position_state import INDI_STATE, Event, PositionState, next_state, observe
from .properties import FocuserProperties
from .settings.driver_settings import Probe
from .settings.remembered_position import PositionMemory, this_boot, uptime_s

MAX_HELD = 32
"""Requests that may wait for a sync or a zero, which takes milliseconds."""

Values = Mapping[str, Value]
Handler = Callable[[Values], None]


@dataclass(frozen=True)
class Sync:
    """A change of what positions mean, which is being carried out: a sync, a zero or a reversal."""

    vector: Vector
    """What is answered in the end."""
    request: int = 0
    """Number of the zero, once it was handed to the controller."""


class Focuser:
    """One channel. `device` is its INDI side, which the driver also uses for the properties that all channels share."""

    def __init__(
        self,
        channel: int,
        name: str,
        output: Output,
        controller: Controller,
        *,
        travel: tuple[int, int],
        limits: tuple[int, int],
        probe: Probe | None = None,
        with_fans: bool = False,
        all_probes: tuple[Probe, ...] = (),
    ) -> None:
        """`travel`: where it may move at first; `limits`: how far clients may extend that; both are positions.

        `probe`: the temperature probe that this channel shows as its own. `with_fans` and `all_probes`: what belongs
        to the controller as a whole and is shown by its first channel.
        """
        self.channel = channel
        self.device = Device(name, output, absent=self._absent)
        self.connected = False
        self.memory = PositionMemory()
        self.properties = FocuserProperties(travel, limits, all_probes)
        self.save_setting: Callable[[Vector], None] = lambda vector: None
        """Called with a property whose new value is to outlive the driver at once, as libindi does with FOCUS_MAX."""
        self._controller = controller
        self._probe = probe
        self._all_probes = all_probes
        self._with_fans = with_fans
        self._snapshot = Snapshot()
        self._state: ChannelState | None = None
        self._position = PositionState.ARRIVED
        self._request = 0
        """Number of the last order. A state that does not reflect it is about something before it."""
        self._move_request = 0
        """Number of the last move."""
        self._abort_request = 0
        """Number of an abort that is not answered yet, else 0."""
        self._fans_request = 0
        self._sync: Sync | None = None
        self._held: list[tuple[Vector, Values]] = []
        """Requests that came while a sync is carried out: they are about positions as they will be after it."""
        self._waypoints: tuple[int, ...] = ()
        """Where the last move turns round and ends, in controller steps."""
        self._by_relative = False
        self._direction = 0
        """Which way the motor last turned, in controller steps: 1, -1, or 0 where it is not known."""
        self._last_leg = 0
        """Which way the last move ends if it arrives."""
        self._unverified_count = 0
        self._reported = ""
        """What clients were last told to be wrong with the position; and with the memory."""
        self._problem_reported = ""

    # --- Connecting -------------------------------------------------------------------------------------------------

    def _absent(self, name: str) -> str:
        """Why a property is not there."""
        if not self.connected:
            return f"{self.device.name} is not connected and has no {name}: connect it first (CONNECTION.CONNECT=On)"
        return f"{self.device.name} has no property {name}"

    def open(self, memory: PositionMemory) -> None:
        """The link is being opened, for this channel or another. A stop that could not be sent before comes first."""
        self.memory = memory
        self._sync = None  # what became of it is known by the memory
        self._request = self._move_request = self._abort_request = self._unverified_count = 0
        if memory.values.stop_pending:
            self._request = self._abort_request = self._controller.stop(self.channel)

    def connect(self, snapshot: Snapshot) -> None:
        """Offer everything that a connected focuser has. The link is up, and `snapshot` has this channel."""
        self.connected = True
        self._snapshot, self._state = snapshot, snapshot.channels[self.channel - 1]
        self._position = PositionState.ARRIVED
        offered = self.properties
        self._resume(self._state)
        self._verify(self._state)
        self._note_unverified(self._state)
        self.memory.update(in_use=True)
        low, high = self.travel
        limit = max_steps(snapshot.generation)
        if low < limit and high > -limit:
            self.apply_travel(max(low, -limit), min(high, limit))
        offered.reverse.select("INDI_ENABLED" if self.memory.values.reversed else "INDI_DISABLED")
        offered.presets.state = offered.goto.state = State.IDLE
        self._observe()
        self._fill_position()
        self._fill_shared()
        own_checks = (offered.relative, offered.absolute, offered.sync)
        for vector, handler in self._offer():
            self.device.define(vector, handler, check_range=vector not in own_checks)
        self._problem_reported = ""
        self.saved()
        if self._probe is not None and snapshot.generation != 2:
            self.device.warning("this controller is of the first generation, which has no temperature probes")
        self._finish_zero()
        self._report_trouble()

    def _resume(self, state: ChannelState) -> None:
        """What an earlier connection left: a zero or an abort that is still on its way."""
        offered = self.properties
        for vector in (offered.sync, offered.reverse, offered.motion, offered.relative):
            vector.state = State.OK
        offered.abort.clear()
        offered.abort.state = State.IDLE
        if self._sync is not None:
            self._position = PositionState.ZEROING
            self._sync.vector.state = State.BUSY
        else:
            self._resolve_zero(state)
        if self._abort_request > state.request:
            self._position = PositionState.ABORTING
            offered.abort.state = State.BUSY

    def _offer(self) -> list[tuple[Vector, Handler | None]]:
        """The properties and what answers a client that sets one, in the order of definition."""
        offered = self.properties
        table: list[tuple[Vector, Handler | None]] = [
            (offered.motion, self._after_sync(offered.motion, self._new_motion)),
            (offered.relative, self._after_sync(offered.relative, self._new_relative)),
            (offered.absolute, self._after_sync(offered.absolute, self._new_absolute)),
            (offered.maximum, self._new_maximum),
            (offered.minimum, self._new_minimum),
            (offered.abort, self._new_abort),
            (offered.sync, self._after_sync(offered.sync, self._new_sync)),
            (offered.reverse, self._after_sync(offered.reverse, self._new_reverse)),
            (offered.backlash, self._new_backlash),
            (offered.backlash_steps, self._new_backlash_steps),
            (offered.presets, self._new_presets),
            (offered.goto, self._after_sync(offered.goto, self._new_goto)),
        ]
        if self._snapshot.generation == 2:
            if self._probe is not None:
                table.append((offered.temperature, None))
            if self._all_probes:
                table.append((offered.temperatures, None))
            if self._with_fans:
                table.append((offered.fan, self._new_fan))
        return [*table, (offered.target, None), (offered.link, None), (offered.link_info, None)]

    def disconnect(self) -> None:
        """Take back what `connect` offered. A move in progress is left to finish."""
        if not self.connected:
            return
        self.connected = False
        self.device.remove(*(vector.name for vector, _ in self._offer()))
        self.release()
        self._held = []
        self._waypoints = ()
        self._by_relative = False
        self._reported = ""
        self._state = None

    def release(self) -> None:
        """Leave the memory so that the next run of the driver, or the next connection, knows what it has to."""
        state = self._state
        if state is None:
            return
        if self._abort_request > state.request:
            self.memory.update(stop_pending=True)
            if self._snapshot.link is not Link.UP:
                self.device.warning(
                    "the stop was not sent, because the controller does not answer; "
                    "it is the first thing to be sent when the controller is connected again"
                )
        if self._snapshot.link is Link.UP and not self._moves(state):
            self.memory.update(in_use=False, move=None, steps=state.current)

    # --- What clients send ------------------------------------------------------------------------------------------

    def _new_absolute(self, values: Values) -> None:
        self._move_to(_whole(values["FOCUS_ABSOLUTE_POSITION"]), relative=False)

    def _new_relative(self, values: Values) -> None:
        offered = self.properties
        amount = _whole(values["FOCUS_RELATIVE_POSITION"])
        if amount < 0:
            raise Refused("how many steps is expected; FOCUS_MOTION tells which way")
        position = self.memory.values.position(self._ready().current)
        self._move_to(position + (-amount if offered.motion["FOCUS_INWARD"].on else amount), relative=True)
        offered.relative["FOCUS_RELATIVE_POSITION"].value = amount
        offered.relative.state = State.BUSY
        self.device.update(offered.relative)

    def _new_goto(self, values: Values) -> None:
        goto = self.properties.goto
        preset = chosen(goto, values)
        position = int(self.properties.presets[preset.upper().replace(" ", "_")].value)
        self._move_to(position, relative=False)
        goto.select(preset)
        goto.state = State.OK
        self.device.info(f"Moving to {preset} with position {position}.")
        self.device.update(goto)

    def _new_motion(self, values: Values) -> None:
        self._select(self.properties.motion, values)

    def _new_abort(self, values: Values) -> None:
        abort = self.properties.abort
        if not values.get("ABORT"):
            abort.clear()
            abort.state = State.IDLE
            self.device.update(abort)
            return
        self._stop()
        self._drop_held(State.IDLE)
        if self._snapshot.link is not Link.UP:
            abort.state = State.BUSY
            self.device.update(abort, f"[WARNING] {self._no_link()}; the stop is sent as soon as it does")
            self.memory.update(stop_pending=True)

    def _stop(self) -> None:
        self._request = self._abort_request = self._controller.stop(self.channel)
        self._position = next_state(self._position, Event.ABORT_ORDERED)

    def _new_maximum(self, values: Values) -> None:
        self._set_travel(self.travel[0], _whole(values["FOCUS_MAX_VALUE"]), self.properties.maximum)

    def _new_minimum(self, values: Values) -> None:
        self._set_travel(_whole(values["FOCUS_MIN_VALUE"]), self.travel[1], self.properties.minimum)

    def _new_backlash(self, values: Values) -> None:
        self._select(self.properties.backlash, values)
        self.save_setting(self.properties.backlash)

    def _new_backlash_steps(self, values: Values) -> None:
        steps = self.properties.backlash_steps
        steps["FOCUS_BACKLASH_VALUE"].value = _whole(values["FOCUS_BACKLASH_VALUE"])
        self._answer_ok(steps)
        self.save_setting(steps)

    def _new_presets(self, values: Values) -> None:
        presets = self.properties.presets
        for name, value in values.items():
            presets[name].value = _whole(value)
        self._answer_ok(presets)
        self.save_setting(presets)

    def _new_fan(self, values: Values) -> None:
        self._ready()
        fan = self.properties.fan
        self._fans_request = self._controller.switch_fans(chosen(fan, values) == "INDI_ENABLED")
        fan.state = State.BUSY
        self.device.update(fan)

    def _select(self, vector: SwitchVector, values: Values) -> None:
        """The plain answer to a one-of-many switch: it is so now."""
        vector.select(chosen(vector, values))
        self._answer_ok(vector)

    def _answer_ok(self, vector: Vector) -> None:
        vector.state = State.OK
        self.device.update(vector)

    # --- Sync, zero and reversal: what positions mean ---------------------------------------------------------------

    def _after_sync(self, vector: Vector, handler: Handler) -> Handler:
        """Let a request wait while a sync is carried out."""

        def handle(values: Values) -> None:
            if self._sync is None:
                handler(values)
            elif len(self._held) >= MAX_HELD:
                raise Refused("a sync is being carried out, and too much waits for that: try again soon")
            else:
                self._held.append((vector, values))
                vector.state = State.BUSY
                self.device.update(vector)

        return handle

    def _new_sync(self, values: Values) -> None:
        position = _whole(values["FOCUS_SYNC_VALUE"])
        state = self._ready("sync")
        low, high = self.travel
        if position == 0:
            # The controller's own zero, which it keeps by itself, whatever becomes of our files.
            self._begin_sync(self.properties.sync)
            self.memory.commit(self._send_zero, zeroing=True)
            return
        if not low <= position <= high:
            or_zero = "" if low <= 0 <= high else ", or 0,"
            accepted = f"a position from {low} to {high}{or_zero}"
            raise Refused(f"{position:.15g} is outside the travel: {accepted} is expected")

        def end(problem: str) -> None:
            if not problem:
                self.properties.sync["FOCUS_SYNC_VALUE"].value = position
            self._end_saved_sync(sync, problem)

        sync = self._begin_sync(self.properties.sync)
        offset = position - self.memory.values.sign * state.current
        self.memory.commit(end, offset=offset, zeroing=False, unverified=False, steps=state.current)

    def _new_reverse(self, values: Values) -> None:
        """Turn the direction round. The place where it stands keeps its position, as with libindi's drivers."""
        state = self._ready("reverse")
        reverse = self.properties.reverse
        turned = chosen(reverse, values) == "INDI_ENABLED"

        def end(problem: str) -> None:
            if not problem:
                reverse.select("INDI_ENABLED" if turned else "INDI_DISABLED")
                self._direction = self._last_leg = 0
            self._end_saved_sync(sync, problem)
            if not problem:
                self.save_setting(reverse)

        sync = self._begin_sync(reverse)
        values_now = self.memory.values
        offset = values_now.position(state.current) - (-1 if turned else 1) * state.current
        self.memory.commit(end, reversed=turned, offset=offset)

    def _begin_sync(self, vector: Vector) -> Sync:
        sync = self._sync = Sync(vector)
        self._position = next_state(self._position, Event.SYNC_ORDERED)
        vector.state = State.BUSY
        return sync

    def _end_saved_sync(self, sync: Sync, problem: str) -> None:
        """A sync or a reversal is on the disk and holds; or it is not, and nothing changed."""
        if self._sync is sync:
            self._end_sync(f"[ERROR] {problem}; nothing was changed" if problem else None)

    def _end_sync(self, error: str | None) -> None:
        """Answer it, and carry out what waited for it."""
        sync, self._sync = self._sync, None
        assert sync is not None
        self._position = next_state(self._position, Event.SYNC_ENDED)
        if not self.connected:
            return
        self._observe()
        sync.vector.state = State.ALERT if error else State.OK
        self.device.update(sync.vector, error)
        if error:
            self._drop_held(State.ALERT, "[ERROR] this was to follow a sync, which failed; nothing was done")
        else:
            self._show_position()
        self._fill_shared()
        self._show_shared()
        self._report_trouble()
        while self._held and self._sync is None:
            vector, values = self._held.pop(0)
            self.device.handle(_as_sent(self.device.name, vector, values))

    def _drop_held(self, state: State, text: str | None = None) -> None:
        held, self._held = self._held, []
        for vector, _ in held:
            vector.state = state
            self.device.update(vector, text)

    def _send_zero(self, problem: str) -> None:
        """The disk knows that the controller is about to count from here."""
        sync = self._sync
        if sync is None or sync.request or self._snapshot.link is not Link.UP:
            problem = problem or "the controller does not answer now"
        if problem:
            self.memory.update(zeroing=False)
            if sync is not None:
                self._end_sync(f"[ERROR] {problem}; nothing was changed")
            return
        assert sync is not None
        self._request = self._controller.zero(self.channel)
        self._sync = replace(sync, request=self._request)
        self.device.update(sync.vector)

    def _finish_zero(self) -> None:
        """The controller took the zero, or it never will."""
        sync, state = self._sync, self._state
        if sync is None or not sync.request or state is None or state.request < sync.request:
            return
        # By what the controller counts, whatever else went wrong: positions are true if it counts from here, or not.
        if self._snapshot.link is not Link.UP or state.target or state.current:
            self.memory.update(zeroing=False)
            self._end_sync(f"[ERROR] {state.fault or 'the zero was stopped before the controller took it'}")
            return

        def end(problem: str) -> None:
            if self._sync is done:
                self.properties.sync["FOCUS_SYNC_VALUE"].value = 0
                kept = "the controller counts from 0 now, but that cannot be kept over a restart"
                self._end_sync(f"[ERROR] {problem}: {kept}" if problem else None)

        done = self._sync = replace(sync, request=0)
        self.memory.update_then(end, offset=0, zeroing=False, unverified=False, steps=0, move=None)

    def _resolve_zero(self, state: ChannelState) -> None:
        """A zero of which an earlier run, or an earlier connection, did not see the end: has it been carried out?"""
        if self.memory.values.zeroing:
            if state.target == state.current == 0:
                self.memory.update(offset=0, unverified=False, zeroing=False, steps=0, move=None)
            elif state.current == self.memory.values.steps:
                self.memory.update(zeroing=False)  # the motor did not move, and the controller counts as before
            else:
                self.memory.update(zeroing=False, unverified=True)

    # --- Moving -----------------------------------------------------------------------------------------------------

    @property
    def travel(self) -> tuple[int, int]:
        """First and last position that a move may lead to."""
        offered = self.properties
        return int(offered.minimum["FOCUS_MIN_VALUE"].value), int(offered.maximum["FOCUS_MAX_VALUE"].value)

    def _ready(self, what: str = "") -> ChannelState:
        """The channel's state, where it can take a request now; for `what` (to sync, to reverse) it must be at rest."""
        if self._snapshot.link is not Link.UP or self._state is None:
            raise Refused(f"{self._no_link()}: try again when it does")
        if what and (self._state.moving or self._state.request < self._move_request):
            raise Refused(f"cannot {what} while moving: wait, or abort first")
        return self._state

    def _no_link(self) -> str:
        return f"the controller does not answer now ({self._snapshot.reason or 'no link'})"

    def _moves(self, state: ChannelState) -> bool:
        """Whether the motor turns, or an order that may turn it is not reflected yet."""
        return state.moving or state.request < self._request

    def _plan(self, position: int) -> Plan:
        """Decide on a move, before anything is sent. Raises Refused."""
        state, offered = self._ready(), self.properties
        compensated = offered.backlash.on == "INDI_ENABLED"
        return plan_move(
            position,
            Circumstances(
                scale=self.memory.values,
                travel=self.travel,
                max_steps=max_steps(self._snapshot.generation),
                current=state.current,
                moving=self._moves(state),
                backlash=int(offered.backlash_steps["FOCUS_BACKLASH_VALUE"].value) if compensated else 0,
                direction=self._direction,
            ),
        )

    def _move_to(self, position: int, *, relative: bool) -> None:
        """Hand the move to the controller and answer Busy. Raises Refused."""
        plan, state = self._plan(position), self._ready()
        self._request = self._move_request = self._controller.move(self.channel, plan.steps, plan.via)
        self._position = next_state(self._position, Event.MOVE_ORDERED)
        self._waypoints = plan.waypoints
        if plan.via is not None:
            self._last_leg = self._direction
        else:
            self._last_leg = (plan.steps > state.current) - (plan.steps < state.current) or self._direction
        self._by_relative = relative
        self._reported = ""
        offered = self.properties
        if not relative and offered.relative.state is State.BUSY:
            offered.relative.state = State.IDLE  # that move will not be finished
            self.device.update(offered.relative)
        offered.absolute.state = State.BUSY
        self.device.update(offered.absolute)
        offered.target["FOCUS_TARGET_VALUE"].value = plan.position
        offered.target.state = State.BUSY
        self.device.publish(offered.target)
        self.memory.move_begins(state.current, plan.steps)

    def _set_travel(self, low: int, high: int, changed: NumberVector) -> None:
        if low >= high:
            raise Refused(f"the travel would be {low:.15g} to {high:.15g}: FOCUS_MIN must be below FOCUS_MAX")
        before = self.travel
        self.apply_travel(low, high)
        self._stop_outside(before)
        self._observe()
        self._fill_position()
        for vector in self.properties.of_positions():
            self.device.update(vector, ranges=True)
        self.device.update(self.properties.relative, ranges=True)
        self._answer_ok(changed)
        self.save_setting(changed)
        self._report_trouble()

    def _stop_outside(self, before: tuple[int, int]) -> None:
        """Stop a move which the travel `before` allowed, and the new one does not."""
        state = self._state
        if state is None or not self._moves(state):
            return
        low, high = self.travel
        for steps in self._waypoints or (state.target,):
            position = self.memory.values.position(steps)
            if before[0] <= position <= before[1] and not low <= position <= high:
                self._stop()
                self.device.error(f"the move to {position} would leave the new travel: the motor is stopped")
                return

    def apply_travel(self, low: int, high: int) -> None:
        """Set the travel and the ranges that follow from it; sends nothing."""
        offered = self.properties
        offered.minimum["FOCUS_MIN_VALUE"].value = low
        offered.maximum["FOCUS_MAX_VALUE"].value = high
        step = max(1, (high - low) // 50)
        for vector in offered.of_positions():
            for element in vector.elements.values():
                element.min, element.max, element.step = low, high, step
        for preset in offered.presets.elements.values():
            preset.value = max(low, min(preset.value, high))
        amount = offered.relative["FOCUS_RELATIVE_POSITION"]
        amount.max, amount.step = high - low, step

    # --- What the controller does -----------------------------------------------------------------------------------

    def show(self, snapshot: Snapshot) -> None:
        """Show clients what is new in `snapshot`; sends only what changed."""
        if not self.connected:
            self._settle_abort(snapshot)
            return
        self._take(snapshot)
        self._finish_zero()
        self._observe()
        self._show_position()
        self._remember_motion()
        self._answer_abort()
        self._fill_shared()
        self._show_shared()
        self._report_trouble()

    def _take(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        if len(snapshot.channels) < self.channel:
            return
        before, self._state = self._state, snapshot.channels[self.channel - 1]
        if before is not None and self._sync is None:
            self._note_direction(before, self._state)
        self._note_unverified(self._state)

    def _note_unverified(self, state: ChannelState) -> None:
        if state.unverified_count > self._unverified_count:
            self.memory.update(unverified=True)
        self._unverified_count = state.unverified_count

    def _note_direction(self, before: ChannelState, now: ChannelState) -> None:
        """Of a move that arrived it is known how it ended, even if nobody saw its last steps; of another, as seen."""
        aborted = self._position in (PositionState.ABORTING, PositionState.IDLE)
        if not (self._moves(now) or now.fault or aborted):
            self._direction = self._last_leg
        elif now.current != before.current:
            self._direction = 1 if now.current > before.current else -1
        if not self._moves(now):
            self._last_leg = self._direction

    def _observe(self) -> None:
        """Move on in the table of states, by what is known of the channel."""
        state = self._state
        if state is None:
            return
        if self._snapshot.link is not Link.UP:
            self._position = next_state(self._position, Event.LINK_LOST)
            return
        if self._position is PositionState.LOST and self._abort_request > state.request:
            self._position = PositionState.ABORTING  # it was ordered while the link was lost
        unverified = self.memory.values.unverified
        event = observe(state, self._request, unverified=unverified, failed=bool(self._trouble(state)))
        self._position = next_state(self._position, event)

    def _show_position(self) -> None:
        self._fill_position()
        offered = self.properties
        self.device.publish(offered.target)
        self.device.publish(offered.relative)
        self.device.publish(offered.absolute)

    def _fill_position(self) -> None:
        """Position, target and their states, as of the last known state."""
        state = self._state
        if state is None:
            return
        offered, scale = self.properties, self.memory.values
        offered.absolute["FOCUS_ABSOLUTE_POSITION"].value = scale.position(state.current)
        if state.request >= self._request:
            offered.target["FOCUS_TARGET_VALUE"].value = scale.position(state.target)
        offered.absolute.state = offered.target.state = INDI_STATE[self._position]
        if self._by_relative or self._position is PositionState.IDLE:
            offered.relative.state = offered.absolute.state

    def _trouble(self, state: ChannelState) -> str:
        """What is wrong with a channel at rest, for people."""
        position = self.memory.values.position(state.current)
        if self.memory.values.unverified:
            return (
                f"position {position} is unverified: the controller claims an arrival that nobody saw or that cannot "
                "be, as when power was lost in mid-move; sync or zero to accept"
            )
        if state.fault:
            return state.fault
        low, high = self.travel
        if not low <= position <= high:
            return f"position {position} is outside the travel of {low} to {high}: move back, or sync"
        if self.memory.at_risk:
            return f"position {position} would be wrong after a power cut, unnoticed: {self.memory.problem}"
        return ""

    def _report_trouble(self) -> None:
        """Say once what is wrong, and when it is right again."""
        state = self._state
        if state is None or self._snapshot.link is not Link.UP or self._moves(state):
            return
        trouble = self._trouble(state)
        if trouble and trouble != self._reported:
            self.device.error(trouble)
        self._reported = trouble

    def _remember_motion(self) -> None:
        state = self._state
        if self._snapshot.link is not Link.UP:
            self.memory.link_lost()
        elif state is not None and self._moves(state):
            self.memory.still_moves(state.current, state.target)
        elif state is not None and self._sync is None:
            self.memory.at_rest(state.current)

    def _verify(self, state: ChannelState) -> None:
        """Can the controller's claim be true, by what an earlier run of the driver left in the memory?"""
        remembered = self.memory.values
        move = remembered.move
        if move is None:
            moved = remembered.in_use and not state.moving and state.current != remembered.steps
            if moved and not remembered.unverified:
                self.memory.update(unverified=True)  # a move of which the disk never knew
            return
        motor = Motion(NOMINAL_STEPS_PER_S[self._snapshot.generation or 1])
        impossible = not motor.could_travel(state.current - move.start, max(0.0, uptime_s() - move.time_s))
        # A motor that moves has power, and is seen to its end. Where it stands, any place but the first may be one that
        # the controller was to go to: a turning point, or an earlier target.
        rebooted = not state.moving and state.current != move.start and move.boot != this_boot()
        self.memory.update(
            unverified=remembered.unverified or impossible or rebooted, move=move if state.moving else None
        )

    def _answer_abort(self) -> None:
        """The answer to an abort is sent when the motor is known to stand."""
        abort = self.properties.abort
        if not self._abort_request:
            return
        if self._snapshot.link is not Link.UP:
            if abort.state is not State.BUSY:
                abort.state = State.BUSY
                self.device.update(abort, f"[WARNING] {self._no_link()}; the stop is sent as soon as it does")
                self.memory.update(stop_pending=True)
        elif self._settle_abort(self._snapshot):
            abort.clear()
            abort.state = State.OK
            self.device.update(abort)

    def _settle_abort(self, snapshot: Snapshot) -> bool:
        """Whether an abort has just been carried out. It need not be kept any longer, connected or not."""
        if not self._abort_request or snapshot.link is not Link.UP or self.channel > len(snapshot.channels):
            return False
        if snapshot.channels[self.channel - 1].request < self._abort_request:
            return False
        self._abort_request = 0
        self.memory.update(stop_pending=False)
        return True

    def saved(self) -> None:
        """The memory was written, or could not be."""
        if self.connected:
            if self.memory.problem and self.memory.problem != self._problem_reported:
                self.device.warning(self.memory.problem)
            self._problem_reported = self.memory.problem
            before = self._position
            self._observe()
            if self._position is not before:
                self._show_position()
                self._report_trouble()

    # --- What all channels share: temperatures, fans, the link ------------------------------------------------------

    def _show_shared(self) -> None:
        offered = self.properties
        for vector in (offered.temperature, offered.temperatures, offered.fan, offered.link, offered.link_info):
            self.device.publish(vector)

    def _fill_shared(self) -> None:
        snapshot, offered = self._snapshot, self.properties
        measured = dict(snapshot.temperatures)
        if self._probe is not None and self._probe.address in measured:
            celsius = measured[self._probe.address]
            offered.temperature.state = State.ALERT if celsius is None else State.OK
            if celsius is not None:
                offered.temperature["TEMPERATURE"].value = celsius
        for probe in self._all_probes:
            celsius = measured.get(probe.address)
            offered.temperatures[probe.name].value = "" if celsius is None else f"{celsius:g}"
        if measured:
            offered.temperatures.state = State.ALERT if None in measured.values() else State.OK
        if snapshot.fans is not None:
            offered.fan.select("INDI_ENABLED" if snapshot.fans else "INDI_DISABLED")
            pending = snapshot.link is Link.UP and snapshot.fans_request < self._fans_request
            offered.fan.state = State.BUSY if pending else State.OK
        up, unverified = snapshot.link is Link.UP, self.memory.values.unverified
        offered.link["LINK"].state = State.OK if up else State.ALERT
        offered.link["POSITION"].state = offered.link.state = State.OK if up and not unverified else State.ALERT
        offered.link_info["LINK"].value = "up" if up else snapshot.reason or snapshot.link.value
        offered.link_info["GENERATION"].value = str(snapshot.generation or "unknown")
        offered.link_info["POSITION"].value = "unverified" if unverified else "verified"
        offered.link_info["RECONNECTS"].value = str(snapshot.reconnects)
        offered.link_info.state = offered.link.state


def _whole(value: Value) -> int:
    """Whole steps: a motor has no others. Halves are rounded up."""
    return math.floor(float(value) + 0.5)


def _as_sent(device: str, vector: Vector, values: Values) -> NewVector:
    """Checked values as a client may have sent them."""
    texts = {True: "On", False: "Off"}
    elements = [(name, texts[value] if isinstance(value, bool) else str(value)) for name, value in values.items()]
    return NewVector(vector.kind, device, vector.name, tuple(elements))


def chosen(vector: SwitchVector, values: Values) -> str:
    """The switch of a one-of-many vector that a client wants on: it may have sent it, or have turned all others off."""
    on = next((name for name, on in values.items() if on), None)
    return on if on is not None else next(name for name in vector.elements if name not in values)
