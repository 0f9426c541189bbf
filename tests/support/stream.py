# SPDX-License-Identifier: GPL-3.0-or-later
"""Bytes → XML elements: what an INDI device or server sends, for the clients of tests and tools.

No I/O in here: feed it what was read, and get the messages that are complete by now.

Expat from 2.6 on, and the 2.5 of an updated Debian 12, does not read a tag that came in several pieces until more
bytes follow it, which on this stream may be never. INDI escapes ">" within attributes, so what is fed up to the last
">" holds whole tags only, and nothing is deferred.
"""

from __future__ import annotations

from typing import Any, cast
from xml.etree import ElementTree


class Stream:
    """What one device or server sends. `feed` raises AssertionError for text between messages, and
    xml.etree.ElementTree.ParseError for what is not XML."""

    def __init__(self) -> None:
        self._parser: ElementTree.XMLPullParser[Any] = ElementTree.XMLPullParser(["start", "end"])
        self._parser.feed("<stream>")
        self._depth = 0
        self._root = self._before = ElementTree.Element("")
        self._rest = b""
        """What came after the last tag."""

    def feed(self, data: bytes) -> list[ElementTree.Element]:
        """Take the next bytes, any number. Returns the messages that they complete, in order."""
        whole, end, rest = (self._rest + data).rpartition(b">")
        self._rest = rest
        self._parser.feed(whole + end)
        if hasattr(self._parser, "flush"):  # in Pythons from 2024 on: a tag of megabytes is deferred nevertheless
            self._parser.flush()
        messages: list[ElementTree.Element] = []
        for happened in self._parser.read_events():
            event, element = cast("tuple[str, ElementTree.Element]", happened)
            if event == "start":
                self._depth += 1
                if self._depth == 1:
                    self._root = self._before = element
                elif self._depth == 2:
                    between = (self._before.tail or "") + (self._root.text or "")
                    assert not between.strip(), f"{between!r} is not INDI"
                continue
            self._depth -= 1
            if self._depth == 1:
                messages.append(element)
                self._before = element
                self._root.clear()
        return messages
