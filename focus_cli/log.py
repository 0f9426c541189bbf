# SPDX-License-Identifier: GPL-3.0-or-later
"""focusd's messages: to standard error (the journal, under systemd) at once, and to the observatory's log, if any.

Any thread may write. Writing never waits for the log server: a thread of its own passes messages on, from a queue of
limited length, so that a log server which is down delays and costs nothing.

The observatory's log is the `log` module of warwick.observatory.common or rockit.common, with info(table, message),
warning and error.
"""

from __future__ import annotations

import queue
import sys
import threading
import time
from types import ModuleType
from typing import TextIO

MAX_WAITING = 500
"""Messages kept for a log server that does not take them; what comes after is not sent to it."""


class Log:
    """Where messages go. `table` is the configuration's `log_name`."""

    def __init__(self, table: str, observatory: ModuleType | None = None, stream: TextIO | None = None) -> None:
        self._table = table
        self._observatory = observatory
        self._stream = stream if stream is not None else sys.stderr
        self._waiting: queue.Queue[tuple[str, str] | None] = queue.Queue(MAX_WAITING)
        self._full = False
        self._sender = threading.Thread(target=self._send_all, name="observatory log", daemon=True)
        if observatory is not None:
            self._sender.start()

    def info(self, message: str) -> None:
        """For the record."""
        self._write("info", message)

    def warning(self, message: str) -> None:
        """Something to look at."""
        self._write("warning", message)

    def error(self, message: str) -> None:
        """Something failed."""
        self._write("error", message)

    def close(self) -> None:
        """Give the log server a moment for the last words."""
        if self._observatory is not None:
            try:
                self._waiting.put_nowait(None)
            except queue.Full:
                return
            self._sender.join(timeout=0.3)

    def _write(self, level: str, message: str) -> None:
        self._print(level, message)
        if self._observatory is None:
            return
        try:
            if self._waiting.empty():
                self._full = False
            self._waiting.put_nowait((level, message))
        except queue.Full:
            if not self._full:
                self._full = True
                self._print("warning", "the observatory's log does not take messages: the next ones are here alone")

    def _print(self, level: str, message: str) -> None:
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        try:
            self._stream.write(f"{when} {level.upper()} {self._table}: {message}\n")
            self._stream.flush()
        except (OSError, ValueError):
            pass  # nobody reads it any more

    def _send_all(self) -> None:
        while True:
            entry = self._waiting.get()
            if entry is None:
                return
            level, message = entry
            try:
                getattr(self._observatory, level)(self._table, message)
            except Exception as error:
                self._print("warning", f"the observatory's log failed: {error}")
