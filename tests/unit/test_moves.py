# SPDX-License-Identifier: GPL-3.0-or-later
"""The one decision about a move: whether it may be made, and where it turns round to take up the backlash."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indi_multifocus.indi import Refused
from indi_multifocus.moves import Circumstances, plan_move
from indi_multifocus.settings.remembered_position import Remembered

LIMITS = (999_999, 9_999_999)
POSITIONS = st.one_of(st.integers(-1200, 1200), st.integers(-25_000_000, 25_000_000))


@st.composite
def circumstances(draw: st.DrawFn) -> Circumstances:
    """Any in which a channel can be."""
    limit = draw(st.sampled_from(LIMITS))
    low = draw(st.integers(-1000, 1000) | st.integers(-9_999_999, 9_999_998))
    return Circumstances(
        scale=Remembered(offset=draw(POSITIONS), reversed=draw(st.booleans())),
        travel=(low, draw(st.integers(low + 1, low + 1000) | st.integers(low + 1, 9_999_999))),
        max_steps=limit,
        current=draw(st.integers(-1000, 1000) | st.integers(-limit, limit)),
        moving=draw(st.booleans()),
        backlash=draw(st.sampled_from((0, 1, 20, 1_000_000))),
    )


@given(circumstances(), POSITIONS, st.data())
def test_a_move_is_allowed_within_the_travel_or_back_to_it_and_nowhere_else(
    now: Circumstances, position: int, data: st.DataObject
) -> None:
    (low, high), here = now.travel, now.scale.position(now.current)
    # Near to what matters, as often as not.
    position = data.draw(st.sampled_from([position, low, high, low - 1, high + 1, here, here - 1, here + 1]))
    inside = low <= position <= high
    back = not now.moving and (here <= position < low or high < position <= here)
    countable = abs(now.scale.to_steps(position)) <= now.max_steps
    if not ((inside or back) and countable):
        with pytest.raises(Refused, match=rf"{position} is .* to "):
            plan_move(position, now)
        return
    plan = plan_move(position, now)
    assert plan.position == position == now.scale.position(plan.steps)
    assert plan.waypoints[-1] == plan.steps


@given(circumstances(), st.data())
def test_an_outward_move_turns_round_where_there_is_room_and_an_inward_one_never_does(
    now: Circumstances, data: st.DataObject
) -> None:
    counts = sorted((now.scale.position(-now.max_steps), now.scale.position(now.max_steps)))
    low, high = max(now.travel[0], counts[0]), min(now.travel[1], counts[1])
    if low > high:
        return
    position = data.draw(st.integers(low, high))
    plan = plan_move(position, now)
    room = min(now.backlash, high - position)
    outward = position > now.scale.position(now.current)
    assert (plan.via is not None) == (outward and room > 0)
    if plan.via is not None:
        assert plan.waypoints == (plan.via, plan.steps)
        assert now.scale.position(plan.via) == position + room


OUTSIDE = Circumstances(Remembered(), (0, 1000), 999_999, current=1500, moving=False)


@pytest.mark.parametrize(
    ("position", "changes", "text"),
    [
        (1501, {}, "Requested position 1501 is out of bounds: a position from 0 to 1000 is expected"),
        (1200, {"moving": True}, "Requested position 1200 is out of bounds: a position from 0 to 1000 is expected"),
        (-1, {}, "Requested position -1 is out of bounds: a position from 0 to 1000 is expected"),
        (
            1000,
            {"scale": Remembered(offset=1_500_000), "current": 0},
            "1000 is beyond what the controller can count: 500001 to 2499999 is expected",
        ),
    ],
)
def test_a_refusal_says_what_is_accepted(position: int, changes: dict[str, Any], text: str) -> None:
    now = OUTSIDE._replace(**changes)
    with pytest.raises(Refused) as refusal:
        plan_move(position, now)
    assert str(refusal.value) == text
