# SPDX-License-Identifier: GPL-3.0-or-later
"""From the old focusd to this one and back: the same configuration, the same controller, the same positions."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Callable

import pytest
import serial
from installed import PROJECT, Processes, Site, environment, needs, run, until
from ports import listens

from indi_multifocus.simulator import Simulator

pytestmark = [pytest.mark.packages, pytest.mark.timeout(180)]

MakeSite = Callable[..., Site]


class OldFocusd:
    """What the old focusd does to the port and the controller: it opens without a lock, flushes, and keeps nothing."""

    def __init__(self, site: Site) -> None:
        config = json.loads(site.config.read_text())
        self._port = serial.Serial(config["serial_port"], config["serial_baud"], timeout=config["serial_timeout"])
        self._port.reset_input_buffer()
        self._port.reset_output_buffer()

    def _ask(self, command: str) -> str:
        self._port.write(command.encode())
        return self._port.readline().decode().strip()

    def steps(self, kind: str) -> list[int]:
        """`kind`: C for the positions, T for the targets."""
        fields = dict(field.split("=") for field in self._ask("?\n").split(","))
        return [int(fields[f"{kind}{channel}"]) for channel in (1, 2)]

    def order(self, channel: int, steps: int) -> None:
        assert self._ask(f"{channel}{steps:+07d}\n") == "$"

    def set_focus(self, channel: int, steps: int) -> None:
        self.order(channel, steps)
        until(lambda: self.steps("C")[channel - 1] == steps, "the arrival")

    def close(self) -> None:
        self._port.close()


class NewFocusd:
    """This project's focusd and focus, run on the same site."""

    def __init__(self, site: Site, processes: Processes) -> None:
        self._site, self._processes = site, processes
        self._environment = environment(site.home, {"FOCUSD_CONFIG_PATH": str(site.config)})
        command: list[str | Path] = [sys.executable, PROJECT / "focusd", site.config]
        self._daemon = processes.start(command, env=self._environment, cwd=site.home)
        until(lambda: listens(site.pyro_port), "focusd")
        assert self.focus("init").returncode == 0, processes.log

    def focus(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return run([sys.executable, PROJECT / "focus", *arguments], env=self._environment, cwd=self._site.home)

    def must(self, *arguments: str) -> None:
        done = self.focus(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr + self._processes.log

    def steps(self, kind: str) -> list[int]:
        status = json.loads(self.focus("json").stdout)
        name = {"C": "current", "T": "target"}[kind]
        return [status[f"{name}_steps_{channel}"] for channel in (1, 2)]

    def close(self) -> None:
        self._processes.end(self._daemon)
        assert not listens(self._site.pyro_port)


@contextmanager
def old_focusd(site: Site) -> Iterator[OldFocusd]:
    old = OldFocusd(site)
    try:
        yield old
    finally:
        old.close()


@contextmanager
def new_focusd(site: Site, processes: Processes) -> Iterator[NewFocusd]:
    new = NewFocusd(site, processes)
    try:
        yield new
    finally:
        new.close()


@pytest.fixture
def site(simulator: Simulator, make_site: MakeSite) -> Site:
    needs("indiserver")
    return make_site(simulator.port)


def test_positions_are_the_same_in_both(site: Site, processes: Processes) -> None:
    with old_focusd(site) as old:
        old.set_focus(1, 1200)
        old.set_focus(2, -300)
    with new_focusd(site, processes) as new:
        assert new.steps("C") == [1200, -300]
        new.must("set", "1", "900")
        new.must("offset", "2", "-25")
    with old_focusd(site) as old:
        assert old.steps("C") == old.steps("T") == [900, -325]
        old.set_focus(1, -77)
    with new_focusd(site, processes) as new:
        assert new.steps("C") == [-77, -325]


def test_a_move_outlives_the_swap(site: Site, processes: Processes) -> None:
    with old_focusd(site) as old:
        old.order(1, 100_000)
    with new_focusd(site, processes) as new:
        assert new.steps("T") == [100_000, 0]
        assert new.focus("set", "1", "5").returncode == 2  # blocked: it moves
        new.must("stop", "1")
        stopped = new.steps("C")
        assert stopped == new.steps("T")
        assert 0 < stopped[0] < 100_000
    with old_focusd(site) as old:
        assert old.steps("C") == stopped


def test_zero_is_the_controller_s_own_so_the_old_focusd_shows_it_too(site: Site, processes: Processes) -> None:
    with new_focusd(site, processes) as new:
        new.must("set", "1", "500")
        new.must("zero", "1")
        new.must("set", "1", "20")
    with old_focusd(site) as old:
        assert old.steps("C") == [20, 0]


def test_what_an_INDI_client_synchronized_is_unknown_to_the_old_focusd(site: Site, processes: Processes) -> None:
    # The one thing that does not go back: docs/observatory.md says so, and that `focus zero` ends it.
    needs("indi_setprop")
    with new_focusd(site, processes) as new:
        new.must("set", "1", "500")
        sync = "MultiFocus 1.FOCUS_SYNC.FOCUS_SYNC_VALUE=8000"
        assert run(["indi_setprop", "-p", str(site.indi_port), sync]).returncode == 0
        until(lambda: new.steps("C")[0] == 8000, "the synchronized position")
    with old_focusd(site) as old:
        assert old.steps("C")[0] == 500
    with new_focusd(site, processes) as new:
        assert new.steps("C")[0] == 8000
        new.must("zero", "1")
        new.must("set", "1", "30")
    with old_focusd(site) as old:
        assert old.steps("C")[0] == 30


def test_no_two_programs_hold_the_port(site: Site, processes: Processes) -> None:
    with new_focusd(site, processes):
        with serial.Serial(site_port(site)) as other, pytest.raises(serial.SerialException):
            # The old focusd asked for no lock, so it cannot be kept out; whoever asks is.
            other.exclusive = True


def site_port(site: Site) -> str:
    return str(json.loads(site.config.read_text())["serial_port"])
