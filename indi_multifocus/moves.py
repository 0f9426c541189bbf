# SPDX-License-Identifier: GPL-3.0-or-later
"""The one decision about a move: may it be made, and by which waypoints.

Used by `focuser.py` for every move, absolute, relative or to a preset, before anything is sent; nobody decides again
after it. Pure functions: no state, no I/O.
"""

from __future__ import annotations

from typing import NamedTuple

from .indi import Refused
from .settings.remembered_position import Remembered


class Plan(NamedTuple):
    """A move that may be made."""

    position: int
    """Where it ends, as users see it."""
    steps: int
    """The same in controller steps."""
    via: int | None = None
    """Where it turns round before, in controller steps, to take up the backlash."""

    @property
    def waypoints(self) -> tuple[int, ...]:
        """Where it turns round and where it ends, in controller steps."""
        return (self.steps,) if self.via is None else (self.via, self.steps)


class Circumstances(NamedTuple):
    """What a decision depends on. `travel` is in positions, everything else in controller steps."""

    scale: Remembered
    """How positions follow from controller steps."""
    travel: tuple[int, int]
    max_steps: int
    """The farthest the controller counts, either way."""
    current: int
    moving: bool
    backlash: int = 0
    """By how much an outward move overshoots, so that every move ends inward; 0 where that is not compensated."""


def plan_move(position: int, now: Circumstances) -> Plan:
    """Decide on a move to `position`. Raises Refused, which says what is accepted."""
    low, high = now.travel
    if not low <= position <= high and not _leads_back(position, now):
        accepted = f"a position from {low} to {high}"
        raise Refused(f"Requested position {position:.15g} is out of bounds: {accepted} is expected")
    steps = now.scale.to_steps(position)
    limit = now.max_steps
    if not -limit <= steps <= limit:
        ends = sorted((now.scale.position(-limit), now.scale.position(limit)))
        raise Refused(f"{position:.15g} is beyond what the controller can count: {ends[0]} to {ends[1]} is expected")
    return Plan(position, steps, turning_point(position, now))


def _leads_back(position: int, now: Circumstances) -> bool:
    """Whether a position outside the travel is nearer to it than the motor is, which stands outside."""
    if now.moving:
        return False  # where a moving motor is by now is not known, and so not what is nearer
    low, high = now.travel
    here = now.scale.position(now.current)
    return here <= position < low or high < position <= here


def turning_point(position: int, now: Circumstances) -> int | None:
    """Where a move to `position` turns round, in controller steps; None where it need not.

    Backlash does no harm where every move ends in the same direction. That is inward, because autofocus samples inward:
    those moves go straight, and outward ones overshoot, but stay within the travel and within what the controller
    counts. (After an abort on the way outward, an inward move shorter than the backlash does not take it up.)
    """
    if not now.backlash or position <= now.scale.position(now.current):
        return None
    via = now.scale.to_steps(min(position + now.backlash, now.travel[1]))
    via = max(-now.max_steps, min(via, now.max_steps))
    return via if now.scale.position(via) > position else None
