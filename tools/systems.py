# SPDX-License-Identifier: GPL-3.0-or-later
"""`make test-systems`: what README promises, on fresh Debians; and the table of docs/systems.md.

For each release that is named (default: RELEASES) a Debian is made by debootstrap, in build/systems. A user with sudo
and one without clone this repository's HEAD there and do as README says. Commands that serve or test run without any
network, so they meet nobody else's servers. What everything printed is in build/systems/RELEASE.log.

Each release has a row in the table, which its run replaces. LOCK names a file that is locked while `make test` runs,
where several share a machine. Exit status 1 when anything was not as it should be. Needs root.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import date
from pathlib import Path

from debian import Debian

from indi_multifocus import __version__

PROJECT = Path(__file__).resolve().parents[1]
PAGE = PROJECT / "docs" / "systems.md"
BEGIN, END = "<!-- what make test-systems found: begin -->\n", "<!-- end -->\n"
FOLDER = PROJECT / "build" / "systems"
RELEASES = {"bullseye": "Debian 11", "bookworm": "Debian 12", "trixie": "Debian 13"}
CLONE = "/home/observer/indi_multifocus"
PATIENCE_S = 3600.0

SERVE = """
import glob, os, signal, subprocess, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for what it runs in the background
pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
served = subprocess.Popen(["make", "run"], start_new_session=True, **pipe)
for line in served.stdout:
    print(line, end="", flush=True)
    if "Ctrl-C" in line:
        break
status = 0
for command in sys.argv[1:]:
    done = subprocess.run(["sh", "-c", command], **pipe)
    print(f"$ {command}", done.stdout, f"exit status {done.returncode}", sep="\\n", flush=True)
    status = status or done.returncode
os.killpg(served.pid, signal.SIGINT)
try:
    print(served.communicate(timeout=30)[0])
except subprocess.TimeoutExpired as late:
    print("make run does not end; its output:", late.stdout, "and there are:", sep="\\n")
    for name in glob.glob("/proc/[0-9]*/cmdline"):
        print(name, open(name).read().replace("\\0", " "))
    status = 1
sys.exit(status)
"""
"""`make run`; then the commands that are its arguments, one after the other; then Ctrl-C."""


class NotAsPromised(Exception):
    """What a step found instead of what it should."""


def block(text: str, before: str) -> list[str]:
    """The commands of README that follow these words."""
    found = re.search(rf"^{re.escape(before)}.*?\n\n((?:    .*\n|\n)+)", text, re.MULTILINE)
    if found is None:
        raise NotAsPromised(f"README has no commands after {before!r}")
    return [line.split("  #")[0].strip() for line in found[1].splitlines() if line.strip()]


class System:
    """One Debian, and what is done there; each step returns what stands in the table."""

    def __init__(self, release: str) -> None:
        self.release = release
        self.readme = (PROJECT / "README.md").read_text()
        folder = FOLDER / release
        shutil.rmtree(folder, ignore_errors=True)
        FOLDER.mkdir(parents=True, exist_ok=True)
        self.log = open(FOLDER / f"{release}.log", "w")  # noqa: SIM115
        with open(FOLDER / f"{release}.debootstrap.log", "wb") as log:
            self.debian = Debian(folder, release, log)
        self.debian.must("apt-get", "-q", "update")
        self.debian.install("python3", "git", "make", "sudo", "ca-certificates")
        for user in ("observer", "guest"):
            self.must("useradd", "--create-home", "--shell", "/bin/bash", user)
            self._clone(f"home/{user}")
            self.must("chown", "-R", f"{user}:{user}", f"/home/{user}")
        self._clone("root")
        (folder / "etc/sudoers.d/observer").write_text("observer ALL=(ALL) NOPASSWD: ALL\nDefaults env_keep+=PIP_*\n")

    def _clone(self, home: str) -> None:
        clone = self.debian.folder / home / "indi_multifocus"
        subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", str(PROJECT), str(clone)], check=True)

    def run(self, *command: str, user: str = "root", cwd: str = "/", network: bool = True) -> tuple[int, str]:
        """Status and output."""
        done = self.debian.run(*command, user=user, cwd=cwd, network=network, timeout_s=PATIENCE_S)
        print(f"\n===== {user}: {' '.join(command)}\n{done.stdout}\n===== {done.returncode}", file=self.log, flush=True)
        return done.returncode, done.stdout

    def must(self, *command: str, user: str = "root", cwd: str = "/", network: bool = True) -> str:
        """Output of what must succeed."""
        status, output = self.run(*command, user=user, cwd=cwd, network=network)
        if status != 0:
            lines = [line for line in output.splitlines() if line.strip()] or ["no output"]
            named = " ".join(" ".join(command).split())[:60]  # in one line: it goes into a table
            raise NotAsPromised(f"{named}: status {status}: {lines[-1][:100]}")
        return output

    def who_has_no_root(self) -> str:
        """`make run` by a user who may install nothing, where something is missing: one line that says what."""
        status, output = self.run("make", "run", user="guest", cwd="/home/guest/indi_multifocus")
        lines = [line for line in output.splitlines() if not line.startswith("make: ***")]
        if status == 0 or len(lines) != 1 or "apt-get install" not in lines[0]:
            raise NotAsPromised(f"{len(lines)} lines instead of one: {lines[:1]}")
        return "says what to install"

    def make_run(self) -> str:
        """`make run` by a user with sudo, and README's commands while it serves."""
        self.must("make", "setup", user="observer", cwd=CLONE)
        commands = block(self.readme, "While `make run` serves")
        output = self.must("python3", "-c", SERVE, *commands, user="observer", cwd=CLONE, network=False)
        if "Channel 2: +001000 steps" not in output:
            raise NotAsPromised("the focuser did not move")
        return "well"

    def make_test(self) -> str:
        """`make test` by a user with sudo; how many passed."""
        with open(os.environ.get("LOCK") or os.devnull) as lock:
            if os.environ.get("LOCK"):
                fcntl.flock(lock, fcntl.LOCK_EX)
            output = self.must("make", "test", user="observer", cwd=CLONE, network=False)
        summaries = re.findall(r"^=* ?(\d+ passed.*?) in [\d.]+s", output, re.MULTILINE)
        passed, skipped = (
            sum(int(number) for summary in summaries for number in re.findall(rf"(\d+) {what}", summary))
            for what in ("passed", "skipped")
        )
        return f"{passed} passed, {skipped} skipped"

    def package(self) -> str:
        """README's Install as root: the package is built, installed and used; the driver moves a focuser."""
        for command in block(self.readme, "On Debian or Ubuntu."):
            if not command.startswith(("git clone", "cd ")):
                command = re.sub(r"^apt ", "apt-get -y ", command)  # noqa: PLW2901
                self.must("sh", "-c", command, cwd="/root/indi_multifocus")
        used = (
            "indiserver -p 7624 indi_multifocus >/dev/null 2>&1 & "
            "until indi_getprop -t 1 '*.CONNECTION.CONNECT' >/dev/null 2>&1; do sleep 0.2; done; "
            "indi_setprop 'MultiFocus 1.SIMULATION.ENABLE=On'; indi_setprop 'MultiFocus 1.CONNECTION.CONNECT=On'; "
            "indi_eval -w -t 20 '\"MultiFocus 1.CONNECTION._STATE\"==1'; "
            "indi_setprop 'MultiFocus 1.ABS_FOCUS_POSITION.FOCUS_ABSOLUTE_POSITION=50'; "
            "indi_eval -w -t 20 '\"MultiFocus 1.ABS_FOCUS_POSITION.FOCUS_ABSOLUTE_POSITION\"==50'"
        )
        self.must("sh", "-c", used, network=False)
        self.must("apt-get", "-q", "-y", "purge", "indi-multifocus")
        return "installed, moves a focuser"

    def pip(self) -> str:
        """pip in a virtual environment, after the packages that README names."""
        names = re.search(r"on Debian it takes\s`apt install ([^`]+)` first", self.readme)
        if names is None:
            raise NotAsPromised("README does not say what pip takes")
        self.must("apt-get", "-q", "-y", "install", "--no-install-recommends", *names[1].split())
        self.must("python3", "-m", "venv", "/home/observer/venv", user="observer")
        self.must("/home/observer/venv/bin/pip", "install", "-q", ".[focusd]", user="observer", cwd=CLONE)
        for command in ("indi_multifocus", "focusd", "focus"):
            version = self.must(f"/home/observer/venv/bin/{command}", "--version", user="observer")
            if version != f"{command} {__version__}\n":
                raise NotAsPromised(f"{command} --version prints {version!r}")
        pyindi = self.must("/home/observer/venv/bin/python", "-c", PYINDI, user="observer")
        return f"well, pyindi-client {pyindi.strip()}"

    def versions(self) -> str:
        """Of Python and libindi."""
        python = self.must("python3", "-c", "import platform; print(platform.python_version())").strip()
        found = re.search(r"INDI Library: ([\d.]+)", self.run("indiserver")[1])
        return f"{python}, {found[1] if found else '?'}"

    def steps(self) -> Iterator[tuple[str, Callable[[], str]]]:
        """In an order in which none has what another one brought."""
        yield "without root", self.who_has_no_root
        yield ".deb", self.package
        yield "pip", self.pip
        yield "make run", self.make_run
        yield "make test", self.make_test
        yield "Python, libindi", self.versions


PYINDI = "import PyIndi; from importlib.metadata import version; print(version('pyindi-client'))"
COLUMNS = ("Python, libindi", "make run", "make test", ".deb", "pip", "without root")


def write_row(name: str, cells: Iterable[str | None]) -> None:
    """Put a release's row into the table, in place of what is there of it; rows are in the order of their names."""
    text = PAGE.read_text()
    begin, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    rows = {line.split("|")[1].strip(): line for line in text[begin:end].splitlines()[2:]}
    rows[name] = f"| {name} | {' | '.join(str(cell) for cell in cells)} |"
    head = f"| | version | tried | {' | '.join(COLUMNS)} |\n|{'---|' * (len(COLUMNS) + 3)}\n"
    PAGE.write_text(text[:begin] + head + "".join(f"{rows[name]}\n" for name in sorted(rows)) + text[end:])


def main() -> int:
    """Exit status 0 when all was as promised, 1 when not, 2 when it cannot be found out."""
    if os.geteuid() != 0:
        print("make test-systems: debootstrap needs root", file=sys.stderr)
        return 2
    well = True
    for release in sys.argv[1:] or RELEASES:
        system = System(release)
        found = {}
        for name, step in system.steps():
            try:
                found[name] = step()
            except NotAsPromised as problem:
                found[name], well = f"**{problem}**", False
            print(f"{release}: {name}: {found[name]}", flush=True)
        write_row(RELEASES.get(release, release), [__version__, date.today().isoformat(), *map(found.get, COLUMNS)])
        shutil.rmtree(system.debian.folder, ignore_errors=True)
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
