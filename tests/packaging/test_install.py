# SPDX-License-Identifier: GPL-3.0-or-later
"""`make install`, `make uninstall` and `pip install`: what is where afterwards, and that it runs."""

from __future__ import annotations

import marshal
import os
import re
import shutil
import subprocess
import sys
from importlib.util import cache_from_source
from pathlib import Path
from typing import Callable

import pytest
from debian import Debian
from installed import PROJECT, Processes, Site, drive, environment, make, needs, packages, run, until
from ports import free_port, listens

import indi_multifocus
from focus_cli import indiserver
from indi_multifocus.simulator import Simulator

COMMANDS = ("indi_multifocus", "focusd", "focus")


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def copy_project(folder: Path) -> None:
    """What a git clone of it would have, with what is not committed yet."""
    done = run(["git", "-C", PROJECT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"])
    if done.returncode:
        pytest.skip("this is no git clone")
    for name in filter(None, done.stdout.split("\0")):
        if (PROJECT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PROJECT / name, folder / name)


def install(folder: Path, *targets: str, prefix: str = "/usr/local") -> None:
    make(*targets, f"DESTDIR={folder}", f"PREFIX={prefix}", f"PYTHON={sys.executable}")


def test_make_install_puts_everything_where_programs_look_for_it(tmp_path: Path) -> None:
    install(tmp_path, "install")
    there = files(tmp_path)
    for name in (*COMMANDS, "multichannel_focusd"):
        assert f"usr/local/bin/{name}" in there
    assert "usr/share/indi/indi_multifocus.xml" in there  # KStars looks nowhere else
    for unit in ("focusd@", "multichannel_focusd@", "indi-multifocus@"):
        assert f"usr/local/lib/systemd/system/{unit}.service" in there
    assert "usr/local/lib/udev/rules.d/60-multifocus.rules" in there
    for completion in ("bash-completion/completions/focus", "zsh/site-functions/_focus"):
        assert f"usr/local/share/{completion}" in there
    assert "usr/local/share/fish/vendor_completions.d/focus.fish" in there
    (code,) = tmp_path.glob("usr/local/lib/python3*/*-packages/indi_multifocus")
    for file in PROJECT.glob("indi_multifocus/**/*.py"):
        assert (code / file.relative_to(PROJECT / "indi_multifocus")).read_bytes() == file.read_bytes()


def test_what_make_install_put_there_is_compiled_for_users_who_cannot_write_there(tmp_path: Path) -> None:
    install(tmp_path, "install")
    (code,) = tmp_path.glob("usr/local/lib/python3*/*-packages")
    sources = list(code.rglob("*.py"))
    assert len(sources) > len(COMMANDS)
    for source in sources:
        compiled = Path(cache_from_source(str(source))).read_bytes()
        made_of = int.from_bytes(compiled[8:12], "little"), int.from_bytes(compiled[12:16], "little")
        assert made_of == (int(source.stat().st_mtime), source.stat().st_size)
        assert marshal.loads(compiled[16:]).co_filename == f"/{source.relative_to(tmp_path)}"


def test_installed_commands_run_where_Python_finds_their_packages(tmp_path: Path) -> None:
    install(tmp_path, "install")
    (code,) = tmp_path.glob("usr/local/lib/python3*/*-packages")
    variables = environment(tmp_path, {"PYTHONPATH": str(code)})
    for name in COMMANDS:
        done = run([tmp_path / "usr/local/bin" / name, "--version"], env=variables, cwd=tmp_path)
        assert done.stdout == f"{name} {indi_multifocus.__version__}\n", done.stderr


def test_an_unusual_prefix_needs_no_PYTHONPATH(tmp_path: Path) -> None:
    folders = [f"PREFIX={tmp_path}", f"INDIDATADIR={tmp_path}/indi", f"SYSCONFDIR={tmp_path}/etc", "DESTDIR=/"]
    make("install", *folders, f"PYTHON={sys.executable}")
    shown = run([tmp_path / "bin/focus", "--version"], env=environment(tmp_path), cwd=tmp_path)
    assert shown.stdout == f"focus {indi_multifocus.__version__}\n", shown.stderr


def test_make_uninstall_leaves_what_is_not_its_own(tmp_path: Path) -> None:
    install(tmp_path, "install", "install-clasp", "install-portable")
    (shared,) = tmp_path.glob("usr/local/lib/python3*/*-packages/warwick/observatory")
    (shared / "common.py").write_text("")
    (shared / "multifocus" / "__pycache__").mkdir(exist_ok=True)
    install(tmp_path, "uninstall")
    left = files(tmp_path)
    assert {Path(name).name for name in left} == {
        "clasp.json",
        "61-clasp-focuser.rules",
        "portable.json",
        "61-portable-focuser.rules",
        "common.py",
    }


def test_make_uninstall_leaves_nothing_else(tmp_path: Path) -> None:
    system, own = tmp_path / "system", tmp_path / "own"
    for folder in ("etc", "usr/share", "usr/local/bin", "usr/local/share"):
        (system / folder).mkdir(parents=True)
    before = sorted(system.rglob("*"))
    install(system, "install")
    install(system, "uninstall")
    left = set(system.rglob("*")).difference(before)
    assert {path.name for path in left} <= {"lib", f"python3.{sys.version_info[1]}", "site-packages", "dist-packages"}
    folders = [f"PREFIX={own}", f"INDIDATADIR={own}/indi", f"SYSCONFDIR={own}/etc", "DESTDIR=/"]
    make("install", *folders)
    make("uninstall", *folders)
    assert not own.exists()


def test_make_install_takes_the_system_s_Python_whatever_is_first_on_the_path(tmp_path: Path) -> None:
    needs("/usr/bin/python3")
    other = tmp_path / "pyenv" / "python3"
    other.parent.mkdir()
    other.write_text("#!/bin/sh\nexit 1\n")
    other.chmod(0o755)
    path = f"{other.parent}:{os.environ['PATH']}"
    # Were PYTHON in the environment, somebody would have asked for it.
    variables = {name: value for name, value in os.environ.items() if name != "PYTHON"}
    done = run(["make", "install", f"DESTDIR={tmp_path}"], cwd=PROJECT, env={**variables, "PATH": path})
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "usr/local/bin/focus").read_text().startswith("#!/usr/bin/python3\n")


@pytest.mark.parametrize("python", ["", "/bin/false"])
def test_make_install_without_a_Python_says_so_and_installs_nothing(tmp_path: Path, python: str) -> None:
    done = run(["make", "install", f"DESTDIR={tmp_path}", f"PYTHON={python or 'python-of-old'}"], cwd=PROJECT)
    assert done.returncode != 0
    assert "is no Python 3.9 or later: install python3, or name another by PYTHON=" in done.stderr
    assert files(tmp_path) == []


def test_make_install_says_who_may_write_there(tmp_path: Path) -> None:
    needs("/usr/bin/python3", root=True)
    # By another user, who can read nothing of this project's.
    done = subprocess.run(
        ["sh", "-s", "/usr/bin/python3", str(tmp_path / "usr/local/bin")],
        input=(PROJECT / "packaging/before-install.sh").read_bytes(),
        capture_output=True,
        timeout=30,
        user=65534,
        cwd="/",
    )
    assert done.returncode == 1
    assert b"cannot be written: run it as root, as by 'sudo make install'" in done.stderr


@pytest.mark.packages
@pytest.mark.timeout(900)
def test_make_install_gives_a_driver_that_needs_nothing_but_python_and_pyserial(debian: Debian) -> None:
    """In a root that has nothing else but make, which is no part of it."""
    debian.install("python3", "make")
    without = packages(debian)
    debian.install("python3-serial")
    assert packages(debian) - without == {"ii python3-serial"}
    copy_project(debian.folder / "root/clone")
    files = debian.files()
    output = debian.must("make", "install", cwd="/root/clone")
    assert "installed for /usr/bin/python3" in output
    assert "missing: pyserial" not in output
    debian.must("rm", "-r", "/root/clone")
    assert debian.run("python3", "-c", "import serial, msgspec").stdout.endswith("No module named 'msgspec'\n")
    drive(debian)
    copy_project(debian.folder / "root/clone")
    debian.must("make", "uninstall", cwd="/root/clone")
    assert {name for name in debian.files() - files if "focus" in name} == set()


def complete(*words: str) -> list[str]:
    """What Tab offers after these words, with this project's `focus`."""
    command = [str(PROJECT / "focus"), *words]
    script = f"""
        source {PROJECT}/packaging/completion/focus
        COMP_WORDS=({" ".join(f"'{word}'" for word in command)}) COMP_CWORD={len(words)}
        _focus
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    variables = environment(PROJECT, {"FOCUSD_CONFIG_PATH": str(PROJECT / "test.json")})
    done = run(["bash", "-c", script], env=variables)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_the_shell_completes_commands_channels_and_switches() -> None:
    assert complete("s") == ["set", "stop", "status"]
    assert complete("set", "") == ["1", "2"]
    assert complete("fans", "e") == ["enable"]
    assert complete("set", "1", "") == []
    assert complete("set", "1", "--") == ["--no-wait", "--timeout"]
    assert complete("log", "--channel", "") == ["1", "2"]
    listed = run([PROJECT / "focus"], env=environment(PROJECT)).stdout
    assert set(complete("")) == set(re.findall(r"^   (\S+)", listed, re.MULTILINE)) - {"list-channels"}


@pytest.fixture(scope="module")
def venv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty virtual environment into which the source distribution was installed."""
    needs("cc", "pkg-config")
    if run(["pkg-config", "--exists", "dbus-1", "glib-2.0"]).returncode:
        pytest.skip("pip cannot compile dbus-python: libdbus-1-dev or libglib2.0-dev is not installed")
    folder = tmp_path_factory.mktemp("venv")
    copy = folder / "clone"
    copy_project(copy)
    make_sdist = "import sys; from setuptools.build_meta import build_sdist; build_sdist(sys.argv[1])"
    done = run([sys.executable, "-c", make_sdist, folder], cwd=copy)
    if "No module named 'setuptools'" in done.stderr:
        pytest.skip("setuptools is not installed")
    assert done.returncode == 0, done.stderr
    (sdist,) = folder.glob("*.tar.gz")
    assert sdist.name == f"indi_multifocus-{indi_multifocus.__version__}.tar.gz"
    assert run([sys.executable, "-m", "venv", folder / "venv"]).returncode == 0
    done = run([folder / "venv/bin/pip", "install", "-q", f"{sdist}[focusd]"])
    if done.returncode and "No matching distribution" in done.stderr:
        pytest.skip("no package index can be reached")
    assert done.returncode == 0, done.stderr
    return folder / "venv"


@pytest.mark.packages
@pytest.mark.timeout(300)
def test_pip_installs_commands_and_data_from_the_source_distribution(venv: Path, tmp_path: Path) -> None:
    for name in COMMANDS:
        done = run([venv / "bin" / name, "--version"], env=environment(tmp_path), cwd=tmp_path)
        assert done.stdout == f"{name} {indi_multifocus.__version__}\n", done.stderr
    shown = run([venv / "bin/pip", "show", "indi_multifocus"], env=environment(tmp_path), cwd=tmp_path).stdout
    assert f"Version: {indi_multifocus.__version__}\n" in shown
    assert (venv / "share/indi/indi_multifocus.xml").read_bytes() == (PROJECT / "xml/indi_multifocus.xml").read_bytes()
    assert (venv / "share/bash-completion/completions/focus").exists()
    packages = "indi_multifocus.indi, focus_cli, warwick.observatory.multifocus, rockit.focuser.multichannel"
    program = f"import {packages} as m; print(m.__file__)"
    done = run([venv / "bin/python", "-c", program], env=environment(tmp_path), cwd=tmp_path)
    assert done.stdout.startswith(str(venv)), done.stderr


@pytest.mark.packages
@pytest.mark.timeout(300)
def test_an_indiserver_runs_the_driver_of_a_virtual_environment(
    venv: Path, processes: Processes, tmp_path: Path
) -> None:
    needs("indiserver", "indi_getprop")
    port = free_port()
    variables = environment(tmp_path)
    variables["PATH"] = f"{venv / 'bin'}:{variables['PATH']}"
    processes.start(indiserver.command(port, str(tmp_path / "local"), "indi_multifocus"), env=variables)
    until(lambda: listens(port), "indiserver")
    version = f"MultiFocus 1.DRIVER_INFO.DRIVER_VERSION={indi_multifocus.__version__}\n"
    asked = ["indi_getprop", "-p", str(port), "-t", "2", "MultiFocus 1.DRIVER_INFO.DRIVER_VERSION"]
    until(lambda: run(asked).stdout == version, "the driver")


@pytest.mark.packages
@pytest.mark.timeout(300)
def test_focusd_runs_from_a_virtual_environment(
    venv: Path, processes: Processes, simulator: Simulator, make_site: Callable[..., Site]
) -> None:
    needs("indiserver")
    site = make_site(simulator.port)
    variables = environment(site.home, {"FOCUSD_CONFIG_PATH": str(site.config)})

    def focus(*arguments: str) -> subprocess.CompletedProcess[str]:
        return run([venv / "bin/focus", *arguments], env=variables, cwd=site.home)

    processes.start([venv / "bin/focusd", site.config], env=variables, cwd=site.home)
    until(lambda: listens(site.pyro_port), "focusd")
    assert focus("init").returncode == 0, processes.log
    assert focus("set", "2", "-40").returncode == 0, processes.log
    assert "Channel 2: -000040 steps" in focus("status").stdout
    assert f'"software_version": "{indi_multifocus.__version__}"' in focus("json").stdout
