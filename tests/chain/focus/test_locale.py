# SPDX-License-Identifier: GPL-3.0-or-later
"""focusd and focus where the locale has no É: what they print, and what they find, is UTF-8 all the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[3]

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
PROBE = {"label": "Tubus É", "address": "28EFE61E0B0000B9", "channel": 1}


def test_labels_and_paths_are_utf8_in_any_locale(make_chain: Any, until: Any) -> None:
    chain = make_chain(labels={"1": "É"}, temperature_probes={"rasa": PROBE}, log_name="focusd@É")
    chain.config = chain.config.rename(chain.folder / "é.json")
    chain.environment.update(ASCII, FOCUSD_CONFIG_PATH=str(chain.config))
    chain.start()
    assert "INFO focusd@É: focusd" in chain.log
    with chain.proxy() as focusd:
        assert focusd.set_focus(1, 100) == 0
    until(lambda: "rasa" in str(chain.status().get("temperature")), "the temperature")

    def focus(*arguments: str) -> tuple[int, str]:
        command = [sys.executable, str(PROJECT / "focus"), *arguments]
        done = subprocess.run(command, env=chain.environment, capture_output=True, timeout=30)
        return done.returncode, (done.stdout + done.stderr).decode("utf-8")

    status, text = focus("status")
    assert status == 0
    assert "Tubus É" in text
    chain.environment["FOCUSD_CONFIG_PATH"] = "/nowhere/É.json"
    assert focus("status") == (1, "focus: /nowhere/É.json: there is no such file\n")
