# SPDX-License-Identifier: GPL-3.0-or-later
"""Many INDI clients that only listen to one focuser's position, as dashboards do.

Runs as a process of its own: `python -m tools.bench.crowd PORT COUNT DEVICE` connects them, prints their number when
each has had an answer, and reads until its standard input ends.

They ask for the position alone: the definitions that one client asks for go to all that listen to them, so that a crowd
which asks for everything has the square of its number sent to it, before anything is measured.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import sys

POSITION = "ABS_FOCUS_POSITION"


def main() -> None:
    """Listen until standard input ends."""
    port, count, device = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    selector = selectors.DefaultSelector()
    for _ in range(count):
        client = socket.create_connection(("127.0.0.1", port), timeout=20.0)
        client.sendall(f'<getProperties version="1.7" device="{device}" name="{POSITION}"/>\n'.encode())
        client.recv(65536)
        selector.register(client, selectors.EVENT_READ)
    selector.register(0, selectors.EVENT_READ)
    print(json.dumps(count), flush=True)
    while True:
        for key, _ in selector.select():
            if not os.read(key.fd, 65536):
                return


if __name__ == "__main__":
    main()
