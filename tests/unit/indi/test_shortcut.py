# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known by its bytes is done before it is read; it is what is read then, and nothing else is taken for it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indi_multifocus.indi import NewVector, Reader, Shortcuts

ABORT = b"""<newSwitchVector device="D 1" name="ABORT">
    <oneSwitch name="A">
On
    </oneSwitch>
</newSwitchVector>
"""
MOVE = b"""<newNumberVector device="D 1" name="GO">
    <oneNumber name="X">
120
    </oneNumber>
</newNumberVector>
"""
READ = {
    ABORT: NewVector("Switch", "D 1", "ABORT", (("A", "On"),)),
    MOVE: NewVector("Number", "D 1", "GO", (("X", "120"),)),
}


class Watched:
    """A reader, and what was done before it read."""

    def __init__(self) -> None:
        self.done: list[bytes] = []
        shortcuts = Shortcuts()
        shortcuts.add("Switch", "D 1", "ABORT", "A", self.done.append)
        shortcuts.add("Number", "D 1", "GO", "X", self.done.append)
        self.reader = Reader(shortcuts.take)


@pytest.mark.parametrize(("message", "value"), [(ABORT, b"On"), (MOVE, b"120")])
def test_a_message_that_is_known_is_done_and_then_read(message: bytes, value: bytes) -> None:
    watched = Watched()
    assert watched.reader.feed(message) == [READ[message]]
    assert watched.done == [value]


@pytest.mark.parametrize(
    "other",
    [
        ABORT.replace(b"D 1", b"D 2"),
        ABORT.replace(b'"ABORT"', b'"STOP"'),
        ABORT.replace(b'"A"', b'"B"'),
        ABORT.replace(b"Switch", b"Number"),
        MOVE.replace(b"    </one", b'    </oneNumber>\n    <oneNumber name="Y">\n1\n    </one'),
        MOVE.replace(b"120", b"1\n20"),
        ABORT + ABORT,
        ABORT + b"<",
        b"\n" + ABORT,
        ABORT[:-1],
        ABORT.replace(b'"', b"'"),
    ],
)
def test_whatever_differs_is_only_read(other: bytes) -> None:
    watched = Watched()
    watched.reader.feed(other)
    assert watched.done == []


def test_within_another_message_nothing_is_known() -> None:
    watched = Watched()
    watched.reader.feed(b'<newTextVector device="D 1" name="T">')
    watched.reader.feed(ABORT)
    watched.reader.feed(b"<!-- ")
    watched.reader.feed(MOVE)
    assert watched.done == []


def test_while_the_next_message_is_looked_for_nothing_is_known() -> None:
    watched = Watched()
    watched.reader.feed(b"text between messages")
    assert watched.reader.feed(ABORT) == [READ[ABORT]]
    assert watched.done == []
    watched.reader.feed(ABORT)
    assert watched.done == [b"On"]


def test_a_name_with_special_characters_is_known_by_its_entities() -> None:
    done: list[bytes] = []
    shortcuts = Shortcuts()
    shortcuts.add("Switch", "R&D", "ABORT", "A", done.append)
    shortcuts.take(ABORT.replace(b"D 1", b"R&amp;D"))
    assert done == [b"On"]


OPEN, CLOSE = b'<newTextVector device="D 1" name="T">', b"</newTextVector>"
PIECES = st.sampled_from([ABORT, MOVE, b"\n", b"<", OPEN, CLOSE, b" "])


@given(st.lists(PIECES, max_size=6), st.lists(st.integers(0, 400), max_size=4))
def test_what_was_done_is_what_is_read(pieces: list[bytes], places: list[int]) -> None:
    data = b"".join(pieces)
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    watched = Watched()
    for start, end in zip(edges, edges[1:]):
        before = len(watched.done)
        events = watched.reader.feed(data[start:end])
        for value in watched.done[before:]:
            (event,) = events
            assert event == READ[ABORT if value == b"On" else MOVE]
