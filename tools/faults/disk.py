# SPDX-License-Identifier: GPL-3.0-or-later
"""A disk that forgets in a power cut what was not synchronised; and the driver's file writer without its thread.

Used by `world.py`. The files are real ones in a folder; `os.fsync` is replaced by the disk's.
"""

from __future__ import annotations

import errno
import os
import random
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from indi_multifocus.settings import files
from tools.manual_writer import ManualWriter


class Disk:
    """One folder. What is wrong with it are the attributes, which anybody may set."""

    def __init__(self, folder: Path, chance: random.Random) -> None:
        self._folder = folder
        self.chance = chance
        self._entries: dict[str, int] = {}
        """What the folder holds after a power cut: names and the numbers of the files."""
        self._contents: dict[int, bytes] = {}
        """What these files hold."""
        self._write_atomically = files.write_atomically
        self.full = False
        self.delay_s = 0.0
        self.writer: Writer | None = None
        """The one whose process lives."""

    def fsync(self, fd: int) -> None:
        """In place of os.fsync."""
        status = os.fstat(fd)
        if stat.S_ISDIR(status.st_mode):
            self._entries = {entry.name: entry.inode() for entry in os.scandir(self._folder)}
            self._contents = {number: self._contents.get(number, b"") for number in self._entries.values()}
        else:
            self._contents[status.st_ino] = Path(f"/proc/self/fd/{fd}").read_bytes()

    def write_atomically(self, path: str, data: bytes) -> None:
        """In place of files.write_atomically."""
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._write_atomically(path, data)

    def lose_power(self) -> None:
        """What was not synchronised is lost."""
        for entry in os.scandir(self._folder):
            os.unlink(entry)
        for name, number in self._entries.items():
            (self._folder / name).write_bytes(self._contents[number])
        self._entries = {entry.name: entry.inode() for entry in os.scandir(self._folder)}
        self._contents = {number: (self._folder / name).read_bytes() for name, number in self._entries.items()}


class Writer(ManualWriter):
    """The driver's, which works when the agenda says so."""

    def __init__(
        self, disk: Disk, at: Callable[[float, Callable[[], None]], None], *callbacks: Any, **named: Any
    ) -> None:
        super().__init__(*callbacks, **named)
        self._disk, self._at = disk, at
        disk.writer = self

    def write(self, path: str, data: bytes | None) -> int:
        number = super().write(path, data)
        self._at(self._disk.delay_s or self._disk.chance.choice((0.0005, 0.002, 0.02)), self._work_a_little)
        return number

    def _work_a_little(self) -> None:
        if self._disk.writer is self and self._waiting:
            self._write_next()

    def close(self, timeout_s: float) -> bool:
        if self._disk.delay_s < timeout_s:
            self.work()
        return not self._waiting
