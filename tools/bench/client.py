# SPDX-License-Identifier: GPL-3.0-or-later
"""The INDI client of the tests with a stop-watch: when was it sent, when did the answer come.

Used by the measurements, in the bench's one thread. What it has received is used up as it is looked at.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from client import IndiClient, Received

MOONLITE = "MoonLite"


class Client(IndiClient):
    """A connection to an INDI server: `of_server`."""

    def __init__(self, read_fd: int, write_fd: int) -> None:
        super().__init__(read_fd, write_fd)
        self.excused = {MOONLITE}

    def set(self, device: str, name: str, **elements: str | float) -> float:
        """Set a property that is defined; returns the monotonic time just before."""
        now_s = time.monotonic()
        self.new(device, name, elements)
        return now_s

    def next(self, wanted: Callable[[Received], bool], what: str, within_s: float = 20.0) -> Received:
        """The first vector that is `wanted` of those that came since the last call; what came before it is dropped.

        Raises TimeoutError, which says for `what` it waited.
        """
        end_s = time.monotonic() + within_s
        while True:
            for at, vector in enumerate(self.received):
                if vector.kind in ("def", "set") and wanted(vector):
                    del self.received[: at + 1]
                    return vector
            if not self._read(max(0.0, end_s - time.monotonic())):
                raise TimeoutError(f"waited {within_s:g} s in vain for {what}; messages: {self.messages()[-3:]}")

    def collect(self, for_s: float) -> list[Received]:
        """All vectors that come in the next `for_s` seconds."""
        end_s = time.monotonic() + for_s
        self.received.clear()
        while self._read(max(0.0, end_s - time.monotonic())):
            pass
        come = [answer for answer in self.received if answer.kind in ("def", "set")]
        self.received.clear()
        return come

    def forget(self) -> None:
        """Drop what has come by now."""
        self.collect(0.0)
