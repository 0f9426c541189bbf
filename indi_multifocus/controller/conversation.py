# SPDX-License-Identifier: GPL-3.0-or-later
"""What was sent on a serial line and waits for its reply, and how to get back into step with the controller.

Rules of this file: no port, no thread, no clock. Bytes go in, events come out; `session.py` owns the port and the time.

The theory: the controller answers line by line, in order, and never sends anything else. So a `Conversation` keeps a
FIFO of what was sent, and each line that comes in must be the kind of reply that the oldest entry expects. When one is
not, it is no longer known which reply belongs to which command: the conversation is then *out of step*, trusts no
reply, and has to `synchronise()` before it carries commands again.
"""

from __future__ import annotations

import re
from typing import NamedTuple, Union

from .protocol import (
    MAX_CHANNELS,
    ORDERS,
    Acknowledged,
    Command,
    Fans,
    Garbage,
    LineReader,
    Measure,
    Move,
    NotUnderstood,
    QueryFans,
    QueryStatus,
    Reply,
    Status,
    Stop,
    SwitchFans,
    Temperature,
    Zero,
    describe,
    max_steps,
    parse_line,
)

SYNCHRONISE_ATTEMPTS = 8
"""How often it may answer `?` or nonsense before it is not taken for a controller (but for an echo, for example)."""

_ADDRESS = re.compile(r"[0-9A-Fa-f]{16}")
_OVERWRITTEN = re.compile(rb"=[+-][1-9]\d{6}")


class CommandError(ValueError):
    """A command that the firmware cannot take, or must never get. The text names what is expected."""


# --- Events: what a conversation reports to its owner ------------------------------------------------------------


class Answered(NamedTuple):
    """The oldest command has its reply, of the kind that is expected."""

    command: Command
    reply: Reply


class Synchronised(NamedTuple):
    """A clean status came, and the generation is known: from here on replies can be trusted."""

    generation: int
    channels: int
    status: Status
    fans: bool | None
    """None on generation 1, which has none."""


class OutOfStep(NamedTuple):
    """A reply did not fit. `unanswered`: the commands that may or may not have been carried out."""

    reason: str
    unanswered: tuple[Command, ...]


class NotAController(NamedTuple):
    """What answers does not speak this protocol. `reason` is for people."""

    reason: str


Event = Union[Answered, Synchronised, OutOfStep, NotAController]

_ANSWER: dict[type, type] = {
    QueryStatus: Status,
    QueryFans: Fans,
    SwitchFans: Acknowledged,
    Move: Acknowledged,
    Stop: Acknowledged,
    Zero: Acknowledged,
    Measure: Temperature,
}


class Conversation:
    """What was sent and waits for a reply on one serial line; the companion of one open port.

    The owner writes what `send()`, `synchronise()` and `more_to_send()` return, in that order, and feeds what
    it reads to `receive()`. It begins with `synchronise()`, and does so again after `OutOfStep`, or when a
    reply does not come in time. `generation` and `channels` are None until the first `Synchronised`.
    """

    def __init__(self) -> None:
        self.generation: int | None = None
        self.channels: int | None = None
        self._lines = LineReader()
        self._expected: list[Command] = []
        self._synchronising: _Synchronising | None = None
        self.synchronised = False
        """Whether commands can be sent and replies trusted."""
        self._late_fans = 0

    @property
    def unanswered(self) -> int:
        """How many commands have no reply yet."""
        return len(self._expected)

    def check(self, command: Command) -> None:
        """Raise `CommandError`, with the reason, where this controller must not get `command`."""
        if isinstance(command, ORDERS):
            channel, last = command.channel, self.channels or MAX_CHANNELS
            if type(channel) is not int or not 1 <= channel <= last:
                raise CommandError(f"channel {channel!r}: a whole number from 1 to {last} is expected")
        if isinstance(command, Move):
            limit = max_steps(self.generation)
            if type(command.target) is not int or not -limit <= command.target <= limit:
                raise CommandError(
                    f"target {command.target!r} of channel {channel}: a whole number of steps "
                    f"from {-limit} to {limit} is expected"
                )
        elif isinstance(command, (QueryFans, SwitchFans, Measure)) and self.generation != 2:
            # 17 bytes of "@…" overrun generation 1's 16-byte line, so these go only to a known generation 2.
            raise CommandError("only a controller of the second generation has fans and temperature probes")
        if isinstance(command, Measure) and not (
            isinstance(command.address, str) and _ADDRESS.fullmatch(command.address)
        ):
            # Above all never a bare "@": with no probe on the bus it writes before the firmware's buffer.
            raise CommandError(f"probe address {command.address!r}: 16 hexadecimal digits are expected")

    def send(self, command: Command) -> bytes:
        """The bytes of `command`, whose reply is expected from now on.

        Raises CommandError for what this controller must not get, RuntimeError while not synchronised.
        """
        if not self.synchronised:
            raise RuntimeError("the conversation is not synchronised")
        self.check(command)
        self._expected.append(command)
        return command.encode()

    def synchronise(self) -> bytes:
        """Trust no reply, and query a clean status. Returns the bytes to send first.

        Also called again when an attempt stays without an answer: noise may make a line of a query that the firmware
        does not answer.
        """
        self._lines.clear()
        self._forget()
        self._synchronising = _Synchronising(self._late_fans)
        return QueryStatus().encode() * 2

    @property
    def incomplete(self) -> bool:
        """Whether a reply has begun to come in, and not ended."""
        return self._lines.incomplete

    def more_to_send(self) -> bytes:
        """What the conversation itself has to send next while it synchronises; empty when nothing."""
        if self._synchronising is None:
            return b""
        data, self._synchronising.to_send = self._synchronising.to_send, b""
        return data

    def receive(self, data: bytes) -> list[Event]:
        """What `data` means. Never raises, whatever the bytes are.

        After `OutOfStep` or `NotAController` nothing that comes means anything until `synchronise()`.
        """
        events: list[Event] = []
        for line in self._lines.feed(data):
            reply = parse_line(line)
            event: Event | None = None
            if self.synchronised:
                event = self._answer(reply)
            elif self._synchronising is not None:
                event = self._while_synchronising(self._synchronising, reply)
            if event is not None:
                events.append(event)
        return events

    def _answer(self, reply: Reply) -> Event:
        if not self._expected:
            return self._out_of_step(f"{describe(reply)} came without a query")
        command = self._expected[0]
        if not isinstance(reply, _ANSWER[type(command)]):
            return self._out_of_step(f"{describe(reply)} came where {describe(command)} was to be answered")
        if isinstance(reply, Status):
            wrong = self._implausible(reply)
            if wrong:
                return self._out_of_step(wrong)
        self._expected.pop(0)
        return Answered(command, reply)

    def _implausible(self, status: Status) -> str:
        """Why a status that parses cannot be right, or nothing."""
        if len(status.targets) != self.channels:
            return f"a status of {len(status.targets)} channels came from a controller of {self.channels}"
        limit = max_steps(self.generation)
        if any(abs(steps) > limit for steps in status.targets + status.currents):
            return f"a position beyond ±{limit} came, which this generation cannot report right"
        return ""

    def _out_of_step(self, reason: str) -> OutOfStep:
        return OutOfStep(reason, self._forget())

    def _forget(self) -> tuple[Command, ...]:
        """Expect no more replies, but remember how many answers to `#` may still come late."""
        unanswered = tuple(self._expected)
        queries = sum(isinstance(command, QueryFans) for command in unanswered)
        if self._synchronising is not None:
            queries = self._synchronising.late_fans_now
        self._late_fans = max(self._late_fans, queries)
        self._expected.clear()
        self._synchronising = None
        self.synchronised = False
        return unanswered

    def _while_synchronising(self, step: _Synchronising, reply: Reply) -> Event | None:
        step.received(reply)
        if step.attempts > SYNCHRONISE_ATTEMPTS:
            self._forget()
            return NotAController(step.complaint())
        if step.status is None or not step.done:
            return None
        self._forget()
        generation = 1 if step.fans is None else 2
        limit = max_steps(generation)
        if any(abs(steps) > limit for steps in step.status.targets + step.status.currents):
            return NotAController(_BEYOND)
        self.synchronised = True
        self._late_fans = 0
        self.generation = generation
        self.channels = len(step.status.targets)
        return Synchronised(generation, self.channels, step.status, step.fans)


_BEYOND = (
    "a channel stands beyond ±999999 steps, where a controller of the second generation reports garbled "
    "positions; move it back with the program that took it there, or zero that channel"
)


class _Synchronising:
    """From any state of the line to a status that can be trusted, and to nothing more on its way.

    First `?`, twice: the first may end somebody's half line or be spoilt by a newline before it, and then be
    answered with `?` or not at all; the second is answered with a status. Then `#`, until two answers in a
    row are that there are fans, or three that `#` is not understood. That distinguishes the generations (noise makes
    a `?` too, and generation 2 taken for 1 would be allowed positions that it cannot report), and it proves the
    status: replies come in order, so whatever was on its way before comes first, and a status that comes after
    answers to `#` shows that these were late.

    When something comes that answers neither, it begins again with `?`, and then needs more answers in a row than
    it had sent queries before, so that answers that are still coming are not taken for new ones.
    """

    def __init__(self, late_fans: int) -> None:
        self.status: Status | None = None
        self.fans: bool | None = None
        self.done = False
        self.attempts = 0
        self.to_send = b""
        self._late_fans = late_fans
        self._asked = 0  # "#" since the last "?"
        self._answers: list[bool | None] = []  # to "#", since the last status; None is "?"
        self._garbage: bytes | None = None

    @property
    def late_fans_now(self) -> int:
        """How many answers to `#` may come in one run after this is given up."""
        return max(self._late_fans, self._asked)

    def received(self, reply: Reply) -> None:
        if isinstance(reply, Status):
            self.status = reply
            self._answers.clear()
            if not self._asked:
                self._ask_fans()
        elif self._asked and isinstance(reply, (Fans, NotUnderstood)):
            self._received_fans(reply.on if isinstance(reply, Fans) else None)
        elif isinstance(reply, (NotUnderstood, Garbage)):
            self.attempts += 1
            if isinstance(reply, Garbage):
                self._garbage = reply.line
            self._ask_status()
        elif self._asked:
            self._ask_status()
        # Else it is a late reply to an earlier command: ignore it.

    def _received_fans(self, fans: bool | None) -> None:
        if len(self._answers) == self._asked - self.to_send.count(b"#"):
            self.status = None  # an answer before its question is late, and so was the status before it
        if self.status is None:
            return
        self._answers.append(fans)
        if len(self._answers) < self._asked:
            return
        denied = [answer is None for answer in self._answers]
        certain = denied[-2:] == [False] * 2 or denied[-3:] == [True] * 3
        if certain and len(self._answers) > self._late_fans:
            self.fans = fans
            self.done = True
            return
        if denied[-2:] in ([True, False], [False, True]):
            self.attempts += 1
        self._ask_fans()

    def _ask_fans(self) -> None:
        self.to_send += QueryFans().encode()
        self._asked += 1

    def _ask_status(self) -> None:
        self._late_fans = self.late_fans_now
        self._asked = 0
        # In place of what is not sent yet: however much nonsense came in one read, one question is enough.
        self.to_send = QueryStatus().encode()

    def complaint(self) -> str:
        if self._garbage is None:
            return "it answers ? to everything, as an echo would"
        if _OVERWRITTEN.search(self._garbage):
            return _BEYOND
        return f"its replies are not the controller's protocol ({self._garbage[:40]!r})"
