# SPDX-License-Identifier: GPL-3.0-or-later
"""The four kinds of INDI property that a device offers, one class each, and their elements.

Plain data: who owns a vector sets its values and state, and then has `Device` announce it. Nothing in here is
sent by itself. A vector does not know its device, so that several devices may show the same one. Vocabulary:
INDI 1.7, section Properties.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Generic, TypeVar, Union


class State(str, Enum):
    """What goes on with a property; clients show it as a light: grey, green, yellow, red."""

    IDLE = "Idle"
    OK = "Ok"
    BUSY = "Busy"
    ALERT = "Alert"


class Permission(str, Enum):
    """What clients may do with a property."""

    READ_ONLY = "ro"
    WRITE_ONLY = "wo"
    READ_WRITE = "rw"


class Rule(str, Enum):
    """How many of a vector's switches may be on."""

    ONE_OF_MANY = "OneOfMany"
    AT_MOST_ONE = "AtMostOne"
    ANY_OF_MANY = "AnyOfMany"


class Number:
    """One number. `format` is printf's, or %m for sexagesimal. A client takes no account of a range where max ≤ min."""

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
        self.name, self.label, self.value = name, label, value
        self.format, self.min, self.max, self.step = format, min, max, step


class Switch:
    """One switch."""

    __slots__ = ("label", "name", "on")

    def __init__(self, name: str, label: str, on: bool = False) -> None:
        self.name, self.label, self.on = name, label, on


class Text:
    """One line of text."""

    __slots__ = ("label", "name", "value")

    def __init__(self, name: str, label: str, value: str = "") -> None:
        self.name, self.label, self.value = name, label, value


class Light:
    """One light: a state of its own."""

    __slots__ = ("label", "name", "state")

    def __init__(self, name: str, label: str, state: State = State.IDLE) -> None:
        self.name, self.label, self.state = name, label, state


Element = TypeVar("Element", Number, Switch, Text, Light)


class _Vector(Generic[Element]):
    """What the four kinds share. `timeout`: after how many seconds a client may give up; 0 where that has no
    meaning."""

    kind = ""

    def __init__(
        self,
        name: str,
        label: str,
        group: str,
        elements: Iterable[Element],
        *,
        permission: Permission = Permission.READ_WRITE,
        state: State = State.IDLE,
        timeout: float = 60.0,
    ) -> None:
        self.name, self.label, self.group = name, label, group
        self.permission, self.state, self.timeout = permission, state, timeout
        self.elements: dict[str, Element] = {element.name: element for element in elements}

    def __getitem__(self, name: str) -> Element:
        return self.elements[name]


class NumberVector(_Vector[Number]):
    """Numbers that belong together."""

    kind = "Number"


class TextVector(_Vector[Text]):
    """Texts that belong together."""

    kind = "Text"


class LightVector(_Vector[Light]):
    """Lights that belong together; clients cannot set them."""

    kind = "Light"

    def __init__(
        self, name: str, label: str, group: str, elements: Iterable[Light], *, state: State = State.IDLE
    ) -> None:
        super().__init__(name, label, group, elements, permission=Permission.READ_ONLY, state=state)


class SwitchVector(_Vector[Switch]):
    """Switches that belong together, under one rule."""

    kind = "Switch"

    def __init__(
        self,
        name: str,
        label: str,
        group: str,
        elements: Iterable[Switch],
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
        """Name of the first switch that is on."""
        return next((switch.name for switch in self.elements.values() if switch.on), None)

    def select(self, name: str) -> None:
        """Turn this one on and the others off. Raises KeyError where there is none of that name."""
        self.elements[name]
        for switch in self.elements.values():
            switch.on = switch.name == name

    def clear(self) -> None:
        """Turn all off."""
        for switch in self.elements.values():
            switch.on = False


Vector = Union[NumberVector, SwitchVector, TextVector, LightVector]
