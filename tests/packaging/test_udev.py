# SPDX-License-Identifier: GPL-3.0-or-later
"""The udev rules, applied by udev itself (`udevadm test`) to a /sys that has the board in question."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
from installed import PROJECT, needs, run

pytestmark = [pytest.mark.packages]

RULES = PROJECT / "packaging" / "udev"
BOARDS = {"LUFA": ("03eb", "204b"), "Leonardo": ("2341", "8036"), "Micro": ("2341", "8037")}
FTDI = ("0403", "6001")
CLASP_SERIAL, PORTABLE_SERIAL = "24237313135351A01221", "242373131353513091B0"


def plug_in(sys: Path, vendor: str, product: str, serial: str) -> None:
    """The part of /sys that udev looks at, for a USB board with a serial port."""
    board = sys / "devices" / "pci" / "usb1" / "1-1"
    port = board / "1-1:1.0" / "tty" / "ttyACM0"
    port.mkdir(parents=True)
    for name, value in (("idVendor", vendor), ("idProduct", product), ("serial", serial)):
        (board / name).write_text(value + "\n")
    for device, subsystem, uevent in (
        (board, "bus/usb", "MAJOR=189\nMINOR=1\nDEVNAME=bus/usb/001/002\nDEVTYPE=usb_device\n"),
        (board / "1-1:1.0", "bus/usb", "DEVTYPE=usb_interface\n"),
        (port, "class/tty", "MAJOR=166\nMINOR=0\nDEVNAME=ttyACM0\n"),
    ):
        (sys / subsystem).mkdir(parents=True, exist_ok=True)
        (device / "uevent").write_text(uevent)
        (device / "subsystem").symlink_to(f"/sys/{subsystem}")


def apply(folder: Path, device: str, vendor: str, product: str, serial: str = "1", rules: Path = RULES) -> str:
    """What udev would do with the board: the properties that it gives it, and what it says of the rules on its way."""
    needs("udevadm", "unshare", root=True)
    fake, there = folder / "sys", folder / "rules"
    plug_in(fake, vendor, product, serial)
    shutil.copytree(rules, there)
    script = f"""
        mount -t tmpfs tmpfs /dev
        mount -t tmpfs tmpfs /run
        mknod -m 666 /dev/null c 1 3
        mkdir -p /run/udev/rules.d
        mount --bind {shlex.quote(str(there))} /run/udev/rules.d
        mount --bind {shlex.quote(str(fake))} /sys
        export SYSTEMD_DEVICE_VERIFY_SYSFS=0 SYSTEMD_LOG_LEVEL=debug
        udevadm test --action=add /sys/devices/pci/usb1/1-1{device} 2>&1
        cat /run/udev/data/* # what udev keeps of it
    """
    done = run(["unshare", "--mount", "--propagation", "private", "sh", "-ec", script])
    if "Failed to open device" in done.stdout:
        pytest.skip(f"this udevadm takes no other /sys: {done.stdout[-200:]}")
    return done.stdout


PORT = "/1-1:1.0/tty/ttyACM0"


@pytest.mark.parametrize("board", BOARDS)
def test_a_board_becomes_dev_focuser_for_the_group_dialout(tmp_path: Path, board: str) -> None:
    output = apply(tmp_path, PORT, *BOARDS[board])
    assert "/dev/focuser" in re.findall(r"^DEVLINKS=(.*)", output, re.MULTILINE)[0].split()
    assert re.search(r"60-multifocus.rules:\d+ GROUP \d+", output)
    assert re.search(r"60-multifocus.rules:\d+ MODE 0660", output)
    assert "ID_MM_PORT_IGNORE=1" in output
    assert re.search(r"^(CURRENT_)?TAGS=.*:uaccess:", output, re.MULTILINE)


@pytest.mark.parametrize("board", BOARDS)
def test_ModemManager_is_kept_off_the_board(tmp_path: Path, board: str) -> None:
    assert "ID_MM_DEVICE_IGNORE=1" in apply(tmp_path, "", *BOARDS[board])


def test_an_FTDI_cable_is_nobody_s_focuser_by_itself(tmp_path: Path) -> None:
    output = apply(tmp_path, PORT, *FTDI, serial="A50285BI")
    assert "DEVNAME=/dev/ttyACM0" in output
    assert "/dev/focuser" not in output


def test_an_FTDI_cable_becomes_dev_focuser_by_the_example(tmp_path: Path) -> None:
    rules = tmp_path / "local"
    rules.mkdir()
    example = re.search(r'^# (SUBSYSTEM.*"0403".*)', (RULES / "60-multifocus.rules").read_text(), re.MULTILINE)
    assert example
    (rules / "61-focuser.rules").write_text(example[1] + "\n")
    assert "/dev/focuser" in apply(tmp_path, PORT, *FTDI, serial="A50285BI", rules=rules)


@pytest.mark.parametrize(("serial", "priority"), [(CLASP_SERIAL, "100"), (PORTABLE_SERIAL, "100"), ("another", "-100")])
def test_a_telescope_s_own_controller_comes_before_other_boards(tmp_path: Path, serial: str, priority: str) -> None:
    output = apply(tmp_path, PORT, *BOARDS["LUFA"], serial=serial)
    assert re.findall(r"^L:(-?\d+)$", output, re.MULTILINE) == [priority]


def test_udev_finds_nothing_wrong_with_the_rules(tmp_path: Path) -> None:
    needs("udevadm", root=True)
    for rules in RULES.glob("*.rules"):
        done = run(["udevadm", "verify", rules])
        if "Unknown command verb" in done.stderr:  # before systemd 254
            assert f"{rules.name}:" not in "".join(_complaints(apply(tmp_path / rules.name, PORT, *BOARDS["LUFA"])))
        else:
            assert done.returncode == 0, done.stdout + done.stderr


def _complaints(output: str) -> list[str]:
    return [line for line in output.splitlines() if re.search(r"rules:\d+.*(Invalid|Unknown|ignoring|Failed)", line)]
