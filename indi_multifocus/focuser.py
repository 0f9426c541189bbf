# SPDX-License-Identifier: GPL-3.0-or-later
"""One channel of the controller as an INDI focuser: its properties, and what each does.

Used by `driver.py`, by one thread at a time. Two things drive a focuser: what clients send (the `_new_…`
handlers) and what the controller is known to do (`show`, with each snapshot). Neither waits for the other: a
handler leaves a request with the controller and says Busy, and a later snapshot says what became of it.

Names, labels, groups, formats, rules and order are those of libindi's INDI::FocuserInterface and
INDI::Focuser (1.9.9), so that every client takes a channel for the focuser that it knows.

Positions are what users see: position = sign × controller steps + offset.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Union

from .controller.channel import ChannelState
from .controller.motion import NOMINAL_STEPS_PER_S, Motion
from .controller.poll_thread import Controller, Link, Snapshot
from .controller.protocol import max_steps
from .indi import (
    Device,
    Light,
    LightVector,
    NewVector,
    Number,
    NumberVector,
    Output,
    Permission,
    Refused,
    Rule,
    Shortcuts,
    State,
    Switch,
    SwitchVector,
    Text,
    TextVector,
)
from .settings.driver_settings import Probe
from .settings.remembered_position import Memory, this_boot, uptime_s

MAIN, PRESETS, STATUS = "Main Control", "Presets", "Status"
"""Groups; a client shows a tab for each. The first two are libindi's."""

MOST_DIGITS = 8
"""Of a position that is looked at before the message is read."""

MOST_HELD = 32
"""Orders that may wait for a zero, which takes milliseconds."""

Value = Union[float, bool, str]
Values = Mapping[str, Value]
Vector = Union[NumberVector, SwitchVector, TextVector, LightVector]


def steps_number(name: str, low: float, high: float, value: float = 0.0, label: str = "Steps") -> Number:
    """A number of whole steps; the increment that a client offers is a fiftieth of its range, as in libindi."""
    return Number(name, label, value, format="%.f", min=low, max=high, step=max(1.0, (high - low) // 50))


def enabled_switch(name: str, label: str, on: str = "Enabled", off: str = "Disabled") -> SwitchVector:
    """libindi's pair INDI_ENABLED / INDI_DISABLED, disabled."""
    return SwitchVector(name, label, MAIN, [Switch("INDI_ENABLED", on), Switch("INDI_DISABLED", off, True)])


class Properties:
    """What a focuser offers while it is connected, in the order in which clients show it."""

    def __init__(self, travel: tuple[int, int], limits: tuple[int, int], probes: tuple[Probe, ...] = ()) -> None:
        low, high = travel
        ok, read_only = State.OK, Permission.READ_ONLY
        self.motion = SwitchVector(
            "FOCUS_MOTION",
            "Direction",
            MAIN,
            [Switch("FOCUS_INWARD", "Focus In", True), Switch("FOCUS_OUTWARD", "Focus Out")],
            state=ok,
        )
        self.relative = NumberVector(
            "REL_FOCUS_POSITION",
            "Relative Position",
            MAIN,
            [steps_number("FOCUS_RELATIVE_POSITION", 0, high - low)],
            state=ok,
        )
        self.absolute = NumberVector(
            "ABS_FOCUS_POSITION",
            "Absolute Position",
            MAIN,
            [steps_number("FOCUS_ABSOLUTE_POSITION", low, high)],
            state=ok,
        )
        self.maximum = NumberVector(
            "FOCUS_MAX", "Max. Position", MAIN, [steps_number("FOCUS_MAX_VALUE", *limits, high)], state=ok
        )
        self.minimum = NumberVector(
            "FOCUS_MIN", "Min. Position", MAIN, [steps_number("FOCUS_MIN_VALUE", *limits, low)], state=ok
        )
        self.abort = SwitchVector(
            "FOCUS_ABORT_MOTION", "Abort Motion", MAIN, [Switch("ABORT", "Abort")], rule=Rule.AT_MOST_ONE
        )
        self.sync = NumberVector("FOCUS_SYNC", "Sync", MAIN, [steps_number("FOCUS_SYNC_VALUE", low, high)], state=ok)
        self.reverse = enabled_switch("FOCUS_REVERSE_MOTION", "Reverse Motion")
        self.backlash = enabled_switch("FOCUS_BACKLASH_TOGGLE", "Backlash")
        self.backlash_steps = NumberVector(
            "FOCUS_BACKLASH_STEPS",
            "Backlash",
            MAIN,
            [Number("FOCUS_BACKLASH_VALUE", "Steps", format="%.f", min=0, max=1_000_000, step=100)],
            state=ok,
        )
        self.presets = NumberVector(
            "Presets",
            "Presets",
            PRESETS,
            [steps_number(f"PRESET_{n}", low, high, max(low, min(0, high)), f"Preset {n}") for n in (1, 2, 3)],
            timeout=0,
        )
        self.goto = SwitchVector(
            "Goto", "Goto", PRESETS, [Switch(f"Preset {n}", f"Preset {n}") for n in (1, 2, 3)], timeout=0
        )
        self.temperature = NumberVector(
            "FOCUS_TEMPERATURE",
            "Temperature",
            MAIN,
            [Number("TEMPERATURE", "Celsius", format="%6.2f", min=-50, max=70)],
            permission=read_only,
            timeout=0,
        )
        self.temperatures = TextVector(
            "TEMPERATURES",
            "Temperature probes",
            STATUS,
            [Text(probe.name, f"{probe.label} (°C)") for probe in probes],
            permission=read_only,
            timeout=0,
        )
        self.fan = enabled_switch("FAN", "Fans", "On", "Off")
        self.target = NumberVector(
            "FOCUS_TARGET",
            "Target Position",
            STATUS,
            [steps_number("FOCUS_TARGET_VALUE", -9_999_999, 9_999_999)],
            permission=read_only,
            timeout=0,
        )
        self.link = LightVector("FOCUS_LINK", "Link", STATUS, [Light("LINK", "Link"), Light("POSITION", "Position")])
        self.link_info = TextVector(
            "FOCUS_LINK_INFO",
            "Link details",
            STATUS,
            [
                Text("LINK", "Link"),
                Text("GENERATION", "Firmware generation"),
                Text("POSITION", "Position"),
                Text("RECONNECTS", "Reconnects"),
            ],
            permission=read_only,
            timeout=0,
        )

    def settings(self) -> tuple[NumberVector | SwitchVector, ...]:
        """What a user may want to keep. The direction comes first, and what depends on the travel after the travel."""
        return (
            self.reverse,
            self.maximum,
            self.minimum,
            self.backlash,
            self.backlash_steps,
            self.presets,
        )

    def of_positions(self) -> tuple[NumberVector, ...]:
        """The properties that hold positions within the travel."""
        return (self.absolute, self.sync, self.presets)


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
        self.memory = Memory(name)
        self.properties = Properties(travel, limits, all_probes)
        self._controller = controller
        self._limits = limits
        self._probe = probe
        self._all_probes = all_probes
        self._with_fans = with_fans
        self.save_setting: Callable[[Vector], None] = lambda vector: None
        """Called with a property whose new value is to outlive the driver at once, as libindi does with FOCUS_MAX."""
        self._state: ChannelState | None = None
        self._snapshot = Snapshot()
        self._moved = 0
        """Request number of the last move; likewise of the last abort and zero that have no answer yet, else 0."""
        self._aborting = 0
        self._zeroing = 0
        self._zeroing_attempt = 0
        self._switched_fans = 0
        """Request number of the last order for the fans."""
        self._held: list[tuple[Vector, Values]] = []
        """Orders that came while a zero is under way: they are about positions as they will be after it."""
        self._course: tuple[int, ...] = ()
        """Where the last move turns round and ends, in controller steps."""
        self._aborted = False
        self._by_relative = False
        self._direction = 0
        """Which way the motor last turned, in controller steps: 1, -1, or 0 where it is not known."""
        self._last_leg = 0
        """Which way the last move ends if it arrives."""
        self._doubts = 0
        self._told = ""

    # --- Connecting -------------------------------------------------------------------------------------------------

    def _absent(self, name: str) -> str:
        """Why a property is not there."""
        if not self.connected:
            return f"{self.device.name} is not connected and has no {name}: connect it first (CONNECTION.CONNECT=On)"
        return f"{self.device.name} has no property {name}"

    def simulate(self, simulated: bool) -> None:
        """Not while connected. What is done on a simulator says nothing about where the real focuser is."""
        self.memory = Memory(self.device.name, kept=not simulated)

    def connect(self, snapshot: Snapshot) -> None:
        """Offer everything that a connected focuser has. The link is up, and `snapshot` has this channel."""
        self.connected = True
        self._take(snapshot)
        self._check_departure(snapshot)
        if not self._zeroing or snapshot.attempt != self._zeroing_attempt:
            self._zeroing = 0
            self.properties.sync.state = State.OK
            self._check_zero()
        self._fill_position()
        self._fill_box()
        offered = self.properties
        limit = max_steps(snapshot.generation)
        low, high = self.travel
        if low < limit and high > -limit:
            self.apply_travel(max(low, -limit), min(high, limit))
        offered.reverse.select("INDI_ENABLED" if self.memory.reversed else "INDI_DISABLED")
        offered.presets.state = offered.goto.state = State.IDLE
        own_checks = (offered.relative, offered.absolute, offered.sync)
        for vector, handler in self._offer():
            self.device.define(vector, handler, check_range=vector not in own_checks)
        if self.memory.problem:
            self.device.warning(self.memory.problem)
        if self._probe is not None and snapshot.generation != 2:
            self.device.warning("this controller is of the first generation, which has no temperature probes")
        self._finish_zero()
        self._report_trouble()

    def _offer(self) -> list[tuple[Vector, Callable[[Values], None] | None]]:
        """The properties and what answers a client that sets one, in the order of definition."""
        offered = self.properties
        table: list[tuple[Vector, Callable[[Values], None] | None]] = [
            (offered.motion, self._after_zero(offered.motion, self._new_motion)),
            (offered.relative, self._after_zero(offered.relative, self._new_relative)),
            (offered.absolute, self._after_zero(offered.absolute, self._new_absolute)),
            (offered.maximum, self._new_maximum),
            (offered.minimum, self._new_minimum),
            (offered.abort, self._new_abort),
            (offered.sync, self._after_zero(offered.sync, self._new_sync)),
            (offered.reverse, self._after_zero(offered.reverse, self._new_reverse)),
            (offered.backlash, self._new_backlash),
            (offered.backlash_steps, self._new_backlash_steps),
            (offered.presets, self._new_presets),
            (offered.goto, self._after_zero(offered.goto, self._new_goto)),
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
        self._state = None
        self._moved = self._aborting = 0  # a zero that is under way is seen to its end by the next connection
        self._held, self._course = [], ()
        self._aborted = self._by_relative = False
        self._told = ""

    # --- What clients wait for ----------------------------------------------------------------------------------------

    def add_shortcuts(self, shortcuts: Shortcuts) -> None:
        """Have an abort, and a move that takes no thought, on the wire before the message is read."""
        add, name = shortcuts.add, self.device.name
        add("Switch", name, "FOCUS_ABORT_MOTION", "ABORT", self._abort_ahead)
        add("Number", name, "ABS_FOCUS_POSITION", "FOCUS_ABSOLUTE_POSITION", self._move_ahead)

    def _abort_ahead(self, value: bytes) -> None:
        """What `_new_abort` will order."""
        if self.connected and value == b"On":
            self._controller.say_stop_ahead(self.channel)

    def _move_ahead(self, value: bytes) -> None:
        """What `_new_absolute` will order, where that is plain."""
        if not self.connected or self._zeroing or self._state is None or self._snapshot.link is not Link.UP:
            return
        offered = self.properties
        if offered.backlash["INDI_ENABLED"].on or not value.isdigit() or len(value) > MOST_DIGITS:
            return
        position = int(value)
        if offered.minimum["FOCUS_MIN_VALUE"].value <= position <= offered.maximum["FOCUS_MAX_VALUE"].value:
            self._controller.say_move_ahead(self.channel, self.memory.steps(position))

    # --- What clients send ------------------------------------------------------------------------------------------

    def _new_absolute(self, values: Values) -> None:
        self._move_to(_whole(values["FOCUS_ABSOLUTE_POSITION"]), relative=False)

    def _new_relative(self, values: Values) -> None:
        offered = self.properties
        amount = _whole(values["FOCUS_RELATIVE_POSITION"])
        inward = offered.motion["FOCUS_INWARD"].on
        if amount < 0:
            raise Refused("how many steps is expected; FOCUS_MOTION tells which way")
        base = self._ready().current
        self._move_to(self.memory.position(base) + (-amount if inward else amount), relative=True)
        offered.relative["FOCUS_RELATIVE_POSITION"].value = amount
        offered.relative.state = State.BUSY
        self.device.update(offered.relative)

    def _new_motion(self, values: Values) -> None:
        self._select(self.properties.motion, values)

    def _new_abort(self, values: Values) -> None:
        offered = self.properties
        if not values.get("ABORT"):
            offered.abort.clear()
            offered.abort.state = State.IDLE
            self.device.update(offered.abort)
            return
        for vector, _ in self._held:
            vector.state = State.IDLE
            self.device.update(vector)
        self._held = []
        self._stop()
        if self._snapshot.link is not Link.UP:
            offered.abort.state = State.BUSY
            self.device.update(offered.abort, f"[WARNING] {self._no_link()}; the stop is sent as soon as it does")

    def _stop(self) -> None:
        self._aborting = self._controller.stop(self.channel)
        self._aborted = True

    def _new_sync(self, values: Values) -> None:
        offered = self.properties
        position = _whole(values["FOCUS_SYNC_VALUE"])
        state = self._ready("sync")
        low, high = self.travel
        if position != 0 and not low <= position <= high:
            or_zero = "" if low <= 0 <= high else ", or 0,"
            raise Refused(f"{position} is outside the travel: a position from {low} to {high}{or_zero} is expected")
        if position == 0:
            # The controller's own zero, which it keeps by itself, whatever becomes of our files.
            self.memory.zeroing = True
            self.memory.save()
            self._zeroing = self._controller.zero(self.channel)
            self._zeroing_attempt = self._snapshot.attempt
            offered.sync.state = State.BUSY
            self.device.update(offered.sync)
            return
        self._remember(position - self.memory.sign * state.current)
        offered.sync["FOCUS_SYNC_VALUE"].value = position
        offered.sync.state = State.OK
        self.device.update(offered.sync)
        self._show_position()
        self._report_trouble()

    def _new_maximum(self, values: Values) -> None:
        self._set_travel(self.travel[0], _whole(values["FOCUS_MAX_VALUE"]), self.properties.maximum)

    def _new_minimum(self, values: Values) -> None:
        self._set_travel(_whole(values["FOCUS_MIN_VALUE"]), self.travel[1], self.properties.minimum)

    def _new_reverse(self, values: Values) -> None:
        state = self._ready("reverse")
        reverse = self.properties.reverse
        self.set_reversed(chosen(reverse, values) == "INDI_ENABLED", state.current)
        reverse.state = State.OK
        self.device.update(reverse)
        self.save_setting(reverse)
        self._show_position()

    def _new_backlash(self, values: Values) -> None:
        self._select(self.properties.backlash, values)
        self.save_setting(self.properties.backlash)

    def _new_backlash_steps(self, values: Values) -> None:
        steps = self.properties.backlash_steps
        steps["FOCUS_BACKLASH_VALUE"].value = _whole(values["FOCUS_BACKLASH_VALUE"])
        steps.state = State.OK
        self.device.update(steps)
        self.save_setting(steps)

    def _new_presets(self, values: Values) -> None:
        presets = self.properties.presets
        for name, value in values.items():
            presets[name].value = _whole(value)
        presets.state = State.OK
        self.device.update(presets)
        self.save_setting(presets)

    def _new_goto(self, values: Values) -> None:
        goto = self.properties.goto
        preset = chosen(goto, values)
        position = int(self.properties.presets[preset.upper().replace(" ", "_")].value)
        self._move_to(position, relative=False)
        goto.select(preset)
        goto.state = State.OK
        self.device.info(f"Moving to {preset} with position {position}.")
        self.device.update(goto)

    def _new_fan(self, values: Values) -> None:
        self._ready()
        fan = self.properties.fan
        self._switched_fans = self._controller.switch_fans(chosen(fan, values) == "INDI_ENABLED")
        fan.state = State.BUSY
        self.device.update(fan)

    def _select(self, vector: SwitchVector, values: Values) -> None:
        """The plain answer to a one-of-many switch: it is so now."""
        vector.select(chosen(vector, values))
        vector.state = State.OK
        self.device.update(vector)

    def _after_zero(self, vector: Vector, handler: Callable[[Values], None]) -> Callable[[Values], None]:
        """Let an order wait while a zero is under way."""

        def handle(values: Values) -> None:
            if not self._zeroing:
                handler(values)
            elif len(self._held) >= MOST_HELD:
                raise Refused("this place is being called 0, and too much waits for that: try again soon")
            else:
                self._held.append((vector, values))
                vector.state = State.BUSY
                self.device.update(vector)

        return handle

    # --- Moving -----------------------------------------------------------------------------------------------------

    @property
    def travel(self) -> tuple[int, int]:
        """First and last position that a move may lead to."""
        offered = self.properties
        return int(offered.minimum["FOCUS_MIN_VALUE"].value), int(offered.maximum["FOCUS_MAX_VALUE"].value)

    def _ready(self, what: str = "") -> ChannelState:
        """The channel's state, where it can take an order now; for `what` (to sync, to reverse) it must be at rest."""
        if self._snapshot.link is not Link.UP or self._state is None:
            raise Refused(f"{self._no_link()}: try again when it does")
        if what and self._moving(self._state):
            raise Refused(f"cannot {what} while moving: wait, or abort first")
        return self._state

    def _no_link(self) -> str:
        return f"the controller does not answer now ({self._snapshot.reason or 'no link'})"

    def _moving(self, state: ChannelState) -> bool:
        return state.moving or state.request < self._moved

    def _move_to(self, position: int, *, relative: bool) -> None:
        """Leave the move with the controller and say Busy. Raises Refused."""
        state = self._ready()
        self._check_destination(position, state)
        steps = self.memory.steps(position)
        limit = max_steps(self._snapshot.generation)
        if not -limit <= steps <= limit:
            ends = sorted((self.memory.position(-limit), self.memory.position(limit)))
            raise Refused(f"{position} is beyond what the controller can count: {ends[0]} to {ends[1]} is expected")
        via = self._overshoot(state, steps)
        self._moved = self._controller.move(self.channel, steps, via)
        self._course = (steps,) if via is None else (via, steps)
        self._aborted = False
        self._by_relative = relative
        self._told = ""
        offered = self.properties
        if not relative and offered.relative.state is State.BUSY:
            offered.relative.state = State.IDLE  # that way will not be gone
            self.device.update(offered.relative)
        offered.absolute.state = State.BUSY
        self.device.update(offered.absolute)
        offered.target["FOCUS_TARGET_VALUE"].value = position
        offered.target.state = State.BUSY
        self.device.publish(offered.target)
        self.memory.departs(state.current, steps)

    def _check_destination(self, position: int, state: ChannelState) -> None:
        """Within the travel; or, from a place outside it, nearer to it."""
        low, high = self.travel
        if low <= position <= high:
            return
        now = self.memory.position(state.current)
        # Of a motor that runs it is not known where it is by now, and so not what is nearer.
        if not self._moving(state) and (now <= position < low or high < position <= now):
            return
        raise Refused(f"Requested position {position} is out of bounds: a position from {low} to {high} is expected")

    def _overshoot(self, state: ChannelState, steps: int) -> int | None:
        """Where to turn round so that the move ends in the direction of the last one; None where it needs no turn."""
        offered = self.properties
        direction = (steps > state.current) - (steps < state.current)
        last, amount = self._direction, int(offered.backlash_steps["FOCUS_BACKLASH_VALUE"].value)
        if direction * last < 0 and offered.backlash.on == "INDI_ENABLED":
            low, high = sorted(self.memory.steps(end) for end in self.travel)
            limit = max_steps(self._snapshot.generation)
            via = steps + direction * amount
            via = min(via, high, limit) if direction > 0 else max(via, low, -limit)
            if (via - steps) * direction > 0:
                self._last_leg = last
                return via
        self._last_leg = direction or last
        return None

    def _set_travel(self, low: int, high: int, changed: NumberVector) -> None:
        if low >= high:
            raise Refused(f"the travel would be {low} to {high}: FOCUS_MIN must be below FOCUS_MAX")
        before = self.travel
        self.apply_travel(low, high)
        self._stop_outside(before)
        self._fill_position()
        for vector in self.properties.of_positions():
            self.device.update(vector, ranges=True)
        self.device.update(self.properties.relative, ranges=True)
        changed.state = State.OK
        self.device.update(changed)
        self.save_setting(changed)
        self._report_trouble()

    def _stop_outside(self, before: tuple[int, int]) -> None:
        """Stop a move which the travel `before` allowed, and the new one does not."""
        state = self._state
        if state is None or not self._moving(state):
            return
        low, high = self.travel
        for steps in self._course or (state.target,):
            position = self.memory.position(steps)
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

    def set_reversed(self, turned: bool, steps: int) -> None:
        """Turn the direction round. The place where it stands (`steps`) keeps its position, as with libindi's
        drivers."""
        position = self.memory.position(steps)
        self.memory.reversed = turned
        self.properties.reverse.select("INDI_ENABLED" if turned else "INDI_DISABLED")
        self._direction = self._last_leg = 0
        self._remember(position - self.memory.sign * steps, trusted=False)

    def _remember(self, offset: int, *, trusted: bool = True) -> None:
        self.memory.offset = offset
        self.memory.zeroing = False
        if trusted:
            self.memory.unverified = False
        self.memory.save()
        if self.memory.problem:
            self.device.warning(self.memory.problem)
        self._fill_box()
        self._show_box()

    # --- What the controller does -----------------------------------------------------------------------------------

    def show(self, snapshot: Snapshot) -> None:
        """Tell clients what is new in `snapshot`; sends only what changed."""
        if not self.connected:
            return
        self._take(snapshot)
        self._finish_zero()
        self._show_position()
        self._note_arrival()
        self._finish_abort()
        self._show_box()
        self._report_trouble()

    def _take(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        if len(snapshot.channels) >= self.channel:
            before, self._state = self._state, snapshot.channels[self.channel - 1]
            if before is not None and not self._zeroing:
                self._note_direction(before, self._state)
            if self._state.doubts > self._doubts:
                self.memory.unverified = True
                self.memory.save()
            self._doubts = self._state.doubts
        self._fill_position()
        self._fill_box()

    def _note_direction(self, before: ChannelState, now: ChannelState) -> None:
        """Of a move that arrived it is known how it ended, even if nobody saw its last steps; of another, as seen."""
        if not (self._moving(now) or self._aborted or now.fault):
            self._direction = self._last_leg
        elif now.current != before.current:
            self._direction = 1 if now.current > before.current else -1
        if not self._moving(now):
            self._last_leg = self._direction

    def _show_position(self) -> None:
        self._fill_position()
        offered = self.properties
        self.device.publish(offered.target)
        self.device.publish(offered.relative)
        self.device.publish(offered.absolute)

    def _fill_position(self) -> None:
        """Position, target and their states, of the last known state alone."""
        state = self._state
        if state is None:
            return
        offered = self.properties
        offered.absolute["FOCUS_ABSOLUTE_POSITION"].value = self.memory.position(state.current)
        if state.request >= max(self._moved, self._aborting):
            offered.target["FOCUS_TARGET_VALUE"].value = self.memory.position(state.target)
        offered.absolute.state = offered.target.state = self._position_state(state)
        if self._by_relative or (self._aborted and offered.absolute.state is State.IDLE):
            offered.relative.state = offered.absolute.state

    def _position_state(self, state: ChannelState) -> State:
        if self._snapshot.link is not Link.UP:
            return State.ALERT
        moves = (self.properties.absolute, self.properties.relative, self.properties.goto)
        if self._moving(state) or any(vector in moves for vector, _ in self._held):
            return State.BUSY
        if self._trouble(state):
            return State.ALERT
        return State.IDLE if self._aborted else State.OK

    def _trouble(self, state: ChannelState) -> str:
        """What is wrong with a channel at rest, for people."""
        position = self.memory.position(state.current)
        if self.memory.unverified:
            return (
                f"position {position} is unverified: the controller claims an arrival that nobody saw or that cannot "
                "be, as when power was lost in mid-move; sync or zero to accept"
            )
        if state.fault:
            return state.fault
        low, high = self.travel
        if not low <= position <= high:
            return f"position {position} is outside the travel of {low} to {high}: move back, or sync"
        return ""

    def _report_trouble(self) -> None:
        """Say once what is wrong, and when it is right again."""
        state = self._state
        if state is None or self._snapshot.link is not Link.UP or self._moving(state):
            return
        trouble = self._trouble(state)
        if trouble and trouble != self._told:
            self.device.error(trouble)
        self._told = trouble

    def _note_arrival(self) -> None:
        state = self._state
        if self._snapshot.link is not Link.UP:
            self.memory.loses_sight()
        elif state is not None and self._moving(state):
            if self.memory.departure is None:
                self.memory.departs(state.current, state.target)  # not by our order
            self.memory.sees_again()
        elif state is not None:
            self.memory.arrives()

    def _check_departure(self, snapshot: Snapshot) -> None:
        """A move that an earlier run of the driver did not see the end of: can the controller's word be taken?"""
        move, state = self.memory.departure, self._state
        if move is None or state is None:
            return
        motor = Motion(NOMINAL_STEPS_PER_S[snapshot.generation or 1])
        impossible = not motor.could_travel(state.current - move.start, max(0.0, uptime_s() - move.time_s))
        # A motor that moves has power, and is seen to its end. Where it stands, any place but the first may be one that
        # the controller was to go to: a turning point, or an earlier target.
        rebooted = not state.moving and state.current != move.start and move.boot != this_boot()
        if impossible or rebooted:
            self.memory.unverified = True
        if not state.moving:
            self.memory.departure = None
        self.memory.save()

    def _finish_abort(self) -> None:
        """The answer to an abort is sent when the motor is known to stand."""
        state = self._state
        offered = self.properties
        if not self._aborting:
            return
        if self._snapshot.link is not Link.UP:
            if offered.abort.state is not State.BUSY:
                offered.abort.state = State.BUSY
                self.device.update(offered.abort, f"[WARNING] {self._no_link()}; the stop is sent as soon as it does")
        elif state is not None and state.request >= self._aborting:
            self._aborting = 0
            offered.abort.clear()
            offered.abort.state = State.OK
            self.device.update(offered.abort)

    def _finish_zero(self) -> None:
        state = self._state
        if not self._zeroing or state is None or state.request < self._zeroing:
            return
        self._zeroing = 0
        sync = self.properties.sync
        # By what the controller counts, whatever else went wrong: positions are true if it counts from here, or not.
        if self._snapshot.link is not Link.UP or state.target or state.current:
            self.memory.zeroing = False
            self.memory.save()
            sync.state = State.ALERT
            self.device.update(sync, f"[ERROR] {state.fault or 'the zero was stopped before the controller took it'}")
            held, self._held = self._held, []
            for vector, _ in held:
                vector.state = State.ALERT
                self.device.update(vector, "[ERROR] this was to follow a zero, which failed; nothing was done")
            return
        self._remember(0)
        sync["FOCUS_SYNC_VALUE"].value = 0
        sync.state = State.OK
        self.device.update(sync)
        while self._held and not self._zeroing:
            vector, values = self._held.pop(0)
            self.device.handle(_as_sent(self.device.name, vector, values))

    def _check_zero(self) -> None:
        """A zero of which an earlier run, or an earlier connection, did not see the end: has it been carried out?"""
        state = self._state
        if self.memory.zeroing and state is not None:
            if state.target == state.current == 0:
                self.memory.offset, self.memory.unverified = 0, False
            self.memory.zeroing = False
            self.memory.save()

    def _show_box(self) -> None:
        offered = self.properties
        for vector in (offered.temperature, offered.temperatures, offered.fan, offered.link, offered.link_info):
            if self.device.is_defined(vector.name):
                self.device.publish(vector)

    def _fill_box(self) -> None:
        """What all channels share: temperatures, fans, the link."""
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
            pending = snapshot.link is Link.UP and snapshot.fans_request < self._switched_fans
            offered.fan.state = State.BUSY if pending else State.OK
        up = snapshot.link is Link.UP
        offered.link["LINK"].state = State.OK if up else State.ALERT
        offered.link["POSITION"].state = State.OK if up and not self.memory.unverified else State.ALERT
        offered.link.state = State.OK if up and not self.memory.unverified else State.ALERT
        offered.link_info["LINK"].value = "up" if up else snapshot.reason or snapshot.link.value
        offered.link_info["GENERATION"].value = str(snapshot.generation or "unknown")
        offered.link_info["POSITION"].value = "unverified" if self.memory.unverified else "verified"
        offered.link_info["RECONNECTS"].value = str(snapshot.reconnects)
        offered.link_info.state = offered.link.state


def _whole(value: Value) -> int:
    """Whole steps: a motor has no others."""
    return round(float(value))


def _as_sent(device: str, vector: Vector, values: Values) -> NewVector:
    """Checked values as a client may have sent them."""
    texts = {True: "On", False: "Off"}
    elements = [(name, texts[value] if isinstance(value, bool) else str(value)) for name, value in values.items()]
    return NewVector(vector.kind, device, vector.name, tuple(elements))


def chosen(vector: SwitchVector, values: Values) -> str:
    """The switch of a one-of-many vector that a client wants on: it may have sent it, or have turned all others off."""
    on = next((name for name, on in values.items() if on), None)
    return on if on is not None else next(name for name in vector.elements if name not in values)
