# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages that are known by their bytes, so that what is urgent about them is done before they are read.

Used by a driver: `take` is what its Reader calls first. indiserver writes each message anew before it passes it on, so
the same request always comes in the same bytes but for its value, and nearly always alone. All that comes is read and
answered as ever, whether it was known here or not: so only that may be done here which the handler does anyway, and it
has to find it done.

Why: a process that slept runs with cold caches, where each function that it comes through costs 5 to 20 µs. To read a
message, check it and let its handler answer takes many of them; this takes few.
"""

from __future__ import annotations

from collections.abc import Callable

from .writer import escape

Act = Callable[[bytes], None]
"""Gets the value, as it stands in the message."""

_TAG_ENDS = b'">\n'


class Shortcuts:
    """Which messages are known, and what is urgent about them."""

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[bytes, bytes, Act]] = {}

    def add(self, kind: str, device: str, name: str, element: str, act: Act) -> None:
        """Know a new…Vector of `kind` ("Number" or "Switch") for this property that sets this element alone."""
        head = f'<new{kind}Vector device="{escape(device)}" name="{escape(name)}'.encode()
        begin = f'    <one{kind} name="{escape(element)}'.encode()
        end = f"    </one{kind}>\n</new{kind}Vector>\n".encode()
        self._known[head] = begin, end, act

    def take(self, data: bytes) -> None:
        """If `data` is one of these messages, and nothing else, do what is urgent about it."""
        head, _, rest = data.partition(_TAG_ENDS)
        known = self._known.get(head)
        if known is None:
            return
        begin, end, act = known
        element, _, rest = rest.partition(_TAG_ENDS)
        value, _, rest = rest.partition(b"\n")
        if element == begin and rest == end:
            act(value)
