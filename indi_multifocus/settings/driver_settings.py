# SPDX-License-Identifier: GPL-3.0-or-later
"""What the driver runs with: the observatory's JSON configuration, or what a focuser that KStars starts needs.

Read once at the start, in the main thread. A bare driver has no configuration and lives on its INDI
properties; so msgspec, which parses the configuration, is imported only where there is one.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple, Optional

from ..controller.protocol import MAX_STEPS
from .device_name import device_names
from .system_text import variable

CONFIG_VARIABLE = "INDI_MULTIFOCUS_CONFIG"
"""Environment variable that names the JSON configuration."""

WHOLE_RANGE = (-MAX_STEPS, MAX_STEPS)
"""The travel where a configuration sets no limits: all that the controller can count."""


class SettingsError(Exception):
    """The driver cannot run with these settings; the text is one line for people."""


class Probe(NamedTuple):
    """A DS18B20 temperature probe; `channel` is the one that shows it, or None."""

    name: str
    label: str
    address: str
    channel: Optional[int] = None  # noqa: UP045 - msgspec evaluates this, and Python 3.9 has no int | None


class Settings(NamedTuple):
    """Steps are positions as shown to users, times are in seconds."""

    source: str = ""
    """The configuration's path; empty where there is none."""
    port: str = "/dev/ttyACM0"
    baud: int = 9600
    reply_timeout_s: float = 2.0
    idle_s: float = 5.0
    moving_s: float = 0.1
    move_timeout_s: float | None = None
    """None: as long as the distance takes, and half as long again."""
    channels: int = 2
    labels: Mapping[int, str] = MappingProxyType({})
    travel: Mapping[int, tuple[int, int]] = MappingProxyType({})
    """Configured limits by channel; they bind what clients may set."""
    default_travel: tuple[int, int] = (0, 100_000)
    """Travel of a channel that has no configured limits. INDI requires positions that are not negative."""
    probes: tuple[Probe, ...] = ()

    def device_names(self) -> dict[int, str]:
        """The INDI device of each channel. Raises SettingsError where INDIDEV makes two of one name, or one that INDI's
        tools cannot address."""
        try:
            return device_names(self.channels, self.labels)
        except ValueError as error:
            raise SettingsError(str(error)) from None

    def fixes(self, channel: int) -> frozenset[str]:
        """Names of the INDI properties whose values the configuration sets, so that no saved value replaces them."""
        names: set[str] = set()
        if self.source:
            names |= {"CONNECTION_MODE", "DEVICE_PORT", "DEVICE_BAUD_RATE", "DEVICE_ADDRESS", "POLLING_PERIOD"}
        if channel in self.travel:
            names |= {"FOCUS_MAX", "FOCUS_MIN"}
        return frozenset(names)


def load_settings() -> Settings:
    """The settings of the configuration that INDI_MULTIFOCUS_CONFIG names, or the defaults. Raises SettingsError."""
    path = variable(CONFIG_VARIABLE)
    settings = _from_configuration(path) if path else Settings()
    settings.device_names()
    return settings


def _from_configuration(path: str) -> Settings:
    # Only where there is a configuration: a driver without one needs no msgspec.
    from .configuration import ConfigError, load

    try:
        config = load(path)
    except ConfigError as error:
        raise SettingsError(str(error)) from None
    return Settings(
        source=path,
        port=config.serial_port,
        baud=config.serial_baud,
        reply_timeout_s=config.serial_timeout,
        idle_s=config.idle_loop_delay,
        moving_s=config.moving_loop_delay,
        move_timeout_s=config.move_timeout,
        channels=config.channels,
        labels={int(channel): label for channel, label in config.labels.items()},
        travel={int(channel): (limits[0], limits[1]) for channel, limits in config.limits.items()},
        # The documented `focus set 1 -500` must work, so without limits the controller's whole range is the travel.
        default_travel=WHOLE_RANGE,
        probes=tuple(config.temperature_probes.values()),
    )
