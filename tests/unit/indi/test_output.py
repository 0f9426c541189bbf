# SPDX-License-Identifier: GPL-3.0-or-later
"""How messages leave: each in one write where somebody reads; where nobody does, without waiting and within bounds."""

from __future__ import annotations

import os
import re
import socket
import threading
from collections.abc import Iterator
from typing import Union
from xml.etree import ElementTree

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from indi_multifocus.indi import Message, Number, NumberVector, Output, writer
from indi_multifocus.indi.output import MAX_TEXTS


class Pipe:
    """A pipe with an Output on its write end, and a reader that reads on request."""

    def __init__(self) -> None:
        self.read_end, self._write_end = os.pipe()
        os.set_blocking(self.read_end, False)
        self.output = Output(self._write_end)
        self.filled = 0

    def fill(self) -> None:
        """Let the next message wait: nobody has read what is in there."""
        os.set_blocking(self._write_end, False)
        try:
            while True:
                self.filled += os.write(self._write_end, b" " * 4096)
        except BlockingIOError:
            pass

    def read(self) -> bytes:
        """What arrives when somebody reads all there is, and goes on reading."""
        data = b""
        while True:
            try:
                data += os.read(self.read_end, 1 << 20)
            except BlockingIOError:
                if not self.output.waiting:
                    return data
                self.output.flush()

    def messages(self) -> list[ElementTree.Element]:
        """That, as XML."""
        return list(ElementTree.fromstring(b"<stream>%s</stream>" % self.read()))

    def close(self) -> None:
        for fd in (self.read_end, self._write_end):
            os.close(fd)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.close()


def vector(name: str, value: float, high: float = 0) -> NumberVector:
    return NumberVector(name, name, "Main", [Number("X", "x", value, max=high)])


def defined(name: str, value: float, high: float = 0) -> Message:
    return Message("def", "D", name, writer.definition("D", vector(name, value, high)))


def updated(name: str, value: float, text: str = "", high: float | None = None) -> Message:
    ranges = high is not None
    data = writer.update("D", vector(name, value, high or 0), text or None, ranges=ranges)
    return Message("set", "D", name, data, text, ranges)


def deleted(name: str) -> Message:
    return Message("del", "D", name, writer.deletion("D", name))


def waits(pipe: Pipe) -> bool:
    """Whether something waits for the reader."""
    return pipe.output.waiting


def text_message(text: str) -> Message:
    return Message("message", "D", "", writer.message("D", text), text)


def test_each_message_leaves_in_one_write() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        output = Output(ours.fileno())
        many = NumberVector("N", "n", "G", [Number(f"E{n}", "e" * 50) for n in range(60)])
        messages = [
            Message("def", "D", "N", writer.definition("D", many)),
            Message("set", "D", "N", writer.update("D", many, ranges=True), ranges=True),
            deleted("N"),
            text_message("hello"),
        ]
        for message in messages:
            output.write(message)
        theirs.settimeout(5)
        assert [theirs.recv(1 << 20) for _ in messages] == [message.data for message in messages]  # a packet is a write


def test_a_message_that_does_not_fit_leaves_whole_as_it_is_read(pipe: Pipe) -> None:
    long = text_message("x" * 500_000)
    pipe.output.write(long)
    pipe.output.write(text_message("short"))
    assert waits(pipe)
    data = pipe.read()
    assert data.startswith(long.data)
    assert [message.get("message") for message in ElementTree.fromstring(b"<s>%s</s>" % data)] == [long.text, "short"]
    assert not waits(pipe)
    assert not pipe.output.closed


def test_a_reader_that_is_gone_closes_the_output_and_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[bytes] = []

    def broken(fd: int, data: bytes) -> int:
        written.append(data)
        raise BrokenPipeError

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", broken)
        output = Output(-1)
        closed = [output.closed]
        for text in ("one", "two"):
            output.write(text_message(text))
            closed.append(output.closed)
    assert closed == [False, True, True]
    assert written == [text_message("one").data], "nothing is written any more once it is closed"
    assert not output.waiting


def test_of_a_property_the_newest_waits(pipe: Pipe) -> None:
    pipe.output.write(defined("A", 0))
    pipe.fill()
    for value in range(1000):
        pipe.output.write(updated("A", value))
        pipe.output.write(updated("B", -value))
    last = [(message.get("name"), message[0].text) for message in pipe.messages()[1:]]
    # The first could have gone in part when the pipe was full: such a one is finished.
    assert last[-2:] == [("A", "999"), ("B", "-999")]
    assert len(last) <= 3


def test_of_texts_the_last_wait_and_those_before_are_counted(pipe: Pipe) -> None:
    pipe.fill()
    pipe.output.write(updated("A", 1))  # perhaps in part
    for number in range(MAX_TEXTS + 30):
        pipe.output.write(text_message(f"[INFO] {number}"))
    pipe.output.write(updated("B", 2, "[INFO] with B"))
    texts = [str(message.get("message")) for message in pipe.messages() if message.tag == "message"]
    assert texts[0] == "[WARNING] 30 messages were dropped, because nobody read them"
    assert texts[1:] == [f"[INFO] {number}" for number in range(30, MAX_TEXTS + 30)]


def test_the_message_of_an_update_that_is_replaced_is_still_sent(pipe: Pipe) -> None:
    pipe.fill()
    pipe.output.write(updated("A", 0))
    pipe.output.write(updated("B", 1, "[ERROR] that was refused"))
    pipe.output.write(updated("B", 2))
    arrived = [(message.tag, message.get("name"), message.get("message")) for message in pipe.messages()]
    assert arrived[-2:] == [("setNumberVector", "B", None), ("message", None, "[ERROR] that was refused")]


def test_at_the_end_it_waits_for_a_slow_reader_but_not_for_one_that_does_not_read(pipe: Pipe) -> None:
    pipe.output.write(text_message("x" * 500_000))
    pipe.output.drain(0.01)
    assert waits(pipe), "nobody reads"
    got: list[bytes] = []

    def read() -> None:
        os.set_blocking(pipe.read_end, True)
        while sum(map(len, got)) < 500_000:
            got.append(os.read(pipe.read_end, 4096))

    reader = threading.Thread(target=read)
    reader.start()
    pipe.output.drain(20.0)
    reader.join(20.0)
    assert not waits(pipe)
    assert re.fullmatch(rb"<message [^>]*x{500000}\"/>\n", b"".join(got))


Known = dict[str, tuple[str, str]]
"""Of each property that a client knows, its value and its maximum."""


def view(messages: list[ElementTree.Element], *, libindi: bool) -> Known:
    """What a client knows that has read these. Fails on an update of what it does not know.

    `libindi`: it takes no notice of a definition of what it knows already, as clients of libindi do.
    """
    known: Known = {}
    for message in messages:
        name = str(message.get("name"))
        if message.tag == "delProperty":
            known.pop(name, None)
            continue
        value = str(message[0].text).strip()
        if message.tag.startswith("def"):
            if libindi and name in known:
                continue
            known[name] = (value, str(message[0].get("max")))
        else:
            _, high = known[name]
            known[name] = (value, message[0].get("max", high))
    return known


Step = Union[Message, None]
"""None: somebody reads."""


@st.composite
def histories(draw: st.DrawFn) -> list[Step]:
    """What a driver may say, in an order in which it may: of a property that is not defined only its definition."""
    there: set[str] = set()
    steps: list[Step] = []
    for number in range(draw(st.integers(1, 25))):
        name = draw(st.sampled_from("AB"))
        what = draw(st.sampled_from(["set", "set", "ranges", "def", "del", "text", "read"]))
        if what == "read":
            steps.append(None)
        elif what == "text":
            steps.append(text_message(f"{number}"))
        elif name not in there or what == "def":
            there.add(name)
            steps.append(defined(name, number, number + 100))
        elif what == "del":
            there.remove(name)
            steps.append(deleted(name))
        else:
            steps.append(updated(name, number, high=number + 100 if what == "ranges" else None))
    return steps


@given(histories(), st.booleans())
@example([defined("A", 1, 101), None, updated("A", 2, high=102), updated("A", 3)], False)
@example([defined("A", 1, 101), None, deleted("A"), defined("A", 2, 102), updated("A", 3), deleted("A")], False)
@example([defined("A", 1, 101), None, updated("A", 2), defined("A", 2, 101)], True)
def test_who_reads_late_ends_up_knowing_what_one_knows_who_read_everything(history: list[Step], libindi: bool) -> None:
    whole = [message for message in history if message is not None]
    said_of_properties = [ElementTree.fromstring(message.data) for message in whole if message.kind != "message"]
    expected = view(said_of_properties, libindi=libindi)
    pipe = Pipe()
    try:
        arrived: list[ElementTree.Element] = []
        pipe.fill()
        for step in history:
            if step is None:
                arrived += pipe.messages()
                pipe.fill()
            else:
                pipe.output.write(step)
        arrived += pipe.messages()
    finally:
        pipe.close()
    assert view([message for message in arrived if message.tag != "message"], libindi=libindi) == expected
    texts = [message.get("message") for message in arrived if message.tag == "message"]
    assert texts == [message.text for message in whole if message.kind == "message"]
