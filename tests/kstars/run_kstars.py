# SPDX-License-Identifier: GPL-3.0-or-later
"""`make test-kstars`: a real KStars, in a virtual display, uses the driver as an observer would; driven by its D-Bus.

Not collected by pytest: KStars with all that it needs is some 500 MB. It finds the driver by the catalogue entry,
starts it from an Ekos profile together with simulated camera and mount, connects both channels of a simulated
controller, moves, aborts, reads positions, and moves the focuser from Ekos's focus module. Pictures of the control
panel and of that module go into the folder that is given, or docs/images.

Exit status 0 when everything was as it should be. Every process that is started is ended.
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
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Callable

import dbus

PROJECT = Path(__file__).resolve().parent.parent.parent
DEADLINE_S = 60.0
DISPLAY = ":77"
POSITION = ("ABS_FOCUS_POSITION", "FOCUS_ABSOLUTE_POSITION")


def wait_for(what: str, test: Callable[[], Any], within_s: float = DEADLINE_S) -> Any:
    """What `test` returns, as soon as that is something. D-Bus errors count as nothing yet."""
    end = time.monotonic() + within_s
    problem: object = ""
    while time.monotonic() < end:
        try:
            found = test()
        except dbus.exceptions.DBusException as error:
            found, problem = None, error
        if found:
            print(f"  {what}")
            return found
        time.sleep(0.1)
    raise SystemExit(f"FAILED: {what}: not within {within_s:g} s {problem}")


@contextlib.contextmanager
def running(command: list[str], environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process with what it starts; all are ended at the end."""
    with open(log, "wb") as output, subprocess.Popen(
        command, env=environment, stdout=output, stderr=output, stdin=subprocess.DEVNULL, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            for number in (signal.SIGTERM, signal.SIGKILL):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(3)


class KStars:
    """KStars, by its D-Bus."""

    def __init__(self, address: str) -> None:
        self._bus = dbus.bus.BusConnection(address)

    def interface(self, path: str, interface: str) -> Any:
        """One of its objects."""
        return dbus.Interface(self._bus.get_object("org.kde.kstars", path, introspect=False), interface)

    @property
    def indi(self) -> Any:
        """The INDI devices of the servers that KStars started."""
        return self.interface("/KStars/INDI", "org.kde.kstars.INDI")

    @property
    def ekos(self) -> Any:
        """Ekos's manager."""
        return self.interface("/KStars/Ekos", "org.kde.kstars.Ekos")

    def trigger(self, action: str) -> None:
        """Choose an entry of the main window's menus."""
        self.interface(f"/kstars/MainWindow_1/actions/{action}", "org.qtproject.Qt.QAction").trigger(timeout=2)

    def switch(self, device: str, name: str, element: str) -> None:
        """Turn a switch on."""
        self.indi.setSwitch(device, name, element, "On")
        self.indi.sendProperty(device, name)

    def position(self, device: str) -> float:
        """Where a focuser is."""
        return float(self.indi.getNumber(device, *POSITION))

    def state(self, device: str, name: str = POSITION[0]) -> str:
        """The state of a property."""
        return str(self.indi.getPropertyState(device, name))

    def is_in(self, state: str, device: str, name: str = POSITION[0]) -> bool:
        """Whether a property is in a state."""
        return self.state(device, name) == state

    def move(self, device: str, steps: int) -> None:
        """Send a focuser somewhere."""
        self.indi.setNumber(device, *POSITION, float(steps))
        self.indi.sendProperty(device, POSITION[0])


def prepare(home: Path) -> dict[str, str]:
    """Settings that keep wizards away, the catalogue with our entry, and the environment for everything."""
    catalogue = home / "indi"
    catalogue.mkdir()
    shutil.copy("/usr/share/indi/drivers.xml", catalogue)
    shutil.copy(PROJECT / "xml" / "indi_multifocus.xml", catalogue)
    for folder in ("config", "data", "run"):
        (home / folder).mkdir(mode=0o700)
    wizard = "RunStartupWizard=false\nrunStartupWizard=false\n"
    (home / "config" / "kstarsrc").write_text(
        f"[General]\n{wizard}\n[StartUp]\n{wizard}\n[StartupWizard]\n{wizard}\n[Location]\nCityName=Warwick\n\n"
        f"[indi]\nindiDriversDir={catalogue}\n"
    )
    (home / "config" / "kwalletrc").write_text("[Wallet]\nEnabled=false\nFirst Use=false\n")
    configuration = json.loads((PROJECT / "test.json").read_text())
    configuration.update(serial_port=str(home / "controller"), limits={"1": [0, 50000], "2": [0, 50000]})
    (home / "multifocus.json").write_text(json.dumps(configuration))
    return {
        **os.environ,
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home / "config"),
        "XDG_DATA_HOME": str(home / "data"),
        "XDG_RUNTIME_DIR": str(home / "run"),
        "DISPLAY": DISPLAY,
        "LANG": "C.UTF-8",
        "DBUS_SESSION_BUS_ADDRESS": f"unix:path={home}/bus",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "INDI_MULTIFOCUS_CONFIG": str(home / "multifocus.json"),
    }


def add_profile(home: Path) -> None:
    """An Ekos profile with our driver, and simulators for what Ekos wants beside a focuser."""
    database = home / "data" / "kstars" / "userdb.sqlite"
    with contextlib.closing(sqlite3.connect(database, timeout=10)) as connection, connection:
        cursor = connection.execute("INSERT INTO profile (name, autoconnect, portselector) VALUES ('MultiFocus', 0, 0)")
        drivers = [("Telescope Simulator", "Mount"), ("CCD Simulator", "CCD"), ("MultiFocus", "Focuser")]
        connection.executemany(
            "INSERT INTO driver (label, role, profile) VALUES (?, ?, ?)",
            [(label, role, cursor.lastrowid) for label, role in drivers],
        )


def xdotool(environment: dict[str, str], *arguments: str) -> list[str]:
    """What xdotool prints, in words."""
    return subprocess.run(["xdotool", *arguments], env=environment, capture_output=True, text=True).stdout.split()


def windows(environment: dict[str, str], title: str) -> list[str]:
    """The visible windows with this title."""
    return xdotool(environment, "search", "--onlyvisible", "--name", title)


def dismiss(environment: dict[str, str], title: str) -> None:
    """Press Escape in the windows with this title, where there are any."""
    for window in windows(environment, title):
        xdotool(environment, "windowfocus", window, "key", "--window", window, "Escape")


def picture(environment: dict[str, str], title: str, path: Path) -> None:
    """A picture of the window with this title."""
    window = wait_for(f"the window {title!r} is there", lambda: windows(environment, title))[-1]
    xdotool(environment, "windowraise", window)
    time.sleep(1)  # Qt paints when it likes, and only what is in front can be seen
    subprocess.run(["import", "-window", window, "-colors", "48", "+dither", str(path)], env=environment, check=True)
    print(f"  picture of {title!r}: {path.name}")


def observe(kstars: KStars, environment: dict[str, str], home: Path, pictures: Path) -> None:
    """The session itself."""
    one, two = "MultiFocus 1", "MultiFocus 2"
    wait_for("KStars is there", lambda: str(kstars.indi.getDevices()))
    wait_for("it has a database", (home / "data" / "kstars" / "userdb.sqlite").exists)
    add_profile(home)
    with contextlib.suppress(dbus.exceptions.DBusException):
        kstars.trigger("ekos")
    wait_for("Ekos knows the profile", lambda: "MultiFocus" in kstars.ekos.getProfiles())
    assert kstars.ekos.setProfile("MultiFocus"), "Ekos does not take the profile"
    kstars.ekos.start()
    wait_for("the profile started the driver", lambda: {one, two} <= set(map(str, kstars.indi.getDevices())))
    kstars.ekos.connectDevices()
    for device in (one, two):
        wait_for(f"{device} is connected", partial(kstars.is_in, "Ok", device, "CONNECTION"))
        wait_for(f"{device} has a position", partial(kstars.is_in, "Ok", device))
    kstars.move(one, 300)
    kstars.move(two, 30_000)
    wait_for("both move", lambda: kstars.position(one) > 0 and kstars.position(two) > 0)
    wait_for(f"{one} arrives", lambda: kstars.state(one) == "Ok" and kstars.position(one) == 300)
    kstars.switch(two, "FOCUS_ABORT_MOTION", "ABORT")
    wait_for(f"{two} is stopped on the way", lambda: kstars.state(two) == "Idle" and 0 < kstars.position(two) < 30_000)
    focus = kstars.interface("/KStars/Ekos/Focus", "org.kde.kstars.Ekos.Focus")
    wait_for("Ekos's focus module is there", lambda: str(focus.canAutoFocus()))
    focuser = wait_for(
        "its focuser is one of ours",
        lambda: str(kstars.interface("/KStars/Ekos/Focus", "org.freedesktop.DBus.Properties").Get(
            "org.kde.kstars.Ekos.Focus", "focuser")),
    )
    print(f"    {focuser}")
    device = focuser if focuser in (one, two) else one
    before = kstars.position(device)
    assert focus.focusOut(100), "the focus module does not move the focuser"
    wait_for("it moves the focuser", lambda: kstars.position(device) == before + 100)
    for title in ("Startup Wizard", "Optical Trains", "Profile Wizard"):
        dismiss(environment, title)
    ekos = windows(environment, "^Ekos")[-1]
    xdotool(environment, "windowsize", "--sync", ekos, "1100", "900", "windowraise", ekos)
    xdotool(environment, "mousemove", "--window", ekos, "347", "33", "click", "1")  # the tab of the focus module
    picture(environment, "^Ekos", pictures / "ekos.png")
    if not windows(environment, "INDI Control Panel"):
        with contextlib.suppress(dbus.exceptions.DBusException):
            kstars.trigger("show_control_panel")
    window = wait_for("the control panel is there", lambda: windows(environment, "INDI Control Panel"))[-1]
    xdotool(environment, "windowsize", window, "900", "900", "windowmove", window, "0", "0")
    # The tabs stand in the order of the names, about 8 px a letter wide.
    names = sorted(map(str, kstars.indi.getDevices()), key=str.lower)
    left = 10 + sum(8 * len(name) + 17 for name in names[: names.index(one)])
    xdotool(environment, "windowraise", window)
    time.sleep(1)  # until it is painted, a click is lost
    xdotool(environment, "mousemove", "--window", window, str(left + 40), "25", "sleep", "0.3", "click", "1")
    picture(environment, "INDI Control Panel", pictures / "control_panel.png")
    kstars.ekos.stop()


def main() -> int:
    """Run the session; returns the exit status."""
    pictures = Path(sys.argv[1]) if len(sys.argv) > 1 else PROJECT / "docs" / "images"
    pictures.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        home = Path(tempfile.mkdtemp(prefix="kstars-"))
        stack.callback(shutil.rmtree, home, ignore_errors=True)
        environment = prepare(home)

        def run(program: str, *arguments: str) -> None:
            stack.enter_context(running([program, *arguments], environment, home / f"{Path(program).name}.log"))

        run("Xvfb", DISPLAY, "-screen", "0", "1600x1000x24")
        run("dbus-daemon", "--session", "--nofork", f"--address={environment['DBUS_SESSION_BUS_ADDRESS']}")
        run(sys.executable, "-m", "indi_multifocus.simulator", "--link", str(home / "controller"))
        wait_for("the display is there", Path(f"/tmp/.X11-unix/X{DISPLAY[1:]}").exists)
        wait_for("the bus is there", (home / "bus").exists)
        wait_for("the simulated controller is there", (home / "controller").exists)
        run("kstars")
        try:
            observe(KStars(environment["DBUS_SESSION_BUS_ADDRESS"]), environment, home, pictures)
        except BaseException:
            print((home / "kstars.log").read_text(errors="replace")[-3000:])
            raise
    print("KStars uses the driver as it should")
    return 0


if __name__ == "__main__":
    sys.exit(main())
