# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of the driver share: the driver in three settings, each with a client of client.py, and more.

- `DriverInside` is the driver in this process, on pipes; `DriverProcess` a process of its own, on pipes;
  `IndiServer` the real indiserver that starts the driver, on a free port.

All are context managers, and whatever they started has ended when they are left, also when the test failed.
"""

from __future__ import annotations

import ast
import contextlib
import fcntl
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import termios
import threading
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import serial
from client import FocuserClient, IndiClient, Property, Received
from ports import free_port, listens
from waiting import DEADLINE_S, children, eventually, is_running

from focus_cli import indiserver
from indi_multifocus.driver import Driver
from indi_multifocus.settings.driver_settings import Settings
from indi_multifocus.simulator import Simulator

ROOT = Path(__file__).resolve().parents[2]

THROWAWAY = f'"{sys.executable}" "{Path(__file__).resolve().with_name("throwaway_driver.py")}"'
"""The command of a tiny driver with a property of every kind."""


def libindi() -> tuple[int, ...]:
    """The version of the libindi that is installed; (0,) where there is none."""
    if shutil.which("indiserver") is None:
        return (0,)
    found = re.search(r"INDI Library: ([0-9.]+)", indiserver.usage())
    assert found is not None, indiserver.usage()
    return tuple(int(part) for part in found[1].split("."))


class DriverInside:
    """The driver in this process, with its standard input and output on pipes; entering it gives a client of it."""

    def __init__(self, settings: Settings | None = None, client: type[FocuserClient] = FocuserClient) -> None:
        """`client`: its class."""
        self._settings = settings or Settings()
        self._client = client

    def __enter__(self) -> FocuserClient:
        to_driver, self._stdin = os.pipe()
        self._stdout, from_driver = os.pipe()
        self._theirs = (to_driver, from_driver)
        self.driver = Driver(self._settings, stdin=to_driver, stdout=from_driver)
        self._thread = threading.Thread(target=self.driver.run, name="driver")
        self._thread.start()
        client = self._client(self._stdout, self._stdin)
        try:
            client.get_properties()
            client.settle(self.driver.focusers[-1].device.name)
        except BaseException:
            self.__exit__()
            raise
        return client

    def __exit__(self, *_: object) -> None:
        os.close(self._stdin)
        os.close(self._stdout)
        self._thread.join(DEADLINE_S)
        ended = not self._thread.is_alive()
        for fd in self._theirs:
            os.close(fd)
        assert ended, "the driver did not end with its standard input"


def state_file(home: Path, channel: int) -> Path:
    """The file in which a driver remembers the position of a channel, of the only controller that it used."""
    (found,) = (home / ".indi").glob(f"multifocus_*_{channel}_state.json")
    return found


def environment(home: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """An environment for a driver: a home of its own, and nothing of INDI's that the user may have set."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("INDI")}
    path = os.pathsep.join(filter(None, [str(ROOT), kept.get("PYTHONPATH")]))
    return {**kept, "HOME": str(home), "PYTHONPATH": path, **(extra or {})}


def run_driver(
    home: Path, extra: Mapping[str, str] | None = None, *, arguments: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """The driver without any input, to its end."""
    return subprocess.run(
        [sys.executable, "-m", "indi_multifocus", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=environment(home, extra),
        cwd=ROOT,
        timeout=DEADLINE_S,
    )


class DriverProcess:
    """The driver as a process of its own, on pipes or on a socket, without a server."""

    def __init__(
        self,
        home: Path,
        extra: Mapping[str, str] | None = None,
        *,
        stderr: int | None = None,
        ends: tuple[socket.socket, socket.socket] | None = None,
    ) -> None:
        """`stderr`: where its log goes, instead of `errors`. `ends`: of a connection, ours and the driver's, in place
        of two pipes; the driver's is closed here."""
        self._errors = home / "driver.stderr"
        with open(self._errors, "wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "indi_multifocus"],
                stdin=subprocess.PIPE if ends is None else ends[1].fileno(),
                stdout=subprocess.PIPE if ends is None else ends[1].fileno(),
                stderr=errors if stderr is None else stderr,
                env=environment(home, extra),
                cwd=ROOT,
            )
        if ends is not None:
            ends[1].close()
            self.client = FocuserClient(ends[0].fileno(), ends[0].fileno())
        else:
            assert self.process.stdin is not None
            assert self.process.stdout is not None
            self.client = FocuserClient(self.process.stdout.fileno(), self.process.stdin.fileno())
        self.may_fail = False
        """A traceback is expected."""

    @property
    def stdin(self) -> IO[bytes]:
        """Its standard input, where that is a pipe."""
        assert self.process.stdin is not None
        return self.process.stdin

    def __enter__(self) -> DriverProcess:
        self.client.get_properties()
        self.client.wait(lambda: self.client.devices, "the driver to define its devices")
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        for stream in filter(None, (self.process.stdin, self.process.stdout)):
            stream.close()
        if kind is None and not self.may_fail:
            assert "Traceback" not in self.errors

    @property
    def errors(self) -> str:
        """What it wrote to standard error."""
        return self._errors.read_text()

    def wait(self) -> int:
        """Its exit status, when it has ended."""
        return self.process.wait(DEADLINE_S)


class IndiServer:
    """The real indiserver on a free port, which starts the driver."""

    def __init__(
        self,
        home: Path,
        extra: Mapping[str, str] | None = None,
        *,
        restarts: int = 0,
        beside: tuple[str, ...] = (),
        fifo: bool = False,
        program: str = f'"{sys.executable}" -m indi_multifocus',
    ) -> None:
        """`restarts`: how often it starts a driver again that has ended. `beside`: other drivers to start. `fifo`: no
        driver is started but by `command`, through a FIFO, as KStars and INDI Web Manager do. `program`: the driver, as
        a shell command."""
        self.may_fail = False
        """A traceback is expected."""
        self._restarts = restarts
        self._beside = beside
        self._home = home
        self._environment = environment(home, extra)
        self._clients: list[FocuserClient] = []
        self._log = home / "indiserver.log"
        self._pid_file = home / "driver.pid"
        self._fifo = home / "fifo" if fifo else None
        self._driver = home / "indi_multifocus"
        # indiserver takes the name of a program without arguments. The shell becomes the driver, so this is its pid.
        self._driver.write_text(f'#!/bin/sh\necho $$ > "{self._pid_file}"\nexec {program}\n')
        self._driver.chmod(0o755)
        # By its name: indiserver 1.8 cuts longer ones than 63 characters.
        self._environment["PATH"] = f"{home}:{self._environment['PATH']}"

    def __enter__(self) -> IndiServer:
        # Between the look for a free port and its use another program may take it: then it is tried again.
        for _ in range(5):
            if self._start():
                return self
        raise AssertionError(f"indiserver does not start: {self.log}")

    def _start(self) -> bool:
        self.port = free_port()
        with open(self._log, "wb") as log:
            command = indiserver.command(self.port, f"/tmp/{uuid.uuid4()}", "-r", str(self._restarts))
            drivers = [self._driver.name, *self._beside]
            if self._fifo is not None:
                if not self._fifo.exists():
                    os.mkfifo(self._fifo)
                drivers = ["-f", str(self._fifo)]
            self.process = subprocess.Popen(
                [*command, *drivers],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
                cwd=ROOT,
                start_new_session=True,
            )
        try:
            eventually(lambda: self.process.poll() is not None or listens(self.port), "indiserver to listen")
        except BaseException:
            self._kill()
            raise
        if self.process.poll() is not None:
            self._kill()
            return False
        return True

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for client in self._clients:
            client.close()
        self.process.terminate()
        try:
            # The driver writes its coverage when it ends by itself.
            eventually(self._has_ended, "indiserver and the driver to end")
        finally:
            self._kill()
        if kind is None and not self.may_fail:
            assert "Traceback" not in self.log, self.log

    def _has_ended(self) -> bool:
        if self.process.poll() is None:
            return False
        # Whoever inherits an orphan may be slow to bury it, so a dead one is not waited for.
        started = self._pid_file.exists() and self._pid_file.read_text().strip()
        return not started or not is_running(int(started))

    def _kill(self) -> None:
        """End what is left: the server was made the leader of a group of its own, in which the driver is too."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()

    @property
    def log(self) -> str:
        """What server and driver wrote to standard error."""
        return self._log.read_text(errors="replace")

    def command(self, command: str, label: str = "") -> None:
        """Write a line into the FIFO: start or stop the driver, under a label or without one."""
        assert self._fifo is not None
        name = f' -n "{label}"' if label else ""
        self._fifo.write_text(f"{command} {self._driver.name}{name}\n")

    def drivers(self) -> list[int]:
        """Process numbers of the drivers, in the order in which they were started."""
        return sorted(pid for pid in children(self.process.pid) if is_running(pid))

    def driver_pid(self) -> int:
        """Process number of the driver."""
        return int(eventually(lambda: self._pid_file.exists() and self._pid_file.read_text().strip(), "the driver"))

    def client(self) -> FocuserClient:
        """One more client, which knows what the driver's devices are when this returns."""
        client = FocuserClient.of_server(self.port)
        self._clients.append(client)
        client.get_properties()
        client.wait(lambda: client.devices, "the driver to define its devices")
        return client

    def hang_up(self, client: FocuserClient) -> None:
        """Close the connection of a client."""
        self._clients.remove(client)
        client.close()

    def run(self, tool: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one of INDI's command line tools on this server."""
        return subprocess.run(
            [tool, "-p", str(self.port), *arguments],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
        )


def unread_bytes(fd: int) -> int:
    """How many bytes are in a pipe or socket and not read yet."""
    return int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, bytes(4)), sys.byteorder)


class Bridge:
    """A serial-to-network bridge: passes bytes between whoever calls its TCP port and a serial port."""

    def __init__(self, port: str, number: int = 0) -> None:
        """`number`: of the TCP port; 0 is any that is free."""
        self._port_name = port
        self.number = number
        self._connection: socket.socket | None = None
        self._ending = False
        self._thread = threading.Thread(target=self._run, name="bridge")

    def __enter__(self) -> Bridge:
        self._port = serial.Serial(self._port_name, timeout=0)
        self._listening = socket.create_server(("127.0.0.1", self.number))
        self.number = self._listening.getsockname()[1]
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending = True
        self._thread.join(DEADLINE_S)
        self._listening.close()
        self._port.close()

    def _run(self) -> None:
        while not self._ending:
            if not select.select([self._listening], [], [], 0.01)[0]:
                continue
            self._connection, _ = self._listening.accept()
            with self._connection, contextlib.suppress(OSError):
                self._serve(self._connection)

    def _serve(self, connection: socket.socket) -> None:
        while not self._ending:
            ready = select.select([connection.fileno(), self._port.fileno()], [], [], 0.01)[0]
            if connection.fileno() in ready:
                data = connection.recv(4096)
                if not data:
                    return
                self._port.write(data)
            if self._port.fileno() in ready:
                connection.sendall(self._port.read(self._port.in_waiting))

    def hang_up(self) -> None:
        """End the connection of whoever has called."""
        assert self._connection is not None
        self._connection.shutdown(socket.SHUT_RDWR)


_SIMULATOR = """
import sys
from indi_multifocus.simulator import Simulator

with Simulator(speed=float(sys.argv[1])) as simulator:
    print(repr(simulator.port), flush=True)
    for line in sys.stdin:
        print(repr(simulator.position(int(line)) if line.strip() else simulator.received), flush=True)
"""


class SimulatorProcess:
    """A simulated controller that answers in time also where the test itself has much to do: in a process of its own.
    A context manager."""

    def __init__(self, speed: float = 1.0) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SIMULATOR, str(speed)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.port: str = self._read()

    def __enter__(self) -> SimulatorProcess:
        return self

    def __exit__(self, *_: object) -> None:
        with self._process:  # it ends with its standard input
            pass

    def position(self, channel: int) -> int:
        """As of a `Simulator`."""
        return int(self._ask(str(channel)))

    @property
    def received(self) -> list[tuple[float, bytes]]:
        """As of a `Simulator`."""
        return list(self._ask(""))

    def _ask(self, line: str) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the simulated controller ended"
        return ast.literal_eval(line)


class Lines:
    """The lines that a simulated controller received since this was made."""

    def __init__(self, simulator: Simulator | SimulatorProcess) -> None:
        self._simulator = simulator
        self._since = len(simulator.received)

    def __call__(self) -> list[bytes]:
        """All of them, in their order."""
        return [line for _, line in self._simulator.received[self._since :]]

    def orders(self) -> list[bytes]:
        """Those that are no questions."""
        return [line for line in self() if line[:1] not in (b"?", b"#", b"@", b"")]

    def polls(self) -> int:
        """How many are questions for the status."""
        return self().count(b"?")


__all__ = [
    "DEADLINE_S",
    "ROOT",
    "THROWAWAY",
    "Bridge",
    "DriverInside",
    "DriverProcess",
    "FocuserClient",
    "IndiClient",
    "IndiServer",
    "Lines",
    "Property",
    "Received",
    "SimulatorProcess",
    "environment",
    "eventually",
    "is_running",
    "run_driver",
    "state_file",
    "unread_bytes",
]
