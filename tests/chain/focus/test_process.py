# SPDX-License-Identifier: GPL-3.0-or-later
"""focusd as a process: how it starts, what it says when it cannot, how it ends, and what it leaves behind: nothing."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import serial

from indi_multifocus import __version__

PROJECT = Path(__file__).resolve().parents[3]


def run_focusd(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(PROJECT / "focusd"), *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=30,
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_with_its_children(chain: Any, number: int) -> None:
    assert len(chain.processes("indiserver")) >= 1
    assert len(chain.processes("-m indi_multifocus")) == 1
    chain.daemon.send_signal(number)
    assert chain.daemon.wait(timeout=30) == 0
    assert chain.processes("") == []


def test_it_ends_while_clients_wait_and_they_hear_of_it(chain: Any, until: Any) -> None:
    move = chain.start_focus("set", "1", "90000")
    until(lambda: chain.moving(1))
    idle = [chain.proxy() for _ in range(10)]
    for proxy in idle:
        proxy.report_status()
    begun_s = time.monotonic()
    chain.daemon.terminate()
    assert chain.daemon.wait(timeout=30) == 0
    assert time.monotonic() - begun_s < 10
    assert move.wait(timeout=30) in (1, 155)
    assert chain.processes("") == []
    for proxy in idle:
        proxy._pyroRelease()


def test_a_signal_that_another_thread_receives_ends_it_too(chain: Any, until: Any) -> None:
    """Which thread of a process gets a signal is the kernel's choice; here the last one that was started gets it."""
    tgkill = 234  # x86_64
    if os.uname().machine != "x86_64":
        pytest.skip("the number of the system call is another one here")

    def is_sent() -> bool:  # unless the thread, of a Pyro call maybe, has just ended
        threads = [int(path.name) for path in Path(f"/proc/{chain.daemon.pid}/task").iterdir()]
        sent: int = ctypes.CDLL(None).syscall(tgkill, chain.daemon.pid, max(threads), signal.SIGTERM)
        return sent == 0

    until(is_sent, "the signal to be sent")
    assert chain.daemon.wait(timeout=30) == 0


def test_it_ends_in_the_middle_of_news_from_the_driver(make_chain: Any, until: Any) -> None:
    chain = make_chain(moving_loop_delay=0.01).start()
    chain.call("set_focus", 1, 90_000)
    chain.call("set_focus", 2, -90_000)
    until(lambda: chain.moving(1) and chain.moving(2))
    for _ in range(2):
        chain.daemon.send_signal(signal.SIGSTOP)  # the news pile up
        until(lambda: Path(f"/proc/{chain.daemon.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T")
        until(lambda: unread(chain.daemon.pid) > 10_000)
        chain.daemon.send_signal(signal.SIGCONT)
    chain.daemon.terminate()
    assert chain.daemon.wait(timeout=30) == 0
    assert chain.processes("") == []


def unread(pid: int) -> int:
    """Bytes that wait in the TCP sockets of a process."""
    inodes = {os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir()}
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    mine = [line.split() for line in lines if f"socket:[{line.split()[9]}]" in inodes]
    return max(int(fields[4].partition(":")[2], 16) for fields in mine)


def test_killed_outright_it_leaves_no_process_behind(chain: Any, until: Any) -> None:
    chain.daemon.kill()
    chain.daemon.wait()
    until(lambda: chain.processes("") == [])


def test_killed_while_its_server_begins_it_leaves_none_behind(make_chain: Any, until: Any) -> None:
    for delay_s in (0.0, 0.002, 0.005, 0.02, 0.1):
        chain = make_chain()
        focusd = chain.run([sys.executable, str(PROJECT / "focusd"), str(chain.config)], env=chain.environment)
        until(lambda chain=chain: chain.processes("indiserver -p"))  # or tether.py that will be it
        time.sleep(delay_s)  # not to wait for something: to be killed at different moments
        focusd.kill()
        focusd.wait()
        until(lambda chain=chain: chain.processes("") == [], "its processes to end")


def test_killed_in_mid_move_it_leaves_a_free_port_and_the_next_one_is_right(make_chain: Any, until: Any) -> None:
    chain = make_chain(speed=1.0).start()  # a new driver does not believe a move that no real motor could have made
    move = chain.start_focus("set", "1", "200")
    until(lambda: chain.moving(1))
    chain.daemon.kill()
    chain.daemon.wait()
    until(lambda: chain.processes("") == [])
    serial.Serial(chain.simulator.port, exclusive=True).close()
    assert move.wait(timeout=30) == 155, "it cannot reach the daemon"
    chain.start()
    until(lambda: not chain.moving(1))
    status = chain.status()
    assert status["current_steps_1"] == chain.simulator.position(1) == 200
    with chain.proxy() as focusd:
        assert focusd.set_focus(1, 190) == 0


def test_the_motor_is_left_to_finish_when_focusd_ends(chain: Any, until: Any) -> None:
    chain.start_focus("set", "1", "3000")
    until(lambda: chain.moving(1))
    chain.daemon.terminate()
    chain.daemon.wait(timeout=30)
    until(lambda: chain.simulator.position(1) == 3000)


def test_it_joins_the_server_that_runs_and_leaves_it_running(make_chain: Any) -> None:
    chain = make_chain()
    server = chain.start_server()
    chain.start()
    with chain.proxy() as focusd:
        assert focusd.set_focus(1, 50) == 0
    chain.daemon.terminate()
    assert chain.daemon.wait(timeout=30) == 0
    assert server.poll() is None
    chain.start_focusd()
    # The driver has kept its connection meanwhile.
    assert chain.status()["current_steps_1"] == 50


def test_a_second_focusd_of_the_same_name_is_refused(chain: Any) -> None:
    result = run_focusd(str(chain.config), HOME=str(chain.folder))
    assert result.returncode == 1
    assert result.stderr == (f"focusd: cannot listen on 127.0.0.1:{chain.pyro_port}: Address already in use\n")
    assert chain.status()["status"] == 1


def test_its_own_port_as_that_of_the_indi_server_is_refused(make_chain: Any) -> None:
    """Else it would take itself for the INDI server, and find no focuser there for ever."""
    chain = make_chain()
    chain.write_config(indi_port=chain.pyro_port)
    result = run_focusd(str(chain.config), HOME=str(chain.folder))
    expected = (
        f"focusd: {chain.config}: indi_port: {chain.pyro_port}: focusd itself listens there, for here_focus; "
        "another port is expected\n"
    )
    assert (result.returncode, result.stderr) == (1, expected)


def test_an_address_of_another_machine_is_one_line(make_chain: Any) -> None:
    chain = make_chain(host="192.0.2.1")
    result = run_focusd(str(chain.config), HOME=str(chain.folder))
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert "cannot listen on 192.0.2.1:" in result.stderr


def test_without_indiserver_it_says_what_to_install(make_chain: Any) -> None:
    chain = make_chain()
    result = run_focusd(str(chain.config), HOME=str(chain.folder), PATH=str(chain.folder))
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert "install the package indi-bin" in result.stderr


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"daemon": None}, "daemon: null:"),
        (
            {"daemon": "clasp_focos"},
            'daemon: "clasp_focos": no such daemon is known; known here: clasp_focus, here_focus,',
        ),
        (
            {"control_machines": ["Nowhere"]},
            'control_machines: "Nowhere": no such machine is known; known here: CLASPTCS,',
        ),
        ({"control_machines": "LocalHost"}, 'control_machines: "LocalHost":'),
        ({"serial_timout": 5}, "serial_timout: 5: there is no such key; serial_timeout is meant?"),
        ({"channels": 0.5}, "channels: 0.5: a whole number from 1 to 9 is expected"),
        ({"idle_loop_delay": -1}, "idle_loop_delay: -1"),
        ({"move_timeout": "180"}, 'move_timeout: "180":'),
    ],
)
def test_a_wrong_configuration_is_one_line_for_both(make_chain: Any, change: dict[str, Any], reason: str) -> None:
    chain = make_chain()
    chain.write_config(**change)
    results = [run_focusd(str(chain.config))]
    if "control_machines" not in change or isinstance(change["control_machines"], str):
        results.append(chain.focus("status"))  # who may control is focusd's business
    for result in results:
        assert (result.returncode, result.stdout, result.stderr.count("\n")) == (1, "", 1)
        assert f"{chain.config}: {reason}" in result.stderr


def test_a_missing_configuration_is_one_line(tmp_path: Path) -> None:
    result = run_focusd(str(tmp_path / "none.json"))
    assert (result.returncode, result.stderr) == (1, f"focusd: {tmp_path}/none.json: there is no such file\n")


def test_its_usage_and_version_are_printed() -> None:
    assert run_focusd("--version").stdout == f"focusd {__version__}\n"
    assert run_focusd("--help").stdout.startswith("usage: focusd <configuration.json>\n\nPyro interface")
    for arguments in ([], ["a.json", "b.json"], ["--verbose"]):
        result = run_focusd(*arguments)
        assert (result.returncode, result.stdout) == (2, "")
        assert result.stderr == "usage: focusd <configuration.json>\n"


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_is_notified_when_it_is_ready_and_when_it_ends(make_chain: Any, tmp_path: Path, abstract: bool) -> None:
    chain = make_chain()
    name = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(f"\0{name}" if abstract else name)
        systemd.settimeout(30)
        chain.start_focusd(environment={"NOTIFY_SOCKET": f"@{name}" if abstract else name})
        assert systemd.recv(100) == b"READY=1"
        chain.daemon.terminate()
        assert systemd.recv(100) == b"STOPPING=1"


def test_libindis_chatter_stays_out_of_its_log(chain: Any) -> None:
    assert "creating new connection" not in chain.log
    assert "INDI::" not in chain.log
    lines = [line for line in chain.log.splitlines() if "startup: indiserver" not in line]
    assert len(lines) == 2
    assert lines[0].endswith(f"by its own INDI server localhost:{chain.indi_port}")
    assert lines[1].endswith("INFO focusd@test: connected to controller")


def test_run_by_a_python_without_the_packages_the_clone_finds_its_own(tmp_path: Path) -> None:
    """As `./focus` does, where python3 is the system's and `make setup` has made .venv."""
    folder = tmp_path / "clone"
    folder.mkdir()
    for name in ("focus_cli", "indi_multifocus", "test.json"):
        (folder / name).symlink_to(PROJECT / name)
    for name in ("focus", "focusd"):
        (folder / name).write_bytes((PROJECT / name).read_bytes())
        bare = [sys.executable, "-S", str(folder / name), "--version"]
        result = subprocess.run(bare, capture_output=True, text=True, timeout=30)
        assert (result.returncode, result.stdout) == (1, "")
        assert f"run `make setup` in {folder} first" in result.stderr

        (folder / ".venv/bin").mkdir(parents=True, exist_ok=True)
        python = folder / ".venv/bin/python"
        python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        python.chmod(0o755)
        result = subprocess.run(bare, capture_output=True, text=True, timeout=30)
        assert (result.returncode, result.stdout) == (0, f"{name} {__version__}\n")
        python.unlink()


def test_the_documented_configurations_name_what_is_built_in() -> None:
    from focus_cli.directory import Directory

    for name in ("test.json", "clasp.json"):
        configuration = json.loads((PROJECT / name).read_text())
        directory = Directory(str(PROJECT / name))
        assert directory.daemon(configuration["daemon"]).port in (9000, 9036)
        assert [directory.machine(machine) for machine in configuration["control_machines"]]
