# SPDX-License-Identifier: GPL-3.0-or-later
"""A tiny INDI driver with a property of every kind, for the tests: `THROWAWAY` of support.py.

Its switch DO makes it do what no client can do by itself: change the range of NUMBERS, take NUMBERS away, fail.
"""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from indi_multifocus.indi import (
    Device,
    GetProperties,
    Light,
    LightVector,
    NewVector,
    Number,
    NumberVector,
    Output,
    Permission,
    Reader,
    Refused,
    Rule,
    State,
    Switch,
    SwitchVector,
    Text,
    TextVector,
    Value,
)

numbers = NumberVector("NUMBERS", "Numbers", "Main", [Number("X", "x", 1, max=100, step=1), Number("Y", "y", 2.5)])
switches = SwitchVector("SWITCHES", "Switches", "Main", [Switch("A", "a", True), Switch("B", "b")])
texts = TextVector("TEXTS", "Texts", "Main", [Text("SAID", "said", "Größe <&> 5 µm")])
lights = LightVector("LIGHTS", "Lights", "Main", [Light("LAMP", "lamp")])
fixed = TextVector("FIXED", "Fixed", "Main", [Text("NAME", "name", "stone")], permission=Permission.READ_ONLY)
do = SwitchVector(
    "DO",
    "Do",
    "Main",
    [Switch("WIDEN", "Widen"), Switch("DELETE", "Delete"), Switch("FAIL", "Fail"), Switch("REFUSE", "Refuse")],
    rule=Rule.AT_MOST_ONE,
)
output = Output()
device = Device("Throwaway", output)


def new_numbers(values: Mapping[str, Value]) -> None:
    for name, value in values.items():
        numbers[name].value = float(value)
    numbers.state = State.OK
    device.update(numbers)
    lights["LAMP"].state = lights.state = State.BUSY
    device.publish(lights)


def new_switches(values: Mapping[str, Value]) -> None:
    switches.select(next(name for name, on in values.items() if on))
    switches.state = State.OK
    device.update(switches)


def new_texts(values: Mapping[str, Value]) -> None:
    texts["SAID"].value = str(values["SAID"])
    texts.state = State.OK
    device.update(texts)


def new_do(values: Mapping[str, Value]) -> None:
    if values.get("WIDEN"):
        numbers["X"].max = 5000
        device.publish(numbers)
    if values.get("DELETE"):
        device.remove("NUMBERS")
    if values.get("FAIL"):
        raise ZeroDivisionError("on purpose")
    if values.get("REFUSE"):
        raise Refused("not today; tomorrow is accepted")
    do.state = State.OK
    device.update(do, "[INFO] done")


def main() -> None:
    reader = Reader()
    device.define(numbers, new_numbers)
    device.define(switches, new_switches)
    device.define(texts, new_texts)
    device.define(lights)
    device.define(fixed)
    device.define(do, new_do)
    while True:
        ready, writable, _ = select.select([0], [output] if output.waiting else [], [])
        if writable:
            output.flush()
        if 0 not in ready:
            continue
        data = os.read(0, 65536)
        if not data:
            return
        for event in reader.feed(data):
            if isinstance(event, GetProperties) and event.device in (None, device.name):
                device.get_properties(event.name)
            elif isinstance(event, NewVector):
                device.handle(event)


if __name__ == "__main__":
    main()
