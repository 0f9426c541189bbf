# SPDX-License-Identifier: GPL-3.0-or-later
"""The INDI client of tests and tools, in three layers.

- `Devices` does no I/O: it is fed what a driver or server has sent, knows the properties from it, keeps every message,
  and fails on anything that is not INDI.
- `IndiClient` sends and receives over a pair of file descriptors. It has no thread: it reads while it waits, always
  with a deadline.
- `FocuserClient` adds the words of focusing.
"""

from __future__ import annotations

import itertools
import os
import re
import select
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar, Union
from xml.etree import ElementTree
from xml.sax.saxutils import escape, quoteattr

from stream import Stream
from waiting import DEADLINE_S

T = TypeVar("T")
Client = TypeVar("Client", bound="IndiClient")
Value = Union[float, str]


class Received(NamedTuple):
    """One message of a device: `kind` is def, set, del or message; values are texts, as they came."""

    kind: str
    device: str
    name: str
    state: str
    values: Mapping[str, str]
    message: str
    at_s: float = 0.0
    """Of the monotonic clock: when it was read."""

    def number(self) -> float:
        """The value of its first element."""
        return float(next(iter(self.values.values())))


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
"""Of the clients: a server also sends to each what the others asked for."""
_KINDS = ("Number", "Switch", "Text", "Light")
_STATES = ("Idle", "Ok", "Busy", "Alert")


class Devices:
    """What is known of the devices of a driver or server."""

    def __init__(self) -> None:
        self._stream = Stream()
        self._at_s = 0.0
        self.devices: dict[str, dict[str, Property]] = {}
        self.received: list[Received] = []
        self.behind_a_server = False
        """It is indiserver that sends, which also passes on what other clients ask for."""
        self.excused: set[str] = set()
        """Devices of libindi's drivers, which also set what they have not defined."""

    def feed(self, data: bytes, at_s: float = 0.0) -> None:
        """Take the next bytes, any number, which were read at `at_s`."""
        self._at_s = at_s
        for element in self._stream.feed(data):
            self.take(element)

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
        return [answer.message for answer in self.received[since:] if answer.message and device in ("", answer.device)]

    def take(self, element: ElementTree.Element) -> None:
        """Take one whole message."""
        tag, attributes = element.tag, element.attrib
        device, name, state = (attributes.get(key, "") for key in ("device", "name", "state"))
        message = attributes.get("message", "")
        if self.behind_a_server and tag.startswith("new"):
            return
        # What the server itself sends where a driver has ended has none.
        by_server = self.behind_a_server and tag == "delProperty" and not name
        assert by_server or "timestamp" in attributes, f"{tag} of {device}.{name} has no timestamp"
        if tag == "message":
            self._note("message", device, "", "", {}, message)
            return
        if tag == "delProperty":
            if name:
                self.devices.get(device, {}).pop(name, None)
            else:
                self.devices.pop(device, None)
            self._note("del", device, name, "", {}, message)
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
        self._note(what, device, name, state, values, message)

    def _note(self, kind: str, device: str, name: str, state: str, values: Mapping[str, str], message: str) -> None:
        self.received.append(Received(kind, device, name, state, values, message, self._at_s))

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


class IndiClient(Devices):
    """An INDI client that reads from one file descriptor and writes to another, or the same."""

    def __init__(self, read_fd: int, write_fd: int) -> None:
        super().__init__()
        self._read_fd, self._write_fd = read_fd, write_fd
        self._connection: socket.socket | None = None
        self._marks = self._marked = 0
        self._number = next(_numbers)
        self.ended = False
        """The other side has closed."""

    @classmethod
    def of_server(cls: type[Client], port: int) -> Client:
        """A client of the INDI server on a TCP port of this machine; it is to be closed."""
        connection = socket.create_connection(("127.0.0.1", port), DEADLINE_S)
        connection.setblocking(True)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client = cls(connection.fileno(), connection.fileno())
        client._connection = connection
        client.behind_a_server = True
        return client

    def close(self) -> None:
        """Close the connection to the server, if it is one's own."""
        if self._connection is not None:
            self._connection.close()

    def __enter__(self: Client) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

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

    def ask(self, device: str, name: str, values: Mapping[str, Value], kind: str = "") -> Received:
        """`new`, and how that property is set next, when all that was sent before is dealt with."""
        self.settle(device)
        since = len(self.received)
        self.new(device, name, values, kind)
        return self.next_set(device, name, since)

    # Receiving

    @property
    def read_fd(self) -> int:
        """What to select on, to know that there is something to read."""
        return self._read_fd

    def read(self) -> None:
        """Take what has come by now."""
        while self._read(0):
            pass

    def wait(self, condition: Callable[[], T], what: str, within_s: float = DEADLINE_S) -> T:
        """Read until `condition` is true, and return its value."""
        end = time.monotonic() + within_s
        while True:
            value = condition()
            if value:
                return value
            left = end - time.monotonic()
            assert left > 0, f"in vain waited for {what}; last of all came {self.received[-5:]}"
            assert not self.ended, f"the other side closed before {what}; last of all came {self.received[-5:]}"
            # The condition may be about something else than what comes in here.
            self._read(min(left, 0.01))

    def next_set(self, device: str, name: str, since: int) -> Received:
        """How the property was set first, after the first `since` messages."""

        def first() -> Received | None:
            return next((answer for answer in self.received[since:] if answer[:3] == ("set", device, name)), None)

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
        at_s = time.monotonic()
        if not data:
            self.ended = True
            return False
        self.feed(data, at_s)
        return True

    def _note(self, kind: str, device: str, name: str, state: str, values: Mapping[str, str], message: str) -> None:
        mark = re.search(_MARK + r"(\d+)_(\d+)", message) if kind == "message" else None
        if mark is None:
            super()._note(kind, device, name, state, values, message)
        elif int(mark[1]) == self._number:
            self._marked = int(mark[2])


class FocuserClient(IndiClient):
    """An INDI client with the words of focusing. Channels go by number, devices are named `prefix` and number."""

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
        since = len(self.received)
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
        """Ask for a stop, and wait until the driver has answered that it stands."""
        device = self.name(channel)
        since = len(self.received)
        self.new(device, "FOCUS_ABORT_MOTION", {"ABORT": "On"}, "Switch")
        self.wait(
            lambda: any(answer[1:4] == (device, "FOCUS_ABORT_MOTION", "Ok") for answer in self.received[since:]),
            f"{device} to stop",
        )

    def position(self, channel: int) -> float:
        """Where the channel is, as the driver shows it."""
        return float(self.value(self.name(channel), "ABS_FOCUS_POSITION", "FOCUS_ABSOLUTE_POSITION") or "nan")
