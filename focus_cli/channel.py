# SPDX-License-Identifier: GPL-3.0-or-later
"""One channel of the controller, which is one INDI device: its state, and calls that return when they are done.

Used by focusers.py and focusd.py, from as many threads as there are callers. Calls return a code of codes.py. All that
is known of a channel is what the driver published last (`IndiClient.vector`), so moves of other INDI clients are seen
like our own.

How the driver answers a new ABS_FOCUS_POSITION (indi_multifocus/focuser.py): where it accepts it, FOCUS_TARGET becomes
Busy and shows the target. It is Alert when the move has failed. Where it refuses it, ABS_FOCUS_POSITION is Alert for a
moment, with a message that names the value; FOCUS_TARGET stays as it is.

Several clients may use a channel at the same time, and a request may be on its way for long. So what is answered is
about the caller's own request (`indi_client.Request`), and one that was not answered in time is stopped: the stop comes
behind it, on the same connection.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from indi_multifocus.settings.driver_settings import WHOLE_RANGE

from . import codes
from .indi_client import IndiClient, Request, Vector
from .log import Log

ANSWER_S = 10.0
"""The driver never waits for the controller before it answers; so silence for this long means that nobody is there."""
STOP_S = 4.0
"""For a stop to be known to have worked; existing clients wait 5 s for the call."""
SHOWN_S = 0.5
"""How long after the answer to a zero the position may take to show it."""


@dataclass(frozen=True)
class ChannelState:
    """One channel at one moment; steps are positions as INDI shows them."""

    status: int
    """codes.OFFLINE, IDLE or MOVING; the other fields mean nothing while it is offline."""
    target: int = 0
    current: int = 0
    low: int = 0
    high: int = 0
    """First and last position that a move may lead to."""


class Channel:
    """One channel of the controller."""

    def __init__(self, number: int, device: str, limits: tuple[int, int] | None, client: IndiClient, log: Log) -> None:
        """`limits`: lowest and highest position of the configuration; a driver that we only joined may not know it."""
        self.number = number
        self.device = device
        self._limits = limits or WHOLE_RANGE
        self._client = client
        self._log = log
        self._claimed = False
        """A call moves or zeroes it; guarded by client.changed, like the target of that move."""
        self._going_to: int | None = None

    # --- State ----------------------------------------------------------------------------------------------------

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
        """The channel at this moment."""
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

    # --- Calls ----------------------------------------------------------------------------------------------------

    def move(self, steps: int, *, offset: bool) -> int:
        """Go to `steps`, or with `offset` that many from the last target; returns when the motor stands."""
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
            with self._client.request(
                self.device, "ABS_FOCUS_POSITION", "FOCUS_ABSOLUTE_POSITION", target, accepts=_shows_the_target
            ) as move:
                self._client.send(move)
                if not self._client.wait_for(lambda: move.accepted or move.refused or self._lost(move), ANSWER_S):
                    return self._unanswered(move)
                if move.refused and not move.accepted:
                    # The driver has sent the reason. With the controller there, it can only be the position.
                    return codes.POSITION_OUTSIDE_LIMITS if self.linked else codes.FAILED
                return self._arrival(move)
        finally:
            self._release()

    def _arrival(self, move: Request) -> int:
        """Wait until the motor stands. A move that was stopped has succeeded, as it always has with focusd."""
        stands = self._client.wait_for(lambda: self._lost(move) or self.state().status != codes.MOVING)
        with self._client.changed:
            target = self.vector("FOCUS_TARGET")
            arrived = stands and not self._lost(move) and self.state().status == codes.IDLE
            return codes.SUCCEEDED if arrived and target is not None and target.state != "Alert" else codes.FAILED

    def _unanswered(self, move: Request) -> int:
        """Nobody knows what becomes of the move: it may still be on its way. The stop arrives after it."""
        if not self._client.closed:
            with self._client.request(self.device, "FOCUS_ABORT_MOTION", "ABORT") as stop:
                self._client.send(stop)
        return self._silent(move)

    def stop(self) -> int:
        """Stop here; returns when the motor is known to stand. Waits for no other call."""
        if not self.connected:
            return codes.NOT_CONNECTED
        with self._client.request(self.device, "FOCUS_ABORT_MOTION", "ABORT") as stop:
            self._client.send(stop)

            def answer() -> Vector | None:
                abort = self.vector("FOCUS_ABORT_MOTION")
                return abort if abort is not None and abort.updated > stop.made and not abort.refused else None

            def stands() -> bool:
                abort = answer()
                return self._lost(stop) or stop.refused or (abort is not None and abort.state != "Busy")

            stood, abort = self._client.wait_for(stands, STOP_S), answer()
            if not stood and abort is None:  # else the driver has published what it waits for
                return self._silent(stop)
            return self._code(stop, abort)

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
            with self._client.request(self.device, "FOCUS_SYNC", "FOCUS_SYNC_VALUE", 0, accepts=_was_zeroed) as zero:
                self._client.send(zero)

                def failed() -> bool:
                    sync = self.vector("FOCUS_SYNC")
                    return sync is not None and sync.busy > zero.made and sync.state == "Alert" and not sync.refused

                def done() -> bool:
                    return self._lost(zero) or zero.accepted or zero.refused or failed()

                if not self._client.wait_for(done, ANSWER_S):
                    return self._silent(zero)
                # The position is published after the answer; the caller's next call is to find it.
                self._client.wait_for(lambda: self._lost(zero) or self._stands_at_zero(), SHOWN_S)
                return codes.SUCCEEDED if zero.accepted and not self._lost(zero) else codes.FAILED
        finally:
            self._release()

    def switch_fans(self, enabled: bool) -> int:
        """Turn the controller's fans, which this channel shows, on or off."""
        if not self.linked:
            return codes.NOT_CONNECTED
        if self.vector("FAN") is None:
            self._log.error(f"{self.device}: this controller is of the first generation, which has no fans")
            return codes.FAILED
        wanted = "INDI_ENABLED" if enabled else "INDI_DISABLED"
        with self._client.request(self.device, "FAN", wanted) as switch:
            self._client.send(switch)

            def answer() -> Vector | None:
                fan = self.vector("FAN")
                if fan is None or fan.updated <= switch.made or fan.refused:
                    return None
                # While channels move, the driver may show the old state once more before the new one.
                return fan if fan.state == "Alert" or (fan.state == "Ok" and fan.values.get(wanted) is True) else None

            def done() -> bool:
                return self._lost(switch) or switch.refused or answer() is not None

            if not self._client.wait_for(done, ANSWER_S):
                return self._silent(switch)
            return self._code(switch, answer())

    def _stands_at_zero(self) -> bool:
        state = self.state()
        return state.status != codes.MOVING and state.current == 0

    def _code(self, request: Request, answer: Vector | None) -> int:
        well = answer is not None and answer.state == "Ok" and not self._lost(request)
        return codes.SUCCEEDED if well else codes.FAILED

    def _lost(self, request: Request) -> bool:
        """Since then the channel was disconnected, or driver or server have gone; they may be back by now."""
        position = self.vector("ABS_FOCUS_POSITION")
        return position is None or position.defined > request.made

    def _silent(self, request: Request) -> int:
        if not self._client.closed:
            said = f"{self.device}: the driver gave no answer to {request.name}"
            self._log.error(f"{said}; `focus doctor` says what to do")
        return codes.FAILED

    def _release(self) -> None:
        with self._client.changed:
            self._claimed, self._going_to = False, None

    # --- Connection -----------------------------------------------------------------------------------------------

    def connect(self) -> int:
        """Request the connection; returns what `connecting` needs."""
        return self._switch_connection("CONNECT")

    def disconnect(self) -> None:
        """Request the disconnection."""
        self._switch_connection("DISCONNECT")

    def _switch_connection(self, element: str) -> int:
        with self._client.request(self.device, "CONNECTION", element) as request:
            self._client.send(request)
            return request.made

    def connecting(self, made: int) -> bool:
        """The answer to `connect` has not come yet."""
        connection = self.vector("CONNECTION")
        if connection is None or connection.defined > made:
            return False
        if connection.updated <= made or connection.state == "Busy":
            return True
        return connection.values.get("CONNECT") is True and not self.connected

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


def _shows_the_target(move: Request, name: str, vector: Vector) -> bool:
    return name == "FOCUS_TARGET" and _steps(vector, "FOCUS_TARGET_VALUE") == move.value


def _was_zeroed(zero: Request, name: str, vector: Vector) -> bool:
    if name != zero.name or vector.state != "Ok":
        return False
    return vector.busy > zero.made and vector.values.get(zero.element) == 0


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


def _steps(vector: Vector, element: str) -> int:
    return round(float(vector.values.get(element, 0)))
