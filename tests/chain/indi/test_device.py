# SPDX-License-Identifier: GPL-3.0-or-later
"""One device: what clients receive, what they may set, and how libindi's own server and clients see it."""

from __future__ import annotations

import math
import os
import shutil
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import THROWAWAY, IndiServer
from waiting import eventually, is_running

from indi_multifocus.indi import (
    Device,
    Light,
    LightVector,
    Message,
    NewVector,
    Number,
    NumberVector,
    Output,
    Permission,
    Reader,
    Refused,
    Rule,
    State,
    Switch,
    SwitchVector,
    Text,
    TextVector,
    Value,
    Vector,
    parse_number,
)

Result = TypeVar("Result")


class Recorder(Output):
    """An output that keeps what is written."""

    def __init__(self) -> None:
        super().__init__(-1)
        self.written: list[bytes] = []

    def write(self, message: Message) -> None:
        self.written.append(message.data)

    def take(self) -> list[ElementTree.Element]:
        """The messages since the last time."""
        messages = [ElementTree.fromstring(data) for data in self.written]
        self.written.clear()
        return messages


class Bench:
    """A device with a property of every kind, and a note of what the handlers were given."""

    def __init__(self) -> None:
        self.output = Recorder()
        self.device = Device("D", self.output)
        self.handled: list[Mapping[str, Value]] = []
        number = Number("X", "x", 5, min=0, max=100, step=1)
        self.numbers = NumberVector("N", "n", "G", [number, Number("Y", "y", 2)], state=State.OK)
        self.one = SwitchVector("ONE", "s", "G", [Switch("A", "a", True), Switch("B", "b"), Switch("C", "c")])
        self.most = SwitchVector("MOST", "s", "G", [Switch("A", "a"), Switch("B", "b")], rule=Rule.AT_MOST_ONE)
        self.any = SwitchVector("ANY", "s", "G", [Switch("A", "a"), Switch("B", "b")], rule=Rule.ANY_OF_MANY)
        self.text = TextVector("T", "t", "G", [Text("A", "a", "old"), Text("B", "b")])
        self.light = LightVector("L", "l", "G", [Light("A", "a")])
        self.fixed = TextVector("R", "r", "G", [Text("A", "a", "stone")], permission=Permission.READ_ONLY)
        self.vectors: list[Vector] = [self.numbers, self.one, self.most, self.any, self.text, self.light, self.fixed]
        for vector in self.vectors:
            self.device.define(vector, self.handled.append)
        self.output.take()

    def send(self, kind: str, name: str, *elements: tuple[str, str]) -> list[ElementTree.Element]:
        """What a client sends; returns the answers."""
        self.device.handle(NewVector(kind, "D", name, elements))
        return self.output.take()

    def accepted(self, kind: str, name: str, *elements: tuple[str, str]) -> Mapping[str, Value]:
        """What the handler was given."""
        assert self.send(kind, name, *elements) == []
        return self.handled.pop()

    def refused(self, kind: str, name: str, *elements: tuple[str, str]) -> str:
        """The message of the one answer, which has state Alert and the values as they were."""
        before = {vector.name: vector.values() for vector in self.vectors}
        (answer,) = self.send(kind, name, *elements)
        assert self.handled == []
        assert {vector.name: vector.values() for vector in self.vectors} == before
        vector = next(vector for vector in self.vectors if vector.name == name)
        assert vector.state is State.ALERT
        assert answer.tag == f"set{vector.kind}Vector"
        assert (answer.get("device"), answer.get("name"), answer.get("state")) == ("D", name, "Alert")
        assert [element.get("name") for element in answer] == list(vector.elements)
        message = answer.get("message", "")
        assert message.startswith("[ERROR] ")
        assert f"D.{name}" in message
        return message


@pytest.fixture
def bench() -> Bench:
    return Bench()


# --- Numbers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("500", 500),
        ("-500", -500),
        ("+7", 7),
        ("  21.0625  ", 21.0625),
        (".5", 0.5),
        ("5.", 5),
        ("1e3", 1000),
        ("-2.5E-1", -0.25),
        ("1:30", 1.5),
        ("-1:30", -1.5),
        ("-0:30", -0.5),
        ("+0:30", 0.5),
        ("12 30 15.5", 12 + 30 / 60 + 15.5 / 3600),
        ("12;30;15.5", 12 + 30 / 60 + 15.5 / 3600),
        ("12:30:15.5", 12 + 30 / 60 + 15.5 / 3600),
        ("  -5:06: 7.0 ", -(5 + 6 / 60 + 7 / 3600)),
        ("12 : 30", 12.5),
        ("12   30", 12.5),
        ("- 5:30", -5.5),
        ("12:30.5", 12 + 30.5 / 60),
        ("  3: 7", 3 + 7 / 60),
        ("\n500\n", 500),
        ("0" * 63 + "7", 7),
    ],
)
def test_decimal_and_sexagesimal_numbers_are_read(text: str, value: float) -> None:
    assert parse_number(text) == pytest.approx(value, rel=1e-15, abs=0)


@pytest.mark.parametrize(
    "text",
    [
        *["", " ", "abc", "-", "+", ".", ":", "1:", ":30", "1::30", "1:30:", "1:30:15:2", "1 2 3 4", "1,5", "1:-30"],
        *["--5", "0x10", "1_000", "nan", "-nan", "inf", "-Infinity", "1e999", "-1e999", "1e", "5 abc", "١٢", "½"],
        *["1e3:30", "1" * 65, "1" + " " * 60000 + "x", " " * 60000, "0" * 60000, "1\x0030"],
    ],
)
def test_what_is_no_number_is_refused_and_named(text: str) -> None:
    with pytest.raises(ValueError, match="is not a number") as refusal:
        parse_number(text)
    assert repr(text[:10])[:-1] in str(refusal.value)
    assert len(str(refusal.value)) < 200


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_number_is_read_as_python_writes_it(value: float) -> None:
    assert parse_number(repr(value)) == value


@given(st.integers(0, 99999), st.integers(0, 59), st.integers(0, 5999), st.booleans(), st.sampled_from(":; "))
def test_sexagesimal_numbers_are_read_back(d: int, m: int, s: int, negative: bool, separator: str) -> None:
    text = separator.join([str(d), f"{m:2d}", f"{s / 100:05.2f}"])
    value = parse_number(f"  {'-' if negative else ''}{text} ")
    assert abs(value) == pytest.approx(d + m / 60 + s / 360000)
    assert math.copysign(1, value) == (-1 if negative else 1)


@given(st.text(max_size=70))
def test_any_text_is_a_finite_number_or_a_value_error(text: str) -> None:
    try:
        assert math.isfinite(parse_number(text))
    except ValueError:
        pass


# --- Telling clients --------------------------------------------------------------------------------------------


def test_define_and_remove_tell_clients(bench: Bench) -> None:
    vector = TextVector("NEW", "n", "G", [Text("A", "a")])
    assert not bench.device.is_defined("NEW")
    bench.device.define(vector)
    assert bench.device.is_defined("NEW")
    bench.device.remove("NEW", "UNHEARD", "T")
    assert not bench.device.is_defined("NEW")
    assert [(m.tag, m.get("name")) for m in bench.output.take()] == [
        ("defTextVector", "NEW"),
        ("delProperty", "NEW"),
        ("delProperty", "T"),
    ]


def test_a_vector_is_found_by_its_name_while_it_is_defined(bench: Bench) -> None:
    assert bench.device.vector("T") is bench.text
    bench.device.remove("T")
    assert bench.device.vector("T") is None


def test_get_properties_defines_all_again_in_order(bench: Bench) -> None:
    bench.device.get_properties(None)
    messages = bench.output.take()
    assert [m.get("name") for m in messages] == [vector.name for vector in bench.vectors]
    assert all(m.tag.startswith("def") for m in messages)


def test_get_properties_for_one_property_defines_that_one(bench: Bench) -> None:
    bench.device.get_properties("T")
    assert [(m.tag, m.get("name")) for m in bench.output.take()] == [("defTextVector", "T")]


def test_get_properties_for_an_unknown_property_is_silent(bench: Bench) -> None:
    bench.device.get_properties("UNHEARD")
    assert bench.output.take() == []


def test_a_property_defined_anew_keeps_its_place(bench: Bench) -> None:
    bench.device.define(bench.numbers)
    bench.output.take()
    bench.device.get_properties(None)
    assert [m.get("name") for m in bench.output.take()] == [vector.name for vector in bench.vectors]


def test_update_is_sent_although_nothing_changed(bench: Bench) -> None:
    bench.device.update(bench.numbers)
    bench.device.update(bench.numbers, "[INFO] hello")
    first, second = bench.output.take()
    assert (first.tag, first.get("message")) == ("setNumberVector", None)
    assert second.get("message") == "[INFO] hello"


def test_a_property_that_is_not_defined_is_not_updated_but_the_message_is_sent(bench: Bench) -> None:
    vector = TextVector("NEW", "n", "G", [Text("A", "a")])
    bench.device.update(vector)
    bench.device.publish(vector)
    assert bench.output.take() == []
    bench.device.update(vector, "[INFO] hello")
    (message,) = bench.output.take()
    assert (message.tag, message.get("device"), message.get("message")) == ("message", "D", "[INFO] hello")


def test_publish_is_silent_while_nothing_changed(bench: Bench) -> None:
    for vector in bench.vectors:
        bench.device.publish(vector)
    assert bench.output.take() == []


def test_publish_sends_a_new_state_or_value_once(bench: Bench) -> None:
    bench.numbers.state = State.BUSY
    bench.one.select("B")
    bench.text["A"].value = "new"
    bench.light["A"].state = State.ALERT
    for _ in range(2):
        for vector in bench.vectors:
            bench.device.publish(vector)
    tags = [m.tag for m in bench.output.take()]
    assert tags == ["setNumberVector", "setSwitchVector", "setTextVector", "setLightVector"]


def test_publish_sends_ranges_when_they_changed_and_only_then(bench: Bench) -> None:
    bench.numbers["X"].value = 6
    bench.device.publish(bench.numbers)
    bench.numbers["X"].max = 7
    bench.device.publish(bench.numbers)
    bench.device.publish(bench.numbers)
    without, with_range = bench.output.take()
    assert without[0].get("max") is None
    assert (with_range[0].get("min"), with_range[0].get("max"), with_range[0].get("step")) == ("0", "7", "1")


def test_a_new_range_that_an_update_left_out_is_still_to_be_published(bench: Bench) -> None:
    bench.numbers["X"].max = 7
    bench.device.update(bench.numbers)
    bench.device.publish(bench.numbers)
    plain, with_range = bench.output.take()
    assert plain[0].get("max") is None
    assert with_range[0].get("max") == "7"


def test_a_definition_counts_as_an_update(bench: Bench) -> None:
    bench.numbers["X"].max = bench.numbers["X"].value = 7
    bench.device.get_properties("N")
    bench.device.publish(bench.numbers)
    (definition,) = bench.output.take()
    assert definition.tag == "defNumberVector"


def test_one_vector_may_be_shown_on_several_devices(bench: Bench) -> None:
    other = Device("E", bench.output)
    other.define(bench.text)
    bench.text["A"].value = "new"
    for device in (bench.device, other):
        device.publish(bench.text)
    assert [m.get("device") for m in bench.output.take()] == ["E", "D", "E"]


def test_texts_for_the_user_begin_as_libindi_s(bench: Bench) -> None:
    bench.device.info("a")
    bench.device.warning("b")
    bench.device.error("c")
    bench.device.debug("d")
    messages = [m.get("message") for m in bench.output.take()]
    assert messages == ["[INFO] a", "[WARNING] b", "[ERROR] c", "[DEBUG] d"]


# --- What clients may set ---------------------------------------------------------------------------------------


def test_the_handler_is_given_the_values_that_the_client_sent_and_no_others(bench: Bench) -> None:
    assert bench.accepted("Number", "N", ("X", "1:30")) == {"X": 1.5}
    assert bench.accepted("Number", "N", ("Y", "-3"), ("X", "100")) == {"Y": -3, "X": 100}
    assert bench.accepted("Text", "T", ("B", "é")) == {"B": "é"}
    assert bench.accepted("Switch", "ANY", ("B", "Off")) == {"B": False}


def test_handle_itself_sends_nothing_and_changes_nothing_when_the_handler_returns(bench: Bench) -> None:
    bench.accepted("Number", "N", ("X", "50"))
    assert bench.numbers["X"].value == 5
    assert bench.numbers.state is State.OK


@pytest.mark.parametrize("text", ["101", "-1", "100.0001", "1e300"])
def test_a_number_out_of_range_is_refused_and_the_range_named(bench: Bench, text: str) -> None:
    message = bench.refused("Number", "N", ("Y", "1"), ("X", text))
    assert f"D.N.X={text}" in message
    assert "from 0 to 100" in message


def test_the_ends_of_the_range_are_in_it(bench: Bench) -> None:
    assert bench.accepted("Number", "N", ("X", "0")) == {"X": 0}
    assert bench.accepted("Number", "N", ("X", "100")) == {"X": 100}


def test_a_number_without_range_takes_any_value(bench: Bench) -> None:
    assert bench.accepted("Number", "N", ("Y", "-1e300")) == {"Y": -1e300}


def test_a_handler_may_check_the_range_itself(bench: Bench) -> None:
    bench.device.define(bench.numbers, bench.handled.append, check_range=False)
    bench.output.take()
    assert bench.accepted("Number", "N", ("X", "101")) == {"X": 101}


@pytest.mark.parametrize("text", ["", "abc", "nan", "inf", "0x10", "On"])
def test_what_is_not_a_number_is_refused(bench: Bench, text: str) -> None:
    message = bench.refused("Number", "N", ("X", text))
    assert f"D.N.X={text}: this is not a number" in message
    assert "a number from 0 to 100 is expected" in message


def test_an_unknown_element_is_refused_and_the_known_ones_named(bench: Bench) -> None:
    assert "D.N.Z=1: there is no such element; there are X, Y" in bench.refused("Number", "N", ("X", "1"), ("Z", "1"))


def test_an_element_sent_twice_is_refused(bench: Bench) -> None:
    assert "sent twice" in bench.refused("Number", "N", ("X", "1"), ("X", "2"))


@pytest.mark.parametrize(("kind", "name"), [("Number", "N"), ("Switch", "ONE"), ("Switch", "MOST"), ("Text", "T")])
def test_a_message_without_values_is_refused(bench: Bench, kind: str, name: str) -> None:
    assert "no value was sent" in bench.refused(kind, name)


@pytest.mark.parametrize("kind", ["Switch", "Text", "Light", "BLOB"])
def test_the_wrong_kind_is_refused_and_the_right_one_named(bench: Bench, kind: str) -> None:
    message = bench.refused(kind, "N", ("X", "1"))
    assert f"a newNumberVector is expected here, not a new{kind}Vector" in message


@pytest.mark.parametrize(("kind", "name"), [("Text", "R"), ("Light", "L"), ("Text", "L"), ("BLOB", "R")])
def test_what_is_read_only_cannot_be_set(bench: Bench, kind: str, name: str) -> None:
    assert f"D.{name}.A=Ok: this property is read-only" in bench.refused(kind, name, ("A", "Ok"))


def test_a_property_without_handler_is_read_only(bench: Bench) -> None:
    bench.device.define(bench.numbers)
    bench.output.take()
    assert "read-only" in bench.refused("Number", "N", ("X", "1"))


@pytest.mark.parametrize("text", ["on", "ON", "1", "true", "", "Onn", "Busy"])
def test_a_switch_is_on_or_off_and_nothing_else(bench: Bench, text: str) -> None:
    assert "On or Off is expected" in bench.refused("Switch", "ANY", ("A", text))


def test_one_of_many_takes_exactly_one_that_is_on(bench: Bench) -> None:
    assert bench.accepted("Switch", "ONE", ("B", "On")) == {"B": True}
    assert bench.accepted("Switch", "ONE", ("A", "Off"), ("B", "On"), ("C", "Off")) == {"A": 0, "B": 1, "C": 0}
    assert "exactly one of A, B, C must be On, not 2" in bench.refused("Switch", "ONE", ("A", "On"), ("B", "On"))
    assert "D.ONE.A=Off: exactly one of A, B, C must be On" in bench.refused("Switch", "ONE", ("A", "Off"))
    assert "exactly one" in bench.refused("Switch", "ONE", ("A", "Off"), ("B", "Off"), ("C", "Off"))


def test_at_most_one_takes_none_or_one_that_is_on(bench: Bench) -> None:
    assert bench.accepted("Switch", "MOST", ("A", "Off")) == {"A": False}
    assert bench.accepted("Switch", "MOST", ("B", "On")) == {"B": True}
    assert "at most one of A, B may be On, not 2" in bench.refused("Switch", "MOST", ("A", "On"), ("B", "On"))


def test_any_of_many_takes_anything(bench: Bench) -> None:
    assert bench.accepted("Switch", "ANY", ("A", "On"), ("B", "On")) == {"A": True, "B": True}
    assert bench.accepted("Switch", "ANY", ("A", "Off"), ("B", "Off")) == {"A": False, "B": False}


def test_a_property_that_is_not_there_is_explained(bench: Bench) -> None:
    (message,) = bench.send("Number", "UNHEARD", ("X", "1"))
    assert (message.tag, message.get("message")) == ("message", "[ERROR] D has no property UNHEARD")


def test_the_driver_may_say_why_a_property_is_not_there() -> None:
    output = Recorder()
    device = Device("D", output, absent=lambda name: f"no {name} yet: connect D first")
    device.handle(NewVector("Number", "D", "N", (("X", "1"),)))
    (message,) = output.take()
    assert message.get("message") == "[ERROR] no N yet: connect D first"


def test_what_is_meant_for_another_device_is_left_alone(bench: Bench) -> None:
    bench.device.handle(NewVector("Number", "E", "N", (("X", "1"),)))
    assert bench.output.take() == []
    assert bench.handled == []


def test_a_long_text_of_a_client_is_shortened_in_messages(bench: Bench) -> None:
    assert len(bench.refused("Number", "N", ("X", "9" * 60000))) < 250
    assert len(bench.refused("Number", "N", ("Z" * 4000, "1"))) < 250
    (message,) = bench.send("Number", "N" * 4000, ("X", "1"))
    assert len(message.get("message", "")) < 250


def test_a_handler_that_refuses_leaves_the_values_as_they_were(bench: Bench) -> None:
    def handler(values: Mapping[str, Value]) -> None:
        bench.numbers["X"].value = 99
        raise Refused("the motor is stuck; 5 is accepted")

    bench.device.define(bench.numbers, handler)
    bench.output.take()
    message = bench.refused("Number", "N", ("X", "50"))
    assert message == "[ERROR] D.N.X=50: the motor is stuck; 5 is accepted"


def test_a_handler_that_fails_is_reported_and_does_not_end_the_driver(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    def handler(values: Mapping[str, Value]) -> None:
        bench.numbers["X"].value = 99
        raise ZeroDivisionError("on purpose")

    bench.device.define(bench.numbers, handler)
    bench.output.take()
    message = bench.refused("Number", "N", ("X", "50"))
    assert message == "[ERROR] D.N.X=50: the driver failed here, ZeroDivisionError: on purpose"
    assert "D.N.X=50: the handler failed\nTraceback" in caplog.text
    assert "on purpose" in caplog.text


def test_a_handler_that_removes_its_property_and_refuses_leaves_a_message(bench: Bench) -> None:
    def handler(values: Mapping[str, Value]) -> None:
        bench.device.remove("N")
        raise Refused("gone")

    bench.device.define(bench.numbers, handler)
    bench.output.take()
    deletion, message = bench.send("Number", "N", ("X", "50"))
    assert deletion.tag == "delProperty"
    assert (message.tag, message.get("message")) == ("message", "[ERROR] D.N.X=50: gone")


# --- Any client -------------------------------------------------------------------------------------------------

names = st.sampled_from(["N", "ONE", "MOST", "ANY", "T", "L", "R", "UNHEARD"]) | st.text(max_size=5)
element_names = st.sampled_from(["X", "Y", "A", "B", "C"]) | st.text(max_size=5)
values = st.sampled_from(["On", "Off", "1", "1:30", "101", "Ok"]) | st.text(st.characters(exclude_categories=()))
kinds = st.sampled_from(["Number", "Switch", "Text", "Light", "BLOB", "Unheard", ""])
elements = st.lists(st.tuples(element_names, values), max_size=4).map(tuple)


@given(st.lists(st.builds(NewVector, kinds, st.just("D"), names, elements), max_size=5))
def test_whatever_a_client_sends_is_handled_or_answered_once(events: list[NewVector]) -> None:
    bench = Bench()
    for event in events:
        answers = bench.send(event.kind, event.name, *event.elements)
        assert len(answers) + len(bench.handled) == 1
        bench.handled.clear()
    for vector in (bench.one, bench.numbers, bench.text):
        assert vector.values() == next(v for v in Bench().vectors if v.name == vector.name).values()


@given(st.lists(st.builds(NewVector, kinds, st.just("D"), names, elements), max_size=5))
def test_a_handler_is_given_only_what_its_property_accepts(events: list[NewVector]) -> None:
    bench = Bench()
    for event in events:
        bench.send(event.kind, event.name, *event.elements)
        for given_values in bench.handled:
            vector = next(vector for vector in bench.vectors if vector.name == event.name)
            assert given_values
            assert set(given_values) <= set(vector.elements)
            expected: dict[str, type] = {"Number": float, "Switch": bool, "Text": str}
            assert {type(value) for value in given_values.values()} == {expected[vector.kind]}
            on = sum(value is True for value in given_values.values())
            assert on == 1 or vector is not bench.one
            assert on <= 1 or vector is not bench.most
            assert vector is not bench.numbers or 0 <= float(given_values.get("X", 0)) <= 100
        bench.handled.clear()


@given(st.lists(st.sampled_from("<>/'\"=& \n:.-0123456789")).map("".join), st.binary(max_size=50))
def test_bytes_of_any_client_go_through_reader_and_device(text: str, noise: bytes) -> None:
    bench, reader = Bench(), Reader()
    message = f"<newNumberVector device='D' name='N'><oneNumber name='X'>{text}</oneNumber></newNumberVector>"
    good = b"<newNumberVector device='D' name='N'><oneNumber name='X'>7</oneNumber></newNumberVector>"
    for data in (message.encode(), noise, good, good):
        for event in reader.feed(data):
            if isinstance(event, NewVector):
                bench.device.handle(event)
    bench.output.take()


# --- libindi's server and clients -------------------------------------------------------------------------------

needs_libindi = pytest.mark.skipif(shutil.which("indiserver") is None, reason="indiserver is not installed")


class Server(IndiServer):
    """A real indiserver with the throwaway driver, asked by libindi's own command line clients."""

    def get(self, what: str, *options: str) -> str:
        """What indi_getprop prints, as soon as it has it; with a "*" it collects for all of its time."""
        done = self.run("indi_getprop", "-t", "2" if "*" in what else "10", *options, f"Throwaway.{what}")
        assert done.stderr == "" or done.returncode != 0
        return done.stdout.strip()

    def set(self, what: str) -> None:
        done = self.run("indi_setprop", "-t", "10", f"Throwaway.{what}")
        assert (done.returncode, done.stderr) == (0, "")

    def wait(self, what: str, value: str) -> None:
        """Until this element or attribute has this value."""
        eventually(lambda: self.get(what, "-1") == value)


@pytest.fixture
def server(home: Path) -> Iterator[Server]:
    server = Server(home, program=THROWAWAY)
    with server:
        yield server


@needs_libindi
def test_indi_getprop_sees_every_kind_of_property(server: Server) -> None:
    all_of_them = {
        *["Throwaway.NUMBERS.X=1", "Throwaway.NUMBERS.Y=2.5", "Throwaway.SWITCHES.A=On", "Throwaway.SWITCHES.B=Off"],
        *["Throwaway.TEXTS.SAID=Größe <&> 5 µm", "Throwaway.LIGHTS.LAMP=Idle", "Throwaway.FIXED.NAME=stone"],
        *[f"Throwaway.DO.{name}=Off" for name in ("WIDEN", "DELETE", "FAIL", "REFUSE")],
    }
    eventually(lambda: set(server.get("*.*").splitlines()) == all_of_them)
    server.wait("NUMBERS._STATE", "Idle")
    server.wait("NUMBERS._LABEL", "Numbers")


@needs_libindi
def test_indi_setprop_sets_numbers_switches_and_texts(server: Server) -> None:
    server.set("NUMBERS.X=42")
    server.wait("NUMBERS.X", "42")
    server.wait("NUMBERS._STATE", "Ok")
    server.wait("LIGHTS.LAMP", "Busy")
    server.set("SWITCHES.B=On")
    server.wait("SWITCHES.B", "On")
    server.wait("SWITCHES.A", "Off")
    server.set("TEXTS.SAID=Ünïcode 🔭")
    server.wait("TEXTS.SAID", "Ünïcode 🔭")


@needs_libindi
def test_what_is_refused_is_alert_with_unchanged_values_for_indi_getprop(server: Server) -> None:
    server.set("NUMBERS.X=101")
    server.wait("NUMBERS._STATE", "Alert")
    server.wait("NUMBERS.X", "1")
    server.may_fail = True
    server.set("DO.FAIL=On")
    server.wait("DO._STATE", "Alert")
    server.set("NUMBERS.X=7")
    server.wait("NUMBERS.X", "7")


@needs_libindi
def test_a_deleted_property_is_gone_for_indi_getprop(server: Server) -> None:
    server.wait("NUMBERS.X", "1")
    server.set("DO.DELETE=On")

    def properties() -> set[str]:
        return {line.split(".")[1] for line in server.get("*.*").splitlines()}

    eventually(lambda: properties() == {"SWITCHES", "TEXTS", "LIGHTS", "FIXED", "DO"})


@needs_libindi
def test_the_driver_ends_with_its_server(server: Server) -> None:
    server.wait("NUMBERS.X", "1")
    driver = server.driver_pid()
    assert is_running(driver)
    os.kill(os.getpgid(driver), signal.SIGKILL)  # the server leads the session that both are in
    eventually(lambda: not is_running(driver))


@needs_libindi
def test_pyindi_client_sees_values_ranges_messages_and_deletions(server: Server) -> None:
    client_module: Any = pytest.importorskip("PyIndi")
    messages: list[str] = []
    updates: list[str] = []

    class Client(client_module.BaseClient):  # type: ignore[misc]
        def updateProperty(self, changed: Any) -> None:
            updates.append(changed.getName())

        def newMessage(self, device: Any, number: int) -> None:
            messages.append(device.messageQueue(number))

    client = Client()
    client.setServer("localhost", server.port)
    assert client.connectServer()
    try:
        device = eventually(lambda: client.getDevice("Throwaway"))
        eventually(lambda: device.getSwitch("DO"))

        numbers = device.getNumber("NUMBERS")
        assert numbers.getLabel() == "Numbers"
        assert numbers.getGroupName() == "Main"
        x = numbers[0]
        assert (x.getValue(), x.getMin(), x.getMax(), x.getStep(), x.getFormat()) == (1, 0, 100, 1, "%.f")
        x.setValue(8)
        client.sendNewProperty(numbers)
        eventually(lambda: numbers.getState() == client_module.IPS_OK)
        assert x.getValue() == 8
        lights = device.getLight("LIGHTS")
        eventually(lambda: lights[0].getState() == client_module.IPS_BUSY)

        switches = device.getSwitch("SWITCHES")
        assert switches.getRule() == client_module.ISR_1OFMANY
        switches.reset()
        switches[1].setState(client_module.ISS_ON)
        client.sendNewProperty(switches)
        eventually(lambda: switches.getState() == client_module.IPS_OK)
        assert [switch.getState() for switch in switches] == [client_module.ISS_OFF, client_module.ISS_ON]

        texts = device.getText("TEXTS")
        assert texts[0].getText() == "Größe <&> 5 µm"
        texts[0].setText("Ünïcode <&> '🔭'")
        client.sendNewProperty(texts)
        eventually(lambda: texts.getState() == client_module.IPS_OK)
        assert texts[0].getText() == "Ünïcode <&> '🔭'"

        fixed = device.getText("FIXED")
        assert fixed.getPermission() == client_module.IP_RO

        do = device.getSwitch("DO")

        def press(name: str) -> None:
            """And wait for the answer: the client's own thread writes it into the switches that are set here."""
            before = updates.count("DO")
            do.reset()
            do.findWidgetByName(name).setState(client_module.ISS_ON)
            client.sendNewProperty(do)
            eventually(lambda: updates.count("DO") > before)

        press("WIDEN")
        assert x.getMax() == 5000  # the numbers were sent before the answer
        eventually(lambda: any("[INFO] done" in message for message in messages))
        press("REFUSE")
        assert do.getState() == client_module.IPS_ALERT
        eventually(lambda: any("not today; tomorrow is accepted" in message for message in messages))
        press("DELETE")
        eventually(lambda: not device.getNumber("NUMBERS"))
    finally:
        client.disconnectServer()
