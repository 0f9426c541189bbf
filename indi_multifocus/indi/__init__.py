# SPDX-License-Identifier: GPL-3.0-or-later
"""The device side of the INDI 1.7 wire protocol. It knows nothing of focusers, and needs nothing but the
standard library.

`vectors`: what a device offers. `reader`: bytes → messages. `writer`: vectors → bytes. `device`: one device
that puts them together. Only `Output.write` does any I/O.
"""

from .device import Device, Handler, Refused, Value, parse_number
from .reader import Event, GetProperties, Malformed, NewVector, Reader
from .vectors import (
    Light,
    LightVector,
    Number,
    NumberVector,
    Permission,
    Rule,
    State,
    Switch,
    SwitchVector,
    Text,
    TextVector,
    Vector,
)
from .writer import Output

__all__ = [
    "Device",
    "Event",
    "GetProperties",
    "Handler",
    "Light",
    "LightVector",
    "Malformed",
    "NewVector",
    "Number",
    "NumberVector",
    "Output",
    "Permission",
    "Reader",
    "Refused",
    "Rule",
    "State",
    "Switch",
    "SwitchVector",
    "Text",
    "TextVector",
    "Value",
    "Vector",
    "parse_number",
]
