# SPDX-License-Identifier: GPL-3.0-or-later
"""Bytes → events: what clients send to a device, read from a stream in any fragmentation.

Used by the main thread: feed it what `os.read` gave and act on the events. No I/O and no
clock in here, and nothing that is fed may raise out of `feed`.

An INDI stream is not one XML document but an endless row of small ones. So reading has two steps:

1. *Framing*, here: find where each message begins and ends, by following tags, quotes, comments and CDATA.
   "<" cannot stand within an attribute, so an unfinished tag cannot hide the message behind it.
2. *Parsing*: each complete message goes to an expat parser of its own, in one piece.

The alternative, one expat parser for the whole stream, has three faults for this purpose: from version 2.6
on, expat puts off reading a tag that came in two pieces until more bytes follow, which for a stream can mean
until the next message; an XML declaration between messages is an error to it; and it buffers an unfinished
tag without bound.

What is malformed or too large is dropped with one Malformed event, and reading starts anew at the next start
of a message that INDI clients send. A decision never depends on how the bytes were cut into pieces.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple, Union
from xml.parsers import expat

MAX_TAG = 4096
"""Bytes of one tag with its attributes."""

MAX_TEXT = 65536
"""Bytes between two tags."""

MAX_MESSAGE = 262144
"""Bytes of a whole message."""

MAX_ELEMENTS = 64
"""Elements within a message."""

MAX_DEPTH = 8
"""Elements within each other."""


class GetProperties(NamedTuple):
    """A client wants the definitions of all properties, of one device's, or of one property."""

    device: str | None
    name: str | None


class NewVector(NamedTuple):
    """A client wants a property to change. `elements` are (name, text), in its order, not checked yet."""

    kind: str
    """"Number", "Switch", "Text", "Light" or "BLOB"."""
    device: str
    name: str
    elements: tuple[tuple[str, str], ...]


class Malformed(NamedTuple):
    """Something was dropped; `reason` says why, for the log."""

    reason: str


Event = Union[GetProperties, NewVector, Malformed]

_KINDS = (b"Number", b"Switch", b"Text", b"Light", b"BLOB")
_READ = {b"getProperties"} | {b"new%sVector" % kind for kind in _KINDS}
_STARTS = _READ | {b"enableBLOB"}
"""What clients send begins with these; none of them can stand within another."""

_START = re.compile(rb"<(?:%s)(?=[\s/>])" % b"|".join(sorted(_STARTS)))
_START_LENGTH = max(map(len, _STARTS)) + 2

_TAG = re.compile(
    rb"""(?x) <(/?) ([A-Za-z_:\x80-\xff] [^\s<>/"'=]*) (?![^\s<>/"'=])
    [^<>"']* (?: (?: "[^<"]*" | '[^<']*' ) [^<>"']* )* >"""
)
"""The look-ahead ends the name where it ends, so that a tag which does not match is given up in linear time."""
_TAG_BEGINS = re.compile(rb"</?(?:[A-Za-z_:\x80-\xff]|\Z)")
_BLANK = re.compile(rb"[ \t\r\n]*(?:\xef\xbb\xbf[ \t\r\n]*)*")
"""What may stand between messages: white space, and the mark that some editors put before UTF-8."""

_BOM = b"\xef\xbb\xbf"
_COMMENT, _CDATA, _INSTRUCTION = b"<!--", b"<![CDATA[", b"<?"
_ENDS = {_COMMENT: b"-->", _CDATA: b"]]>", _INSTRUCTION: b"?>"}

_DECLARATION = re.compile(rb"<\?xml\s")
_ENCODING = re.compile(rb"""\sencoding\s*=\s*["']([^"']*)["']""")
_ENCODINGS = {b"utf-8": "utf-8", b"utf8": "utf-8", b"us-ascii": "us-ascii", b"ascii": "us-ascii"}
_ENCODINGS.update({b"iso-8859-1": "iso-8859-1", b"latin1": "iso-8859-1", b"latin-1": "iso-8859-1"})
"""Those that expat itself knows and in which a tag is the same bytes as in ASCII."""

_LEADING = re.compile(r"[ \t]*\n[ \t]*")
_TRAILING = re.compile(r"\n[ \t]*\Z")


class _Lost(Exception):
    """The stream makes no sense here. `reason` is for the log, `at` is where to look for the next message."""

    def __init__(self, reason: str, at: int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.at = at


class Reader:
    """The companion of one stream of messages from clients. Holds at most one unfinished message."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        """From the beginning of the message that is being read."""
        self._position = 0
        """What is before it in the buffer has been looked at."""
        self._text = 0
        """Where the last tag ended."""
        self._open: list[bytes] = []
        """Names of the elements that have begun but not ended, the message itself first."""
        self._elements = 0
        self._lost = False
        """Looking for the next start of a message."""
        self._encoding = "utf-8"

    def feed(self, data: bytes) -> list[Event]:
        """Take the next bytes of the stream, any number. Returns what is complete by now, in order."""
        events: list[Event] = []
        for start in range(0, len(data), MAX_TEXT):
            self._buffer += data[start : start + MAX_TEXT]
            while True:
                try:
                    if self._lost and not self._find_start():
                        break
                    if not self._step(events):
                        break
                except _Lost as lost:
                    events.append(Malformed(lost.reason))
                    self._restart(lost.at)
                    self._lost = True
        return events

    def _restart(self, at: int) -> None:
        """Forget what is before this place."""
        del self._buffer[:at]
        self._position = self._text = self._elements = 0
        self._open.clear()

    def _find_start(self) -> bool:
        """Go to the next start of a message. False: it has not come yet."""
        start = _START.search(self._buffer)
        self._lost = start is None
        self._restart(start.start() if start else max(0, len(self._buffer) - _START_LENGTH))
        return start is not None

    def _step(self, events: list[Event]) -> bool:
        """Read up to the end of the next tag, comment or the like. False: it has not come yet."""
        buffer = self._buffer
        if not self._open:
            self._skip_blanks()
        limit = self._text + MAX_TEXT + 1
        begin = buffer.find(b"<", self._position, limit)
        if begin < 0:
            if len(buffer) >= limit:
                raise _Lost(f"{self._where()}: dropped, more than {MAX_TEXT} bytes of text", limit)
            self._position = len(buffer)
            return False
        tag = _TAG.match(buffer, begin, begin + MAX_TAG)
        if tag is None:
            return self._step_other(begin, limit)
        end = tag.end()
        if end > MAX_MESSAGE:
            raise _Lost(f"{self._where()}: dropped, a message of more than {MAX_MESSAGE} bytes", end)
        name = tag[2]
        if tag[1]:
            if not self._open or self._open[-1] != name:
                raise _Lost(f"{self._where()}: </{_shown(name)}> ends nothing that is open", end)
            self._open.pop()
        else:
            self._begin(name, begin, end, empty=buffer[end - 2] == 0x2F)
        self._position = self._text = end
        if not self._open:
            message = bytes(buffer[:end])
            self._restart(end)
            if name in _READ:
                events.append(_parse(message, name.decode(), self._encoding))
        return True

    def _begin(self, name: bytes, begin: int, end: int, *, empty: bool) -> None:
        """An element begins; `empty` if it ends at once."""
        if self._open and name in _STARTS and self._open[0] in _STARTS:
            raise _Lost(f"{self._where()}: does not end before the next message, <{_shown(name)}>", begin)
        self._elements += 1
        if self._elements > MAX_ELEMENTS + 1:
            raise _Lost(f"{self._where()}: dropped, more than {MAX_ELEMENTS} elements", end)
        if len(self._open) == MAX_DEPTH:
            raise _Lost(f"{self._where()}: dropped, more than {MAX_DEPTH} elements within each other", end)
        if not empty:
            self._open.append(name)

    def _skip_blanks(self) -> None:
        """Drop what may stand between messages."""
        blank = _BLANK.match(self._buffer)
        assert blank is not None
        rest = bytes(self._buffer[blank.end() : blank.end() + len(_BOM)])
        if rest and not rest.startswith(b"<") and not _BOM.startswith(rest):
            raise _Lost(f"text between messages, from {_shown(rest[:1])} on", blank.end())
        self._restart(blank.end())

    def _step_other(self, begin: int, limit: int) -> bool:
        """Read a comment, CDATA or processing instruction. Whatever else begins with "<" is malformed."""
        buffer = self._buffer
        head = bytes(buffer[begin : begin + len(_CDATA)])
        for opening, closing in _ENDS.items():
            if head.startswith(opening):
                end = buffer.find(closing, begin + len(opening), limit)
                if end < 0:
                    if len(buffer) >= limit:
                        raise _Lost(f"{self._where()}: dropped, more than {MAX_TEXT} bytes of text", limit)
                    return False
                self._position = end + len(closing)
                if not self._open:
                    self._between(opening)
                return True
        if _COMMENT.startswith(head) or _CDATA.startswith(head):
            return False
        if head.startswith(b"<!"):
            raise _Lost(f"{self._where()}: document types and entities are refused", begin + 2)
        if not _TAG_BEGINS.match(head):
            raise _Lost(f"{self._where()}: a tag cannot begin with {_shown(head[:2])}", begin + 1)
        after = buffer.find(b"<", begin + 1, begin + MAX_TAG)
        if after >= 0:
            raise _Lost(f"{self._where()}: a tag does not end: {_shown(bytes(buffer[begin:after]))}", after)
        if len(buffer) >= begin + MAX_TAG:
            raise _Lost(f"{self._where()}: dropped, a tag of more than {MAX_TAG} bytes", begin + 1)
        return False

    def _between(self, opening: bytes) -> None:
        """A comment or the like came between messages. An XML declaration gives the encoding from here on."""
        found, end = bytes(self._buffer[: self._position]), self._position
        if opening == _CDATA:
            raise _Lost(f"text between messages: {_shown(found)}", end)
        self._restart(end)
        if _DECLARATION.match(found):
            encoding = _ENCODING.search(found)
            name = encoding[1].lower() if encoding else b"utf-8"
            self._encoding = _ENCODINGS.get(name, "utf-8")
            if name not in _ENCODINGS:
                raise _Lost(f"encoding {_shown(name)} is not known here: what follows is read as UTF-8", 0)

    def _where(self) -> str:
        """What is being read, for the log."""
        return _shown(self._open[0]) if self._open else "between messages"


def _shown(data: bytes) -> str:
    """Bytes of a client for the log: printable and short."""
    return ascii(data[:40].decode("ascii", "replace"))[1:-1].replace("\\ufffd", "?")[:60]


class _Message:
    """What expat finds in one message."""

    def __init__(self, one: str) -> None:
        self.attributes: Mapping[str, str] = {}
        self.elements: list[tuple[str, str]] = []
        self.nameless = False
        self._one = one
        self._depth = 0
        self._name: str | None = None
        """Of the value that is being read, or None."""
        self._value = ""

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth == 1:
            self.attributes = attributes
        elif self._depth == 2 and tag == self._one:
            self._name = attributes.get("name", "")
            self._value = ""

    def data(self, text: str) -> None:
        if self._depth == 2:
            self._value += text

    def end(self, tag: str) -> None:
        if self._depth == 2 and self._name is not None:
            self.nameless = self.nameless or not self._name
            self.elements.append((self._name, self._value))
            self._name = None
        self._depth -= 1


def _parse(message: bytes, tag: str, encoding: str) -> Event:
    """One complete message that begins with <`tag`>."""
    kind = "" if tag == "getProperties" else tag[len("new") : -len("Vector")]
    found = _Message("one" + kind)
    parser = expat.ParserCreate(encoding)
    parser.buffer_text = True
    parser.StartElementHandler = found.start
    parser.EndElementHandler = found.end
    parser.CharacterDataHandler = found.data
    try:
        parser.Parse(message, True)
    except expat.ExpatError as error:
        return Malformed(f"{tag}: {error}")
    device, name = found.attributes.get("device"), found.attributes.get("name")
    if not kind:
        return GetProperties(device or None, name or None)
    if not device or not name:
        return Malformed(f"{tag}: has no {'name' if device else 'device'}")
    if found.nameless:
        return Malformed(f"{tag} {name[:40]!a}: an element has no name")
    strip = _unwrapped if kind == "Text" else str.strip
    elements = tuple([(element, strip(value)) for element, value in found.elements])
    return NewVector(kind, device, name, elements)


def _unwrapped(text: str) -> str:
    """A text without the line break and indentation that libindi's clients and server put around it.

    Blanks that stand on the text's own line, and line breaks within, are the client's.
    """
    leading = _LEADING.match(text)
    if leading is not None:
        text = text[leading.end() :]
    trailing = _TRAILING.search(text)
    return text if trailing is None else text[: trailing.start()]
