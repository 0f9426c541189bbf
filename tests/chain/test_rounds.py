# SPDX-License-Identifier: GPL-3.0-or-later
"""Some of the rounds of faults of which `make faults` runs hundreds; `tools/faults/rounds.py` says what they judge."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from support import FocuserClient, eventually

from tools.faults.chain import Chain, Request, Result
from tools.faults.rounds import ABSOLUTE, Round, run_rounds


def test_no_round_with_the_real_threads_leads_to_a_lie() -> None:
    whole = Result()
    with ProcessPoolExecutor(4) as pool:
        for result in pool.map(run_rounds, [list(range(first, first + 5)) for first in range(0, 20, 5)]):
            whole.add(result)
    assert whole.problems == []
    assert whole.rounds == 20
    assert whole.requests > 200
    assert sum(whole.faults.values()) > 40


def test_the_judge_of_the_rounds_finds_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Chain(tmp_path) as chain:
        client = chain.clients[0]

        def problems(request: Callable[[Round], None]) -> str:
            judged = Round(chain, 1)
            monkeypatch.setattr(judged, "_fault", lambda: None)
            monkeypatch.setattr(judged, "_request", lambda: request(judged))
            return "\n".join(problem for _, problem in judged.run().problems)

        def slip(judged: Round) -> None:
            chain.simulator._firmware._motors[0].shaft += 16

        def ask_in_vain(judged: Round) -> None:
            judged._requests.append(Request(client, len(client.received), client.name(1), "NOT_THERE"))

        def turn(judged: Round) -> None:
            far: dict[str, float | str] = {"FOCUS_ABSOLUTE_POSITION": client.position(1) + 200}
            judged._new(1, ABSOLUTE, far, "Number")
            eventually(lambda: chain.simulator.standstill(1) is None, "the motor to turn")

        def look(judged: Round) -> None:
            turn(judged)
            with monkeypatch.context() as patch:
                patch.setattr(FocuserClient, "state", lambda *_: "Ok")
                judged._look()

        def go_on(judged: Round) -> None:
            turn(judged)
            judged._abort_alone(1)
            eventually(lambda: chain.simulator.standstill(1), "the motor to stand")
            chain.simulator._received.append((0.0, b"1+5"))

        assert problems(lambda judged: None) == ""
        assert "channel 1 is shown at" in problems(slip)
        assert "got no answer to NOT_THERE" in problems(ask_in_vain)
        assert "channel 1 is shown Ok while its motor turns" in problems(look)
        assert "after an abort" in problems(go_on)
