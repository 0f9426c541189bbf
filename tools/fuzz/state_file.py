# SPDX-License-Identifier: GPL-3.0-or-later
"""Anything in a channel's state file: it is taken as it was saved, or the position is unverified; and never worse."""

from __future__ import annotations

import json

from indi_multifocus.settings.driver_settings import Settings
from indi_multifocus.settings.remembered_position import Memory

from .inside import Inside, workshop

DEVICE = "MultiFocus 1"

SEEDS = [
    b'{"offset": 0, "reversed": false, "unverified": false}\n',
    b'{"offset": -250, "reversed": true, "unverified": true}\n',
    b'{"offset": 5, "reversed": false, "unverified": false, "departure": {"start": 0, "target": 900, '
    b'"time_s": 1700000000.123, "boot": "00000000-0000-0000-0000-000000000000"}}\n',
    b"",
]

WORDS = [
    *[f'"{key}": ' for key in ("offset", "reversed", "unverified", "departure", "start", "target", "time_s", "boot")],
    *["true", "false", "null", "1e999", "-0", "NaN", "1000000000", "99999999999999999999", "[[[[", "\\u0000", "{", "}"],
]


def run(data: bytes) -> None:
    """Remember `data`, save it, and connect a channel that has such a past."""
    with workshop() as place:
        place.write(".indi/MultiFocus 1_state.json", data)
        memory = Memory(DEVICE)
        if memory.problem:
            assert memory.problem.isprintable()
            assert memory.unverified
            assert (memory.offset, memory.reversed, memory.departure) == (0, False, None)
        else:
            found = json.loads(data)
            assert (memory.offset, memory.reversed) == (found["offset"], found["reversed"])
        with Inside(Settings()) as inside:
            inside.connect_all()
            inside.settle()
        memory.save()
        again = Memory(DEVICE)
        assert not again.problem
        assert (again.offset, again.reversed, again.unverified) == (memory.offset, memory.reversed, memory.unverified)
        assert (again.departure is None) == (memory.departure is None)
