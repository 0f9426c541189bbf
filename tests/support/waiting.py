# SPDX-License-Identifier: GPL-3.0-or-later
"""The one way in which tests and tools wait for something that another thread or process does."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

DEADLINE_S = 20.0
"""For what is to happen at once, on the busiest of machines. No test judges by the time that something takes."""

T = TypeVar("T")


def eventually(
    condition: Callable[[], T], what: str = "the condition", within_s: float = DEADLINE_S, pause_s: float = 0.002
) -> T:
    """The first true value of `condition`, asked again after each `pause_s`.

    Raises AssertionError, which names `what` it waited for, when there is none within `within_s`.
    """
    end_s = time.monotonic() + within_s
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end_s, f"waited {within_s:g} s in vain for {what}"
        time.sleep(pause_s)


def children(parent: int) -> list[int]:
    """Process numbers of its children, ended ones among them."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError, ProcessLookupError):
            if int((folder / "stat").read_bytes().rpartition(b")")[2].split()[1]) == parent:
                found.append(int(folder.name))
    return found


def is_running(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] != b"Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
