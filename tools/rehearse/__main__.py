# SPDX-License-Identifier: GPL-3.0-or-later
"""Run scenarios: `python -m tools.rehearse [--pictures FOLDER] [SCENARIO …]`. Exit status 1 where one fails."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path

import dbus

from .desktop import Failed
from .scenarios import LOGS, SCENARIOS


def main() -> int:
    """Returns the exit status."""
    known = ", ".join(SCENARIOS)
    parser = argparse.ArgumentParser(prog="python -m tools.rehearse", description="Focus a simulated telescope.")
    add = parser.add_argument
    add("scenarios", nargs="*", default=["converge"], metavar="SCENARIO", help=f"all, or some of {known}")
    add("--pictures", type=Path, default=LOGS, metavar="FOLDER", help=f"for pictures and tables (default {LOGS})")
    options = parser.parse_args()
    wanted = list(SCENARIOS) if options.scenarios == ["all"] else options.scenarios
    unknown = [name for name in wanted if name not in SCENARIOS]
    if unknown:
        parser.error(f"no scenario {', '.join(unknown)}: there are {known}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # and everything that was started is ended
    options.pictures.mkdir(parents=True, exist_ok=True)
    failed = []
    for name in wanted:
        begin_s = time.monotonic()
        print(f"{name}: {(SCENARIOS[name].__doc__ or '').splitlines()[0]}", flush=True)
        try:
            SCENARIOS[name](options.pictures)
        except (Failed, dbus.exceptions.DBusException) as problem:
            print(f"  FAILED: {problem}", flush=True)
            failed.append(name)
        print(f"  {time.monotonic() - begin_s:.0f} s", flush=True)
    print(f"failed: {', '.join(failed)}" if failed else "the rehearsal went well", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
