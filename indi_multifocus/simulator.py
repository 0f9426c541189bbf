# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m indi_multifocus.simulator` serves a simulated controller on a pseudo-terminal until Ctrl-C.

The simulator itself is in `simulation/simulator.py`.
"""

from __future__ import annotations

import argparse
import signal
import sys

from .simulation.firmware import BUILDS, MAX_CHANNELS
from .simulation.simulator import Simulator

__all__ = ["Simulator", "main"]


def main(arguments: list[str] | None = None) -> int:
    """The command line: serve a controller, its port on the first line of stdout, until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(
        prog="python -m indi_multifocus.simulator",
        description="A simulated focus controller on a pseudo-terminal. Prints the port to open.",
    )
    add = parser.add_argument
    add("--generation", type=int, choices=sorted(BUILDS), default=2, help="of the firmware (default 2)")
    add("--channels", type=int, default=2, metavar="N", help=f"1 to {MAX_CHANNELS} (default 2)")
    add("--link", metavar="PATH", help="a symbolic link to make to the port")
    add("--speed", type=float, default=1.0, metavar="X", help="of the motors, in real ones (default 1)")
    add("--baud-pacing", action="store_true", help="let replies arrive at 9600 baud")
    add("--eeprom", metavar="FILE", help="keep the targets here over a restart")
    add("--probe", type=_probe, action="append", default=[], metavar="ADDRESS=CELSIUS", help="a thermometer")
    options = parser.parse_args(arguments)

    ends = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    # Blocked before the thread starts, so that it inherits this and sigwait gets them.
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    try:
        simulator = Simulator(
            generation=options.generation,
            channels=options.channels,
            speed=options.speed,
            baud_pacing=options.baud_pacing,
            eeprom=options.eeprom,
            link=options.link,
            probes=dict(options.probe),
        )
        simulator.start()
    except (ValueError, OSError) as error:
        print(f"simulator: {error}", file=sys.stderr)
        return 1
    try:
        print(simulator.port, flush=True)
        signal.sigwait(ends)
    finally:
        simulator.close()
    return 0


def _probe(text: str) -> tuple[str, float]:
    address, _, celsius = text.partition("=")
    return address, float(celsius)


if __name__ == "__main__":
    sys.exit(main())
