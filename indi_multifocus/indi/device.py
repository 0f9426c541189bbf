# SPDX-License-Identifier: GPL-3.0-or-later
"""One INDI device: what it offers at the moment, who is told of changes, and what is checked before a client is obeyed.

Used from one thread. An owner defines vectors with their handlers, changes them, and has them announced. What
a client sends is checked here, once, against the vector; a handler gets values that it can trust. Whatever is
refused is answered by the same property in state Alert, with unchanged values and a message that says what
was wrong and what would be accepted.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Callable, Union

from . import writer
from .reader import NewVector
from .vectors import LightVector, Number, NumberVector, Permission, Rule, State, SwitchVector, TextVector, Vector
from .writer import Output, number_text

Value = Union[float, bool, str]
Handler = Callable[[Mapping[str, Value]], None]


class Refused(Exception):
    """Raised by a handler that cannot do what a client wants; the text says what was wrong and what would be
    accepted."""


def parse_number(text: str) -> float:
    """A number as INDI clients write it: decimal, or sexagesimal with ':', ';' or blanks between the parts.

    Raises ValueError, whose text names `text`.
    """
    try:
        value = float(text)
    except ValueError:
        value = _sexagesimal(text)
    if not math.isfinite(value):
        raise ValueError(f"{text!r} is not a finite number")
    return value


def _sexagesimal(text: str) -> float:
    parts = text.replace(":", " ").replace(";", " ").split()
    try:
        if not 2 <= len(parts) <= 3 or any(part[:1] in "+-" for part in parts[1:]):
            raise ValueError
        first, *smaller = (abs(float(part)) for part in parts)
    except ValueError:
        raise ValueError(f"{text!r} is not a number") from None
    value = first + sum(part / 60.0**power for power, part in enumerate(smaller, 1))
    return -value if parts[0].startswith("-") else value


@dataclass
class _Offer:
    vector: Vector
    handler: Handler | None
    check_range: bool
    sent: tuple[object, ...] = ()


class Device:
    """One device; `name` is how clients know it."""

    def __init__(self, name: str, output: Output, *, absent: Callable[[str], str] | None = None) -> None:
        """`absent`: says why a property of that name is not defined at the moment."""
        self.name = name
        self._output = output
        self._absent = absent or (lambda property_name: f"{name} has no property {property_name}")
        self._offers: dict[str, _Offer] = {}

    # --- What clients are told --------------------------------------------------------------------------------------

    def define(self, vector: Vector, handler: Handler | None = None, *, check_range: bool = True) -> None:
        """Offer a vector. `handler` gets the values that a client sends for it, checked; without one it is
        not settable.

        `check_range`: whether numbers outside the vector's range are refused before the handler sees them.
        """
        self._offers[vector.name] = _Offer(vector, handler, check_range, _picture(vector))
        self._output.write(writer.definition(self.name, vector))

    def remove(self, *names: str) -> None:
        """Withdraw these; those that are not defined are passed over."""
        for name in names:
            if self._offers.pop(name, None) is not None:
                self._output.write(writer.deletion(self.name, name))

    def vector(self, name: str) -> Vector | None:
        """The vector of that name, where it is defined."""
        offer = self._offers.get(name)
        return offer.vector if offer is not None else None

    def is_defined(self, name: str) -> bool:
        """Whether clients know the property at the moment."""
        return name in self._offers

    def update(self, vector: Vector, message: str | None = None, *, ranges: bool = False) -> None:
        """Send state and values, and with `ranges` the numbers' ranges, whether or not they changed."""
        offer = self._offers.get(vector.name)
        if offer is not None:
            offer.sent = _picture(vector)
        self._output.write(writer.update(self.name, vector, message, ranges=ranges))

    def publish(self, vector: Vector) -> None:
        """Send state and values if they are not what clients were last told."""
        offer = self._offers.get(vector.name)
        if offer is None or offer.sent != _picture(vector):
            self.update(vector)

    def info(self, text: str) -> None:
        """A line for people."""
        self._output.write(writer.message(self.name, f"[INFO] {text}"))

    def warning(self, text: str) -> None:
        """A line for people that they should heed."""
        self._output.write(writer.message(self.name, f"[WARNING] {text}"))

    def error(self, text: str) -> None:
        """A line for people that something failed."""
        self._output.write(writer.message(self.name, f"[ERROR] {text}"))

    def debug(self, text: str) -> None:
        """A line for those who look for a fault."""
        self._output.write(writer.message(self.name, f"[DEBUG] {text}"))

    def get_properties(self, name: str | None) -> None:
        """Answer getProperties: the definitions in their order, or that of the one property."""
        for offer in list(self._offers.values()):
            if not name or offer.vector.name == name:
                self._output.write(writer.definition(self.name, offer.vector))

    # --- What clients want ------------------------------------------------------------------------------------------

    def handle(self, event: NewVector) -> None:
        """Check what a client sent and hand it on, or refuse it. Never raises."""
        offer = self._offers.get(event.name)
        if offer is None:
            self.error(self._absent(event.name))
            return
        try:
            values = _check(offer, event)
            assert offer.handler is not None
            offer.handler(values)
        except Refused as refusal:
            self._refuse(offer.vector, str(refusal))
        except Exception as error:
            import traceback

            traceback.print_exc(file=sys.stderr)
            self._refuse(offer.vector, f"{self.name}.{event.name}: internal error of the driver ({error!r})")

    def _refuse(self, vector: Vector, reason: str) -> None:
        vector.state = State.ALERT
        self.update(vector, f"[ERROR] {reason}")


def _picture(vector: Vector) -> tuple[object, ...]:
    """State and values as they are now, to compare with later."""
    if isinstance(vector, NumberVector):
        return (vector.state, *((n.value, n.min, n.max) for n in vector.elements.values()))
    if isinstance(vector, SwitchVector):
        return (vector.state, *(switch.on for switch in vector.elements.values()))
    if isinstance(vector, TextVector):
        return (vector.state, *(text.value for text in vector.elements.values()))
    return (vector.state, *(light.state for light in vector.elements.values()))


def _check(offer: _Offer, event: NewVector) -> Mapping[str, Value]:
    """The values that a client sent, by element. Raises Refused."""
    vector = offer.vector
    if isinstance(vector, LightVector) or vector.permission is Permission.READ_ONLY or offer.handler is None:
        raise Refused(f"{event.name} is read-only")
    if event.kind != vector.kind:
        raise Refused(f"{event.name} is a {vector.kind.lower()} vector, not a {event.kind.lower()} vector")
    if not event.elements:
        raise Refused(f"{event.name}: nothing to set; its elements are {', '.join(vector.elements)}")
    values: dict[str, Value] = {}
    for name, text in event.elements:
        if name not in vector.elements:
            raise Refused(f"{event.name} has no element {name!r}; its elements are {', '.join(vector.elements)}")
        if name in values:
            raise Refused(f"{event.name}.{name} was sent twice")
        if isinstance(vector, NumberVector):
            values[name] = _check_number(vector, vector[name], text, offer.check_range)
        elif isinstance(vector, SwitchVector):
            values[name] = _check_switch(vector, name, text)
        else:
            values[name] = text
    if isinstance(vector, SwitchVector):
        _check_rule(vector, values)
    return values


def _check_number(vector: NumberVector, number: Number, text: str, check_range: bool) -> float:
    try:
        value = parse_number(text)
    except ValueError as error:
        raise Refused(f"{vector.name}.{number.name}: {error}; {_accepted(number)} is expected") from None
    if check_range and number.max > number.min and not number.min <= value <= number.max:
        raise Refused(f"{vector.name}.{number.name}: {text} is out of range; {_accepted(number)} is expected")
    return value


def _accepted(number: Number) -> str:
    if number.max > number.min:
        return f"a number from {number_text(number.min)} to {number_text(number.max)}"
    return "a number"


def _check_switch(vector: SwitchVector, name: str, text: str) -> bool:
    if text not in ("On", "Off"):
        raise Refused(f"{vector.name}.{name}: {text[:40]!r} is no switch state; On or Off is expected")
    return text == "On"


def _check_rule(vector: SwitchVector, values: Mapping[str, Value]) -> None:
    """A client may send only the switch that it turns on; the others then follow from the rule."""
    on = [name for name, value in values.items() if value]
    if vector.rule is Rule.ANY_OF_MANY:
        return
    if len(on) > 1:
        raise Refused(f"{vector.name}: {' and '.join(on)} cannot be On together; one of them is expected")
    if vector.rule is Rule.ONE_OF_MANY and not on:
        left = [name for name in vector.elements if name not in values]
        if len(left) != 1:
            raise Refused(f"{vector.name}: one of {', '.join(vector.elements)} must be On")
