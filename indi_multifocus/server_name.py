# SPDX-License-Identifier: GPL-3.0-or-later
"""The label by which an INDI server knows the whole driver, and which driver of a server serves which devices.

Used once, at the start, by `__main__.py`.

KStars and INDI Web Manager start and stop drivers through indiserver's FIFO: `start indi_multifocus -n "Label"`. The
server passes the label on in INDIDEV; on `stop … -n "Label"` it ends the first driver of that program from which it
has received a message about a device of just that name, by SIGKILL (indiserver: Fifo.cpp, DvrInfo.cpp, 1.9.9 and 2.x).
Our devices are the channels, and have names of their own. So the driver sends one message about a device named by the
label. That device is never defined, and libindi's clients ignore messages about a device that they do not know
(baseclient.cpp: messageCmd); a `set` or `def` would make one.

Nothing in INDI prevents two drivers of one server from defining the same device, and a client then sends every request
to both. So a driver reserves the names of its devices among the drivers of its server. Where another one has reserved
one of them, it serves nothing until that one ends: the server then runs as many drivers as were started, and each stop
ends one.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
import zlib
from collections.abc import Callable, Sequence

from .indi import Message, writer

RESTART_S = 1.0
"""How long another driver may have the names before that is reported: a manager that restarts a driver sends stop and
start at once, and the old process may still be ending. A smaller value would report that on a busy machine; a larger
one only delays the report."""


def claim(devices: Sequence[str], signals: int, report: Callable[[], None]) -> contextlib.ExitStack | None:
    """Reserve these device names among the drivers of one indiserver, which is the parent process, until the result is
    closed; waits where another driver has one of them. None where the driver is to end instead.

    `signals`: a file descriptor that becomes readable when a signal wants the driver to end. `report`: called once if
    the wait takes longer than a restart does. A driver that no indiserver started reserves nothing.
    """
    server = _server()
    if server is None:
        return contextlib.ExitStack()
    begin_s = time.monotonic()
    reported = False
    while True:
        reserved = _reserve(server, devices)
        if reserved is not None:
            return reserved
        if not reported and time.monotonic() - begin_s > RESTART_S:
            report()
            reported = True
        # What clients send meanwhile is for the other driver. All is defined when this one begins to serve.
        ready, _, _ = select.select([0, signals], [], [], 0.5 if reported else 0.02)
        if signals in ready or (0 in ready and _is_at_end(0)):
            return None


def introduction(label: str, devices: Sequence[str]) -> Message | None:
    """The message that makes the server know this driver by `label`; None where it is not needed, or would do harm.

    It is not needed where one of our devices has that name. It would do harm where a device of another driver has it,
    as "MultiFocus 2" is the second channel of a driver with the label "MultiFocus": when this driver ended, the server
    would delete the other's device in all clients. See `conflict`.
    """
    if not label or label in devices or conflict(label, devices):
        return None
    text = f"[INFO] the devices of the driver {label} are {', '.join(devices)}"
    return Message("message", label, "", writer.message(label, text), text)


def conflict(label: str, devices: Sequence[str]) -> str:
    """Why the server cannot stop this driver by its label, for people; empty where it can."""
    server = _server()
    if not label or server is None or label in devices:
        return ""
    free = _reserve(server, [label])
    if free is not None:
        free.close()
        return ""
    return (
        f'the label "{label}" is also the name of a device of another driver on this server, '
        "which would be stopped in place of this one: start this driver under another label"
    )


def _is_at_end(stdin: int) -> bool:
    """Throws away what can be read. Whether nothing more will come."""
    try:
        return not os.read(stdin, 65536)
    except OSError:  # of a socket whose other end went before it had read everything
        return True


def _server() -> int | None:
    """The process number of the indiserver that started this driver."""
    parent = os.getppid()
    try:
        with open(f"/proc/{parent}/comm", encoding="utf-8", errors="replace") as file:
            return parent if file.read().strip() == "indiserver" else None
    except OSError:
        return None


def _reserve(server: int, names: Sequence[str]) -> contextlib.ExitStack | None:
    """All of these names, or None."""
    with contextlib.ExitStack() as reserved:
        for name in names:
            # Abstract sockets end with their process, whatever ends that. Their names have at most 107 bytes.
            key = zlib.crc32(name.encode("utf-8", "surrogateescape"))
            end = reserved.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
            try:
                end.bind(f"\0indi_multifocus-{os.getuid()}-{server}-{key:08x}")
            except OSError:
                return None
        return reserved.pop_all()
