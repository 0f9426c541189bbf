# SPDX-License-Identifier: GPL-3.0-or-later
"""Help, man pages and completion: all from focus_cli/manual.py, all current, and taken by the programs they are for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from focus_cli.commands import FUNCTIONS
from focus_cli.manual import COMMANDS
from tools import manual

PROJECT = Path(__file__).resolve().parents[2]


def run(*command: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "FOCUSD_CONFIG_PATH": str(PROJECT / "test.json"), "LC_ALL": "C.UTF-8"}
    return subprocess.run(command, capture_output=True, text=True, timeout=30, env=variables)


def test_what_is_made_is_what_make_docs_would_make() -> None:
    for path, text in manual.files().items():
        assert (PROJECT / path).read_text() == text, f"{path}: run `make docs`"


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_help_with_an_example(name: str) -> None:
    assert name in FUNCTIONS or name == "doctor"
    for option in ("--help", "-h"):
        done = run(sys.executable, str(PROJECT / "focus"), name, option)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith(f"usage: focus {name}")
        assert "\nexample" in done.stdout
        assert all(line in done.stdout for line, _ in COMMANDS[name].examples)


def test_the_man_pages_are_right_and_tell_all_commands() -> None:
    if shutil.which("man") is None:
        pytest.skip("man is not installed")
    for page in (PROJECT / "packaging/man").iterdir():
        done = run("man", "--warnings", "-l", "-Tutf8", str(page))
        assert (done.returncode, done.stderr) == (0, ""), page
        assert "{" not in done.stdout
    done = run("man", "-l", str(PROJECT / "packaging/man/focus.1"))
    assert all(f"\n       {name}" in done.stdout for name in COMMANDS)


def test_fish_completes_commands_channels_and_options(tmp_path: Path) -> None:
    if shutil.which("fish") is None:
        pytest.skip("fish is not installed")
    focus = tmp_path / "focus"
    focus.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{PROJECT}/focus" "$@"\n')
    focus.chmod(0o755)

    def complete(line: str) -> list[str]:
        script = f"set -p PATH {tmp_path}; source {PROJECT}/packaging/completion/focus.fish; complete -C '{line}'"
        done = run("fish", "--no-config", "-c", script)
        assert (done.returncode, done.stderr) == (0, "")
        return [found.partition("\t")[0] for found in done.stdout.splitlines()]

    assert complete("focus st") == ["status", "stop"]
    assert complete("focus set ") == ["1", "2"]
    assert complete("focus set 1 --") == ["--no-wait", "--timeout"]
    assert complete("focus fans ") == ["disable", "enable"]
    assert set(complete("focus ")) == set(COMMANDS)


def test_zsh_takes_its_completion() -> None:
    if shutil.which("zsh") is None:
        pytest.skip("zsh is not installed")
    done = run("zsh", "-n", str(PROJECT / "packaging/completion/_focus"))
    assert (done.returncode, done.stderr) == (0, "")
