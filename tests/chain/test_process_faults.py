# SPDX-License-Identifier: GPL-3.0-or-later
"""What is left when driver or indiserver is killed at any moment of a move: no process, a free port, and the truth.

The deaths of focusd, and of what runs under it, are in focus/test_process.py and focus/test_faults.py.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import serial
from configuration import configured
from support import (
    DEADLINE_S,
    DriverProcess,
    FocuserClient,
    IndiServer,
    Lines,
    eventually,
    is_running,
    state_file,
    unread_bytes,
)

from indi_multifocus.simulator import Simulator

pytestmark = pytest.mark.usefixtures("no_thread_is_left")

ONE, TWO = "MultiFocus 1", "MultiFocus 2"
ABSOLUTE = "ABS_FOCUS_POSITION"
GOAL = 60


@pytest.fixture
def extra(simulator: Simulator, tmp_path: Path) -> dict[str, str]:
    return configured(tmp_path / "multifocus.json", simulator.port, moving_loop_delay=0.05)


def connected(server: IndiServer) -> FocuserClient:
    """A client with both channels connected."""
    client = server.client()
    # What is sent to a device that its driver has not defined yet is dropped by indiserver.
    client.wait(lambda: all(client.property(device, "DEVICE_PORT_SCAN") for device in (ONE, TWO)), "both devices")
    client.connect(1, 2)
    client.wait(lambda: all(client.property(device, "FOCUS_LINK_INFO") for device in (ONE, TWO)), "both channels")
    return client


def check(client: FocuserClient, simulator: Simulator, position: int) -> None:
    """The move came to its end, and the next one works."""
    client.wait(lambda: client.state(ONE, ABSOLUTE) == "Ok" and client.position(1) == position, "the end of the move")
    assert simulator.position(1) == position
    assert client.value(ONE, "FOCUS_LINK_INFO", "POSITION") == "verified"
    client.move_and_wait(1, 10)
    client.move_and_wait(2, 10)
    assert (simulator.position(1), simulator.position(2)) == (10, 10)


MOMENTS: dict[str, Callable[[FocuserClient, Simulator], object]] = {
    "as it is asked for": lambda client, simulator: None,
    "when the controller has it": lambda client, simulator: eventually(
        lambda: simulator.target(1) == GOAL, "the order"
    ),
    "under way": lambda client, simulator: eventually(lambda: simulator.position(1) > 20, "the way"),
    "at the end": lambda client, simulator: eventually(lambda: simulator.position(1) >= GOAL - 1, "the end"),
    "when it is published": lambda client, simulator: client.wait(lambda: client.position(1) == GOAL, "the news"),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_driver_killed_at_any_moment_of_a_move_is_started_again_and_knows_where_it_is(
    home: Path, simulator: Simulator, extra: dict[str, str], moment: str
) -> None:
    with IndiServer(home, extra, restarts=3) as server:
        client = connected(server)
        lines = Lines(simulator)
        client.move(1, GOAL)
        MOMENTS[moment](client, simulator)
        killed = server.driver_pid()
        os.kill(killed, signal.SIGKILL)
        eventually(lambda: server.driver_pid() != killed and is_running(server.driver_pid()), "the next driver")
        # Its files are closed, as indiserver saw, a moment before it is gone.
        eventually(lambda: not is_running(killed), "the killed driver to be gone")
        noted = json.loads(state_file(home, 1).read_text())["move"] is not None
        other = connected(server)
        # What died with the driver before it was on the wire was never ordered; all else goes on.
        ordered = f"1+{GOAL}".encode() in lines()
        assert ordered or moment == "as it is asked for"
        other.wait(lambda: other.state(ONE, ABSOLUTE) in ("Ok", "Alert"), "the end of the move")
        if other.state(ONE, ABSOLUTE) == "Alert":
            # It was killed before it had written down that the motor moves, which cannot be told from a power cut.
            assert not noted
            assert ordered
            other.wait_message(f"position {GOAL} is unverified", device=ONE)
            assert other.ask(ONE, "FOCUS_SYNC", {"FOCUS_SYNC_VALUE": GOAL}).state == "Ok"
        check(other, simulator, GOAL if ordered else 0)


@pytest.mark.parametrize("moment", MOMENTS)
def test_an_indiserver_killed_at_any_moment_of_a_move_leaves_no_driver_and_a_free_port(
    home: Path, simulator: Simulator, extra: dict[str, str], moment: str
) -> None:
    lines = Lines(simulator)
    with IndiServer(home, extra) as server:
        client = connected(server)
        client.move(1, GOAL)
        MOMENTS[moment](client, simulator)
        driver = server.driver_pid()
        server.process.kill()
        eventually(lambda: not is_running(driver), "the driver to end")
        serial.Serial(simulator.port, exclusive=True).close()
    ordered = f"1+{GOAL}".encode() in lines()
    assert ordered or moment == "as it is asked for"
    with IndiServer(home, extra) as server:
        check(connected(server), simulator, GOAL if ordered else 0)


def test_a_driver_that_dies_again_and_again_is_started_again_and_again(
    home: Path, simulator: Simulator, extra: dict[str, str]
) -> None:
    with IndiServer(home, extra, restarts=5) as server:
        for _ in range(3):
            killed = server.driver_pid()
            os.kill(killed, signal.SIGKILL)
            eventually(lambda: server.driver_pid() != killed and is_running(server.driver_pid()), "the next")  # noqa: B023
        client = connected(server)
        client.move_and_wait(1, 10)


def test_a_position_that_was_named_before_the_kill_is_named_after_it(
    home: Path, simulator: Simulator, extra: dict[str, str]
) -> None:
    with IndiServer(home, extra, restarts=3) as server:
        client = connected(server)
        client.move_and_wait(1, 20)
        assert client.ask(ONE, "FOCUS_SYNC", {"FOCUS_SYNC_VALUE": 500}).state == "Ok"
        assert client.ask(ONE, "FOCUS_REVERSE_MOTION", {"INDI_ENABLED": "On"}).state == "Ok"
        killed = server.driver_pid()
        os.kill(killed, signal.SIGKILL)
        eventually(lambda: server.driver_pid() != killed and is_running(server.driver_pid()), "the next driver")
        other = connected(server)
        other.wait_state(ONE, ABSOLUTE, "Ok")
        assert other.position(1) == 500
        other.move_and_wait(1, 490)
        assert simulator.position(1) == 30


@pytest.mark.parametrize("moment", ["when the controller has it", "under way"])
def test_sigterm_in_mid_move_leaves_the_move_to_finish_and_the_port_free(
    home: Path, simulator: Simulator, extra: dict[str, str], moment: str
) -> None:
    lines = Lines(simulator)
    with IndiServer(home, extra) as server:
        client = connected(server)
        client.move(1, GOAL)
        MOMENTS[moment](client, simulator)
        driver = server.driver_pid()
        os.kill(driver, signal.SIGTERM)
        eventually(lambda: not is_running(driver), "the driver to end")
        serial.Serial(simulator.port, exclusive=True).close()
    eventually(lambda: simulator.position(1) == GOAL, "the end of the move")
    assert lines.orders() == [b"1+%d" % GOAL]
    with IndiServer(home, extra) as server:
        check(connected(server), simulator, GOAL)


# Nobody reads


@contextlib.contextmanager
def driver_on(what: str, home: Path, extra: dict[str, str]) -> Iterator[tuple[subprocess.Popen[bytes], FocuserClient]]:
    """The driver's process, with its input and output on two pipes, or on one socket, as indiserver has it; or on one
    that whoever starts it made non-blocking.
    """
    ours, theirs = socket.socketpair()
    theirs.setblocking(what != "a non-blocking socket")
    with ours, theirs, DriverProcess(home, extra, ends=None if what == "pipes" else (ours, theirs)) as driver:
        driver.client.wait(lambda: driver.client.property(TWO, "DEVICE_PORT_SCAN"), "the driver")
        yield driver.process, driver.client
    assert driver.errors == ""


def peak_kb(pid: int) -> int:
    """The most memory that a process ever held."""
    found = re.search(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1])


FULL = 10_000
"""Bytes that a driver leaves unread at least before it waits: it fills a quarter of a socket's buffer, with what the
kernel needs for each message, and all of a pipe."""


def fill(client: FocuserClient) -> str:
    """Ask for more than is read, until the driver takes no more questions because nobody takes its answers.

    Returns what is left of the last question.
    """
    os.set_blocking(client._write_fd, False)
    question = rest = b"<getProperties version='1.7'/>\n"
    unread = 0

    def full() -> bool:
        nonlocal rest, unread
        with contextlib.suppress(BlockingIOError):
            while True:
                rest = rest[os.write(client._write_fd, rest) :] or question
        before, unread = unread, unread_bytes(client._read_fd)
        return unread == before > FULL

    eventually(full, "input and output to be full")
    os.set_blocking(client._write_fd, True)
    return rest.decode()


@pytest.mark.parametrize("on", ["pipes", "a socket", "a non-blocking socket"])
@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT", "end of input"])
def test_a_driver_that_nobody_reads_ends_when_it_is_asked_to(
    home: Path, simulator: Simulator, extra: dict[str, str], how: str, on: str
) -> None:
    """Its client was stopped, say, and its output is full."""
    with driver_on(on, home, extra) as (process, client):
        client.connect(1)
        client.move(1, GOAL)
        client.wait(lambda: simulator.target(1) == GOAL, "the order")
        fill(client)
        if how != "end of input":
            process.send_signal(getattr(signal, how))
        elif process.stdin is not None:
            process.stdin.close()
        else:
            with socket.socket(fileno=os.dup(client._write_fd)) as connection:
                connection.shutdown(socket.SHUT_WR)
        assert process.wait(DEADLINE_S) == 0
        serial.Serial(simulator.port, exclusive=True).close()
    eventually(lambda: simulator.position(1) == GOAL, "the end of the move")


@pytest.mark.parametrize("on", ["pipes", "a socket"])
def test_who_reads_late_reads_whole_messages_and_all_of_them(
    home: Path, simulator: Simulator, extra: dict[str, str], on: str
) -> None:
    with driver_on(on, home, extra) as (_, client):
        client.connect(1)
        client.move(1, GOAL)
        client.wait(lambda: simulator.target(1) == GOAL, "the order")
        rest = fill(client)
        eventually(lambda: simulator.position(1) == GOAL, "the end of the move")
        client.send(rest)
        client.wait(lambda: client.position(1) == GOAL, "the last position")
        client.wait_state(ONE, ABSOLUTE, "Ok")
        client.move_and_wait(1, 10)


def test_what_happens_while_nobody_reads_takes_no_memory_and_ends_with_the_truth(
    home: Path, simulator: Simulator, tmp_path: Path
) -> None:
    extra = configured(tmp_path / "quick.json", simulator.port, moving_loop_delay=0.0001, idle_loop_delay=0.0001)
    with driver_on("pipes", home, extra) as (process, client):
        client.connect(1)
        assert client.ask(ONE, "DEBUG", {"ENABLE": "On"}).state == "Ok"
        client.move(1, 400)
        client.wait(lambda: simulator.target(1) == 400, "the order")
        before_kb, lines = peak_kb(process.pid), Lines(simulator)
        rest = fill(client)
        eventually(lambda: simulator.position(1) == 400, "the end of the move")
        eventually(lambda: lines.polls() > 4000, "polls")
        assert peak_kb(process.pid) - before_kb < 3072
        client.send(rest)
        client.wait(lambda: client.position(1) == 400, "the last position")
        client.wait_state(ONE, ABSOLUTE, "Ok")


def test_a_driver_that_is_stuck_with_its_log_ends_all_the_same(home: Path, extra: dict[str, str]) -> None:
    unread, log = os.pipe()
    os.set_blocking(log, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(log, b"\n")
    os.set_blocking(log, True)
    with os.fdopen(unread), os.fdopen(log), DriverProcess(home, extra, stderr=log) as driver:
        driver.client.send("<&/>")
        eventually(lambda: unread_bytes(driver.client._write_fd) == 0, "it to take that, and to be stuck with it")
        driver.process.terminate()
        assert driver.wait() in (-signal.SIGALRM, 0)
