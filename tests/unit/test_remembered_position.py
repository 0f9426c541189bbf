# SPDX-License-Identifier: GPL-3.0-or-later
"""What is remembered of a channel's position, and what becomes of it when the file is not as it should be."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indi_multifocus.settings.files import FileWriter, Written, file_name, write_atomically
from indi_multifocus.settings.remembered_position import (
    ControllerMemory,
    PositionMemory,
    Remembered,
    UnfinishedMove,
    encode,
    parse,
    this_boot,
    uptime_s,
)

STEPS = st.integers(-9_999_999, 9_999_999)
MOVES = st.builds(UnfinishedMove, STEPS, STEPS, st.floats(0, 1e10), st.sampled_from(["", "0-f"]))
FLAGS = st.booleans()
FACTS = st.builds(Remembered, STEPS, FLAGS, FLAGS, FLAGS, FLAGS, FLAGS, STEPS, st.none() | MOVES)


class Writer(FileWriter):
    """Files are written when the test says so, or cannot be."""

    def __init__(self) -> None:
        super().__init__(lambda report: None)
        self.files: dict[str, tuple[int, bytes]] = {}

    def write(self, path: str, data: bytes | None) -> int:
        assert data is not None
        self._number += 1
        self.files[path] = (self._number, data)
        return self._number

    def report(self, memory: PositionMemory, problem: str = "") -> None:
        """What was given is on the disk, or there is a problem."""
        number, data = self.files[memory.path]
        if not problem:
            write_atomically(memory.path, data)
        memory.written(Written(memory.path, number, problem))


@pytest.fixture
def writer(home: Path) -> Writer:
    return Writer()


@pytest.fixture
def memory(writer: Writer) -> PositionMemory:
    return PositionMemory(file_name("box_1", "_state.json"), writer)


def reread(memory: PositionMemory) -> PositionMemory:
    """What the next run of the driver knows."""
    return PositionMemory(memory.path, Writer())


def test_a_channel_of_which_nothing_is_known_stands_where_the_controller_says(memory: PositionMemory) -> None:
    assert (memory.values, memory.problem, memory.found) == (Remembered(), "", False)
    assert memory.values.position(-123) == -123


@given(offset=STEPS, turned=FLAGS, steps=STEPS)
def test_steps_and_positions_are_each_other_s_inverse(offset: int, turned: bool, steps: int) -> None:
    scale = Remembered(offset, turned)
    assert scale.to_steps(scale.position(steps)) == steps
    assert scale.position(scale.to_steps(steps)) == steps
    assert scale.position(steps + 1) - scale.position(steps) == (-1 if turned else 1)


@given(facts=FACTS)
def test_what_was_saved_is_what_is_known_next_time(facts: Remembered) -> None:
    assert parse(encode(facts)) == facts


def test_an_update_holds_at_once_and_a_commit_when_it_is_on_the_disk(memory: PositionMemory, writer: Writer) -> None:
    ends: list[str] = []
    memory.commit(ends.append, offset=500)
    memory.update(in_use=True)
    assert (memory.values.offset, memory.values.in_use, ends) == (0, True, [])
    writer.report(memory)
    assert (memory.values.offset, memory.values.in_use, ends) == (500, True, [""])
    assert reread(memory).values == memory.values


def test_a_commit_that_cannot_be_saved_changes_nothing(memory: PositionMemory, writer: Writer) -> None:
    ends: list[str] = []
    memory.commit(ends.append, offset=500)
    writer.report(memory, "no room")
    assert (memory.values.offset, ends, memory.problem) == (0, ["no room"], "no room")
    memory.update(steps=5)
    writer.report(memory)
    assert (reread(memory).values.offset, memory.problem) == (0, "")


def test_a_power_cut_goes_unnoticed_only_where_the_disk_does_not_know_of_the_use(
    memory: PositionMemory, writer: Writer
) -> None:
    memory.update(in_use=True)
    writer.report(memory, "no room")
    assert memory.at_risk
    memory.update(steps=5)
    writer.report(memory)
    memory.update(steps=6)
    writer.report(memory, "no room")
    assert not memory.at_risk


def test_what_is_not_kept_holds_at_once_and_is_no_risk() -> None:
    memory = PositionMemory()
    ends: list[str] = []
    memory.commit(ends.append, offset=5)
    memory.update_then(ends.append, steps=6)
    assert (memory.values, ends, memory.at_risk) == (Remembered(offset=5, steps=6), ["", ""], False)


def test_a_move_is_remembered_from_its_beginning_to_its_end(memory: PositionMemory, writer: Writer) -> None:
    memory.move_begins(100, 900)
    writer.report(memory)
    move = reread(memory).values.move
    assert move is not None
    assert (move.start, move.target, move.boot) == (100, 900, this_boot())
    assert -0.01 <= uptime_s() - move.time_s < 60, "it is no time of the day, which somebody may set"
    memory.link_lost()
    assert memory.values.move == move._replace(boot="")
    memory.still_moves(200, 900)
    assert memory.values.move == move
    memory.at_rest(900)
    writer.report(memory)
    assert (reread(memory).values.move, reread(memory).values.steps) == (None, 900)
    before = dict(writer.files)
    memory.at_rest(900)
    assert writer.files == before, "nothing new is not written"


# When the file is not as it should be


GOOD: dict[str, Any] = json.loads(encode(Remembered(offset=1, move=UnfinishedMove(1, 2, 3.0, ""))))


def changed(**values: Any) -> str:
    return json.dumps({**GOOD, **values})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[]",
        "5",
        "{}",
        '{"offset": 1}',
        changed(offset=1.5),
        changed(offset="1"),
        changed(offset=True),
        changed(offset=10**10),
        changed(reversed=0),
        changed(unverified=None),
        changed(offset=float("nan")),
        changed(move=5),
        changed(move={"start": 1}),
        changed(move={**GOOD["move"], "boot": '"'}),
        changed(move={**GOOD["move"], "target": float("inf")}),
        *[changed(move={**GOOD["move"], "time_s": time_s}) for time_s in (10**400, -1, True, None, "1", float("nan"))],
        "[" * 4000,
        "x" * 100_000,
        "\xff\xfe",
    ],
)
def test_a_damaged_file_makes_the_position_unverified_and_says_so(home: Path, text: str) -> None:
    path = Path(file_name("box_1", "_state.json"))
    path.parent.mkdir()
    path.write_bytes(text.encode("latin-1"))
    writer = Writer()
    memory = PositionMemory(str(path), writer)
    assert memory.values == Remembered(unverified=True)
    assert str(path) in memory.problem
    assert "\n" not in memory.problem
    memory.update(unverified=False)
    writer.report(memory)
    assert (reread(memory).problem, reread(memory).values) == ("", Remembered()), "what is saved anew is whole again"


def test_a_file_that_cannot_be_read_makes_the_position_unverified_and_says_so(memory: PositionMemory) -> None:
    Path(memory.path).mkdir(parents=True)
    assert reread(memory).values.unverified
    assert memory.path in reread(memory).problem


# Whose memory


@pytest.fixture
def first(home: Path, writer: Writer) -> Iterator[ControllerMemory]:
    made = ControllerMemory("/dev/focuser", 2, writer)
    yield made
    made.close()


def test_each_channel_of_each_controller_has_a_file(first: ControllerMemory, writer: Writer) -> None:
    other = ControllerMemory("/dev/focuser ", 2, writer)
    paths = [memory.path for memory in (*first.channels, *other.channels)]
    other.close()
    assert len(set(paths)) == 4
    number = writer.write(paths[1], b"")
    assert first.written(Written(paths[1], number))
    assert not first.written(Written(paths[2], number))


@pytest.mark.parametrize("name", ["../../etc", "socket://[::1]:4001", "x" * 1000, "é", "", "."])
def test_no_name_of_a_controller_leads_out_of_the_folder(home: Path, writer: Writer, name: str) -> None:
    found = ControllerMemory(name, 1, writer)
    found.close()
    assert Path(found.channels[0].path).parent == home / ".indi"
    assert [entry.suffix for entry in (home / ".indi").iterdir()] == [".lock"]


def test_a_second_driver_does_not_get_it_until_the_first_is_done(first: ControllerMemory, writer: Writer) -> None:
    with pytest.raises(BlockingIOError):
        ControllerMemory("/dev/focuser", 2, writer)
    first.close()
    ControllerMemory("/dev/focuser", 2, writer).close()


def test_a_lock_that_cannot_be_had_is_a_problem_of_each_channel(home: Path, writer: Writer) -> None:
    (home / ".indi").write_text("a file where the folder should be")
    found = ControllerMemory("/dev/focuser", 2, writer)
    assert all("cannot" in memory.problem for memory in found.channels)


def test_on_a_simulator_nothing_is_kept(home: Path) -> None:
    ControllerMemory("/dev/focuser", 2, None).close()
    assert list(home.iterdir()) == []
