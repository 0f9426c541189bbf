# SPDX-License-Identifier: GPL-3.0-or-later
"""What focusd answers is about the caller's own order, also when that is slow and other clients are busy meanwhile."""

from __future__ import annotations

import io
import re
import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from client import FocuserClient

from focus_cli import channel
from focus_cli.indi_client import IndiClient
from focus_cli.log import Log

PAUSE_S = 0.2


class SlowWay:
    """Between focusd and its INDI server; passes everything on, but what focusd sends only while `open` is set.

    Behind each message of the server in which `pause_behind` is found, it pauses for PAUSE_S.
    """

    def __init__(self, server: int) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._server = server
        self.open = threading.Event()
        self.open.set()
        self.held = threading.Event()
        """Something waits for it to be opened."""
        self.pause_behind = ""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def _accept(self) -> None:
        while not self._over.is_set():
            if select.select([self._listener], [], [], 0.05)[0]:
                threading.Thread(target=self._serve, args=(self._listener.accept()[0],)).start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError), socket.create_connection(("127.0.0.1", self._server)) as server:
            self._pass_on(client, server)

    def _pass_on(self, client: socket.socket, server: socket.socket) -> None:
        waiting = b""
        while not self._over.is_set():
            for source in select.select([client, server], [], [], 0.005)[0]:
                data = source.recv(65536)
                if not data:
                    return
                if source is server:
                    self._answer(client, data)
                else:
                    waiting += data
            if waiting and not self.open.is_set():
                self.held.set()
            elif waiting:
                server.sendall(waiting)
                waiting = b""

    def _answer(self, client: socket.socket, data: bytes) -> None:
        message = re.search(f"{self.pause_behind}.*?</set\\w+>".encode(), data, re.DOTALL)
        if self.pause_behind and message:
            client.sendall(data[: message.end()])
            time.sleep(PAUSE_S)
            data = data[message.end() :]
        client.sendall(data)

    @contextmanager
    def closed(self) -> Iterator[None]:
        """Hold what focusd sends; inside, when something is held, `held` is set."""
        self.held.clear()
        self.open.clear()
        try:
            yield
        finally:
            self.open.set()

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        self._listener.close()


Slow = tuple[Any, SlowWay, FocuserClient]


@pytest.fixture
def slow(make_chain: Any) -> Iterator[Slow]:
    """A chain with a server that is not focusd's, the way to that, and another client of it."""
    chain = make_chain()
    chain.start_server()
    way = SlowWay(chain.indi_port)
    try:
        chain.write_config(indi_port=way.port)
        chain.start()
        indi = chain.observe()
        yield chain, way, indi
        indi.close()
    finally:
        way.close()


ONE = "MultiFocus 1"
ABSOLUTE = "ABS_FOCUS_POSITION"
HELD_S = 0.6
"""How long an order is on its way, once something else has happened."""


def ask(indi: FocuserClient, name: str, values: dict[str, float | str], kind: str = "Number") -> str:
    """The state in which the property is set next after this request of another client."""
    since = len(indi.received)
    indi.new(ONE, name, values, kind)
    return indi.next_set(ONE, name, since).state


def test_another_clients_refused_move_is_not_taken_for_ours(slow: Slow) -> None:
    chain, way, indi = slow
    with way.closed():
        result = chain.call("set_focus", 1, 800)
        assert way.held.wait(30)
        assert ask(indi, ABSOLUTE, {"FOCUS_ABSOLUTE_POSITION": 99_999_999}) == "Alert"
        time.sleep(HELD_S)
    assert result() == 0
    assert chain.simulator.position(1) == 800


def test_another_clients_move_is_not_taken_for_ours(slow: Slow) -> None:
    chain, way, indi = slow
    with way.closed():
        result = chain.call("set_focus", 1, 800)
        assert way.held.wait(30)
        assert ask(indi, ABSOLUTE, {"FOCUS_ABSOLUTE_POSITION": 100}) == "Busy"
        indi.wait_state(ONE, ABSOLUTE, "Ok")
        time.sleep(HELD_S)
        assert chain.simulator.position(1) == 100
    assert result() == 0
    assert chain.simulator.position(1) == 800


def test_a_move_that_the_driver_refuses_is_outside_the_limits(slow: Slow) -> None:
    chain, way, indi = slow
    with way.closed():
        result = chain.call("set_focus", 1, 800)
        assert way.held.wait(30)
        assert ask(indi, "FOCUS_MAX", {"FOCUS_MAX_VALUE": 500}) == "Ok"
    assert result() == 6
    assert chain.simulator.target(1) == 0


def test_another_clients_refused_sync_is_not_taken_for_our_zero(slow: Slow) -> None:
    chain, way, indi = slow
    with chain.proxy() as focusd:
        assert focusd.set_focus(1, 300) == 0
    with way.closed():
        result = chain.call("reset_home_position", 1)
        assert way.held.wait(30)
        assert ask(indi, "FOCUS_SYNC", {"FOCUS_SYNC_VALUE": 99_999_999}) == "Alert"
        time.sleep(HELD_S)
    assert result() == 0
    assert chain.status()["current_steps_1"] == chain.simulator.position(1) == 0


def test_another_clients_sync_is_not_taken_for_our_zero(slow: Slow) -> None:
    chain, way, indi = slow
    with way.closed():
        result = chain.call("reset_home_position", 1)
        assert way.held.wait(30)
        ask(indi, "FOCUS_SYNC", {"FOCUS_SYNC_VALUE": 77})
        indi.wait_state(ONE, "FOCUS_SYNC", "Ok")
        time.sleep(HELD_S)
        assert chain.status()["current_steps_1"] == 77
    assert result() == 0
    assert chain.status()["current_steps_1"] == 0


def test_another_clients_refused_switches_are_not_taken_for_ours(slow: Slow) -> None:
    chain, way, indi = slow
    for method, argument, name in (("enable_fans", True, "FAN"), ("stop_channel", 1, "FOCUS_ABORT_MOTION")):
        with way.closed():
            result = chain.call(method, argument)
            assert way.held.wait(30)
            assert ask(indi, name, {"NO_SUCH_ELEMENT": "On"}, "Switch") == "Alert"
            time.sleep(HELD_S)
        assert result() == 0
    assert chain.simulator.fans is True


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("reset_home_position", 'name="FOCUS_SYNC" state="Ok"'),
        ("stop_channel", 'name="FOCUS_ABORT_MOTION" state="Ok"'),
    ],
)
def test_a_move_may_follow_at_once(slow: Slow, method: str, answer: str) -> None:
    chain, way, _ = slow
    way.pause_behind = answer
    with chain.proxy() as focusd:
        for target in (300, 200, 100):
            assert getattr(focusd, method)(1) == 0
            assert focusd.set_focus(1, target) == 0
    assert chain.simulator.position(1) == 100


def test_a_move_that_gets_no_answer_is_stopped_behind_its_back(
    slow: Slow, monkeypatch: pytest.MonkeyPatch, until: Any
) -> None:
    chain, way, _ = slow
    monkeypatch.setattr(channel, "ANSWER_S", 0.3)
    output = io.StringIO()
    log = Log("test", stream=output)
    client = IndiClient("127.0.0.1", way.port, [ONE], log)
    one = channel.Channel(1, ONE, None, client, log)
    client.start()
    try:
        until(lambda: one.linked)
        with way.closed():
            assert one.move(90_000, offset=False) == 1
        until(lambda: b"1S" in [line for _, line in chain.simulator.received])
        assert chain.simulator.standstill(1) is not None
        assert "no answer to ABS_FOCUS_POSITION" in output.getvalue()
    finally:
        client.close()
