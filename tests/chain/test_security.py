# SPDX-License-Identifier: GPL-3.0-or-later
"""What SECURITY.md promises: nothing is opened, written or run on a client's word but the port and our own files.

INDI has no authentication, so a client is anybody who reaches the port of indiserver. And a folder that others may
write to, like one below /tmp that INDICONFIG names, may hold what they planted.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path

import pytest
from configuration import configured
from support import DriverProcess, FocuserClient, run_driver, state_file

from indi_multifocus.settings.files import file_name, write_atomically
from indi_multifocus.simulator import Simulator

ONE = "MultiFocus 1"
URLS = ["loop://", "spy:///dev/null", "rfc2217://localhost:1", "alt:///dev/null?class=PosixPollSerial", "hwgrep://.*"]
DEVICES = ["/dev/null", "/dev/zero", "/dev/random", "/dev/mem", "/dev/watchdog"]


def connect_in_vain(client: FocuserClient) -> str:
    """Why the driver does not open the configured port."""
    message = client.fail_to_connect()
    client.settle(ONE)
    return message


@pytest.mark.parametrize("name", URLS)
def test_a_client_cannot_name_another_url_than_a_socket(home: Path, name: str) -> None:
    with DriverProcess(home) as driver:
        answer = driver.client.ask(ONE, "DEVICE_PORT", {"PORT": name})
        assert (answer.state, answer.values["PORT"]) == ("Alert", "/dev/ttyACM0")
        assert "is no port" in answer.message


@pytest.mark.parametrize("name", [*URLS, *DEVICES])
def test_a_configuration_cannot_name_it_either(home: Path, tmp_path: Path, name: str) -> None:
    with DriverProcess(home, configured(tmp_path / "multifocus.json", name)) as driver:
        message = connect_in_vain(driver.client)
        assert "port" in message


@pytest.mark.parametrize("name", [*URLS, *DEVICES, "../../etc/passwd"])
def test_nor_can_saved_settings(home: Path, name: str) -> None:
    folder = home / ".indi"
    folder.mkdir()
    (folder / f"{ONE}_config.xml").write_text(
        f"<INDIDriver><newTextVector device='{ONE}' name='DEVICE_PORT'><oneText name='PORT'>{name}</oneText>"
        "</newTextVector></INDIDriver>"
    )
    with DriverProcess(home) as driver:
        assert "port" in connect_in_vain(driver.client)


def open_files(pid: int) -> list[str]:
    """What a process has open."""
    found = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed just now
            found.append(os.readlink(entry))
    return found


@pytest.mark.parametrize("by_link", [False, True])
@pytest.mark.parametrize("kind", ["file", "FIFO", "folder", "/dev/null"])
def test_a_client_cannot_have_a_thing_opened_that_is_no_terminal(
    home: Path, tmp_path: Path, kind: str, by_link: bool
) -> None:
    thing = tmp_path / "thing"
    if kind == "file":
        thing.write_text("precious")
    elif kind == "FIFO":
        os.mkfifo(thing)
    elif kind == "folder":
        thing.mkdir()
    else:
        thing = Path(kind)
    name = thing
    if by_link:
        name = tmp_path / "link"
        name.symlink_to(thing)
    with DriverProcess(home) as driver:
        driver.client.set_port(str(name))
        assert "is not a serial port" in connect_in_vain(driver.client)
        assert str(thing) not in [path for path in open_files(driver.process.pid) if kind != "/dev/null"]
    if kind == "file":
        assert thing.read_text() == "precious"
    elif kind == "FIFO":
        with pytest.raises(OSError) as refusal:
            os.open(thing, os.O_WRONLY | os.O_NONBLOCK)
        assert refusal.value.errno == errno.ENXIO


@pytest.mark.parametrize(
    "name", ["../../etc/cron.d/x", "/etc/passwd", "..", ".", "", ".bashrc", "a\0b", "..\\..\\x", "a/../b"]
)
def test_no_name_of_a_device_leads_out_of_the_folder(home: Path, name: str) -> None:
    for ending in ("_state.json", "_config.xml"):
        path = file_name(name, ending)
        assert os.path.dirname(os.path.realpath(path)) == os.path.realpath(home / ".indi")
        assert "\0" not in path
        assert not os.path.basename(path).startswith(".")


def test_an_environment_s_name_of_devices_does_not_lead_out_either(home: Path) -> None:
    done = run_driver(home, {"INDIDEV": "../../escaped"})
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith('indi_multifocus: INDIDEV: "../../escaped": a name of')
    assert list(home.iterdir()) == []


def test_a_port_s_name_does_not_lead_out_either(home: Path, tmp_path: Path) -> None:
    """Of it the files are named in which positions are remembered."""
    with Simulator() as simulator, DriverProcess(home) as driver:
        driver.client.set_port(f"{tmp_path}{'/..' * 30}{simulator.port}")
        driver.client.connect(1)
        assert driver.client.ask(ONE, "FOCUS_SYNC", {"FOCUS_SYNC_VALUE": 5}).state == "Ok"
    assert sorted(path.name for path in home.iterdir()) == [".indi", "driver.stderr"]
    assert state_file(home, 1).parent == home / ".indi"
    assert not list(home.parent.glob("*_state.json"))


def test_files_are_written_for_their_owner_alone_to_change_whatever_a_driver_was_started_with(home: Path) -> None:
    before = os.umask(0)
    try:
        with Simulator() as simulator, DriverProcess(home) as driver:
            driver.client.set_port(simulator.port)
            driver.client.connect(1)
            assert driver.client.ask(ONE, "FOCUS_SYNC", {"FOCUS_SYNC_VALUE": 5}).state == "Ok"
            assert driver.client.ask(ONE, "CONFIG_PROCESS", {"CONFIG_SAVE": "On"}).state == "Ok"
    finally:
        os.umask(before)
    files = {path for path in (home / ".indi").iterdir() if path.suffix != ".tmp"}
    assert {state_file(home, 1), home / ".indi" / f"{ONE}_config.xml"} <= files
    assert {path.suffix for path in files} == {".json", ".xml", ".lock"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o644}
    assert stat.S_IMODE((home / ".indi").stat().st_mode) == 0o755


@pytest.mark.parametrize("kind", ["symlink", "hard link", "dangling symlink"])
def test_what_somebody_planted_in_the_folder_is_replaced_and_not_followed(
    home: Path, tmp_path: Path, kind: str
) -> None:
    victim = tmp_path / "victim"
    if kind != "dangling symlink":
        victim.write_text("precious")
    path = tmp_path / "shared" / "state.json"
    path.parent.mkdir(mode=0o777)
    for planted in (path, Path(f"{path}.{os.getpid()}.tmp")):
        if kind == "hard link":
            planted.hardlink_to(victim) if hasattr(planted, "hardlink_to") else os.link(victim, planted)
        else:
            planted.symlink_to(victim)
    write_atomically(str(path), b"ours")
    assert path.read_bytes() == b"ours"
    assert not path.is_symlink()
    assert path.stat().st_uid == os.getuid()
    assert [entry.name for entry in path.parent.iterdir()] == ["state.json"]
    if kind == "dangling symlink":
        assert not victim.exists()
    else:
        assert victim.read_text() == "precious"


@pytest.mark.parametrize("planted", ["a FIFO", "a device"])
@pytest.mark.parametrize("what", ["state", "settings", "lock"])
def test_what_is_no_file_holds_nobody_up_and_is_not_read_without_end(home: Path, what: str, planted: str) -> None:
    with Simulator() as simulator:
        with DriverProcess(home) as driver:
            driver.client.set_port(simulator.port)
            driver.client.connect(1)
            assert driver.client.ask(ONE, "CONFIG_PROCESS", {"CONFIG_SAVE": "On"}).state == "Ok"
        (lock,) = (home / ".indi").glob("*.lock")
        path = {"state": state_file(home, 1), "settings": home / ".indi" / f"{ONE}_config.xml", "lock": lock}[what]
        path.unlink()
        if planted == "a FIFO":
            os.mkfifo(path)
        else:
            path.symlink_to("/dev/zero")
        with DriverProcess(home) as driver:
            driver.client.set_port(simulator.port)
            driver.client.connect(1)
            if what != "lock":
                assert f"this is {planted}" in driver.client.wait_message(str(path))
            assert (driver.client.state(ONE, "ABS_FOCUS_POSITION") == "Alert") == (what == "state")
