# SPDX-License-Identifier: GPL-3.0-or-later
"""What is left when driver or indiserver is killed at any moment of a move: no process, a free port, and the truth.

The deaths of focusd, and of what runs under it, are in tests/focus/test_process.py and tests/focus/test_faults.py.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import serial
from support import ROOT, FocuserClient, IndiServer, Lines, eventually, is_running

from indi_multifocus.simulator import Simulator

pytestmark = pytest.mark.usefixtures("no_thread_is_left")

ONE, TWO = "MultiFocus 1", "MultiFocus 2"
ABSOLUTE = "ABS_FOCUS_POSITION"
GOAL = 60


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with Simulator() as started:
        yield started


@pytest.fixture
def extra(simulator: Simulator, tmp_path: Path) -> dict[str, str]:
    settings = json.loads((ROOT / "test.json").read_text())
    path = tmp_path / "multifocus.json"
    path.write_text(json.dumps({**settings, "serial_port": simulator.port, "moving_loop_delay": 0.05}))
    return {"INDI_MULTIFOCUS_CONFIG": str(path)}


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
    "when it is told": lambda client, simulator: client.wait(lambda: client.position(1) == GOAL, "the news"),
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
        assert not is_running(killed)
        other = connected(server)
        # What died with the driver before it was on the wire was never ordered; all else goes on.
        ordered = f"1+{GOAL}".encode() in lines()
        assert ordered or moment == "as it is asked for"
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
