# SPDX-License-Identifier: GPL-3.0-or-later
"""The systemd units: checked by systemd's own tools, and run by a systemd that is booted for the purpose."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest
from configuration import entries
from installed import PROJECT, make, needs, run, until

pytestmark = [pytest.mark.packages, pytest.mark.timeout(300)]

UNITS = ("focusd@.service", "indi-multifocus@.service")
SYSTEM_PYTHON = "/usr/bin/python3"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with the project in it, and systemd's own units."""
    root = tmp_path / "root"
    make("install", f"DESTDIR={root}", "PREFIX=/usr", f"PYTHON={sys.executable}")
    return root


@pytest.mark.parametrize("unit", UNITS)
def test_systemd_finds_nothing_wrong_with_a_unit(root: Path, unit: str) -> None:
    needs("systemd-analyze")
    shutil.copytree("/lib/systemd/system", root / "usr/lib/systemd/system", dirs_exist_ok=True, symlinks=True)
    done = run(["systemd-analyze", f"--root={root}", "verify", unit.replace("@", "@clasp")])
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_is_as_little_exposed_as_the_documentation_says(unit: str) -> None:
    needs("systemd-analyze")
    path = PROJECT / "packaging" / "systemd" / unit
    done = run(["systemd-analyze", "security", "--offline=true", path])
    found = re.search(r"Overall exposure level for .*: ([0-9.]+) ", done.stdout)
    assert found, done.stderr
    documented = re.search(r"exposure level ([0-9.]+)", (PROJECT / "docs" / "observatory.md").read_text())
    assert documented
    assert float(found[1]) <= float(documented[1])


def test_where_it_was_installed_is_what_the_units_start(tmp_path: Path) -> None:
    make("install", f"DESTDIR={tmp_path}", "PREFIX=/opt/focus", f"PYTHON={sys.executable}")
    for unit in UNITS:
        text = (tmp_path / "opt/focus/lib/systemd/system" / unit).read_text()
        for command in re.findall(r"^Exec\w+=(\S+)", text, re.MULTILINE):
            assert command.startswith("/opt/focus/"), unit
            assert os.access(f"{tmp_path}{command}", os.X_OK), unit


class Booted:
    """A system that systemd has booted, with the project installed and a simulated controller on /run/controller."""

    def __init__(self, folder: Path) -> None:
        self._cgroup = self._new_cgroup()
        self._process = subprocess.Popen(
            ["bash", str(Path(__file__).with_name("boot.sh")), str(folder), str(self._cgroup)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._init = 0
        try:
            self._init = until(self._booted, "systemd")
        except AssertionError:
            self.close()
            assert self._process.stdout
            pytest.skip(f"systemd cannot be booted here: {self._process.stdout.read()[-300:]}")

    @staticmethod
    def _new_cgroup() -> Path:
        for hierarchy in (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup")):
            if (hierarchy / "cgroup.procs").exists() and (hierarchy / "cgroup.controllers").exists():
                cgroup = hierarchy / f"booted-{os.getpid()}"
                try:
                    cgroup.mkdir()
                except OSError as error:
                    pytest.skip(f"no cgroup can be made here: {error}")
                return cgroup
        pytest.skip("there are no cgroups of the second version here")

    def _booted(self) -> int:
        if self._process.poll() is not None:
            raise AssertionError
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        if not children:
            return 0
        self._init = int(children[0])
        state = self.run("systemctl is-system-running").stdout.strip()
        return self._init if state in ("running", "degraded") else 0

    def run(self, script: str) -> subprocess.CompletedProcess[str]:
        """A shell script in there."""
        return run(["nsenter", "-t", str(self._init), "-a", "bash", "-c", script], timeout=100)

    def must(self, script: str) -> str:
        """The same; it must succeed. What it printed."""
        done = self.run(script)
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}{self.journal()}"
        return done.stdout

    def journal(self) -> str:
        return self.run("journalctl --no-pager -n 40").stdout

    def start(self, script: str) -> None:
        """In the background; it ends with the system."""
        command = ["nsenter", "-t", str(self._init), "-a", "bash", "-c", script]
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def close(self) -> None:
        if self._process.poll() is None:
            if self._init:
                os.kill(self._init, signal.SIGKILL)  # the whole system goes with it
            self._process.kill()
        self._process.wait()
        for folder, _, _ in os.walk(self._cgroup, topdown=False):
            until(lambda folder=folder: _is_gone(Path(folder)), "the system's end")  # type: ignore[misc]


def _is_gone(cgroup: Path) -> bool:
    try:
        cgroup.rmdir()
    except OSError:
        return not cgroup.exists()
    return True


@pytest.fixture(scope="module")
def booted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Booted]:
    needs("unshare", "nsenter", "systemctl", "ip", "indiserver", root=True)
    version = run([SYSTEM_PYTHON, "-c", "import sys; print(*sys.version_info[:2])"]).stdout.split()
    if version != [str(part) for part in sys.version_info[:2]]:
        pytest.skip(f"{SYSTEM_PYTHON}, which the services run by, cannot use the packages of {sys.executable}")
    closed = [folder for folder in PROJECT.parents if not folder.stat().st_mode & stat.S_IXOTH]
    if closed:
        pytest.skip(f"the user that the services run as cannot enter {closed[0]}, where their packages are")
    system = Booted(tmp_path_factory.mktemp("booted"))
    try:
        _install(system)
        yield system
    finally:
        system.close()


def _install(system: Booted) -> None:
    packages = f"PYTHONPATH={sysconfig.get_paths()['platlib']}"
    config = entries(serial_port="/run/controller")
    system.must(
        f"""
        cd {PROJECT} && make install PREFIX=/usr PYTHON={SYSTEM_PYTHON}
        echo '{json.dumps(config)}' > /etc/focusd/sim.json
        for unit in focusd indi-multifocus; do
            mkdir -p /etc/systemd/system/$unit@.service.d
            printf '[Service]\\nEnvironment={packages}\\n' > /etc/systemd/system/$unit@.service.d/packages.conf
        done
        systemctl daemon-reload
        printf '#!/bin/sh\\nexport {packages}\\nexec /usr/bin/focus "$@"\\n' > /usr/local/bin/f
        chmod +x /usr/local/bin/f
        """
    )
    simulator = "indi_multifocus.simulator --speed 20 --link /run/controller"
    system.start(f"cd /; {packages} exec {SYSTEM_PYTHON} -m {simulator}")
    until(lambda: system.run("test -e /run/controller").returncode == 0, "the simulated controller")
    system.must("chgrp dialout $(readlink -f /run/controller) && chmod 660 $(readlink -f /run/controller)")


@pytest.fixture
def system(booted: Booted) -> Iterator[Booted]:
    """With all services stopped before and after."""
    stop = "systemctl stop 'focusd@*' 'indi-multifocus@*'; systemctl reset-failed"
    booted.run(stop)
    yield booted
    booted.run(stop)


def test_a_started_focusd_answers_at_once_and_moves_a_focuser(system: Booted) -> None:
    # As documented: enable --now, then focus.
    system.must("systemctl enable --now focusd@sim && f json")
    system.must("f init && f set 1 300")
    assert json.loads(system.must("f json"))["current_steps_1"] == 300


def test_the_successor_generation_s_name_of_the_unit_is_another_one_of_the_same(system: Booted) -> None:
    system.must("systemctl start multichannel_focusd@sim && f init && f set 2 40")
    assert system.must("systemctl is-active focusd@sim") == "active\n"
    before = system.must("systemctl show -p MainPID --value focusd@sim")
    system.must("systemctl restart multichannel_focusd@sim")
    assert system.must("systemctl show -p MainPID --value focusd@sim") not in (before, "0\n")
    system.must("systemctl stop multichannel_focusd@sim")
    assert system.run("systemctl is-active focusd@sim").stdout == "inactive\n"
    # As `systemctl enable` of the successor's own package has left it.
    wants = "/etc/systemd/system/multi-user.target.wants"
    link = f"{wants}/multichannel_focusd@sim.service"
    system.must(
        f"mkdir -p {wants} && ln -s /usr/lib/systemd/system/multichannel_focusd@.service {link}"
        " && systemctl daemon-reload"
    )
    wanted = system.must("systemctl show -p Wants --value multi-user.target").split()
    system.must(f"rm {link} && systemctl daemon-reload")
    assert "focusd@sim.service" in wanted
    # As the successor's documentation has it.
    system.must("systemctl enable --now multichannel_focusd@sim && f json && systemctl disable focusd@sim")


def test_the_services_run_as_a_user_of_their_own(system: Booted) -> None:
    system.must("systemctl start focusd@sim && f init")
    users = system.must("ps -o user= -p $(pgrep -d, -f 'bin/[f]ocusd|[i]ndiserver|-m [i]ndi_multifocus$')").split()
    assert users == ["focusd"] * 3
    assert "dialout" in system.must("id -nG focusd")
    assert system.must("find /var/lib/focusd/sim -name '*.json' -user focusd")


def test_without_access_to_the_port_it_says_what_to_do(system: Booted) -> None:
    port = system.must("readlink -f /run/controller").strip()
    system.must(f"systemctl start focusd@sim; chmod 600 {port}; chgrp root {port}")
    try:
        assert system.run("f init").returncode == 1
        assert "no permission to open port" in system.must("journalctl --no-pager -u focusd@sim")
    finally:
        system.must(f"chmod 660 {port}; chgrp dialout {port}")
    system.must("f init")


def test_only_serial_ports_can_be_opened(system: Booted) -> None:
    # Both may be opened as far as the modes of the files go: 4:64 is a serial port, 10:200 the network's tun.
    devices = "mknod -m 666 /dev/ttyS9 c 4 64; mknod -m 666 /dev/other c 10 200"
    opener = f"{SYSTEM_PYTHON} -c 'import os, sys; os.open(sys.argv[1], os.O_RDWR | os.O_NONBLOCK)'"
    system.must(devices)
    refused = "Operation not permitted"
    if refused not in system.run(f"systemd-run --pipe -q -p DevicePolicy=closed {opener} /dev/other").stderr:
        pytest.skip("this kernel lets no cgroup keep a process from a device")
    drop_in = "/etc/systemd/system/focusd@.service.d/devices.conf"
    for device in ("/dev/ttyS9", "/dev/other"):
        system.must(f'printf "[Service]\\nExecStartPre=-%s\\n" "{opener} {device}" > {drop_in}')
        system.must("systemctl daemon-reload; systemctl start focusd@sim; systemctl stop focusd@sim")
        logged = system.must("journalctl --no-pager -u focusd@sim -n 12")
        assert (f"{refused}: '{device}'" in logged) == (device == "/dev/other"), logged
    system.must(f"rm {drop_in}; systemctl daemon-reload")


def test_what_was_killed_is_started_again_and_leaves_nobody_behind(system: Booted) -> None:
    system.must("systemctl start focusd@sim && f init")
    before = system.must("systemctl show -p MainPID --value focusd@sim")
    system.must(f"kill -KILL {before}")
    until(lambda: system.must("systemctl show -p MainPID --value focusd@sim") not in (before, "0\n"), "another focusd")
    until(lambda: system.run("f init").returncode in (0, 8), "the new focusd")
    assert system.must("pgrep -c -f '^indiserver '") == "1\n"
    system.must("f set 2 20")


def test_stopping_ends_all_that_was_started(system: Booted) -> None:
    system.must("systemctl start focusd@sim && f init && systemctl stop focusd@sim")
    assert system.run("pgrep -a -f 'bin/[f]ocusd|[i]ndiserver|-m [i]ndi_multifocus$'").stdout == ""
    assert system.must("systemctl show -p Result --value focusd@sim") == "success\n"


def test_focusd_joins_an_indiserver_that_is_a_service_of_its_own(system: Booted) -> None:
    # In one go, so that the units' order has to do it.
    system.must("systemctl start focusd@sim indi-multifocus@sim && f init && f set 1 10")
    assert system.must("pgrep -c -f '^indiserver '") == "1\n"
    assert "by the INDI server localhost:7624" in system.must("journalctl --no-pager -u focusd@sim -n 5")
    system.must("systemctl kill -s KILL indi-multifocus@sim")
    until(lambda: system.must("systemctl is-active indi-multifocus@sim || true") == "active\n", "another indiserver")
    until(lambda: "current_steps_1" in json.loads(system.run("f json").stdout or "{}"), "focusd to be connected again")


def test_either_service_shows_the_same_positions(system: Booted) -> None:
    # The driver keeps what a client has synchronized in its home, which both services share.
    sync = 'indi_setprop "MultiFocus 2.FOCUS_SYNC.FOCUS_SYNC_VALUE=5000"'
    system.must(f"systemctl start focusd@sim && f init && {sync}")
    until(lambda: json.loads(system.must("f json"))["current_steps_2"] == 5000, "the synchronized position")
    system.must("systemctl stop focusd@sim && systemctl start indi-multifocus@sim focusd@sim && f init")
    assert json.loads(system.must("f json"))["current_steps_2"] == 5000
    system.must("f zero 2")


def test_a_wrong_configuration_is_reported_in_the_journal(system: Booted) -> None:
    system.must("echo '{}' > /etc/focusd/wrong.json")
    assert system.run("systemctl start focusd@wrong").returncode != 0
    assert "/etc/focusd/wrong.json: daemon: missing" in system.must("journalctl --no-pager -u focusd@wrong")
    assert system.run("systemctl start indi-multifocus@wrong").returncode != 0
    assert "/etc/focusd/wrong.json: daemon: missing" in system.must("journalctl --no-pager -u indi-multifocus@wrong")
    system.must("rm /etc/focusd/wrong.json")
