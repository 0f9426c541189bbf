# SPDX-License-Identifier: GPL-3.0-or-later
"""Standard streams that are closed, full, broken or read by nobody: focus and focusd go on, and print no traceback."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).resolve().parents[3]
NO_SPACE = "focus: standard output: No space left on device\n"


def shell(chain: Any, command: str) -> tuple[int, str, str]:
    """What a shell makes of it, `focus` being this clone's: status, output and errors."""
    focus = f'focus() {{ {shlex.quote(sys.executable)} {PROJECT}/focus "$@"; }}; '
    done = subprocess.run(
        ["bash", "-c", focus + command], env=chain.environment, capture_output=True, text=True, timeout=30
    )
    return done.returncode, done.stdout, done.stderr


def test_focus_says_what_could_not_be_written_and_keeps_its_status(chain: Any) -> None:
    assert shell(chain, "focus status >/dev/full") == (1, "", NO_SPACE)
    assert shell(chain, "focus json >&-") == (1, "", "focus: standard output: Bad file descriptor\n")
    assert shell(chain, "focus --help | true; exit ${PIPESTATUS[0]}")[2] == ""
    assert shell(chain, "focus status <&- 2>&-")[0] == 0
    assert shell(chain, "focus status 2>/dev/full")[0] == 0
    # What is done is done, even where nobody can read it.
    for streams in (">&- 2>&- <&-", ">/dev/full 2>/dev/full", "> >(:)"):
        assert shell(chain, f"focus set 1 50 {streams}") == (0, "", ""), streams
        assert shell(chain, f"focus set 1 99999999 {streams}") == (6, "", ""), streams
        assert shell(chain, f"FOCUSD_CONFIG_PATH=/nowhere focus status {streams}")[0] == 1, streams
    assert chain.simulator.position(1) == 50


def end_of_a_full_pipe() -> tuple[int, int]:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(writer, True)
    return reader, writer


@pytest.mark.parametrize("streams", ["2>&-", "0<&- 1>&- 2>&-", ">/dev/full 2>&1", "unread", "broken"])
def test_focusd_serves_and_ends_whatever_its_streams_are(make_chain: Any, until: Any, streams: str) -> None:
    chain = make_chain()
    reader, writer = end_of_a_full_pipe()
    if streams == "broken":
        os.close(reader)
    redirection = streams if ">" in streams else f">&{writer} 2>&1"
    command = f"exec {shlex.quote(sys.executable)} {PROJECT}/focusd {chain.config} {redirection}"
    daemon = chain.run(["bash", "-c", command], env=chain.environment, pass_fds=[writer])
    os.close(writer)
    until(chain._answers, "focusd answers")
    with chain.proxy() as focusd:
        assert focusd.initialize() == 0
        assert focusd.set_focus(1, 100) == 0
        assert focusd.set_focus(1, 99_999_999) == 6
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(timeout=30) == 0
    assert chain.processes("") == []
    if streams == "unread":
        os.close(reader)


def test_focusd_that_cannot_start_has_its_exit_status(tmp_path: Path) -> None:
    focusd = f"{shlex.quote(sys.executable)} {PROJECT}/focusd"
    for command, status, errors in (
        (f"{focusd} /nowhere 2>&-", 1, ""),
        (f"{focusd} /nowhere 2>/dev/full", 1, ""),
        (f"{focusd} /nowhere >&-", 1, "focusd: /nowhere: there is no such file\n"),
        (f"{focusd} --version >/dev/full", 1, "focusd: standard output: No space left on device\n"),
        (f"{focusd} --help >&-", 1, "focusd: standard output: Bad file descriptor\n"),
        (f"{focusd} 2>&- >&- <&-", 2, ""),
    ):
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=30)
        assert (done.returncode, done.stdout, done.stderr) == (status, "", errors), command
