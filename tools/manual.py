# SPDX-License-Identifier: GPL-3.0-or-later
"""Man pages and the shells' completion, from what focus_cli/manual.py says. `make docs` runs it.

packaging/man/*            the pages of focus, focusd and indi_multifocus
packaging/completion/*     of focus, for bash (focus), zsh (_focus) and fish (focus.fish)
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from focus_cli.manual import COMMANDS, PROGRAMS, Command, Program
from indi_multifocus import __version__

PROJECT = Path(__file__).resolve().parent.parent

MADE = "SPDX-License-Identifier: GPL-3.0-or-later\n{0} `make docs` writes this from focus_cli/manual.py: change that."


def main() -> int:
    """Write all files."""
    for path, text in files().items():
        (PROJECT / path).parent.mkdir(parents=True, exist_ok=True)
        (PROJECT / path).write_text(text)
    return 0


def files() -> dict[str, str]:
    """What is made, by path in the project."""
    return {
        **{f"packaging/man/{program.name}.1": page(program) for program in PROGRAMS},
        "packaging/completion/focus": bash(),
        "packaging/completion/_focus": zsh(),
        "packaging/completion/focus.fish": fish(),
    }


# --- Man pages: man(7) --------------------------------------------------------------------------------------------


def roff(text: str) -> str:
    """Text as roff takes it."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    return f"\\&{escaped}" if escaped.startswith(".") else escaped


def page(program: Program) -> str:
    """A man page."""
    made = MADE.format('.\\"')
    lines = [f'.\\" {made}', f'.TH {program.name.upper()} 1 "" "indi_multifocus {__version__}"']
    names = ", ".join((program.name, *program.aliases))
    lines += [".SH NAME", f"{roff(names)} \\- {roff(program.purpose)}"]
    lines += [".SH SYNOPSIS", f".B {roff(program.synopsis)}", ".SH DESCRIPTION"]
    for paragraph in program.text:
        lines += [".PP", roff(paragraph)]
    if program.name == "focus":
        lines += _commands()
    for title, entries in (
        ("EXIT STATUS", program.exit_statuses),
        ("ENVIRONMENT", program.environment),
        ("FILES", program.files),
    ):
        lines += [f".SH {title}"] if entries else []
        for name, what in entries:
            lines += [".TP", f".B {roff(name)}", roff(what)]
    lines += [".SH SEE ALSO", roff(", ".join(program.see))]
    return "\n".join(lines) + "\n"


def _commands() -> list[str]:
    lines = [".SH COMMANDS", ".PP", "With one channel its number may be left out."]
    for command in COMMANDS.values():
        arguments = command.arguments.format(channel="<channel>")
        options = "".join(f" [{f'{option.name} {option.value}'.rstrip()}]" for option in command.options)
        lines += [".TP", f".B {roff(f'{command.name} {arguments}'.rstrip() + options)}"]
        lines.append(roff(f"{command.purpose[0].upper()}{command.purpose[1:]}."))
        lines += [roff(line) for line in command.text.splitlines()]
        for option in command.options:
            lines += [".RS", ".TP", f".B {roff(f'{option.name} {option.value}'.rstrip())}", roff(option.purpose), ".RE"]
    lines.append(".SH EXAMPLES")
    for command in COMMANDS.values():
        for example, what in command.examples:
            lines += [".TP", f".B {roff(example)}", roff(what)]
    return lines


# --- Completion ---------------------------------------------------------------------------------------------------


def _named(wanted: Iterable[Command]) -> str:
    return " | ".join(command.name for command in wanted)


def bash() -> str:
    """Bash completion."""
    made = MADE.format("#")
    options = [command for command in COMMANDS.values() if command.options]
    cases = "\n".join(
        f"        *:{command.name}:-*) choices=\"{' '.join(option.name for option in command.options)}\" ;;"
        for command in options
    )
    names = " ".join(name for name in COMMANDS if name != "list-channels")
    takers = [command for command in COMMANDS.values() if "{channel}" in command.arguments]
    channels = " | ".join(f"2:{command.name}:*" for command in takers)
    return f"""\
# {made}
# Bash completion of focus: commands first, then what each of them takes. Channels come from the configuration.

_focus() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} choices=
    case $COMP_CWORD:${{COMP_WORDS[1]}}:$word in
        1:*) choices="{names}" ;;
{cases}
        {channels}) choices=$("${{COMP_WORDS[0]}}" list-channels 2>/dev/null) ;;
        2:fans:*) choices="enable disable" ;;
        2:doctor:*) choices="--json" ;;
    esac
    case ${{COMP_WORDS[COMP_CWORD - 1]}} in
        --channel) choices=$("${{COMP_WORDS[0]}}" list-channels 2>/dev/null) ;;
        --plot)
            mapfile -t COMPREPLY < <(compgen -f -- "$word")
            return
            ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$choices" -- "$word")
}}

complete -F _focus focus
"""


def zsh() -> str:
    """Zsh completion: zshcompsys(1)."""
    made = MADE.format("#")

    def quoted(text: str) -> str:
        return text.replace("'", "'\\''").replace("[", "(").replace("]", ")").replace(":", "\\:")

    commands = "\n".join(
        f"        '{command.name}:{quoted(command.purpose)}'" for command in COMMANDS.values()
    )
    options = "\n".join(
        f"        {command.name}) options=("
        + " ".join(
            f"'{option.name}[{quoted(option.purpose)}]{_zsh_value(option.value)}'" for option in command.options
        )
        + ") ;;"
        for command in COMMANDS.values()
        if command.options
    )
    takers = _named(command for command in COMMANDS.values() if "{channel}" in command.arguments)
    return f"""\
#compdef focus
# {made}

_focus() {{
    local -a commands options
    commands=(
{commands}
    )
    if (( CURRENT == 2 )); then
        _describe command commands
        return
    fi
    local program=$words[1] command=$words[2]
    shift words
    (( CURRENT-- ))
    case $command in
{options}
    esac
    case $command in
        {takers}) options+=("1:channel:($($program list-channels 2>/dev/null))") ;;
        fans) options+=('1:switch:(enable disable)') ;;
        doctor) options+=('--json[for programs]') ;;
    esac
    _arguments -s $options
}}

_focus "$@"
"""


def _zsh_value(value: str) -> str:
    return f":{value}:{'_files' if value == 'FILE' else ''}" if value else ""


def fish() -> str:
    """Fish completion: complete(1)."""
    made = MADE.format("#")
    lines = [f"# {made}", "complete -c focus -f"]

    def quoted(text: str) -> str:
        escaped = text.replace("'", "\\'")
        return f"'{escaped}'"

    for command in COMMANDS.values():
        lines.append(
            f"complete -c focus -n __fish_use_subcommand -a {command.name} -d {quoted(command.purpose)}"
        )
        seen = f"-n '__fish_seen_subcommand_from {command.name}'"
        if "{channel}" in command.arguments:
            first = f"-n '__fish_seen_subcommand_from {command.name}; and test (count (commandline -opc)) -eq 2'"
            lines.append(f"complete -c focus {first} -a '(string split \" \" (focus list-channels 2>/dev/null))'")
        if command.name == "fans":
            lines.append(f"complete -c focus {seen} -a 'enable disable'")
        if command.name == "doctor":
            lines.append(f"complete -c focus {seen} -l json")
        for option in command.options:
            value = " -r -F" if option.value == "FILE" else " -x" if option.value else ""
            lines.append(f"complete -c focus {seen} -l {option.name[2:]}{value} -d {quoted(option.purpose)}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
