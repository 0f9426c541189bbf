# SPDX-License-Identifier: GPL-3.0-or-later
"""Anything as the text of a Pyro message: it is refused, or it is a literal that is cheap to parse.

Needs Pyro4 and serpent alone, which are pure Python, so that tests play it with every Python that is there: what a
text does to the parser depends on the version.
"""

from __future__ import annotations

import ast
import zlib

import Pyro4

from focus_cli.literals import MAX_TEXT, ClientSerializer, DaemonSerializer

from .choices import Choices

SERPENT = Pyro4.util.SerpentSerializer()
HEADER = b"# serpent utf-8 python3.2\n"

FRAGMENTS = (
    *[b"-", b"+", b"~", b"not ", b"(", b"[", b"{", b"{1:", b"1,", b"1+", b"+1j", b"1 -1", b"**1", b"a.", b"f()"],
    *[b"'a'", b'"a" ', b"b'", b"\\", b"\\x41", b"\\N{DIGIT ONE}", b"\\d", b"'", b'"', b"'''", b"#", b"\n", b" ", b"\t"],
    *[b"[0]", b":", b",", b"1", b"0", b"_", b"e9", b"1e30000", b"0x", b"None", b"True", b"lambda:", b"yield "],
    *[b"await ", b"1 if 1 else ", b"x for x in ", b"*", b"f'{", b"}", b")", b"]", b"\0", b"\xff", "é".encode(), HEADER],
    b"{'__class__':'Pyro4.core.Proxy','state':[",
)
COUNTS = (1, 2, 3, 7, 8, 9, 50, 100, 300, 1000, 2000, 4000, 8000, 16_000, 30_000, 90_000)

WORDS = [fragment.decode("latin-1") for fragment in FRAGMENTS]

_VALUES = (
    *[1, -5, 1.5, 1e300, float("inf"), True, None, (), [], {}, (1,), [1, [2, {"a": {3}}]]],
    *[b"abc", "a'\"\n\x00é\U0001f600", "", "it's", 10**300, ValueError("x")],
)

SEEDS = [
    *[SERPENT.dumps(value) for value in _VALUES],
    SERPENT.dumpsCall("here_focus_daemon", "set_focus", (1, -500), {"offset": True}),
    *[bytes([fragment, count]) for fragment in range(len(FRAGMENTS)) for count in (5, 11, 15)],
]


def _made(data: bytes) -> bytes:
    """A text of a few fragments, each many times."""
    choices = Choices(data)
    text = b""
    while choices.more and len(text) < 200_000:
        text += choices.pick(FRAGMENTS) * choices.pick(COUNTS)
    return text


def run(data: bytes) -> None:
    """Parse `data`, and what it decides, as a call, an introduction and a result."""
    for text in (data, _made(data), b"(1,'a',[%s1],{})" % _made(data)):
        for serializer, method in (
            (DaemonSerializer(), "deserializeCall"),
            (DaemonSerializer(), "deserializeData"),
            (ClientSerializer(), "deserializeData"),
        ):
            parse = getattr(serializer, method)
            try:
                value = parse(text)
            except Pyro4.errors.SerializeError:
                continue
            except Exception:
                # A result may be an exception, whose class has its own opinion of its arguments.
                assert isinstance(serializer, ClientSerializer)
                assert b"__class__" in text
                continue
            assert len(text) <= MAX_TEXT
            if isinstance(serializer, DaemonSerializer):
                assert repr(value) == repr(ast.literal_eval(text.decode().strip(" \t")))
            assert repr(parse(zlib.compress(text), True)) == repr(value)


def play() -> None:
    """All seeds, and some hundred changes of each; raises AssertionError where one took more than 16 MB."""
    import random
    import resource

    chance = random.Random(0)
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for seed in SEEDS:
        run(seed)
        for _ in range(20):
            changed = bytearray(seed)
            for _ in range(chance.randrange(1, 4)):
                changed[chance.randrange(len(changed))] = chance.randrange(256)
            run(bytes(changed))
    grown_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb
    assert grown_kb < 16_384, f"{grown_kb} kB more"


if __name__ == "__main__":
    play()
