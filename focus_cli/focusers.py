# SPDX-License-Identifier: GPL-3.0-or-later
"""What the channels can be asked to do, as calls that return when it is done, with a code of codes.py.

Used by focusd.py, from as many threads as there are callers; its own thread, `_keep_connected`, connects channels again
after the driver was restarted. All that is known of a channel is what the driver published last (`IndiClient.vector`),
so moves of other INDI clients are seen here like our own.

How the driver answers (indi_multifocus/focuser.py): a new ABS_FOCUS_POSITION at once with Busy, or with Alert where it
is refused; FOCUS_TARGET says where it is going, and is Busy with it. Other clients' refused requests turn
ABS_FOCUS_POSITION to Alert for a moment, never FOCUS_TARGET: so that one tells how a move ended.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

from indi_multifocus.settings import device_name
from indi_multifocus.settings.configuration import Config, ConfigError
from indi_multifocus.settings.driver_settings import WHOLE_RANGE

from . import codes
from .indi_client import IndiClient, Value, Vector
from .log import Log
from .threads import keep_running

ANSWER_S = 10.0
"""The driver never waits for the controller before it answers; so silence this long means that nobody is there."""
CONNECT_S = 12.0
"""For opening the port and the handshake, which the driver limits to some 3 s."""
STOP_S = 4.0
"""For a stop to be known to have worked; existing clients wait 5 s for the call."""
LINK_S = 3.0
"""How long `initialize` waits for a lost link to come back."""
SECOND_THOUGHT_S = 0.25
"""How long after a refusal, which may have been another client's, an acceptance may come."""
SHOWN_S = 0.5
"""How long after an answer the target or position that goes with it may take to show."""
FIRST_RETRY_S, LAST_RETRY_S = 0.5, 60.0


@dataclass(frozen=True)
class ChannelState:
    """One channel at one moment; steps are positions as INDI shows them."""

    status: int
    """codes.OFFLINE, IDLE or MOVING; offline, the others mean nothing."""
    target: int = 0
    current: int = 0
    low: int = 0
    high: int = 0
    """Where a move may lead."""


def _is_connected(there: Mapping[str, Vector]) -> bool:
    connection = there.get("CONNECTION")
    return (
        connection is not None
        and connection.state == "Ok"
        and connection.values.get("CONNECT") is True
        and "FOCUS_LINK_INFO" in there  # the last one that the driver defines
    )


def _is_linked(there: Mapping[str, Vector]) -> bool:
    return _is_connected(there) and there["FOCUS_LINK_INFO"].values.get("LINK") == "up"


class Channel:
    """One channel of the controller, which is one INDI device."""

    def __init__(self, number: int, device: str, limits: tuple[int, int] | None, client: IndiClient, log: Log) -> None:
        """`limits`: lowest and highest position of the configuration; a driver that we only joined may not know it."""
        self.number = number
        self.device = device
        self._limits = limits or WHOLE_RANGE
        self.wanted = False
        """Connected by us, and to be connected again when the driver comes back."""
        self._client = client
        self._log = log
        self._claimed = False
        """A call moves or zeroes it; guarded by client.changed, like where it moves to."""
        self._going_to: int | None = None

    # --- What is known --------------------------------------------------------------------------------------------

    def vector(self, name: str) -> Vector | None:
        """As IndiClient.vector."""
        return self._client.vector(self.device, name)

    @property
    def connected(self) -> bool:
        """The driver has it connected and its properties are there; the link to the controller may be lost."""
        with self._client.changed:
            return _is_connected(self._client.properties(self.device))

    @property
    def linked(self) -> bool:
        """Connected, and the controller answers."""
        with self._client.changed:
            return _is_linked(self._client.properties(self.device))

    def state(self) -> ChannelState:
        """What is known of it at this moment."""
        with self._client.changed:
            there = self._client.properties(self.device)
            position, target = there.get("ABS_FOCUS_POSITION"), there.get("FOCUS_TARGET")
            lowest, highest = there.get("FOCUS_MIN"), there.get("FOCUS_MAX")
            if not _is_linked(there) or position is None or target is None or lowest is None or highest is None:
                return ChannelState(codes.OFFLINE)
            moving = "Busy" in (position.state, target.state)
            shown = _steps(target, "FOCUS_TARGET_VALUE")
            if moving and target.state != "Busy" and self._going_to is not None:
                shown = self._going_to  # the driver is about to say so
            return ChannelState(
                codes.MOVING if moving else codes.IDLE,
                target=shown,
                current=_steps(position, "FOCUS_ABSOLUTE_POSITION"),
                low=max(_steps(lowest, "FOCUS_MIN_VALUE"), self._limits[0]),
                high=min(_steps(highest, "FOCUS_MAX_VALUE"), self._limits[1]),
            )

    # --- Moving ---------------------------------------------------------------------------------------------------

    def move(self, steps: int, *, offset: bool) -> int:
        """Go to `steps`, or with `offset` that many from where it was last sent to; returns when the motor stands."""
        with self._client.changed:
            state = self.state()
            if state.status == codes.OFFLINE:
                return codes.NOT_CONNECTED
            if self._claimed or state.status == codes.MOVING:
                return codes.BLOCKED
            target = state.target + steps if offset else steps
            # From outside the travel (it was changed) the way back is open, as the driver sees it.
            if not min(state.low, state.current) <= target <= max(state.high, state.current):
                return codes.POSITION_OUTSIDE_LIMITS
            self._claimed, self._going_to = True, target
        try:
            sent = self._client.send_number(self.device, "ABS_FOCUS_POSITION", "FOCUS_ABSOLUTE_POSITION", target)
            return self._accepted(sent, target) or self._arrived(sent)
        finally:
            self._release()

    def _accepted(self, sent: int, target: int) -> int:
        """Wait until the driver has taken the move."""

        def answered() -> bool:
            position = self.vector("ABS_FOCUS_POSITION")
            return self._lost(sent) or (position is not None and max(position.busy, refused(position)) > sent)

        def refused(position: Vector) -> int:
            return position.updated if position.state == "Alert" else 0

        def taken() -> bool:
            position = self.vector("ABS_FOCUS_POSITION")
            return self._lost(sent) or (position is not None and position.busy > sent)

        def going() -> bool:
            shown = self.vector("FOCUS_TARGET")
            return self._lost(sent) or (shown is not None and _steps(shown, "FOCUS_TARGET_VALUE") == target)

        if not self._client.wait_for(answered, ANSWER_S):
            return self._silent("ABS_FOCUS_POSITION")
        if not self._client.wait_for(taken, SECOND_THOUGHT_S):
            # The driver has said why. With the controller there, it can only be the position.
            return codes.POSITION_OUTSIDE_LIMITS if self.linked else codes.FAILED
        # Busy may have been the end of another client's move, sent a moment before ours. A target that does not show
        # has been replaced already, by a stop or another client.
        self._client.wait_for(going, SHOWN_S)
        return codes.SUCCEEDED

    def _arrived(self, sent: int) -> int:
        """Wait until the motor stands. A move that was stopped has succeeded, as it always has with focusd."""
        stands = self._client.wait_for(lambda: self._lost(sent) or self.state().status != codes.MOVING)
        with self._client.changed:
            target = self.vector("FOCUS_TARGET")
            arrived = stands and not self._lost(sent) and self.state().status == codes.IDLE
            return codes.SUCCEEDED if arrived and target is not None and target.state != "Alert" else codes.FAILED

    def stop(self) -> int:
        """Stop here; returns when the motor is known to stand. Waits for no other call."""
        with self._client.changed:
            if not self.connected:
                return codes.NOT_CONNECTED
        sent = self._client.send_switch(self.device, "FOCUS_ABORT_MOTION", "ABORT")

        def stands() -> bool:
            abort = self.vector("FOCUS_ABORT_MOTION")
            return self._lost(sent) or (abort is not None and abort.updated > sent and abort.state != "Busy")

        stood = self._client.wait_for(stands, STOP_S)
        abort = self.vector("FOCUS_ABORT_MOTION")
        if not stood and (abort is None or abort.updated <= sent):  # else the driver has said what it waits for
            return self._silent("FOCUS_ABORT_MOTION")
        return codes.SUCCEEDED if abort is not None and abort.state == "Ok" and not self._lost(sent) else codes.FAILED

    def zero(self) -> int:
        """Call the place where it stands 0, in the controller itself."""
        with self._client.changed:
            state = self.state()
            if state.status == codes.OFFLINE:
                return codes.NOT_CONNECTED
            if self._claimed or state.status == codes.MOVING:
                return codes.BLOCKED
            self._claimed = True
        try:
            sent = self._client.send_number(self.device, "FOCUS_SYNC", "FOCUS_SYNC_VALUE", 0)

            def done() -> bool:
                sync = self.vector("FOCUS_SYNC")
                return self._lost(sent) or (
                    sync is not None
                    and sync.updated > sent
                    and (sync.state == "Alert" or (sync.busy > sent and sync.state != "Busy"))
                )

            if not self._client.wait_for(done, ANSWER_S):
                return self._silent("FOCUS_SYNC")
            # The position is sent after the answer; whoever asks for it next is to see it.
            self._client.wait_for(lambda: self._lost(sent) or self.state().current == 0, SHOWN_S)
            sync = self.vector("FOCUS_SYNC")
            return codes.SUCCEEDED if sync is not None and sync.state == "Ok" and not self._lost(sent) else codes.FAILED
        finally:
            self._release()

    def switch_fans(self, enabled: bool) -> int:
        """Turn the controller's fans, which this channel shows, on or off."""
        if not self.linked:
            return codes.NOT_CONNECTED
        if self.vector("FAN") is None:
            self._log.error("this controller has no fans")
            return codes.FAILED
        wanted = "INDI_ENABLED" if enabled else "INDI_DISABLED"
        sent = self._client.send_switch(self.device, "FAN", wanted)

        def done() -> bool:
            fan = self.vector("FAN")
            # While channels move, the driver may show the old state once more before the new one.
            return self._lost(sent) or (
                fan is not None
                and fan.updated > sent
                and (fan.state == "Alert" or (fan.state == "Ok" and fan.values.get(wanted) is True))
            )

        if not self._client.wait_for(done, ANSWER_S):
            return self._silent("FAN")
        fan = self.vector("FAN")
        return codes.SUCCEEDED if fan is not None and fan.state == "Ok" and not self._lost(sent) else codes.FAILED

    def _lost(self, sent: int) -> bool:
        """Since then the channel was disconnected, or driver or server have gone; they may be back by now."""
        position = self.vector("ABS_FOCUS_POSITION")
        return position is None or position.defined > sent

    def _silent(self, name: str) -> int:
        if not self._client.closed:
            self._log.error(f"{self.device}: no answer to {name}")
        return codes.FAILED

    def _release(self) -> None:
        with self._client.changed:
            self._claimed, self._going_to = False, None

    # --- Connecting -----------------------------------------------------------------------------------------------

    def connect(self) -> int:
        """Ask for the connection; returns what `connecting` wants to know."""
        return self._client.send_switch(self.device, "CONNECTION", "CONNECT")

    def connecting(self, sent: int) -> bool:
        """The answer to `connect` is not there yet."""
        connection = self.vector("CONNECTION")
        if connection is None or connection.defined > sent:
            return False
        if connection.updated <= sent or connection.state == "Busy":
            return True
        return connection.values.get("CONNECT") is True and not self.connected

    def disconnect(self) -> None:
        """Ask for the disconnection."""
        self.wanted = False
        self._client.send_switch(self.device, "CONNECTION", "DISCONNECT")

    def off(self) -> bool:
        """It is disconnected, or not there at all."""
        connection = self.vector("CONNECTION")
        return connection is None or connection.values.get("CONNECT") is not True

    def dropped(self) -> bool:
        """It is off and nobody turned it off: its driver was restarted, or could not connect it since."""
        connection = self.vector("CONNECTION")
        if connection is None or not self.off() or connection.state == "Busy":
            return False
        return connection.updated == connection.defined or connection.state == "Alert"


class Focusers:
    """All channels of the configuration. Every method may be called from any thread."""

    def __init__(self, config: Config, client: IndiClient, log: Log) -> None:
        self.channels = {
            number: Channel(number, device, config.limits.get(number), client, log)
            for number, device in device_names(config).items()
        }
        self._port = config.serial_port
        self._probes = list(config.temperature_probes)
        self._client = client
        self._log = log
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
                report["temperature"] = self._temperatures()
            for number, state in states.items():
                report[f"status_{number}"] = state.status
                if state.status != codes.OFFLINE:
                    report[f"target_steps_{number}"] = state.target
                    report[f"current_steps_{number}"] = state.current
                    report[f"moving_{number}"] = state.status == codes.MOVING
            return report

    def _temperatures(self) -> dict[str, float | None]:
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
                self._want(True)
                return codes.NOT_DISCONNECTED
            if self._connect(missing) and self._client.wait_for(
                lambda: all(channel.linked for channel in self.channels.values()), LINK_S
            ):
                self._want(True)
                self._log.info("connected to controller")
                self._compare_port()
                return codes.SUCCEEDED
            self._explain()
            return codes.FAILED

    def shutdown(self) -> int:
        """Disconnect every channel. A move in progress is left to finish."""
        self._want(False)
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
        """The driver has said what went wrong with a connection; of a lost link it only did when it was lost."""
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

    def _want(self, wanted: bool) -> None:
        for channel in self.channels.values():
            channel.wanted = wanted

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
            for channel in self.channels.values():
                if channel.wanted and channel.vector("CONNECTION") is not None and channel.off():
                    channel.wanted = channel.dropped()
            return [channel for channel in self.channels.values() if channel.wanted and channel.dropped()]


def device_names(config: Config) -> dict[int, str]:
    """The INDI device of each channel: its label, or the prefix (INDIDEV, as the driver takes it) and its number.

    Raises ConfigError, whose text is one line for people.
    """
    try:
        return device_name.device_names(config.channels, config.labels)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _steps(vector: Vector, element: str) -> int:
    return round(float(vector.values.get(element, 0)))


def _celsius(value: Value | None) -> float | None:
    """A temperature; None where the probe does not answer or was not asked yet."""
    try:
        celsius = float(value if value is not None else "nan")
    except ValueError:
        return None
    return celsius if math.isfinite(celsius) else None
