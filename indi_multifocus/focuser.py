# SPDX-License-Identifier: GPL-3.0-or-later
"""One channel of the controller as an INDI focuser: what each of its properties does.

Used by `driver.py`, in the main thread. Two things drive a focuser: what clients send (the `_new_…` handlers) and what
the controller is known to do (`show`, with each snapshot). Neither waits for the other: a handler hands a request to
the controller and answers Busy, and a later snapshot shows the result.

What the properties are is in `properties.py`; where the channel is and whether it may move, in `focuser_position.py`;
sync, zero and reversal, which change what positions mean, in `syncing.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from .controller.controller import Controller
from .controller.protocol import max_steps
from .controller.snapshot import Snapshot
from .focuser_position import FocuserPosition
from .indi import Device, NumberVector, Output, Refused, State, SwitchVector, Value, Vector
from .position_state import INDI_STATE, PositionState
from .properties import FocuserProperties
from .settings.driver_settings import Probe
from .settings.remembered_position import PositionMemory
from .syncing import Handler, Syncing

Values = Mapping[str, Value]


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
        self.properties = FocuserProperties(travel, limits, all_probes)
        self.position = FocuserPosition(channel, controller)
        self.position.travel = travel
        self.save_setting: Callable[[Vector], None] = lambda vector: None
        """Called with a property whose new value is to outlive the driver at once, as libindi does with FOCUS_MAX."""
        self.loads_settings: Callable[[], bool] = lambda: False
        """Whether what is set just now is a saved setting or a default, which is not to be saved again."""
        self._syncing = Syncing(self.device, self.position, self._show_synced)
        self._controller = controller
        self._probe = probe
        self._all_probes = all_probes
        self._with_fans = with_fans
        self._fans_request = 0
        self._by_relative = False
        self._trouble_reported = ""
        """The problem of the position that was reported to clients last; and that of the memory."""
        self._problem_reported = ""

    # --- Connecting -------------------------------------------------------------------------------------------------

    def _absent(self, name: str) -> str:
        """Why a property is not there."""
        if not self.connected:
            return f"{self.device.name} is not connected and has no {name}: connect it first (CONNECTION.CONNECT=On)"
        return f"{self.device.name} has no property {name}"

    def open(self, memory: PositionMemory) -> None:
        """The link is being opened, for this channel or another."""
        self.position.open(memory)
        self._syncing.open()
        self._fans_request = 0

    def change_memory(self, memory: PositionMemory, snapshot: Snapshot) -> None:
        """The link is back, with another controller, which `snapshot` shows."""
        self._syncing.abandon("another controller was connected before this was done")
        self.position.change_memory(memory, snapshot)
        reverse = self.properties.reverse
        reverse.select("INDI_ENABLED" if self.position.scale.reversed else "INDI_DISABLED")
        self.device.publish(reverse)

    def connect(self, snapshot: Snapshot) -> None:
        """Offer everything that a connected focuser has. The link is up, and `snapshot` has this channel."""
        self.connected = True
        offered, position = self.properties, self.position
        for settled in (offered.sync, offered.motion, offered.relative):
            settled.state = State.OK
        offered.reverse.state = State.IDLE  # as libindi's
        if self._syncing.vector is not None:
            self._syncing.vector.state = State.BUSY
        position.connect(snapshot, syncing=self._syncing.vector is not None)
        low, high = position.travel
        limit = max_steps(snapshot.generation)
        if low < limit and high > -limit:
            self.apply_travel(max(low, -limit), min(high, limit))
        offered.reverse.select("INDI_ENABLED" if position.scale.reversed else "INDI_DISABLED")
        offered.presets.state = offered.goto.state = State.IDLE
        offered.abort.clear()
        offered.abort.state = State.BUSY if position.abort_request else State.IDLE
        position.observe()
        self._fill_position()
        self._fill_shared()
        own_checks = (offered.relative, offered.absolute, offered.sync)
        for vector, handler in self._offer():
            self.device.define(vector, handler, check_range=vector not in own_checks)
        self._problem_reported = ""
        self.saved()
        if self._probe is not None and snapshot.generation != 2:
            self.device.warning("this controller is of the first generation, which has no temperature probes")
        self._syncing.take_snapshot()
        self._answer_abort()
        self._report_trouble()

    def _offer(self) -> list[tuple[Vector, Handler | None]]:
        """The properties and what answers a client that sets one, in the order of definition."""
        offered, after_sync = self.properties, self._syncing.before
        table: list[tuple[Vector, Handler | None]] = [
            (offered.motion, after_sync(offered.motion, self._new_motion)),
            (offered.relative, after_sync(offered.relative, self._new_relative)),
            (offered.absolute, after_sync(offered.absolute, self._new_absolute)),
            (offered.maximum, self._new_maximum),
            (offered.minimum, self._new_minimum),
            (offered.abort, self._new_abort),
            (offered.sync, after_sync(offered.sync, self._new_sync)),
            (offered.reverse, after_sync(offered.reverse, self._new_reverse)),
            (offered.backlash, self._new_backlash),
            (offered.backlash_steps, self._new_backlash_steps),
            (offered.presets, self._new_presets),
            (offered.goto, after_sync(offered.goto, self._new_goto)),
        ]
        if self.position.snapshot.generation == 2:
            if self._probe is not None:
                table.append((offered.temperature, None))
            if self._all_probes:
                table.append((offered.temperatures, None))
            if self._with_fans:
                table.append((offered.fan, self._new_fan))
        return [*table, (offered.target, None), (offered.link, None), (offered.link_info, None)]

    def disconnect(self) -> None:
        """Delete the properties that `connect` defined. A move in progress is left to finish."""
        if not self.connected:
            return
        self.connected = False
        self.device.remove(*(vector.name for vector, _ in self._offer()))
        self._syncing.disconnect()
        self.release()
        self._by_relative = False
        self._trouble_reported = ""

    def release(self) -> None:
        """Save what the next connection, or the next run of the driver, must know."""
        if self.position.release():
            self.device.warning(
                "the stop was not sent, because the controller does not answer; "
                "it is the first thing to be sent when the controller is connected again"
            )

    # --- What clients send ------------------------------------------------------------------------------------------

    def _new_absolute(self, values: Values) -> None:
        self._move_to(_whole(values["FOCUS_ABSOLUTE_POSITION"]), relative=False)

    def _new_relative(self, values: Values) -> None:
        offered, position = self.properties, self.position
        amount = _whole(values["FOCUS_RELATIVE_POSITION"])
        if amount < 0:
            raise Refused("a number of steps from 0 on is expected; FOCUS_MOTION sets the direction")
        here = position.scale.position(self._current_steps())
        self._move_to(here + (-amount if offered.motion["FOCUS_INWARD"].on else amount), relative=True)
        offered.relative["FOCUS_RELATIVE_POSITION"].value = amount
        offered.relative.state = State.BUSY
        self.device.update(offered.relative)

    def _new_goto(self, values: Values) -> None:
        goto = self.properties.goto
        preset = goto.wanted(values)
        position = int(self.properties.presets[preset.upper().replace(" ", "_")].value)
        self._move_to(position, relative=False)
        goto.select(preset)
        self.device.info(f"Moving to {preset} with position {position}.")
        self._answer_ok(goto)

    def _move_to(self, position: int, *, relative: bool) -> None:
        """Decide on a move, request it, and answer Busy. Raises Refused."""
        self._current_steps()
        offered = self.properties
        compensated = offered.backlash.on == "INDI_ENABLED"
        backlash = int(offered.backlash_steps["FOCUS_BACKLASH_VALUE"].value) if compensated else 0
        plan = self.position.plan(position, backlash)
        self.position.move(plan)
        self._by_relative = relative
        self._trouble_reported = ""
        if not relative and offered.relative.state is State.BUSY:
            offered.relative.state = State.IDLE  # that move is superseded
            self.device.update(offered.relative)
        offered.absolute.state = State.BUSY
        self.device.update(offered.absolute)
        offered.target["FOCUS_TARGET_VALUE"].value = plan.position
        offered.target.state = State.BUSY
        self.device.publish(offered.target)

    def _new_abort(self, values: Values) -> None:
        abort = self.properties.abort
        if not values.get("ABORT"):
            abort.clear()
            abort.state = State.IDLE
            self.device.update(abort)
            return
        self.position.stop()
        self._syncing.drop_held(State.IDLE)
        if not self.position.link_up:
            abort.state = State.BUSY
            self.device.update(abort, f"[WARNING] {self._no_link()}; the stop is sent as soon as it does")

    def _new_sync(self, values: Values) -> None:
        position = _whole(values["FOCUS_SYNC_VALUE"])
        steps = self._current_steps("sync")
        low, high = self.position.travel
        if position == 0:
            self._syncing.zero(self.properties.sync)
        elif low <= position <= high:
            self._syncing.sync(self.properties.sync, position, steps)
        else:
            accepted = f"a position from {low} to {high}{'' if low <= 0 <= high else ', or 0,'}"
            raise Refused(f"{position:.15g} is outside the travel: {accepted} is expected")

    def _new_reverse(self, values: Values) -> None:
        steps = self._current_steps("reverse")
        reverse = self.properties.reverse
        turned = reverse.wanted(values) == "INDI_ENABLED"
        loaded = self.loads_settings()
        self._syncing.reverse(reverse, turned, steps, lambda: None if loaded else self.save_setting(reverse))

    def _new_motion(self, values: Values) -> None:
        self._select(self.properties.motion, values)

    def _new_maximum(self, values: Values) -> None:
        self._set_travel(self.position.travel[0], _whole(values["FOCUS_MAX_VALUE"]), self.properties.maximum)

    def _new_minimum(self, values: Values) -> None:
        self._set_travel(_whole(values["FOCUS_MIN_VALUE"]), self.position.travel[1], self.properties.minimum)

    def _set_travel(self, low: int, high: int, changed: NumberVector) -> None:
        if low >= high:
            raise Refused(f"the travel would be {low:.15g} to {high:.15g}: FOCUS_MIN must be below FOCUS_MAX")
        outside = self.position.leaves((low, high))
        self.apply_travel(low, high)
        if outside is not None:
            self.position.stop()
            self.device.error(f"the move to {outside} would leave the new travel: the motor is stopped")
        self.position.observe()
        self._fill_position()
        for vector in self.properties.of_positions():
            self.device.update(vector, ranges=True)
        self.device.update(self.properties.relative, ranges=True)
        self._answer_ok(changed)
        self.save_setting(changed)
        self._report_trouble()

    def apply_travel(self, low: int, high: int) -> None:
        """Set the travel and the ranges that follow from it; sends nothing."""
        self.position.travel = (low, high)
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
        self._current_steps()
        fan = self.properties.fan
        self._fans_request = self._controller.switch_fans(fan.wanted(values) == "INDI_ENABLED")
        fan.state = State.BUSY
        self.device.update(fan)

    def _select(self, vector: SwitchVector, values: Values) -> None:
        """Accept a new value of a one-of-many switch."""
        vector.select(vector.wanted(values))
        self._answer_ok(vector)

    def _answer_ok(self, vector: Vector) -> None:
        vector.state = State.OK
        self.device.update(vector)

    def _current_steps(self, what: str = "") -> int:
        """The position in controller steps. Raises Refused while the controller does not answer; and while the motor
        moves where that forbids `what` ("sync", "reverse")."""
        state = self.position.channel_state
        if not self.position.link_up or state is None:
            raise Refused(f"{self._no_link()}: try again when it does")
        if what and self.position.moves:
            raise Refused(f"cannot {what} while moving: wait, or abort first")
        return state.current

    def _no_link(self) -> str:
        return f"the controller does not answer now ({self.position.snapshot.reason or 'no link'})"

    # --- What the controller does -----------------------------------------------------------------------------------

    def show(self, snapshot: Snapshot) -> None:
        """Show clients what is new in `snapshot`; sends only what changed."""
        if not self.connected:
            self.position.settle_abort(snapshot)
            return
        self.position.take(snapshot)
        self._syncing.take_snapshot()
        self.position.observe()
        self._show_position()
        if self._syncing.vector is None:
            self.position.remember()
        self._answer_abort()
        self._fill_shared()
        self._show_shared()
        self._report_trouble()

    def saved(self) -> None:
        """The memory was written, or could not be."""
        if self.connected:
            problem = self.position.memory.problem
            if problem and problem != self._problem_reported:
                self.device.warning(problem)
            self._problem_reported = problem
            before = self.position.state
            self.position.observe()
            if self.position.state is not before:
                self._show_position()
                self._report_trouble()

    def _show_synced(self) -> None:
        """A sync, a zero or a reversal was completed, or failed."""
        if self.connected:
            self.position.observe()
            self._show_position()
            self._fill_shared()
            self._show_shared()
            self._report_trouble()

    def _show_position(self) -> None:
        self._fill_position()
        offered = self.properties
        self.device.publish(offered.target)
        self.device.publish(offered.relative)
        self.device.publish(offered.absolute)

    def _fill_position(self) -> None:
        """Position, target and their states, as of the last known state."""
        state, scale = self.position.channel_state, self.position.scale
        if state is None:
            return
        offered = self.properties
        offered.absolute["FOCUS_ABSOLUTE_POSITION"].value = scale.position(state.current)
        if self.position.reflects_orders:
            offered.target["FOCUS_TARGET_VALUE"].value = scale.position(state.target)
        offered.absolute.state = offered.target.state = INDI_STATE[self.position.state]
        if self._by_relative or self.position.state is PositionState.IDLE:
            offered.relative.state = offered.absolute.state

    def _report_trouble(self) -> None:
        """Report a problem once, and again when it comes back."""
        if self.position.link_up and not self.position.moves:
            trouble = self.position.trouble()
            if trouble and trouble != self._trouble_reported:
                self.device.error(trouble)
            self._trouble_reported = trouble

    def _answer_abort(self) -> None:
        """Answer an abort when the motor is known to be at rest."""
        abort = self.properties.abort
        if self.position.abort_request and not self.position.link_up and abort.state is not State.BUSY:
            abort.state = State.BUSY
            self.device.update(abort, f"[WARNING] {self._no_link()}; the stop is sent as soon as it does")
            self.position.memory.update(stop_pending=True)
        elif self.position.settle_abort(self.position.snapshot):
            abort.clear()
            self._answer_ok(abort)

    # --- What all channels share: temperatures, fans, the link ------------------------------------------------------

    def _show_shared(self) -> None:
        offered = self.properties
        for vector in (offered.temperature, offered.temperatures, offered.fan, offered.link, offered.link_info):
            self.device.publish(vector)

    def _fill_shared(self) -> None:
        snapshot, offered = self.position.snapshot, self.properties
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
        up, unverified = self.position.link_up, self.position.scale.unverified
        if snapshot.fans is not None:
            offered.fan.select("INDI_ENABLED" if snapshot.fans else "INDI_DISABLED")
            offered.fan.state = State.BUSY if up and snapshot.fans_request < self._fans_request else State.OK
        offered.link["LINK"].state = State.OK if up else State.ALERT
        offered.link["POSITION"].state = offered.link.state = State.OK if up and not unverified else State.ALERT
        offered.link_info["LINK"].value = "up" if up else snapshot.reason or snapshot.link.value
        offered.link_info["GENERATION"].value = str(snapshot.generation or "unknown")
        offered.link_info["POSITION"].value = "unverified" if unverified else "verified"
        offered.link_info["RECONNECTS"].value = str(snapshot.reconnects)
        offered.link_info.state = offered.link.state


def _whole(value: Value) -> int:
    """Whole steps: a motor has no others. Halves are rounded up, as docs/indi-properties.md states."""
    number = float(value)
    below = math.floor(number)
    return below + (number - below >= 0.5)
