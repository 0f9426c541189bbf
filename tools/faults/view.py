# SPDX-License-Identifier: GPL-3.0-or-later
"""What a client knows of the driver: the last state and values of every property, and every message.

Used by `world.py`, with the bytes of the driver's standard output.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from client import Devices


class View(Devices):
    """A client that only receives. Of what it received it keeps the texts for people, not every update."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[tuple[str, str]] = []
        """Device and message."""
        self.when_set: Callable[[str, str], None] = lambda device, name: None
        """Called with device and name of each property that is set."""
        self.trace: Callable[[str], None] = lambda line: None
        """Called with a line for each property that is set and each message."""

    def busy(self, device: str) -> list[str]:
        """The properties of the device that are Busy."""
        return [name for name, known in self.devices.get(device, {}).items() if known.state == "Busy"]

    def _note(self, kind: str, device: str, name: str, state: str, values: Mapping[str, str], message: str) -> None:
        if kind in ("set", "message"):
            self.trace(f"{device} {name} {state} {' '.join(values.values())} {message}")
        if message:
            self.texts.append((device, message))
        if kind == "set":
            self.when_set(device, name)
