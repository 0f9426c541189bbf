# SPDX-License-Identifier: GPL-3.0-or-later
"""Signals and bugs: the driver ends when it is asked to, and does not live on with one thread less."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from configuration import configured
from outside import PROMPT_S, Machine
from support import DriverProcess, Lines, eventually

from indi_multifocus.simulator import Simulator

pytestmark = pytest.mark.usefixtures("no_thread_is_left")

ONE, TWO = "MultiFocus 1", "MultiFocus 2"


@contextlib.contextmanager
def drivers(home: Path, count: int) -> Iterator[list[DriverProcess]]:
    """So many drivers at once: they take longer to start than for anything else."""
    with contextlib.ExitStack() as stack:
        started = [DriverProcess(home) for _ in range(count)]
        for driver in started:
            stack.callback(driver.process.kill)
        yield [stack.enter_context(driver) for driver in started]


@pytest.mark.timeout(300)  # fifty starts
def test_a_signal_right_after_an_answer_is_not_lost(home: Path) -> None:
    for _ in range(5):
        with drivers(home, 10) as started:
            for number, driver in enumerate(started):
                client = driver.client
                client.wait(lambda client=client: client.property(TWO, "DEVICE_PORT_SCAN"), "the driver")  # type: ignore[misc]
                client.settle(TWO)
                driver.process.send_signal(signal.SIGTERM if number % 2 else signal.SIGINT)
                assert driver.wait() == 0


def blocked_signals(pid: int, thread: str) -> int:
    """The signals that a thread does not take: bit n - 1 is signal n."""
    found = re.search(r"SigBlk:\s*([0-9a-f]+)", Path(f"/proc/{pid}/task/{thread}/status").read_text())
    assert found is not None
    return int(found[1], 16)


def test_no_thread_but_the_main_one_takes_a_signal(home: Path, tmp_path: Path) -> None:
    """Python's handlers run in the main thread alone: a signal that another one took waits until the main one wakes.

    Which thread the kernel chooses differs from machine to machine, so a signal need not be lost here for it.
    """
    with Simulator() as simulator, DriverProcess(home, configured(tmp_path / "focus.json", simulator.port)) as driver:
        driver.client.connect(1)
        driver.client.ask(ONE, "FOCUS_SYNC", {"FOCUS_SYNC_VALUE": 500})
        driver.client.wait_state(ONE, "FOCUS_SYNC", "Ok")
        pid = driver.process.pid
        ends = 1 << (signal.SIGTERM - 1) | 1 << (signal.SIGINT - 1)
        threads = set(os.listdir(f"/proc/{pid}/task")) - {str(pid)}
        assert threads
        assert [thread for thread in threads if blocked_signals(pid, thread) & ends != ends] == []
        assert blocked_signals(pid, str(pid)) & ends == 0


def test_a_bug_in_the_poll_thread_stops_the_motors_and_ends_the_driver(home: Path, tmp_path: Path) -> None:
    machine = Machine(tmp_path / "machine")
    with Simulator() as simulator:
        extra = {**machine.environment(), **configured(tmp_path / "focus.json", simulator.port)}
        with DriverProcess(home, extra) as driver:
            driver.may_fail = True
            driver.client.connect(1, 2)
            driver.client.move(1, 3000)
            driver.client.move(2, -3000)
            eventually(lambda: simulator.position(1) > 5 and simulator.position(2) < -5, "both to move")
            lines = Lines(simulator)
            machine.switch("bug", True)
            assert driver.process.wait(PROMPT_S) == 1
            assert "a bug that the test has made" in driver.errors
        eventually(lambda: {b"1S", b"2S"} <= set(lines()), "both to be stopped")
        assert abs(simulator.target(1)) < 3000
        assert abs(simulator.target(2)) < 3000
