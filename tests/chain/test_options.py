# SPDX-License-Identifier: GPL-3.0-or-later
"""What every driver of libindi's kind offers beside its device: ways to connect, simulation, debug, saved settings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import pytest
from support import Bridge, DriverInside, FocuserClient

from indi_multifocus import link_settings
from indi_multifocus.settings.driver_settings import Settings
from indi_multifocus.simulator import Simulator

pytestmark = pytest.mark.usefixtures("no_thread_is_left")

ONE, TWO = "MultiFocus 1", "MultiFocus 2"
ABSOLUTE = "ABS_FOCUS_POSITION"
SETTINGS = Settings(moving_s=0.02, idle_s=3600.0)


def connect_to(client: FocuserClient, simulator: Simulator, *channels: int) -> None:
    client.set_port(simulator.port)
    client.connect(*channels)


# Ways to connect


def test_a_controller_behind_a_network_bridge_is_connected_to_by_its_address() -> None:
    with Simulator(speed=20) as simulator, Bridge(simulator.port) as bridge, DriverInside(SETTINGS) as client:
        assert client.devices[ONE]["CONNECTION_MODE"].on == ["CONNECTION_SERIAL"]
        client.ask(TWO, "CONNECTION_MODE", {"CONNECTION_TCP": "On"})
        client.ask(TWO, "DEVICE_ADDRESS", {"ADDRESS": "127.0.0.1", "PORT": str(bridge.number)})
        client.settle(TWO)
        assert client.devices[ONE]["CONNECTION_MODE"].on == ["CONNECTION_TCP"], "there is one link for all channels"
        assert client.value(ONE, "DEVICE_ADDRESS", "PORT") == str(bridge.number)
        client.connect(1, 2)
        client.move_and_wait(1, 100)
        assert simulator.position(1) == 100


def test_an_address_where_nobody_answers_is_refused_with_its_name_and_the_remedy() -> None:
    with Simulator() as simulator, Bridge(simulator.port) as bridge:
        number = bridge.number
    with DriverInside(SETTINGS) as client:
        client.ask(ONE, "CONNECTION_MODE", {"CONNECTION_TCP": "On"})
        client.ask(ONE, "DEVICE_ADDRESS", {"ADDRESS": "127.0.0.1", "PORT": str(number)})
        text = client.fail_to_connect()
        assert f"127.0.0.1 port {number}" in text
        assert "bridge" in text


@pytest.mark.parametrize(("address", "number"), [("", "4001"), ("mill", "0"), ("mill", "65536"), ("mill", "x")])
def test_an_address_that_is_none_is_not_taken(address: str, number: str) -> None:
    with DriverInside(SETTINGS) as client:
        before = dict(client.devices[ONE]["DEVICE_ADDRESS"].values)
        answer = client.ask(ONE, "DEVICE_ADDRESS", {"ADDRESS": address, "PORT": number})
        assert answer.state == "Alert"
        assert "socket://host:port is expected" in answer.message
        assert client.devices[ONE]["DEVICE_ADDRESS"].values == before


def test_network_without_an_address_is_refused_when_it_is_to_be_opened() -> None:
    with DriverInside(SETTINGS) as client:
        client.ask(ONE, "CONNECTION_MODE", {"CONNECTION_TCP": "On"})
        assert "no address is set" in client.fail_to_connect()


def test_an_address_can_be_taken_back() -> None:
    with DriverInside(SETTINGS) as client:
        assert client.ask(ONE, "DEVICE_ADDRESS", {"ADDRESS": "mill", "PORT": "4001"}).state == "Ok"
        assert client.ask(ONE, "DEVICE_ADDRESS", {"ADDRESS": "", "PORT": ""}).state == "Ok"
        client.settle(TWO)
        assert client.devices[TWO]["DEVICE_ADDRESS"].values == {"ADDRESS": "", "PORT": ""}


def test_a_configured_socket_is_shown_as_network_and_address() -> None:
    with DriverInside(Settings(port="socket://mill:4001")) as client:
        assert client.devices[ONE]["CONNECTION_MODE"].on == ["CONNECTION_TCP"]
        assert client.devices[ONE]["DEVICE_ADDRESS"].values == {"ADDRESS": "mill", "PORT": "4001"}


def found(monkeypatch: pytest.MonkeyPatch, ports: Sequence[str]) -> None:
    monkeypatch.setattr(link_settings, "list_ports", lambda: list(ports))


def test_a_scan_offers_the_ports_that_are_found_and_choosing_one_sets_the_port(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with DriverInside(SETTINGS) as client:
        found(monkeypatch, ["/dev/serial/by-id/usb-x", "/dev/ttyACM3"])
        assert client.ask(ONE, "DEVICE_PORT_SCAN", {"Scan Ports": "On"}).state == "Ok"
        client.settle(TWO)
        for device in (ONE, TWO):
            ports = client.devices[device]["SYSTEM_PORTS"]
            assert list(ports.values) == ["/dev/serial/by-id/usb-x", "/dev/ttyACM3"]
            assert "2 port(s)" in client.wait_message("Scan complete", device=device)
        client.ask(TWO, "SYSTEM_PORTS", {"/dev/ttyACM3": "On"})
        client.settle(TWO)
        for device in (ONE, TWO):
            assert client.value(device, "DEVICE_PORT", "PORT") == "/dev/ttyACM3"
            assert client.devices[device]["SYSTEM_PORTS"].on == ["/dev/ttyACM3"]
        found(monkeypatch, [])
        assert client.ask(ONE, "DEVICE_PORT_SCAN", {"Scan Ports": "On"}).state == "Alert"
        client.settle(TWO)
        assert client.property(ONE, "SYSTEM_PORTS") is client.property(TWO, "SYSTEM_PORTS") is None
        client.wait_message("No candidate ports", device=TWO)


# Simulation, debug


def test_simulation_needs_no_port_and_leaves_the_real_position_alone(home: Path) -> None:
    with Simulator(speed=20) as simulator, DriverInside(SETTINGS) as client:
        connect_to(client, simulator, 1)
        client.ask(ONE, "FOCUS_SYNC", {"FOCUS_SYNC_VALUE": 700})
        answer = client.ask(ONE, "SIMULATION", {"ENABLE": "On"})
        assert answer.state == "Alert"
        assert "disconnect" in answer.message
        client.disconnect(1)
        assert client.ask(ONE, "SIMULATION", {"ENABLE": "On"}).state == "Ok"
        client.settle(TWO)
        assert client.devices[TWO]["SIMULATION"].on == ["ENABLE"]
        client.connect(1, 2)
        assert not simulator.in_use()
        assert (client.position(1), client.position(2)) == (0, 0)
        client.move_and_wait(1, 5)
        client.ask(ONE, "FOCUS_SYNC", {"FOCUS_SYNC_VALUE": 50})
        assert client.ask(ONE, "SIMULATION_SPEED", {"FACTOR": 500}).state == "Ok"
        client.settle(TWO)
        assert client.value(TWO, "SIMULATION_SPEED", "FACTOR") == "500"
        client.move_and_wait(2, 9000)  # a minute and a half at the real speed
        client.disconnect(1, 2)
        client.ask(ONE, "SIMULATION", {"DISABLE": "On"})
        client.settle(ONE)
        assert client.property(ONE, "SIMULATION_SPEED") is None
        client.connect(1)
        assert client.position(1) == 700
        assert simulator.in_use()


def test_debug_shows_what_is_said_to_the_controller_while_it_is_on() -> None:
    with Simulator() as simulator, DriverInside(SETTINGS) as client:
        connect_to(client, simulator, 1, 2)
        client.abort(1)
        assert not any("[DEBUG]" in text for text in client.messages())
        client.ask(ONE, "DEBUG", {"ENABLE": "On"})
        client.abort(1)
        client.wait_message("serial: > b'1S", device=ONE)
        client.wait_message("serial: < b'$", device=ONE)
        client.wait_message("FOCUS_ABORT_MOTION", device=ONE)
        assert not any("[DEBUG]" in text for text in client.messages(device=TWO))
        client.ask(ONE, "DEBUG", {"DISABLE": "On"})
        client.settle(ONE)
        since = len(client.received)
        client.abort(1)
        client.settle(ONE)
        assert not any("[DEBUG]" in text for text in client.messages(since))


# Saved settings


def saved(home: Path, device: str = ONE) -> Path:
    """The file in which a device's settings are saved."""
    return home / ".indi" / f"{device}_config.xml"


def saved_values(path: Path, name: str) -> dict[str, str]:
    """What a file says of a property of the first device."""
    vector = next(v for v in ElementTree.parse(path).getroot() if v.attrib["name"] == name)
    return {element.attrib["name"]: (element.text or "").strip() for element in vector}


def process(client: FocuserClient, action: str, device: str = ONE) -> None:
    answer = client.ask(device, "CONFIG_PROCESS", {action: "On"})
    assert answer.state == "Ok", answer
    assert answer.message.startswith("[INFO] ")
    assert client.devices[device]["CONFIG_PROCESS"].on == []


def test_what_is_saved_is_there_in_the_next_run_and_what_is_not_is_gone(home: Path) -> None:
    with Simulator() as simulator:
        with DriverInside(SETTINGS) as client:
            connect_to(client, simulator, 1)
            client.ask(ONE, "FOCUS_BACKLASH_STEPS", {"FOCUS_BACKLASH_VALUE": 40})
            client.ask(ONE, "POLLING_PERIOD", {"PERIOD_MS": 250})
            process(client, "CONFIG_SAVE")
            client.ask(ONE, "POLLING_PERIOD", {"PERIOD_MS": 900})
        with DriverInside(SETTINGS) as client:
            assert client.value(ONE, "POLLING_PERIOD", "PERIOD_MS") == "250"
            client.connect(1, 2)
            assert client.value(ONE, "FOCUS_BACKLASH_STEPS", "FOCUS_BACKLASH_VALUE") == "40"
            assert client.value(TWO, "FOCUS_BACKLASH_STEPS", "FOCUS_BACKLASH_VALUE") == "0"


def test_the_travel_is_saved_without_being_asked_for_and_so_is_the_port_that_worked(home: Path) -> None:
    with Simulator() as simulator:
        with DriverInside(SETTINGS) as client:
            connect_to(client, simulator, 1)
            client.ask(ONE, "FOCUS_MAX", {"FOCUS_MAX_VALUE": 5000})
            client.ask(ONE, "FOCUS_MIN", {"FOCUS_MIN_VALUE": -70})
        assert saved_values(saved(home), "FOCUS_MAX") == {"FOCUS_MAX_VALUE": "5000"}
        with DriverInside(SETTINGS) as client:
            assert client.value(TWO, "DEVICE_PORT", "PORT") == simulator.port
            client.connect(1)
            assert client.devices[ONE][ABSOLUTE].ranges["FOCUS_ABSOLUTE_POSITION"][:2] == (-70, 5000)


def test_settings_are_loaded_defaulted_and_deleted_as_asked_for(home: Path) -> None:
    with Simulator() as simulator, DriverInside(SETTINGS) as client:
        connect_to(client, simulator, 1)

        def period() -> str:
            client.settle(ONE)
            return client.value(ONE, "POLLING_PERIOD", "PERIOD_MS")

        client.ask(ONE, "POLLING_PERIOD", {"PERIOD_MS": 40})
        process(client, "CONFIG_SAVE")
        client.ask(ONE, "POLLING_PERIOD", {"PERIOD_MS": 90})
        process(client, "CONFIG_LOAD")
        assert period() == "40"
        process(client, "CONFIG_DEFAULT")
        assert period() == "20"
        process(client, "CONFIG_LOAD")
        assert period() == "40"
        process(client, "CONFIG_PURGE")
        assert not saved(home).exists()


def test_settings_that_libindi_wrote_are_read(home: Path) -> None:
    path = saved(home)
    path.parent.mkdir()
    path.write_text(
        f"""<INDIDriver>
<newSwitchVector device='{ONE}' name='FOCUS_BACKLASH_TOGGLE'>
  <oneSwitch name='INDI_ENABLED'>
      On
  </oneSwitch>
  <oneSwitch name='INDI_DISABLED'>
      Off
  </oneSwitch>
</newSwitchVector>
<newNumberVector device='{ONE}' name='FOCUS_BACKLASH_STEPS'>
  <oneNumber name='FOCUS_BACKLASH_VALUE'>
      1.200000000000000000e+02
  </oneNumber>
</newNumberVector>
<newNumberVector device='{ONE}' name='Presets'>
  <oneNumber name='PRESET_1'>
      100
  </oneNumber>
  <oneNumber name='PRESET_2'>
      200
  </oneNumber>
  <oneNumber name='PRESET_3'>
      300
  </oneNumber>
</newNumberVector>
</INDIDriver>
"""
    )
    with Simulator() as simulator, DriverInside(SETTINGS) as client:
        connect_to(client, simulator, 1)
        assert client.devices[ONE]["FOCUS_BACKLASH_TOGGLE"].on == ["INDI_ENABLED"]
        assert client.value(ONE, "FOCUS_BACKLASH_STEPS", "FOCUS_BACKLASH_VALUE") == "120"
        assert list(client.devices[ONE]["Presets"].values.values()) == ["100", "200", "300"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<INDIDriver>",
        "<INDIDriver><newNumberVector</INDIDriver>",
        "\0\xff" * 100,
        "<INDIDriver>" + "<a>" * 1000 + "</INDIDriver>",
        "x" * 2_000_000,
    ],
    ids=["empty", "cut", "broken", "binary", "deep", "huge"],
)
def test_a_damaged_file_is_a_message_and_the_defaults(home: Path, text: str) -> None:
    path = saved(home)
    path.parent.mkdir()
    path.write_bytes(text.encode("latin-1"))
    with Simulator() as simulator, DriverInside(SETTINGS) as client:
        warning = client.wait_message(str(path), device=ONE)
        assert warning.startswith("[WARNING] ")
        assert "damaged" in warning
        answer = client.ask(ONE, "CONFIG_PROCESS", {"CONFIG_LOAD": "On"})
        assert answer.state == "Alert"
        assert "damaged" in answer.message
        connect_to(client, simulator, 1)
        process(client, "CONFIG_SAVE")
        process(client, "CONFIG_LOAD")


@pytest.mark.parametrize(
    ("name", "kind", "element", "value"),
    [
        (ABSOLUTE, "Number", "FOCUS_ABSOLUTE_POSITION", "500"),
        ("FOCUS_SYNC", "Number", "FOCUS_SYNC_VALUE", "500"),
        ("CONNECTION", "Switch", "CONNECT", "On"),
        ("Goto", "Switch", "Preset 1", "On"),
        ("SIMULATION", "Switch", "ENABLE", "On"),
        ("FOCUS_BACKLASH_STEPS", "Number", "FOCUS_BACKLASH_VALUE", "-5"),
        ("DEVICE_PORT", "Text", "PORT", "loop://"),
    ],
)
def test_no_file_moves_a_motor_or_sets_what_a_client_could_not(
    home: Path, name: str, kind: str, element: str, value: str
) -> None:
    path = saved(home)
    path.parent.mkdir()
    path.write_text(
        f"<INDIDriver><new{kind}Vector device='{ONE}' name='{name}'><one{kind} name='{element}'>{value}</one{kind}>"
        f"</new{kind}Vector></INDIDriver>"
    )
    with Simulator() as simulator, DriverInside(SETTINGS) as client:
        assert client.state(ONE, "CONNECTION") == "Idle"
        connect_to(client, simulator, 1)
        client.settle(ONE)
        assert client.value(ONE, name, element) != value or name == "CONNECTION"
        assert simulator.standstill(1) == 0
        assert client.position(1) == 0


def test_indiconfig_names_the_one_file_of_all_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "observatory.xml"
    monkeypatch.setenv("INDICONFIG", str(path))
    with Simulator() as simulator:
        with DriverInside(SETTINGS) as client:
            connect_to(client, simulator, 1, 2)
            for device, steps in ((ONE, 40), (TWO, 60)):
                client.ask(device, "FOCUS_BACKLASH_STEPS", {"FOCUS_BACKLASH_VALUE": steps})
                process(client, "CONFIG_SAVE", device)
        assert path.exists()
        with DriverInside(SETTINGS) as client:
            client.connect(1, 2)
            for device, text in ((ONE, "40"), (TWO, "60")):
                assert client.value(device, "FOCUS_BACKLASH_STEPS", "FOCUS_BACKLASH_VALUE") == text


def test_what_the_observatory_configured_is_not_replaced_by_what_was_saved(home: Path) -> None:
    with Simulator() as simulator:
        with DriverInside(SETTINGS) as client:
            connect_to(client, simulator, 1)
            client.ask(ONE, "FOCUS_MAX", {"FOCUS_MAX_VALUE": 5000})
        configured = Settings(source="multifocus.json", port="/dev/focuser", travel={1: (-100, 900)}, moving_s=0.5)
        with DriverInside(configured) as client:
            assert client.value(ONE, "DEVICE_PORT", "PORT") == "/dev/focuser"
            assert client.value(ONE, "POLLING_PERIOD", "PERIOD_MS") == "500"
            connect_to(client, simulator, 1)
            assert client.devices[ONE][ABSOLUTE].ranges["FOCUS_ABSOLUTE_POSITION"][:2] == (-100, 900)
