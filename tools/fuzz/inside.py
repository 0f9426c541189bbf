# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole driver in this process, for targets: no port, no thread; and a client that checks what it sends.

The controller is replaced by one that does what a controller might do, at once or when the target wants it; and so is
the thread that writes files. Whatever the driver writes must be INDI; a property must be defined before it is set;
each new… must be answered; and in the end a client must know everything as it is, also if it did not read for a while.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Callable
from unittest import mock
from xml.etree import ElementTree
from xml.sax.saxutils import escape, quoteattr

from indi_multifocus import driver as driver_module
from indi_multifocus import link_settings, simulation_mode
from indi_multifocus.controller.port import PortError
from indi_multifocus.controller.protocol import max_steps
from indi_multifocus.controller.requests import PortSettings, Schedule
from indi_multifocus.controller.snapshot import ChannelState, Link, Snapshot
from indi_multifocus.indi import Device, Event, NewVector, Output, Reader, writer
from indi_multifocus.settings.driver_settings import Settings
from tools.manual_writer import ManualWriter

_MEMORY = "/dev/shm"
_HOME = tempfile.mkdtemp(prefix="indi_multifocus-fuzz-", dir=_MEMORY if os.path.isdir(_MEMORY) else None)
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)


class Workshop:
    """A home for the driver's files, and the environment for it."""

    @staticmethod
    def environment(name: str, value: str) -> None:
        """Set an environment variable, one of INDI's."""
        os.environ[name] = value

    @staticmethod
    def write(name: str, data: bytes) -> str:
        """A file with this content; its path."""
        path = os.path.join(_HOME, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(data)
        return path


def _take_variables() -> dict[str, str]:
    """HOME and all of INDI's variables, which are not there any more."""
    return {name: os.environ.pop(name) for name in list(os.environ) if name == "HOME" or name.startswith("INDI")}


def _no_fsync(fd: int) -> None:
    """In place of os.fsync: what is lost here is no loss."""


@contextmanager
def workshop() -> Iterator[Workshop]:
    """An empty home, which is empty again afterwards; and no INDI variables but those that are set in here."""
    variables = _take_variables()
    os.environ["HOME"] = _HOME
    try:
        with mock.patch.object(os, "fsync", _no_fsync):
            yield Workshop()
    finally:
        _take_variables()
        os.environ.update(variables)
        for folder, _, files in os.walk(_HOME):
            for file in files:
                os.unlink(os.path.join(folder, file))


class FakeController:
    """In place of controller.Controller: the same methods, and no thread. Moves end when `rest()` is called."""

    def __init__(
        self,
        notify: Callable[[Snapshot], None],
        *,
        trace: Callable[[str], None],
        failed: Callable[[str], None],
        probes: Sequence[str],
    ) -> None:
        self.generation = 2
        self.there = 2
        self.moves = 0
        self.allows: Callable[[int, int], bool] = lambda channel, steps: True
        """Whether a channel may be sent there."""
        self._notify = notify
        self._probes = tuple(probes)
        self._number = 0
        self._snapshot = Snapshot()

    def open(self, settings: PortSettings) -> int:
        assert settings.name
        self._number += 1
        self._snapshot = Snapshot(link=Link.OPENING, attempt=self._number)
        return self._number

    def close(self) -> None:
        self._snapshot = Snapshot(attempt=self._snapshot.attempt)

    def reopen(self, settings: PortSettings) -> None:
        assert settings.name

    def move(self, channel: int, steps: int, via: int | None = None) -> int:
        limit = max_steps(self.generation)
        for place in (steps, via):
            assert place is None or (type(place) is int and -limit <= place <= limit)
            assert place is None or self.allows(channel, place)
        self.moves += 1
        return self._order(channel, target=steps, moving=True, fault="")

    def stop(self, channel: int) -> int:
        return self._order(channel, moving=False)

    def zero(self, channel: int) -> int:
        return self._order(channel, target=0, current=0, moving=False, fault="")

    def _order(self, channel: int, **changes: Any) -> int:
        self._number += 1
        if self._snapshot.link is Link.UP and 1 <= channel <= len(self._snapshot.channels):
            self.change(channel, request=self._number, **changes)
        return self._number

    def switch_fans(self, on: bool) -> int:
        self._number += 1
        if self._snapshot.link is Link.UP and self.generation == 2:
            self.tell(fans=on, fans_request=self._number)
        return self._number

    def set_schedule(self, schedule: Schedule) -> None:
        assert 0 < schedule.moving_s < 86401

    def set_tracing(self, on: bool) -> None:
        assert type(on) is bool

    # What a controller may do

    @property
    def snapshot(self) -> Snapshot:
        return self._snapshot

    def tell(self, **changes: Any) -> None:
        """Another snapshot."""
        self._snapshot = self._snapshot._replace(**changes)
        self._notify(self._snapshot)

    def change(self, channel: int, **changes: Any) -> None:
        """Another state of one channel, if there is such a channel."""
        channels = list(self._snapshot.channels)
        if channel <= len(channels):
            channels[channel - 1] = channels[channel - 1]._replace(**changes)
            self.tell(channels=tuple(channels))

    def come_up(self) -> None:
        """The handshake ends well, or the link is back; unless it is closed."""
        if self._snapshot.link is Link.CLOSED:
            return
        at_rest = ChannelState(target=0, current=0, moving=False, request=self._number)
        channels = self._snapshot.channels or (at_rest,) * self.there
        self.tell(
            link=Link.UP,
            reason="",
            generation=self.generation,
            channels=channels,
            fans=False if self.generation == 2 else None,
        )

    def fail(self, reason: str) -> None:
        """The port cannot be opened."""
        if self._snapshot.link is Link.OPENING:
            self.tell(link=Link.CLOSED, reason=reason)

    def lose(self, reason: str) -> None:
        """The cable is pulled."""
        if self._snapshot.link is Link.UP:
            self.tell(link=Link.LOST, reason=reason, reconnects=self._snapshot.reconnects + 1)

    def measure(self, celsius: float | None) -> None:
        """The probes were read."""
        if self._snapshot.link is Link.UP and self.generation == 2:
            self.tell(temperatures=tuple((probe, celsius) for probe in self._probes))

    def rest(self) -> None:
        """All that was asked for is done."""
        for channel, state in enumerate(self._snapshot.channels, start=1):
            self.change(channel, current=state.target, moving=False, request=self._number)
        self.tell(fans_request=self._number)


_F_SETPIPE_SZ = 1031
"""Of Linux's fcntl.h; Python has it since 3.10."""


class _Client:
    """A client at the other end of the driver's standard output, which is a small pipe."""

    def __init__(self) -> None:
        self.reads = True
        self.defined: dict[tuple[str, str], str] = {}
        self.known: dict[tuple[str, str], tuple[str | None, dict[str | None, str | None]]] = {}
        """State and values of each property."""
        self.unanswered: set[tuple[str, str]] = set()
        self._read, self.stdout = os.pipe()
        fcntl.fcntl(self.stdout, _F_SETPIPE_SZ, 4096)
        os.set_blocking(self._read, False)
        self._data = b""

    def close(self) -> None:
        os.close(self._read)
        os.close(self.stdout)

    def read(self, output: Output) -> None:
        """Read all that there is, if it reads at all."""
        while self.reads:
            try:
                self._data += os.read(self._read, 65536)
            except BlockingIOError:
                if output.waiting:
                    output.flush()
                    continue
                data, self._data = self._data, b""
                for message in ElementTree.fromstring(b"<all>" + data + b"</all>"):
                    self._take(message)
                return

    def _take(self, message: ElementTree.Element) -> None:
        device, name = message.get("device", ""), message.get("name", "")
        key = (device, name)
        assert message.get("timestamp")
        if message.tag == "message":
            text = message.get("message", "")
            assert text
            self.unanswered = {
                asked
                for asked in self.unanswered
                if asked[0] != (device or asked[0]) or (asked in self.defined and f"has no {asked[1]}" not in text)
            }
            return
        if message.tag == "delProperty":
            # It did not know of this one.
            self.defined.pop(key, None)
            self.unanswered.discard(key)
            return
        what, kind = message.tag[:3], message.tag[3:-6]
        assert kind in ("Number", "Switch", "Text", "Light")
        assert message.get("state") in ("Idle", "Ok", "Busy", "Alert")
        self.known[key] = state_and_values(message)
        if what == "def":
            assert message.get("perm") in (("ro", "wo", "rw") if kind != "Light" else (None,))
            self.defined[key] = kind
        else:
            assert what == "set"
            assert self.defined[key] == kind
            self.unanswered.discard(key)
        for element in message:
            assert element.tag == f"{'def' if what == 'def' else 'one'}{kind}"
            if kind == "Switch":
                assert element.text in ("On", "Off")
            elif kind == "Number":
                value, low, high = (
                    float(text or "nan") for text in (element.text, element.get("min"), element.get("max"))
                )
                assert abs(value) < 1e9
                assert not low > high


class Inside:
    """The driver, its client, and the means to make things happen. Use it within a workshop()."""

    def __init__(self, settings: Settings, *, generation: int = 2, there: int = 0) -> None:
        self._patches: list[Any] = [
            mock.patch.object(driver_module, "Controller", FakeController),
            mock.patch.object(driver_module, "FileWriter", ManualWriter),
            mock.patch.object(link_settings, "list_ports", _ports),
            mock.patch.object(simulation_mode.SimulationMode, "port", _no_simulator),
            mock.patch.object(Device, "_report", _report),
        ]
        self._settings = settings
        self._generation, self._there = generation, there or settings.channels

    def __enter__(self) -> Inside:
        for patch in self._patches:
            patch.start()
        self.client = _Client()
        self._stdin, self._to_driver = os.pipe()
        self.disk_works = True
        try:
            self.driver = driver_module.Driver(self._settings, stdin=self._stdin, stdout=self.client.stdout)
        except BaseException:
            self._clean_up()
            raise
        fakes: Any = self.driver
        self.controller: FakeController = fakes._controller
        self._writer: ManualWriter = fakes._writer
        self.controller.generation, self.controller.there = self._generation, self._there
        self.controller.allows = self._allows
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._clean_up()
        self.driver._inbox.close()
        self.driver._connection.close()

    def _clean_up(self) -> None:
        for patch in self._patches:
            patch.stop()
        self.client.close()
        os.close(self._stdin)
        os.close(self._to_driver)

    def _allows(self, channel: int, steps: int) -> bool:
        """Whether a channel may be sent there: within its travel, or from outside it no further away."""
        focuser = self.driver.focusers[channel - 1]
        position, now = (
            focuser.position.scale.position(place)
            for place in (steps, self.controller.snapshot.channels[channel - 1].current)
        )
        low, high = focuser.position.travel
        return min(low, now) <= position <= max(high, now)

    @property
    def moved(self) -> int:
        """How many moves the driver ordered."""
        return self.controller.moves

    def names(self) -> list[str]:
        """The devices."""
        return [focuser.device.name for focuser in self.driver.focusers]

    def feed(self, data: bytes) -> None:
        """What clients send."""
        reader = self.driver._reader
        if not data:
            return
        os.write(self._to_driver, data)
        with mock.patch.object(reader, "feed", lambda data: self._noted(Reader.feed(reader, data))):
            self.driver._read_stdin()
        self._go_on()

    def _go_on(self) -> None:
        """All that follows from what happened."""
        while True:
            if self.disk_works:
                self._writer.work()
            failure = self.driver._take_news()
            assert not failure, failure
            if not (self.disk_works and self._writer._waiting):
                break
        self.client.read(self.driver._output)

    def _noted(self, events: list[Event]) -> list[Event]:
        """The same events; those that want an answer are noted."""
        for event in events:
            if isinstance(event, NewVector) and event.device in self.names():
                self.client.unanswered.add((event.device, event.name))
        return events

    def new(self, device: str, name: str, kind: str, values: Mapping[str, str]) -> None:
        """One message of a client."""
        self.feed(message(device, name, kind, list(values.items())))

    def happen(self, what: Callable[[], None]) -> None:
        """Something happens to the controller."""
        what()
        self._go_on()

    def connect_all(self) -> None:
        """All channels connect, if the port's name is one that may be opened."""
        for name in self.names():
            self.new(name, "CONNECTION", "Switch", {"CONNECT": "On"})
        self.happen(self.controller.come_up)

    def settle(self) -> None:
        """The link comes up, all motors come to rest; then every new… must have its answer, and positions are right."""
        self.client.reads = self.disk_works = True
        self.happen(self.controller.come_up)
        self.happen(self.controller.rest)
        assert not self.client.unanswered, f"no answer about {self.client.unanswered}"
        for focuser in self.driver.focusers:
            assert focuser.connected == focuser.device.is_defined("ABS_FOCUS_POSITION")
            if focuser.connected:
                shown = focuser.properties.absolute["FOCUS_ABSOLUTE_POSITION"].value
                steps = self.controller.snapshot.channels[focuser.channel - 1].current
                assert shown == focuser.position.scale.position(steps)
            for vector in (defined.vector for defined in focuser.device._defined.values()):
                key = (focuser.device.name, vector.name)
                is_now = state_and_values(ElementTree.fromstring(writer.update(*key[:1], vector)))
                assert self.client.known[key] == is_now, f"of {key} the client does not know what it is now"
        known = {
            (writer.escape(focuser.device.name), name)
            for focuser in self.driver.focusers
            for name in focuser.device._defined
        }
        assert len(known) == len(self.client.defined), "the client knows other properties than are there"


def state_and_values(message: ElementTree.Element) -> tuple[str | None, dict[str | None, str | None]]:
    """State and values of a def… or set…."""
    return message.get("state"), {element.get("name"): element.text for element in message}


def message(device: str, name: str, kind: str, elements: Sequence[tuple[str, str]]) -> bytes:
    """A new…Vector, as indiserver passes it on."""
    ones = "".join(
        f"    <one{kind} name={quoteattr(key)}>\n{escape(value)}\n    </one{kind}>\n" for key, value in elements
    )
    text = f"<new{kind}Vector device={quoteattr(device)} name={quoteattr(name)}>\n{ones}</new{kind}Vector>\n"
    return text.encode("utf-8", "replace")


def _report(self: Device, event: NewVector, error: Exception) -> None:
    """In place of Device._report, which logs it and goes on."""
    raise AssertionError(f"the handler of {event} failed") from error


def _ports() -> list[str]:
    """In place of port.list_ports."""
    return ["/dev/ttyACM0", "/dev/ttyS <&'>"]


def _no_simulator(self: object) -> str:
    raise PortError("there is no simulator here")
