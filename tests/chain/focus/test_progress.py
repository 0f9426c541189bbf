# SPDX-License-Identifier: GPL-3.0-or-later
"""`focus set` and `focus offset` on a terminal: a bar; how long they wait; and for scripts all is as it was."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from focus_cli.progress import Speed

PROJECT = Path(__file__).resolve().parents[3]


def on_terminal(chain: Any, *arguments: str, **environment: str) -> tuple[int, str]:
    """Exit status of `focus …` on a terminal of 100 columns, and all that it has drawn there."""
    reader, terminal = pty.openpty()
    drawn = bytearray()

    def read() -> None:
        try:
            while data := os.read(reader, 65536):
                drawn.extend(data)
        except OSError:
            pass  # the terminal is closed

    process = subprocess.Popen(
        [sys.executable, str(PROJECT / "focus"), *arguments],
        env={**chain.environment, "TERM": "xterm", "COLUMNS": "100", **environment},
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    )
    chain.started.append(process)
    os.close(terminal)
    thread = threading.Thread(target=read)
    thread.start()
    status = process.wait(timeout=30)
    thread.join(timeout=30)
    os.close(reader)
    return status, re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", drawn.decode())


def polls_during_the_move(chain: Any) -> int:
    """How often the controller was asked for its status from the order until channel 1 stood."""
    begun_s = max(when for when, line in chain.simulator.received if line[:2] in (b"1+", b"1-"))
    ended_s = chain.simulator.standstill(1)
    return sum(line == b"?" and begun_s < when < ended_s for when, line in chain.simulator.received)


def test_a_terminal_gets_a_bar_and_the_controller_no_more_polls(chain: Any) -> None:
    assert chain.focus("set", "1", "3000").stdout == ""
    status, drawn = on_terminal(chain, "set", "1", "0")
    assert status == 0
    # A motor that takes 1.54 s and is asked every 0.1 s; the bar asks focusd more than six times a second.
    assert polls_during_the_move(chain) <= 20
    lines = [line for line in re.split(r"[\r\n]+", drawn) if "channel 1" in line]
    assert len(lines) >= 2, drawn
    assert any("→ +000000 " in line and " steps/s" in line and " s left" in line for line in lines)
    assert "+000000 → +000000" in lines[-1]
    for environment in ({"TERM": "dumb"}, {"PYTHONPATH": str(without_rich(chain))}):
        assert on_terminal(chain, "set", "1", "300", **environment) == (0, "")
        assert on_terminal(chain, "set", "1", "0", **environment) == (0, "")


def without_rich(chain: Any) -> Path:
    """A folder that hides rich from Python."""
    folder: Path = chain.folder / "hidden"
    (folder / "rich").mkdir(parents=True, exist_ok=True)
    (folder / "rich/__init__.py").write_text("raise ImportError('hidden')\n")
    return folder


def test_the_bar_is_fed_by_what_focusd_reports(make_chain: Any, fake_focusd: Any) -> None:
    asked: list[int] = []
    enough = threading.Event()

    def report_status() -> dict[str, object]:
        asked.append(len(asked))
        if len(asked) >= 8:
            enough.set()
        position = 100 * len(asked)
        return {"status_1": 2, "current_steps_1": position, "target_steps_1": 1000, "status_2": 0}

    def set_focus(channel: int, steps: int) -> int:
        return 0 if enough.wait(20) else 1

    chain = make_chain()
    with fake_focusd({"report_status": report_status, "set_focus": set_focus}) as port:
        registry = json.loads((chain.folder / "registry.json").read_text())
        registry["daemons"]["here_focus"]["port"] = port
        (chain.folder / "registry.json").write_text(json.dumps(registry))
        status, drawn = on_terminal(chain, "set", "1", "1000")
        assert status == 0
        assert "+000500 → +001000" in drawn
        asked.clear()
        enough.clear()
        assert chain.focus("set", "1", "1000", "--timeout", "0.5").returncode == 124
        assert asked == [], "nothing is drawn, so nothing is asked"


def test_a_command_need_not_wait_for_the_motor(chain: Any, until: Any) -> None:
    result = chain.focus("set", "1", "90000", "--no-wait")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert chain.moving(1)
    for arguments in (["set", "1", "5", "--no-wait"], ["offset", "--no-wait", "1", "5"]):
        assert chain.focus(*arguments).returncode == 2
    result = chain.focus("offset", "2", "90000", "--timeout=0.5")
    assert (result.returncode, result.stdout) == (124, "error: still moving; the motor goes on to its target\n")
    assert chain.moving(2)
    for channel in ("1", "2"):
        assert chain.focus("stop", channel).returncode == 0
    assert chain.focus("set", "1", "0", "--timeout", "1000").returncode == 0
    assert chain.focus("set", "1", "99999999", "--no-wait").returncode == 6


@pytest.mark.parametrize("option", [["--timeout"], ["--timeout", "x"], ["--timeout=-1"], ["--timeout=nan"], ["--wait"]])
def test_an_option_that_is_none_shows_the_usage(make_chain: Any, option: list[str]) -> None:
    result = make_chain().focus("set", "1", "5", *option)
    assert (result.returncode, result.stdout) == (255, "usage: focus set (1|2) <step position>\n")


def test_the_speed_is_that_of_the_last_positions() -> None:
    speed = Speed()
    assert speed.steps_per_s == 0
    assert speed.left_s(0.0, 100) is None
    for second in range(10):
        speed.see(float(second), -100 * second)
        speed.see(second + 0.5, -100 * second)
    assert speed.steps_per_s == -100
    assert speed.left_s(9.0, -1000) == pytest.approx(1.0)
    assert speed.left_s(9.5, -1000) == pytest.approx(0.5)
    assert speed.left_s(99.0, -1000) == 0
