# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of packages start from.

Tests marked `packages` are run by `make test-packages` alone: they build, install and boot things.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest
from debian import Debian
from installed import Processes, Site, make, needs, rpm

from indi_multifocus.simulator import Simulator

CODENAME = re.compile(r"^VERSION_CODENAME=(\w+)$", re.MULTILINE)


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    """Processes that end with the test."""
    started = Processes(tmp_path)
    try:
        yield started
    finally:
        started.close()


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    """A fast controller of the second generation with two channels."""
    with Simulator(generation=2, channels=2, speed=20.0) as simulated:
        yield simulated


@pytest.fixture
def make_site(tmp_path: Path) -> Callable[..., Site]:
    """Sites on demand."""
    made: list[Site] = []

    def make(serial_port: str, **settings: Any) -> Site:
        made.append(Site(tmp_path / f"site{len(made)}", serial_port, **settings))
        return made[-1]

    return make


@pytest.fixture(scope="session")
def rpms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the packages, built once."""
    needs("rpmbuild", "rpm")
    folder = tmp_path_factory.mktemp("rpm")
    make("rpm", f"RPM_BUILD={folder / 'build'}", f"RPM_DIR={folder / 'packages'}", f"PYTHON={sys.executable}")
    return folder / "packages"


@pytest.fixture
def installed(rpms: Path, tmp_path: Path) -> Path:
    """A root with nothing in it but the packages."""
    needs(root=True)
    root = tmp_path / "root"
    root.mkdir()
    done = rpm(root, "--install", *sorted(rpms.glob("*.noarch.rpm")))
    assert done.returncode == 0, done.stderr
    return root


@pytest.fixture(scope="module")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Debian]:
    """A fresh one of this machine's release, with nothing but what every Debian has."""
    needs("debootstrap", "unshare", root=True)
    release = CODENAME.search(Path("/etc/os-release").read_text())
    if release is None or not Path("/etc/debian_version").exists():
        pytest.skip("this is no Debian")
    folder = tmp_path_factory.mktemp("debian") / "root"
    log = folder.with_name("log")
    try:
        with open(log, "wb") as output:
            made = Debian(folder, release[1], output)
    except subprocess.CalledProcessError:
        pytest.skip(f"debootstrap: {log.read_text()[-300:]}")
    yield made
    shutil.rmtree(folder)
