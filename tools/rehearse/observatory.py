# SPDX-License-Identifier: GPL-3.0-or-later
"""indiserver with libindi's simulated camera and mount, and one of several focusers, each at the same place.

The stars of the simulated camera are 0.56 arcseconds wider at BEST ± 100 steps than in focus, and the excess grows with
the square of the distance. Motors make about 100 steps a second, times `speed`.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from configuration import configured
from moonlite import STEPS_PER_S, Moonlite
from ports import free_port, listens

from indi_multifocus.simulator import Simulator

from .desktop import PROJECT, Failed, KStars, python_path, running, wait_for
from .relay import Relay

CAMERA, MOUNT = "CCD Simulator", "Telescope Simulator"
START, BEST = 50_000, 49_740
FOCUS_MAX = 2000
"""SIM_FOCUS_MAX: the width grows by 0.5625 arcseconds · (20 · distance / this)²."""
FOCAL_LENGTH_MM, APERTURE_MM = 300, 100
DECLINATION = 20
PROBE = "28EFE61E0B0000B9"
GENERATION_2_STEPS_PER_S = 1562.5 / 16


@dataclass
class Focuser:
    """What there is to focus with."""

    device: str
    label: str
    """In KStars's catalogue."""
    driver: str
    steps_per_s: float
    environment: dict[str, str] = field(default_factory=dict)
    simulator: Simulator | None = None
    """Of ours: to pull its cable."""

    def connect(self, kstars: KStars) -> None:
        """Set what it needs before it is connected."""

    def ready(self, kstars: KStars) -> None:
        """Set what it needs when it is connected, and bring it to START."""
        sync(kstars, self.device)


def sync(kstars: KStars, device: str) -> None:
    """Let a focuser call the place where it stands START."""
    kstars.set_numbers(device, "FOCUS_SYNC", FOCUS_SYNC_VALUE=START)
    # Only the number that was set is changed in KStars before the driver has sent an update.
    wait_for(f"{device} is at {START}", lambda: kstars.position(device) == START, quiet=True)


class _Simulation(Focuser):
    def connect(self, kstars: KStars) -> None:
        kstars.switch(self.device, "SIMULATION", "ENABLE")
        wait_for("SIMULATION is on", lambda: kstars.state(self.device, "SIMULATION") == "Ok", quiet=True)


class _Moonlite(Focuser):
    def connect(self, kstars: KStars) -> None:
        kstars.switch(self.device, "CONNECTION_MODE", "CONNECTION_TCP")
        wait_for(
            "it asks for an address",
            lambda: kstars.indi.setText(self.device, "DEVICE_ADDRESS", "ADDRESS", "127.0.0.1"),
            quiet=True,
        )
        kstars.set_text(self.device, "DEVICE_ADDRESS", ADDRESS="127.0.0.1", PORT=self.environment["MOONLITE_PORT"])


class _Simulated(Focuser):
    def ready(self, kstars: KStars) -> None:
        # It stands in the middle of its travel, which is START; and is as quick as its delay (µs a step) lets it.
        kstars.set_numbers(self.device, "DELAY", DELAY_VALUE=round(1e6 / self.steps_per_s))
        if kstars.position(self.device) != START:
            raise Failed(f"{self.device} is at {kstars.position(self.device)}, not at {START}")


@contextlib.contextmanager
def multifocus(home: Path, *, speed: float = 1.0, generation: int = 2, **settings: Any) -> Iterator[Focuser]:
    """Our driver with a simulated controller. `settings`: more of its configuration."""
    link = home / "controller"
    limits = {"1": [0, 100_000], "2": [0, 100_000]}
    extra = configured(home / "multifocus.json", str(link), limits=limits, **settings)
    with Simulator(generation=generation, speed=speed, link=link, probes={PROBE: 20.0}) as simulator:
        yield Focuser(
            "MultiFocus 1",
            "MultiFocus",
            "indi_multifocus",
            GENERATION_2_STEPS_PER_S * speed,
            extra,
            simulator,
        )


@contextlib.contextmanager
def simulation(home: Path) -> Iterator[Focuser]:
    """Our driver without a configuration, as KStars starts it, with SIMULATION on."""
    yield _Simulation("MultiFocus 1", "MultiFocus", "indi_multifocus", GENERATION_2_STEPS_PER_S)


@contextlib.contextmanager
def moonlite(home: Path, *, speed: float = 1.0) -> Iterator[Focuser]:
    """libindi's indi_moonlite_focus with a simulated Moonlite, as in the bench."""
    with Moonlite(position=START, steps_per_s=STEPS_PER_S * speed) as focuser:
        port = {"MOONLITE_PORT": str(focuser.port)}
        yield _Moonlite("MoonLite", "MoonLite", "indi_moonlite_focus", STEPS_PER_S * speed, port)


@contextlib.contextmanager
def simulated(home: Path, *, speed: float = 1.0) -> Iterator[Focuser]:
    """libindi's indi_simulator_focus."""
    yield _Simulated("Focuser Simulator", "Focuser Simulator", "indi_simulator_focus", 100.0 * speed)


def environment() -> dict[str, str]:
    """The user's, without his INDI settings, with this Python's programs and our gsc."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("INDI", "PYTHON"))}
    return {**kept, "PATH": f"{PROJECT / 'tools' / 'rehearse'}{os.pathsep}{python_path()}"}


@contextlib.contextmanager
def server(home: Path, focuser: Focuser) -> Iterator[Relay]:
    """indiserver with camera, mount and focuser; yields the relay that KStars is to connect to."""
    log = home / "indiserver.log"
    drivers = ["indi_simulator_ccd", "indi_simulator_telescope", focuser.driver]
    # Between the look for a free port and its use another program may take it: then it is tried again.
    for _ in range(5):
        port = free_port()
        command = ["indiserver", "-p", str(port), "-u", str(home / "indiserver"), "-m", "500", *drivers]
        with running(command, {**environment(), "HOME": str(home), **focuser.environment}, log) as process:
            wait_for("indiserver is there", lambda: process.poll() is not None or listens(port), quiet=True)  # noqa: B023
            if process.poll() is None:
                with Relay(port, focuser.device) as relay:
                    yield relay
                return
    raise Failed(f"indiserver does not start: {log.read_text(errors='replace')}")


def point(kstars: KStars, focuser: Focuser) -> None:
    """Set the camera for stars that follow the focuser, and send the mount to a field."""
    kstars.switch(MOUNT, "TELESCOPE_PARK", "UNPARK")
    kstars.set_numbers(CAMERA, "SCOPE_INFO", FOCAL_LENGTH=FOCAL_LENGTH_MM, APERTURE=APERTURE_MM)
    kstars.set_numbers(CAMERA, "CCD_GAIN", GAIN=0)
    kstars.set_numbers(
        CAMERA, "SIM_FOCUSING", SIM_FOCUS_POSITION=BEST, SIM_FOCUS_MAX=FOCUS_MAX, SIM_SEEING=3.5
    )  # fmt: skip
    wait_for("the mount is unparked", lambda: kstars.state(MOUNT, "TELESCOPE_PARK") in ("Idle", "Ok"), quiet=True)
    kstars.switch(MOUNT, "ON_COORD_SET", "TRACK")
    # It was parked at an hour angle of -6 h; one hour before the meridian there is nothing to flip for.
    right_ascension = (float(kstars.indi.getNumber(MOUNT, "EQUATORIAL_EOD_COORD", "RA")) - 5) % 24
    kstars.set_numbers(MOUNT, "EQUATORIAL_EOD_COORD", RA=right_ascension, DEC=DECLINATION)
    wait_for(
        "the mount tracks a field",
        lambda: kstars.state(MOUNT, "EQUATORIAL_EOD_COORD") in ("Ok", "Idle")
        and abs(float(kstars.indi.getNumber(MOUNT, "EQUATORIAL_EOD_COORD", "DEC")) - DECLINATION) < 0.1,
    )
    choose(kstars, focuser.device)


def choose(kstars: KStars, device: str) -> None:
    """Let the stars follow this focuser. Ekos sets it, too, when devices come, and not always to that of the train."""
    kstars.set_text(CAMERA, "ACTIVE_DEVICES", ACTIVE_FOCUSER=device)
    wait_for(
        "the camera has the focuser",
        lambda: str(kstars.indi.getText(CAMERA, "ACTIVE_DEVICES", "ACTIVE_FOCUSER")) == device,
        quiet=True,
    )
    time.sleep(0.5)


__all__ = [
    "BEST",
    "CAMERA",
    "MOUNT",
    "START",
    "Focuser",
    "moonlite",
    "multifocus",
    "point",
    "server",
    "simulated",
    "simulation",
    "sync",
]
