# SPDX-License-Identifier: GPL-3.0-or-later
"""A stop is never lost and never late, whatever else goes wrong: cable, controller, client, disk."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from configuration import configured
from outside import PROMPT_S, Machine
from support import DriverProcess, FocuserClient, Lines, eventually, unread_bytes

from indi_multifocus.simulator import Simulator

pytestmark = pytest.mark.usefixtures("no_thread_is_left")

ONE, TWO = "MultiFocus 1", "MultiFocus 2"
ABSOLUTE, ABORT = "ABS_FOCUS_POSITION", "FOCUS_ABORT_MOTION"
FAR = 3000
"""Half a minute away."""


def set_out(client: FocuserClient, simulator: Simulator, channel: int = 1, to: int = FAR) -> None:
    """Begin a move, and wait until the motor turns."""
    before = simulator.position(channel)
    client.move(channel, to)
    eventually(lambda: simulator.position(channel) != before, "the motor to turn")


def abort(client: FocuserClient, channel: int = 1) -> None:
    """Ask for a stop; reads nothing."""
    device = client.name(channel)
    request = (
        f'<newSwitchVector device="{device}" name="{ABORT}"><oneSwitch name="ABORT">On</oneSwitch></newSwitchVector>'
    )
    os.write(client._write_fd, request.encode())


def wait_for_stop(simulator: Simulator, lines: Lines, channel: int = 1) -> None:
    """Wait until the controller has the stop, and nothing else before it."""
    eventually(lines.orders, "the stop to be on the wire", PROMPT_S)
    assert lines.orders()[0] == b"%dS" % channel
    eventually(lambda: simulator.position(channel) == simulator.target(channel), "the motor to stand")
    assert abs(simulator.target(channel)) < FAR


# The cable


ANEW, BESIDE, RESTARTED = (
    "the channel is connected anew",
    "so is it, while another keeps the link",
    "the driver is restarted",
)


@pytest.mark.parametrize("meanwhile", [ANEW, BESIDE, RESTARTED])
def test_an_abort_while_the_cable_is_out_is_the_first_that_is_sent_when_it_is_back(
    home: Path, simulator: Simulator, extra: dict[str, str], meanwhile: str
) -> None:
    def check(client: FocuserClient) -> None:
        client.wait_state(ONE, "CONNECTION", "Ok")
        wait_for_stop(simulator, lines)
        client.wait(lambda: client.state(ONE, ABSOLUTE) not in ("Busy", ""), "the motor to be known to stand")
        client.settle(ONE)
        client.wait(lambda: client.state(ONE, ABORT) not in ("Busy", ""), "the end of the abort", PROMPT_S)

    with DriverProcess(home, extra) as driver:
        client = driver.client
        client.connect(*([1, 2] if meanwhile == BESIDE else [1]))
        set_out(client, simulator)
        simulator.pull_cable()
        client.wait_state(ONE, ABSOLUTE, "Alert")
        abort(client)
        client.settle(ONE)
        lines = Lines(simulator)
        if meanwhile == RESTARTED:
            driver.process.terminate()
            assert driver.wait() == 0
        else:
            client.disconnect(1)
            if meanwhile == ANEW:
                simulator.replug_cable()
            client.new(ONE, "CONNECTION", {"CONNECT": "On"})
            client.settle(ONE)
            simulator.replug_cable()
            check(client)
    if meanwhile == RESTARTED:
        simulator.replug_cable()
        with DriverProcess(home, extra) as driver:
            driver.client.new(ONE, "CONNECTION", {"CONNECT": "On"})
            check(driver.client)


# The controller


FAULTS: dict[str, Callable[[Simulator, bool], None]] = {
    "says nothing": Simulator.silence,
    "understands nothing": Simulator.answer_unknown,
    "echoes": Simulator.echo,
    "streams endlessly": lambda simulator, on: simulator.babble(b"T1=+0000" * 50 if on else None, 0.001),
}


def test_a_controller_that_sends_nothing_sensible_is_sent_a_stop_at_once(
    home: Path, simulator: Simulator, extra: dict[str, str]
) -> None:
    with DriverProcess(home, extra) as driver:
        client = driver.client
        client.connect(1)
        for what, fault in FAULTS.items():
            set_out(client, simulator)
            lines = Lines(simulator)
            fault(simulator, True)
            eventually(lambda: lines.polls() > 2 or what == "says nothing", "the driver to notice")  # noqa: B023
            since = len(client.received)
            abort(client)
            eventually(lambda: b"1S" in lines(), f"the stop of a controller that {what}", PROMPT_S)  # noqa: B023
            fault(simulator, False)
            client.wait(
                lambda: any(answer[1:4] == (ONE, ABORT, "Ok") for answer in client.received[since:]),  # noqa: B023
                "the end of the abort",
            )
            client.wait(lambda: client.value(ONE, "FOCUS_LINK", "LINK") == "Ok", "the link to be back")
            # It may have been without power meanwhile, for all that the driver knows.
            client.wait(lambda: client.state(ONE, ABSOLUTE) in ("Idle", "Alert"), f"the stop of one that {what}")
            assert client.position(1) == simulator.position(1)
            client.new(ONE, "FOCUS_SYNC", {"FOCUS_SYNC_VALUE": simulator.position(1)})
            client.wait_state(ONE, ABSOLUTE, "Ok")


# The client


UNREAD = 50_000
"""Bytes in a pipe that holds 65536, and takes no whole definition of all properties any more."""


def fill(client: FocuserClient) -> None:
    """Ask, and do not read the answers, until the driver's output is full."""
    looks: list[int] = []

    def full() -> bool:
        if unread_bytes(client._write_fd) == 0:
            os.write(client._write_fd, b"<getProperties version='1.7'/>\n")
        looks.append(unread_bytes(client._read_fd))
        return looks[-1] > UNREAD and looks[-50:] == looks[-1:] * 50

    eventually(full, "the driver's output to be full")


@pytest.mark.parametrize("debug", ["ENABLE", "DISABLE"])
def test_a_stop_is_on_the_wire_while_nobody_reads_the_drivers_output(
    home: Path, simulator: Simulator, extra: dict[str, str], debug: str
) -> None:
    with DriverProcess(home, extra) as driver:
        client = driver.client
        client.connect(1)
        client.ask(ONE, "DEBUG", {debug: "On"})
        set_out(client, simulator)
        lines = Lines(simulator)
        fill(client)
        abort(client)
        wait_for_stop(simulator, lines)
        client.wait_state(ONE, ABORT, "Ok")
        client.wait_state(ONE, ABSOLUTE, "Idle")
        assert client.position(1) == simulator.position(1)


def test_a_client_that_reads_late_receives_the_end_of_a_move_however_much_traffic_there_was(
    home: Path, simulator: Simulator, tmp_path: Path
) -> None:
    extra = configured(tmp_path / "chatty.json", simulator.port, idle_loop_delay=0.001)
    with DriverProcess(home, extra) as driver:
        client = driver.client
        client.connect(1)
        client.ask(ONE, "DEBUG", {"ENABLE": "On"})
        set_out(client, simulator, to=200)
        fill(client)
        eventually(lambda: simulator.position(1) == 200, "the end of the move")
        lines = Lines(simulator)
        eventually(lambda: lines.polls() > 1500, "polls")
        client.wait(lambda: client.position(1) == 200, "the end of the move", PROMPT_S)
        client.wait_state(ONE, ABSOLUTE, "Ok")


# The disk


def test_a_slow_disk_delays_neither_a_move_nor_a_stop(
    home: Path, simulator: Simulator, extra: dict[str, str], tmp_path: Path
) -> None:
    machine = Machine(tmp_path / "machine")
    with DriverProcess(home, {**extra, **machine.environment()}) as driver:
        client = driver.client
        client.connect(1, 2)
        set_out(client, simulator, 2)
        machine.switch("slow", True)
        since = len(client.received)
        client.new(ONE, "FOCUS_SYNC", {"FOCUS_SYNC_VALUE": 500})
        machine.wait_for_fsync()
        lines = Lines(simulator)
        abort(client, 2)
        wait_for_stop(simulator, lines, 2)
        set_out(client, simulator, 2)
        client.settle(ONE)
        synced = (ONE, "FOCUS_SYNC", "Ok")
        assert not any(answer[1:4] == synced for answer in client.received[since:]), "it is not on the disk"
        machine.switch("slow", False)
        client.wait(lambda: any(answer[1:4] == synced for answer in client.received[since:]), "the answer to the sync")
        client.wait(lambda: client.position(1) == 500, "the new name of the place")
