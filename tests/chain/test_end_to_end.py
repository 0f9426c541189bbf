# SPDX-License-Identifier: GPL-3.0-or-later
"""The driver as a process: behind a real indiserver with INDI's own tools, and alone on standard input and output."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import serial
from pyindi import run_script
from support import DEADLINE_S, ROOT, DriverProcess, IndiServer, Lines, environment, eventually, is_running, run_driver

from indi_multifocus import __version__
from indi_multifocus.simulator import Simulator

pytestmark = pytest.mark.usefixtures("no_thread_is_left")

BOTH = pytest.mark.parametrize("generation", [1, 2])
ONE, TWO = "MultiFocus 1", "MultiFocus 2"
ABSOLUTE = "ABS_FOCUS_POSITION"
POSITION = f"{ABSOLUTE}.FOCUS_ABSOLUTE_POSITION"


def setprop(server: IndiServer, *specs: str) -> None:
    """Set properties with indi_setprop."""
    done = server.run("indi_setprop", *specs)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def getprop(server: IndiServer, spec: str) -> str:
    """One value, from indi_getprop."""
    return server.run("indi_getprop", "-1", spec).stdout.strip()


def connect_by_tools(server: IndiServer, port: str) -> None:
    """Connect both channels as an observer does at the terminal."""
    setprop(server, f"{ONE}.DEVICE_PORT.PORT={port}")
    for device in (ONE, TWO):
        setprop(server, f"{device}.CONNECTION.CONNECT=On")
    for device in (ONE, TWO):
        eventually(lambda: getprop(server, f"{device}.{ABSOLUTE}._STATE") == "Ok", "the connection")  # noqa: B023


# Behind indiserver


@BOTH
def test_the_tools_of_indi_move_both_channels(home: Path, generation: int) -> None:
    with Simulator(generation=generation, speed=20) as simulator, IndiServer(home) as server:
        connect_by_tools(server, simulator.port)
        setprop(server, f"{ONE}.{POSITION}=500")
        setprop(server, f"{TWO}.{POSITION}=300")
        eventually(lambda: (simulator.position(1), simulator.position(2)) == (500, 300), "both to arrive")
        for device, position in ((ONE, "500"), (TWO, "300")):
            eventually(lambda: getprop(server, f"{device}.{ABSOLUTE}._STATE") == "Ok", "the end of the move")  # noqa: B023
            assert getprop(server, f"{device}.{POSITION}") == position
        setprop(server, f"{ONE}.FOCUS_MOTION.FOCUS_INWARD=On")
        setprop(server, f"{ONE}.REL_FOCUS_POSITION.FOCUS_RELATIVE_POSITION=100")
        eventually(lambda: getprop(server, f"{ONE}.{POSITION}") == "400", "the relative move")


def test_the_tools_of_indi_abort_a_move(home: Path, simulator: Simulator) -> None:
    with IndiServer(home) as server:
        connect_by_tools(server, simulator.port)
        setprop(server, f"{ONE}.{POSITION}=50000")
        eventually(lambda: simulator.position(1) > 5, "the move")
        assert getprop(server, f"{ONE}.{ABSOLUTE}._STATE") == "Busy"
        setprop(server, f"{ONE}.FOCUS_ABORT_MOTION.ABORT=On")
        eventually(lambda: getprop(server, f"{ONE}.{ABSOLUTE}._STATE") == "Idle", "the end of the move")
        assert int(getprop(server, f"{ONE}.{POSITION}")) == simulator.position(1) < 50_000
        assert simulator.standstill(1) is not None


def test_what_is_out_of_range_is_refused_with_a_message_to_every_client(home: Path, simulator: Simulator) -> None:
    with IndiServer(home) as server:
        connect_by_tools(server, simulator.port)
        watching = server.client()
        watching.wait(lambda: watching.property(ONE, ABSOLUTE), "the definitions")
        lines = Lines(simulator)
        setprop(server, "-n", f"{ONE}.{POSITION}=100001")
        assert "0 to 100000" in watching.wait_message("100001", device=ONE)
        assert getprop(server, f"{ONE}.{ABSOLUTE}._STATE") == "Alert"
        assert getprop(server, f"{ONE}.{POSITION}") == "0"
        assert lines.orders() == []


def test_clients_see_what_each_other_does(home: Path) -> None:
    with Simulator(speed=20) as simulator, IndiServer(home) as server:
        first, second = server.client(), server.client()
        for client in (first, second):
            client.wait(lambda: len(client.devices) == 2, "both devices")  # noqa: B023
        first.set_port(simulator.port)
        first.connect(1, 2)
        second.wait(lambda: second.property(TWO, "FOCUS_LINK_INFO"), "what the other's connection offers")
        first.move(1, 300)
        second.move(2, 200)
        for client in (first, second):
            client.wait(lambda: (client.position(1), client.position(2)) == (300, 200), "both positions")  # noqa: B023
        second.disconnect(1)
        first.wait(lambda: first.property(ONE, ABSOLUTE) is None, "the withdrawal")
        assert first.property(TWO, ABSOLUTE) is not None


def test_a_client_that_comes_late_sees_all_as_it_is(home: Path) -> None:
    with Simulator(speed=20) as simulator, IndiServer(home) as server:
        client = server.client()
        client.set_port(simulator.port)
        client.connect(1)
        client.ask(ONE, "FOCUS_MAX", {"FOCUS_MAX_VALUE": 5000})
        client.move_and_wait(1, 300)
        late = server.client()
        late.wait(lambda: late.property(ONE, "FOCUS_LINK_INFO"), "the definitions")
        assert (late.position(1), late.state(ONE, ABSOLUTE)) == (300, "Ok")
        assert late.devices[ONE][ABSOLUTE].ranges["FOCUS_ABSOLUTE_POSITION"][:2] == (0, 5000)
        assert late.devices[ONE]["CONNECTION"].on == ["CONNECT"]


@pytest.mark.skipif(find_spec("PyIndi") is None, reason="pyindi-client is not installed")
def test_libindi_s_own_client_library_drives_a_channel(home: Path) -> None:
    with Simulator(speed=20) as simulator, IndiServer(home) as server:
        connect_by_tools(server, simulator.port)
        done = run_script(MOVE, home, server.port)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "arrived at 250 of 0 to 100000, steps of 2000" in done.stdout
        assert simulator.position(1) == 250


MOVE = """
def position():
    return client.getDevice("MultiFocus 1").getNumber("ABS_FOCUS_POSITION")

until(lambda: client.getDevice("MultiFocus 1") and position())
assert client.getDevice("MultiFocus 1").getDriverInterface() & PyIndi.BaseDevice.FOCUSER_INTERFACE
wanted = position()
wanted[0].setValue(250)
client.sendNewNumber(wanted)
until(lambda: position().getState() == PyIndi.IPS_OK and position()[0].getValue() == 250)
number = position()[0]
print(f"arrived at {number.getValue():.0f} of {number.getMin():.0f} to {number.getMax():.0f}, "
      f"steps of {number.getStep():.0f}", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["terminated", "killed"])
def test_when_indiserver_is_gone_so_is_the_driver_and_the_port_is_free(
    home: Path, simulator: Simulator, number: signal.Signals
) -> None:
    with IndiServer(home) as server:
        client = server.client()
        client.set_port(simulator.port)
        client.connect(1, 2)
        client.move(1, 50_000)
        client.wait(lambda: client.position(1) > 2, "the move")
        driver = server.driver_pid()
        assert is_running(driver)
        server.process.send_signal(number)
        server.process.wait(DEADLINE_S)
        eventually(lambda: not is_running(driver), "the driver to end")
        serial.Serial(simulator.port, exclusive=True).close()
        assert simulator.target(1) == 50_000, "the move goes on"
        assert simulator.standstill(1) is None


def test_a_driver_that_was_killed_leaves_the_port_to_the_next(home: Path, simulator: Simulator) -> None:
    with DriverProcess(home) as driver:
        driver.client.set_port(simulator.port)
        driver.client.connect(1)
        driver.process.kill()
        driver.wait()
        with DriverProcess(home) as following:
            following.client.set_port(simulator.port)
            following.client.connect(1)


# Its end


@pytest.mark.parametrize("how", ["stdin", "SIGTERM", "SIGINT"])
@pytest.mark.parametrize("doing", ["nothing", "connected", "moving", "connecting", "lost"])
def test_the_driver_ends_when_it_is_told_whatever_it_is_doing(
    home: Path, simulator: Simulator, how: str, doing: str
) -> None:
    port = simulator.port
    with DriverProcess(home) as driver:
        client = driver.client
        if doing != "nothing":
            client.set_port(port)
        if doing == "connecting":
            simulator.silence(True)
            client.new(ONE, "CONNECTION", {"CONNECT": "On"})
            eventually(lambda: simulator.received, "the first question")
        elif doing != "nothing":
            client.connect(1, 2)
        if doing == "moving":
            client.move(1, 50_000)
            client.wait(lambda: client.position(1) > 2, "the move")
        elif doing == "lost":
            simulator.pull_cable()
            client.wait_state(ONE, "FOCUS_LINK", "Alert")
        if how == "stdin":
            os.close(os.dup(driver.stdin.fileno()))
            driver.stdin.close()
        else:
            driver.process.send_signal(getattr(signal, how))
        assert driver.wait() == 0
        simulator.replug_cable()
        assert not simulator.in_use()
        assert driver.errors == ""
        if doing == "moving":
            assert simulator.target(1) == 50_000, "the move goes on"
            assert simulator.standstill(1) is None


def test_the_driver_ends_when_nobody_reads_what_it_says(home: Path, simulator: Simulator) -> None:
    with DriverProcess(home) as driver:
        driver.client.set_port(simulator.port)
        driver.client.connect(1)
        driver.client.move(1, 50_000)
        assert driver.process.stdout is not None
        driver.process.stdout.close()
        assert driver.wait() == 0
        assert not simulator.in_use()


# What it says, and where


def test_its_standard_output_carries_nothing_but_indi(home: Path, simulator: Simulator) -> None:
    """The client reads it with an XML parser, and fails on text between messages and on tags that are not INDI's."""
    with DriverProcess(home) as driver:
        client = driver.client
        client.set_port("/dev/null")
        client.fail_to_connect()
        client.set_port(simulator.port)
        client.connect(1, 2)
        for device in (ONE, TWO):
            client.new(device, "DEBUG", {"ENABLE": "On"}, "Switch")
        client.send("this is <not> & INDI\n")
        assert "<&>" in client.ask(ONE, ABSOLUTE, {"FOCUS_ABSOLUTE_POSITION": "<&>\"'"}).message
        client.move_and_wait(1, 20)
        simulator.garbage(b"\0<&>\xff\xc3\xa4\r\n")
        client.move_and_wait(2, 10)
        simulator.pull_cable()
        client.wait_state(ONE, "FOCUS_LINK", "Alert")
        simulator.replug_cable()
        client.wait_state(ONE, "FOCUS_LINK", "Ok")
        assert any("[DEBUG]" in text for text in client.messages())
        driver.stdin.close()
        assert driver.wait() == 0
        client.wait_end()
        assert "ignored what a client sent" in driver.errors


def test_what_is_for_a_log_that_is_not_there_does_not_get_among_the_indi(home: Path) -> None:
    done = subprocess.run(
        ["sh", "-c", 'exec "$0" -m indi_multifocus 2>&-', sys.executable],
        input=b"this is not INDI <getProperties/>",
        stdout=subprocess.PIPE,
        env=environment(home),
        cwd=ROOT,
        timeout=DEADLINE_S,
    )
    assert done.returncode == 0
    assert b"defTextVector" in done.stdout
    assert b"ignored" not in done.stdout


def test_it_says_its_version_and_no_more(home: Path) -> None:
    done = run_driver(home, arguments=("--version",))
    assert (done.returncode, done.stdout, done.stderr) == (0, f"indi_multifocus {__version__}\n", "")


def test_indidev_names_the_devices(home: Path) -> None:
    with DriverProcess(home, {"INDIDEV": "Clasp"}) as driver:
        driver.client.wait(lambda: len(driver.client.devices) == 2, "both devices")
        assert list(driver.client.devices) == ["Clasp 1", "Clasp 2"]


# With a configuration


CONFIGURATION = {
    "daemon": "localhost_test",
    "log_name": "focusd@test",
    "control_machines": ["LocalHost"],
    "serial_baud": 9600,
    "serial_timeout": 5,
    "channels": 3,
    "idle_loop_delay": 5,
    "moving_loop_delay": 0.05,
    "move_timeout": 180,
    "labels": {"2": "RASA West"},
    "limits": {"1": [-500, 2000]},
}


def with_configuration(folder: Path, **changed: Any) -> dict[str, str]:
    """Write the configuration, and return the environment that names it."""
    path = folder / "multifocus.json"
    path.write_text(json.dumps({**CONFIGURATION, **changed}))
    return {"INDI_MULTIFOCUS_CONFIG": str(path)}


def test_a_configuration_names_port_channels_labels_and_limits(home: Path, tmp_path: Path) -> None:
    with Simulator(generation=1, channels=3, speed=20) as simulator:
        extra = with_configuration(tmp_path, serial_port=simulator.port)
        with DriverProcess(home, extra) as driver:
            client = driver.client
            client.wait(lambda: len(client.devices) == 3, "all devices")
            assert list(client.devices) == ["MultiFocus 1", "RASA West", "MultiFocus 3"]
            assert client.value(ONE, "DEVICE_PORT", "PORT") == simulator.port
            assert client.value(ONE, "POLLING_PERIOD", "PERIOD_MS") == "50"
            client.connect(1, 3)
            client.new("RASA West", "CONNECTION", {"CONNECT": "On"})
            client.wait(lambda: client.property("RASA West", "FOCUS_LINK_INFO"), "the second channel")
            ranges = [
                client.devices[device][ABSOLUTE].ranges["FOCUS_ABSOLUTE_POSITION"][:2] for device in client.devices
            ]
            assert ranges == [(-500, 2000), (-9_999_999, 9_999_999), (-9_999_999, 9_999_999)]
            client.move_and_wait(1, -500)
            assert client.ask(ONE, ABSOLUTE, {"FOCUS_ABSOLUTE_POSITION": -501}).state == "Alert"
            client.move_and_wait(3, -100)
            assert (simulator.position(1), simulator.position(3)) == (-500, -100)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"serial_prot": "/dev/ttyACM0"}, "serial_prot"),
        ({"serial_baud": 9601}, "serial_baud"),
        ({"limits": {"1": [5, 1]}}, "limits"),
        ({"channels": 0}, "channels"),
    ],
)
def test_a_wrong_configuration_is_one_line_and_an_end(
    home: Path, tmp_path: Path, changed: dict[str, Any], named: str
) -> None:
    extra = with_configuration(tmp_path, **{"serial_port": "/dev/focuser", **changed})
    done = run_driver(home, extra)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("indi_multifocus: ")
    assert "multifocus.json" in done.stderr
    assert named in done.stderr


def test_a_configuration_that_is_not_there_is_one_line_and_an_end(home: Path, tmp_path: Path) -> None:
    done = run_driver(home, {"INDI_MULTIFOCUS_CONFIG": str(tmp_path / "none.json")})
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"indi_multifocus: {tmp_path}/none.json: there is no such file\n"
