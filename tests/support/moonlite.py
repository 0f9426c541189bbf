# SPDX-License-Identifier: GPL-3.0-or-later
"""A Moonlite focuser behind a TCP port: as much of one as libindi's indi_moonlite_focus needs to work.

The tests of conformance hold our driver against libindi's, and the benches time both; neither has the hardware. It has
one thread, which sleeps in select until a command comes; where the motor is follows from the clock. Every public member
may be used from any thread. `python tests/support/moonlite.py` serves one, and prints its port, until its input ends.

TCP (CONNECTION_MODE=CONNECTION_TCP, DEVICE_ADDRESS), and not a pseudo-terminal: the driver discards unsent bytes before
each command, and on a pseudo-terminal that throws away the command before, if the other end has not read it yet.

Protocol (Moonlite's, as indi_moonlite_focus of libindi 1.9.9 speaks it): commands are `:` … `#`, numbers are
hexadecimal, and only what asks is answered.
"""

from __future__ import annotations

import os
import select
import socket
import sys
import threading
import time
from collections.abc import Iterator

STEPS_PER_S = 100.0
"""About what the focusers of this project do, so that times may be compared."""


class Moonlite:
    """One focuser; a context manager. It listens at `host` and `port`, and serves one client after the other."""

    def __init__(self, *, position: int = 0, steps_per_s: float = STEPS_PER_S) -> None:
        self.host = "127.0.0.1"
        self._listener = socket.create_server((self.host, 0))
        self.port: int = self._listener.getsockname()[1]
        self.received: list[tuple[float, bytes]] = []
        """Every command without its `:` and `#`, and the monotonic time at which it came."""
        self._steps_per_s = steps_per_s
        self._lock = threading.Lock()
        self._begin = self._target = self._wanted = self._told = position
        self._begun_s = time.monotonic()
        self._wake_read, self._wake_write = os.pipe()
        self._thread = threading.Thread(target=self._run, name="moonlite", daemon=True)

    def __enter__(self) -> Moonlite:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.write(self._wake_write, b"!")
        self._thread.join()
        self._listener.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    @property
    def position(self) -> int:
        """Where the motor is now, in steps."""
        with self._lock:
            return self._position(time.monotonic())

    @property
    def standstill(self) -> float | None:
        """The monotonic time at which the motor last came to rest; None while it moves."""
        with self._lock:
            arrival_s = self._begun_s + abs(self._target - self._begin) / self._steps_per_s
            return arrival_s if time.monotonic() >= arrival_s else None

    def _position(self, now: float) -> int:
        gone, way = int((now - self._begun_s) * self._steps_per_s), self._target - self._begin
        return self._target if gone >= abs(way) else self._begin + (gone if way > 0 else -gone)

    def _go(self, now: float, target: int | None) -> None:
        """Set out for `target`; None: stay here."""
        self._begin, self._begun_s = self._position(now), now
        self._target = self._begin if target is None else target

    def _run(self) -> None:
        while self._readable(self._listener):
            client, _ = self._listener.accept()
            with client:
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._serve(client)

    def _readable(self, source: socket.socket) -> bool:
        """Wait until there is something; False: it is time to end."""
        ready, _, _ = select.select([source.fileno(), self._wake_read], [], [])
        return self._wake_read not in ready

    def _serve(self, client: socket.socket) -> None:
        rest = b""
        while self._readable(client):
            try:
                # The driver sends some commands in pairs: without an acknowledgement at once, Nagle's algorithm would
                # hold back each second one for 40 ms, which no serial port does.
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
                data = client.recv(4096)
                *commands, rest = (rest + data).split(b"#")
                now = time.monotonic()
                with self._lock:
                    answers = b"".join(self._answers([text.lstrip(b":") for text in commands], now))
                client.sendall(answers)
            except ConnectionError:
                return
            if not data:
                return

    def _answers(self, commands: list[bytes], now: float) -> Iterator[bytes]:
        for command in commands:
            self.received.append((now, command))
            verb, argument = command[:2], command[2:]
            if verb == b"GP":
                self._told = self._position(now)
                yield b"%04X#" % self._told
            elif verb == b"GN":
                yield b"%04X#" % self._wanted
            elif verb == b"GI":
                # The driver reads the position first, and at standstill no more: an arrival in between it would miss.
                yield b"01#" if self._told != self._target else b"00#"
            elif verb == b"GT":
                yield b"0028#"  # in half °C: 20 °C
            elif verb == b"GD":
                yield b"02#"
            elif verb == b"GH":
                yield b"00#"
            elif verb == b"GV":
                yield b"10"  # the one answer that has no end
            elif verb == b"SN":
                self._wanted = int(argument, 16)
            elif verb == b"SP":
                self._begin = self._target = self._wanted = int(argument, 16)
            elif verb == b"FG":
                self._go(now, self._wanted)
            elif verb == b"FQ":
                self._go(now, None)


def main() -> None:
    """Serve one focuser until standard input ends."""
    with Moonlite() as focuser:
        print(focuser.port, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
