# SPDX-License-Identifier: GPL-3.0-or-later
"""`focus set` that ends before the motor stands: who ends it stops the motor, what is merely lost does not."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).resolve().parents[3]
SPEED = 20.0
"""Of the motor, and the same for a whole test: a driver that has measured it takes what a quicker one does for
impossible."""
FAR = 10_000
"""Steps: the motor is on its way for 5 s, however long a process takes to end, and there soon when that is over."""


def begin(chain: Any, until: Any, target: int) -> subprocess.Popen[str]:
    """`focus set 1 TARGET`, from when the motor moves."""
    chain.simulator.set_speed(SPEED)
    move: subprocess.Popen[str] = chain.start_focus("set", "1", str(target))
    until(lambda: chain.moving(1), "the motor to move")
    return move


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT, signal.SIGINT])
def test_who_ends_the_command_stops_the_motor(chain: Any, until: Any, number: signal.Signals) -> None:
    move = begin(chain, until, 90_000)
    move.send_signal(number)
    output, errors = move.communicate(timeout=30)
    assert (move.returncode, errors) == (156, "")
    assert output == "\nstopping channel 1\nchannel 1 is stopped\nerror: terminated by user\n"
    assert chain.simulator.standstill(1) is not None
    assert abs(chain.simulator.position(1)) < 80_000


@pytest.mark.parametrize(
    ("number", "message"),
    [(signal.SIGHUP, "focus: hung up; channel 1 goes on to its target\n"), (signal.SIGKILL, "")],
)
def test_a_command_that_is_lost_lets_the_motor_go_on(
    chain: Any, until: Any, number: signal.Signals, message: str
) -> None:
    move = begin(chain, until, FAR)
    move.send_signal(number)
    assert move.communicate(timeout=30) == ("", message)
    assert move.returncode == -number
    assert chain.moving(1)
    until(lambda: chain.simulator.position(1) == FAR, "the target")


def test_to_a_command_that_nohup_started_the_end_of_the_terminal_is_nothing(chain: Any, until: Any) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        move = begin(chain, until, FAR)
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    move.send_signal(signal.SIGHUP)
    assert move.communicate(timeout=30) == ("", "")
    assert move.returncode == 0


def test_a_terminal_that_is_lost_lets_the_motor_go_on(chain: Any, until: Any) -> None:
    chain.simulator.set_speed(SPEED)
    pid, terminal = pty.fork()  # a session of its own, whose terminal this is, as with ssh
    if pid == 0:
        os.execve(sys.executable, [sys.executable, str(PROJECT / "focus"), "set", "1", str(FAR)], chain.environment)
    until(lambda: chain.moving(1), "the motor to move")
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGHUP
    assert chain.moving(1)
    until(lambda: chain.simulator.position(1) == FAR, "the target")


def test_a_network_that_is_lost_lets_the_motor_go_on_and_says_so(chain: Any, until: Any) -> None:
    chain.simulator.set_speed(SPEED)
    with socket.create_server(("127.0.0.1", 0)) as relay:
        registry = json.loads((chain.folder / "registry.json").read_text())
        registry["daemons"]["here_focus"]["port"] = relay.getsockname()[1]
        (chain.folder / "registry.json").write_text(json.dumps(registry))
        move = chain.start_focus("set", "1", str(FAR))
        client, _ = relay.accept()
        focusd = socket.create_connection(("127.0.0.1", chain.pyro_port))
        for source, sink in ((client, focusd), (focusd, client)):
            threading.Thread(target=_pass_on, args=(source, sink), daemon=True).start()
        until(lambda: chain.moving(1), "the motor to move")
        for connection in (client, focusd):
            connection.shutdown(socket.SHUT_RDWR)
        output, errors = move.communicate(timeout=30)
        client.close()
        focusd.close()
    assert (move.returncode, output) == (155, "error: unable to communicate with focus daemon\n")
    assert errors == "focus: the connection to focusd was lost; channel 1 goes on to its target\n"
    assert chain.moving(1)
    until(lambda: chain.simulator.position(1) == FAR, "the target")


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(4096):
            sink.sendall(data)
    except OSError:
        pass  # cut
