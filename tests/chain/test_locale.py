# SPDX-License-Identifier: GPL-3.0-or-later
"""A driver whose locale has no É: INDI and files are UTF-8 all the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from configuration import configured
from support import DriverProcess, eventually

from indi_multifocus.settings.system_text import from_system, to_system
from indi_multifocus.simulator import Simulator

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
"""What cron, old init scripts and `env -i` leave; Python of itself would choose UTF-8."""


@pytest.mark.parametrize("how", ["INDIDEV", "label"])
def test_a_name_that_the_locale_cannot_write_is_a_device_with_files_as_others(tmp_path: Path, how: str) -> None:
    home = tmp_path / "hömé"
    home.mkdir()
    with Simulator(link=tmp_path / "focüser", speed=20) as simulator:
        if how == "INDIDEV":
            extra, device = {"INDIDEV": "É"}, "É 1"
        else:
            extra, device = configured(tmp_path / "é.json", simulator.port, labels={"1": "É"}), "É"
        with DriverProcess(home, {**ASCII, **extra}) as driver:
            client = driver.client
            client.settle(device)
            if how == "INDIDEV":
                assert client.ask(device, "DEVICE_PORT", {"PORT": simulator.port}, "Text").state == "Ok"
            client.new(device, "CONNECTION", {"CONNECT": "On"}, "Switch")
            client.wait_state(device, "CONNECTION", "Ok")
            client.ask(device, "ABS_FOCUS_POSITION", {"FOCUS_ABSOLUTE_POSITION": 50}, "Number")
            client.wait_state(device, "ABS_FOCUS_POSITION", "Ok")
            client.ask(device, "FOCUS_SYNC", {"FOCUS_SYNC_VALUE": 700}, "Number")
            client.wait_state(device, "FOCUS_SYNC", "Ok")
            client.new(device, "CONFIG_PROCESS", {"CONFIG_SAVE": "On"}, "Switch")
            client.wait_state(device, "CONFIG_PROCESS", "Ok")
        saved = (home / ".indi" / f"{device}_config.xml").read_text()
        assert f"device='{device}'" in saved
        with DriverProcess(home, {**ASCII, **extra}) as driver:
            driver.client.new(device, "CONNECTION", {"CONNECT": "On"}, "Switch")
            driver.client.wait_state(device, "CONNECTION", "Ok")
            driver.client.settle(device)
            assert driver.client.value(device, "ABS_FOCUS_POSITION", "FOCUS_ABSOLUTE_POSITION") == "700"


def test_a_port_that_is_not_there_is_named_whatever_the_locale(home: Path) -> None:
    with DriverProcess(home, ASCII) as driver:
        driver.client.set_port("/dev/É")
        assert "port /dev/É does not exist" in driver.client.fail_to_connect()


def test_a_configuration_that_is_not_there_is_named_whatever_the_locale(home: Path) -> None:
    driver = DriverProcess(home, {**ASCII, "INDI_MULTIFOCUS_CONFIG": "/nowhere/É.json"})
    driver.stdin.close()
    assert driver.wait() == 1
    eventually(lambda: driver.errors == "indi_multifocus: /nowhere/É.json: there is no such file\n", driver.errors)
    driver.process.stdout.close()  # type: ignore[union-attr]


def test_text_that_is_right_already_and_bytes_that_are_no_text_come_through() -> None:
    for text in ("É", "\udcff", "plain"):
        assert from_system(to_system(text)) == from_system(text) == text
