# SPDX-License-Identifier: GPL-3.0-or-later
"""Scripts for libindi's own client library, run in a process of their own for its threads and what it prints."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from support import environment

_CONNECT = """
import sys, time
import PyIndi

client = PyIndi.BaseClient()
client.setServer("127.0.0.1", int(sys.argv[1]))
assert client.connectServer()
end = time.monotonic() + 20

def until(condition):
    while not condition():
        assert time.monotonic() < end, "too late"
        time.sleep(0.01)
"""


def run_script(script: str, home: Path, port: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `script` with `client`, connected to the server on `port`, and `until`; `arguments` from sys.argv[2] on."""
    return subprocess.run(
        [sys.executable, "-c", f"{_CONNECT}\n{script}\nclient.disconnectServer()", str(port), *arguments],
        env=environment(home),
        capture_output=True,
        text=True,
        timeout=30,
    )
