# SPDX-License-Identifier: GPL-3.0-or-later
"""Many events at once → those that still matter.

Used by a driver, on what one read of its standard input gave. The server holds a client's messages back only while
the driver does not read, so whoever sends faster than the driver answers makes all others wait, for seconds, and one
of them may want to stop a motor. So of a run of messages to the same property only the last is done, and its `set…`
answers them all; and so is the same getProperties, of which a server full of clients sends one for each.
"""

from __future__ import annotations

from collections.abc import Sequence

from .reader import Event, GetProperties, NewVector

MANY = 16
"""Fewer events than this at once are no flood, and each is done and answered by itself."""


def without_superseded(events: Sequence[Event]) -> list[Event]:
    """The events, in order, without those that a later one makes needless; all if they are few."""
    if len(events) < MANY:
        return list(events)
    following: dict[str, NewVector] = {}
    requested: set[GetProperties] = set()
    kept: list[Event] = []
    for event in reversed(events):
        if isinstance(event, NewVector):
            later = following.get(event.device)
            if later is not None and _supersedes(later, event):
                continue
            following[event.device] = event
        elif isinstance(event, GetProperties):
            if event in requested:
                continue
            requested.add(event)
        kept.append(event)
    kept.reverse()
    return kept


def _supersedes(later: NewVector, event: NewVector) -> bool:
    """Whether `later` makes `event` needless: it is the same, or sets the same values anew.

    Switches are also pressed to make something happen, so of these only the same one again is nothing new.
    """
    if later == event:
        return True
    if later.name != event.name or later.kind != event.kind or event.kind not in ("Number", "Text"):
        return False
    return [name for name, _ in later.elements] == [name for name, _ in event.elements]
