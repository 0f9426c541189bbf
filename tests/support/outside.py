# SPDX-License-Identifier: GPL-3.0-or-later
"""A driver's process and what befalls it from outside: its machine and its disk.

`Machine` makes the faults of `overlay/sitecustomize.py` for the processes that are started with its environment.
"""

from __future__ import annotations

import json
import os
import resource
import uuid
from pathlib import Path

from support import ROOT, eventually

PROMPT_S = 8.0
"""For what the driver does in milliseconds, and on the busiest of machines in this."""

OVERLAY = Path(__file__).resolve().parent / "overlay"


class Machine:
    """A machine on which drivers run. `folder` is for its own use, and no home."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()
        self._boot()

    def environment(self) -> dict[str, str]:
        """For the processes that run on it."""
        return {"OVERLAY": str(self._folder), "PYTHONPATH": os.pathsep.join([str(OVERLAY), str(ROOT)])}

    def _boot(self) -> None:
        (self._folder / "boot_id").write_text(f"{uuid.uuid4()}\n")

    def switch(self, fault: str, on: bool) -> None:
        """Switch `slow`, `broken` or `bug` on or off."""
        if on:
            (self._folder / fault).touch()
        else:
            (self._folder / fault).unlink()

    def wait_for_fsync(self) -> None:
        """Wait until something waits for the slow disk."""
        eventually((self._folder / "waiting").exists, "an fsync")

    def lose_power(self, home: Path) -> None:
        """Make the folder `home`, with what was on the disk of the last process's HOME; and boot again."""
        self._boot()
        files: dict[int, bytes] = {}
        folders: dict[int, dict[str, tuple[int, bool]]] = {}
        root = 0
        for line in (self._folder / "disk").read_text().splitlines():
            found = json.loads(line)
            if "root" in found:
                root = found["root"]
            elif "data" in found:
                files[found["inode"]] = found["data"].encode("latin-1")
            else:
                folders[found["inode"]] = {name: (entry[0], entry[1]) for name, entry in found["entries"].items()}
        (self._folder / "disk").unlink()

        def restore(inode: int, path: Path) -> None:
            path.mkdir()
            for name, (entry, is_folder) in folders.get(inode, {}).items():
                if is_folder:
                    restore(entry, path / name)
                else:
                    (path / name).write_bytes(files.get(entry, b""))

        restore(root, home)


def fill_disk(pid: int) -> None:
    """Let the process `pid` write to no file any more, as if the disk were full. (Its pipes and ports it may.)"""
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))


def clear_disk(pid: int) -> None:
    """There is room again."""
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
