# SPDX-License-Identifier: GPL-3.0-or-later
"""Drivers that are started and stopped through indiserver's FIFO, by the lines that managers write into it.

KStars (servermanager.cpp) always adds -n and a label, that of the catalogue for the first driver of a kind, and the
same with " 2" for a second one. INDI Web Manager (indi_server.py) leaves -n out where the catalogue says mdpd, as ours
does, and for a restart it writes stop and start one after the other.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import FocuserClient, IndiServer, eventually

from indi_multifocus.simulator import Simulator

pytestmark = [
    pytest.mark.skipif(shutil.which("indiserver") is None, reason="indiserver is not installed"),
    pytest.mark.usefixtures("no_thread_is_left"),
]

LABEL = "MultiFocus"
ONE, TWO = "MultiFocus 1", "MultiFocus 2"
POSITION = "ABS_FOCUS_POSITION"
FAR = 30_000
"""Minutes away."""


@pytest.fixture
def server(home: Path) -> Iterator[IndiServer]:
    with IndiServer(home, fifo=True) as started:
        yield started


def start(server: IndiServer, label: str) -> int:
    """Start a driver under a label, and wait until it has looked for others. Returns its process number."""
    before = server.drivers()
    server.command("start", label)
    started = eventually(lambda: [pid for pid in server.drivers() if pid not in before], "the driver's process")
    return started[0]


def wait_for_drivers(server: IndiServer, *drivers: int) -> None:
    eventually(lambda: server.drivers() == sorted(drivers), f"drivers {drivers} alone to run")


def wait_for_devices(client: FocuserClient, *devices: str) -> None:
    """Wait until the client knows just these devices, each as a whole."""
    client.wait(
        lambda: set(client.devices) == set(devices) and all("CONFIG_PROCESS" in of for of in client.devices.values()),
        f"the devices {devices}",
    )


def connect(client: FocuserClient, device: str, port: str) -> None:
    assert client.ask(device, "DEVICE_PORT", {"PORT": port}, "Text").state == "Ok"
    client.new(device, "CONNECTION", {"CONNECT": "On"}, "Switch")
    client.wait_state(device, "CONNECTION", "Ok")
    client.wait_state(device, POSITION, "Ok")


@pytest.mark.parametrize("label", [LABEL, ""], ids=["KStars", "INDI Web Manager"])
def test_a_driver_stops_by_the_line_that_its_manager_writes(server: IndiServer, label: str) -> None:
    first = start(server, label)
    client = server.client()
    wait_for_devices(client, ONE, TWO)
    server.command("stop", label)
    wait_for_drivers(server)
    wait_for_devices(client)
    assert start(server, label) != first
    wait_for_devices(client, ONE, TWO)


def test_the_message_that_names_the_label_makes_no_device(server: IndiServer) -> None:
    """A client that was there before the driver receives it; for libindi's see the test with pyindi-client."""
    start(server, "East")
    watcher = server.client()
    server.command("stop", "East")
    wait_for_devices(watcher)
    start(server, "East")
    wait_for_devices(watcher, "East 1", "East 2")
    assert "[INFO] the devices of the driver East are East 1, East 2" in watcher.messages(device="East")
    watcher.settle("East 1")
    assert "East" not in watcher.devices
    shown = server.run("indi_getprop", "-t", "1", "*.CONNECTION.CONNECT").stdout
    assert {line.split(".")[0] for line in shown.splitlines()} == {"East 1", "East 2"}


WATCHER = """
import sys, time, PyIndi
class Client(PyIndi.BaseClient):
    def newDevice(self, device): print("new", device.getDeviceName(), flush=True)
    def removeDevice(self, device): print("gone", device.getDeviceName(), flush=True)
client = Client()
client.setServer("localhost", int(sys.argv[1]))
assert client.connectServer()
print("connected", flush=True)
sys.stdin.readline()
client.disconnectServer()
"""


def test_libindis_client_makes_no_device_of_the_message(server: IndiServer, tmp_path: Path) -> None:
    start(server, "East")
    server.client()
    lines = tmp_path / "lines"
    with open(lines, "wb") as output:
        watcher = subprocess.Popen(
            [sys.executable, "-c", WATCHER, str(server.port)], stdin=subprocess.PIPE, stdout=output, stderr=output
        )
    with watcher:
        eventually(lambda: "new East 2" in lines.read_text(), "PyIndi to know the devices")
        server.command("stop", "East")
        eventually(lambda: "gone East 2" in lines.read_text(), "PyIndi to know that they are gone")
        start(server, "East")
        eventually(lambda: lines.read_text().count("new East 2") == 2, "PyIndi to know the devices again")
        assert watcher.stdin is not None
        watcher.stdin.close()
    devices = [line for line in lines.read_text().splitlines() if line.startswith(("new ", "gone "))]
    assert sorted(devices) == ["gone East 1", "gone East 2"] + ["new East 1"] * 2 + ["new East 2"] * 2


def test_a_second_driver_of_the_same_devices_waits_until_the_first_ends(server: IndiServer) -> None:
    """Of two started twice by mistake each client would see every device twice. Each stop ends one of them."""
    first = start(server, LABEL)
    client = server.client()
    wait_for_devices(client, ONE, TWO)
    client.settle(TWO)
    since = len(client.received)
    second = start(server, LABEL)
    client.wait_message("this INDI server already runs a driver for MultiFocus 1, MultiFocus 2", since)
    client.settle(ONE)
    assert not [answer for answer in client.received[since:] if answer.kind == "def"]
    server.command("stop", LABEL)
    wait_for_drivers(server, second)
    client.wait(lambda: any(answer.kind == "def" for answer in client.received[since:]), "the second driver's devices")
    wait_for_devices(client, ONE, TWO)
    server.command("stop", LABEL)
    wait_for_drivers(server)
    assert first != second


def test_a_waiting_driver_ends_with_its_server_and_by_a_stop(server: IndiServer) -> None:
    first = start(server, "")
    client = server.client()
    wait_for_devices(client, ONE, TWO)
    second, third = start(server, ""), start(server, "")
    eventually(lambda: server.log.count("already runs a driver") == 2, "both to wait")
    server.command("stop")
    wait_for_drivers(server, second, third)
    wait_for_devices(client, ONE, TWO)
    assert first not in server.drivers()
    server.process.terminate()
    eventually(lambda: not any(_runs(pid) for pid in (second, third)), "both to end with the server")


def _runs(pid: int) -> bool:
    return Path(f"/proc/{pid}/cmdline").exists() and bool(Path(f"/proc/{pid}/cmdline").read_bytes())


def test_a_restart_by_stop_and_start_at_once_leaves_a_driver_that_serves(server: IndiServer) -> None:
    start(server, "")
    client = server.client()
    wait_for_devices(client, ONE, TWO)
    for _ in range(5):
        since = len(client.received)
        before = server.drivers()
        server.command("stop")
        server.command("start")
        eventually(lambda before=before: server.drivers() not in ([], before), "another driver")  # type: ignore[misc]
        client.wait(
            lambda since=since: any(answer.kind == "def" for answer in client.received[since:]),  # type: ignore[misc]
            "the new driver's devices",
        )
        wait_for_devices(client, ONE, TWO)
    assert "already runs a driver" not in server.log


def test_a_stop_in_mid_move_leaves_the_move_to_finish_and_the_position_known(
    server: IndiServer, simulator: Simulator
) -> None:
    """indiserver kills the driver. The motor goes on, as when the cable is pulled; the next driver sees it arrive."""
    start(server, LABEL)
    client = server.client()
    wait_for_devices(client, ONE, TWO)
    connect(client, ONE, simulator.port)
    client.move(1, 200)
    client.wait(lambda: client.position(1) > 10, "the motor to move")
    server.command("stop", LABEL)
    wait_for_drivers(server)
    wait_for_devices(client)
    eventually(lambda: not simulator.in_use(), "the port to be free")
    start(server, LABEL)
    wait_for_devices(client, ONE, TWO)
    client.new(ONE, "CONNECTION", {"CONNECT": "On"}, "Switch")
    client.wait(lambda: client.state(ONE, POSITION) == "Ok" and client.position(1) == 200, "the arrival")
    assert simulator.position(1) == 200


def test_of_two_controllers_each_is_stopped_by_its_own_label(
    server: IndiServer, simulator: Simulator, tmp_path: Path
) -> None:
    with Simulator(link=tmp_path / "west") as other:
        start(server, "East")
        west = start(server, "West")
        client = server.client()
        wait_for_devices(client, "East 1", "East 2", "West 1", "West 2")
        connect(client, "East 1", simulator.port)
        connect(client, "West 1", other.port)
        for device in ("East 1", "West 1"):
            client.new(device, POSITION, {"FOCUS_ABSOLUTE_POSITION": FAR}, "Number")
            client.wait_state(device, POSITION, "Busy")
        server.command("stop", "East")
        wait_for_drivers(server, west)
        wait_for_devices(client, "West 1", "West 2")
        client.new("West 1", "FOCUS_ABORT_MOTION", {"ABORT": "On"}, "Switch")
        client.wait_state("West 1", POSITION, "Idle")
        server.command("stop", "West")
        wait_for_drivers(server)


def test_a_label_that_is_a_device_of_another_driver_is_a_warning_and_takes_no_device_from_clients(
    server: IndiServer,
) -> None:
    """KStars names a second driver of a kind so: "MultiFocus 2", which is the first one's second channel."""
    first = start(server, LABEL)
    client = server.client()
    wait_for_devices(client, ONE, TWO)
    second = start(server, TWO)
    wait_for_devices(client, ONE, TWO, f"{TWO} 1", f"{TWO} 2")
    assert 'the label "MultiFocus 2" is also the name of a device of another driver' in server.log
    os.kill(second, signal.SIGKILL)
    wait_for_drivers(server, first)
    wait_for_devices(client, ONE, TWO)
