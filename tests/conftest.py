# SPDX-License-Identifier: GPL-3.0-or-later
"""Options and fixtures that all tests share."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# A first example may have to import the module under test on a busy machine, so examples have
# no time limit of their own: a test that hangs is ended by pytest-timeout.
settings.register_profile("default", deadline=None)
settings.load_profile("default")


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of the test's own, where drivers keep their files, and none of the user's INDI settings."""
    folder = tmp_path_factory.mktemp("home")
    for name in list(os.environ):
        if name.startswith("INDI"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(folder))
    return folder


@pytest.fixture
def no_thread_is_left() -> Iterator[None]:
    """Poll threads and simulators that a test made have ended when it has."""
    before = set(threading.enumerate())
    yield
    left = [thread.name for thread in threading.enumerate() if thread not in before]
    assert not left, f"still running: {left}"
