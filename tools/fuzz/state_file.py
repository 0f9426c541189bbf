# SPDX-License-Identifier: GPL-3.0-or-later
"""Anything in a channel's state file: it is taken as it was saved, or the position is unverified; and never worse."""

from __future__ import annotations

import json

from indi_multifocus.settings.driver_settings import Settings
from indi_multifocus.settings.remembered_position import (
    ControllerMemory,
    PositionMemory,
    Remembered,
    UnfinishedMove,
    encode,
)

from ..manual_writer import ManualWriter
from .inside import Inside, workshop

MOVE = UnfinishedMove(0, 900, 1700000.125, "00000000-0000-0000-0000-000000000000")


def saved(**values: object) -> bytes:
    """A state file in which these facts are not the usual ones."""
    return json.dumps({**Remembered()._asdict(), **values}).encode() + b"\n"


SEEDS = [
    saved(),
    saved(offset=-250, reversed=True, unverified=True, in_use=True, steps=7),
    saved(offset=5, move=MOVE._asdict(), zeroing=True, stop_pending=True),
    b'{"offset": 0, "reversed": false}',
    b"",
]

WORDS = [
    *[f'"{key}": ' for key in [*Remembered._fields, *MOVE._fields]],
    *["true", "false", "null", "1e999", "-0", "NaN", "1000000000", "99999999999999999999", "[[[[", "\\u0000", "{", "}"],
]


def run(data: bytes) -> None:
    """Remember `data`, and connect a channel that has such a past: what it leaves can be read again."""
    with workshop() as place:
        place.write(_remember().path, data)
        memory = _remember()
        found = memory.values
        if memory.problem:
            assert memory.problem.isprintable()
            assert found == Remembered(unverified=True)
        else:
            saved = json.loads(data)
            assert json.loads(encode(found)) == {name: saved[name] for name in found._fields}
        with Inside(Settings()) as inside:
            inside.connect_all()
            inside.settle()
        after = _remember()
        assert not after.problem
        if not found.zeroing:
            assert (after.values.offset, after.values.reversed) == (found.offset, found.reversed)
            assert after.values.unverified >= found.unverified
        assert (after.values.zeroing, after.values.stop_pending, after.values.in_use) == (False, False, True)


def _remember() -> PositionMemory:
    """What a driver would remember of channel 1 now."""
    controller = ControllerMemory(Settings().port, 1, ManualWriter(lambda report: None))
    controller.close()
    return controller.channels[0]
