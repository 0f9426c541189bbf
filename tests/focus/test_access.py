# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may do what, over real sockets from several loopback addresses; and what the port stands."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import Pyro4
import pytest
from Pyro4 import socketutil

from focus_cli.focusd import FocusDaemon


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
    daemon = FocusDaemon(None, ["10.2.6.181", "fe80::1"], {})  # type: ignore[arg-type]
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
