# SPDX-License-Identifier: GPL-3.0-or-later
"""Regular expressions that are compiled when they are first used.

Used by every module of the driver that has one, protocol.py and indi/ included: to them it is a piece of the standard
library. To type checkers a pattern is what `re.compile` returns. Flags stand in the pattern itself: "(?x)".

Why: importing re, and compiling what a client or controller may send one day, was a tenth of the time from the
driver's start to its last definition.
"""

from __future__ import annotations

from .hints import TYPE_CHECKING

__all__ = ["pattern"]

if TYPE_CHECKING:
    from re import compile as pattern
else:

    class pattern:
        """One regular expression, text or bytes."""

        def __init__(self, expression):
            self._expression = expression

        def __getattr__(self, name):
            """Called for what is not there yet, that is once for each method; then they are the compiled ones."""
            import re

            value = getattr(re.compile(self._expression), name)
            setattr(self, name, value)
            return value
