# SPDX-License-Identifier: GPL-3.0-or-later
"""A JSON object from a file that somebody wrote: read within limits, and what is wrong with it in one line for people.

Used for the configuration and by focus_cli for registry.json. Only what is wrong with the file and its JSON is found
here; what its values should be is the caller's business.
"""

from __future__ import annotations

import errno
import math
import re
from typing import Any, NoReturn

import msgspec

from .regular_file import read_regular_file

MAX_SIZE = 262144
"""Largest file that is read, in bytes; those that are documented have about 300."""


MAX_QUOTED = 40
"""Characters of a value in an error."""


class ConfigError(Exception):
    """A file cannot be used; str() is one line: file, key, value, and what is expected."""


def load_object(path: str) -> dict[str, Any]:
    """The object in the file at `path`.

    Raises:
        FileNotFoundError: there is none.
        ConfigError: it cannot be read, or holds no object.
    """
    try:
        data = read_regular_file(path, MAX_SIZE + 1)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        reason = error.strerror if isinstance(error, OSError) else None
        if isinstance(error, OSError) and error.errno == errno.EINVAL:
            raise ConfigError(f"{plain(path)}: {reason}; a JSON file is expected") from None
        raise ConfigError(f"{plain(path)}: the file cannot be read: {reason or error}") from None
    return parse_object(data, path)


def parse_object(data: bytes, name: str) -> dict[str, Any]:
    """The object in `data`; `name` is what errors call the file.

    Raises:
        ConfigError: the same as `load_object`.
    """
    return _Parser(plain(name)).parse(data)


def plain(text: str) -> str:
    """A name of somebody's choice, fit for one line of text."""
    return text if text.isprintable() and 0 < len(text) <= 200 else shown(text)


def shown(value: object) -> str:
    """A value as it would stand in the file, cut when it is long."""
    if isinstance(value, float) and not math.isfinite(value):
        return "a number that is too large"
    if isinstance(value, str):
        value = value.encode("utf-8", "replace").decode()  # a path may hold lone surrogates
    text = msgspec.json.encode(value).decode("utf-8", "replace")
    text = "".join(character if character.isprintable() else "?" for character in text)
    return text if len(text) <= MAX_QUOTED else f"{text[: MAX_QUOTED - 1]}…"


class _Parser:
    """One file being parsed."""

    def __init__(self, name: str) -> None:
        self._name = name

    def parse(self, data: bytes) -> dict[str, Any]:
        if len(data) > MAX_SIZE:
            self._fail(f"the file is larger than {MAX_SIZE} bytes, which none of these is")
        data = data[3:] if data.startswith(b"\xef\xbb\xbf") else data  # the mark of editors on Windows
        try:
            text = data.decode("utf-8")
            # float_hook: a number that is too large becomes infinite, and is then refused under its key.
            entries = msgspec.json.Decoder(float_hook=float).decode(data)
        except UnicodeDecodeError as error:
            self._fail(f"{_place(data, error.start)}: this is not UTF-8 text")
        except RecursionError:
            self._fail("broken JSON: brackets within brackets within brackets")
        except msgspec.ValidationError:
            self._fail("a number in it has thousands of digits")
        except msgspec.DecodeError as error:
            self._broken(data, str(error))
        if not isinstance(entries, dict):
            self._fail(f'{shown(entries)}: an object {{"key": value, …}} is expected')
        duplicate = _duplicate_key(text)
        if duplicate is not None:
            self._fail(f"{plain(duplicate)}: this key is there twice")
        return entries

    def _broken(self, data: bytes, reason: str) -> NoReturn:
        found = re.fullmatch(r"JSON is malformed: (.*) \(byte (\d+)\)", reason)
        if not found:  # "Input data was truncated"
            self._fail(f"{_place(data, len(data.rstrip()))}: broken JSON: it ends too early")
        at = int(found[2])
        if data[at : at + 1] in (b"#", b"/"):
            self._fail(f"{_place(data, at)}: broken JSON: comments are not part of it")
        self._fail(f"{_place(data, at)}: broken JSON: {found[1]}")

    def _fail(self, reason: str) -> NoReturn:
        raise ConfigError(f"{self._name}: {reason}")


_STRING_OR_BRACE = re.compile(r'"((?:[^"\\]|\\.)*)"(\s*:)?|[{}]')


def _duplicate_key(text: str) -> str | None:
    """A key that an object in `text` (valid JSON) has twice; readers of JSON take the last one in silence."""
    objects: list[set[str]] = []
    for found in _STRING_OR_BRACE.finditer(text):
        if found[0] == "{":
            objects.append(set())
        elif found[0] == "}":
            objects.pop()
        elif found[2] is not None:
            key = str(msgspec.json.decode(f'"{found[1]}"'))
            if key in objects[-1]:
                return key
            objects[-1].add(key)
    return None


def _place(data: bytes, at: int) -> str:
    """Line and column of a byte, counted from 1, in characters."""
    before = data[:at].decode("utf-8", "replace")
    line = before.count("\n") + 1
    return f"line {line}, column {len(before) - before.rfind(chr(10))}"
