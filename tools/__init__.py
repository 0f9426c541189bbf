# SPDX-License-Identifier: GPL-3.0-or-later
"""What the Makefile calls: run, measure, test to destruction and describe the driver. Nothing of it is installed."""

import sys
from pathlib import Path

# Tools and tests share one INDI stream and one simulated Moonlite.
sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "support"))
