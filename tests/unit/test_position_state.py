# SPDX-License-Identifier: GPL-3.0-or-later
"""The states of a position: the table is whole, and what it says in the words of an observer."""

from __future__ import annotations

from functools import reduce

import pytest

from indi_multifocus.controller.snapshot import ChannelState
from indi_multifocus.indi import State
from indi_multifocus.position_state import INDI_STATE, TRANSITIONS, Event, PositionState, next_state, observe
from tools.position_states import PAGE, drawn

MOVE, ABORT, SYNC, SYNC_ENDED, MOVING, AT_REST, FAILED, UNVERIFIED, LOST = Event


def reachable(begin: PositionState) -> set[PositionState]:
    """All that may follow in the end."""
    found, new = {begin}, [begin]
    while new:
        after = set(TRANSITIONS[new.pop()].values()) - found
        found |= after
        new += after
    return found


def test_the_table_is_whole() -> None:
    assert set(TRANSITIONS) == set(INDI_STATE) == set(PositionState)
    assert {event for row in TRANSITIONS.values() for event in row} == set(Event)
    for state in PositionState:
        assert reachable(state) == set(PositionState), f"{state} leads everywhere, by some way"
    for state in PositionState:
        for event in Event:
            assert next_state(state, event) is TRANSITIONS[state].get(event, state)


@pytest.mark.parametrize("state", [state for state in PositionState if state is not PositionState.LOST])
def test_whatever_it_does_a_lost_link_is_an_alert(state: PositionState) -> None:
    assert next_state(state, LOST) is PositionState.LOST


@pytest.mark.parametrize(
    ("events", "shown"),
    [
        ([MOVE], State.BUSY),
        ([MOVE, MOVING, AT_REST], State.OK),
        ([MOVE, MOVING, ABORT], State.BUSY),
        ([MOVE, MOVING, ABORT, MOVING], State.BUSY),
        ([MOVE, MOVING, ABORT, MOVING, AT_REST], State.IDLE),
        ([MOVE, ABORT, AT_REST, AT_REST, AT_REST], State.IDLE),
        ([ABORT, AT_REST, MOVE, AT_REST], State.OK),
        ([MOVE, ABORT, MOVE, AT_REST], State.OK),
        ([MOVE, ABORT, FAILED], State.ALERT),
        ([MOVE, FAILED], State.ALERT),
        ([MOVE, FAILED, AT_REST], State.OK),
        ([UNVERIFIED], State.ALERT),
        ([UNVERIFIED, SYNC], State.BUSY),
        ([UNVERIFIED, SYNC, SYNC_ENDED, AT_REST], State.OK),
        *[([SYNC, event], State.BUSY) for event in (MOVING, AT_REST, FAILED, UNVERIFIED)],
        ([SYNC, ABORT, AT_REST], State.IDLE),
        ([SYNC, LOST, SYNC_ENDED], State.ALERT),
        ([MOVE, LOST, MOVING], State.BUSY),
        ([MOVE, LOST, UNVERIFIED], State.ALERT),
        ([MOVE, LOST, ABORT, AT_REST], State.IDLE),
    ],
)
def test_what_clients_see(events: list[Event], shown: State) -> None:
    assert INDI_STATE[reduce(next_state, events, PositionState.ARRIVED)] is shown


@pytest.mark.parametrize(
    ("moving", "reflected", "unverified", "failed", "event"),
    [
        (True, 7, True, True, MOVING),
        (False, 6, True, True, MOVING),
        (False, 7, True, True, UNVERIFIED),
        (False, 7, False, True, FAILED),
        (False, 7, False, False, AT_REST),
        (False, 8, False, False, AT_REST),
    ],
)
def test_what_a_status_shows(moving: bool, reflected: int, unverified: bool, failed: bool, event: Event) -> None:
    channel = ChannelState(target=0, current=0, moving=moving, request=reflected)
    assert observe(channel, 7, unverified=unverified, failed=failed) is event


def test_the_docs_show_the_table_of_now() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert drawn(page) == page, "run make docs"
