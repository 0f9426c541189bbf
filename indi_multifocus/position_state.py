# SPDX-License-Identifier: GPL-3.0-or-later
"""What the position properties of a channel show: one table of states and of what leads from one to another.

Everything that decides which INDI state a position has is in this file. `focuser.py` has one `PositionState`, and
reports two kinds of events: what clients order, and what each snapshot of the controller shows (`observe`). The diagram
in docs/architecture.md is drawn from the table.
"""

from __future__ import annotations

from enum import Enum

from .controller.snapshot import ChannelState
from .indi import State


class PositionState(Enum):
    """What a channel does, as far as its position is concerned."""

    ARRIVED = "arrived"
    """At rest, where it was sent or found."""
    IDLE = "idle"
    """At rest after an abort."""
    MOVING = "moving"
    ABORTING = "aborting"
    """A stop was ordered, and no status has shown what came of it."""
    ZEROING = "zeroing"
    """The scale of its positions changes (a sync, a zero, a reversal) and is not on the disk yet."""
    FAILED = "failed"
    """At rest, after a move that failed, outside the travel, or with a memory that cannot be saved."""
    UNVERIFIED = "unverified"
    """At rest, but nobody knows whether the motor is where the controller claims."""
    LOST = "lost"
    """The controller does not answer."""


class Event(Enum):
    """What changes the state of a position."""

    MOVE_ORDERED = "move ordered"
    ABORT_ORDERED = "abort ordered"
    SYNC_ORDERED = "sync ordered"
    SYNC_ENDED = "sync ended"
    SEEN_MOVING = "seen moving"
    SEEN_AT_REST = "seen at rest"
    SEEN_FAILED = "seen failed"
    SEEN_UNVERIFIED = "seen unverified"
    LINK_LOST = "link lost"


INDI_STATE = {
    PositionState.ARRIVED: State.OK,
    PositionState.IDLE: State.IDLE,
    PositionState.MOVING: State.BUSY,
    PositionState.ABORTING: State.BUSY,
    PositionState.ZEROING: State.BUSY,
    PositionState.FAILED: State.ALERT,
    PositionState.UNVERIFIED: State.ALERT,
    PositionState.LOST: State.ALERT,
}
"""What clients see."""

_AT_REST = {
    Event.MOVE_ORDERED: PositionState.MOVING,
    Event.ABORT_ORDERED: PositionState.ABORTING,
    Event.SYNC_ORDERED: PositionState.ZEROING,
    Event.SEEN_MOVING: PositionState.MOVING,
    Event.SEEN_AT_REST: PositionState.ARRIVED,
    Event.SEEN_FAILED: PositionState.FAILED,
    Event.SEEN_UNVERIFIED: PositionState.UNVERIFIED,
    Event.LINK_LOST: PositionState.LOST,
}

TRANSITIONS: dict[PositionState, dict[Event, PositionState]] = {
    PositionState.ARRIVED: _AT_REST,
    PositionState.FAILED: _AT_REST,
    PositionState.UNVERIFIED: _AT_REST,
    PositionState.IDLE: {**_AT_REST, Event.SEEN_AT_REST: PositionState.IDLE},
    PositionState.MOVING: {
        Event.MOVE_ORDERED: PositionState.MOVING,
        Event.ABORT_ORDERED: PositionState.ABORTING,
        Event.SEEN_AT_REST: PositionState.ARRIVED,
        Event.SEEN_FAILED: PositionState.FAILED,
        Event.SEEN_UNVERIFIED: PositionState.UNVERIFIED,
        Event.LINK_LOST: PositionState.LOST,
    },
    PositionState.ABORTING: {
        Event.MOVE_ORDERED: PositionState.MOVING,
        Event.SYNC_ORDERED: PositionState.ZEROING,
        Event.SEEN_AT_REST: PositionState.IDLE,
        Event.SEEN_FAILED: PositionState.FAILED,
        Event.SEEN_UNVERIFIED: PositionState.UNVERIFIED,
        Event.LINK_LOST: PositionState.LOST,
    },
    PositionState.ZEROING: {
        Event.ABORT_ORDERED: PositionState.ABORTING,
        Event.SYNC_ENDED: PositionState.ARRIVED,
        Event.LINK_LOST: PositionState.LOST,
    },
    PositionState.LOST: {
        Event.ABORT_ORDERED: PositionState.ABORTING,
        Event.SEEN_MOVING: PositionState.MOVING,
        Event.SEEN_AT_REST: PositionState.ARRIVED,
        Event.SEEN_FAILED: PositionState.FAILED,
        Event.SEEN_UNVERIFIED: PositionState.UNVERIFIED,
    },
}
"""By state and event, the next state. An event that is not listed changes nothing."""


def next_state(state: PositionState, event: Event) -> PositionState:
    """The state after the event."""
    return TRANSITIONS[state].get(event, state)


def observe(channel: ChannelState, last_request: int, *, unverified: bool, failed: bool) -> Event:
    """What a status shows of a channel whose last order has the number `last_request`.

    `unverified`: its position is; `failed`: something is wrong with it at rest.
    """
    if channel.moving or channel.request < last_request:
        return Event.SEEN_MOVING  # an order that is not reflected yet may have set it in motion
    if unverified:
        return Event.SEEN_UNVERIFIED
    return Event.SEEN_FAILED if failed else Event.SEEN_AT_REST


def diagram() -> str:
    """The table as a Mermaid state diagram, with the INDI state beside each name."""
    lines = ["stateDiagram-v2"]
    lines += [f"    {state.value}: {state.value} ({INDI_STATE[state].value})" for state in PositionState]
    for state, row in TRANSITIONS.items():
        after: dict[PositionState, list[str]] = {}
        for event, following in row.items():
            if following is not state:
                after.setdefault(following, []).append(event.value)
        for following, events in after.items():
            lines.append(f"    {state.value} --> {following.value}: {', '.join(events)}")
    return "\n".join(lines)
