# SPDX-License-Identifier: GPL-3.0-or-later
"""The name under which an INDI server knows the whole driver, and a second driver of that name.

INDI Web Manager starts and stops drivers through indiserver's FIFO by their label: `start indi_multifocus -n "Label"`.
The server hands the label on as INDIDEV, and on `stop … -n` looks for a driver that it has heard of a device of just
that name from (Fifo.cpp and DvrInfo.cpp, 1.9.9 and 2.x). Channels have names of their own; so the driver makes its
label known by one message, which no client shows, since no device of that name is ever defined.
"""

from __future__ import annotations

import contextlib
import os
import socket
import zlib
from collections.abc import Iterable

from .indi import Message, writer


def introduction(label: str, devices: Iterable[str]) -> Message:
    """What makes the server know the driver by `label`."""
    text = f"[INFO] the focusers of {label} are {', '.join(devices)}"
    return Message("message", label, "", writer.message(label, text), text)


def claim(devices: Iterable[str]) -> contextlib.AbstractContextManager[object] | None:
    """Have these devices' names among the drivers of one indiserver, which is the parent process, while the result is
    open. None where another driver has them. An abstract socket ends with its process, whatever ends that."""
    server = os.getppid()
    if not _is_indiserver(server):
        return contextlib.nullcontext()
    names = "\n".join(devices).encode("utf-8", "surrogateescape")
    held = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        held.bind(f"\0indi_multifocus-{os.getuid()}-{server}-{zlib.crc32(names):08x}")
    except OSError:
        held.close()
        return None
    return held


def _is_indiserver(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().strip() == "indiserver"
    except OSError:
        return False
