# SPDX-License-Identifier: GPL-3.0-or-later
"""What leaves: XML that an independent parser reads back, in libindi's form."""

from __future__ import annotations

import calendar
import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    writer,
)

FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")

any_text = st.text(st.characters(exclude_categories=()), max_size=30)
finite = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**15), 10**15)


def in_attribute(text: str) -> str:
    """What a reader of XML gets for this text in an attribute."""
    return re.sub("[\t\n\r]", " ", FORBIDDEN.sub("?", text))


def in_text(text: str) -> str:
    """What a reader of XML gets for this text between tags."""
    return re.sub("\r\n?", "\n", FORBIDDEN.sub("?", text))


def value_of(element: ElementTree.Element) -> str:
    return element.text or ""


@st.composite
def vectors(draw: st.DrawFn) -> Vector:
    names = draw(st.lists(any_text, min_size=1, max_size=4, unique=True))
    name, label, group = draw(any_text), draw(any_text), draw(any_text)
    state = draw(st.sampled_from(list(State)))
    kind = draw(st.sampled_from("NSTL"))
    if kind == "N":
        numbers = [
            Number(element, draw(any_text), draw(finite), format=draw(any_text), min=draw(finite), max=draw(finite))
            for element in names
        ]
        return NumberVector(name, label, group, numbers, state=state, timeout=draw(st.integers(0, 100)))
    if kind == "S":
        switches = [Switch(element, draw(any_text), draw(st.booleans())) for element in names]
        return SwitchVector(name, label, group, switches, state=state, rule=draw(st.sampled_from(list(Rule))))
    if kind == "T":
        texts = [Text(element, draw(any_text), draw(any_text)) for element in names]
        return TextVector(name, label, group, texts, state=state, permission=draw(st.sampled_from(list(Permission))))
    lights = [Light(element, draw(any_text), draw(st.sampled_from(list(State)))) for element in names]
    return LightVector(name, label, group, lights, state=state)


def check_values(vector: Vector, elements: list[ElementTree.Element]) -> None:
    assert [element.get("name") for element in elements] == [in_attribute(name) for name in vector.elements]
    values = [value_of(element) for element in elements]
    if isinstance(vector, NumberVector):
        assert [float(value) for value in values] == [float(n.value) for n in vector.elements.values()]
    elif isinstance(vector, SwitchVector):
        assert values == ["On" if switch.on else "Off" for switch in vector.elements.values()]
    elif isinstance(vector, TextVector):
        assert values == [in_text(text.value) for text in vector.elements.values()]
    else:
        assert values == [light.state.value for light in vector.elements.values()]


@given(any_text, vectors(), st.none() | any_text)
def test_a_definition_reads_back_as_what_was_defined(device: str, vector: Vector, message: str | None) -> None:
    root = ElementTree.fromstring(writer.definition(device, vector, message))
    assert root.tag == f"def{vector.kind}Vector"
    expected = {"device": device, "name": vector.name, "label": vector.label, "group": vector.group}
    assert {key: root.get(key) for key in expected} == {k: in_attribute(v) for k, v in expected.items()}
    assert root.get("state") == vector.state.value
    assert root.get("message") == (None if message is None else in_attribute(message))
    assert [element.tag for element in root] == [f"def{vector.kind}"] * len(vector.elements)
    assert [e.get("label") for e in root] == [in_attribute(e.label) for e in vector.elements.values()]
    check_values(vector, list(root))
    if isinstance(vector, LightVector):
        assert root.get("perm") is None
        assert root.get("timeout") is None
    else:
        assert root.get("perm") == vector.permission.value
        assert float(root.get("timeout", "")) == vector.timeout
    if isinstance(vector, SwitchVector):
        assert root.get("rule") == vector.rule.value
    if isinstance(vector, NumberVector):
        for element, number in zip(root, vector.elements.values()):
            assert element.get("format") == in_attribute(number.format)
            found = [float(element.get(key, "")) for key in ("min", "max", "step")]
            assert found == [number.min, number.max, number.step]


@given(any_text, vectors(), st.none() | any_text, st.booleans())
def test_an_update_reads_back_as_state_and_values(
    device: str, vector: Vector, message: str | None, ranges: bool
) -> None:
    root = ElementTree.fromstring(writer.update(device, vector, message, ranges=ranges))
    assert root.tag == f"set{vector.kind}Vector"
    assert (root.get("device"), root.get("name")) == (in_attribute(device), in_attribute(vector.name))
    assert root.get("state") == vector.state.value
    assert root.get("message") == (None if message is None else in_attribute(message))
    assert [element.tag for element in root] == [f"one{vector.kind}"] * len(vector.elements)
    check_values(vector, list(root))
    with_range = [element for element in root if {"min", "max", "step"} <= set(element.keys())]
    assert len(with_range) == (len(root) if ranges and isinstance(vector, NumberVector) else 0)


@given(any_text, any_text)
def test_messages_and_deletions_read_back(device: str, text: str) -> None:
    root = ElementTree.fromstring(writer.message(device, text))
    assert (root.tag, root.get("device"), root.get("message")) == (
        "message",
        in_attribute(device),
        in_attribute(text),
    )
    assert ElementTree.fromstring(writer.message(None, text)).get("device") is None
    root = ElementTree.fromstring(writer.deletion(device, text))
    assert (root.tag, root.get("device"), root.get("name")) == (
        "delProperty",
        in_attribute(device),
        in_attribute(text),
    )
    assert ElementTree.fromstring(writer.deletion(device)).get("name") is None


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (500, "500"),
        (500.0, "500"),
        (-1234567.0, "-1234567"),
        (-0.0, "0"),
        (21.0625, "21.0625"),
        (0.1, "0.1"),
        (1e-7, "1e-07"),
        (1e22, "1e+22"),
        (1 / 3, "0.3333333333333333"),
    ],
)
def test_numbers_are_the_shortest_text_that_reads_as_the_same_number(value: float, text: str) -> None:
    vector = NumberVector("N", "n", "G", [Number("A", "a", value)])
    root = ElementTree.fromstring(writer.update("D", vector))
    assert value_of(root[0]) == text
    assert float(text) == value


def test_a_number_that_is_none_can_still_be_written() -> None:
    vector = NumberVector("N", "n", "G", [Number("A", "a", float("nan")), Number("B", "b", float("-inf"))])
    root = ElementTree.fromstring(writer.update("D", vector))
    assert [value_of(element) for element in root] == ["nan", "-inf"]


def test_no_character_references_are_written_because_libindi_does_not_know_them() -> None:
    everything = "".join(map(chr, range(0x100))) + "\u2028\ud800\ufffe\U0001f52d"
    vector = TextVector("T", everything, "G", [Text("A", "a", everything)])
    assert b"&#" not in writer.definition("D", vector, everything)


def test_non_ascii_is_written_as_utf_8() -> None:
    assert "Größe µ 🔭".encode() in writer.message("D", "Größe µ 🔭")


def test_every_message_has_a_timestamp_of_now_in_utc() -> None:
    vector = TextVector("T", "t", "G", [Text("A", "a")])
    before = calendar.timegm(time.gmtime())  # the kernel's coarse clock, which may be a little behind time.time()
    messages = [
        writer.definition("D", vector),
        writer.update("D", vector),
        writer.deletion("D"),
        writer.message("D", "x"),
    ]
    for data in messages:
        stamp = ElementTree.fromstring(data).get("timestamp", "")
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", stamp)
        assert before <= calendar.timegm(time.strptime(stamp, "%Y-%m-%dT%H:%M:%S")) <= time.time()


# --- libindi's own drivers ------------------------------------------------------------------------------------


def vector_of(root: ElementTree.Element) -> Vector:
    """One of our vectors, from a definition by libindi."""
    name, label, group = (root.get(key, "") for key in ("name", "label", "group"))
    state, permission = State(root.get("state")), Permission(root.get("perm", "ro"))
    timeout = float(root.get("timeout", "0"))
    elements = [(e.get("name", ""), e.get("label", ""), value_of(e).strip()) for e in root]
    if root.tag == "defNumberVector":
        numbers = [
            Number(
                n,
                lab,
                float(value),
                format=e.get("format", ""),
                min=float(e.get("min", "")),
                max=float(e.get("max", "")),
                step=float(e.get("step", "")),
            )
            for e, (n, lab, value) in zip(root, elements)
        ]
        return NumberVector(name, label, group, numbers, permission=permission, state=state, timeout=timeout)
    if root.tag == "defSwitchVector":
        switches = [Switch(n, lab, value == "On") for n, lab, value in elements]
        rule = Rule(root.get("rule"))
        return SwitchVector(
            name, label, group, switches, rule=rule, permission=permission, state=state, timeout=timeout
        )
    assert root.tag == "defTextVector"
    texts = [Text(*element) for element in elements]
    return TextVector(name, label, group, texts, permission=permission, state=state, timeout=timeout)


def same_form(ours: bytes, theirs: ElementTree.Element) -> None:
    """The same element with the same attributes in the same order, but for the time."""
    root = ElementTree.fromstring(ours)
    assert root.tag == theirs.tag
    assert list(root.keys()) == list(theirs.keys())
    for key in set(root.keys()) - {"timestamp"}:
        assert root.get(key) == theirs.get(key), key
    assert len(root.get("timestamp", "")) == len(theirs.get("timestamp", ""))
    assert len(root) == len(theirs)
    for our_element, their_element in zip(root, theirs):
        assert our_element.tag == their_element.tag
        assert list(our_element.items()) == list(their_element.items())
        assert value_of(our_element).strip() == value_of(their_element).strip()


@pytest.mark.skipif(shutil.which("indi_simulator_focus") is None, reason="libindi's drivers are not installed")
def test_messages_have_the_form_of_libindi_s_own_driver(tmp_path: Path) -> None:
    requests = b"""<getProperties version="1.7"/>
        <newSwitchVector device="Focuser Simulator" name="CONNECTION">
          <oneSwitch name="CONNECT">On</oneSwitch></newSwitchVector>
        <newNumberVector device="Focuser Simulator" name="FOCUS_MAX">
          <oneNumber name="FOCUS_MAX_VALUE">50000</oneNumber></newNumberVector>
        <newSwitchVector device="Focuser Simulator" name="CONNECTION">
          <oneSwitch name="DISCONNECT">On</oneSwitch></newSwitchVector>"""
    done = subprocess.run(
        ["indi_simulator_focus"],
        input=requests,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "HOME": str(tmp_path)},  # where it saves its configuration
        timeout=20,
    )
    printed = re.sub(rb"<\?xml[^>]*\?>", b"", done.stdout)
    stream = ElementTree.fromstring(b"<stream>" + printed + b"</stream>")
    known: dict[str, Vector] = {}
    seen = set()
    for theirs in stream:
        device, name, message = theirs.get("device", ""), theirs.get("name", ""), theirs.get("message")
        if theirs.tag.startswith("def"):
            known[name] = vector_of(theirs)
            same_form(writer.definition(device, known[name], message), theirs)
        elif theirs.tag.startswith("set") and name in known:
            vector = known[name]
            vector.state = State(theirs.get("state"))
            ranges = False
            for element in theirs:
                ours = vector[element.get("name", "")]
                if isinstance(ours, Number):
                    ours.value = float(value_of(element))
                    if element.get("min") is not None:
                        ranges = True
                        ours.min, ours.max, ours.step = (float(element.get(k, "")) for k in ("min", "max", "step"))
                elif isinstance(ours, Switch):
                    ours.on = value_of(element).strip() == "On"
            same_form(writer.update(device, vector, message, ranges=ranges), theirs)
            seen.add("ranges" if ranges else "values")
        elif theirs.tag == "delProperty":
            same_form(writer.deletion(device, name), theirs)
        elif theirs.tag == "message":
            same_form(writer.message(device, message or ""), theirs)
        seen.add(theirs.tag)
    # The test is worth nothing if libindi did not say all of these.
    assert seen >= {"defNumberVector", "defSwitchVector", "defTextVector", "setNumberVector", "setSwitchVector"}
    assert seen >= {"delProperty", "ranges", "values"}
