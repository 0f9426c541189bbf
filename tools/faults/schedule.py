# SPDX-License-Identifier: GPL-3.0-or-later
"""Schedules of faults and commands, and the judgement on what the driver made of them.

A schedule is a seed and the kinds of faults that it may hold. `run` carries one out in a world of its own, heals
everything at its end, waits until all is quiet, and judges. What is held against the driver:

- a position with state Ok or Idle that is not where the focuser really is, for longer than it takes to ask. The truth
  is what the shaft has turned since the place was last named: a zero that reached the controller, or a
  sync or reversal that the driver granted;
- a position with state Ok that is not where the last order was to lead;
- an order on the wire that nobody had given, or that was taken back;
- a motor that turns on after it was aborted, whoever was disconnected or restarted meanwhile;
- a property that is Busy for ever, or a link that does not come back by itself;
- a loss of the link that is reported more than once, and messages without end;
- an exception anywhere.
"""

from __future__ import annotations

import shutil
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from indi_multifocus.indi import State

from .world import World

GRACE_S = 12.0
"""Longer than a wrong position may be shown: the idle polling period, and the longest time-out for a reply."""

QUIET_S = 15.0
"""After the last motor has come to rest, all must be known after this: a poll, a time-out, the longest back-off."""

MAX_S = 600.0
"""No schedule's last moves take longer than this."""

NEVER_S = 1e9

ANYWHERE = range(-9_999_999, 10_000_000)
"""Where an order that waits for a zero may lead, as it is not known yet what it will mean."""


@dataclass
class Frame:
    """What the places of one channel are called: `position` is the one where the shaft was at `shaft` (steps)."""

    position: float = 0.0
    shaft: float = 0.0
    sign: int = 1
    slack: float = 1.0
    """Positions are steps rounded down, and a reversal turns the rounding round."""
    answers: str = ""
    """The property by which the driver grants it."""

    def position_of(self, shaft: float) -> float:
        """The true position, in steps and fractions of one."""
        return self.position + self.sign * (shaft - self.shaft)


@dataclass
class Outcome:
    """What one schedule led to."""

    seed: int
    faults: Counter[str] = field(default_factory=Counter)
    commands: int = 0
    right: int = 0
    """Channels that were right at the end, and said so."""
    failed: int = 0
    """Right, and said that the last order was not carried out."""
    unverified: int = 0
    """Wrong, and said so."""
    cautious: int = 0
    """Right, and said that it was not known."""
    losses: int = 0
    problems: list[str] = field(default_factory=list)


class Schedule:
    """One world, and what is done to it."""

    def __init__(self, world: World, kinds: tuple[str, ...]) -> None:
        self._world = world
        self._kinds = kinds
        self._random = world.random
        self.outcome = Outcome(0)
        self._frames = {channel: Frame() for channel in self._channels()}
        self._ordered: dict[int, int | None] = dict.fromkeys(self._channels())
        """Where the last order was to lead, where that is known."""
        self._wrong_since: dict[int, float | None] = dict.fromkeys(self._channels())
        self._read_texts = 0
        self._lost: set[str] = set()
        self._healed = False
        self._unnoticed = False
        self._asked: dict[int, list[Frame]] = {channel: [] for channel in self._channels()}
        """What a sync, a zero or a reversal that is not answered yet will make of the frame."""
        self._aborted: set[int] = set()
        """Channels that must stand as soon as the controller can be reached."""
        self._turning_since: dict[int, float] = {}
        for channel, motor in enumerate(world.box.motors, 1):
            motor.zeroed = partial(self._zeroed, channel)

    def _channels(self) -> range:
        return range(1, self._world.channels + 1)

    # --- The run ----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """From the first connection to the judgement."""
        world, chance = self._world, self._random
        self._start()
        world.run_for(3.0)
        for _ in range(chance.randint(4, 16)):
            if chance.random() < 0.4:
                self._inject(chance.choice(self._kinds))
            else:
                self._command()
            pause_s = chance.choice((0.0, 0.001, 0.01, 0.1, 0.1, 0.5, 0.5, 2.0, 2.0, 8.0, 30.0)) * chance.random()
            self._watch(pause_s)
        self._settle()
        self._judge()

    def _start(self) -> None:
        self._world.start_driver()
        self._read_texts = 0
        self._lost.clear()
        self._world.view.when_set = self._was_set
        self._ordered = dict.fromkeys(self._ordered)
        for channel in self._channels():
            self._send(channel, "CONNECTION", "Switch", {"CONNECT": "On"})

    def _watch(self, seconds: float) -> None:
        """Let time pass, and look at what is shown meanwhile."""
        end_s = self._world.now + seconds
        while True:
            self._world.run_for(min(1.0, max(0.0, end_s - self._world.now)))
            self._look()
            self._read_messages()
            if self._world.now >= end_s:
                return

    def _settle(self) -> None:
        """Heal everything, and wait until all is quiet."""
        world = self._world
        self._watch(1.0)  # power that has just gone stays off long enough to be seen
        self._healed = True
        world.box.heal()
        world.disk.full, world.disk.delay_s = False, 0.0
        if world.driver is None:
            self._start()
        end_s = world.now + MAX_S
        quiet_s = 0.0
        while quiet_s < QUIET_S and world.now < end_s:
            self._watch(1.0)
            for channel in self._channels():
                if world.view.state(_name(channel), "CONNECTION") == "Alert":
                    self._send(channel, "CONNECTION", "Switch", {"CONNECT": "On"})  # never before connected: the user's
            quiet_s = 0.0 if world.box.moving() or self._busy() else quiet_s + 1.0

    def _busy(self) -> bool:
        view = self._world.view
        return any(view.state(_name(channel), "ABS_FOCUS_POSITION") == "Busy" for channel in self._channels())

    # --- Commands ---------------------------------------------------------------------------------------------------

    def _send(self, channel: int, name: str, kind: str, values: dict[str, object]) -> None:
        """As indiserver passes it on."""
        text = f'<new{kind}Vector device="{_name(channel)}" name="{name}">\n'
        for key, value in values.items():
            text += f'    <one{kind} name="{key}">\n{value}\n    </one{kind}>\n'
        self._world.say(f"{text}</new{kind}Vector>\n")

    def _command(self) -> None:
        world, chance = self._world, self._random
        if world.driver is None:
            return
        self.outcome.commands += 1
        channel = chance.choice(self._channels())
        what = chance.choices(
            ("move", "relative", "abort", "zero", "sync", "reverse", "backlash", "fans", "reconnect", "burst"),
            (40, 10, 12, 6, 5, 3, 4, 2, 3, 5),
        )[0]
        if what == "move":
            self._move(channel)
        elif what == "burst":
            for _ in range(chance.randint(2, 12)):
                self._move(channel) if chance.random() < 0.85 else self._abort(channel)
        elif what == "relative":
            side = chance.choice(("FOCUS_INWARD", "FOCUS_OUTWARD"))
            self._send(channel, "FOCUS_MOTION", "Switch", {side: "On"})
            self._order(channel, "REL_FOCUS_POSITION", {"FOCUS_RELATIVE_POSITION": self._distance()})
        elif what == "abort":
            self._abort(channel)
        elif what == "zero":
            begun = self._change_scale(channel, "FOCUS_SYNC", {"FOCUS_SYNC_VALUE": 0}, position=0.0)
            # Whatever waits for it is ordered when it is done; so is where it leads.
            if begun and world.allowed.get(channel) != ANYWHERE:
                world.allowed[channel] = ()
        elif what == "sync":
            position = chance.randint(-5000, 5000)
            self._change_scale(channel, "FOCUS_SYNC", {"FOCUS_SYNC_VALUE": position}, position=float(position))
        elif what == "reverse":
            side, sign = chance.choice((("INDI_ENABLED", -1), ("INDI_DISABLED", 1)))
            self._change_scale(channel, "FOCUS_REVERSE_MOTION", {side: "On"}, sign=sign)
        elif what == "backlash":
            self._send(channel, "FOCUS_BACKLASH_TOGGLE", "Switch", {"INDI_ENABLED": "On"})
            self._send(channel, "FOCUS_BACKLASH_STEPS", "Number", {"FOCUS_BACKLASH_VALUE": chance.choice((0, 20, 200))})
        elif what == "fans":
            self._send(1, "FAN", "Switch", {chance.choice(("INDI_ENABLED", "INDI_DISABLED")): "On"})
        elif self._noticed():
            self._forget(channel)
            self._send(channel, "CONNECTION", "Switch", {"DISCONNECT": "On"})
            self._watch(chance.choice((0.0, 0.1, 3.0)))
            self._send(channel, "CONNECTION", "Switch", {"CONNECT": "On"})

    def _change_scale(
        self, channel: int, name: str, values: dict[str, object], *, position: float | None = None, sign: int = 0
    ) -> bool:
        """Ask for another meaning of positions. Whether that is being done."""
        self._forget(channel)
        self._send(channel, name, "Switch" if sign else "Number", values)
        assert self._world.driver is not None
        vector = self._world.driver.focusers[channel - 1].device.vector(name)
        if vector is None or vector.state is not State.BUSY:
            return False  # refused
        self._asked[channel].append(self._new_frame(channel, name, position, sign))
        return True

    def _new_frame(self, channel: int, name: str, position: float | None, sign: int) -> Frame:
        """The frame after that, if the motor stays where it is."""
        before, shaft = self._frames[channel], self._world.box.shaft_steps(channel)
        if position is not None:
            return Frame(position, shaft, before.sign, answers=name)
        slack = before.slack if sign == before.sign else before.slack + 2.0
        return Frame(before.position_of(shaft), shaft, sign, slack, answers=name)

    def _distance(self) -> int:
        chance = self._random
        return chance.choice((1, chance.randint(1, 20), chance.randint(50, 400), chance.randint(1000, 4000)))

    def _move(self, channel: int) -> None:
        here = float(self._value(channel, "ABS_FOCUS_POSITION", "FOCUS_ABSOLUTE_POSITION") or 0)
        goal = round(here) + self._random.choice((-1, 1)) * self._distance()
        self._order(channel, "ABS_FOCUS_POSITION", {"FOCUS_ABSOLUTE_POSITION": goal})

    def _order(self, channel: int, name: str, values: dict[str, object]) -> None:
        world = self._world
        assert world.driver is not None
        focuser = world.driver.focusers[channel - 1]
        before = focuser.position._request
        self._send(channel, name, "Number", values)
        if focuser._syncing._held:
            world.allowed[channel] = ANYWHERE
            self._ordered[channel] = None
            self._aborted.discard(channel)
        if focuser.position._request == before:
            return  # refused, or held until a sync is done
        world.allowed[channel] = focuser.position._waypoints
        self._ordered[channel] = focuser.position.scale.position(focuser.position._waypoints[-1])
        self._aborted.discard(channel)

    def _abort(self, channel: int) -> None:
        self._forget(channel)
        self._world.allowed[channel] = ()
        if self._world.view.property(_name(channel), "FOCUS_ABORT_MOTION"):
            self._aborted.add(channel)
        self._send(channel, "FOCUS_ABORT_MOTION", "Switch", {"ABORT": "On"})

    def _forget(self, channel: int) -> None:
        """What was ordered before is not wanted any more."""
        self._ordered[channel] = None

    # --- Faults -----------------------------------------------------------------------------------------------------

    def _inject(self, kind: str) -> None:
        if kind in POWER and self._world.box.moving():
            if not self._watched():
                return  # nobody could know of it: docs/reliability.md says so
            self._unnoticed = True
        self.outcome.faults[kind] += 1
        self._world.note(f"fault: {kind}")
        FAULTS[kind](self)

    def _watched(self) -> bool:
        """Whether a driver has every channel connected."""
        view = self._world.view
        connected = all(view.state(_name(channel), "CONNECTION") == "Ok" for channel in self._channels())
        return self._world.driver is not None and connected

    def _noticed(self) -> bool:
        """Whether the driver knows of the last power failure in mid-move."""
        self._unnoticed &= self._value(1, "FOCUS_LINK_INFO", "LINK") == "up"
        return not self._unnoticed

    def _later(self, delay_s: float, action: Callable[[], None]) -> None:
        """Do this later, unless all is healed by then."""
        self._world.at(delay_s, lambda: None if self._healed else action())

    def for_a_while(self, begin: Callable[[], None], end: Callable[[], None], least_s: float = 0.0) -> None:
        """A fault, and its end some time later."""
        begin()
        longest_s = self._random.choice((0.05, 0.3, 1.0, 4.0, 15.0, 60.0))
        self._later(least_s + longest_s * self._random.random(), end)

    def _cable(self) -> None:
        self.for_a_while(self._world.box.pull, self._world.box.plug)

    def _cable_and_port(self) -> None:
        """Pulled, and when it is back somebody else has the port, or it is not ours to open."""
        box = self._world.box
        refusal = self._random.choice(("no permission to open", "in use by another program:"))

        def back() -> None:
            box.plug()
            self.for_a_while(lambda: setattr(box, "refusal", refusal), lambda: setattr(box, "refusal", ""))

        self.for_a_while(box.pull, back)

    def _power_by_usb(self) -> None:
        box = self._world.box

        def off() -> None:
            box.power_off()
            box.pull()

        def on() -> None:
            box.power_on()
            box.plug()

        self.for_a_while(off, on)

    def _power_behind_a_uart(self) -> None:
        # Nobody could see it from one poll to the next; no controller starts so soon.
        least_s = self._world.settings.moving_s + 0.1
        self.for_a_while(self._world.box.power_off, self._world.box.power_on, least_s)

    def _flag(self, name: str) -> None:
        box = self._world.box
        self.for_a_while(lambda: setattr(box, name, True), lambda: setattr(box, name, False))

    def _babble(self) -> None:
        world, chance = self._world, self._random
        texts = (b"$GPGGA,123519,4807.038,N*47\r\n", b"\xff\x00" * 20, b"OK\r\n", b"T1=+000000\r\n", b"$\r\n")
        text = chance.choice(texts)
        end_s = world.now + chance.choice((0.1, 1.0, 10.0)) * chance.random()

        def say() -> None:
            world.box.noise(text)
            if world.now < end_s:
                self._later(chance.choice((0.003, 0.05, 0.3)), say)

        say()

    def _noise_to_host(self) -> None:
        length = self._random.choice((1, 3, 40, 300, 5000))
        self._world.box.noise(_not_digits(self._random.randbytes(length)))

    def _change_replies(self, change: Callable[[bytes], bytes]) -> None:
        self._world.box.change_reply += [change] * self._random.choice((1, 1, 2, 5))

    def _truncate(self) -> None:
        chance = self._random
        self._change_replies(lambda reply: reply[: chance.randint(0, max(0, len(reply) - 1))])

    def _merge(self) -> None:
        self._change_replies(lambda reply: reply.rstrip(b"\r\n"))

    def _mangle(self) -> None:
        chance = self._random

        def change(reply: bytes) -> bytes:
            spoilt = bytearray(reply)
            for _ in range(chance.choice((1, 1, 3, 10))):
                if spoilt:
                    spoilt[chance.randrange(len(spoilt))] = chance.choice((0, 0x80, 0xFF, 0x0A, 0x3F, 0x24))
            return bytes(spoilt)

        self._change_replies(change)

    def _double(self) -> None:
        self._change_replies(lambda reply: reply * 2)

    def _swap(self) -> None:
        chance = self._random
        other = (b"?\r\n", b"$\r\n", b"0\r\n", b"1\r\n", b"FAILED\r\n", b"21.0625\r\n", b"\r\n")
        self._change_replies(lambda reply: chance.choice(other))

    def _delay(self) -> None:
        box = self._world.box
        late_s = self._random.choice((0.01, 0.2, 1.5, 3.0, 7.0))
        self.for_a_while(lambda: setattr(box, "delay_s", late_s), lambda: setattr(box, "delay_s", 0.0))

    def _lose_output(self) -> None:
        self._world.box.lose_output += self._random.choice((1, 1, 2, 10, 60))

    def _lose_input(self) -> None:
        self._world.box.lose_input += self._random.choice((1, 1, 2, 5))

    def _mangle_input(self) -> None:
        chance = self._random
        spoil: tuple[Callable[[int], int], ...] = (
            lambda byte: byte | 0x80,
            lambda byte: 0,
            lambda byte: ord("9") - (byte - ord("0")) if chr(byte).isdigit() else byte ^ 0x20,
        )
        self._world.box.change_input += [chance.choice(spoil) for _ in range(chance.choice((1, 1, 3)))]

    def _stray_input(self) -> None:
        self._world.box.stray_input(self._random.choice((b"\n", b"\r\n", b"?", b"1", b"\x00", b"1+", b"@x")))

    def _stall(self) -> None:
        world, channel = self._world, self._random.choice(self._channels())
        firmware = world.box.firmware
        self.for_a_while(
            lambda: firmware.stall(channel, True, world.now), lambda: firmware.stall(channel, False, world.now)
        )

    def _full_disk(self) -> None:
        disk = self._world.disk
        self.for_a_while(lambda: setattr(disk, "full", True), lambda: setattr(disk, "full", False))

    def _slow_disk(self) -> None:
        disk = self._world.disk
        delay_s = self._random.choice((0.1, 0.5, 5.0))
        self.for_a_while(lambda: setattr(disk, "delay_s", delay_s), lambda: setattr(disk, "delay_s", 0.0))

    def _kill(self) -> None:
        def kill() -> None:
            self._keep_stops()
            self._world.kill_driver()

        self._restart(kill)

    def _keep_stops(self) -> None:
        """Of the stops that were not sent, those that are on the disk are kept over this."""
        driver = self._world.driver
        if driver is not None:
            kept = {focuser.channel for focuser in driver.focusers if focuser.position.memory._on_disk.stop_pending}
            self._aborted &= kept

    def _end(self) -> None:
        def end() -> None:
            if self._world.disk.full or self._world.disk.delay_s:
                self._keep_stops()
            self._world.end_driver()

        self._restart(end)

    def _restart(self, end: Callable[[], None]) -> None:
        world, chance = self._world, self._random
        if world.driver is None:
            return
        delay_s = chance.choice((0.0, 0.001, 0.01, 0.1))

        def stop() -> None:
            if world.driver is not None and self._noticed():
                end()
                self._later(chance.choice((0.1, 1.0, 20.0)), start)

        def start() -> None:
            if world.driver is None:
                self._start()

        self._later(delay_s, stop)

    def _blackout(self) -> None:
        """Computer and controller lose their power together."""
        world = self._world
        if world.driver is None:
            return
        self._aborted.clear()  # without power the motors stand
        world.cut_power()

        def back() -> None:
            world.box.power_on()
            world.box.plug()
            if world.driver is None:
                self._start()

        self._later(self._random.choice((1.0, 20.0, 200.0)), back)

    # --- What is held against the driver ----------------------------------------------------------------------------

    def _value(self, channel: int, name: str, element: str) -> str:
        return self._world.view.value(_name(channel), name, element)

    def _zeroed(self, channel: int) -> None:
        frame = self._frames[channel]
        frame.position, frame.shaft = 0.0, self._world.box.shaft_steps(channel)

    def _was_set(self, device: str, name: str) -> None:
        """What the driver grants changes what places are called."""
        if name == "CONNECTION":
            self._read_messages()
            self._lost.discard(device)
            self._find_frame(int(device.rpartition(" ")[2]))
        if name not in ("FOCUS_SYNC", "FOCUS_REVERSE_MOTION"):
            return
        channel = int(device.rpartition(" ")[2])
        state, asked = self._world.view.state(device, name), self._asked[channel]
        mine = [frame for frame in asked if frame.answers == name]
        if state == "Busy" or not mine:
            return
        granted = state == "Ok"
        frame = mine[0 if granted else -1]  # what waits behind one that fails is refused before it
        asked.remove(frame)
        if granted and not self._world.box.motors[channel - 1].moving:
            # Asked for behind another change, it begins where that has led to.
            position = frame.position if name == "FOCUS_SYNC" else None
            self._frames[channel] = self._new_frame(channel, name, position, frame.sign)

    def _find_frame(self, channel: int) -> None:
        """A change of which nobody saw the end was carried out, or it was not: the driver knows which."""
        world = self._world
        if world.driver is None or world.view.state(_name(channel), "CONNECTION") != "Ok":
            return
        focuser = world.driver.focusers[channel - 1]
        if focuser._syncing.vector is not None:
            return  # begun before the disconnection, it is not on the disk yet: the answer is still to come
        asked, self._asked[channel] = self._asked[channel], []
        steps = world.box.motors[channel - 1].current >> world.box.shift
        shaft = world.box.shaft_steps(channel)
        scale = focuser.position.scale
        for frame in [self._frames[channel], *asked]:
            if frame.sign == scale.sign and abs(frame.position_of(shaft) - scale.position(steps)) <= frame.slack:
                self._frames[channel] = frame
                return

    def _error(self, channel: int) -> float:
        """How wrong the shown position is, in steps; 0 where it is as right as it can be."""
        shown = float(self._value(channel, "ABS_FOCUS_POSITION", "FOCUS_ABSOLUTE_POSITION"))
        frame = self._frames[channel]
        error = abs(shown - frame.position_of(self._world.box.shaft_steps(channel)))
        return error if error > frame.slack else 0.0

    def _look(self) -> None:
        """A wrong position that is shown as right, for longer than it takes to ask, is a lie."""
        world = self._world
        for channel in self._channels():
            self._look_for_motion(channel)
            state = world.view.state(_name(channel), "ABS_FOCUS_POSITION")
            wrong = world.driver is not None and state in ("Ok", "Idle") and self._error(channel) > 0
            since_s = self._wrong_since[channel]
            if not wrong:
                self._wrong_since[channel] = None
            elif since_s is None:
                self._wrong_since[channel] = world.now
            elif world.now - since_s > GRACE_S:
                self._wrong_since[channel] = NEVER_S  # reported once
                self._blame(f"channel {channel}: {state}, but wrong by {self._error(channel):.1f} steps")

    def _look_for_motion(self, channel: int) -> None:
        """A motor that was aborted stands as soon as the controller can be reached."""
        world = self._world
        link = self._value(channel, "FOCUS_LINK_INFO", "LINK")
        if not (channel in self._aborted and link == "up" and world.box.motors[channel - 1].moving):
            self._turning_since.pop(channel, None)
        elif world.now - self._turning_since.setdefault(channel, world.now) > GRACE_S:
            self._aborted.discard(channel)  # reported once
            self._blame(f"channel {channel} turns, although it was aborted")

    def _read_messages(self) -> None:
        """A loss is reported once, and nothing without end."""
        messages = self._world.view.texts
        for device, message in messages[self._read_texts :]:
            if message.endswith("trying to get it back"):
                self.outcome.losses += device.endswith(" 1")
                if device in self._lost:
                    self._blame(f"the loss is reported again: {message}")
                self._lost.add(device)
            elif message.endswith("the controller is back"):
                self._lost.discard(device)
            elif "the driver failed" in message or "internal error" in message:
                self._blame(message)
        self._read_texts = len(messages)
        most = 60 + 20 * self.outcome.commands + 6 * sum(self.outcome.faults.values())
        if len(messages) > most:
            self._blame(f"{len(messages)} messages")
            messages.clear()
            self._read_texts = 0

    def _judge(self) -> None:
        world, view, outcome = self._world, self._world.view, self.outcome
        for channel in self._channels():
            device = _name(channel)
            connection = view.state(device, "CONNECTION")
            link = self._value(channel, "FOCUS_LINK_INFO", "LINK")
            if connection != "Ok" or link != "up":
                self._blame(f"channel {channel}: the link is not back: {connection} {link!r}")
                continue
            state = view.state(device, "ABS_FOCUS_POSITION")
            error = self._error(channel)
            verified = self._value(channel, "FOCUS_LINK_INFO", "POSITION") == "verified"
            ordered = self._ordered[channel]
            shown = float(self._value(channel, "ABS_FOCUS_POSITION", "FOCUS_ABSOLUTE_POSITION"))
            busy = view.busy(device)
            if busy:
                self._blame(f"channel {channel}: {', '.join(busy)} Busy for ever")
            elif error and (state != "Alert" or verified):
                self._blame(f"channel {channel}: {state}, verified: {verified}, but wrong by {error:.1f} steps")
            elif state == "Ok" and ordered is not None and shown != ordered:
                self._blame(f"channel {channel}: Ok at {shown:.0f}, but the last order was {ordered}")
            elif error:
                outcome.unverified += 1
            elif not verified:
                outcome.cautious += 1
            elif state == "Alert":
                outcome.failed += 1
            else:
                outcome.right += 1
        for problem in world.problems:
            self._blame(problem)

    def _blame(self, problem: str) -> None:
        self.outcome.problems.append(f"at {self._world.now - 1000:.3f} s: {problem}")


def _name(channel: int) -> str:
    return f"MultiFocus {channel}"


def _not_digits(data: bytes) -> bytes:
    """Noise that is no reply by chance."""
    return bytes(byte if byte not in b"0123456789" else 0xFE for byte in data)


FAULTS: dict[str, Callable[[Schedule], None]] = {
    "cable pulled and plugged in again": Schedule._cable,
    "cable pulled, then the port forbidden or held by another program": Schedule._cable_and_port,
    "power of a controller fed by its USB cable": Schedule._power_by_usb,
    "power of a controller behind a UART (the port stays)": Schedule._power_behind_a_uart,
    "power of controller and computer": Schedule._blackout,
    "no reply": partial(Schedule._flag, name="silent"),
    "echo": partial(Schedule._flag, name="echo"),
    "`?` to everything": partial(Schedule._flag, name="unknown"),
    "another instrument's chatter": Schedule._babble,
    "noise to the computer": Schedule._noise_to_host,
    "replies cut short": Schedule._truncate,
    "replies without their line ends": Schedule._merge,
    "replies with NUL, non-ASCII and other wrong bytes": Schedule._mangle,
    "replies twice": Schedule._double,
    "another reply than the right one": Schedule._swap,
    "replies that come late, also after the time-out": Schedule._delay,
    "bytes lost on the way to the computer": Schedule._lose_output,
    "bytes lost on the way to the controller": Schedule._lose_input,
    "wrong bytes on the way to the controller": Schedule._mangle_input,
    "stray bytes on the way to the controller": Schedule._stray_input,
    "a motor that does not turn": Schedule._stall,
    "a disk without room": Schedule._full_disk,
    "a slow disk": Schedule._slow_disk,
    "driver killed (SIGKILL)": Schedule._kill,
    "driver ended (SIGTERM)": Schedule._end,
}
"""What can go wrong, by what it is called in the table."""

POWER = ("power of a controller fed by its USB cable", "power of a controller behind a UART (the port stays)")

EVERYTHING = "several of these together"


def run(seed: int, kinds: tuple[str, ...] = tuple(FAULTS), trace: Callable[[str], None] | None = None) -> Outcome:
    """Carry out one schedule. `trace` gets the bytes on the serial line and the messages to the clients."""
    home = Path(tempfile.mkdtemp(prefix="faults-"))
    world = World(seed, home)
    if trace is not None:
        world.trace = trace
    schedule = Schedule(world, kinds)
    schedule.outcome.seed = seed
    try:
        with world.inhabited():
            schedule.run()
    except Exception:
        schedule._blame(traceback.format_exc())
    finally:
        shutil.rmtree(home, ignore_errors=True)
    return schedule.outcome


__all__ = ["EVERYTHING", "FAULTS", "Outcome", "run"]
