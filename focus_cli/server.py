# SPDX-License-Identifier: GPL-3.0-or-later
"""An indiserver with the driver, owned by focusd: started with it, started again when it ends, and ended with it.

Used by focusd.py where no INDI server answers. `start` and `stop` are for its main thread; a thread of the server's own
starts the process and waits for it, because the kernel ties a child to the thread that started it (see tether.py).

indiserver restarts a driver that ends, 10 times; then it ends itself and is started anew here, with back-off. So it is
when it cannot be started, as in the middle of an upgrade of its package.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from . import indiserver
from .log import Log
from .threads import keep_running

FIRST_RETRY_S, LAST_RETRY_S = 0.5, 10.0
"""Pauses between attempts to start indiserver again: doubled each time, up to the last."""
WELL_AFTER_S = 30.0
"""An indiserver that has run for this long was well: its end is a new failure, reported and retried as such."""
END_WITHIN_S = 0.8
"""indiserver and driver end within this after SIGTERM (the driver takes 0.5 s at most), or get SIGKILL."""
ANSWER_WITHIN_S = 5.0
"""indiserver listens within this after its start, on a slow and busy machine too."""

PACKAGE = Path(__file__).resolve().parent
DRIVER = "indi_multifocus"


class ServerError(Exception):
    """No server can be started; str() says why, for people."""


class Server:
    """indiserver on `port`, with the driver on the configuration at `config_path`."""

    def __init__(self, config_path: str, port: int, log: Log, stderr: int) -> None:
        """`stderr`: file descriptor for what indiserver and driver say.

        Raises ServerError where indiserver or the driver is missing.
        """
        if shutil.which("indiserver") is None:
            raise ServerError("indiserver is not installed, and none answers: install the package indi-bin")
        self._log = log
        self._port = port
        self._stderr = stderr
        self._environment = {**os.environ, "INDI_MULTIFOCUS_CONFIG": os.path.abspath(config_path)}
        self._find_driver()
        self._ending = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None

    def _find_driver(self) -> None:
        """Let indiserver find the driver on its PATH: this clone's, or the console script beside this Python."""
        environment = self._environment
        environment["FOCUSD_PYTHON"] = sys.executable
        folder = PACKAGE
        if os.access(PACKAGE / DRIVER, os.X_OK):
            environment["PYTHONPATH"] = os.pathsep.join(
                [str(PACKAGE.parent), *filter(None, [environment.get("PYTHONPATH")])]
            )
        else:
            folder = Path(sys.executable).parent
            if not os.access(folder / DRIVER, os.X_OK):
                raise ServerError(f"{folder / DRIVER} is missing: install the driver")
        environment["PATH"] = f"{folder}{os.pathsep}{environment.get('PATH', os.defpath)}"

    def start(self) -> None:
        """Start it; returns when it answers, or after a few seconds."""
        self._thread = keep_running("indiserver", self._keep_running, self._log)
        end_s = time.monotonic() + ANSWER_WITHIN_S
        while time.monotonic() < end_s and not answers("127.0.0.1", self._port):
            self._ending.wait(0.02)

    def stop(self) -> None:
        """End it and its driver; returns when they are gone, within some 2 s."""
        self._ending.set()
        if self._process is not None:
            _end_all(self._process.pid)
        if self._thread is not None:
            self._thread.join(timeout=END_WITHIN_S)

    def _keep_running(self) -> None:
        retry_s, reported = FIRST_RETRY_S, ""
        while not self._ending.is_set():
            started_s = time.monotonic()
            problem = self._run()
            if self._ending.is_set():
                return
            if time.monotonic() - started_s > WELL_AFTER_S:
                retry_s, reported = FIRST_RETRY_S, ""
            if problem != reported:
                self._log.error(f"indiserver {problem}; it is started again until it runs")
                reported = problem
            self._ending.wait(retry_s)
            retry_s = min(retry_s * 2, LAST_RETRY_S)

    def _run(self) -> str:
        """Start it and wait for its end; returns how it ended, or why it could not begin."""
        if shutil.which("indiserver", path=self._environment["PATH"]) is None:
            return "is not installed any more"
        try:
            command = indiserver.command(self._port, f"/tmp/indiserver-focusd-{os.getpid()}")
            self._process = process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(PACKAGE / "tether.py"), str(os.getpid()), *command, DRIVER],
                stdin=subprocess.DEVNULL,
                stdout=self._stderr,
                stderr=self._stderr,
                env=self._environment,
                start_new_session=True,  # Ctrl-C is for focusd, which then ends it
            )
        except OSError as error:
            return f"cannot be started ({error})"
        if self._ending.is_set():  # while it was being started
            _end_group(process.pid, signal.SIGKILL)
        status = process.wait()
        _end_all(process.pid)  # a driver that has not noticed has the port
        return f"ended ({f'exit status {status}' if status >= 0 else signal.Signals(-status).name})"


def answers(host: str, port: int) -> bool:
    """Whether somebody listens there."""
    try:
        socket.create_connection((host, port), timeout=2.0).close()
    except OSError:
        return False
    return True


def is_this_machine(host: str) -> bool:
    """Whether a server that is started here can be found under this name."""
    try:
        found = socket.getaddrinfo(host, 0, socket.AF_INET, socket.SOCK_STREAM)
    except OSError:
        return False
    for family, kind, protocol, _, address in found:
        with socket.socket(family, kind, protocol) as probe:
            try:
                probe.bind(address)
            except OSError:
                continue
            return True
    return False


def _end_all(group: int) -> None:
    """End every process of the group, one that does not want to by force."""
    if not _end_group(group, signal.SIGTERM):
        _end_group(group, signal.SIGKILL)


def _end_group(group: int, number: int) -> bool:
    """Send the signal to the process group; whether nobody in it runs END_WITHIN_S later."""
    end_s = time.monotonic() + END_WITHIN_S
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return True
    while _runs(group):
        if time.monotonic() > end_s:
            return False
        time.sleep(0.01)
    return True


def _runs(group: int) -> bool:
    """Whether the group has a process that runs. A signal would also find those that ended and wait for init."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    state, _, its_group = file.read().rpartition(b") ")[2].split()[:3]  # proc(5)
            except OSError:
                continue  # gone meanwhile
            if int(its_group) == group and state not in (b"Z", b"X"):
                return True
    return False
