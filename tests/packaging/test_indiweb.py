# SPDX-License-Identifier: GPL-3.0-or-later
"""INDI Web Manager lists, starts and stops the driver, through its REST interface.

It runs on a machine of its own: it takes port 7624 for granted, and in trouble it kills every indiserver there is.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from installed import PROJECT, Machine, Processes, environment, needs, run, until

from indi_multifocus import __version__

pytestmark = [pytest.mark.packages, pytest.mark.timeout(300)]

CALL = """
import sys, urllib.request
method, path, data = sys.argv[1:]
request = urllib.request.Request("http://127.0.0.1:8624/api/" + path, data.encode() or None, method=method)
print(urllib.request.urlopen(request, timeout=30).read().decode())
"""


@pytest.fixture(scope="session")
def indiweb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its command, in a virtual environment of its own."""
    folder = tmp_path_factory.mktemp("indiweb")
    assert run([sys.executable, "-m", "venv", folder]).returncode == 0
    done = run([folder / "bin/pip", "install", "-q", "indiweb"])
    if done.returncode:
        pytest.skip(f"indiweb cannot be installed: {done.stderr[-200:]}")
    (command,) = [path for path in folder.glob("bin/indi-web*") if os.access(path, os.X_OK)]
    return command


@pytest.fixture
def machine() -> Iterator[Machine]:
    needs("unshare", "nsenter", "ip", "indiserver", "indi_getprop", root=True)
    machine = Machine()
    try:
        yield machine
    finally:
        machine.close()


class Manager:
    """A running INDI Web Manager with a catalogue that has our driver alone."""

    def __init__(self, indiweb: Path, machine: Machine, processes: Processes, folder: Path) -> None:
        self._machine = machine
        self.environment = environment(folder)
        self.environment["PATH"] = f"{Path(sys.executable).parent}:{self.environment['PATH']}"
        config = folder / ".indi"
        config.mkdir()
        options: list[str | Path] = ["--host", "127.0.0.1", "--xmldir", PROJECT / "xml", "--conf", config]
        options += ["--fifo", folder / "fifo"]
        processes.start(machine.command(indiweb, *options), env=self.environment, cwd=folder)
        until(lambda: machine.listens(8624), f"INDI Web Manager\n{processes.log}")

    def call(self, method: str, path: str, data: object = None) -> Any:
        text = "" if data is None else json.dumps(data)
        answer = self._machine.must(sys.executable, "-c", CALL, method, path, text, env=self.environment)
        return json.loads(answer) if answer.strip() else None

    def devices(self) -> dict[str, bool]:
        return {device["device"]: device["connected"] for device in self.call("GET", "devices")}


@pytest.fixture
def manager(indiweb: Path, machine: Machine, processes: Processes, tmp_path: Path) -> Manager:
    return Manager(indiweb, machine, processes, tmp_path)


def test_it_lists_the_driver_among_the_focusers(manager: Manager) -> None:
    (driver,) = manager.call("GET", "drivers")
    listed = {key: driver[key] for key in ("name", "label", "binary", "family", "version", "mdpd")}
    assert listed == {
        "name": "MultiFocus",
        "label": "MultiFocus",
        "binary": "indi_multifocus",
        "family": "Focusers",
        "version": __version__,
        "mdpd": True,
    }
    assert manager.call("GET", "drivers/groups") == ["Focusers"]


def test_it_starts_and_stops_a_profile_with_the_driver(manager: Manager, machine: Machine) -> None:
    manager.call("POST", "profiles/telescope")
    manager.call("POST", "profiles/telescope/drivers", [{"label": "MultiFocus"}])
    manager.call("POST", "server/start/telescope")
    until(lambda: set(manager.devices()) == {"MultiFocus 1", "MultiFocus 2"}, "the focusers")
    assert manager.call("GET", "server/status")[0]["status"] == "True"
    assert [driver["label"] for driver in manager.call("GET", "server/drivers")] == ["MultiFocus"]
    manager.call("POST", "server/stop")
    until(lambda: not machine.listens(7624), "indiserver's end")
    until(lambda: machine.run("pgrep", "-f", "bin/indi_multifocus").returncode == 1, "the driver's end")


def test_it_stops_and_starts_the_driver_while_the_server_runs(manager: Manager, machine: Machine) -> None:
    manager.call("POST", "profiles/telescope")
    manager.call("POST", "profiles/telescope/drivers", [{"label": "MultiFocus"}])
    manager.call("POST", "server/start/telescope")
    until(lambda: len(manager.devices()) == 2, "the focusers")
    manager.call("POST", "drivers/stop/MultiFocus")
    until(lambda: manager.devices() == {}, "no focusers")
    until(lambda: machine.run("pgrep", "-f", "bin/indi_multifocus").returncode == 1, "the driver's end")
    manager.call("POST", "drivers/start/MultiFocus")
    until(lambda: len(manager.devices()) == 2, "the focusers again")
    machine.must("indi_setprop", "MultiFocus 1.SIMULATION.ENABLE=On")
    machine.must("indi_setprop", "MultiFocus 1.CONNECTION.CONNECT=On")
    until(lambda: manager.devices() == {"MultiFocus 1": True, "MultiFocus 2": False}, "the connection")
    manager.call("POST", "drivers/restart/MultiFocus")
    until(lambda: manager.devices() == {"MultiFocus 1": False, "MultiFocus 2": False}, "the restarted driver")
