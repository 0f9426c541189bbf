# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's firmware, both generations, without I/O and without a clock.

Bytes and times go in, replies go out.  The companion of `simulator.py`, which puts one on a pseudo-terminal;
tests also use it directly, with times of their own choice.  Not thread-safe: its owner calls it from one
thread, or under a lock.  It must never sleep, read a clock or open anything.

It is written from the facts of the public firmware (rockit-astro/focus-controller: main.c, ds18b20.c) and
gives the same bytes, mistakes included:

- A line is kept in a small buffer (16 bytes in generation 1, 20 in generation 2).  A newline on an empty
  buffer is stored like any other byte, and so spoils the command after it.
- A longer line is cut: its next byte overwrites the one byte behind the buffer (an LED counter in both known
  builds), again and again, and nothing else.  What is in the buffer is then dealt with as any line, which mostly
  means `?`, and the controller lives on.
- Generation 2 prints the status in fixed fields of 22 bytes, so a number of more than 6 digits spoils its
  neighbour.
- A temperature measurement blocks: bytes that arrive meanwhile wait, and are dealt with when it has ended.
- A timer interrupt moves the motors, one microstep in two interrupts, and skips one when a motor is switched
  on.  Positions are computed from the time, never by ticking, and are exact: microsteps are integers, steps
  are their floor.
- Not modelled: in generation 1 all channels share the state of the step line (`step_high`), which every interrupt
  toggles, so in mid-move a count can differ by one step from that of a channel which moves alone.  Here each
  channel has its own, as in generation 2.  Where a motor ends, and how fast it is, is the same.
- A controller that hangs is a fault of the simulator's own (`fault_hang`), not something that a line can cause.
- The target goes into the EEPROM when the command arrives, and is the position after the next power-on.  An
  EEPROM "blank" here holds zeros, as on the controllers of the transcripts; an erased chip would report -000001.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from .motor import Motor

# When a reply is complete (seconds, the caller's clock), and its bytes.
Reply = tuple[float, bytes]

# 750 ms of conversion, and two resets and 19 bytes on the 1-wire bus before and after it (ds18b20.c).
MEASUREMENT_S = 0.78

# The channel is one digit from 1 on (both generations, main.c: loop).
MAX_CHANNELS = 9
# What hosts set, and a UART between would need; by USB it has no effect.
BAUD = 9600
# Start bit, eight data bits, stop bit.
BITS_PER_BYTE = 10

# Both generation 2, main.c: `sprintf(output + i * 22, …)` in loop, and `char output[256]`.
_FIELD = 22
_OUTPUT_SIZE = 256
# What ends a command (both generations, main.c: loop).
_LINE_ENDS = b"\r\n"
# What C's isspace accepts, which sscanf skips.
_C_SPACES = b" \t\n\v\f\r"
_HEX_FIELD = re.compile(rb"([+-]?)(0[xX]|[0-9a-fA-F]{1,2})")
_ADDRESS = re.compile(r"[0-9A-F]{16}\Z")
# The firmware lists no more: it has room for four addresses (generation 2, main.c: loop, `addresses[4*8]`).
_MAX_LISTED = 4
_INT32 = range(-(2**31), 2**31)


@dataclass(frozen=True)
class Build:
    """What the two firmware generations differ in, beside their commands."""

    line_size: int  # bytes of a command line
    shift: int  # microsteps = steps << shift
    timer_hz: float  # two timer interrupts to the microstep


BUILDS = {1: Build(line_size=16, shift=6, timer_hz=7812.5), 2: Build(line_size=20, shift=4, timer_hz=3125.0)}


class _Pace(NamedTuple):
    """How fast the timer runs since a moment, and how many interrupts there had been by then."""

    since_s: float
    since_tick: int
    hz: float


class Firmware:
    """A controller of `channels` motors.

    `speed` multiplies the speed of the motors and nothing else; `held` motors never move.  `eeprom` holds one
    target in microsteps per channel and is changed in place; without one it starts with zeros.  `probes` maps
    addresses of 16 hex digits to °C (generation 2; an address which is not among them answers FAILED).

    Times are seconds on any clock that does not go backwards.  Channels count from 1.
    Raises ValueError for what no such controller could be.
    """

    def __init__(
        self,
        generation: int = 2,
        channels: int = 2,
        *,
        speed: float = 1.0,
        held: bool = False,
        eeprom: list[int] | None = None,
        probes: Mapping[str, float] | None = None,
    ) -> None:
        if generation not in BUILDS:
            raise ValueError(f"firmware generation {generation!r}: there are generations 1 and 2")
        if not 1 <= channels <= MAX_CHANNELS:
            raise ValueError(f"{channels!r} channels: the protocol has room for 1 to {MAX_CHANNELS}")
        check_speed(speed)
        self.generation = generation
        self.channels = channels
        self.eeprom = [0] * channels if eeprom is None else eeprom
        if len(self.eeprom) != channels or any(value not in _INT32 for value in self.eeprom):
            raise ValueError(f"EEPROM {self.eeprom!r}: {channels} 32-bit numbers of microsteps are needed")
        self.fans = False
        self.fault_hung = False
        self._build = BUILDS[generation]
        self._clock = [_Pace(0.0, 0, self._build.timer_hz * speed)]  # one for each speed that was set
        self._held = held
        self._probes: dict[str, int] = {}
        for address, celsius in (probes or {}).items():
            self.set_probe(address, celsius)
        self._motors = [Motor(value, 0) for value in self.eeprom]
        # One byte longer than the firmware's: the byte behind the buffer takes what a full buffer cannot.
        self._line = bytearray(self._build.line_size + 1)
        self._length = 0
        self._output = bytearray(_OUTPUT_SIZE)
        self._input = bytearray()
        self._busy_until = -math.inf

    # Power

    def restart(self, now: float) -> None:
        """Lose power and come back at `now`: positions and targets are the EEPROM's, fans are off."""
        self._advance(now)
        for motor, saved in zip(self._motors, self.eeprom):
            motor.lose_power(saved)
        self.fans = False
        self.fault_hung = False
        self._line = bytearray(len(self._line))
        self._length = 0
        self._output = bytearray(_OUTPUT_SIZE)
        self._input.clear()
        self._busy_until = -math.inf

    # The serial line

    def feed(self, data: bytes, now: float) -> list[Reply]:
        """Receive `data` at `now`; with b"", go on with what waited for a measurement to end.

        Returns the replies in order, each with the time at which it is ready.  No bytes make it raise.
        """
        replies: list[Reply] = []
        while self._input and self._busy_until <= now:
            waited, self._input = self._input, bytearray()
            self._receive(waited, self._busy_until, replies)
        self._receive(data, now, replies)
        return replies

    @property
    def waiting(self) -> int:
        """How many received bytes wait for a measurement to end."""
        return len(self._input)

    @property
    def wake_at(self) -> float | None:
        """When `feed` must be called for waiting input to go on; None when none waits."""
        return self._busy_until if self._input else None

    def _receive(self, data: Iterable[int], now: float, replies: list[Reply]) -> None:
        for byte in data:
            if self.fault_hung:
                return
            if now < self._busy_until:
                self._input.append(byte)
            elif self._length > 0 and byte in _LINE_ENDS:
                reply = self._execute(now)
                if reply:
                    replies.append((max(now, self._busy_until), reply))
                self._length = 0
            else:
                self._store(byte)

    def _store(self, byte: int) -> None:
        self._line[self._length] = byte
        if self._length < self._build.line_size:
            self._length += 1

    # Commands: main.c, loop()

    def _execute(self, now: float) -> bytes:
        line = bytes(self._line[: self._length])
        if line == b"?":
            self._advance(now)
            return self._status()
        if self.generation >= 2:
            if line == b"#":
                return self._print(b"%d\r\n" % self.fans)
            if line in (b"#0", b"#1"):
                self.fans = line == b"#1"
                return b"$\r\n"
            if line == b"@":
                return self._list_probes()
            if line[:1] == b"@" and len(line) == 17:
                return self._measure(now)
        channel = line[0] - ord("0")
        if 1 <= channel <= self.channels:
            self._advance(now)
            return self._command(channel - 1, line)
        return b"?\r\n"

    def _command(self, index: int, line: bytes) -> bytes:
        motor = self._motors[index]
        verb = line[1:2]
        if len(line) == 2 and verb == b"S":
            motor.aim(motor.current)
        elif len(line) == 2 and verb == b"Z":
            motor.place(0)
        elif len(line) > 2 and verb in (b"+", b"-"):
            digits = line[2:]
            if len(digits) > 7 or any(digit not in b"0123456789" for digit in digits):
                return b"?\r\n"
            motor.aim(int(verb + digits) << self._build.shift)
        else:
            return b""
        self.eeprom[index] = motor.target
        return b"$\r\n"

    def _status(self) -> bytes:
        shift = self._build.shift
        texts = [
            f"T{channel}={motor.target >> shift:+07d},C{channel}={motor.current >> shift:+07d}".encode()
            for channel, motor in enumerate(self._motors, 1)
        ]
        if self.generation == 1:
            return b",".join(texts) + b"\r\n"
        for index, text in enumerate(texts):
            self._write(_FIELD * index, text + b",")
        self._write(_FIELD * len(texts) - 1, b"\r\n")
        return self._printed()

    def _write(self, at: int, text: bytes) -> None:
        """sprintf(output + at, …): what was there before stays around it."""
        self._output[at : at + len(text) + 1] = text + b"\0"

    def _printed(self) -> bytes:
        return bytes(self._output[: self._output.index(0)])

    def _print(self, text: bytes) -> bytes:
        self._write(0, text)
        return self._printed()

    # Temperatures: main.c and ds18b20.c

    def set_probe(self, address: str, celsius: float | None) -> None:
        """Put a DS18B20 on the bus, at -55 to 125 °C (kept in sixteenths), or with None take it off."""
        key = address.upper()
        if not _ADDRESS.match(key):
            raise ValueError(f"probe address {address!r}: 16 hex digits are needed")
        if celsius is None:
            self._probes.pop(key, None)
        elif -55 <= celsius <= 125:
            self._probes[key] = round(celsius * 16)
        else:
            raise ValueError(f"probe {address} at {celsius!r}: a DS18B20 measures -55 to 125 °C")

    def _measure(self, now: float) -> bytes:
        address = bytearray()
        for index in range(8):
            byte = scan_hex_pair(bytes(self._line[2 * index + 1 :]))
            if byte is None:
                return b"?\r\n"
            address.append(byte)
        self._busy_until = now + MEASUREMENT_S
        sixteenths = self._probes.get(address.hex().upper())
        if sixteenths is None:
            return b"FAILED\r\n"
        # The reading counts as unsigned there, so -10.125 °C is printed as 4085.8750.
        reading = sixteenths & 0xFFFF
        return self._print(b"%d.%04d\r\n" % (reading >> 4, (reading & 0xF) * 625))

    def _list_probes(self) -> bytes:
        """The bare `@`.  With no probe the firmware writes before its buffer: half the line end is lost."""
        addresses = [bytes.fromhex(address) for address in self._probes]
        found = sorted((entry for entry in addresses if crc8(entry[:7]) == entry[7]), key=_search_order)
        if not found:
            return self._print(b"\n")
        return self._print(b",".join(entry.hex().upper().encode() for entry in found[:_MAX_LISTED]) + b"\r\n")

    # Motors

    def _ticks(self, now: float) -> int:
        since_s, since_tick, hz = self._clock[-1]
        return since_tick + math.floor((now - since_s) * hz)

    def _seconds(self, tick: int) -> float:
        since_s, since_tick, hz = next(pace for pace in reversed(self._clock) if pace.since_tick <= tick)
        return since_s + (tick - since_tick) / hz

    def set_speed(self, speed: float, now: float) -> None:
        """Multiply the motors' own speed by this from now on, also in mid-move. Raises ValueError as `Firmware`."""
        check_speed(speed)
        self._advance(now)
        self._clock.append(_Pace(now, self._ticks(now), self._build.timer_hz * speed))

    def _advance(self, now: float) -> None:
        if not self._held:
            tick = self._ticks(now)
            for motor in self._motors:
                motor.advance(tick)

    def _motor(self, channel: int) -> Motor:
        if not 1 <= channel <= self.channels:
            raise ValueError(f"channel {channel!r}: there are channels 1 to {self.channels}")
        return self._motors[channel - 1]

    def fault_hang(self) -> None:
        """Answer nothing more until the power is cycled, while the timer goes on turning the motors.

        Neither firmware is known to do this; a driver has to bear it from a controller all the same.
        """
        self.fault_hung = True

    def stall(self, channel: int, on: bool, now: float) -> None:
        """Stop (or let go again) the counting of one motor: its target is taken, its current steps stay."""
        self._advance(now)
        self._motor(channel).stalled = on

    def microsteps(self, channel: int, now: float) -> int:
        """Where the controller takes the motor to be at `now`."""
        self._advance(now)
        return self._motor(channel).current

    def position(self, channel: int, now: float) -> int:
        """`microsteps`, in steps as the status has them."""
        return self.microsteps(channel, now) >> self._build.shift

    def target(self, channel: int) -> int:
        """Where the motor is going or stands, in steps."""
        return self._motor(channel).target >> self._build.shift

    def shaft(self, channel: int, now: float) -> int:
        """Microsteps which the motor has really turned since it was made, outward positive.

        Neither zero nor a power cycle changes it, so it distinguishes a true position from a claimed one.
        """
        self._advance(now)
        return self._motor(channel).shaft

    def standstill(self, channel: int, now: float) -> float | None:
        """When the motor last came to rest, in seconds, to the timer interrupt.

        0 if it never moved; None while it moves.
        """
        self._advance(now)
        motor = self._motor(channel)
        return None if motor.moving else self._seconds(motor.rest_tick)


def check_speed(speed: float) -> None:
    """Raises ValueError for what the motors' speed cannot be multiplied by."""
    if not (math.isfinite(speed) and speed > 0):
        raise ValueError(f"speed {speed!r}: a finite factor above 0 is needed")


class Uart:
    """The line from the controller to the host at 9600 baud: bytes leave one after the other."""

    def __init__(self) -> None:
        self._free_at = -math.inf

    def pace(self, ready: float, data: bytes) -> list[Reply]:
        """When each byte of `data`, which is ready at `ready`, has arrived.  Call in the order of sending."""
        byte_s = BITS_PER_BYTE / BAUD
        start = max(ready, self._free_at)
        arrivals = [(start + count * byte_s, bytes((byte,))) for count, byte in enumerate(data, 1)]
        if arrivals:
            self._free_at = arrivals[-1][0]
        return arrivals


def scan_hex_pair(text: bytes) -> int | None:
    """sscanf(text, "%02X") as avr-libc does it, and the firmware's view of it: a byte, or None for "not hex".

    Leading blanks are skipped, one digit is enough, and a sign or "0x" counts.  At the end of the text the
    firmware takes an error for success and uses whatever was on its stack: a zero, here.
    """
    rest = text.split(b"\0", 1)[0].lstrip(_C_SPACES)
    if not rest:
        return 0
    match = _HEX_FIELD.match(rest[:2])
    if match is None:
        return None
    sign, digits = match.groups()
    value = 0 if digits in (b"0x", b"0X") else int(digits, 16)
    return (-value if sign == b"-" else value) & 0xFF


def crc8(data: bytes) -> int:
    """The 1-wire CRC (X⁸ + X⁵ + X⁴ + 1), the last byte of every probe's address."""
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ 0x8C if crc & 1 else crc >> 1
    return crc


def _search_order(address: bytes) -> str:
    """The order in which a 1-wire search finds addresses: bit by bit from the lowest, zeros first."""
    return format(int.from_bytes(address, "little"), "064b")[::-1]
