# SPDX-License-Identifier: GPL-3.0-or-later
"""`focus log --plot`: position against time, and against temperature with the fitted slope (steps/°C and its error).

The slope is what an observer enters for temperature compensation. It is fitted to the places where a channel has rested
for a while, since the rest of a night is mostly the search for these.
"""

from __future__ import annotations

import datetime
import math
import os
import sys
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from .history import Change
from .session import CommandError

REST_S = 120.0
"""A position that was kept for so long was meant."""


class Fit(NamedTuple):
    """A straight line through points, by least squares."""

    slope: float
    error: float
    """Standard error of the slope; infinite for two points."""
    offset: float
    """At 0 °C."""


def fit(points: Sequence[tuple[float, float]]) -> Fit | None:
    """Through (x, y); None where no line is determined."""
    n = len(points)
    if n < 2:
        return None
    mean_x, mean_y = (sum(column) / n for column in zip(*points))
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    if spread <= 0:
        return None
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
    offset = mean_y - slope * mean_x
    rest = sum((y - offset - slope * x) ** 2 for x, y in points)
    return Fit(slope, math.sqrt(rest / (n - 2) / spread) if n > 2 else math.inf, offset)


def rests(changes: Iterable[Change], channel: int) -> list[tuple[float, int]]:
    """Temperature (°C) and position where the channel rested for REST_S. The last one has lasted until now."""
    found: list[tuple[float, int]] = []
    resting: Change | None = None
    for change in changes:
        measured = change.event == "temperature" and resting is not None and change.probe == resting.probe
        if measured and resting is not None and resting.celsius is None:  # it had not been measured before
            resting = resting._replace(celsius=change.celsius)
        if change.channel != channel or change.event not in ("idle", "moving", "offline"):
            continue
        _note(found, resting, change.time)
        resting = change if change.event == "idle" else None
    _note(found, resting, math.inf)
    return found


def _note(found: list[tuple[float, int]], resting: Change | None, until_s: float) -> None:
    if resting is None or resting.celsius is None or resting.position is None or until_s - resting.time < REST_S:
        return
    found.append((resting.celsius, resting.position))


def slope_text(channel: int, points: Sequence[tuple[float, float]]) -> str:
    """What was found, for people."""
    line = fit(points)
    if line is None:
        return f"channel {channel}: no slope ({len(points)} positions of rest with a temperature)"
    error = f" ± {line.error:.1f}" if math.isfinite(line.error) else ""
    return f"channel {channel}: {line.slope:+.1f}{error} steps/°C, from {len(points)} positions of rest"


def draw(changes: Sequence[Change], path: str) -> list[str]:
    """Write the picture, and return the lines to print about it. Raises CommandError."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import dates, pyplot
    except ImportError:
        needed = f"{os.path.basename(sys.executable)} -m pip install matplotlib"
        raise CommandError(f"log --plot needs the Python package matplotlib: {needed}") from None
    channels = sorted({change.channel for change in changes if change.channel and change.position is not None})
    if not channels:
        raise CommandError("log --plot: no position was recorded in that time")
    figure, (over_time, over_temperature) = pyplot.subplots(2, 1, figsize=(9, 9), constrained_layout=True)
    lines = []
    for channel in channels:
        own = [change for change in changes if change.channel == channel and change.position is not None]
        when = [datetime.datetime.fromtimestamp(change.time, datetime.timezone.utc) for change in own]
        over_time.step(when, [change.position for change in own], where="post", label=f"channel {channel}")
        points = [(celsius, float(position)) for celsius, position in rests(changes, channel)]
        lines.append(slope_text(channel, points))
        if not points:
            continue
        dots = over_temperature.plot(*zip(*points), "o")
        line = fit(points)
        if line is not None:
            ends = [min(points)[0], max(points)[0]]
            values = [line.offset + line.slope * celsius for celsius in ends]
            over_temperature.plot(ends, values, color=dots[0].get_color(), label=lines[-1])
    over_time.set(xlabel="time (UTC)", ylabel="position (steps)")
    over_temperature.set(xlabel="temperature (°C)", ylabel="position of rest (steps)")
    for axes in (over_time, over_temperature):
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend()
    over_time.xaxis.set_major_formatter(dates.ConciseDateFormatter(over_time.xaxis.get_major_locator()))
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:  # ValueError: a kind of picture that it does not know
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise CommandError(f"log --plot: {path}: {reason}") from None
    finally:
        pyplot.close(figure)
    return [*lines, path]
