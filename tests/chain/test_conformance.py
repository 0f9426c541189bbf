# SPDX-License-Identifier: GPL-3.0-or-later
"""Our channels held against libindi's own focusers: to a client, they are the same kind of device.

One indiserver runs this driver beside libindi's indi_simulator_focus, indi_moonlite_focus and indi_lynx_focus, and the
same script of orders is played to a device of each. Then every definition and every sequence of states that two have in
common must be the same, or stand in one of the tables below, with its reason. The second half asks libindi's clients.

The tables are about libindi 1.9.9, and say where 2.2.4 differs; what 1.8 does is not compared.

Neither of the three has hardware here: the Focuser Simulator needs none, FocusLynx has its own SIMULATION, and the
Moonlite driver talks to moonlite.py.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from configuration import configured
from moonlite import Moonlite
from pyindi import run_script
from support import DriverInside, FocuserClient, IndiServer, Property, Received, libindi

from indi_multifocus.settings.driver_settings import Probe, Settings
from indi_multifocus.simulator import Simulator

OURS, SIMULATOR, MOONLITE, LYNX = "MultiFocus 1", "Focuser Simulator", "MoonLite", "FocusLynx F1"
THEIRS = (SIMULATOR, MOONLITE, LYNX)

FASTER = 20.0
PROBE = Probe("rasa1", "RASA 1", "28FF641E8216C3D5", 1)

# --- What differs, and why ------------------------------------------------------------------------------------------

NOT_OFFERED = {
    "FOCUS_SPEED": "the controller has one speed",
    "DEVICE_AUTO_SEARCH": "nothing is searched: to try every port would talk to other people's instruments",
    "DEVICE_LAN_SEARCH": "nothing is searched",
    "CONNECTION_TYPE": "a serial-to-network bridge speaks TCP; UDP would lose commands",
    "USEJOYSTICK": "a joystick is a client's business",
    "SNOOP_JOYSTICK": "a joystick is a client's business",
}
"""What libindi's base classes offer to every focuser, and we do not."""

ADDED = {
    "FOCUS_MIN": "the controller counts below 0, so the travel has two ends",
    "FOCUS_TARGET": "where it is going; focusd shows it",
    "FOCUS_LINK": "whether the controller answers, and whether the position is to be believed",
    "FOCUS_LINK_INFO": "the same in words",
    "TEMPERATURES": "all probes of the box, beside the channel's own",
    "FAN": "the box has fans",
}
"""What we offer and none of the three does."""

HARDWARE = {
    SIMULATOR: {"Mode", "SEEING_SETTINGS", "FWHM", "DELAY"},
    MOONLITE: {"Step Mode", "T. Settings", "T. Compensate"},
    LYNX: {
        *("MODEL", "FOCUSNAME", "COMPENSATE MODE", "T. PARAMETERS", "T. COMPENSATION", "T. COMPENSATION @START"),
        *("STEP SIZE", "RESET", "STATUS", "GOTO", "HUB-INFO", "WIRED-INFO", "WIFI-INFO", "LED", "FOCUS_TIMER"),
    },
}
"""What belongs to the hardware of one driver."""


class Difference(NamedTuple):
    """What one of them does, what we do, and why; values are those that the comparison found."""

    theirs: Any
    ours: Any
    reason: str


DEFINITIONS: Mapping[tuple[str, str, str], Difference] = {
    ("FOCUS_TEMPERATURE", "permission", SIMULATOR): Difference(
        "rw", "ro", "the simulator lets a user choose the temperature; a probe measures it"
    ),
    ("DEVICE_BAUD_RATE", "on", LYNX): Difference(["115200"], ["9600"], "the FocusLynx hub has a rate of its own"),
}
"""By property, what of its definition, and driver."""

STATES: Mapping[tuple[str, str, str], Difference] = {
    **{
        ("connect", "CONNECTION", device): Difference(
            ["Ok"], ["Busy", "Ok"], "libindi blocks during the handshake; we say that it is under way"
        )
        for device in THEIRS
    },
    **{
        ("disconnect", "CONNECTION", device): Difference(
            ["Idle"], ["Busy", "Idle"], "libindi blocks while it closes the port; ours is Idle when others may use it"
        )
        for device in THEIRS
    },
    ("absolute move", "ABS_FOCUS_POSITION", SIMULATOR): Difference(
        ["Ok"], ["Busy", "Ok"], "the simulator moves while it handles the order, and so is never seen to move"
    ),
    **{
        ("relative move", "REL_FOCUS_POSITION", device): Difference(
            ["Ok"], ["Busy", "Ok"], "libindi sets it Busy and tells only ABS_FOCUS_POSITION; we tell both"
        )
        for device in THEIRS
    },
    **{
        ("no steps", "REL_FOCUS_POSITION", device): Difference(
            ["Alert"], ["Busy", "Ok"], "libindi refuses a move of no steps; to us it is one that is done soon"
        )
        for device in THEIRS
    },
}
"""By scene, property, and driver."""

AS_OURS_IN_2 = {("relative move", "REL_FOCUS_POSITION", device) for device in (MOONLITE, LYNX)}
"""Of these, what libindi 2.2.4 does as we do; some 2.x before it may not yet."""

RELATIVE_RANGE = Difference(
    (0, 30_000, 600), (0, 60_000, 1200), "libindi refuses steps beyond half the travel; we can go it all at once"
)
"""Of REL_FOCUS_POSITION, where the travel is 0 to 60000."""

SYSTEM_PORTS = {
    "kind": "Switch",
    "label": "System Ports",
    "group": "Connection",
    "permission": "rw",
    "rule": "AtMostOne",
    "timeout": "60",
    "state": "Idle",
    "on": [],
}
"""As indi_simulator_focus and indi_moonlite_focus 1.9.9 define it where there are serial ports, which there need not be
where this is tested."""

# --- What is played -------------------------------------------------------------------------------------------------


class Scene(NamedTuple):
    """One order, and when it is done with: when this property has this state."""

    name: str
    order: tuple[str, Mapping[str, Any]]
    until: tuple[str, str]
    watched: tuple[str, ...]
    """Properties whose states are compared."""
    needs: str = ""
    """A property without which there is nothing to play."""
    arrives: str = ""
    """The position that must have been reached by then, too."""


ABSOLUTE, RELATIVE, ABORT = "ABS_FOCUS_POSITION", "REL_FOCUS_POSITION", "FOCUS_ABORT_MOTION"
POSITIONS = (ABSOLUTE, "FOCUS_SYNC", "Presets")


def to(position: int) -> tuple[str, Mapping[str, Any]]:
    return ABSOLUTE, {"FOCUS_ABSOLUTE_POSITION": position}


def by(steps: int) -> tuple[str, Mapping[str, Any]]:
    return RELATIVE, {"FOCUS_RELATIVE_POSITION": steps}


SCENES = (
    Scene("absolute move", to(600), (ABSOLUTE, "Ok"), (ABSOLUTE,), arrives="600"),
    Scene("outward", ("FOCUS_MOTION", {"FOCUS_OUTWARD": "On"}), ("FOCUS_MOTION", "Ok"), ("FOCUS_MOTION",)),
    Scene("relative move", by(100), (RELATIVE, "Ok"), (ABSOLUTE, RELATIVE), arrives="700"),
    Scene("too far", to(100_000_000), (ABSOLUTE, "Alert"), (ABSOLUTE, RELATIVE)),
    Scene("too far by steps", by(100_000_000), (RELATIVE, "Alert"), (RELATIVE,)),
    Scene("no steps", by(0), (RELATIVE, ""), (RELATIVE,)),
    Scene("move to abort", to(50_000), (ABSOLUTE, "Busy"), (ABSOLUTE,), needs=ABORT),
    Scene("abort", (ABORT, {"ABORT": "On"}), (ABORT, "Ok"), (ABORT, ABSOLUTE, RELATIVE)),
    Scene("sync", ("FOCUS_SYNC", {"FOCUS_SYNC_VALUE": 500}), ("FOCUS_SYNC", "Ok"), ("FOCUS_SYNC",)),
    Scene("new travel", ("FOCUS_MAX", {"FOCUS_MAX_VALUE": 60_000}), ("FOCUS_MAX", "Ok"), ("FOCUS_MAX",)),
    Scene("presets", ("Presets", {"PRESET_1": 450}), ("Presets", "Ok"), ("Presets",)),
    Scene("go to preset", ("Goto", {"Preset 1": "On"}), ("Goto", "Ok"), ("Goto",), arrives="450"),
    Scene(
        "reverse",
        ("FOCUS_REVERSE_MOTION", {"INDI_ENABLED": "On"}),
        ("FOCUS_REVERSE_MOTION", "Ok"),
        ("FOCUS_REVERSE_MOTION",),
    ),
    Scene(
        "backlash",
        ("FOCUS_BACKLASH_TOGGLE", {"INDI_ENABLED": "On"}),
        ("FOCUS_BACKLASH_TOGGLE", "Ok"),
        ("FOCUS_BACKLASH_TOGGLE",),
    ),
    Scene(
        "backlash steps",
        ("FOCUS_BACKLASH_STEPS", {"FOCUS_BACKLASH_VALUE": 40}),
        ("FOCUS_BACKLASH_STEPS", "Ok"),
        ("FOCUS_BACKLASH_STEPS",),
    ),
    Scene("debug", ("DEBUG", {"ENABLE": "On"}), ("DEBUG", "Ok"), ("DEBUG",)),
    Scene("no debug", ("DEBUG", {"DISABLE": "On"}), ("DEBUG", "Ok"), ("DEBUG",)),
    Scene("save", ("CONFIG_PROCESS", {"CONFIG_SAVE": "On"}), ("CONFIG_PROCESS", "Ok"), ("CONFIG_PROCESS",)),
    Scene("load", ("CONFIG_PROCESS", {"CONFIG_LOAD": "On"}), ("CONFIG_PROCESS", "Ok"), ("CONFIG_PROCESS",)),
    Scene("purge", ("CONFIG_PROCESS", {"CONFIG_PURGE": "On"}), ("CONFIG_PROCESS", "Ok"), ("CONFIG_PROCESS",)),
    Scene("load nothing", ("CONFIG_PROCESS", {"CONFIG_LOAD": "On"}), ("CONFIG_PROCESS", ""), ("CONFIG_PROCESS",)),
    Scene("scan", ("DEVICE_PORT_SCAN", {"Scan Ports": "On"}), ("DEVICE_PORT_SCAN", ""), ("DEVICE_PORT_SCAN",)),
    Scene("disconnect", ("CONNECTION", {"DISCONNECT": "On"}), ("CONNECTION", "Idle"), ("CONNECTION",)),
)


@dataclass
class Record:
    """What one device sent."""

    device: str
    unconnected: dict[str, Property] = field(default_factory=dict)
    """By name, in the order of their definitions."""
    network: dict[str, Property] = field(default_factory=dict)
    """What libindi's drivers define in place of some of these, when they are to connect by TCP."""
    connected: dict[str, Property] = field(default_factory=dict)
    scenes: dict[str, list[Received]] = field(default_factory=dict)
    before: dict[str, dict[str, str]] = field(default_factory=dict)
    """States before a scene."""
    after: dict[str, dict[str, Property]] = field(default_factory=dict)
    """What a client knows after a scene."""

    def states(self, scene: str, name: str) -> list[str]:
        """The states that a property went through."""
        states = [answer.state for answer in self.scenes[scene] if answer.name == name and answer.kind == "set"]
        states = [state for state, _ in groupby(states)]
        # What went before is sent again: a position on the way; and by FocusLynx, whatever there is, with each poll.
        again = len(states) > 1 and states[0] == self.before[scene].get(name)
        return states[1:] if again and (states[0] == "Busy" or self.device == LYNX) else states


def defined(received: list[Received], properties: Mapping[str, Property]) -> dict[str, Property]:
    """The properties that were defined by these messages, in their order, and as they were then."""
    definitions = {message.name: message for message in received if message.kind == "def"}
    return {
        name: replace(copy.deepcopy(properties[name]), state=message.state, values=dict(message.values))
        for name, message in definitions.items()
        if name in properties
    }


def all_definitions(client: FocuserClient, device: str) -> list[Received]:
    """The definitions of a device that is not connected yet, in their order, which begins with CONNECTION.

    The client may have come in the midst of the first ones, so it waits for a row that has them all.
    """

    def longest() -> list[Received]:
        rows: list[list[Received]] = []
        for message in client.received:
            if message[:3] == ("def", device, "CONNECTION"):
                rows.append([])
            if rows and message[:2] == ("def", device):
                rows[-1].append(message)
        found = max(rows, key=len, default=[])
        return found if {message.name for message in found} == set(client.devices.get(device, ())) else []

    return client.wait(longest, f"all that {device} defines")


def settle(client: FocuserClient, device: str) -> None:
    """Read until the device has answered all that was sent before."""
    since = len(client.received)
    client.get_properties(device, "CONNECTION")
    client.wait(
        lambda: any(answer[:3] == ("def", device, "CONNECTION") for answer in client.received[since:]),
        f"{device} to answer",
    )


def ask(client: FocuserClient, device: str, name: str, values: Mapping[str, Any]) -> None:
    """Set it, and expect it to be done."""
    settle(client, device)
    since = len(client.received)
    client.new(device, name, values)
    assert client.next_set(device, name, since).state == "Ok"


def prepare(client: FocuserClient, device: str, simulator: Simulator, moonlite: Moonlite) -> None:
    """What each needs in order to connect."""
    if device == OURS:
        client.set_port(simulator.port)
    elif device == MOONLITE:
        ask(client, device, "CONNECTION_MODE", {"CONNECTION_TCP": "On"})
        ask(client, device, "DEVICE_ADDRESS", {"ADDRESS": moonlite.host, "PORT": str(moonlite.port)})
    elif device == LYNX:
        ask(client, device, "SIMULATION", {"ENABLE": "On"})
        ask(client, device, "MODEL", {"Optec Leo": "On"})
    ask(client, device, "POLLING_PERIOD", {"PERIOD_MS": 50})


def play(client: FocuserClient, device: str, scene: Scene) -> list[Received] | None:
    """Send the order and wait until it is done with; None where the device has no such property."""
    name, values = scene.order
    if any(client.property(device, needed) is None for needed in (name, scene.needs or name)):
        return None
    settle(client, device)
    since = len(client.received)
    client.new(device, name, values)
    last, state = scene.until

    def done() -> bool:
        states = [answer.state for answer in client.received[since:] if answer[1:3] == (device, last)]
        if scene.arrives not in ("", client.value(device, ABSOLUTE, "FOCUS_ABSOLUTE_POSITION")):
            return False
        return bool(states) and states[-1] in ((state,) if state else ("Ok", "Alert"))

    client.wait(done, f"{device} to be done with {scene.name}")
    settle(client, device)
    return [answer for answer in client.received[since:] if answer.device == device]


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Record]:
    """What each device sent."""
    if libindi() < (1, 9):
        pytest.skip("the tables are about the drivers of libindi 1.9 and 2")
    found: dict[str, Record] = {}
    drivers = ("indi_simulator_focus", "indi_moonlite_focus", "indi_lynx_focus")
    home = tmp_path_factory.mktemp("conformance")
    with Simulator(speed=FASTER) as simulator, Moonlite(steps_per_s=2000.0) as moonlite:
        with IndiServer(home, beside=drivers) as server:
            client = server.client()
            client.excused.update((*THEIRS, "FocusLynx F2"))
            for device in (OURS, *THEIRS):
                found[device] = record(client, device, simulator, moonlite)
    return found


def record(client: FocuserClient, device: str, simulator: Simulator, moonlite: Moonlite) -> Record:
    there = Record(device)
    client.wait(lambda: client.property(device, "DEVICE_PORT_SCAN"), f"{device} to be defined")
    there.unconnected = defined(all_definitions(client, device), client.devices[device])
    settle(client, device)
    since = len(client.received)
    prepare(client, device, simulator, moonlite)
    if device == MOONLITE:
        there.network = defined(
            [answer for answer in client.received[since:] if answer.device == device], client.devices[device]
        )
    since = len(client.received)
    there.before["connect"] = {}
    connecting = play(client, device, Scene("connect", ("CONNECTION", {"CONNECT": "On"}), ("CONNECTION", "Ok"), ()))
    assert connecting is not None
    there.scenes["connect"] = connecting
    client.wait(lambda: client.property(device, "Goto"), f"{device} to define what it offers")
    settle(client, device)
    offered = defined([answer for answer in client.received[since:] if answer.device == device], client.devices[device])
    there.connected = {
        name: offered[name] for name in offered if name not in there.unconnected and name not in there.network
    }
    if device == SIMULATOR:
        ask(client, device, "DELAY", {"DELAY_VALUE": 0})
    for scene in SCENES:
        there.before[scene.name] = {name: found.state for name, found in client.devices[device].items()}
        received = play(client, device, scene)
        if received is not None:
            there.scenes[scene.name] = received
            there.after[scene.name] = copy.deepcopy(client.devices[device])
    return there


@pytest.fixture(scope="module")
def with_probe(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Property]:
    """What a channel defines that has a thermometer, which only a configuration can give it."""
    with pytest.MonkeyPatch.context() as patch, Simulator(probes={PROBE.address: 20.0}) as simulator:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("probe")))
        with DriverInside(Settings(port=simulator.port, probes=(PROBE,))) as client:
            client.connect(1)
            return copy.deepcopy(client.devices[OURS])


# --- What is compared -----------------------------------------------------------------------------------------------


def aspects(one: Property) -> dict[str, Any]:
    """What of a definition is compared."""
    return {
        "kind": one.kind,
        "label": one.label,
        "group": one.group,
        "permission": one.permission,
        "rule": one.rule,
        "timeout": one.timeout,
        "state": one.state,
        "on": one.on,
        "elements": list(one.values),
        "labels": one.labels,
        "formats": one.formats,
    }


@pytest.mark.parametrize("device", THEIRS)
def test_what_both_define_is_defined_alike(
    records: dict[str, Record], with_probe: dict[str, Property], device: str
) -> None:
    ours = {**with_probe, **records[OURS].unconnected, **records[OURS].connected}
    theirs = {**records[device].unconnected, **records[device].network, **records[device].connected}
    common = [name for name in theirs if name in ours]
    assert len(common) >= 16
    different = {
        (name, what, device): (wanted, aspects(ours[name])[what])
        for name in common
        for what, wanted in aspects(theirs[name]).items()
        if wanted != aspects(ours[name])[what]
    }
    assert different == {key: value[:2] for key, value in DEFINITIONS.items() if key[2] == device}


def test_the_ports_of_the_machine_are_offered_as_libindi_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("indi_multifocus.link_settings.list_ports", lambda: ["/dev/ttyUSB7", "/dev/ttyACM3"])
    with DriverInside() as client:
        client.ask(OURS, "DEVICE_PORT_SCAN", {"Scan Ports": "On"})
        client.wait(lambda: client.property(OURS, "SYSTEM_PORTS"), "ports")
        ours = aspects(client.devices[OURS]["SYSTEM_PORTS"])
    # libindi calls them ttyUSB7 and ttyACM3; a path is what DEVICE_PORT takes.
    assert [ours.pop("elements"), ours.pop("labels"), ours.pop("formats")] == [
        ["/dev/ttyUSB7", "/dev/ttyACM3"],
        {"/dev/ttyUSB7": "/dev/ttyUSB7", "/dev/ttyACM3": "/dev/ttyACM3"},
        {},
    ]
    assert ours == SYSTEM_PORTS


@pytest.mark.parametrize("device", THEIRS)
def test_what_both_define_comes_in_the_same_order(records: dict[str, Record], device: str) -> None:
    for ours, theirs in (
        (records[OURS].unconnected, records[device].unconnected),
        (records[OURS].connected, records[device].connected),
    ):
        assert [name for name in ours if name in theirs] == [name for name in theirs if name in ours]


@pytest.mark.parametrize("device", THEIRS)
def test_what_only_one_of_them_offers_is_known_and_has_its_reason(
    records: dict[str, Record], with_probe: dict[str, Property], device: str
) -> None:
    ours = {*with_probe, *records[OURS].unconnected, *records[OURS].connected}
    theirs = {*records[device].unconnected, *records[device].network, *records[device].connected}
    assert theirs - ours - HARDWARE[device] <= set(NOT_OFFERED)
    every_one = {
        name
        for other in THEIRS
        for name in (*records[other].unconnected, *records[other].network, *records[other].connected)
    }
    assert ours - every_one == set(ADDED)
    assert set(NOT_OFFERED) <= every_one


def test_what_one_of_them_offers_before_the_connection_so_do_we(records: dict[str, Record]) -> None:
    for device in THEIRS:
        offered = (*records[device].unconnected, *records[device].network)
        common = [name for name in offered if name not in (*NOT_OFFERED, *HARDWARE[device])]
        assert [name for name in common if name not in records[OURS].unconnected] == []


@pytest.mark.parametrize("device", THEIRS)
def test_orders_lead_through_the_same_states(records: dict[str, Record], device: str) -> None:
    different = {}
    for scene in (Scene("connect", ("", {}), ("", ""), ("CONNECTION",)), *SCENES):
        if scene.name in records[device].scenes:
            for name in scene.watched:
                ours, theirs = (records[who].states(scene.name, name) for who in (OURS, device))
                if ours != theirs:
                    different[scene.name, name, device] = (theirs, ours)
    expected = {key: value[:2] for key, value in STATES.items() if key[2] == device}
    if libindi() >= (2,):
        expected = {key: value for key, value in expected.items() if key in different or key not in AS_OURS_IN_2}
    assert different == expected


def test_every_order_was_played_to_us_and_to_one_of_them(records: dict[str, Record]) -> None:
    names = {scene.name for scene in SCENES}
    assert names <= set(records[OURS].scenes)
    assert names <= {name for device in THEIRS for name in records[device].scenes}


@pytest.mark.parametrize("device", [OURS, *THEIRS])
def test_what_is_refused_changes_no_value_and_is_reported_as_an_error(records: dict[str, Record], device: str) -> None:
    there = records[device]
    for scene in ("too far", "too far by steps"):
        assert [answer.message[:8] for answer in there.scenes[scene] if answer.message] == ["[ERROR] "]
        assert there.after[scene][ABSOLUTE].values == {"FOCUS_ABSOLUTE_POSITION": "700"}
    for scene in ("too far by steps",):
        assert float(there.after[scene][RELATIVE].values["FOCUS_RELATIVE_POSITION"]) == 100


@pytest.mark.parametrize("device", [OURS, *THEIRS])
def test_a_new_travel_reaches_the_ranges_of_all_positions(records: dict[str, Record], device: str) -> None:
    after = records[device].after["new travel"]
    for name in POSITIONS:
        if name in after:
            for found in after[name].ranges.values():
                assert found == (0, 60_000, 1200)
    relative = RELATIVE_RANGE.ours if device == OURS else RELATIVE_RANGE.theirs
    assert after[RELATIVE].ranges == {"FOCUS_RELATIVE_POSITION": relative}


@pytest.mark.parametrize("device", [OURS, *THEIRS])
def test_a_button_that_was_pressed_is_up_again(records: dict[str, Record], device: str) -> None:
    after = records[device].after
    config = [(scene, "CONFIG_PROCESS") for scene in ("save", "load", "purge", "load nothing")]
    for scene, name in (("abort", ABORT), *config):
        if scene in after:
            assert after[scene][name].on == []


@pytest.mark.parametrize("device", [OURS, *THEIRS])
def test_a_preset_that_is_gone_to_stays_chosen(records: dict[str, Record], device: str) -> None:
    after = records[device].after["go to preset"]
    assert after["Goto"].on == ["Preset 1"]
    assert after[ABSOLUTE].values == {"FOCUS_ABSOLUTE_POSITION": "450"}


@pytest.mark.parametrize("device", [OURS, *THEIRS])
def test_a_connection_is_published_first_and_then_what_it_gives(records: dict[str, Record], device: str) -> None:
    answers = records[device].scenes["connect"]
    connected = next(at for at, answer in enumerate(answers) if answer[:4] == ("set", device, "CONNECTION", "Ok"))
    assert [answer for answer in answers[:connected] if answer.kind == "def"] == []
    assert {answer.name for answer in answers[connected:] if answer.kind == "def"} >= set(records[device].connected)


@pytest.mark.parametrize("device", THEIRS)
def test_a_disconnection_is_published_first_and_then_takes_back_what_the_connection_gave(
    records: dict[str, Record], device: str
) -> None:
    for who in (OURS, device):
        sent = [(message.kind, message.name) for message in records[who].scenes["disconnect"]]
        there = [name for kind, name in sent if kind == "del" and name in records[OURS].connected]
        assert sent.index(("set", "CONNECTION")) < sent.index(("del", there[0]))
        assert there == [name for name in records[who].connected if name in there]
        assert set(there) == set(records[OURS].connected) & set(records[who].connected)


# --- libindi's clients ----------------------------------------------------------------------------------------------


@pytest.fixture
def server(home: Path) -> Iterator[IndiServer]:
    """indiserver with this driver alone, both channels connected, and a thermometer."""
    with Simulator(speed=FASTER, probes={PROBE.address: 20.0}) as simulator:
        probe = {"label": PROBE.label, "address": PROBE.address, "channel": 1}
        extra = configured(
            home / "multifocus.json",
            simulator.port,
            limits={"1": [-500, 20_000]},
            temperature_probes={PROBE.name: probe},
        )
        with IndiServer(home, extra) as started:
            client = started.client()
            # What is sent to a device that indiserver does not know goes nowhere.
            client.wait(lambda: client.property("MultiFocus 2", "DEVICE_PORT_SCAN"), "both channels")
            client.connect(1, 2)
            yield started


def test_indi_getprop_prints_every_property_and_no_complaint(server: IndiServer) -> None:
    """-m: also what devices say to people. It ends when nothing has come for the time of -t."""
    with_messages = server.run("indi_getprop", "-m", "-t", "1")
    assert (with_messages.returncode, with_messages.stderr) == (0, "")
    printed = with_messages.stdout.splitlines()
    assert "MultiFocus 1.ABS_FOCUS_POSITION.FOCUS_ABSOLUTE_POSITION=0" in printed
    assert "MultiFocus 2.FOCUS_LINK_INFO.LINK=up" in printed
    assert [line for line in printed if not re.fullmatch(r"MultiFocus [12]\.[^.]+\.[^=]+=.*", line)] == []


def test_indi_getprop_finds_each_attribute_of_each_property(server: IndiServer) -> None:
    attributes = ("_LABEL", "_GROUP", "_STATE", "_PERM", "_TO", "_TS")
    client = server.client()
    client.wait(lambda: client.property(OURS, "FOCUS_LINK_INFO"), "all properties")
    asked = [
        f"{OURS}.{name}.{attribute}"
        for name, found in client.devices[OURS].items()
        for attribute in attributes
        if found.kind != "Light" or attribute not in ("_PERM", "_TO")
    ]
    answer = server.run("indi_getprop", *asked)
    assert (answer.returncode, answer.stderr) == (0, "")
    found = dict(line.partition("=")[::2] for line in answer.stdout.splitlines())
    assert list(found) == asked
    assert found[f"{OURS}.ABS_FOCUS_POSITION._LABEL"] == "Absolute Position"
    assert found[f"{OURS}.ABS_FOCUS_POSITION._PERM"] == "rw"


def test_indi_eval_computes_with_the_driver_s_properties(server: IndiServer) -> None:
    position = f'"{OURS}.ABS_FOCUS_POSITION.FOCUS_ABSOLUTE_POSITION"'
    state = f'"{OURS}.ABS_FOCUS_POSITION._STATE"'
    moved = server.run("indi_setprop", f"{OURS}.ABS_FOCUS_POSITION.FOCUS_ABSOLUTE_POSITION=120")
    assert (moved.returncode, moved.stderr) == (0, "")
    # -w: wait until it is true. 1 is Ok, by its place in Idle, Ok, Busy, Alert.
    done = server.run("indi_eval", "-w", "-t", "15", f"{position}==120 && {state}==1")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(find_spec("PyIndi") is None, reason="pyindi-client is not installed")
def test_libindi_s_client_library_understands_all_that_the_driver_says(server: IndiServer, home: Path) -> None:
    """It prints a line for each message that it cannot make sense of; of its chatter only what is listed is allowed."""
    client = server.client()
    client.wait(lambda: client.property(OURS, "FOCUS_LINK_INFO"), "all properties")
    done = run_script(USE, home, server.port, OURS, "MultiFocus 2", str(len(client.devices[OURS])))
    assert done.returncode == 0, done.stdout + done.stderr
    chatter = re.compile(r"INDI::BaseClient::(connectServer|disconnectServer): .*|found \d+ properties|moved", re.ASCII)
    assert [line for line in (done.stdout + done.stderr).splitlines() if not chatter.fullmatch(line)] == []
    assert "moved" in done.stdout


USE = """
one, two, count = sys.argv[2:]

def number(device, name):
    return client.getDevice(device).getNumber(name)

until(lambda: client.getDevice(one) and len(client.getDevice(one).getProperties()) >= int(count))
until(lambda: client.getDevice(two) and number(two, "ABS_FOCUS_POSITION"))
print(f"found {len(client.getDevice(one).getProperties())} properties", flush=True)
assert client.getDevice(one).getDriverInterface() & PyIndi.BaseDevice.FOCUSER_INTERFACE

wanted = number(one, "FOCUS_MAX")
wanted[0].setValue(5000)
client.sendNewNumber(wanted)
until(lambda: number(one, "ABS_FOCUS_POSITION")[0].getMax() == 5000)

wanted = number(one, "ABS_FOCUS_POSITION")
wanted[0].setValue(99999999)
client.sendNewNumber(wanted)
until(lambda: number(one, "ABS_FOCUS_POSITION").getState() == PyIndi.IPS_ALERT)

wanted = number(one, "ABS_FOCUS_POSITION")
wanted[0].setValue(150)
client.sendNewNumber(wanted)
until(lambda: number(one, "ABS_FOCUS_POSITION").getState() == PyIndi.IPS_OK)
assert number(one, "ABS_FOCUS_POSITION")[0].getValue() == 150

switch = client.getDevice(one).getSwitch("CONNECTION")
switch[0].setState(PyIndi.ISS_OFF)
switch[1].setState(PyIndi.ISS_ON)
client.sendNewSwitch(switch)
until(lambda: not number(one, "ABS_FOCUS_POSITION"))
print("moved", flush=True)
"""
