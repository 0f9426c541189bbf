# SPDX-License-Identifier: GPL-3.0-or-later
"""`focus watch` in a real terminal: tmux, whose keys are sent and whose screen is read."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from focus_cli.terminal import decode
from focus_cli.watch_view import Model, Trend, lines

PROJECT = Path(__file__).resolve().parents[3]
WATCH = f"{shlex.quote(sys.executable)} {PROJECT}/focus watch"


class Terminal:
    """A shell in tmux, 80 by 24."""

    def __init__(self, environment: dict[str, str], until: Any) -> None:
        self._socket = f"focus-{uuid.uuid4()}"
        self._until = until
        new = ["new-session", "-d", "-x", "80", "-y", "24", "env PS1='READY ' bash --norc"]
        subprocess.run(
            ["tmux", "-L", self._socket, "-f", "/dev/null", *new],
            env={**environment, "TERM": "xterm", "LC_ALL": "C.UTF-8"},
            check=True,
            timeout=20,
        )
        self.expect("READY")

    def tmux(self, *arguments: str) -> str:
        command = ["tmux", "-L", self._socket, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout

    def send(self, *keys: str) -> None:
        self.tmux("send-keys", *keys)

    def run(self, command: str) -> None:
        self.tmux("send-keys", "-l", command)
        self.send("Enter")

    @property
    def screen(self) -> list[str]:
        return self.tmux("capture-pane", "-p").splitlines()

    def expect(self, text: str, row: int | None = None) -> None:
        def there() -> bool:
            screen = self.screen
            return text in (screen[row] if row is not None else "\n".join(screen))

        try:
            self._until(there, text)
        except AssertionError:
            raise AssertionError(f"{text!r} is not on the screen:\n" + "\n".join(self.screen)) from None

    @property
    def state(self) -> str:
        """Whether the cursor is shown and the other screen is on, and the settings of the terminal."""
        flags = self.tmux("display-message", "-p", "#{cursor_flag} #{alternate_on} #{pane_tty}").split()
        settings = subprocess.run(["stty", "-g", "-F", flags[2]], capture_output=True, text=True, check=True).stdout
        return f"{flags[0]} {flags[1]} {settings}"

    def close(self) -> None:
        subprocess.run(["tmux", "-L", self._socket, "kill-server"], capture_output=True, timeout=20)


@pytest.fixture
def open_terminal(until: Any) -> Iterator[Any]:
    if shutil.which("tmux") is None:
        pytest.skip("tmux is not installed")
    opened: list[Terminal] = []

    def open_one(chain: Any) -> Terminal:
        opened.append(Terminal(chain.environment, until))
        return opened[-1]

    yield open_one
    for terminal in opened:
        terminal.close()


def test_keys_move_and_stop_the_channels_that_it_shows(make_chain: Any, open_terminal: Any, until: Any) -> None:
    probes = {"rasa1": {"label": "RASA1", "address": "28EFE61E0B0000B9", "channel": 1}}
    chain = make_chain(limits={"1": [-50, 5000]}, temperature_probes=probes).start()
    terminal = open_terminal(chain)
    before = terminal.state
    terminal.run(WATCH)
    terminal.expect("▶1 MultiFocus 1  +000000            IDLE", 3)
    terminal.expect("-50 ├─●──", 4)
    terminal.expect("┤ 5000", 4)
    terminal.expect("21.1 °C", 3)
    terminal.expect("link up", 3)
    assert terminal.screen[-1].startswith("←/→ step in/out")

    terminal.send("PageUp")
    until(lambda: chain.simulator.position(1) == 100, "the large step out")
    terminal.send("Left", "Left", "i")
    until(lambda: chain.simulator.position(1) == 70, "three small steps in")
    terminal.expect("+000070            IDLE", 3)
    terminal.send("PageDown")
    terminal.expect("-000030            IDLE", 3)
    terminal.send("PageDown")
    terminal.expect("channel 1: error: requested position outside channel range")
    terminal.send("2", "o")
    until(lambda: chain.simulator.position(2) == 10, "a small step of the other channel")
    terminal.expect("▶2 MultiFocus 2  +000010")
    terminal.send("Up")
    terminal.expect("▶1")
    # What a client did is seen, and its message too.
    moves = [chain.call("set_focus", channel, steps) for channel, steps in ((1, 5000), (2, 90_000))]
    terminal.expect("MOVING", 3)
    terminal.expect("→ +005000", 3)
    until(lambda: chain.moving(2), "the other channel to move")
    terminal.send("Space")
    assert [move() for move in moves] == [0, 0]
    assert all(chain.simulator.standstill(channel) is not None for channel in (1, 2))
    terminal.expect("stopping all channels")

    terminal.tmux("resize-window", "-x", "100", "-y", "30")
    terminal.expect("←/→ step in/out", 29)
    terminal.send("q")
    terminal.expect("READY")
    until(lambda: terminal.state == before, "the terminal as it was")
    assert "MultiFocus" not in "\n".join(terminal.screen)


def test_it_leaves_the_terminal_as_it_was_when_it_is_killed_or_stopped(
    chain: Any, open_terminal: Any, until: Any
) -> None:
    terminal = open_terminal(chain)
    before = terminal.state
    for end in ("TERM", "HUP", "QUIT"):
        terminal.run(f"{WATCH} 5 50")
        terminal.expect("▶1 MultiFocus 1")
        assert terminal.state != before
        terminal.send("C-z")
        until(lambda: terminal.state == before, "the terminal as it was")
        terminal.expect("Stopped")
        terminal.run("clear; fg")
        terminal.expect("steps of 5 and 50")
        terminal.send("C-z")
        terminal.expect("Stopped")
        # By its process number: for `kill %1` bash lets a stopped job go on at once, and then `fg` may come too early.
        terminal.run(f"clear; kill -{end} $(jobs -p); fg; status=$?; clear; echo ended by $status")
        terminal.expect("ended by 156")
        until(lambda: terminal.state == before, "the terminal as it was")
        terminal.run("clear")
    terminal.run(WATCH)
    terminal.expect("▶1 MultiFocus 1")
    terminal.send("C-c")
    until(lambda: terminal.state == before, "the terminal as it was")  # until then it discards what is typed
    terminal.run("echo status $?")
    terminal.expect("status 156")


def test_without_rights_it_only_watches_and_says_so(make_chain: Any, open_terminal: Any, until: Any) -> None:
    chain = make_chain(control="OtherPC", channels=9)
    chain.start_focusd()
    terminal = open_terminal(chain)
    terminal.run(WATCH)
    terminal.expect("watching only: not a control machine", 0)
    screen = "\n".join(terminal.screen)
    assert all(f"{channel} MultiFocus {channel}" in screen for channel in range(1, 10))  # on 24 lines
    assert "OFFLINE" in screen
    for key in ("PageUp", "Space"):
        terminal.send("9", key)
        terminal.expect("this machine may only watch: it is not among focusd's control_machines")
    chain.daemon.terminate()
    chain.daemon.wait(timeout=30)
    terminal.expect("focusd cannot be reached", 0)
    chain.start_focusd()
    terminal.expect("watching only", 0)


def test_where_there_is_no_terminal_it_says_what_to_use(make_chain: Any) -> None:
    chain = make_chain()
    result = chain.focus("watch")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "focus: watch is for terminals; `focus status` and `focus json` are for the rest\n"
    for arguments in (["1"], ["0", "5"], ["50", "5"], ["x", "y"]):
        result = chain.focus("watch", *arguments)
        assert (result.returncode, result.stdout) == (255, "usage: focus watch [<small step> <large step>]\n")


def test_keys_may_come_in_pieces() -> None:
    assert decode(b"\x1b[C\x1bOD5q") == (["out", "in", "5", "quit"], b"")
    assert decode(b" \x1b[") == (["stop"], b"\x1b[")
    assert decode(b"\x1b[5") == ([], b"\x1b[5")
    assert decode(b"\x1b[5~x\xffo") == (["far out", "out"], b"")
    assert decode(b"\x1b[99;5Rq") == (["9", "9", "5", "quit"], b"")


def test_a_trend_is_shown_once_there_is_one() -> None:
    trend = Trend()
    for minute in range(10):
        assert (trend.per_hour is None) == (minute <= 2)
        trend.see(60.0 * minute, 10.0 - 0.02 * minute)
        trend.see(60.0 * minute + 1, 99.0)  # too soon to count
    assert trend.per_hour == pytest.approx(-1.2)


def test_a_screen_of_any_size_is_filled_and_no_more() -> None:
    model = Model([1, 2], "rig")
    date = "2026-01-01T00:00:00Z"
    status = {"status_1": 2, "current_steps_1": -7, "target_steps_1": 10**6, "status_2": 0, "date": date}
    for width, height in ((80, 24), (20, 5), (200, 60), (1, 1)):
        for report in ({}, status):
            if report:
                model.take(0.0, report)
            screen = lines(model, width, height)
            assert len(screen) == height
            assert all(line.cell_len <= width for line in screen)
