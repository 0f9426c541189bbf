# SPDX-License-Identifier: GPL-3.0-or-later
"""What every command of `focus` starts from: the configuration, and connections to its focusd.

Whatever takes time to import (Pyro above all) is imported where it is needed, because observers run `focus status`
often.
"""

from __future__ import annotations

import glob
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from indi_multifocus.settings.configuration import Config

CONFIG_VARIABLE = "FOCUSD_CONFIG_PATH"
CONFIG_FOLDER = "/etc/focusd"
ANSWER_S = 5.0
"""focusd may take this long for a call that waits for no motor."""


class UsageError(Exception):
    """The arguments are not the command's."""


class CommandError(Exception):
    """A command cannot be carried out; str() is one line for people."""


class Session:
    """The configuration, and connections to its focusd."""

    def __init__(self, path: str, config: Config) -> None:
        self._path = path
        self._config = config
        self.channels = range(1, config.channels + 1)
        self.name = config.daemon
        self._uri = ""
        self._lock = threading.Lock()

    @contextmanager
    def focusd(self, timeout_s: float | None = ANSWER_S) -> Iterator[Any]:
        """A Pyro proxy of focusd, whose calls may take `timeout_s`; None: as long as they like."""
        from .net import watch_peer

        with self._lock:  # what it sets up is the whole process's, and threads connect at the same time
            uri = self._uri = self._uri or self._look_up()
        import Pyro4

        with Pyro4.Proxy(uri) as proxy:
            proxy._pyroTimeout = ANSWER_S
            proxy._pyroBind()
            proxy._pyroTimeout = timeout_s
            watch_peer(proxy._pyroConnection.sock)
            yield proxy

    def _look_up(self) -> str:
        """Where focusd is. Raises ConfigError."""
        from . import literals
        from .directory import Directory

        literals.install()
        return Directory(self._path).daemon(self._config.daemon).uri

    def channel(self, arguments: list[str], others: int = 0) -> tuple[int, list[str]]:
        """The channel that `arguments` begin with, and the `others` arguments that follow. Raises UsageError.

        Where there is one channel, its number may be left out, as with rockit-astro/focusd.
        """
        if len(arguments) == others and len(self.channels) == 1:
            return 1, arguments
        if len(arguments) != others + 1:
            raise UsageError
        number = whole(arguments[0])
        if number not in self.channels:
            raise UsageError
        return number, arguments[1:]


def whole(text: str) -> int:
    """A whole number, as typed. Raises UsageError."""
    if not re.fullmatch(r"[+-]?[0-9]{1,1000}", text):
        raise UsageError
    return int(text)


def config_path() -> str:
    """The file that the environment names, or the only one in /etc/focusd. Raises ConfigError."""
    from indi_multifocus.settings.configuration import ConfigError

    from .directory import REGISTRY

    path = os.environ.get(CONFIG_VARIABLE)
    if path:
        return path
    found = sorted(glob.glob(f"{CONFIG_FOLDER}/*.json"))
    found = [file for file in found if os.path.basename(file) != REGISTRY]
    if len(found) == 1:
        return found[0]
    there = f"there are several: {', '.join(map(os.path.basename, found))}" if found else "there is none"
    raise ConfigError(
        f"{CONFIG_FOLDER}/*.json: one configuration is expected, {there}; "
        f"name one, as in {CONFIG_VARIABLE}=/path/to/config.json focus status"
    )
