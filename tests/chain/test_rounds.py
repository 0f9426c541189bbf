# SPDX-License-Identifier: GPL-3.0-or-later
"""Some of the rounds of faults of which `make faults` runs hundreds; `tools/faults/rounds.py` says what they judge."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support import FocuserClient, eventually

from tools.faults.chain import Chain, Request
from tools.faults.rounds import ABSOLUTE, Round, run_rounds


@pytest.mark.parametrize("first", range(0, 20, 4))
def test_no_round_with_the_real_threads_leads_to_a_lie(first: int) -> None:
    result = run_rounds(list(range(first, first + 4)))
    assert result.problems == []
    assert result.rounds == 4
    assert result.requests > 40
    assert sum(result.faults.values()) > 8


def nothing(_: Round) -> None:
    """All is well."""


def slip(judged: Round) -> None:
    judged._simulator._firmware._motors[0].shaft += 16


def ask_in_vain(judged: Round) -> None:
    client = judged._client
    judged._requests.append(Request(client, len(client.received), client.name(1), "NOT_THERE"))


def turn(judged: Round) -> None:
    far: dict[str, float | str] = {"FOCUS_ABSOLUTE_POSITION": judged._client.position(1) + 200}
    judged._new(1, ABSOLUTE, far, "Number")
    eventually(lambda: judged._simulator.standstill(1) is None, "the motor to turn")


def look(judged: Round) -> None:
    turn(judged)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FocuserClient, "state", lambda *_: "Ok")
        judged._look()


def go_on(judged: Round) -> None:
    turn(judged)
    judged._abort_alone(1)
    eventually(lambda: judged._simulator.standstill(1), "the motor to stand")
    judged._simulator._received.append((0.0, b"1+5"))


@pytest.mark.parametrize(
    ("request_", "problem"),
    [
        (nothing, ""),
        (slip, "channel 1 is shown at"),
        (ask_in_vain, "got no answer to NOT_THERE"),
        (look, "channel 1 is shown Ok while its motor turns"),
        (go_on, "after an abort"),
    ],
)
def test_the_judge_of_the_rounds_finds_lies(
    request_: Callable[[Round], None], problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Chain(tmp_path) as chain:
        judged = Round(chain, 1)
        monkeypatch.setattr(judged, "_fault", lambda: None)
        monkeypatch.setattr(judged, "_request", lambda: request_(judged))
        problems = "\n".join(problem for _, problem in judged.run().problems)
    assert problem in problems
    assert bool(problem) == bool(problems)
