# SPDX-License-Identifier: GPL-3.0-or-later
"""Bytes of clients through the reader: the same events in any fragmentation, what XML says, and little memory.

What is one well-formed message to Python's own XML library must be read as that library reads it.
"""

from __future__ import annotations

from xml.etree import ElementTree

from indi_multifocus.indi import Event, GetProperties, Malformed, NewVector, Reader
from indi_multifocus.indi.reader import MAX_DEPTH, MAX_ELEMENTS, MAX_MESSAGE, MAX_TEXT

GOOD = b"<newNumberVector device='D' name='N'><oneNumber name='X'>7</oneNumber></newNumberVector>"
READ = NewVector("Number", "D", "N", (("X", "7"),))

SEEDS = [
    GOOD,
    b'<newNumberVector device="D" name="N">\n    <oneNumber name="X">\n7\n    </oneNumber>\n    <oneNumber name="Y">\n'
    b"-8.5\n    </oneNumber>\n</newNumberVector>\n",
    b"<newTextVector device='D' name='T'><oneText name='A'>more than a few characters of text</oneText>"
    b"<oneText name='B'>\n  other\n</oneText></newTextVector>",
    b'<?xml version="1.0"?>\n<getProperties version="1.7"/>\n<getProperties device="D" name="N"/>',
    b"<newSwitchVector device='D' name='S'>\n <oneSwitch name='A'>\nOn\n  </oneSwitch></newSwitchVector>\n" + GOOD,
    b"<newTextVector device='&lt;D' name='T'><oneText name='A'>&#9;&amp;<![CDATA[<]]><!----></oneText></newTextVector>",
    b"<newBLOBVector device='D' name='B'><oneBLOB name='A' size='1' format='.x'>QQ==</oneBLOB></newBLOBVector>",
    b"<enableBLOB device='D'>Never</enableBLOB><unknown><a b='c'/>text</unknown>" + GOOD,
    b"<?xml version='1.0' encoding='ISO-8859-1'?><newTextVector device='D' name='\xe9'></newTextVector>" + GOOD,
    b"<!DOCTYPE a [<!ENTITY b 'c'>]><newLightVector device='D' name='L'>&b;</newLightVector>" + GOOD,
    b"\xef\xbb\xbf<newNumberVector device='D' <!-- --><newNumberVector device=\"D'>\" name='N'/>",
]

WORDS = [
    *[f"<{start}{kind}Vector" for start in ("new", "</new") for kind in ("Number", "Switch", "Text", "Light", "BLOB")],
    *[f"<one{kind} name='" for kind in ("Number", "Switch", "Text", "Light", "BLOB")],
    *[f"</one{kind}>" for kind in ("Number", "Switch", "Text", "Light", "BLOB")],
    *[
        "<getProperties",
        "<enableBLOB",
        " device='",
        " name='",
        "'/>",
        "'>",
        "/>",
        "</",
        "<",
        ">",
        "&lt;",
        "&#38;",
        "&#0;",
    ],
    *[
        "<!--",
        "-->",
        "<![CDATA[",
        "]]>",
        "<?",
        "?>",
        "<?xml version='1.0' encoding='",
        "UTF-8",
        "ISO-8859-1",
        "US-ASCII",
    ],
    *["<!DOCTYPE a [", "<!ENTITY a 'b'>", "\ufeff", "\x00", "\n    "],
]

CLOSED = b"'\"-->]]>?>"
"""Ends what would hide all that follows, as XML has it."""


def run(data: bytes) -> None:
    """Read `data` whole and in pieces of some sizes, and compare."""
    events = _read([data])
    for size in (1, 5, 64) if len(data) < 4096 else (97,):
        assert _read([data[at : at + size] for at in range(0, len(data), size)]) == events, f"in pieces of {size}"
    _compare(data, events)


def _read(pieces: list[bytes]) -> list[Event]:
    reader = Reader()
    events = []
    for piece in pieces:
        events += reader.feed(piece)
        assert len(reader._buffer) <= MAX_MESSAGE + 2 * MAX_TEXT
    for event in events:
        if isinstance(event, Malformed):
            assert event.reason.isprintable()
            assert len(event.reason) < 250
        elif isinstance(event, NewVector):
            assert event.device
            assert event.name
            assert all(name for name, _ in event.elements)
            assert len(event.elements) <= MAX_ELEMENTS
    reader.feed(CLOSED)
    assert any(reader.feed(GOOD)[-1:] == [READ] for _ in range(MAX_ELEMENTS + MAX_DEPTH)), "it never recovers"
    return events


def _compare(data: bytes, events: list[Event]) -> None:
    if b"<!DOCTYPE" in data or b"<?xml" in data or b"xmlns" in data:
        return
    try:
        root = ElementTree.fromstring(data.decode("utf-8"))
    except (ElementTree.ParseError, UnicodeDecodeError, ValueError):
        return
    small = len(data) < 4096 and len(list(root.iter())) <= MAX_ELEMENTS and data.count(b"</") < MAX_DEPTH
    kind = root.tag[3:-6]
    device, name = root.get("device"), root.get("name")
    if not small:
        return
    if root.tag == "getProperties":
        assert events == [GetProperties(device or None, name or None)]
    elif root.tag in ("newNumberVector", "newSwitchVector", "newTextVector", "newLightVector", "newBLOBVector"):
        ones = [one for one in root if one.tag == f"one{kind}"]
        if not device or not name or not all(one.get("name") for one in ones):
            assert [type(event) for event in events] == [Malformed]
            return
        (event,) = events
        assert isinstance(event, NewVector)
        assert (event.kind, event.device, event.name) == (kind, device, name)
        for (element, value), one in zip(event.elements, ones):
            text = (one.text or "") + "".join(child.tail or "" for child in one)
            assert (element, value.strip()) == (one.get("name"), text.strip())
        assert len(event.elements) == len(ones)
    else:
        assert events == []
