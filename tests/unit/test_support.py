# SPDX-License-Identifier: GPL-3.0-or-later
"""The helpers that the tests themselves stand on."""

from __future__ import annotations

import pytest
from stream import Stream

MESSAGES = (
    b"<delProperty device='A' timestamp='2026-11-26T00:00:00.0'/>",
    b"<setTextVector device='A' name='" + b"N" * 3000 + b"' state='Ok'><oneText name='T'>a &gt; b</oneText>"
    b"</setTextVector>",
    b"<message device='A' message='1 &gt; 0, &lt;and&gt; so on'/>",
)


@pytest.mark.parametrize("piece", [1, 7, 1000, 100_000])
def test_a_message_is_there_with_its_last_byte_however_it_was_cut(piece: int) -> None:
    stream = Stream()
    tags: list[str] = []
    for message in MESSAGES:
        assert not tags
        for begin in range(0, len(message), piece):
            assert not tags
            tags += [element.tag for element in stream.feed(message[begin : begin + piece])]
        assert [tag.encode() for tag in tags] == [message[1:].split()[0]]
        tags.clear()
        assert stream.feed(b"\n") == []


def test_text_between_messages_is_no_INDI() -> None:
    with pytest.raises(AssertionError, match="'rubbish' is not INDI"):
        Stream().feed(b"<message device='A'/>rubbish<message device='A'/>")


@pytest.fixture(scope="module")
def shared() -> object:
    return object()


def test_tests_that_share_a_fixture_are_run_by_one_worker(shared: object, request: pytest.FixtureRequest) -> None:
    """pytest-xdist keeps those in one worker that it has given the same suffix."""
    grouped = getattr(request.config.option, "loadgroup", False)  # set in a worker alone
    assert request.node.nodeid.endswith("@test_support") == grouped
