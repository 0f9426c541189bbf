# SPDX-License-Identifier: GPL-3.0-or-later
"""Bytes that clients send → INDI messages. No I/O: `feed()` takes any piece of the stream and returns what it
completes.

The stream is many XML documents one after the other, so they are read as the children of one root that never
ends. Strict and small: what is no INDI message is passed over, what is not XML is reported and reading starts
anew at the next message, what is larger than any sane message is dropped; and nothing that is fed can raise
or make this grow.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Union
from xml.parsers import expat

MAX_TEXT = 65_536
"""Characters in one element's value."""
MAX_TOKEN = 131_072
"""Bytes in one tag with its attributes."""
MAX_ELEMENTS = 64
"""Elements in one vector."""
MAX_DEPTH = 8
PARSER_LIFE = 1_048_576
"""Bytes after which a parser is replaced: it remembers every tag and attribute name that it has seen."""


@dataclass(frozen=True)
class GetProperties:
    """A client asks for definitions: of all devices, of one, or of one property of it."""

    device: str | None
    name: str | None


@dataclass(frozen=True)
class NewVector:
    """A client wants a property to have these values; `elements` are (name, text) as sent, without white
    space around."""

    kind: str
    device: str
    name: str
    elements: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Malformed:
    """Something was dropped; `reason` is for a log."""

    reason: str


Event = Union[GetProperties, NewVector, Malformed]

_KINDS = {f"new{kind}Vector": kind for kind in ("Number", "Switch", "Text", "Light", "BLOB")}
_START = re.compile(rb"<(?:getProperties|enableBLOB|new(?:Number|Switch|Text|Light|BLOB)Vector)(?=[\s/>])")
_DECLARATION = re.compile(rb"\s*<\?xml[^>]{0,200}\?>")
_LONGEST_START = 32


class _Restart(Exception):
    """Raised in a handler: from here on the stream makes no sense."""


class Reader:
    """One client stream; indiserver merges all clients into one for a driver."""

    def __init__(self) -> None:
        self._seeking = False
        self._rest = b""
        self._start_parser()

    def _start_parser(self) -> None:
        parser = expat.ParserCreate("utf-8", intern={})
        parser.buffer_text = True
        parser.StartElementHandler = self._start_element
        parser.EndElementHandler = self._end_element
        parser.CharacterDataHandler = self._character_data
        self._parser = parser
        self._depth = 0
        self._events: list[Event] = []
        self._message: tuple[str, dict[str, str]] | None = None
        self._elements: list[tuple[str, str]] = []
        self._element: str | None = None
        self._text: list[str] = []
        self._text_length = 0
        self._too_large = ""
        self._silent = 0
        parser.Parse(b"<stream>")
        self._fed = len(b"<stream>")

    def feed(self, data: bytes) -> list[Event]:
        """The messages that `data` completes, in order. Never raises."""
        events: list[Event] = []
        data = self._rest + data
        self._rest = b""
        while data:
            if self._seeking:
                data = self._seek(data)
                if self._seeking:
                    break
            data = self._parse(data, events)
        return events

    def _seek(self, data: bytes) -> bytes:
        """Drop everything before the next start of a message."""
        match = _START.search(data)
        if match is not None:
            self._seeking = False
            return data[match.start() :]
        tag = data.rfind(b"<", max(0, len(data) - _LONGEST_START))
        self._rest = data[tag:] if tag >= 0 else b""
        return b""

    def _parse(self, data: bytes, events: list[Event]) -> bytes:
        """Parse `data`; returns what is to be read anew, after something that made no sense."""
        begin = self._fed
        self._silent += len(data)
        try:
            self._parser.Parse(data)
            self._fed += len(data)
            if self._silent > MAX_TOKEN:
                raise _Restart(f"a tag of more than {MAX_TOKEN} bytes")
        except expat.ExpatError as error:
            at = max(0, self._parser.ErrorByteIndex - begin)
            declaration = _DECLARATION.match(data, at)
            if declaration is not None and self._depth == 1:
                rest = data[declaration.end() :]  # some clients begin each connection, or message, with one
            else:
                self._events.append(Malformed(f"not well-formed XML ({expat.errors.messages[error.code]})"))
                self._seeking = True
                rest = data[at + 1 :]
        except _Restart as problem:
            self._events.append(Malformed(str(problem)))
            self._seeking = True
            # The tag at fault may be the start of a good message, so it is looked at again.
            rest = data[max(0, self._parser.CurrentByteIndex - begin) :] if self._silent <= MAX_TOKEN else b""
        else:
            events += self._events
            self._events.clear()
            if self._fed > PARSER_LIFE and self._depth == 1:
                self._start_parser()
            return b""
        events += self._events
        self._start_parser()
        return rest

    # --- What expat calls -------------------------------------------------------------------------------------------

    def _start_element(self, tag: str, attributes: dict[str, str]) -> None:
        self._silent = 0
        self._depth += 1
        if self._depth == 2:
            self._begin_message(tag, attributes)
        elif self._depth > MAX_DEPTH:
            raise _Restart(f"elements nested deeper than {MAX_DEPTH}")
        elif self._depth > 2 and (tag in _KINDS or tag == "getProperties"):
            raise _Restart(f"a {tag} inside another message")
        elif self._depth == 3 and self._message is not None:
            self._begin_element(tag, attributes)

    def _begin_message(self, tag: str, attributes: dict[str, str]) -> None:
        self._message = (tag, attributes) if tag in _KINDS or tag == "getProperties" else None
        self._elements = []
        self._too_large = ""
        for name, value in attributes.items():
            if len(value) > MAX_TEXT // 16:
                self._too_large = f"attribute {name[:40]} of more than {MAX_TEXT // 16} characters"

    def _begin_element(self, tag: str, attributes: dict[str, str]) -> None:
        self._element = None
        self._text = []
        self._text_length = 0
        if self._message is None or tag != f"one{_KINDS.get(self._message[0], '')}":
            return
        self._element = attributes.get("name", "")
        if len(self._element) > MAX_TEXT // 16:
            self._too_large = f"an element name of more than {MAX_TEXT // 16} characters"
        if len(self._elements) >= MAX_ELEMENTS:
            self._too_large = f"more than {MAX_ELEMENTS} elements"

    def _character_data(self, text: str) -> None:
        self._silent = 0
        if self._depth == 3 and self._element is not None and not self._too_large:
            self._text_length += len(text)
            if self._text_length > MAX_TEXT:
                self._too_large = f"a value of more than {MAX_TEXT} characters"
                self._text = []
            else:
                self._text.append(text)

    def _end_element(self, tag: str) -> None:
        self._silent = 0
        if self._depth == 3 and self._element is not None:
            if not self._too_large:
                self._elements.append((self._element, "".join(self._text).strip()))
            self._element = None
        elif self._depth == 2 and self._message is not None:
            self._end_message(*self._message)
            self._message = None
        self._depth -= 1

    def _end_message(self, tag: str, attributes: dict[str, str]) -> None:
        if self._too_large:
            self._events.append(Malformed(f"{tag}: {self._too_large}"))
        elif tag == "getProperties":
            self._events.append(GetProperties(attributes.get("device"), attributes.get("name")))
        else:
            self._events.append(
                NewVector(_KINDS[tag], attributes.get("device", ""), attributes.get("name", ""), tuple(self._elements))
            )
