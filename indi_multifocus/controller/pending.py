# SPDX-License-Identifier: GPL-3.0-or-later
"""Pending requests: what is to be sent to the controller.

Used by the poll thread alone; no clock in here. Stops are sent before everything else, and kept whatever happens to the
link. Moves and zeros are refused where the link is lost, since later nobody would expect them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from .channel import Channel
from .conversation import CommandError
from .protocol import Move, QueryFans, QueryStatus, SwitchFans, Zero
from .requests import ChannelRequest
from .session import Session


class Pending:
    """The requests of all channels, and of the fans."""

    def __init__(self) -> None:
        self._channels: dict[int, ChannelRequest] = {}
        self._fans: tuple[bool, int] | None = None

    def clear(self) -> None:
        """Drop all of them: they were for another controller."""
        self._channels.clear()
        self._fans = None

    def add(self, channels: Mapping[int, ChannelRequest], fans: tuple[bool, int] | None = None) -> None:
        """Add these requests, after the pending ones."""
        for number, request in channels.items():
            self._channels[number] = self.of(number).then(request)
        if fans is not None:
            self._fans = fans

    def add_stop(self, channel: int, request: int) -> None:
        """Add a stop of our own, before the zero and the move that are pending."""
        pending = self.of(channel)
        stop = ChannelRequest(stop=max(pending.stop, request))
        self._channels[channel] = stop.then(pending.without_stop())

    def of(self, channel: int) -> ChannelRequest:
        """The pending requests of this channel."""
        return self._channels.get(channel, ChannelRequest())

    def pending_channels(self) -> list[int]:
        """The channels that have pending requests."""
        return [number for number, request in self._channels.items() if request]

    def stops(self) -> dict[int, int]:
        """The request numbers of the stops, by channel."""
        return {number: request.stop for number, request in self._channels.items() if request.stop}

    # --- Sending ------------------------------------------------------------------------------------------------------

    def send(self, session: Session, channels: Sequence[Channel], generation: int | None, now: float) -> None:
        """Send what can be sent: stops first, whatever is still to be answered. The session is up."""
        sent = self.send_stops(session, channels, now)
        for channel in channels:
            sent = self._send_order(session, channel, now) or sent
        self._send_fans(session, generation, now)
        if sent:
            session.send(QueryStatus(), 0, now)

    def send_stops(self, session: Session, channels: Iterable[Channel], now: float) -> bool:
        """Send the pending stops. Returns whether there were any."""
        sent = False
        for channel in channels:
            pending = self.of(channel.number)
            if pending.stop:
                self._channels[channel.number] = pending.without_stop()
                stop = channel.stop(pending.stop)
                if not session.join_stop(channel.number, pending.stop):
                    session.send(stop, pending.stop, now)
                    sent = True
        return sent

    def _send_order(self, session: Session, channel: Channel, now: float) -> bool:
        """Send the pending zero or move. Returns whether one was sent."""
        pending = self.of(channel.number)
        if session.full or not pending:
            return False
        if pending.zero:
            self._channels[channel.number] = pending.only_move()
            session.send(channel.zero(), pending.zero, now)
            return True
        # A move waits until the zero before it is answered: if that had to be sent again, it would change the scale
        # during the move.
        if any(isinstance(order, Zero) for order, _ in session.orders(channel.number)):
            return False
        self._channels[channel.number] = ChannelRequest()
        return self._start_move(session, channel, pending, now)

    def _start_move(self, session: Session, channel: Channel, request: ChannelRequest, now: float) -> bool:
        try:
            # The focuser decided; but another controller may have been plugged in since.
            for target in (request.steps, request.via):
                if target is not None:
                    session.check(Move(channel.number, target))
        except CommandError as error:
            channel.refuse(request.move, str(error))
            return False
        session.send(channel.move(request.steps, request.via, now), request.move, now)
        return True

    def _send_fans(self, session: Session, generation: int | None, now: float) -> None:
        if session.full or self._fans is None:
            return
        (on, request), self._fans = self._fans, None
        if generation == 2:
            session.send(SwitchFans(on), request, now)
            session.send(QueryFans(), request, now)

    # --- Refusing -----------------------------------------------------------------------------------------------------

    def refuse(self, channels: Sequence[Channel]) -> int:
        """Refuse everything but stops. Returns the number of the request for the fans among it, or 0."""
        fans, self._fans = self._fans, None
        for number, pending in self._channels.items():
            request = max(pending.move, pending.zero)
            if request and number <= len(channels):
                why = "the controller does not answer now, so this was not carried out"
                channels[number - 1].refuse(request, why)
            self._channels[number] = pending.only_stop()
        return fans[1] if fans is not None else 0
