# SPDX-License-Identifier: GPL-3.0-or-later
"""What has happened to the focusers, in SQLite: one row a change of state, target, temperature, or fault.

Written by one thread of focusd (recorder.py), read by those that answer clients. The file is in WAL mode and synced at
each commit, so that a power cut costs at most the row that was being written. A file that is broken is put aside.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterable
from typing import NamedTuple

KEEP_S = 400 * 86400.0
"""Rows that are older are deleted: a year, and the nights to compare it with."""
PAGE_BYTES = 10_000
"""Of a reader's answer; Pyro's messages are limited."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS changes (
    id INTEGER PRIMARY KEY, time REAL NOT NULL, channel INTEGER, event TEXT NOT NULL, position INTEGER, target INTEGER,
    probe TEXT, celsius REAL, message TEXT);
CREATE INDEX IF NOT EXISTS changes_by_time ON changes (time);
"""


class Change(NamedTuple):
    """One row. What it is not about is None."""

    time: float
    """Unix time, s."""
    channel: int | None
    event: str
    """moving, idle or offline: the channel's new state; temperature; error or warning: the message of the driver."""
    position: int | None = None
    target: int | None = None
    probe: str | None = None
    """Which thermometer, and what it shows; of a channel's new state, the one that goes with it."""
    celsius: float | None = None
    message: str | None = None


def path_for(config_path: str) -> str:
    """The file of a configuration: below systemd's state directory, else the user's."""
    folder = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    if not folder:
        home = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
        folder = os.path.join(home, "focusd")
    name = os.path.splitext(os.path.basename(config_path))[0]
    return os.path.join(folder, f"{name}.sqlite")


class History:
    """The file, for the one thread that writes it. Its methods raise sqlite3.Error and OSError."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None

    def add(self, changes: Iterable[Change]) -> None:
        """Write them, and return when they are on the disk."""
        connection = self._connection = self._connection or self._open()
        try:
            with connection:
                connection.executemany(
                    "INSERT INTO changes (time, channel, event, position, target, probe, celsius, message)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    changes,
                )
        except sqlite3.Error:
            self.close()
            raise

    def prune(self, now_s: float) -> None:
        """Delete what is too old."""
        connection = self._connection = self._connection or self._open()
        with connection:
            connection.execute("DELETE FROM changes WHERE time < ?", (now_s - KEEP_S,))

    def close(self) -> None:
        """Until the next `add`."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self) -> sqlite3.Connection:
        os.makedirs(os.path.dirname(self._path), mode=0o755, exist_ok=True)
        try:
            return self._connect()
        except sqlite3.OperationalError:  # locked, full, not to be opened
            raise
        except sqlite3.DatabaseError:  # no database, or a broken one
            aside = f"{self._path}.broken-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
            os.replace(self._path, aside)
            for ending in ("-wal", "-shm"):
                if os.path.exists(self._path + ending):
                    os.replace(self._path + ending, aside + ending)
            return self._connect()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=5.0)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.executescript(_SCHEMA)
        except sqlite3.Error:
            connection.close()
            raise
        return connection


def read(path: str, since_s: float, after: int) -> str:
    """A page of the rows from `since_s` on whose numbers are above `after`: a JSON list of [number, *Change].

    An empty list means that there are no more. Raises sqlite3.Error.
    """
    if not os.path.exists(path):
        return "[]"
    connection = sqlite3.connect(path, timeout=5.0)
    try:
        rows = connection.execute(
            "SELECT id, time, channel, event, position, target, probe, celsius, message FROM changes"
            " WHERE id > ? AND time >= ? ORDER BY id",
            (after, since_s),
        )
        page: list[str] = []
        size = 0
        for row in rows:
            text = json.dumps(row)
            if page and size + len(text) > PAGE_BYTES:
                break
            page.append(text)
            size += len(text)
        return f"[{','.join(page)}]"
    finally:
        connection.close()
