# SPDX-License-Identifier: GPL-3.0-or-later
"""What every TCP connection of focusd and focus needs."""

from __future__ import annotations

import socket


def watch_peer(connection: socket.socket) -> None:
    """Let the connection fail within half a minute of its peer's disappearing without a word (power, cable).

    Calls that block until a motor arrives have no time limit of their own, so nothing else would notice.
    """
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        ("TCP_KEEPIDLE", 10),  # s
        ("TCP_KEEPINTVL", 5),  # s
        ("TCP_KEEPCNT", 3),
        ("TCP_USER_TIMEOUT", 25_000),  # ms
    ):
        if hasattr(socket, option):  # not everywhere
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
