# SPDX-License-Identifier: GPL-3.0-or-later
"""A test stand: one driver under its own indiserver, its device at the end of a stamped line, and a client.

    client ── indiserver ── driver ── wire ── device        each of them a process

Our driver has the wire as a terminal. indi_moonlite_focus has it as a TCP port: it flushes the line before each
command, and on a pseudo-terminal that throws away the command before, which the other end had no time to read.

Used by the measurements, in the bench's one thread. Times are monotonic seconds, which all processes share.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from client import Received
from configuration import configured
from ports import free_port, listens
from waiting import eventually

from focus_cli import indiserver

from .client import MOONLITE, Client
from .processes import Helper, child, end, environment, start

Bytes = tuple[float, str, str]
"""What went over the wire: when, who sent it ("host" or "device"), text."""

POSITION = "ABS_FOCUS_POSITION"
ABORT = "FOCUS_ABORT_MOTION"


@dataclass(frozen=True)
class Driver:
    """What to start, how its focuser is called, and how the commands look that start and stop the motor."""

    name: str
    executable: str
    device: str
    move: tuple[str, ...]
    stop: str


def our_executable() -> str:
    """What DRIVER in the environment names: one that was installed, or another state of it; else the console script
    beside this Python.
    """
    return os.environ.get("DRIVER") or str(Path(sys.executable).with_name("indi_multifocus"))


OURS = Driver("indi_multifocus", our_executable(), "MultiFocus 1", ("1+", "1-"), "1S")
THEIRS = Driver("indi_moonlite_focus", "indi_moonlite_focus", MOONLITE, (":FG",), ":FQ")


def check() -> str:
    """What is missing for a run, for people; nothing where all is there."""
    for name in ("indiserver", THEIRS.executable, OURS.executable):
        if shutil.which(name) is None:
            return f"{name} is not there"
    return ""


class Stand:
    """A context manager; when it is entered, the focuser is connected and at rest."""

    def __init__(
        self,
        driver: Driver,
        *,
        baud: int = 0,
        channels: int = 2,
        clients: int = 0,
        polling_ms: int | None = None,
        connect: bool = True,
    ) -> None:
        """`baud`: pace the line, 0 not at all. `clients`: how many more listen. `polling_ms`: None leaves the
        driver's own."""
        self.driver = driver
        self._baud = baud
        self._channels = channels
        self._clients = clients
        self._polling_ms = polling_ms
        self._connect = connect
        self._stack = ExitStack()

    def __enter__(self) -> Stand:
        with ExitStack() as stack:
            self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
            self._log = self.folder / "log"
            try:
                self._start(stack)
            except BaseException:
                self._show_log()
                raise
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._show_log()
        self._stack.close()

    def _show_log(self) -> None:
        if self._log.exists():
            print(f"--- log of {self.driver.name}:\n{self._log.read_text()[-3000:]}", file=sys.stderr)

    def _start(self, stack: ExitStack) -> None:
        env = environment(self.folder)
        arguments = ["moonlite"] if self.driver is THEIRS else ["multifocus", str(self._channels)]
        self._device = Helper("tools.bench.device", *arguments, env=env)
        stack.callback(self._device.close)
        kind = "tcp" if self.driver is THEIRS else "pty"
        self._wire = Helper("tools.bench.wire", str(self._device.ready), str(self._baud), kind, env=env)
        stack.callback(self._wire.close)
        self.port = free_port()
        self.fifo = self.folder / "fifo"
        os.mkfifo(self.fifo)
        if self._channels != 2:
            path = self.folder / "multifocus.json"
            env.update(configured(path, str(self._wire.ready), channels=self._channels, moving_loop_delay=0.1))
        command = indiserver.command(self.port, str(self.folder / "socket"), "-f", str(self.fifo))
        if self._connect:
            command.append(self.driver.executable)
        self.server = start(command, env, log=self._log)
        stack.callback(end, self.server)
        self.client = connect(self.port)
        stack.callback(self.client.close)
        self.client.get_properties()
        if self._connect:
            self._connect_focuser()
        if self._clients:
            crowd = Helper("tools.bench.crowd", str(self.port), str(self._clients), self.driver.device, env=env)
            stack.callback(crowd.close)
        self.client.forget()

    def _connect_focuser(self) -> None:
        for channel in range(1, 1 + (1 if self.driver is THEIRS else self._channels)):
            device = self.channel(channel)
            if channel == 1:
                self._set_port(device)
            self.client.set(device, "CONNECTION", CONNECT="On", DISCONNECT="Off")
            self.client.next(
                lambda vector, device=device: (vector.device, vector.name) == (device, POSITION),  # type: ignore[misc]
                f"{device} to be connected",
            )
        if self._polling_ms is not None:
            self.client.set(self.driver.device, "POLLING_PERIOD", PERIOD_MS=self._polling_ms)
            self.client.next(lambda vector: vector.name == "POLLING_PERIOD", "the answer to POLLING_PERIOD")
        self.pid = child(self.server.pid)
        time.sleep(0.5)  # what drivers still send after the first position

    def _set_port(self, device: str) -> None:
        self._defined(device, "CONNECTION_MODE" if self.driver is THEIRS else "DEVICE_PORT")
        if self.driver is THEIRS:
            self.client.set(device, "CONNECTION_MODE", CONNECTION_TCP="On")
            self._defined(device, "DEVICE_ADDRESS")  # there in this mode alone
            self.client.set(device, "DEVICE_ADDRESS", ADDRESS="127.0.0.1", PORT=str(self._wire.ready))
        else:
            self.client.set(device, "DEVICE_PORT", PORT=self._wire.ready)

    def _defined(self, device: str, name: str) -> None:
        self.client.next(lambda vector: (vector.device, vector.name) == (device, name), f"{device}.{name}")

    def channel(self, number: int) -> str:
        """The device's name."""
        return self.driver.device if number == 1 else f"MultiFocus {number}"

    # Moving

    def position(self) -> int:
        """Where the focuser is, as its clients know it."""
        self.client.get_properties()
        return round(self.client.next(lambda vector: self._is(vector, POSITION), f"a {POSITION}").number())

    def go(self, position: int, channel: int = 1) -> float:
        """Ask for a move; returns when that was."""
        return self.client.set(self.channel(channel), POSITION, FOCUS_ABSOLUTE_POSITION=position)

    def abort(self) -> float:
        """Ask for an abort; returns when that was."""
        return self.client.set(self.driver.device, ABORT, ABORT="On")

    def shown(self, name: str, state: str = "", value: float | None = None, within_s: float = 20.0) -> Received:
        """Wait until the client knows that the first channel's property `name` has this state (and value)."""
        return self.client.next(
            lambda vector: (
                self._is(vector, name) and state in ("", vector.state) and (value is None or vector.number() == value)
            ),
            f"{self.driver.device}.{name} to be {state}" + ("" if value is None else f" at {value}"),
            within_s,
        )

    def _is(self, vector: Received, name: str) -> bool:
        return vector.device == self.driver.device and vector.name == name

    # The wire

    def traffic(self) -> list[Bytes]:
        """What went over the wire since the last call."""
        return [(at_s, who, text) for at_s, who, text in self._wire.ask("take")]

    def on_wire(self, commands: tuple[str, ...], since_s: float) -> tuple[float, list[Bytes]]:
        """When the host first wrote one of `commands` after `since_s`, and all traffic since the last call.

        Raises TimeoutError.
        """
        seen: list[Bytes] = []
        end_s = time.monotonic() + 5.0
        while time.monotonic() < end_s:
            seen += self.traffic()
            for at_s, who, text in seen:
                if who == "host" and at_s >= since_s and any(command in text for command in commands):
                    return at_s, seen
            time.sleep(0.002)
        raise TimeoutError(f"waited 5 s in vain for {commands} on the wire of {self.driver.name}: {seen[-5:]}")

    def standstill(self) -> float:
        """When the first channel's motor came to rest."""
        for _ in range(2000):
            found = self._device.ask("?")
            if found is not None:
                return float(found)
            time.sleep(0.002)
        raise TimeoutError(f"waited in vain for the motor of {self.driver.name} to come to rest")

    def order(self, command: str) -> None:
        """Give indiserver an order: to start or stop a driver."""
        end_s = time.monotonic() + 10.0
        while True:
            try:
                fifo = os.open(self.fifo, os.O_WRONLY | os.O_NONBLOCK)
                break
            except OSError as error:  # ENXIO: it does not read just now
                if time.monotonic() > end_s:
                    raise TimeoutError(f"waited 10 s in vain for indiserver to read {self.fifo}") from error
                time.sleep(0.001)
        os.write(fifo, f"{command}\n".encode())
        os.close(fifo)


def connect(port: int) -> Client:
    """A client of the server on `port`, once that listens."""
    eventually(lambda: listens(port), f"indiserver to listen on port {port}", pause_s=0.01)
    return Client.of_server(port)
