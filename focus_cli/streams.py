# SPDX-License-Identifier: GPL-3.0-or-later
"""Standard streams that are closed, full, or read by nobody: no traceback, no wrong exit status, no waiting service.

Used by focus and focusd at their start. What cannot be written is lost, and nothing else; `Output` remembers that it
was, so that a command whose result is its output can say so.
"""

from __future__ import annotations

import errno
import io
import os
import select
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO, cast

PATIENCE_S = 0.5
"""How long a message waits for a reader that is slow; one that has not read for as long is not waited for again."""


def open_missing() -> None:
    """Open /dev/null in place of standard streams that are closed, so that no file or connection gets their numbers."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this one


class Messages(io.TextIOBase):
    """Text for a log or a terminal, written at once to `fd`; lost where it cannot be written."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._stuck = self._cut = False

    def fileno(self) -> int:
        """The file descriptor."""
        return self._fd

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return os.isatty(self._fd)

    def writable(self) -> bool:
        """Yes."""
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """What is written, whatever the locale."""
        return "utf-8"

    def write(self, text: str) -> int:
        """Returns the length of `text`, whatever has become of it."""
        data = ("\n" if self._cut else "").encode() + text.encode("utf-8", "replace")
        try:
            while data and self._takes():
                data = data[os.write(self._fd, data[: select.PIPE_BUF]) :]
                self._cut = bool(data)
        except OSError:
            pass  # where a line was cut, the next one begins anew
        return len(text)

    def _takes(self) -> bool:
        """Whether it can be written to without waiting; a pipe or terminal that nobody reads cannot."""
        ready = select.select([], [self._fd], [], 0.0 if self._stuck else PATIENCE_S)[1]
        self._stuck = not ready
        return bool(ready)


class Output:
    """Standard output that remembers its first failure and goes on into /dev/null. All else is the stream's."""

    def __init__(self, stream: TextIO | None) -> None:
        """`stream`: as in sys.stdout, None where it was closed."""
        self.failure: OSError | None = None
        """Why something could not be written. """
        self._stream = stream
        if isinstance(stream, io.TextIOWrapper):
            # Whatever the locale, as all other output of ours: in LC_ALL=C there would be no °, and no É of a label.
            stream.reconfigure(encoding="utf-8", errors="replace")

    def write(self, text: str) -> int:
        """As a stream's."""
        if self._stream is None:
            self.failure = OSError(errno.EBADF, os.strerror(errno.EBADF))
            return len(text)
        try:
            return self._stream.write(text)
        except OSError as error:
            self._fail(error)
        return len(text)

    def flush(self) -> None:
        """As a stream's."""
        try:
            if self._stream is not None:
                self._stream.flush()
        except OSError as error:
            self._fail(error)

    def isatty(self) -> bool:
        """As a stream's."""
        return self._stream is not None and self._stream.isatty()

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)

    def settle(self, program: str, status: int) -> int:
        """The exit status of a program that ends with `status`: 1 where all is well but its output was lost."""
        self.flush()
        if self.failure is None or status:
            return status
        if self.failure.errno != errno.EPIPE:  # the reader has had enough
            print(f"{program}: standard output: {self.failure.strerror}", file=sys.stderr)
        return 1

    def _fail(self, error: OSError) -> None:
        self.failure = self.failure or error
        # What is still in the stream's buffer has to go somewhere when Python ends.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.close(nowhere)


def relay(messages: Messages) -> int:
    """A file descriptor for another process's messages, which end up in `messages` and never make it wait."""
    source, sink = os.pipe()

    def pass_on() -> None:
        while data := os.read(source, select.PIPE_BUF):
            messages.write(data.decode("utf-8", "replace"))

    threading.Thread(target=pass_on, name="messages", daemon=True).start()
    return sink


@contextmanager
def guarded() -> Iterator[Output]:
    """This process's streams, made safe; gives standard output."""
    before = sys.stdout, sys.stderr
    open_missing()
    output = Output(sys.stdout)
    sys.stdout, sys.stderr = cast(TextIO, output), cast(TextIO, Messages(2))
    try:
        yield output
        output.flush()
    finally:
        sys.stdout, sys.stderr = before
