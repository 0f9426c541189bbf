# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m indi_multifocus.simulator` serves a simulated controller on a pseudo-terminal until Ctrl-C.

The simulator itself is in `simulation/simulator.py`.
"""

from __future__ import annotations

import sys

from .simulation.simulator import Simulator, main

__all__ = ["Simulator", "main"]

if __name__ == "__main__":
    sys.exit(main())
