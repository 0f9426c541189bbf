# SPDX-License-Identifier: GPL-3.0-or-later
"""Our `focus` with the focusd that an observatory may still run: rockit-astro/focusd of either generation.

What these report is stated here from the public sources: the first generation has `status_N` (0, 1, 2) alone and
neither fans nor temperatures; its successor has `status` (0, 1), `moving_N`, `fans_enabled` and `temperature`, and no
`status_N`.
"""

from __future__ import annotations

import json
from typing import Any

DATE = {"date": "2023-04-05T06:07:08Z"}
OFFLINE_1 = {**DATE, "software_version": "20230101", "status_1": 0, "status_2": 0}
MOVING_1 = {
    **DATE,
    "software_version": "20230101",
    "status_1": 2,
    "target_steps_1": 5000,
    "current_steps_1": -12,
    "status_2": 1,
    "target_steps_2": 7,
    "current_steps_2": 7,
}
OFFLINE_2 = {**DATE, "status": 0}
MOVING_2 = {
    **DATE,
    "status": 1,
    "fans_enabled": True,
    "temperature": {"t1": 21.0625, "tube": None},
    "target_steps_1": 5000,
    "current_steps_1": -12,
    "moving_1": True,
    "target_steps_2": 7,
    "current_steps_2": 7,
    "moving_2": False,
}


def ask(make_chain: Any, fake_focusd: Any, methods: dict[str, Any], *arguments: str) -> Any:
    """`focus …` with a focusd of these methods."""
    chain = make_chain()
    with fake_focusd(methods) as port:
        registry = json.loads((chain.folder / "registry.json").read_text())
        registry["daemons"]["here_focus"]["port"] = port
        (chain.folder / "registry.json").write_text(json.dumps(registry))
        return chain.focus(*arguments)


def test_the_status_of_the_first_generation_is_shown(make_chain: Any, fake_focusd: Any) -> None:
    result = ask(make_chain, fake_focusd, {"report_status": lambda: MOVING_1}, "status")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        "Data received 2023-04-05 06:07:08:",
        "Channel 1: -000012 steps (moving to +005000 steps)",
        "Channel 2: +000007 steps",
    ]
    result = ask(make_chain, fake_focusd, {"report_status": lambda: OFFLINE_1}, "status")
    assert result.stdout.splitlines()[1:] == ["Channel 1: OFFLINE", "Channel 2: OFFLINE"]


def test_the_status_of_the_second_generation_is_shown(make_chain: Any, fake_focusd: Any) -> None:
    methods = {"report_status": lambda: MOVING_2, "temperature_labels": lambda: {"t1": "RASA 1", "tube": "Tube"}}
    result = ask(make_chain, fake_focusd, methods, "status")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        "Data received 2023-04-05 06:07:08:",
        "Channel 1: -000012 steps (moving to +005000 steps)",
        "Channel 2: +000007 steps",
        "OTA fans: ENABLED",
        "Temperature probes:",
        "   RASA 1: 21.1 °C",
        "   Tube:   UNKNOWN",
    ]
    result = ask(make_chain, fake_focusd, {**methods, "report_status": lambda: OFFLINE_2}, "status")
    assert result.stdout.splitlines()[1:] == ["Channel 1: OFFLINE", "Channel 2: OFFLINE"]


def test_json_is_what_focusd_reports(make_chain: Any, fake_focusd: Any) -> None:
    for report in (MOVING_1, OFFLINE_1, MOVING_2, OFFLINE_2):
        result = ask(make_chain, fake_focusd, {"report_status": lambda report=report: report}, "json")
        assert json.loads(result.stdout) == report
    assert ask(make_chain, fake_focusd, {"report_status": lambda: None}, "json").stdout == "{}\n"


def test_a_focusd_without_fans_is_distinguished_from_one_that_fails(make_chain: Any, fake_focusd: Any) -> None:
    result = ask(make_chain, fake_focusd, {"report_status": lambda: MOVING_1}, "fans", "enable")
    assert result.returncode == 1
    assert result.stdout.startswith("error: this focusd knows no fans\n")
    assert "Traceback" not in result.stderr


def test_commands_are_called_as_both_generations_take_them(make_chain: Any, fake_focusd: Any) -> None:
    called: list[tuple[Any, ...]] = []

    def note(name: str) -> Any:
        def method(*arguments: Any, **named: Any) -> int:
            called.append((name, *arguments, *named.items()))
            return 0

        return method

    methods = {
        name: note(name)
        for name in ("set_focus", "stop_channel", "reset_home_position", "initialize", "shutdown", "enable_fans")
    }
    for arguments in (
        ("set", "1", "-5"),
        ("offset", "2", "7"),
        ("stop", "1"),
        ("zero", "2"),
        ("init",),
        ("kill",),
        ("fans", "disable"),
    ):
        assert ask(make_chain, fake_focusd, methods, *arguments).returncode == 0
    assert called == [
        ("set_focus", 1, -5),
        ("set_focus", 2, 7, ("offset", True)),
        ("stop_channel", 1),
        ("reset_home_position", 2),
        ("initialize",),
        ("shutdown",),
        ("enable_fans", False),
    ]
