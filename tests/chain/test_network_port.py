# SPDX-License-Identifier: GPL-3.0-or-later
"""A controller that is reached by TCP, through all that is between a client of the INDI server and the motor.

The simulated controller is on a pseudo-terminal, a bridge serves that terminal on a TCP port, and indiserver runs the
driver. The bridge is socat where there is one, as many an observatory uses, and else `Bridge`, which does the same.
What `port.py` makes of addresses is in test_port.py, what the properties refuse in test_options.py.

Of SYSTEM_PORTS only what a machine without any serial port has can be seen here for real; so the folder in which udev
names ports, and pyserial's list, are replaced.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from configuration import configured
from ports import free_port
from serial.tools.list_ports_common import ListPortInfo
from support import DEADLINE_S, Bridge, DriverInside, FocuserClient, IndiServer, Lines, eventually

from indi_multifocus import link_settings
from indi_multifocus.controller import port as port_module
from indi_multifocus.simulator import Simulator

pytestmark = pytest.mark.usefixtures("no_thread_is_left")

ONE, TWO = "MultiFocus 1", "MultiFocus 2"


@contextmanager
def socat(port: str) -> Iterator[int]:
    """socat as a bridge to a serial port, for one call after the other; its TCP port."""
    number = free_port()
    command = ["socat", f"TCP-LISTEN:{number},bind=127.0.0.1,reuseaddr,fork,max-children=1", f"{port},raw,echo=0"]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        eventually(lambda: is_listening(number), "socat to listen")
        yield number
    finally:
        process.terminate()
        process.wait(DEADLINE_S)


def is_listening(number: int) -> bool:
    """Looked up, and not tried: a call is one too many for some bridges."""
    tables = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return any(line.split()[1].endswith(f":{number:04X}") and line.split()[3] == "0A" for line in tables)


@contextmanager
def bridged(port: str, kind: str) -> Iterator[int]:
    if kind == "socat":
        with socat(port) as number:
            yield number
    else:
        with Bridge(port) as bridge:
            yield bridge.number


def connect(client: FocuserClient, number: int, *channels: int, host: str = "127.0.0.1") -> None:
    """By the properties that a user of KStars fills in."""
    for channel in channels:
        client.wait(lambda: client.property(client.name(channel), "DEVICE_PORT_SCAN"), "both channels")  # noqa: B023
    assert client.ask(ONE, "CONNECTION_MODE", {"CONNECTION_TCP": "On"}).state == "Ok"
    assert client.ask(ONE, "DEVICE_ADDRESS", {"ADDRESS": host, "PORT": str(number)}).state == "Ok"
    client.connect(*channels)


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("socat", marks=pytest.mark.skipif(not shutil.which("socat"), reason="socat is not installed")),
        "bridge",
    ],
)
@pytest.mark.parametrize("generation", [1, 2])
def test_a_controller_behind_a_bridge_is_driven_through_indiserver(home: Path, kind: str, generation: int) -> None:
    with Simulator(generation=generation, speed=20) as simulator, bridged(simulator.port, kind) as number:
        with IndiServer(home) as server:
            client = server.client()
            connect(client, number, 1, 2)
            client.move_and_wait(1, 100)
            client.move_and_wait(2, 50)
            client.move(1, 50_000)
            client.wait_state(ONE, "ABS_FOCUS_POSITION", "Busy")
            client.abort(1)
            assert client.position(1) == simulator.position(1)
            client.disconnect(1, 2)


def test_a_connection_that_breaks_is_made_again_and_the_position_is_as_it_was() -> None:
    with Simulator(speed=20) as simulator, Bridge(simulator.port) as bridge, DriverInside() as client:
        connect(client, bridge.number, 1)
        client.move_and_wait(1, 100)
        assert client.ask(ONE, "FOCUS_SYNC", {"FOCUS_SYNC_VALUE": 1100}).state == "Ok"
        bridge.hang_up()
        client.wait_message("trying to get it back", device=ONE)
        client.wait_message("the controller is back", device=ONE)
        client.wait(lambda: client.value(ONE, "FOCUS_LINK_INFO", "RECONNECTS") == "1", "the count of reconnects")
        assert (client.state(ONE, "ABS_FOCUS_POSITION"), client.position(1)) == ("Ok", 1100)
        client.move_and_wait(1, 1000)
        assert simulator.position(1) == 0


def test_a_bridge_that_was_restarted_is_found_again() -> None:
    with Simulator(speed=20) as simulator, DriverInside() as client:
        with Bridge(simulator.port) as bridge:
            connect(client, bridge.number, 1)
            bridge.hang_up()
        client.wait_state(ONE, "ABS_FOCUS_POSITION", "Alert")
        refused = client.ask(ONE, "ABS_FOCUS_POSITION", {"FOCUS_ABSOLUTE_POSITION": 10})
        assert (refused.state, "does not answer" in refused.message) == ("Alert", True)
        with Bridge(simulator.port, bridge.number):
            client.wait_message("the controller is back", device=ONE)
            client.move_and_wait(1, 20)
            client.disconnect(1)


def test_something_else_at_the_address_is_distinguished_from_a_controller() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, DriverInside() as client:
        number = listener.getsockname()[1]
        assert client.ask(ONE, "CONNECTION_MODE", {"CONNECTION_TCP": "On"}).state == "Ok"
        assert client.ask(ONE, "DEVICE_ADDRESS", {"ADDRESS": "127.0.0.1", "PORT": str(number)}).state == "Ok"
        since = len(client.received)
        client.new(ONE, "CONNECTION", {"CONNECT": "On"})
        listener.settimeout(DEADLINE_S)
        caller, _ = listener.accept()
        with caller:
            caller.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n" * 3)
            client.wait_state(ONE, "CONNECTION", "Alert")
        refusal = client.wait_message("[ERROR]", since, ONE)
        assert f"socket://127.0.0.1:{number}" in refusal
        assert "focus controller" in refusal


def test_a_name_that_nobody_has_is_refused_with_the_name() -> None:
    with DriverInside() as client:
        client.ask(ONE, "CONNECTION_MODE", {"CONNECTION_TCP": "On"})
        client.ask(ONE, "DEVICE_ADDRESS", {"ADDRESS": "no-such-host.invalid", "PORT": "4001"})
        assert "no-such-host.invalid port 4001" in client.fail_to_connect()


def test_a_configuration_may_name_a_bridge_as_its_serial_port(home: Path) -> None:
    with Simulator(speed=20) as simulator, Bridge(simulator.port) as bridge:
        extra = configured(home / "network.json", f"socket://localhost:{bridge.number}")
        with IndiServer(home, extra) as server:
            client = server.client()
            client.wait(lambda: client.property(TWO, "DEVICE_PORT_SCAN"), "both channels")
            assert client.devices[ONE]["CONNECTION_MODE"].on == ["CONNECTION_TCP"]
            assert client.devices[ONE]["DEVICE_ADDRESS"].values == {"ADDRESS": "localhost", "PORT": str(bridge.number)}
            orders = Lines(simulator)
            client.connect(2)
            client.move_and_wait(2, -30)
            assert orders.orders() == [b"2-30"]
            client.disconnect(2)


# The serial ports of this machine


def usb(device: str) -> ListPortInfo:
    found = ListPortInfo(device)
    found.vid = 0x03EB
    return found


@pytest.fixture
def by_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine on which udev knows two serial ports, and the kernel has a built-in one, too."""
    folder = tmp_path / "by-id"
    folder.mkdir()
    for name in ("usb-Focus_B-if00", "usb-Focus_A-if00"):
        (folder / name).symlink_to("/dev/null")
    for module in (link_settings, port_module):
        monkeypatch.setattr(module, "BY_ID", str(folder))
    there = [ListPortInfo("/dev/ttyS0"), usb("/dev/ttyACM1"), usb("/dev/ttyACM0")]
    monkeypatch.setattr(port_module, "comports", lambda: there)
    return folder


def test_ports_that_are_there_are_offered_from_the_start_the_lasting_names_first(by_id: Path) -> None:
    with DriverInside() as client:
        for device in (ONE, TWO):
            offered = client.devices[device]["SYSTEM_PORTS"]
            assert list(offered.values) == [
                f"{by_id}/usb-Focus_A-if00",
                f"{by_id}/usb-Focus_B-if00",
                "/dev/ttyACM0",
                "/dev/ttyACM1",
            ]
            assert (offered.label, offered.group, offered.rule) == ("System Ports", "Connection", "AtMostOne")
            assert offered.on == []


def test_a_port_that_came_later_is_found_by_a_scan(by_id: Path) -> None:
    with DriverInside() as client:
        (by_id / "usb-Focus_C-if00").symlink_to("/dev/null")
        assert client.ask(ONE, "DEVICE_PORT_SCAN", {"Scan Ports": "On"}).state == "Ok"
        assert client.ask(TWO, "SYSTEM_PORTS", {f"{by_id}/usb-Focus_C-if00": "On"}).state == "Ok"
        client.settle(TWO)
        assert client.value(ONE, "DEVICE_PORT", "PORT") == f"{by_id}/usb-Focus_C-if00"


def test_where_udev_knows_no_port_none_is_looked_for_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_settings, "BY_ID", str(tmp_path / "by-id"))
    monkeypatch.setattr(link_settings, "list_ports", lambda: pytest.fail("looked for ports"))
    with DriverInside() as client:
        assert client.property(ONE, "SYSTEM_PORTS") is None
