# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of daemons and machines: where they are looked up, and the message for those that are not there."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from focus_cli.directory import Daemon, Directory
from indi_multifocus.settings.configuration import ConfigError


@pytest.fixture
def config(tmp_path: Path) -> str:
    return str(tmp_path / "focus.json")


def write_registry(config: str, content: Any) -> None:
    text = content if isinstance(content, str) else json.dumps(content)
    (Path(config).parent / "registry.json").write_text(text)


@pytest.fixture(params=["warwick.observatory.common", "rockit.common"])
def package(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An installed package of the observatory, with the parts that focusd uses."""
    folder = tmp_path / "site"
    path = folder / Path(*request.param.split("."))
    path.mkdir(parents=True)
    for part in path.parents:
        if part != folder and folder in part.parents:
            (part / "__init__.py").touch()
    (path / "__init__.py").write_text("from . import daemons, log\nfrom .ip import IP\n")
    (path / "ip.py").write_text(
        "class IP:\n    LocalHost = '127.0.0.9'\n    CLASPTCS = '10.9.9.9'\n    Text = 'text'\n"
    )
    (path / "daemons.py").write_text(
        "from .ip import IP\n"
        "class PyroDaemon:\n"
        "    def __init__(self, name, host, port):\n"
        "        self.name, self.host, self.port = name, host, port\n"
        "clasp_focus = PyroDaemon('clasp_focus_daemon', IP.CLASPTCS, 9936)\n"
    )
    (path / "log.py").write_text(
        "written = []\n"
        "def info(table, message): written.append(('info', table, message))\n"
        "def warning(table, message): written.append(('warning', table, message))\n"
        "def error(table, message): written.append(('error', table, message))\n"
    )
    monkeypatch.syspath_prepend(str(folder))
    top = request.param.partition(".")[0]
    for name in [name for name in sys.modules if name.partition(".")[0] == top]:
        monkeypatch.delitem(sys.modules, name)
    yield request.param
    for name in [name for name in sys.modules if name.partition(".")[0] == top]:
        del sys.modules[name]


def test_what_the_documented_configurations_need_is_built_in(config: str) -> None:
    directory = Directory(config)
    assert directory.daemon("localhost_test") == Daemon("localhost_test_daemon", "127.0.0.1", 9000)
    assert directory.daemon("localhost_test5") == Daemon("localhost_test_daemon5", "127.0.0.1", 9004)
    assert directory.daemon("clasp_focus") == Daemon("clasp_focus_daemon", "10.2.6.181", 9036)
    assert directory.machine("LocalHost") == "127.0.0.1"
    assert directory.machine("CLASPTCS") == "10.2.6.181"
    assert directory.log() is None


def test_a_registry_beside_the_configuration_adds_and_replaces_names(config: str) -> None:
    write_registry(
        config,
        {
            "daemons": {
                "my_focus": {"name": "my_daemon", "host": "FocusPC", "port": 9100},
                "clasp_focus": {"name": "clasp_focus_daemon", "host": "clasp.example.org", "port": 9036},
            },
            "machines": {"FocusPC": "10.0.0.2", "Six": "fd00::2"},
        },
    )
    directory = Directory(config)
    assert directory.daemon("my_focus") == Daemon("my_daemon", "10.0.0.2", 9100)
    assert directory.daemon("clasp_focus").host == "clasp.example.org"
    assert directory.daemon("localhost_test").port == 9000
    assert (directory.machine("FocusPC"), directory.machine("Six")) == ("10.0.0.2", "fd00::2")


def test_an_ipv6_host_is_written_as_pyro_wants_it() -> None:
    assert Daemon("d", "fd00::2", 9000).uri == "PYRO:d@[fd00::2]:9000"


def test_the_installed_package_comes_first(config: str, package: str) -> None:
    write_registry(config, {"daemons": {"clasp_focus": {"name": "no", "host": "127.0.0.1", "port": 1}}})
    directory = Directory(config)
    assert directory.daemon("clasp_focus") == Daemon("clasp_focus_daemon", "10.9.9.9", 9936)
    assert directory.machine("LocalHost") == "127.0.0.9"
    with pytest.raises(ConfigError, match=f"no such daemon in {package} or"):
        directory.daemon("PyroDaemon")
    for name in ("Text", "__module__", "Nobody"):
        with pytest.raises(ConfigError, match=f"no such machine in {package} or"):
            directory.machine(name)


def test_the_packages_log_is_used(config: str, package: str) -> None:
    log = Directory(config).log()
    assert isinstance(log, ModuleType)
    assert log.__name__ == f"{package}.log"


@pytest.mark.parametrize("name", ["nobody", "", "Ünbekannt", "__class__", "a\nb"])
def test_an_unknown_name_says_what_is_known_and_where_to_add_it(config: str, name: str) -> None:
    for look_up in (Directory(config).daemon, Directory(config).machine):
        with pytest.raises(ConfigError) as caught:
            look_up(name)
        text = str(caught.value)
        assert text.startswith(f"{config}: ")
        assert "\n" not in text
        assert "known here: " in text
        assert "registry.json" in text


DAEMON = {"name": "my_daemon", "host": "FocusPC", "port": 9100}


def daemon(**changes: Any) -> dict[str, Any]:
    return {"daemons": {"a": {**DAEMON, **changes}}}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "line 1, column 2: broken JSON: it ends too early"),
        (b"\xff".decode("latin-1"), "line 1, column 1: broken JSON: "),
        ([], '[]: an object {"key": value, …} is expected'),
        ('{"daemons": ' + "[" * 100_000 + "]" * 100_000 + "}", "broken JSON: brackets within brackets"),
        ('{"daemons": ' + "[" * 300 + "]" * 300 + "}", "daemons: [[[["),
        ('{"machines": {}, "machines": {}}', "machines: this key is there twice"),
        (" " * 300_000, "the file is larger than 262144 bytes"),
        ({"deamons": {}}, 'deamons: {}: there is no such key; {"daemons": {…}, "machines": {…}} is expected'),
        ({"daemons": []}, 'daemons: []: {"daemons": {…}, "machines": {…}} is expected'),
        (
            {"daemons": {"a": 1}},
            'daemons.a: 1: {"name": "my_focus_daemon", "host": "FocusPC", "port": ',
        ),
        ({"daemons": {"a": {"name": "x", "host": "y"}}}, 'daemons.a: {"name":"x","host":"y"}: '),
        ({"daemons": {"a\nb": 1}}, r'daemons."a\nb": 1: '),
        (daemon(name=""), 'daemons.a.name: "": the name of its Pyro object is expected'),
        *((daemon(name=name), "daemons.a.name: ") for name in ("a\nb", "a@b", "a b", "ä", "x" * 201, 5, None)),
        (daemon(host=5), "daemons.a.host: 5: a name or an address on the network is expected"),
        *(
            (daemon(host=host), "daemons.a.host: ")
            for host in ("", "a..b", "x" * 64, "x." * 130 + "x", "a b", "a\n", "ä")
        ),
        *((daemon(port=port), "daemons.a.port: ") for port in (0, True, 65536, "9000", 10**30, 1.5)),
        ({"machines": {"a": "somewhere"}}, 'machines.a: "somewhere": an IP address is expected'),
        *(({"machines": {"a": address}}, "machines.a: ") for address in (5, "1.2.3", "fe80::1%eth0", "1.2.3.4\n")),
        ({"machines": {"a\nb" * 1000: 5}}, r'machines."a\nb'),
    ],
)
def test_a_wrong_registry_is_one_line_that_names_file_and_key(config: str, content: Any, reason: str) -> None:
    write_registry(config, content)
    with pytest.raises(ConfigError) as caught:
        Directory(config)
    text = str(caught.value)
    assert text.startswith(str(Path(config).parent / "registry.json") + ": ")
    assert reason in text
    assert text.isprintable()
    assert len(text) < 500


@pytest.mark.parametrize("by_link", [False, True])
@pytest.mark.parametrize("kind", ["FIFO", "folder", "/dev/zero"])
def test_what_is_no_file_is_not_read(config: str, tmp_path: Path, kind: str, by_link: bool) -> None:
    registry = tmp_path / "registry.json"
    thing = tmp_path / "thing" if by_link else registry
    if kind == "FIFO":
        os.mkfifo(thing)
    elif kind == "folder":
        thing.mkdir()
    else:
        thing.symlink_to(kind)
    if by_link:
        registry.symlink_to(thing)
    with pytest.raises(ConfigError, match=r"registry\.json: this is a \w+; a JSON file is expected"):
        Directory(config)


def test_a_host_may_be_the_name_of_a_machine_or_of_one_on_the_network(config: str) -> None:
    write_registry(
        config,
        {
            "machines": {"My PC": "10.0.0.7"},
            "daemons": {
                name: {**DAEMON, "host": host}
                for name, host in (("a", "My PC"), ("b", "CLASPTCS"), ("c", "focus_pc.example-1.org"), ("d", "fd00::2"))
            },
        },
    )
    hosts = [Directory(config).daemon(name).host for name in "abcd"]
    assert hosts == ["10.0.0.7", "10.2.6.181", "focus_pc.example-1.org", "fd00::2"]


def test_no_more_names_are_listed_than_can_be_read(config: str) -> None:
    write_registry(config, {"machines": {f"machine {number:03}\n": "10.0.0.1" for number in range(500)}})
    with pytest.raises(ConfigError) as caught:
        Directory(config).machine("other")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("file", "text", "reason"),
    [
        ("daemons.py", "class a: name, host, port = 'a@b', 'host', 1", r'daemons\.a\.name: "a@b": the name of its'),
        ("daemons.py", "class a: name, host, port = 'a', 'a..b', 1", r'daemons\.a\.host: "a\.\.b": a name or an'),
        ("daemons.py", "class a: name, host, port = 'a', 'host', 0", r"daemons\.a\.port: 0: a port number"),
        ("daemons.py", "1 / 0", " cannot be imported: ZeroDivisionError: division by zero"),
        ("log.py", "raise ValueError('two\\nlines')", r' cannot be imported: "ValueError: two\\nlines"'),
    ],
)
def test_an_installed_package_that_is_wrong_is_one_line_too(
    config: str, package: str, tmp_path: Path, file: str, text: str, reason: str
) -> None:
    (tmp_path / "site" / Path(*package.split(".")) / file).write_text(text + "\n")
    with pytest.raises(ConfigError, match=f"^{package}.*{reason}"):
        print(Directory(config).daemon("a"), Directory(config).log())
