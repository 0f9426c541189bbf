# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's serial protocol: commands → bytes, lines → replies.

Rules of this file: no port, no thread, no clock, no state but the rest of a line. Every quirk of the two firmware
generations lives here and in `conversation.py`, with its reason beside it, so that nothing above has to know that the
firmware has any.

Sources: firmware of both generations (main.c and ds18b20.c of the public focus-controller repository) and the
transcripts of both.
"""

from __future__ import annotations

import re
from typing import NamedTuple, Union

MAX_CHANNELS = 9
"""The channel is one digit, and 0 is not one (firmware, both generations)."""

MAX_STEPS = 9_999_999
"""The farthest position either way that the protocol carries: 7 digits."""

MAX_LINE = 256
"""No reply is longer, in bytes: a status of nine channels of 7-digit numbers has 215, and its `\\r`."""

# --- Commands: what can be sent -----------------------------------------------------------------------------
# `sign` keeps commands and replies apart that are of the same values: named tuples are compared by these alone.


class QueryStatus(NamedTuple):
    """Target and current steps of every channel."""

    sign: bytes = b"?"

    def encode(self) -> bytes:
        return b"%s\n" % self.sign


class QueryFans(NamedTuple):
    """Are the fans on? Second generation only; the first answers `?`, which distinguishes the two."""

    sign: bytes = b"#"

    def encode(self) -> bytes:
        return b"%s\n" % self.sign


class SwitchFans(NamedTuple):
    """Fans on or off. Second generation only."""

    on: bool

    def encode(self) -> bytes:
        return b"#1\n" if self.on else b"#0\n"


class Move(NamedTuple):
    """Set the target of a channel, in controller steps. Taken at once, also in mid-move."""

    channel: int
    target: int

    def encode(self) -> bytes:
        # No leading zeros: at a true 9600 baud every digit costs a millisecond.
        return b"%d%+d\n" % (self.channel, self.target)


class Stop(NamedTuple):
    """Stop a channel where it is: target := current."""

    channel: int
    sign: bytes = b"S"

    def encode(self) -> bytes:
        return b"%d%s\n" % (self.channel, self.sign)


class Zero(NamedTuple):
    """Zero a channel where it is, which also stops it: target := current := 0."""

    channel: int
    sign: bytes = b"Z"

    def encode(self) -> bytes:
        return b"%d%s\n" % (self.channel, self.sign)


class Measure(NamedTuple):
    """Temperature of the DS18B20 probe with this address (16 hexadecimal digits). Second generation only.

    The controller answers nothing at all for the 0.75 to 1 s that a measurement takes.
    """

    address: str

    def encode(self) -> bytes:
        return b"@%s\n" % self.address.upper().encode("ascii")


Order = Union[Move, Stop, Zero]
"""A command to one channel."""
ORDERS = (Move, Stop, Zero)

Command = Union[QueryStatus, QueryFans, SwitchFans, Order, Measure]

# --- Replies: what can come back ----------------------------------------------------------------------------


class Status(NamedTuple):
    """Steps of every channel, channel 1 first: where each is going and where it is."""

    targets: tuple[int, ...]
    currents: tuple[int, ...]


class Acknowledged(NamedTuple):
    """`$`: the command was carried out."""

    sign: bytes = b"$"


class NotUnderstood(NamedTuple):
    """`?`: the line was not a command that this firmware knows."""

    sign: bytes = b"?"


class Fans(NamedTuple):
    """`0` or `1`."""

    on: bool


class Temperature(NamedTuple):
    """Degrees Celsius, or None where the probe did not answer (`FAILED`), or not with what it can measure."""

    celsius: float | None
    sign: bytes = b"@"


class Garbage(NamedTuple):
    """A line that no firmware of either generation sends."""

    line: bytes


Reply = Union[Status, Acknowledged, NotUnderstood, Fans, Temperature, Garbage]

# A sign and exactly six digits, or seven that do not begin with 0: what "%+07ld" prints within 7 digits.
# Anything else is a line that was cut or overwritten (generation 2 beyond ±999999 does both).
_CHANNEL = re.compile(rb"T([1-9])=([+-](?:[1-9]\d{6}|\d{6})),C([1-9])=([+-](?:[1-9]\d{6}|\d{6}))")
_TEMPERATURE = re.compile(rb"-?\d{1,4}\.\d{4}")
_PROBE_RANGE = (-55.0, 125.0)
"""What a DS18B20 can measure, °C (data sheet)."""
_FIXED: dict[bytes, Reply] = {
    b"$": Acknowledged(),
    b"?": NotUnderstood(),
    b"0": Fans(False),
    b"1": Fans(True),
    b"FAILED": Temperature(None),
}


def parse_line(line: bytes) -> Reply:
    """The meaning of one reply line (without its line end). Never raises; what is no reply is `Garbage`."""
    fixed = _FIXED.get(line)
    if fixed is not None:
        return fixed
    if line[:1] == b"T":
        return _parse_status(line)
    if _TEMPERATURE.fullmatch(line):
        return _parse_temperature(line)
    return Garbage(line)


def _parse_temperature(line: bytes) -> Temperature | Garbage:
    celsius = float(line)
    if not (celsius * 16).is_integer():
        return Garbage(line)  # the probe counts in sixteenths, so digits are wrong
    if celsius >= 2048:
        # The firmware takes the probe's 16-bit two's complement for unsigned: -0.5 °C comes as 4095.5000.
        celsius -= 4096
    low, high = _PROBE_RANGE
    return Temperature(celsius if low <= celsius <= high else None)


def _parse_status(line: bytes) -> Status | Garbage:
    targets: list[int] = []
    currents: list[int] = []
    at = 0
    while True:
        match = _CHANNEL.match(line, at)
        channel = len(targets) + 1
        if match is None or int(match[1]) != channel or int(match[3]) != channel:
            return Garbage(line)
        targets.append(int(match[2]))
        currents.append(int(match[4]))
        at = match.end()
        if at == len(line):
            return Status(tuple(targets), tuple(currents))
        if line[at : at + 1] != b",":
            return Garbage(line)
        at += 1


class LineReader:
    """Bytes → lines. A line longer than any reply is handed over cut, once, as the garbage that it is."""

    def __init__(self) -> None:
        self._rest = b""
        self._overlong = False

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that `data` completes, without their `\\r\\n`."""
        *lines, rest = (self._rest + data).split(b"\n")
        if self._overlong and lines:
            del lines[0]
            self._overlong = False
        if len(rest) > MAX_LINE:
            if not self._overlong:
                lines.append(rest[:MAX_LINE])
            self._overlong = True
            rest = b""
        self._rest = rest
        # A long line is cut at the same place however it was fragmented. One \r only: a line that has more of
        # them is not what the firmware printed.
        lines = [line[:MAX_LINE] for line in lines]
        return [line[:-1] if line[-1:] == b"\r" else line for line in lines]

    @property
    def incomplete(self) -> bool:
        """Whether the beginning of a line has come, and not its end."""
        return bool(self._rest)

    def clear(self) -> None:
        """Forget the beginning of a line."""
        self._rest = b""
        self._overlong = False


def max_steps(generation: int | None) -> int:
    """Farthest position, in steps either way, that this generation takes and reports right.

    Seven digits on generation 1. Generation 2 takes them too, but reports them in fields of 22 bytes, which
    then overwrite each other, and a number cut by that can still look right.
    """
    return 999_999 if generation == 2 else MAX_STEPS


def describe(what: Command | Reply) -> str:
    """A short text for a command or reply, for a log."""
    if isinstance(what, Garbage):
        return f"garbage ({what.line[:60]!r})"
    if isinstance(what, (Status, Temperature, Fans)):
        return f"a {type(what).__name__.lower()} reply"
    if isinstance(what, Acknowledged):
        return "a $"
    if isinstance(what, NotUnderstood):
        return "a ?"
    return repr(what.encode().decode("ascii").rstrip("\n"))
