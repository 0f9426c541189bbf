# SPDX-License-Identifier: GPL-3.0-or-later
"""A focus controller on a pseudo-terminal, with faults that a test can switch on.

`python -m indi_multifocus.simulator` serves one until Ctrl-C; tests make a `Simulator`, open its `.port` like
any serial port, and query the truth afterwards.  What the controller answers is the business of
`firmware.py`; here are the terminal, the clock, the EEPROM file and what can go wrong on a cable.

A Simulator has one thread of its own, which sleeps in select until bytes come, a reply is due or a fault is
over.  Every public method may be called from any thread.  The driver imports this when SIMULATION is turned
on, and never before: its start must not pay for it.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import select
import signal
import sys
import termios
import threading
import time
import tty
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from types import TracebackType

from indi_multifocus.settings.regular_file import read_regular_file
from indi_multifocus.simulation.firmware import BUILDS, MAX_CHANNELS, Firmware, Reply, Uart

_READ_SIZE = 4096
# Input that waits for a measurement beyond this stays in the terminal, as it would in a USB host.
_MAX_WAITING = 4096
_MAX_RECEIVED = 100_000
_MAX_EEPROM = 1000

# How long the firmware waits for a host that does not read (LUFA's stream timeout), before it drops the rest.
_SEND_TIMEOUT_S = 0.1

# Linux constants that the standard library lacks.
_TIOCGEXCL = 0x80045440
_IN_CLOSE_WRITE = 0x8


class Simulator:
    """A controller behind a serial port: `start` it (or use it as a context manager), then open `.port`.

    `generation`, `channels`, `speed`, `held` and `probes` are the `Firmware`'s.  With `baud_pacing` replies
    arrive at 9600 baud.  `eeprom` names a file that keeps the targets over a restart; `link` is a symbolic
    link to the terminal, as udev makes them.  The host may close and open the port as often as it likes; what
    it left unread stays there.

    Raises ValueError for what no controller could be, and for an EEPROM file or a link that is something
    else; OSError where the link or the terminal cannot be made.
    """

    def __init__(
        self,
        *,
        generation: int = 2,
        channels: int = 2,
        speed: float = 1.0,
        held: bool = False,
        baud_pacing: bool = False,
        eeprom: str | os.PathLike[str] | None = None,
        link: str | os.PathLike[str] | None = None,
        probes: Mapping[str, float] | None = None,
    ) -> None:
        self._eeprom_file = None if eeprom is None else os.fspath(eeprom)
        self._link = None if link is None else os.fspath(link)
        cells = [0] * channels if self._eeprom_file is None else _read_eeprom(self._eeprom_file, channels)
        self._saved = list(cells)
        self._firmware = Firmware(generation, channels, speed=speed, held=held, eeprom=cells, probes=probes)
        self._uart = Uart() if baud_pacing else None
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._closing = False
        self._wake_r = self._wake_w = -1
        self._cable: _Cable | None = None
        self._replies: deque[Reply] = deque()  # leave in this order: one that is late holds up those behind it
        self._received: deque[tuple[float, bytes]] = deque(maxlen=_MAX_RECEIVED)
        self._line = bytearray()
        # Faults
        self._power_back_at: float | None = None
        self._replug_with_power = False
        self._silent = False
        self._echo = False
        self._unknown = False
        self._delay_s = 0.0
        self._mangle: Callable[[bytes], bytes] | None = None
        self._lose_input = 0
        self._lose_output = 0
        self._babble: tuple[bytes, float] | None = None
        self._babble_at = 0.0

    # Life

    def start(self) -> None:
        """Power on, plug in, and serve until `close`."""
        with self._lock:
            if self._thread is not None:
                raise RuntimeError("the simulator runs already")
            self._firmware.restart(time.monotonic())
            self._plug()
            self._wake_r, self._wake_w = os.pipe()
            os.set_blocking(self._wake_r, False)
            os.set_blocking(self._wake_w, False)
            self._closing = False
            self._thread = threading.Thread(target=self._run, name="simulator", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Vanish: the terminal, the link and the thread.  Harmless when it is closed already."""
        with self._lock:
            thread, self._thread = self._thread, None
            if thread is None:
                return
            self._closing = True
            self._wake()
        thread.join()
        with self._lock:
            self._unplug()
            self._power_back_at = None
            os.close(self._wake_r)
            os.close(self._wake_w)
            self._wake_r = self._wake_w = -1

    def __enter__(self) -> Simulator:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def port(self) -> str:
        """The path to open: the link if there is one, else the terminal."""
        if self._link is not None:
            return self._link
        with self._lock:
            if self._cable is None:
                raise RuntimeError("the simulator is not plugged in, and has no link")
            return self._cable.path

    # The truth

    @property
    def received(self) -> list[tuple[float, bytes]]:
        """Every line that reached the controller's end of the cable (the last 100,000).

        With the monotonic time of its last byte, and without the byte that ended it.
        """
        with self._lock:
            return list(self._received)

    def in_use(self) -> bool:
        """Whether a host has the port open at this moment."""
        with self._lock:
            return self._cable is not None and self._cable.in_use()

    @property
    def fans(self) -> bool:
        with self._lock:
            return self._firmware.fans

    def position(self, channel: int) -> int:
        """Where the controller takes channel `channel` to be now, in steps (floor)."""
        with self._lock:
            return self._firmware.position(channel, self._service())

    def microsteps(self, channel: int) -> int:
        """`position` in microsteps."""
        with self._lock:
            return self._firmware.microsteps(channel, self._service())

    def target(self, channel: int) -> int:
        """Where the channel is going or stands, in steps."""
        with self._lock:
            self._service()
            return self._firmware.target(channel)

    def standstill(self, channel: int) -> float | None:
        """The monotonic time when the motor last came to rest; 0 if it never moved, None while it moves."""
        with self._lock:
            return self._firmware.standstill(channel, self._service())

    def shaft(self, channel: int) -> int:
        """Microsteps which the motor has really turned, whatever zero or a power cycle made of them."""
        with self._lock:
            return self._firmware.shaft(channel, self._service())

    def set_probe(self, address: str, celsius: float | None) -> None:
        """Let a temperature probe measure `celsius`, or with None take it off the bus."""
        with self._lock:
            self._firmware.set_probe(address, celsius)

    def set_speed(self, speed: float) -> None:
        """Let the motors run at `speed` times their own from now on, also in mid-move.

        Raises ValueError where that is no finite factor above 0; the speed is then what it was.
        """
        with self._lock:
            self._firmware.set_speed(speed, self._service())

    # Faults of the cable and of the power

    def pull_cable(self) -> None:
        """Pull the USB cable: an open port gets EOF and EIO, terminal and link vanish; the motors go on."""
        with self._lock:
            self._service()
            self._unplug()
            self._wake()

    def replug_cable(self) -> None:
        """Plug it in again: a new terminal (with another number if a host holds the old one), same link."""
        with self._lock:
            if self._thread is not None and self._cable is None:
                self._plug()
                self._wake()

    def power_cycle(self, off_s: float = 0.0) -> None:
        """A controller fed by its USB cable loses power: the port vanishes, and after `off_s` it is back.

        Positions and targets are then what the EEPROM holds.  Returns at once; with 0 it is back by then.
        """
        self._lose_power(off_s, cable=True)

    def brown_out(self, off_s: float = 0.0) -> None:
        """A controller behind a UART loses power for `off_s`: the port stays, and nothing answers meanwhile.

        What is sent then is lost.  Positions and targets are what the EEPROM holds.  Returns at once; with 0
        it is back by then.
        """
        self._lose_power(off_s, cable=False)

    def _lose_power(self, off_s: float, *, cable: bool) -> None:
        with self._lock:
            now = self._service()
            self._firmware.restart(now)
            self._forget_replies()
            self._line.clear()
            if cable:
                self._unplug()
            self._replug_with_power |= cable
            self._power_back_at = now + off_s
            self._service()
            self._wake()

    # Faults of the line

    def garbage(self, data: bytes) -> None:
        """Let the host receive `data` now, also in the middle of a reply."""
        with self._lock:
            self._send(data, time.monotonic())

    def babble(self, data: bytes | None, interval_s: float = 0.1) -> None:
        """Let the host receive `data` again and again, until called with None: noise, or another instrument."""
        with self._lock:
            self._babble = None if data is None else (data, max(interval_s, 0.001))
            self._babble_at = time.monotonic()
            self._wake()

    def silence(self, on: bool) -> None:
        """Lose every reply; commands are still carried out."""
        with self._lock:
            self._silent = on

    def fault_hang(self) -> None:
        """Let the controller hang: nothing that comes is dealt with until the power is cycled; the motors go on."""
        with self._lock:
            self._service()
            self._firmware.fault_hang()
            self._forget_replies()

    def echo(self, on: bool) -> None:
        """Send back what comes, and do nothing else: a loop-back plug, or a modem."""
        with self._lock:
            self._echo = on

    def answer_unknown(self, on: bool) -> None:
        """Answer `?` to every line, and do nothing else."""
        with self._lock:
            self._unknown = on

    def delay_replies(self, seconds: float) -> None:
        """Let every reply from now on come this much later than it should; 0 ends it.  Their order stays."""
        with self._lock:
            self._delay_s = seconds

    def mangle_replies(self, change: Callable[[bytes], bytes] | None) -> None:
        """Send `change(reply)` instead of each reply, until called with None."""
        with self._lock:
            self._mangle = change

    def truncate_replies(self, length: int | None) -> None:
        """Cut every reply to its first `length` bytes, until called with None: without line ends, lines merge."""
        self.mangle_replies(None if length is None else lambda reply: reply[:length])

    def lose_input(self, count: int) -> None:
        """Lose the next `count` bytes on their way to the controller."""
        with self._lock:
            self._lose_input = count

    def lose_output(self, count: int) -> None:
        """Lose the next `count` bytes on their way to the host."""
        with self._lock:
            self._lose_output = count

    def stall(self, channel: int, on: bool = True) -> None:
        """Stop the counting of a motor: it takes targets and stays where it is, until called with False."""
        with self._lock:
            self._firmware.stall(channel, on, self._service())

    # The thread

    def _run(self) -> None:
        while True:
            with self._lock:
                if self._closing:
                    return
                now = self._service()
                due = self._next_due()
                timeout_s = None if due is None else max(0.0, due - now)
                cable = self._cable
                reading = self._ready_to_read
            with suppress(OSError):  # the cable may have been pulled since
                if cable is None:
                    select.select([self._wake_r], [], [], timeout_s)
                else:
                    cable.wait(self._wake_r, timeout_s, reading=reading)
            with self._lock:
                _drain(self._wake_r)
                if self._cable is not None:
                    self._cable.release_if_closed()
                    if self._ready_to_read:
                        self._receive(self._cable.read())

    @property
    def _ready_to_read(self) -> bool:
        return self._firmware.waiting < _MAX_WAITING and not (self._cable is None or self._cable.congested)

    def _wake(self) -> None:
        if self._wake_w >= 0:
            with suppress(BlockingIOError):  # then it has enough to wake up for
                os.write(self._wake_w, b"\0")

    def _next_due(self) -> float | None:
        dues = [self._firmware.wake_at, self._power_back_at]
        if self._replies:
            dues.append(self._replies[0][0])
        if self._babble is not None:
            dues.append(self._babble_at)
        if self._cable is not None:
            dues.append(self._cable.gives_up_at)
        return min((due for due in dues if due is not None), default=None)

    def _service(self) -> float:
        """Do what is due by now, and return the time that was taken for now."""
        now = time.monotonic()
        if self._power_back_at is not None and self._power_back_at <= now:
            self._power_back_at = None
            self._firmware.restart(now)
            if self._replug_with_power and self._cable is None and self._thread is not None:
                self._plug()
            self._replug_with_power = False
        self._answer(self._firmware.feed(b"", now))
        self._save()
        if self._babble is not None and self._babble_at <= now:
            data, interval_s = self._babble
            if self._cable is not None and not self._cable.congested:
                self._send(data, now)
            self._babble_at = now + interval_s
        if self._cable is not None:
            self._cable.flush(now)
        ready = bytearray()
        while self._replies and self._replies[0][0] <= now:
            ready += self._replies.popleft()[1]
        self._send(bytes(ready), now)
        return now

    def _receive(self, data: bytes) -> None:
        if self._lose_input:
            lost = min(self._lose_input, len(data))
            self._lose_input -= lost
            data = data[lost:]
        if not data or self._power_back_at is not None:
            return
        now = self._service()
        lines = self._note(data, now)
        if self._echo:
            self._answer([(now, data)])
        elif self._unknown:
            self._answer([(now, b"?\r\n")] * lines)
        else:
            self._answer(self._firmware.feed(data, now))
        self._service()

    def _note(self, data: bytes, now: float) -> int:
        """Write down the lines that end in `data`, and return how many."""
        before, *rest = data.replace(b"\r", b"\n").split(b"\n")
        self._line += before
        for text in rest:
            self._received.append((now, bytes(self._line)))
            self._line = bytearray(text)
        return len(rest)

    def _answer(self, replies: Iterable[Reply]) -> None:
        for ready, reply in replies:
            if self._silent:
                continue
            data = reply if self._mangle is None else self._mangle(reply)
            due = ready + self._delay_s
            if self._uart is None:
                self._replies.append((due, data))
            else:
                self._replies.extend(self._uart.pace(due, data))

    def _send(self, data: bytes, now: float) -> None:
        if self._lose_output:
            lost = min(self._lose_output, len(data))
            self._lose_output -= lost
            data = data[lost:]
        if data and self._cable is not None:
            self._cable.write(data, now)

    # Hardware

    def _plug(self) -> None:
        cable = _Cable()
        try:
            if self._link is not None:
                _make_link(cable.path, self._link)
        except BaseException:
            cable.close()
            raise
        self._cable = cable

    def _unplug(self) -> None:
        cable, self._cable = self._cable, None
        self._forget_replies()
        if cable is not None:
            if self._link is not None:
                _remove_link(cable.path, self._link)
            cable.close()

    def _forget_replies(self) -> None:
        self._replies.clear()
        if self._uart is not None:
            self._uart = Uart()

    def _save(self) -> None:
        """Bring the EEPROM file up to date; before the reply leaves, as the firmware does."""
        if self._eeprom_file is None or self._firmware.eeprom == self._saved:
            return
        try:
            _write_eeprom(self._eeprom_file, self._firmware.eeprom)
        except OSError as error:
            # A simulator that ends here would look like a fault of the cable.
            print(f"simulator: EEPROM not saved: {error}", file=sys.stderr)
        self._saved = list(self._firmware.eeprom)


class _Cable:
    """A pseudo-terminal: a serial port for the host, and our end of it.

    Our own handle of the host's end keeps the terminal, and what is unread in it, when the host closes.
    But it also keeps the claim (TIOCEXCL) of a host that was killed, while a real port is free with the last
    close.  So closes are watched, and the claim ends with the last.
    """

    def __init__(self) -> None:
        self._ours, theirs = os.openpty()
        self._keeper = self._watch = -1
        self._unsent = bytearray()
        self.gives_up_at: float | None = None
        try:
            tty.setraw(theirs)
            os.set_blocking(self._ours, False)
            self.path = os.ttyname(theirs)
            self._keeper = self._open_keeper()
            self._watch = _watch_closes(self.path)
        except BaseException:
            self.close()
            raise
        finally:
            os.close(theirs)

    def close(self) -> None:
        for fd in (self._watch, self._ours, self._keeper):
            if fd >= 0:
                os.close(fd)

    def _open_keeper(self) -> int:
        # For reading only, so that its own closing is none of the closes that are watched.
        return os.open(self.path, os.O_RDONLY | os.O_NOCTTY)

    @property
    def congested(self) -> bool:
        """Whether the host has yet to take what was sent."""
        return bool(self._unsent)

    def wait(self, wake: int, timeout_s: float | None, *, reading: bool) -> None:
        """Sleep until something happens."""
        sources = [fd for fd in (wake, self._watch, self._ours if reading else -1) if fd >= 0]
        select.select(sources, [self._ours] if self._unsent else [], [], timeout_s)

    def release_if_closed(self) -> None:
        """End a host's claim to the port, if that host has closed it or died."""
        if self._watch >= 0 and _drain(self._watch):
            self.in_use()

    def in_use(self) -> bool:
        """Whether a host has the port open.  Our end sees a hang-up if nobody has, ourselves included."""
        claimed = fcntl.ioctl(self._keeper, _TIOCGEXCL, b"\0" * 4) != b"\0" * 4
        if claimed:
            fcntl.ioctl(self._keeper, termios.TIOCNXCL)
        os.close(self._keeper)
        poll = select.poll()
        poll.register(self._ours, 0)
        hung_up = bool(poll.poll(0))
        self._keeper = self._open_keeper()
        if claimed and not hung_up:
            fcntl.ioctl(self._keeper, termios.TIOCEXCL)
        return not hung_up

    def read(self) -> bytes:
        try:
            return os.read(self._ours, _READ_SIZE)
        except OSError:
            return b""

    def write(self, data: bytes, now: float) -> None:
        """Send; the controller does nothing else until the host took it, or the firmware gives up."""
        self._unsent += data
        self.flush(now)

    def flush(self, now: float) -> None:
        """Go on with what the terminal did not take yet."""
        try:
            while self._unsent:
                del self._unsent[: os.write(self._ours, self._unsent)]
                self.gives_up_at = None
        except OSError:
            if self.gives_up_at is None:
                self.gives_up_at = now + _SEND_TIMEOUT_S
            elif self.gives_up_at <= now:
                self._unsent.clear()
                self.gives_up_at = None


def _watch_closes(path: str) -> int:
    """A descriptor that is readable after a close by one who could write; -1 where there is no inotify."""
    try:
        libc = ctypes.CDLL(None)
        watch = int(libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        if watch >= 0:
            libc.inotify_add_watch(watch, os.fsencode(path), _IN_CLOSE_WRITE)
    except (OSError, AttributeError):
        return -1
    return watch


def _drain(fd: int) -> bool:
    """Read all there is; whether there was anything."""
    found = False
    with suppress(BlockingIOError):
        while os.read(fd, _READ_SIZE):
            found = True
    return found


def _make_link(target: str, link: str) -> None:
    """Point `link` at `target` in one step; an older link is replaced, anything else left alone."""
    if os.path.lexists(link) and not os.path.islink(link):
        raise ValueError(f"{link} exists and is not a symbolic link")
    new = f"{link}.{os.getpid()}.new"
    os.symlink(target, new)
    os.replace(new, link)


def _remove_link(target: str, link: str) -> None:
    with suppress(OSError):  # somebody else's by now, or gone
        if os.readlink(link) == target:
            os.unlink(link)


def _read_eeprom(path: str, channels: int) -> list[int]:
    """The targets in microsteps that a file holds; zeros for a file or a channel that is not there."""
    try:
        cells = json.loads(read_regular_file(path, _MAX_EEPROM).decode("ascii"))
    except FileNotFoundError:
        cells = []
    except ValueError:
        cells = None
    if not isinstance(cells, list) or any(type(cell) is not int for cell in cells):
        raise ValueError(f"{path} is no EEPROM: a JSON list of microsteps is needed, like [8000, -160]")
    return (cells + [0] * channels)[:channels]


def _write_eeprom(path: str, cells: list[int]) -> None:
    """Replace the file in one step: whenever the process is killed, the old targets are there, or the new."""
    new = f"{path}.new"
    with open(new, "w", encoding="ascii") as file:
        json.dump(cells, file)
    os.replace(new, path)


def main(arguments: list[str] | None = None) -> int:
    """The command line: serve a controller, its port on the first line of stdout, until SIGINT or SIGTERM."""
    import argparse

    parser = argparse.ArgumentParser(
        prog="python -m indi_multifocus.simulator",
        description="A simulated focus controller on a pseudo-terminal. Prints the port to open.",
    )
    add = parser.add_argument
    add("--generation", type=int, choices=sorted(BUILDS), default=2, help="of the firmware (default 2)")
    add("--channels", type=int, default=2, metavar="N", help=f"1 to {MAX_CHANNELS} (default 2)")
    add("--link", metavar="PATH", help="a symbolic link to make to the port")
    add("--speed", type=float, default=1.0, metavar="X", help="of the motors, in real ones (default 1)")
    add("--baud-pacing", action="store_true", help="let replies arrive at 9600 baud")
    add("--eeprom", metavar="FILE", help="keep the targets here over a restart")
    add("--probe", type=_probe, action="append", default=[], metavar="ADDRESS=CELSIUS", help="a thermometer")
    options = parser.parse_args(arguments)

    ends = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    # Blocked before the thread starts, so that it inherits this and sigwait gets them.
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    try:
        simulator = Simulator(
            generation=options.generation,
            channels=options.channels,
            speed=options.speed,
            baud_pacing=options.baud_pacing,
            eeprom=options.eeprom,
            link=options.link,
            probes=dict(options.probe),
        )
        simulator.start()
    except (ValueError, OSError) as error:
        print(f"simulator: {error}", file=sys.stderr)
        return 1
    try:
        print(simulator.port, flush=True)
        signal.sigwait(ends)
    finally:
        simulator.close()
    return 0


def _probe(text: str) -> tuple[str, float]:
    address, _, celsius = text.partition("=")
    return address, float(celsius)


if __name__ == "__main__":
    sys.exit(main())
