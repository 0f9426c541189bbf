# SPDX-License-Identifier: GPL-3.0-or-later
"""`focus log`: what focusd records of a night, what a full disk or a power cut does to that, and the plot's slope."""

from __future__ import annotations

import csv
import json
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from focus_cli import history, plot
from focus_cli.history import Change, History
from focus_cli.history_command import since
from focus_cli.session import CommandError, UsageError

PROJECT = Path(__file__).resolve().parents[3]


def test_a_night_is_recorded_and_shown(make_chain: Any, until: Any) -> None:
    probes = {"rasa1": {"label": "RASA1", "address": "28EFE61E0B0000B9", "channel": 1}}
    chain = make_chain(temperature_probes=probes)
    chain.environment["XDG_STATE_HOME"] = str(chain.folder / "state")
    chain.start()
    until(lambda: chain.status().get("temperature", {}).get("rasa1"), "a temperature")

    def rows(*options: str) -> list[list[str]]:
        result = chain.focus("log", "--csv", *options)
        assert (result.returncode, result.stderr) == (0, "")
        return list(csv.reader(result.stdout.splitlines()))

    def recorded(channel: str, position: str) -> bool:
        last = [row for row in rows() if row[1] == channel and row[2] == "idle"]
        return bool(last) and last[-1][3:5] == [position, position]

    assert chain.focus("set", "1", "1500").returncode == 0
    until(lambda: recorded("1", "1500"), "the end of the move")
    assert chain.focus("zero", "1").returncode == 0
    observer = chain.observe()
    observer.move(2, 99_999_999)
    observer.wait_state("MultiFocus 2", "ABS_FOCUS_POSITION", "Alert")
    observer.close()
    until(lambda: recorded("1", "0") and any(row[2] == "error" for row in rows()), "the zero and the fault")
    chain.daemon.kill()  # as a power cut
    chain.daemon.wait()
    chain.start()
    assert chain.focus("set", "2", "-20").returncode == 0
    until(lambda: recorded("2", "-20"), "the last row")
    head, *changes = rows()
    assert head == ["time", "channel", "event", "position", "target", "probe", "celsius", "message"]
    of_1 = [row[2:7] for row in changes if row[1] == "1"]
    assert of_1[0][:3] == ["idle", "0", "0"]
    assert of_1[1:4] == [
        ["moving", "0", "1500", "rasa1", "21.0625"],
        ["idle", "1500", "1500", "rasa1", "21.0625"],
        ["idle", "0", "0", "rasa1", "21.0625"],
    ]
    assert ["", "temperature", "", "", "rasa1", "21.0625", ""] in [row[1:] for row in changes]
    (fault,) = [row for row in changes if row[2] == "error"]
    assert fault[1] == "2"
    assert "99999999" in fault[7]
    assert not any(row[1] == "1" for row in rows("--channel", "2")[1:])
    assert rows("--since", "2999-01-01") == [head]
    objects = [json.loads(line) for line in chain.focus("log", "--json", "--since=1h").stdout.splitlines()]
    # A temperature that is measured again may have come meanwhile.
    assert [list(entry.values())[1:3] for entry in objects[: len(changes)]] == [
        [int(row[1]) if row[1] else None, row[2]] for row in changes
    ]
    table = chain.focus("log").stdout.splitlines()
    assert len(table) >= len(changes)
    assert any(line.endswith("1  moving       +000000  → +001500  rasa1 21.1 °C") for line in table)
    hidden = chain.folder / "hidden/matplotlib"
    hidden.mkdir(parents=True)
    (hidden / "__init__.py").write_text("raise ImportError('hidden')\n")
    chain.environment["PYTHONPATH"] = str(hidden.parent)
    result = chain.focus("log", "--plot", "x.png")
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (1, "", 1)
    assert result.stderr.startswith("focus: log --plot needs the Python package matplotlib: ")
    for options in (["--since"], ["--since", "x"], ["--channel", "3"], ["--plot"], ["--xml"], ["now"]):
        result = chain.focus("log", *options)
        assert (result.returncode, result.stdout) == (255, "usage: focus log\n"), options


def test_a_place_that_cannot_be_written_costs_rows_and_nothing_else(make_chain: Any, until: Any) -> None:
    chain = make_chain()
    nowhere = chain.folder / "file"
    nowhere.write_text("")
    chain.start(environment={"STATE_DIRECTORY": str(nowhere / "state")})
    assert chain.focus("set", "1", "50").returncode == 0
    assert chain.focus("log").stdout == ""
    until(lambda: "the history is not recorded" in chain.log, "the warning")
    nowhere.unlink()
    assert chain.focus("set", "1", "0").returncode == 0
    until(lambda: "the history is recorded again" in chain.log, "the end of it")
    assert "idle" in chain.focus("log").stdout
    assert chain.log.count("the history is not recorded") == 1
    chain.daemon.terminate()
    assert chain.daemon.wait(timeout=30) == 0


def test_a_full_disk_is_an_error_that_ends_with_it(tmp_path: Path) -> None:
    program = f"""
import resource, sqlite3
from focus_cli.history import Change, History, read
history = History({str(tmp_path / "full.sqlite")!r})
history.add([Change(1.0, 1, "idle", 5, 5)])
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
rows = 1
try:
    while True:
        history.add([Change(2.0, 1, "error", message="x" * 10_000)])
        rows += 1
except sqlite3.Error as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
history.add([Change(3.0, 1, "idle", 6, 6)])
import contextlib
with contextlib.closing(sqlite3.connect({str(tmp_path / "full.sqlite")!r})) as connection:
    assert connection.execute("SELECT count(*) FROM changes").fetchone() == (rows + 1,)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def test_pages_are_small_and_complete_and_old_rows_go(tmp_path: Path) -> None:
    path = str(tmp_path / "a" / "b.sqlite")
    assert history.read(path, 0.0, 0) == "[]"
    record = History(path)
    now_s = time.time()
    old = Change(now_s - history.KEEP_S - 1, 1, "idle", 1, 1)
    record.add([old, *(Change(now_s + n, 1, "idle", n, n, message="m" * 50) for n in range(1000))])
    found, after = [], 0
    while page := json.loads(history.read(path, 0.0, after)):
        assert len(json.dumps(page)) < 12_000
        found += page
        after = page[-1][0]
    assert [row[4] for row in found] == [1, *range(1000)]
    record.prune(now_s)
    record.close()
    assert json.loads(history.read(path, 0.0, 0))[0][4] == 0
    assert [row[4] for row in json.loads(history.read(path, now_s + 998, 0))] == [998, 999]


def test_a_broken_file_is_put_aside(tmp_path: Path) -> None:
    path = tmp_path / "broken.sqlite"
    path.write_bytes(b"no database" * 1000)
    record = History(str(path))
    record.add([Change(1.0, 1, "idle", 5, 5)])
    record.close()
    (aside,) = tmp_path.glob("broken.sqlite.broken-*")
    assert aside.read_bytes() == b"no database" * 1000
    assert len(json.loads(history.read(str(path), 0.0, 0))) == 1
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(sqlite3.Error):
        history.read(str(path), 0.0, 0)


def test_where_the_history_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/focusd/clasp")
    assert history.path_for("/etc/focusd/clasp.json") == "/var/lib/focusd/clasp/clasp.sqlite"
    monkeypatch.delenv("STATE_DIRECTORY")
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    assert history.path_for("test.json") == "/home/me/.local/state/focusd/test.sqlite"


def test_times_may_be_given_as_people_write_them() -> None:
    assert since("90m", 10_000.0) == 10_000 - 5400
    assert since("2w", 1e9) == 1e9 - 14 * 86400
    assert since("1970-01-02", 0) == since("1970-01-02T00:00:00Z", 0) == since("1970-01-02T01:00:00+01:00", 0) == 86400
    for wrong in ("", "h", "1y", "yesterday", "-1h"):
        with pytest.raises(UsageError):
            since(wrong, 0)


def night(slope: float) -> list[Change]:
    """A night in which channel 1 is focused each half hour, on the way to a place of rest."""
    changes = [Change(0.0, None, "temperature", probe="tube", celsius=10.0)]
    for n in range(12):
        start_s, celsius = 1800.0 * n, 10.0 - 0.5 * n
        position = round(1000 + slope * (celsius - 10.0))
        changes += [
            Change(start_s, 1, "moving", position, position + 500, "tube", celsius),
            Change(start_s + 10, 1, "idle", position + 500, position + 500, "tube", celsius),  # of the V curve
            Change(start_s + 15, 1, "moving", position + 500, position, "tube", celsius),
            Change(start_s + 25, 1, "idle", position, position, "tube", None if n == 3 else celsius),
            Change(start_s + 30, None, "temperature", probe="tube", celsius=celsius),
        ]
    return changes


def test_the_slope_is_fitted_to_where_the_channel_rested() -> None:
    points = plot.rests(night(-20.0), 1)
    assert len(points) == 12
    line = plot.fit(points)
    assert line is not None
    assert line.slope == pytest.approx(-20.0)
    assert line.error == pytest.approx(0.0, abs=1e-9)
    assert plot.fit([(1.0, 2.0), (2.0, 4.0), (3.0, 5.0)]) == pytest.approx((1.5, 0.2886751, 0.6666667))
    assert plot.slope_text(1, points) == "channel 1: -20.0 ± 0.0 steps/°C, from 12 positions of rest"
    for few in ([], [(1.0, 2.0)], [(1.0, 2.0), (1.0, 3.0)]):
        assert plot.fit(few) is None
        assert "no slope" in plot.slope_text(1, few)


def test_a_plot_is_a_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "night.png"
    assert plot.draw(night(-20.0), str(path))[0].startswith("channel 1: -20.0 ± 0.0 steps/°C")
    assert path.read_bytes().startswith(b"\x89PNG")
    for changes, where in ((night(1.0), tmp_path / "none/night.png"), (night(1.0), tmp_path / "night.xyz"), ([], path)):
        with pytest.raises(CommandError, match="log --plot: "):
            plot.draw(changes, str(where))


def test_both_axes_of_a_plot_are_labelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pyplot = pytest.importorskip("matplotlib.pyplot")
    drawn: list[Any] = []
    monkeypatch.setattr(pyplot, "close", drawn.append)
    plot.draw(night(-20.0), str(tmp_path / "night.png"))
    for axes, name in zip(drawn[0].axes, ("time (UTC)", "temperature (°C)")):
        assert axes.get_xlabel() == name
        assert [label for label in axes.get_xticklabels() if label.get_visible() and label.get_text()]
