# SPDX-License-Identifier: GPL-3.0-or-later
"""The settings that a user keeps with CONFIG_PROCESS: libindi's file, in libindi's place and form.

Used by `config_process.py`, in the main thread. `~/.indi/<device>_config.xml`, or the file that INDICONFIG
names for all devices: an <INDIDriver> that holds the new…Vector messages which would set the properties. What
is read is handed on as such messages, so that a damaged or hostile file can do no more than a client can.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Union

from ..indi import GetProperties, Malformed, NewVector, Number, NumberVector, Reader, Switch, SwitchVector, TextVector
from ..indi.writer import escape, number_text
from .files import FileWriter, file_name
from .system_text import variable

MAX_SIZE = 1_048_576
"""Bytes. A driver's own file has some five thousand."""

Settable = Union[NumberVector, SwitchVector, TextVector]

_HEAD, _TAIL = b"<INDIDriver>", b"</INDIDriver>"

_END = b"<getProperties version='1.7'/>"
"""Read after the rest: a message that was not complete is then known to be not."""


class SavedProperties:
    """The saved settings of one device. Methods raise OSError or ValueError, whose text is for people."""

    def __init__(self, device: str, writer: FileWriter) -> None:
        self._device = device
        self._writer = writer
        self.path = variable("INDICONFIG") or file_name(device, "_config.xml")

    def read(self) -> list[NewVector]:
        """What was saved for this device; nothing where nothing was.

        Raises ValueError for a damaged file, OSError for one that cannot be read.
        """
        return [vector for vector in self._read_all() if vector.device == self._device]

    def write(self, vectors: Iterable[Settable]) -> int:
        """Save these as they are now, and keep what else the file holds.

        Returns the number of the file writer's report to wait for, or 0 where there is nothing to write. Raises
        OSError.
        """
        try:
            there = {(vector.device, vector.name): vector for vector in self._read_all()}
        except ValueError:
            there = {}  # damaged: from here on it is whole again
        kept = dict(there)
        for vector in vectors:
            kept[self._device, vector.name] = as_message(self._device, vector)
        return self._write_all(kept.values()) if kept != there else 0

    def purge(self) -> int:
        """Delete the settings of this device. Returns the number of the report, or 0 where there were none.

        The file goes with the last of them: where INDICONFIG names one file for all devices, the others' stay. Raises
        OSError.
        """
        try:
            there = self._read_all()
        except ValueError:
            return self._writer.write(self.path, None)  # damaged: there is nothing to keep
        return self._keep([vector for vector in there if vector.device != self._device], there)

    def forget(self, names: Container[str]) -> int:
        """Delete these settings of this device. Returns as `purge`. Raises OSError, or ValueError for a damaged file,
        which stays."""
        there = self._read_all()
        return self._keep(
            [vector for vector in there if vector.device != self._device or vector.name not in names], there
        )

    def _keep(self, kept: list[NewVector], there: list[NewVector]) -> int:
        """Leave only these in the file."""
        if len(kept) == len(there):
            return 0
        return self._write_all(kept) if kept else self._writer.write(self.path, None)

    def _write_all(self, vectors: Iterable[NewVector]) -> int:
        body = "".join(_text(vector) for vector in vectors)
        return self._writer.write(self.path, b"%s\n%s%s\n" % (_HEAD, body.encode(), _TAIL))

    def _read_all(self) -> list[NewVector]:
        try:
            data = self._writer.read(self.path, MAX_SIZE + 1)
        except (FileNotFoundError, NotADirectoryError):
            return []
        if len(data) > MAX_SIZE:
            raise ValueError(f"{self.path} is damaged: larger than {MAX_SIZE} bytes")
        begin, end = data.find(_HEAD), data.rfind(_TAIL)
        if begin < 0 or end < begin:
            raise ValueError(f"{self.path} is damaged: <INDIDriver> … </INDIDriver> is expected")
        events = Reader().feed(data[begin + len(_HEAD) : end] + _END)
        for event in events:
            if isinstance(event, Malformed):
                raise ValueError(f"{self.path} is damaged: {event.reason}")
        if not events or not isinstance(events[-1], GetProperties):
            raise ValueError(f"{self.path} is damaged: it ends within a comment or the like")
        return [event for event in events if isinstance(event, NewVector)]


def as_message(device: str, vector: Settable) -> NewVector:
    """The message that would set `vector` to what it is now."""
    pairs = []
    for element in vector.elements.values():
        if isinstance(element, Number):
            pairs.append((element.name, number_text(element.value)))
        elif isinstance(element, Switch):
            pairs.append((element.name, "On" if element.on else "Off"))
        else:
            pairs.append((element.name, element.value))
    return NewVector(vector.kind, device, vector.name, tuple(pairs))


def _text(vector: NewVector) -> str:
    elements = "".join(
        f"  <one{vector.kind} name='{escape(name)}'>\n      {escape(value)}\n  </one{vector.kind}>\n"
        for name, value in vector.elements
    )
    return (
        f"<new{vector.kind}Vector device='{escape(vector.device)}' name='{escape(vector.name)}'>\n"
        f"{elements}</new{vector.kind}Vector>\n"
    )
