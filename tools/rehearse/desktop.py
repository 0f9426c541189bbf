# SPDX-License-Identifier: GPL-3.0-or-later
"""A virtual display with a message bus and a real KStars, driven by its D-Bus as an observer drives it by hand.

Everything lives in a home of its own, and every process that is started is ended. KStars writes its log to
`<home>/kstars.log`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

import dbus

PROJECT = Path(__file__).resolve().parents[2]
DEADLINE_S = 60.0
POSITION = ("ABS_FOCUS_POSITION", "FOCUS_ABSOLUTE_POSITION")
_FOCUS = "1"  # OpticalTrainSettings of KStars 3.6
_TRAINS_OF_A_PROFILE = 7  # ProfileSettings of KStars 3.6: primary, capture, focus, mount, guide, align, dark library


class Failed(Exception):
    """Something did not happen, and the rehearsal has failed."""


def wait_for(what: str, test: Callable[[], Any], within_s: float = DEADLINE_S, *, quiet: bool = False) -> Any:
    """What `test` returns, as soon as that is something. D-Bus errors count as nothing yet.

    Raises Failed when there is nothing in time.
    """
    end = time.monotonic() + within_s
    problem: object = ""
    while time.monotonic() < end:
        try:
            found = test()
        except dbus.exceptions.DBusException as error:
            found, problem = None, error
        if found:
            if not quiet:
                print(f"  {what}", flush=True)
            return found
        time.sleep(0.1)
    raise Failed(f"{what}: not within {within_s:g} s {problem}")


@contextlib.contextmanager
def running(
    command: list[str], environment: Mapping[str, str], log: Path, **options: Any
) -> Iterator[subprocess.Popen[bytes]]:
    """A process with what it starts; all are ended at the end."""
    with open(log, "ab") as output, subprocess.Popen(
        command,
        env=environment,
        stdout=output,
        stderr=output,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        **options,
    ) as process:
        try:
            yield process
        finally:
            for number in (signal.SIGTERM, signal.SIGKILL):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(5)


@dataclass(frozen=True)
class Train:
    """An optical train of Ekos, with the settings of the focus module by the names of its widgets."""

    name: str
    focuser: str
    focus: Mapping[str, Any]
    camera: str = "CCD Simulator"
    mount: str = "Telescope Simulator"


@dataclass(frozen=True)
class Profile:
    """A profile of Ekos."""

    name: str
    drivers: Mapping[str, str]
    """Their roles, by their labels in KStars's catalogue."""
    server: int = 0
    """The TCP port of an indiserver on this machine; with 0 KStars starts one on port 7624."""
    trains: tuple[Train, ...] = ()
    """The first one is chosen in all modules; without one KStars makes one, and asks."""

    def write(self, connection: sqlite3.Connection) -> None:
        """Add it to the database of KStars 3.6."""
        profile = connection.execute(
            "INSERT INTO profile (name, host, port, autoconnect, portselector) VALUES (?, ?, ?, 0, 0)",
            (self.name, "localhost" if self.server else None, self.server or None),
        ).lastrowid
        connection.executemany(
            "INSERT INTO driver (label, role, profile) VALUES (?, ?, ?)",
            [(label, role, profile) for label, role in self.drivers.items()],
        )
        ids = [self._write_train(connection, profile, train) for train in self.trains]
        if ids:
            connection.execute(
                "INSERT INTO profilesettings (profile, settings) VALUES (?, ?)",
                (profile, json.dumps({str(number): ids[0] for number in range(_TRAINS_OF_A_PROFILE)})),
            )

    def _write_train(self, connection: sqlite3.Connection, profile: int | None, train: Train) -> int | None:
        columns = {"profile": profile, "name": train.name, "mount": train.mount, "camera": train.camera}
        columns.update(focuser=train.focuser)
        columns.update(dict.fromkeys(("dustcap", "lightbox", "scope", "rotator", "filterwheel", "guider"), "--"))
        row = connection.execute(
            f"INSERT INTO opticaltrains ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})",
            tuple(columns.values()),
        ).lastrowid
        connection.execute(
            "INSERT INTO opticaltrainsettings (opticaltrain, settings) VALUES (?, ?)",
            (row, json.dumps({_FOCUS: dict(train.focus)})),
        )
        return row


class KStars:
    """KStars with an Ekos profile, by its D-Bus; a context manager that starts it and ends it."""

    def __init__(self, home: Path, environment: Mapping[str, str], profile: Profile) -> None:
        """`environment`: for KStars and what it starts, as an indiserver."""
        self.home = home
        self.profile = profile
        self._given = environment
        self._stack = contextlib.ExitStack()
        self.environment: dict[str, str] = {}

    def __enter__(self) -> KStars:
        with contextlib.ExitStack() as stack:
            self._start(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start(self, stack: contextlib.ExitStack) -> None:
        home = self.home
        display = stack.enter_context(_display(home))
        self.environment = {
            **self._given,
            "HOME": str(home),
            "XDG_CONFIG_HOME": str(home / "config"),
            "XDG_DATA_HOME": str(home / "data"),
            "XDG_RUNTIME_DIR": str(home / "run"),
            "DISPLAY": display,
            "LANG": "C.UTF-8",
            "DBUS_SESSION_BUS_ADDRESS": f"unix:path={home}/bus",
        }
        self._write_settings()
        self._protect_servers()
        address = self.environment["DBUS_SESSION_BUS_ADDRESS"]
        bus = ["dbus-daemon", "--session", "--nofork", f"--address={address}"]
        stack.enter_context(running(bus, self.environment, home / "bus.log"))
        wait_for("the message bus is there", (home / "bus").exists, quiet=True)
        self._bus = dbus.bus.BusConnection(address)
        stack.callback(self._bus.close)
        # It makes its database when it runs for the first time, and reads the profiles from it at the start.
        with running(["kstars"], self.environment, home / "kstars.log") as self._process:
            wait_for("KStars has a database", self._is_open, quiet=True)
        with contextlib.closing(sqlite3.connect(home / "data" / "kstars" / "userdb.sqlite", timeout=10)) as connection:
            with connection:
                self.profile.write(connection)
        self._process = stack.enter_context(running(["kstars"], self.environment, home / "kstars.log"))
        wait_for("KStars is there", self._is_open)
        self.show_ekos()

    def _is_open(self) -> bool:
        """Whether its window is there. Asked by D-Bus while it starts, KStars 3.6.2 has crashed once."""
        return self.is_running() and bool(self.windows("KStars$"))

    def _write_settings(self) -> None:
        """Keep wizard and tips away, and show the driver's catalogue entry beside libindi's."""
        catalogue = self.home / "indi"
        for folder in (catalogue, *(self.home / name for name in ("config", "data", "run"))):
            folder.mkdir(mode=0o700)
        shutil.copy("/usr/share/indi/drivers.xml", catalogue)
        shutil.copy(PROJECT / "xml" / "indi_multifocus.xml", catalogue)
        (self.home / "config" / "kstarsrc").write_text(
            "[General]\nKStarsFirstRun=false\n\n[GUI]\nRunStartupWizard=false\n\n[TipOfDay]\nRunOnStart=false\n\n"
            f"[Location]\nCityName=Warwick\n\n[indi]\nindiDriversDir={catalogue}\n"
        )
        (self.home / "config" / "kwalletrc").write_text("[Wallet]\nEnabled=false\nFirst Use=false\n")

    def _protect_servers(self) -> None:
        """Let Ekos find no indiserver by ps: it would end those of other people, whatever is tested with them."""
        folder = self.home / "bin"
        folder.mkdir()
        (folder / "ps").write_text("#!/bin/sh\nexit 1\n")
        (folder / "ps").chmod(0o755)
        self.environment["PATH"] = f"{folder}{os.pathsep}{self.environment['PATH']}"

    def is_running(self) -> bool:
        """Whether it is there; raises Failed where it has ended by itself."""
        status = self._process.poll()
        if status is not None:
            raise Failed(f"KStars has ended with status {status}: {self.log[-3000:]}")
        return True

    @property
    def log(self) -> str:
        """What it wrote to its standard output and error."""
        return (self.home / "kstars.log").read_text(errors="replace")

    # --- D-Bus ----------------------------------------------------------------------------------------------------

    def interface(self, path: str, interface: str) -> Any:
        """One of its objects."""
        return dbus.Interface(self._bus.get_object("org.kde.kstars", path, introspect=False), interface)

    @property
    def indi(self) -> Any:
        """The INDI devices of the servers that KStars is connected to."""
        return self.interface("/KStars/INDI", "org.kde.kstars.INDI")

    @property
    def ekos(self) -> Any:
        """Ekos's manager."""
        return self.interface("/KStars/Ekos", "org.kde.kstars.Ekos")

    @property
    def focus(self) -> Any:
        """Ekos's focus module."""
        return self.interface("/KStars/Ekos/Focus", "org.kde.kstars.Ekos.Focus")

    def focus_property(self, name: str) -> Any:
        """A property of the focus module."""
        properties = self.interface("/KStars/Ekos/Focus", "org.freedesktop.DBus.Properties")
        return properties.Get("org.kde.kstars.Ekos.Focus", name)

    def set_train(self, name: str) -> None:
        """Choose the optical train of the focus module."""
        properties = self.interface("/KStars/Ekos/Focus", "org.freedesktop.DBus.Properties")
        properties.Set("org.kde.kstars.Ekos.Focus", "opticalTrain", dbus.String(name, variant_level=1))

    def trigger(self, action: str) -> None:
        """Choose an entry of the main window's menus."""
        with contextlib.suppress(dbus.exceptions.DBusException):  # it answers when the window is closed
            self.interface(f"/kstars/MainWindow_1/actions/{action}", "org.qtproject.Qt.QAction").trigger(timeout=2)

    # --- INDI -----------------------------------------------------------------------------------------------------

    def devices(self) -> set[str]:
        """The names of the devices that KStars knows."""
        return {str(name) for name in self.indi.getDevices()}

    def state(self, device: str, name: str = POSITION[0]) -> str:
        """The state of a property."""
        return str(self.indi.getPropertyState(device, name))

    def position(self, device: str) -> float:
        """Where a focuser is; after `set_numbers` what was asked for, until the driver has sent an update."""
        return float(self.indi.getNumber(device, *POSITION))

    def switch(self, device: str, name: str, element: str) -> None:
        """Turn a switch on, once it is defined."""
        wait_for(f"{device}.{name} is defined", lambda: self.state(device, name) != "Invalid", quiet=True)
        self.indi.setSwitch(device, name, element, "On")
        self.indi.sendProperty(device, name)

    def set_numbers(self, device: str, name: str, **values: float) -> None:
        """Send new values of numbers."""
        for element, value in values.items():
            self.indi.setNumber(device, name, element, float(value))
        self.indi.sendProperty(device, name)

    def set_text(self, device: str, name: str, **values: str) -> None:
        """Send new texts."""
        for element, value in values.items():
            self.indi.setText(device, name, element, value)
        self.indi.sendProperty(device, name)

    def move(self, device: str, position: float) -> None:
        """Send a focuser somewhere."""
        self.set_numbers(device, POSITION[0], **{POSITION[1]: position})

    # --- Ekos -----------------------------------------------------------------------------------------------------

    def show_ekos(self) -> None:
        """Open Ekos's window, once KStars has come so far."""

        def is_open() -> bool:
            if not self.windows("^Ekos"):
                self.trigger("ekos")  # which also closes it
                time.sleep(0.5)
            return bool(self.windows("^Ekos"))

        wait_for("Ekos is open", is_open, quiet=True)

    def start_profile(self, *devices: str, before: Callable[[], None] = lambda: None) -> None:
        """Start the profile, wait for its devices, call `before`, and connect them."""
        wait_for("Ekos takes the profile", lambda: self.ekos.setProfile(self.profile.name), quiet=True)
        self.ekos.start()

        wait_for(f"the profile has {', '.join(devices)}", lambda: self.is_running() and set(devices) <= self.devices())
        before()

        def are_connected() -> bool:
            # Ekos does nothing while it still waits for a device.
            if not all(self.state(device, "CONNECTION") == "Ok" for device in devices):
                self.ekos.connectDevices()
                time.sleep(1)
            return all(self.state(device, "CONNECTION") == "Ok" for device in devices)

        wait_for("they are connected", are_connected, quiet=True)

    # --- The display ----------------------------------------------------------------------------------------------

    def xdotool(self, *arguments: str) -> list[str]:
        """What xdotool prints, in words."""
        command = ["xdotool", *arguments]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False).stdout.split()

    def windows(self, title: str) -> list[str]:
        """The visible windows with this title."""
        return self.xdotool("search", "--onlyvisible", "--name", title)

    def dismiss(self, *titles: str) -> None:
        """Press Escape in the windows with these titles, where there are any."""
        for title in titles:
            for window in self.windows(title):
                self.xdotool("windowfocus", window, "key", "--window", window, "Escape")

    def show_focus_module(self) -> None:
        """Bring Ekos's focus module to the front, where it stays."""
        self.dismiss("Startup Wizard", "Optical Trains", "Profile Wizard")
        ekos = self.windows("^Ekos")[-1]
        self.xdotool("windowsize", "--sync", ekos, "1100", "900", "windowraise", ekos)
        self.xdotool("mousemove", "--window", ekos, "347", "33", "click", "1")  # the tab of the focus module

    def picture(self, title: str, path: Path) -> None:
        """A picture of the window with this title."""
        window = wait_for(f"the window {title!r} is there", lambda: self.windows(title), quiet=True)[-1]
        self.xdotool("windowraise", window)
        time.sleep(1)  # Qt paints when it likes, and only what is in front can be seen
        shape = dict(pair.split("=") for pair in self.xdotool("getwindowgeometry", "--shell", window))
        part = f"{shape['WIDTH']}x{shape['HEIGHT']}+{shape['X']}+{shape['Y']}"
        # Of the whole screen: a window that others overlap cannot always be read.
        command = ["import", "-window", "root", "-crop", part, "+repage", "-colors", "48", "+dither", str(path)]
        subprocess.run(command, env=self.environment, check=True)
        print(f"  picture of {title!r}: {path.name}", flush=True)


@contextlib.contextmanager
def _display(home: Path) -> Iterator[str]:
    """An X server without a screen, on a display number that is free."""
    reading, writing = os.pipe()
    try:
        command = ["Xvfb", "-displayfd", str(writing), "-screen", "0", "1600x1000x24", "-nolisten", "tcp"]
        with running(command, os.environ, home / "display.log", pass_fds=(writing,)):
            os.close(writing)
            writing = -1
            with os.fdopen(reading, closefd=False) as answer:
                number = answer.readline().strip()
            if not number:
                raise Failed(f"Xvfb does not start: {(home / 'display.log').read_text(errors='replace')}")
            yield f":{number}"
    finally:
        os.close(reading)
        if writing >= 0:
            os.close(writing)


def python_path() -> str:
    """PATH with this Python's programs first."""
    return f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
