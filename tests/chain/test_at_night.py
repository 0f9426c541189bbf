# SPDX-License-Identifier: GPL-3.0-or-later
"""What else may happen to a driver that nobody watches: full disks, sleep, guests on its port, the wrong plug.

Over the real chain, as far as the fault is one of the driver's process alone without indiserver. The design's own table
of faults is in test_faults.py.
"""

from __future__ import annotations

import contextlib
import operator
import os
import resource
import select
import signal
import subprocess
import sys
import threading
import time
import tty
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from configuration import configured
from support import DriverProcess, FocuserClient, Lines, eventually, state_file

from indi_multifocus.simulator import Simulator

pytestmark = pytest.mark.usefixtures("no_thread_is_left")

ONE, TWO = "MultiFocus 1", "MultiFocus 2"
ABSOLUTE = "ABS_FOCUS_POSITION"


def configuration(folder: Path, port: str, **changed: Any) -> dict[str, str]:
    """Write a configuration with short times, and return the environment that names it."""
    times = {"serial_timeout": 0.5, "idle_loop_delay": 0.1, "moving_loop_delay": 0.05}
    return configured(folder / "multifocus.json", port, **{**times, **changed})


@contextlib.contextmanager
def connected(home: Path, simulator: Simulator, **changed: Any) -> Iterator[DriverProcess]:
    """A driver with both channels connected to the simulator."""
    with DriverProcess(home, configuration(home, simulator.port, **changed)) as driver:
        driver.client.wait(lambda: driver.client.property(TWO, "DEVICE_PORT_SCAN"), "both devices")
        driver.client.connect(1, 2)
        yield driver


def under_way(client: FocuserClient, position: int) -> None:
    """Begin a move of the first channel, and see it move."""
    begin = client.position(1)
    client.move(1, position)
    client.wait(lambda: abs(client.position(1) - begin) > 2, "the move")


# Nowhere to write


@pytest.mark.parametrize("where", ["/proc/nobody", "a file"])
def test_without_a_home_it_focuses_and_says_what_it_cannot_keep(home: Path, simulator: Simulator, where: str) -> None:
    if where == "a file":
        where = str(home / "file")
        Path(where).touch()
    changed = {**configuration(home, simulator.port), "HOME": where}
    with DriverProcess(home, changed) as driver:
        client = driver.client
        client.connect(1)
        client.wait_message(f"[WARNING] cannot write {where}/.indi/", device=ONE)
        client.move(1, 20)
        client.wait(lambda: client.position(1) == 20, "the move")
        # It is there; but nobody would know of a power cut on the way.
        client.wait_state(ONE, ABSOLUTE, "Alert")
        client.wait_message("[ERROR] position 20 would be wrong after a power cut, unnoticed: cannot write", device=ONE)
        refused = client.ask(ONE, "FOCUS_SYNC", {"FOCUS_SYNC_VALUE": 500})
        assert (refused.state, client.position(1)) == ("Alert", 20)
        assert refused.message.startswith(f"[ERROR] cannot write {where}/.indi/")
        assert refused.message.endswith("; nothing was changed")
        client.move(1, 30)
        client.wait(lambda: client.position(1) == 30 and client.state(ONE, ABSOLUTE) == "Alert", "the next move")
        assert simulator.position(1) == 30


def test_a_full_disk_costs_a_message_and_what_was_saved_stays(home: Path, simulator: Simulator) -> None:
    """A limit to the size of files stands for the disk: its error comes at the same place, for the log too."""
    with connected(home, simulator) as driver:
        client, process = driver.client, driver.process.pid
        assert client.ask(ONE, "FOCUS_SYNC", {"FOCUS_SYNC_VALUE": 100}).state == "Ok"
        saved = state_file(home, 1)
        before = saved.read_bytes()
        room = resource.prlimit(process, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        since = len(client.received)
        client.move_and_wait(1, 110)
        assert "File too large" in client.wait_message("[WARNING] cannot write", since, ONE)
        refused = client.ask(ONE, "FOCUS_SYNC", {"FOCUS_SYNC_VALUE": 900})
        assert (refused.state, client.position(1)) == ("Alert", 110)
        assert "File too large; nothing was changed" in refused.message
        client.send("<&/>")  # a line for the log, for which there is no room either
        client.move_and_wait(1, 120)
        eventually(lambda: not list(saved.parent.glob("*.tmp")), "what was begun to be cleared away")
        assert saved.read_bytes() == before
        resource.prlimit(process, resource.RLIMIT_FSIZE, room)
        assert client.ask(ONE, "FOCUS_SYNC", {"FOCUS_SYNC_VALUE": 1000}).state == "Ok"
    with connected(home, simulator) as driver:
        assert driver.client.position(1) == 1000


def test_a_log_that_somebody_closed_ends_nothing(home: Path) -> None:
    unread, log = os.pipe()
    with DriverProcess(home, stderr=log) as driver:
        os.close(unread)
        os.close(log)
        driver.client.send("<&/>")
        driver.client.settle(ONE)


# Sleep


@pytest.mark.parametrize("line", ["quick", "slow"])
def test_a_driver_that_was_stopped_in_mid_move_finds_the_arrival_and_believes_it(
    home: Path, tmp_path: Path, line: str
) -> None:
    """Stopped for longer than replies and the move may take. On a slow line an answer waits for it, mostly."""
    with Simulator(baud_pacing=line == "slow") as simulator:
        with connected(home, simulator, move_timeout=1.0) as driver:
            client, lines = driver.client, Lines(simulator)
            since = len(client.received)
            under_way(client, 60)
            driver.process.send_signal(signal.SIGSTOP)
            wakes_s = time.monotonic() + 1.5
            eventually(lambda: simulator.position(1) == 60 and time.monotonic() > wakes_s, "the end of the move")
            driver.process.send_signal(signal.SIGCONT)
            client.wait_state(ONE, ABSOLUTE, "Ok")
            client.settle(ONE)
            assert client.position(1) == 60
            assert client.value(ONE, "FOCUS_LINK_INFO", "POSITION") == "verified"
            assert client.messages(since) == []
            assert lines.orders() == [b"1+60"]


# Guests on the port


@pytest.mark.parametrize("whose", ["of another user", "of the same user"])
def test_a_second_driver_is_refused_and_disturbs_no_move(
    home: Path, tmp_path: Path, simulator: Simulator, whose: str
) -> None:
    with connected(home, simulator) as first:
        lines = Lines(simulator)
        under_way(first.client, 80)
        (tmp_path / "second").mkdir()
        extra = configuration(tmp_path, simulator.port)
        reason = "is in use by another program"
        if whose == "of the same user":
            extra["HOME"] = str(home)
            reason = f"another driver uses the controller on {simulator.port}, or one that cannot be distinguished"
        with DriverProcess(tmp_path / "second", extra) as second:
            assert reason in second.client.fail_to_connect()
            assert second.client.property(ONE, ABSOLUTE) is None
            first.client.wait_state(ONE, ABSOLUTE, "Ok")
            assert first.client.position(1) == simulator.position(1) == 80
            assert first.client.messages() == []
            assert lines.orders() == [b"1+80"]
            first.client.disconnect(1, 2)
            second.client.connect(1)
            second.client.move_and_wait(1, 70)


EAVESDROPPER = """
import os, sys
port = os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY)
print("listening", flush=True)
while True:
    os.read(port, 100)
"""


@contextlib.contextmanager
def eavesdropper(port: str) -> Iterator[None]:
    """A program that reads from the port and knows of no lock: a terminal somebody forgot."""
    process = subprocess.Popen([sys.executable, "-c", EAVESDROPPER, port], stdout=subprocess.PIPE)
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"listening\n"
            yield
        finally:
            process.kill()


def test_what_another_program_reads_away_is_no_answer_and_no_lie(home: Path, simulator: Simulator) -> None:
    with DriverProcess(home, configuration(home, simulator.port)) as driver:
        client = driver.client
        with eavesdropper(simulator.port):
            for _ in range(3):
                client.new(ONE, "CONNECTION", {"CONNECT": "On"}, "Switch")
                client.wait(lambda: client.state(ONE, "CONNECTION") in ("Ok", "Alert"), "an end of the attempt")
                if client.state(ONE, "CONNECTION") == "Ok":  # some answers were left to us
                    client.wait_state(ONE, ABSOLUTE, "Alert")
                    client.disconnect(1)
            assert [text for text in client.messages() if "answer" in text or "no sense" in text]
        client.connect(1, 2)
        client.move_and_wait(1, 20)


def test_what_is_read_away_in_mid_move_is_shown_right_or_unverified(home: Path, simulator: Simulator) -> None:
    with connected(home, simulator) as driver:
        client = driver.client
        under_way(client, 100)
        with eavesdropper(simulator.port):
            client.wait(lambda: simulator.standstill(1) is not None, "the end of the move")
        client.wait(lambda: client.value(ONE, "FOCUS_LINK_INFO", "LINK") == "up", "the link to be back")
        client.wait(lambda: client.state(ONE, ABSOLUTE) != "Busy" and client.position(1) == 100, "the truth")
        client.settle(ONE)  # the state of the link is published after the position
        verified = client.value(ONE, "FOCUS_LINK_INFO", "POSITION") == "verified"
        assert client.state(ONE, ABSOLUTE) == ("Ok" if verified else "Alert")


@pytest.mark.parametrize("data", [b"x" * 4096, b"hello\r\n" * 500, b"T1=+000000,C1=+000000\r\n" * 150])
def test_garbage_as_fast_as_the_port_carries_it_ends_the_attempt(home: Path, data: bytes) -> None:
    """The driver asks in vain, and can be asked meanwhile."""
    ours, theirs = os.openpty()
    over = threading.Event()

    def pour() -> None:
        while not over.is_set():
            _, writable, _ = select.select([], [ours], [], 0.1)
            if writable:
                with contextlib.suppress(BlockingIOError):
                    os.write(ours, data)

    thread = threading.Thread(target=pour, name="garbage")
    try:
        tty.setraw(theirs)
        os.set_blocking(ours, False)
        thread.start()
        with DriverProcess(home) as driver:
            driver.client.settle(ONE)
            driver.client.set_port(os.ttyname(theirs))
            driver.client.new(ONE, "CONNECTION", {"CONNECT": "On"}, "Switch")
            assert driver.client.ask(TWO, "POLLING_PERIOD", {"PERIOD_MS": 200}).state == "Ok"
            driver.client.wait_state(ONE, "CONNECTION", "Alert")
            assert "focus controller" in driver.client.wait_message("[ERROR]")
    finally:
        over.set()
        thread.join()
        os.close(ours)
        os.close(theirs)


# The wrong plug, and what else comes back


def test_another_instrument_in_its_place_gets_no_orders_and_the_controller_is_found_again(
    home: Path, tmp_path: Path, simulator: Simulator
) -> None:
    with connected(home, simulator) as driver:
        client = driver.client
        client.move_and_wait(1, 20)
        since = len(client.received)
        simulator.pull_cable()
        client.wait_state(ONE, ABSOLUTE, "Alert")
        with Simulator(link=tmp_path / "focuser") as other:
            other.echo(True)
            client.move(1, 50)
            eventually(lambda: other.received, "the driver to try it")
            eventually(lambda: not other.in_use(), "the driver to give it up")
            assert not [line for _, line in other.received if line[:1].isdigit()]
        lines = Lines(simulator)
        simulator.replug_cable()
        client.wait(lambda: client.value(ONE, "FOCUS_LINK_INFO", "LINK") == "up", "the link to be back")
        client.wait_state(ONE, ABSOLUTE, "Ok")
        assert client.position(1) == 20
        assert lines.orders() == [], "what was refused is not made up for"
        assert len([text for text in client.messages(since, ONE) if "trying to get it back" in text]) == 1
        client.move_and_wait(1, 50)


def test_a_count_that_leaps_is_shown_and_unverified(home: Path, simulator: Simulator) -> None:
    """As if a stray command had called another place so, or a bit had flipped in the controller."""
    with connected(home, simulator) as driver:
        client = driver.client
        client.move_and_wait(1, 100)
        with simulator._lock:
            simulator._firmware._motors[0].place(5000 * 16)
        client.wait_state(ONE, ABSOLUTE, "Alert")
        assert client.position(1) == 5000
        assert "unverified" in client.wait_message("[ERROR]")
        assert client.state(TWO, ABSOLUTE) == "Ok"


def test_what_is_asked_while_the_answer_to_connect_is_under_way_is_answered(home: Path, simulator: Simulator) -> None:
    """All of it in one go, so that orders arrive while definitions are being written."""
    with DriverProcess(home, configuration(home, simulator.port)) as driver:
        client = driver.client
        client.settle(TWO)
        connect = "<oneSwitch name='CONNECT'>On</oneSwitch>"
        connect = f"<newSwitchVector device='{ONE}' name='CONNECTION'>{connect}</newSwitchVector>"
        move = "<oneNumber name='FOCUS_ABSOLUTE_POSITION'>30</oneNumber>"
        move = f"<newNumberVector device='{ONE}' name='{ABSOLUTE}'>{move}</newNumberVector>"
        order = connect + move + "<getProperties version='1.7'/>" + connect + move
        for at in range(0, len(order), 100):
            client.send(order[at : at + 100])
        client.wait_state(ONE, "CONNECTION", "Ok")
        client.settle(ONE)
        refused = [text for text in client.messages() if "is not connected" in text]
        if len(refused) == 2:
            client.move(1, 30)
        client.wait(lambda: client.position(1) == 30 and client.state(ONE, ABSOLUTE) == "Ok", "the move")
        assert simulator.position(1) == 30


# Again and again


def test_nothing_is_left_open_by_connections_cables_and_simulations(home: Path, simulator: Simulator) -> None:
    with DriverProcess(home, configuration(home, simulator.port)) as driver:
        client, folder = driver.client, Path(f"/proc/{driver.process.pid}")

        def connections() -> None:
            client.connect(1, 2)
            client.disconnect(1, 2)

        def cables() -> None:
            client.connect(1)
            simulator.pull_cable()
            client.wait_state(ONE, ABSOLUTE, "Alert")
            simulator.replug_cable()
            client.wait_state(ONE, ABSOLUTE, "Ok")
            client.disconnect(1)

        def simulations() -> None:
            assert client.ask(ONE, "SIMULATION", {"ENABLE": "On"}).state == "Ok"
            client.connect(1)
            client.disconnect(1)
            assert client.ask(ONE, "SIMULATION", {"DISABLE": "On"}).state == "Ok"
            client.settle(ONE)

        def held() -> tuple[int, int]:
            """Files and threads; a file more while one is written."""
            return len(os.listdir(folder / "fd")), len(os.listdir(folder / "task"))

        actions: list[Callable[[], None]] = [connections, cables, simulations]
        for action in actions:
            action()
        eventually(lambda: not simulator.in_use(), "the port to be closed")
        before = held()
        for action in actions:
            for _ in range(8):
                action()
        eventually(lambda: all(map(operator.le, held(), before)), f"the driver to hold no more than {before}")
