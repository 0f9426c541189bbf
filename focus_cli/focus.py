# SPDX-License-Identifier: GPL-3.0-or-later
"""focus: the command line of focusd. A Pyro client; it knows nothing of INDI.

It works with this focusd, and with rockit-astro/focusd of either generation: the first reports `status_N` for each
channel, its successor `status` of the whole box, `moving_N`, fans and temperatures.

Observers run `focus status` often, so whatever takes time to import (Pyro above all) is imported where it is needed.
The exit status is the code of codes.py modulo 256.
"""

from __future__ import annotations

import glob
import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Callable

from . import codes
from .moving import HungUp, move
from .streams import guarded

if TYPE_CHECKING:
    from indi_multifocus.settings.configuration import Config

CONFIG_VARIABLE = "FOCUSD_CONFIG_PATH"
CONFIG_FOLDER = "/etc/focusd"
ANSWER_S = 5.0
CONNECT_S = 30.0
"""For `init`, which opens the port and may wait for a lost link."""

Status = dict[str, Any]
"""What report_status returned."""


class UsageError(Exception):
    """The arguments are not the command's."""


class Session:
    """The configuration, and connections to its focusd."""

    def __init__(self, path: str, config: Config) -> None:
        self._path = path
        self._config = config
        self.channels = range(1, config.channels + 1)

    @contextmanager
    def focusd(self, timeout_s: float | None = ANSWER_S) -> Iterator[Any]:
        """A Pyro proxy of focusd, whose calls may take `timeout_s`; None: as long as they like."""
        import Pyro4

        from . import literals
        from .directory import Directory
        from .net import watch_peer

        literals.install()
        with Pyro4.Proxy(Directory(self._path).daemon(self._config.daemon).uri) as proxy:
            proxy._pyroTimeout = ANSWER_S
            proxy._pyroBind()
            proxy._pyroTimeout = timeout_s
            watch_peer(proxy._pyroConnection.sock)
            yield proxy

    def channel(self, arguments: list[str], others: int = 0) -> tuple[int, list[str]]:
        """The channel that `arguments` begin with, and the `others` arguments that follow. Raises UsageError.

        Where there is one channel, its number may be left out, as with rockit-astro/focusd.
        """
        if len(arguments) == others and len(self.channels) == 1:
            return 1, arguments
        if len(arguments) != others + 1:
            raise UsageError
        number = _whole(arguments[0])
        if number not in self.channels:
            raise UsageError
        return number, arguments[1:]


# --- The commands: each gets the session and its arguments, and returns a code ------------------------------------


def set_position(session: Session, arguments: list[str]) -> int:
    """`set <channel> <steps>`"""
    channel, (steps,) = session.channel(arguments, 1)
    return _move(session, channel, _whole(steps), offset=False)


def offset_position(session: Session, arguments: list[str]) -> int:
    """`offset <channel> <delta>`"""
    channel, (delta,) = session.channel(arguments, 1)
    return _move(session, channel, _whole(delta), offset=True)


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
    wanted = _one(arguments)
    if wanted not in ("enable", "disable"):
        raise UsageError
    with session.focusd() as focusd:
        if not _offers(focusd, "enable_fans"):
            print("error: this focusd knows no fans")
            return codes.FAILED
        return int(focusd.enable_fans(wanted == "enable"))


def list_channels(session: Session, arguments: list[str]) -> int:
    """`list-channels`, for the shell's completion; asks nobody."""
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
    style = Style()
    print(f"Data received {style.bold(_date(status))}:")
    for channel in session.channels:
        print(f"Channel {channel}: {_channel_status(status, channel, style)}")
    if "fans_enabled" in status and status.get("fans_available", True):  # the old focusd does not say which
        print(f"OTA fans: {style.bold('ENABLED' if status['fans_enabled'] else 'DISABLED')}")
    if labels:
        print("Temperature probes:")
        width = max(map(len, labels.values()))
        for probe, label in labels.items():
            celsius = status["temperature"].get(probe)
            shown = style.bold("UNKNOWN") if celsius is None else f"{style.bold(f'{celsius:.1f}')} °C"
            print(f"   {label + ':':<{width + 1}} {shown}")
    return codes.SUCCEEDED


COMMANDS: dict[str, tuple[Callable[[Session, list[str]], int], str, str]] = {
    "set": (set_position, "{channel} <step position>", "move to a given absolute position"),
    "offset": (offset_position, "{channel} <step delta>", "move by a given number of steps"),
    "stop": (stop, "{channel}", "stop moving"),
    "status": (print_status, "", "print a human-readable summary of the focuser status"),
    "json": (print_json, "", "print a machine-readable summary of the focuser status"),
    "fans": (enable_fans, "(enable|disable)", "turn the OTA fans on or off"),
    "zero": (zero, "{channel}", "call the current position 0"),
    "init": (initialize, "", "connect to the focuser"),
    "kill": (shutdown, "", "disconnect from the focuser"),
    "list-channels": (list_channels, "", "print the channels of the configuration"),
}
ENGINEERING = ("zero", "init", "kill", "list-channels")


# --- Moving -------------------------------------------------------------------------------------------------------


def _move(session: Session, channel: int, steps: int, *, offset: bool) -> int:
    if abs(steps) >= 10**15:  # further than any motor, and than some text a message should carry
        return codes.POSITION_OUTSIDE_LIMITS

    def order(focusd: Any) -> int:
        return int(focusd.set_focus(channel, steps, offset=True) if offset else focusd.set_focus(channel, steps))

    return move(session, channel, order)


# --- Showing ------------------------------------------------------------------------------------------------------


class Style:
    """Bold and colours, where people look at them."""

    def __init__(self) -> None:
        self._on = sys.stdout.isatty() and os.environ.get("TERM") != "dumb" and not os.environ.get("NO_COLOR")

    def bold(self, text: str, colour: str = "") -> str:
        """`colour`: the number of the ANSI sequence."""
        return f"\033[1{';' if colour else ''}{colour}m{text}\033[0m" if self._on else text

    def red(self, text: str) -> str:
        """For what does not work."""
        return self.bold(text, "31")

    def yellow(self, text: str) -> str:
        """For what is on its way."""
        return self.bold(text, "33")


def _date(status: Status) -> str:
    return str(status.get("date", "?")).replace("T", " ").replace("Z", "")


def _channel_status(status: Status, channel: int, style: Style) -> str:
    # The first generation of focusd has status_N alone, its successor status and moving_N alone, ours has all.
    known = status.get(f"status_{channel}")
    if known is None:
        known = codes.MOVING if status.get(f"moving_{channel}") else codes.IDLE
        known = known if status.get("status") and f"current_steps_{channel}" in status else codes.OFFLINE
    if known == codes.OFFLINE:
        return style.red("OFFLINE")
    steps = f"{status[f'current_steps_{channel}']:+07d}"
    if known != codes.MOVING:
        return f"{style.bold(steps)} steps"
    target = f"{status[f'target_steps_{channel}']:+07d}"
    return f"{style.yellow(steps)} steps (moving to {style.bold(target)} steps)"


# --- Arguments ----------------------------------------------------------------------------------------------------


def _whole(text: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]{1,1000}", text):
        raise UsageError
    return int(text)


def _one(arguments: list[str]) -> str:
    if len(arguments) != 1:
        raise UsageError
    return arguments[0]


def _none(arguments: list[str]) -> None:
    if arguments:
        raise UsageError


def _offers(focusd: Any, method: str) -> bool:
    return method in focusd._pyroMethods


def _config_path() -> str:
    """The file that the environment names, or the only one in /etc/focusd. Raises ConfigError."""
    from indi_multifocus.settings.configuration import ConfigError

    from .directory import REGISTRY

    path = os.environ.get(CONFIG_VARIABLE)
    if path:
        return path
    found = sorted(glob.glob(f"{CONFIG_FOLDER}/*.json"))
    found = [file for file in found if os.path.basename(file) != REGISTRY]
    if len(found) == 1:
        return found[0]
    there = f"there are several: {', '.join(map(os.path.basename, found))}" if found else "there is none"
    raise ConfigError(
        f"{CONFIG_FOLDER}/*.json: one configuration is expected, {there}; "
        f"name one, as in {CONFIG_VARIABLE}=/path/to/config.json focus status"
    )


# --- Running ------------------------------------------------------------------------------------------------------


def _script() -> str:
    return os.path.basename(sys.argv[0]) or "focus"


def _print_help() -> None:
    print(f"usage: {_script()} <command> [<args>]")
    for title, engineering in (("general", False), ("engineering", True)):
        print(f"\n{title} commands:")
        for name, (_, _, purpose) in COMMANDS.items():
            if (name in ENGINEERING) is engineering:
                print(f"   {name:<13} {purpose}")
    print(
        "\nCtrl-C (or SIGTERM, SIGQUIT) during set or offset stops that channel."
        "\nA terminal or network that is lost lets the motor go on to its target."
    )


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        _print_help()
        return codes.SUCCEEDED
    if arguments == ["--version"]:
        from indi_multifocus import __version__

        print(f"focus {__version__}")
        return codes.SUCCEEDED
    if arguments[0] not in COMMANDS:
        _print_help()
        return codes.USAGE
    return _run_command(arguments[0], arguments[1:])


def _run_command(name: str, arguments: list[str]) -> int:
    from indi_multifocus.settings.configuration import ConfigError, load

    command, usage, _ = COMMANDS[name]
    try:
        path = _config_path()
        session = Session(path, load(path))
        code = _call(command, session, arguments)
    except ConfigError as error:
        print(f"{_script()}: {error}", file=sys.stderr)
        return codes.FAILED
    except UsageError:
        one = len(session.channels) == 1
        shown = usage.format(channel="[1]" if one else f"({'|'.join(map(str, session.channels))})")
        print(f"usage: {_script()} {name} {shown}".rstrip())
        return codes.USAGE
    if code != codes.SUCCEEDED:
        # Whoever reads JSON finds JSON on standard output, or nothing.
        print(codes.message(code), file=sys.stderr if name == "json" else sys.stdout)
    return code


def _call(command: Callable[[Session, list[str]], int], session: Session, arguments: list[str]) -> int:
    """Run it; what Pyro has to complain of becomes a code."""
    try:
        return command(session, arguments)
    except KeyboardInterrupt:
        return codes.TERMINATED
    except Exception as error:
        if "Pyro4" not in sys.modules:
            raise
        import Pyro4

        if isinstance(error, Pyro4.errors.CommunicationError):
            return codes.UNREACHABLE
        if isinstance(error, Pyro4.errors.PyroError) or hasattr(error, "_pyroTraceback"):
            print(f"error: {error}", file=sys.stderr)  # focusd's, or of a focusd that is none
            return codes.FAILED
        raise


def main() -> int:
    """Entry point; returns the exit status."""
    with guarded() as output:
        try:
            code = _run(sys.argv[1:])
        except KeyboardInterrupt:
            code = codes.TERMINATED
        except HungUp:
            signal.signal(signal.SIGHUP, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGHUP)
        return output.settle(_script(), code) & 0xFF


if __name__ == "__main__":
    sys.exit(main())
