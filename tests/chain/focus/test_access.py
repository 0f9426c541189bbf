# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may do what, over real sockets from several loopback addresses; and what the port stands."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import random
import re
import socket
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import Pyro4
import pytest
from Pyro4 import socketutil
from Pyro4.message import FLAGS_COMPRESSED, FLAGS_KEEPSERIALIZED, MSG_CONNECT, MSG_INVOKE, Message

from focus_cli.focusd import FocusDaemon

SERPENT = Pyro4.util.SerpentSerializer()


@contextmanager
def coming_from(address: str) -> Iterator[None]:
    """Pyro connections made in here have this source address."""
    original = socketutil.createSocket

    def create(bind: Any = None, connect: Any = None, **options: Any) -> socket.socket:
        if not connect:
            return original(bind=bind, connect=connect, **options)  # type: ignore[no-any-return]
        connection = socket.socket()
        connection.bind((address, 0))
        connection.settimeout(options.get("timeout") or None)
        connection.connect(connect)
        return connection

    socketutil.createSocket = create
    try:
        yield
    finally:
        socketutil.createSocket = original


def test_only_control_machines_may_control_and_anyone_may_ask(chain: Any) -> None:
    with coming_from("127.0.0.2"), chain.proxy() as focusd:
        assert focusd.report_status()["status"] == 1
        assert focusd.temperature_labels() == {}
        assert focusd.set_focus(1, 100) == 3
        assert focusd.set_focus("nonsense", None) == 3
        assert focusd.stop_channel(1) == 3
        assert focusd.reset_home_position(1) == 3
        assert focusd.enable_fans(True) == 3
        assert focusd.initialize() == 3
        assert focusd.shutdown() == 3
    with coming_from("127.0.0.1"), chain.proxy() as focusd:
        assert focusd.set_focus(1, 100) == 0
    assert chain.status()["status"] == 1


def test_the_control_machine_may_be_another_one(make_chain: Any) -> None:
    chain = make_chain(control="OtherPC")
    chain.start_focusd()
    assert chain.focus("init").returncode == 3
    with coming_from("127.0.0.2"), chain.proxy() as focusd:
        assert focusd.initialize() == 0
        assert focusd.set_focus(1, 100) == 0
    result = chain.focus("set", "1", "5")
    assert (result.returncode, result.stdout) == (3, "error: command not accepted from this IP\n")


def test_an_ipv4_client_of_an_ipv6_socket_is_known_by_its_ipv4_address(make_chain: Any) -> None:
    chain = make_chain(host="::")
    chain.start_focusd()
    with chain.proxy() as focusd:
        assert focusd.initialize() == 0
    with coming_from("127.0.0.2"), chain.proxy() as focusd:
        assert focusd.set_focus(1, 100) == 3


@pytest.mark.parametrize(
    ("peer", "allowed"),
    [
        (("10.2.6.181", 5), True),
        (("::ffff:10.2.6.181", 5, 0, 0), True),
        (("10.2.6.18", 5), False),
        (("::1", 5, 0, 0), False),
        (("fe80::1%eth0", 5, 0, 2), True),
        (None, False),
        ((), False),
    ],
)
def test_clients_are_known_by_their_address(peer: Any, allowed: bool) -> None:
    control = map(ipaddress.ip_address, ["10.2.6.181", "fe80::1"])
    daemon = FocusDaemon(None, control, {})  # type: ignore[arg-type]
    assert daemon._is_allowed(peer) is allowed


def test_no_other_serializer_than_serpent_is_accepted(chain: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for serializer in ("marshal", "json"):
        monkeypatch.setattr(Pyro4.config, "SERIALIZER", serializer)
        with pytest.raises(Pyro4.errors.CommunicationError, match="serializer"):
            chain.proxy().report_status()
    monkeypatch.setattr(Pyro4.config, "SERIALIZER", "serpent")
    assert chain.status()["status"] == 1


def test_the_environment_cannot_open_it(make_chain: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    chain = make_chain()
    chain.start_focusd(
        environment={
            "PYRO_SERIALIZERS_ACCEPTED": "pickle,serpent,marshal",
            "PYRO_REQUIRE_EXPOSE": "false",
            "PYRO_FLAME_ENABLED": "true",
            "PYRO_SERVERTYPE": "multiplex",
        }
    )
    monkeypatch.setattr(Pyro4.config, "SERIALIZER", "marshal")
    with pytest.raises(Pyro4.errors.CommunicationError, match="serializer"):
        chain.proxy().report_status()


def test_more_idle_clients_than_pyro_allows_by_default_keep_nobody_out(chain: Any) -> None:
    idle = [chain.proxy() for _ in range(60)]
    try:
        for proxy in idle:
            assert proxy.report_status()["status"] == 1
        with chain.proxy() as focusd:
            assert focusd.set_focus(1, 10) == 0
    finally:
        for proxy in idle:
            proxy._pyroRelease()


def test_garbage_on_the_port_disturbs_nobody(chain: Any) -> None:
    connections = []
    for data in (b"", b"GET / HTTP/1.0\r\n\r\n", os.urandom(5000), b"PYRO" + bytes(200), b"PYRO" * 30_000):
        connection = socket.create_connection(("127.0.0.1", chain.pyro_port))
        connections.append(connection)
        try:
            connection.sendall(data)
        except OSError:
            pass  # it had enough
    with chain.proxy() as focusd:
        assert focusd.set_focus(1, 10) == 0
    for connection in connections:
        connection.close()
    assert chain.daemon.poll() is None


def test_a_message_that_is_too_large_is_refused(chain: Any) -> None:
    with pytest.raises(Pyro4.errors.CommunicationError):
        with chain.proxy() as focusd:
            focusd.set_focus(1, "9" * 1_000_000)
    with chain.proxy() as focusd:
        assert focusd.set_focus(1, 10) == 0


# Below Pyro's client: messages as no proxy sends them


class Raw:
    """A connection to the Pyro port; speaks the protocol and nothing that Pyro's client would keep it from."""

    def __init__(self, chain: Any) -> None:
        self._connection = socketutil.SocketConnection(socket.create_connection(("127.0.0.1", chain.pyro_port), 30))

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def say(self, kind: int, data: bytes, flags: int = 0, annotations: dict[str, bytes] | None = None) -> None:
        message = Message(kind, data, SERPENT.serializer_id, flags, 0, annotations=annotations)
        self._connection.send(message.to_bytes())

    def answer(self) -> str:
        """What comes back; nothing when the connection is closed."""
        try:
            return str(Message.recv(self._connection).data, "utf-8", "replace")
        except (Pyro4.errors.CommunicationError, OSError):
            return ""

    def send_no_more(self) -> None:
        """The other side sees the end of what comes."""
        self._connection.sock.shutdown(socket.SHUT_WR)

    def connect(self) -> str:
        """Begin as a proxy does."""
        self.say(MSG_CONNECT, SERPENT.dumps({"handshake": "hello", "object": "here_focus_daemon"}))
        return self.answer()


def resident_kb(pid: int) -> int:
    found = re.search(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1])


def test_neither_a_batch_nor_a_call_that_waits_for_no_answer_gets_round_the_list(chain: Any, until: Any) -> None:
    with coming_from("127.0.0.2"), chain.proxy() as focusd:
        batch = Pyro4.batch(focusd)
        batch.set_focus(1, 500)
        batch.stop_channel(1)
        assert list(batch()) == [3, 3]
        focusd._pyroOneway.add("set_focus")
        focusd.set_focus(1, 600)
        focusd._pyroOneway.clear()
        assert focusd.set_focus(1, 700) == 3
    with chain.proxy() as focusd:
        focusd._pyroOneway.add("set_focus")
        focusd.set_focus(2, 40)
        until(lambda: chain.simulator.position(2) == 40)
    assert [line for _, line in chain.simulator.received if line[:1] == b"1"] == []


@pytest.mark.parametrize("connected", [False, True])
def test_what_is_small_until_it_is_unpacked_is_not_unpacked(chain: Any, connected: bool) -> None:
    """It would take hundreds of megabytes."""
    before_kb = resident_kb(chain.daemon.pid)
    bomb = zlib.compress(b"[" + b"1," * 5_000_000 + b"]", 9)
    with Raw(chain) as client:
        if connected:
            assert client.connect()
        client.say(MSG_INVOKE if connected else MSG_CONNECT, bomb, FLAGS_COMPRESSED)
        answer = client.answer()
        assert "bytes are not accepted here" in answer if connected else answer == ""
    assert resident_kb(chain.daemon.pid) - before_kb < 8192
    assert chain.status()["status"] == 1


def test_a_compressed_call_that_is_small_is_one_like_another(chain: Any) -> None:
    with Raw(chain) as client:
        client.connect()
        call = SERPENT.dumpsCall("here_focus_daemon", "set_focus", (1, 30), {"offset": False})
        client.say(MSG_INVOKE, zlib.compress(call), FLAGS_COMPRESSED)
        assert client.answer().endswith("\n0")
    assert chain.simulator.position(1) == 30


def test_nothing_that_a_client_sends_is_given_to_marshal(chain: Any) -> None:
    before_kb = resident_kb(chain.daemon.pid)
    tuple_of_a_billion = b"(" + (10**9).to_bytes(4, "little")
    with Raw(chain) as client:
        client.connect()
        client.say(MSG_INVOKE, b"", FLAGS_KEEPSERIALIZED, {"BLBI": tuple_of_a_billion})
        assert "not accepted" in client.answer()
    assert resident_kb(chain.daemon.pid) - before_kb < 8192


TEXTS = [
    SERPENT.dumpsCall("here_focus_daemon", "report_status", (), {}),
    *[b"", b"# serpent utf-8 python3.2\n{}", b"\xff\0", b"-" * 90_000 + b"1", b"[" * 9_000, b"1," * 900],
    *[b"1" + b"+1j" * 5_000, b"a." * 7_000 + b"a", b"1" + b"**1" * 5_000],
]
OBJECTS = ["here_focus_daemon", "Pyro.Daemon", "Pyro.NameServer", "", None, 5]
METHODS = ["report_status", "__class__", "_focusers", "__getattr__", "__setattr__", "_is_allowed", "close", "\0", ""]
VALUES = ["report_status", None, 10**300, {"__class__": "Pyro4.core.Proxy", "state": [1]}, {"__class__": "os.system"}]


@pytest.mark.parametrize("text", ["-" * 9_000 + "1", "1" + "+1j" * 5_000, "1" + "**1" * 4_000, "[" * 9_000])
def test_text_that_is_short_and_dear_to_parse_is_not_parsed(chain: Any, text: str) -> None:
    """Before a client has presented itself as well as after; the first of these ended focusd with Python 3.9."""
    before_kb = resident_kb(chain.daemon.pid)
    with Raw(chain) as stranger:
        stranger.say(MSG_CONNECT, text[:4000].encode())
        assert "not the text of a call" in stranger.answer()
    with Raw(chain) as client:
        client.connect()
        client.say(MSG_INVOKE, text.encode())
        assert "not the text of a call" in client.answer()
    assert resident_kb(chain.daemon.pid) - before_kb < 2048
    assert chain.status()["status"] == 1


def test_no_message_that_can_be_made_up_ends_it_or_fills_its_memory(chain: Any) -> None:
    before_kb = resident_kb(chain.daemon.pid)
    chance, answers = random.Random(0), 0
    for number in range(250):
        with Raw(chain) as client:
            if number % 3:
                client.connect()
            for _ in range(3):
                data = chance.choice(TEXTS)
                if chance.random() < 0.5:
                    arguments = [chance.choice(VALUES) for _ in range(chance.randrange(4))]
                    data = SERPENT.dumpsCall(chance.choice(OBJECTS), chance.choice(METHODS), arguments, {})
                name = chance.choice(["CORR", "BLBI", "HMAC", "XXXX"])
                odd = {name: chance.randbytes(chance.choice([0, 16, 900]))}
                annotations = odd if chance.random() < 0.2 else {}
                flags = chance.choice([0, chance.randrange(1 << 10)])
                with contextlib.suppress(Pyro4.errors.CommunicationError):  # it had enough
                    client.say(chance.choice([MSG_INVOKE] * 8 + list(range(8))), data, flags, annotations)
            with contextlib.suppress(OSError):
                client.send_no_more()
            while client.answer():
                answers += 1
    assert answers > 100
    assert chain.daemon.poll() is None
    with chain.proxy() as focusd:
        assert focusd.set_focus(1, 10) == 0
    assert resident_kb(chain.daemon.pid) - before_kb < 65_536
    assert "Traceback" not in chain.log
