# SPDX-License-Identifier: GPL-3.0-or-later
"""A world with a clock of its own: the real driver and the simulated firmware, and between them a cable with faults.

Used by `schedule.py`, in one thread. The driver's threads, the cable, the disk and the controller take turns here by an
agenda of events: nobody ever sleeps, an hour passes in a second, and a seed gives the same run again. The driver's code
is the real one down to `os.read` and `os.write`; what is replaced are the clock, `select`, the starting of threads, the
opening of the port, and the disk's memory. This must never be imported by the driver.
"""

from __future__ import annotations

import heapq
import itertools
import os
import random
import re
import select as real_select
import socket
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from indi_multifocus import driver as driver_module
from indi_multifocus import focuser_position
from indi_multifocus.controller import poll_thread
from indi_multifocus.controller.controller import Controller
from indi_multifocus.controller.poll_thread import PollThread
from indi_multifocus.controller.port import PortError
from indi_multifocus.driver import Driver
from indi_multifocus.settings import files, remembered_position
from indi_multifocus.settings.driver_settings import WHOLE_RANGE, Settings
from indi_multifocus.simulation.firmware import BITS_PER_BYTE, BUILDS, Firmware
from indi_multifocus.simulation.motor import Motor

from .disk import Disk, Writer
from .view import View

FIFO_SIZE = 64
"""Bytes that a USB device keeps for a host that has not opened the port."""

MAX_TURNS = 1000
"""No poll thread has as much to do at one moment."""

ORDER = re.compile(rb"([1-9])([+-]\d+)")


class Pause(BaseException):
    """Time has come to where `World.run_for` was to lead."""


class World:
    """The driver (or none, after it was killed), the controller, and the time."""

    def __init__(self, seed: int, home: Path) -> None:
        self.random = random.Random(seed)
        self.now = 1000.0
        self.home = home
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._until = self.now
        self.generation = self.random.choice((1, 2, 2))
        self.channels = self.random.choice((1, 2, 2, 3)) if self.generation == 2 else 2
        self.boot = "00000000-0000-0000-0000-000000000000"
        self.booted_s = 0.0
        self.box = Box(self)
        self.disk = Disk(home, self.random)
        self.settings = Settings(
            default_travel=WHOLE_RANGE,
            channels=self.channels,
            reply_timeout_s=self.random.choice((0.5, 2.0, 5.0)),
            moving_s=self.random.choice((0.05, 0.1, 0.5)),
        )
        self.driver: Driver | None = None
        self.view = View()
        self._news_is_due = False
        self.problems: list[str] = []
        self.trace: Callable[[str], None] = lambda line: None
        """Gets what happens, a line each, when somebody wants to see it."""
        self.allowed: dict[int, Container[int]] = {}
        """Where each channel may be sent by now, in controller steps."""

    def judge(self, channel: int, target: int) -> None:
        """A move is on its way to a motor: it must have been ordered, and not been taken back."""
        if target not in self.allowed.get(channel, ()):
            self.problems.append(f"channel {channel} was sent to {target}, which nobody wants (any more)")

    # Time

    def at(self, delay_s: float, action: Callable[[], None]) -> None:
        """Do this so much later."""
        heapq.heappush(self._agenda, (self.now + delay_s, next(self._order), action))

    def run_for(self, seconds: float) -> None:
        """Let the time pass. Raises AssertionError where the poll thread does not let it."""
        self._until = self.now + seconds
        moment_s, turns = self.now, 0
        while True:
            turns = turns + 1 if self.now == moment_s else 0
            moment_s = self.now
            assert turns < MAX_TURNS, f"the poll thread does not sleep at {moment_s - 1000:.4f}"
            try:
                if self.driver is None:
                    self._select([], [], [], None)
                else:
                    self.driver._controller._thread._turn()
                    self._notice()
            except Restarted:
                continue
            except Pause:
                return

    def _select(
        self, reading: list[Any], writing: list[Any], _: list[Any], timeout_s: float | None
    ) -> tuple[list[Any], list[Any], list[Any]]:
        """What the poll thread sleeps in; the agenda goes on meanwhile."""
        wake_s = self._until if timeout_s is None else min(self._until, self.now + timeout_s)
        timed_out = timeout_s is not None and self.now + timeout_s <= self._until
        while True:
            self.box.listen()
            ready = real_select.select(reading, writing, [], 0)
            if ready[0] or ready[1]:
                return ready[0], ready[1], []
            if self._agenda and self._agenda[0][0] <= wake_s:
                when, _order, action = heapq.heappop(self._agenda)
                self.now = max(self.now, when)
                driver = self.driver
                action()
                self._notice()
                if driver is not self.driver:
                    raise Restarted
                continue
            self.now = wake_s
            if timed_out:
                return [], [], []
            raise Pause

    def note(self, what: str) -> None:
        """For whoever wants to see what happens."""
        self.trace(f"{self.now - 1000:9.4f} {what}")

    def monotonic(self) -> float:
        return self.now

    # The driver

    def start_driver(self) -> None:
        """A new process of it, which knows what its files tell."""
        self._stdin, self._to_driver = os.pipe()
        self._from_driver, self._stdout = os.pipe()
        os.set_blocking(self._from_driver, False)
        self.note("the driver starts")
        self.view = View()
        self.view.trace = lambda line: self.note(f"driver {line}")
        self.driver = Driver(self.settings, stdin=self._stdin, stdout=self._stdout)
        self.say('<getProperties version="1.7"/>')

    def kill_driver(self) -> None:
        """As kill -9: nothing more is sent or written."""
        driver, self.driver = self.driver, None
        if driver is None:
            return
        self.box.listen()
        self.box.close()
        self.note("the driver is gone")
        self.allowed.clear()
        self._news_is_due = False
        self.disk.writer = None
        for fd in (self._stdin, self._to_driver, self._from_driver, self._stdout):
            os.close(fd)
        # What the kernel does when a process is no more.
        driver._inbox.close()
        driver._controller._mailbox.close()
        driver._connection.close()

    def end_driver(self) -> None:
        """As SIGTERM: it says what it still has to say to the controller, and is gone."""
        if self.driver is not None:
            self.note("the driver is asked to end")
            self.driver._end("")
            self.kill_driver()

    def cut_power(self) -> None:
        """Of computer and controller. The disk keeps what was synchronised."""
        self.kill_driver()
        self.box.power_off()
        self.disk.lose_power()
        self.booted_s = self.now
        self.boot = f"00000000-0000-0000-0000-{self.random.randrange(10**12):012d}"

    def say(self, message: str) -> None:
        """A client says this to the driver, which deals with it at once."""
        if self.driver is None:
            return
        self.note(f"client {message}")
        os.write(self._to_driver, message.encode())
        self.driver._read_stdin()
        self._listen_to_driver()

    def _notice(self) -> None:
        """Let the driver's main thread have what the others report, a little later."""
        driver = self.driver
        if driver is None or self._news_is_due or not real_select.select([driver._inbox], [], [], 0)[0]:
            return
        self._news_is_due = True
        self.at(self.random.choice((0.0, 0.0, 0.0002, 0.002, 0.05)), lambda: self._take_news(driver))

    def _take_news(self, driver: Driver) -> None:
        if driver is not self.driver:
            return
        self._news_is_due = False
        failure = driver._take_news()
        if failure:
            self.problems.append(failure)
        self._listen_to_driver()

    def _listen_to_driver(self) -> None:
        driver = self.driver
        while driver is not None:
            try:
                self.view.feed(os.read(self._from_driver, 65536))
            except BlockingIOError:
                if not driver._output.waiting:
                    return
                driver._output.flush()

    @contextmanager
    def inhabited(self) -> Iterator[World]:
        """Put the driver's modules into this world, and leave nothing behind."""
        replaced: list[tuple[Any, str, Any]] = [
            (poll_thread, "time", self),
            (poll_thread, "select", _Select(self)),
            (poll_thread, "open_port", self.box.open),
            (PollThread, "start", lambda self: None),
            (Controller, "shutdown", _shut_down),
            (driver_module, "FileWriter", partial(Writer, self.disk, self.at)),
            (files, "folder", lambda: str(self.home)),
            (files, "write_atomically", self.disk.write_atomically),
            (os, "fsync", self.disk.fsync),
        ]
        for module in (focuser_position, remembered_position):
            replaced.append((module, "uptime_s", lambda: self.now - self.booted_s))
            replaced.append((module, "this_boot", lambda: self.boot))
        before = [(module, name, getattr(module, name)) for module, name, _ in replaced]
        for module, name, value in replaced:
            setattr(module, name, value)
        try:
            yield self
        finally:
            self.kill_driver()
            self.box.close()
            for module, name, value in before:
                setattr(module, name, value)


def _shut_down(controller: Controller, timeout_s: float, *, stop_moves: bool = False) -> bool:
    """In place of Controller.shutdown, which leaves it to the thread and waits for that."""
    controller._mailbox.put(end=True, stop_moves=stop_moves)
    controller._thread._turn()
    controller._mailbox.close()
    return True


class Restarted(Pause):
    """The driver in whose poll thread we were is no more."""


class _Select:
    def __init__(self, world: World) -> None:
        self.select = world._select


class TrueMotor(Motor):
    """A motor that tells when its place is called 0 by a command. Its `shaft` is the truth, whatever is counted."""

    def __init__(self) -> None:
        super().__init__(0, 0)
        self.zeroed: Callable[[], None] = lambda: None
        self._losing_power = False

    def lose_power(self, microsteps: int) -> None:
        self._losing_power = True
        super().lose_power(microsteps)
        self._losing_power = False

    def place(self, microsteps: int) -> None:
        super().place(microsteps)
        if not self._losing_power:
            self.zeroed()


class Box:
    """The controller and its cable. What is wrong with them are the attributes, which anybody may set."""

    def __init__(self, world: World) -> None:
        self._world = world
        random = world.random
        self.firmware = Firmware(world.generation, world.channels)
        self.shift = BUILDS[world.generation].shift
        self.motors = [TrueMotor() for _ in range(world.channels)]
        self.firmware._motors = list(self.motors)
        self._host: socket.socket | None = None
        self._theirs: _Port | None = None
        self._fifo = bytearray()
        self._run = 0
        """Which plugging-in or power-on this is: what was on its way before does not arrive."""
        self._line_free_s = self._input_free_s = 0.0
        self.latency_s = random.choice((0.0003, 0.001, 0.004))
        self.byte_s = random.choice((0.0, BITS_PER_BYTE / 9600))
        # What is wrong
        self.plugged = self.powered = True
        self.refusal = ""
        self.silent = self.echo = self.unknown = False
        self.delay_s = 0.0
        self.change_reply: list[Callable[[bytes], bytes]] = []
        """Applied to one reply each, and then gone."""
        self.lose_input = self.lose_output = 0
        self.change_input: list[Callable[[int], int]] = []
        """Applied to one byte each, and then gone."""
        self._said = bytearray()

    # The host's side

    def open(self, name: str, baud: int) -> _Port:
        if not self.plugged:
            raise PortError(f"port {name} does not exist")
        if self.refusal:
            raise PortError(f"{self.refusal} {name}")
        self.listen()  # what was written before the last one was closed is on its way
        self._unplug_host()
        self._host, theirs = socket.socketpair()
        self._host.setblocking(False)
        theirs.setblocking(False)
        self._theirs = _Port(theirs)
        self._said.clear()
        waiting, self._fifo = bytes(self._fifo), bytearray()
        if waiting:
            self._deliver_later(self._world.now + 0.0005, waiting)
        return self._theirs

    def close(self) -> None:
        """The end of the host's process, of which the kernel closes all."""
        if self._theirs is not None:
            self._theirs.close()
        self._unplug_host()

    def _unplug_host(self) -> None:
        if self._host is not None:
            self._host.close()
            self._host = None

    def listen(self) -> None:
        """Take what the host has written."""
        if self._host is None:
            return
        try:
            data = self._host.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._unplug_host()
            return
        self._world.note(f"> {data!r}")
        self._check(data)
        run = self._run
        now = self._world.now
        self._input_free_s = max(now, self._input_free_s) + len(data) * self.byte_s
        self._world.at(self._input_free_s - now + self.latency_s, lambda: self._receive(data, run))

    def _check(self, data: bytes) -> None:
        """Whatever is on its way to a motor must have been ordered, and not been taken back."""
        self._said += data
        *lines, rest = bytes(self._said).split(b"\n")
        self._said = bytearray(rest)
        for line in lines:
            order = ORDER.fullmatch(line)
            if order:
                self._world.judge(int(order[1]), int(order[2]))

    # The controller's side

    def _receive(self, data: bytes, run: int) -> None:
        if run != self._run or not self.powered:
            return
        if self.lose_input:
            lost = min(self.lose_input, len(data))
            at = self._world.random.randint(0, len(data) - lost)
            self.lose_input -= lost
            data = data[:at] + data[at + lost :]
        if self.change_input:
            changed = bytearray(data)
            for index in range(len(changed)):
                if self.change_input and self._world.random.random() < 0.3:
                    changed[index] = self.change_input.pop()(changed[index])
            data = bytes(changed)
        now = self._world.now
        if self.echo:
            self._reply(now, data)
        elif self.unknown:
            self._reply(now, b"?\r\n" * data.count(b"\n"))
        else:
            self._feed(data)

    def _feed(self, data: bytes) -> None:
        run = self._run
        for ready_s, reply in self.firmware.feed(data, self._world.now):
            self._reply(ready_s, reply)
        wake_s = self.firmware.wake_at
        if wake_s is not None:
            self._world.at(wake_s - self._world.now, lambda: self._feed(b"") if run == self._run else None)

    def _reply(self, ready_s: float, reply: bytes) -> None:
        if self.silent:
            return
        if self.change_reply:
            reply = self.change_reply.pop()(reply)
        if self.lose_output and reply:
            lost = min(self.lose_output, len(reply))
            at = self._world.random.randint(0, len(reply) - lost)
            self.lose_output -= lost
            reply = reply[:at] + reply[at + lost :]
        start_s = max(ready_s + self.delay_s, self._line_free_s, self._world.now)
        self._line_free_s = start_s + len(reply) * self.byte_s
        self._deliver_later(self._line_free_s + self.latency_s, reply)

    def noise(self, data: bytes) -> None:
        """Let the host receive this now."""
        self._deliver_later(self._world.now, data)

    def stray_input(self, data: bytes) -> None:
        """Let the controller receive this now, between two bytes of the host's."""
        self._receive(data, self._run)

    def _deliver_later(self, when_s: float, data: bytes) -> None:
        run = self._run
        self._world.at(max(0.0, when_s - self._world.now), lambda: self._deliver(data, run))

    def _deliver(self, data: bytes, run: int) -> None:
        if run != self._run or not self.plugged:
            return
        self._world.note(f"{'<' if self._host else '(unread)'} {data[:60]!r}")
        if self._host is None:
            self._fifo += data[: FIFO_SIZE - len(self._fifo)]
            return
        try:
            self._host.send(data)
        except OSError:
            self._unplug_host()

    # What happens to it

    def pull(self) -> None:
        """The cable is out; the controller goes on."""
        self._world.note("the cable is pulled")
        self.plugged = False
        self._cut()
        self._unplug_host()

    def plug(self) -> None:
        """The cable is in."""
        if not self.plugged:
            self._world.note("the cable is plugged in")
            self.plugged = True
            self._cut()

    def _cut(self) -> None:
        self._run += 1
        self._fifo.clear()
        self._line_free_s = self._input_free_s = 0.0

    def power_off(self) -> None:
        """The power is gone; where the port is a real UART, or has power of its own, it stays."""
        self._world.note("the power goes")
        self.powered = False
        self._cut()
        self.firmware.restart(self._world.now)

    def power_on(self) -> None:
        """It is back."""
        if not self.powered:
            self._world.note("the power comes")
            self.powered = True
            self._cut()
            self.firmware.restart(self._world.now)

    def heal(self) -> None:
        """Whatever was wrong is right, now."""
        self._world.note("all is healed")
        self.refusal = ""
        self.silent = self.echo = self.unknown = False
        self.delay_s = 0.0
        self.change_reply.clear()
        self.change_input.clear()
        self.lose_input = self.lose_output = 0
        for channel in range(1, len(self.motors) + 1):
            self.firmware.stall(channel, False, self._world.now)
        if self.firmware.fault_hung:
            self.power_off()
        self.power_on()
        self.plug()

    # The truth

    def moving(self) -> bool:
        """Whether any motor turns."""
        self.firmware._advance(self._world.now)
        return any(motor.moving for motor in self.motors)

    def shaft_steps(self, channel: int) -> float:
        """What the motor has really turned, in steps."""
        self.firmware._advance(self._world.now)
        return self.motors[channel - 1].shaft / (1 << self.shift)


class _Port:
    """The host's end, as `port.Port`."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    def fileno(self) -> int:
        return self._end.fileno()

    def close(self) -> None:
        self._end.close()
