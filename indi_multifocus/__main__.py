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

from . import __version__
from .driver import Driver
from .settings.driver_settings import SettingsError, load_settings

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class _LogHandler(logging.Handler):
    """Standard error, without ever waiting for whoever reads it; what cannot be written is lost, and nothing else."""

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
    parser = argparse.ArgumentParser(
        prog="indi_multifocus",
        description="INDI driver for the multi-channel focus controller. indiserver starts it: it speaks INDI on "
        "standard input and output.",
        epilog="Environment: INDI_MULTIFOCUS_CONFIG names a JSON configuration, INDIDEV replaces the first word of the "
        "devices' names, INDICONFIG names the file of saved settings.",
    )
    parser.add_argument("--version", action="version", version=f"indi_multifocus {__version__}")
    parser.parse_args()
    # A signal is seen by `select` in the main thread, whichever thread the kernel gives it to: the handler of the
    # standard library writes it to this pipe at once, in any thread.
    signals, wakeup = os.pipe()
    os.set_blocking(wakeup, False)
    for number in SIGNALS:
        signal.signal(number, lambda *_: None)
    signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
    logging.basicConfig(handlers=[_LogHandler()], format="%(message)s", level=logging.INFO)
    try:
        settings = load_settings()
    except SettingsError as error:
        print(f"indi_multifocus: {error}", file=sys.stderr)
        return 1
    driver = Driver(settings, signals=signals)
    return driver.run()


if __name__ == "__main__":
    sys.exit(main())
