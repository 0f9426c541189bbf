# SPDX-License-Identifier: GPL-3.0-or-later
"""A serial line between a driver and a device, which writes down when each byte went by.

Runs as a process of its own, in one thread, so that nothing delays the stamps: `python -m tools.bench.wire DEVICE BAUD`
opens DEVICE (a terminal, or the number of a TCP port on this machine), makes a terminal for the driver, prints its
name, and passes on what comes, at once or (BAUD above 0) byte for byte as a UART would, both ways. A line on standard
input is answered with all that went by since the last: [monotonic time, "host" or "device" (who sent it), text]. It
ends with its standard input.

What the driver sends is stamped when it is there to be read, that is when the driver has written it.
"""

from __future__ import annotations

import json
import os
import select
import socket
import sys
import time
import tty
from collections import deque

BITS_PER_BYTE = 10


class Direction:
    """One way of the line."""

    def __init__(self, name: str, source: int, sink: int, byte_s: float) -> None:
        self.name = name
        self.source = source
        self._sink = sink
        self._byte_s = byte_s
        self._under_way: deque[tuple[float, bytes]] = deque()
        self._free_s = 0.0

    def take(self, seen: list[tuple[float, str, str]]) -> None:
        """Read what is there, and send it on its way."""
        data = os.read(self.source, 4096)
        now = time.monotonic()
        seen.append((now, self.name, data.decode("latin-1")))
        if not self._byte_s:
            os.write(self._sink, data)
            return
        arrival_s = max(now, self._free_s)
        for byte in data:
            arrival_s += self._byte_s
            self._under_way.append((arrival_s, bytes((byte,))))
        self._free_s = arrival_s

    def deliver(self) -> float | None:
        """Hand over what has arrived by now. When the next byte arrives."""
        while self._under_way and self._under_way[0][0] <= time.monotonic():
            os.write(self._sink, self._under_way.popleft()[1])
        return self._under_way[0][0] if self._under_way else None


def open_device(name: str) -> int:
    """A file descriptor of the device."""
    if name.isdecimal():
        connection = socket.create_connection(("127.0.0.1", int(name)))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection.detach()
    device = os.open(name, os.O_RDWR | os.O_NOCTTY)
    tty.setraw(device)
    return device


def main() -> None:
    """Pass bytes on until standard input ends."""
    device = open_device(sys.argv[1])
    baud = int(sys.argv[2])
    byte_s = BITS_PER_BYTE / baud if baud else 0.0
    ours, theirs = os.openpty()  # their end stays open here too, so that the line survives a driver
    tty.setraw(theirs)
    print(json.dumps(os.ttyname(theirs)), flush=True)
    ways = (Direction("host", ours, device, byte_s), Direction("device", device, ours, byte_s))
    seen: list[tuple[float, str, str]] = []
    while True:
        dues = [due for due in [way.deliver() for way in ways] if due is not None]
        timeout_s = max(0.0, min(dues) - time.monotonic()) if dues else None
        ready, _, _ = select.select([ours, device, 0], [], [], timeout_s)
        for way in ways:
            if way.source in ready:
                way.take(seen)
        if 0 in ready:
            if not os.read(0, 4096):
                return
            print(json.dumps(seen), flush=True)
            seen = []


if __name__ == "__main__":
    main()
