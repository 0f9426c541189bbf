# SPDX-License-Identifier: GPL-3.0-or-later
"""The driver's files: where they are, how they are replaced, and the thread that writes them."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import DEADLINE_S
from waiting import eventually

from indi_multifocus.settings import files
from indi_multifocus.settings.files import FileWriter, Written, file_name, folder, write_atomically

pytestmark = pytest.mark.usefixtures("no_thread_is_left")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "folder").mkdir()
    return tmp_path / "folder" / "file"


# Where they are


def test_they_are_where_the_drivers_of_libindi_keep_theirs(home: Path) -> None:
    assert folder() == str(home / ".indi")
    assert file_name("MultiFocus 1", "_config.xml") == str(home / ".indi" / "MultiFocus 1_config.xml")


def test_they_are_beside_the_file_that_indiconfig_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INDICONFIG", str(tmp_path / "elsewhere" / "config.xml"))
    assert folder() == str(tmp_path / "elsewhere")


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "..", ".", "", "a/b", "a\\b", "a\0b", ".hidden"])
def test_no_name_leads_out_of_the_folder(home: Path, name: str) -> None:
    path = file_name(name, "_state.json")
    assert os.path.dirname(os.path.abspath(path)) == str(home / ".indi")
    assert not os.path.basename(path).startswith(".")
    assert "\0" not in path


def test_a_user_whom_nobody_knows_has_no_home_and_no_folder_of_that_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert folder() == "/.indi"


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


def test_file_and_folders_are_on_the_disk_before_it_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synchronised: list[str] = []
    fsync = os.fsync

    def note(fd: int) -> None:
        synchronised.append(os.readlink(f"/proc/self/fd/{fd}"))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", note)
    path = tmp_path / "a" / "b" / "file"
    write_atomically(str(path), b"new")
    assert synchronised[:2] == [str(tmp_path), str(tmp_path / "a")], "the new folders"
    assert synchronised[2].startswith(str(path))
    assert synchronised[3:] == [str(path.parent)]


# The thread that writes


class Slow:
    """A writer whose disk waits until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reports: list[Written] = []
        self.failures: list[str] = []
        self.go = threading.Semaphore(0)
        self.begun = threading.Semaphore(0)
        self.written: list[tuple[str, bytes]] = []
        self.writer = FileWriter(self.reports.append, failed=self.failures.append)
        write = files.write_atomically

        def slowly(path: str, data: bytes) -> None:
            self.begun.release()
            self.go.acquire()
            self.written.append((path, data))
            write(path, data)

        monkeypatch.setattr(files, "write_atomically", slowly)

    def let_go(self, count: int = 1) -> None:
        self.go.release(count)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[Slow]:
    made = Slow(monkeypatch)
    yield made
    made.let_go(100)
    assert made.writer.close(DEADLINE_S)


def test_of_each_file_the_newest_content_is_written_and_reported(slow: Slow, tmp_path: Path) -> None:
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    first = slow.writer.write(one, b"first")
    assert slow.begun.acquire(timeout=DEADLINE_S)
    slow.writer.write(one, b"second")
    other = slow.writer.write(two, b"other")
    last = slow.writer.write(one, b"last")
    assert slow.reports == [], "write waits for no disk"
    slow.let_go(10)
    eventually(lambda: len(slow.reports) == 3, "the reports")
    assert slow.written == [(one, b"first"), (two, b"other"), (one, b"last")]
    assert slow.reports == [Written(one, first), Written(two, other), Written(one, last)]
    assert first < other < last


def test_what_is_not_written_yet_is_read_as_it_will_be(slow: Slow, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    assert slow.writer.read(str(path), 100) == b"old"
    slow.writer.write(str(path), b"new content")
    assert slow.writer.read(str(path), 3) == b"new"
    slow.writer.write(str(path), None)
    with pytest.raises(FileNotFoundError):
        slow.writer.read(str(path), 100)


def test_a_file_is_deleted(slow: Slow, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    number = slow.writer.write(str(path), None)
    eventually(lambda: slow.reports == [Written(str(path), number)], "the report")
    assert not path.exists()


def test_what_cannot_be_written_is_reported_and_the_next_file_is_written(slow: Slow, tmp_path: Path) -> None:
    (tmp_path / "folder").write_text("a file where the folder should be")
    number = slow.writer.write(str(tmp_path / "folder" / "file"), b"new")
    slow.writer.write(str(tmp_path / "other"), b"new")
    slow.let_go(2)
    eventually(lambda: len(slow.reports) == 2, "the reports")
    assert slow.reports[0].number == number
    assert slow.reports[0].problem.startswith(f"cannot write {tmp_path}/folder/file: ")
    assert slow.reports[1].problem == ""


def test_at_the_end_what_waits_is_written_as_far_as_there_is_time(slow: Slow, tmp_path: Path) -> None:
    slow.writer.write(str(tmp_path / "one"), b"new")
    assert not slow.writer.close(0.01)
    slow.let_go()
    assert slow.writer.close(DEADLINE_S)
    assert (tmp_path / "one").read_bytes() == b"new"


def test_an_error_of_our_own_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failures: list[str] = []
    writer = FileWriter(lambda report: None, failed=failures.append)
    monkeypatch.setattr(files, "write_atomically", lambda path, data: 1 // 0)
    writer.write(str(tmp_path / "one"), b"new")
    eventually(lambda: failures, "the failure")
    assert "ZeroDivisionError" in failures[0]
    writer.close(DEADLINE_S)
