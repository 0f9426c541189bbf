# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands of `focus` and their texts: the one source of its help, its man page and its completion.

Imports nothing that takes time: the help is read at every usage error.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Option(NamedTuple):
    """An option of a command."""

    name: str
    value: str
    """What follows it, empty for nothing."""
    purpose: str


class Command(NamedTuple):
    """One command."""

    name: str
    arguments: str
    """As in its usage; {channel} stands for the channels of the configuration."""
    purpose: str
    text: str
    """The details, one paragraph a line."""
    examples: tuple[tuple[str, str], ...]
    """Command lines, and what each does."""
    options: tuple[Option, ...] = ()
    engineering: bool = False

    def usage(self, channels: range) -> str:
        """Name and arguments. A single channel may be left out."""
        channel = "[1]" if len(channels) == 1 else f"({'|'.join(map(str, channels))})"
        return f"{self.name} {self.arguments.format(channel=channel)}".rstrip()


_NO_WAIT = Option("--no-wait", "", "return as soon as the motor moves")
_TIMEOUT = Option("--timeout", "S", "wait no longer than S seconds; the motor goes on, and the exit status is 124")
_ENDS = (
    "Ctrl-C (or SIGTERM, SIGQUIT) stops the channel. A terminal or network that is lost lets the motor go on to its "
    "target."
)

COMMANDS: dict[str, Command] = {
    command.name: command
    for command in (
        Command(
            "set",
            "{channel} <step position>",
            "move to a given absolute position",
            "Returns when the motor stands there. On a terminal a bar shows how far it is.\n" + _ENDS,
            (("focus set 1 1500", "channel 1 to 1500 steps"), ("focus set 2 -20 --no-wait", "and do not wait for it")),
            (_NO_WAIT, _TIMEOUT),
        ),
        Command(
            "offset",
            "{channel} <step delta>",
            "move by a given number of steps",
            "Counts from where the channel was last sent to. Returns when the motor stands there.\n" + _ENDS,
            (("focus offset 1 -20", "20 steps inwards"),),
            (_NO_WAIT, _TIMEOUT),
        ),
        Command(
            "stop",
            "{channel}",
            "stop moving",
            "Returns when the motor stands. It overtakes everything else that focusd is doing.",
            (("focus stop 1", "stop channel 1 where it is"),),
        ),
        Command(
            "status",
            "",
            "print a human-readable summary of the focuser status",
            "Positions are shown as INDI shows them, to KStars and to everybody.",
            (("focus status", "all channels, fans and temperatures"),),
        ),
        Command(
            "json",
            "",
            "print a machine-readable summary of the focuser status",
            "One line of JSON on standard output, or nothing.",
            (("focus json | jq .current_steps_1", "the position of channel 1"),),
        ),
        Command(
            "watch",
            "[<small step> <large step>]",
            "show all channels live, with keys to step and stop them",
            "←/→ (or i/o) step the selected channel in and out, Page Down/Up (or I/O) by the large step; digits, Tab "
            "and ↑/↓ select; the space bar stops everything at once; q ends. The steps are 10 and 100 unless given.",
            (("focus watch", "a live view"), ("focus watch 5 50", "with smaller steps")),
        ),
        Command(
            "log",
            "",
            "show what happened, from focusd's history",
            "Positions, targets, temperatures and faults, one line a change; of the last day without `--since`.\n"
            "A plot shows position against time, and against temperature with the fitted slope in steps/°C, which is "
            "what temperature compensation asks for.",
            (
                ("focus log --since 12h", "this night"),
                ("focus log --since 2026-11-01 --csv > november.csv", "for a spreadsheet"),
                ("focus log --since 30d --channel 1 --plot slope.png", "the slope of channel 1"),
            ),
            (
                Option("--since", "WHEN", "90m, 12h, 7d, 2w ago, or a date or time of UTC"),
                Option("--channel", "N", "of this channel alone"),
                Option("--csv", "", "comma-separated values"),
                Option("--json", "", "one JSON object a line"),
                Option("--plot", "FILE", "draw it, into .png, .svg or .pdf (needs matplotlib)"),
            ),
        ),
        Command(
            "fans",
            "(enable|disable)",
            "turn the OTA fans on or off",
            "Only the second generation of the controller has fans.",
            (("focus fans enable", "turn them on"),),
        ),
        Command(
            "doctor",
            "[--json]",
            "check what usually is wrong, and say what to do",
            "Looks at configuration, port, controller, INDI server, focusd, names, versions; changes nothing.\n"
            "The exit status is 0 only where all is well.",
            (("focus doctor", "the checks, and what to do"), ("focus doctor --json", "for programs")),
        ),
        Command(
            "zero",
            "{channel}",
            "call the current position 0",
            "In the controller itself, so that it outlives everything else.",
            (("focus zero 1", "channel 1 stands at 0 now"),),
            engineering=True,
        ),
        Command(
            "init",
            "",
            "connect to the focuser",
            "Opens the controller's port. Needed once after focusd was started.",
            (("focus init", "connect all channels"),),
            engineering=True,
        ),
        Command(
            "kill",
            "",
            "disconnect from the focuser",
            "Closes the controller's port, for other programs. A motor that moves is left to finish.",
            (("focus kill", "disconnect all channels"),),
            engineering=True,
        ),
        Command(
            "list-channels",
            "",
            "print the channels of the configuration",
            "For scripts and the shell's completion; asks nobody.",
            (("for n in $(focus list-channels); do focus stop $n; done", "stop all"),),
            engineering=True,
        ),
    )
}

EXIT_STATUSES = (
    ("0", "succeeded"),
    ("1", "failed; focusd's log says why. Also a wrong configuration"),
    ("2", "blocked: that channel is moving"),
    ("3", "not accepted from this machine"),
    ("4", "invalid channel"),
    ("6", "position outside the limits"),
    ("7", "not connected"),
    ("8", "already connected"),
    ("124", "waited as long as --timeout says; the motor goes on"),
    ("155", "focusd cannot be reached (-101)"),
    ("156", "ended by Ctrl-C or another signal; the channel is stopped (-100)"),
    ("255", "the command was not understood; its usage was shown (-1)"),
)


def _filled(paragraphs: Iterable[str]) -> list[str]:
    import textwrap  # only for who asks for help

    return [line for paragraph in paragraphs for line in textwrap.wrap(paragraph, 80)]


def overview(script: str) -> str:
    """`focus --help`."""
    lines = [f"usage: {script} <command> [<args>]"]
    for title, engineering in (("general", False), ("engineering", True)):
        lines += ["", f"{title} commands:"]
        lines += [f"   {name:<13} {it.purpose}" for name, it in COMMANDS.items() if it.engineering is engineering]
    lines += ["", f"{script} <command> --help tells more of each, {script} --version the version."]
    lines += _filled([_ENDS])
    return "\n".join(lines)


def details(script: str, command: Command, channels: range) -> str:
    """`focus <command> --help`."""
    options = "".join(f" [{f'{option.name} {option.value}'.rstrip()}]" for option in command.options)
    lines = [f"usage: {script} {command.usage(channels)}{options}"]
    lines += ["", f"{command.purpose[0].upper()}{command.purpose[1:]}."]
    lines += _filled(command.text.splitlines())
    if command.options:
        lines += ["", "options:"]
        lines += [f"   {f'{option.name} {option.value}':<13} {option.purpose}" for option in command.options]
    lines += ["", "examples:"] if len(command.examples) > 1 else ["", "example:"]
    width = max(len(line) for line, _ in command.examples)
    lines += [f"   {line:<{width}}   # {what}" for line, what in command.examples]
    return "\n".join(lines)


class Program(NamedTuple):
    """One of the three programs, for its man page."""

    name: str
    aliases: tuple[str, ...]
    purpose: str
    synopsis: str
    text: tuple[str, ...]
    """Paragraphs."""
    environment: tuple[tuple[str, str], ...] = ()
    files: tuple[tuple[str, str], ...] = ()
    exit_statuses: tuple[tuple[str, str], ...] = ()
    see: tuple[str, ...] = ()


def program_help(name: str) -> str:
    """`focusd --help`."""
    program = next(it for it in PROGRAMS if it.name == name)
    lines = [f"usage: {program.synopsis}", "", f"{program.purpose[0].upper()}{program.purpose[1:]}."]
    lines += _filled(program.text)
    for title, entries in (("exit status", program.exit_statuses), ("environment", program.environment)):
        width = max(len(entry) for entry, _ in entries)
        lines += ["", f"{title}:", *(f"   {entry:<{width}}   {what}" for entry, what in entries)]
    return "\n".join([*lines, "", f"example:\n   {name} /etc/focusd/test.json"])


_CONFIG_FILES = (
    ("/etc/focusd/*.json", "configurations of focusd"),
    ("/var/lib/focusd/NAME", "settings, positions and history of the service focusd@NAME"),
    ("registry.json", "beside the configuration: names of daemons and machines"),
)
PROGRAMS = (
    Program(
        "focus",
        (),
        "command line of the focusers that a focusd controls",
        "focus <command> [<args>]",
        (
            "focus moves, stops, zeroes and shows the focusers of a multi-channel focus controller. It talks to focusd "
            "by Pyro, on this machine or another; only the machines that its configuration names may change anything.",
            _ENDS,
        ),
        (("FOCUSD_CONFIG_PATH", "the configuration; else the only *.json in /etc/focusd"), ("NO_COLOR", "no colours")),
        _CONFIG_FILES,
        EXIT_STATUSES,
        ("focusd(1)", "indi_multifocus(1)"),
    ),
    Program(
        "focusd",
        ("multichannel_focusd",),
        "Pyro interface of the focusers",
        "focusd <configuration.json>",
        (
            "focusd gives the focusers the observatory's Pyro interface. It is an INDI client of indi_multifocus; "
            "where no INDI server answers at the configuration's indi_host and indi_port, and that is this machine, it "
            "starts indiserver with the driver, and ends both with itself.",
            "As a service it is focusd@NAME.service, and serves /etc/focusd/NAME.json.",
            "SIGTERM, SIGINT and SIGHUP end it. A motor that moves is left to finish.",
        ),
        (
            ("INDIDEV", "prefix of the INDI devices' names, in place of MultiFocus"),
            ("STATE_DIRECTORY", "where the history is kept; else ~/.local/state/focusd"),
        ),
        _CONFIG_FILES,
        (("0", "ended by a signal"), ("1", "it cannot serve, and has printed the reason"), ("2", "wrong arguments")),
        ("focus(1)", "indi_multifocus(1)", "indiserver(1)"),
    ),
    Program(
        "indi_multifocus",
        (),
        "INDI driver of the multi-channel focus controller",
        "indiserver indi_multifocus",
        (
            "indi_multifocus publishes each channel of a controller as an INDI focuser of its own, for KStars/Ekos and "
            "every other INDI client. It is started by indiserver, KStars or INDI Web Manager, speaks INDI on standard "
            "input and output, and ends with its standard input.",
        ),
        (
            ("INDI_MULTIFOCUS_CONFIG", "a configuration of focusd, which then sets port, channels, travel and names"),
            ("INDIDEV", "prefix of the INDI devices' names, in place of MultiFocus"),
            ("INDICONFIG", "beside this file settings and positions are kept, in place of ~/.indi"),
        ),
        (("~/.indi", "settings and remembered positions"),),
        (("0", "ended with its input, or by SIGTERM or SIGINT"), ("1", "it cannot serve, and has printed the reason")),
        ("focusd(1)", "focus(1)", "indiserver(1)", "indi_setprop(1)"),
    ),
)
