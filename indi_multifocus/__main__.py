# SPDX-License-Identifier: GPL-3.0-or-later
"""Entry point of the INDI driver: `indi_multifocus`, or `python -m indi_multifocus`. indiserver starts it.

It speaks INDI on standard input and output, and nothing else there; its log goes to standard error. It ends with its
standard input (indiserver is gone) and on SIGTERM or SIGINT; moves in progress are left to finish.
"""

from __future__ import annotations

import argparse
import logging
import os
import select
import signal
import sys
from collections.abc import Sequence

from . import __version__
from .driver import Driver
from .indi import Message, Output, writer
from .server_name import claim, conflict, introduction
from .settings.device_name import PREFIX_VARIABLE
from .settings.driver_settings import SettingsError, load_settings
from .settings.system_text import variable
from .threads import ENDING_SIGNALS

DESCRIPTION = """\
The INDI driver of the multi-channel focus controller. It speaks INDI on standard input and output, so it is not
started by hand but by an INDI server:

    indiserver indi_multifocus

or by KStars, where MultiFocus is chosen among the focusers of an Ekos profile. Then any INDI client sees each channel
as a focuser of its own."""

ENVIRONMENT = """\
environment:
  INDI_MULTIFOCUS_CONFIG  a JSON configuration (optional: port and settings are INDI properties)
  INDIDEV                 what the names of the focusers begin with (MultiFocus)
  INDICONFIG              the file of the saved settings (~/.indi/<device>_config.xml)"""

SWITCH_INTERVAL_S = 0.0005
"""How long the poll thread waits at most for the main thread to let it run. Python's 5 ms would delay a stop by as much
while many clients are served."""

log = logging.getLogger("indi_multifocus")


class _LogHandler(logging.Handler):
    """Writes to standard error and never waits for its reader; what cannot be written is lost."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        data = f"indi_multifocus: {self.format(record)}\n".encode("utf-8", "backslashreplace")
        try:
            # A pipe that is writable takes this many bytes at once.
            if select.select([], [2], [], 0)[1]:
                os.write(2, data[: select.PIPE_BUF])
        except (OSError, ValueError):
            pass


def main() -> int:
    """Run the driver; returns the exit status."""
    _open_missing_streams()
    parser = argparse.ArgumentParser(
        prog="indi_multifocus",
        description=DESCRIPTION,
        epilog=ENVIRONMENT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
    )
    parser.add_argument("-h", "--help", action="store_true", help="show this text and end")
    parser.add_argument("--version", action="store_true", help="show the version and end")
    options = parser.parse_args()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    logging.basicConfig(handlers=[_LogHandler()], format="%(message)s", level=logging.INFO)
    if options.help or options.version:
        return _print(parser.format_help() if options.help else f"indi_multifocus {__version__}\n")
    try:
        settings = load_settings()
    except SettingsError as error:
        log.error("%s", error)
        return 1
    signals = _signals()
    devices = list(settings.device_names().values())
    label = variable(PREFIX_VARIABLE)
    reserved = claim(devices, signals, lambda: _report_other(devices))
    if reserved is None:
        return 0
    with reserved:
        problem = conflict(label, devices)
        if problem:
            log.warning("%s", problem)
        return Driver(settings, introduction=introduction(label, devices), signals=signals).run()


def _report_other(devices: Sequence[str]) -> None:
    """Another driver of this server has these devices: for the log and for the users of all clients."""
    text = f"this INDI server already runs a driver for {', '.join(devices)}: this one waits until it ends"
    log.error("%s", text)
    Output().write(Message("message", "", "", writer.message(None, f"[ERROR] {text}"), text))


def _print(text: str) -> int:
    """Write to standard output; returns the exit status."""
    try:
        os.write(1, text.encode())
    except OSError as error:
        log.error("standard output: %s", error.strerror)
        return 1
    return 0


def _open_missing_streams() -> None:
    """Open /dev/null in place of standard streams that are closed, so that no file opened later gets their numbers."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDONLY)  # writing to it fails, as on a closed stream


def _signals() -> int:
    """A file descriptor that becomes readable when a signal comes.

    A handler alone is not enough: Python runs it in the main thread, which would not wake up for it where the kernel
    gives the signal to another thread.
    """
    signals, wakeup = os.pipe()
    os.set_blocking(wakeup, False)
    signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
    for number in ENDING_SIGNALS:
        signal.signal(number, lambda *_: None)
    return signals


if __name__ == "__main__":
    sys.exit(main())
