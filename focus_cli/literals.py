# SPDX-License-Identifier: GPL-3.0-or-later
"""Pyro's serializer, serpent, for text from anybody: checked to be short and flat before it is parsed.

Used by focusd for what clients send and by focus for what a daemon answers. Imports nothing but Pyro4 and serpent.

serpent passes the text to `ast.literal_eval`, which parses any Python expression recursively before it looks at what
it is. A few kB of the right text (`---…1`, `1+1j+1j…`) crash Python 3.9 and take tens of megabytes in later versions.
So the text is read token by token first, without recursion. Accepted are the literals that serpent writes, without
operators but that of one complex number, and only as many of them and as deep as a call of focusd's methods needs.
"""

from __future__ import annotations

import re
import zlib
from typing import Any

import Pyro4
import serpent

MAX_TEXT = 16_384
"""Bytes of one text after decompression; a call has some 100."""
MAX_INTRODUCTION = 4_096
"""The same before a client has presented itself, which takes some 70."""
MAX_DEPTH = 8
"""Brackets within brackets. The arguments in a batch of calls are at depth 4, those of an exception at depth 3."""
MAX_TOKENS = 2_000
"""A call has some 20 tokens, the description of focusd's methods 30, a status of nine channels 200."""

_HEADER = re.compile(r"# serpent utf-8 [ -~]{1,40}\n")
_ESCAPE = r"""\\(?:[\\'"nrt]|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8})"""
_NUMBER = r"[0-9]{1,4300}(?:\.[0-9]{1,4300})?(?:[eE][+-]?[0-9]{1,5})?"
_TOKEN = re.compile(
    rf"""[ \n]*(?:
        (?P<open>[\[({{])
      | (?P<close>[\])}}])
      | [,:]
      | (?P<value>
            None | True | False
          | -?{_NUMBER}(?:[+-]{_NUMBER}j)?
          | b?'[^'\\\n]*(?:{_ESCAPE}[^'\\\n]*)*'
          | b?"[^"\\\n]*(?:{_ESCAPE}[^"\\\n]*)*"
        )(?![\w.])
    )""",
    re.VERBOSE,
)


def parse(data: bytes, *, compressed: bool = False, limit: int = MAX_TEXT) -> Any:
    """The value that serpent wrote as `data`, at most `limit` bytes after decompression.

    Raises:
        Pyro4.errors.SerializeError: it is no such text, or larger or deeper than the limits above.
    """
    if compressed:
        data = _decompress(data, limit)
    if len(data) > limit:
        raise Pyro4.errors.SerializeError(f"more than {limit} bytes are not accepted here")
    try:
        _check(bytes(data).decode("utf-8"))
        return serpent.loads(data)
    except (ValueError, SyntaxError, TypeError, OverflowError) as error:  # a list as a key; a complex number too large
        raise Pyro4.errors.SerializeError(f"not the text of a call: {error}") from None


def _check(text: str) -> None:
    """Raises ValueError."""
    text = text.rstrip(" \n")
    header = _HEADER.match(text)
    at = header.end() if header else 0
    depth = tokens = 0
    after_value = False
    while at < len(text):
        token = _TOKEN.match(text, at)
        # After a value there must be a separator: `1 -1` is a subtraction, `1 (1)` a call, `"a" "a"` a concatenation.
        if token is None or (after_value and (token["open"] or token["value"])):
            raise ValueError(f"a literal is expected at character {at}")
        tokens += 1
        depth += bool(token["open"]) - bool(token["close"])
        if tokens > MAX_TOKENS or not 0 <= depth <= MAX_DEPTH:
            raise ValueError(f"more than {MAX_TOKENS} values and signs, or brackets that do not match or are too deep")
        after_value = bool(token["value"] or token["close"])
        at = token.end()


def _decompress(data: bytes, limit: int) -> bytes:
    expander = zlib.decompressobj()
    try:
        expanded = expander.decompress(data, limit)
    except zlib.error as error:
        raise Pyro4.errors.SerializeError(f"not a compressed text: {error}") from None
    if not expander.eof:
        raise Pyro4.errors.SerializeError(f"more than {limit} bytes are not accepted here")
    return expanded


class ClientSerializer(Pyro4.util.SerpentSerializer):  # type: ignore[misc]
    """For what a daemon answers: results, and exceptions, which are dictionaries in the text."""

    def deserializeData(self, data: bytes, compressed: bool = False) -> Any:
        """A result."""
        return self.recreate_classes(parse(data, compressed=compressed))


class DaemonSerializer(Pyro4.util.SerpentSerializer):  # type: ignore[misc]
    """For what anybody sends: plain values alone. A dictionary that names a class stays a dictionary."""

    def deserializeData(self, data: bytes, compressed: bool = False) -> Any:
        """What a client presents itself with."""
        return parse(data, compressed=compressed, limit=MAX_INTRODUCTION)

    def deserializeCall(self, data: bytes, compressed: bool = False) -> Any:
        """Object, method, arguments, named arguments."""
        return parse(data, compressed=compressed)


def install() -> None:
    """Use them in this process, whatever PYRO_… variables there are in the environment.

    Pyro's daemon finds its serializer by its number, its proxies by its name.
    """
    settings = Pyro4.config
    settings.reset(useenvironment=False)
    settings.SERIALIZER = "serpent"
    settings.SERIALIZERS_ACCEPTED = {"serpent"}
    settings.MAX_MESSAGE_SIZE = MAX_TEXT
    Pyro4.util._serializers["serpent"] = ClientSerializer()
    Pyro4.util._serializers_by_id[DaemonSerializer.serializer_id] = DaemonSerializer()
