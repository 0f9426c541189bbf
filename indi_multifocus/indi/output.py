# SPDX-License-Identifier: GPL-3.0-or-later
"""Where messages leave, without ever waiting for whoever reads them.

Used by the main thread alone. Each message leaves in one `os.write` where the reader keeps up: several small writes
would meet Nagle's algorithm and delayed acknowledgements on their way through indiserver, and cost 40 ms.

While nobody reads, messages wait here, and their number is bounded: of each property the first and the newest
definition, the newest update and the newest deletion, and of texts for the user the last few, with how many were
dropped.
"""

from __future__ import annotations

import errno
import os
import select
import stat
import time
from collections import deque
from typing import NamedTuple

from .writer import message

MAX_TEXTS = 50
"""Texts for the user that wait; with more, the oldest are dropped."""


_ALL_KINDS = ("def", "def again", "set", "set with ranges", "del")


class Message(NamedTuple):
    """One complete message of a device."""

    kind: str
    """def, set, del or message."""
    device: str
    name: str
    """The property; empty for a message."""
    data: bytes
    text: str = ""
    """For the user, where it carries one."""
    ranges: bool = False
    """A set that carries min, max and step, too."""


class Output:
    """The companion of one file descriptor, standard output as a rule. Nothing else may write to it."""

    def __init__(self, fd: int = 1) -> None:
        self.closed = False
        """Nothing can be written any more; from then on everything is dropped."""
        self.problem = ""
        """Why, where it is not that whoever read has gone."""
        self._fd = fd
        self._rest = b""
        """What is left of a message that was written in part."""
        self._waiting: dict[tuple[str, str, str], Message] = {}
        """By kind, device and property, in the order in which they leave."""
        self._texts: deque[tuple[str, str]] = deque()
        self._dropped = 0
        _set_non_blocking(fd)

    def fileno(self) -> int:
        """The file descriptor to select on while there is something `waiting`."""
        return self._fd

    @property
    def waiting(self) -> bool:
        """Whether `flush` has something to write."""
        return bool(not self.closed and (self._rest or self._waiting or self._texts or self._dropped))

    def write(self, message: Message) -> None:
        """Write a message now if the reader takes it, else later. Never waits, never raises."""
        if not self.closed:
            if self.waiting:
                self._keep(message)
            else:
                self._put(message.data)

    def flush(self) -> None:
        """Write what waits, as far as the reader takes it."""
        while self.waiting:
            if self._rest:
                self._put(self._rest)
                if self._rest:
                    return
            else:
                self._put(self._next())

    def drain(self, timeout_s: float) -> None:
        """Write what waits, and wait for the reader, but no longer than this."""
        end_s = time.monotonic() + timeout_s
        self.flush()
        while self.waiting and select.select([], [self], [], max(0.0, end_s - time.monotonic()))[1]:
            self.flush()

    def _put(self, data: bytes) -> None:
        self._rest = data
        try:
            self._rest = data[os.write(self._fd, data) :]
        except BlockingIOError:
            pass
        except OSError as error:
            self.closed = True
            if error.errno not in (errno.EPIPE, errno.ECONNRESET):
                self.problem = error.strerror or str(error)

    def _keep(self, message: Message) -> None:
        """Let it wait, in place of what it makes needless."""
        if message.kind == "message":
            self._keep_text(message.device, message.text)
            return
        device, name, kind = message.device, message.name, message.kind
        # Newer values must not take back a new range; and a client that knows a property takes no notice when it is
        # defined again.
        if kind == "set" and message.ranges:
            kind = "set with ranges"
        elif kind == "def" and ("def", device, name) in self._waiting:
            kind = "def again"
        for replaced in _ALL_KINDS if kind == "del" else (kind,):
            old = self._waiting.pop((replaced, device, name), None)
            if old is not None and old.text:
                self._keep_text(device, old.text)
        self._waiting[kind, device, name] = message

    def _keep_text(self, device: str, text: str) -> None:
        self._texts.append((device, text))
        if len(self._texts) > MAX_TEXTS:
            self._texts.popleft()
            self._dropped += 1

    def _next(self) -> bytes:
        if self._waiting:
            return self._waiting.pop(next(iter(self._waiting))).data
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            device = self._texts[0][0] if self._texts else None
            return message(device, f"[WARNING] {dropped} messages were dropped, because nobody read them")
        device, text = self._texts.popleft()
        return message(device, text)


def _set_non_blocking(fd: int) -> None:
    """Let a write to a pipe or socket return at once where nobody reads. indiserver gives a driver one for both its
    input and output, so reading must expect that as well. A terminal or file is left as it is: others use it too."""
    try:
        mode = os.fstat(fd).st_mode
        if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
            os.set_blocking(fd, False)
    except OSError:
        pass  # there is none, as the first write will show
