# SPDX-License-Identifier: GPL-3.0-or-later
"""Many clients, of which one sends as fast as it can, one never reads, and one wants to stop a motor."""

from __future__ import annotations

import contextlib
import re
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from configuration import configured
from support import (
    DriverInside,
    DriverProcess,
    FocuserClient,
    IndiServer,
    Lines,
    SimulatorProcess,
    eventually,
    libindi,
)

from indi_multifocus.simulator import Simulator

DEVICE = "MultiFocus 1"
POSITION = b"<getProperties version='1.7' device='MultiFocus 1' name='ABS_FOCUS_POSITION'/>\n"
ROOM_KB = 8192
"""What a flood may add to a driver's some 17 MB: one message of the largest size, in its several forms and parts."""


def move(position: int, device: str = DEVICE) -> bytes:
    return (
        f"<newNumberVector device='{device}' name='ABS_FOCUS_POSITION'>"
        f"<oneNumber name='FOCUS_ABSOLUTE_POSITION'>{position}</oneNumber></newNumberVector>\n"
    ).encode()


def peak_kb(pid: int) -> int:
    """The most memory that a process ever held."""
    found = re.search(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1])


CROWD = """
import select, socket, sys

port, size, request = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3].encode()
clients = [socket.create_connection(("127.0.0.1", port), 20) for _ in range(size)]
for client in clients:
    client.sendall(request)
print("connected", flush=True)
while True:
    ready, _, _ = select.select([sys.stdin, *clients], [], [])
    if sys.stdin in ready:
        sys.exit()
    for client in ready:
        if not client.recv(1 << 20):
            sys.exit("the server sent one of the crowd away")
"""


@contextlib.contextmanager
def crowd(port: int, size: int) -> Iterator[None]:
    """Clients that follow a position, as dashboards do, and read what they get, without looking at it.

    Were they to ask for everything, each would get what all others asked for: the square of their number. They are a
    process of their own, so that this one reads in time.
    """
    command = [sys.executable, "-c", CROWD, str(port), str(size), POSITION.decode()]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "connected\n"
        yield
        process.stdin.close()
        assert process.wait(20) == 0


@contextlib.contextmanager
def flood(port: int, data: bytes) -> Iterator[threading.Event]:
    """A client that sends `data` again and again, until this is left, and reads nothing but what makes it wait."""
    over, rounds = threading.Event(), threading.Event()
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        connection.sendall(b"<getProperties version='1.7'/>\n")
        connection.setblocking(False)

        def pour() -> None:
            rest = memoryview(data)
            while not over.is_set():
                readable, writable, _ = select.select([connection], [connection], [], 1)
                if readable:
                    connection.recv(1 << 20)
                if writable:
                    rest = rest[connection.send(rest) :]
                if not rest:
                    rounds.set()
                    rest = memoryview(data)

        thread = threading.Thread(target=pour, name="flood")
        thread.start()
        try:
            yield rounds
        finally:
            over.set()
            thread.join(20)
            assert not thread.is_alive()


@pytest.fixture
def server(home: Path) -> Iterator[IndiServer]:
    with IndiServer(home) as server:
        yield server


@pytest.fixture
def simulator() -> Iterator[SimulatorProcess]:
    with SimulatorProcess(speed=500.0) as simulator:
        yield simulator


def connected(server: IndiServer, simulator: Simulator | SimulatorProcess) -> FocuserClient:
    client = server.client()
    client.set_port(simulator.port)
    client.connect(1, 2)
    return client


# Each of these keeps both processors busy: beside other tests, commands reached the simulated controller up to 0.7 s
# late.
@pytest.mark.alone
@pytest.mark.parametrize(("clients", "targets"), [(0, 10_000), (200, 1000)])
def test_among_many_clients_and_thousands_of_targets_a_stop_is_obeyed_and_the_last_target_wins(
    server: IndiServer, simulator: SimulatorProcess, clients: int, targets: int
) -> None:
    """All of both together takes indiserver most of a minute, for it sends each of 200 clients each answer."""
    client, other = connected(server, simulator), server.client()
    lines = Lines(simulator)
    before_kb = peak_kb(server.driver_pid())
    with crowd(server.port, clients), socket.create_connection(("127.0.0.1", server.port), 20) as deaf:
        deaf.sendall(b"<getProperties version='1.7'/>\n")
        client.settle(DEVICE)
        client.send(b"".join(move(50_000 + n) for n in range(targets // 2)).decode())
        other.new(DEVICE, "FOCUS_ABORT_MOTION", {"ABORT": "On"}, "Switch")
        client.send(b"".join(move(1000 + n) for n in range(targets // 2)).decode())
        client.move(1, 777)
        client.settle(DEVICE)
        assert b"1S" in lines.orders()[:-1], "it was received among them"
        client.wait(lambda: client.position(1) == 777, "the last target")
        client.wait_state(DEVICE, "ABS_FOCUS_POSITION", "Ok")
    assert simulator.position(1) == 777
    assert lines.orders()[-1] == b"1+777"
    assert peak_kb(server.driver_pid()) - before_kb < ROOM_KB


@pytest.mark.parametrize("what", ["targets", "switches", "definitions", "nonsense"])
@pytest.mark.skipif(
    libindi() < (1, 9),
    reason="indiserver 1.8 queues a flood without bound; a stop of its own simulated focuser waits as long",
)
def test_a_stop_reaches_the_motor_while_another_client_floods(server: IndiServer, home: Path, what: str) -> None:
    """The flood does not end before the stop is on the wire."""
    data = {
        "targets": b"".join(move(50_000 + n) for n in range(1000)),
        "switches": b"".join(
            b"<newSwitchVector device='MultiFocus 1' name='FOCUS_MOTION'><oneSwitch name='%s'>On</oneSwitch>"
            b"</newSwitchVector>" % direction
            for direction in (b"FOCUS_INWARD", b"FOCUS_OUTWARD") * 200
        ),
        "definitions": b"<getProperties version='1.7' device='MultiFocus 2'/>" * 50,
        "nonsense": b"<newTextVector device='MultiFocus 1' name='&bogus;'>x</newTextVector>" * 50
        + move(50_000, "nobody") * 100
        + b"<newNumberVector device='MultiFocus 1' name='UNHEARD'></newNumberVector>" * 50,
    }[what]
    with Simulator(speed=1.0) as simulator:
        client = connected(server, simulator)
        client.move(1, 50_000)
        client.wait(lambda: simulator.position(1) > 0, "the motor to move")
        lines = Lines(simulator)
        with flood(server.port, data) as rounds:
            eventually(rounds.is_set, "the flood to rise")
            client.new(DEVICE, "FOCUS_ABORT_MOTION", {"ABORT": "On"})
            client.wait(lambda: b"1S" in lines(), "the stop on the wire")
        client.move(1, 0)
        client.settle(DEVICE)
        client.abort(1)


def test_a_client_that_never_reads_holds_up_nobody(server: IndiServer, simulator: SimulatorProcess) -> None:
    client = connected(server, simulator)
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(("127.0.0.1", server.port))
        deaf.sendall(b"<getProperties version='1.7'/>\n")
        # The server repeats to all clients what one asks for: more than it can send to one that does not read.
        text = f"<oneText name='PORT'>{'x' * 60_000}</oneText>"
        for n in range(150):
            client.send(f"<newTextVector device='{DEVICE}' name='UNHEARD_{n}'>{text}</newTextVector>")
        for position in (500, 1500, 0):
            client.move_and_wait(1, position)
    assert simulator.position(1) == 0


def test_what_comes_in_one_read_is_answered_once_if_its_last_message_says_it_all() -> None:
    with DriverInside() as client:
        since = len(client.received)
        client.send(b"".join(move(n) for n in range(300)).decode())
        client.settle(DEVICE)
        refusals = [text for text in client.messages(since) if "ABS_FOCUS_POSITION" in text]
        assert refusals, "nobody was informed"
        assert len(refusals) < 100


@pytest.mark.parametrize(
    "data",
    [
        b"<newTextVector device='MultiFocus 1' name='DEVICE_PORT'><oneText name='PORT'>/%s</oneText></newTextVector>"
        % (b"x" * 65_000),
        b"<newTextVector device='MultiFocus 1' name='DEVICE_PORT'><oneText name='PORT'>%s</oneText></newTextVector>"
        % (b"x" * 300_000),
        b"<newTextVector device='%s' name='DEVICE_PORT'/>" % (b"x" * 10_000_000),
        b"<newNumberVector device='MultiFocus 1' name='POLLING_PERIOD'>%s</newNumberVector>"
        % (b"<oneNumber name='PERIOD_MS'>1</oneNumber>" * 10_000),
        b"<a>" * 100_000,
        b"<!--" + b"-" * 300_000 + b"-->",
        b"<newNumberVector device='MultiFocus 1' name='&lol;'><oneNumber name='&#0;'>&#x110000;</oneNumber>" * 1000,
        b"".join(b"<tag%d attribute%d='%d'/>" % (n, n, n) for n in range(20_000)),
        b"".join(b"<newNumberVector device='MultiFocus 1' name='N%d'/>" % n for n in range(2_000)),
    ],
    ids=["text", "long text", "attribute", "elements", "nesting", "comment", "entities", "tags", "names"],
)
def test_whatever_its_size_what_a_client_sends_fills_neither_memory_nor_log(home: Path, data: bytes) -> None:
    with DriverProcess(home) as driver:
        client = driver.client
        client.settle(DEVICE)
        before_kb = peak_kb(driver.process.pid)
        begun_s = time.monotonic()
        for _ in range(8):
            client.send(data.decode())
        client.send("</newTextVector>" + "<getProperties/>" * 70)  # what is left open ends, or is given up
        client.settle(DEVICE)
        assert peak_kb(driver.process.pid) - before_kb < ROOM_KB
        logged = driver.errors.splitlines()
        assert len(logged) <= time.monotonic() - begun_s + 2, "more than one line a second"
        assert all(len(line) < 400 for line in logged)
        client.send("<newNumberVector device='MultiFocus 1' name='POLLING_PERIOD'>")
        client.send("<oneNumber name='PERIOD_MS'>250</oneNumber></newNumberVector>")
        client.wait(lambda: client.value(DEVICE, "POLLING_PERIOD", "PERIOD_MS") == "250", "the driver to be well")


def test_thousands_of_requests_leave_no_trace_in_memory(home: Path) -> None:
    with DriverProcess(home) as driver:
        client = driver.client
        client.settle(DEVICE)

        def ask(times: int) -> None:
            for n in range(times):
                period = f"<oneNumber name='PERIOD_MS'>{100 + n}</oneNumber>"
                client.send(f"<newNumberVector device='{DEVICE}' name='POLLING_PERIOD'>{period}</newNumberVector>")
                client.send(f"<newNumberVector device='{DEVICE}' name='UNHEARD_{n}'/>")
                if n % 100 == 0:
                    client.settle(DEVICE)
                    client.received.clear()
            client.settle(DEVICE)

        ask(300)
        before_kb = peak_kb(driver.process.pid)
        ask(5000)
        assert peak_kb(driver.process.pid) - before_kb < 512


PERIOD = "<oneNumber name='PERIOD_MS'>250</oneNumber>"
PERIOD = f"<newNumberVector device='{DEVICE}' name='POLLING_PERIOD'>{PERIOD}</newNumberVector>"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32", "cp037", "utf-7"])
@pytest.mark.parametrize("declared", [False, True])
def test_another_encoding_than_those_of_indi_is_dropped_and_what_follows_is_read(
    home: Path, encoding: str, declared: bool
) -> None:
    with DriverProcess(home) as driver:
        client = driver.client
        client.settle(DEVICE)
        declaration = f"<?xml version='1.0' encoding='{encoding}'?>" if declared else ""
        driver.stdin.write((declaration + PERIOD).encode(encoding))
        driver.stdin.flush()
        client.settle(DEVICE)
        read = client.value(DEVICE, "POLLING_PERIOD", "PERIOD_MS") == "250"
        assert read == (encoding == "utf-7"), "these bytes are those of ASCII"
        assert ("ignored what a client sent" in driver.errors) == (declared or not read)
        answer = client.ask(DEVICE, "POLLING_PERIOD", {"PERIOD_MS": 300})
        assert (answer.state, answer.values["PERIOD_MS"]) == ("Ok", "300")


def test_a_declared_latin_1_is_read_as_such(home: Path) -> None:
    extra = configured(home / "multifocus.json", "/dev/ttyACM0", labels={"1": "Größe"})
    with DriverProcess(home, extra) as driver:
        declaration = "<?xml version='1.0' encoding='ISO-8859-1'?>"
        driver.stdin.write((declaration + PERIOD.replace(DEVICE, "Größe")).encode("latin-1"))
        driver.stdin.flush()
        driver.client.wait(lambda: driver.client.value("Größe", "POLLING_PERIOD", "PERIOD_MS") == "250", "the period")
