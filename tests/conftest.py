# SPDX-License-Identifier: GPL-3.0-or-later
"""Options and fixtures that all tests share."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from waiting import eventually

from indi_multifocus.simulation.simulator import Simulator

# A first example may have to import the module under test on a busy machine, so examples have
# no time limit of their own: a test that hangs is ended by pytest-timeout.
settings.register_profile("default", deadline=None)
settings.load_profile("default")

for _signal in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):  # ignored where a shell or nohup has started the tests
    if signal.getsignal(_signal) is signal.SIG_IGN:
        signal.signal(_signal, signal.default_int_handler if _signal == signal.SIGINT else signal.SIG_DFL)


def pytest_xdist_auto_num_workers() -> int:
    """For `-n auto`: three tests for each processor, for most of the time they wait for motors and other processes."""
    return 3 * (os.cpu_count() or 1)


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist, which writes the group into the test's name
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep what belongs together in one worker (`--dist loadgroup`): tests that share a chain of processes; and the
    floods, one after the other, for each of them keeps a processor busy.

    Mix the others, in the same way each time: those of one module often all wait, or all compute.
    """
    units = {}
    for item in items:
        units[item] = item.nodeid
        module = item.path.stem
        if module == "test_flood" or (isinstance(item, pytest.Function) and _shares(item)):
            item.add_marker(pytest.mark.xdist_group(module))
            units[item] = module
    if hasattr(config, "workerinput"):  # in a worker of pytest-xdist
        items.sort(key=lambda item: zlib.crc32(units[item].encode()))


def _shares(item: pytest.Function) -> bool:
    """Whether a test uses a fixture that is made once for several."""
    definitions = item._fixtureinfo.name2fixturedefs
    names = [name for name in item.fixturenames if name in definitions]
    return any(definitions[name][-1].scope == "module" for name in names)


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of the test's own, where drivers keep their files, and none of the user's INDI settings."""
    folder = tmp_path_factory.mktemp("home")
    for name in list(os.environ):
        if name.startswith("INDI"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(folder))
    return folder


@pytest.fixture(autouse=True)
def ports_of_our_own(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Let every simulator have a link as its port, also where a test asks for none.

    The number of a pseudo-terminal is used again as soon as it is free, maybe by a test that runs beside this one: a
    driver that looks for its lost controller by number would open another's.
    """
    if request.path.stem == "test_simulator":
        return  # no driver is at work there
    make = Simulator.__init__
    numbers = itertools.count(1)
    folder: list[Path] = []

    def make_with_link(simulator: Simulator, *, link: str | os.PathLike[str] | None = None, **others: Any) -> None:
        if link is None:
            folder[:] = folder or [tmp_path_factory.mktemp("ports")]
            link = folder[0] / f"focuser{next(numbers)}"
        make(simulator, link=link, **others)

    monkeypatch.setattr(Simulator, "__init__", make_with_link)


@pytest.fixture
def no_thread_is_left() -> Iterator[None]:
    """Poll threads and simulators that a test made have ended when it has."""
    before = set(threading.enumerate())
    yield

    def left() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread not in before]

    # A file writer whose disk is busy outlives its driver by a moment.
    eventually(lambda: not left(), f"the end of {left()}")
