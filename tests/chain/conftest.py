# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures that the tests of the chain share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from configuration import configured

from indi_multifocus.simulator import Simulator


@pytest.fixture
def simulator(tmp_path: Path) -> Iterator[Simulator]:
    """A controller of the second generation with two channels, at its usual speed."""
    with Simulator(link=tmp_path / "focuser") as started:
        yield started


@pytest.fixture
def extra(simulator: Simulator, tmp_path: Path) -> dict[str, str]:
    """The environment of a driver that is configured for `simulator`."""
    return configured(tmp_path / "focus.json", simulator.port)
