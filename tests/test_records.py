# SPDX-License-Identifier: GPL-3.0-or-later
"""records.py does what the standard library's dataclasses do, as far as it goes: each test asks both."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from types import ModuleType
from typing import Any

import pytest

from indi_multifocus import records

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


def test_the_driver_starts_without_what_takes_long_to_import() -> None:
    """These alone would take more time than all the rest of the start."""
    slow = "{'dataclasses', 'inspect', 'typing', 'msgspec'}"
    code = f"import sys, indi_multifocus.driver; print({slow} & set(sys.modules))"
    # What measures the tests' coverage would start in there too, with dataclasses of its own.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout == "set()\n"
