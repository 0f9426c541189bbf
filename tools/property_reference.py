# SPDX-License-Identifier: GPL-3.0-or-later
"""`make docs`: writes docs/indi-properties.md, the reference of the driver's INDI properties.

What the page says of names, kinds and ranges, and of when a property is there, shared or saved, is what the driver
does: it is started in here four times, on simulated controllers of both generations, with and without what a
configuration can add, and a client reads what it defines. What a property means stands in MEANINGS below.

    python -m tools.property_reference           write the page
    python -m tools.property_reference --check   status 1 where it is not what would be written
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from unittest import mock
from xml.etree import ElementTree

from client import FocuserClient
from support import DriverInside

from indi_multifocus.controller.protocol import max_steps
from indi_multifocus.settings.driver_settings import WHOLE_RANGE, Probe, Settings
from indi_multifocus.simulator import Simulator

PAGE = Path(__file__).resolve().parent.parent / "docs" / "indi-properties.md"


class Meaning(NamedTuple):
    """What is not in the definition of a property."""

    text: str
    states: Mapping[str, str] = {}
    """Where they mean something else than GENERAL_STATES."""


GENERAL_STATES = {
    "Idle": "nobody has set it yet",
    "Busy": "it is being done",
    "Ok": "it is as it was last set",
    "Alert": "the last order was refused; values are as before, and a message says what would be accepted",
}

MEANINGS: Mapping[str, Meaning] = {
    "CONNECTION": Meaning(
        "There is one link to the controller: the first channel that connects opens it, the last that disconnects "
        "closes it. A move in progress is left to finish. A link that is lost later on is shown by `FOCUS_LINK`, and "
        "the driver gets it back by itself.",
        {
            "Idle": "disconnected",
            "Busy": "the link is being opened",
            "Ok": "connected",
            "Alert": "it could not be connected, and is not; a message names the port and the remedy",
        },
    ),
    "DRIVER_INFO": Meaning("The driver, its version, and what it is: `DRIVER_INTERFACE` is 8, a focuser."),
    "DEBUG": Meaning(
        "While it is on, messages that begin with `[DEBUG]` show what clients send to this device, and what goes over "
        "the serial line in both directions."
    ),
    "POLLING_PERIOD": Meaning(
        "Time between two questions for the status while a motor moves, in ms. At rest the driver asks every "
        f"{Settings().idle_s:g} s. An arrival is asked for just when it is due, whatever the period."
    ),
    "SIMULATION": Meaning(
        "The driver runs on its own simulated controller of the second generation, with as many channels as it has "
        "itself; no port is needed. Nothing that is done there changes what is remembered of the real focuser, and "
        "settings are kept only by *Save*. While it is on there is SIMULATION_SPEED, how many times faster than the "
        "real motors the simulated ones turn (0.1 to 1000).",
        {"Alert": "refused: it can be changed only while no channel is connected"},
    ),
    "CONFIG_PROCESS": Meaning(
        "*Load* what was saved, *Save* what is set now, go back to the *Default*s, *Purge* what was saved. See "
        "[Saved settings](#saved-settings).",
        {
            "Ok": "done",
            "Alert": "there is nothing to load, or the file cannot be used; a message names it",
        },
    ),
    "CONNECTION_MODE": Meaning("By what the controller is reached: `DEVICE_PORT` or `DEVICE_ADDRESS`."),
    "DEVICE_PORT": Meaning(
        "The path of the serial port, which the driver opens for itself alone. A link that is up stays as it is; a new "
        "path is used at the next connection, or when the link is lost, and at once where it is lost already. So a "
        "controller that came back under another name is found by that. The same goes for the mode, the baud rate and "
        "the address, and a message says when each is used."
    ),
    "DEVICE_BAUD_RATE": Meaning("Of the serial port. The controller's USB port does not care; a UART has 9600."),
    "DEVICE_ADDRESS": Meaning("Host and TCP port of a serial-to-network bridge. Both may be empty."),
    "DEVICE_PORT_SCAN": Meaning(
        "Looks for serial ports, and defines `SYSTEM_PORTS` anew.",
        {"Ok": "ports were found", "Alert": "no port was found"},
    ),
    "SYSTEM_PORTS": Meaning(
        "The serial ports of the machine on which the driver runs, those that udev names by their devices first. "
        "Choosing one sets `DEVICE_PORT`."
    ),
    "FOCUS_MOTION": Meaning("Which way relative moves go: inward is towards smaller positions."),
    "REL_FOCUS_POSITION": Meaning(
        "Move by that many steps from where the motor is, in the direction of `FOCUS_MOTION`.",
        {
            "Idle": "stopped by an abort, or overtaken by an absolute move",
            "Busy": "moving",
            "Ok": "arrived",
            "Alert": "refused, or the move failed: `ABS_FOCUS_POSITION` says how",
        },
    ),
    "ABS_FOCUS_POSITION": Meaning(
        "Where the motor is. To set it moves there; while the motor moves, the new target replaces the old one.",
        {
            "Idle": "at rest, where an abort stopped it",
            "Busy": "moving",
            "Ok": "at rest, where it was to go",
            "Alert": "refused; or the move failed (stalled, not there in time); or the controller does not answer, and "
            "this is the last position known; or it is unverified (see `FOCUS_LINK`); or outside the travel",
        },
    ),
    "FOCUS_MAX": Meaning(
        "The last position of the travel. A change reaches the ranges of all positions on every client; presets are "
        "moved into the travel, and a move that would leave it is stopped. With a configuration "
        "(`INDI_MULTIFOCUS_CONFIG`) the travel is at first its `limits`, or all that the controller counts: "
        f"±{max_steps(1)} steps in the first generation, ±{max_steps(2)} in the second.",
        {"Alert": "refused: it must be above `FOCUS_MIN`"},
    ),
    "FOCUS_MIN": Meaning(
        "The first position of the travel; else as `FOCUS_MAX`.", {"Alert": "refused: it must be below `FOCUS_MAX`"}
    ),
    "FOCUS_ABORT_MOTION": Meaning(
        "Stop this channel where it is. It overtakes whatever is under way.",
        {
            "Busy": "the controller does not answer; the stop is sent as soon as it does",
            "Ok": "the motor stands",
        },
    ),
    "FOCUS_SYNC": Meaning(
        "Call the place where the motor is by this number, within the travel; nothing moves. 0 becomes the "
        "controller's own zero, and is allowed whatever the travel. It is remembered at once, over restarts of driver "
        "and controller, and accepts a position that was unverified.",
        {
            "Busy": "the controller is being zeroed; orders that follow wait for it",
            "Ok": "done",
            "Alert": "refused, as it is while the motor moves; or the zero failed",
        },
    ),
    "FOCUS_REVERSE_MOTION": Meaning(
        "Count positions the other way. The place where the motor is keeps its number.",
        {"Alert": "refused, as it is while the motor moves"},
    ),
    "FOCUS_BACKLASH_TOGGLE": Meaning(
        "An outward move goes further by `FOCUS_BACKLASH_STEPS`, as far as the travel allows, and "
        "comes back. Both together are one move, Busy until its end, and an abort stops both."
    ),
    "FOCUS_BACKLASH_STEPS": Meaning("How far such a move goes beyond its target."),
    "FOCUS_TEMPERATURE": Meaning(
        "What the channel's own probe measures, in °C. Probes are read in turn, while no motor moves.",
        {
            "Idle": "not measured yet",
            "Ok": "measured",
            "Alert": "the probe does not answer; the temperature is the last one that it measured",
        },
    ),
    "FAN": Meaning(
        "The fans of the controller.",
        {"Busy": "the controller has not confirmed it yet", "Ok": "as shown"},
    ),
    "Presets": Meaning("Three positions to go to."),
    "Goto": Meaning(
        "Go to a preset.",
        {"Ok": "set out for it; `ABS_FOCUS_POSITION` says when it is there"},
    ),
    "TEMPERATURES": Meaning(
        "What all configured probes measure, in °C; empty where a probe was not read yet or does not answer.",
        {"Idle": "not measured yet", "Ok": "all probes answer", "Alert": "one does not answer"},
    ),
    "FOCUS_TARGET": Meaning(
        "Where the motor is to go; after an abort, where it stands. Its state is that of `ABS_FOCUS_POSITION`."
    ),
    "FOCUS_LINK": Meaning(
        "`LINK`: whether the controller answers. `POSITION`: whether the position is to be believed. Where power may "
        "have been lost in mid-move it is not (*unverified*): look at the focuser, then sync to where it is, or zero "
        "it.",
        {"Ok": "both lights are", "Alert": "one of them is"},
    ),
    "FOCUS_LINK_INFO": Meaning(
        "The same in words: *up*, or why there is no link; the firmware's generation, *1* or *2*; *verified* or "
        "*unverified*; how often the link was lost and came back. Its state is that of `FOCUS_LINK`."
    ),
}

# --- Asking the driver ----------------------------------------------------------------------------------------------

PROBE = "28FF641E8216C3D5"
LIMITS = (-500, 20_000)
"""Of the first channel, where something is configured."""


@dataclass
class Run:
    """What a driver of two channels defined and did."""

    channels: list[dict[str, ElementTree.Element]]
    """Of each channel the properties as they were first defined, in order."""
    at_start: set[str]
    """Names of the properties that are there from the start; then, of those that are there when all is connected."""
    connected: set[str]
    shared: set[str]
    """Names of those that both channels have in common."""
    saved: dict[str, str]
    """When each setting is saved."""

    def having(self, name: str) -> list[int]:
        """The channels that have the property."""
        return [number for number, defined in enumerate(self.channels, 1) if name in defined]


class Recorder(FocuserClient):
    """A client that keeps the definitions as they came."""

    def __init__(self, read_fd: int, write_fd: int) -> None:
        super().__init__(read_fd, write_fd)
        self._definitions: list[ElementTree.Element] = []

    def take(self, element: ElementTree.Element) -> None:
        """Take one whole message."""
        if element.tag.startswith("def"):
            self._definitions.append(element)
        super().take(element)

    def defined(self, device: str) -> dict[str, ElementTree.Element]:
        """The properties of a device as they were first defined, in order."""
        found: dict[str, ElementTree.Element] = {}
        for definition in self._definitions:
            if definition.get("device") == device:
                found.setdefault(str(definition.get("name")), definition)
        return found

    def wait_definition(self, device: str, name: str) -> None:
        """Read until the device has defined the property."""
        self.wait(lambda: name in self.defined(device), f"{device}.{name}")

    def set(self, device: str, name: str, values: Mapping[str, str]) -> None:
        """Set a property, and wait until that is done."""
        since = len(self.received)
        self.new(device, name, values)

        def states() -> list[str]:
            answers = [answer for answer in self.received[since:] if answer[:3] == ("set", device, name)]
            return [answer.state for answer in answers if answer.state != "Busy"]

        state = self.wait(states, f"an answer about {device}.{name}")[0]
        if state != "Ok":
            raise RuntimeError(f"{device}.{name} cannot be set to {values}")


@contextmanager
def own_surroundings() -> Iterator[Path]:
    """A home for the driver, none of the user's INDI settings, and a serial port whatever there is on this machine."""
    with tempfile.TemporaryDirectory() as home, mock.patch.dict(os.environ, {"HOME": home}):
        for name in [name for name in os.environ if name.startswith("INDI")]:
            del os.environ[name]
        with mock.patch("indi_multifocus.link_settings.list_ports", return_value=["{path}"]):
            with mock.patch("indi_multifocus.link_settings.BY_ID", f"{home}/none"):
                yield Path(home)


def run(generation: int, probe_of: int | None = None, limits: tuple[int, int] | None = None) -> Run:
    """Start a driver of two channels and a controller, connect them, and look.

    `probe_of`: the channel to which a configured probe belongs. `limits`: those of the first channel.
    """
    probes = () if probe_of is None else (Probe("{name}", "{label}", PROBE, probe_of),)
    settings = Settings(probes=probes, travel={} if limits is None else {1: limits})
    inside = DriverInside(settings, Recorder)
    with own_surroundings() as home, Simulator(generation=generation, probes={PROBE: 20.0}) as simulator:
        with inside as client:
            assert isinstance(client, Recorder)
            driver = inside.driver
            names = [focuser.device.name for focuser in driver.focusers]
            client.wait_definition(names[-1], "DEVICE_PORT_SCAN")
            at_start = set(client.defined(names[0]))
            client.set(names[0], "DEVICE_PORT", {"PORT": simulator.port})
            for name in names:
                client.set(name, "CONNECTION", {"CONNECT": "On"})
                client.wait_definition(name, "FOCUS_LINK_INFO")
            connected = {name for device in names for name in client.defined(device)}
            saved = find_saved(client, names[0], home / ".indi" / f"{names[0]}_config.xml")
            client.set(names[0], "DEVICE_PORT_SCAN", {"Scan Ports": "On"})
            client.wait_definition(names[-1], "SYSTEM_PORTS")
        one, other = [focuser.device for focuser in driver.focusers]
        channels = [client.defined(name) for name in names]
        shared = {name for name in channels[0] if one.vector(name) is other.vector(name)}
        return Run(channels, at_start, connected, shared, saved)


def find_saved(client: Recorder, device: str, path: Path) -> dict[str, str]:
    """When the settings of a device are saved. It has just connected."""

    def held() -> dict[str, ElementTree.Element]:
        # Files are written one after the other, and a zero is answered when its own is on the disk.
        client.set(device, "FOCUS_SYNC", {"FOCUS_SYNC_VALUE": "0"})
        return {str(vector.get("name")): vector for vector in ElementTree.parse(path).getroot()}

    on_connecting = held()
    client.set(device, "CONFIG_PROCESS", {"CONFIG_SAVE": "On"})
    settings = held()
    path.unlink()
    for name, vector in settings.items():
        values = {str(one.get("name")): (one.text or "").strip() for one in vector}
        client.set(device, name, {element: value for element, value in values.items() if value != "Off"})
    client.set(device, "CONFIG_PROCESS", {"CONFIG_LOAD": "On"})  # when it is done, so is what was sent before
    at_once = held()
    return {
        name: "on connecting" if name in on_connecting else "at once" if name in at_once else "by *Save*"
        for name in settings
    }


# --- Writing the page -----------------------------------------------------------------------------------------------

INTRO = """\
<!-- `make docs` writes this page from what the driver defines: change tools/property_reference.py, not this. -->

# INDI properties

Every channel of the controller is an INDI device of its own: `MultiFocus 1`, `MultiFocus 2`, … (The environment
variable `INDIDEV` replaces the first word, `labels` in the configuration the whole name.) Names, labels, groups,
formats, rules and order are those of libindi's focusers; what it has not is `FOCUS_MIN`, `FAN` and the group *Status*.

What a client sends is always answered by a `set…Vector` of the same property. Where nothing else is said below, its
state means:

{general_states}

Positions are whole steps. Fractions are rounded to the nearest one, halves up: 12.5, which INDI also writes as `12:30`,
is 13, and -12.5 is -12. Everywhere a place has the same number: *position = ±
controller's steps + offset*. `FOCUS_REVERSE_MOTION` sets the sign, `FOCUS_SYNC` the offset.

## Overview

*Shared*: it belongs to the one link, all channels show it, and a change on one is announced on all.
*Saved*: see [Saved settings](#saved-settings).
"""

SAVED = """\
## Saved settings

They are kept in `~/.indi/<device>_config.xml`, in libindi's format, or for all devices in the one file that
`INDICONFIG` names. They are loaded when the driver starts and when a channel connects.

| saved | |
| --- | --- |
| at once | whenever it is set, unless `SIMULATION` is on |
| on connecting | when a connection succeeds, unless `SIMULATION` is on |
| by *Save* | with all others, by `CONFIG_PROCESS` |

*Default* sets what the driver began with; shared settings are saved, loaded and deleted for all channels together. A
damaged file is a warning and the defaults, never the end of the driver.

A configuration (`INDI_MULTIFOCUS_CONFIG`) comes first: no saved value replaces its
{fixed}, or where it has `limits`, {limits}.

The position's sign and offset are no settings: they are remembered by themselves, for each controller and channel, in
`~/.indi/multifocus_<controller>_<channel>_state.json`.
"""

KINDS = {"Number": "number", "Switch": "switch", "Text": "text", "Light": "lights"}
ACCESS = {"ro": "read", "rw": "read, write", "": "read"}


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"|{'|'.join(f' {cell} ' if cell else ' ' for cell in line)}|\n" for line in lines)


class Reference:
    """What stands on the page, gathered from several drivers."""

    def __init__(self) -> None:
        self._full = run(2, probe_of=1)
        self._bare = run(2)
        self._first_generation = run(1, probe_of=1)
        self._limited = run(2, probe_of=2, limits=LIMITS)
        self._properties = self._full.channels[0]
        differing = sorted(set(self._properties) ^ set(MEANINGS))
        if differing:
            raise ValueError(f"the driver and MEANINGS do not have the same properties: {', '.join(differing)}")

    def page(self) -> str:
        """The whole page."""
        groups: dict[str, list[str]] = {}
        for name, vector in self._properties.items():
            groups.setdefault(str(vector.get("group")), []).append(name)
        parts = [INTRO.format(general_states=states(GENERAL_STATES).rstrip()), self._overview(groups)]
        for group, names in groups.items():
            parts += [f"## Group {group}\n", *map(self._section, names)]
        with_limits = Settings(source="any", travel={1: LIMITS}).fixes(1)
        fixed = Settings(source="any").fixes(1)
        parts.append(SAVED.format(fixed=self._listed(fixed), limits=self._listed(with_limits - fixed)))
        return "\n".join(parts)

    def _listed(self, names: Container[str]) -> str:
        return ", ".join(f"`{name}`" for name in self._properties if name in names)

    def _overview(self, groups: Mapping[str, list[str]]) -> str:
        rows = []
        for group, names in groups.items():
            for name in names:
                vector = self._properties[name]
                rows.append(
                    [
                        f"[`{name}`](#{name.lower()})",
                        group,
                        f"{KINDS[kind_of(vector)]} {vector.get('rule', '')}".strip(),
                        ACCESS[vector.get("perm", "")],
                        self._when(name),
                        "yes" if name in self._full.shared else "",
                        self._full.saved.get(name, ""),
                    ]
                )
        return table(["property", "group", "kind", "clients", "defined", "shared", "saved"], rows)

    def _when(self, name: str) -> str:
        """When it is defined."""
        if name in self._full.at_start:
            return "always"
        if name not in self._full.connected:
            return "when ports are found"
        conditions = ["connected"]
        if not self._first_generation.having(name):
            conditions.append("second generation")
        if self._limited.having(name) == [1]:
            conditions.append("first channel")
        if not self._bare.having(name):
            of_channel = self._limited.having(name) == [2]
            conditions.append("a channel with a probe" if of_channel else "probes configured")
        return ", ".join(conditions)

    def _section(self, name: str) -> str:
        vector, meaning = self._properties[name], MEANINGS[name]
        columns = {
            "element": [f"`{one.get('name')}`" for one in vector],
            "label": [one.get("label", "") for one in vector],
        }
        if kind_of(vector) == "Number":
            limited = self._limited.channels[0].get(name, vector)
            columns["format"] = [f"`{one.get('format')}`" for one in vector]
            columns["range"] = [range_text(one, other) for one, other in zip(vector, limited)]
            columns["step"] = [one.get("step", "0").lstrip("0") for one in vector]
        if name in self._full.saved:
            columns["default"] = [(one.text or "").strip() for one in self._bare.channels[0][name]]
        elements = table(list(columns), zip(*columns.values()))
        parts = [f"### {name}\n", f"**{vector.get('label')}.** {meaning.text}\n", elements]
        if meaning.states:
            parts.append(states(meaning.states))
        return "\n".join(parts)


def range_text(one: ElementTree.Element, limited: ElementTree.Element) -> str:
    """The range of a number, and what it follows: `limited` is the same number of a channel that has LIMITS."""
    (low, high), other = ends(one), ends(limited)
    shown = f"{low} … {high}"
    if other == (low, high):
        return shown
    if (low, high) == WHOLE_RANGE:
        return f"{shown}, or the configured `limits`"
    what = "the travel" if other == LIMITS else "the travel's length"
    return f"{what} ({shown} at first)"


def ends(number: ElementTree.Element) -> tuple[int, int]:
    """Both ends of a number's range."""
    return int(number.get("min", "")), int(number.get("max", ""))


def kind_of(vector: ElementTree.Element) -> str:
    """Number, Switch, Text or Light."""
    return vector.tag[len("def") : -len("Vector")]


def states(meanings: Mapping[str, str]) -> str:
    """The table of what states mean."""
    return table(["state", ""], [[state, text] for state, text in meanings.items()])


def main() -> int:
    """Returns the exit status."""
    check = "--check" in sys.argv[1:]
    path = Path(next((argument for argument in sys.argv[1:] if argument != "--check"), PAGE))
    text = Reference().page()
    if not check:
        path.write_text(text, encoding="utf-8")
    elif not path.exists() or path.read_text(encoding="utf-8") != text:
        print(f"{path.name} is not what the driver does: run make docs", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
