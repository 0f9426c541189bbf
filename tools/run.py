# SPDX-License-Identifier: GPL-3.0-or-later
"""`make run`: the controller (simulated, or the one on PORT) behind indiserver and focusd, until Ctrl-C.

Run by the Makefile with the virtual environment's python. It starts the processes, in order, each only
when the one before is ready; says what to try next; and then watches. Whatever ends it (Ctrl-C, a
signal, one of the processes failing, an error in here), it ends all of them and waits until they
are gone. The processes also ask the kernel to be ended with it, should it be killed outright.

Settings come from the environment: PORT, GENERATION, CHANNELS, SPEED, INDI_PORT, FOCUSD_PORT (see `make help`).
Exit status: 0 when it was told to end, 1 when something failed.
"""

from __future__ import annotations

import contextlib
import ctypes
import glob
import json
import os
import re
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Callable

from focus_cli import indiserver

PROJECT = Path(__file__).resolve().parent.parent
READY_WITHIN_S = 20.0
END_WITHIN_S = 3.0
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


class Failed(Exception):
    """What is to be told to the user before exit status 1."""


class Told(Exception):
    """A signal asked for the end."""


class Settings:
    """What the environment asks for, checked.

    Raises:
        Failed: a setting is not usable.
    """

    def __init__(self) -> None:
        self.configuration: Path | None = None
        """The one that was written for this run."""
        self.port = os.environ.get("PORT", "")
        self.generation = _whole("GENERATION", 2, 1, 2)
        self.channels = _whole("CHANNELS", 2, 1, 9)
        self.indi_port = _whole("INDI_PORT", 7624, 1, 65535)
        self.focusd_port = _whole("FOCUSD_PORT", 9000, 1, 65535)
        self.speed = os.environ.get("SPEED", "") or "1"
        try:
            speed_is_right = 0 < float(self.speed) < float("inf")
        except ValueError:
            speed_is_right = False
        if not speed_is_right:
            raise Failed(f"SPEED={self.speed}: a number above 0 is expected")
        if self.port:
            for name in ("GENERATION", "SPEED"):
                if os.environ.get(name):
                    raise Failed(f"{name} is for the simulated controller: leave it out when PORT is given")

    @property
    def usual(self) -> bool:
        """Whether test.json, as it is, leads `focus` to this focusd."""
        return self.focusd_port == 9000 and self.channels == 2


def _whole(name: str, default: int, low: int, high: int) -> int:
    text = os.environ.get(name, "") or str(default)
    if not re.fullmatch(r"[0-9]{1,5}", text) or not low <= int(text) <= high:
        raise Failed(f"{name}={text}: a whole number from {low} to {high} is expected")
    return int(text)


class Processes:
    """The started processes, and the one place where this program waits: for them, or for a signal."""

    def __init__(self) -> None:
        self._started: list[tuple[str, subprocess.Popen[bytes]]] = []
        self._selector = selectors.DefaultSelector()
        self._driver_ended = ""
        self._libc = ctypes.CDLL(None)
        # A driver whose indiserver ended becomes our child, so that its end can be waited for.
        self._libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)
        awake, wake = socket.socketpair()
        awake.setblocking(False)
        wake.setblocking(False)
        self._sockets = (awake, wake)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # as nohup leaves it
                signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        self._selector.register(awake, selectors.EVENT_READ, self._signalled)

    def die_with_parent(self) -> None:
        """Ask the kernel for a SIGTERM when the parent ends."""
        self._libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)

    def start(
        self,
        name: str,
        command: list[str],
        *,
        environment: dict[str, str] | None = None,
        on_output: Callable[[bytes], object],
        output: str = "stdout",
    ) -> None:
        """Start a process in a session of its own, so that Ctrl-C reaches this program alone.

        `on_output` gets what it writes to `output` ("stdout" or "stderr"); the other one is our stderr.
        """
        launcher = os.getpid()

        def in_child() -> None:
            self.die_with_parent()
            if os.getppid() != launcher:  # ended before the kernel was asked
                os._exit(1)

        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if output == "stdout" else sys.stderr,
                stderr=subprocess.PIPE if output == "stderr" else None,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
                preexec_fn=in_child,  # noqa: PLW1509 - there are no threads here
            )
        except OSError as error:
            raise Failed(f"{name} does not start: {command[0]}: {error.strerror}") from error
        self._started.append((name, process))
        stream = process.stdout if output == "stdout" else process.stderr
        assert stream is not None
        os.set_blocking(stream.fileno(), False)
        self._selector.register(stream, selectors.EVENT_READ, lambda: self._read(stream, on_output))

    def _read(self, stream: IO[bytes], on_output: Callable[[bytes], object]) -> None:
        try:
            data = os.read(stream.fileno(), 65536)
        except BlockingIOError:
            return
        if data:
            on_output(data)
        else:
            self._selector.unregister(stream)

    def _signalled(self) -> None:
        for number in self._sockets[0].recv(4096):
            if number != signal.SIGCHLD:
                raise Told
        for name, process in self._started:
            status = process.poll()
            if status is not None:
                for key in list(self._selector.get_map().values()):  # its last words
                    if key.fileobj in (process.stdout, process.stderr):
                        key.data()
                how = f"exit status {status}" if status >= 0 else signal.Signals(-status).name
                raise Failed(f"{self._driver_ended or name} ended ({how})")

    def watch(self, until: Callable[[], bool], within_s: float | None = None) -> bool:
        """Wait until `until()`, looking after the processes; False when `within_s` seconds went by.

        Raises:
            Failed: a process ended.
            Told: a signal asked for the end.
        """
        end = None if within_s is None else time.monotonic() + within_s
        while not until():
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                return False
            for key, _ in self._selector.select(left):
                key.data()
        return True

    def driver_output(self, data: bytes) -> None:
        """Pass on what indiserver and, through it, the driver say; notice the driver's end."""
        _to_terminal(data)
        match = re.search(rb"Driver (\S+): Terminated after", data)
        if match:
            self._driver_ended = f"the driver {match[1].decode(errors='replace')}"

    def is_read(self, connection: socket.socket) -> bool:
        """Whether `connection` is open, and within `reading`."""
        return connection in (key.fileobj for key in self._selector.get_map().values())

    @contextlib.contextmanager
    def reading(self, connection: socket.socket, on_output: Callable[[bytes], object]) -> Iterator[None]:
        """While in here, `watch` hands to `on_output` what arrives on `connection`."""

        def read() -> None:
            try:
                data = connection.recv(65536)
            except OSError:
                data = b""
            if data:
                on_output(data)
            else:  # closed: what closed it is about to be noticed
                self._selector.unregister(connection)

        self._selector.register(connection, selectors.EVENT_READ, read)
        try:
            yield
        finally:
            with contextlib.suppress(KeyError):
                self._selector.unregister(connection)

    def end(self) -> None:
        """End all, the last started first, and wait until their children are gone too."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        for _, process in reversed(self._started):
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            # indiserver's drivers end by themselves when it is gone; whoever does not is made to.
            _ = (
                _group_ended(process, 0)
                or _group_ended(process, signal.SIGTERM)
                or _group_ended(process, signal.SIGKILL)
            )


def _group_ended(process: subprocess.Popen[bytes], number: int) -> bool:
    """Send signal `number` to the process's group; whether nobody is left in it END_WITHIN_S later."""
    end = time.monotonic() + END_WITHIN_S
    try:
        os.killpg(process.pid, number)
        while time.monotonic() < end:
            if os.waitpid(-process.pid, os.WNOHANG) == (0, 0):
                time.sleep(0.01)
    except (ProcessLookupError, ChildProcessError):
        return True
    return False


def _to_terminal(data: bytes) -> None:
    with contextlib.suppress(OSError):
        os.write(2, data)


def _check_before(settings: Settings) -> None:
    """Find what cannot work before anything is started.

    Raises:
        Failed: it says what is wrong, and what to do.
    """
    if shutil.which("indiserver") is None:
        raise Failed("indiserver is not there: install the package indi-bin")
    _check_port(settings.indi_port, "INDI_PORT", "another INDI server")
    _check_port(settings.focusd_port, "FOCUSD_PORT", "another focusd")
    if settings.port and "://" not in settings.port and not os.path.exists(settings.port):
        there = sorted(glob.glob("/dev/ttyACM*") + glob.glob("/dev/ttyUSB*"))
        raise Failed(f"PORT={settings.port}: there is no such port; there {_are(there)}")


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


def _are(ports: list[str]) -> str:
    return "are " + ", ".join(ports) if ports else "is no /dev/ttyACM* or /dev/ttyUSB*"


def _write_configuration(settings: Settings, port: str, folder: Path) -> Path:
    """test.json with this port; the driver is told of it by INDI_MULTIFOCUS_CONFIG."""
    configuration = json.loads((PROJECT / "test.json").read_text(encoding="utf-8"))
    configuration.update(serial_port=port, channels=settings.channels, indi_port=settings.indi_port)
    if settings.focusd_port != 9000:
        configuration["daemon"] = "make_run"
        entry = {"name": "make_run_daemon", "host": "LocalHost", "port": settings.focusd_port}
        (folder / "registry.json").write_text(json.dumps({"daemons": {"make_run": entry}}), encoding="utf-8")
    path = folder / "multifocus.json"
    path.write_text(json.dumps(configuration, indent=2) + "\n", encoding="utf-8")
    return path


def _start_simulator(processes: Processes, settings: Settings, link: Path) -> None:
    said = bytearray()
    processes.start(
        "the simulated controller",
        [
            sys.executable, "-m", "indi_multifocus.simulator",
            "--generation", str(settings.generation), "--channels", str(settings.channels),
            "--speed", settings.speed, "--link", str(link),
        ],
        on_output=said.extend,
    )  # fmt: skip
    if not processes.watch(lambda: b"\n" in said, READY_WITHIN_S):
        raise Failed("the simulated controller does not start")


def _start_server(processes: Processes, settings: Settings, configuration: Path, folder: Path) -> list[str]:
    """Start indiserver with the driver; returns the names of the devices when all have been defined."""
    command = indiserver.command(settings.indi_port, str(folder / "indiserver"), "-r", "0")
    binaries = Path(sys.executable).parent
    environment = {
        "INDI_MULTIFOCUS_CONFIG": str(configuration),
        "PATH": f"{binaries}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
    }
    if not settings.port:  # what is saved of a simulated focuser must not reach the real one's settings
        environment["INDICONFIG"] = str(folder / "MultiFocus_config.xml")
    processes.start(
        "indiserver",
        [*command, "indi_multifocus"],
        environment=environment,
        on_output=processes.driver_output,
        output="stderr",
    )
    return _devices(processes, settings)


def _devices(processes: Processes, settings: Settings) -> list[str]:
    """The names of the devices, asked for as a client, when every channel's has come."""
    end = time.monotonic() + READY_WITHIN_S
    names: list[str] = []
    while time.monotonic() < end and len(names) < settings.channels:
        try:
            connection = socket.create_connection(("127.0.0.1", settings.indi_port), timeout=1.0)
        except OSError:  # the server is not listening yet
            processes.watch(lambda: False, 0.05)
            continue
        with connection:
            names = _ask_for_devices(processes, connection, settings.channels, end - time.monotonic())
    if len(names) < settings.channels:
        raise Failed(f"the driver shows not {settings.channels} focusers, but {', '.join(names) or 'none'}")
    return names


def _ask_for_devices(processes: Processes, connection: socket.socket, channels: int, within_s: float) -> list[str]:
    said = bytearray()

    def names() -> list[str]:
        found = re.findall(r'<def\w+Vector[^>]*? device="([^"]*)"', said.decode(errors="replace"))
        return sorted(set(found))

    with processes.reading(connection, said.extend), contextlib.suppress(OSError):
        connection.sendall(b'<getProperties version="1.7"/>\n')
        processes.watch(lambda: len(names()) >= channels, within_s)
        # Closed with words unread, the connection would be "reset" in the server's log.
        connection.shutdown(socket.SHUT_WR)
        processes.watch(lambda: not processes.is_read(connection), 1.0)
    return names()


def _start_focusd(processes: Processes, configuration: Path) -> None:
    """Start focusd as one more client of the server, and wait until it answers."""
    said = bytearray()

    def on_output(data: bytes) -> None:
        said.extend(data)
        _to_terminal(data)

    processes.start(
        "focusd",
        [sys.executable, "-m", "focus_cli.focusd", str(configuration)],
        environment={"PYTHONPATH": os.pathsep.join(filter(None, (str(PROJECT), os.environ.get("PYTHONPATH"))))},
        on_output=on_output,
        output="stderr",
    )
    if not processes.watch(lambda: b" serves PYRO:" in said, READY_WITHIN_S):
        raise Failed("focusd does not start")


def _announce(settings: Settings, devices: list[str]) -> None:
    channels = "1 channel" if settings.channels == 1 else f"{settings.channels} channels"
    what = (
        f"the controller on {settings.port}"
        if settings.port
        else f"a simulated controller (generation {settings.generation}, {channels})"
    )
    option = "" if settings.indi_port == 7624 else f"-p {settings.indi_port} "
    first = devices[0]
    focus = f"FOCUSD_CONFIG_PATH={'./test.json' if settings.usual else settings.configuration} ./focus"
    print(
        f"""
Serving {what} by INDI on port {settings.indi_port} and by focusd on port {settings.focusd_port}, until Ctrl-C.
Focusers: {", ".join(devices)}

To try next, in another terminal:
    indi_setprop {option}"{first}.CONNECTION.CONNECT=On"
    indi_setprop {option}"{first}.ABS_FOCUS_POSITION.FOCUS_ABSOLUTE_POSITION=500"
    indi_getprop {option}"*.ABS_FOCUS_POSITION.*"
or, from this folder:
    {focus} init
    {focus} set 1 1000
    {focus} status
""",
        flush=True,
    )


def main() -> int:
    """Serve until told to end; returns the exit status."""
    processes = Processes()
    if "MAKELEVEL" in os.environ:
        processes.die_with_parent()
    folder = Path(tempfile.mkdtemp(prefix="indi_multifocus-"))
    try:
        settings = Settings()
        _check_before(settings)
        port = settings.port
        if not port:
            port = str(folder / "controller")
            _start_simulator(processes, settings, folder / "controller")
        configuration = _write_configuration(settings, port, folder)
        devices = _start_server(processes, settings, configuration, folder)
        _start_focusd(processes, configuration)
        settings.configuration = configuration
        _announce(settings, devices)
        processes.watch(lambda: False)
    except Told:
        _to_terminal(b"\nmake run: ending\n")
        return 0
    except Failed as failed:
        _to_terminal(f"make run: {failed}\n".encode())
        return 1
    finally:
        processes.end()
        shutil.rmtree(folder, ignore_errors=True)
    return 1


if __name__ == "__main__":
    sys.exit(main())
