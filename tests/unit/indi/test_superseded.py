# SPDX-License-Identifier: GPL-3.0-or-later
"""Of many events at once only those that still matter are left, and what they come to stays the same."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from indi_multifocus.indi import Event, GetProperties, Malformed, NewVector, without_superseded
from indi_multifocus.indi.superseded import MANY


def number(value: str, name: str = "N", device: str = "D", element: str = "X") -> NewVector:
    return NewVector("Number", device, name, ((element, value),))


def press(name: str, *elements: str) -> NewVector:
    return NewVector("Switch", "D", name, tuple((element, "On") for element in elements))


STOP = press("ABORT", "STOP")
CROWD: list[Event] = [Malformed(str(n)) for n in range(MANY)]
"""Enough for a flood."""


def left(*events: Event) -> list[Event]:
    """What is left of these in a crowd."""
    kept = without_superseded([*CROWD, *events])
    assert kept[: len(CROWD)] == CROWD
    return kept[len(CROWD) :]


def test_few_events_are_all_done() -> None:
    events = [number("1")] * (MANY - 1)
    assert without_superseded(events) == events
    assert without_superseded([*events, number("1")]) == [number("1")]


def test_of_a_run_of_values_for_the_same_numbers_the_last_is_left() -> None:
    assert left(number("1"), number("2"), number("3")) == [number("3")]


def test_of_a_run_of_texts_the_last_is_left() -> None:
    texts = [NewVector("Text", "D", "T", (("A", text),)) for text in "xyz"]
    assert left(*texts) == texts[-1:]


def test_other_elements_are_other_values() -> None:
    events = [number("1"), number("2", element="Y"), number("3")]
    assert left(*events) == events


def test_what_comes_before_something_else_is_done_before_it() -> None:
    assert left(number("1"), number("2"), STOP, number("3"), number("4")) == [number("2"), STOP, number("4")]
    assert left(number("1", "MAX"), number("2"), number("3", "MAX")) == [
        number("1", "MAX"),
        number("2"),
        number("3", "MAX"),
    ]


def test_devices_do_not_disturb_each_other_s_runs() -> None:
    assert left(number("1"), number("5", device="E"), number("2"), number("6", device="E")) == [
        number("2"),
        number("6", device="E"),
    ]


def test_switches_are_pressed_one_by_one_but_the_same_again_is_nothing_new() -> None:
    save, load = press("CONFIG", "SAVE"), press("CONFIG", "LOAD")
    assert left(save, load, save) == [save, load, save]
    assert left(save, save, load, load, STOP, STOP) == [save, load, STOP]


def test_the_wrong_kind_supersedes_nothing() -> None:
    wrong = NewVector("Text", "D", "N", (("X", "1"),))
    assert left(number("1"), wrong) == [number("1"), wrong]


def test_the_same_question_is_answered_once_after_all_that_came_before_its_last() -> None:
    everything, one = GetProperties(None, None), GetProperties("D", None)
    assert left(everything, one, number("1"), everything, one) == [number("1"), everything, one]


names = st.sampled_from(["N", "M"])
devices = st.sampled_from(["D", "E"])
events = st.lists(
    st.builds(number, st.sampled_from("123"), names, devices, st.sampled_from("XY"))
    | st.just(STOP)
    | st.builds(GetProperties, st.none() | devices, st.none())
    | st.just(Malformed("bad")),
    max_size=60,
)


@given(events)
def test_what_is_left_comes_to_the_same_in_the_same_order(given_events: list[Event]) -> None:
    """Numbers as a device keeps them, looked at whenever something else happens to that device."""

    def outcome(happened: list[Event]) -> dict[str, list[object]]:
        seen: dict[str, list[object]] = {"D": [], "E": []}
        values: dict[tuple[str, str, str], str] = {}
        last: dict[str, NewVector] = {}
        for event in happened:
            if not isinstance(event, NewVector):
                continue
            before = last.get(event.device)
            names = [name for name, _ in event.elements]
            if before is None or (before.name, [name for name, _ in before.elements]) != (event.name, names):
                seen[event.device].append((event.name, dict(values)))
            last[event.device] = event
            for name, text in event.elements:
                values = {key: value for key, value in values.items() if key[0] == event.device} | {
                    (event.device, event.name, name): text
                }
        return seen | {"end": [*last.items()]}

    for device in ("D", "E"):
        mine = [event for event in given_events if not isinstance(event, NewVector) or event.device == device]
        kept = without_superseded([*CROWD, *mine])
        assert outcome(kept) == outcome(mine)
        assert [event for event in kept if isinstance(event, Malformed)] == [
            *CROWD,
            *[event for event in mine if isinstance(event, Malformed)],
        ]
        assert {event for event in kept if isinstance(event, GetProperties)} == {
            event for event in mine if isinstance(event, GetProperties)
        }
