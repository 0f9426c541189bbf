# SPDX-License-Identifier: GPL-3.0-or-later
"""`Config`: a focusd configuration with its names looked up, as the observatory's scripts know it.

Used by scripts, in any thread. It reads files and imports; it connects to nothing until `daemon.connect()` is called.
"""

from __future__ import annotations

import os
from typing import Any, Union

from focus_cli import directory
from indi_multifocus.settings import configuration as checked

Path = Union[str, "os.PathLike[str]"]


class Daemon:
    """Where a focusd listens; offers what scripts use of the observatory's PyroDaemon."""

    def __init__(self, entry: directory.Daemon, default_timeout: float = 5) -> None:
        self.name, self.host, self.port, self.uri = entry.name, entry.host, entry.port, entry.uri
        self.default_timeout = default_timeout

    def connect(self, timeout: float | None = None, retries: int | None = None) -> Any:
        """A Pyro4 proxy. `timeout` of its calls in seconds: None for the default, 0 for none, as for set_focus.

        `retries`: how often a call is repeated after a lost connection; None for never.
        """
        import Pyro4

        proxy = Pyro4.Proxy(self.uri)
        seconds = self.default_timeout if timeout is None else timeout
        if seconds > 0:
            proxy._pyroTimeout = seconds
        if retries is not None:
            proxy._pyroMaxRetries = retries
        return proxy


class Config:
    """A configuration file, read and checked; times are in seconds.

    Raises indi_multifocus.settings.configuration.ConfigError, whose text is one line for people.
    """

    def __init__(self, config_filename: Path) -> None:
        config = checked.load(config_filename)
        names = directory.Directory(os.fspath(config_filename))
        self.daemon = Daemon(names.daemon(config.daemon))
        self.log_name = config.log_name
        self.control_ips = [names.machine(machine) for machine in config.control_machines]
        self.serial_port = config.serial_port
        self.serial_baud = config.serial_baud
        self.serial_timeout = config.serial_timeout
        self.channels = config.channels
        self.idle_loop_delay = config.idle_loop_delay
        self.moving_loop_delay = config.moving_loop_delay
        self.move_timeout = config.move_timeout
        self.temperature_probes = {
            name: {"label": probe.label, "address": probe.address} for name, probe in config.temperature_probes.items()
        }
