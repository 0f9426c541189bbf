# SPDX-License-Identifier: GPL-3.0-or-later
"""The picture of a rehearsal's V-curves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from .autofocus import Run
from .observatory import BEST


def v_curve(path: Path, runs: Mapping[str, Run]) -> None:
    """Half-flux radius over position, for each run, with where it ended."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7.5, 4.2), layout="constrained")
    for (name, run), marker, colour in zip(runs.items(), "os^v", ("#1f77b4", "#d95f02", "#1b9e77", "#7570b3")):
        *measured, last = run.curve
        measured.sort()
        label = f"{name}: {len(run.curve)} frames, ended {run.position - BEST:+d} steps from the best focus"
        axes.plot(*zip(*measured), marker, color=colour, linestyle=":", linewidth=0.8, markersize=5, label=label)
        axes.plot(*last, marker, color=colour, markersize=11, markerfacecolor="none", markeredgewidth=1.5)
    axes.axvline(BEST, color="0.6", linewidth=0.8, zorder=0)
    axes.annotate("best focus", (BEST, 1), (4, -4), xycoords=("data", "axes fraction"), textcoords="offset points",
                  va="top", color="0.4", fontsize=8)  # fmt: skip
    axes.set_xlabel("position (steps)")
    axes.set_ylabel("half-flux radius (px)")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.14))
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    print(f"  picture of the V-curve: {path.name}", flush=True)
