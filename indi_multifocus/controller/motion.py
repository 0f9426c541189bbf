# SPDX-License-Identifier: GPL-3.0-or-later
"""How a channel moves, computed from its statuses: its speed, its arrival, and whether a reported position is possible.

Used by `channel.py`, one `Motion` a channel; and by `focuser.py` for a move whose end an earlier run of the driver did
not see. No clock and no I/O in here: times are arguments, in seconds of one
monotonic clock; positions are controller steps.

The theory: a motor runs at one constant speed, and a status has whole steps, rounded down. So a status which was
taken at time t and shows that d steps are left means that the motor stands, outward, between t + (d-1)/v and t + d/v;
inward, between t + d/v and t + (d+1)/v. Each further status narrows that down, and the one extra poll that the client
waits for is sent just when the motor must stand. Outward that is the earliest of the upper bounds. Inward it is the
latest of the lower bounds: the moment itself where the move was seen to begin, since it began on a whole step, and
else some fraction of a step too soon; the upper bounds would be a step too late for every short move.

Inward a status shows the target already when the last step begins, 10 ms (generation 1: 16) before the motor stands.
So a poll that falls into these does not end the move. (Unless it is the first of the move, which may be so where that
is one step: when this began is not known.)

A status is taken when its query has arrived, at once as a rule; but what is concluded on the speed holds also where it
was not, so that on a busy machine a motor does not look slow, and its next step impossible. The speed is the one of the
generation's source code, unless what is measured contradicts it (a simulator that runs faster, a resonator that is
off).
"""

from __future__ import annotations

NOMINAL_STEPS_PER_S = {1: 3906.25 / 64, 2: 1562.5 / 16}
"""Speed by generation: microsteps/s over microsteps a step (both firmwares, timer set-up in main.c)."""

_SPEED_MARGIN, _TIME_MARGIN_S = 1.1, 0.05
"""A motor may be a tenth quicker than its speed is known, and a status older by this, before what it claims to have
gone is impossible. Both clocks are off by less than 1 %; the rest is for a machine that is busy, and for a line of 9600
baud with a status of 50 bytes on it. Smaller values would make positions unverified on such a machine; larger ones
would believe a false arrival of so many more steps."""
_HISTORY = 8
"""Statuses of which the arrival is computed. Fewer would make it less exact; more would change nothing, since the first
of them are the least exact."""
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
        """Where it goes; None while it stands."""
        self._inward = False
        self._last_step_s: float | None = None
        """When the last step is done, where its beginning was seen."""
        self._first: tuple[float, float, int] | None = None
        """The first status of this leg: when it was queried and received, and its position."""
        self._recent: list[tuple[float, int]] = []

    @property
    def speed_steps_per_s(self) -> float:
        """The best knowledge of the motor's speed: the nominal one, or what comes nearest to it and can be."""
        return min(max(self._nominal, self._speed_low), self._speed_high)

    @property
    def speed_is_measured(self) -> bool:
        """Whether this motor has been seen to move for long enough to know its speed by itself."""
        return self._speed_high < self._speed_low * (1 + _SPEED_PRECISION)

    def status(
        self, asked_s: float, received_s: float, target: int, current: int, *, halted: bool = False, late_s: float = 0.0
    ) -> None:
        """A status that was queried at `asked_s` and received at `received_s`: it was taken at some time between.

        `halted`: where it is at rest it did not arrive, but was stopped, or was without power. `late_s`: so much later
        than a status whose query was sent alone it was probably taken.
        """
        if target != self._target:
            # A new target may have turned the motor round, so earlier statuses are not about this leg.
            self._target = target
            self._inward = current > target
            self._last_step_s = None
            self._first = None
            self._recent.clear()
        if target == current:
            if self._inward:
                self._last_step_s = min(self._end_s(target), asked_s + 1 / self.speed_steps_per_s)
            if halted or self._last_step_s is None or asked_s >= self._last_step_s:
                self._target = None
            return
        # A bound from below holds as well without what is only probable.
        self._recent.append((asked_s if self._inward else asked_s + late_s, current))
        del self._recent[:-_HISTORY]
        self._measure(asked_s, received_s, current)

    def _measure(self, asked_s: float, received_s: float, current: int) -> None:
        if self._first is None:
            self._first = (asked_s, received_s, current)
            return
        first_asked_s, first_received_s, begin = self._first
        steps = abs(current - begin)
        longest_s, shortest_s = received_s - first_asked_s, asked_s - first_received_s - _START_S
        if steps < 2 or shortest_s <= 0:
            return
        low, high = (steps - 1) / longest_s, (steps + 1) / shortest_s
        narrower = high / low < self._speed_high / max(self._speed_low, 1e-9)
        contradicted = high < self._speed_low or low > self._speed_high
        if narrower or contradicted:
            self._speed_low, self._speed_high = low, high

    @property
    def moving(self) -> bool:
        """Whether the motor turns, by all that is known: inward a little longer than the statuses show."""
        return self._target is not None

    def arrival_s(self) -> float | None:
        """When the motor stands by all that is known; None where it does."""
        return None if self._target is None else self._end_s(self._target)

    def _end_s(self, target: int) -> float:
        if self._last_step_s is not None:
            return self._last_step_s
        speed = self.speed_steps_per_s
        ends = [taken_s + abs(target - current) / speed for taken_s, current in self._recent]
        return max(ends) if self._inward else min(ends)

    def travel_time_s(self, steps: int) -> float:
        """How long the motor needs for `steps`."""
        return abs(steps) / self.speed_steps_per_s

    def could_travel(self, steps: int, time_s: float) -> bool:
        """Whether the motor could have gone so far in `time_s`; generous, since what fails this is unverified."""
        speed = max(self._nominal, self._speed_high if self.speed_is_measured else 0.0)
        return (abs(steps) - 2) / speed <= time_s * _SPEED_MARGIN + _TIME_MARGIN_S
