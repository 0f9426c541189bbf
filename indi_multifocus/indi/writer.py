# SPDX-License-Identifier: GPL-3.0-or-later
"""Vectors → bytes: the messages that a device sends.

The functions make one complete message each and do nothing else. `output.py` writes them.

Order of attributes, format of the timestamp and states are those of libindi 1.9.9, as its own drivers send
them. What may be written is set by libindi's XML reader (lilxml, in indiserver and in every libindi client):
it knows the five named entities but no character references (`&#10;` arrives as these five characters), and
it drops line breaks within attributes, so that the text around them is joined. Two losses cannot be
avoided: it strips blanks around texts, and an entity at the very beginning of a text arrives undecoded.
"""

from __future__ import annotations

import re
import time

from .vectors import LightVector, Number, NumberVector, SwitchVector, TextVector, Vector

_SPECIAL = re.compile("[&<>\"'\x00-\x1f\ud800-\udfff\ufffe\uffff]")
"""Characters that XML 1.0 forbids or that mean something in it."""

_IN_TEXT = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&apos;"}
_IN_TEXT.update({"\t": "\t", "\n": "\n", "\r": "\r"})
_IN_ATTRIBUTE = {**_IN_TEXT, "\t": " ", "\n": " ", "\r": " "}


def definition(device: str, vector: Vector, message: str | None = None) -> bytes:
    """A def…Vector: the property is there, with all that a client needs to show it."""
    kind = vector.kind
    parts = [
        f'<def{kind}Vector device="{escape(device)}" name="{escape(vector.name)}"'
        f' label="{escape(vector.label)}" group="{escape(vector.group)}" state="{vector.state.value}"'
    ]
    if not isinstance(vector, LightVector):
        parts.append(f' perm="{vector.permission.value}"')
        if isinstance(vector, SwitchVector):
            parts.append(f' rule="{vector.rule.value}"')
        parts.append(f' timeout="{number_text(vector.timeout)}"')
    parts.append(_ending(message))
    if isinstance(vector, NumberVector):
        for number in vector.elements.values():
            parts.append(
                f'<defNumber name="{escape(number.name)}" label="{escape(number.label)}"'
                f' format="{escape(number.format)}"{_range(number)}>{number_text(number.value)}</defNumber>\n'
            )
    else:
        labels = [element.label for element in vector.elements.values()]
        for name, label, value in zip(vector.elements, labels, _values(vector)):
            parts.append(
                f'<def{kind} name="{escape(name)}" label="{escape(label)}">{value}</def{kind}>\n'
            )
    parts.append(f"</def{kind}Vector>\n")
    return "".join(parts).encode()


def update(device: str, vector: Vector, message: str | None = None, *, ranges: bool = False) -> bytes:
    """A set…Vector: the property has this state and these values.

    `ranges`: numbers carry min, max and step too, by which libindi's clients change what they allow
    (libindi's IUUpdateMinMax).
    """
    kind = vector.kind
    parts = [
        f'<set{kind}Vector device="{escape(device)}" name="{escape(vector.name)}"'
        f' state="{vector.state.value}"'
    ]
    if not isinstance(vector, LightVector):
        parts.append(f' timeout="{number_text(vector.timeout)}"')
    parts.append(_ending(message))
    if ranges and isinstance(vector, NumberVector):
        for number in vector.elements.values():
            parts.append(
                f'<oneNumber name="{escape(number.name)}"{_range(number)}>'
                f"{number_text(number.value)}</oneNumber>\n"
            )
    else:
        for name, value in zip(vector.elements, _values(vector)):
            parts.append(f'<one{kind} name="{escape(name)}">{value}</one{kind}>\n')
    parts.append(f"</set{kind}Vector>\n")
    return "".join(parts).encode()


def deletion(device: str, name: str | None = None) -> bytes:
    """A delProperty: this property, or without a name the whole device, is not there any more."""
    which = "" if name is None else f' name="{escape(name)}"'
    return f'<delProperty device="{escape(device)}"{which} timestamp="{_timestamp()}"/>\n'.encode()


def message(device: str | None, text: str) -> bytes:
    """A text for the user, on a device or without one on the whole driver."""
    which = "" if device is None else f' device="{escape(device)}"'
    return f'<message{which} timestamp="{_timestamp()}" message="{escape(text)}"/>\n'.encode()


def _ending(message: str | None) -> str:
    """The end of a vector's tag."""
    text = "" if message is None else f' message="{escape(message)}"'
    return f' timestamp="{_timestamp()}"{text}>\n'


def _range(number: Number) -> str:
    low, high, step = number_text(number.min), number_text(number.max), number_text(number.step)
    return f' min="{low}" max="{high}" step="{step}"'


def _values(vector: Vector) -> list[str]:
    """The elements' values as the text between their tags."""
    if isinstance(vector, NumberVector):
        return [number_text(number.value) for number in vector.elements.values()]
    if isinstance(vector, SwitchVector):
        return ["On" if switch.on else "Off" for switch in vector.elements.values()]
    if isinstance(vector, TextVector):
        return [_text(text.value) for text in vector.elements.values()]
    return [light.state.value for light in vector.elements.values()]


def _timestamp() -> str:
    """Now, in UTC, in whole seconds, as libindi's drivers send it."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())


def number_text(value: float) -> str:
    """The shortest text that reads as this number again; whole numbers without a point."""
    if value == value // 1 and -1e15 < value < 1e15:
        return str(int(value))
    return repr(float(value))


def _text(text: str) -> str:
    """Text between two tags. What XML cannot carry becomes "?"."""
    return _SPECIAL.sub(lambda match: _IN_TEXT.get(match[0], "?"), text)


def escape(text: str) -> str:
    """Text between an attribute's quotes. What XML cannot carry becomes "?"; line breaks and tabs, blanks."""
    return _SPECIAL.sub(lambda match: _IN_ATTRIBUTE.get(match[0], "?"), text)
