# SPDX-License-Identifier: GPL-3.0-or-later
"""A fresh Debian in a folder: debootstrap, and commands that run in it. For tests/packaging and `make test-systems`.

Needs root. It shares kernel, network, devices and processor with this machine; its processes end with the command that
started them. The configuration of this machine's pip (an index, a certificate) holds in there, too.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Union

Part = Union[str, Path]

MOUNT = """
root=$1; shift
mount -t proc proc "$root/proc"
if [ "$1" = --net ]; then shift; ip link set lo up; fi
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/run"
while [ "$1" != -- ]; do mkdir -p "$root$1"; mount --bind "$1" "$root$1"; shift; done
shift
exec "$@"
"""
VARIABLES = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_ROOT_USER_ACTION": "ignore",
}


class Debian:
    """One Debian; `release` is a code name. What it prints on the way goes to `log`."""

    def __init__(self, folder: Path, release: str, log: IO[bytes]) -> None:
        """Raises subprocess.CalledProcessError where debootstrap fails."""
        self.folder = folder
        # An older debootstrap does not know the newest releases, which are made like any other.
        known = Path("/usr/share/debootstrap/scripts", release)
        script = [] if known.exists() else [str(known.with_name("sid"))]
        command = ["debootstrap", "--variant=minbase", release, str(folder), "http://deb.debian.org/debian", *script]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        for name in ("resolv.conf", "hosts"):
            shutil.copy(Path("/etc", name), folder / "etc" / name)
        self._binds = self._share_pip()

    def _share_pip(self) -> list[str]:
        """Give it this machine's configuration of pip; returns the folders that this mentions."""
        sources = (Path("/etc/pip.conf"), Path.home() / ".config/pip/pip.conf")
        text = "\n".join(path.read_text() for path in sources if path.exists())
        folders = []
        for scheme, found in sorted(set(re.findall(r"(?:^|[\s=]|(file://))(/[^\s:]+)", text))):
            path = Path(found)
            if path.is_dir():  # the files of an index are beside it
                folders.append(str(path.parent) if scheme else found)
            elif path.is_file():
                copy = self.folder / "etc/pip" / path.name
                copy.parent.mkdir(exist_ok=True)
                shutil.copy(path, copy)
                text = text.replace(found, f"/etc/pip/{path.name}")
        # One section, whatever the number of files.
        text = "[global]\n" + text.replace("[global]", "")
        (self.folder / "etc/pip.conf").write_text(text)
        return sorted(set(folders))

    def command(
        self,
        *command: Part,
        user: str = "root",
        cwd: str = "/",
        env: Mapping[str, str] | None = None,
        network: bool = True,
    ) -> list[str]:
        """The command line that runs `command` in there; without `network` it has no other host than itself."""
        home = "/root" if user == "root" else f"/home/{user}"
        variables = {**VARIABLES, "HOME": home, "USER": user, **(env or {})}
        within = ["env", "-i", *(f"{name}={value}" for name, value in variables.items())]
        within += ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"] if user != "root" else []
        alone = [] if network else ["--net"]
        return [
            *("unshare", *alone, "--mount", "--pid", "--fork", "--kill-child", "sh", "-ec", MOUNT, "sh"),
            *(str(self.folder), *alone, *self._binds, "--", "chroot", str(self.folder)),
            *(*within, "sh", "-c", 'cd "$1" && shift && exec "$@"', "sh", cwd, *(str(part) for part in command)),
        ]

    def run(
        self,
        *command: Part,
        user: str = "root",
        cwd: str = "/",
        env: Mapping[str, str] | None = None,
        network: bool = True,
        timeout_s: float = 600.0,
    ) -> subprocess.CompletedProcess[str]:
        """Run to the end; output and errors are one text, `stdout`."""
        return subprocess.run(
            self.command(*command, user=user, cwd=cwd, env=env, network=network),
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout_s,
        )

    def must(self, *command: Part, **options: Any) -> str:
        """The same; it must succeed. What it printed."""
        done = self.run(*command, **options)
        assert done.returncode == 0, f"{command}: {done.stdout[-3000:]}"
        return done.stdout

    def install(self, *packages: str, recommended: bool = False) -> str:
        """`apt-get install`, from Debian's archive or from `.deb` files."""
        options = [] if recommended else ["--no-install-recommends"]
        return self.must("apt-get", "-q", "-y", "install", *options, *packages)

    def files(self) -> set[str]:
        """What there is, except what apt, dpkg and the like keep for themselves."""
        own = re.compile(r"/(proc|sys|dev|run|tmp|root|var/(cache|log|lib/(apt|dpkg|systemd|python))|usr/share/doc)/")
        return {
            name
            for folder, folders, files in os.walk(self.folder)
            for name in (os.path.join(folder, entry)[len(str(self.folder)) :] for entry in (*folders, *files))
            if not own.match(name) and "__pycache__" not in name
        }
