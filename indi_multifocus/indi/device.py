# SPDX-License-Identifier: GPL-3.0-or-later
"""One INDI device: its properties as clients know them, and the checks on what clients send.

Used by the main thread. The driver describes properties by vectors, changes them and calls `update` or
`publish`; a `new…` from a client goes to `handle`, which checks it and
calls the property's handler. Whatever a client sends, `handle` answers it and never raises.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Mapping

from . import writer
from .output import Message, Output
from .reader import NewVector
from .vectors import Number, NumberVector, Permission, Rule, State, SwitchVector, Value, Vector

log = logging.getLogger(__name__)

Handler = Callable[[Mapping[str, Value]], None]
"""Called with the values of the elements that the client sent, checked: floats, bools or texts.

It sends the `set…` that answers the client, by `update`; or it raises Refused.
"""

_MAX_NUMBER = 64
"""Characters of a number; with more it is none."""

MAX_QUOTED = 40
"""Characters of a client's text in a message."""

_DECIMAL = re.compile(r"(?a)[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_SEXAGESIMAL = re.compile(
    r"(?ax)([+-]?) \s* (\d+\.?\d*) (?:\s*[:;]\s*|\s+) (\d+\.?\d*) (?: (?:\s*[:;]\s*|\s+) (\d+\.?\d*) )?"
)


class Refused(Exception):
    """What a client sent is not accepted. The text is for the user: what was wrong, and what is accepted."""


def parse_number(text: str) -> float:
    """A number as INDI writes it: decimal, or sexagesimal with two or three parts between ":", ";" or blanks.

    Blanks around it do not count; a sign belongs to the whole ("-0:30" is -0.5). Raises ValueError, which
    names the text, for anything else, infinity and NaN included.
    """
    stripped = text.strip() if len(text) <= _MAX_NUMBER else ""
    value = math.nan
    if _DECIMAL.fullmatch(stripped):
        value = float(stripped)
    else:
        parts = _SEXAGESIMAL.fullmatch(stripped)
        if parts is not None:
            value = float(parts[2]) + float(parts[3]) / 60 + float(parts[4] or 0) / 3600
            if parts[1] == "-":
                value = -value
    if not math.isfinite(value):
        raise ValueError(f"{_short(text)!r} is not a number")
    return value


class _Defined:
    """A property that clients know, and what was last sent of it."""

    __slots__ = ("check_range", "handler", "ranges", "state", "values", "vector")

    def __init__(self, vector: Vector, handler: Handler | None, check_range: bool) -> None:
        self.vector = vector
        self.handler = handler
        self.check_range = check_range
        self.sent(vector, with_ranges=True)

    def sent(self, vector: Vector, *, with_ranges: bool) -> None:
        self.state = vector.state
        self.values = vector.values()
        if with_ranges:
            self.ranges = _ranges(vector)


class Device:
    """The companion of one device's name on one output. Not for several threads."""

    def __init__(self, name: str, output: Output, *, absent: Callable[[str], str] | None = None) -> None:
        """`absent`: given the name of a property that is not defined, gives the reason for the client that sets it."""
        self.name = name
        self._output = output
        self._absent = absent or (lambda name: f"{self.name} has no property {name}")
        self._defined: dict[str, _Defined] = {}
        self.refused: Callable[[Vector], None] = lambda vector: None
        """Called with a property after a client's new value for it was refused."""

    # --- Sending to clients ----------------------------------------------------------------------------------

    def define(self, vector: Vector, handler: Handler | None = None, *, check_range: bool = True) -> None:
        """Show a property to clients, and from now on let `handler` answer those that set it.

        `check_range`: refuse numbers outside their range before the handler sees them.
        """
        self._defined[vector.name] = _Defined(vector, handler, check_range)
        self._write("def", vector.name, writer.definition(self.name, vector))

    def remove(self, *names: str) -> None:
        """Delete properties. Those that are not defined are left out."""
        for name in names:
            if self._defined.pop(name, None) is not None:
                self._write("del", name, writer.deletion(self.name, name))

    def vector(self, name: str) -> Vector | None:
        """The vector of that name, where clients know it now."""
        defined = self._defined.get(name)
        return defined.vector if defined is not None else None

    def is_defined(self, name: str) -> bool:
        """Whether clients know a property of this name now."""
        return name in self._defined

    def update(self, vector: Vector, message: str | None = None, *, ranges: bool = False) -> None:
        """Send clients the state and values of a property, changed or not.

        `message`: for the user; begins with "[INFO] ", "[WARNING] " or "[ERROR] ". `ranges`: send min, max and
        step of its numbers too. A property that is not defined is unknown to clients: then only the
        message is sent, by itself.
        """
        defined = self._defined.get(vector.name)
        if defined is None:
            if message is not None:
                self._message(message)
            return
        defined.sent(vector, with_ranges=ranges)
        data = writer.update(self.name, vector, message, ranges=ranges)
        self._write("set", vector.name, data, message or "", ranges=ranges)

    def publish(self, vector: Vector) -> None:
        """Send clients a property if state, values or ranges have changed since they were last sent."""
        defined = self._defined.get(vector.name)
        if defined is None:
            return
        new_ranges = _ranges(vector) != defined.ranges
        if new_ranges or vector.state is not defined.state or vector.values() != defined.values:
            self.update(vector, ranges=new_ranges)

    def info(self, text: str) -> None:
        """Send the user a message."""
        self._message(f"[INFO] {text}")

    def warning(self, text: str) -> None:
        """Send the user a warning."""
        self._message(f"[WARNING] {text}")

    def error(self, text: str) -> None:
        """Send the user an error message."""
        self._message(f"[ERROR] {text}")

    def debug(self, text: str) -> None:
        """Send a message for debugging."""
        self._message(f"[DEBUG] {text}")

    def _message(self, text: str) -> None:
        self._write("message", "", writer.message(self.name, text), text)

    def _write(self, kind: str, name: str, data: bytes, text: str = "", *, ranges: bool = False) -> None:
        self._output.write(Message(kind, self.name, name, data, text, ranges))

    # --- Answering clients --------------------------------------------------------------------------------

    def get_properties(self, name: str | None) -> None:
        """Answer a getProperties: define again the property of this name, or all, in order.

        It is silent about a name that it does not know, as libindi is.
        """
        for defined in list(self._defined.values()):
            if name in (None, defined.vector.name):
                defined.sent(defined.vector, with_ranges=True)
                self._write("def", defined.vector.name, writer.definition(self.name, defined.vector))

    def handle(self, event: NewVector) -> None:
        """Check what a client sent and let the property's handler do it; or refuse it.

        What is refused gets a `set…` with state Alert, the values that it had, and a message. What is meant
        for another device is left alone.
        """
        if event.device != self.name:
            return
        defined = self._defined.get(event.name)
        if defined is None:
            self.error(self._absent(_short(event.name)))
            return
        vector, handler = defined.vector, defined.handler
        before = vector.values()
        why = ""
        try:
            if handler is None or vector.permission is Permission.READ_ONLY:
                why = f"{self._quote(event)}: this property is read-only, clients cannot set it"
            else:
                self._call(handler, self._checked(defined, event), event)
        except Refused as refusal:
            why = str(refusal)
        if why:
            vector.restore(before)
            vector.state = State.ALERT
            self.update(vector, f"[ERROR] {why}")
            self.refused(vector)

    def _call(self, handler: Handler, values: Mapping[str, Value], event: NewVector) -> None:
        """Let the handler do it. Raises Refused with the whole text for the user, and nothing else."""
        try:
            handler(values)
        except Refused as refusal:
            raise Refused(f"{self._quote(event)}: {refusal}") from None
        except Exception as error:
            self._report(event, error)
            failure = f"the driver failed here, {type(error).__name__}: {error}"
            raise Refused(f"{self._quote(event)}: {failure}") from None

    def _report(self, event: NewVector, error: Exception) -> None:
        """A handler failed: for whoever maintains the driver, to its log."""
        log.error("%s: the handler failed", self._quote(event), exc_info=error)

    def _quote(self, event: NewVector, element: str | None = None, text: str | None = None) -> str:
        """What a client sent, in the notation of indi_setprop."""
        if element is None and len(event.elements) == 1:
            element, text = event.elements[0]
        if element is None or text is None:
            return f"{self.name}.{event.name}"
        return f"{self.name}.{event.name}.{_short(element)}={_short(text)}"

    def _checked(self, defined: _Defined, event: NewVector) -> dict[str, Value]:
        """The values that a client sent. Raises Refused with the whole text for the user."""
        vector = defined.vector
        if event.kind != vector.kind:
            quoted = self._quote(event)
            raise Refused(f"{quoted}: a new{vector.kind}Vector is expected here, not a new{event.kind}Vector")
        if not event.elements:
            raise Refused(f"{self._quote(event)}: no value was sent; its elements are {', '.join(vector.elements)}")
        values: dict[str, Value] = {}
        for name, text in event.elements:
            try:
                if name not in vector.elements:
                    raise Refused(f"there is no such element; there are {', '.join(vector.elements)}")
                if name in values:
                    raise Refused("this element was sent twice; one value is expected")
                if isinstance(vector, NumberVector):
                    values[name] = _checked_number(text, vector[name], defined.check_range)
                elif isinstance(vector, SwitchVector):
                    if text not in ("On", "Off"):
                        raise Refused("On or Off is expected")
                    values[name] = text == "On"
                else:
                    values[name] = text
            except Refused as refusal:
                raise Refused(f"{self._quote(event, name, text)}: {refusal}") from None
        if isinstance(vector, SwitchVector):
            self._check_rule(event, vector, values)
        return values

    def _check_rule(self, event: NewVector, vector: SwitchVector, values: dict[str, Value]) -> None:
        """As libindi's IUUpdateSwitch, which turns all off first: what was sent must satisfy the rule."""
        on = [name for name, value in values.items() if value]
        if vector.rule is Rule.ONE_OF_MANY and len(on) != 1:
            choices = ", ".join(vector.elements)
            raise Refused(f"{self._quote(event)}: exactly one of {choices} must be On, not {len(on)}")
        if vector.rule is Rule.AT_MOST_ONE and len(on) > 1:
            choices = ", ".join(vector.elements)
            raise Refused(f"{self._quote(event)}: at most one of {choices} may be On, not {len(on)}")


def _checked_number(text: str, number: Number, check_range: bool) -> float:
    has_range = number.max > number.min
    what = "out of range"
    try:
        value = parse_number(text)
        if not (check_range and has_range) or number.min <= value <= number.max:
            return value
    except ValueError:
        what = "not a number"
    accepted = f"a number from {number.min:.15g} to {number.max:.15g}" if has_range else "a number"
    raise Refused(f"this is {what}; {accepted} is expected")


def _ranges(vector: Vector) -> tuple[tuple[float, float, float], ...]:
    return vector.ranges() if isinstance(vector, NumberVector) else ()


def _short(text: str) -> str:
    """A client's text for a message: not more of it than helps."""
    return text if len(text) <= MAX_QUOTED else f"{text[: MAX_QUOTED - 1]}…"
