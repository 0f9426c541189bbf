# SPDX-License-Identifier: GPL-3.0-or-later
"""The observatory's directory: what the names in `daemon` and `control_machines` of a configuration mean.

Used by focusd and focus once, at their start. A name is looked up
1. in warwick.observatory.common or its successor rockit.common, where installed: `daemons.<name>` has name, host and
   port, `IP.<name>` is an address;
2. in registry.json beside the configuration:
   {"daemons": {"my_focus": {"name": "my_focus_daemon", "host": "FocusPC", "port": 9000}},
    "machines": {"FocusPC": "10.0.0.2"}};
3. in what is built in: the entries of rockit.common that test.json, clasp.json and portable.json need.
The first that has it decides. A name of a daemon is a Pyro object's, a host a name or an address, a machine an address;
what is none is refused where it comes from.
"""

from __future__ import annotations

import importlib
import importlib.util
import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import ModuleType
from typing import NoReturn

from indi_multifocus.settings.host_name import is_host_name
from indi_multifocus.settings.json_object import ConfigError, load_object, plain, shown

REGISTRY = "registry.json"
PACKAGES = ("warwick.observatory.common", "rockit.common")

MAX_NAMED = 20
"""Known names in an error."""

_OBJECT = re.compile(r"[!-?A-~]{1,200}")
"""The name of a Pyro object: printable ASCII without @, which ends it in a URI."""
_A_DAEMON = '{"name": "my_focus_daemon", "host": "FocusPC", "port": 9000}'
_EXPECTED = '{"daemons": {…}, "machines": {…}} is expected'
_EXPECTED_PARTS = {
    "name": "the name of its Pyro object is expected, 1 to 200 printable ASCII characters without blanks and @",
    "host": "a name or an address on the network is expected",
    "port": "a port number from 1 to 65535 is expected",
}

_MACHINES = {"LocalHost": "127.0.0.1", "CLASPTCS": "10.2.6.181", "PortableTCS": "127.0.0.1"}
_DAEMONS = {
    "clasp_focus": ("clasp_focus_daemon", "10.2.6.181", 9036),
    "portable_focus": ("portable_focus_daemon", "127.0.0.1", 9036),
    "localhost_test": ("localhost_test_daemon", "127.0.0.1", 9000),
    "localhost_test2": ("localhost_test_daemon2", "127.0.0.1", 9001),
    "localhost_test3": ("localhost_test_daemon3", "127.0.0.1", 9002),
    "localhost_test4": ("localhost_test_daemon4", "127.0.0.1", 9003),
    "localhost_test5": ("localhost_test_daemon5", "127.0.0.1", 9004),
}


@dataclass(frozen=True)
class Daemon:
    """Where a daemon listens, and the name of its Pyro object."""

    name: str
    host: str
    port: int

    @property
    def uri(self) -> str:
        """As Pyro wants it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"PYRO:{self.name}@{host}:{self.port}"


class Directory:
    """The names that are known to the configuration at `path`."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._package = _installed_package()
        self._registry_path = os.path.join(os.path.dirname(os.path.abspath(path)), REGISTRY)
        self._registry = _Registry(self._registry_path)

    def daemon(self, key: str) -> Daemon:
        """Raises ConfigError, whose text is one line for people."""
        found = self._package_daemon(key) or self._registry_daemon(key)
        if found is None and key in _DAEMONS:
            found = Daemon(*_DAEMONS[key])
        if found is None:
            known = {*self._registry.daemons, *(_DAEMONS if self._package is None else ())}
            raise self._unknown(key, "daemon", known)
        return found

    def machine(self, key: str) -> str:
        """A machine's address. Raises ConfigError, whose text is one line for people."""
        address = self._machine(key)
        if address is None:
            known = {*self._registry.machines, *(_MACHINES if self._package is None else ())}
            raise self._unknown(key, "machine", known)
        return address

    def log(self) -> ModuleType | None:
        """The observatory's log, where a package offers one. Raises ConfigError."""
        if self._package is None:
            return None
        try:
            log = importlib.import_module(f"{self._package_name}.log")
        except ImportError:
            return None
        except Exception as error:
            raise ConfigError(f"{self._package_name}.log cannot be imported: {_one_line(error)}") from None
        return log if all(callable(getattr(log, level, None)) for level in ("info", "warning", "error")) else None

    def _package_daemon(self, key: str) -> Daemon | None:
        entry = getattr(getattr(self._package, "daemons", None), key, None)
        name, host, port = (getattr(entry, part, None) for part in ("name", "host", "port"))
        if not (isinstance(name, str) and isinstance(host, str) and isinstance(port, int)):
            return None
        wrong = _wrong_part({"name": name, "host": host, "port": port})
        if wrong:
            value = shown(getattr(entry, wrong))
            raise ConfigError(f"{self._package_name}: daemons.{plain(key)}.{wrong}: {value}: {_EXPECTED_PARTS[wrong]}")
        return Daemon(name, host, port)

    def _registry_daemon(self, key: str) -> Daemon | None:
        daemon = self._registry.daemons.get(key)
        return replace(daemon, host=self._machine(daemon.host) or daemon.host) if daemon is not None else None

    def _machine(self, key: str) -> str | None:
        address = getattr(getattr(self._package, "IP", None), key, None)
        if isinstance(address, str) and _is_address(address):
            return address
        return self._registry.machines.get(key) or _MACHINES.get(key)

    def _unknown(self, key: str, kind: str, known: set[str]) -> ConfigError:
        names = [plain(name) for name in sorted(known)]
        here = f"; known here: {', '.join(names[:MAX_NAMED])}{', …' * (len(names) > MAX_NAMED)}" if names else ""
        where = {"daemon": "daemon", "machine": "control_machines"}[kind]
        if self._package is not None:
            what = f"no such {kind} in {self._package_name} or {plain(self._registry_path)}{here}"
        else:
            what = f"no such {kind} is known{here}; others can be named in {plain(self._registry_path)}"
        return ConfigError(f"{plain(self._path)}: {where}: {shown(key)}: {what}")

    @property
    def _package_name(self) -> str:
        return self._package.__name__ if self._package is not None else ""


class _Registry:
    """registry.json, checked. It need not be there."""

    def __init__(self, path: str) -> None:
        self._path = path
        try:
            entries = load_object(path)
        except FileNotFoundError:
            entries = {}
        for key in entries:
            if key not in ("daemons", "machines"):
                self._fail((key,), entries[key], f"there is no such key; {_EXPECTED}")
        for kind in ("daemons", "machines"):
            if not isinstance(entries.setdefault(kind, {}), dict):
                self._fail((kind,), entries[kind], _EXPECTED)
        self.machines = {key: self._machine(key, value) for key, value in entries["machines"].items()}
        self.daemons = {key: self._daemon(key, value) for key, value in entries["daemons"].items()}

    def _machine(self, key: str, address: object) -> str:
        if not isinstance(address, str) or not _is_address(address):
            self._fail(("machines", key), address, "an IP address is expected")
        return address

    def _daemon(self, key: str, entry: object) -> Daemon:
        """`host` is the name of a machine as it stands there, or a name or an address on the network."""
        if not isinstance(entry, dict) or set(entry) != set(_EXPECTED_PARTS):
            self._fail(("daemons", key), entry, f"{_A_DAEMON} is expected")
        parts = {**entry, "host": self.machines.get(entry["host"], entry["host"])} if _is_text(entry["host"]) else entry
        wrong = _wrong_part(parts)
        if wrong:
            self._fail(("daemons", key, wrong), entry[wrong], _EXPECTED_PARTS[wrong])
        return Daemon(entry["name"], entry["host"], entry["port"])

    def _fail(self, where: tuple[str, ...], value: object, expected: str) -> NoReturn:
        raise ConfigError(f"{plain(self._path)}: {'.'.join(map(plain, where))}: {shown(value)}: {expected}")


def _wrong_part(daemon: Mapping[str, object]) -> str:
    """The part of a daemon that cannot be used; empty where all can."""
    name, host, port = daemon["name"], daemon["host"], daemon["port"]
    if not isinstance(name, str) or not _OBJECT.fullmatch(name):
        return "name"
    if not isinstance(host, str) or not (is_host_name(host) or _is_address(host)):
        return "host"
    if not isinstance(port, int) or isinstance(port, bool) or not 1 <= port <= 65535:
        return "port"
    return ""


def _installed_package() -> ModuleType | None:
    """Raises ConfigError for a package that is there and cannot be imported."""
    for name in PACKAGES:
        try:
            if importlib.util.find_spec(name) is not None:
                importlib.import_module(f"{name}.daemons")
                return importlib.import_module(name)
        except ImportError:  # find_spec raises where a parent package is missing
            continue
        except Exception as error:
            raise ConfigError(f"{name} cannot be imported: {_one_line(error)}") from None
    return None


def _one_line(error: Exception) -> str:
    return plain(f"{type(error).__name__}: {error}")


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text  # a zone is this machine's name for an interface
