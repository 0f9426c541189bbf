# SPDX-License-Identifier: GPL-3.0-or-later
"""A few of the schedules of faults of which `make faults` runs thousands: see `faults/schedule.py` for what they judge.

And schedules that once went wrong, each with the story of its mistake.
"""

from __future__ import annotations

import pytest

from faults.__main__ import kinds_of
from faults.schedule import EVERYTHING, FAULTS, run


@pytest.mark.parametrize("kind", FAULTS)
def test_no_schedule_of_one_kind_of_fault_leads_to_a_lie(kind: str) -> None:
    for seed in range(3):
        assert run(seed, kinds_of(kind)).problems == []


@pytest.mark.parametrize("first", range(0, 60, 10))
def test_no_schedule_of_several_faults_leads_to_a_lie(first: int) -> None:
    for seed in range(first, first + 10):
        assert run(seed, kinds_of(EVERYTHING)).problems == []


def test_a_seed_gives_the_same_run_again() -> None:
    runs: list[list[str]] = [[], []]
    for lines in runs:
        run(7, trace=lines.append)
    assert runs[0] == runs[1]
    assert len(runs[0]) > 100


def test_a_driver_that_believes_everything_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    from indi_multifocus.controller import Controller

    monkeypatch.setattr(Controller, "_doubt", lambda *_: None)
    power = kinds_of("power of a controller fed by its USB cable")
    assert any("wrong by" in problem for seed in range(30) for problem in run(seed, power).problems)


def test_a_driver_that_stays_busy_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    from indi_multifocus.focuser import Focuser

    monkeypatch.setattr(Focuser, "_moving", lambda self, state: state.moving or self._moved > 0)
    monkeypatch.setattr("faults.schedule.MOST_S", 60.0)
    assert any("Busy for ever" in problem for seed in range(10) for problem in run(seed).problems)
