# SPDX-License-Identifier: GPL-3.0-or-later
"""The device side of the INDI protocol 1.7: what a driver needs to be a device for INDI clients.

`vectors.py` describes properties, `reader.py` turns the bytes of clients into events, of which `superseded.py` drops
those that a later one makes needless, `writer.py` turns vectors into bytes, `output.py` writes them without waiting,
and `device.py` ties them together for one device. A driver reads its standard input, feeds a Reader, and hands each
event to the Device that it names; all its Devices write to one Output.

It knows nothing of focusers, imports nothing of the project, and nothing that a client sends can end it.
"""

from . import writer
from .device import Device, Handler, Refused, parse_number
from .output import Message, Output
from .reader import Event, GetProperties, Malformed, NewVector, Reader
from .superseded import without_superseded
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
    Value,
    Vector,
)

__all__ = [
    "Device",
    "Event",
    "GetProperties",
    "Handler",
    "Light",
    "LightVector",
    "Malformed",
    "Message",
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
    "without_superseded",
    "writer",
]
