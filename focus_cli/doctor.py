# SPDX-License-Identifier: GPL-3.0-or-later
"""`focus doctor`: what usually is wrong, checked one after the other; for each that it is right, or what to do.

It changes nothing, and needs neither focusd nor a usable configuration. Its checks are here and in doctor_port.py (the
controller's side) and doctor_network.py (everybody else's). Exit status 0 only where no check found a problem.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator

from . import codes, doctor_network, doctor_port
from .finding import NOTE, OK, PROBLEM, Finding
from .session import UsageError, config_path
from .show import Style

CATALOGUE = "/usr/share/indi/indi_multifocus.xml"
MARKS = {OK: "✓", NOTE: "•", PROBLEM: "✗"}
"""Where the locale has no other."""


def run(arguments: list[str]) -> int:
    """`doctor [--json]`; returns a code. Raises UsageError."""
    if arguments not in ([], ["--json"]):
        raise UsageError
    interactive = not arguments and sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty()
    findings = []
    for finding in _checks(interactive):
        findings.append(finding)
        if not arguments:
            _print(finding)
    if arguments:
        print(json.dumps([finding._asdict() for finding in findings]))
    problems = sum(finding.state == PROBLEM for finding in findings)
    if not arguments:
        print("\nall is well" if not problems else f"\n{problems} problem{'s' if problems > 1 else ''}")
    return codes.FAILED if problems else codes.SUCCEEDED


def _print(finding: Finding) -> None:
    style = Style()
    mark = MARKS[finding.state]
    shown = style.red(mark) if finding.state == PROBLEM else style.bold(mark)
    print(f"{shown} {style.bold(finding.check)}: {finding.text}")
    if finding.remedy:
        print(f"    → {finding.remedy}")
    sys.stdout.flush()


def _checks(interactive: bool) -> Iterator[Finding]:
    from indi_multifocus.settings.configuration import ConfigError, load

    config, here = None, True
    try:
        path = config_path()
        config = load(path)
        yield Finding("configuration", OK, f"{path}, {config.channels} channel{'s' if config.channels > 1 else ''}")
    except ConfigError as error:
        yield Finding("configuration", PROBLEM, str(error), "correct it; docs/focusd.md describes each key")
    if config is not None:
        surroundings = yield from doctor_network.names(path, config)
        indi = yield from doctor_network.indi_server(config)
        here = surroundings.here
        if here:
            yield from doctor_port.port(config, indi, interactive)
        else:
            yield Finding("port", NOTE, f"{config.serial_port} is on {surroundings.host}: run focus doctor there")
        yield from doctor_network.focusd(path, config, surroundings)
        yield from doctor_network.listening(config, surroundings)
    yield from _installation(PROBLEM if here else NOTE)


def _installation(missing: str) -> Iterable[Finding]:
    """What is installed here, in which version; what is `missing` is a problem where focusd runs."""
    if os.path.exists(CATALOGUE):
        yield Finding("catalogue", OK, f"KStars finds the driver by {CATALOGUE}")
    else:
        yield Finding(
            "catalogue", NOTE, f"{CATALOGUE} is not there, so KStars does not list the driver", "sudo make install"
        )
    yield _libindi(missing)
    for package, purpose in (("pyindi-client", "focusd"), ("Pyro4", "focusd and focus"), ("pyserial", "the driver")):
        try:
            yield Finding(package, OK, importlib.metadata.version(package))
        except importlib.metadata.PackageNotFoundError:
            module = {"pyindi-client": "PyIndi", "pyserial": "serial"}.get(package, package)
            if importlib.util.find_spec(module) is not None:
                yield Finding(package, OK, "installed")
            else:
                remedy = f"{sys.executable} -m pip install {package}"
                yield Finding(package, missing, f"not installed; {purpose} needs it", remedy)
    yield Finding("Python", OK, f"{platform.python_version()}, {sys.executable}")


def _libindi(missing: str) -> Finding:
    if shutil.which("indiserver") is None:
        return Finding("libindi", missing, "indiserver is not installed", "sudo apt install indi-bin (Fedora: libindi)")
    try:
        usage = subprocess.run(["indiserver"], capture_output=True, stdin=subprocess.DEVNULL, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding("libindi", PROBLEM, f"indiserver does not run: {error}", "install indi-bin again")
    lines = (usage.stderr + usage.stdout).decode("utf-8", "replace").splitlines()
    version = next((line.partition(":")[2].strip() for line in lines if line.startswith("INDI Library:")), "")
    return Finding("libindi", OK, version or "installed; it does not say its version")
