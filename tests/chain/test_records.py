# SPDX-License-Identifier: GPL-3.0-or-later
"""records.py does what the standard library's dataclasses and enum do, as far as it goes: each test asks both. And
patterns.py does what re does."""

from __future__ import annotations

import copy
import dataclasses
import enum
import os
import pickle
import subprocess
import sys
from types import ModuleType
from typing import Any

import pytest

from indi_multifocus import records
from indi_multifocus.indi import State
from indi_multifocus.patterns import pattern

BOTH = pytest.mark.parametrize("module", [records, dataclasses], ids=["records", "dataclasses"])


def make(module: ModuleType, *, frozen: bool) -> Any:
    class Place:
        name: str
        steps: int = 0
        marks: list[str] = module.field(default_factory=list)

        def __len__(self) -> int:
            return self.steps

    return module.dataclass(frozen=True)(Place) if frozen else module.dataclass(Place)


@BOTH
def test_fields_are_taken_in_order_by_name_or_by_default(module: ModuleType) -> None:
    place = make(module, frozen=False)
    assert vars(place("a", 1, ["x"])) == {"name": "a", "steps": 1, "marks": ["x"]}
    assert vars(place(steps=2, name="a")) == {"name": "a", "steps": 2, "marks": []}
    assert len(place("a", 7)) == 7


@BOTH
@pytest.mark.parametrize(
    ("positional", "named"),
    [((), {}), (("a", 1, [], 2), {}), (("a",), {"name": "b"}), (("a",), {"stepz": 1}), ((), {"steps": 1})],
)
@pytest.mark.parametrize("frozen", [False, True])
def test_what_does_not_fit_the_fields_is_a_type_error(
    module: ModuleType, positional: tuple[object, ...], named: dict[str, object], frozen: bool
) -> None:
    with pytest.raises(TypeError):
        make(module, frozen=frozen)(*positional, **named)


@BOTH
def test_a_record_without_fields_takes_none(module: ModuleType) -> None:
    class Nothing:
        pass

    nothing = module.dataclass(frozen=True)(Nothing)
    assert nothing() == nothing()
    with pytest.raises(TypeError):
        nothing(1)


@BOTH
def test_each_instance_gets_a_default_of_its_own(module: ModuleType) -> None:
    place = make(module, frozen=False)
    place("a").marks.append("x")
    assert place("b").marks == []


@BOTH
def test_records_are_equal_by_class_and_values(module: ModuleType) -> None:
    place, other = make(module, frozen=True), make(module, frozen=True)
    assert place("a") == place(name="a")
    assert place("a") != place("b")
    assert place("a") != other("a")
    assert place("a") != ("a", 0, [])


@BOTH
def test_a_frozen_record_stays_as_it_is(module: ModuleType) -> None:
    place = make(module, frozen=True)("a")
    for name in ("name", "novel"):
        with pytest.raises(AttributeError):
            setattr(place, name, "b")
    with pytest.raises(AttributeError):
        del place.name
    assert place.name == "a"


@BOTH
def test_only_frozen_records_can_be_keys(module: ModuleType) -> None:
    class Key:
        name: str

    frozen = module.dataclass(frozen=True)(Key)
    assert {frozen("a"): 1}[frozen(name="a")] == 1

    class Mutable:
        name: str

    with pytest.raises(TypeError):
        hash(module.dataclass(Mutable)("a"))


@BOTH
def test_replace_makes_a_copy_with_other_values(module: ModuleType) -> None:
    before = make(module, frozen=True)("a", 1)
    after = module.replace(before, steps=2)
    assert (before.steps, after.steps, after.name) == (1, 2, "a")
    with pytest.raises(TypeError):
        module.replace(before, stepz=2)


@BOTH
def test_a_record_shows_its_values(module: ModuleType) -> None:
    assert repr(make(module, frozen=True)("a", 1)).endswith("Place(name='a', steps=1, marks=[])")


BOTH_ENUMS = pytest.mark.parametrize("base", [records.Enum, enum.Enum], ids=["records", "enum"])


def colours(base: Any) -> tuple[Any, Any]:
    class Colour(base):  # type: ignore[misc]
        RED = "red"
        BLUE = "blue"

    class Text(str, base):  # type: ignore[misc]
        RED = "red"

        def loud(self) -> str:
            return self.upper()

    return Colour, Text


@BOTH_ENUMS
def test_members_are_found_by_name_and_value(base: Any) -> None:
    plain, _ = colours(base)
    assert list(plain) == [plain.RED, plain.BLUE]
    for kind in colours(base):
        assert (kind.RED.name, kind.RED.value) == ("RED", "red")
        assert kind("red") is kind.RED
        with pytest.raises(ValueError, match="'green' is not a valid"):
            kind("green")


@BOTH_ENUMS
def test_members_are_themselves_alone_unless_they_are_texts(base: Any) -> None:
    plain, text = colours(base)
    assert plain.RED != plain.BLUE
    assert plain.RED != "red"
    assert {plain.RED: 1}[plain("red")] == 1
    assert (text.RED, text.RED.loud()) == ("red", "RED")
    assert isinstance(plain.RED, plain)


@BOTH_ENUMS
def test_members_show_who_they_are(base: Any) -> None:
    for kind in colours(base):
        assert repr(kind.RED).endswith(f"{kind.__name__}.RED: 'red'>")


def test_a_copy_of_a_member_is_the_member() -> None:
    assert copy.deepcopy([State.BUSY])[0] is State.BUSY
    assert pickle.loads(pickle.dumps(State.BUSY)) is State.BUSY


def test_a_pattern_finds_what_the_compiled_one_finds() -> None:
    number = pattern("(?x) ([0-9]+) \\.")
    for _ in range(2):  # the first call compiles it
        found = number.match("12.5")
        assert found is not None
        assert found[1] == "12"
    assert number.fullmatch("12.5") is None
    assert number.sub("", "12.5") == "5"
    with pytest.raises(AttributeError):
        number.matches("12.5")  # type: ignore[attr-defined]


def test_the_driver_starts_without_what_takes_long_to_import() -> None:
    """These would take more time than all the rest of the start."""
    slow = "dataclasses inspect typing msgspec enum re signal threading json serial collections functools"
    code = (
        "import sys; before = set(sys.modules); import indi_multifocus.__main__, indi_multifocus.driver;"
        f"print(set('{slow}'.split()) & set(sys.modules) - before)"
    )
    # What measures the tests' coverage would start in there too, with imports of its own.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout == "set()\n"
