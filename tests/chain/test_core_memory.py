# SPDX-License-Identifier: GPL-3.0-or-later
"""What was answered Ok is on the disk, and what is remembered belongs to one controller."""

from __future__ import annotations

from pathlib import Path

import pytest
from configuration import configured
from outside import PROMPT_S, Machine, clear_disk, fill_disk
from support import DriverProcess, FocuserClient, eventually, run_driver

from indi_multifocus.simulator import Simulator

pytestmark = pytest.mark.usefixtures("no_thread_is_left")

ONE, TWO = "MultiFocus 1", "MultiFocus 2"
ABSOLUTE, SYNC, REVERSE = "ABS_FOCUS_POSITION", "FOCUS_SYNC", "FOCUS_REVERSE_MOTION"
FAR = 3000
"""Half a minute away."""


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "machine")


def answer(client: FocuserClient, name: str, values: dict[str, float | str]) -> str:
    """The state that a property has when its new values are dealt with."""
    client.ask(ONE, name, values)
    client.wait(lambda: client.state(ONE, name) != "Busy", f"the answer to {name}")
    return client.state(ONE, name)


# Power cuts


@pytest.mark.parametrize("what", ["sync", "reverse", "zero"])
def test_what_was_answered_ok_is_there_after_a_power_cut(
    home: Path, simulator: Simulator, extra: dict[str, str], machine: Machine, tmp_path: Path, what: str
) -> None:
    extra = {**extra, **machine.environment()}
    position, turned = 700, False
    with DriverProcess(home, extra) as driver:
        client = driver.client
        client.connect(1)
        client.move_and_wait(1, 20)
        assert answer(client, SYNC, {"FOCUS_SYNC_VALUE": 700}) == "Ok"
        if what == "reverse":
            turned = True
            assert answer(client, REVERSE, {"INDI_ENABLED": "On"}) == "Ok"
        elif what == "zero":
            position = 0
            assert answer(client, SYNC, {"FOCUS_SYNC_VALUE": 0}) == "Ok"
        driver.process.kill()
    simulator.power_cycle()
    machine.lose_power(tmp_path / "after")
    with DriverProcess(tmp_path / "after", extra) as driver:
        driver.client.connect(1)
        assert (driver.client.state(ONE, ABSOLUTE), driver.client.position(1)) == ("Ok", position)
        assert ("INDI_ENABLED" in driver.client.devices[ONE][REVERSE].on) == turned


def test_a_move_that_a_power_cut_ended_is_no_arrival(
    home: Path, simulator: Simulator, extra: dict[str, str], machine: Machine, tmp_path: Path
) -> None:
    """Of computer and controller: the controller comes back at its target, where the motor never was."""
    extra = {**extra, **machine.environment()}
    with DriverProcess(home, extra) as driver:
        driver.client.connect(1)
        assert answer(driver.client, SYNC, {"FOCUS_SYNC_VALUE": 700}) == "Ok"
        driver.client.move(1, FAR)
        eventually(lambda: simulator.position(1) > 200, "the move to go on for two seconds")
        driver.process.kill()
    simulator.power_cycle()
    assert simulator.position(1) == FAR - 700
    machine.lose_power(tmp_path / "after")
    with DriverProcess(tmp_path / "after", extra) as driver:
        driver.client.connect(1)
        assert driver.client.state(ONE, ABSOLUTE) == "Alert"
        assert driver.client.value(ONE, "FOCUS_LINK_INFO", "POSITION") == "unverified"


# A disk that takes nothing


@pytest.mark.parametrize("what", ["is full", "fails"])
def test_a_sync_that_cannot_be_kept_is_not_ok(home: Path, extra: dict[str, str], machine: Machine, what: str) -> None:
    extra = {**extra, **machine.environment()}
    with DriverProcess(home, extra) as driver:
        client = driver.client
        client.connect(1)
        assert answer(client, SYNC, {"FOCUS_SYNC_VALUE": 100}) == "Ok"
        if what == "is full":
            fill_disk(driver.process.pid)
        else:
            machine.switch("broken", True)
        since = len(client.received)
        assert answer(client, SYNC, {"FOCUS_SYNC_VALUE": 700}) == "Alert"
        client.wait_message("[ERROR]", since, ONE)
        shown = client.state(ONE, ABSOLUTE), client.position(1)
        assert answer(client, REVERSE, {"INDI_ENABLED": "On"}) == "Alert"
        if what == "is full":
            clear_disk(driver.process.pid)
        else:
            machine.switch("broken", False)
        assert "{} {:g}".format(*shown) in ("Ok 100", "Alert 700"), (
            "either it was not done, or a message says that it may not last"
        )
        driver.process.kill()
    with DriverProcess(home, extra) as driver:
        driver.client.connect(1)
        now = driver.client.state(ONE, ABSOLUTE), driver.client.position(1)
        assert now == shown or now[0] == "Alert"
        assert answer(driver.client, SYNC, {"FOCUS_SYNC_VALUE": 300}) == "Ok"


def test_a_move_that_could_not_be_written_down_is_told_and_no_arrival_after_a_power_cut(
    home: Path, simulator: Simulator, extra: dict[str, str], machine: Machine, tmp_path: Path
) -> None:
    extra = {**extra, **machine.environment()}
    with DriverProcess(home, extra) as driver:
        client = driver.client
        client.connect(1)
        client.move_and_wait(1, 20)
        fill_disk(driver.process.pid)
        since = len(client.received)
        client.move(1, FAR)
        client.wait(
            lambda: [text for text in client.messages(since, ONE) if "[DEBUG]" not in text], "a message", PROMPT_S
        )
        eventually(lambda: simulator.target(1) != 20, "the move")
        driver.process.kill()
    simulator.power_cycle()
    machine.lose_power(tmp_path / "after")
    with DriverProcess(tmp_path / "after", extra) as driver:
        driver.client.connect(1)
        assert driver.client.state(ONE, ABSOLUTE) == "Alert"


# Whose memory


def test_two_drivers_of_two_controllers_do_not_share_what_they_remember(
    home: Path, simulator: Simulator, extra: dict[str, str], tmp_path: Path
) -> None:
    with Simulator(link=tmp_path / "other") as second:
        other_extra = configured(tmp_path / "other.json", second.port, indi_port=7625)
        with DriverProcess(home, extra) as driver, DriverProcess(home, other_extra) as other:
            driver.client.connect(1)
            other.client.connect(1)
            other.client.move_and_wait(1, 20)
            assert answer(driver.client, SYNC, {"FOCUS_SYNC_VALUE": 50_000}) == "Ok"
            other.process.terminate()
            other.wait()
            with DriverProcess(home, other_extra) as again:
                again.client.connect(1)
                assert (again.client.state(ONE, ABSOLUTE), again.client.position(1)) == ("Ok", 20)
                assert answer(again.client, SYNC, {"FOCUS_SYNC_VALUE": 900}) == "Ok"
        with DriverProcess(home, extra) as driver:
            driver.client.connect(1)
            assert (driver.client.state(ONE, ABSOLUTE), driver.client.position(1)) == ("Ok", 50_000)


def test_another_controller_is_not_taken_for_the_one_before(home: Path, simulator: Simulator, tmp_path: Path) -> None:
    """Without a configuration, a user's boxes are distinguished by their ports."""
    with Simulator(link=tmp_path / "other") as second, DriverProcess(home) as driver:
        client = driver.client
        client.set_port(simulator.port)
        client.connect(1)
        assert answer(client, SYNC, {"FOCUS_SYNC_VALUE": 5000}) == "Ok"
        client.disconnect(1)
        client.set_port(second.port)
        client.connect(1)
        assert (client.state(ONE, ABSOLUTE), client.position(1)) == ("Ok", 0)
        assert answer(client, SYNC, {"FOCUS_SYNC_VALUE": 70}) == "Ok"
        client.disconnect(1)
        client.set_port(simulator.port)
        client.connect(1)
        assert (client.state(ONE, ABSOLUTE), client.position(1)) == ("Ok", 5000)


def test_two_channels_of_one_name_are_refused(home: Path, simulator: Simulator, tmp_path: Path) -> None:
    extra = {"INDIDEV": "East", **configured(tmp_path / "names.json", simulator.port, labels={"1": "East 2"})}
    found = run_driver(home, extra)
    clash = 'INDIDEV: "East": two channels would be named "East 2": another prefix or label is expected'
    assert (found.returncode, found.stdout, found.stderr) == (1, "", f"indi_multifocus: {clash}\n")
