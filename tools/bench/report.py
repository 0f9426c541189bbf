# SPDX-License-Identifier: GPL-3.0-or-later
"""What was measured, as a table, as JSON and as a plot.

Used at the end of a run. A `Row` is one measurement: samples of our driver, of the one that it is compared with (where
there is one), and what is aimed at.
"""

from __future__ import annotations

import math
import platform
import statistics
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


def percentile(samples: Sequence[float], percent: float) -> float:
    """By nearest rank: the smallest sample that `percent` of all do not exceed."""
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


STOPWATCH = 0.001
"""What the measurements themselves may be off, as a part of the whole: 10 updates a second are counted as 9.998."""


@dataclass(frozen=True)
class Target:
    """`statistic` ("median" or "p99") is to be at most `limit`; with `ratio`, that times the other driver's."""

    statistic: str
    limit: float
    ratio: bool = False
    at_least: bool = False

    def __str__(self) -> str:
        return f"{self.statistic} {'≥' if self.at_least else '≤'} {self.limit:g}{'×' if self.ratio else ''}"


@dataclass(frozen=True)
class Row:
    """One measurement."""

    key: str
    title: str
    unit: str
    ours: tuple[float, ...]
    theirs: tuple[float, ...] = ()
    targets: tuple[Target, ...] = ()
    plot: bool = False
    """Whether the plot shows its distribution."""

    def statistic(self, name: str) -> tuple[float, float | None]:
        """Ours and theirs."""
        return _statistic(self.ours, name), _statistic(self.theirs, name) if self.theirs else None

    def met(self, target: Target) -> bool:
        """Whether the target is reached."""
        ours, theirs = self.statistic(target.statistic)
        limit = target.limit
        if target.ratio:
            assert theirs is not None
            limit *= theirs
        slack = abs(limit) * STOPWATCH
        return ours >= limit - slack if target.at_least else ours <= limit + slack

    def ratio(self, name: str) -> float | None:
        """Ours in units of theirs."""
        ours, theirs = self.statistic(name)
        return ours / theirs if theirs else None


def _statistic(samples: Sequence[float], name: str) -> float:
    return statistics.median(samples) if name == "median" else percentile(samples, 99)


HEADER = ("measurement", "unit", "n", "ours", "p99", "theirs", "p99", "ratio", "p99", "target", "")


def table(rows: Sequence[Row]) -> str:
    """Markdown, aligned so that it can be read in a terminal too. Medians, unless it says p99."""
    cells = [HEADER, tuple("-" * 3 for _ in HEADER), *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(HEADER))]
    cells[1] = tuple("-" * width for width in widths)
    return "\n".join("| " + " | ".join(text.ljust(width) for text, width in zip(line, widths)) + " |" for line in cells)


def _cells(row: Row) -> tuple[str, ...]:
    ours, theirs = row.statistic("median")
    ours_99, theirs_99 = row.statistic("p99")
    several = len(row.ours) > 1
    return (
        row.title,
        row.unit,
        str(len(row.ours)),
        _number(ours),
        _number(ours_99) if several else "",
        _number(theirs),
        _number(theirs_99) if several else "",
        _number(row.ratio("median")),
        _number(row.ratio("p99")) if several else "",
        ", ".join(str(target) for target in row.targets),
        ", ".join("met" if row.met(target) else "missed" for target in row.targets),
    )


def _number(value: float | None) -> str:
    if value is None:
        return ""
    digits = 0 if value == 0 else max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{min(digits, 4)}f}"


BEGIN, END = "<!-- what make bench measured: begin -->\n", "<!-- end -->\n"


def put_into(page: Path, text: str) -> None:
    """Put it between the marks."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    page.write_text(f"{before}{BEGIN}{text}{END}{rest.partition(END)[2]}", encoding="utf-8")


def machine(driver: str) -> dict[str, str]:
    """What it ran on; `driver`: the path of ours."""
    model = ""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
    usage = subprocess.run(["indiserver"], capture_output=True, text=True, check=False).stderr
    indi = next((line.partition(":")[2].strip() for line in usage.splitlines() if line.startswith("INDI Library")), "")
    cores = str(sum(line.startswith("processor") for line in Path("/proc/cpuinfo").read_text().splitlines()))
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "processor": model,
        "cores": cores,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "the driver's": _python_of(driver),
        "libindi": indi,
        "load": Path("/proc/loadavg").read_text().split()[0],
    }


def _python_of(script: str) -> str:
    """The version of the Python that the script's first line names."""
    with Path(script).open(encoding="utf-8") as lines:
        interpreter = lines.readline().removeprefix("#!").split()
    return subprocess.run([*interpreter, "-V"], capture_output=True, text=True, check=True).stdout.split()[-1]


def as_json(rows: Sequence[Row], about: dict[str, str]) -> dict[str, Any]:
    """Everything, samples included, for comparison over time."""
    return {
        "machine": about,
        "rows": [
            {
                "key": row.key,
                "title": row.title,
                "unit": row.unit,
                "ours": [float(f"{sample:.6g}") for sample in row.ours],
                "theirs": [float(f"{sample:.6g}") for sample in row.theirs],
                "targets": [{"text": str(target), "met": row.met(target)} for target in row.targets],
            }
            for row in rows
        ],
    }


def plot(rows: Sequence[Row], path: str) -> None:
    """The distributions, ours above theirs: every sample, the median, and p99."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = [row for row in rows if row.plot]
    figure, axes = pyplot.subplots(figsize=(10, 0.75 * len(shown) + 1.6))
    labels, ticks = [], []
    for index, row in enumerate(reversed(shown)):
        ticks.append(index)
        labels.append(f"{row.title} ({row.unit})")
        for samples, offset, colour in ((row.ours, 0.2, "tab:blue"), (row.theirs, -0.2, "tab:orange")):
            values = [sample for sample in samples if sample > 0]
            if not values:
                continue
            median, last = statistics.median(values), percentile(values, 99)
            axes.plot(values, [index + offset] * len(values), "|", color=colour, alpha=0.35, markersize=9)
            axes.plot([median], [index + offset], "o", color=colour)
            axes.plot([median, last], [index + offset] * 2, "-", color=colour, linewidth=1)
            axes.annotate(
                f"{_number(median)} / {_number(last)}",
                (last, index + offset),
                textcoords="offset points",
                xytext=(8, -3),
                fontsize=8,
                color=colour,
            )
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    axes.set_xlim(low, high * 4)
    axes.set_yticks(ticks, labels)
    axes.grid(axis="x", which="both", alpha=0.2)
    axes.set_xlabel("median / p99, logarithmic")
    axes.plot([], [], "o", color="tab:blue", label="indi_multifocus")
    axes.plot([], [], "o", color="tab:orange", label="indi_moonlite_focus")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)
    figure.savefig(path, dpi=110, bbox_inches="tight")
