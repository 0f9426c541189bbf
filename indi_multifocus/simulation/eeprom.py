# SPDX-License-Identifier: GPL-3.0-or-later
"""The EEPROM of a simulated controller: a file with each target, the position after power-on."""

from __future__ import annotations

import json
import os

from indi_multifocus.settings.regular_file import read_regular_file

# Bytes: nine channels of 10 digits have 120.
_MAX_SIZE = 1000


def read_eeprom(path: str, channels: int) -> list[int]:
    """The targets in microsteps that a file holds; zeros for a file or a channel that is not there."""
    try:
        cells = json.loads(read_regular_file(path, _MAX_SIZE).decode("ascii"))
    except FileNotFoundError:
        cells = []
    except ValueError:
        cells = None
    if not isinstance(cells, list) or any(type(cell) is not int for cell in cells):
        raise ValueError(f"{path} is no EEPROM: a JSON list of microsteps is needed, like [8000, -160]")
    return (cells + [0] * channels)[:channels]


def write_eeprom(path: str, cells: list[int]) -> None:
    """Replace the file in one step: whenever the process is killed, the old targets are there, or the new."""
    new = f"{path}.new"
    with open(new, "w", encoding="ascii") as file:
        json.dump(cells, file)
    os.replace(new, path)
