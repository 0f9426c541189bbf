# SPDX-License-Identifier: GPL-3.0-or-later
"""The five rpm packages: built, looked at, installed into an empty root, and run from there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Callable

import pytest
from installed import Processes, Site, environment, needs, rpm, run, until
from ports import listens

import indi_multifocus
from indi_multifocus.simulator import Simulator

pytestmark = [pytest.mark.packages, pytest.mark.timeout(300)]

NAMES = {
    "observatory-multifocus-server",
    "observatory-multifocus-client",
    "python3-warwick-observatory-multifocus",
    "clasp-multifocus-data",
    "portable-multifocus-data",
}


def package(rpms: Path, name: str) -> Path:
    (found,) = rpms.glob(f"{name}-[0-9]*.noarch.rpm")
    return found


def query(path: Path, *arguments: str) -> list[str]:
    done = run(["rpm", "-qp", *arguments, path])
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def sitelib(root: Path) -> Path:
    (found,) = root.glob("usr/lib/python3*/site-packages")
    return found


def test_there_are_the_documented_packages_and_their_sources(rpms: Path) -> None:
    for kind in ("noarch", "src"):
        built = {path.name: query(path, "--qf", "%{NAME} %{VERSION}\n") for path in rpms.glob(f"*.{kind}.rpm")}
        assert sorted(line for lines in built.values() for line in lines) == sorted(
            f"{name} {indi_multifocus.__version__}" for name in NAMES
        )


def test_a_source_package_is_all_that_it_takes_to_build_it(rpms: Path, tmp_path: Path) -> None:
    (source,) = rpms.glob("python3-*.src.rpm")
    options = ["--define", f"_topdir {tmp_path}", "--nodeps"]
    done = run(["rpmbuild", "--rebuild", *options, source], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("RPMS/noarch/*.rpm"))) == 1


def test_everything_is_root_s_and_only_commands_are_executable(rpms: Path) -> None:
    for path in rpms.glob("*.noarch.rpm"):
        for line in query(path, "--qf", "[%{FILEMODES:perms} %{FILEUSERNAME} %{FILEGROUPNAME} %{FILENAMES}\n]"):
            mode, user, group, name = line.split(" ", 3)
            assert (user, group) == ("root", "root"), line
            if mode[0] == "l":
                continue
            command = re.fullmatch(r"/usr/(bin|libexec)/[^/]+|.*/focus_cli/indi_multifocus", name)
            expected = "drwxr-xr-x" if mode[0] == "d" else "-rwxr-xr-x" if command else "-rw-r--r--"
            assert mode == expected, line


def test_the_packages_need_each_other_in_the_same_version(rpms: Path) -> None:
    own = f"python3-warwick-observatory-multifocus = 1:{indi_multifocus.__version__}-1"
    for name in ("observatory-multifocus-server", "observatory-multifocus-client"):
        required = query(package(rpms, name), "--requires")
        assert any(line.startswith(own) for line in required), required
        assert "python3-Pyro4" in required
    assert "python3-pyserial" in query(package(rpms, "observatory-multifocus-server"), "--requires")
    assert "libindi" in query(package(rpms, "observatory-multifocus-server"), "--recommends")


def test_a_changed_configuration_outlives_an_upgrade(rpms: Path) -> None:
    line = "[%{FILENAMES} %{FILEFLAGS:fflags}\n]"
    assert "/etc/focusd/clasp.json cn" in query(package(rpms, "clasp-multifocus-data"), "--qf", line)


def test_commands_answer_from_an_empty_root(installed: Path, tmp_path: Path) -> None:
    variables = environment(tmp_path, {"PYTHONPATH": str(sitelib(installed)), "PYTHONDONTWRITEBYTECODE": "1"})
    for command in ("indi_multifocus", "focusd", "focus"):
        done = run([sys.executable, installed / "usr/bin" / command, "--version"], env=variables, cwd=tmp_path)
        assert done.stdout == f"{command} {indi_multifocus.__version__}\n", done.stderr
    done = run([sys.executable, "-c", "import focus_cli; print(focus_cli.__file__)"], env=variables, cwd=tmp_path)
    assert done.stdout.startswith(str(installed))


def test_a_command_says_which_package_it_lacks(installed: Path, tmp_path: Path) -> None:
    # -S: without the packages of this Python
    variables = environment(tmp_path, {"PYTHONPATH": str(sitelib(installed))})
    needed = {
        "focusd": ["pyserial", "msgspec", "Pyro4", "serpent", "pyindi-client"],
        "focus": ["msgspec", "Pyro4", "serpent"],
    }
    for command, packages in needed.items():
        done = run([sys.executable, "-S", installed / "usr/bin" / command, "status"], env=variables, cwd=tmp_path)
        assert done.returncode == 1
        assert done.stderr.startswith(f"{command}: {sys.executable} has no {', '.join(packages)}; `"), done.stderr
        assert re.search(rf"-m pip install .*--no-deps {' '.join(packages)}` installs", done.stderr)


def test_focusd_and_focus_move_a_focuser_from_an_empty_root(
    installed: Path, processes: Processes, simulator: Simulator, make_site: Callable[..., Site]
) -> None:
    needs("indiserver")
    site = make_site(simulator.port)
    variables = environment(
        site.home,
        {
            "PYTHONPATH": str(sitelib(installed)),
            "FOCUSD_CONFIG_PATH": str(site.config),
        },
    )

    def focus(*arguments: str) -> subprocess.CompletedProcess[str]:
        return run([sys.executable, installed / "usr/bin/focus", *arguments], env=variables, cwd=site.home)

    daemon = processes.start([sys.executable, installed / "usr/bin/focusd", site.config], env=variables, cwd=site.home)
    until(lambda: listens(site.pyro_port) or daemon.poll() is not None, "focusd")
    assert focus("init").returncode == 0, processes.log
    assert focus("set", "1", "250").returncode == 0, processes.log
    status = json.loads(focus("json").stdout)
    assert (status["current_steps_1"], status["software_version"]) == (250, indi_multifocus.__version__)
    drivers = [
        (path / "environ").read_bytes()
        for path in Path("/proc").glob("[0-9]*")
        if os.access(path / "environ", os.R_OK) and _runs_driver(path)
    ]
    ours = [variables for variables in drivers if str(site.config).encode() in variables]
    assert ours
    assert all(str(installed).encode() in variables for variables in ours)


def _runs_driver(process: Path) -> bool:
    try:
        return b"indi_multifocus\0" in (process / "cmdline").read_bytes()
    except OSError:
        return False


OLD_SPEC = """
Name: observatory-multifocus-server
Version: 20221016
Release: 0
License: GPL-3.0
Summary: stands for the old package of this name
BuildArch: noarch
%description
%install
mkdir -p %{buildroot}/usr/bin
echo old > %{buildroot}/usr/bin/focusd
%files
/usr/bin/focusd
"""


def test_it_replaces_the_old_focusd_s_package_and_can_be_replaced_by_it(rpms: Path, tmp_path: Path) -> None:
    needs(root=True)
    (tmp_path / "old.spec").write_text(OLD_SPEC)
    done = run(["rpmbuild", "-bb", "--define", f"_topdir {tmp_path / 'build'}", tmp_path / "old.spec"])
    assert done.returncode == 0, done.stderr
    (old,) = (tmp_path / "build").glob("RPMS/noarch/*.rpm")
    root = tmp_path / "root"
    root.mkdir()
    new = package(rpms, "observatory-multifocus-server")
    command = root / "usr/bin/focusd"
    assert rpm(root, "--install", old).returncode == 0
    done = rpm(root, "--upgrade", new)
    assert done.returncode == 0, done.stderr
    assert "focus_cli" in command.read_text()
    assert rpm(root, "--upgrade", "--oldpackage", old).returncode == 0
    assert command.read_text() == "old\n"


SUCCESSORS = {
    "rockit-focuser-multichannel-server": "observatory-multifocus-server",
    "rockit-focuser-multichannel-client": "observatory-multifocus-client",
    "rockit-focuser-multichannel-data-clasp": "clasp-multifocus-data",
    "rockit-focuser-multichannel-data-portable": "portable-multifocus-data",
    "python3-rockit-focuser-multichannel": "python3-warwick-observatory-multifocus",
}
SUCCESSOR_SPEC = """
Name: rockit-focuser-multichannel
Version: 20241105120000
Release: 1
License: GPL-3.0
Summary: stands for the successor generation's packages
BuildArch: noarch
%description
%package server
Summary: server
%description server
%package data-clasp
Summary: data
%description data-clasp
%install
mkdir -p %{buildroot}/usr/bin %{buildroot}/etc/focusd %{buildroot}/usr/lib/systemd/system
echo old > %{buildroot}/usr/bin/multichannel_focusd
echo old > %{buildroot}/usr/lib/systemd/system/multichannel_focusd@.service
echo old > %{buildroot}/etc/focusd/clasp.json
%files server
/usr/bin/multichannel_focusd
/usr/lib/systemd/system/multichannel_focusd@.service
%files data-clasp
/etc/focusd/clasp.json
"""


def test_the_packages_take_the_place_of_the_successor_generation_s(rpms: Path, tmp_path: Path) -> None:
    needs(root=True)
    for old, new in SUCCESSORS.items():
        own = f"1:{indi_multifocus.__version__}-1"
        assert any(line.startswith(f"{old} = {own}") for line in query(package(rpms, new), "--provides")), new
        for kind in ("--obsoletes", "--conflicts"):
            assert any(line.startswith(f"{old} < {own}") for line in query(package(rpms, new), kind)), new
    (tmp_path / "old.spec").write_text(SUCCESSOR_SPEC)
    done = run(["rpmbuild", "-bb", "--define", f"_topdir {tmp_path / 'build'}", tmp_path / "old.spec"])
    assert done.returncode == 0, done.stderr
    root = tmp_path / "root"
    root.mkdir()
    assert rpm(root, "--install", *(tmp_path / "build").glob("RPMS/noarch/*.rpm")).returncode == 0
    (root / "etc/focusd/clasp.json").write_text("changed\n")
    done = rpm(root, "--upgrade", *rpms.glob("*.noarch.rpm"))
    assert done.returncode == 0, done.stderr
    listed = run(["rpm", "--root", root, "-qa", "--qf", "%{NAME}\n"], env=environment(root))
    assert set(listed.stdout.split()) == NAMES
    assert (root / "usr/bin/multichannel_focusd").readlink() == Path("focusd")
    assert (root / "usr/lib/systemd/system/multichannel_focusd@.service").readlink() == Path("focusd@.service")
    assert (root / "etc/focusd/clasp.json").read_text() == "changed\n"


def test_erasing_the_packages_leaves_nothing_behind(installed: Path) -> None:
    done = rpm(installed, "--erase", *sorted(NAMES))
    assert done.returncode == 0, done.stderr
    left = [path for path in installed.rglob("*") if path.is_file() and ".rpmdb" not in path.parts]
    assert left == []
