# SPDX-License-Identifier: GPL-3.0-or-later
"""Entry point of the INDI driver: `indi_multifocus`, or `python -m indi_multifocus`. indiserver starts it.

It speaks INDI on standard input and output, and nothing else there. It ends with its standard input
(indiserver is gone) and on SIGTERM or SIGINT; moves in progress are left to finish.
"""

from __future__ import annotations

import gc
import os
import sys
from typing import TYPE_CHECKING

from . import __version__

if TYPE_CHECKING:
    import signal
else:
    import _signal as signal  # the same functions; signal puts them into enumerations, and enum is slow to import

HELP = """\
usage: indi_multifocus [--help | --version]

The INDI driver of the multi-channel focus controller. It speaks INDI on standard input and output, so it is not
started by hand but by an INDI server:

    indiserver indi_multifocus

or by KStars, where MultiFocus is chosen among the focusers of an Ekos profile. Then any INDI client sees each channel
as a focuser of its own.

environment:
  INDI_MULTIFOCUS_CONFIG  a JSON configuration (optional: port and settings are INDI properties)
  INDIDEV                 what the names of the focusers begin with (MultiFocus)
"""
END_S = 3
"""To end in order takes less. The kernel ends a driver that is stuck, as in a line for a log that nobody reads."""


class _Log:
    """Standard error, where what cannot be written is lost, and nothing else: a disk that is full ends no driver."""

    def write(self, text: str) -> int:
        """All of it, or what there is room for."""
        try:
            os.write(2, text.encode("utf-8", "backslashreplace"))
        except OSError:
            pass
        return len(text)

    def flush(self) -> None:
        """There is nothing left to write."""


def main() -> int:
    """Run the driver; returns the exit status."""
    if "--version" in sys.argv[1:]:
        print(f"indi_multifocus {__version__}")
        return 0
    if sys.argv[1:]:
        asked = sys.argv[1:] in (["-h"], ["--help"])
        text = HELP if asked else f"indi_multifocus takes no {sys.argv[1]}\n\n{HELP}"
        print(text, end="", file=None if asked else sys.stderr)
        return 0 if asked else 2
    if sys.stderr is None:  # closed by whoever starts the driver: print would take standard output for it
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    else:
        sys.stderr = _Log()
    gc.disable()  # nothing that a start makes is garbage
    # From the first definition on whoever starts the driver may end it: that waits until it can be done in order.
    ends = (signal.SIGTERM, signal.SIGINT)
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    from .driver import Driver
    from .settings.driver_settings import load_settings

    try:
        settings = load_settings()
    except Exception as error:
        if type(error).__name__ != "ConfigError":
            raise
        print(f"indi_multifocus: {error}", file=sys.stderr)
        return 1
    driver = Driver(settings)

    def end(*_: object) -> None:
        driver.end()
        signal.alarm(END_S)

    for number in ends:
        signal.signal(number, end)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ends)
    gc.freeze()
    gc.enable()
    driver.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
