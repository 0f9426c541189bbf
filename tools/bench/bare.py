# SPDX-License-Identifier: GPL-3.0-or-later
"""What Pyro4 itself needs for a call: an object that returns a dictionary, and nothing else.

Runs as a process of its own: `python -m tools.bench.bare JSON` prints the URI of an object whose `report_status()`
returns this JSON. It ends with its standard input.
"""

from __future__ import annotations

import json
import sys
import threading
from typing import Any

import Pyro4


@Pyro4.expose
class Bare:
    """Has the dictionary ready."""

    def __init__(self, status: dict[str, Any]) -> None:
        self._status = status

    def report_status(self) -> dict[str, Any]:
        """The dictionary."""
        return self._status


def main() -> None:
    """Serve until standard input ends."""
    daemon = Pyro4.Daemon(host="127.0.0.1")
    uri = daemon.register(Bare(json.loads(sys.argv[1])))
    threading.Thread(target=daemon.requestLoop, daemon=True).start()
    print(json.dumps(str(uri)), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
