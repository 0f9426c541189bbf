# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults by the thousand: the driver, a controller, and a cable on which everything goes wrong.

`make faults` runs `python -m tools.faults`, which writes the table of docs/reliability.md.
`tests/unit/test_schedules.py` runs a few of the same schedules with every `make test`.
"""
