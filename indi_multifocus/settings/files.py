# SPDX-License-Identifier: GPL-3.0-or-later
"""The driver's own files: where they are, how they are read, and the thread that writes them.

The main thread reads files, which are small and local, and gives what is to be written to a `FileWriter`. So no thread
that serves a client or a motor ever waits for a disk. Written means: a power cut leaves the old file or the new one,
and once it is reported as written, the new one (the file and its folder entry are synchronised with the disk).
"""

from __future__ import annotations

import errno
import logging
import os
import threading
from collections.abc import Callable
from typing import NamedTuple

from ..threads import start_thread
from .regular_file import read_regular_file
from .system_text import from_system, to_system, variable

log = logging.getLogger(__name__)


def folder() -> str:
    """Where libindi's drivers keep their files: beside INDICONFIG where that is set, else ~/.indi."""
    configured = variable("INDICONFIG")
    if configured:
        return os.path.dirname(os.path.abspath(configured))
    home = from_system(os.path.expanduser("~"))
    return os.path.join(home if home != "~" else "/", ".indi")  # "~" where nobody knows of a home


def file_name(name: str, ending: str) -> str:
    """The path of the file with this name in that folder; a name cannot lead out of it."""
    safe = "".join("_" if character in "/\\\0" else character for character in name)
    return os.path.join(folder(), f"{safe.lstrip('.') or '_'}{ending}")


def write_atomically(path: str, data: bytes) -> None:
    """Replace `path` by a file that holds `data`, and return when file and folder are on the disk. Raises OSError.

    A crash at any moment leaves the old file or the new one.
    """
    path = to_system(path)
    parent = os.path.dirname(os.path.abspath(path))
    make_folder(parent)
    temporary = f"{path}.{os.getpid()}.tmp"
    # A file of our own making, and no link or other thing that somebody put there.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        fd = os.open(temporary, flags, 0o644)
    except FileExistsError:
        os.unlink(temporary)  # left by a process of the same number that was killed
        fd = os.open(temporary, flags, 0o644)
    try:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            os.fsync(fd)
        finally:
            os.close(fd)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    _sync_folder(parent)


def delete(path: str) -> None:
    """Delete a file, and return when that is on the disk; no matter whether it was there. Raises OSError."""
    path = to_system(path)
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    _sync_folder(os.path.dirname(os.path.abspath(path)))


def make_folder(path: str) -> None:
    """Make a folder and those above it, and return when they are on the disk. Raises OSError."""
    path = to_system(path)
    if not os.path.isdir(path):
        parent = os.path.dirname(path)
        make_folder(parent)
        os.makedirs(path, mode=0o755, exist_ok=True)
        _sync_folder(parent)


def _sync_folder(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems cannot synchronise a folder
            raise
    finally:
        os.close(fd)


class Written(NamedTuple):
    """What became of a file: everything that was given for it up to this number is on the disk, or there is a
    problem."""

    path: str
    number: int
    problem: str = ""
    """Why it could not be written, for people."""


class FileWriter:
    """A thread that writes files in the background; of each file the newest content wins."""

    def __init__(
        self, notify: Callable[[Written], None], *, failed: Callable[[str], None] = lambda reason: None
    ) -> None:
        """Both are called in the writer's thread: `notify` for each file that was written or could not be, `failed` if
        the thread ends by a bug of ours."""
        self._notify = notify
        self._failed = failed
        self._condition = threading.Condition()
        self._waiting: dict[str, tuple[int, bytes | None]] = {}
        self._number = 0
        self._ending = False
        self._thread: threading.Thread | None = None

    def write(self, path: str, data: bytes | None) -> int:
        """Write `data` to `path`, or delete the file where it is None. Returns at once, with the number to wait for."""
        with self._condition:
            self._number += 1
            self._waiting.pop(path, None)
            self._waiting[path] = (self._number, data)
            self._condition.notify_all()
            number = self._number
        if self._thread is None:
            self._thread = start_thread(self._run, "files")
        return number

    def read(self, path: str, limit: int) -> bytes:
        """The first `limit` bytes of a file as it will be when all is written. Raises OSError."""
        with self._condition:
            _, data = self._waiting.get(path, (0, b""))
            waiting = path in self._waiting
        if not waiting:
            return read_regular_file(path, limit)
        if data is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return data[:limit]

    def close(self, timeout_s: float) -> bool:
        """Write what waits, and end; waits for that, but no longer than `timeout_s`. Whether all is written."""
        with self._condition:
            self._ending = True
            self._condition.notify_all()
        if self._thread is not None:
            self._thread.join(timeout_s)
        return not self._waiting

    def _run(self) -> None:
        reason = "the file writer ended"
        try:
            while self._write_next():
                pass
            reason = ""
        except Exception as error:
            log.exception("the file writer failed")
            reason = f"internal error of the driver: {error!r}"
        finally:
            if reason:
                self._failed(reason)

    def _write_next(self) -> bool:
        """Write one file. False: there is nothing left to write, and there will be nothing."""
        with self._condition:
            self._condition.wait_for(lambda: self._waiting or self._ending)
            if not self._waiting:
                return False
            path = next(iter(self._waiting))
            number, data = self._waiting[path]
        problem = ""
        try:
            if data is None:
                delete(path)
            else:
                write_atomically(path, data)
        except OSError as error:
            problem = f"cannot write {path}: {error.strerror or error}"
        with self._condition:
            # It stays readable until it is written; unless something newer came meanwhile.
            if self._waiting.get(path, (0, None))[0] == number:
                del self._waiting[path]
            self._condition.notify_all()
        self._notify(Written(path, number, problem))
        return True
