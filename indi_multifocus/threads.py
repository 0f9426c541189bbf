# SPDX-License-Identifier: GPL-3.0-or-later
"""Starting a thread that leaves signals to the main thread, where Python's handlers run; and waking one in `select`."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

ENDING_SIGNALS = (signal.SIGTERM, signal.SIGINT)
"""What ends the driver in order."""


def start_thread(target: Callable[[], None], name: str) -> threading.Thread:
    """Start a thread that does not keep the process alive, and never gets one of these signals."""
    thread = threading.Thread(target=target, name=name, daemon=True)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)  # a thread begins with its creator's mask
    try:
        thread.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return thread


class WakePipe:
    """A pipe that wakes the thread which has it in its `select`. That thread calls `drain`; others call `wake`."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)

    def fileno(self) -> int:
        """Readable after `wake`, until `drain`."""
        return self._read

    def wake(self) -> None:
        """Wake the thread up; after `close`, nobody."""
        try:
            os.write(self._write, b"!")
        except OSError:
            pass  # the pipe is full, so that the thread will wake up; or it is closed

    def drain(self) -> None:
        """The thread is awake, and looks at what there is after this."""
        try:
            os.read(self._read, 4096)
        except BlockingIOError:
            pass

    def close(self) -> None:
        """Nobody is to be woken up any more."""
        write, self._write = self._write, -1
        if write >= 0:
            os.close(write)
            os.close(self._read)
