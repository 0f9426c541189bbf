# SPDX-License-Identifier: GPL-3.0-or-later
"""Text from the environment, and paths for the operating system: UTF-8, as INDI and our files have it.

Python takes the locale's encoding for both, which in LC_ALL=C can be ASCII: then an É in INDIDEV arrives as two lone
surrogates (`surrogateescape`), and a path with an É cannot be opened. So what comes from the environment or from the
arguments goes through `from_system`, and a path that may hold text from elsewhere goes through `to_system`. Where the
locale is UTF-8 both change nothing.
"""

from __future__ import annotations

import os


def from_system(text: str) -> str:
    """A variable, an argument or a file's name as text; bytes that are not UTF-8 become lone surrogates."""
    try:
        return os.fsencode(text).decode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # it is text already, of which the locale does not have all characters
        return text


def to_system(path: str) -> str:
    """The path as Python's functions must have it to find the file with this name in UTF-8."""
    return os.fsdecode(path.encode("utf-8", "surrogateescape"))


def variable(name: str) -> str:
    """A variable of the environment; empty where it is not set."""
    return from_system(os.environ.get(name, ""))
