# SPDX-License-Identifier: GPL-3.0-or-later
"""What clients send, in any fragmentation, malformed or too large: the same events, and never an exception."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from indi_multifocus.indi import Event, GetProperties, Malformed, NewVector, Reader
from indi_multifocus.indi.reader import MAX_DEPTH, MAX_ELEMENTS, MAX_MESSAGE, MAX_TAG, MAX_TEXT

GOOD = b'<newNumberVector device="D" name="N"><oneNumber name="X">7</oneNumber></newNumberVector>'
READ = NewVector("Number", "D", "N", (("X", "7"),))


def read(*pieces: bytes) -> list[Event]:
    reader = Reader()
    return [event for piece in pieces for event in reader.feed(piece)]


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    """The data in pieces."""
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in zip(edges, edges[1:])]


def one_malformed(events: Sequence[Event]) -> str:
    """The reason, where exactly one message is malformed and GOOD follows."""
    assert len(events) == 2
    assert isinstance(events[0], Malformed)
    assert events[1] == READ
    return events[0].reason


# --- What is read -----------------------------------------------------------------------------------------------


def test_get_properties_for_all_for_one_device_and_for_one_property() -> None:
    assert read(
        b"<getProperties version='1.7'/>",
        b'<getProperties version="1.7" device="D"/>',
        b'<getProperties version="1.7" device="D" name="N"></getProperties>',
    ) == [GetProperties(None, None), GetProperties("D", None), GetProperties("D", "N")]


@pytest.mark.parametrize("kind", ["Number", "Switch", "Text", "Light", "BLOB"])
def test_every_kind_of_new_vector_is_read(kind: str) -> None:
    message = f"<new{kind}Vector device='D' name='N'><one{kind} name='A'>On</one{kind}></new{kind}Vector>"
    assert read(message.encode()) == [NewVector(kind, "D", "N", (("A", "On"),))]


def test_elements_keep_the_order_in_which_the_client_sent_them() -> None:
    names = ["Z", "A", "M"]
    elements = "".join(f"<oneNumber name='{name}'>{n}</oneNumber>" for n, name in enumerate(names))
    (event,) = read(f"<newNumberVector device='D' name='N'>{elements}</newNumberVector>".encode())
    assert event == NewVector("Number", "D", "N", (("Z", "0"), ("A", "1"), ("M", "2")))


def test_a_vector_without_elements_is_read_as_such() -> None:
    assert read(b"<newTextVector device='D' name='N'/>") == [NewVector("Text", "D", "N", ())]


def test_blanks_around_numbers_and_switches_are_dropped() -> None:
    element = b'<oneNumber name="X">\n\t 7 \r\n  </oneNumber>'
    assert read(b'<newNumberVector device="D" name="N">\n  ' + element + b"\n</newNumberVector>\n") == [READ]
    assert read(b"<newSwitchVector device='D' name='N'><oneSwitch name='A'> On\n</oneSwitch></newSwitchVector>") == [
        NewVector("Switch", "D", "N", (("A", "On"),))
    ]


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        ("plain", "plain"),
        ("\n      as libindi's clients send it\n    ", "as libindi's clients send it"),
        ("\nas indiserver sends it\n    ", "as indiserver sends it"),
        ("\r\n  with two-byte line ends\r\n  ", "with two-byte line ends"),
        ("  blanks of the client's own  ", "  blanks of the client's own  "),
        ("\n  two\n  lines\n  ", "two\n  lines"),
        ("", ""),
        ("\n      \n    ", ""),
        ("\n\n", ""),
        ("   ", "   "),
    ],
)
def test_texts_lose_only_the_line_breaks_and_indentation_around_them(sent: str, text: str) -> None:
    message = f"<newTextVector device='D' name='T'><oneText name='A'>{sent}</oneText></newTextVector>"
    assert read(message.encode()) == [NewVector("Text", "D", "T", (("A", text),))]


def test_entities_and_character_references_are_resolved() -> None:
    message = (
        b"<newTextVector device='&lt;&apos;D&#39;&gt;' name='&quot;'>"
        b"<oneText name='&amp;'>&lt;a&gt; &amp;amp; &#233;&#x1F52D;</oneText></newTextVector>"
    )
    assert read(message) == [NewVector("Text", "<'D'>", '"', (("&", "<a> &amp; é🔭"),))]


def test_non_ascii_text_is_read_as_utf_8() -> None:
    message = "<newTextVector device='Größe' name='T'><oneText name='µ'>5 µm 🔭</oneText></newTextVector>"
    assert read(message.encode()) == [NewVector("Text", "Größe", "T", (("µ", "5 µm 🔭"),))]


def test_cdata_and_comments_within_values_are_read_as_xml_means_them() -> None:
    message = (
        b"<!-- <getProperties/> --><newTextVector device='D' name='T'><!-- > < ' -->"
        b"<oneText name='A'>a<![CDATA[<getProperties/>]]><!-- no -->b</oneText></newTextVector>"
    )
    assert read(message) == [NewVector("Text", "D", "T", (("A", "a<getProperties/>b"),))]


def test_a_greater_than_sign_within_an_attribute_does_not_end_the_tag() -> None:
    message = b"<newTextVector device='>D/>' name=\">'/>\"><oneText name='>'>></oneText></newTextVector>"
    assert read(message) == [NewVector("Text", ">D/>", ">'/>", ((">", ">"),))]


def test_xml_declarations_byte_order_marks_and_comments_between_messages_are_tolerated() -> None:
    declaration = b'<?xml version="1.0"?>\n'
    events = read(b"\xef\xbb\xbf" + declaration + GOOD + b"\r\n" + declaration + b"<!-- -->" + GOOD + b"<?pi?>" + GOOD)
    assert events == [READ] * 3


def test_a_declared_encoding_counts_until_the_next_declaration() -> None:
    def message(encoding: str) -> bytes:
        return "<newTextVector device='D' name='T'><oneText name='A'>é</oneText></newTextVector>".encode(encoding)

    vector = NewVector("Text", "D", "T", (("A", "é"),))
    latin = b"<?xml version='1.0' encoding='ISO-8859-1'?>" + message("latin-1") * 2
    utf_8 = b'<?xml version="1.0" encoding="UTF-8"?>' + message("utf-8")
    assert read(latin + utf_8 + latin + b"<?xml version='1.0'?>" + message("utf-8")) == [vector] * 6


@pytest.mark.parametrize("encoding", [b"UTF-16", b"EBCDIC-CP-US", b"rot13", b"x" * 200, b"\xff", b""])
def test_an_unknown_encoding_is_reported_and_reading_goes_on(encoding: bytes) -> None:
    reason = one_malformed(read(b"<?xml version='1.0' encoding='" + encoding + b"'?>" + GOOD))
    assert "encoding" in reason


@pytest.mark.parametrize(
    "unknown",
    [
        b"<enableBLOB device='D'>Never</enableBLOB>",
        b"<pingReply uid='1'/>",
        b"<setNumberVector device='D' name='N'><oneNumber name='X'>1</oneNumber></setNumberVector>",
        b"<a>text<b c='d'><c/></b>text</a>",
        b"<unheard><newNumberVector device='D' name='N'><oneNumber name='X'>1</oneNumber></newNumberVector></unheard>",
    ],
)
def test_unknown_elements_are_ignored_whole(unknown: bytes) -> None:
    assert read(unknown + GOOD + unknown) == [READ]


def test_unknown_elements_within_a_message_are_ignored_whole() -> None:
    message = (
        b"<newNumberVector device='D' name='N' extra='1'><new/><odd><oneNumber name='X'>1</oneNumber></odd>"
        b"<oneNumber name='X'>7<odd>8</odd></oneNumber><oneText name='X'>9</oneText></newNumberVector>"
    )
    assert read(message) == [READ]


# --- What is malformed ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad",
    [
        b"<newNumberVector device='D' name='N'><oneNumber name='X'>1</oneNumber>",  # does not end
        b"<newNumberVector device='D' name='N'><oneNumber name='X'>1",
        b"<newNumberVector device='D' name='N'><oneNumber name='X",
        b"<newNumberVector device='D' name='N",
        b"<newNumberVector ",
        b"<getProperties device='D>",
        b"<newNumberVector device='D' name='N'><oneNumber name='X'>1</newNumberVector></oneNumber>",
        b"<newNumberVector device='D' name='N'></newTextVector>",
        b"<newNumberVector device='D' device='D' name='N'></newNumberVector>",
        b"<newNumberVector device='D' name=N></newNumberVector>",
        b"<newNumberVector device='D' name='N'><oneNumber name='X'>&bogus;</oneNumber></newNumberVector>",
        b"<newNumberVector device='D' name='N'><oneNumber name='X'>&#0;</oneNumber></newNumberVector>",
        b"<newNumberVector device='D' name='N'><oneNumber name='X'>\x00</oneNumber></newNumberVector>",
        b"<newNumberVector device='D' name='N'><oneNumber name='X'>\xff\xfe</oneNumber></newNumberVector>",
        b"<newNumberVector device='D' name='N'><oneNumber name='X'>a & b</oneNumber></newNumberVector>",
        b"<newNumberVector device='D' name='N'><5/></newNumberVector>",
        b"<newNumberVector device='D' name='N'><?xml version='1.0'?></newNumberVector>",
        b"<newNumberVector device='D' name='N'></newNumberVector more='1'>",
        b"<newNumberVector device='D'></newNumberVector>",
        b"<newNumberVector name='N'></newNumberVector>",
        b"<newNumberVector device='' name='N'></newNumberVector>",
        b"<newNumberVector device='D' name='N'><oneNumber>1</oneNumber></newNumberVector>",
        b"</newNumberVector>",
        b"<a><b></a></b>",
        b"< getProperties/>",
        b"<5>",
        b"<>",
        b"</>",
        b"text",
        b"\x00",
        b"\xef\xbb",
        b"<![CDATA[<getProperties/>]]>",
        b"<!ELEMENT a ANY>",
    ],
)
def test_malformed_xml_is_one_event_and_the_message_after_it_is_read(bad: bytes) -> None:
    one_malformed(read(bad + GOOD))


def test_a_document_type_with_its_entities_is_refused() -> None:
    laughs = b"<?xml version='1.0'?><!DOCTYPE lolz [<!ENTITY lol 'lol'>" + b"".join(
        b"<!ENTITY lol%d '%s'>" % (n, b"&lol%d;" % (n - 1) * 10) for n in range(2, 10)
    )
    bomb = laughs + b"]><newTextVector device='D' name='&lol9;'></newTextVector>"
    events = read(bomb + GOOD)
    assert all(isinstance(event, Malformed) for event in events[:-1])
    assert "entities are refused" in str(events[0])
    assert "undefined entity" in str(events[1])
    assert events[-1] == READ


def test_an_external_entity_is_refused() -> None:
    xml = b"<!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/passwd'>]>"
    assert "entities are refused" in one_malformed(read(xml + GOOD))


def test_what_malformed_xml_says_is_short_and_printable() -> None:
    for bad in (b"\x1b[2J\xff" * 1000, b"<" + b"\xff\n\x1b" * 1000 + b">", b"<newTextVector \x1b" + b"y" * 1000):
        for event in read(bad + GOOD)[:-1]:
            assert isinstance(event, Malformed)
            assert len(event.reason) < 200
            assert event.reason.isprintable()


# --- What is too large ------------------------------------------------------------------------------------------


def fed_in_pieces(reader: Reader, data: bytes, events: list[Event]) -> None:
    for start in range(0, len(data), 65536):
        events += reader.feed(data[start : start + 65536])


@pytest.mark.parametrize(
    ("before", "filling", "after", "what"),
    [
        (b"<newTextVector device='", b"x", b"' name='T'></newTextVector>", "a tag of more than"),
        (b"<newTextVector device='D' name='T'><oneText name='", b"x", b"'>a</oneText></newTextVector>", "a tag of"),
        (b"<", b"x", b"/>", "a tag of more than"),
        (b"<newTextVector ", b" ", b"/>", "a tag of more than"),
        (b"<newTextVector device='D' name='T'><oneText name='A'>", b"x", b"</oneText></newTextVector>", "of text"),
        (b"<newBLOBVector device='D' name='T'><oneBLOB name='A'>", b"x", b"</oneBLOB></newBLOBVector>", "of text"),
        (b"<unknown>", b"x", b"</unknown>", "bytes of text"),
        (b"<!--", b"-x", b"-->", "bytes of text"),
        (b"<?x", b"x", b"?>", "bytes of text"),
        (b"<newTextVector device='D' name='T'><![CDATA[", b"x", b"]]></newTextVector>", "bytes of text"),
        (b"<newTextVector device='D' name='T'>", b"<!--x-->", b"</newTextVector>", "bytes of text"),
        (b"<newTextVector device='D' name='T'>", b"<oneText name='A'>x</oneText>", b"</newTextVector>", "elements"),
        (b"", b"x", b"", "text between messages"),
        (b"<newTextVector device='D' name='T'><oneText name='A'>", b"&lt;", b"</oneText></newTextVector>", "of text"),
        (b"", b"<a>", b"", "within each other"),
    ],
)
def test_ten_megabytes_are_dropped_with_one_event_and_little_memory(
    before: bytes, filling: bytes, after: bytes, what: str
) -> None:
    reader, events = Reader(), list[Event]()
    piece = filling * (65536 // len(filling))
    tracemalloc.start()
    try:
        fed_in_pieces(reader, before, events)
        for _ in range(160):
            fed_in_pieces(reader, piece, events)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    fed_in_pieces(reader, after + GOOD, events)
    assert what in one_malformed(events)
    assert peak < 1_000_000


def test_ten_megabytes_at_once_are_no_worse() -> None:
    data = b"<newTextVector device='" + b"x" * 10_000_000 + b"' name='T'></newTextVector>"
    assert "a tag of more than" in one_malformed(read(data + GOOD))


@pytest.mark.parametrize("filling", [b"x", b" x", b" x=''", b"'", b' x="'])
def test_a_tag_that_comes_in_single_bytes_and_never_ends_takes_no_time_to_speak_of(filling: bytes) -> None:
    """It took minutes when each byte made all ways to divide the tag be tried again: pytest's timeout tells."""
    tag = (b"<a" + filling * MAX_TAG)[: MAX_TAG - 1]
    assert "a tag does not end" in one_malformed(read(*[tag[n : n + 1] for n in range(len(tag))], GOOD))


def test_white_space_between_messages_may_go_on_for_ever() -> None:
    assert read(b" \n" * 1_000_000 + GOOD) == [READ]


def texts(*sizes: int) -> bytes:
    elements = b"".join(b"<oneText name='A%d'>%s</oneText>" % (n, b"x" * size) for n, size in enumerate(sizes))
    return b"<newTextVector device='D' name='T'>" + elements + b"</newTextVector>"


def test_a_text_of_the_largest_size_is_read_and_one_byte_more_is_not() -> None:
    (event,) = read(texts(MAX_TEXT))
    assert event == NewVector("Text", "D", "T", (("A0", "x" * MAX_TEXT),))
    assert "newTextVector: dropped" in one_malformed(read(texts(MAX_TEXT + 1) + GOOD))


def test_a_tag_of_the_largest_size_is_read_and_one_byte_more_is_not() -> None:
    start = b"<getProperties device='"
    filling = b"x" * (MAX_TAG - len(start) - len(b"'/>"))
    (event,) = read(start + filling + b"'/>")
    assert event == GetProperties(filling.decode(), None)
    assert "a tag of more" in one_malformed(read(start + filling + b"x'/>" + GOOD))


def test_a_message_too_large_as_a_whole_is_dropped() -> None:
    sizes = [MAX_TEXT] * (MAX_MESSAGE // MAX_TEXT)
    assert "a message of more than" in one_malformed(read(texts(*sizes) + GOOD))


def test_as_many_elements_as_allowed_are_read_and_one_more_is_not() -> None:
    (event,) = read(texts(*[1] * MAX_ELEMENTS))
    assert isinstance(event, NewVector)
    assert len(event.elements) == MAX_ELEMENTS
    assert "more than 64 elements" in one_malformed(read(texts(*[1] * (MAX_ELEMENTS + 1)) + GOOD))


def test_elements_within_each_other_are_read_as_deep_as_allowed() -> None:
    inner = MAX_DEPTH - 1
    nested = b"<newTextVector device='D' name='T'>%s%s</newTextVector>"
    assert read(nested % (b"<a>" * inner, b"</a>" * inner)) == [NewVector("Text", "D", "T", ())]
    inner += 1
    assert "within each other" in one_malformed(read(nested % (b"<a>" * inner, b"</a>" * inner) + GOOD))


# --- Any bytes, in any pieces ---------------------------------------------------------------------------------

MESSAGES = [
    GOOD,
    b'<?xml version="1.0"?>\n',
    b"<?xml version='1.0' encoding='ISO-8859-1'?>",
    b"\xef\xbb\xbf",
    b"<getProperties version='1.7'/>\n",
    b'<getProperties version="1.7" device="D" name="N"/>',
    b"<newSwitchVector device='D' name='S'>\n  <oneSwitch name='A'>\nOn\n  </oneSwitch></newSwitchVector>\n",
    "<newTextVector device='D' name='T'><oneText name='A'>é &lt;&#233; ></oneText></newTextVector>".encode(),
    b"<newTextVector device='D>' name=\"'T\"><oneText name='A'><![CDATA[<]]]]></oneText></newTextVector>",
    b"<enableBLOB device='D'>Never</enableBLOB>",
    b"<!-- <getProperties/> -->",
    b"<unknown><newNumberVector/>><a b='c'/></unknown>",
]

PARTS = [
    *MESSAGES,
    *[b"<", b">", b"/>", b"</", b"'", b'"', b"<!--", b"-->", b"<![CDATA[", b"]]>", b"<?xml ", b"?>", b"<!DOCTYPE a ["],
    *[b"<newNumberVector device='D' name='N'>", b"</newNumberVector>", b"<oneNumber name='X'>", b"&", b"&#0;", b"\x00"],
    *[b"x", b" ", b"\n", b"\xff", b"<a>", b"</a>", b"<getProperties", b"<newText", b"Vector ", b"device='D'"],
    *[b"y" * 4090, b"z" * 65530, b"<a>" * 9, b"<b/>" * 65],
]

streams = st.lists(st.sampled_from(MESSAGES), max_size=8).map(b"".join)
junk = st.lists(st.sampled_from(PARTS) | st.binary(max_size=8), max_size=12).map(b"".join)
places = st.lists(st.integers(0, 10**6), max_size=20)


@given(streams, places)
def test_any_fragmentation_of_good_messages_gives_the_same_events(data: bytes, where: list[int]) -> None:
    events = read(data)
    assert not any(isinstance(event, Malformed) for event in events)
    assert read(*cut(data, where)) == events
    assert read(*[data[n : n + 1] for n in range(len(data))]) == events


@given(junk, places)
@example(b"<" + b"x" * 5000 + b"<getProperties/>", [4096, 4097])
@example(b"<!--" + b"-" * 70000 + b"-->", [65536, 65540])
@example(b"\xef\xbb\xbb\xbf" + GOOD, [1, 2, 3])
def test_any_fragmentation_of_anything_gives_the_same_events(data: bytes, where: list[int]) -> None:
    events = read(data)
    assert read(*cut(data, where)) == events
    if len(data) < 5000:
        assert read(*[data[n : n + 1] for n in range(len(data))]) == events


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Real traffic with some bytes changed, dropped, doubled or put in."""
    data = bytearray(draw(streams) + GOOD)
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(data)))
        end = min(len(data), at + draw(st.integers(0, 12)))
        data[at:end] = draw(st.just(b"") | st.binary(max_size=4) | st.sampled_from(PARTS) | st.just(data[at:end] * 2))
    return bytes(data)


@given(mutated(), places)
def test_mutated_traffic_never_raises_and_does_not_depend_on_fragmentation(data: bytes, where: list[int]) -> None:
    assert read(*cut(data, where)) == read(data)


@given(junk)
def test_after_anything_reading_recovers_with_the_messages_that_follow(data: bytes) -> None:
    """An element that does not end may swallow what follows as its content: not more than the limits allow."""
    reader = Reader()
    reader.feed(data + b"'\"-->]]>?>")  # what would hide all that follows, as XML has it
    for _ in range(MAX_ELEMENTS + 2):
        if reader.feed(GOOD)[-1:] == [READ]:
            return
    pytest.fail("never recovered")


# --- The form in which indiserver passes messages on, which is read in a shorter way --------------------------------


def as_indiserver_writes(kind: str, device: str, name: str, elements: Sequence[tuple[str, str]]) -> str:
    inside = "".join(f'    <one{kind} name="{name}">\n{value}\n    </one{kind}>\n' for name, value in elements)
    return f'<new{kind}Vector device="{device}" name="{name}">\n{inside}</new{kind}Vector>\n'


def in_pieces(data: bytes) -> list[Event]:
    """What is read the long way: a message that comes in pieces always is."""
    return read(data[:1], data[1:])


pieces_of_text = st.lists(
    st.sampled_from([*"aB 7:.'\t\n\r\"<>&/=\x0b\x1f\x7f\x80é", "]]>", "<!--", "&amp;", "name=", "one", "Number>"])
).map("".join)
plain = st.text("aB 7:.'", max_size=5)


@given(
    st.sampled_from(["Number", "Switch", "Text"]),
    plain,
    plain,
    st.lists(st.tuples(plain, plain), max_size=3),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 4), pieces_of_text), max_size=2),
)
def test_what_looks_as_indiserver_writes_it_is_read_as_any_other(
    kind: str, device: str, name: str, elements: list[tuple[str, str]], changes: list[tuple[int, int, str]]
) -> None:
    text = as_indiserver_writes(kind, device, name, elements)
    for place, length, put in changes:
        at = place % (len(text) + 1)
        text = text[:at] + put + text[at + length :]
    data = text.encode()
    assert read(data) == in_pieces(data)


def test_a_message_that_is_as_long_as_may_be_is_read_as_any_other() -> None:
    elements = [(f"E{number}", "1") for number in range(MAX_ELEMENTS + 5)]
    for count in (10, 15, 20, MAX_ELEMENTS, MAX_ELEMENTS + 1):
        data = as_indiserver_writes("Number", "D", "N", elements[:count]).encode()
        assert read(data) == in_pieces(data)
