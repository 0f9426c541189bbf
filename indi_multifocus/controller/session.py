# SPDX-License-Identifier: GPL-3.0-or-later
"""One opened port, until it is closed or lost: what was sent on it, what answers that, and what has to be sent again.

The poll thread is the only caller, and has one `Session` for each port that it opens. A session reads and writes that
port, but never waits for it, and has no clock: times are arguments, in seconds of one monotonic clock. What a command
means to a channel is not known here.

The theory: the controller answers in order, so a reply belongs to the oldest command that has none. When it does not
fit that command, the line is out of step: no reply is trusted, and nothing but queries and stops is sent, until replies
can be matched to commands again. That takes milliseconds and is no loss of the link:
the orders that had no reply are sent again. A session ends with `LinkLost`, when the port fails, or when nothing comes,
or nothing that makes sense, for too long.
"""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import NamedTuple

from .conversation import (
    Answered,
    Conversation,
    OutOfStep,
    Synchronised,
)
from .port import Port
from .protocol import (
    ORDERS,
    Command,
    Measure,
    Move,
    Order,
    QueryFans,
    QueryStatus,
    Reply,
    Stop,
    SwitchFans,
)

MAX_IN_FLIGHT = 4
"""Lines that may wait for their replies before anything but a stop waits too: they fit a USB endpoint's 64 bytes."""

HANDSHAKE_S = 3.0
"""A controller that is there answers within this, also in the middle of a temperature measurement of 1 s. Less would
give it up too early; more would keep a user waiting who chose the wrong port."""

ASK_AGAIN_S = 1.2
"""Silence before `?` is sent again while synchronising: longer than a temperature measurement takes."""

MEASURE_S = 2.0
"""While a temperature is measured, which takes up to 1 s, a silence shorter than this is no fault."""

GATHER_S = 0.01
"""How long the rest of a reply that has begun is left to come in before it is read. By USB a reply comes whole. Behind
a UART (9600 baud, 1 ms a byte) this saves nine wake-ups of ten, and a reply is seen that much later at most."""

LAST_WRITE_S = 0.3
"""How long the end of a driver that failed may wait for the port to take its stops."""


class LinkLost(Exception):
    """The port cannot be used any more. The text is the reason, for people."""


class Sent(NamedTuple):
    """A command that waits for its reply."""

    command: Command
    request: int
    """The number of the request that it carries out, or 0."""
    sent_s: float
    alone: bool
    """Nothing else was in flight, so that its round trip is that of the line."""


class Answer(NamedTuple):
    """The reply to a command, of the kind that is expected."""

    sent: Sent
    reply: Reply


class Session:
    """The companion of one open port."""

    def __init__(
        self,
        port: Port,
        name: str,
        reply_timeout_s: float,
        trace: Callable[[str, bytes], None],
        now: float,
        *,
        known: bool = False,
    ) -> None:
        """Begins to synchronise at once.

        `trace` gets the traffic: `>` or `<` and what was written or read; `!` and why no reply is trusted any more.
        `known`: the controller was there before, and is waited for as for any reply of it.
        """
        self._port = port
        self._name = name
        self._reply_timeout_s = reply_timeout_s
        self._trace = trace
        self._known = known
        self._conversation = Conversation()
        self._sent: list[Sent] = []
        self._resend: list[Sent] = []
        """What had no reply when the line fell out of step, and is to be sent again."""
        self._unwritten = bytearray()
        self._begun_s = self._asked_s = self._received_s = now
        self._received_anything = False
        self.read_s = now
        """When there is something to read at the earliest."""
        self.status_asked_s = now
        """When the status was last queried: the next one that comes was taken after this."""
        self._synchronise(now)

    @property
    def up(self) -> bool:
        """Whether the line is in step, so that commands can be sent and replies trusted."""
        return self._conversation.synchronised

    @property
    def full(self) -> bool:
        """Whether so much waits for replies that nothing but a stop is to be sent."""
        return len(self._sent) >= MAX_IN_FLIGHT

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

    def read(self) -> bytes:
        """What came in; may be nothing. Raises LinkLost."""
        try:
            data = os.read(self._port.fileno(), 4096)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise self._failed(error) from None
        if not data:
            raise LinkLost(f"lost the controller: {self._name} was unplugged or closed")
        return data

    def received(self, data: bytes, now: float) -> Iterator[Answer | Synchronised]:
        """What it means, one by one: after each the caller may send what follows from it. `now`: after it was read.
        Raises LinkLost."""
        self._received_s = now
        self._received_anything = True
        self._trace("<", data)
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
        if self._conversation.incomplete:
            self.read_s = now + GATHER_S
        more = self._conversation.more_to_send()
        if more:
            self._asked_s = now
            if QueryStatus().encode() in more:
                self.status_asked_s = now
            self._put(more)

    def _failed(self, error: OSError) -> LinkLost:
        return LinkLost(f"lost the controller: {self._name} failed ({os.strerror(error.errno or errno.EIO)})")

    def _fall_out_of_step(self, reason: str, now: float) -> None:
        self._trace("!", reason.encode())
        self._send_later(self._sent)
        self._begun_s = now
        self._synchronise(now)

    def _send_later(self, commands: Iterable[Sent]) -> None:
        """These are to be sent again; queries are sent anew anyway."""
        self._resend += [sent for sent in commands if isinstance(sent.command, (*ORDERS, SwitchFans))]

    def _synchronise(self, now: float) -> None:
        self._sent.clear()
        self._unwritten.clear()
        self._asked_s = self.status_asked_s = now
        self._put(self._conversation.synchronise())
        # A stop that may have been lost does not wait until it can be sent again with its reply.
        self.send_stops_unsynchronised(())

    # --- Time-outs -----------------------------------------------------------------------------------------

    def wake_s(self) -> float | None:
        """When `check_time` will have something to do, if nothing comes in until then."""
        deadline_s = self._deadline_s()
        if self.up or deadline_s is None:
            return deadline_s
        return min(deadline_s, self._asked_s + ASK_AGAIN_S)

    def check_time(self, silent_s: float, now: float) -> None:
        """Send the query again where nothing comes. Raises LinkLost when that takes too long.

        `silent_s`: when the port was last seen to have nothing to read; after that a reply may be waiting there. (Where
        no reply can be trusted that does not count: there may be no end of what comes.)
        """
        deadline_s = self._deadline_s()
        if deadline_s is not None and (silent_s if self.up else now) >= deadline_s:
            raise LinkLost(self._describe_silence())
        if not self.up and now >= self._asked_s + ASK_AGAIN_S:
            self._synchronise(now)

    def _deadline_s(self) -> float | None:
        if not self.up:
            return self._begun_s + max(HANDSHAKE_S, self._reply_timeout_s if self._known else 0.0)
        if not self._sent:
            return None
        timeout_s = self._reply_timeout_s
        if self.awaits(Measure):
            timeout_s = max(timeout_s, MEASURE_S)
        return max(self._sent[0].sent_s, self._received_s) + timeout_s

    def _describe_silence(self) -> str:
        """What is wrong where no usable reply comes."""
        if self.up:
            return f"the controller on {self._name} does not answer"
        if self._received_anything:
            return f"what answers on {self._name} makes no sense: is it the focus controller?"
        return (
            f"nothing answers on {self._name}: is it the focus controller, does it have power, "
            "and does no other program read from it?"
        )

    # --- Sending ------------------------------------------------------------------------------------------------------

    def send(self, command: Command, request: int, now: float) -> None:
        """Send it; where the line has just fallen out of step, as soon as it is in step again. Raises CommandError."""
        if not self.up:
            self._send_later([Sent(command, request, now, alone=False)])
            return
        self._put(self._conversation.send(command))
        self._sent.append(Sent(command, request, now, alone=not self._sent))
        if isinstance(command, QueryStatus):
            self.status_asked_s = now

    def check(self, command: Command) -> None:
        """Raise CommandError where this controller must not get `command`."""
        self._conversation.check(command)

    def send_again(self, now: float, without_moves_of: Collection[int]) -> None:
        """Back in step, send again what had no reply before, but no moves of these channels.

        Every command names where it ends, not how far it goes, so it may be sent twice.
        """
        again, self._resend = self._resend, []
        for sent in _last_of_each_channel(again):
            if not (isinstance(sent.command, Move) and sent.command.channel in without_moves_of):
                self.send(sent.command, sent.request, now)
            if isinstance(sent.command, SwitchFans):
                self.send(QueryFans(), sent.request, now)
        if again:
            self.send(QueryStatus(), 0, now)

    def forget_orders(self) -> None:
        """Send nothing again: it was meant for another controller."""
        self._resend.clear()

    def send_stops_unsynchronised(self, channels: Collection[int]) -> None:
        """Stop these channels although no reply can be trusted now; the line before ends with `?`.

        Its reply is ignored, so that a stop has to be sent again when the line is in step.
        """
        waiting = {sent.command.channel for sent in self._resend if isinstance(sent.command, Stop)}
        for channel in sorted(waiting.union(channels)):
            self._put(Stop(channel).encode())

    def send_last_stops(self, channels: Collection[int]) -> None:
        """Stop these channels, and wait a moment until the port has taken that: the driver failed, and ends.

        Raises LinkLost.
        """
        for channel in sorted(channels):
            self._put(Stop(channel).encode())
        while self._unwritten and select.select([], [self], [], LAST_WRITE_S)[1]:
            self.write()

    def _put(self, data: bytes) -> None:
        self._trace(">", data)
        self._unwritten += data

    def write(self) -> None:
        """Write as much of what is to be sent as the port takes. Raises LinkLost."""
        if not self._unwritten:
            return
        try:
            written = os.write(self._port.fileno(), self._unwritten)
        except BlockingIOError:
            return
        except OSError as error:
            raise self._failed(error) from None
        del self._unwritten[:written]

    # --- What has no reply yet ----------------------------------------------------------------------------------------

    def unanswered(self) -> list[Sent]:
        """Commands of which it is not known whether the controller has received them, oldest first."""
        return [*self._resend, *self._sent]

    def orders(self, channel: int) -> list[tuple[Order, int]]:
        """The orders among them to one channel, with the numbers of their requests."""
        orders = [(sent.command, sent.request) for sent in self.unanswered() if isinstance(sent.command, ORDERS)]
        return [(order, request) for order, request in orders if order.channel == channel]

    def oldest(self, kind: type[Command]) -> Sent | None:
        """The first of those that wait for the reply to such a command."""
        return next((sent for sent in self._sent if isinstance(sent.command, kind)), None)

    def awaits(self, kind: type[Command]) -> bool:
        """Whether the reply to such a command is on its way."""
        return self.oldest(kind) is not None

    def join_stop(self, channel: int, request: int) -> bool:
        """Whether the last order to the channel on its way is a stop, which then serves this request too."""
        for index, sent in reversed(list(enumerate(self._sent))):
            if isinstance(sent.command, ORDERS) and sent.command.channel == channel:
                if not isinstance(sent.command, Stop):
                    return False
                self._sent[index] = sent._replace(request=max(sent.request, request))
                return True
        return False


def _last_of_each_channel(commands: Iterable[Sent]) -> list[Sent]:
    """Without the orders that a later one to the same channel replaced.

    Sent again they could do harm: a move to a place of the old scale, after the zero that followed it was carried out.
    """
    last: dict[object, Sent] = {}
    for sent in commands:
        key = getattr(sent.command, "channel", type(sent.command))
        last.pop(key, None)
        last[key] = sent
    return list(last.values())
