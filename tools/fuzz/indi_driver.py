# SPDX-License-Identifier: GPL-3.0-or-later
"""Clients that send anything, to a whole driver whose controller does anything: each is answered, nothing fails."""

from __future__ import annotations

from functools import cache

from indi_multifocus.settings.driver_settings import Probe, Settings

from .choices import Choices
from .inside import Inside, message, workshop

SETTINGS = (
    Settings(),
    Settings(channels=1, travel={1: (-500, 20000)}, labels={1: "Größe <&'>"}, source="there is one"),
    Settings(channels=3, default_travel=(-9_999_999, 9_999_999), probes=(Probe("a", "A", "28EFE61E0B0000B9", 1),)),
    Settings(port="socket://localhost:4001", probes=(Probe("a", "A", "28EFE61E0B0000B9", None),)),
)

NUMBERS = (
    *("0", "1", "500", "-500", "99999", "100000", "100001", "-9999999", "9999999", "10000000", "999999", "1000000"),
    *("0.5", "1e400", "0x10", "1_000", "inf", "nan", "", " 12 : 30 ", "-0:30", "1e9", "-1e15", "12 30 15.5", "On"),
)
SWITCHES = ("On", "Off", "on", "", "1")
TEXTS = (
    "/dev/ttyACM0",
    "socket://h:1",
    "socket://h",
    "h",
    "4001",
    "loop://",
    "spy:///etc/passwd",
    "",
    "x",
    " ",
    "\n",
    "é",
)
KINDS = ("Number", "Switch", "Text", "Light", "BLOB")

WORDS = [*TEXTS, "<getProperties", "<newTextVector", "<enableBLOB", "<!--", "\ufeff"]


@cache
def _properties(settings: int, generation: int) -> tuple[tuple[str, str, tuple[str, ...]], ...]:
    """(name, kind, elements) of all that a connected driver has."""
    with workshop(), Inside(SETTINGS[settings], generation=generation) as inside:
        inside.connect_all()
        inside.settle()
        found = {
            name: (name, defined.vector.kind, tuple(defined.vector.elements))
            for focuser in inside.driver.focusers
            for name, defined in focuser.device._defined.items()
        }
    return tuple(found.values())


def run(data: bytes) -> None:
    """Play what `data` decides."""
    choices = Choices(data)
    first = choices.byte()
    settings, generation = first % len(SETTINGS), 1 if first & 0x80 else 2
    properties = _properties(settings, generation)
    there = (0, 1, 9)[first // 4 % 3]
    with workshop(), Inside(SETTINGS[settings], generation=generation, there=there) as inside:
        if not first & 0x40:
            inside.connect_all()
        while choices.more:
            _step(inside, choices, properties)
        inside.settle()


def _step(inside: Inside, choices: Choices, properties: tuple[tuple[str, str, tuple[str, ...]], ...]) -> None:
    action = choices.byte() % 12
    device = choices.pick([*inside.names(), *inside.names(), "Other"])
    controller = inside.controller
    if action < 5:
        inside.feed(_new(choices, device, properties))
    elif action == 5:
        name = choices.pick([name for name, _, _ in properties] + ["UNHEARD"])
        which = choices.byte() % 3
        attributes = ("", f" device='{device}'", f" device='{device}' name='{name}'")[which]
        inside.feed(f"<getProperties version='1.7'{attributes.replace('&', '&amp;').replace('<', '&lt;')}/>".encode())
    elif action == 6:
        inside.feed(choices.some_bytes())
        inside.feed(b"'\"-->]]>?>")
    elif action == 7:
        inside.happen(lambda: _move_something(inside, choices))
    elif action == 8:
        inside.happen(controller.rest)
    elif action == 9:
        inside.connect_all()
    elif action == 10:
        inside.happen(controller.come_up)
    else:
        trouble = choices.byte() % 6
        if trouble == 0:
            inside.happen(lambda: controller.lose("the cable"))
        elif trouble == 1:
            inside.happen(lambda: controller.fail("no such port"))
        elif trouble == 2:
            inside.happen(lambda: controller.measure(choices.pick([None, -50.0, 21.0625])))
        elif trouble == 3:
            fault = choices.pick(["", "stalled"])
            inside.happen(lambda: controller.change(1 + choices.byte() % 3, fault=fault, unverified_count=1))
        elif trouble == 4:
            inside.client.reads = not inside.client.reads
        else:
            inside.disk_works = not inside.disk_works


def _move_something(inside: Inside, choices: Choices) -> None:
    limit = 999_999 if inside.controller.generation == 2 else 9_999_999
    target, current = (max(-limit, min(limit, choices.number())) for _ in range(2))
    inside.controller.change(1 + choices.byte() % 3, target=target, current=current, moving=target != current)


def _new(choices: Choices, device: str, properties: tuple[tuple[str, str, tuple[str, ...]], ...]) -> bytes:
    name, kind, names = choices.pick(properties)
    odd = choices.byte()
    if odd > 250:
        name = choices.text().replace("\x00", "") or "UNHEARD"
    elif odd > 245:
        kind = choices.pick(KINDS)
    elements = []
    for _ in range(choices.byte() % 4):
        element = choices.pick([*names, "UNHEARD"])
        values = {"Number": NUMBERS, "Switch": SWITCHES}.get(kind, TEXTS)
        value = choices.text() if odd > 230 else choices.pick(values)
        elements.append((element, value))
    return message(device, name, kind, elements)


def _seeds() -> list[bytes]:
    """Each property set on the first device, before and while it moves, with the link lost, unread, and unwritten."""
    seeds = [bytes([0x40]), bytes(range(256))]
    for settings in range(len(SETTINGS)):
        for number, (_, kind, names) in enumerate(_properties(settings, 2)):
            choices = len({"Number": NUMBERS, "Switch": SWITCHES}.get(kind, TEXTS))
            for at in range(min(len(names), 2)):
                order = bytes([0, 0, number, 0, 1, at, 2 % choices if kind == "Number" else 0])
                seeds.append(bytes([settings]) + order + bytes([8, 0]) + order)
                seeds.append(bytes([settings, 7, 0, 2, 3, 232, 0, 1, 100, 0, 0]) + order + bytes([8, 0]))
                for trouble in (0, 5):
                    seeds.append(bytes([settings, 11, 0, trouble]) + order + bytes([10, 0]) + order)
                seeds.append(bytes([0x40 + settings, 11, 0, 4, 9, 0]) + order + bytes([8, 0]) + order)
    return seeds


SEEDS = _seeds()
