# SPDX-License-Identifier: GPL-3.0-or-later
"""Threads of focusd that last as long as the process. None ends silently: one that fails says so and begins anew."""

from __future__ import annotations

import threading
import time
import traceback
from typing import Callable

from .log import Log

FIRST_RETRY_S, LAST_RETRY_S = 0.5, 30.0
"""Pauses before a thread that failed begins anew: doubled each time, up to the last."""
WELL_AFTER_S = 60.0
"""A thread that has run for this long is well again: the next failure is the first one."""


def keep_running(name: str, work: Callable[[], None], log: Log) -> threading.Thread:
    """Start `work` in a thread of its own; it ends when `work` returns.

    An exception of `work` is a bug of ours: it is logged, and after a delay `work` is called again.
    """

    def run() -> None:
        retry_s = FIRST_RETRY_S
        while True:
            started_s = time.monotonic()
            try:
                work()
                return
            except Exception as error:
                log.error(f"the thread {name!r} failed and is started again: {describe(error)}")
            if time.monotonic() - started_s > WELL_AFTER_S:
                retry_s = FIRST_RETRY_S
            time.sleep(retry_s)
            retry_s = min(retry_s * 2, LAST_RETRY_S)

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread


def log_failures(log: Log) -> None:
    """Let any other thread that fails do so in one line of the log."""

    def tell(failure: threading.ExceptHookArgs) -> None:
        name = failure.thread.name if failure.thread is not None else "?"
        # A call that asked for no answer, as anybody may make wrong ones.
        if name != "oneway-call" and isinstance(failure.exc_value, Exception):
            log.error(f"the thread {name!r} failed: {describe(failure.exc_value)}")

    threading.excepthook = tell


def describe(error: Exception) -> str:
    """What failed and where, on one line."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    return f"{error!r}{where}"
