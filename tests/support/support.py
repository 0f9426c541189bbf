# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of the driver share: waiting, a small INDI client, and the driver in three settings.

- `IndiClient` speaks INDI over any pair of file descriptors, and keeps what devices say. It has no thread: it reads
  while it waits, always with a deadline, and fails on anything that is not INDI.
- `DriverInside` is the driver in this process, on pipes; `DriverProcess` a process of its own, on pipes;
  `IndiServer` the real indiserver that starts the driver, on a free port.

All are context managers, and whatever they started has ended when they are left, also when the test failed.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, TypeVar, Union
from xml.etree import ElementTree
from xml.sax.saxutils import escape, quoteattr

import serial
from ports import free_port
from stream import Stream
from waiting import DEADLINE_S, eventually, is_running

from focus_cli import indiserver
from indi_multifocus.driver import Driver
from indi_multifocus.settings.driver_settings import Settings
from indi_multifocus.simulator import Simulator

ROOT = Path(__file__).resolve().parents[2]
T = TypeVar("T")
Value = Union[float, str]


def libindi() -> tuple[int, ...]:
    """The version of the libindi that is installed; (0,) where there is none."""
    if shutil.which("indiserver") is None:
        return (0,)
    found = re.search(r"INDI Library: ([0-9.]+)", indiserver.usage())
    assert found is not None, indiserver.usage()
    return tuple(int(part) for part in found[1].split("."))


class Said(NamedTuple):
    """One message of a device: `kind` is def, set, del or message; values are texts, as they came."""

    kind: str
    device: str
    name: str
    state: str
    values: Mapping[str, str]
    message: str


@dataclass
class Property:
    """A property as a client knows it. `ranges` are (min, max, step) by element; lights have no `permission` and no
    `timeout`, which is as text."""

    kind: str
    label: str
    group: str
    permission: str
    rule: str
    timeout: str
    state: str
    values: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    formats: dict[str, str] = field(default_factory=dict)
    ranges: dict[str, tuple[float, float, float]] = field(default_factory=dict)

    def number(self, element: str) -> float:
        """The value of a number."""
        return float(self.values[element])

    @property
    def on(self) -> list[str]:
        """The switches that are on."""
        return [name for name, value in self.values.items() if value == "On"]


_MARK = "MARK_OF_A_TEST_"
_numbers = itertools.count(1)
"""Of the clients: behind a server each is also told what the others asked for."""
_KINDS = ("Number", "Switch", "Text", "Light")
_STATES = ("Idle", "Ok", "Busy", "Alert")


class IndiClient:
    """An INDI client that reads from one file descriptor and writes to another, or the same."""

    def __init__(self, read_fd: int, write_fd: int) -> None:
        self._read_fd, self._write_fd = read_fd, write_fd
        self._stream = Stream()
        self.devices: dict[str, dict[str, Property]] = {}
        self.said: list[Said] = []
        self._marks = self._marked = 0
        self._number = next(_numbers)
        self.behind_a_server = False
        """It is indiserver that speaks, which also tells each client what the others ask for."""
        self.excused: set[str] = set()
        """Devices of libindi's drivers, which also set what they have not defined."""
        self.ended = False
        """The other side has closed."""

    # Sending

    def send(self, text: str) -> None:
        """Send `text` as it is."""
        data = text.encode()
        while data:
            # Who writes without reading and who reads without writing would wait for each other.
            reading, writing, _ = select.select([] if self.ended else [self._read_fd], [self._write_fd], [], DEADLINE_S)
            assert reading or writing, "the other side neither reads nor writes"
            if reading:
                self._read(0)
            if writing:
                data = data[os.write(self._write_fd, data[: select.PIPE_BUF]) :]

    def get_properties(self, device: str = "", name: str = "") -> None:
        """Ask for the definitions of all devices, of one, or of one property."""
        of = (f" device={quoteattr(device)}" if device else "") + (f" name={quoteattr(name)}" if name else "")
        self.send(f'<getProperties version="1.7"{of}/>\n')

    def new(self, device: str, name: str, values: Mapping[str, Value], kind: str = "") -> None:
        """Ask for new values of a property, as indiserver passes it on. Give its kind where it is not known."""
        kind = kind or self.devices[device][name].kind
        elements = "".join(
            f"    <one{kind} name={quoteattr(element)}>\n{escape(str(value))}\n    </one{kind}>\n"
            for element, value in values.items()
        )
        head = f"<new{kind}Vector device={quoteattr(device)} name={quoteattr(name)}>"
        self.send(f"{head}\n{elements}</new{kind}Vector>\n")

    def ask(self, device: str, name: str, values: Mapping[str, Value], kind: str = "") -> Said:
        """`new`, and how that property is set next, when all that was sent before is dealt with."""
        self.settle(device)
        since = len(self.said)
        self.new(device, name, values, kind)
        return self.next_said(device, name, since)

    # Reading

    @property
    def read_fd(self) -> int:
        """What to select on, to know that there is something to read."""
        return self._read_fd

    def read(self) -> None:
        """Take what has come by now."""
        while self._read(0):
            pass

    def property(self, device: str, name: str) -> Property | None:
        """The property, if it is defined."""
        return self.devices.get(device, {}).get(name)

    def state(self, device: str, name: str) -> str:
        """State of the property; empty while it is not defined."""
        found = self.property(device, name)
        return found.state if found is not None else ""

    def value(self, device: str, name: str, element: str) -> str:
        """One value of the property; empty while it is not defined."""
        found = self.property(device, name)
        return found.values.get(element, "") if found is not None else ""

    def messages(self, since: int = 0, device: str = "") -> list[str]:
        """The texts for people that came, those that came with a property included."""
        return [said.message for said in self.said[since:] if said.message and device in ("", said.device)]

    def wait(self, condition: Callable[[], T], what: str, within_s: float = DEADLINE_S) -> T:
        """Read until `condition` is true, and return its value."""
        end = time.monotonic() + within_s
        while True:
            value = condition()
            if value:
                return value
            left = end - time.monotonic()
            assert left > 0, f"in vain waited for {what}; last of all came {self.said[-5:]}"
            assert not self.ended, f"the other side closed before {what}; last of all came {self.said[-5:]}"
            # The condition may be about something else than what comes in here.
            self._read(min(left, 0.01))

    def next_said(self, device: str, name: str, since: int) -> Said:
        """How the property was set first, after the first `since` things that were said."""

        def first() -> Said | None:
            return next((said for said in self.said[since:] if said[:3] == ("set", device, name)), None)

        found = self.wait(first, f"an answer about {device}.{name}")
        assert found is not None
        return found

    def wait_state(self, device: str, name: str, state: str) -> Property:
        """Read until the property has that state."""
        self.wait(lambda: self.state(device, name) == state, f"{device}.{name} to be {state}")
        return self.devices[device][name]

    def wait_message(self, text: str, since: int = 0, device: str = "") -> str:
        """Read until a message comes that contains `text`."""
        return self.wait(
            lambda: next((message for message in self.messages(since, device) if text in message), ""),
            f"a message of {text!r}",
        )

    def wait_end(self) -> None:
        """Read until the other side closes."""
        end = time.monotonic() + DEADLINE_S
        while not self.ended:
            assert time.monotonic() < end, "the other side does not close"
            self._read(0.01)

    def settle(self, device: str) -> None:
        """Read until the driver has dealt with all that was sent before."""
        self._marks += 1
        # It is refused by a message that names it, and that is kept from the others.
        mark = f"{_MARK}{self._number}_{self._marks}"
        self.new(device, mark, {mark: "On"}, "Switch")
        self.wait(lambda: self._marked == self._marks, "the driver to deal with what was sent")

    def _read(self, timeout_s: float) -> bool:
        if self.ended or not select.select([self._read_fd], [], [], timeout_s)[0]:
            return False
        try:
            data = os.read(self._read_fd, 65536)
        except ConnectionResetError:
            data = b""
        if not data:
            self.ended = True
            return False
        for element in self._stream.feed(data):
            self._take(element)
        return True

    def _take(self, element: ElementTree.Element) -> None:
        tag, attributes = element.tag, element.attrib
        device, name, state = (attributes.get(key, "") for key in ("device", "name", "state"))
        message = attributes.get("message", "")
        if self.behind_a_server and tag.startswith("new"):
            return
        # What the server itself sends where a driver has ended has none.
        by_server = self.behind_a_server and tag == "delProperty" and not name
        assert by_server or "timestamp" in attributes, f"{tag} of {device}.{name} has no timestamp"
        if tag == "message":
            mark = re.search(_MARK + r"(\d+)_(\d+)", message)
            if mark is not None:
                if int(mark[1]) == self._number:
                    self._marked = int(mark[2])
                return
            self.said.append(Said("message", device, "", "", {}, message))
            return
        if tag == "delProperty":
            if name:
                self.devices.get(device, {}).pop(name, None)
            else:
                self.devices.pop(device, None)
            self.said.append(Said("del", device, name, "", {}, message))
            return
        what, kind = tag[:3], tag[3:].replace("Vector", "")
        assert what in ("def", "set"), f"{tag} is not INDI"
        assert kind in _KINDS, f"{tag} is not INDI"
        assert state in _STATES, f"{device}.{name}: {state!r} is no state"
        if what == "def":
            self._define(element, kind)
        found = self.devices.get(device, {}).get(name)
        if found is None and device in self.excused:
            return
        assert found is not None, f"{device}.{name} is set, but was not defined"
        found.state = state
        values = {child.attrib["name"]: (child.text or "").strip() for child in element}
        assert values.keys() <= found.values.keys(), f"{device}.{name} has no {values}"
        found.values.update(values)
        for child in element:
            if "min" in child.attrib:
                found.ranges[child.attrib["name"]] = _range(child)
        self.said.append(Said(what, device, name, state, values, message))

    def _define(self, element: ElementTree.Element, kind: str) -> None:
        attributes = element.attrib
        found = Property(
            kind,
            attributes["label"],
            attributes["group"],
            attributes.get("perm", ""),
            attributes.get("rule", ""),
            attributes.get("timeout", ""),
            attributes["state"],
        )
        for child in element:
            name = child.attrib["name"]
            found.values[name] = ""
            found.labels[name] = child.attrib["label"]
            if kind == "Number":
                found.formats[name] = child.attrib["format"]
                found.ranges[name] = _range(child)
        self.devices.setdefault(attributes["device"], {})[attributes["name"]] = found


def _range(element: ElementTree.Element) -> tuple[float, float, float]:
    return (float(element.attrib["min"]), float(element.attrib["max"]), float(element.attrib["step"]))


class FocuserClient(IndiClient):
    """An INDI client with the words of focusing. Channels are told by number, devices are named `prefix` and number."""

    prefix = "MultiFocus"

    def name(self, channel: int) -> str:
        """The device of a channel."""
        return f"{self.prefix} {channel}"

    def set_port(self, port: str, channel: int = 1) -> None:
        """Choose the serial port, and wait until the driver has taken it."""
        answer = self.ask(self.name(channel), "DEVICE_PORT", {"PORT": port}, "Text")
        assert answer.state == "Ok", answer

    def connect(self, *channels: int) -> None:
        """Connect these, and wait until they are."""
        for channel in channels:
            self.new(self.name(channel), "CONNECTION", {"CONNECT": "On"}, "Switch")
        for channel in channels:
            self.wait_state(self.name(channel), "CONNECTION", "Ok")
            self.settle(self.name(channel))

    def fail_to_connect(self, channel: int = 1) -> str:
        """Connect, and return the message that came with the refusal."""
        device = self.name(channel)
        since = len(self.said)
        self.new(device, "CONNECTION", {"CONNECT": "On"}, "Switch")
        self.wait_state(device, "CONNECTION", "Alert")
        assert self.devices[device]["CONNECTION"].on == ["DISCONNECT"]
        assert self.property(device, "ABS_FOCUS_POSITION") is None
        return self.wait_message("[ERROR]", since, device)

    def disconnect(self, *channels: int) -> None:
        """Disconnect these, and wait until they are."""
        for channel in channels:
            self.new(self.name(channel), "CONNECTION", {"DISCONNECT": "On"}, "Switch")
        for channel in channels:
            self.wait_state(self.name(channel), "CONNECTION", "Idle")
            self.settle(self.name(channel))

    def move(self, channel: int, position: float) -> None:
        """Ask for a move."""
        self.new(self.name(channel), "ABS_FOCUS_POSITION", {"FOCUS_ABSOLUTE_POSITION": position}, "Number")

    def move_and_wait(self, channel: int, position: int) -> None:
        """Move there, and wait until it has arrived and is well."""
        device = self.name(channel)
        answer = self.ask(device, "ABS_FOCUS_POSITION", {"FOCUS_ABSOLUTE_POSITION": position}, "Number")
        assert answer.state == "Busy", answer
        self.wait(lambda: self.state(device, "ABS_FOCUS_POSITION") != "Busy", f"{device} to arrive at {position}")
        assert (self.state(device, "ABS_FOCUS_POSITION"), self.position(channel)) == ("Ok", position)

    def abort(self, channel: int) -> None:
        """Ask for a stop, and wait until the driver says that it stands."""
        device = self.name(channel)
        since = len(self.said)
        self.new(device, "FOCUS_ABORT_MOTION", {"ABORT": "On"}, "Switch")
        self.wait(
            lambda: any(said[1:4] == (device, "FOCUS_ABORT_MOTION", "Ok") for said in self.said[since:]),
            f"{device} to stop",
        )

    def position(self, channel: int) -> float:
        """Where the driver says that the channel is."""
        return float(self.value(self.name(channel), "ABS_FOCUS_POSITION", "FOCUS_ABSOLUTE_POSITION") or "nan")


class DriverInside:
    """The driver in this process, with its standard input and output on pipes."""

    def __init__(self, settings: Settings | None = None) -> None:
        self._settings = settings or Settings()

    def __enter__(self) -> FocuserClient:
        to_driver, self._stdin = os.pipe()
        self._stdout, from_driver = os.pipe()
        self._theirs = (to_driver, from_driver)
        driver = Driver(self._settings, stdin=to_driver, stdout=from_driver)
        self._thread = threading.Thread(target=driver.run, name="driver")
        self._thread.start()
        client = FocuserClient(self._stdout, self._stdin)
        try:
            client.get_properties()
            client.settle(driver.focusers[-1].device.name)
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


class DriverProcess:
    """The driver as a process of its own, on pipes, without a server."""

    def __init__(self, home: Path, extra: Mapping[str, str] | None = None, arguments: tuple[str, ...] = ()) -> None:
        self._errors = home / "driver.stderr"
        with open(self._errors, "wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "indi_multifocus", *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environment(home, extra),
                cwd=ROOT,
            )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.stdin = self.process.stdin
        self.client = FocuserClient(self.process.stdout.fileno(), self.stdin.fileno())
        self.may_fail = False
        """A traceback is expected."""

    def __enter__(self) -> DriverProcess:
        self.client.get_properties()
        self.client.wait(lambda: self.client.devices, "the driver to define its devices")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()
        if kind is None and not self.may_fail:
            assert "Traceback" not in self.errors

    @property
    def errors(self) -> str:
        """What it said on standard error."""
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
    ) -> None:
        """`restarts`: how often it starts a driver again that has ended. `beside`: other drivers to start. `fifo`: no
        driver is started but by `command`, through a FIFO, as KStars and INDI Web Manager do."""
        self._restarts = restarts
        self._beside = beside
        self._home = home
        self._environment = environment(home, extra)
        self._clients: list[tuple[socket.socket, FocuserClient]] = []
        self._log = home / "indiserver.log"
        self._pid_file = home / "driver.pid"
        self._fifo = home / "fifo" if fifo else None
        self._driver = home / "indi_multifocus"
        # indiserver takes the name of a program without arguments. The shell becomes the driver, so this is its pid.
        self._driver.write_text(
            f'#!/bin/sh\necho $$ > "{self._pid_file}"\nexec "{sys.executable}" -m indi_multifocus\n'
        )
        self._driver.chmod(0o755)

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
            drivers = [str(self._driver), *self._beside]
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
            eventually(lambda: self.process.poll() is not None or self._listens(), "indiserver to listen")
        except BaseException:
            self._kill()
            raise
        if self.process.poll() is not None:
            self._kill()
            return False
        return True

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1.0).close()
        except OSError:
            return False
        return True

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for connection, _ in self._clients:
            connection.close()
        self.process.terminate()
        try:
            # The driver writes its coverage when it ends by itself.
            eventually(self._has_ended, "indiserver and the driver to end")
        finally:
            self._kill()
        if kind is None:
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
        """What server and driver said on standard error."""
        return self._log.read_text(errors="replace")

    def command(self, command: str, label: str = "") -> None:
        """Write a line into the FIFO: start or stop the driver, under a label or without one."""
        assert self._fifo is not None
        name = f' -n "{label}"' if label else ""
        self._fifo.write_text(f"{command} {self._driver}{name}\n")

    def drivers(self) -> list[int]:
        """Process numbers of the drivers, in the order in which they were started."""
        found = subprocess.run(["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True, check=False)
        return sorted(pid for pid in map(int, found.stdout.split()) if is_running(pid))

    def driver_pid(self) -> int:
        """Process number of the driver."""
        return int(eventually(lambda: self._pid_file.exists() and self._pid_file.read_text().strip(), "the driver"))

    def client(self) -> FocuserClient:
        """One more client, which knows what the driver's devices are when this returns."""
        connection = socket.create_connection(("127.0.0.1", self.port), DEADLINE_S)
        connection.setblocking(True)
        client = FocuserClient(connection.fileno(), connection.fileno())
        client.behind_a_server = True
        self._clients.append((connection, client))
        client.get_properties()
        client.wait(lambda: client.devices, "the driver to define its devices")
        return client

    def hang_up(self, client: FocuserClient) -> None:
        """Close the connection of a client."""
        for connection, known in list(self._clients):
            if known is client:
                connection.close()
                self._clients.remove((connection, known))

    def run(self, tool: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one of INDI's command line tools on this server."""
        return subprocess.run(
            [tool, "-p", str(self.port), *arguments],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
        )


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


class Lines:
    """The lines that a simulated controller received since this was made."""

    def __init__(self, simulator: Simulator) -> None:
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
    "Bridge",
    "DriverInside",
    "DriverProcess",
    "FocuserClient",
    "IndiClient",
    "IndiServer",
    "Lines",
    "Property",
    "Said",
    "environment",
    "eventually",
    "is_running",
    "state_file",
]
