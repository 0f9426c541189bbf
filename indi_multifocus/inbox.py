# SPDX-License-Identifier: GPL-3.0-or-later
"""The inbox of the main thread: the newest snapshot, lines of traffic, reports of the file writer.

The other threads put values in and go on at once; the main thread, which sleeps in `select` on the inbox, takes all of
them. The lock is held for the moment in which values are exchanged, and nothing is called meanwhile.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import NamedTuple

from .controller.snapshot import Snapshot
from .settings.files import Written
from .threads import WakePipe

MAX_TRAFFIC = 1000
"""Lines of traffic that wait, a few seconds of DEBUG; with more, the oldest are dropped."""


class News(NamedTuple):
    """What arrived since the last `take`."""

    snapshot: Snapshot | None = None
    traffic: tuple[str, ...] = ()
    written: tuple[Written, ...] = ()
    failure: str = ""
    """Why another thread ended by a bug of ours."""


class Inbox:
    """The companion of the main thread, which calls `take` and `close`; all else is for the others."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._snapshot: Snapshot | None = None
        self._traffic: deque[str] = deque(maxlen=MAX_TRAFFIC)
        self._written: list[Written] = []
        self._failure = ""
        self._pipe = WakePipe()

    def put_snapshot(self, snapshot: Snapshot) -> None:
        """Replaces the last one: the newest has everything."""
        with self._lock:
            self._snapshot = snapshot
        self._pipe.wake()

    def put_traffic(self, line: str) -> None:
        """A line of what was sent or received on the serial port."""
        with self._lock:
            self._traffic.append(line)
        self._pipe.wake()

    def put_written(self, report: Written) -> None:
        """The result of writing a file. There are no more of them than the main thread gave files to write."""
        with self._lock:
            self._written.append(report)
        self._pipe.wake()

    def put_failure(self, reason: str) -> None:
        """A thread has ended by a bug of ours."""
        with self._lock:
            self._failure = self._failure or reason
        self._pipe.wake()

    def take(self) -> News:
        """Take everything out."""
        self._pipe.drain()
        with self._lock:
            news = News(self._snapshot, tuple(self._traffic), tuple(self._written), self._failure)
            self._snapshot = None
            self._traffic.clear()
            self._written.clear()
        return news

    def fileno(self) -> int:
        """Readable while there is something to take."""
        return self._pipe.fileno()

    def close(self) -> None:
        """No `take` will follow."""
        self._pipe.close()
