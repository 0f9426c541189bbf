# SPDX-License-Identifier: GPL-3.0-or-later
"""The driver's file writer without its thread: for tests and harnesses that say when a file is written."""

from __future__ import annotations

from typing import Any

from indi_multifocus.settings.files import FileWriter


class ManualWriter(FileWriter):
    """In place of files.FileWriter. What was given to it is written when `work()` is called."""

    def __init__(self, *callbacks: Any, **named: Any) -> None:
        super().__init__(*callbacks, **named)
        self._thread = _NO_THREAD

    def work(self) -> None:
        """Write all that waits."""
        while self._waiting:
            self._write_next()

    def close(self, timeout_s: float) -> bool:
        """Write all that waits."""
        self.work()
        return True


_NO_THREAD: Any = object()
"""What stands for a thread that was started."""
