# SPDX-License-Identifier: GPL-3.0-or-later
"""Vectors: plain data, with a few conveniences that must not surprise."""

from __future__ import annotations

import pytest

from indi_multifocus.indi import (
    Light,
    LightVector,
    Number,
    NumberVector,
    Permission,
    Rule,
    State,
    Switch,
    SwitchVector,
    Text,
    TextVector,
    Vector,
)


def switches(*on: str) -> SwitchVector:
    return SwitchVector("S", "s", "G", [Switch(name, name.lower(), name in on) for name in ("A", "B", "C")])


def test_elements_keep_the_order_in_which_they_are_given() -> None:
    vector = NumberVector("N", "n", "G", [Number("Z", "z"), Number("A", "a"), Number("M", "m")])
    assert list(vector.elements) == ["Z", "A", "M"]


def test_an_element_is_found_by_its_name() -> None:
    vector = TextVector("T", "t", "G", [Text("A", "a", "1"), Text("B", "b", "2")])
    assert vector["B"].value == "2"
    with pytest.raises(KeyError):
        vector["C"]


def test_two_elements_of_one_name_are_an_error() -> None:
    with pytest.raises(ValueError, match="two elements of one name"):
        NumberVector("N", "n", "G", [Number("A", "a"), Number("A", "b")])


def test_a_vector_has_libindi_defaults() -> None:
    vector = switches()
    assert (vector.permission, vector.state, vector.timeout) == (Permission.READ_WRITE, State.IDLE, 60)
    assert vector.rule is Rule.ONE_OF_MANY


def test_lights_are_read_only() -> None:
    assert LightVector("L", "l", "G", [Light("A", "a")]).permission is Permission.READ_ONLY


def test_on_names_the_first_switch_that_is_on() -> None:
    assert switches("B", "C").on == "B"
    assert switches().on is None


def test_select_turns_one_switch_on_and_the_others_off() -> None:
    vector = switches("A", "C")
    vector.select("B")
    assert vector.values() == (False, True, False)


def test_selecting_a_switch_that_is_not_there_changes_nothing() -> None:
    vector = switches("A")
    with pytest.raises(KeyError):
        vector.select("Z")
    assert vector.on == "A"


def test_clear_turns_all_switches_off() -> None:
    vector = switches("A", "B")
    vector.clear()
    assert vector.values() == (False, False, False)


@pytest.mark.parametrize(
    "vector",
    [
        NumberVector("N", "n", "G", [Number("A", "a", 1), Number("B", "b", 2.5)]),
        switches("B"),
        TextVector("T", "t", "G", [Text("A", "a", "x"), Text("B", "b", "y")]),
        LightVector("L", "l", "G", [Light("A", "a", State.OK), Light("B", "b", State.ALERT)]),
    ],
    ids=lambda vector: vector.kind,
)
def test_values_can_be_taken_and_restored(vector: Vector) -> None:
    before = vector.values()
    vector.restore(tuple(reversed(before)))
    assert vector.values() == tuple(reversed(before))
    vector.restore(before)
    assert vector.values() == before


def test_ranges_are_those_of_each_number() -> None:
    vector = NumberVector("N", "n", "G", [Number("A", "a", min=1, max=2, step=3), Number("B", "b")])
    assert vector.ranges() == ((1, 2, 3), (0, 0, 0))
