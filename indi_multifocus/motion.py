# SPDX-License-Identifier: GPL-3.0-or-later
"""How a channel moves, from the statuses that came: its speed, when it will arrive, and whether a claim can be true.

Used by `controller.py`, one `Motion` a channel, in the poll thread. No clock and no I/O in here: times are
arguments, in seconds of one monotonic clock; positions are controller steps.

The theory: a motor runs at one constant speed, and a status tells whole steps, rounded down. So a status
which was taken at time t and says that d steps are left means an arrival between t + (d-1)/v and t + d/v.
Each further status narrows that down, and the earliest of the upper bounds is the moment at which the motor
must have arrived: the one extra poll that the client waits for is sent just then. A status is taken when its
query has arrived, at once as a rule; but what is concluded on the speed holds also where it was not, lest a busy
machine should make a motor look slow and its next step like a lie. The speed is the one of the
generation's source code, unless what is measured contradicts it (a simulator that runs faster, a resonator
that is off).
"""

from __future__ import annotations

NOMINAL_STEPS_PER_S = {1: 3906.25 / 64, 2: 1562.5 / 16}
"""Speed by generation: microsteps/s over microsteps a step (both firmwares, timer set-up in main.c)."""

_HISTORY = 8
_START_S = 0.001
"""A motor that is switched on misses up to three timer interrupts (generation 2: 0.32 ms each) before it moves."""
_SPEED_PRECISION = 0.2
"""A speed counts as known where its uncertainty is below this fraction of it."""


class Motion:
    """The movement of one channel."""

    def __init__(self, nominal_steps_per_s: float) -> None:
        self._nominal = nominal_steps_per_s
        self._speed_low = 0.0
        self._speed_high = float("inf")
        self._target: int | None = None
        self._first: tuple[float, float, int] | None = None
        """The first status of this leg: when it was asked for and had come, and its place."""
        self._recent: list[tuple[float, int]] = []

    @property
    def speed_steps_per_s(self) -> float:
        """The best knowledge of the motor's speed: the nominal one, or what comes nearest to it and can be."""
        return min(max(self._nominal, self._speed_low), self._speed_high)

    @property
    def speed_is_measured(self) -> bool:
        """Whether this motor has been seen to move for long enough to know its speed by itself."""
        return self._speed_high < self._speed_low * (1 + _SPEED_PRECISION)

    def status(self, asked_s: float, heard_s: float, target: int, current: int) -> None:
        """A status that was asked for at `asked_s`, and had come at `heard_s`: it was taken at some time between."""
        if target == current:
            self._target = self._first = None
            self._recent.clear()
            return
        if target != self._target:
            # A new target may have turned the motor round, so what was seen before says nothing about this leg.
            self._target = target
            self._first = None
            self._recent.clear()
        self._recent.append((asked_s, current))
        del self._recent[:-_HISTORY]
        self._measure(asked_s, heard_s, current)

    def _measure(self, asked_s: float, heard_s: float, current: int) -> None:
        if self._first is None:
            self._first = (asked_s, heard_s, current)
            return
        first_asked_s, first_heard_s, begin = self._first
        steps = abs(current - begin)
        longest_s, shortest_s = heard_s - first_asked_s, asked_s - first_heard_s - _START_S
        if steps < 2 or shortest_s <= 0:
            return
        low, high = (steps - 1) / longest_s, (steps + 1) / shortest_s
        narrower = high / low < self._speed_high / max(self._speed_low, 1e-9)
        contradicted = high < self._speed_low or low > self._speed_high
        if narrower or contradicted:
            self._speed_low, self._speed_high = low, high

    def arrival_s(self) -> float | None:
        """When the motor must have arrived by all that is known; None while it is at rest."""
        if self._target is None:
            return None
        speed = self.speed_steps_per_s
        return min(taken_s + abs(self._target - current) / speed for taken_s, current in self._recent)

    def travel_time_s(self, steps: int) -> float:
        """How long the motor needs for `steps`."""
        return abs(steps) / self.speed_steps_per_s

    def could_travel(self, steps: int, time_s: float) -> bool:
        """Whether the motor could have gone so far in `time_s`; generous, since it answers for a claim of fraud."""
        speed = max(self._nominal, self._speed_high if self.speed_is_measured else 0.0)
        return (abs(steps) - 2) / speed <= time_s * 1.1 + 0.05
