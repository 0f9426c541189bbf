# SPDX-License-Identifier: GPL-3.0-or-later
"""TCP ports of the servers that tests and tools start."""

from __future__ import annotations

import socket


def free_port() -> int:
    """A TCP port that is free on every address of this machine, as a server needs it that listens on all of them.

    A port that is free on 127.0.0.1 alone may still be kept by connections of 127.0.0.2 that have just ended.
    """
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def listens(port: int, host: str = "127.0.0.1") -> bool:
    """Whether somebody accepts connections there."""
    try:
        socket.create_connection((host, port), timeout=1.0).close()
    except OSError:
        return False
    return True
