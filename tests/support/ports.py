# SPDX-License-Identifier: GPL-3.0-or-later
"""TCP ports of the servers that tests and tools start."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

FIRST, BLOCK, BLOCKS = 20_000, 200, 60
"""Below the ports that the kernel gives to connections (32768 and more by default): none of them takes one that was
found free, before its server has it."""

_reserved: list[socket.socket] = []


def _numbers() -> Iterator[int]:
    """Ports that no other process of tests or tools gets: a block of them belongs to the process that has its name."""
    for block in range(BLOCKS):
        name = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            name.bind(f"\0indi_multifocus ports {block}")  # an abstract name, free again when this process ends
        except OSError:
            name.close()
            continue
        _reserved.append(name)
        yield from range(FIRST + block * BLOCK, FIRST + (block + 1) * BLOCK)
    raise OSError(f"all ports from {FIRST} to {FIRST + BLOCK * BLOCKS - 1} are taken")


_next = _numbers()


def _begin_anew() -> None:
    global _next
    _next = _numbers()


os.register_at_fork(after_in_child=_begin_anew)  # the block is its parent's


def free_port() -> int:
    """A TCP port that is free on every address of this machine, as a server needs it that listens on all of them; and
    another one in each call.

    A port that is free on 127.0.0.1 alone may still be kept by connections of 127.0.0.2 that have just ended.
    """
    for port in _next:
        with socket.socket() as probe:
            try:
                probe.bind(("", port))
            except OSError:
                continue
            return port
    raise AssertionError("unreachable: _numbers ends with an error")


def listens(port: int, host: str = "127.0.0.1") -> bool:
    """Whether somebody accepts connections there."""
    try:
        socket.create_connection((host, port), timeout=1.0).close()
    except OSError:
        return False
    return True
