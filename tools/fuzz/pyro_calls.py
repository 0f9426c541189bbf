# SPDX-License-Identifier: GPL-3.0-or-later
"""Anything as a call of focusd's Pyro object: it is refused, or what it asks of a channel is of the right kind.

What a caller sends goes through Pyro's serializer, and comes from a machine that may, and from one that may not.
"""

from __future__ import annotations

import ipaddress
from typing import Any, cast

import Pyro4

from focus_cli import codes
from focus_cli.focusd import FocusDaemon
from focus_cli.focusers import Focusers
from focus_cli.literals import DaemonSerializer

from .choices import Choices

ALLOWED, OTHER = ("127.0.0.1", 5), ("127.0.0.2", 5)
CONTROLS = ("set_focus", "stop_channel", "reset_home_position", "enable_fans", "initialize", "shutdown")
ASKS = ("report_status", "temperature_labels")
SERPENT = DaemonSerializer()


class Channel:
    """In place of focusers.Channel: writes down what it is asked for."""

    def __init__(self, asked: list[tuple[str, object]]) -> None:
        self._asked = asked

    def _note(self, what: str, value: object = None) -> int:
        self._asked.append((what, value))
        return codes.SUCCEEDED

    def move(self, steps: int, *, offset: bool) -> int:
        assert type(steps) is int
        assert type(offset) is bool
        return self._note("move", steps)

    def stop(self) -> int:
        return self._note("stop")

    def zero(self) -> int:
        return self._note("zero")

    def switch_fans(self, enabled: bool) -> int:
        assert type(enabled) is bool
        return self._note("fans", enabled)


class FakeFocusers:
    """In place of focusers.Focusers: two channels."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, object]] = []
        self.channels = {number: Channel(self.asked) for number in (1, 2)}

    def status(self) -> dict[str, object]:
        return {"status": 1}

    def initialize(self) -> int:
        self.asked.append(("initialize", None))
        return codes.SUCCEEDED

    def shutdown(self) -> int:
        self.asked.append(("shutdown", None))
        return codes.SUCCEEDED


METHODS = (*CONTROLS, *ASKS, "_is_allowed", "_is_channel", "_focusers", "__init__", "__class__", "__getattr__", "")
NAMES = ("channel", "steps", "offset", "enabled", "self", "other")
PROXY = {"__class__": "Pyro4.core.Proxy", "state": ["PYRO:a@b:1", [], [], [], 0.0, None, "hello", 0]}
VALUES = (1, 2, 0, -500, True, False, None, 3, "1", 1.5, 1.0, 10**9, -(10**300), b"1", (), [1], PROXY, {1})

WORDS = ["-1", "1e999", "True", "offset", "\x00", "é"]

_SEEDS: tuple[list[int], ...] = ([], [0], [4], [7], [0, 3], [1, 8], [0, 3, 4], [1, 0, 1])
"""No value, one, two or three of them."""

SEEDS = [bytes([method, len(values), *values, 0]) for method in range(len(CONTROLS + ASKS)) for values in _SEEDS]


def _value(choices: Choices, depth: int = 0) -> object:
    """One of those that matter, or any."""
    kind = choices.byte() % (len(VALUES) + 4) - len(VALUES)
    if kind < 0:
        return VALUES[kind]
    if kind == 0:
        return choices.number()
    if kind == 1:
        return choices.text()
    if kind == 2 or depth > 3:
        return choices.some_bytes()
    return [_value(choices, depth + 1), {"a": _value(choices, depth + 1)}]


def run(data: bytes) -> None:
    """Make the call that `data` decides."""
    choices = Choices(data)
    sent = choices.pick(METHODS), [_value(choices) for _ in range(choices.byte() % 5)]
    also = {choices.pick(NAMES): _value(choices) for _ in range(choices.byte() % 3)}
    try:
        _, method, arguments, named = cast(Any, SERPENT.deserializeCall(SERPENT.dumpsCall("test_daemon", *sent, also)))
    except Pyro4.errors.SerializeError:  # deeper than any call
        return
    for peer in (ALLOWED, OTHER):
        focusers = FakeFocusers()
        daemon = FocusDaemon(cast(Focusers, focusers), [ipaddress.ip_address(ALLOWED[0])], {"probe": "Probe"})
        Pyro4.current_context.client_sock_addr = peer
        try:
            result = Pyro4.util.getAttribute(daemon, method)(*arguments, **named)
        except (AttributeError, TypeError):  # no such method; not its arguments
            assert not focusers.asked
            continue
        assert method in CONTROLS + ASKS
        assert type(result) is (int if method in CONTROLS else dict)
        if method in CONTROLS and peer == OTHER:
            assert result == codes.INVALID_CONTROL_IP
            assert not focusers.asked
