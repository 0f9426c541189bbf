# SPDX-License-Identifier: GPL-3.0-or-later
"""focusd's port by itself, over real sockets: deadlines, limits, and that a failure costs one connection at most."""

from __future__ import annotations

import copy
import io
import ipaddress
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any, Callable

import Pyro4
import pytest
from Pyro4 import socketutil
from Pyro4.message import FLAGS_ONEWAY, MSG_CONNECT, MSG_CONNECTOK, MSG_INVOKE, MSG_RESULT, Message

from focus_cli import listener
from focus_cli.indi_client import IndiClient
from focus_cli.listener import Listener, PyroDaemon
from focus_cli.log import Log
from focus_cli.threads import log_failures

SERPENT = Pyro4.util.SerpentSerializer()
CONTROL, OTHER, THIRD = "127.0.0.1", "127.0.0.2", "127.0.0.3"
LONG_S, SHORT_S = 600.0, 0.2


@Pyro4.expose
class Object:
    """What is called."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.begun = threading.Semaphore(0)

    def ask(self) -> str:
        return "answer"

    def wait(self) -> str:
        self.begun.release()
        self.go_on.wait(30)
        return "waited"

    def fail(self) -> None:
        raise ZeroDivisionError("on purpose")


class Port:
    """A listener, and what it logs."""

    def __init__(self) -> None:
        self.output = io.StringIO()
        self.object = Object()
        self.daemon = PyroDaemon("127.0.0.1", 0)
        self.daemon.register(self.object, "object")
        control = {ipaddress.ip_address(CONTROL)}
        log = Log("test", stream=self.output)
        log_failures(log)
        Listener(self.daemon, control.__contains__, log).start()
        self.clients: list[Peer] = []

    def connect(self, address: str) -> Peer:
        """A connection from there, without a handshake."""
        self.clients.append(Peer(self.daemon.sock.getsockname(), address))
        return self.clients[-1]

    def introduce(self, address: str) -> Peer:
        """A connection that may call."""
        peer = self.connect(address)
        peer.introduce()
        return peer


class Peer(socketutil.SocketConnection):  # type: ignore[misc]
    """A client, byte by byte."""

    def __init__(self, port: tuple[str, int], address: str) -> None:
        super().__init__(socket.create_connection(port, timeout=30, source_address=(address, 0)))

    def say(self, kind: int, data: bytes, flags: int = 0) -> None:
        self.send(Message(kind, data, SERPENT.serializer_id, flags, 0).to_bytes())

    def introduce(self) -> None:
        self.say(MSG_CONNECT, SERPENT.dumps({"handshake": "hello", "object": "object"}))
        assert Message.recv(self).type == MSG_CONNECTOK

    def call(self, method: str, *arguments: object, flags: int = 0) -> None:
        self.say(MSG_INVOKE, SERPENT.dumpsCall("object", method, arguments, {}), flags)

    def answer(self) -> Any:
        reply = Message.recv(self)
        assert reply.type == MSG_RESULT
        return SERPENT.deserializeData(reply.data)

    def ask(self) -> Any:
        self.call("ask")
        return self.answer()

    def ask_until_closed(self) -> None:
        """Read nothing."""
        question = Message(MSG_INVOKE, b"x", SERPENT.serializer_id, 0, 0).to_bytes()
        while True:
            self.sock.sendall(question * 100)

    @property
    def is_closed(self) -> bool:
        """Waits until focusd closes it, for half a minute."""
        try:
            return not self.sock.recv(1)
        except ConnectionError:
            return True


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[Port]:
    """With deadlines that never come; a test shortens the one that it is about."""
    for name in ("HANDSHAKE_S", "MESSAGE_S", "REPLY_S", "IDLE_S", "CONTROL_IDLE_S"):
        monkeypatch.setattr(listener, name, LONG_S)
    monkeypatch.setattr(listener, "CHECK_S", 0.01)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    for registry in ("_serializers", "_serializers_by_id"):
        monkeypatch.setattr(Pyro4.util, registry, copy.copy(getattr(Pyro4.util, registry)))
    before = Pyro4.config.asDict()
    made = Port()
    try:
        yield made
    finally:
        made.object.go_on.set()
        for client in made.clients:
            client.close()
        for name, value in before.items():
            setattr(Pyro4.config, name, value)


@pytest.mark.parametrize("address", [CONTROL, OTHER])
@pytest.mark.parametrize("sent", [0, 1, 20, 40])
def test_a_handshake_has_a_deadline(port: Port, monkeypatch: pytest.MonkeyPatch, address: str, sent: int) -> None:
    monkeypatch.setattr(listener, "HANDSHAKE_S", SHORT_S)
    client = port.connect(address)
    client.send(Message(MSG_CONNECT, b"x" * 100, SERPENT.serializer_id, 0, 0).to_bytes()[:sent])
    assert client.is_closed


@pytest.mark.parametrize("address", [CONTROL, OTHER])
def test_a_message_that_has_begun_has_one(port: Port, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setattr(listener, "MESSAGE_S", SHORT_S)
    client = port.introduce(address)
    assert client.ask() == "answer"
    client.send(b"P")
    assert client.is_closed


def test_an_idle_connection_is_closed_where_it_is_no_control_machines(
    port: Port, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "IDLE_S", SHORT_S)
    control, other = port.introduce(CONTROL), port.introduce(OTHER)
    assert other.is_closed
    assert control.ask() == "answer"


def test_a_client_that_does_not_read_is_closed(port: Port, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "REPLY_S", SHORT_S)
    client = port.introduce(OTHER)
    with pytest.raises(ConnectionError):
        client.ask_until_closed()


def test_a_call_may_last_and_others_are_answered_meanwhile(port: Port) -> None:
    waiting = [port.introduce(CONTROL) for _ in range(20)]
    for client in waiting:
        client.call("wait")
    for _ in waiting:
        assert port.object.begun.acquire(timeout=30)
    assert port.introduce(CONTROL).ask() == "answer"
    assert port.introduce(OTHER).ask() == "answer"
    port.object.go_on.set()
    assert [client.answer() for client in waiting] == ["waited"] * 20


def test_messages_that_come_together_are_answered_in_order(port: Port) -> None:
    client = port.introduce(OTHER)
    for _ in range(3):
        client.call("ask")
        client.call("fail")
    for _ in range(3):
        assert client.answer() == "answer"
        assert isinstance(client.answer(), ZeroDivisionError)


def test_one_connection_too_many_closes_the_longest_idle_one_of_its_address(
    port: Port, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "MAX_EACH", 3)
    third = port.introduce(THIRD)
    first, second, last = (port.introduce(OTHER) for _ in range(3))
    assert first.ask() == "answer"
    new = port.introduce(OTHER)
    assert second.is_closed
    assert [client.ask() for client in (first, last, new, third)] == ["answer"] * 4
    assert port.output.getvalue().count("3 connections, the newest from 127.0.0.2") == 1


def test_all_others_together_have_a_limit_and_control_machines_one_of_their_own(
    port: Port, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "MAX_OTHERS", 3)
    monkeypatch.setattr(listener, "MAX_CONTROL", 2)
    first, second = port.introduce(CONTROL), port.introduce(CONTROL)
    others = [port.introduce(f"127.0.0.{number}") for number in range(2, 6)]
    assert others[0].is_closed
    first.call("wait")
    assert port.object.begun.acquire(timeout=30)
    third = port.introduce(CONTROL)
    assert second.is_closed
    assert [client.ask() for client in (third, *others[1:])] == ["answer"] * 4
    port.object.go_on.set()
    assert first.answer() == "waited"


@pytest.mark.parametrize("address", [CONTROL, OTHER])
def test_a_call_without_answer_that_fails_is_not_in_the_log(port: Port, address: str) -> None:
    client = port.introduce(address)
    for _ in range(3):
        client.call("fail", flags=FLAGS_ONEWAY)
        client.call("ask", "too", "many", flags=FLAGS_ONEWAY)
    assert client.ask() == "answer"
    for thread in threading.enumerate():
        if thread.name == "oneway-call":
            thread.join(30)
    assert port.output.getvalue() == ""


@pytest.mark.parametrize("data", [b"GET / HTTP/1.0\r\n\r\n" * 3, b"\0" * 24, b"PYRO" * 6, bytes(range(24))])
def test_what_is_no_message_ends_its_connection_alone(port: Port, data: bytes) -> None:
    well, wrong = port.introduce(OTHER), port.connect(OTHER)
    wrong.send(data)
    assert wrong.is_closed
    again = port.introduce(OTHER)
    again.send(data)
    assert again.is_closed
    assert well.ask() == "answer"


def test_sizes_that_are_not_true_end_the_connection(port: Port) -> None:
    for size in (-1, -(2**31), 2**31 - 1, 5_000):
        client = port.connect(OTHER)
        header = Message(MSG_CONNECT, b"", SERPENT.serializer_id, 0, 0)
        header.data_size = size
        checksum = (MSG_CONNECT + 48 + size + SERPENT.serializer_id + Message.checksum_magic) & 0xFFFF
        packed = header.header_format, b"PYRO", 48, MSG_CONNECT, 0, 0, size, SERPENT.serializer_id, 0, 0, checksum
        client.send(struct.pack(*packed))
        assert client.is_closed


def test_an_error_of_ours_costs_one_connection_and_is_logged(port: Port, monkeypatch: pytest.MonkeyPatch) -> None:
    well = port.introduce(CONTROL)
    with monkeypatch.context() as patched:
        patched.setattr(PyroDaemon, "handle", lambda *_: 1 / 0)
        for address in (CONTROL, OTHER):
            assert port.connect(address).sock is not None
            port.clients[-1].say(MSG_CONNECT, b"{}")
            assert port.clients[-1].is_closed
    with monkeypatch.context() as patched:
        patched.setattr(listener.Client, "next_message", lambda _: 1 / 0)
        wrong = port.connect(OTHER)
        wrong.say(MSG_CONNECT, b"{}")
        assert wrong.is_closed
    assert well.ask() == "answer"
    assert port.output.getvalue().count("ZeroDivisionError") == 3


def test_a_thread_that_fails_says_so_and_begins_anew(
    port: Port, monkeypatch: pytest.MonkeyPatch, until: Callable[..., Any]
) -> None:
    well = port.introduce(CONTROL)
    with monkeypatch.context() as patched:
        patched.setattr(Listener, "_accept_all", lambda _: 1 / 0)
        new = port.connect(OTHER)
        until(lambda: "the thread 'Pyro' failed and is started again: ZeroDivisionError" in port.output.getvalue())
    new.introduce()
    assert [client.ask() for client in (well, new)] == ["answer"] * 2


def test_the_connection_to_the_indi_server_is_tried_again_whatever_fails(until: Callable[..., Any]) -> None:
    output = io.StringIO()
    client = IndiClient("127.0.0.1", 1, [], Log("test", stream=output))
    ways = iter([PermissionError("on purpose"), MemoryError("on purpose")])

    def connect() -> str:
        failure = next(ways, None)
        if failure is not None:
            raise failure
        return "nobody is there"

    client._connect = connect  # type: ignore[method-assign]
    client.start()
    until(lambda: client.problem == "nobody is there")
    client.close()
    assert output.getvalue().count("the thread 'INDI connection' failed and is started again") == 2
