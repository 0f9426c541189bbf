# SPDX-License-Identifier: GPL-3.0-or-later
"""A controller without hardware: `firmware.py`, byte for byte, behind a pseudo-terminal (`simulator.py`)."""
