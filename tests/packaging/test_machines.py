# SPDX-License-Identifier: GPL-3.0-or-later
"""Several machines (network namespaces, with a slow cable that can be cut), and several controllers on one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable

import pytest
from installed import PROJECT, Machine, Processes, Site, environment, needs, run, until
from ports import listens
from support import FocuserClient

from focus_cli import indiserver
from indi_multifocus.simulator import Simulator

pytestmark = [pytest.mark.packages, pytest.mark.timeout(300)]

MakeSite = Callable[..., Site]
TELESCOPE, DESK = "10.77.0.1", "10.77.0.2"


class Network:
    """The telescope's machine and the observer's, and the cable between them."""

    def __init__(self, machines: list[Machine]) -> None:
        self.telescope, self.desk = machines
        telescope, desk = (str(machine.pid) for machine in machines)
        cable = ["ip", "link", "add", "cable", "netns", telescope, "type", "veth", "peer", "name", "cable"]
        done = run([*cable, "netns", desk])
        if done.returncode:
            pytest.skip(f"no virtual cable can be made here: {done.stderr}")
        for machine, address in ((self.telescope, TELESCOPE), (self.desk, DESK)):
            machine.must("ip", "address", "add", f"{address}/24", "dev", "cable")
            machine.must("ip", "link", "set", "cable", "up")

    def cut(self) -> None:
        self.telescope.must("ip", "link", "set", "cable", "down")

    def mend(self) -> None:
        self.telescope.must("ip", "link", "set", "cable", "up")


@pytest.fixture
def network() -> Iterator[Network]:
    needs("unshare", "nsenter", "ip", "indiserver", root=True)
    machines: list[Machine] = []
    try:
        for _ in range(2):
            machines.append(Machine())
        yield Network(machines)
    finally:
        for machine in machines:
            machine.close()


@contextmanager
def client_of(machine: Machine, port: int) -> Iterator[FocuserClient]:
    """An INDI client on that machine, of the server there, which knows both focusers."""
    connection = machine.connect("127.0.0.1", port)
    try:
        client = FocuserClient(connection.fileno(), connection.fileno())
        client.behind_a_server = True
        client.get_properties()
        client.wait(lambda: len(client.devices) == 2, "both focusers")
        yield client
    finally:
        connection.close()


def driver_environment(site: Site) -> dict[str, str]:
    variables = environment(site.home, {"INDI_MULTIFOCUS_CONFIG": str(site.config)})
    return {**variables, "PATH": f"{Path(sys.executable).parent}:{variables['PATH']}"}


@pytest.fixture
def at_the_telescope(network: Network, simulator: Simulator, make_site: MakeSite, processes: Processes) -> Network:
    """Driver and server there, on port 7624."""
    site = make_site(simulator.port, indi_port=7624)
    serve = network.telescope.command("indiserver", "-p", "7624", "indi_multifocus")
    processes.start(serve, env=driver_environment(site), cwd=site.home)
    until(lambda: network.desk.listens(7624, TELESCOPE), "the telescope's server")
    return network


def chain_to(host: str, port: int, network: Network, processes: Processes, home: Path) -> None:
    """A server at the desk, on port 7625, chained to that one."""
    devices = [f"MultiFocus {channel}@{host}:{port}" for channel in (1, 2)]
    processes.start(network.desk.command("indiserver", "-p", "7625", *devices), env=environment(home))
    until(lambda: network.desk.listens(7625), "the desk's server")


@pytest.fixture
def chain(at_the_telescope: Network, processes: Processes, tmp_path: Path) -> Network:
    """Both, over the cable."""
    chain_to(TELESCOPE, 7624, at_the_telescope, processes, tmp_path)
    return at_the_telescope


@pytest.fixture
def slow_chain(at_the_telescope: Network, processes: Processes, tmp_path: Path) -> Network:
    """Both, over something that takes 150 ms each way."""
    desk = at_the_telescope.desk
    relay = Path(__file__).with_name("slow_cable.py")
    processes.start(desk.command(sys.executable, relay, "7700", TELESCOPE, "7624", "150"), env=environment(tmp_path))
    until(lambda: desk.listens(7700), "the slow cable")
    chain_to("127.0.0.1", 7700, at_the_telescope, processes, tmp_path)
    return at_the_telescope


def test_a_client_moves_focusers_through_two_servers_and_a_slow_cable(slow_chain: Network) -> None:
    with client_of(slow_chain.desk, 7625) as client:
        client.connect(1, 2)
        client.move(1, 700)
        client.move(2, -150)
        client.wait(lambda: (client.position(1), client.position(2)) == (700, -150), "both arrivals")
        for channel in (1, 2):
            client.wait_state(client.name(channel), "ABS_FOCUS_POSITION", "Ok")
        client.move(1, 90_000)
        client.wait_state("MultiFocus 1", "ABS_FOCUS_POSITION", "Busy")
        client.abort(1)
        client.wait_state("MultiFocus 1", "ABS_FOCUS_POSITION", "Idle")
        assert 700 <= client.position(1) < 90_000


def test_a_move_arrives_while_the_cable_is_cut_and_the_client_is_informed_afterwards(chain: Network) -> None:
    with client_of(chain.desk, 7625) as client:
        client.connect(1, 2)
        client.move(1, 3000)
        client.wait_state("MultiFocus 1", "ABS_FOCUS_POSITION", "Busy")
        chain.cut()
        with client_of(chain.telescope, 7624) as there:
            there.wait(lambda: there.property("MultiFocus 1", "ABS_FOCUS_POSITION"), "the position")
            there.wait(lambda: there.position(1) == 3000, "the arrival, as it is seen at the telescope")
        assert client.position(1) < 3000
        chain.mend()
        client.wait(lambda: client.position(1) == 3000, "the arrival, as it is seen at the desk")
        client.move(1, 2500)
        client.wait(lambda: client.position(1) == 2500, "another arrival")


def test_focusd_on_another_machine_fails_calls_when_the_cable_is_cut_and_comes_back(
    network: Network, simulator: Simulator, make_site: MakeSite, processes: Processes
) -> None:
    site = make_site(simulator.port, indi_port=7624, indi_host=TELESCOPE)
    serve = network.telescope.command("indiserver", "-p", "7624", "indi_multifocus")
    processes.start(serve, env=driver_environment(site), cwd=site.home)
    until(lambda: network.desk.listens(7624, TELESCOPE), "the telescope's server")
    variables = environment(site.home, {"FOCUSD_CONFIG_PATH": str(site.config)})

    def focus(*arguments: str) -> subprocess.CompletedProcess[str]:
        return network.desk.run(sys.executable, PROJECT / "focus", *arguments, env=variables, cwd=site.home)

    def status() -> dict[str, Any]:
        return dict(json.loads(focus("json").stdout))

    processes.start(network.desk.command(sys.executable, PROJECT / "focusd", site.config), env=variables, cwd=site.home)
    until(lambda: network.desk.listens(site.pyro_port), "focusd")
    assert focus("init").returncode == 0, processes.log
    assert focus("set", "1", "400").returncode == 0, processes.log
    blocked = network.desk.command(sys.executable, PROJECT / "focus", "set", "1", "90000")
    moving = processes.start(blocked, env=variables, cwd=site.home)
    until(lambda: status()["status_1"] == 2, "the move")
    network.cut()
    assert moving.wait(timeout=60) == 1  # failed
    assert status()["status"] == 0
    network.mend()
    until(lambda: status()["status"] == 1, "the connection", 60)
    assert focus("stop", "1").returncode == 0, processes.log
    assert status()["status_1"] == 1


@pytest.fixture
def other_simulator() -> Iterator[Simulator]:
    with Simulator(generation=1, channels=2, speed=20.0) as simulated:
        yield simulated


class Focusd:
    """focusd and focus on a site."""

    def __init__(self, site: Site, processes: Processes, **variables: str) -> None:
        self._site = site
        self._environment = environment(site.home, {"FOCUSD_CONFIG_PATH": str(site.config), **variables})
        command: list[str | Path] = [sys.executable, PROJECT / "focusd", site.config]
        self.process = processes.start(command, env=self._environment, cwd=site.home)
        until(lambda: listens(site.pyro_port), "focusd")
        self.must("init")

    def must(self, *arguments: str) -> str:
        done = run([sys.executable, PROJECT / "focus", *arguments], env=self._environment, cwd=self._site.home)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def steps(self) -> list[int]:
        status = json.loads(self.must("json"))
        return [status["current_steps_1"], status["current_steps_2"]]


def test_two_controllers_on_one_machine_each_have_a_focusd_and_a_server(
    simulator: Simulator, other_simulator: Simulator, make_site: MakeSite, processes: Processes
) -> None:
    needs("indiserver")
    one = Focusd(make_site(simulator.port), processes)
    other = Focusd(make_site(other_simulator.port), processes)
    one.must("set", "1", "100")
    other.must("set", "1", "-200")
    assert (one.steps(), other.steps()) == ([100, 0], [-200, 0])
    processes.end(one.process)
    other.must("set", "2", "7")
    assert other.steps() == [-200, 7]


def test_two_controllers_on_one_machine_share_a_server_by_their_prefixes(
    simulator: Simulator, other_simulator: Simulator, make_site: MakeSite, processes: Processes, tmp_path: Path
) -> None:
    needs("indiserver")
    east = make_site(simulator.port)
    west = make_site(other_simulator.port, indi_port=east.indi_port)
    drivers = []
    # As docs/observatory.md has it: a script for each controller, which indiserver takes for a driver of its own.
    for name, site in (("East", east), ("West", west)):
        driver = tmp_path / f"indi_multifocus_{name}"
        variables = f"INDI_MULTIFOCUS_CONFIG={site.config} INDIDEV={name}"
        driver.write_text(f"#!/bin/sh\n{variables} exec {Path(sys.executable).parent}/indi_multifocus\n")
        driver.chmod(0o755)
        drivers.append(str(driver))
    command = indiserver.command(east.indi_port, str(tmp_path / "local"), *drivers)
    processes.start(command, env=environment(tmp_path), cwd=tmp_path)
    until(lambda: listens(east.indi_port), "indiserver")
    one, other = Focusd(east, processes, INDIDEV="East"), Focusd(west, processes, INDIDEV="West")
    one.must("set", "1", "300")
    other.must("set", "2", "-5")
    assert (one.steps(), other.steps()) == ([300, 0], [0, -5])
    shown = run(["indi_getprop", "-p", str(east.indi_port), "*.ABS_FOCUS_POSITION.FOCUS_ABSOLUTE_POSITION"]).stdout
    assert sorted(shown.splitlines()) == [
        f"{device}.ABS_FOCUS_POSITION.FOCUS_ABSOLUTE_POSITION={position}"
        for device, position in (("East 1", 300), ("East 2", 0), ("West 1", 0), ("West 2", -5))
    ]
