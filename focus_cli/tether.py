# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a command that ends with its parent, however that ends: `python tether.py <pid of the parent> command …`.

server.py starts indiserver through this, so that it goes also when focusd is killed outright. A parent process cannot
arrange this for a child without running Python between fork and exec, which is not safe where there are threads.
Run as a file, with nothing of the project imported.

Not setpriv --pdeathsig (util-linux): it also sets its capabilities anew (capset), which focusd@.service forbids with
@privileged, and then does not run the command.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> int:
    """Returns only where the command was not run."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    # The setting outlives the exec below. Its drivers notice by themselves that indiserver is gone: their input ends.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the kernel was asked
        return 1
    try:
        os.execvp(command[0], command)
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
