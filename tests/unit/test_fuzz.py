# SPDX-License-Identifier: GPL-3.0-or-later
"""What `make fuzz` begins with and what it once found, played without it; and that its targets notice what is wrong."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from typing import Any

import pytest

from focus_cli import focusd
from focus_cli.focusd import FocusDaemon
from indi_multifocus import focuser_position
from indi_multifocus.controller import protocol
from indi_multifocus.controller.conversation import (
    Answered,
    Conversation,
    NotAController,
    OutOfStep,
    Synchronised,
)
from indi_multifocus.driver import Driver
from indi_multifocus.focuser import Focuser
from indi_multifocus.indi import Device, Message, NewVector, Output, Reader, reader
from indi_multifocus.moves import Circumstances, Plan
from indi_multifocus.settings.remembered_position import PositionMemory
from indi_multifocus.settings.saved_properties import SavedProperties
from tools.fuzz import (
    TARGETS,
    configuration,
    indi_driver,
    indi_reader,
    pyro_calls,
    saved_settings,
    serial_protocol,
    state_file,
)

Run = Callable[[bytes], None]

FINDINGS: list[tuple[Run, bytes]] = [
    # A time of 400 digits in a state file ended the driver.
    (
        state_file.run,
        state_file.saved(move={"start": 0, "target": 900, "time_s": 10**400, "boot": ""}),
    ),
    # A network port that is none ended the driver at its start.
    (configuration.run, configuration.SEEDS[0].replace(b"/dev/focuser", b"socket://host:x")),
    (configuration.run, configuration.SEEDS[0].replace(b"/dev/focuser", b"socket://host:" + b"1" * 5000)),
    # A saved setting of the link that was refused was shown as such on one channel, and on the others as it had been.
    (
        saved_settings.run,
        b"<INDIDriver><newNumberVector device='MultiFocus 1' name='POLLING_PERIOD'><oneNumber name='PERIOD_MS'>0"
        b"</oneNumber></newNumberVector></INDIDriver>",
    ),
    # What is not printable is written in four characters, which made a line of the log longer than it should be.
    (indi_reader.run, b"<new" + b"\0" * 60 + b">7\n</n" + b"\0" * 60 + b">"),
    # A tag that does not end took minutes when it came in single bytes.
    (indi_reader.run, b"<" + b"x" * 4000),
]


def play_seeds(target: Any) -> None:
    for seed in target.SEEDS:
        target.run(seed)


@pytest.mark.parametrize("name", TARGETS)
def test_the_seeds_of_every_target_find_nothing(name: str) -> None:
    play_seeds(importlib.import_module(f"tools.fuzz.{name}"))


@pytest.mark.parametrize(("run", "data"), FINDINGS)
def test_what_was_found_once_is_not_found_again(run: Run, data: bytes) -> None:
    run(data)


def test_the_seeds_of_the_serial_line_lead_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    happened: list[Any] = []
    check = serial_protocol._check

    def note(event: Any, *more: Any) -> None:
        happened.append(event)
        check(event, *more)

    monkeypatch.setattr(serial_protocol, "_check", note)
    play_seeds(serial_protocol)
    assert {type(event) for event in happened} == {Answered, Synchronised, OutOfStep, NotAController}
    assert {type(event.command) for event in happened if isinstance(event, Answered)} == set(serial_protocol._REPLIES)
    assert {event.generation for event in happened if isinstance(event, Synchronised)} == {1, 2}


# The targets themselves: each of these would be a bug, and a seed finds it.


def _fails(*_: object, **__: object) -> Any:
    raise ZeroDivisionError("on purpose")


def _agrees(*_: object) -> bool:
    return True


def _silent(*_: object, **__: object) -> None:
    pass


def _drops_its_last_event(self: Reader, data: bytes, feed: Any = Reader.feed) -> Any:
    return feed(self, data)[: -1 if len(data) == 1 else None]


def _reverses_elements(*arguments: Any, parse: Any = reader._parse) -> Any:
    event = parse(*arguments)
    return event._replace(elements=event.elements[::-1]) if isinstance(event, NewVector) else event


def _takes_any_digits(line: bytes, parse: Any = protocol._parse_status) -> Any:
    numbers = [int(number) for number in re.findall(rb"=([+-]\d+)", line)]
    return protocol.Status(tuple(numbers[::2]), tuple(numbers[1::2])) if len(numbers) % 2 == 0 else parse(line)


def _turns_round(line: bytes, parse: Any = protocol._parse_status) -> Any:
    status = parse(line)
    return protocol.Status(status.currents, status.targets) if isinstance(status, protocol.Status) else status


def _stays(self: Focuser) -> None:
    self.connected = False


def _allows_anything(position: int, now: Circumstances) -> Plan:
    return Plan(position, now.scale.to_steps(position))


def _keeps_the_first(self: Output, message: Message) -> None:
    self._waiting.setdefault((message.kind, message.device, message.name), message)


def _receives_twice(self: Conversation, data: bytes, receive: Any = Conversation.receive) -> Any:
    return receive(self, data * 2)


@pytest.mark.parametrize(
    ("target", "owner", "name", "bug"),
    [
        (indi_driver, Focuser, "_new_presets", _fails),
        (indi_driver, Focuser, "_new_presets", _silent),
        (indi_driver, Focuser, "_show_position", _silent),
        (indi_driver, focuser_position, "plan_move", _allows_anything),
        (indi_driver, Output, "_keep", _keeps_the_first),
        (indi_driver, PositionMemory, "written", _silent),
        (indi_driver, Focuser, "disconnect", _stays),
        (indi_driver, Driver, "_show_elsewhere", _silent),
        (indi_driver, Device, "get_properties", _fails),
        (saved_settings, Focuser, "_set_travel", _fails),
        (indi_reader, Reader, "feed", _drops_its_last_event),
        (indi_reader, reader, "_parse", _reverses_elements),
        (serial_protocol, Conversation, "receive", _receives_twice),
        (serial_protocol, protocol, "_parse_status", _takes_any_digits),
        (serial_protocol, protocol, "_parse_status", _turns_round),
        (saved_settings, SavedProperties, "_write_all", lambda *_: 0),
        (pyro_calls, FocusDaemon, "_is_allowed", _agrees),
        (pyro_calls, FocusDaemon, "_is_channel", _agrees),
        (pyro_calls, focusd, "_switch", lambda name, value: value),
        (state_file, Focuser, "connect", _fails),
        (configuration, Focuser, "connect", _fails),
    ],
)
def test_a_target_notices_what_is_wrong(
    target: Any, owner: Any, name: str, bug: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, name, bug)
    with pytest.raises((AssertionError, ZeroDivisionError, KeyError)):
        play_seeds(target)
