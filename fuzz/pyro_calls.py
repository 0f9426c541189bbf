# SPDX-License-Identifier: GPL-3.0-or-later
"""Anything as a call of focusd's Pyro object: it is refused, or what it asks of a channel is of the right kind.

The bytes are what Pyro takes from a message and hands to its serializer; who may send them is played both ways.
"""

from __future__ import annotations

from typing import Any, cast

import Pyro4

from focus_cli import codes
from focus_cli.focusd import FocusDaemon, _Serpent
from focus_cli.focusers import Focusers

ALLOWED, OTHER = ("127.0.0.1", 5), ("127.0.0.2", 5)
CONTROLS = ("set_focus", "stop_channel", "reset_home_position", "enable_fans", "initialize", "shutdown")
ASKS = ("report_status", "temperature_labels")
SERPENT = _Serpent()


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


def _call(method: str, *arguments: object, **named: object) -> bytes:
    return bytes(SERPENT.dumpsCall("test_daemon", method, arguments, named))


SEEDS = [
    *[_call(method) for method in (*ASKS, *CONTROLS)],
    _call("set_focus", 1, -500),
    _call("set_focus", 2, 10**9, offset=True),
    _call("set_focus", "1", 1.5, None),
    _call("set_focus", True, [1, {"a": (2,)}]),
    _call("stop_channel", 2),
    _call("reset_home_position", 3),
    _call("enable_fans", 2),
    _call("enable_fans", False),
    _call("_is_allowed", ALLOWED),
    _call("set_focus", {"__class__": "Pyro4.core.Proxy", "state": ["PYRO:a@b:1", [], [], [], 0.0, "b", "c", 0]}, 5),
    b"{",
]

WORDS = [
    *[f"'{name}'" for name in (*CONTROLS, *ASKS, "offset", "channel", "steps", "__init__", "_focusers", "__class__")],
    *["True", "None", "(", ")", "[", "{", "}", "-1", "1e999", "1j", "b''", "'", ",", ":", "# serpent utf-8\n"],
    *["Pyro4.core.URI", "Pyro4.core.Proxy", "Pyro4.errors.ProtocolError", "float", "value", "state", "nan"],
]


def run(data: bytes) -> None:
    """Call it from a machine that may, and from one that may not."""
    try:
        _, method, arguments, named = cast(Any, SERPENT.deserializeCall(data))
    except Exception:  # Pyro tells the client
        return
    for peer in (ALLOWED, OTHER):
        focusers = FakeFocusers()
        daemon = FocusDaemon(cast(Focusers, focusers), [ALLOWED[0]], {"probe": "Probe"})
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
