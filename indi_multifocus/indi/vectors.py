# SPDX-License-Identifier: GPL-3.0-or-later
"""What an INDI device consists of: properties ("vectors") of numbers, switches, texts or lights.

Used by whoever describes a device; `writer.py` puts them into XML and `device.py` shows them to clients.
A vector is plain mutable data: it never writes anything, knows no device and has no lock, so it belongs to
the one thread that changes it. Names of elements are fixed once it is made.

Terms, states, permissions and rules are those of the INDI protocol 1.7.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Generic, TypeVar, Union


class State(str, Enum):
    """The state of a property, and the value of a light."""

    IDLE = "Idle"
    OK = "Ok"
    BUSY = "Busy"
    ALERT = "Alert"


class Permission(str, Enum):
    """What a client may do with a property. Lights have none: they are always read-only."""

    READ_ONLY = "ro"
    WRITE_ONLY = "wo"
    READ_WRITE = "rw"


class Rule(str, Enum):
    """How many switches of a vector may be on."""

    ONE_OF_MANY = "OneOfMany"
    AT_MOST_ONE = "AtMostOne"
    ANY_OF_MANY = "AnyOfMany"


class Number:
    """A number, with the printf format (or INDI's %m) and the range that clients show.

    `min` = `max` means that there is no range. `step` is the increment that a client offers, 0 for none.
    """

    __slots__ = ("format", "label", "max", "min", "name", "step", "value")

    def __init__(
        self,
        name: str,
        label: str,
        value: float = 0.0,
        *,
        format: str = "%.f",
        min: float = 0.0,
        max: float = 0.0,
        step: float = 0.0,
    ) -> None:
        self.name = name
        self.label = label
        self.value = value
        self.format = format
        self.min = min
        self.max = max
        self.step = step


class Switch:
    """A switch, on or off."""

    __slots__ = ("label", "name", "on")

    def __init__(self, name: str, label: str, on: bool = False) -> None:
        self.name = name
        self.label = label
        self.on = on


class Text:
    """A text, in any characters that XML can carry."""

    __slots__ = ("label", "name", "value")

    def __init__(self, name: str, label: str, value: str = "") -> None:
        self.name = name
        self.label = label
        self.value = value


class Light:
    """A light: a state of its own for clients to look at."""

    __slots__ = ("label", "name", "state")

    def __init__(self, name: str, label: str, state: State = State.IDLE) -> None:
        self.name = name
        self.label = label
        self.state = state


Value = Union[float, bool, str]
"""What an element holds: a number, whether a switch is on, a text; a light's State is a str."""

Element = TypeVar("Element", bound=Union[Number, Switch, Text, Light])


class _Vector(Generic[Element]):
    """What the four kinds have in common. `elements` maps names to elements, in the order of definition."""

    __slots__ = ("elements", "group", "label", "name", "permission", "state", "timeout")

    kind = ""
    """What the names of the XML elements hold: def…Vector, new…Vector, one…."""
    _value = "value"
    """The attribute of an element that holds what it is for."""

    def __init__(
        self,
        name: str,
        label: str,
        group: str,
        elements: Sequence[Element],
        *,
        permission: Permission = Permission.READ_WRITE,
        state: State = State.IDLE,
        timeout: float = 60.0,
    ) -> None:
        """`timeout`: seconds in which a change should be done, for clients to judge by.

        Raises ValueError for two elements of one name.
        """
        self.name = name
        self.label = label
        self.group = group
        self.elements: dict[str, Element] = {element.name: element for element in elements}
        self.permission = permission
        self.state = state
        self.timeout = timeout
        if len(self.elements) != len(elements):
            raise ValueError(f"{name} has two elements of one name: {[element.name for element in elements]}")

    def __getitem__(self, name: str) -> Element:
        """The element of this name. Raises KeyError."""
        return self.elements[name]

    def values(self) -> tuple[Value, ...]:
        """What the elements hold, in order."""
        return tuple([getattr(element, self._value) for element in self.elements.values()])

    def restore(self, values: Sequence[Value]) -> None:
        """Take back what `values` once gave."""
        for element, value in zip(self.elements.values(), values):
            setattr(element, self._value, value)


class NumberVector(_Vector[Number]):
    """A property of one or more numbers."""

    __slots__ = ()

    kind = "Number"

    def ranges(self) -> tuple[tuple[float, float, float], ...]:
        """(min, max, step) of each number, in order."""
        return tuple([(number.min, number.max, number.step) for number in self.elements.values()])


class SwitchVector(_Vector[Switch]):
    """A property of switches, with a rule on how many may be on."""

    __slots__ = ("rule",)

    kind = "Switch"
    _value = "on"

    def __init__(
        self,
        name: str,
        label: str,
        group: str,
        elements: Sequence[Switch],
        *,
        rule: Rule = Rule.ONE_OF_MANY,
        permission: Permission = Permission.READ_WRITE,
        state: State = State.IDLE,
        timeout: float = 60.0,
    ) -> None:
        super().__init__(name, label, group, elements, permission=permission, state=state, timeout=timeout)
        self.rule = rule

    @property
    def on(self) -> str | None:
        """The name of the first switch that is on, or None."""
        for switch in self.elements.values():
            if switch.on:
                return switch.name
        return None

    def select(self, name: str) -> None:
        """Turn this switch on and all others off. Raises KeyError, and then changes nothing."""
        chosen = self.elements[name]
        self.clear()
        chosen.on = True

    def wanted(self, values: Mapping[str, Value]) -> str:
        """The switch of a one-of-many vector that a client wants on, which sent it, or turned all others off."""
        on = next((name for name, on in values.items() if on), None)
        return on if on is not None else next(name for name in self.elements if name not in values)

    def clear(self) -> None:
        """Turn all switches off."""
        for switch in self.elements.values():
            switch.on = False


class TextVector(_Vector[Text]):
    """A property of texts."""

    __slots__ = ()

    kind = "Text"


class LightVector(_Vector[Light]):
    """A property of lights, which clients can only look at."""

    __slots__ = ()

    kind = "Light"
    _value = "state"

    def __init__(
        self, name: str, label: str, group: str, elements: Sequence[Light], *, state: State = State.IDLE
    ) -> None:
        super().__init__(
            name, label, group, elements, permission=Permission.READ_ONLY, state=state, timeout=0.0
        )


Vector = Union[NumberVector, SwitchVector, TextVector, LightVector]
