# SPDX-License-Identifier: GPL-3.0-or-later
"""The device at the far end of the line: our simulated controller, or a Moonlite.

Runs as a process of its own: `python -m tools.bench.device multifocus CHANNELS` (or `moonlite`)
prints the terminal or TCP port to open. A line on standard input is answered with the monotonic time at which the first
channel's motor last came to rest (null while it moves). It ends with its standard input.
"""

from __future__ import annotations

import json
import sys
from typing import Callable


def _serve(port: str | int, standstill: Callable[[], float | None]) -> None:
    print(json.dumps(port), flush=True)
    for _ in sys.stdin:
        print(json.dumps(standstill()), flush=True)


def main() -> None:
    """Serve until standard input ends."""
    if sys.argv[1] == "moonlite":
        from moonlite import Moonlite

        with Moonlite(position=20_000) as focuser:
            _serve(focuser.port, lambda: focuser.standstill)
    else:
        from indi_multifocus.simulator import Simulator

        with Simulator(channels=int(sys.argv[2])) as controller:
            _serve(controller.port, lambda: controller.standstill(1))


if __name__ == "__main__":
    main()
