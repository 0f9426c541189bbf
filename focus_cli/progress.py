# SPDX-License-Identifier: GPL-3.0-or-later
"""The bar that `focus set` and `focus offset` draw on a terminal: where the motor is, how fast, and how long it takes.

Used by moving.py in the main thread. rich is imported when there is something to draw; where it is not installed,
nothing is drawn.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from types import TracebackType
from typing import TYPE_CHECKING, Any

from . import codes
from .session import Session
from .show import Status, channel_state

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

WINDOW_S = 3.0
"""The speed is that of the last few seconds."""


class Speed:
    """Steps per second, from positions as they are reported: the driver learns of one only now and then."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def see(self, now_s: float, steps: int) -> None:
        """The position at this time."""
        if self._seen and self._seen[-1][1] == steps:
            return
        self._seen.append((now_s, steps))
        while len(self._seen) > 2 and self._seen[0][0] < now_s - WINDOW_S:
            self._seen.popleft()

    @property
    def steps_per_s(self) -> float:
        """0 while it is not known; its sign is the direction."""
        if len(self._seen) < 2:
            return 0.0
        (first_s, first), (last_s, last) = self._seen[0], self._seen[-1]
        return (last - first) / (last_s - first_s) if last_s > first_s else 0.0

    def left_s(self, now_s: float, target: int) -> float | None:
        """How long it takes to get there from where it was seen last."""
        if not self.steps_per_s:
            return None
        seen_s, steps = self._seen[-1]
        return max(0.0, abs(target - steps) / abs(self.steps_per_s) - (now_s - seen_s))


class Display:
    """The bar of one channel; nothing at all for channel 0."""

    def __init__(self, session: Session, channel: int) -> None:
        self._session, self._channel = session, channel
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._speed = Speed()
        self._start = 0

    def __enter__(self) -> Display:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def show(self, status: Status) -> None:
        """Draw what was reported."""
        if not self._channel or channel_state(status, self._channel) == codes.OFFLINE:
            return
        current, target = (int(status[f"{what}_steps_{self._channel}"]) for what in ("current", "target"))
        now_s = time.monotonic()
        self._speed.see(now_s, current)
        if self._progress is None and not self._begin(current):
            return
        assert self._progress is not None
        assert self._task is not None
        total = abs(target - self._start) or 1
        left_s = self._speed.left_s(now_s, target)
        done = total if current == target else min(abs(current - self._start), total)
        self._progress.update(
            self._task,
            total=total,
            completed=done,
            steps=f"{current:+07d} → {target:+07d}",
            speed=f"{abs(self._speed.steps_per_s):.1f} steps/s" if self._speed.steps_per_s else "",
            left="" if left_s is None or current == target else f"{left_s:.0f} s left",
        )
        self._progress.refresh()

    def finish(self) -> None:
        """Draw where it has come to, if anything was drawn, and leave that."""
        if self._progress is not None:
            with self._session.focusd() as focusd:
                self.show(focusd.report_status() or {})
        self.close()

    def close(self) -> None:
        """Leave the terminal as it was."""
        progress, self._progress, self._channel = self._progress, None, 0
        if progress is not None:
            progress.stop()

    def _begin(self, current: int) -> bool:
        try:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn
        except ImportError:
            self._channel = 0
            return False
        columns: list[Any] = [
            TextColumn("channel {task.fields[channel]}"),
            BarColumn(bar_width=None),
            *(TextColumn(f"{{task.fields[{name}]}}") for name in ("steps", "speed", "left")),
        ]
        # Drawn when something is reported, and by no thread of its own.
        console = Console(file=sys.stdout, highlight=False)
        self._progress = Progress(*columns, console=console, auto_refresh=False, expand=True)
        self._start = current
        self._task = self._progress.add_task("", total=None, channel=self._channel, steps="", speed="", left="")
        self._progress.start()
        return True
