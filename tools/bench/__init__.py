# SPDX-License-Identifier: GPL-3.0-or-later
"""`make bench`: how fast the driver is, measured beside libindi's indi_moonlite_focus in the same run.

`python -m tools.bench` is the program (`__main__.py`). It runs on the development machine alone and is not installed.
"""
