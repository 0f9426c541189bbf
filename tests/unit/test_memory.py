# SPDX-License-Identifier: GPL-3.0-or-later
"""What is remembered of a channel's position, and what becomes of it when the file is not as it should be."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indi_multifocus.settings.remembered_position import (
    Departure,
    Memory,
    file_name,
    folder,
    this_boot,
    uptime_s,
    write_atomically,
)

DEVICE = "MultiFocus 1"
STEPS = st.integers(-9_999_999, 9_999_999)


@pytest.fixture
def file(home: Path) -> Path:
    """The state file of the device, which is not there yet."""
    path = home / ".indi" / f"{DEVICE}_state.json"
    path.parent.mkdir()
    return path


# Where it is kept


def test_it_is_kept_where_the_drivers_of_libindi_keep_theirs(home: Path) -> None:
    assert folder() == str(home / ".indi")
    assert file_name(DEVICE, "_state.json") == str(home / ".indi" / "MultiFocus 1_state.json")


def test_it_is_kept_beside_the_file_that_indiconfig_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INDICONFIG", str(tmp_path / "elsewhere" / "config.xml"))
    Memory(DEVICE).save()
    assert (tmp_path / "elsewhere" / "MultiFocus 1_state.json").exists()


@pytest.mark.parametrize("device", ["../../etc/passwd", "/etc/passwd", "..", ".", "", "a/b", "a\\b", "a\0b", ".hidden"])
def test_no_name_of_a_device_leads_out_of_the_folder(home: Path, device: str) -> None:
    path = file_name(device, "_state.json")
    assert os.path.dirname(os.path.abspath(path)) == str(home / ".indi")
    assert not os.path.basename(path).startswith(".")
    assert "\0" not in path


# What is remembered


def test_a_channel_of_which_nothing_is_known_stands_where_the_controller_says() -> None:
    memory = Memory(DEVICE)
    assert (memory.offset, memory.sign, memory.unverified, memory.departure) == (0, 1, False, None)
    assert memory.problem == ""
    assert memory.position(-123) == -123


@given(offset=STEPS, turned=st.booleans(), steps=STEPS)
def test_steps_and_positions_are_each_other_s_inverse(offset: int, turned: bool, steps: int) -> None:
    memory = Memory(DEVICE)
    memory.offset, memory.reversed = offset, turned
    assert memory.steps(memory.position(steps)) == steps
    assert memory.position(memory.steps(steps)) == steps
    assert memory.position(steps + 1) - memory.position(steps) == (-1 if turned else 1)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    offset=STEPS,
    turned=st.booleans(),
    unverified=st.booleans(),
    departure=st.none()
    | st.builds(Departure, STEPS, STEPS, st.floats(0, 1e10).map(lambda s: round(s, 3)), st.just("")),
)
def test_what_was_saved_is_what_is_known_next_time(
    offset: int, turned: bool, unverified: bool, departure: Departure | None
) -> None:
    memory = Memory(DEVICE)
    memory.offset, memory.reversed, memory.unverified, memory.departure = offset, turned, unverified, departure
    memory.save()
    found = Memory(DEVICE)
    assert (found.offset, found.reversed, found.unverified, found.departure) == (offset, turned, unverified, departure)
    assert found.problem == ""


def test_the_channels_have_a_memory_each() -> None:
    memory = Memory(DEVICE)
    memory.offset = 7
    memory.save()
    assert Memory("MultiFocus 2").offset == 0


def test_a_move_is_remembered_from_its_departure_to_its_arrival(file: Path) -> None:
    memory = Memory(DEVICE)
    memory.departs(100, 900)
    departure = Memory(DEVICE).departure
    assert departure is not None
    assert (departure.start, departure.target, departure.boot) == (100, 900, this_boot())
    assert -0.01 <= uptime_s() - departure.time_s < 60, "it is no time of the day, which somebody may set"
    memory.arrives()
    assert Memory(DEVICE).departure is None
    before = file.stat()
    memory.arrives()
    after = file.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns), "nothing new is not written"


def test_a_user_whom_nobody_knows_has_no_home_and_no_folder_of_that_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert folder() == "/.indi"


# When the file is not as it should be


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[]",
        "5",
        '"offset"',
        "{}",
        '{"offset": 1, "reversed": false}',
        '{"offset": 1.5, "reversed": false, "unverified": false}',
        '{"offset": "1", "reversed": false, "unverified": false}',
        '{"offset": true, "reversed": false, "unverified": false}',
        '{"offset": 1, "reversed": 0, "unverified": false}',
        '{"offset": 1, "reversed": false, "unverified": null}',
        '{"offset": NaN, "reversed": false, "unverified": false}',
        '{"offset": ' + "9" * 4000 + ', "reversed": false, "unverified": false}',
        '{"offset": 1, "reversed": false, "unverified": false, "departure": 5}',
        '{"offset": 1, "reversed": false, "unverified": false, "departure": {"start": 1}}',
        '{"offset": 1, "reversed": false, "unverified": false, "departure": {"start": 1, "target": 2, "time_s": "x", '
        '"boot": ""}}',
        '{"offset": 1, "reversed": false, "unverified": false, "departure": {"start": 1, "target": 2, "time_s": 1, '
        '"boot": "\\""}}',
        '{"offset": 1, "reversed": false, "unverified": false, "departure": {"start": 1, "target": 1e400, "time_s": 1, '
        '"boot": ""}}',
        *[
            '{"offset": 1, "reversed": false, "unverified": false, "departure": {"start": 1, "target": 2, '
            f'"time_s": {time_s}, "boot": ""}}}}'
            for time_s in ("1" + "0" * 400, "1e999", "NaN", "-1", "true", "null", '"1"')
        ],
        "[" * 4000,
        "x" * 100_000,
        "\xff\xfe",
    ],
)
def test_a_damaged_file_makes_the_position_unverified_and_says_so(file: Path, text: str) -> None:
    file.write_bytes(text.encode("latin-1"))
    memory = Memory(DEVICE)
    assert (memory.offset, memory.reversed, memory.unverified) == (0, False, True)
    assert str(file) in memory.problem
    assert "\n" not in memory.problem
    memory.unverified = False
    memory.save()
    assert (Memory(DEVICE).problem, Memory(DEVICE).unverified) == ("", False), "what is saved anew is whole again"


def test_a_file_that_cannot_be_read_makes_the_position_unverified_and_says_so(file: Path) -> None:
    file.mkdir()
    memory = Memory(DEVICE)
    assert memory.unverified
    assert str(file) in memory.problem


def test_what_cannot_be_saved_is_told_and_still_known(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.parent.rmdir()
    file.parent.write_text("a file where the folder should be")
    memory = Memory(DEVICE)
    memory.offset = 5
    memory.save()
    assert str(file) in memory.problem
    assert str(file) in capsys.readouterr().err
    memory.save()
    assert capsys.readouterr().err == "", "a log is not filled with it"
    assert memory.offset == 5
    file.parent.unlink()
    memory.save()
    assert memory.problem == ""
    assert Memory(DEVICE).offset == 5


def test_the_file_holds_what_a_person_can_read(file: Path) -> None:
    memory = Memory(DEVICE)
    memory.offset = -250
    memory.save()
    assert json.loads(file.read_text()) == {"offset": -250, "reversed": False, "unverified": False}


# Writing


def test_a_file_is_replaced_and_nothing_else_is_left(file: Path) -> None:
    write_atomically(str(file), b"old")
    with open(file, "rb") as reader:
        write_atomically(str(file), b"new")
        assert reader.read() == b"old", "who reads it meanwhile has the old one whole"
    assert file.read_bytes() == b"new"
    assert os.listdir(file.parent) == [file.name]
    assert stat.S_IMODE(file.stat().st_mode) & 0o022 == 0


def test_a_file_may_be_named_as_seen_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_atomically("file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"


@pytest.mark.parametrize("fails", ["write", "fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    file: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    write_atomically(str(file), b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, fails, full)
        with pytest.raises(OSError, match="No space left"):
            write_atomically(str(file), b"new")
    assert file.read_bytes() == b"old"
    assert os.listdir(file.parent) == [file.name]


def test_a_link_in_the_place_of_the_new_file_is_not_followed(file: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    os.symlink(victim, f"{file}.{os.getpid()}.tmp")
    write_atomically(str(file), b"new")
    assert file.read_bytes() == b"new"
    assert not file.is_symlink()
    assert victim.read_text() == "mine"
