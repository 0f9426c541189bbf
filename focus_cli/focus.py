# SPDX-License-Identifier: GPL-3.0-or-later
"""focus: the command line of focusd. A Pyro client; it knows nothing of INDI.

It works with this focusd, and with rockit-astro/focusd of either generation. Here a command line becomes a call of a
command (commands.py), and its result an exit status: the code of codes.py modulo 256.
"""

from __future__ import annotations

import os
import signal
import sys

from . import codes
from .commands import FUNCTIONS, Function
from .manual import COMMANDS, details, overview
from .moving import HungUp
from .session import CommandError, Session, UsageError, config_path
from .streams import guarded


def _script() -> str:
    return os.path.basename(sys.argv[0]) or "focus"


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(overview(_script()))
        return codes.SUCCEEDED
    if arguments == ["--version"]:
        from indi_multifocus import __version__

        print(f"focus {__version__}")
        return codes.SUCCEEDED
    if arguments[0] not in COMMANDS:
        print(overview(_script()))
        return codes.USAGE
    return _run_command(arguments[0], arguments[1:])


def _run_command(name: str, arguments: list[str]) -> int:
    from indi_multifocus.settings.configuration import ConfigError, load

    if "--help" in arguments or "-h" in arguments:
        return _help(name)
    if name == "doctor":
        return _doctor(arguments)
    try:
        path = config_path()
        session = Session(path, load(path))
        code = _call(FUNCTIONS[name], session, arguments)
    except (ConfigError, CommandError) as error:
        print(f"{_script()}: {error}", file=sys.stderr)
        return codes.FAILED
    except UsageError:
        print(f"usage: {_script()} {COMMANDS[name].usage(session.channels)}")
        return codes.USAGE
    if code != codes.SUCCEEDED:
        # Whoever reads JSON finds JSON on standard output, or nothing.
        print(codes.message(code), file=sys.stderr if name == "json" else sys.stdout)
        if sys.stderr.isatty():
            _give_hint(session, code, arguments)
    return code


def _give_hint(session: Session, code: int, arguments: list[str]) -> None:
    from .hints import hint

    text = hint(session, code, arguments)
    if text:
        sys.stdout.flush()
        print(f"focus: {text}", file=sys.stderr)


def _doctor(arguments: list[str]) -> int:
    """It needs no configuration that can be used, and has printed what its result means."""
    from . import doctor

    try:
        return doctor.run(arguments)
    except UsageError:
        print(f"usage: {_script()} {COMMANDS['doctor'].usage(range(1))}")
        return codes.USAGE


def _help(name: str) -> int:
    from indi_multifocus.settings.configuration import ConfigError, load

    try:
        channels = range(1, load(config_path()).channels + 1)
    except ConfigError:  # the help is for all
        channels = range(1, 3)
    print(details(_script(), COMMANDS[name], channels))
    return codes.SUCCEEDED


def _call(command: Function, session: Session, arguments: list[str]) -> int:
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
