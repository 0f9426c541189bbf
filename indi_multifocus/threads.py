# SPDX-License-Identifier: GPL-3.0-or-later
"""Starting a thread that leaves signals to the main thread, where Python's handlers run."""

from __future__ import annotations

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
