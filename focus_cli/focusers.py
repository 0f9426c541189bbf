# SPDX-License-Identifier: GPL-3.0-or-later
"""All channels of a configuration: their status in one report, and the connection to the controller that they share.

Used by focusd.py, from as many threads as there are callers. A thread of its own connects channels again after the
driver was restarted.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Iterable

from indi_multifocus.settings import device_name
from indi_multifocus.settings.configuration import Config, ConfigError

from . import codes
from .channel import ANSWER_S, Channel
from .indi_client import IndiClient, Value
from .log import Log
from .threads import keep_running

CONNECT_S = 12.0
"""For opening the port and the handshake, which the driver limits to some 3 s."""
LINK_S = 3.0
"""How long `initialize` waits for a lost link to come back."""
FIRST_RETRY_S, LAST_RETRY_S = 0.5, 60.0
"""Pauses between attempts to connect again the channels that were initialized: doubled each time, up to the last."""


class Focusers:
    """All channels of the configuration. Every method may be called from any thread."""

    def __init__(self, config: Config, client: IndiClient, log: Log) -> None:
        self.channels = {
            number: Channel(number, device, config.limits.get(number), client, log)
            for number, device in device_names(config).items()
        }
        self._port = config.serial_port
        self._probes = list(config.temperature_probes)
        self._probe_of = {
            probe.channel: name for name, probe in config.temperature_probes.items() if probe.channel is not None
        }
        self._client = client
        self._log = log
        self._kept: set[Channel] = set()
        """Connected by us, and to be connected again when the driver comes back. Guarded by client.changed."""
        self._connecting = threading.Lock()
        """One call connects or disconnects at a time."""
        keep_running("reconnecting", self._keep_connected, log)

    # --- What is known --------------------------------------------------------------------------------------------

    def status(self) -> dict[str, object]:
        """`report_status` but for date and version, with the entries of both generations of clients."""
        with self._client.changed:
            states = {number: channel.state() for number, channel in self.channels.items()}
            online = all(state.status != codes.OFFLINE for state in states.values())
            report: dict[str, object] = {"status": int(online)}
            if online:
                fan = self.channels[1].vector("FAN")
                report["fans_available"] = fan is not None
                report["fans_enabled"] = fan is not None and fan.values.get("INDI_ENABLED") is True
                report["temperature"] = self.temperatures()
            for number, state in states.items():
                report[f"status_{number}"] = state.status
                if state.status != codes.OFFLINE:
                    report[f"target_steps_{number}"] = state.target
                    report[f"current_steps_{number}"] = state.current
                    report[f"moving_{number}"] = state.status == codes.MOVING
            return report

    def details(self) -> list[dict[str, object]]:
        """Of each channel what `status` does not say; `lowest` and `highest` are None while it is offline."""
        with self._client.changed:
            return [self._details(channel) for channel in self.channels.values()]

    def _details(self, channel: Channel) -> dict[str, object]:
        state = channel.state()
        online = state.status != codes.OFFLINE
        link = channel.vector("FOCUS_LINK_INFO")
        message_s, message = self._client.last_messages.get(channel.device, (0.0, ""))
        return {
            "channel": channel.number,
            "device": channel.device,
            "lowest": state.low if online else None,
            "highest": state.high if online else None,
            "link": str(link.values.get("LINK", "")) if link is not None else "not connected",
            "position": str(link.values.get("POSITION", "")) if link is not None else "",
            "probe": self._probe_of.get(channel.number),
            "message": message,
            "message_time": message_s,
        }

    def temperatures(self) -> dict[str, float | None]:
        """°C by probe; None where it does not answer."""
        measured = self.channels[1].vector("TEMPERATURES")
        return {probe: _celsius(measured.values.get(probe)) if measured else None for probe in self._probes}

    # --- Connecting -----------------------------------------------------------------------------------------------

    def initialize(self) -> int:
        """Connect every channel."""
        with self._connecting:
            if not self._client.wait_for(self._all_there, LINK_S):
                self._log.error(self._missing())
                return codes.FAILED
            missing = [channel for channel in self.channels.values() if not channel.connected]
            if not missing and all(channel.linked for channel in self.channels.values()):
                self._keep(self.channels.values())
                return codes.NOT_DISCONNECTED
            if self._connect(missing) and self._client.wait_for(
                lambda: all(channel.linked for channel in self.channels.values()), LINK_S
            ):
                self._keep(self.channels.values())
                self._log.info("connected to controller")
                self._compare_port()
                return codes.SUCCEEDED
            self._explain()
            return codes.FAILED

    def shutdown(self) -> int:
        """Disconnect every channel. A move in progress is left to finish."""
        self._keep(())
        with self._connecting:
            channels = [channel for channel in self.channels.values() if not channel.off()]
            if not channels:
                return codes.NOT_CONNECTED
            for channel in channels:
                channel.disconnect()
            if self._client.wait_for(lambda: all(channel.off() for channel in channels), ANSWER_S):
                self._log.info("disconnected from controller")
                return codes.SUCCEEDED
            return codes.FAILED

    def _connect(self, channels: list[Channel]) -> bool:
        sent = {channel.number: channel.connect() for channel in channels}
        self._client.wait_for(
            lambda: not any(channel.connecting(sent[channel.number]) for channel in channels), CONNECT_S
        )
        return all(channel.connected for channel in channels)

    def wait_until_known(self, timeout_s: float) -> None:
        """Give the driver a moment to say what state its devices are in."""
        self._client.wait_for(
            lambda: self._all_there() and all(channel.off() or channel.connected for channel in self.channels.values()),
            timeout_s,
        )

    def _all_there(self) -> bool:
        return all(channel.vector("CONNECTION") is not None for channel in self.channels.values())

    def _missing(self) -> str:
        with self._client.changed:
            if not self._client.connected:
                return f"cannot connect: the INDI server {self._client.server} is not there ({self._client.problem})"
            missing = [channel.device for channel in self.channels.values() if channel.vector("CONNECTION") is None]
            return f"cannot connect: the INDI server {self._client.server} has no {' and no '.join(missing)}"

    def _explain(self) -> None:
        """Log why. The driver sends a message for each failed connection, but for a lost link only when it is lost."""
        for channel in self.channels.values():
            link = channel.vector("FOCUS_LINK_INFO")
            if channel.connected and link is not None and not channel.linked:
                self._log.error(f"{channel.device}: {link.values.get('LINK')}")
                return

    def _compare_port(self) -> None:
        """Warn where the driver of a server that we joined is on another controller than the configuration's."""
        port = self.channels[1].vector("DEVICE_PORT")
        name = str(port.values.get("PORT", "")) if port is not None else ""
        if name and "://" not in name + self._port and os.path.realpath(name) != os.path.realpath(self._port):
            self._log.warning(f"the driver that serves {self._client.server} uses {name}, not {self._port}")

    def _keep(self, channels: Iterable[Channel]) -> None:
        with self._client.changed:
            self._kept = set(channels)

    def _keep_connected(self) -> None:
        """Connect again what the restart of the driver has disconnected; not what a client has."""
        retry_s, next_s = FIRST_RETRY_S, 0.0
        while True:
            with self._client.changed:
                self._client.changed.wait_for(lambda: self._client.closed or self._to_reconnect(), timeout=None)
                self._client.changed.wait_for(lambda: self._client.closed, max(0.0, next_s - time.monotonic()))
                if self._client.closed:
                    return
            with self._connecting:
                channels = self._to_reconnect()
                if not channels:
                    continue
                self._log.info(f"connecting {' and '.join(channel.device for channel in channels)} again")
                retry_s = FIRST_RETRY_S if self._connect(channels) else min(retry_s * 2, LAST_RETRY_S)
                next_s = time.monotonic() + retry_s

    def _to_reconnect(self) -> list[Channel]:
        with self._client.changed:
            off = [channel for channel in self._kept if channel.vector("CONNECTION") is not None and channel.off()]
            dropped = [channel for channel in off if channel.dropped()]
            self._kept -= set(off) - set(dropped)  # a client has disconnected these
            return sorted(dropped, key=lambda channel: channel.number)


def device_names(config: Config) -> dict[int, str]:
    """The INDI device of each channel: its label, or the prefix (INDIDEV, as the driver takes it) and its number.

    Raises ConfigError, whose text is one line for people.
    """
    try:
        return device_name.device_names(config.channels, config.labels)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _celsius(value: Value | None) -> float | None:
    """A temperature; None where the probe does not answer or was not asked yet."""
    try:
        celsius = float(value if value is not None else "nan")
    except ValueError:
        return None
    return celsius if math.isfinite(celsius) else None
