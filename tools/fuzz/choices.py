# SPDX-License-Identifier: GPL-3.0-or-later
"""Bytes → decisions, for targets that are not about bytes: whatever the fuzzer changes makes sense then."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Choices:
    """Reads decisions from the front of `data`; when that is used up, each further one is the first there is."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def more(self) -> bool:
        """Whether anything is left to decide by."""
        return self._at < len(self._data)

    def byte(self) -> int:
        """A number from 0 to 255."""
        self._at += 1
        return self._data[self._at - 1] if self._at <= len(self._data) else 0

    def pick(self, options: Sequence[T]) -> T:
        """One of these, at most 256."""
        return options[self.byte() % len(options)]

    def number(self) -> int:
        """Any number of steps, small ones more often than others."""
        size = self.byte() % 5
        value = int.from_bytes(bytes(self.byte() for _ in range(size)), "big")
        return -value if self.byte() % 2 else value

    def some_bytes(self) -> bytes:
        """Any bytes, not many."""
        length = self.byte() % 48
        self._at += length
        return self._data[self._at - length : self._at]

    def text(self) -> str:
        """Any text, not much."""
        return self.some_bytes().decode("utf-8", "replace")
