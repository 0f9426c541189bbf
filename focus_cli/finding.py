# SPDX-License-Identifier: GPL-3.0-or-later
"""What a check of `focus doctor` found."""

from __future__ import annotations

from typing import NamedTuple

OK, NOTE, PROBLEM = "ok", "note", "problem"


class Finding(NamedTuple):
    """One line of its report."""

    check: str
    state: str
    """OK, NOTE (worth knowing, nothing wrong) or PROBLEM."""
    text: str
    remedy: str = ""
    """What to do."""
