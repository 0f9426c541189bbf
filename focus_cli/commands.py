# SPDX-License-Identifier: GPL-3.0-or-later
"""What the commands of `focus` do. Each function gets the session and its arguments, and returns a code of codes.py.

It may raise UsageError for arguments that are not the command's, ConfigError, or what Pyro raises: focus.py knows what
to say of these.
"""

from __future__ import annotations

from typing import Any, Callable

from . import codes
from .moving import Patience, move
from .session import Session, UsageError, whole
from .show import summary

CONNECT_S = 30.0
"""For `init`, which opens the port and may wait for a lost link."""

Function = Callable[[Session, list[str]], int]


def set_position(session: Session, arguments: list[str]) -> int:
    """`set <channel> <steps>`"""
    return _move(session, arguments, offset=False)


def offset_position(session: Session, arguments: list[str]) -> int:
    """`offset <channel> <delta>`"""
    return _move(session, arguments, offset=True)


def _move(session: Session, arguments: list[str], *, offset: bool) -> int:
    patience, arguments = _patience(arguments)
    channel, (number,) = session.channel(arguments, 1)
    steps = whole(number)
    if abs(steps) >= 10**15:  # further than any motor, and than some text a message should carry
        return codes.POSITION_OUTSIDE_LIMITS

    def order(focusd: Any) -> int:
        return int(focusd.set_focus(channel, steps, offset=True) if offset else focusd.set_focus(channel, steps))

    return move(session, channel, order, patience)


def _patience(arguments: list[str]) -> tuple[Patience, list[str]]:
    """What --no-wait and --timeout say, and the other arguments."""
    wait, timeout_s, others = True, None, []
    left = iter(arguments)
    for argument in left:
        name, equals, value = argument.partition("=")
        if argument == "--no-wait":
            wait = False
        elif name == "--timeout":
            timeout_s = _seconds(value if equals else next(left, ""))
        else:
            others.append(argument)
    return Patience(wait, timeout_s), others


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        raise UsageError from None
    if not 0 < seconds <= 1e6:
        raise UsageError
    return seconds


def stop(session: Session, arguments: list[str]) -> int:
    """`stop <channel>`"""
    channel, _ = session.channel(arguments)
    with session.focusd() as focusd:
        return int(focusd.stop_channel(channel))


def zero(session: Session, arguments: list[str]) -> int:
    """`zero <channel>`"""
    channel, _ = session.channel(arguments)
    with session.focusd() as focusd:
        return int(focusd.reset_home_position(channel))


def initialize(session: Session, arguments: list[str]) -> int:
    """`init`"""
    _none(arguments)
    with session.focusd(CONNECT_S) as focusd:
        return int(focusd.initialize())


def shutdown(session: Session, arguments: list[str]) -> int:
    """`kill`"""
    _none(arguments)
    with session.focusd() as focusd:
        return int(focusd.shutdown())


def enable_fans(session: Session, arguments: list[str]) -> int:
    """`fans enable|disable`"""
    if arguments not in (["enable"], ["disable"]):
        raise UsageError
    with session.focusd() as focusd:
        if "enable_fans" not in focusd._pyroMethods:
            print("error: this focusd knows no fans")
            return codes.FAILED
        return int(focusd.enable_fans(arguments == ["enable"]))


def list_channels(session: Session, arguments: list[str]) -> int:
    """`list-channels`"""
    _none(arguments)
    print(*session.channels)
    return codes.SUCCEEDED


def print_json(session: Session, arguments: list[str]) -> int:
    """`json`: what focusd reports, on one line."""
    import json

    _none(arguments)
    with session.focusd() as focusd:
        status = focusd.report_status()
    print(json.dumps(status or {}))
    return codes.SUCCEEDED


def print_status(session: Session, arguments: list[str]) -> int:
    """`status`, for people"""
    _none(arguments)
    with session.focusd() as focusd:
        status = focusd.report_status() or {}
        labels = focusd.temperature_labels() if "temperature" in status else {}
    print("\n".join(summary(status, labels, session.channels)))
    return codes.SUCCEEDED


def watch(session: Session, arguments: list[str]) -> int:
    """`watch`"""
    from .watch import run

    return run(session, arguments)


def show_log(session: Session, arguments: list[str]) -> int:
    """`log`"""
    from .history_command import run

    return run(session, arguments)


FUNCTIONS: dict[str, Function] = {
    "set": set_position,
    "offset": offset_position,
    "stop": stop,
    "status": print_status,
    "json": print_json,
    "watch": watch,
    "log": show_log,
    "fans": enable_fans,
    "zero": zero,
    "init": initialize,
    "kill": shutdown,
    "list-channels": list_channels,
}


def _none(arguments: list[str]) -> None:
    if arguments:
        raise UsageError
