# SPDX-License-Identifier: GPL-3.0-or-later
"""The three Debian packages: built, looked at, installed into a fresh Debian, used there, upgraded and purged."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from configuration import configure_focusd
from debian import Debian
from installed import PORT, PROJECT, drive, needs, packages, run
from waiting import eventually

import indi_multifocus
from indi_multifocus.simulator import Simulator

pytestmark = [pytest.mark.packages, pytest.mark.timeout(900)]

NAMES = ("indi-multifocus", "focus", "focusd")


def build(folder: Path, revision: int) -> Path:
    """The packages in this revision, built without any network."""
    needs("dpkg-buildpackage", "dh", "dh_python3", root=True)
    options = [f"DEB_BUILD={folder}/build", f"DEB_DIR={folder}/{revision}", "DEB_KEEP=1"]
    version = f"DEB_VERSION={indi_multifocus.__version__}-{revision}"
    done = run(["unshare", "--net", "make", "deb", *options, version], cwd=PROJECT)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / str(revision)


@pytest.fixture(scope="module")
def debs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("debs"), 1)


def copy(debs: Path, debian: Debian) -> list[str]:
    """Put the packages there; their names, the driver's first."""
    shutil.copytree(debs, debian.folder / "tmp/debs", dirs_exist_ok=True)
    return [f"/tmp/debs/{next(debs.glob(f'{name}_*.deb')).name}" for name in NAMES]


def test_lintian_finds_no_errors(debs: Path) -> None:
    needs("lintian")
    (changes,) = (debs.parent / "build").glob("*.changes")
    done = run(["lintian", "--fail-on", "error", "--allow-root", changes])
    assert done.returncode == 0, done.stdout


def test_the_driver_needs_nothing_but_python_and_pyserial(debs: Path, debian: Debian) -> None:
    """In a root that has nothing else it serves a controller to an INDI client."""
    files = debian.files()
    debian.install("python3")
    python = packages(debian)
    debian.install("python3-serial")
    needed = packages(debian)
    driver, *_ = copy(debs, debian)
    debian.install(driver)
    assert packages(debian) == needed | {"ii indi-multifocus"}
    assert needed - python == {"ii python3-serial"}
    debian.must("python3", "-c", "import json, serial")
    assert debian.run("python3", "-c", "import msgspec").returncode == 1
    drive(debian)
    debian.must("apt-get", "-q", "-y", "purge", "indi-multifocus")
    assert packages(debian) == needed
    assert {name for name in debian.files() - files if "multifocus" in name} == set()


def test_focusd_says_what_pip_has_to_bring_and_then_moves_a_focuser(debs: Path, debian: Debian) -> None:
    debian.install(*copy(debs, debian), recommended=False)
    debian.install("python3-pip")
    with Simulator(speed=20.0, link=debian.folder / PORT[1:]) as simulator:
        configure_focusd(debian.folder / "etc/focusd/site.json", PORT)
        output = debian.run("focusd", "/etc/focusd/site.json").stdout
        command = re.search(r"`(/usr/bin/python3 -m pip install [^`]+)`", output)
        assert command is not None, output
        debian.must("sh", "-c", command[1])
        process = subprocess.Popen(debian.command("focusd", "/etc/focusd/site.json"), stderr=subprocess.PIPE, text=True)
        try:
            eventually(lambda: debian.run("focus", "init").returncode == 0 or process.poll() is not None, "focusd", 60)
            assert debian.must("focus", "set", "1", "250") == ""
            assert "Channel 1: +000250 steps" in debian.must("focus", "status")
            assert simulator.position(1) == 250
        finally:
            process.kill()  # unshare takes no other signal; what it started is killed with it
            process.communicate()


def test_an_upgrade_keeps_the_configuration_and_a_purge_leaves_only_that(
    debs: Path, debian: Debian, tmp_path: Path
) -> None:
    debian.install(*copy(debs, debian))
    before = debian.files()
    (debian.folder / "etc/focusd/mine.json").write_text("{}")
    newer = copy(build(tmp_path, 2), debian)
    debian.install(*newer)
    for name in NAMES:
        shown = debian.must("dpkg-query", "-W", "-f", "${db:Status-Abbrev}${Version}", name)
        assert shown == f"ii {indi_multifocus.__version__}-2"
    assert debian.files() == before | {"/etc/focusd/mine.json"}
    assert debian.must("getent", "passwd", "focusd").split(":")[5] == "/var/lib/focusd"
    (debian.folder / "var/lib/focusd/mine").mkdir(parents=True)
    ours = {name for name in debian.must("dpkg-query", "-L", *NAMES).split() if "focus" in name}
    assert len(ours) > 50
    debian.must("apt-get", "-q", "-y", "purge", *NAMES)
    assert ours & debian.files() == {"/etc/focusd"}
    assert (debian.folder / "etc/focusd/mine.json").read_text() == "{}"
    assert not (debian.folder / "var/lib/focusd").exists()
    assert not list((debian.folder / "usr/lib/python3/dist-packages").glob("*focus*"))


def test_there_are_man_pages_that_man_understands(debs: Path, tmp_path: Path) -> None:
    needs("man")
    for name in NAMES:
        (deb,) = debs.glob(f"{name}_*.deb")
        assert run(["dpkg-deb", "--extract", deb, tmp_path]).returncode == 0
    pages = sorted(tmp_path.glob("usr/share/man/man1/*.1.gz"))
    assert [page.name.split(".")[0] for page in pages] == ["focus", "focusd", "indi_multifocus", "multichannel_focusd"]
    for page in pages:
        variables = {"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin", "MANWIDTH": "80"}
        done = run(["man", "--warnings", "-l", page], env=variables)
        assert (done.returncode, done.stderr) == (0, "")
        assert "SYNOPSIS" in done.stdout
