# SPDX-License-Identifier: GPL-3.0-or-later
"""warwick.observatory.multifocus and rockit.focuser.multichannel: what the observatory's scripts import."""

from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path

import pytest
import rockit.focuser.multichannel as successor
from warwick.observatory.multifocus import CommandStatus, Config, FocuserStatus

from indi_multifocus.settings.configuration import ConfigError

PROJECT = Path(__file__).resolve().parents[2]


def test_the_documented_configuration_has_the_attributes_that_scripts_use() -> None:
    config = Config(PROJECT / "clasp.json")
    assert config.daemon.uri == "PYRO:clasp_focus_daemon@10.2.6.181:9036"
    assert (config.daemon.name, config.daemon.host, config.daemon.port) == ("clasp_focus_daemon", "10.2.6.181", 9036)
    assert config.control_ips == ["10.2.6.181"]
    assert (config.log_name, config.serial_port, config.serial_baud) == ("focusd@clasp", "/dev/focuser", 9600)
    assert (config.serial_timeout, config.idle_loop_delay, config.moving_loop_delay) == (5, 5, 0.5)
    assert (config.channels, config.move_timeout) == (2, 180)
    assert config.temperature_probes["rasa1"] == {"label": "RASA1", "address": "2834A2540A000023"}


def test_the_portable_telescope_s_configuration_is_read_by_the_successor_s_name() -> None:
    config = successor.Config(PROJECT / "portable.json")
    assert config.daemon.uri == "PYRO:portable_focus_daemon@127.0.0.1:9036"
    assert (config.control_ips, config.channels, config.temperature_probes) == (["127.0.0.1"], 1, {})


def test_a_connection_has_the_default_timeout_another_or_none() -> None:
    daemon = Config(PROJECT / "test.json").daemon
    timeouts = []
    for asked in (None, 2, 0):
        with daemon.connect(timeout=asked) as proxy:
            timeouts.append(proxy._pyroTimeout)
    assert timeouts[:2] == [5, 2]
    assert not timeouts[2]
    with daemon.connect(retries=3) as proxy:
        assert proxy._pyroMaxRetries == 3


def test_a_wrong_configuration_is_an_error_of_one_line(tmp_path: Path) -> None:
    path = tmp_path / "wrong.json"
    path.write_text("{}")
    with pytest.raises(ConfigError) as caught:
        Config(path)
    assert "\n" not in str(caught.value)


def test_codes_and_their_messages_are_the_documented_ones() -> None:
    names = "Succeeded Failed Blocked InvalidControlIP InvalidChannel PositionOutsideLimits NotConnected"
    assert [getattr(CommandStatus, name) for name in names.split()] == [0, 1, 2, 3, 4, 6, 7]
    assert CommandStatus.NotDisconnected == 8
    assert CommandStatus.message(2) == "error: another command is already running"
    assert CommandStatus.message(-101) == "error: unable to communicate with focus daemon"
    assert CommandStatus.message(77) == "error: Unknown error code 77"


def test_states_have_words_and_colours() -> None:
    assert (FocuserStatus.Disabled, FocuserStatus.Idle, FocuserStatus.Moving, FocuserStatus.Active) == (0, 1, 2, 1)
    assert [FocuserStatus.label(status) for status in range(4)] == ["OFFLINE", "IDLE", "MOVING", "UNKNOWN"]
    assert FocuserStatus.label(2, True) == "\033[1m\033[93mMOVING\033[0m"
    assert FocuserStatus.label(1, formatting=True) == "\033[1mIDLE\033[0m"


def test_the_successor_s_states_are_those_of_the_whole_box() -> None:
    status = successor.FocuserStatus
    assert (status.Disabled, status.Active) == (0, 1)
    assert [status.label(code) for code in range(3)] == ["OFFLINE", "ONLINE", "UNKNOWN"]
    assert status.label(0, True) == "[b][red]OFFLINE[/red][/b]"
    assert status.label(1, formatting=True) == "[b][default]ONLINE[/default][/b]"
    assert successor.CommandStatus.message(successor.CommandStatus.Blocked) == CommandStatus.message(2)


@pytest.mark.parametrize("names", ["warwick.observatory", "rockit.focuser"])
def test_other_packages_have_room_beside_it(tmp_path: Path, names: str) -> None:
    # The observatory's other projects install into the same namespaces.
    other = tmp_path.joinpath(*names.split("."), "dome")
    other.mkdir(parents=True)
    (other / "__init__.py").write_text("")
    top = names.partition(".")[0]
    ours = {"warwick": "multifocus", "rockit": "multichannel"}[top]
    program = f"import {names}.dome, {names}.{ours}, {top}; print({top}.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": f"{PROJECT}:{PROJECT}/packaging/python:{tmp_path}"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "None\n", done.stderr


def test_the_observatory_s_own_directory_decides_where_it_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = types.ModuleType("warwick.observatory.common")
    common.__spec__ = types.SimpleNamespace()  # type: ignore[assignment]
    daemons = types.ModuleType("warwick.observatory.common.daemons")
    daemons.clasp_focus = types.SimpleNamespace(name="other", host="10.0.0.9", port=9999)  # type: ignore[attr-defined]
    common.daemons = daemons  # type: ignore[attr-defined]
    common.IP = types.SimpleNamespace(CLASPTCS="10.0.0.8")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, common.__name__, common)
    monkeypatch.setitem(sys.modules, daemons.__name__, daemons)
    config = Config(PROJECT / "clasp.json")
    assert config.daemon.uri == "PYRO:other@10.0.0.9:9999"
    assert config.control_ips == ["10.0.0.8"]
