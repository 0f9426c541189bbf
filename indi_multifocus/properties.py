# SPDX-License-Identifier: GPL-3.0-or-later
"""What a client sees: the tables of properties, in the order in which clients show them.

Used by `focuser.py` (what a connected channel offers) and `driver.py` (the link that all channels share, and what a
device has whether or not it is connected). Nothing is decided here. Names, labels, groups, formats, rules and order are
those of libindi's INDI::FocuserInterface, INDI::Focuser and INDI::DefaultDevice (1.9.9), so that every client treats a
channel as any focuser.
"""

from __future__ import annotations

from . import __version__
from .controller.port import SOCKET, PortError, check_name, socket_address
from .controller.protocol import MAX_STEPS
from .indi import (
    Light,
    LightVector,
    Number,
    NumberVector,
    Permission,
    Rule,
    State,
    Switch,
    SwitchVector,
    Text,
    TextVector,
)
from .settings.driver_settings import Probe, Settings

MAIN, PRESETS, STATUS = "Main Control", "Presets", "Status"
CONNECTION, OPTIONS = "Connection", "Options"
"""Groups; a client shows a tab for each. All but "Status" are libindi's."""

FOCUSER_INTERFACE = 8
"""FOCUSER_INTERFACE of libindi's basedevice.h."""

BAUD_RATES = ("9600", "19200", "38400", "57600", "115200", "230400")
"""The rates that libindi's serial connection offers."""

SERIAL, NETWORK = "CONNECTION_SERIAL", "CONNECTION_TCP"
"""The two ways to reach the controller, switches of CONNECTION_MODE."""


def steps_number(name: str, low: float, high: float, value: float = 0.0, label: str = "Steps") -> Number:
    """A number of whole steps; the increment that a client offers is a fiftieth of its range, as in libindi."""
    return Number(name, label, value, format="%.f", min=low, max=high, step=max(1.0, (high - low) // 50))


def enabled_switch(name: str, label: str, on: str = "Enabled", off: str = "Disabled") -> SwitchVector:
    """libindi's pair INDI_ENABLED / INDI_DISABLED, disabled."""
    return SwitchVector(name, label, MAIN, [Switch("INDI_ENABLED", on), Switch("INDI_DISABLED", off, True)])


class FocuserProperties:
    """What a focuser offers while it is connected, in the order in which clients show it."""

    def __init__(self, travel: tuple[int, int], limits: tuple[int, int], probes: tuple[Probe, ...] = ()) -> None:
        low, high = travel
        ok, read_only = State.OK, Permission.READ_ONLY
        self.motion = SwitchVector(
            "FOCUS_MOTION",
            "Direction",
            MAIN,
            [Switch("FOCUS_INWARD", "Focus In", True), Switch("FOCUS_OUTWARD", "Focus Out")],
            state=ok,
        )
        self.relative = NumberVector(
            "REL_FOCUS_POSITION",
            "Relative Position",
            MAIN,
            [steps_number("FOCUS_RELATIVE_POSITION", 0, high - low)],
            state=ok,
        )
        self.absolute = NumberVector(
            "ABS_FOCUS_POSITION",
            "Absolute Position",
            MAIN,
            [steps_number("FOCUS_ABSOLUTE_POSITION", low, high)],
            state=ok,
        )
        self.maximum = NumberVector(
            "FOCUS_MAX", "Max. Position", MAIN, [steps_number("FOCUS_MAX_VALUE", *limits, high)], state=ok
        )
        self.minimum = NumberVector(
            "FOCUS_MIN", "Min. Position", MAIN, [steps_number("FOCUS_MIN_VALUE", *limits, low)], state=ok
        )
        self.abort = SwitchVector(
            "FOCUS_ABORT_MOTION", "Abort Motion", MAIN, [Switch("ABORT", "Abort")], rule=Rule.AT_MOST_ONE
        )
        self.sync = NumberVector("FOCUS_SYNC", "Sync", MAIN, [steps_number("FOCUS_SYNC_VALUE", low, high)], state=ok)
        self.reverse = enabled_switch("FOCUS_REVERSE_MOTION", "Reverse Motion")
        self.backlash = enabled_switch("FOCUS_BACKLASH_TOGGLE", "Backlash")
        self.backlash_steps = NumberVector(
            "FOCUS_BACKLASH_STEPS",
            "Backlash",
            MAIN,
            [Number("FOCUS_BACKLASH_VALUE", "Steps", format="%.f", min=0, max=1_000_000, step=100)],
            state=ok,
        )
        self.presets = NumberVector(
            "Presets",
            "Presets",
            PRESETS,
            [steps_number(f"PRESET_{n}", low, high, max(low, min(0, high)), f"Preset {n}") for n in (1, 2, 3)],
            timeout=0,
        )
        self.goto = SwitchVector(
            "Goto", "Goto", PRESETS, [Switch(f"Preset {n}", f"Preset {n}") for n in (1, 2, 3)], timeout=0
        )
        self.temperature = NumberVector(
            "FOCUS_TEMPERATURE",
            "Temperature",
            MAIN,
            [Number("TEMPERATURE", "Celsius", format="%6.2f", min=-50, max=70)],
            permission=read_only,
            timeout=0,
        )
        self.temperatures = TextVector(
            "TEMPERATURES",
            "Temperature probes",
            STATUS,
            [Text(probe.name, f"{probe.label} (°C)") for probe in probes],
            permission=read_only,
            timeout=0,
        )
        self.fan = enabled_switch("FAN", "Fans", "On", "Off")
        self.target = NumberVector(
            "FOCUS_TARGET",
            "Target Position",
            STATUS,
            [steps_number("FOCUS_TARGET_VALUE", -MAX_STEPS, MAX_STEPS)],
            permission=read_only,
            timeout=0,
        )
        self.link = LightVector("FOCUS_LINK", "Link", STATUS, [Light("LINK", "Link"), Light("POSITION", "Position")])
        self.link_info = TextVector(
            "FOCUS_LINK_INFO",
            "Link details",
            STATUS,
            [
                Text("LINK", "Link"),
                Text("GENERATION", "Firmware generation"),
                Text("POSITION", "Position"),
                Text("RECONNECTS", "Reconnects"),
            ],
            permission=read_only,
            timeout=0,
        )

    def settings(self) -> tuple[NumberVector | SwitchVector, ...]:
        """What a user may want to keep. The direction comes first, and what depends on the travel after the travel."""
        return (
            self.reverse,
            self.maximum,
            self.minimum,
            self.backlash,
            self.backlash_steps,
            self.presets,
        )

    def of_positions(self) -> tuple[NumberVector, ...]:
        """The properties that hold positions within the travel."""
        return (self.absolute, self.sync, self.presets)


def on_off(name: str, label: str, on: bool = False) -> SwitchVector:
    """libindi's pair ENABLE / DISABLE of the Options tab."""
    return SwitchVector(
        name, label, OPTIONS, [Switch("ENABLE", "Enable", on), Switch("DISABLE", "Disable", not on)], timeout=0
    )


class LinkProperties:
    """The properties of the one link, which every device shows."""

    def __init__(self, settings: Settings) -> None:
        host, number = socket_address(settings.port)
        self.simulation = on_off("SIMULATION", "Simulation")
        self.simulation_speed = NumberVector(
            "SIMULATION_SPEED",
            "Simulation Speed",
            OPTIONS,
            [Number("FACTOR", "Times the real one", 1, format="%g", min=0.1, max=1000, step=1)],
            timeout=0,
        )
        self.mode = SwitchVector(
            "CONNECTION_MODE",
            "Connection Mode",
            CONNECTION,
            [Switch(SERIAL, "Serial", not host), Switch(NETWORK, "Network", bool(host))],
        )
        self.address = TextVector(
            "DEVICE_ADDRESS", "Server", CONNECTION, [Text("ADDRESS", "Address", host), Text("PORT", "Port", number)]
        )
        self.system_ports = SwitchVector("SYSTEM_PORTS", "System Ports", CONNECTION, [], rule=Rule.AT_MOST_ONE)
        self.scan = SwitchVector(
            "DEVICE_PORT_SCAN", "Refresh", CONNECTION, [Switch("Scan Ports", "Scan Ports")], rule=Rule.ONE_OF_MANY
        )
        self.polling = NumberVector(
            "POLLING_PERIOD",
            "Polling",
            OPTIONS,
            [
                Number(
                    "PERIOD_MS",
                    "Period (ms)",
                    round(settings.moving_s * 1000),
                    format="%.f",
                    min=10,
                    max=600_000,
                    step=1000,
                )
            ],
            timeout=0,
        )
        port = Settings().port if host else settings.port
        self.port = TextVector("DEVICE_PORT", "Ports", CONNECTION, [Text("PORT", "Port", port)])
        self.baud = SwitchVector(
            "DEVICE_BAUD_RATE",
            "Baud Rate",
            CONNECTION,
            [Switch(rate, rate, rate == str(settings.baud)) for rate in BAUD_RATES],
        )

    def connection(self) -> tuple[SwitchVector, TextVector, SwitchVector, TextVector]:
        """By what the controller is reached."""
        return self.mode, self.port, self.baud, self.address

    def in_use(self) -> tuple[SwitchVector | TextVector, ...]:
        """Those of them that matter in the chosen mode."""
        return (self.mode, self.address) if self.mode.on == NETWORK else (self.mode, self.port, self.baud)

    def port_name(self) -> str:
        """What to open, by the chosen mode. Raises PortError where that is not set right."""
        name = str(self.port["PORT"].value)
        if self.mode.on == NETWORK:
            host, number = self.address.values()
            if not host:
                raise PortError("no address is set: set DEVICE_ADDRESS to the host and port of the controller")
            name = f"{SOCKET}{host}:{number}"
        check_name(name)
        return name


class DeviceProperties:
    """What a device has for itself, beside its focuser: it is there whether or not the focuser is connected."""

    def __init__(self) -> None:
        self.connection = SwitchVector(
            "CONNECTION",
            "Connection",
            MAIN,
            [Switch("CONNECT", "Connect"), Switch("DISCONNECT", "Disconnect", True)],
        )
        self.driver_info = TextVector(
            "DRIVER_INFO",
            "Driver Info",
            CONNECTION,
            [
                Text("DRIVER_NAME", "Name", "MultiFocus"),
                Text("DRIVER_EXEC", "Exec", "indi_multifocus"),
                Text("DRIVER_VERSION", "Version", __version__),
                Text("DRIVER_INTERFACE", "Interface", str(FOCUSER_INTERFACE)),
            ],
            permission=Permission.READ_ONLY,
        )
        self.debug = on_off("DEBUG", "Debug")
