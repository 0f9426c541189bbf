# SPDX-License-Identifier: GPL-3.0-or-later
"""What the driver runs with and what it remembers: its files, read and written.

`configuration.py` is the observatory's JSON file, which focusd and focus read too; everything else is the driver's.
"""
