# SPDX-License-Identifier: GPL-3.0-or-later
"""The main thread's pending requests to the poll thread: a mailbox with one slot a channel, not a queue.

The last target wins, and a stop removes what was not sent yet: a flood of requests takes no memory, and no stop waits
behind it. The main thread puts requests in and returns at once; the poll thread takes them all, and is woken up for it
by a pipe. The lock is held for the moment in which values are exchanged, and nothing is called meanwhile.

Every move, stop, zero and change of the fans has a request number. A snapshot has the number of the last one that it
reflects.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from ..threads import WakePipe


class PortSettings(NamedTuple):
    """What to open, and how long a reply may take (seconds)."""

    name: str
    baud: int = 9600
    reply_timeout_s: float = 5.0


class Schedule(NamedTuple):
    """How often to query the status, in seconds between polls; and after how long a move has failed (None: by its
    length)."""

    moving_s: float = 0.1
    idle_s: float = 5.0
    move_timeout_s: float | None = None


class ChannelRequest(NamedTuple):
    """Pending requests to one channel: a stop, then a zero, then a move, each with its request number (0: none)."""

    stop: int = 0
    zero: int = 0
    move: int = 0
    steps: int = 0
    """Where the move ends, in controller steps."""
    via: int | None = None
    """Where it turns round before that, to take up the backlash."""

    def __bool__(self) -> bool:
        return bool(self.stop or self.zero or self.move)

    def then(self, later: ChannelRequest) -> ChannelRequest:
        """Both in one, without what `later` makes obsolete."""
        if later.stop:
            return later
        if later.zero:
            return later._replace(stop=self.stop)
        if later.move:
            return later._replace(stop=self.stop, zero=self.zero)
        return self

    def without_stop(self) -> ChannelRequest:
        """The rest of it, when the stop is sent."""
        return self._replace(stop=0)

    def only_move(self) -> ChannelRequest:
        """The move of it, when stop and zero are sent."""
        return self._replace(stop=0, zero=0)

    def only_stop(self) -> ChannelRequest:
        """The stop alone, which is kept where everything else is dropped."""
        return ChannelRequest(stop=self.stop)


class Requests(NamedTuple):
    """All pending requests. They are carried out in this order: close, open, channels."""

    close: int = 0
    """The number that the snapshot carries when the port is closed; 0: do not close it."""
    open: tuple[PortSettings, int] | None = None
    """The port, and the number of the attempt."""
    reopen: PortSettings | None = None
    """What to open from now on where the link was lost."""
    channels: Mapping[int, ChannelRequest] = MappingProxyType({})
    fans: tuple[bool, int] | None = None
    schedule: Schedule | None = None
    tracing: bool | None = None
    end: bool = False
    stop_moves: bool = False
    """Stop what moves before the end."""


class Mailbox:
    """The companion of one poll thread. All methods but `take` and `close` are for the main thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests = Requests()
        self._number = 0
        """Of the last request; the main thread's own."""
        self._pipe = WakePipe()

    def new_number(self) -> int:
        """A request number; each is higher than those before."""
        self._number += 1
        return self._number

    def put(self, **changes: Any) -> None:
        """Replace these fields of the pending requests, and wake the poll thread."""
        with self._lock:
            self._requests = self._requests._replace(**changes)
        self._pipe.wake()

    def put_open(self, settings: PortSettings, attempt: int) -> None:
        """Open this port, after closing another. Moves and zeros that were not sent yet were for that one."""
        with self._lock:
            stops = {number: request.only_stop() for number, request in self._requests.channels.items()}
            self._requests = self._requests._replace(open=(settings, attempt), reopen=None, channels=stops)
        self._pipe.wake()

    def put_channel(self, channel: int, request: ChannelRequest) -> None:
        """Add a request to a channel, after its pending ones."""
        with self._lock:
            channels = dict(self._requests.channels)
            channels[channel] = channels.get(channel, ChannelRequest()).then(request)
            self._requests = self._requests._replace(channels=channels)
        self._pipe.wake()

    def take(self) -> Requests:
        """Take all pending requests out, for the poll thread."""
        self._pipe.drain()
        with self._lock:
            requests, self._requests = self._requests, Requests()
        return requests

    def fileno(self) -> int:
        """Readable while there is something to take."""
        return self._pipe.fileno()

    def close(self) -> None:
        """No `take` will follow."""
        self._pipe.close()
