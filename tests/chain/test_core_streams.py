# SPDX-License-Identifier: GPL-3.0-or-later
"""The driver's standard streams, closed, full or broken: it serves, or says why it cannot and ends; no traceback.

indiserver starts drivers with three open pipes; whoever starts one by hand, or under another supervisor, may not.
"""

from __future__ import annotations

import shlex
import subprocess
import sys

import pytest

DRIVER = f"{shlex.quote(sys.executable)} -m indi_multifocus"
ASK = "echo '<getProperties version=\"1.7\"/>'"


def shell(command: str) -> tuple[int, str, str]:
    """Exit status of the driver, which the shell becomes, and what it wrote."""
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=10)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("errors", ["2>&-", "2>/dev/full", "2> >(:)"])
def test_it_serves_whatever_becomes_of_its_log(errors: str) -> None:
    status, sent, logged = shell(f"set -o pipefail; {ASK} | {DRIVER} {errors}")
    assert (status, logged) == (0, "")
    assert sent.count("<defSwitchVector") >= 2
    assert shell(f"INDI_MULTIFOCUS_CONFIG=/nowhere exec {DRIVER} {errors}") == (1, "", "")


def test_a_server_that_is_gone_ends_it_in_order() -> None:
    assert shell(f"set -o pipefail; {ASK} | {DRIVER} > >(:)")[0] == 0


def test_a_closed_standard_input_ends_it_at_once() -> None:
    for streams in ("<&-", "<&- 2>&-", "<&- >/dev/null 2>&-"):
        assert shell(f"exec timeout 5 {DRIVER} {streams}")[0] == 0, streams


@pytest.mark.parametrize("output", [">&-", ">/dev/full"])
def test_an_output_that_cannot_be_written_is_said_and_is_an_error(output: str) -> None:
    status, _, errors = shell(f"set -o pipefail; ({ASK}; sleep 1) | {DRIVER} {output}")
    assert status == 1
    assert errors.startswith("indi_multifocus: standard output: ")
    assert errors.count("\n") == 1


def test_a_version_that_cannot_be_told_is_one_line() -> None:
    assert shell(f"exec {DRIVER} --version >/dev/full") == (
        1,
        "",
        "indi_multifocus: standard output: No space left on device\n",
    )
