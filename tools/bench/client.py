# SPDX-License-Identifier: GPL-3.0-or-later
"""An INDI client with a stop-watch: when was it sent, when did the answer come.

Used by the measurements, in the bench's one thread. It understands as much of the protocol as they need.
"""

from __future__ import annotations

import select
import socket
import time
from collections import deque
from dataclasses import dataclass
from typing import Callable
from xml.etree import ElementTree

from stream import Stream


@dataclass(frozen=True)
class Vector:
    """A property that was defined or set, and the monotonic time at which that was read."""

    at_s: float
    verb: str
    device: str
    name: str
    state: str
    elements: dict[str, str]

    def number(self) -> float:
        """Its first element."""
        return float(next(iter(self.elements.values())))


class Client:
    """A connection to an INDI server."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._stream = Stream()
        self._come: deque[Vector] = deque()
        self.messages: list[str] = []
        """Texts for people that came, for the case that something fails."""

    def close(self) -> None:
        self._socket.close()

    def send(self, xml: str) -> float:
        """Send it; returns the monotonic time just before."""
        data = xml.encode()
        now = time.monotonic()
        self._socket.sendall(data)
        return now

    def get_properties(self) -> float:
        """Ask for everything, and hear of it from then on."""
        return self.send('<getProperties version="1.7"/>\n')

    def set(self, device: str, name: str, **elements: str | float) -> float:
        """Set a property: numbers where the values are numbers, a switch where they are On or Off, else texts."""
        values = list(elements.values())
        kind = "Text"
        if not isinstance(values[0], str):
            kind = "Number"
        elif values[0] in ("On", "Off"):
            kind = "Switch"
        body = "".join(f'<one{kind} name="{key}">{value}</one{kind}>' for key, value in elements.items())
        return self.send(f'<new{kind}Vector device="{device}" name="{name}">{body}</new{kind}Vector>\n')

    def wait(self, wanted: Callable[[Vector], bool], what: str, within_s: float = 20.0) -> Vector:
        """The first vector that is `wanted` of those that came since the last wait; what came before it is dropped.

        Raises TimeoutError, which says for `what` it waited.
        """
        end_s = time.monotonic() + within_s
        while True:
            while self._come:
                vector = self._come.popleft()
                if wanted(vector):
                    return vector
            if not self._read(end_s):
                raise TimeoutError(f"waited {within_s:g} s in vain for {what}; messages: {self.messages[-3:]}")

    def collect(self, for_s: float) -> list[Vector]:
        """All that comes in the next `for_s` seconds."""
        end_s = time.monotonic() + for_s
        self._come.clear()
        while self._read(end_s):
            pass
        come = list(self._come)
        self._come.clear()
        return come

    def forget(self) -> None:
        """Drop what has come by now."""
        self.collect(0.0)

    def _read(self, end_s: float) -> bool:
        ready, _, _ = select.select([self._socket], [], [], max(0.0, end_s - time.monotonic()))
        if not ready:
            return False
        data = self._socket.recv(65536)
        now = time.monotonic()
        if not data:
            raise RuntimeError("the INDI server closed the connection")
        for element in self._stream.feed(data):
            if element.get("message"):
                self.messages.append(element.get("message", ""))
            if element.tag.endswith("Vector") and element.tag[:3] in ("def", "set"):
                self._come.append(_vector(element, now))
        return True


def _vector(element: ElementTree.Element, now: float) -> Vector:
    device, name, state = (element.get(key, "") for key in ("device", "name", "state"))
    elements = {child.get("name", ""): (child.text or "").strip() for child in element}
    return Vector(now, element.tag[:3], device, name, state, elements)
