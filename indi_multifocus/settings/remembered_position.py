# SPDX-License-Identifier: GPL-3.0-or-later
"""What must still be known of a channel's position after a restart of the driver: sign, offset, and whether
to believe it.

Used by `focuser.py`, by one thread at a time. Saved at once when it changes, unlike the settings that a user saves
when he wants to (CONFIG_PROCESS): a focuser that forgot a sync would move to the wrong place.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
import time
from dataclasses import dataclass, replace

SIZE_LIMIT = 4096
"""A state file is some 60 bytes; what is larger is none."""

STEPS_LIMIT = 1_000_000_000
"""Far beyond any offset: the controller counts to 7 digits."""

TIME_LIMIT_S = 1e12
"""Longer than any machine runs."""


def folder() -> str:
    """Where libindi's drivers keep their files: beside INDICONFIG where that is set, else ~/.indi."""
    configured = os.environ.get("INDICONFIG")
    if configured:
        return os.path.dirname(os.path.abspath(configured))
    home = os.path.expanduser("~")
    return os.path.join(home if home != "~" else "/", ".indi")  # "~" where nobody knows of a home


def file_name(device: str, ending: str) -> str:
    """A device's file in that folder; the name of a device cannot lead out of it."""
    safe = "".join("_" if character in "/\\\0" else character for character in device)
    return os.path.join(folder(), f"{safe.lstrip('.') or '_'}{ending}")


def write_atomically(path: str, data: bytes, *, durable: bool = True) -> None:
    """Replace `path` by a file that holds `data`, so that a crash leaves the old one or the new one. Raises OSError.

    `durable`: wait until it is on the disk, which takes milliseconds; otherwise it gets there within seconds.
    """
    os.makedirs(os.path.dirname(os.path.abspath(path)), mode=0o755, exist_ok=True)
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
            if durable:
                os.fsync(fd)
        finally:
            os.close(fd)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def read_file(path: str, limit: int) -> bytes:
    """The first `limit` bytes of a file. Raises OSError; also for what is none, like a FIFO, which would never end."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "this is no file", path)
        data = b""
        while len(data) < limit and (more := os.read(fd, limit - len(data))):
            data += more
        return data
    finally:
        os.close(fd)


@dataclass(frozen=True)
class Departure:
    """A move that was begun and is not known to have ended; positions are controller steps."""

    start: int
    target: int
    time_s: float
    """When it began, in seconds since the machine was started."""
    boot: str
    """Which run of the machine this was: a machine that lost its power had the controller lose its own, most likely.
    Empty while the link is lost."""


def this_boot() -> str:
    """Names this run of the machine; empty where the system does not say."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def uptime_s() -> float:
    """How long the machine has been running, asleep or not; whatever becomes of its clock."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Memory:
    """The remembered facts of one channel. position = sign × controller steps + offset."""

    def __init__(self, device: str, *, kept: bool = True) -> None:
        """`kept`: read what earlier runs remembered, and save for later ones."""
        self._path = file_name(device, "_state.json") if kept else ""
        self.offset = 0
        self.reversed = False
        self.unverified = False
        self.zeroing = False
        """The controller was asked to call its place 0, and it is not known whether it did."""
        self.departure: Departure | None = None
        self.problem = ""
        """Why what was remembered could not be read or saved, for people; empty when it could."""
        if kept:
            self._load()

    @property
    def sign(self) -> int:
        """-1 where the direction is reversed."""
        return -1 if self.reversed else 1

    def position(self, steps: int) -> int:
        """What users call the place that the controller calls `steps`."""
        return (-steps if self.reversed else steps) + self.offset

    def steps(self, position: int) -> int:
        """What the controller calls the place that users call `position`."""
        return self.offset - position if self.reversed else position - self.offset

    def departs(self, start: int, target: int) -> None:
        """A move begins. If it is not seen to end, its end must not be taken for granted."""
        self.departure = Departure(start, target, uptime_s(), this_boot())
        self.save(durable=False)

    def loses_sight(self) -> None:
        """The controller does not answer in mid-move, and may have no power: time alone does not make it arrive."""
        if self.departure is not None and self.departure.boot:
            self.departure = replace(self.departure, boot="")
            self.save(durable=False)

    def sees_again(self) -> None:
        """The link is back, and the move goes on."""
        if self.departure is not None and not self.departure.boot:
            self.departure = replace(self.departure, boot=this_boot())
            self.save(durable=False)

    def arrives(self) -> None:
        """The move was seen to end."""
        if self.departure is not None:
            self.departure = None
            self.save(durable=False)

    def save(self, *, durable: bool = True) -> None:
        """Write it down; where that fails, `problem` says why."""
        if not self._path:
            return
        text = (
            f'{{"offset": {self.offset}, "reversed": {str(self.reversed).lower()}, '
            f'"unverified": {str(self.unverified).lower()}'
        )
        if self.zeroing:
            text += ', "zeroing": true'
        if self.departure is not None:
            move = self.departure
            text += (
                f', "departure": {{"start": {move.start}, "target": {move.target}, '
                f'"time_s": {move.time_s:.3f}, "boot": "{move.boot}"}}'
            )
        try:
            write_atomically(self._path, f"{text}}}\n".encode("ascii"), durable=durable)
            self.problem = ""
        except OSError as error:
            problem = f"cannot save the position's offset in {self._path}: {error.strerror}"
            if problem != self.problem:  # a disk that is full stays so for many moves
                print(problem, file=sys.stderr)
            self.problem = problem

    def _load(self) -> None:
        try:
            data = read_file(self._path, SIZE_LIMIT)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            self.problem = f"cannot read the position's offset from {self._path}: {error.strerror}"
            self.unverified = True
            return
        import json

        try:
            found = json.loads(data)
            offset, turned, doubted = found["offset"], found["reversed"], found["unverified"]
            zeroing = found.get("zeroing", False)
            if not _is_steps(offset) or any(type(value) is not bool for value in (turned, doubted, zeroing)):
                raise ValueError("a value is not what is saved there")
            departure = _departure(found.get("departure"))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            self.problem = f"{self._path} is damaged ({error}): the offset is taken for 0"
            self.unverified = True
            return
        self.offset, self.reversed, self.unverified = offset, turned, doubted
        self.zeroing, self.departure = zeroing, departure


_BOOT = re.compile(r"[0-9a-f-]{0,64}")


def _departure(found: object) -> Departure | None:
    """Raises ValueError, KeyError or TypeError for what is none."""
    if found is None:
        return None
    if not isinstance(found, dict) or not _is_steps(found["start"]) or not _is_steps(found["target"]):
        raise ValueError("a departure is expected to have a start and a target")
    boot = found["boot"]
    if not isinstance(boot, str) or not _BOOT.fullmatch(boot):
        raise ValueError("a departure is expected to tell the boot")
    time_s = found["time_s"]
    if type(time_s) not in (int, float) or not 0 <= time_s <= TIME_LIMIT_S:
        raise ValueError("a departure is expected to tell the time")
    return Departure(found["start"], found["target"], float(time_s), boot)


def _is_steps(found: object) -> bool:
    """Whether it is a number of steps, as there may be any."""
    return type(found) is int and abs(found) <= STEPS_LIMIT
