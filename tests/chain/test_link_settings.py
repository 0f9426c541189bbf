# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of a property of the link that is set while a link is up, lost or being opened.

It takes effect, or a message says when it will. The controllers are simulated ones on pseudo-terminals.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from serial.tools.list_ports_common import ListPortInfo
from support import Bridge, DriverInside, FocuserClient, Lines, eventually

from indi_multifocus.controller import port as port_module
from indi_multifocus.controller.controller import Controller
from indi_multifocus.controller.requests import PortSettings
from indi_multifocus.controller.snapshot import Link, Snapshot
from indi_multifocus.settings.driver_settings import Settings
from indi_multifocus.settings.files import FileWriter
from indi_multifocus.settings.remembered_position import ControllerMemory
from indi_multifocus.simulator import Simulator

pytestmark = pytest.mark.usefixtures("no_thread_is_left")

ONE, TWO = "MultiFocus 1", "MultiFocus 2"
POSITION, SYNC = "ABS_FOCUS_POSITION", "FOCUS_SYNC"
SETTINGS = Settings(moving_s=0.02, idle_s=0.05)


class Ports:
    """Ports that come and go under names of the test's own choice."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def plug(self, simulator: Simulator, name: str) -> str:
        """Plug the controller in, as the port `name`. Returns its path."""
        simulator.replug_cable()
        path = self._folder / name
        os.symlink(simulator.port, path)
        return str(path)

    def pull(self, simulator: Simulator, name: str) -> None:
        """Pull its cable."""
        (self._folder / name).unlink()
        simulator.pull_cable()


@pytest.fixture
def ports(tmp_path: Path) -> Ports:
    return Ports(tmp_path)


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with Simulator(speed=20) as started:
        yield started


@pytest.fixture
def other() -> Iterator[Simulator]:
    with Simulator(speed=20) as started:
        yield started


@pytest.fixture
def client() -> Iterator[FocuserClient]:
    with DriverInside(SETTINGS) as connected:
        yield connected


def set_text(client: FocuserClient, name: str, **values: str) -> int:
    """Set a text property, which is taken. Returns since when messages about it may come."""
    since = len(client.received)
    assert client.ask(ONE, name, values, "Text").state == "Ok"
    return since


def lose(client: FocuserClient, ports: Ports, simulator: Simulator, name: str) -> None:
    ports.pull(simulator, name)
    client.wait(lambda: client.devices[ONE]["FOCUS_LINK"].values["LINK"] == "Alert", "the loss of the link")


def wait_for_link(client: FocuserClient) -> None:
    client.wait(lambda: client.devices[ONE]["FOCUS_LINK"].values["LINK"] == "Ok", "the link")
    client.settle(ONE)


def shown(client: FocuserClient) -> tuple[str, float, str]:
    client.settle(ONE)
    return client.state(ONE, POSITION), client.position(1), client.value(ONE, "FOCUS_LINK_INFO", "POSITION")


def test_a_controller_that_comes_back_under_another_name_is_found_by_that(
    client: FocuserClient, ports: Ports, simulator: Simulator, home: Path
) -> None:
    client.set_port(ports.plug(simulator, "ttyACM0"))
    client.connect(1, 2)
    client.move_and_wait(1, 100)
    lose(client, ports, simulator, "ttyACM0")
    new = ports.plug(simulator, "ttyACM1")
    since = set_text(client, "DEVICE_PORT", PORT=new)
    client.wait_message(f"[INFO] Ports is used now: looking for the controller on {new}", since, TWO)
    wait_for_link(client)
    client.wait_message("[INFO] the controller is back", since, ONE)
    # Nothing but its port distinguishes this controller from others, so nobody knows that it is the same one.
    assert shown(client) == ("Alert", 100, "unverified")
    assert client.ask(ONE, SYNC, {"FOCUS_SYNC_VALUE": 100}).state in ("Busy", "Ok")
    client.wait_state(ONE, POSITION, "Ok")
    client.move_and_wait(1, 120)
    eventually(lambda: new in (home / ".indi" / f"{ONE}_config.xml").read_text(), "the port that works to be saved")


def usb(simulator: Simulator, serial_number: str) -> list[ListPortInfo]:
    found = ListPortInfo(simulator.port)
    found.vid, found.pid, found.serial_number = 0x03EB, 0x204B, serial_number
    return [found]


def test_a_controller_with_a_usb_serial_number_is_known_under_any_name(
    client: FocuserClient, ports: Ports, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list of USB devices is replaced, for a pseudo-terminal is none."""
    monkeypatch.setattr(port_module, "comports", lambda: usb(simulator, "A1"))
    client.set_port(ports.plug(simulator, "ttyACM0"))
    client.connect(1)
    client.move_and_wait(1, 100)
    lose(client, ports, simulator, "ttyACM0")
    set_text(client, "DEVICE_PORT", PORT=ports.plug(simulator, "ttyACM1"))
    wait_for_link(client)
    assert shown(client) == ("Ok", 100, "verified")


def test_another_board_on_the_same_port_has_its_own_memory(
    client: FocuserClient, ports: Ports, simulator: Simulator, other: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(port_module, "comports", lambda: usb(simulator, "A1"))
    client.set_port(ports.plug(simulator, "ttyACM0"))
    client.connect(1)
    client.ask(ONE, SYNC, {"FOCUS_SYNC_VALUE": 700})
    client.wait(lambda: shown(client) == ("Ok", 700, "verified"), "the sync")
    lose(client, ports, simulator, "ttyACM0")
    monkeypatch.setattr(port_module, "comports", lambda: usb(other, "B2"))
    ports.plug(other, "ttyACM0")
    wait_for_link(client)
    assert shown(client) == ("Alert", 700, "unverified"), "it is known that it is another one, and nothing else"
    client.ask(ONE, SYNC, {"FOCUS_SYNC_VALUE": 30})
    client.wait(lambda: shown(client) == ("Ok", 30, "verified"), "the sync")
    lose(client, ports, other, "ttyACM0")
    monkeypatch.setattr(port_module, "comports", lambda: usb(simulator, "A1"))
    ports.plug(simulator, "ttyACM0")
    wait_for_link(client)
    assert shown(client) == ("Ok", 700, "verified")


def test_a_port_that_is_set_while_the_link_is_up_is_used_when_that_is_lost_with_the_memory_of_its_controller(
    client: FocuserClient, ports: Ports, simulator: Simulator, other: Simulator
) -> None:
    one, two = ports.plug(simulator, "one"), ports.plug(other, "two")
    client.set_port(two)
    client.connect(1)
    client.ask(ONE, SYNC, {"FOCUS_SYNC_VALUE": 30})
    client.wait(lambda: shown(client) == ("Ok", 30, "verified"), "the sync")
    client.disconnect(1)
    client.set_port(one)
    client.connect(1)
    since = set_text(client, "DEVICE_PORT", PORT=two)
    client.wait_message("[INFO] Ports is used when the port is opened next", since, ONE)
    client.move_and_wait(1, 100)
    assert (simulator.position(1), other.position(1)) == (100, 0)
    lose(client, ports, simulator, "one")
    wait_for_link(client)
    assert shown(client) == ("Ok", 30, "verified")
    client.move_and_wait(1, 50)
    assert other.position(1) == 20


def test_a_way_by_network_that_is_set_while_the_link_is_lost_is_used_at_once(
    client: FocuserClient, ports: Ports, simulator: Simulator
) -> None:
    client.set_port(ports.plug(simulator, "ttyACM0"))
    client.connect(1)
    lose(client, ports, simulator, "ttyACM0")
    simulator.replug_cable()
    with Bridge(simulator.port) as bridge:
        since = set_text(client, "DEVICE_ADDRESS", ADDRESS="127.0.0.1", PORT=str(bridge.number))
        client.wait_message("[INFO] Server applies in the other CONNECTION_MODE", since, ONE)
        since = len(client.received)
        assert client.ask(ONE, "CONNECTION_MODE", {"CONNECTION_TCP": "On"}).state == "Ok"
        client.wait_message(f"on socket://127.0.0.1:{bridge.number}", since, ONE)
        wait_for_link(client)
        since = len(client.received)
        assert client.ask(ONE, "DEVICE_BAUD_RATE", {"57600": "On"}).state == "Ok"
        client.wait_message("[INFO] Baud Rate applies in the other CONNECTION_MODE", since, ONE)
        client.disconnect(1)


def test_a_way_that_is_not_set_right_is_told_and_the_old_one_is_used(
    client: FocuserClient, ports: Ports, simulator: Simulator
) -> None:
    client.set_port(ports.plug(simulator, "ttyACM0"))
    client.connect(1)
    lose(client, ports, simulator, "ttyACM0")
    since = len(client.received)
    client.ask(ONE, "CONNECTION_MODE", {"CONNECTION_TCP": "On"})
    client.wait_message("[WARNING] Connection Mode is set, but the port cannot be used: no address is set", since, ONE)
    ports.plug(simulator, "ttyACM0")
    wait_for_link(client)


def test_a_port_that_is_set_while_another_is_tried_is_used_at_the_next_connection(
    client: FocuserClient, ports: Ports, simulator: Simulator, other: Simulator
) -> None:
    other.fault_hang()
    client.set_port(ports.plug(other, "silent"))
    client.new(ONE, "CONNECTION", {"CONNECT": "On"}, "Switch")
    client.wait_state(ONE, "CONNECTION", "Busy")
    since = set_text(client, "DEVICE_PORT", PORT=ports.plug(simulator, "right"))
    client.wait_message("[INFO] Ports is used when the port is opened next", since, ONE)
    answer = client.ask(ONE, "SIMULATION", {"ENABLE": "On"})
    assert answer.state == "Alert"
    assert "disconnect all channels first" in answer.message
    client.wait_state(ONE, "CONNECTION", "Alert")
    client.wait_message("nothing answers on", since, ONE)
    client.connect(1)
    client.move_and_wait(1, 10)
    assert simulator.position(1) == 10


def test_a_port_that_is_set_on_the_simulator_is_for_later(client: FocuserClient, home: Path) -> None:
    client.ask(ONE, "SIMULATION", {"ENABLE": "On"})
    client.connect(1)
    since = set_text(client, "DEVICE_PORT", PORT="/dev/ttyACM7")
    client.wait_message("[INFO] Ports applies when SIMULATION is off", since, ONE)
    assert shown(client) == ("Ok", 0, "verified")


def test_a_polling_period_that_is_set_while_the_link_is_lost_is_that_of_the_next_move(
    client: FocuserClient, ports: Ports, simulator: Simulator
) -> None:
    client.set_port(ports.plug(simulator, "ttyACM0"))
    client.connect(1)
    lose(client, ports, simulator, "ttyACM0")
    assert client.ask(ONE, "POLLING_PERIOD", {"PERIOD_MS": 600_000}).state == "Ok"
    ports.plug(simulator, "ttyACM0")
    wait_for_link(client)
    simulator.set_speed(1)
    lines = Lines(simulator)
    client.move_and_wait(1, 100)
    assert lines.polls() < 20, "every 20 ms there are 50, without a period those at the start and the end"


def test_a_controller_that_another_driver_uses_is_left_to_it(
    client: FocuserClient, ports: Ports, simulator: Simulator, other: Simulator, home: Path
) -> None:
    """That one has lost it, and looks for it: it knows the position."""
    client.set_port(ports.plug(simulator, "one"))
    client.connect(1, 2)
    two = ports.plug(other, "two")
    writer = FileWriter(lambda report: None)
    theirs = ControllerMemory(two, 2, writer)
    lose(client, ports, simulator, "one")
    since = set_text(client, "DEVICE_PORT", PORT=two)
    for device in (ONE, TWO):
        client.wait_message(f"another driver uses the controller on {two}", since, device)
        client.wait_state(device, "CONNECTION", "Alert")
        assert client.property(device, POSITION) is None
    eventually(lambda: not other.in_use(), "the port to be free")
    theirs.close()
    client.connect(1)
    assert shown(client) == ("Ok", 0, "verified")


def test_a_change_right_after_the_opening_waits_for_the_next_opening(
    ports: Ports, simulator: Simulator, other: Simulator
) -> None:
    """Both requests may be taken at once."""
    snapshots: list[Snapshot] = [Snapshot()]
    controller = Controller(snapshots.append)
    one, two = ports.plug(simulator, "one"), ports.plug(other, "two")
    controller._mailbox.put_open(PortSettings(one), controller._mailbox.new_number())
    controller.reopen(PortSettings(two))
    controller._thread.start()
    try:
        eventually(lambda: snapshots[-1].link is Link.UP, "the link")
        assert snapshots[-1].port == one
        ports.pull(simulator, "one")
        eventually(lambda: snapshots[-1].link is Link.UP and snapshots[-1].port == two, "the other port")
    finally:
        controller.shutdown(5.0)
