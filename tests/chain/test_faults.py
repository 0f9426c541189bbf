# SPDX-License-Identifier: GPL-3.0-or-later
"""What users see when something fails: every row of the design's table of faults, over the real chain.

A simulated controller on a pseudo-terminal, the driver, indiserver, a client. The rows about focusd are in
focus/test_faults.py, those about floods in test_flood.py, the deaths of processes in test_process_faults.py.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import serial
from configuration import configured
from support import ROOT, DriverProcess, FocuserClient, IndiServer, Lines, environment, eventually

from indi_multifocus.simulator import Simulator

pytestmark = pytest.mark.usefixtures("no_thread_is_left")

BOTH = pytest.mark.parametrize("generation", [1, 2])
ONE, TWO = "MultiFocus 1", "MultiFocus 2"
ABSOLUTE = "ABS_FOCUS_POSITION"
BACK, TRYING = "the controller is back", "trying to get it back"


def configuration(folder: Path, port: str, **changed: Any) -> dict[str, str]:
    """Write a configuration with short times, and return the environment that names it."""
    times = {"serial_timeout": 0.5, "idle_loop_delay": 0.2, "moving_loop_delay": 0.05}
    return configured(folder / "multifocus.json", port, **{**times, **changed})


@pytest.fixture
def link(tmp_path: Path) -> str:
    return str(tmp_path / "focuser")


@contextmanager
def connected(home: Path, tmp_path: Path, simulator: Simulator, **changed: Any) -> Iterator[FocuserClient]:
    """A client of indiserver, whose driver is connected to the simulator with both channels."""
    with IndiServer(home, configuration(tmp_path, simulator.port, **changed)) as server:
        client = client_of(server)
        client.connect(1, 2)
        yield client


def client_of(server: IndiServer) -> FocuserClient:
    """One that knows both devices: to those that it does not know, indiserver hands nothing on."""
    client = server.client()
    client.wait(lambda: all(client.property(device, "DEVICE_PORT_SCAN") for device in (ONE, TWO)), "both devices")
    return client


def count(client: FocuserClient, since: int, text: str, device: str = ONE) -> int:
    """How many messages of a device contain this text."""
    return sum(text in message for message in client.messages(since, device))


def wait_for_the_link(client: FocuserClient) -> None:
    client.wait(lambda: client.value(ONE, "FOCUS_LINK_INFO", "LINK") == "up", "the link to be back")


def agree(client: FocuserClient, simulator: Simulator) -> bool:
    """Driver and controller, on both channels."""
    return all(client.position(channel) == simulator.position(channel) for channel in (1, 2))


# Port missing, busy, no permission, not a controller


def refused(home: Path, tmp_path: Path, port: str) -> str:
    """Try to connect the first channel, and return its message."""
    with IndiServer(home, configuration(tmp_path, port)) as server:
        client = client_of(server)
        since = len(client.received)
        client.new(ONE, "CONNECTION", {"CONNECT": "On"}, "Switch")
        client.wait_state(ONE, "CONNECTION", "Alert")
        assert client.devices[ONE]["CONNECTION"].on == ["DISCONNECT"]
        assert client.property(ONE, ABSOLUTE) is None
        client.settle(ONE)
        messages = client.messages(since, ONE)
        assert len(messages) == 1, messages
        assert client.messages(since, TWO) == []
        return messages[0]


def test_a_missing_port_is_named_with_the_question_whether_it_is_plugged_in(home: Path, tmp_path: Path) -> None:
    message = refused(home, tmp_path, "/dev/no-such-port")
    assert message.startswith(
        "[ERROR] port /dev/no-such-port does not exist: is the controller plugged in and powered?"
    )


def test_a_port_that_another_program_holds_is_left_to_it(home: Path, tmp_path: Path) -> None:
    with Simulator() as simulator, serial.Serial(simulator.port, exclusive=True):
        message = refused(home, tmp_path, simulator.port)
        assert simulator.received == []
        assert f"port {simulator.port} is in use by another program" in message
        assert f"fuser -v {simulator.port}" in message


WITHOUT_RIGHTS = """
import os, sys
from indi_multifocus import __main__, driver
from indi_multifocus.settings import configuration as config
from indi_multifocus.settings import driver_settings as settings  # read before the rights are gone
import grp, locale, msgspec, re, serial, serial.tools.list_ports, shutil, threading, traceback, xml.parsers.expat
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
sys.exit(__main__.main())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: without rights is another user than the simulator's")
def test_a_port_without_permission_is_refused_with_the_group_to_join(home: Path) -> None:
    with Simulator() as simulator:
        port = os.path.realpath(simulator.port)  # the folder of its link is closed to that user, too
        os.chmod(port, 0)
        process = subprocess.Popen(
            [sys.executable, "-c", WITHOUT_RIGHTS],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(home),
            cwd=ROOT,
        )
        with process:
            try:
                assert process.stdin is not None
                assert process.stdout is not None
                client = FocuserClient(process.stdout.fileno(), process.stdin.fileno())
                client.get_properties()
                client.wait(lambda: client.devices, "the driver")
                client.set_port(port)
                message = client.fail_to_connect()
                assert f"no permission to open port {port}: add the user that runs indiserver" in message
                # Permission is all that was missing.
                os.chmod(port, 0o666)
                client.connect(1)
            finally:
                process.kill()


NOT_A_CONTROLLER: dict[str, Callable[[Simulator], None]] = {
    "silence": lambda simulator: simulator.silence(True),
    "an echo": lambda simulator: simulator.echo(True),
    "? to everything": lambda simulator: simulator.answer_unknown(True),
    "endless garbage": lambda simulator: simulator.babble(bytes(range(256)), 0.001),
    "a GPS receiver": lambda simulator: simulator.babble(b"$GPGGA,123519,4807.038,N,01131.000,E,1*47\r\n", 0.05),
    "a line without end": lambda simulator: simulator.babble(b"x" * 100, 0.001),
}


@pytest.mark.parametrize("what", NOT_A_CONTROLLER)
def test_what_is_no_controller_is_refused_and_the_port_is_free_again(home: Path, tmp_path: Path, what: str) -> None:
    with Simulator() as simulator:
        if what not in ("an echo", "? to everything"):
            simulator.silence(True)
        NOT_A_CONTROLLER[what](simulator)
        message = refused(home, tmp_path, simulator.port)
        eventually(lambda: not simulator.in_use(), "the port to be free")
        assert not any(line[:1].isdigit() or line[:1] == b"@" for _, line in simulator.received)
    assert "[ERROR]" in message
    assert "focus controller" in message


def test_the_reason_being_gone_it_connects_without_a_restart(home: Path, tmp_path: Path) -> None:
    with Simulator() as simulator, IndiServer(home, configuration(tmp_path, simulator.port)) as server:
        client = client_of(server)
        simulator.echo(True)
        client.fail_to_connect()
        simulator.echo(False)
        client.connect(1, 2)
        client.move_and_wait(1, 20)


# Cable pulled, garbage, no answer


@BOTH
def test_a_pulled_cable_is_told_once_and_found_again_under_another_number(
    home: Path, tmp_path: Path, link: str, generation: int
) -> None:
    with Simulator(generation=generation, link=link) as simulator:
        with connected(home, tmp_path, simulator) as client:
            client.move_and_wait(1, 30)
            first = os.readlink(link)
            since = len(client.received)
            simulator.pull_cable()
            for device in (ONE, TWO):
                client.wait_state(device, ABSOLUTE, "Alert")
            # Three attempts at least (0.5 s, 1 s and 2 s apart), of which there is no message.
            eventually(lambda: not os.path.exists(link), "the link to vanish")
            held: list[int] = []

            def number_is_taken() -> bool:
                """By us, so that it is not given to the controller again; numbers below it may be free, too."""
                held.extend(os.openpty())
                return os.ttyname(held[-1]) == first

            try:
                eventually(number_is_taken, "the old number to be free", pause_s=0.1)
                simulator.replug_cable()
                assert os.readlink(link) != first
                wait_for_the_link(client)
            finally:
                for fd in held:
                    os.close(fd)
            for device in (ONE, TWO):
                client.wait_state(device, ABSOLUTE, "Ok")
                assert (count(client, since, TRYING, device), count(client, since, BACK, device)) == (1, 1)
                assert len(client.messages(since, device)) == 2
            assert agree(client, simulator)
            client.move_and_wait(1, 10)


def test_a_cable_that_is_out_for_long_costs_one_message_and_few_attempts(home: Path, tmp_path: Path, link: str) -> None:
    with Simulator(link=link) as simulator, connected(home, tmp_path, simulator) as client:
        since = len(client.received)
        simulator.pull_cable()
        client.wait_message(TRYING, since, ONE)
        # Who asks meanwhile gets the reason; there is no other message, however often the port is tried.
        for _ in range(20):
            client.settle(ONE)
            client.wait(lambda: True, "a moment")
        assert len(client.messages(since, ONE)) == 1
        answer = client.ask(ONE, ABSOLUTE, {"FOCUS_ABSOLUTE_POSITION": 5})
        assert answer.state == "Alert"
        assert "does not answer now" in answer.message
        lines = Lines(simulator)
        simulator.replug_cable()
        wait_for_the_link(client)
        client.wait_state(ONE, ABSOLUTE, "Ok")
        assert lines.orders() == [], "what was refused is not made up for"


@BOTH
def test_a_move_is_followed_to_its_end_after_the_cable_was_out(
    home: Path, tmp_path: Path, link: str, generation: int
) -> None:
    with Simulator(generation=generation, link=link) as simulator:
        with connected(home, tmp_path, simulator) as client:
            client.move(1, 150)
            client.wait(lambda: client.position(1) > 3, "the move")
            simulator.pull_cable()
            client.wait_state(ONE, ABSOLUTE, "Alert")
            simulator.replug_cable()
            client.wait_state(ONE, ABSOLUTE, "Busy")
            client.wait_state(ONE, ABSOLUTE, "Ok")
            assert client.position(1) == simulator.position(1) == 150


SPOILT: dict[str, Callable[[Simulator], None]] = {
    "cut short": lambda simulator: simulator.truncate_replies(7),
    "merged": lambda simulator: simulator.mangle_replies(lambda reply: reply.rstrip()),
    "NUL": lambda simulator: simulator.mangle_replies(lambda reply: reply.replace(b"0", b"\0")),
    "not ASCII": lambda simulator: simulator.mangle_replies(lambda reply: bytes(byte | 0x80 for byte in reply)),
    "?": lambda simulator: simulator.answer_unknown(True),
    "echoed": lambda simulator: simulator.echo(True),
    "missing": lambda simulator: simulator.silence(True),
    "late": lambda simulator: simulator.delay_replies(0.9),
    "twice": lambda simulator: simulator.mangle_replies(lambda reply: reply * 2),
}


@pytest.mark.parametrize("how", SPOILT)
def test_replies_that_are_spoilt_cost_the_link_and_never_the_truth(home: Path, tmp_path: Path, how: str) -> None:
    with Simulator(generation=1 + len(how) % 2) as simulator, connected(home, tmp_path, simulator) as client:
        client.move_and_wait(1, 15)
        since = len(client.received)
        SPOILT[how](simulator)
        lost = how not in ("twice",)  # doubled replies are recognised: the next query finds back
        if lost:
            client.wait_state(ONE, ABSOLUTE, "Alert")
            client.settle(ONE)
            assert count(client, since, TRYING) == 1
        else:
            eventually(lambda: simulator.received[-1][1] == b"#", "a question for who it is")
        simulator.mangle_replies(None)
        simulator.answer_unknown(False)
        simulator.echo(False)
        simulator.silence(False)
        simulator.delay_replies(0)
        wait_for_the_link(client)
        client.wait_state(ONE, ABSOLUTE, "Ok")
        assert agree(client, simulator)
        assert count(client, since, TRYING) == count(client, since, BACK) <= 1
        client.move_and_wait(1, 5)
        client.move_and_wait(2, 5)


def test_what_is_ordered_while_replies_are_spoilt_is_carried_out_or_has_failed(home: Path, tmp_path: Path) -> None:
    with Simulator() as simulator, connected(home, tmp_path, simulator) as client:
        simulator.lose_input(2)
        assert client.ask(ONE, ABSOLUTE, {"FOCUS_ABSOLUTE_POSITION": 40}).state == "Busy"
        client.wait(lambda: client.state(ONE, ABSOLUTE) != "Busy", "the end of the move")
        wait_for_the_link(client)
        client.wait(lambda: client.state(ONE, ABSOLUTE) != "Busy" and agree(client, simulator), "the truth")
        if client.state(ONE, ABSOLUTE) == "Ok":
            assert simulator.position(1) == 40
        else:
            assert client.messages(0, ONE)


@pytest.mark.parametrize("digits", [b"+12", b"+1"])
def test_a_target_that_lost_a_digit_on_its_way_is_stopped_and_told(home: Path, tmp_path: Path, digits: bytes) -> None:
    """The controller takes what came, and says $ to it."""
    with Simulator() as simulator, connected(home, tmp_path, simulator) as client:
        feed = simulator._firmware.feed
        simulator._firmware.feed = lambda data, now: feed(data.replace(b"+123", digits), now)  # type: ignore[method-assign]
        since = len(client.received)
        client.move(1, 123)
        client.wait_state(ONE, ABSOLUTE, "Alert")
        message = client.wait_message("was to go to 123", since, ONE)
        assert f"goes to {int(digits)}" in message
        client.wait(lambda: simulator.standstill(1) is not None and agree(client, simulator), "the motor to stand")
        assert simulator.position(1) <= int(digits)


# Link back: was power lost in mid-move?


@BOTH
@pytest.mark.parametrize("off_s", [0.0, 2.0], ids=["for a moment", "for longer than the move needs"])
def test_power_lost_in_mid_move_is_flagged_until_somebody_knows(
    home: Path, tmp_path: Path, link: str, generation: int, off_s: float
) -> None:
    with Simulator(generation=generation, link=link) as simulator:
        with connected(home, tmp_path, simulator) as client:
            since = len(client.received)
            client.move(1, 90)
            client.wait(lambda: client.position(1) > 3, "the move")
            simulator.power_cycle(off_s)
            client.wait(lambda: count(client, since, BACK), "the link to be back")
            client.wait_state(ONE, ABSOLUTE, "Alert")
            assert "sync or zero to accept" in client.wait_message("unverified", since, ONE)
            assert client.value(ONE, "FOCUS_LINK_INFO", "POSITION") == "unverified"
            # The other channel stood still.
            client.wait_state(TWO, ABSOLUTE, "Ok")
            assert count(client, since, "unverified", TWO) == 0
        with connected(home, tmp_path, simulator) as client:
            assert client.state(ONE, ABSOLUTE) == "Alert"
            assert client.value(ONE, "FOCUS_LINK_INFO", "POSITION") == "unverified"
            assert client.ask(ONE, "FOCUS_SYNC", {"FOCUS_SYNC_VALUE": 0 if generation == 1 else 120}).state != "Alert"
            client.wait_state(ONE, ABSOLUTE, "Ok")
            assert client.position(1) == (0 if generation == 1 else 120)


@BOTH
def test_a_brown_out_behind_a_cable_that_stays_is_flagged(home: Path, tmp_path: Path, generation: int) -> None:
    with Simulator(generation=generation) as simulator, connected(home, tmp_path, simulator) as client:
        client.move(2, 200)
        client.wait(lambda: client.position(2) > 3, "the move")
        simulator.brown_out(0.3)
        client.wait_message("unverified", 0, TWO)
        client.wait_state(TWO, ABSOLUTE, "Alert")
        assert client.state(ONE, ABSOLUTE) == "Ok"


@BOTH
def test_power_lost_at_rest_is_not_flagged(home: Path, tmp_path: Path, link: str, generation: int) -> None:
    with Simulator(generation=generation, link=link) as simulator, connected(home, tmp_path, simulator) as client:
        client.move_and_wait(1, 25)
        since = len(client.received)
        simulator.power_cycle(0.2)
        client.wait(lambda: count(client, since, BACK), "the link to be back")
        client.wait_state(ONE, ABSOLUTE, "Ok")
        assert client.value(ONE, "FOCUS_LINK_INFO", "POSITION") == "verified"
        assert client.position(1) == 25


# Move not finished in time; a motor that does not turn


@BOTH
def test_a_move_that_takes_too_long_is_stopped_and_told_once(home: Path, tmp_path: Path, generation: int) -> None:
    with Simulator(generation=generation) as simulator:
        with connected(home, tmp_path, simulator, move_timeout=0.4) as client:
            since, lines = len(client.received), Lines(simulator)
            client.move(1, 5000)
            client.wait_state(ONE, ABSOLUTE, "Alert")
            client.wait(lambda: simulator.standstill(1) is not None and agree(client, simulator), "the stop")
            assert lines.orders() == [b"1+5000", b"1S"]
            client.settle(ONE)
            assert count(client, since, "in time") == len(client.messages(since, ONE)) == 1


@BOTH
def test_a_motor_that_does_not_turn_is_stopped_and_told_once(home: Path, tmp_path: Path, generation: int) -> None:
    with Simulator(generation=generation) as simulator, connected(home, tmp_path, simulator) as client:
        simulator.stall(1)
        since = len(client.received)
        client.move(1, 100)
        client.wait_state(ONE, ABSOLUTE, "Alert")
        client.wait(lambda: simulator.target(1) == simulator.position(1), "the stop")
        client.settle(ONE)
        assert count(client, since, "stalled") == len(client.messages(since, ONE)) == 1
        simulator.stall(1, False)
        client.move_and_wait(1, 10)


# Other channels than configured


def test_a_channel_that_the_controller_lacks_is_told_and_the_other_works(home: Path, tmp_path: Path) -> None:
    with Simulator(channels=1) as simulator:
        with IndiServer(home, configuration(tmp_path, simulator.port)) as server:
            client = client_of(server)
            client.connect(1)
            assert "there is no channel 2: the controller has channel 1 alone" in client.fail_to_connect(2)
            client.move_and_wait(1, 10)


# Whoever goes


def test_a_client_that_goes_in_mid_move_stops_nothing(home: Path, tmp_path: Path) -> None:
    with Simulator() as simulator:
        with IndiServer(home, configuration(tmp_path, simulator.port)) as server:
            client, lines = client_of(server), Lines(simulator)
            client.connect(1)
            other = server.client()  # before anything moves: an update could come to it before the definition
            client.move(1, 60)
            client.wait(lambda: client.position(1) > 2, "the move")
            server.hang_up(client)
            eventually(lambda: simulator.position(1) == 60, "the end of the move")
            other.wait(lambda: other.position(1) == 60, "the last position")
            other.wait_state(ONE, ABSOLUTE, "Ok")
            assert other.position(1) == 60
            assert lines.orders() == [b"1+60"]


@pytest.mark.parametrize("how", ["SIGTERM", "end of input"])
def test_an_abort_that_was_asked_for_is_sent_before_the_driver_ends(home: Path, tmp_path: Path, how: str) -> None:
    with Simulator() as simulator:
        with DriverProcess(home, configuration(tmp_path, simulator.port)) as driver:
            client = driver.client
            client.connect(1)
            client.move(1, 5000)
            client.wait(lambda: client.position(1) > 2, "the move")
            client.new(ONE, "FOCUS_ABORT_MOTION", {"ABORT": "On"})
            if how == "SIGTERM":
                # Not before it was read: what a pipe holds when a process ends is lost with it.
                eventually(lambda: b"1S" in [line for _, line in simulator.received], "the stop")
                driver.process.terminate()
            else:
                driver.stdin.close()
            assert driver.wait() == 0
        eventually(lambda: simulator.standstill(1) is not None, "the motor to stand")
        assert simulator.position(1) < 5000
