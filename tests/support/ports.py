# SPDX-License-Identifier: GPL-3.0-or-later
"""TCP ports of the servers that tests and tools start."""

from __future__ import annotations

import itertools
import os
import socket

FIRST, COUNT = 20_000, 12_000
"""Below the ports that the kernel gives to connections (32768 and more by default): none of them takes one that was
found free, before its server has it."""

_numbers = itertools.count(os.getpid() * 1009)
"""So that processes which run side by side begin at different ports."""


def free_port() -> int:
    """A TCP port that is free on every address of this machine, as a server needs it that listens on all of them; and
    another one in each call.

    A port that is free on 127.0.0.1 alone may still be kept by connections of 127.0.0.2 that have just ended.
    """
    for number in itertools.islice(_numbers, COUNT):
        port = FIRST + number % COUNT
        with socket.socket() as probe:
            try:
                probe.bind(("", port))
            except OSError:
                continue
            return port
    raise OSError(f"all ports from {FIRST} to {FIRST + COUNT - 1} are in use")


def listens(port: int, host: str = "127.0.0.1") -> bool:
    """Whether somebody accepts connections there."""
    try:
        socket.create_connection((host, port), timeout=1.0).close()
    except OSError:
        return False
    return True
