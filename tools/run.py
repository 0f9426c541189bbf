# SPDX-License-Identifier: GPL-3.0-or-later
"""`make run`: focusd on the controller (simulated, or the one on PORT), until Ctrl-C.

Run by the Makefile with the virtual environment's python. It serves the simulated controller itself, writes a
configuration, and runs focusd with it, which starts indiserver and the driver. Then it passes on what focusd prints,
and watches. Whatever ends it (Ctrl-C, a signal, one of the processes failing, an error in here), all processes have
ended when it has; where it is killed outright, the kernel ends them.

Settings come from the environment: PORT, GENERATION, CHANNELS, SPEED, INDI_PORT, FOCUSD_PORT (see `make help`).
Exit status: 0 after a signal, 1 when something failed.
"""

from __future__ import annotations

import ctypes
import glob
import json
import math
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from indi_multifocus.settings.device_name import device_names
from indi_multifocus.simulator import Simulator

PROJECT = Path(__file__).resolve().parent.parent
READY_WITHIN_S = 20.0
END_WITHIN_S = 10.0
"""focusd ends within 1 s, and within some seconds while it is starting."""
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h

FAILURES = re.compile(
    rb"Driver (?P<driver>\S+): (?:restart #|Terminated after )|: (?P<server>indiserver) (?:ended|cannot be started) "
)
"""What indiserver and focusd print when one of the processes below them has ended."""


class Failed(Exception):
    """What to print before exit status 1."""


@dataclass(frozen=True)
class Settings:
    """The environment's settings, checked. `port` is empty for a simulated controller."""

    port: str
    generation: int
    channels: int
    speed: float
    indi_port: int
    focusd_port: int

    @property
    def usual(self) -> bool:
        """Whether test.json, as it is, leads `focus` to this focusd."""
        return self.focusd_port == 9000 and self.channels == 2


def read_settings() -> Settings:
    """Raises Failed where one is not usable."""
    port = os.environ.get("PORT", "")
    settings = Settings(
        port,
        _integer("GENERATION", 2, 1, 2),
        _integer("CHANNELS", 2, 1, 9),
        _speed(),
        _integer("INDI_PORT", 7624, 1, 65535),
        _integer("FOCUSD_PORT", 9000, 1, 65535),
    )
    for name in ("GENERATION", "SPEED"):
        if port and os.environ.get(name):
            raise Failed(f"{name} is for the simulated controller: leave it out when PORT is given")
    return settings


def _integer(name: str, default: int, low: int, high: int) -> int:
    text = os.environ.get(name, "") or str(default)
    if not re.fullmatch(r"[0-9]{1,5}", text) or not low <= int(text) <= high:
        raise Failed(f"{name}={text}: a whole number from {low} to {high} is expected")
    return int(text)


def _speed() -> float:
    text = os.environ.get("SPEED", "") or "1"
    with suppress(ValueError):
        if 0 < float(text) < math.inf:
            return float(text)
    raise Failed(f"SPEED={text}: a number above 0 is expected")


def check_machine(settings: Settings) -> None:
    """Raises Failed, before anything is started, where a port is taken or missing, or indiserver is."""
    if shutil.which("indiserver") is None:
        raise Failed("indiserver is not there: install the package indi-bin")
    _check_port(settings.indi_port, "INDI_PORT", "another INDI server")
    _check_port(settings.focusd_port, "FOCUSD_PORT", "another focusd")
    if settings.port and "://" not in settings.port and not os.path.exists(settings.port):
        found = ", ".join(sorted(glob.glob("/dev/ttyACM*") + glob.glob("/dev/ttyUSB*")))
        there = f"are {found}" if found else "is no /dev/ttyACM* or /dev/ttyUSB*"
        raise Failed(f"PORT={settings.port}: there is no such port; there {there}")


def _check_port(port: int, setting: str, likely: str) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as error:
            raise Failed(
                f"port {port} cannot be had ({error.strerror}): does {likely} run? "
                f"End it, or take another port: {setting}={port + 1} make run"
            ) from error


def write_configuration(settings: Settings, port: str, folder: Path) -> Path:
    """test.json with these settings and, where focusd is not on its usual port, a registry beside it."""
    configuration = json.loads((PROJECT / "test.json").read_text(encoding="utf-8"))
    configuration.update(serial_port=port, channels=settings.channels, indi_port=settings.indi_port)
    if settings.focusd_port != 9000:
        configuration["daemon"] = "make_run"
        entry = {"name": "make_run_daemon", "host": "LocalHost", "port": settings.focusd_port}
        (folder / "registry.json").write_text(json.dumps({"daemons": {"make_run": entry}}), encoding="utf-8")
    path = folder / "multifocus.json"
    path.write_text(json.dumps(configuration, indent=2) + "\n", encoding="utf-8")
    return path


def catch_signals() -> int:
    """A file descriptor that is readable once a signal has asked for the end."""
    readable, writable = os.pipe()
    os.set_blocking(writable, False)
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup leaves SIGHUP
            signal.signal(number, lambda *_: None)
    return readable


class Focusd:
    """focusd and, below it, indiserver and the driver. A context manager; all have ended when it is left."""

    def __init__(self, configuration: Path, environment: dict[str, str], signalled: int) -> None:
        """`signalled`: see catch_signals."""
        self._signalled = signalled
        self._printed = b""
        # A driver whose indiserver has ended becomes a child of this process, so that its end can be waited for.
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
        # Through tether.py focusd ends with this process. In a session of its own, it does not get Ctrl-C.
        tether = [sys.executable, "-I", "-S", str(PROJECT / "focus_cli" / "tether.py"), str(os.getpid())]
        self._process = subprocess.Popen(
            [*tether, sys.executable, str(PROJECT / "focusd"), str(configuration)],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, **environment},
            start_new_session=True,
        )

    def __enter__(self) -> Focusd:
        return self

    def follow(self, text: bytes = b"", within_s: float | None = None) -> bool:
        """Print what focusd prints, until `text` is among it, if any: True; or until a signal has come: False.

        Raises Failed: one of the processes has ended, or `within_s` seconds are over.
        """
        end_s = None if within_s is None else time.monotonic() + within_s
        while not text or text not in self._printed:
            pipe = self._process.stderr
            assert pipe is not None
            left_s = None if end_s is None else max(0.0, end_s - time.monotonic())
            ready, _, _ = select.select([pipe.fileno(), self._signalled], [], [], left_s)
            if self._signalled in ready:
                return False
            if not ready:
                raise Failed("focusd does not start")
            data = os.read(pipe.fileno(), 65536)
            print_error(data)
            if not data:
                raise Failed(f"focusd ended ({_how(self._process.wait())})")
            self._printed = self._printed[-1000:] + data
            found = FAILURES.search(self._printed)
            if found is not None:
                name = "indiserver" if found["server"] else f"the driver {found['driver'].decode(errors='replace')}"
                raise Failed(f"{name} ended (see above)")
        return True

    def __exit__(self, *_: object) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        self._process.terminate()
        end_s = time.monotonic() + END_WITHIN_S
        while _has_children():
            if time.monotonic() > end_s:
                _kill_children()
            time.sleep(0.01)


def _how(status: int) -> str:
    return f"exit status {status}" if status >= 0 else signal.Signals(-status).name


def _has_children() -> bool:
    """Whether this process still has some; those that have ended are no longer there."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass
        return True
    return False


def _kill_children() -> None:
    for path in Path("/proc/self/task").glob("*/children"):
        for pid in path.read_text().split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)


def print_error(data: bytes) -> None:
    """Nobody may read it any more."""
    with suppress(OSError):
        os.write(2, data)


def print_help(settings: Settings, configuration: Path) -> None:
    """What runs, and what to try next."""
    channels = "1 channel" if settings.channels == 1 else f"{settings.channels} channels"
    simulated = f"a simulated controller (generation {settings.generation}, {channels})"
    controller = f"the controller on {settings.port}" if settings.port else simulated
    devices = list(device_names(settings.channels, {}).values())
    option = "" if settings.indi_port == 7624 else f"-p {settings.indi_port} "
    focus = f"FOCUSD_CONFIG_PATH={'./test.json' if settings.usual else configuration} ./focus"
    print(
        f"""
Serving {controller} by INDI on port {settings.indi_port} and by focusd on port {settings.focusd_port}, until Ctrl-C.
Focusers: {", ".join(devices)}

To try next, in another terminal:
    indi_setprop {option}"{devices[0]}.CONNECTION.CONNECT=On"
    indi_setprop {option}"{devices[0]}.ABS_FOCUS_POSITION.FOCUS_ABSOLUTE_POSITION=500"
    indi_getprop {option}"*.ABS_FOCUS_POSITION.*"
or, from this folder:
    {focus} init
    {focus} set 1 1000
    {focus} status
""",
        flush=True,
    )


def serve(settings: Settings) -> None:
    """Until a signal asks for the end. Raises Failed."""
    signalled = catch_signals()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="indi_multifocus-")))
        port, environment = settings.port, {}
        if not port:
            port = str(folder / "controller")
            stack.enter_context(
                Simulator(generation=settings.generation, channels=settings.channels, speed=settings.speed, link=port)
            )
            # What is saved of a simulated focuser must not reach the real one's settings.
            environment["INDICONFIG"] = str(folder / "MultiFocus_config.xml")
        configuration = write_configuration(settings, port, folder)
        focusd = stack.enter_context(Focusd(configuration, environment, signalled))
        if focusd.follow(b" serves PYRO:", READY_WITHIN_S):
            print_help(settings, configuration)
            focusd.follow()
        print_error(b"\nmake run: ending\n")


def main() -> int:
    """Returns the exit status."""
    if "MAKELEVEL" in os.environ:  # end with make
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    try:
        settings = read_settings()
        check_machine(settings)
        serve(settings)
    except Failed as failed:
        print_error(f"make run: {failed}\n".encode())
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
