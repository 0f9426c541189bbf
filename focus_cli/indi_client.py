# SPDX-License-Identifier: GPL-3.0-or-later
"""The properties of a few devices of an INDI server, kept up to date; and requests to these devices.

The only file that knows pyindi-client. Three kinds of threads meet here:
- the library's own, which calls the `_Library` methods with everything that arrives. They copy it into immutable
  `Vector`s and wake the threads that wait; an exception in one of them would end the process, so none leaves them.
- one of ours, which connects, and connects again with back-off after the server has gone.
- any other: reads `vector()`, sends requests, and sleeps on `changed` until what it waits for has come.

Requests are sent from vectors of our own: those of the library change whenever an update arrives, also between setting
a value in one and sending it; then a position that was just reported would be sent as the new target.
"""

from __future__ import annotations

import os
import re
import socket
import stat
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Callable, Union

import PyIndi

from .log import Log
from .net import watch_peer
from .threads import describe, keep_running

CONNECT_TIMEOUT_S = 2.0
"""indiserver runs on this machine as a rule, and answers at once."""
DISCONNECT_S, LAST_WORDS_S = 1.0, 0.05
"""How long the thread of libindi's client has to notice the end of a connection, and then to leave it."""
FIRST_RETRY_S, LAST_RETRY_S = 0.1, 5.0
"""Pauses between attempts to reach indiserver: doubled each time, up to the last."""
QUIET_S = 3.0
"""How long the server may be away before that is worth a message: a moment, while it starts."""

TOGETHER_S = 2.0
"""What the channels say of their common link within this time is one event, and one line of the log."""
_OF_THE_LINK = re.compile(r"\[\w+\] (lost the controller|the controller (is back|does not answer|answers))")

Value = Union[float, bool, str]


@dataclass(frozen=True)
class Vector:
    """A property as of its last definition or update. `defined`, `updated` and `busy` are numbers of events."""

    state: str
    """Idle, Ok, Busy or Alert."""
    values: Mapping[str, Value]
    """By element: float of a number, bool of a switch, str of a text."""
    defined: int
    updated: int
    busy: int
    """The last event in which it was Busy since it was defined; 0 for never."""
    refused: bool
    """This update refused somebody's request."""


@dataclass(eq=False)
class Request:
    """A new value for one element, and whether the driver has accepted or refused it.

    INDI's answers name no request, and every client's are answered under the same property. So a refusal is ours where
    it names our value, and `accepts` is asked about every update of the device since the request was made.
    """

    device: str
    name: str
    element: str
    value: float | None
    """Of a number; None turns a switch on."""
    accepts: Callable[[Request, str, Vector], bool]
    """Given a property's name and its update: whether it shows that the request was accepted."""
    made: int
    """The last event before."""
    accepted: bool = False
    refused: bool = False

    def is_refused_by(self, text: str) -> bool:
        """Whether this message is the refusal of this value: "[ERROR] device.PROPERTY.ELEMENT=value: why"."""
        prefix = f"[ERROR] {self.device}.{self.name}.{self.element}="
        if not text.startswith(prefix):
            return False
        value = text[len(prefix) :].partition(": ")[0]
        try:
            return value == "On" if self.value is None else float(value) == self.value
        except ValueError:
            return False


class IndiClient:
    """A client of the INDI server at `host`:`port` that follows `devices`."""

    def __init__(self, host: str, port: int, devices: list[str], log: Log) -> None:
        self.server = f"{host}:{port}"
        self.changed = threading.Condition()
        """Notified at every event. Guards the state; it may be held to see several vectors at one moment."""
        self.connected = False
        self.problem = "not connected yet"
        """Why it is not connected, for people."""
        self.closed = False
        self._host, self._port, self._devices, self._log = host, port, devices, log
        self._told = ("", "", 0.0)
        """The last message about the link: its text, of which device, and when (monotonic)."""
        self._vectors: dict[str, dict[str, Vector]] = {}
        self.faults: deque[tuple[float, str, str, str]] = deque(maxlen=100)
        """Errors and warnings for the history, which takes them out: Unix time, device, "error" or "warning", text."""
        self.last_messages: dict[str, tuple[float, str]] = {}
        """By device, when its last message for people came (s, Unix time), and its text."""
        self._events = 0
        self._requests: list[Request] = []
        self._refusals: set[tuple[str, str]] = set()
        """Device and property of refusals whose update has not come yet: the library announces the message first."""
        self._sending = threading.Lock()
        self._socket: socket.socket | None = None
        self._library = _Library(self)
        self._thread: threading.Thread | None = None

    # --- For every thread -----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to connect; returns at once."""
        self._thread = keep_running("INDI connection", self._keep_connected, self._log)

    def close(self) -> None:
        """Disconnect for good; whoever waits is woken and sees `closed`."""
        with self.changed:
            self.closed = True
            self.changed.notify_all()
        if self._thread is not None:
            self._thread.join(timeout=2.0)

    def vector(self, device: str, name: str) -> Vector | None:
        """The property, or None while it is not defined or there is no server."""
        with self.changed:
            return self.properties(device).get(name)

    def properties(self, device: str) -> Mapping[str, Vector]:
        """All that are defined, by name; to be looked at only while `changed` is held."""
        return self._vectors.get(device, {})

    def wait_for(self, test: Callable[[], bool], timeout_s: float | None = None) -> bool:
        """Sleep until `test()`, which is called with `changed` held; False when time is up or the client is closed."""
        with self.changed:
            self.changed.wait_for(lambda: self.closed or test(), timeout_s)
            return not self.closed and test()

    @contextmanager
    def request(
        self,
        device: str,
        name: str,
        element: str,
        value: float | None = None,
        *,
        accepts: Callable[[Request, str, Vector], bool] = lambda *_: False,
    ) -> Iterator[Request]:
        """A request that is followed while the context lasts; `send` sends it. The arguments are those of `Request`."""
        with self.changed:
            request = Request(device, name, element, value, accepts, made=self._events)
            self._requests.append(request)
        try:
            yield request
        finally:
            with self.changed:
                self._requests.remove(request)

    def send(self, request: Request) -> None:
        """Send a new vector with this one element; returns when it is on its way."""
        if request.value is None:
            vector, element, send = PyIndi.ISwitchVectorProperty(), PyIndi.ISwitch(), self._library.sendNewSwitch
            element.s, vector.sp, vector.nsp = PyIndi.ISS_ON, element, 1
        else:
            vector, element, send = PyIndi.INumberVectorProperty(), PyIndi.INumber(), self._library.sendNewNumber
            element.value, vector.np, vector.nnp = request.value, element, 1
        vector.device, vector.name, element.name = request.device, request.name, request.element
        element.thisown = True  # the binding takes it for the vector's now, whose end does not free it
        with self._sending:  # the library writes a message in many pieces
            send(vector)

    # --- The connection -------------------------------------------------------------------------------------------

    def _keep_connected(self) -> None:
        retry_s, lost_s, reported = FIRST_RETRY_S, time.monotonic(), False
        while not self.closed:
            problem = self._connect()
            if not problem:
                if reported:
                    self._log.info(f"connected to the INDI server {self.server}")
                with self.changed:
                    self.changed.wait_for(lambda: self.closed or not self.connected)
                self._disconnect()
                retry_s, lost_s, reported = FIRST_RETRY_S, time.monotonic(), False
                continue
            with self.changed:
                self.problem = problem
            if not reported and time.monotonic() - lost_s > QUIET_S:
                reported = True
                self._log.warning(f"the INDI server {self.server} cannot be reached ({problem}); trying until it can")
            with self.changed:
                self.changed.wait_for(lambda: self.closed, retry_s)
            retry_s = min(retry_s * 2, LAST_RETRY_S)

    def _connect(self) -> str:
        """Returns why it failed, or ""."""
        # The library says nothing of reasons, knows IPv4 alone, and can be stuck with a host that does not answer.
        try:
            address = str(socket.getaddrinfo(self._host, self._port, socket.AF_INET, socket.SOCK_STREAM)[0][4][0])
            socket.create_connection((address, self._port), CONNECT_TIMEOUT_S).close()
        except OSError as error:
            return error.strerror or str(error)
        self._library.setServer(address, self._port)
        self._library.setConnectionTimeout(int(CONNECT_TIMEOUT_S), 0)
        for device in self._devices:
            self._library.watchDevice(device)  # forgotten at every disconnection
        return "" if self._library.connectServer() else "it does not accept the connection"

    def _disconnect(self) -> None:
        """End what is left of a connection, so that there can be another one."""
        # The library's disconnectServer() waits for the library's own thread, and keeps Python's lock while it does: if
        # that thread is about to tell us something, everything here stands still until one of them gives up. So the
        # connection is ended under that thread, and it gets the time to leave.
        connection = self._socket
        if connection is not None:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # by the other side already
        with self.changed:
            self.changed.wait_for(lambda: not self.connected, DISCONNECT_S)
        time.sleep(LAST_WORDS_S)
        if not self.closed:
            self._library.disconnectServer()

    # --- What arrives; all in the library's thread but server_connected -------------------------------------------

    def server_connected(self) -> None:
        """Before the library asks for properties."""
        self._socket = _find_socket(self._port)
        with self.changed:
            self.connected = True
            self._vectors.clear()
            self._refusals.clear()
            self._event()

    def server_disconnected(self) -> None:
        """By either side."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        with self.changed:
            self.connected = False
            self.problem = "the connection was closed"
            self._vectors.clear()
            self._event()

    def take(self, property_: Any, *, definition: bool) -> None:
        """A property was defined or updated."""
        values = _values(property_)
        self._acknowledge()
        if values is None:
            return
        device, name, state = property_.getDeviceName(), property_.getName(), property_.getStateAsString()
        with self.changed:
            event = self._event()
            vectors = self._vectors.setdefault(device, {})
            before = None if definition else vectors.get(name)
            vectors[name] = Vector(
                state,
                values,
                defined=before.defined if before else event,
                updated=event,
                busy=event if state == "Busy" else before.busy if before else 0,
                refused=state == "Alert" and (device, name) in self._refusals,
            )
            self._refusals.discard((device, name))
            for request in self._requests:
                if request.device == device and not request.accepted:
                    request.accepted = request.accepts(request, name, vectors[name])

    def remove(self, device: str, name: str | None) -> None:
        """A property, or with None the whole device, is no more."""
        with self.changed:
            self._event()
            if name is None:
                self._vectors.pop(device, None)
            else:
                self._vectors.get(device, {}).pop(name, None)

    def tell(self, device: str, message: str) -> None:
        """A message of the driver: "<time>: [LEVEL] text"."""
        text = message.partition(": ")[2].strip() or message
        refusal = re.match(rf"\[ERROR\] {re.escape(device)}\.(\w+)[.:]", text)
        if refusal:
            with self.changed:
                self._event()
                self._refusals.add((device, refusal[1]))
                for request in self._requests:
                    request.refused = request.refused or request.is_refused_by(text)
        for tag, write in (
            ("[ERROR] ", self._log.error),
            ("[WARNING] ", self._log.warning),
            ("[INFO] ", self._log.info),
        ):
            if text.startswith(tag):
                self.last_messages[device] = (time.time(), text[len(tag) :])
                if tag != "[INFO] ":
                    with self.changed:
                        self.faults.append((time.time(), device, tag[1:-2].lower(), text[len(tag) :]))
                        self.changed.notify_all()
                if not self._is_told(device, text):
                    write(text[len(tag) :] if text[len(tag) :].startswith(device) else f"{device}: {text[len(tag) :]}")

    def _is_told(self, device: str, text: str) -> bool:
        """Whether it was logged for another device just now: the link is one, and each channel has something to say."""
        before, who, when_s = self._told
        now_s = time.monotonic()
        if not _OF_THE_LINK.match(text):
            return False
        if before == text and who != device and now_s - when_s < TOGETHER_S:
            return True
        self._told = (text, device, now_s)
        return False

    def report(self, error: Exception) -> None:
        """Something of ours failed in the library's thread."""
        self._log.error(f"what the INDI server sent could not be handled: {describe(error)}")

    def _acknowledge(self) -> None:
        """Acknowledge at once what came; until then the server's side holds the next small message (Nagle's algorithm).

        Linux applies the option to the next acknowledgement alone.
        """
        connection = self._socket
        if connection is not None and hasattr(socket, "TCP_QUICKACK"):
            try:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            except OSError:
                pass  # disconnected just now

    def _event(self) -> int:
        self._events += 1
        self.changed.notify_all()
        return self._events


class _Library(PyIndi.BaseClient):  # type: ignore[misc]
    """libindi's client; hands everything on to the IndiClient."""

    def __init__(self, client: IndiClient) -> None:
        super().__init__()
        self._client = client

    def serverConnected(self) -> None:
        self._do(self._client.server_connected)

    def serverDisconnected(self, exit_code: int) -> None:
        self._do(self._client.server_disconnected)

    def newProperty(self, property: Any) -> None:
        self._do(lambda: self._client.take(property, definition=True))

    def updateProperty(self, property: Any) -> None:
        self._do(lambda: self._client.take(property, definition=False))

    def removeProperty(self, property: Any) -> None:
        self._do(lambda: self._client.remove(property.getDeviceName(), property.getName()))

    def removeDevice(self, baseDevice: Any) -> None:
        self._do(lambda: self._client.remove(baseDevice.getDeviceName(), None))

    def newMessage(self, baseDevice: Any, messageID: int) -> None:
        self._do(lambda: self._client.tell(baseDevice.getDeviceName(), baseDevice.messageQueue(messageID)))

    def _do(self, what: Callable[[], None]) -> None:
        try:
            what()
        except Exception as error:
            self._client.report(error)


def _values(property_: Any) -> dict[str, Value] | None:
    """The elements of a property; None for kinds that nobody here looks at."""
    kind = property_.getType()
    if kind == PyIndi.INDI_NUMBER:
        return {number.getName(): float(number.getValue()) for number in _elements(PyIndi.PropertyNumber(property_))}
    if kind == PyIndi.INDI_SWITCH:
        return {
            switch.getName(): switch.getState() == PyIndi.ISS_ON
            for switch in _elements(PyIndi.PropertySwitch(property_))
        }
    if kind == PyIndi.INDI_TEXT:
        return {text.getName(): str(text.getText()) for text in _elements(PyIndi.PropertyText(property_))}
    return None


def _elements(view: Any) -> list[Any]:
    return [view[index] for index in range(len(view))]


def _find_socket(port: int) -> socket.socket | None:
    """The connection to the INDI server on `port`, told to send at once, and to notice when the server disappears.

    The library writes a message in small pieces. By Nagle's algorithm the second waits for the first one's
    acknowledgement, which the other side delays by 40 ms (measured): four steps that a motor goes on after a stop. The
    library does not give its socket away, so it is looked up among the process's own; this is another handle of it.
    """
    for name in os.listdir("/proc/self/fd"):
        try:
            if not stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                continue
            connection = socket.socket(fileno=os.dup(int(name)))
        except OSError:
            continue  # gone meanwhile
        try:
            if connection.family in (socket.AF_INET, socket.AF_INET6) and connection.getpeername()[1] == port:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                watch_peer(connection)
                return connection
        except OSError:
            pass  # not connected
        connection.close()
    return None
