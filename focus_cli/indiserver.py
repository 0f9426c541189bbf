# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of an indiserver of our own, whichever libindi it is of.

Used by server.py, by the service indi-multifocus@ and by the tests. It imports nothing of the project.
"""

from __future__ import annotations

import functools
import subprocess


def command(port: int, local_socket: str, *options: str) -> list[str]:
    """`indiserver` on `port` with `options`; the drivers are to be appended.

    `local_socket` names its local socket: the default has one name for all indiservers of a machine, of which the
    second then ends. libindi 1.8 has no such socket. Raises OSError where there is no indiserver.
    """
    names = ("-u", local_socket) if "-u path" in usage() else ()
    return ["indiserver", "-p", str(port), *names, *options]


@functools.cache
def usage() -> str:
    """What indiserver prints of itself: its options, and the version of its libindi."""
    command = ["indiserver"]
    return subprocess.run(command, capture_output=True, check=False, stdin=subprocess.DEVNULL, text=True).stderr
