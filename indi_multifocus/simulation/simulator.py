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

import os
import select
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from types import TracebackType

from indi_multifocus.simulation.cable import Cable, make_link, remove_link
from indi_multifocus.simulation.eeprom import read_eeprom, write_eeprom
from indi_multifocus.simulation.firmware import Firmware, Reply, Uart
from indi_multifocus.threads import WakePipe, start_thread

# Input that waits for a measurement beyond this stays in the terminal, as it would in a USB host.
_MAX_WAITING = 4096
# Lines that `received` keeps: at ten polls a second those of more than two hours.
_MAX_RECEIVED = 100_000


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
        cells = [0] * channels if self._eeprom_file is None else read_eeprom(self._eeprom_file, channels)
        self._saved = list(cells)
        self._firmware = Firmware(generation, channels, speed=speed, held=held, eeprom=cells, probes=probes)
        self._uart = Uart() if baud_pacing else None
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._closing = False
        self._pipe: WakePipe | None = None
        """Wakes the thread; there is one while that runs."""
        self._cable: Cable | None = None
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
            self._pipe = WakePipe()
            self._closing = False
            self._thread = start_thread(self._run, "simulator")

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
            if self._pipe is not None:
                self._pipe.close()
                self._pipe = None

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
        pipe = self._pipe
        assert pipe is not None
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
                    select.select([pipe], [], [], timeout_s)
                else:
                    cable.wait(pipe, timeout_s, reading=reading)
            with self._lock:
                pipe.drain()
                if self._cable is not None:
                    self._cable.release_if_closed()
                    if self._ready_to_read:
                        self._receive(self._cable.read())

    @property
    def _ready_to_read(self) -> bool:
        return self._firmware.waiting < _MAX_WAITING and not (self._cable is None or self._cable.congested)

    def _wake(self) -> None:
        if self._pipe is not None:
            self._pipe.wake()

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
        cable = Cable()
        try:
            if self._link is not None:
                make_link(cable.path, self._link)
        except BaseException:
            cable.close()
            raise
        self._cable = cable

    def _unplug(self) -> None:
        cable, self._cable = self._cable, None
        self._forget_replies()
        if cable is not None:
            if self._link is not None:
                remove_link(cable.path, self._link)
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
            write_eeprom(self._eeprom_file, self._firmware.eeprom)
        except OSError as error:
            # A simulator that ends here would look like a fault of the cable.
            print(f"simulator: EEPROM not saved: {error}", file=sys.stderr)
        self._saved = list(self._firmware.eeprom)
