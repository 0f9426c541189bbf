# SPDX-License-Identifier: GPL-3.0-or-later
"""One autofocus of Ekos: started by D-Bus, followed by its signals, and what came of it."""

from __future__ import annotations

import re
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .desktop import POSITION, Failed, KStars, wait_for
from .observatory import BEST, Focuser
from .relay import Note, Relay

IDLE, COMPLETE, FAILED, ABORTED, WAITING, PROGRESS = range(6)
"""Ekos's FocusState."""

RUN_S = 900.0
TOLERANCE = 30
"""Steps from the best focus; the stars are then 0.05 arcseconds wider than they could be."""

SETTINGS = {
    "focusExposure": 1.0,
    "focusGain": 0.0,
    "focusBinning": "1x1",
    "focusUseFullField": True,
    "focusAutoStarEnabled": False,
    "focusSubFrame": False,
    "focusSuspendGuiding": False,
    "focusDetection": "SEP",
    "focusTicks": 70,
    "focusMaxTravel": 2000,
    "focusOutSteps": 5.0,
    "focusTolerance": 1.0,
    "focusSettleTime": 0.0,
    "focusBacklash": 0,
    "focusMotionTimeout": 30,
    "focusMaxSingleStep": 500,
}
LINEAR = {**SETTINGS, "focusAlgorithm": "Linear 1 Pass", "focusCurveFit": "Hyperbola", "focusAFBacklashComp": True}
POLYNOMIAL = {**SETTINGS, "focusAlgorithm": "Polynomial", "focusAFBacklashComp": False}


@dataclass(frozen=True)
class Move:
    """One order of Ekos to the focuser, until it saw that it was done."""

    begin: int
    target: int
    took_s: float

    @property
    def steps(self) -> int:
        """The way."""
        return abs(self.target - self.begin)


@dataclass(frozen=True)
class Run:
    """What came of an autofocus."""

    state: int
    position: int
    """Where the focuser stands at the end."""
    curve: Sequence[tuple[int, float]]
    """Positions and half-flux radii in pixels, in the order of measuring."""
    moves: Sequence[Move]
    took_s: float
    steps_per_s: float
    log: Sequence[str]
    """Of the focus module, the oldest first."""

    @property
    def motor_s(self) -> float:
        """How long the motor ran."""
        return sum(move.steps for move in self.moves) / self.steps_per_s

    @property
    def beside_s(self) -> float:
        """What all moves together took beside the motor, as Ekos saw it."""
        return sum(move.took_s for move in self.moves) - self.motor_s

    @property
    def has_converged(self) -> bool:
        """Whether Ekos calls it complete, and the focuser stands where the stars are sharp."""
        return self.state == COMPLETE and abs(self.position - BEST) <= TOLERANCE

    def verdict(self) -> str:
        """In a line."""
        how = {COMPLETE: "complete", FAILED: "failed", ABORTED: "aborted"}.get(self.state, f"state {self.state}")
        measured = f"HFR {self.curve[0][1]:.2f} → {self.curve[-1][1]:.2f} px" if self.curve else "no HFR"
        return (
            f"{'converged' if self.has_converged else 'NOT converged'}: Ekos says {how}, ended at {self.position} "
            f"({self.position - BEST:+d} steps from the best), {measured}, {len(self.curve)} frames, "
            f"{len(self.moves)} moves, {self.took_s:.1f} s in all: motor {self.motor_s:.1f} s, "
            f"moves beside the motor {self.beside_s:.2f} s"
        )


class Signals:
    """What the focus module signals on the bus; a context manager with a thread."""

    def __init__(self, kstars: KStars) -> None:
        self.curve: list[tuple[int, float]] = []
        self.states: list[tuple[float, int]] = []
        self._environment = kstars.environment
        self._listens = threading.Event()

    def __enter__(self) -> Signals:
        rule = "type='signal',interface='org.kde.kstars.Ekos.Focus'"
        address = self._environment["DBUS_SESSION_BUS_ADDRESS"]
        self._process = subprocess.Popen(
            ["dbus-monitor", "--address", address, rule],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
            text=True,
            env=self._environment,
        )
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        if not self._listens.wait(10):  # the bus tells it its name when it does
            raise Failed("dbus-monitor does not start")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()
        self._thread.join()

    def _read(self) -> None:
        member = ""
        numbers: list[float] = []
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._listens.set()
            found = re.search(r"member=(\w+)", line)
            if found:
                member, numbers = found[1], []
                continue
            number = re.match(r"\s+(?:double|int32) (\S+)", line)
            if number is None:
                continue
            numbers.append(float(number[1]))
            if member == "newStatus":
                self.states.append((time.monotonic(), int(numbers[0])))
            elif member == "newHFR" and len(numbers) == 2:
                hfr, position = numbers
                if hfr > 0:
                    self.curve.append((int(position), hfr))


def log(kstars: KStars) -> list[str]:
    """Of the focus module, the oldest first."""
    return [str(line) for line in kstars.focus_property("logText")][::-1]


def go_to(kstars: KStars, focuser: Focuser, relay: Relay, position: int) -> None:
    """Send the focuser there, and wait until the driver says that it has arrived."""
    begin_s = time.monotonic()
    kstars.move(focuser.device, position)
    wait_for(
        f"{focuser.device} is at {position}",
        lambda: any(
            note.kind == "set" and note.state == "Ok" and float(note.values[POSITION[1]]) == position
            for note in relay.notes(begin_s)
            if note.name == POSITION[0]
        ),
        quiet=True,
    )


def run(
    kstars: KStars,
    focuser: Focuser,
    relay: Relay,
    *,
    while_running: Callable[[Signals], None] | None = None,
    within_s: float = RUN_S,
) -> Run:
    """Start an autofocus, and wait until Ekos has ended it. `while_running` is called once it runs."""
    lines_before = len(log(kstars))
    begin_s = time.monotonic()
    begin = int(kstars.position(focuser.device))
    with Signals(kstars) as signals:
        kstars.focus.start()
        if while_running is not None:
            while_running(signals)
        end = time.monotonic() + within_s
        while not (signals.states and signals.states[-1][1] in (COMPLETE, FAILED, ABORTED)):
            kstars.is_running()
            if time.monotonic() > end:
                raise Failed(f"the autofocus does not end within {within_s:g} s: {log(kstars)[lines_before:]}")
            time.sleep(0.02)
        ended_s, state = signals.states[-1]
        time.sleep(1)  # the last signals
        curve = list(signals.curve)
    notes = relay.notes(begin_s)
    return Run(
        state,
        int(kstars.position(focuser.device)),
        curve,
        moves(notes, begin),
        ended_s - begin_s,
        focuser.steps_per_s,
        log(kstars)[lines_before:],
    )


def moves(notes: Sequence[Note], begin: int) -> list[Move]:
    """The orders of a position, each with the first Ok at that place after it."""
    found = []
    ordered: Note | None = None
    for note in notes:
        if note.name != POSITION[0]:
            continue
        value = round(float(note.values[POSITION[1]]))
        if note.kind == "new":
            ordered = note
        elif ordered is not None and note.state == "Ok" and value == round(float(ordered.values[POSITION[1]])):
            found.append(Move(begin, value, note.at_s - ordered.at_s))
            begin, ordered = value, None
    return found
