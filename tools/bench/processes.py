# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes that the bench starts: their environment, their end, and what the kernel counts of them.

Used by the rest of the bench, in its one thread. Whatever is started here ends with the bench, also when that is
killed.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from waiting import eventually

PROJECT = Path(__file__).resolve().parents[2]

ANSWER_S = 20.0
"""A process of the bench that has printed nothing for so long is stuck."""

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


def environment(home: Path) -> dict[str, str]:
    """A user's environment with a home of its own: nothing that changes how Python or INDI behave."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "INDI", "COVERAGE"))}
    return {**kept, "HOME": str(home)}


def _end_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def start(command: Sequence[str], env: dict[str, str], *, log: Path | None = None) -> subprocess.Popen[bytes]:
    """Start `command` in the project's folder with pipes as stdin and stdout; stderr goes to `log`, else to ours."""
    stderr = None if log is None else log.open("ab")
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=env,
            cwd=PROJECT,
            preexec_fn=_end_with_parent,  # noqa: PLW1509 - there are no threads here
        )
    finally:
        if stderr is not None:
            stderr.close()


def end(process: subprocess.Popen[bytes]) -> None:
    """End it, and wait until it is gone, and what it had started: indiserver does not wait for its driver."""
    started = [Path("/proc", child) for child in _children(process.pid)]
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    eventually(lambda: not any(path.exists() for path in started), "what it had started to end", pause_s=0.01)
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            try:
                pipe.close()
            except OSError:
                pass


class Helper:
    """A Python module of the bench that runs as a process of its own, and answers a line with a line of JSON."""

    def __init__(self, module: str, *arguments: str, env: dict[str, str]) -> None:
        self._name = " ".join([module, *arguments])
        self._process = start([sys.executable, "-m", module, *arguments], env)
        self._rest = b""
        self.ready = self._read("to be ready")
        """What it printed when it was ready."""

    def ask(self, line: str) -> Any:
        """Send a line, return the answer. Raises TimeoutError, or RuntimeError where the process has ended."""
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()
        return self._read(f"to answer {line!r}")

    def _read(self, what: str) -> Any:
        assert self._process.stdout is not None
        fd, end_s = self._process.stdout.fileno(), time.monotonic() + ANSWER_S
        while b"\n" not in self._rest:
            if not select.select([fd], [], [], max(0.0, end_s - time.monotonic()))[0]:
                raise TimeoutError(f"waited {ANSWER_S:g} s in vain for {self._name} {what}")
            data = os.read(fd, 65536)
            if not data:
                raise RuntimeError(f"{self._name} ended")
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return json.loads(line)

    def close(self) -> None:
        end(self._process)


@dataclass(frozen=True)
class Usage:
    """What a process has used since it was started."""

    at_s: float
    cpu_s: float
    wakeups: int
    """How often one of its threads went to sleep and was woken (voluntary context switches)."""


def usage(pid: int) -> Usage:
    """What the kernel has counted for process `pid`, all threads together."""
    cpu_ns = wakeups = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        cpu_ns += int((task / "schedstat").read_text().split()[0])
        wakeups += int(_field(task / "status", "voluntary_ctxt_switches"))
    return Usage(time.monotonic(), cpu_ns / 1e9, wakeups)


def resident_mb(pid: int) -> float:
    """Resident memory (VmRSS), MB of 1,000,000 bytes."""
    return int(_field(Path(f"/proc/{pid}/status"), "VmRSS").split()[0]) * 1024 / 1e6


def _field(path: Path, name: str) -> str:
    for line in path.read_text().splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return value.strip()
    raise KeyError(name)


def _children(pid: int) -> list[str]:
    return [child for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()]


def child(pid: int) -> int:
    """The one child of a process, whichever of its threads has started it: indiserver's driver."""
    children = _children(pid)
    if len(children) != 1:
        raise RuntimeError(f"process {pid} has {len(children)} children, not one")
    return int(children[0])
