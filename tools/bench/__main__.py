# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m tools.bench`: measure our driver beside indi_moonlite_focus, and print the table.

`--json FILE`, `--plot FILE` and `--page FILE` (between the marks of docs/performance.md) keep it; `--only NAME …` runs
a part; `--quick` shows in a minute whether all of it works. DRIVER in the environment names another executable of our
driver than the installed one. Exit status: 0 when it ran (targets missed are in the table), 1 when it could not.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from . import measurements, report
from .measurements import QUICK, Effort
from .stand import OURS, check

PARTS: dict[str, Callable[[Effort], list[report.Row]]] = {
    "latencies": measurements.latencies,
    "paced": measurements.paced,
    "load": measurements.load,
    "starts": measurements.starts,
    "idle": measurements.idle,
    "growth": measurements.growth,
    "observatory": measurements.observatory,
}


def main() -> int:
    """Run; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench", description="Our driver beside indi_moonlite_focus.")
    parser.add_argument("--json", metavar="FILE", help="write the samples of all measurements")
    parser.add_argument("--plot", metavar="FILE", help="draw the distributions (PNG)")
    parser.add_argument("--page", metavar="FILE", help="put the table between the marks of this page")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--quick", action="store_true", help="few repetitions: whether it works, not how fast it is")
    options = parser.parse_args()
    missing = check()
    if options.page and report.BEGIN not in Path(options.page).read_text(encoding="utf-8"):
        missing = f"{options.page} has no line {report.BEGIN!r}"
    if missing:
        print(f"bench: {missing}", file=sys.stderr)
        return 1
    about = report.machine(OURS.executable)
    rows: list[report.Row] = []
    failed: list[str] = []
    for name in options.only:
        print(f"bench: {name} …", end="", file=sys.stderr, flush=True)
        began_s = time.monotonic()
        try:
            rows += PARTS[name](QUICK if options.quick else Effort())
        except Exception:  # what the other parts have found is not lost for it
            traceback.print_exc()
            failed.append(name)
        print(f" {time.monotonic() - began_s:.0f} s", file=sys.stderr)
    text = f"{', '.join(f'{key}: {value}' for key, value in about.items())}\n\n{report.table(rows)}\n"
    print(text)
    if failed:
        print(f"bench: no figures of: {', '.join(failed)}; nothing is written", file=sys.stderr)
        return 1
    if options.page:
        report.put_into(Path(options.page), text)
    if options.json:
        Path(options.json).write_text(json.dumps(report.as_json(rows, about), indent=1) + "\n", encoding="utf-8")
    if options.plot:
        report.plot(rows, options.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
