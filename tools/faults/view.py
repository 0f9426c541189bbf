# SPDX-License-Identifier: GPL-3.0-or-later
"""What a client knows of the driver: the last state and values of every property, and every message.

Used by `world.py`, with the bytes of the driver's standard output.
"""

from __future__ import annotations

from collections.abc import Callable
from xml.etree import ElementTree

from stream import Stream


class View:
    """A client that listens and understands."""

    def __init__(self) -> None:
        self._stream = Stream()
        self.states: dict[tuple[str, str], str] = {}
        self.values: dict[tuple[str, str], dict[str, str]] = {}
        self.messages: list[tuple[str, str]] = []
        self.when_set: Callable[[str, str], None] = lambda device, name: None
        """Called with device and name of each property that is set."""
        self.trace: Callable[[str], None] = lambda line: None
        """Gets what is set and said."""

    def feed(self, data: bytes) -> None:
        """Take what the driver has written."""
        for element in self._stream.feed(data):
            self._take(element)

    def _take(self, element: ElementTree.Element) -> None:
        device, name = element.get("device", ""), element.get("name", "")
        if element.tag[:3] in ("set", "mes"):
            values = " ".join((child.text or "").strip() for child in element)
            self.trace(f"{device} {name} {element.get('state', '')} {values} {element.get('message', '')}")
        if element.get("message"):
            self.messages.append((device, element.get("message", "")))
        if element.tag == "delProperty":
            self.states.pop((device, name), None)
            self.values.pop((device, name), None)
        elif element.tag[:3] in ("def", "set"):
            self.states[device, name] = element.get("state", "")
            self.values.setdefault((device, name), {}).update(
                {child.get("name", ""): (child.text or "").strip() for child in element}
            )
            if element.tag.startswith("set"):
                self.when_set(device, name)
