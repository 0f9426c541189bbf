# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of devices: what is accepted can be addressed by INDI's own tools, and what they cannot carry is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from configuration import configured
from support import ROOT, IndiServer, eventually

from indi_multifocus.settings.device_name import check_device_name, device_names

# Every printable ASCII character that is accepted, at an end or within; blanks; other scripts; the longest.
LABELS = ["RASA (1) #2,+x  [y]_-", "<É ~|{}$%^!?`>", "望远镜 1", "+" + "n" * 62]
REFUSED = [*(f"A{character}B" for character in ".=;*@:/\\&'\"\t"), "-A", " A", "A ", "n" * 64, "é" * 32, ""]


def test_what_is_accepted_is_reached_by_indi_getprop_and_indi_setprop(home: Path) -> None:
    accepted = {chr(code) for code in range(32, 127)} - set(".=;*@:/\\&'\"")
    assert accepted <= set("".join(LABELS)) | {character for character in accepted if character.isalnum()}
    labels = {str(channel): label for channel, label in enumerate(LABELS, 1)}
    extra = configured(home / "config.json", "/dev/ttyACM0", channels=len(LABELS), labels=labels)
    with IndiServer(home, extra) as server:
        server.client().settle(LABELS[0])
        for label in LABELS:

            def tool(name: str, *specification: str) -> str:
                command = [f"indi_{name}prop", "-p", str(server.port), "-t", "20", *specification]
                return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout

            tool("set", f"{label}.DEBUG.ENABLE=On")
            # What other clients asked for may still be on its way, and be as it was before.
            is_on = f"{label}.DEBUG.ENABLE=On\n"
            eventually(lambda: tool("get", f"{label}.DEBUG.ENABLE") == is_on, is_on)  # noqa: B023


@pytest.mark.parametrize("name", REFUSED)
def test_what_they_cannot_carry_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="a name of 1 to 63 bytes is expected, without"):
        check_device_name(name)
    if name and name != "A ":  # the number follows
        monkeypatch.setenv("INDIDEV", name)
        with pytest.raises(ValueError, match=r'^INDIDEV: ".*": a name of 1 to 63 bytes is expected'):
            device_names(2, {})


def test_a_label_may_not_be_another_channel_s_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INDIDEV", "East")
    assert device_names(2, {1: "RASA"}) == {1: "RASA", 2: "East 2"}
    clash = '^INDIDEV: "East": two channels would be named "East 2": another prefix or label is expected$'
    with pytest.raises(ValueError, match=clash):
        device_names(2, {1: "East 2"})


def test_focusd_says_what_is_wrong_with_INDIDEV(home: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "focusd"), str(ROOT / "test.json")],
        env={"HOME": str(home), "INDIDEV": "A & B", "PATH": ""},
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith('focusd: INDIDEV: "A & B": a name of 1 to 63 bytes is expected')
