# SPDX-License-Identifier: GPL-3.0-or-later
"""One opened port, until it is closed or lost: what was said on it, what answers that, and what has to be said again.

Rules of this file: `controller.py` is the only caller, one thread at a time, and has one `Session` for each port that
it opens. It reads and writes that port, but never waits for it, and has no clock: times are arguments, in seconds of
one monotonic clock. What a command means to a channel is not known here.

The theory: the controller answers in order, so an answer belongs to the oldest command that has none. When it does not
fit that one, which `protocol.py` tells, the line is out of step: nothing is believed, and nothing is sent but
questions, until it is certain again who speaks and about what. That takes milliseconds and is no loss of the link: the
orders that were on their way are said again. A session ends with `LinkLost`, when the port fails, or says nothing, or
nothing sensible, for too long.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass

from .port import Port
from .protocol import (
    ORDERS,
    Answered,
    Command,
    Conversation,
    Measure,
    Move,
    Order,
    OutOfStep,
    QueryFans,
    QueryStatus,
    Reply,
    Stop,
    SwitchFans,
    Synchronised,
)

IN_FLIGHT = 4
"""Lines that may wait for their replies before anything but a stop waits too: they fit a USB endpoint's 64 bytes."""

HANDSHAKE_S = 3.0
"""A controller that is there answers within this, also one in the middle of a 1 s temperature measurement."""

ASK_AGAIN_S = 1.2
"""Silence before `?` is sent anew while synchronising: longer than a temperature measurement."""

MEASURE_S = 2.0
"""A temperature takes up to 1 s, in which nothing is answered; so while one is measured no silence is shorter
than this."""

BYTE_S = 10 / 9600
GATHER_S = 0.005
"""A reply that has begun is left alone for this long, but no longer than it can take; if it is still not there then, it
comes byte by byte, over a real UART, and is left alone until it can have come: each waking takes the processor as long
as reading the whole. What is to be sent does not wait for it."""


class LinkLost(Exception):
    """The port is of no more use. The text says why, for people."""


@dataclass
class Sent:
    """A command, from when it is said until it is answered."""

    command: Command
    request: int
    """The number of the wish that it carries out, or 0."""
    sent_s: float
    alone: bool
    """Nothing else was in flight, so that its round trip is that of the line."""


@dataclass
class Answer:
    """The reply to a command, of the kind that it asks for."""

    sent: Sent
    reply: Reply


class Session:
    """The companion of one open port."""

    def __init__(
        self,
        port: Port,
        name: str,
        reply_timeout_s: float,
        note: Callable[[str, bytes], None],
        now: float,
        *,
        known: bool = False,
    ) -> None:
        """Begins at once to get into step.

        `note` gets the traffic: `>` or `<` and what was written or read; `!` and why nothing is believed any more.
        `known`: the controller was there before, and is waited for like for any reply of it.
        """
        self._port = port
        self._name = name
        self._reply_timeout_s = reply_timeout_s
        self._note = note
        self._known = known
        self._conversation = Conversation()
        self._sent: list[Sent] = []
        self._again: list[Sent] = []
        """What was on its way when the line fell out of step, and is to be said again."""
        self._unwritten = bytearray()
        self._ahead = b""
        """The beginning of what is said next, which is written already."""
        self._begun_s = self._asked_s = self._heard_s = now
        self._heard_anything = False
        self.listen_s = 0.0
        """Before this there is no use in reading."""
        self._half_there_s: float | None = None
        """When the last read was, if it ended within a reply."""
        self.status_asked_s = now
        """When a status was last asked for: the next that comes was taken after this."""
        self._get_into_step(now)

    @property
    def up(self) -> bool:
        """Whether the line is in step, so that commands can be sent and replies believed."""
        return self._conversation.synchronised

    @property
    def full(self) -> bool:
        """Whether so much waits for replies that nothing but a stop is to be sent."""
        return len(self._sent) >= IN_FLIGHT

    @property
    def quiet(self) -> bool:
        """Whether nothing waits for a reply."""
        return not self._sent

    @property
    def unwritten(self) -> bool:
        """Whether `write` has something to do, as soon as the port takes it."""
        return bool(self._unwritten)

    def fileno(self) -> int:
        """The file descriptor to select on."""
        return self._port.fileno()

    def close(self) -> None:
        """Close the port."""
        try:
            self._port.close()
        except OSError:
            pass  # the device is gone already

    # --- Reading ------------------------------------------------------------------------------------------------------

    def read(self, now: float) -> Iterator[Answer | Synchronised]:
        """What came in, one by one: after each the caller may send what follows from it. Raises LinkLost."""
        try:
            data = os.read(self._port.fileno(), 4096)
        except BlockingIOError:
            return
        except OSError as error:
            raise self._failed(error) from None
        if not data:
            raise LinkLost(f"lost the controller: {self._name} was unplugged or closed")
        self._heard_s = now
        self._heard_anything = True
        self._note("<", data)
        for event in self._conversation.receive(data):
            if isinstance(event, Answered):
                yield Answer(self._sent.pop(0), event.reply)
            elif isinstance(event, Synchronised):
                self._known = True
                yield event
            elif isinstance(event, OutOfStep):
                self._fall_out_of_step(event.reason, now)
            else:
                raise LinkLost(f"what answers on {self._name} is not a focus controller: {event.reason}")
        self.listen_s = now + self._missing_s(len(data), now)
        more = self._conversation.more_to_send()
        if more:
            self._asked_s = now
            if QueryStatus().encode() in more:
                self.status_asked_s = now
            self._say(more)

    def _missing_s(self, received: int, now: float) -> float:
        """For how long there is no use in reading: 0 where no reply is half there.

        At its first bytes nobody knows how a reply comes. What has come since tells the pace of the rest.
        """
        missing = self._conversation.missing
        begun_s, self._half_there_s = self._half_there_s, now if missing else None
        if begun_s is None:
            return min(GATHER_S, missing * BYTE_S)
        return missing * min(BYTE_S, (now - begun_s) / received)

    def _failed(self, error: OSError) -> LinkLost:
        return LinkLost(f"lost the controller: {self._name} failed ({os.strerror(error.errno or errno.EIO)})")

    def _fall_out_of_step(self, reason: str, now: float) -> None:
        self._note("!", reason.encode())
        self._keep(self._sent)
        self._begun_s = now
        self._get_into_step(now)

    def _keep(self, commands: Iterable[Sent]) -> None:
        """These are to be said again; what was only asked is asked anew anyway."""
        self._again += [sent for sent in commands if isinstance(sent.command, (*ORDERS, SwitchFans))]

    def _get_into_step(self, now: float) -> None:
        self._sent.clear()
        self._unwritten.clear()
        self._asked_s = self.status_asked_s = now
        self._say(self._conversation.synchronise())

    # --- What the clock means -----------------------------------------------------------------------------------------

    def wake_s(self) -> float | None:
        """When `keep_time` will have something to do, if nothing is heard until then."""
        deadline_s = self._deadline_s()
        if self.up or deadline_s is None:
            return deadline_s
        return min(deadline_s, self._asked_s + ASK_AGAIN_S)

    def keep_time(self, now: float) -> None:
        """Ask again where nothing comes. Raises LinkLost when that has gone on for too long."""
        deadline_s = self._deadline_s()
        if deadline_s is not None and now >= deadline_s:
            raise LinkLost(self._silence())
        if not self.up and now >= self._asked_s + ASK_AGAIN_S:
            self._get_into_step(now)

    def _deadline_s(self) -> float | None:
        if not self.up:
            return self._begun_s + max(HANDSHAKE_S, self._reply_timeout_s if self._known else 0.0)
        if not self._sent:
            return None
        timeout_s = self._reply_timeout_s
        if self.awaits(Measure):
            timeout_s = max(timeout_s, MEASURE_S)
        return max(self._sent[0].sent_s, self._heard_s) + timeout_s

    def _silence(self) -> str:
        """What is wrong where no answer comes that would do."""
        if self.up:
            return f"the controller on {self._name} does not answer"
        if self._heard_anything:
            return f"what answers on {self._name} makes no sense: is it the focus controller?"
        return (
            f"nothing answers on {self._name}: is it the focus controller, does it have power, "
            "and does no other program read from it?"
        )

    # --- Sending ------------------------------------------------------------------------------------------------------

    def check(self, command: Command) -> None:
        """Raise CommandError where this controller must not get `command`."""
        self._conversation.check(command)

    def send(self, command: Command, request: int, now: float) -> None:
        """Say it; where the line has just fallen out of step, as soon as it is in step again."""
        if not self.up:
            self._keep([Sent(command, request, now, alone=False)])
            return
        self._say(self._conversation.send(command))
        self._sent.append(Sent(command, request, now, alone=not self._sent))
        if isinstance(command, QueryStatus):
            self.status_asked_s = now

    def send_again(self, now: float, without_moves_of: Collection[int]) -> None:
        """Back in step, say again what was on its way before, but no moves of these channels.

        Every command names its end, not a way, so it may be said twice.
        """
        again, self._again = self._again, []
        for sent in _last_of_each_channel(again):
            if not (isinstance(sent.command, Move) and sent.command.channel in without_moves_of):
                self.send(sent.command, sent.request, now)
            if isinstance(sent.command, SwitchFans):
                self.send(QueryFans(), sent.request, now)
        if again:
            self.send(QueryStatus(), 0, now)

    def forget_orders(self) -> None:
        """Say nothing again: it was meant for another controller."""
        self._again.clear()

    def say_stops(self, channels: Collection[int]) -> None:
        """Stop these channels, and those that were to be stopped again, where there is no time to get into step."""
        waiting = {sent.command.channel for sent in self._again if isinstance(sent.command, Stop)}
        for channel in sorted(waiting.union(channels)):
            self._say(Stop(channel).encode())

    def say_ahead(self, line: bytes, *, alone: bool) -> bool:
        """Write `line` now; it must be the next that is sent.

        False, and nothing is written, where that has to wait: out of step, behind something else that is not written
        yet, while the session is full, or, if it is to be `alone`, while anything waits for a reply.
        """
        waiting = len(self._sent)
        if self._unwritten or waiting >= IN_FLIGHT or (alone and waiting) or not self._conversation.synchronised:
            return False
        try:
            written = os.write(self._port.fileno(), line)
        except OSError:
            return False  # whoever sends it finds that, too
        # What carries it on may wait for this processor: for a pseudo-terminal that is a thread of the kernel.
        os.sched_yield()
        self._ahead = line[:written]
        return written > 0

    def forget_ahead(self) -> None:
        """If what was written ahead was not sent, its reply is one that nobody asked for."""
        self._ahead = b""

    def _say(self, data: bytes) -> None:
        self._note(">", data)
        ahead, self._ahead = self._ahead, b""
        self._unwritten += data[len(ahead) :]

    def write(self) -> None:
        """Write as much of what was said as the port takes. Raises LinkLost."""
        if not self._unwritten:
            return
        try:
            written = os.write(self._port.fileno(), self._unwritten)
        except BlockingIOError:
            return
        except OSError as error:
            raise self._failed(error) from None
        del self._unwritten[:written]

    # --- What has no answer yet ---------------------------------------------------------------------------------------

    def unanswered(self) -> list[Sent]:
        """All of which it is not known whether the controller has got it, oldest first."""
        return [*self._again, *self._sent]

    def orders(self, channel: int) -> list[tuple[Order, int]]:
        """The orders among them to one channel, with the numbers of their requests."""
        orders = [(sent.command, sent.request) for sent in self.unanswered() if isinstance(sent.command, ORDERS)]
        return [(order, request) for order, request in orders if order.channel == channel]

    def awaits(self, kind: type[Command]) -> bool:
        """Whether the answer to such a command is on its way."""
        return any(isinstance(sent.command, kind) for sent in self._sent)

    def join_stop(self, channel: int, request: int) -> bool:
        """Whether the channel's last order on its way is a stop, which then serves this request too."""
        if self._ahead:
            return False
        last = None
        for sent in self._sent:
            if isinstance(sent.command, ORDERS) and sent.command.channel == channel:
                last = sent
        if last is None or not isinstance(last.command, Stop):
            return False
        last.request = max(last.request, request)
        return True


def _last_of_each_channel(commands: Iterable[Sent]) -> list[Sent]:
    """Without the orders that a later one to the same channel replaced.

    Said again they could do harm: a move to a place of the old scale, after the zero that followed it was carried out.
    """
    last: dict[object, Sent] = {}
    for sent in commands:
        key = getattr(sent.command, "channel", type(sent.command))
        last.pop(key, None)
        last[key] = sent
    return list(last.values())
