# SPDX-License-Identifier: GPL-3.0-or-later
"""What packaging promises: one version everywhere, a catalogue entry that clients can read, two commands."""

from __future__ import annotations

import re
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

import indi_multifocus
from indi_multifocus.__main__ import main

PROJECT = Path(__file__).resolve().parents[2]


def test_the_version_is_the_same_everywhere() -> None:
    catalogue = ElementTree.parse(PROJECT / "xml" / "indi_multifocus.xml")
    assert catalogue.findtext("./devGroup/device/version") == indi_multifocus.__version__
    assert f"\n## {indi_multifocus.__version__} " in (PROJECT / "CHANGELOG.md").read_text()
    command = [sys.executable, "-m", "indi_multifocus", "--version"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT, timeout=30)
    assert result.stdout == f"indi_multifocus {indi_multifocus.__version__}\n"


def test_asking_for_the_version_imports_nothing_else() -> None:
    program = "import sys; before = set(sys.modules); import indi_multifocus; print(set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=PROJECT, timeout=30)
    assert done.stdout == "{'indi_multifocus'}\n"


@pytest.mark.parametrize("argument", ["-h", "--help"])
def test_somebody_who_starts_the_driver_by_hand_is_result_how_it_is_started(
    argument: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["indi_multifocus", argument])
    assert main() == 0
    output, errors = capfd.readouterr()
    assert "indiserver indi_multifocus\n" in output
    assert errors == ""


def test_the_catalogue_entry_is_one_that_KStars_and_INDI_Web_Manager_take() -> None:
    # Both read devGroup/group, device/label, driver/name and its text, and version; KStars gives the label to the
    # driver as the prefix of its devices' names, and takes those devices for this driver's whose names begin with
    # the first word of the driver's name.
    root = ElementTree.parse(PROJECT / "xml" / "indi_multifocus.xml").getroot()
    assert root.tag == "driversList"
    (group,) = root.findall("devGroup")
    assert group.attrib == {"group": "Focusers"}
    (device,) = group.findall("device")
    assert (device.get("label"), device.get("mdpd")) == ("MultiFocus", "true")
    driver = device.find("driver")
    assert driver is not None
    assert driver.text == "indi_multifocus"
    assert "MultiFocus 1".startswith(str(driver.get("name")).split(" ")[0])


def test_what_the_catalogue_starts_is_what_is_installed() -> None:
    installed = {path.name for path in Path(sys.executable).parent.iterdir()}
    assert {"indi_multifocus", "focusd", "focus"} <= installed
    for name in ("indi_multifocus", "focusd", "focus"):
        command = [str(Path(sys.executable).with_name(name)), "--version"]
        printed = subprocess.run(command, capture_output=True, text=True, cwd="/", timeout=30).stdout
        assert printed == f"{name} {indi_multifocus.__version__}\n"


def test_make_alone_shows_what_it_can_do() -> None:
    shown = subprocess.run(["make"], capture_output=True, text=True, cwd=PROJECT, timeout=30).stdout
    commands = re.findall(r"^make (\w+)", shown, re.MULTILINE)
    targets = re.findall(r"^(\w+):", (PROJECT / "Makefile").read_text(), re.MULTILINE)
    assert set(targets) - set(commands) == {"help"}


def test_every_package_is_installed() -> None:
    metadata = ConfigParser()
    metadata.read(PROJECT / "setup.cfg")
    listed = set(metadata["options"]["packages"].split())
    folders = {path.parent for name in ("indi_multifocus", "focus_cli") for path in (PROJECT / name).rglob("*.py")}
    packages = {".".join(folder.relative_to(PROJECT).parts) for folder in folders}
    assert listed == packages | {"warwick.observatory.multifocus", "rockit.focuser.multichannel"}
