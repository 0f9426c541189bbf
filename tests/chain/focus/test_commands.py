# SPDX-License-Identifier: GPL-3.0-or-later
"""`focus` as a process: what it prints, and its exit status."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from configuration import entries

from focus_cli import manual, session
from focus_cli.focus import main
from indi_multifocus import __version__

PROJECT = Path(__file__).resolve().parents[3]


def test_a_night_from_init_to_kill(make_chain: Any) -> None:
    chain = make_chain(
        speed=1.0, temperature_probes={"rasa1": {"label": "RASA1", "address": "28EFE61E0B0000B9", "channel": 1}}
    )
    chain.start_focusd()

    def run(*arguments: str) -> tuple[int, str]:
        result = chain.focus(*arguments)
        assert result.stderr == ""
        return result.returncode, result.stdout

    code, output = run("status")
    assert (code, output.splitlines()[1:]) == (0, ["Channel 1: OFFLINE", "Channel 2: OFFLINE"])
    assert run("set", "1", "5") == (7, "error: focuser is not connected\n")
    assert run("init") == (0, "")
    assert run("init") == (8, "error: focuser is already connected\n")
    assert run("set", "1", "150") == (0, "")
    assert run("set", "2", "-50") == (0, "")
    assert run("offset", "1", "-25") == (0, "")
    assert run("offset", "2", "+6") == (0, "")
    assert run("fans", "enable") == (0, "")
    while "UNKNOWN" in (status := run("status")[1]):
        pass
    assert status.startswith("Data received 2")
    assert status.splitlines()[1:] == [
        "Channel 1: +000125 steps",
        "Channel 2: -000044 steps",
        "OTA fans: ENABLED",
        "Temperature probes:",
        "   RASA1: 21.1 °C",
    ]
    assert run("fans", "disable") == (0, "")
    assert run("zero", "2") == (0, "")
    assert run("stop", "1") == (0, "")
    assert run("set", "1", "12345678") == (6, "error: requested position outside channel range\n")
    assert run("list-channels") == (0, "1 2\n")
    code, output = run("json")
    report = json.loads(output)
    assert (code, output.count("\n")) == (0, 1)
    assert (report["current_steps_1"], report["current_steps_2"], report["fans_enabled"]) == (125, 0, False)
    assert run("kill") == (0, "")
    assert run("kill") == (7, "error: focuser is not connected\n")


def test_a_moving_channel_is_shown_with_its_target_and_blocks(chain: Any, until: Any) -> None:
    move = chain.start_focus("set", "1", "123456")
    until(lambda: chain.moving(1))
    lines = chain.focus("status").stdout.splitlines()
    assert lines[1].endswith("steps (moving to +123456 steps)")
    assert lines[2] == "Channel 2: +000000 steps"
    blocked = chain.focus("set", "1", "5")
    assert (blocked.returncode, blocked.stdout) == (2, "error: another command is already running\n")
    assert chain.focus("zero", "1").returncode == 2
    assert chain.focus("set", "2", "50").returncode == 0
    assert chain.focus("stop", "1").returncode == 0
    assert move.wait(timeout=30) == 0


@pytest.mark.parametrize("command", ["set", "offset"])
def test_ctrl_c_stops_the_channel_and_says_so(chain: Any, until: Any, command: str) -> None:
    move = chain.start_focus(command, "2", "90000")
    until(lambda: chain.moving(2))
    move.send_signal(signal.SIGINT)
    output, errors = move.communicate(timeout=30)
    assert move.returncode == 156  # -100
    assert "channel 2 is stopped" in output
    assert "error: terminated by user" in output
    assert errors == ""
    assert chain.simulator.standstill(2) is not None
    assert not chain.moving(2)


def test_ctrl_c_reports_that_the_channel_could_not_be_stopped(chain: Any, until: Any) -> None:
    move = chain.start_focus("set", "1", "90000")
    until(lambda: chain.moving(1))
    chain.daemon.send_signal(signal.SIGSTOP)
    try:
        move.send_signal(signal.SIGINT)
        output, errors = move.communicate(timeout=30)
    finally:
        chain.daemon.send_signal(signal.SIGCONT)
    assert move.returncode == 155  # -101
    assert "is stopped" not in output
    assert "error: unable to communicate with focus daemon" in output
    assert errors == ""


@pytest.mark.parametrize(
    ("arguments", "usage"),
    [
        (["set"], "set (1|2) <step position>"),
        (["set", "1"], "set (1|2) <step position>"),
        (["set", "3", "100"], "set (1|2) <step position>"),
        (["set", "0", "100"], "set (1|2) <step position>"),
        (["set", "1", "1.5"], "set (1|2) <step position>"),
        (["set", "1", "1e3"], "set (1|2) <step position>"),
        (["set", "1", "12:30"], "set (1|2) <step position>"),
        (["set", "1", "1_000"], "set (1|2) <step position>"),
        (["set", "1", "٣"], "set (1|2) <step position>"),
        (["set", "1", ""], "set (1|2) <step position>"),
        (["set", "1", "5", "6"], "set (1|2) <step position>"),
        (["offset", "1"], "offset (1|2) <step delta>"),
        (["offset", "x", "5"], "offset (1|2) <step delta>"),
        (["stop"], "stop (1|2)"),
        (["stop", "9"], "stop (1|2)"),
        (["zero", "1", "2"], "zero (1|2)"),
        (["fans"], "fans (enable|disable)"),
        (["fans", "on"], "fans (enable|disable)"),
        (["status", "1"], "status"),
        (["json", "-v"], "json"),
        (["init", "now"], "init"),
        (["kill", "9"], "kill"),
        (["list-channels", "x"], "list-channels"),
    ],
)
def test_wrong_arguments_show_the_usage_of_that_command(make_chain: Any, arguments: list[str], usage: str) -> None:
    result = make_chain().focus(*arguments)
    assert (result.returncode, result.stdout, result.stderr) == (255, f"usage: focus {usage}\n", "")


def test_with_one_channel_its_number_can_be_left_out(make_chain: Any, until: Any) -> None:
    chain = make_chain(channels=1)
    chain.start_focusd()

    def run(*arguments: str) -> tuple[int, str]:
        result = chain.focus(*arguments)
        assert result.stderr == ""
        return result.returncode, result.stdout

    assert run("init") == (0, "")
    for arguments, position in (
        (["set", "500"], 500),
        (["offset", "-20"], 480),
        (["set", "1", "90"], 90),
        (["offset", "1", "5"], 95),
        (["set", "1"], 1),
        (["zero"], 0),
        (["set", "7"], 7),
        (["zero", "1"], 0),
        (["stop", "1"], 0),
    ):
        assert run(*arguments) == (0, ""), arguments
        assert chain.simulator.position(1) == position, arguments
    move = chain.start_focus("set", "-90000")
    until(lambda: chain.moving(1))
    assert run("stop") == (0, "")
    assert move.wait(timeout=30) == 0
    status = run("status")[1].splitlines()
    assert [line[:10] for line in status[1:]] == ["Channel 1:", "OTA fans: "]
    assert run("list-channels") == (0, "1\n")
    for arguments, usage in (
        (["set"], "set [1] <step position>"),
        (["set", "2", "5"], "set [1] <step position>"),
        (["set", "1", "2", "3"], "set [1] <step position>"),
        (["offset", "x"], "offset [1] <step delta>"),
        (["stop", "2"], "stop [1]"),
        (["zero", "1", "1"], "zero [1]"),
    ):
        assert run(*arguments) == (255, f"usage: focus {usage}\n")


def test_a_controller_without_fans_has_no_line_about_them(make_chain: Any) -> None:
    chain = make_chain(generation=1).start()
    assert [line[:10] for line in chain.focus("status").stdout.splitlines()[1:]] == ["Channel 1:", "Channel 2:"]
    report = json.loads(chain.focus("json").stdout)
    assert (report["fans_available"], report["fans_enabled"]) == (False, False)
    assert chain.focus("fans", "enable").returncode == 1


def test_commands_are_listed_for_who_asks_and_who_errs(make_chain: Any) -> None:
    chain = make_chain()
    for arguments, code in (([], 0), (["--help"], 0), (["sett", "1", "5"], 255), (["-x"], 255)):
        result = chain.focus(*arguments)
        assert result.returncode == code
        for command in manual.COMMANDS:
            assert f"   {command} " in result.stdout


def test_the_version_is_printed(make_chain: Any) -> None:
    result = make_chain().focus("--version")
    assert (result.returncode, result.stdout) == (0, f"focus {__version__}\n")


def test_without_focusd_every_command_says_that_it_cannot_be_reached(make_chain: Any) -> None:
    chain = make_chain()
    commands = (["status"], ["set", "1", "5"], ["offset", "1", "5"], ["stop", "1"], ["zero", "1"], ["init"], ["kill"])
    for arguments in (*commands, ["fans", "enable"]):
        result = chain.focus(*arguments)
        assert (result.returncode, result.stdout) == (155, "error: unable to communicate with focus daemon\n")
    result = chain.focus("json")
    assert (result.returncode, result.stdout) == (155, "")
    assert result.stderr == "error: unable to communicate with focus daemon\n"


def test_another_daemon_on_the_port_is_an_error_and_no_traceback(make_chain: Any, fake_focusd: Any) -> None:
    chain = make_chain()
    with fake_focusd({"hello": lambda: 1}) as port:
        registry = json.loads((chain.folder / "registry.json").read_text())
        registry["daemons"]["here_focus"].update(port=port, name="other_daemon")
        (chain.folder / "registry.json").write_text(json.dumps(registry))
        result = chain.focus("status")
    assert result.returncode in (1, 155)
    assert "Traceback" not in result.stderr + result.stdout


def test_codes_of_focusd_arrive_as_exit_statuses(make_chain: Any, fake_focusd: Any) -> None:
    """Also those that this focusd could only return under rarer circumstances."""
    for code, text in (
        (1, "error: command failed"),
        (3, "error: command not accepted from this IP"),
        (4, "error: invalid channel"),
        (99, "error: Unknown error code 99"),
    ):
        chain = make_chain()
        with fake_focusd({"stop_channel": lambda channel, code=code: code}) as port:
            registry = json.loads((chain.folder / "registry.json").read_text())
            registry["daemons"]["here_focus"]["port"] = port
            (chain.folder / "registry.json").write_text(json.dumps(registry))
            result = chain.focus("stop", "1")
        assert (result.returncode, result.stdout) == (code, f"{text}\n")


def test_a_channel_that_focusd_does_not_have_is_invalid(chain: Any) -> None:
    other = chain.folder / "more.json"
    other.write_text(json.dumps({**json.loads(chain.config.read_text()), "channels": 3}))
    chain.environment["FOCUSD_CONFIG_PATH"] = str(other)
    result = chain.focus("set", "3", "10")
    assert (result.returncode, result.stdout) == (4, "error: invalid channel\n")


def on_terminal(chain: Any, *arguments: str, status: int = 0, **environment: str) -> str:
    """What `focus` prints on a terminal."""
    reader, terminal = pty.openpty()
    try:
        process = subprocess.Popen(
            [sys.executable, str(PROJECT / "focus"), *arguments],
            env={**chain.environment, "TERM": "xterm", **environment},
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
        )
        chain.started.append(process)
        assert process.wait(timeout=30) == status
        return os.read(reader, 65536).decode()
    finally:
        os.close(reader)
        os.close(terminal)


def test_colours_are_for_terminals_alone(make_chain: Any) -> None:
    chain = make_chain()
    chain.start_focusd()
    assert "\033[" not in chain.focus("status").stdout
    assert "\033[1;31mOFFLINE\033[0m" in on_terminal(chain, "status")
    assert "\033[" not in on_terminal(chain, "status", NO_COLOR="1")
    assert "\033[" not in on_terminal(chain, "status", TERM="dumb")


def test_a_reader_that_goes_away_is_no_traceback(make_chain: Any) -> None:
    chain = make_chain()
    process = chain.start_focus("--help")
    process.stdout.close()
    assert process.wait(timeout=30) == 1
    assert process.stderr.read() == ""


def test_a_wrong_configuration_is_one_line(make_chain: Any) -> None:
    chain = make_chain()
    for text, reason in (
        ('{"daemon": ', "line 1, column 11: broken JSON: it ends too early"),
        ('{"daemon": "x"}', "log_name: missing"),
    ):
        chain.config.write_text(text)
        result = chain.focus("status")
        assert result.returncode == 1
        assert result.stdout == ""
        assert result.stderr.count("\n") == 1
        assert f"{chain.config}: " in result.stderr
        assert reason in result.stderr
    chain.config.unlink()
    result = chain.focus("set", "1", "5")
    assert (result.returncode, result.stderr) == (1, f"focus: {chain.config}: there is no such file\n")


def test_a_configuration_that_is_no_file_is_refused_at_once(make_chain: Any) -> None:
    chain = make_chain()
    fifo = chain.folder / "fifo.json"
    os.mkfifo(fifo)
    for path, kind in ((str(fifo), "a FIFO"), ("/dev/zero", "a device"), (str(chain.folder), "a folder")):
        line = f"{path}: this is {kind}; a JSON file is expected\n"
        chain.environment["FOCUSD_CONFIG_PATH"] = path
        for command in ("status", "list-channels", "init"):
            result = chain.focus(command)
            assert (result.returncode, result.stdout, result.stderr) == (1, "", f"focus: {line}")
        for program, arguments, name in (
            (str(PROJECT / "focusd"), [path], "focusd"),
            ("-m", ["indi_multifocus"], "indi_multifocus"),
        ):
            result = subprocess.run(
                [sys.executable, program, *arguments],
                env={**chain.environment, "INDI_MULTIFOCUS_CONFIG": path},
                cwd=PROJECT,
                capture_output=True,
                text=True,
                timeout=20,
            )
            assert (result.returncode, result.stdout, result.stderr) == (1, "", f"{name}: {line}")


def test_the_only_configuration_in_etc_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("FOCUSD_CONFIG_PATH", raising=False)
    monkeypatch.setattr(session, "CONFIG_FOLDER", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["focus", "list-channels"])

    assert main() == 1
    shown = capfd.readouterr().err
    assert "there is none" in shown
    assert "FOCUSD_CONFIG_PATH=" in shown

    (tmp_path / "one.json").write_text(json.dumps(entries(channels=4)))
    (tmp_path / "registry.json").write_text("{}")
    assert main() == 0
    assert capfd.readouterr().out == "1 2 3 4\n"

    (tmp_path / "two.json").write_text("{}")
    assert main() == 1
    shown = capfd.readouterr().err
    assert "one.json, two.json" in shown
    assert shown.count("\n") == 1


def test_the_command_line_loads_no_more_than_it_needs(make_chain: Any) -> None:
    """`focus status` is to answer within 0.3 s; importing pyindi-client or the driver would take that."""
    chain = make_chain()
    chain.start_focusd()
    code = (
        "import sys; sys.argv = ['focus', *sys.argv[1:]]\n"
        "from focus_cli.focus import main\n"
        "code = main()\n"
        "print(*sorted(sys.modules), file=sys.stderr)\n"
        "sys.exit(code)"
    )

    def modules(command: str) -> set[str]:
        environment = {**chain.environment, "PYTHONPATH": str(PROJECT)}
        result = subprocess.run([sys.executable, "-c", code, command], env=environment, capture_output=True, text=True)
        assert result.returncode == 0
        return set(result.stderr.split())

    for module in ("PyIndi", "argparse", "indi_multifocus.driver", "focus_cli.focusd"):
        assert module not in modules("status")
    assert "Pyro4" not in modules("list-channels")


def test_people_hear_what_to_do_and_scripts_hear_what_they_always_did(make_chain: Any) -> None:
    chain = make_chain(limits={"1": [-50, 5000]})

    def hint(*arguments: str, status: int) -> str:
        """What a terminal shows beside the message, which is the same in a pipe."""
        plain = chain.focus(*arguments)
        assert (plain.returncode, plain.stderr) == (status, "")
        message, *hints = on_terminal(chain, *arguments, status=status).splitlines()
        assert f"{message}\n" == plain.stdout
        return "\n".join(hints)

    assert hint("status", status=155) == "focus: `focus doctor` says why, and what to do"
    chain.start_focusd()
    assert hint("set", "1", "5", status=7) == "focus: `focus init` connects it"
    chain.simulator.pull_cable()
    assert "/focuser" in hint("init", status=1)
    chain.simulator.replug_cable()
    assert chain.focus("init").returncode == 0
    assert hint("set", "1", "5001", status=6) == "focus: channel 1 goes from -50 to 5000"
    assert chain.focus("set", "2", "90000", "--no-wait").returncode == 0
    blocked = "focus: channel 2 is moving: `focus status` shows where to, `focus stop 2` stops it"
    assert hint("set", "2", "5", status=2) == blocked
    assert chain.focus("stop", "2").returncode == 0


def test_a_night_costs_the_log_a_line_for_a_fault_and_none_for_a_move(chain: Any, until: Any) -> None:
    before = len(chain.log.splitlines())
    for steps in ("500", "-20", "70"):
        assert chain.focus("set", "1", steps).returncode == 0
    observer = chain.observe()
    observer.move(2, 300)
    until(lambda: chain.status()["current_steps_2"] == 300)
    assert chain.log.splitlines()[before:] == []
    observer.move(2, 99_999_999)
    until(lambda: "99999999" in chain.log)
    (line,) = chain.log.splitlines()[before:]
    assert line.count("MultiFocus 2") == 1
    chain.simulator.pull_cable()
    until(lambda: "lost the controller" in chain.log)
    chain.simulator.replug_cable()
    until(lambda: "the controller is back" in chain.log)
    until(lambda: chain.status()["status"] == 1)
    observer.close()
    lines = [line for line in chain.log.splitlines()[before + 1 :] if "Client" not in line]
    assert ["lost the controller" in line for line in lines].count(True) == 1, lines
    assert ["the controller is back" in line for line in lines].count(True) == 1, lines
