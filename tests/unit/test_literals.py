# SPDX-License-Identifier: GPL-3.0-or-later
"""The text of Pyro's messages: what serpent writes is read, everything else is refused before Python parses it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import Pyro4
import pytest
import serpent

from focus_cli.literals import MAX_INTRODUCTION, MAX_TEXT, ClientSerializer, DaemonSerializer, parse

ROOT = Path(__file__).resolve().parents[2]
SERPENT = Pyro4.util.SerpentSerializer()


@pytest.mark.parametrize(
    "value",
    [
        *[0, -500, 10**300, 1.5, -1e-300, float("inf"), float("-inf"), True, None, 1 - 2j],
        *["", "Gr\xf6\xdfe", "it's", "'\"\\\n\r\t\0\x7f\u2028\U0001f600", "\\d\\N{DIGIT ONE}", b"bytes"],
        *[(), (1,), [], {}, {1, 2}, {"a": [1, {"b": (1, 2)}]}, [[[[[[["deep"]]]]]]]],
    ],
)
def test_what_serpent_writes_is_read(value: Any) -> None:
    for indent in (False, True):
        data = serpent.dumps(value, indent=indent, module_in_classname=True)
        assert parse(data) == serpent.loads(data)


def test_a_call_is_read_and_what_it_names_is_not_made() -> None:
    proxy = {"__class__": "Pyro4.core.Proxy", "state": ["PYRO:a@b:1", [], [], [], 0.0, None, "hello", 0]}
    call = SERPENT.dumpsCall("here_focus_daemon", "set_focus", (1, proxy), {"offset": True})
    assert DaemonSerializer().deserializeCall(call) == ("here_focus_daemon", "set_focus", (1, proxy), {"offset": True})


def test_the_exception_of_a_daemon_is_one_at_the_client() -> None:
    error = ClientSerializer().deserializeData(SERPENT.dumps(TypeError("steps: 'x': a whole number is expected")))
    assert isinstance(error, TypeError)
    assert str(error) == "steps: 'x': a whole number is expected"


@pytest.mark.parametrize(
    "text",
    [
        *["", "-" * 9_000 + "1", "1" + "+1j" * 3_000, "1" + "**1" * 3_000, "a" + ".a" * 3_000, "f()"],
        *["[" * 9 + "]" * 9, "]", "[" * 9_000, "1," * 1_001, "{1:2}[1]", "(1)-1", "not 1", "1 if 1 else 2"],
        *["x for x in", "1 -1", "1(1)", "1" * 400 + "+1j"],
        *["0x1", "1_0", "1" * 4_301, "1j", "1+1j+1j", "1+1", "1e123456", "'a' 'b'", "'a''b'", "'", "'\n'"],
        *["'''a'''", "f'{1}'", "u'a'"],
        *["'\\d'", "'\\N{DIGIT ONE}'", "'\\8'", "'\\x4'", "'\\U00110000'", "'\0'", "\t1", "1;", "1#", "# a\n1"],
        *["{[]:1}", "{1:2:3}", "[,]", "1:2", "nan", "1" + " " * MAX_TEXT],
    ],
)
def test_everything_else_is_refused(text: str) -> None:
    with pytest.raises(Pyro4.errors.SerializeError) as refusal:
        parse(text.encode())
    assert len(str(refusal.value)) < 200


def test_a_client_that_is_not_known_yet_may_say_less() -> None:
    text = b"'" + b"x" * MAX_INTRODUCTION + b"'"
    assert DaemonSerializer().deserializeCall(text)
    with pytest.raises(Pyro4.errors.SerializeError, match=f"more than {MAX_INTRODUCTION} bytes"):
        DaemonSerializer().deserializeData(text)


def pythons() -> list[str]:
    """This Python, and of each other version the one that is found on the path."""
    others = [f"python3.{minor}" for minor in range(9, 20) if minor != sys.version_info.minor]
    return [sys.executable, *(path for path in map(shutil.which, others) if path is not None and runs(path))]


def runs(python: str) -> bool:
    """Some are shims of version managers for a version that is not selected."""
    return subprocess.run([python, "-c", ""], capture_output=True).returncode == 0


def test_no_python_that_is_here_crashes_or_needs_much_memory() -> None:
    site = os.pathsep.join({str(Path(module.__file__).parents[depth]) for module, depth in ((Pyro4, 1), (serpent, 0))})
    for python in pythons():
        play = subprocess.run(
            [python, "-W", "error", "-m", "tools.fuzz.pyro_text"],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": site},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (play.returncode, play.stdout, play.stderr) == (0, "", ""), python
