# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of the machine that a driver runs on: power cuts, a slow or broken disk, a bug in one of its threads.

Python imports this module by itself at the start of every process that has this folder in PYTHONPATH. It replaces
functions of the standard library, knows nothing of the driver, and does nothing unless OVERLAY names a folder. In that
folder a test switches the faults on and off by making and deleting files (`outside.py` does that):

- `slow`: while it is there, fsync does not return; `waiting` is made when one waits
- `broken`: fsync fails with EIO
- `bug`: in every thread but the main one, whoever reads from a terminal, or waits for that in select, gets a
  RuntimeError
- `boot_id`: is read in place of the kernel's, so that a new one looks like a reboot

Everything that was fsynced below HOME is written to `disk`, one JSON object a line: a file's content, or a folder's
entries. What is not in there would not survive a power cut.
"""

from __future__ import annotations

import builtins
import errno
import io
import json
import os
import select
import stat
import threading
import time
from typing import Any

BOOT_ID = "/proc/sys/kernel/random/boot_id"

folder = os.environ.get("OVERLAY", "")
real_fsync, real_select, real_read = os.fsync, select.select, os.read
real_io_open, real_os_open = io.open, os.open

held: list[int] = []
"""Descriptors of what is on the disk: the number of an inode that is held is not used again."""


def is_on(fault: str) -> bool:
    """Whether the test has switched this on."""
    return os.path.exists(os.path.join(folder, fault))


def note(what: dict[str, Any]) -> None:
    """Write down what is on the disk now."""
    log = real_os_open(os.path.join(folder, "disk"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(log, json.dumps(what).encode() + b"\n")
    finally:
        os.close(log)


def note_file(path: str) -> None:
    """The content of a file is on the disk."""
    fd = real_os_open(path, os.O_RDONLY)
    held.append(fd)
    data = b"".join(iter(lambda: real_read(fd, 65536), b""))
    note({"inode": os.fstat(fd).st_ino, "data": data.decode("latin-1")})


def note_folder(path: str) -> None:
    """The entries of a folder are on the disk."""
    entries = {
        entry.name: [entry.stat(follow_symlinks=False).st_ino, entry.is_dir(follow_symlinks=False)]
        for entry in os.scandir(path)
    }
    note({"inode": os.stat(path).st_ino, "entries": entries})


def fsync(fd: Any) -> None:
    """os.fsync, as slow or broken as the test says."""
    if is_on("slow"):
        real_io_open(os.path.join(folder, "waiting"), "w").close()
        while is_on("slow"):
            time.sleep(0.005)
    if is_on("broken"):
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    real_fsync(fd)
    number = fd if isinstance(fd, int) else fd.fileno()
    path = f"/proc/self/fd/{number}"
    mode = os.fstat(number).st_mode
    if stat.S_ISDIR(mode):
        note_folder(path)
    elif stat.S_ISREG(mode):
        note_file(path)


def raise_if_buggy(*files: Any) -> None:
    """Raise in a thread that looks at a terminal."""
    if threading.current_thread() is threading.main_thread() or not is_on("bug"):
        return
    if any(os.isatty(file if isinstance(file, int) else file.fileno()) for file in files):
        raise RuntimeError("a bug that the test has made")


def buggy_select(reading: Any, writing: Any, other: Any, timeout: float | None = None) -> Any:
    """select.select"""
    raise_if_buggy(*reading)
    return real_select(reading, writing, other, timeout)


def buggy_read(fd: int, size: int) -> bytes:
    """os.read"""
    raise_if_buggy(fd)
    return real_read(fd, size)


def rebooted(path: Any) -> Any:
    """Where to read what the driver reads at `path`."""
    if not isinstance(path, int) and os.fspath(path) == BOOT_ID and is_on("boot_id"):
        return os.path.join(folder, "boot_id")
    return path


def install() -> None:
    """Replace the functions; what is below HOME now is on the disk."""
    for path, _, names in os.walk(os.environ["HOME"]):
        note_folder(path)
        for name in names:
            if os.path.isfile(os.path.join(path, name)):
                note_file(os.path.join(path, name))
    note({"root": os.stat(os.environ["HOME"]).st_ino})
    replacements: list[tuple[Any, str, Any]] = [
        (os, "fsync", fsync),
        (os, "fdatasync", fsync),
        (select, "select", buggy_select),
        (os, "read", buggy_read),
        (os, "open", lambda path, *rest, **names: real_os_open(rebooted(path), *rest, **names)),
        (io, "open", lambda path, *rest, **names: real_io_open(rebooted(path), *rest, **names)),
        (builtins, "open", lambda path, *rest, **names: real_io_open(rebooted(path), *rest, **names)),
    ]
    for module, name, replacement in replacements:
        setattr(module, name, replacement)


if folder:
    install()
