# SPDX-License-Identifier: GPL-3.0-or-later
"""Saved settings: CONFIG_PROCESS with libindi's files, in libindi's place, whatever has become of them.

The driver runs on pipes in this process, with a simulated controller on a pseudo-terminal. That the files are libindi's
is proven by libindi: its indi_simulator_focus reads what this driver wrote, and the other way round.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support import DEADLINE_S, DriverInside, DriverProcess, FocuserClient, IndiServer, Lines, eventually, libindi

from indi_multifocus.indi import NewVector, Text, TextVector
from indi_multifocus.settings.driver_settings import Settings
from indi_multifocus.settings.files import FileWriter
from indi_multifocus.settings.saved_properties import MAX_SIZE, SavedProperties
from indi_multifocus.simulator import Simulator

pytestmark = pytest.mark.usefixtures("no_thread_is_left")

ONE, TWO = "MultiFocus 1", "MultiFocus 2"
LIBINDI = "Focuser Simulator"

SAVED = {
    "DEBUG": ["ENABLE", "DISABLE"],
    "POLLING_PERIOD": ["PERIOD_MS"],
    "CONNECTION_MODE": ["CONNECTION_SERIAL", "CONNECTION_TCP"],
    "DEVICE_PORT": ["PORT"],
    "DEVICE_BAUD_RATE": ["9600", "19200", "38400", "57600", "115200", "230400"],
    "DEVICE_ADDRESS": ["ADDRESS", "PORT"],
    "FOCUS_REVERSE_MOTION": ["INDI_ENABLED", "INDI_DISABLED"],
    "FOCUS_MAX": ["FOCUS_MAX_VALUE"],
    "FOCUS_MIN": ["FOCUS_MIN_VALUE"],
    "FOCUS_BACKLASH_TOGGLE": ["INDI_ENABLED", "INDI_DISABLED"],
    "FOCUS_BACKLASH_STEPS": ["FOCUS_BACKLASH_VALUE"],
    "Presets": ["PRESET_1", "PRESET_2", "PRESET_3"],
}


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with Simulator(speed=3000.0) as started:
        yield started


@pytest.fixture
def folder(home: Path) -> Path:
    """Where libindi's drivers keep their files."""
    path = home / ".indi"
    path.mkdir()
    return path


@pytest.fixture
def file(folder: Path) -> Path:
    """The settings of the first channel, which are not there yet."""
    return folder / f"{ONE}_config.xml"


@contextmanager
def driver(simulator: Simulator | None = None, **settings: Any) -> Iterator[FocuserClient]:
    """The driver, with the first channel connected where there is a simulator."""
    port = {"port": simulator.port} if simulator is not None else {}
    with DriverInside(Settings(**{**port, **settings})) as client:
        if simulator is not None:
            client.connect(1)
        yield client


def ask(client: FocuserClient, name: str, values: Mapping[str, Any], device: str = ONE) -> None:
    """Set it, and expect it to be done."""
    answer = client.ask(device, name, values)
    assert answer.state == "Ok", answer


def press(client: FocuserClient, button: str, device: str = ONE) -> str:
    """Press a button of CONFIG_PROCESS; returns the state and the message that answer."""
    answer = client.ask(device, "CONFIG_PROCESS", {button: "On"})
    assert "On" not in answer.values.values()
    return f"{answer.state} {answer.message}"


def values(path: Path, device: str = ONE) -> dict[str, dict[str, str]]:
    """What a file of settings holds for a device, as any XML parser reads it."""
    root = ElementTree.parse(path).getroot()
    assert root.tag == "INDIDriver"
    found = {}
    for vector in root:
        kind = vector.tag[3:-6]
        assert vector.tag == f"new{kind}Vector"
        assert {element.tag for element in vector} == {f"one{kind}"}
        if vector.attrib["device"] == device:
            found[vector.attrib["name"]] = {one.attrib["name"]: (one.text or "").strip() for one in vector}
    return found


def vector(name: str, elements: Mapping[str, object], kind: str = "Number", device: str = ONE) -> str:
    ones = "".join(f"<one{kind} name='{one}'>\n{value}\n</one{kind}>\n" for one, value in elements.items())
    return f"<new{kind}Vector device='{device}' name='{name}'>\n{ones}</new{kind}Vector>\n"


def write(path: Path, *vectors: str) -> None:
    path.write_text(f"<INDIDriver>\n{''.join(vectors)}</INDIDriver>\n")


# Save and load


def test_all_settings_are_saved_in_libindi_s_place_and_form(simulator: Simulator, home: Path) -> None:
    with driver(simulator) as client:
        ask(client, "FOCUS_MAX", {"FOCUS_MAX_VALUE": 70000})
        ask(client, "Presets", {"PRESET_2": 1234})
        ask(client, "POLLING_PERIOD", {"PERIOD_MS": 250})
        assert press(client, "CONFIG_SAVE").startswith("Ok [INFO]")
    saved = values(home / ".indi" / f"{ONE}_config.xml")
    assert {name: list(elements) for name, elements in saved.items()} == SAVED
    assert saved["FOCUS_MAX"] == {"FOCUS_MAX_VALUE": "70000"}
    assert saved["Presets"] == {"PRESET_1": "0", "PRESET_2": "1234", "PRESET_3": "0"}
    assert saved["POLLING_PERIOD"] == {"PERIOD_MS": "250"}
    assert saved["DEVICE_PORT"] == {"PORT": simulator.port}


def test_what_was_saved_is_there_after_a_restart(simulator: Simulator) -> None:
    with driver(simulator) as client:
        ask(client, "FOCUS_BACKLASH_TOGGLE", {"INDI_ENABLED": "On"})
        ask(client, "FOCUS_BACKLASH_STEPS", {"FOCUS_BACKLASH_VALUE": 55})
        ask(client, "POLLING_PERIOD", {"PERIOD_MS": 250})
        ask(client, "DEVICE_BAUD_RATE", {"19200": "On"})
        press(client, "CONFIG_SAVE")
    with driver() as client:
        assert client.value(ONE, "POLLING_PERIOD", "PERIOD_MS") == "250"
        assert client.value(ONE, "DEVICE_PORT", "PORT") == simulator.port
        assert client.devices[ONE]["DEVICE_BAUD_RATE"].on == ["19200"]
        client.connect(1)
        client.settle(ONE)
        assert client.devices[ONE]["FOCUS_BACKLASH_TOGGLE"].on == ["INDI_ENABLED"]
        assert client.value(ONE, "FOCUS_BACKLASH_STEPS", "FOCUS_BACKLASH_VALUE") == "55"
        assert not [message for message in client.messages() if "[ERROR]" in message or "[WARNING]" in message]


def test_load_brings_back_what_was_saved(simulator: Simulator) -> None:
    with driver(simulator) as client:
        ask(client, "Presets", {"PRESET_1": 100})
        press(client, "CONFIG_SAVE")
        ask(client, "POLLING_PERIOD", {"PERIOD_MS": 777})
        ask(client, "DEBUG", {"ENABLE": "On"})
        assert press(client, "CONFIG_LOAD").startswith("Ok [INFO]")
        assert client.value(ONE, "POLLING_PERIOD", "PERIOD_MS") == "100"
        assert client.devices[ONE]["DEBUG"].on == ["DISABLE"]
        assert client.value(ONE, "Presets", "PRESET_1") == "100"


def test_default_brings_back_what_the_driver_began_with_and_leaves_the_file_alone(
    simulator: Simulator, file: Path
) -> None:
    with driver(simulator) as client:
        ask(client, "FOCUS_MAX", {"FOCUS_MAX_VALUE": 70000})
        ask(client, "FOCUS_REVERSE_MOTION", {"INDI_ENABLED": "On"})
        ask(client, "POLLING_PERIOD", {"PERIOD_MS": 777})
        press(client, "CONFIG_SAVE")
        before = file.read_bytes()
        assert press(client, "CONFIG_DEFAULT").startswith("Ok [INFO]")
        assert client.value(ONE, "FOCUS_MAX", "FOCUS_MAX_VALUE") == "100000"
        assert client.value(ONE, "POLLING_PERIOD", "PERIOD_MS") == "100"
        reverse = client.devices[ONE]["FOCUS_REVERSE_MOTION"]
        client.wait(lambda: reverse.on == ["INDI_DISABLED"], "the default, which is written down first")
    assert file.read_bytes() == before


@pytest.mark.parametrize("button", ["CONFIG_LOAD", "CONFIG_DEFAULT"])
def test_that_there_is_no_network_address_is_a_setting_too(simulator: Simulator, button: str) -> None:
    with driver(simulator) as client:
        assert press(client, "CONFIG_SAVE").startswith("Ok")
        assert client.ask(ONE, "DEVICE_ADDRESS", {"ADDRESS": "mill", "PORT": "4001"}).state == "Ok"
        since = len(client.received)
        assert press(client, button).startswith("Ok")
        assert client.devices[ONE]["DEVICE_ADDRESS"].values == {"ADDRESS": "", "PORT": ""}
        assert not [text for text in client.messages(since) if "[ERROR]" in text]


def test_purge_deletes_the_file_and_changes_nothing_else(simulator: Simulator, file: Path) -> None:
    with driver(simulator) as client:
        ask(client, "FOCUS_MAX", {"FOCUS_MAX_VALUE": 70000})
        eventually(file.exists, "the file")
        assert press(client, "CONFIG_PURGE").startswith("Ok [INFO]")
        assert not file.exists()
        assert client.value(ONE, "FOCUS_MAX", "FOCUS_MAX_VALUE") == "70000"
        assert "no configuration" in press(client, "CONFIG_PURGE")
    with driver(simulator) as client:
        assert client.value(ONE, "FOCUS_MAX", "FOCUS_MAX_VALUE") == "100000"


def test_loading_where_nothing_was_saved_is_no_success_as_with_libindi_and_changes_nothing(
    simulator: Simulator,
) -> None:
    with driver() as client:
        assert not client.messages(), "there need not be anything at the start"
        assert press(client, "CONFIG_LOAD") == "Alert [INFO] There is no saved configuration to load."
        assert client.value(ONE, "POLLING_PERIOD", "PERIOD_MS") == "100"


def test_two_buttons_at_once_are_refused(folder: Path) -> None:
    with driver() as client:
        answer = client.ask(ONE, "CONFIG_PROCESS", {"CONFIG_SAVE": "On", "CONFIG_PURGE": "On"})
        assert answer.state == "Alert"
        assert not list(folder.iterdir())


@pytest.mark.parametrize(
    ("name", "elements"),
    [
        ("FOCUS_MAX", {"FOCUS_MAX_VALUE": 5000}),
        ("FOCUS_MIN", {"FOCUS_MIN_VALUE": 10}),
        ("FOCUS_REVERSE_MOTION", {"INDI_ENABLED": "On"}),
        ("FOCUS_BACKLASH_TOGGLE", {"INDI_ENABLED": "On"}),
        ("FOCUS_BACKLASH_STEPS", {"FOCUS_BACKLASH_VALUE": 50}),
        ("Presets", {"PRESET_3": 99}),
    ],
)
def test_a_setting_of_the_focuser_outlives_the_driver_without_being_saved(
    simulator: Simulator, file: Path, name: str, elements: dict[str, Any]
) -> None:
    with driver(simulator) as client:
        ask(client, name, elements)
    with driver(simulator) as client:
        client.settle(ONE)
        for element, value in elements.items():
            assert client.value(ONE, name, element) == str(value)


def test_saving_one_setting_leaves_the_others_as_they_were_saved(simulator: Simulator, file: Path) -> None:
    write(file, vector("POLLING_PERIOD", {"PERIOD_MS": 333}), vector("FROM_THE_FUTURE", {"X": "<![CDATA[&]]>"}, "Text"))
    with driver(simulator) as client:
        ask(client, "POLLING_PERIOD", {"PERIOD_MS": 444})
        ask(client, "FOCUS_MAX", {"FOCUS_MAX_VALUE": 5000})
    saved = values(file)
    assert (saved["POLLING_PERIOD"], saved["FOCUS_MAX"]) == ({"PERIOD_MS": "333"}, {"FOCUS_MAX_VALUE": "5000"})
    assert saved["FROM_THE_FUTURE"] == {"X": "&"}


def test_settings_that_were_not_saved_are_kept_when_a_channel_connects(simulator: Simulator, file: Path) -> None:
    write(file, vector("POLLING_PERIOD", {"PERIOD_MS": 333}), vector("DEVICE_PORT", {"PORT": "/dev/ttyUSB9"}, "Text"))
    with DriverInside() as client:
        ask(client, "POLLING_PERIOD", {"PERIOD_MS": 444})
        client.set_port(simulator.port)
        client.connect(1)
        client.settle(ONE)
        assert client.value(ONE, "POLLING_PERIOD", "PERIOD_MS") == "444"
        assert client.value(ONE, "DEVICE_PORT", "PORT") == simulator.port


@pytest.mark.parametrize("low", [-9000, -100, 0, 99_999, 100_000, 200_000])
@pytest.mark.parametrize("length", [1, 500, 400_000])
def test_any_travel_loads_without_complaint(simulator: Simulator, file: Path, low: int, length: int) -> None:
    high = low + length
    write(file, vector("FOCUS_MAX", {"FOCUS_MAX_VALUE": high}), vector("FOCUS_MIN", {"FOCUS_MIN_VALUE": low}))
    with driver(simulator) as client:
        client.settle(ONE)
        found = (client.value(ONE, "FOCUS_MIN", "FOCUS_MIN_VALUE"), client.value(ONE, "FOCUS_MAX", "FOCUS_MAX_VALUE"))
        assert found == (str(low), str(high))
        outside = not low <= 0 <= high
        complaints = [text for text in client.messages() if "[ERROR]" in text and "is outside the travel" not in text]
        assert complaints == []
        assert (client.state(ONE, "ABS_FOCUS_POSITION") == "Alert") == outside


# What all channels share


def test_what_channels_share_is_saved_for_all_of_them(simulator: Simulator, folder: Path) -> None:
    with driver(simulator) as client:
        ask(client, "POLLING_PERIOD", {"PERIOD_MS": 333})
        press(client, "CONFIG_SAVE", TWO)
    for device in (ONE, TWO):
        saved = values(folder / f"{device}_config.xml", device)
        assert saved["POLLING_PERIOD"] == {"PERIOD_MS": "333"}
        assert saved["DEVICE_PORT"] == {"PORT": simulator.port}
    assert "FOCUS_MAX" not in values(folder / f"{ONE}_config.xml")


def test_purging_one_channel_forgets_what_it_shares_with_the_others_and_keeps_what_is_theirs(
    simulator: Simulator, folder: Path
) -> None:
    with driver(simulator) as client:
        client.connect(2)
        ask(client, "POLLING_PERIOD", {"PERIOD_MS": 333})
        press(client, "CONFIG_SAVE")
        ask(client, "FOCUS_MAX", {"FOCUS_MAX_VALUE": 5000}, TWO)
        press(client, "CONFIG_PURGE")
    assert not (folder / f"{ONE}_config.xml").exists()
    assert values(folder / f"{TWO}_config.xml", TWO) == {"FOCUS_MAX": {"FOCUS_MAX_VALUE": "5000"}}


def test_the_port_that_answered_is_saved_as_libindi_s_drivers_do(simulator: Simulator, file: Path) -> None:
    with DriverInside() as client:
        client.set_port(simulator.port)
        assert not file.exists()
        client.connect(1)
        eventually(file.exists, "the file")
        assert values(file)["DEVICE_PORT"] == {"PORT": simulator.port}


def test_a_port_that_does_not_answer_is_not_saved(file: Path) -> None:
    with DriverInside() as client:
        client.set_port("/dev/ttyNOTHING")
        client.fail_to_connect()
        assert not file.exists()


def test_nothing_is_saved_of_a_try_on_the_simulator_unless_the_user_saves_it(folder: Path, file: Path) -> None:
    with DriverInside() as client:
        ask(client, "SIMULATION", {"ENABLE": "On"})
        client.connect(1)
        ask(client, "FOCUS_MAX", {"FOCUS_MAX_VALUE": 5000})
        ask(client, "FOCUS_REVERSE_MOTION", {"INDI_ENABLED": "On"})
        assert not list(folder.iterdir())
        press(client, "CONFIG_SAVE")
        assert values(file)["FOCUS_MAX"] == {"FOCUS_MAX_VALUE": "5000"}
        assert "SIMULATION" not in values(file)


# Where it is kept


def test_indiconfig_names_one_file_for_all_channels(
    simulator: Simulator, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "here" / "my settings.xml"
    monkeypatch.setenv("INDICONFIG", str(path))
    with driver(simulator) as client:
        client.connect(2)
        ask(client, "FOCUS_MAX", {"FOCUS_MAX_VALUE": 5000})
        ask(client, "FOCUS_MAX", {"FOCUS_MAX_VALUE": 6000}, TWO)
    assert values(path)["FOCUS_MAX"] == {"FOCUS_MAX_VALUE": "5000"}
    assert values(path, TWO)["FOCUS_MAX"] == {"FOCUS_MAX_VALUE": "6000"}
    assert not list(folder.iterdir())
    with driver(simulator) as client:
        client.connect(2)
        client.settle(TWO)
        assert client.value(ONE, "FOCUS_MAX", "FOCUS_MAX_VALUE") == "5000"
        assert client.value(TWO, "FOCUS_MAX", "FOCUS_MAX_VALUE") == "6000"
        press(client, "CONFIG_PURGE")
    assert values(path) == {}
    assert values(path, TWO)["FOCUS_MAX"] == {"FOCUS_MAX_VALUE": "6000"}


def test_what_the_observatory_s_configuration_sets_no_saved_value_replaces(
    simulator: Simulator, file: Path, folder: Path
) -> None:
    hostile = (
        vector("DEVICE_PORT", {"PORT": "/dev/ttyUSB9"}, "Text"),
        vector("POLLING_PERIOD", {"PERIOD_MS": 333}),
        vector("FOCUS_MAX", {"FOCUS_MAX_VALUE": 90000}),
        vector("Presets", {"PRESET_1": 11}),
    )
    write(file, *hostile)
    with driver(simulator, source="clasp.json", travel={1: (-500, 500)}) as client:
        client.settle(ONE)
        assert client.value(ONE, "DEVICE_PORT", "PORT") == simulator.port
        assert client.value(ONE, "POLLING_PERIOD", "PERIOD_MS") == "100"
        assert client.value(ONE, "FOCUS_MAX", "FOCUS_MAX_VALUE") == "500"
        assert client.value(ONE, "Presets", "PRESET_1") == "11"
        press(client, "CONFIG_LOAD")
        assert client.value(ONE, "DEVICE_PORT", "PORT") == simulator.port
        assert client.value(ONE, "FOCUS_MAX", "FOCUS_MAX_VALUE") == "500"
    assert values(file)["DEVICE_PORT"] == {"PORT": "/dev/ttyUSB9"}


# libindi


@contextmanager
def libindi_simulator(home: Path) -> Iterator[FocuserClient]:
    """libindi's own focuser simulator, connected."""
    if libindi() < (1, 9):
        pytest.skip("the simulator of libindi 1.8 has not the properties that are set here")
    with IndiServer(home, beside=("indi_simulator_focus",)) as server:
        client = server.client()
        client.excused.add(LIBINDI)
        client.wait(lambda: client.property(LIBINDI, "DEVICE_PORT_SCAN"), "libindi's driver")
        client.new(LIBINDI, "CONNECTION", {"CONNECT": "On"})
        client.wait(lambda: client.property(LIBINDI, "DELAY"), "libindi's driver to connect")
        yield client


def test_a_file_that_libindi_wrote_is_understood(simulator: Simulator, folder: Path, file: Path) -> None:
    with libindi_simulator(folder.parent) as theirs:
        for name, elements in (
            ("FOCUS_MAX", {"FOCUS_MAX_VALUE": 80000}),
            ("FOCUS_BACKLASH_TOGGLE", {"INDI_ENABLED": "On"}),
            ("FOCUS_BACKLASH_STEPS", {"FOCUS_BACKLASH_VALUE": 70}),
            ("Presets", {"PRESET_1": 111, "PRESET_2": 222, "PRESET_3": 333}),
            ("POLLING_PERIOD", {"PERIOD_MS": 250}),
            ("DEVICE_PORT", {"PORT": simulator.port}),
            ("DEVICE_BAUD_RATE", {"57600": "On"}),
            ("CONFIG_PROCESS", {"CONFIG_SAVE": "On"}),
        ):
            since = len(theirs.received)
            theirs.new(LIBINDI, name, elements)
            assert theirs.next_set(LIBINDI, name, since).state == "Ok"
    file.write_text((folder / f"{LIBINDI}_config.xml").read_text().replace(LIBINDI, ONE))
    with driver() as client:
        assert client.value(ONE, "POLLING_PERIOD", "PERIOD_MS") == "250"
        assert client.value(ONE, "DEVICE_PORT", "PORT") == simulator.port
        assert client.devices[ONE]["DEVICE_BAUD_RATE"].on == ["57600"]
        client.connect(1)
        client.settle(ONE)
        assert client.value(ONE, "FOCUS_MAX", "FOCUS_MAX_VALUE") == "80000"
        assert client.devices[ONE]["FOCUS_BACKLASH_TOGGLE"].on == ["INDI_ENABLED"]
        assert client.value(ONE, "FOCUS_BACKLASH_STEPS", "FOCUS_BACKLASH_VALUE") == "70"
        assert client.devices[ONE]["Presets"].values == {"PRESET_1": "111", "PRESET_2": "222", "PRESET_3": "333"}
        assert not [text for text in client.messages() if "[ERROR]" in text or "[WARNING]" in text]


def test_libindi_understands_a_file_that_this_driver_wrote(simulator: Simulator, folder: Path, file: Path) -> None:
    with driver(simulator) as client:
        ask(client, "FOCUS_MAX", {"FOCUS_MAX_VALUE": 80000})
        ask(client, "Presets", {"PRESET_1": 111, "PRESET_2": 222, "PRESET_3": 333})
        ask(client, "POLLING_PERIOD", {"PERIOD_MS": 250})
        press(client, "CONFIG_SAVE")
    (folder / f"{LIBINDI}_config.xml").write_text(file.read_text().replace(ONE, LIBINDI))
    with libindi_simulator(folder.parent) as theirs:
        theirs.new(LIBINDI, "CONFIG_PROCESS", {"CONFIG_LOAD": "On"})
        theirs.wait_state(LIBINDI, "CONFIG_PROCESS", "Ok")
        assert theirs.value(LIBINDI, "FOCUS_MAX", "FOCUS_MAX_VALUE") == "80000"
        assert theirs.value(LIBINDI, "POLLING_PERIOD", "PERIOD_MS") == "250"
        assert theirs.value(LIBINDI, "DEVICE_PORT", "PORT") == simulator.port
        assert theirs.devices[LIBINDI]["Presets"].values == {"PRESET_1": "111", "PRESET_2": "222", "PRESET_3": "333"}


# Files that are not as they should be

GOOD = vector("POLLING_PERIOD", {"PERIOD_MS": 333})

DAMAGED = {
    "empty": b"",
    "no xml": b"POLLING_PERIOD=333\n",
    "no end": b"<INDIDriver>\n" + GOOD.encode(),
    "cut within a message": f"<INDIDriver>\n{GOOD}{GOOD[:60]}</INDIDriver>".encode(),
    "cut within a comment": f"<INDIDriver>\n{GOOD}<!-- </INDIDriver>".encode(),
    "another root": f"<INDI>\n{GOOD}</INDI>".encode(),
    "tags that cross": b"<INDIDriver><newNumberVector device='x' name='y'></oneNumber></newNumberVector></INDIDriver>",
    "binary": bytes(range(256)),
    "not utf-8": f"<INDIDriver>\n{GOOD.replace('333', 'ÿ')}</INDIDriver>".encode("latin-1"),
    "a billion laughs": b'<INDIDriver><!DOCTYPE x [<!ENTITY a "aaa">]>&a;</INDIDriver>',
    "huge": b"<INDIDriver>" + b" " * MAX_SIZE + b"</INDIDriver>",
    "a huge value": f"<INDIDriver>{vector('DEVICE_PORT', {'PORT': 'x' * 300_000}, 'Text')}</INDIDriver>".encode(),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_file_is_a_message_and_the_defaults(simulator: Simulator, file: Path, damage: str) -> None:
    file.write_bytes(DAMAGED[damage])
    with driver(simulator) as client:
        assert client.value(ONE, "POLLING_PERIOD", "PERIOD_MS") == "100"
        warning = client.wait_message("is damaged", device=ONE)
        assert warning.startswith("[WARNING] ")
        assert str(file) in warning
        assert "the defaults are used" in warning
        # The first connection replaces it by one that holds the port. A sync is answered when all before it is written.
        ask(client, "FOCUS_SYNC", {"FOCUS_SYNC_VALUE": 10})
        assert file.read_bytes() != DAMAGED[damage]
        file.write_bytes(DAMAGED[damage])
        refusal = press(client, "CONFIG_LOAD")
        assert refusal.startswith("Alert [ERROR]")
        assert "is damaged" in refusal
        assert "nothing was changed" in refusal
        assert client.value(ONE, "POLLING_PERIOD", "PERIOD_MS") == "100"
        client.move_and_wait(1, 50)
        assert press(client, "CONFIG_SAVE").startswith("Ok")
        assert values(file)["POLLING_PERIOD"] == {"PERIOD_MS": "100"}


def test_a_folder_in_the_file_s_place_is_a_message(simulator: Simulator, file: Path) -> None:
    file.mkdir()
    with driver(simulator) as client:
        client.wait_message("cannot read", device=ONE)
        for button, what in (("CONFIG_LOAD", "read"), ("CONFIG_SAVE", "write"), ("CONFIG_PURGE", "write")):
            answer = press(client, button)
            assert answer.startswith("Alert [ERROR]")
            assert f"cannot {what} {file}" in answer
        client.move_and_wait(1, 50)


def test_a_file_in_the_folder_s_place_is_a_message(simulator: Simulator, home: Path) -> None:
    (home / ".indi").write_text("")
    with driver(simulator) as client:
        assert "cannot write" in press(client, "CONFIG_SAVE")
        client.move(1, 50)
        eventually(lambda: simulator.position(1) == 50, "the motor to move all the same")


def test_settings_that_make_no_sense_are_refused_one_by_one(simulator: Simulator, file: Path) -> None:
    write(
        file,
        vector("POLLING_PERIOD", {"PERIOD_MS": "1e999"}),
        vector("FOCUS_MAX", {"FOCUS_MAX_VALUE": "nan"}),
        vector("FOCUS_MIN", {"FOCUS_MIN_VALUE": "many"}),
        vector("FOCUS_BACKLASH_STEPS", {"FOCUS_BACKLASH_VALUE": -5}),
        vector("FOCUS_BACKLASH_TOGGLE", {"INDI_ENABLED": "On", "INDI_DISABLED": "On"}, "Switch"),
        vector("DEVICE_PORT", {"PORT": "COM3; reboot"}, "Text"),
        vector("DEVICE_BAUD_RATE", {"12345": "On"}, "Switch"),
        vector("CONNECTION_MODE", {"CONNECTION_SERIAL": "Off"}, "Switch"),
        vector("DEVICE_ADDRESS", {"ADDRESS": "a b", "PORT": "x"}, "Text"),
        vector("Presets", {"PRESET_1": 40, "PRESET_2": 1e9}),
        vector("DEBUG", {"ENABLE": "On", "DISABLE": "Off"}, "Switch"),
    )
    with driver(simulator) as client:
        client.settle(ONE)
        assert client.value(ONE, "POLLING_PERIOD", "PERIOD_MS") == "100"
        assert client.value(ONE, "FOCUS_MAX", "FOCUS_MAX_VALUE") == "100000"
        assert client.value(ONE, "FOCUS_MIN", "FOCUS_MIN_VALUE") == "0"
        assert client.value(ONE, "FOCUS_BACKLASH_STEPS", "FOCUS_BACKLASH_VALUE") == "0"
        assert client.devices[ONE]["FOCUS_BACKLASH_TOGGLE"].on == ["INDI_DISABLED"]
        assert client.devices[ONE]["DEVICE_BAUD_RATE"].on == ["9600"]
        assert client.devices[ONE]["CONNECTION_MODE"].on == ["CONNECTION_SERIAL"]
        assert client.value(ONE, "DEVICE_ADDRESS", "ADDRESS") == ""
        assert client.value(ONE, "Presets", "PRESET_1") == "0"
        assert client.devices[ONE]["DEBUG"].on == ["ENABLE"]


HOSTILE = (
    vector("CONNECTION", {"CONNECT": "On"}, "Switch"),
    vector("ABS_FOCUS_POSITION", {"FOCUS_ABSOLUTE_POSITION": 500}),
    vector("REL_FOCUS_POSITION", {"FOCUS_RELATIVE_POSITION": 500}),
    vector("FOCUS_SYNC", {"FOCUS_SYNC_VALUE": 0}),
    vector("FOCUS_SYNC", {"FOCUS_SYNC_VALUE": 700}),
    vector("Presets", {"PRESET_1": 600, "PRESET_2": 600, "PRESET_3": 600}),
    vector("Goto", {"Preset 1": "On"}, "Switch"),
    vector("FOCUS_ABORT_MOTION", {"ABORT": "On"}, "Switch"),
    vector("FAN", {"INDI_ENABLED": "On"}, "Switch"),
    vector("SIMULATION", {"ENABLE": "On"}, "Switch"),
    vector("DEVICE_PORT_SCAN", {"Scan Ports": "On"}, "Switch"),
    vector("CONFIG_PROCESS", {"CONFIG_PURGE": "On"}, "Switch"),
    vector("ABS_FOCUS_POSITION", {"FOCUS_ABSOLUTE_POSITION": 500}, device=TWO),
    "<getProperties version='1.7'/>",
    "<setNumberVector device='MultiFocus 1' name='ABS_FOCUS_POSITION'><oneNumber name='FOCUS_ABSOLUTE_POSITION'>9"
    "</oneNumber></setNumberVector>",
)


def test_no_file_moves_zeroes_or_connects_anything(simulator: Simulator, folder: Path, file: Path) -> None:
    write(file, *HOSTILE)
    write(folder / f"{TWO}_config.xml", *(text.replace(ONE, TWO) for text in HOSTILE))
    orders = Lines(simulator)
    with driver(port=simulator.port) as client:
        client.settle(TWO)
        assert client.devices[ONE]["CONNECTION"].on == ["DISCONNECT"]
        assert client.devices[ONE]["SIMULATION"].on == ["DISABLE"]
        client.connect(1, 2)
        press(client, "CONFIG_LOAD")
        press(client, "CONFIG_LOAD", TWO)
        # A status after all this has been answered, so that an order before it would have come.
        client.abort(1)
        assert orders.orders() == [b"1S"]
        assert (client.position(1), client.position(2)) == (0, 0)
        assert client.value(ONE, "Presets", "PRESET_1") == "600"
        assert not simulator.fans
        assert file.exists()


@given(st.binary())
@example(b"<INDIDriver>")
@example(b"</INDIDriver><INDIDriver>")
def test_whatever_a_file_holds_is_settings_or_a_message(data: bytes) -> None:
    read(data)


@given(
    st.lists(st.tuples(st.integers(0, 600), st.integers(0, 30), st.binary(max_size=6)), min_size=1, max_size=4),
)
def test_a_good_file_with_anything_changed_is_settings_or_a_message(changes: list[tuple[int, int, bytes]]) -> None:
    data = bytearray(f"<INDIDriver>\n{''.join(HOSTILE[:5])}</INDIDriver>\n".encode())
    for at, length, new in changes:
        data[at : at + length] = new
    read(bytes(data))


def read(data: bytes) -> None:
    saved = SavedProperties(ONE, FileWriter(lambda report: None))
    os.makedirs(os.path.dirname(saved.path), exist_ok=True)
    with open(saved.path, "wb") as file:
        file.write(data)
    try:
        found = saved.read()
    except ValueError as damage:
        why = str(damage)
    else:
        assert all(message.device == ONE for message in found)
        return
    assert f"{saved.path} is damaged: " in why


TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"), max_size=30)


@given(TEXTS)
@example("socket://[fe80::1%eth0]:4001")
@example("\"<>&' ]]> <!-- ")
def test_any_text_is_read_as_it_was_saved(text: str) -> None:
    text = text.strip()
    writer = FileWriter(lambda report: None)
    SavedProperties(ONE, writer).write([TextVector("DEVICE_PORT", "Ports", "Connection", [Text("PORT", "Port", text)])])
    assert writer.close(DEADLINE_S)
    assert SavedProperties(ONE, writer).read() == [NewVector("Text", ONE, "DEVICE_PORT", (("PORT", text),))]


# Writing


def test_a_full_disk_leaves_the_old_file_and_no_other(
    simulator: Simulator, folder: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with driver(simulator) as client:
        press(client, "CONFIG_SAVE")
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
        ask(client, "POLLING_PERIOD", {"PERIOD_MS": 333})

        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            answer = press(client, "CONFIG_SAVE")
            assert answer.startswith("Alert [ERROR]")
            assert "No space left" in answer
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
        assert press(client, "CONFIG_SAVE").startswith("Ok")
        assert values(file)["POLLING_PERIOD"] == {"PERIOD_MS": "333"}


def test_a_driver_that_is_killed_while_it_saves_leaves_a_whole_file(home: Path, file: Path) -> None:
    for _ in range(4):
        with DriverProcess(home) as running:
            client = running.client
            client.settle(TWO)
            for period in range(100, 160):
                client.new(ONE, "POLLING_PERIOD", {"PERIOD_MS": period})
                client.new(ONE, "CONFIG_PROCESS", {"CONFIG_SAVE": "On"})
            client.wait_state(ONE, "CONFIG_PROCESS", "Ok")  # the first of them
            running.process.kill()
            running.wait()
        assert 100 <= int(values(file)["POLLING_PERIOD"]["PERIOD_MS"]) < 160
