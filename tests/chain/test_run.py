# SPDX-License-Identifier: GPL-3.0-or-later
"""`make run`'s launcher, with the real indiserver, driver and simulated controller."""

from __future__ import annotations

import contextlib
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ports import free_port
from waiting import is_running

PROJECT = Path(__file__).resolve().parents[2]
DEADLINE_S = 30.0


def children(pid: int) -> dict[int, str]:
    """The processes below `pid`, at any depth, with their command lines."""
    found: dict[int, str] = {}
    with contextlib.suppress(OSError):
        for path in Path(f"/proc/{pid}/task").glob("*/children"):  # focusd starts indiserver in a thread
            for child in map(int, path.read_text().split()):
                found[child] = Path(f"/proc/{child}/cmdline").read_text().replace("\0", " ")
                found.update(children(child))
    return found


def gone(pids: Iterator[int] | list[int]) -> bool:
    """Whether all these processes end before the deadline."""
    left = list(pids)
    end = time.monotonic() + DEADLINE_S
    while left and time.monotonic() < end:
        left = [pid for pid in left if is_running(pid)]
        time.sleep(0.02)
    return not left


class Launcher:
    """A running launcher, and its output."""

    def __init__(self, folder: Path, port: int, **environment: str) -> None:
        self.folder = folder
        self.port = port
        clean = {
            key: value
            for key, value in os.environ.items()
            if key not in ("PORT", "GENERATION", "CHANNELS", "SPEED", "INDI_PORT", "FOCUSD_PORT", "MAKELEVEL")
        }
        self.process = subprocess.Popen(
            [sys.executable, str(PROJECT / "tools" / "run.py")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={
                **clean,
                "INDI_PORT": str(port),
                "FOCUSD_PORT": str(free_port()),
                "TMPDIR": str(folder),
                **environment,
            },
        )
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self.output = ""
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def wait_for(self, pattern: str) -> re.Match[str]:
        """What it prints that matches `pattern`, now or before the deadline."""
        end = time.monotonic() + DEADLINE_S
        while not (found := re.search(pattern, self.output)):
            line = self._lines.get(timeout=max(0.01, end - time.monotonic()))
            assert line is not None, f"it ended without printing {pattern!r}, but:\n{self.output}"
            self.output += line
        return found

    def ended(self) -> int:
        """Its exit status, when it has ended."""
        status = self.process.wait(DEADLINE_S)
        while (line := self._lines.get(timeout=DEADLINE_S)) is not None:
            self.output += line
        return status

    def child(self, name: str) -> int:
        """The process below it whose command line holds `name`."""
        (pid,) = (pid for pid, command in children(self.process.pid).items() if name in command)
        return pid


@pytest.fixture
def indi_port() -> int:
    return free_port()


@contextlib.contextmanager
def launched(port: int, **environment: str) -> Iterator[Launcher]:
    # Not in pytest's own folder: the path of a local socket must be short.
    with tempfile.TemporaryDirectory(prefix="run-") as folder:
        launcher = Launcher(Path(folder), port, **environment)
        started: dict[int, str] = {}
        try:
            yield launcher
        finally:
            started = children(launcher.process.pid)
            launcher.process.terminate()
            try:
                launcher.process.wait(DEADLINE_S)
            except subprocess.TimeoutExpired:
                for pid in [*started, launcher.process.pid]:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)


def indi(port: int, tool: str, what: str) -> str:
    command = [tool, "-p", str(port), "-t", "5", what]
    return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False).stdout


def test_it_serves_a_simulated_controller_and_says_what_to_try(indi_port: int) -> None:
    with launched(indi_port, CHANNELS="3", GENERATION="1", SPEED="50") as launcher:
        launcher.wait_for(rf"simulated controller \(generation 1, 3 channels\) by INDI on port {indi_port}")
        launcher.wait_for(r"Focusers: MultiFocus 1, MultiFocus 2, MultiFocus 3\n")
        commands = [launcher.wait_for(rf'{tool} -p {indi_port} "(.*)"')[1] for tool in ("indi_setprop", "indi_getprop")]
        assert commands == ["MultiFocus 1.CONNECTION.CONNECT=On", "*.ABS_FOCUS_POSITION.*"]
        indi(indi_port, "indi_setprop", commands[0])
        position = "MultiFocus 1.ABS_FOCUS_POSITION.FOCUS_ABSOLUTE_POSITION"
        assert indi(indi_port, "indi_getprop", position) == f"{position}=0\n"


def test_focus_reaches_the_same_focusers_as_indi_clients(indi_port: int) -> None:
    with launched(indi_port, SPEED="50") as launcher:
        configuration = launcher.wait_for(r"FOCUSD_CONFIG_PATH=(\S+) \./focus set 1 1000")[1]
        environment = {**os.environ, "FOCUSD_CONFIG_PATH": configuration}
        for arguments in (["init"], ["set", "1", "1000"]):
            command = [sys.executable, str(PROJECT / "focus"), *arguments]
            assert subprocess.run(command, env=environment, timeout=DEADLINE_S).returncode == 0
        position = "MultiFocus 1.ABS_FOCUS_POSITION.FOCUS_ABSOLUTE_POSITION"
        assert indi(indi_port, "indi_getprop", position) == f"{position}=1000\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_it_ends_in_order_when_told_and_leaves_nothing_behind(indi_port: int, number: signal.Signals) -> None:
    with launched(indi_port) as launcher:
        launcher.wait_for("Focusers: ")
        below = children(launcher.process.pid)
        assert len(below) == 3  # focusd, indiserver, driver
        launcher.process.send_signal(number)
        assert launcher.ended() == 0
        assert not any(map(is_running, below))
        assert list(launcher.folder.iterdir()) == []


def test_its_processes_end_also_when_it_is_killed(indi_port: int) -> None:
    with launched(indi_port) as launcher:
        launcher.wait_for("Focusers: ")
        below = children(launcher.process.pid)
        launcher.process.kill()
        launcher.ended()
        assert gone(list(below))


def test_it_ends_with_the_make_that_started_it(indi_port: int) -> None:
    with tempfile.TemporaryDirectory(prefix="run-") as folder:
        log = Path(folder) / "log"
        ports = {"INDI_PORT": str(indi_port), "FOCUSD_PORT": str(free_port())}
        environment = {**os.environ, **ports, "TMPDIR": folder, "MAKELEVEL": "1"}
        program = "import subprocess, sys; subprocess.run(sys.argv[1:])"  # as make does
        command = [sys.executable, "-c", program, sys.executable, str(PROJECT / "tools" / "run.py")]
        with log.open("wb") as output:
            make = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
        try:
            end = time.monotonic() + DEADLINE_S
            while "Focusers: " not in log.read_text():
                assert time.monotonic() < end, log.read_text()
                time.sleep(0.02)
            below = children(make.pid)
            assert len(below) == 4
        finally:
            make.kill()
            make.wait(DEADLINE_S)
        assert gone(list(below))


@pytest.mark.parametrize(
    ("process", "named"),
    [("focusd /", "focusd"), ("indiserver -p", "indiserver"), ("-m indi_multifocus", "the driver indi_multifocus")],
)
def test_when_a_process_dies_it_says_which_and_ends_the_others(indi_port: int, process: str, named: str) -> None:
    with launched(indi_port) as launcher:
        launcher.wait_for("Focusers: ")
        below = children(launcher.process.pid)
        os.kill(launcher.child(process), signal.SIGKILL)
        assert launcher.ended() == 1
        assert re.search(rf"^make run: {named} ended \(", launcher.output, re.MULTILINE), launcher.output
        assert not any(map(is_running, below))


@pytest.mark.parametrize("process", ["-m indi_multifocus", "focusd /"])
def test_a_process_that_hangs_is_ended_too(indi_port: int, process: str) -> None:
    with launched(indi_port) as launcher:
        launcher.wait_for("Focusers: ")
        below = children(launcher.process.pid)
        os.kill(launcher.child(process), signal.SIGSTOP)
        launcher.process.send_signal(signal.SIGINT)
        assert launcher.ended() == 0
        assert not any(map(is_running, below))


def test_a_port_that_is_taken_is_said_before_anything_starts() -> None:
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        port = other.getsockname()[1]
        with launched(port) as launcher:
            assert launcher.ended() == 1
            assert launcher.output == (
                f"make run: port {port} cannot be had (Address already in use): does another INDI server run? "
                f"End it, or take another port: INDI_PORT={port + 1} make run\n"
            )
        with launched(free_port(), FOCUSD_PORT=str(port)) as launcher:
            assert launcher.ended() == 1
            assert f"port {port} cannot be had (Address already in use): does another focusd" in launcher.output


@pytest.mark.parametrize(
    ("environment", "complaint"),
    [
        ({"GENERATION": "3"}, "GENERATION=3: a whole number from 1 to 2 is expected"),
        ({"CHANNELS": "0"}, "CHANNELS=0: a whole number from 1 to 9 is expected"),
        ({"CHANNELS": "two"}, "CHANNELS=two: a whole number from 1 to 9 is expected"),
        ({"SPEED": "fast"}, "SPEED=fast: a number above 0 is expected"),
        ({"INDI_PORT": "70000"}, "INDI_PORT=70000: a whole number from 1 to 65535 is expected"),
        ({"PORT": "/dev/null", "SPEED": "2"}, "SPEED is for the simulated controller: leave it out when PORT is given"),
        ({"PORT": "/nowhere/ttyACM9"}, "PORT=/nowhere/ttyACM9: there is no such port; there "),
    ],
)
def test_a_setting_that_cannot_be_is_said(indi_port: int, environment: dict[str, str], complaint: str) -> None:
    with launched(indi_port, **environment) as launcher:
        assert launcher.ended() == 1
        assert launcher.output.startswith(f"make run: {complaint}")


def test_it_serves_a_real_port_with_the_settings_of_its_user(indi_port: int, tmp_path: Path) -> None:
    port = tmp_path / "ttyACM0"
    command = [sys.executable, "-m", "indi_multifocus.simulator", "--link", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=PROJECT) as simulator:
        try:
            assert simulator.stdout is not None
            assert simulator.stdout.readline()
            with launched(indi_port, PORT=str(port), HOME=str(tmp_path)) as launcher:
                launcher.wait_for(f"Serving the controller on {port} by INDI")
                shown = indi(indi_port, "indi_getprop", "MultiFocus 2.DEVICE_PORT.PORT")
                assert shown == f"MultiFocus 2.DEVICE_PORT.PORT={port}\n"
                assert len(children(launcher.process.pid)) == 3
        finally:
            simulator.terminate()
