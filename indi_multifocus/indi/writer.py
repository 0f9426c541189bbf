# SPDX-License-Identifier: GPL-3.0-or-later
"""Vectors → the XML that clients read, and the one place where it leaves the process.

Every message is made whole and written by a single `os.write`: several small writes meet Nagle's algorithm and delayed
acknowledgements in the TCP path of indiserver, and cost 40 ms.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import time

from .vectors import Light, LightVector, Number, NumberVector, Switch, SwitchVector, Text, Vector

# Characters that XML 1.0 cannot carry, not even escaped, surrogates from undecodable bytes included.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SPECIAL = re.compile("[&<>\"'\t\n\r]|[^\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&apos;"}


def escape(text: str) -> str:
    """`text` as it may stand in an attribute or between tags; what XML cannot carry becomes a question mark."""
    if not _SPECIAL.search(text):
        return text
    return _SPECIAL.sub(_replacement, text)


def _replacement(match: re.Match[str]) -> str:
    character = match[0]
    if _FORBIDDEN.match(character):
        return "?"
    return _ENTITIES.get(character) or f"&#{ord(character)};"


def number_text(value: float) -> str:
    """The shortest text that reads back as `value`; whole numbers without a point."""
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(float(value))


def _timestamp() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())


def _note(message: str | None) -> str:
    return f' message="{escape(message)}"' if message else ""


def definition(device: str, vector: Vector, message: str | None = None) -> bytes:
    """def…Vector: what the property is, and its present values."""
    kind = vector.kind
    head = (
        f'<def{kind}Vector device="{escape(device)}" name="{escape(vector.name)}" label="{escape(vector.label)}" '
        f'group="{escape(vector.group)}" state="{vector.state.value}"'
    )
    if not isinstance(vector, LightVector):
        head += f' perm="{vector.permission.value}"'
        if isinstance(vector, SwitchVector):
            head += f' rule="{vector.rule.value}"'
        head += f' timeout="{number_text(vector.timeout)}"'
    lines = [f'{head} timestamp="{_timestamp()}"{_note(message)}>']
    for element in vector.elements.values():
        extra = ""
        if isinstance(element, Number):
            extra = f' format="{escape(element.format)}"{_range(element)}'
        lines.append(
            f'    <def{kind} name="{escape(element.name)}" label="{escape(element.label)}"{extra}>'
            f"{_value(element)}</def{kind}>"
        )
    lines.append(f"</def{kind}Vector>\n")
    return "\n".join(lines).encode()


def update(device: str, vector: Vector, message: str | None = None, *, ranges: bool = False) -> bytes:
    """set…Vector: state and values. `ranges` also sends the numbers' ranges, which libindi's clients then adopt."""
    kind = vector.kind
    timeout = "" if isinstance(vector, LightVector) else f' timeout="{number_text(vector.timeout)}"'
    lines = [
        f'<set{kind}Vector device="{escape(device)}" name="{escape(vector.name)}" state="{vector.state.value}"'
        f'{timeout} timestamp="{_timestamp()}"{_note(message)}>'
    ]
    for element in vector.elements.values():
        extra = _range(element) if ranges and isinstance(element, Number) else ""
        lines.append(f'    <one{kind} name="{escape(element.name)}"{extra}>{_value(element)}</one{kind}>')
    lines.append(f"</set{kind}Vector>\n")
    return "\n".join(lines).encode()


def deletion(device: str, name: str | None = None) -> bytes:
    """delProperty: one property of the device, or the whole device."""
    which = f' name="{escape(name)}"' if name else ""
    return f'<delProperty device="{escape(device)}"{which} timestamp="{_timestamp()}"/>\n'.encode()


def message(device: str | None, text: str) -> bytes:
    """message: a line for people, of a device or of all."""
    of_device = f' device="{escape(device)}"' if device else ""
    return f'<message{of_device} timestamp="{_timestamp()}" message="{escape(text)}"/>\n'.encode()


def _range(number: Number) -> str:
    return f' min="{number_text(number.min)}" max="{number_text(number.max)}" step="{number_text(number.step)}"'


def _value(element: Number | Switch | Text | Light) -> str:
    if isinstance(element, Number):
        return number_text(element.value)
    if isinstance(element, Switch):
        return "On" if element.on else "Off"
    if isinstance(element, Text):
        return escape(element.value)
    return element.state.value


class Output:
    """Standard output, as far as INDI is concerned. Any thread may write."""

    def __init__(self, fd: int = 1) -> None:
        self._fd = fd
        self._lock = threading.Lock()
        self.closed = False
        """Nobody reads any more; what is written is dropped."""

    def write(self, data: bytes) -> None:
        """One message, in one `os.write` (more only where the kernel takes it in parts)."""
        with self._lock:
            while data and not self.closed:
                try:
                    data = data[os.write(self._fd, data) :]
                except OSError as error:
                    self.closed = True
                    print(f"nobody reads what the driver says: {error.strerror}", file=sys.stderr)


__all__ = ["NumberVector", "Output", "definition", "deletion", "message", "update"]
