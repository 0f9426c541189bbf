# SPDX-License-Identifier: GPL-3.0-or-later
"""Signals as something that a main thread can sleep for, beside its other business.

Used by moving.py and watch.py.
"""

from __future__ import annotations

import os
import select
import signal
from types import TracebackType


class Signals:
    """A context in which these signals, and other threads' `wake`, are something that the main thread can sleep for."""

    def __init__(self, *numbers: signal.Signals) -> None:
        self._numbers = numbers

    def __enter__(self) -> Signals:
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        # Not by exceptions from handlers: those come anywhere, and only when the main thread happens to run.
        self._wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._handlers = {
            number: signal.signal(number, lambda *_: None)
            for number in self._numbers
            if signal.getsignal(number) is not signal.SIG_IGN  # as nohup and shells leave it
        }
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        # The pipe stays: the thread of a call that never returned may yet write to it.

    def wake(self) -> None:
        """From another thread: there is something to see."""
        try:
            os.write(self._write, b"\0")
        except BlockingIOError:
            pass  # it has enough to wake up for

    def fileno(self) -> int:
        """For select: readable when there is a signal, or something to see."""
        return self._read

    def wait(self, timeout_s: float | None = None) -> int:
        """Sleep; returns the number of a signal, or 0."""
        if select.select([self._read], [], [], timeout_s)[0]:
            return os.read(self._read, 1)[0]
        return 0
