# SPDX-License-Identifier: GPL-3.0-or-later
"""A moment of each of the two soaks of `make soak`; and that what grows is noticed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.faults import __main__ as page
from tools.faults import soak


def test_a_moment_of_the_soak_of_the_driver_finds_nothing() -> None:
    rows, problems = soak.soak_driver(2000)
    assert problems == []
    assert len(rows) == 10
    assert rows[-1][0] >= 2000
    assert 1000 < rows[-1][2] < 1_000_000  # kB


def test_a_moment_of_the_soak_of_focusd_finds_nothing() -> None:
    rows, problems = soak.soak_focusd(500)
    assert problems == []
    assert len(rows) == 10
    assert rows[-1][0] >= 500
    assert rows[-1][1] >= 10
    assert all(1000 < kb < 1_000_000 for kb in rows[-1][2:])


def test_what_grew_is_reported_with_exit_status_1_and_not_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "page.md"
    path.write_text(f"before\n{soak.BEGIN}{page.END}after\n")
    monkeypatch.setattr(page, "PAGE", path)
    rows = [(1, 1, 17_000), (2, 2, 17_000 + soak.ROOM_KB + 1), (3, 3, 17_000)]
    monkeypatch.setattr(soak, "soak_driver", lambda polls: (rows, []))
    monkeypatch.setattr(soak, "soak_focusd", lambda calls: ([(1, 1, 31_000, 17_000)] * 3, []))
    assert soak.main() == 1
    assert f"wrong: the driver grew by {soak.ROOM_KB + 1} kB" in capsys.readouterr().err
    assert path.read_text() == f"before\n{soak.BEGIN}{page.END}after\n"
    rows[1] = (2, 2, 17_000 + soak.ROOM_KB)
    assert soak.main() == 0
    assert "| 2 | 2 | 17,512 |" in path.read_text()
