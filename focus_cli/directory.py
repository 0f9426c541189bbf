# SPDX-License-Identifier: GPL-3.0-or-later
"""The observatory's directory: what the names in `daemon` and `control_machines` of a configuration mean.

Used by focusd and focus once, at their start. A name is looked up
1. in warwick.observatory.common or its successor rockit.common, where installed: `daemons.<name>` has name, host and
   port, `IP.<name>` is an address;
2. in registry.json beside the configuration:
   {"daemons": {"my_focus": {"name": "my_focus_daemon", "host": "FocusPC", "port": 9000}},
    "machines": {"FocusPC": "10.0.0.2"}};
3. in what is built in: the entries of rockit.common that test.json, clasp.json and portable.json need.
The first that has it decides.
"""

from __future__ import annotations

import importlib
import importlib.util
import ipaddress
import os
from dataclasses import dataclass
from types import ModuleType
from typing import Any, NoReturn

from indi_multifocus.settings.configuration import ConfigError

REGISTRY = "registry.json"
PACKAGES = ("warwick.observatory.common", "rockit.common")

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
            raise ConfigError(f"{self._path}: daemon: {_quoted(key)}: {self._unknown('daemon', known)}")
        return found

    def machine(self, key: str) -> str:
        """A machine's address. Raises ConfigError, whose text is one line for people."""
        address = self._machine(key)
        if address is None:
            known = {*self._registry.machines, *(_MACHINES if self._package is None else ())}
            raise ConfigError(f"{self._path}: control_machines: {_quoted(key)}: {self._unknown('machine', known)}")
        return address

    def log(self) -> ModuleType | None:
        """The observatory's log, where a package offers one."""
        if self._package is None:
            return None
        try:
            log = importlib.import_module(f"{self._package.__name__}.log")
        except ImportError:
            return None
        return log if all(callable(getattr(log, level, None)) for level in ("info", "warning", "error")) else None

    def _package_daemon(self, key: str) -> Daemon | None:
        entry = getattr(getattr(self._package, "daemons", None), key, None)
        name, host, port = (getattr(entry, part, None) for part in ("name", "host", "port"))
        if isinstance(name, str) and isinstance(host, str) and isinstance(port, int):
            return Daemon(name, host, port)
        return None

    def _registry_daemon(self, key: str) -> Daemon | None:
        entry = self._registry.daemons.get(key)
        if entry is None:
            return None
        return Daemon(entry["name"], self._machine(entry["host"]) or entry["host"], entry["port"])

    def _machine(self, key: str) -> str | None:
        address = getattr(getattr(self._package, "IP", None), key, None)
        if isinstance(address, str) and _is_address(address):
            return address
        return self._registry.machines.get(key) or _MACHINES.get(key)

    def _unknown(self, kind: str, known: set[str]) -> str:
        here = f"; known here: {', '.join(sorted(known))}" if known else ""
        if self._package is not None:
            return f"no such {kind} in {self._package.__name__} or {self._registry_path}{here}"
        return f"no such {kind} is known{here}; others can be named in {self._registry_path}"


class _Registry:
    """registry.json, checked. It need not be there."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.daemons: dict[str, Any] = {}
        self.machines: dict[str, str] = {}
        try:
            with open(path, "rb") as file:
                data = file.read()
        except FileNotFoundError:
            return
        except OSError as error:
            raise ConfigError(f"{path}: the file cannot be read: {error.strerror}") from None
        self._check(data)

    def _check(self, data: bytes) -> None:
        import msgspec

        try:
            entries = msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            self._fail(f"broken JSON: {error}")
        if not isinstance(entries, dict) or not set(entries) <= {"daemons", "machines"}:
            self._fail('{"daemons": {…}, "machines": {…}} is expected')
        for kind in ("daemons", "machines"):
            if not isinstance(entries.get(kind, {}), dict):
                self._fail(f"{kind}: an object by name is expected")
        for key, daemon in entries.get("daemons", {}).items():
            self._check_daemon(key, daemon)
        for key, address in entries.get("machines", {}).items():
            if not isinstance(address, str) or not _is_address(address):
                self._fail(f"machines.{key}: {address!r}: an IP address is expected")
        self.daemons = entries.get("daemons", {})
        self.machines = entries.get("machines", {})

    def _check_daemon(self, key: str, daemon: object) -> None:
        if not isinstance(daemon, dict) or set(daemon) != {"name", "host", "port"}:
            self._fail(f'daemons.{key}: {{"name": …, "host": …, "port": …}} is expected')
        for part in ("name", "host"):
            if not isinstance(daemon[part], str) or not daemon[part]:
                self._fail(f"daemons.{key}.{part}: {daemon[part]!r}: a text is expected")
        port = daemon["port"]
        if not isinstance(port, int) or isinstance(port, bool) or not 1 <= port <= 65535:
            self._fail(f"daemons.{key}.port: {port!r}: a port number from 1 to 65535 is expected")

    def _fail(self, reason: str) -> NoReturn:
        raise ConfigError(f"{self._path}: {reason}")


def _installed_package() -> ModuleType | None:
    for name in PACKAGES:
        try:
            if importlib.util.find_spec(name) is not None:
                importlib.import_module(f"{name}.daemons")
                return importlib.import_module(name)
        except ImportError:  # find_spec raises where a parent package is missing
            continue
    return None


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _quoted(text: str) -> str:
    return f'"{text}"' if text.isprintable() else repr(text)
