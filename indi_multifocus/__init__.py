# SPDX-License-Identifier: GPL-3.0-or-later
"""An INDI driver for the multi-channel focus controller, and what its clients share with it.

This file holds the version, the one place it is written: packaging, DRIVER_INFO, `--version`
and the catalogue entry take it from here. Importing it must cost nothing: no import of anything.
"""

__version__ = "0.1.0"
