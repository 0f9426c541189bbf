# SPDX-License-Identifier: GPL-3.0-or-later
"""A serial line between a driver and a device, which writes down when each byte went by.

Runs as a process of its own: `python -m tools.bench.wire DEVICE BAUD pty|tcp` opens DEVICE (a terminal, or the number
of a TCP port on this machine), makes a terminal or listens on a TCP port for the driver, prints its name or number,
and passes on what comes, at once or (BAUD above 0) byte for byte as a UART would, both ways. A line on standard input
is answered with all that went by since the last: [monotonic time, "host" or "device" (who sent it), text]. It ends
with its standard input.

Each way has a thread that is blocked in the read, so that what the driver sends is read and stamped as soon as it is
written. A second thread delivers it where the line is paced.
"""

from __future__ import annotations

import json
import os
import queue
import socket
import sys
import threading
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import suppress

BITS_PER_BYTE = 10

Seen = list[tuple[float, str, str]]


class Line:
    """What went by, and how long a byte takes."""

    def __init__(self, byte_s: float) -> None:
        self.byte_s = byte_s
        self._lock = threading.Lock()
        self._seen: Seen = []

    def note(self, who: str, data: bytes) -> float:
        """Somebody's bytes are here. Returns when that was."""
        now_s = time.monotonic()
        with self._lock:
            self._seen.append((now_s, who, data.decode("latin-1")))
        return now_s

    def take(self) -> Seen:
        """What went by since the last call."""
        with self._lock:
            seen, self._seen = self._seen, []
        return seen


class Way:
    """One direction of the line: from `source`, chunk by chunk, to `deliver`."""

    def __init__(self, line: Line, who: str, source: Iterator[bytes], deliver: Callable[[bytes], None]) -> None:
        self._line, self._who, self._source, self._deliver = line, who, source, deliver
        self._under_way: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()
        if line.byte_s:
            threading.Thread(target=self._pace, daemon=True).start()

    def _read(self) -> None:
        free_s = 0.0
        for data in self._source:
            now_s = self._line.note(self._who, data)
            if not self._line.byte_s:
                self._deliver(data)
                continue
            free_s = max(now_s, free_s)
            for byte in data:
                free_s += self._line.byte_s
                self._under_way.put((free_s, bytes((byte,))))

    def _pace(self) -> None:
        while True:
            arrival_s, byte = self._under_way.get()
            time.sleep(max(0.0, arrival_s - time.monotonic()))
            self._deliver(byte)


class Terminal:
    """The driver's end as a pseudo-terminal. It survives a driver, for its other end stays open here too."""

    def __init__(self) -> None:
        self._ours, theirs = os.openpty()
        tty.setraw(theirs)
        self.name = os.ttyname(theirs)

    def chunks(self) -> Iterator[bytes]:
        """What the driver writes."""
        while True:
            yield os.read(self._ours, 4096)

    def deliver(self, data: bytes) -> None:
        """Let the driver read it."""
        os.write(self._ours, data)


class Port:
    """The driver's end as a TCP port, which serves one driver after the other."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.name: int = self._listener.getsockname()[1]
        self._host: socket.socket | None = None

    def chunks(self) -> Iterator[bytes]:
        """What the driver writes."""
        while True:
            self._host, _ = self._listener.accept()
            self._host.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with suppress(ConnectionError):
                while data := self._receive(self._host):
                    yield data

    def _receive(self, host: socket.socket) -> bytes:
        # The driver sends some commands in pairs: without an acknowledgement at once, Nagle's algorithm would hold back
        # each second one for 40 ms, which no serial port does.
        host.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        return host.recv(4096)

    def deliver(self, data: bytes) -> None:
        """Let the driver read it; nobody may be there."""
        if self._host is not None:
            with suppress(OSError):
                self._host.sendall(data)


def open_device(name: str) -> int:
    """A file descriptor of the device."""
    if name.isdecimal():
        connection = socket.create_connection(("127.0.0.1", int(name)))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection.detach()
    device = os.open(name, os.O_RDWR | os.O_NOCTTY)
    tty.setraw(device)
    return device


def chunks_of(device: int) -> Iterator[bytes]:
    """What the device writes."""
    while data := os.read(device, 4096):
        yield data


def writer(device: int) -> Callable[[bytes], None]:
    """What lets the device read something."""

    def write(data: bytes) -> None:
        os.write(device, data)

    return write


def main() -> None:
    """Pass bytes on until standard input ends."""
    device, baud = open_device(sys.argv[1]), int(sys.argv[2])
    line = Line(BITS_PER_BYTE / baud if baud else 0.0)
    end: Terminal | Port = Port() if sys.argv[3] == "tcp" else Terminal()
    Way(line, "host", end.chunks(), writer(device))
    Way(line, "device", chunks_of(device), end.deliver)
    print(json.dumps(end.name), flush=True)
    for _ in sys.stdin:
        print(json.dumps(line.take()), flush=True)


if __name__ == "__main__":
    main()
