# SPDX-License-Identifier: GPL-3.0-or-later
"""What must be known of a channel's position after a restart of the driver, whatever ended it.

Used by the main thread alone: `driver.py` keeps one `ControllerMemory` while a link is open, and each focuser the
`PositionMemory` of its channel. What is remembered belongs to a controller, which is known by the stable name of its
port, and a driver locks it while it uses it.

Two ways to change something: `update` takes effect at once and is on the disk soon; `commit` takes effect when it is on
the disk, and not at all where that fails.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import time
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

from .files import FileWriter, Written, file_name, make_folder
from .system_text import to_system

MAX_SIZE = 4096
"""A state file has some 200 bytes; a larger one is no such file."""

MAX_STEPS = 1_000_000_000
"""Far beyond any offset: the controller counts to 7 digits."""

MAX_TIME_S = 1e12
"""Longer than any machine runs."""

MAX_KEY = 100
"""Characters of a port's name in a file's name, which may have 255."""


class UnfinishedMove(NamedTuple):
    """A move that was begun and is not known to have ended; positions are controller steps."""

    start: int
    target: int
    time_s: float
    """When it began, in seconds since the machine was started."""
    boot: str
    """Which run of the machine this was: when a machine loses its power, its controller most likely does so too.
    Empty while the link is lost."""


class Remembered(NamedTuple):
    """The facts of one channel. position = sign × controller steps + offset."""

    offset: int = 0
    reversed: bool = False
    unverified: bool = False
    zeroing: bool = False
    """The controller was ordered to zero, and it is not known whether it did."""
    stop_pending: bool = False
    """A stop could not be sent: it is the first thing to send."""
    in_use: bool = False
    """A driver is connected, or it ended without disconnecting: then the motor may have moved since."""
    steps: int = 0
    """Where the motor was last seen at rest, in controller steps."""
    move: UnfinishedMove | None = None

    @property
    def sign(self) -> int:
        """-1 where the direction is reversed."""
        return -1 if self.reversed else 1

    def position(self, steps: int) -> int:
        """The position that users see where the controller counts `steps`."""
        return self.sign * steps + self.offset

    def to_steps(self, position: int) -> int:
        """What the controller counts where users see `position`."""
        return self.sign * (position - self.offset)


def this_boot() -> str:
    """Identifies this run of the machine; empty where the system does not provide that."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def uptime_s() -> float:
    """How long the machine has been running, asleep or not; whatever becomes of its clock."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class PositionMemory:
    """What is remembered of one channel. `values` are the facts that hold now."""

    def __init__(self, path: str = "", writer: FileWriter | None = None) -> None:
        """Without a path nothing is kept: on a simulator nothing is remembered for the real focuser."""
        self.path = path
        self.values = Remembered()
        self.found = False
        """Whether there was a file."""
        self.problem = ""
        """Why what was remembered could not be read or saved, for people; empty when it could."""
        self._writer = writer
        self._on_disk = self.values
        self._uncommitted: dict[str, Any] = {}
        self._submitted: dict[int, Remembered] = {}
        self._waiting: list[tuple[int, Callable[[str], None]]] = []
        if writer is not None:
            self._load(writer)

    @property
    def at_risk(self) -> bool:
        """Whether a power cut now would go unnoticed: the disk does not know that the motor may move."""
        return bool(self.problem and self.path and not self._on_disk.in_use)

    @property
    def saved(self) -> bool:
        """Whether nothing waits to be written."""
        return not self._submitted

    def update(self, **changes: Any) -> None:
        """Change facts now, and save them."""
        changed = self.values._replace(**changes)
        if changed != self.values or self.problem:
            self.values = changed
            self._save()

    def update_then(self, then: Callable[[str], None], **changes: Any) -> None:
        """Change facts now, and call `then` with "" when they are on the disk, or with the problem."""
        self.values = self.values._replace(**changes)
        self._wait(self._save(), then)

    def commit(self, then: Callable[[str], None], **changes: Any) -> None:
        """Save these facts; when they are on the disk they hold, and `then` is called with "". Otherwise nothing
        changes, and `then` is called with the problem."""
        self._uncommitted = changes

        def end(problem: str) -> None:
            self._uncommitted = {}
            if not problem:
                self.values = self.values._replace(**changes)
            then(problem)

        self._wait(self._save(), end)

    def written(self, report: Written) -> None:
        """Take a report of the file writer about this file."""
        self.problem = report.problem
        saved = [number for number in self._submitted if number <= report.number]
        if not report.problem and saved:
            self._on_disk = self._submitted[max(saved)]
        for number in saved:
            del self._submitted[number]
        due = [then for number, then in self._waiting if number <= report.number]
        self._waiting = [(number, then) for number, then in self._waiting if number > report.number]
        for then in due:
            then(report.problem)

    def move_begins(self, start: int, target: int) -> None:
        """If this move is not seen to end, its end is verified by the time that it took."""
        self.update(move=UnfinishedMove(start, target, uptime_s(), this_boot()))

    def link_lost(self) -> None:
        """The controller does not answer in mid-move, and may have no power: time alone does not make it arrive."""
        if self.values.move is not None:
            self.update(move=self.values.move._replace(boot=""))

    def still_moves(self, start: int, target: int) -> None:
        """The motor moves, by our order or not; after a lost link the move is seen again."""
        if self.values.move is None:
            self.move_begins(start, target)
        elif not self.values.move.boot:
            self.update(move=self.values.move._replace(boot=this_boot()))

    def at_rest(self, steps: int) -> None:
        """The motor is seen at rest."""
        self.update(move=None, steps=steps)

    # --- The file -----------------------------------------------------------------------------------------------------

    def _save(self) -> int:
        """The number of the file writer's report to wait for, or 0 where nothing is kept."""
        if self._writer is None:
            return 0
        values = self.values._replace(**self._uncommitted)
        number = self._writer.write(self.path, encode(values))
        self._submitted[number] = values
        return number

    def _wait(self, number: int, then: Callable[[str], None]) -> None:
        if number:
            self._waiting.append((number, then))
        else:
            then("")

    def _load(self, writer: FileWriter) -> None:
        try:
            data = writer.read(self.path, MAX_SIZE)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            self.problem = f"cannot read the position's offset from {self.path}: {error.strerror}"
            self.values = Remembered(unverified=True)
            return
        self.found = True
        try:
            self.values = self._on_disk = parse(data)
        except ValueError as error:
            self.problem = f"{self.path} is damaged ({error}): the offset is taken for 0"
            self.values = Remembered(unverified=True)


def encode(values: Remembered) -> bytes:
    """The content of a state file."""
    move = values.move._asdict() if values.move is not None else None
    return json.dumps({**values._asdict(), "move": move}).encode() + b"\n"


def parse(data: bytes) -> Remembered:
    """The content of a state file. Raises ValueError, whose text is what is wrong with it."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(str(error)) from None
    if not isinstance(found, dict):
        raise ValueError("an object is expected")
    values: dict[str, Any] = {}
    for name, default in Remembered()._asdict().items():
        if name not in found:
            raise ValueError(f"{name} is missing")
        value = values[name] = found[name]
        if name == "move":
            values[name] = _move(value)
        elif type(value) is not type(default) or (type(value) is int and abs(value) > MAX_STEPS):
            raise ValueError(f"{name} is not what is saved there")
    return Remembered(**values)


def _move(found: object) -> UnfinishedMove | None:
    if found is None:
        return None
    if not isinstance(found, dict) or set(found) != {"start", "target", "time_s", "boot"}:
        raise ValueError("a move is expected to have start, target, time_s and boot")
    for name in ("start", "target"):
        if type(found[name]) is not int or abs(found[name]) > MAX_STEPS:
            raise ValueError(f"a move's {name} is expected to be a number of steps")
    if not isinstance(found["boot"], str) or not re.fullmatch("[0-9a-f-]{0,64}", found["boot"]):
        raise ValueError("a move's boot is expected to be the name of a boot")
    if type(found["time_s"]) not in (int, float) or not 0 <= found["time_s"] <= MAX_TIME_S:
        raise ValueError("a move's time_s is expected to be a time")
    return UnfinishedMove(found["start"], found["target"], float(found["time_s"]), found["boot"])


class ControllerMemory:
    """What is remembered of one controller, locked for this driver until `close`. `channels[0]` is channel 1's."""

    def __init__(self, controller: str, channels: int, writer: FileWriter | None) -> None:
        """`controller`: its stable name, of which files get their names. Without a writer nothing is kept.

        Raises BlockingIOError where another driver uses it; another OSError where the lock cannot be had, for example
        on a disk without room, is a problem of each channel.
        """
        self.controller = controller
        self._lock = -1
        key = _key(controller)
        problem = ""
        if writer is not None:
            problem = self._take_lock(file_name(key, ".lock"))
        self.channels = [
            PositionMemory(file_name(f"{key}_{number}", "_state.json") if writer is not None else "", writer)
            for number in range(1, channels + 1)
        ]
        for memory in self.channels:
            memory.problem = memory.problem or problem

    def _take_lock(self, path: str) -> str:
        """Returns the problem. Raises BlockingIOError."""
        try:
            make_folder(os.path.dirname(path))
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            self._lock = os.open(to_system(path), flags, 0o644)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise
        except OSError as error:
            return f"cannot write {path}: {error.strerror or os.strerror(error.errno or errno.EIO)}"
        return ""

    def written(self, report: Written) -> bool:
        """Take a report of the file writer. Whether it is about this controller."""
        for memory in self.channels:
            if memory.path == report.path:
                memory.written(report)
                return True
        return False

    @property
    def saved(self) -> bool:
        """Whether nothing waits to be written."""
        return all(memory.saved for memory in self.channels)

    def close(self) -> None:
        """Let other drivers use it."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def _key(controller: str) -> str:
    """A file name for a controller's name; different for different names."""
    safe = re.sub(r"[^A-Za-z0-9.-]+", "_", controller).strip("_.")[-MAX_KEY:]
    suffix = "" if safe == controller else f"_{zlib.crc32(controller.encode()):08x}"
    return f"multifocus_{safe}{suffix}"
