# SPDX-License-Identifier: GPL-3.0-or-later
"""Running what was installed, from where it was installed: for the tests in tests/packaging."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Callable, TypeVar

import pytest
from configuration import configure_focusd
from debian import Debian
from ports import free_port
from support import FocuserClient
from waiting import eventually

from indi_multifocus.simulator import Simulator

PROJECT = Path(__file__).resolve().parents[2]
PATIENCE_S = 45.0
PORT = "/tmp/focuser"
"""Of a simulated controller, for those who live in a Debian of their own."""
T = TypeVar("T")


def until(condition: Callable[[], T], what: str, within_s: float = PATIENCE_S) -> T:
    """`eventually`, with the patience that booting and installing needs."""
    return eventually(condition, what, within_s, pause_s=0.02)


def needs(*commands: str, root: bool = False) -> None:
    """Skip the test where something is missing."""
    for command in commands:
        if shutil.which(command, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None:
            pytest.skip(f"{command} is not installed")
    if root and os.geteuid() != 0:
        pytest.skip("needs root")


def run(command: Sequence[str | Path], **options: Any) -> subprocess.CompletedProcess[str]:
    """Run to the end; its status and output."""
    options.setdefault("timeout", 300)
    return subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, stdin=subprocess.DEVNULL, **options
    )


def make(*arguments: str) -> None:
    """`make …` in the project, which must succeed."""
    done = run(["make", *arguments], cwd=PROJECT)
    assert done.returncode == 0, done.stdout + done.stderr


def environment(home: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This one's without anything of INDI's or Python's, and with a home of its own."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("INDI", "PYTHON", "FOCUSD"))}
    return {**plain, "HOME": str(home), **(extra or {})}


class Processes:
    """Started processes, each leader of a group that is ended with the test."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self, command: Sequence[str | Path], **options: Any) -> subprocess.Popen[bytes]:
        """Its output goes to `log`."""
        with open(self._log_path, "ab") as log:
            process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **options,
            )
        self._started.append(process)
        return process

    @property
    def _log_path(self) -> Path:
        return self._folder / "processes.log"

    @property
    def log(self) -> str:
        return self._log_path.read_text(errors="replace") if self._log_path.exists() else ""

    def end(self, process: subprocess.Popen[bytes]) -> None:
        """Ask it to end, and see to it."""
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                pass
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()

    def close(self) -> None:
        for process in reversed(self._started):
            self.end(process)


class Site:
    """A folder with a configuration and a registry, as /etc/focusd, for one focusd on ports of its own."""

    def __init__(self, folder: Path, serial_port: str, **settings: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.home = folder
        self.indi_port = int(settings.setdefault("indi_port", free_port()))
        self.config = folder / "site.json"
        self.pyro_port = configure_focusd(self.config, serial_port, **{"moving_loop_delay": 0.1, **settings})


def packages(debian: Debian) -> set[str]:
    """What is installed there, each with its state."""
    return set(debian.must("dpkg-query", "-W", "-f", "${db:Status-Abbrev}${Package}\n").splitlines())


def drive(debian: Debian) -> None:
    """The driver that is installed there serves a controller to an INDI client, moves a focuser, and ends with it."""
    with Simulator(speed=20.0, link=debian.folder / PORT[1:]) as simulator:
        process = subprocess.Popen(
            debian.command("indi_multifocus"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert process.stdin is not None
        assert process.stdout is not None
        client = FocuserClient(process.stdout.fileno(), process.stdin.fileno())
        client.get_properties()
        client.wait(lambda: client.property("MultiFocus 2", "DEVICE_PORT"), "the channels")
        client.set_port(PORT)
        client.connect(2)
        client.move(2, 300)
        position = ("MultiFocus 2", "ABS_FOCUS_POSITION")
        client.wait(lambda: client.value(*position, "FOCUS_ABSOLUTE_POSITION") == "300", "the arrival")
        client.wait_state(*position, "Ok")
        assert simulator.position(2) == 300
        _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, b"")


def rpm(root: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """`rpm` on the system in the folder `root`. The scripts of packages are for a whole system, so none is run."""
    return run(["rpm", "--root", root, "--nodeps", "--noscripts", *arguments], env=environment(root))


class Machine:
    """A machine of its own, as far as network and processes go; what runs in it ends with it. Needs root."""

    def __init__(self) -> None:
        self._holder = subprocess.Popen(
            ["unshare", "--net", "--pid", "--mount", "--fork", "--kill-child", "--mount-proc", "sleep", "infinity"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            self.pid = until(self._init, "the namespaces")
            self.must("ip", "link", "set", "lo", "up")
        except BaseException:
            self.close()
            raise

    def _init(self) -> int:
        if self._holder.poll() is not None:
            pytest.skip("no namespaces can be made here")
        children = Path(f"/proc/{self._holder.pid}/task/{self._holder.pid}/children").read_text().split()
        # Until it has become `sleep`, it may not have mounted its own /proc.
        ready = children and Path(f"/proc/{children[0]}/comm").read_text() == "sleep\n"
        return int(children[0]) if ready else 0

    def command(self, *command: str | Path) -> list[str | Path]:
        """The command, to be run in there."""
        return ["nsenter", "-t", str(self.pid), "-n", "-p", "-m", *command]

    def run(self, *command: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
        return run(self.command(*command), **options)

    def must(self, *command: str | Path, **options: Any) -> str:
        """The same; it must succeed. What it printed."""
        done = self.run(*command, **options)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def connect(self, host: str, port: int) -> socket.socket:
        """A TCP connection from there."""
        made: list[socket.socket] = []

        def connect() -> None:
            # A thread may change the network it lives in, and a socket stays in the one it was made in: setns(2).
            with open(f"/proc/{self.pid}/ns/net", "rb") as network:
                if ctypes.CDLL(None, use_errno=True).setns(network.fileno(), 0x40000000) == 0:
                    with suppress(OSError):
                        made.append(socket.create_connection((host, port), timeout=2.0))

        thread = threading.Thread(target=connect)
        thread.start()
        thread.join()
        if not made:
            raise ConnectionError(f"{host}:{port} cannot be reached")
        made[0].settimeout(None)
        return made[0]

    def listens(self, port: int, host: str = "127.0.0.1") -> bool:
        """Whether somebody accepts connections there."""
        try:
            self.connect(host, port).close()
        except ConnectionError:
            return False
        return True

    def close(self) -> None:
        self._holder.kill()
        self._holder.wait()
