# SPDX-License-Identifier: GPL-3.0-or-later
"""What an INDI client sees of the driver: properties, states and messages, over pipes, with a simulated controller."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import serial
from support import DEADLINE_S, DriverInside, FocuserClient, Lines, Property, eventually, state_file

from indi_multifocus import __version__
from indi_multifocus.controller import poll_thread as controller_module
from indi_multifocus.controller import session as session_module
from indi_multifocus.settings import files
from indi_multifocus.settings.driver_settings import Probe, Settings
from indi_multifocus.simulation import firmware
from indi_multifocus.simulator import Simulator

pytestmark = pytest.mark.usefixtures("no_thread_is_left")

BOTH = pytest.mark.parametrize("generation", [1, 2])
ONE, TWO = "MultiFocus 1", "MultiFocus 2"
ABSOLUTE, RELATIVE = "ABS_FOCUS_POSITION", "REL_FOCUS_POSITION"
NEVER_S = 3600.0
SETTINGS = Settings(moving_s=0.02, idle_s=NEVER_S, default_travel=(-10_000, 10_000))
PROBE = Probe("rasa1", "RASA 1", "28FF641E8C160497", 1)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again at once."""
    monkeypatch.setattr(controller_module, "BACK_OFF_S", (0.02,))


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """While it is cleared, what is written does not get to the disk."""
    ready = threading.Event()
    ready.set()
    write = files.write_atomically

    def write_when_ready(path: str, data: bytes) -> None:
        assert ready.wait(DEADLINE_S)
        write(path, data)

    monkeypatch.setattr(files, "write_atomically", write_when_ready)
    return ready


@pytest.fixture
def short_handshake(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up after a moment: for controllers that never answer."""
    monkeypatch.setattr(session_module, "HANDSHAKE_S", 0.3)
    monkeypatch.setattr(session_module, "ASK_AGAIN_S", 0.1)


@contextlib.contextmanager
def connected(
    simulator: Simulator, channels: Sequence[int] = (1, 2), settings: Settings = SETTINGS
) -> Iterator[FocuserClient]:
    """A client of a driver whose channels are connected to the simulator."""
    with DriverInside(settings) as client:
        client.set_port(simulator.port)
        client.connect(*channels)
        yield client


@contextlib.contextmanager
def bench(
    *, generation: int = 2, channels: Sequence[int] = (1, 2), settings: Settings = SETTINGS, **of_simulator: Any
) -> Iterator[tuple[Simulator, FocuserClient]]:
    """A simulator, and a client of a driver whose channels are connected to it."""
    with Simulator(generation=generation, **of_simulator) as simulator:
        with connected(simulator, channels, settings) as client:
            yield simulator, client


def under_way(client: FocuserClient, channel: int, position: int) -> None:
    """Start a long move, and wait until the client sees progress."""
    begin = client.position(channel)
    client.move(channel, position)
    client.wait(lambda: abs(client.position(channel) - begin) > 2, f"channel {channel} to be under way")


def states(client: FocuserClient, device: str, name: str, since: int = 0) -> list[str]:
    """The states that a property was set to, repetitions left out."""
    found: list[str] = []
    for answer in client.received[since:]:
        if answer[:3] == ("set", device, name) and found[-1:] != [answer.state]:
            found.append(answer.state)
    return found


def one(values: dict[str, Any]) -> Any:
    """The only value."""
    (value,) = values.values()
    return value


# What is there


ALWAYS = {
    "CONNECTION": ("Switch", "rw", "OneOfMany", ["CONNECT", "DISCONNECT"]),
    "DRIVER_INFO": ("Text", "ro", "", ["DRIVER_NAME", "DRIVER_EXEC", "DRIVER_VERSION", "DRIVER_INTERFACE"]),
    "DEVICE_PORT": ("Text", "rw", "", ["PORT"]),
    "DEVICE_BAUD_RATE": ("Switch", "rw", "OneOfMany", ["9600", "19200", "38400", "57600", "115200", "230400"]),
    "POLLING_PERIOD": ("Number", "rw", "", ["PERIOD_MS"]),
}
WHILE_CONNECTED = {
    "FOCUS_MOTION": ("Switch", "rw", "OneOfMany", ["FOCUS_INWARD", "FOCUS_OUTWARD"]),
    "REL_FOCUS_POSITION": ("Number", "rw", "", ["FOCUS_RELATIVE_POSITION"]),
    "ABS_FOCUS_POSITION": ("Number", "rw", "", ["FOCUS_ABSOLUTE_POSITION"]),
    "FOCUS_MAX": ("Number", "rw", "", ["FOCUS_MAX_VALUE"]),
    "FOCUS_MIN": ("Number", "rw", "", ["FOCUS_MIN_VALUE"]),
    "FOCUS_ABORT_MOTION": ("Switch", "rw", "AtMostOne", ["ABORT"]),
    "FOCUS_SYNC": ("Number", "rw", "", ["FOCUS_SYNC_VALUE"]),
    "FOCUS_REVERSE_MOTION": ("Switch", "rw", "OneOfMany", ["INDI_ENABLED", "INDI_DISABLED"]),
    "FOCUS_BACKLASH_TOGGLE": ("Switch", "rw", "OneOfMany", ["INDI_ENABLED", "INDI_DISABLED"]),
    "FOCUS_BACKLASH_STEPS": ("Number", "rw", "", ["FOCUS_BACKLASH_VALUE"]),
    "Presets": ("Number", "rw", "", ["PRESET_1", "PRESET_2", "PRESET_3"]),
    "Goto": ("Switch", "rw", "OneOfMany", ["Preset 1", "Preset 2", "Preset 3"]),
    "FOCUS_TARGET": ("Number", "ro", "", ["FOCUS_TARGET_VALUE"]),
    "FOCUS_LINK": ("Light", "", "", ["LINK", "POSITION"]),
    "FOCUS_LINK_INFO": ("Text", "ro", "", ["LINK", "GENERATION", "POSITION", "RECONNECTS"]),
}


def kind_of(found: Property) -> tuple[str, str, str, list[str]]:
    return (found.kind, found.permission, found.rule, list(found.values))


def test_every_channel_is_a_device_that_says_who_it_is_before_anything_is_connected() -> None:
    with DriverInside(Settings(channels=3)) as client:
        assert list(client.devices) == ["MultiFocus 1", "MultiFocus 2", "MultiFocus 3"]
        for properties in client.devices.values():
            assert {name: kind_of(properties[name]) for name in ALWAYS} == ALWAYS
            assert not set(properties) & set(WHILE_CONNECTED)
            assert next(iter(properties)) == "CONNECTION"
            assert properties["CONNECTION"].on == ["DISCONNECT"]
            assert properties["DRIVER_INFO"].values == {
                "DRIVER_NAME": "MultiFocus",
                "DRIVER_EXEC": "indi_multifocus",
                "DRIVER_VERSION": __version__,
                "DRIVER_INTERFACE": "8",
            }


@BOTH
def test_a_connected_channel_offers_what_a_focuser_offers_and_takes_it_back(generation: int) -> None:
    with bench(generation=generation, channels=[2]) as (_, client):
        found = {name: kind_of(client.devices[TWO][name]) for name in WHILE_CONNECTED}
        assert found == WHILE_CONNECTED
        assert not set(client.devices[ONE]) & set(WHILE_CONNECTED)
        client.disconnect(2)
        assert not set(client.devices[TWO]) & set(WHILE_CONNECTED)
        assert set(ALWAYS) <= set(client.devices[TWO])


def test_the_fans_are_on_the_first_channel_of_a_second_generation_only() -> None:
    with bench(generation=2) as (_, client):
        assert client.property(ONE, "FAN") is not None
        assert client.property(TWO, "FAN") is None
    with bench(generation=1) as (_, client):
        assert client.property(ONE, "FAN") is None


def test_a_label_replaces_the_name_of_a_device() -> None:
    with DriverInside(Settings(labels={2: "RASA West"})) as client:
        assert list(client.devices) == ["MultiFocus 1", "RASA West"]


def test_indidev_replaces_the_first_word_of_the_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INDIDEV", "Clasp")
    with DriverInside(Settings(labels={1: "East"})) as client:
        assert list(client.devices) == ["East", "Clasp 2"]


def test_definitions_are_given_again_of_all_of_one_device_or_of_one_property() -> None:
    with bench() as (_, client):
        every = {(device, name) for device, properties in client.devices.items() for name in properties}
        for device, name in (("", ""), (TWO, ""), (ONE, "FOCUS_MAX"), (TWO, "NOT_THERE"), ("Nobody", "")):
            client.settle(ONE)
            since = len(client.received)
            client.get_properties(device, name)
            client.settle(ONE)
            answers = [answer[1:3] for answer in client.received[since:]]
            wanted = {(of, which) for of, which in every if device in ("", of) and name in ("", which)}
            assert sorted(answers) == sorted(wanted)


# Connecting


def test_connecting_is_busy_first_and_then_ok() -> None:
    with Simulator() as simulator, connected(simulator, [1]) as client:
        assert states(client, ONE, "CONNECTION") == ["Busy", "Ok"]
        assert client.devices[ONE]["CONNECTION"].on == ["CONNECT"]
        assert client.state(TWO, "CONNECTION") == "Idle"


def test_the_first_channel_opens_the_link_and_the_last_closes_it() -> None:
    with Simulator() as simulator, DriverInside(SETTINGS) as client:
        client.set_port(simulator.port)
        assert not simulator.in_use()
        client.connect(1)
        asked = len(simulator.received)
        client.connect(2)
        assert len(simulator.received) == asked, "the second opens nothing"
        client.disconnect(1)
        with pytest.raises(serial.SerialException):
            serial.Serial(simulator.port, exclusive=True)
        client.move_and_wait(2, 10)
        client.disconnect(2)
        eventually(lambda: not simulator.in_use(), "the port to be free")
        serial.Serial(simulator.port, exclusive=True).close()
        client.connect(2)
        assert client.position(2) == 10


def test_both_channels_connect_by_one_handshake_when_they_are_asked_at_once() -> None:
    with Simulator() as simulator:
        with connected(simulator, [1, 2]):
            pass
        both = len(simulator.received)
    with Simulator() as simulator:
        with connected(simulator, [1]):
            pass
        assert len(simulator.received) == both


def test_connecting_what_is_connected_and_disconnecting_what_is_not_changes_nothing() -> None:
    with bench(channels=[1]) as (simulator, client):
        asked = len(simulator.received)
        for _ in range(2):
            assert client.ask(ONE, "CONNECTION", {"CONNECT": "On"}).state == "Ok"
            assert client.ask(TWO, "CONNECTION", {"DISCONNECT": "On"}).state == "Idle"
        assert simulator.in_use()
        assert len(simulator.received) == asked
        assert client.property(ONE, ABSOLUTE) is not None


def test_disconnecting_while_it_connects_ends_disconnected() -> None:
    with Simulator() as simulator, DriverInside(SETTINGS) as client:
        client.set_port(simulator.port)
        simulator.silence(True)
        assert client.ask(ONE, "CONNECTION", {"CONNECT": "On"}).state == "Busy"
        client.disconnect(1)
        simulator.silence(False)
        eventually(lambda: not simulator.in_use(), "the port to be free")
        client.settle(ONE)
        assert client.state(ONE, "CONNECTION") == "Idle"
        client.connect(1)


def test_who_sees_the_last_channel_idle_can_connect_another_driver_at_once(home: Path, disk: threading.Event) -> None:
    """Also with a disk that takes its time."""
    with bench(channels=[1, 2]) as (simulator, client), DriverInside(SETTINGS) as other:
        other.set_port(simulator.port)
        disk.clear()
        client.disconnect(1)
        client.new(TWO, "CONNECTION", {"DISCONNECT": "On"}, "Switch")
        client.wait(lambda: client.property(TWO, ABSOLUTE) is None, "what goes with the connection to be deleted")
        client.settle(TWO)
        assert client.state(TWO, "CONNECTION") == "Busy"
        assert "another driver uses the controller" in other.fail_to_connect(1)
        disk.set()
        client.wait_state(TWO, "CONNECTION", "Idle")
        other.connect(1, 2)


def test_a_channel_can_be_connected_again_while_it_is_disconnecting(home: Path, disk: threading.Event) -> None:
    with bench(channels=[1]) as (_, client):
        client.move_and_wait(1, 10)
        disk.clear()
        for _ in range(3):
            assert client.ask(ONE, "CONNECTION", {"DISCONNECT": "On"}).state == "Busy"
            client.connect(1)
        assert client.ask(ONE, "CONNECTION", {"DISCONNECT": "On"}).state == "Busy"
        disk.set()
        client.wait_state(ONE, "CONNECTION", "Idle")
        client.connect(1)
        assert (client.position(1), client.value(ONE, "FOCUS_LINK_INFO", "POSITION")) == (10, "verified")


def test_what_became_of_an_attempt_that_was_given_up_is_no_news_of_the_next() -> None:
    with Simulator() as simulator, DriverInside(SETTINGS) as client:
        for _ in range(30):
            client.new(ONE, "DEVICE_PORT", {"PORT": "/dev/ttyNOT_THERE"})
            client.new(ONE, "CONNECTION", {"CONNECT": "On"})
            client.new(ONE, "CONNECTION", {"DISCONNECT": "On"})
            client.new(ONE, "DEVICE_PORT", {"PORT": simulator.port})
            client.new(ONE, "CONNECTION", {"CONNECT": "On"})
            client.settle(ONE)
            client.wait(lambda: client.state(ONE, "CONNECTION") != "Busy", "an end of the attempt")
            assert client.state(ONE, "CONNECTION") == "Ok"
            client.disconnect(1)


def test_disconnecting_leaves_a_move_to_finish() -> None:
    with bench(channels=[1], speed=20) as (simulator, client):
        under_way(client, 1, 500)
        client.disconnect(1)
        eventually(lambda: simulator.position(1) == 500, "the motor to arrive")


@pytest.mark.usefixtures("short_handshake")
@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("missing", "does not exist: is the controller plugged in"),
        ("file", "is not a serial port"),
        ("fifo", "is not a serial port"),
        ("/dev/null", "is not a serial port"),
        ("held", "is in use by another program: end that one"),
        ("silent", "nothing answers on"),
        ("echo", "is not a focus controller"),
        ("garbage", "is not a focus controller"),
    ],
)
def test_a_port_that_cannot_be_used_is_refused_with_its_name_and_the_remedy(
    tmp_path: Path, what: str, message: str
) -> None:
    port = what if what.startswith("/") else str(tmp_path / what)
    with contextlib.ExitStack() as stack:
        if what == "file":
            Path(port).write_text("mine")
        elif what == "fifo":
            os.mkfifo(port)
        elif what in ("held", "silent", "echo", "garbage"):
            simulator = stack.enter_context(Simulator(link=port))
            if what == "held":
                stack.enter_context(serial.Serial(port, exclusive=True))
            simulator.silence(what in ("silent", "garbage"))
            simulator.echo(what == "echo")
            simulator.babble(b"\xff\0\r\n" if what == "garbage" else None, 0.01)
        client = stack.enter_context(DriverInside(SETTINGS))
        client.set_port(port)
        for channel in (1, 2):
            text = client.fail_to_connect(channel)
            assert port in text
            assert message in text
        if what in ("silent", "echo", "garbage"):
            serial.Serial(port, exclusive=True).close()
            simulator.silence(False)
            simulator.echo(False)
            simulator.babble(None)
            client.connect(1, 2)


def test_both_channels_are_refused_when_both_were_waiting() -> None:
    with DriverInside(SETTINGS) as client:
        client.set_port("/dev/ttyNOT_THERE")
        client.new(ONE, "CONNECTION", {"CONNECT": "On"})
        client.new(TWO, "CONNECTION", {"CONNECT": "On"})
        for device in (ONE, TWO):
            client.wait_state(device, "CONNECTION", "Alert")
            assert client.devices[device]["CONNECTION"].on == ["DISCONNECT"]


@pytest.mark.parametrize("name", ["ttyACM0", "", "rfc2217://mill:1", "/dev/a b\0c", "loop://"])
def test_a_name_that_is_no_port_is_not_taken(name: str) -> None:
    with DriverInside(SETTINGS) as client:
        before = client.value(ONE, "DEVICE_PORT", "PORT")
        answer = client.ask(ONE, "DEVICE_PORT", {"PORT": name.replace("\0", "")})
        if "\0" in name:  # XML cannot carry it
            assert answer.state == "Ok"
            return
        assert answer.state == "Alert"
        assert answer.values == {"PORT": before}
        assert "[ERROR]" in answer.message
        assert client.value(TWO, "DEVICE_PORT", "PORT") == before


def test_a_controller_of_one_channel_connects_one_device() -> None:
    with Simulator(channels=1) as simulator, DriverInside(SETTINGS) as client:
        client.set_port(simulator.port)
        assert "there is no channel 2: the controller has channel 1 alone" in client.fail_to_connect(2)
        eventually(lambda: not simulator.in_use(), "the port to be free")
        client.connect(1)
        assert "there is no channel 2" in client.fail_to_connect(2)
        assert simulator.in_use()
        client.move_and_wait(1, 10)


def test_more_channels_than_devices_are_told_and_those_with_a_device_work() -> None:
    with Simulator(channels=5) as simulator, DriverInside(SETTINGS) as client:
        client.set_port(simulator.port)
        client.connect(1, 2)
        assert "5 channels, of which 2 are configured" in client.wait_message("[WARNING]")
        client.move_and_wait(2, 10)


def test_nine_channels_are_nine_focusers() -> None:
    settings = Settings(moving_s=0.02, channels=9)
    with Simulator(channels=9, speed=20) as simulator, connected(simulator, range(1, 10), settings) as client:
        for channel in range(1, 10):
            client.move(channel, channel * 10)
        for channel in range(1, 10):
            client.wait(lambda: client.position(channel) == channel * 10, f"channel {channel}")  # noqa: B023
        assert [simulator.position(channel) for channel in range(1, 10)] == list(range(10, 100, 10))


def test_what_is_asked_of_a_channel_that_is_not_connected_is_refused_with_the_way_to_connect() -> None:
    with bench(channels=[2]) as (simulator, client):
        lines = Lines(simulator)
        since = len(client.received)
        client.new(ONE, ABSOLUTE, {"FOCUS_ABSOLUTE_POSITION": 100}, "Number")
        client.new(ONE, "FOCUS_ABORT_MOTION", {"ABORT": "On"}, "Switch")
        client.settle(ONE)
        messages = client.messages(since, ONE)
        assert len(messages) == 2
        assert all(
            "[ERROR]" in text and "not connected" in text and "CONNECTION.CONNECT=On" in text for text in messages
        )
        assert lines() == []


def test_the_port_and_the_period_are_one_for_all_channels() -> None:
    with DriverInside(SETTINGS) as client:
        client.new(TWO, "DEVICE_PORT", {"PORT": "/dev/ttyUSB7"})
        client.new(ONE, "DEVICE_BAUD_RATE", {"57600": "On"})
        client.new(TWO, "POLLING_PERIOD", {"PERIOD_MS": 250})
        client.settle(TWO)
        for device in (ONE, TWO):
            assert client.value(device, "DEVICE_PORT", "PORT") == "/dev/ttyUSB7"
            assert client.devices[device]["DEVICE_BAUD_RATE"].on == ["57600"]
            assert client.value(device, "POLLING_PERIOD", "PERIOD_MS") == "250"


@pytest.mark.parametrize(
    ("name", "kind", "values"),
    [
        ("DEVICE_PORT", "Text", {"PORT": "loop://"}),
        ("POLLING_PERIOD", "Number", {"PERIOD_MS": "1"}),
        ("SIMULATION", "Switch", {"ENABLE": "On"}),
    ],
)
def test_what_is_one_for_all_channels_is_refused_on_all_and_who_asked_is_told_why(
    name: str, kind: str, values: dict[str, str]
) -> None:
    with bench(channels=[1]) as (_, client):
        since = len(client.received)
        answer = client.ask(ONE, name, values, kind)
        client.settle(TWO)
        assert (answer.state, client.state(TWO, name)) == ("Alert", "Alert")
        assert client.devices[TWO][name].values == client.devices[ONE][name].values == answer.values
        assert len(client.messages(since, ONE)) == 1
        assert client.messages(since, TWO) == []


# Moving


@BOTH
def test_both_channels_move_at_the_same_time_and_independently(generation: int) -> None:
    with bench(generation=generation) as (simulator, client):
        client.move(1, 5000)
        client.move(2, -5000)
        client.wait(lambda: client.position(1) > 2 and client.position(2) < -2, "both to move")
        assert client.state(ONE, ABSOLUTE) == client.state(TWO, ABSOLUTE) == "Busy"
        assert simulator.standstill(1) is None
        assert simulator.standstill(2) is None
        client.abort(1)
        assert client.wait_state(ONE, ABSOLUTE, "Idle").number("FOCUS_ABSOLUTE_POSITION") == simulator.position(1)
        at = client.position(2)
        client.wait(lambda: client.position(2) < at, "the other to go on")
        assert client.state(TWO, ABSOLUTE) == "Busy"
        assert simulator.target(2) == -5000
        client.abort(2)


@BOTH
@pytest.mark.parametrize("position", [300, -300])
def test_a_move_is_busy_until_it_arrives_and_then_ok(generation: int, position: int) -> None:
    with bench(generation=generation, speed=10) as (simulator, client):
        since = len(client.received)
        client.move_and_wait(1, position)
        assert states(client, ONE, ABSOLUTE, since) == ["Busy", "Ok"]
        shown = [
            float(one(dict(answer.values))) for answer in client.received[since:] if answer[1:3] == (ONE, ABSOLUTE)
        ]
        assert shown == sorted(shown, reverse=position < 0)
        assert shown[-1] == position == simulator.position(1)
        of_the_end = [answer for answer in client.received[since:] if answer[1:4] == (ONE, ABSOLUTE, "Ok")]
        assert {float(one(dict(answer.values))) for answer in of_the_end} == {position}
        assert client.state(TWO, ABSOLUTE) == "Ok"


def test_a_move_to_where_it_is_is_busy_and_ok_too() -> None:
    with bench() as (simulator, client):
        since = len(client.received)
        client.move_and_wait(1, 0)
        assert states(client, ONE, ABSOLUTE, since) == ["Busy", "Ok"]
        assert simulator.standstill(1) == 0


def test_a_move_that_is_not_sent_yet_is_busy_whatever_else_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    with bench() as (_, client):
        under_way(client, 2, 5000)
        since = len(client.received)
        monkeypatch.setattr(session_module, "MAX_IN_FLIGHT", 0)  # as if ever so many replies were due
        client.move(1, 20)
        at = client.position(2)
        client.wait(lambda: client.position(2) > at + 3, "news of the other channel")
        assert states(client, ONE, ABSOLUTE, since) == ["Busy"]
        monkeypatch.undo()
        client.wait_state(ONE, ABSOLUTE, "Ok")
        assert client.position(1) == 20
        client.abort(2)


def test_a_new_position_in_mid_move_is_gone_to_at_once() -> None:
    with bench() as (simulator, client):
        under_way(client, 1, 5000)
        client.move(1, -3)
        client.wait(lambda: client.value(ONE, "FOCUS_TARGET", "FOCUS_TARGET_VALUE") == "-3", "the new target")
        assert client.state(ONE, ABSOLUTE) == "Busy"
        client.wait_state(ONE, ABSOLUTE, "Ok")
        assert (client.position(1), simulator.position(1)) == (-3, -3)


def test_the_last_position_of_a_flood_is_gone_to_and_a_stop_among_them_is_no_later_for_it() -> None:
    with bench(speed=1000) as (simulator, client):
        for position in range(1, 301):
            client.move(1, position)
        client.wait(lambda: client.position(1) == 300 and client.state(ONE, ABSOLUTE) == "Ok", "the last position")
        assert simulator.position(1) == 300
        for position in range(300):
            client.move(1, position)
        since = len(client.received)
        client.abort(1)
        client.settle(ONE)
        assert client.state(ONE, ABSOLUTE) == "Idle"
        assert states(client, ONE, "FOCUS_ABORT_MOTION", since) == ["Ok"]
        assert simulator.standstill(1) is not None


@pytest.mark.parametrize(("direction", "sign"), [("FOCUS_INWARD", -1), ("FOCUS_OUTWARD", 1)])
def test_a_relative_move_goes_in_the_chosen_direction(direction: str, sign: int) -> None:
    with bench(speed=10) as (simulator, client):
        client.move_and_wait(1, 50)
        assert client.ask(ONE, "FOCUS_MOTION", {direction: "On"}).state == "Ok"
        since = len(client.received)
        answer = client.ask(ONE, RELATIVE, {"FOCUS_RELATIVE_POSITION": 30})
        assert (answer.state, one(dict(answer.values))) == ("Busy", "30")
        client.wait_state(ONE, RELATIVE, "Ok")
        client.wait_state(ONE, ABSOLUTE, "Ok")
        assert client.position(1) == simulator.position(1) == 50 + sign * 30
        assert states(client, ONE, RELATIVE, since) == ["Busy", "Ok"]
        assert states(client, ONE, ABSOLUTE, since) == ["Busy", "Ok"]
        assert client.value(ONE, RELATIVE, "FOCUS_RELATIVE_POSITION") == "30"


def test_a_relative_move_out_of_the_travel_is_refused() -> None:
    with bench() as (simulator, client):
        lines = Lines(simulator)
        client.ask(ONE, "FOCUS_MOTION", {"FOCUS_OUTWARD": "On"})
        answer = client.ask(ONE, RELATIVE, {"FOCUS_RELATIVE_POSITION": 10_001})
        assert answer.state == "Alert"
        assert "10001" in answer.message
        assert "-10000 to 10000" in answer.message
        assert lines() == []


def test_an_abort_ends_a_relative_move_as_idle() -> None:
    with bench() as (_, client):
        client.ask(ONE, "FOCUS_MOTION", {"FOCUS_OUTWARD": "On"})
        client.ask(ONE, RELATIVE, {"FOCUS_RELATIVE_POSITION": 5000})
        client.wait(lambda: client.position(1) > 2, "progress")
        client.abort(1)
        client.wait_state(ONE, RELATIVE, "Idle")
        assert client.state(ONE, ABSOLUTE) == "Idle"


def test_the_target_is_shown_while_it_moves_and_is_the_position_after() -> None:
    with bench() as (_, client):
        under_way(client, 1, 5000)
        target = client.devices[ONE]["FOCUS_TARGET"]
        assert (target.values["FOCUS_TARGET_VALUE"], target.state) == ("5000", "Busy")
        client.abort(1)
        client.wait(lambda: target.number("FOCUS_TARGET_VALUE") == client.position(1), "the target to be here")


def test_steps_between_two_are_rounded_and_halves_up() -> None:
    with bench(speed=200) as (simulator, client):
        assert client.ask(ONE, "FOCUS_MIN", {"FOCUS_MIN_VALUE": -100}).state == "Ok"
        for text, steps in (
            ("10.4", 10),
            ("12:30", 13),
            ("0:15:00", 0),
            ("11.5", 12),
            ("0.49999999999999994", 0),
            ("-7:30", -7),
            ("-7.50001", -8),
        ):
            client.ask(ONE, ABSOLUTE, {"FOCUS_ABSOLUTE_POSITION": text})
            client.wait_state(ONE, ABSOLUTE, "Ok")
            assert (client.position(1), simulator.target(1)) == (steps, steps), text
        for name, element in (("FOCUS_BACKLASH_STEPS", "FOCUS_BACKLASH_VALUE"), ("Presets", "PRESET_1")):
            assert client.ask(ONE, name, {element: "12:30"}).values[element] == "13"


@pytest.mark.parametrize("text", ["1e300", "-1e300", "1" * 60, "1e308", "9" * 5000, "1e5000", "x" * 5000])
def test_a_number_of_any_size_is_refused_in_few_words(text: str) -> None:
    with bench() as (simulator, client):
        lines = Lines(simulator)
        for name, element in (
            (ABSOLUTE, "FOCUS_ABSOLUTE_POSITION"),
            ("REL_FOCUS_POSITION", "FOCUS_RELATIVE_POSITION"),
            ("FOCUS_SYNC", "FOCUS_SYNC_VALUE"),
            ("FOCUS_MAX", "FOCUS_MAX_VALUE"),
            ("FOCUS_BACKLASH_STEPS", "FOCUS_BACKLASH_VALUE"),
            ("POLLING_PERIOD", "PERIOD_MS"),
        ):
            answer = client.ask(ONE, name, {element: text})
            assert answer.state == "Alert"
            assert "expected" in answer.message
            assert len(answer.message) < 220, answer.message
        assert lines.orders() == []


# Stopping


@BOTH
def test_an_abort_stops_it_where_it_is_and_the_position_is_idle(generation: int) -> None:
    with bench(generation=generation) as (simulator, client):
        under_way(client, 2, 5000)
        client.abort(2)
        client.wait_state(TWO, ABSOLUTE, "Idle")
        assert client.position(2) == simulator.position(2) == simulator.target(2) < 5000
        assert client.devices[TWO]["FOCUS_ABORT_MOTION"].on == []
        client.settle(TWO)
        assert client.state(TWO, ABSOLUTE) == "Idle"
        client.move_and_wait(2, 0)


def test_an_abort_at_rest_is_answered() -> None:
    with bench() as (_, client):
        client.abort(1)
        client.abort(1)
        assert client.position(1) == 0


# What is refused


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("10001", "-10000 to 10000"),
        ("-10001", "-10000 to 10000"),
        ("1e30", "-10000 to 10000"),
        ("abc", "number"),
        ("", "number"),
        ("nan", "number"),
        ("inf", "number"),
        ("1 2 3 4", "number"),
        ("0x10", "number"),
        ("１２", "number"),
    ],
)
def test_what_is_no_position_of_the_travel_is_refused_and_nothing_changes(text: str, wanted: str) -> None:
    with bench() as (simulator, client):
        lines = Lines(simulator)
        answer = client.ask(ONE, ABSOLUTE, {"FOCUS_ABSOLUTE_POSITION": text})
        assert (answer.state, one(dict(answer.values))) == ("Alert", "0")
        assert answer.message.startswith("[ERROR] ")
        assert text[:60] in answer.message
        assert wanted in answer.message
        assert lines() == []
        assert client.ask(ONE, ABSOLUTE, {"FOCUS_ABSOLUTE_POSITION": 5}).state == "Busy"


@pytest.mark.parametrize(
    ("name", "values", "kind", "wanted"),
    [
        (ABSOLUTE, {"FOCUS_POSITION": 5}, "Number", "FOCUS_ABSOLUTE_POSITION"),
        (ABSOLUTE, {"FOCUS_ABSOLUTE_POSITION": 5, "SPEED": 1}, "Number", "FOCUS_ABSOLUTE_POSITION"),
        (ABSOLUTE, {}, "Number", "FOCUS_ABSOLUTE_POSITION"),
        (ABSOLUTE, {"FOCUS_ABSOLUTE_POSITION": "5"}, "Text", "Number"),
        (RELATIVE, {"FOCUS_RELATIVE_POSITION": -5}, "Number", "a number of steps from 0 on"),
        ("FOCUS_MOTION", {"FOCUS_INWARD": "On", "FOCUS_OUTWARD": "On"}, "Switch", "FOCUS_OUTWARD"),
        ("FOCUS_MOTION", {"FOCUS_INWARD": "Yes"}, "Switch", "On or Off"),
        ("FOCUS_TARGET", {"FOCUS_TARGET_VALUE": 5}, "Number", "read-only"),
        ("FOCUS_LINK_INFO", {"LINK": "up"}, "Text", "read-only"),
        ("DRIVER_INFO", {"DRIVER_NAME": "mine"}, "Text", "read-only"),
        ("FOCUS_LINK", {"LINK": "Ok"}, "Light", "read-only"),
        ("POLLING_PERIOD", {"PERIOD_MS": 0}, "Number", "10 to"),
        ("FOCUS_BACKLASH_STEPS", {"FOCUS_BACKLASH_VALUE": -1}, "Number", "0 to"),
        ("Presets", {"PRESET_1": 10_001}, "Number", "-10000 to 10000"),
    ],
)
def test_what_no_property_takes_is_refused_with_what_it_takes(
    name: str, values: dict[str, Any], kind: str, wanted: str
) -> None:
    with bench() as (simulator, client):
        lines = Lines(simulator)
        before = dict(client.devices[ONE][name].values)
        answer = client.ask(ONE, name, values, kind)
        assert answer.state == "Alert"
        assert answer.message.startswith("[ERROR] ")
        assert wanted in answer.message
        assert client.devices[ONE][name].values == before
        assert lines() == []


def test_an_unknown_property_is_refused_by_a_message_and_an_unknown_device_is_nobody_s() -> None:
    with bench() as (_, client):
        since = len(client.received)
        client.new(ONE, "FOCUS_SPEED", {"FOCUS_SPEED_VALUE": 5}, "Number")
        client.new("Somebody Else", ABSOLUTE, {"FOCUS_ABSOLUTE_POSITION": 5}, "Number")
        client.settle(ONE)
        assert [answer[:2] for answer in client.received[since:]] == [("message", ONE)]
        assert "FOCUS_SPEED" in client.received[since].message


def test_a_position_refused_in_mid_move_leaves_the_move_alone() -> None:
    with bench() as (simulator, client):
        under_way(client, 1, 5000)
        assert client.ask(ONE, ABSOLUTE, {"FOCUS_ABSOLUTE_POSITION": "x"}).state in ("Alert", "Busy")
        client.wait_message("not a number")
        at = client.position(1)
        client.wait(lambda: client.position(1) > at and client.state(ONE, ABSOLUTE) == "Busy", "the move to go on")
        assert simulator.target(1) == 5000
        client.abort(1)


# The travel


@pytest.mark.parametrize(
    ("name", "element", "value", "travel"),
    [("FOCUS_MAX", "FOCUS_MAX_VALUE", 500, (-10_000, 500)), ("FOCUS_MIN", "FOCUS_MIN_VALUE", -70, (-70, 10_000))],
)
def test_a_new_end_of_the_travel_changes_the_ranges_that_clients_know(
    name: str, element: str, value: int, travel: tuple[int, int]
) -> None:
    with bench() as (simulator, client):
        assert client.ask(ONE, name, {element: value}).state == "Ok"
        client.settle(ONE)
        low, high = travel
        step = (high - low) // 50
        known = client.devices[ONE]
        positions = (ABSOLUTE, "FOCUS_ABSOLUTE_POSITION"), ("FOCUS_SYNC", "FOCUS_SYNC_VALUE"), ("Presets", "PRESET_2")
        for of, number in positions:
            assert known[of].ranges[number] == (low, high, step)
        assert known[RELATIVE].ranges["FOCUS_RELATIVE_POSITION"][:2] == (0, high - low)
        assert client.devices[TWO][ABSOLUTE].ranges["FOCUS_ABSOLUTE_POSITION"][:2] == (-10_000, 10_000)
        lines = Lines(simulator)
        beyond = value + (1 if name == "FOCUS_MAX" else -1)
        assert client.ask(ONE, ABSOLUTE, {"FOCUS_ABSOLUTE_POSITION": beyond}).state == "Alert"
        assert lines() == []
        assert client.ask(ONE, ABSOLUTE, {"FOCUS_ABSOLUTE_POSITION": value}).state == "Busy"
        client.abort(1)
        # A client that comes later receives the same.
        client.get_properties(ONE, ABSOLUTE)
        client.settle(ONE)
        assert client.devices[ONE][ABSOLUTE].ranges["FOCUS_ABSOLUTE_POSITION"] == (low, high, step)


@pytest.mark.parametrize(
    ("name", "element", "value"),
    [
        ("FOCUS_MAX", "FOCUS_MAX_VALUE", -10_000),
        ("FOCUS_MAX", "FOCUS_MAX_VALUE", -20_000),
        ("FOCUS_MAX", "FOCUS_MAX_VALUE", "all"),
        ("FOCUS_MAX", "FOCUS_MAX_VALUE", 1e9),
        ("FOCUS_MIN", "FOCUS_MIN_VALUE", 10_000),
        ("FOCUS_MIN", "FOCUS_MIN_VALUE", "nan"),
        ("FOCUS_MIN", "FOCUS_MIN_VALUE", -1e9),
    ],
)
def test_an_end_of_the_travel_that_makes_no_sense_is_refused(name: str, element: str, value: Any) -> None:
    with bench() as (_, client):
        before = dict(client.devices[ONE][name].values)
        answer = client.ask(ONE, name, {element: value})
        assert answer.state == "Alert"
        assert "[ERROR]" in answer.message
        assert client.devices[ONE][name].values == before
        assert client.devices[ONE][ABSOLUTE].ranges["FOCUS_ABSOLUTE_POSITION"][:2] == (-10_000, 10_000)


def test_configured_limits_bind_what_clients_may_set() -> None:
    settings = Settings(travel={1: (-100, 100)})
    with bench(settings=settings, channels=[1]) as (_, client):
        assert client.devices[ONE][ABSOLUTE].ranges["FOCUS_ABSOLUTE_POSITION"][:2] == (-100, 100)
        assert client.ask(ONE, "FOCUS_MAX", {"FOCUS_MAX_VALUE": 101}).state == "Alert"
        assert client.ask(ONE, "FOCUS_MAX", {"FOCUS_MAX_VALUE": 50}).state == "Ok"
        assert client.ask(ONE, "FOCUS_MAX", {"FOCUS_MAX_VALUE": 100}).state == "Ok"


def test_without_a_configuration_positions_begin_at_zero() -> None:
    with bench(settings=Settings(), channels=[1]) as (_, client):
        assert client.devices[ONE][ABSOLUTE].ranges["FOCUS_ABSOLUTE_POSITION"][:2] == (0, 100_000)


@BOTH
def test_the_whole_range_is_as_wide_as_the_generation_counts(generation: int) -> None:
    limit = {1: 9_999_999, 2: 999_999}[generation]
    settings = Settings(default_travel=(-9_999_999, 9_999_999))
    with bench(settings=settings, generation=generation, held=True) as (simulator, client):
        assert client.devices[ONE][ABSOLUTE].ranges["FOCUS_ABSOLUTE_POSITION"][:2] == (-limit, limit)
        client.move(1, -limit)
        eventually(lambda: simulator.target(1) == -limit, "the farthest target")
        lines = Lines(simulator)
        assert client.ask(ONE, ABSOLUTE, {"FOCUS_ABSOLUTE_POSITION": -limit - 1}).state == "Alert"
        assert lines.orders() == []


def test_a_position_outside_the_travel_is_shown_with_alert_and_may_be_left_towards_it() -> None:
    with bench(speed=20) as (simulator, client):
        client.move_and_wait(1, 200)
        since = len(client.received)
        client.ask(ONE, "FOCUS_MAX", {"FOCUS_MAX_VALUE": 100})
        assert "outside the travel" in client.wait_message("position 200", since)
        client.settle(ONE)
        assert (client.state(ONE, ABSOLUTE), client.position(1)) == ("Alert", 200)
        assert client.ask(ONE, ABSOLUTE, {"FOCUS_ABSOLUTE_POSITION": 201}).state == "Alert"
        assert client.ask(ONE, ABSOLUTE, {"FOCUS_ABSOLUTE_POSITION": 150}).state == "Busy"
        client.wait(lambda: client.position(1) == 150 and client.state(ONE, ABSOLUTE) == "Alert", "the place between")
        client.move_and_wait(1, 100)
        assert simulator.position(1) == 100


# Naming positions


def test_sync_names_the_place_and_moves_nothing(home: Path) -> None:
    with bench(speed=20) as (simulator, client):
        client.move_and_wait(1, 100)
        lines = Lines(simulator)
        assert client.ask(ONE, "FOCUS_SYNC", {"FOCUS_SYNC_VALUE": 2500}).state == "Ok"
        client.settle(ONE)
        assert (client.position(1), client.state(ONE, ABSOLUTE)) == (2500, "Ok")
        assert client.value(ONE, "FOCUS_TARGET", "FOCUS_TARGET_VALUE") == "2500"
        assert lines.orders() == []
        client.move_and_wait(1, 2450)
        assert simulator.position(1) == 50
        assert client.position(2) == 0
        # Another run of the driver knows it.
        client.disconnect(1, 2)
        with connected(simulator) as later:
            assert (later.position(1), later.position(2)) == (2450, 0)
        assert json.loads(state_file(home, 1).read_text())["offset"] == 2400


def test_sync_to_zero_zeroes_the_controller_itself(home: Path) -> None:
    with bench(speed=20) as (simulator, client):
        client.move_and_wait(1, 100)
        client.ask(ONE, "FOCUS_SYNC", {"FOCUS_SYNC_VALUE": 2500})
        lines = Lines(simulator)
        client.new(ONE, "FOCUS_SYNC", {"FOCUS_SYNC_VALUE": 0})
        client.wait(lambda: client.position(1) == 0, "the new name")
        client.wait_state(ONE, "FOCUS_SYNC", "Ok")
        client.wait_state(ONE, ABSOLUTE, "Ok")
        assert lines.orders() == [b"1Z"]
        assert simulator.position(1) == 0
        assert json.loads(state_file(home, 1).read_text())["offset"] == 0
        client.move_and_wait(1, 10)
        assert simulator.position(1) == 10


def test_a_move_right_after_a_sync_to_zero_counts_from_there() -> None:
    with bench(speed=20) as (simulator, client):
        client.move_and_wait(1, 100)
        client.ask(ONE, "FOCUS_SYNC", {"FOCUS_SYNC_VALUE": 2500})
        client.new(ONE, "FOCUS_SYNC", {"FOCUS_SYNC_VALUE": 0})
        client.move(1, 30)
        client.wait(lambda: client.position(1) == 30 and client.state(ONE, ABSOLUTE) == "Ok", "the position")
        assert simulator.position(1) == 30
        assert simulator.shaft(1) >> firmware.BUILDS[2].shift == 130


def test_neither_sync_nor_reverse_is_taken_in_mid_move_and_nonsense_at_no_time() -> None:
    with bench() as (_, client):
        under_way(client, 1, 5000)
        for name, values in (
            ("FOCUS_SYNC", {"FOCUS_SYNC_VALUE": 0}),
            ("FOCUS_SYNC", {"FOCUS_SYNC_VALUE": 5}),
            ("FOCUS_REVERSE_MOTION", {"INDI_ENABLED": "On"}),
        ):
            answer = client.ask(ONE, name, values)
            assert answer.state == "Alert"
            assert "while moving" in answer.message
        client.abort(1)
        refused = client.ask(ONE, "FOCUS_SYNC", {"FOCUS_SYNC_VALUE": 10_001})
        assert refused.state == "Alert"
        assert refused.message.endswith("a position from -10000 to 10000 is expected")
        client.ask(ONE, "FOCUS_MAX", {"FOCUS_MAX_VALUE": -10})
        refused = client.ask(ONE, "FOCUS_SYNC", {"FOCUS_SYNC_VALUE": 10})
        assert refused.message.endswith("a position from -10000 to -10, or 0, is expected")
        assert client.ask(ONE, "FOCUS_SYNC", {"FOCUS_SYNC_VALUE": "here"}).state == "Alert"


def test_reversing_keeps_the_position_and_turns_the_direction(home: Path) -> None:
    with bench(speed=20) as (simulator, client):
        client.move_and_wait(1, 100)
        assert client.ask(ONE, "FOCUS_REVERSE_MOTION", {"INDI_ENABLED": "On"}).state == "Ok"
        client.settle(ONE)
        assert (client.position(1), client.state(ONE, ABSOLUTE)) == (100, "Ok")
        client.move_and_wait(1, 130)
        assert simulator.position(1) == 70
        client.ask(ONE, "FOCUS_MOTION", {"FOCUS_OUTWARD": "On"})
        client.ask(ONE, RELATIVE, {"FOCUS_RELATIVE_POSITION": 10})
        client.wait(lambda: client.position(1) == 140 and client.state(ONE, ABSOLUTE) == "Ok", "the relative move")
        assert simulator.position(1) == 60
        client.move_and_wait(2, 5)
        assert simulator.position(2) == 5, "the other is as it was"
        client.disconnect(1, 2)
        with connected(simulator) as later:
            assert later.position(1) == 140
            assert later.devices[ONE]["FOCUS_REVERSE_MOTION"].on == ["INDI_ENABLED"]
            later.move_and_wait(1, 150)
            assert simulator.position(1) == 50
            later.ask(ONE, "FOCUS_REVERSE_MOTION", {"INDI_DISABLED": "On"})
            later.settle(ONE)
            assert later.position(1) == 150
            later.move_and_wait(1, 160)
            assert simulator.position(1) == 60


# Backlash, presets


def take_up_backlash(client: FocuserClient, steps: int) -> None:
    assert client.ask(ONE, "FOCUS_BACKLASH_STEPS", {"FOCUS_BACKLASH_VALUE": steps}).state == "Ok"
    assert client.ask(ONE, "FOCUS_BACKLASH_TOGGLE", {"INDI_ENABLED": "On"}).state == "Ok"


def test_with_backlash_every_move_ends_inward_and_without_none_turns_round() -> None:
    with bench(speed=20) as (simulator, client):
        take_up_backlash(client, 40)
        lines = Lines(simulator)
        since = len(client.received)
        client.move_and_wait(1, 200)
        assert lines.orders() == [b"1+240", b"1+200"]
        assert states(client, ONE, ABSOLUTE, since) == ["Busy", "Ok"]
        targets = [answer for answer in client.received[since:] if answer[1:3] == (ONE, "FOCUS_TARGET")]
        assert {answer.values["FOCUS_TARGET_VALUE"] for answer in targets} == {"200"}
        client.move_and_wait(1, 150)
        assert lines.orders()[2:] == [b"1+150"]
        client.ask(ONE, "FOCUS_BACKLASH_TOGGLE", {"INDI_DISABLED": "On"})
        client.move_and_wait(1, 160)
        assert lines.orders()[3:] == [b"1+160"]


def test_presets_are_gone_to(home: Path) -> None:
    with bench(speed=20) as (simulator, client):
        answer = client.ask(ONE, "Presets", {"PRESET_1": 40, "PRESET_3": -60})
        assert (answer.state, dict(answer.values)) == ("Ok", {"PRESET_1": "40", "PRESET_2": "0", "PRESET_3": "-60"})
        client.new(ONE, "Goto", {"Preset 3": "On"})
        client.wait(lambda: client.position(1) == -60 and client.state(ONE, ABSOLUTE) == "Ok", "the preset")
        assert client.devices[ONE]["Goto"].on == ["Preset 3"]
        client.new(ONE, "Goto", {"Preset 1": "On"})
        client.wait(lambda: client.position(1) == 40 and client.state(ONE, ABSOLUTE) == "Ok", "the other preset")
        assert simulator.position(1) == 40
        client.disconnect(1, 2)
        with connected(simulator) as later:
            assert later.value(ONE, "Presets", "PRESET_3") == "-60"


# Periods, fans, temperatures


def test_the_polling_period_is_that_of_all_channels_and_counts_at_once() -> None:
    settings = Settings(moving_s=NEVER_S, idle_s=NEVER_S)
    with bench(settings=settings) as (_, client):
        client.move(1, 5000)
        client.move(2, 5000)
        assert client.ask(TWO, "POLLING_PERIOD", {"PERIOD_MS": 20}).state == "Ok"
        client.wait(lambda: client.position(1) > 2 and client.position(2) > 2, "progress of both")
        client.settle(TWO)
        assert client.value(ONE, "POLLING_PERIOD", "PERIOD_MS") == "20"
        client.abort(1)
        client.abort(2)


def test_an_arrival_is_told_without_any_regular_poll() -> None:
    with bench(settings=Settings(moving_s=NEVER_S, idle_s=NEVER_S)) as (_, client):
        client.move_and_wait(1, 30)


def test_fans_are_switched_also_to_what_they_are() -> None:
    with bench() as (simulator, client):
        for wanted, on in (("INDI_ENABLED", True), ("INDI_ENABLED", True), ("INDI_DISABLED", False)):
            client.new(ONE, "FAN", {wanted: "On"})
            client.wait(
                lambda want=wanted: client.devices[ONE]["FAN"].on == [want] and client.state(ONE, "FAN") == "Ok",  # type: ignore[misc]
                f"the fans to be {wanted}",
            )
            client.settle(ONE)
            client.wait_state(ONE, "FAN", "Ok")
            assert simulator.fans is on


def test_fans_told_twice_at_once_end_as_told_last() -> None:
    with bench() as (simulator, client):
        for _ in range(20):
            client.new(ONE, "FAN", {"INDI_ENABLED": "On"})
            client.new(ONE, "FAN", {"INDI_DISABLED": "On"})
            client.settle(ONE)
            client.wait_state(ONE, "FAN", "Ok")
            assert client.devices[ONE]["FAN"].on == ["INDI_DISABLED"]
            assert not simulator.fans


def test_the_temperature_of_a_channel_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(firmware, "MEASUREMENT_S", 0.02)
    settings = Settings(moving_s=0.02, idle_s=0.02, probes=(PROBE,))
    with bench(settings=settings, probes={PROBE.address: 12.25}) as (simulator, client):
        client.wait(lambda: client.value(ONE, "FOCUS_TEMPERATURE", "TEMPERATURE") == "12.25", "the temperature")
        assert client.state(ONE, "FOCUS_TEMPERATURE") == "Ok"
        assert client.property(TWO, "FOCUS_TEMPERATURE") is None
        simulator.set_probe(PROBE.address, None)
        client.wait_state(ONE, "FOCUS_TEMPERATURE", "Alert")
        simulator.set_probe(PROBE.address, -5.5)
        client.wait(lambda: client.value(ONE, "FOCUS_TEMPERATURE", "TEMPERATURE") == "-5.5", "the temperature")
        assert client.state(ONE, "FOCUS_TEMPERATURE") == "Ok"


def test_the_first_generation_has_no_temperature_and_is_never_asked_for_one() -> None:
    settings = Settings(moving_s=0.01, idle_s=0.01, probes=(PROBE,))
    with bench(settings=settings, generation=1) as (simulator, client):
        client.wait_message("first generation, which has no temperature probes")
        lines = Lines(simulator)
        eventually(lambda: lines.polls() > 20, "some polls")
        assert client.property(ONE, "FOCUS_TEMPERATURE") is None
        assert not any(b"@" in line for _, line in simulator.received)


# The link is lost


@pytest.fixture
def link(tmp_path: Path) -> str:
    """A name of the port that stays the same when the cable is plugged in again."""
    return str(tmp_path / "focuser")


def wait_lost(client: FocuserClient) -> None:
    for device in (ONE, TWO):
        client.wait_state(device, "FOCUS_LINK", "Alert")
        client.settle(device)


def wait_back(client: FocuserClient, reconnects: int = 1) -> None:
    for device in (ONE, TWO):
        client.wait(
            lambda of=device: client.value(of, "FOCUS_LINK_INFO", "RECONNECTS") == str(reconnects),  # type: ignore[misc]
            "the link to be back",
        )
        client.settle(device)


@BOTH
def test_a_lost_link_is_alert_and_told_once_and_its_return_too(link: str, generation: int) -> None:
    with bench(generation=generation, link=link, speed=20) as (simulator, client):
        client.move_and_wait(1, 100)
        since = len(client.received)
        simulator.pull_cable()
        wait_lost(client)
        for device in (ONE, TWO):
            assert client.state(device, ABSOLUTE) == "Alert"
            assert client.devices[device]["FOCUS_LINK"].values["LINK"] == "Alert"
            assert client.state(device, "CONNECTION") == "Ok", "it is wanted, and tried"
        assert client.position(1) == 100, "the last that is known"
        tried = simulator.received
        simulator.replug_cable()
        wait_back(client)
        assert len(simulator.received) > len(tried)
        for device, position in ((ONE, 100), (TWO, 0)):
            assert (client.state(device, ABSOLUTE), client.position(client_channel(device))) == ("Ok", position)
            assert client.state(device, "FOCUS_LINK") == "Ok"
            messages = client.messages(since, device)
            assert len(messages) == 2
            assert link in messages[0]
            assert messages[0].startswith("[ERROR] ")
            assert messages[1].startswith("[INFO] ")
            assert "back" in messages[1]
        client.move_and_wait(1, 50)


def client_channel(device: str) -> int:
    return int(device[-1])


def test_every_return_of_the_link_is_counted(link: str) -> None:
    with bench(link=link) as (simulator, client):
        for count in (1, 2, 3):
            simulator.pull_cable()
            wait_lost(client)
            simulator.replug_cable()
            wait_back(client, count)


def test_a_move_that_ended_while_the_cable_was_out_is_unverified_when_it_is_back(link: str) -> None:
    """A controller that its cable feeds would claim the same arrival, and have lost its power on the way."""
    with bench(link=link) as (simulator, client):
        under_way(client, 1, 40)
        simulator.pull_cable()
        wait_lost(client)
        assert client.state(ONE, ABSOLUTE) == "Alert"
        eventually(lambda: simulator.position(1) == 40, "the motor to arrive")
        simulator.replug_cable()
        wait_back(client)
        assert (client.state(ONE, ABSOLUTE), client.position(1)) == ("Alert", 40)
        client.wait_message("unverified", device=ONE)
        assert client.state(TWO, ABSOLUTE) == "Ok"
        client.ask(ONE, "FOCUS_SYNC", {"FOCUS_SYNC_VALUE": 40})
        client.move_and_wait(1, 42)


def test_a_move_that_still_goes_on_when_the_cable_is_back_is_busy_and_then_ok(link: str) -> None:
    with bench(link=link) as (simulator, client):
        under_way(client, 1, 5000)
        simulator.pull_cable()
        wait_lost(client)
        simulator.replug_cable()
        client.wait_state(ONE, ABSOLUTE, "Busy")
        assert client.value(ONE, "FOCUS_TARGET", "FOCUS_TARGET_VALUE") == "5000"
        client.move(1, 10)
        client.wait_state(ONE, ABSOLUTE, "Ok")
        assert client.position(1) == simulator.position(1) == 10


def test_without_a_link_orders_are_refused_and_none_is_made_up_for(link: str) -> None:
    with bench(link=link) as (simulator, client):
        simulator.pull_cable()
        wait_lost(client)
        lines = Lines(simulator)
        for name, values in (
            (ABSOLUTE, {"FOCUS_ABSOLUTE_POSITION": 50}),
            (RELATIVE, {"FOCUS_RELATIVE_POSITION": 50}),
            ("FOCUS_SYNC", {"FOCUS_SYNC_VALUE": 0}),
            ("FOCUS_SYNC", {"FOCUS_SYNC_VALUE": 7}),
            ("FOCUS_REVERSE_MOTION", {"INDI_ENABLED": "On"}),
            ("FAN", {"INDI_ENABLED": "On"}),
            ("Goto", {"Preset 1": "On"}),
        ):
            answer = client.ask(ONE, name, values)
            assert answer.state == "Alert", answer
            assert "does not answer" in answer.message
        simulator.replug_cable()
        wait_back(client)
        client.move_and_wait(2, 3)
        assert lines.orders() == [b"2+3"]


def test_who_connects_while_the_link_is_lost_is_told_why_that_takes_time(link: str) -> None:
    with bench(link=link, channels=(1,)) as (simulator, client):
        simulator.pull_cable()
        client.wait_state(ONE, "FOCUS_LINK", "Alert")
        since = len(client.received)
        answer = client.ask(TWO, "CONNECTION", {"CONNECT": "On"})
        assert answer.state == "Busy"
        message = client.wait_message("trying to get it back", since, TWO)
        assert message.startswith("[ERROR] lost the controller")
        assert link in message
        simulator.replug_cable()
        client.wait_state(TWO, "CONNECTION", "Ok")
        assert len(client.messages(since, TWO)) == 1
        client.move_and_wait(2, 3)


def test_an_abort_without_a_link_is_carried_out_when_it_is_back(link: str) -> None:
    with bench(link=link) as (simulator, client):
        under_way(client, 1, 5000)
        simulator.pull_cable()
        wait_lost(client)
        answer = client.ask(ONE, "FOCUS_ABORT_MOTION", {"ABORT": "On"})
        assert answer.state == "Busy"
        assert "as soon as" in answer.message
        simulator.replug_cable()
        client.wait_state(ONE, "FOCUS_ABORT_MOTION", "Ok")
        client.wait_state(ONE, ABSOLUTE, "Idle")
        assert client.position(1) == simulator.position(1) < 5000


def test_a_channel_may_disconnect_and_another_connect_while_the_link_is_lost(link: str) -> None:
    with bench(link=link, channels=[1]) as (simulator, client):
        simulator.pull_cable()
        client.wait_state(ONE, "FOCUS_LINK", "Alert")
        assert client.ask(TWO, "CONNECTION", {"CONNECT": "On"}).state == "Busy"
        client.disconnect(1)
        simulator.replug_cable()
        client.wait_state(TWO, "CONNECTION", "Ok")
        client.settle(TWO)
        client.move_and_wait(2, 5)
        assert client.property(ONE, ABSOLUTE) is None


def test_disconnecting_while_the_link_is_lost_ends_the_attempts(link: str) -> None:
    with bench(link=link) as (simulator, client):
        simulator.pull_cable()
        wait_lost(client)
        client.disconnect(1, 2)
        simulator.replug_cable()
        assert not simulator.in_use()
        serial.Serial(link, exclusive=True).close()
        client.connect(1)


def test_a_smaller_controller_on_the_same_cable_loses_the_channel_that_it_lacks(link: str) -> None:
    with Simulator(link=link) as simulator, DriverInside(SETTINGS) as client:
        client.set_port(link)
        client.connect(1, 2)
        simulator.close()
        wait_lost(client)
        with Simulator(link=link, channels=1):
            client.wait_state(TWO, "CONNECTION", "Alert")
            assert "there is no channel 2" in client.wait_message("there is no channel", device=TWO)
            assert client.property(TWO, ABSOLUTE) is None
            assert client.state(ONE, ABSOLUTE) == "Alert", "where this one stands is not what was known of the other"
            client.ask(ONE, "FOCUS_SYNC", {"FOCUS_SYNC_VALUE": 10})
            client.move_and_wait(1, 13)


def test_a_controller_of_the_other_generation_on_the_same_cable_is_offered_as_what_it_is(link: str) -> None:
    with Simulator(link=link) as simulator, DriverInside(SETTINGS) as client:
        client.set_port(link)
        client.connect(1, 2)
        assert client.property(ONE, "FAN") is not None
        simulator.close()
        wait_lost(client)
        with Simulator(link=link, generation=1):
            wait_back(client)
            client.wait(lambda: client.property(ONE, "FAN") is None, "the fans to be withdrawn")
            assert client.value(ONE, "FOCUS_LINK_INFO", "GENERATION") == "1"
            client.ask(TWO, "FOCUS_SYNC", {"FOCUS_SYNC_VALUE": 10})
            client.move_and_wait(2, 13)


# What cannot be believed


def lose_power_in_mid_move(client: FocuserClient, simulator: Simulator) -> None:
    under_way(client, 1, 5000)
    simulator.power_cycle()
    client.wait(
        lambda: client.value(ONE, "FOCUS_LINK_INFO", "POSITION") == "unverified", "the position to be unverified"
    )
    wait_back(client)


@BOTH
def test_power_lost_in_mid_move_makes_the_position_unverified(link: str, generation: int) -> None:
    with bench(generation=generation, link=link) as (simulator, client):
        since = len(client.received)
        lose_power_in_mid_move(client, simulator)
        assert (client.state(ONE, ABSOLUTE), client.position(1)) == ("Alert", 5000)
        messages = [text for text in client.messages(since, ONE) if "unverified" in text]
        assert len(messages) == 1
        assert "sync or zero to accept" in messages[0]
        assert client.devices[ONE]["FOCUS_LINK"].values == {"LINK": "Ok", "POSITION": "Alert"}
        assert client.state(TWO, ABSOLUTE) == "Ok"
        assert client.value(TWO, "FOCUS_LINK_INFO", "POSITION") == "verified"
        under_way(client, 2, 500)
        client.abort(2)
        assert len([text for text in client.messages(since, ONE) if "unverified" in text]) == 1


@BOTH
def test_power_lost_at_rest_leaves_the_position_verified(link: str, generation: int) -> None:
    with bench(generation=generation, link=link, speed=20) as (simulator, client):
        client.move_and_wait(1, 300)
        simulator.power_cycle()
        wait_back(client)
        assert (client.state(ONE, ABSOLUTE), client.position(1)) == ("Ok", 300)
        assert client.value(ONE, "FOCUS_LINK_INFO", "POSITION") == "verified"


@pytest.mark.parametrize("position", [0, 4000])
def test_a_sync_accepts_the_position(link: str, position: int) -> None:
    with bench(link=link) as (simulator, client):
        lose_power_in_mid_move(client, simulator)
        client.new(ONE, "FOCUS_SYNC", {"FOCUS_SYNC_VALUE": position})
        client.wait_state(ONE, ABSOLUTE, "Ok")
        client.settle(ONE)
        assert client.position(1) == position
        assert client.value(ONE, "FOCUS_LINK_INFO", "POSITION") == "verified"
        assert client.devices[ONE]["FOCUS_LINK"].values == {"LINK": "Ok", "POSITION": "Ok"}
        assert client.state(ONE, "FOCUS_LINK") == "Ok"


def test_an_unverified_position_stays_so_after_a_restart_until_it_is_accepted(link: str) -> None:
    with Simulator(link=link) as simulator:
        with connected(simulator) as client:
            lose_power_in_mid_move(client, simulator)
        with connected(simulator) as client:
            assert client.state(ONE, ABSOLUTE) == "Alert"
            assert client.state(TWO, ABSOLUTE) == "Ok"
            client.wait_message("unverified", device=ONE)
            client.ask(ONE, "FOCUS_SYNC", {"FOCUS_SYNC_VALUE": 5000})
        with connected(simulator) as client:
            assert client.state(ONE, ABSOLUTE) == "Ok"


def test_a_move_does_not_verify_the_position(link: str) -> None:
    with bench(link=link) as (simulator, client):
        lose_power_in_mid_move(client, simulator)
        client.move(1, 4998)
        client.wait(lambda: client.position(1) == 4998, "the move")
        client.wait_state(ONE, ABSOLUTE, "Alert")
        assert client.value(ONE, "FOCUS_LINK_INFO", "POSITION") == "unverified"


def test_a_motor_that_does_not_turn_is_alert_and_stopped() -> None:
    with bench() as (simulator, client):
        simulator.stall(1)
        lines = Lines(simulator)
        since = len(client.received)
        client.move(1, 500)
        client.wait(lambda: "Alert" in states(client, ONE, ABSOLUTE, since), "the alert")
        client.wait_message("stalled at 0", since, ONE)
        assert lines.orders() == [b"1+500", b"1S"]
        client.settle(ONE)
        assert len([text for text in client.messages(since, ONE) if "stalled" in text]) == 1
        since = len(client.received)
        client.move(1, 500)
        client.wait_message("stalled at 0", since, ONE)  # whoever tries again gets the message again
        simulator.stall(1, False)
        client.move_and_wait(1, 20)


def test_a_move_that_takes_too_long_is_alert_and_stopped() -> None:
    settings = Settings(moving_s=0.02, idle_s=NEVER_S, move_timeout_s=0.3)
    with bench(settings=settings) as (simulator, client):
        lines = Lines(simulator)
        client.move(1, 5000)
        client.wait_state(ONE, ABSOLUTE, "Alert")
        client.wait_message("did not reach 5000 in time", device=ONE)
        assert lines.orders() == [b"1+5000", b"1S"]
        assert client.position(1) == simulator.position(1) < 5000


# Anything at all


def test_nothing_that_a_client_sends_ends_the_driver() -> None:
    with bench() as (_, client):
        for text in (
            "<newNumberVector",
            "</newNumberVector>",
            "&&&",
            "<newNumberVector device='MultiFocus 1' name='FOCUS_SYNC'><oneNumber>5</oneNumber></newNumberVector>",
            "<newNumberVector/>",
            "<oneNumber name='x'>1</oneNumber>",
            "<getProperties/>",
            "<getProperties version='9.9' device=''/>",
            "<newBLOBVector device='MultiFocus 1' name='CONNECTION'><oneBLOB name='x' size='1' format='.x'>AA=="
            "</oneBLOB></newBLOBVector>",
            "<enableBLOB device='MultiFocus 1'>Also</enableBLOB>",
            "\0\1\2",
            "<a>" * 100,
            "<?xml version='1.0'?>",
            "<!DOCTYPE x [<!ENTITY a 'b'>]>",
            "\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"),
        ):
            client.send(f"{text}\n")
        client.send(
            "<newSwitchVector device='MultiFocus 2' name='CONNECTION'><oneSwitch name='DISCONNECT'>On</oneSwitch>"
        )
        client.send("</newSwitchVector>\n")
        client.wait_state(TWO, "CONNECTION", "Idle")
        client.move_and_wait(1, 5)
