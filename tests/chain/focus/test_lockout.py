# SPDX-License-Identifier: GPL-3.0-or-later
"""A stop from a control machine gets through, whatever other machines do to focusd's port."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import Pyro4
import pytest
from Pyro4.message import MSG_CONNECT, MSG_INVOKE, Message

SERPENT = Pyro4.util.SerpentSerializer()
NUMBER = 300
STOP_S = 3.0
"""Less than any deadline of focusd's: a stop that has to wait for one of those comes too late."""


def message(kind: int, data: bytes, size: int | None = None) -> bytes:
    """`size`: what its header says, where that is not true."""
    made = Message(kind, b"", SERPENT.serializer_id, 0, 0)
    made.data_size = len(data) if size is None else size
    return bytes(made.to_bytes() + data)


HELLO = message(MSG_CONNECT, SERPENT.dumps({"handshake": "hello", "object": "here_focus_daemon"}))
STATUS = message(MSG_INVOKE, SERPENT.dumpsCall("here_focus_daemon", "report_status", (), {}))
CLIENTS = {
    "silent": b"",
    "half a handshake": HELLO[:40],
    "idle after the handshake": HELLO,
    "half a call": HELLO + message(MSG_INVOKE, b"x" * 8_000, 16_000),
    "half a large call": HELLO + message(MSG_INVOKE, b"x" * 50_000, 99_000),
    "ask and do not read": HELLO + 100 * STATUS,
    "a byte a second": b"",
}


@contextmanager
def many(port: int, data: bytes, slowly: bytes) -> Iterator[None]:
    """So many connections from another machine that send `data`, and then a byte of `slowly` each second."""
    connections: list[socket.socket] = []
    over = threading.Event()

    def send_slowly() -> None:
        for byte in slowly:
            for connection in connections:
                with suppress(OSError):
                    connection.send(bytes([byte]))
            if over.wait(1.0):
                return

    thread = threading.Thread(target=send_slowly)
    thread.start()
    try:
        for _ in range(NUMBER):
            connections.append(socket.create_connection(("127.0.0.1", port), 30, source_address=("127.0.0.2", 0)))
            connections[-1].setblocking(False)
            with suppress(OSError):  # focusd has closed it, or takes no more
                connections[-1].send(data)
        yield
    finally:
        over.set()
        thread.join()
        for connection in connections:
            connection.close()


@pytest.mark.parametrize("kind", CLIENTS)
def test_a_stop_is_never_locked_out(chain: Any, until: Any, kind: str) -> None:
    arrival = chain.call("set_focus", 1, 90_000)
    until(lambda: chain.moving(1))
    with many(chain.pyro_port, CLIENTS[kind], HELLO if kind == "a byte a second" else b""):
        with chain.proxy() as focusd:
            focusd._pyroTimeout = STOP_S
            assert focusd.stop_channel(1) == 0
        assert arrival() == 0, chain.log
        for _ in range(5):
            again = chain.call("set_focus", 1, 90_000)
            until(lambda: chain.moving(1))
            with chain.proxy() as focusd:
                focusd._pyroTimeout = STOP_S
                assert focusd.stop_channel(1) == 0
            assert again() == 0, chain.log
        assert chain.focus("stop", "1").returncode == 0
