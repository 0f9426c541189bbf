# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole autofocus on a simulated controller, behind indiserver and by pyindi-client: it finds the best focus."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from autofocus import GSC, Camera, Observer, Optics, run
from support import IndiServer, Lines, libindi

from indi_multifocus.simulator import Simulator

ONE = "MultiFocus 1"
BEST, START, STEP, COUNT = 36_700, 39_700, 1000, 7
PLAY = 400
SPEED = 500.0
CCD = "indi_simulator_ccd"
WITH_CCD = shutil.which(CCD) is not None and libindi() >= (1, 9)


@pytest.fixture(scope="module", params=[1, 2], ids=["generation 1", "generation 2"])
def simulator(request: pytest.FixtureRequest) -> Iterator[Simulator]:
    with Simulator(generation=request.param, speed=SPEED) as simulator:
        yield simulator


@pytest.fixture(scope="module")
def observer(simulator: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observer]:
    path = f"{GSC}{os.pathsep}{os.environ['PATH']}"
    with IndiServer(tmp_path_factory.mktemp("home"), {"PATH": path}, beside=(CCD,) * WITH_CCD) as server:
        with Observer(server.port) as observer:
            observer.send_text(ONE, "DEVICE_PORT", PORT=simulator.port)
            observer.connect(ONE)
            yield observer


def set_backlash(observer: Observer, steps: int) -> None:
    """Let the driver take it up; 0 turns it off."""
    observer.turn_on(ONE, "FOCUS_BACKLASH_TOGGLE", "INDI_ENABLED" if steps else "INDI_DISABLED")
    observer.send_numbers(ONE, "FOCUS_BACKLASH_STEPS", FOCUS_BACKLASH_VALUE=steps)
    observer.wait(
        lambda: observer.number(ONE, "FOCUS_BACKLASH_STEPS", "FOCUS_BACKLASH_VALUE") == steps, "the setting of backlash"
    )


@pytest.mark.skipif(not WITH_CCD, reason=f"{CCD} is not installed, or of libindi 1.8, which has no SCOPE_INFO")
def test_a_v_curve_of_frames_ends_at_the_best_focus(observer: Observer) -> None:
    set_backlash(observer, PLAY)
    camera = Camera(observer, ONE, best=BEST, travel=20_000)
    curve = run(observer, ONE, camera, start=START, step=STEP, count=COUNT)
    assert abs(curve.best - BEST) <= STEP / 10, curve
    assert curve.width <= 1.02 * min(width for _, width in curve.points), curve


@pytest.mark.parametrize("backlash", [0, PLAY])
def test_backlash_that_the_driver_takes_up_does_not_spoil_the_focus(
    simulator: Simulator, observer: Observer, backlash: int
) -> None:
    set_backlash(observer, backlash)
    lines = Lines(simulator)

    def targets() -> list[int]:
        return [int(line[1:]) for line in lines.orders() if line[:1] == b"1" and line[1:2] in b"+-"]

    optics = Optics(targets, best=BEST, play=PLAY)
    run(observer, ONE, optics, start=START, step=STEP, count=COUNT)
    missed_by = abs(optics.position - BEST)
    # Without compensation the last move, outward after a row inward, is lost in the play.
    assert missed_by <= 5 if backlash else missed_by >= PLAY / 2
