# SPDX-License-Identifier: GPL-3.0-or-later
"""`focus doctor`: it confirms what is right, and advises on what is wrong."""

from __future__ import annotations

import json
import os
import pty
import sys
from pathlib import Path
from typing import Any

import pytest
import serial

from indi_multifocus.simulation.simulator import Simulator

PROJECT = Path(__file__).resolve().parents[3]


def doctor(chain: Any) -> tuple[int, dict[str, dict[str, str]]]:
    """Exit status, and the findings by check."""
    result = chain.focus("doctor", "--json")
    assert result.stderr == ""
    return result.returncode, {finding["check"]: finding for finding in json.loads(result.stdout)}


def test_all_is_well_where_it_is(chain: Any) -> None:
    status, found = doctor(chain)
    assert {finding["check"]: finding for finding in found.values() if finding["state"] == "problem"} == {}
    assert status == 0
    assert found["configuration"]["text"] == f"{chain.config}, 2 channels"
    assert found["names"]["text"].startswith(f"here_focus is 127.0.0.1:{chain.pyro_port}, this machine; control")
    assert found["control"]["text"] == "this machine may move the focusers"
    assert found["INDI server"]["text"].startswith(f"localhost:{chain.indi_port}, with indi_multifocus ")
    assert found["port in use"]["text"].startswith("by indi_multifocus (process ")
    assert found["firmware"]["text"] == "generation 2, says the driver"
    assert found["focusd"]["text"].startswith("up, version ")
    assert found["controller"]["text"] == "connected"
    assert found["focusd's port"]["text"] == f"{chain.pyro_port} is open to this machine alone"
    assert "0.0.0.0" in found["INDI server's port"]["text"]
    for package in ("libindi", "pyindi-client", "Pyro4", "pyserial", "Python"):
        assert found[package]["state"] == "ok"
    result = chain.focus("doctor")
    assert (result.returncode, result.stdout.splitlines()[-1]) == (0, "all is well")
    assert f"✓ configuration: {chain.config}, 2 channels\n" in result.stdout
    assert "    → keep it closed in the firewall" in result.stdout
    assert chain.focus("doctor", "--yes").returncode == 255


@pytest.mark.parametrize(("generation", "channels"), [(1, 2), (2, 1), (2, 9)])
def test_a_controller_that_nobody_uses_is_asked(make_chain: Any, generation: int, channels: int) -> None:
    chain = make_chain(generation=generation, channels=channels)
    status, found = doctor(chain)
    there = f"the controller, generation {generation}, {channels} channel{'s' if channels > 1 else ''}"
    assert found["firmware"] == {"check": "firmware", "state": "ok", "text": there, "remedy": ""}
    assert "port in use" not in found
    assert status == 1
    assert found["focusd"]["text"] == f"nothing answers at 127.0.0.1:{chain.pyro_port}"
    assert "systemctl start focusd@" in found["focusd"]["remedy"]
    assert not any(line.startswith(b"@") for _, line in chain.simulator.received)
    chain.write_config(channels=3)
    found = doctor(chain)[1]
    assert found["firmware"]["text"] == f"{there}; 3 in the configuration"
    assert found["firmware"]["remedy"] == f'set "channels": {channels} there'


def test_what_is_wrong_with_a_port_is_reported_with_the_remedy(make_chain: Any) -> None:
    chain = make_chain()
    simulator: Simulator = chain.simulator
    with serial.Serial(simulator.port, exclusive=True):
        found = doctor(chain)[1]
        assert found["port in use"]["text"].endswith(f"(process {os.getpid()})")
        assert found["firmware"]["state"] == "note"
    simulator.echo(True)
    found = doctor(chain)[1]
    assert found["firmware"]["text"] == f"what is at {simulator.port} does not answer as the controller does"
    for port, text in (
        ("/nowhere", "/nowhere: No such file or directory"),
        ("/dev/null", "/dev/null is no serial port"),
        (str(chain.config), f"{chain.config} is no serial port"),
    ):
        chain.write_config(serial_port=port)
        assert doctor(chain)[1]["port"]["text"] == text
    chain.write_config(serial_port="socket://localhost:1")
    assert doctor(chain)[1]["port"]["state"] == "note"
    chain.write_config(daemon="clasp_focus")
    found = doctor(chain)[1]
    assert found["port"]["text"] == "socket://localhost:1 is on 10.2.6.181: run focus doctor there"
    chain.config.write_text("{}")
    status, found = doctor(chain)
    assert (status, found["configuration"]["text"]) == (1, f"{chain.config}: daemon: missing: {WHAT}")
    assert found["Python"]["state"] == "ok"


WHAT = "the daemon's name in the observatory's directory is expected"


def test_it_asks_before_it_opens_a_port_that_a_driver_has(chain: Any) -> None:
    for answer, expected in (("n", "generation 2, says the driver"), ("y", "the controller, generation 2")):
        pid, terminal = pty.fork()
        if pid == 0:
            os.execve(sys.executable, [sys.executable, str(PROJECT / "focus"), "doctor"], chain.environment)
        output = b""
        while b"[y/N]" not in output:
            output += os.read(terminal, 4096)
        assert b"indi_multifocus (process" in output
        os.write(terminal, f"{answer}\n".encode())
        try:
            while data := os.read(terminal, 4096):
                output += data
        except OSError:
            pass  # it has ended
        os.waitpid(pid, 0)
        os.close(terminal)
        locked = b"is locked by another program" in output  # by the driver, against all but root
        assert expected.encode() in output or (answer == "y" and locked), output.decode()
