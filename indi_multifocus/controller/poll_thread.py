# SPDX-License-Identifier: GPL-3.0-or-later
"""The poll thread: it owns the serial port, carries out requests, and polls the controller's status.

It sleeps in `select` on the port and on the mailbox (`requests.py`) until a reply, a request or the next poll. No other
thread touches the port. What it knows of the controller it hands to `notify`, as an immutable `Snapshot`.

A stop is written at once, whatever is still to be answered: the link is full duplex, and the controller answers in
order. While no reply can be trusted it is written all the same, and again when the line is in step.

If the poll thread fails by a bug of ours, it stops what moves, reports that by `failed`, and ends.
"""

from __future__ import annotations

import logging
import select
import threading
import time
from collections.abc import Callable

from ..threads import start_thread
from .channel import Channel, Report
from .conversation import Synchronised
from .pending import Pending
from .polling import Polling
from .port import SOCKET, PortError, open_port
from .protocol import (
    ORDERS,
    Command,
    Fans,
    Measure,
    QueryStatus,
    Status,
    Stop,
    SwitchFans,
    Temperature,
)
from .requests import Mailbox, PortSettings, Requests
from .session import Answer, LinkLost, Session
from .snapshot import Link, Snapshot

log = logging.getLogger(__name__)

BACK_OFF_S = (0.5, 1.0, 2.0, 4.0, 8.0, 10.0)
"""Waits between attempts to open the port again (the design's back-off of 0.5 to 10 s)."""


class PollThread:
    """The companion of one mailbox. `start` and `join` are for the main thread, everything else is the thread's own."""

    def __init__(
        self,
        mailbox: Mailbox,
        notify: Callable[[Snapshot], None],
        trace: Callable[[str], None],
        failed: Callable[[str], None],
        probes: tuple[str, ...],
    ) -> None:
        """See `Controller`."""
        self._thread: threading.Thread | None = None
        self._mailbox = mailbox
        self._notify = notify
        self._trace_line = trace
        self._failed = failed
        self._probes = probes
        self._tracing = False
        self._ended = False
        self._snapshot = Snapshot()
        self._attempt = 0
        self._settings: PortSettings | None = None
        """What to keep open; None while the link is closed."""
        self._next_settings: PortSettings | None = None
        """What to open when a lost link is opened again, where that was changed since."""
        self._session: Session | None = None
        self._was_up = False
        """This attempt has found a controller, so that it is looked for until it is back."""
        self._reason = ""
        self._retry_s: float | None = None
        self._failures = 0
        """Attempts to get the link back that failed, since it was lost."""
        self._reconnects = 0
        self._polling = Polling()
        self._channels: list[Channel] = []
        self._pending = Pending()
        self._stops_unsynchronised: dict[int, int] = {}
        """By channel: the last stop that was written while no reply could be trusted."""
        self._generation: int | None = None
        self._fans: bool | None = None
        self._fans_request = self._fans_settled = 0
        """The last request for the fans which `_fans` reflects; and the last that is carried out, or never will be."""
        self._temperatures: dict[str, float | None] = {}
        self._next_probe = 0

    def start(self) -> None:
        """Start the thread, if it does not run."""
        if self._thread is None:
            self._thread = start_thread(self._run, "poll")

    def join(self, timeout_s: float) -> bool:
        """Wait for the end of the thread, but no longer than this. Whether it has ended, or never began."""
        if self._thread is not None:
            self._thread.join(timeout_s)
            return not self._thread.is_alive()
        return True

    def _run(self) -> None:
        reason = "the poll thread ended"
        try:
            while not self._ended:
                self._turn()
            reason = ""
        except Exception as error:
            log.exception("the poll thread failed")
            reason = f"internal error of the driver: {error!r}"
            self._stop_moves()
        finally:
            if reason:
                self._failed(reason)

    def _turn(self) -> None:
        """Sleep until there is something to do, and do it."""
        readable = self._sleep()
        self._take_requests()
        if self._ended:
            return
        try:
            if self._settings is not None:
                self._serve(readable)
        except LinkLost as lost:
            self._lose_link(str(lost))
        if not self._up:
            self._refuse_pending()
        self._publish()

    def _sleep(self) -> Session | None:
        """Wait for the port, for a request or for the clock. The session, if there is something to read on its port."""
        now = time.monotonic()
        times = [self._retry_s]
        reading: list[Session | Mailbox] = [self._mailbox]
        writing: list[Session] = []
        session = self._session
        if session is not None:
            times.append(session.wake_s())
            if now < session.read_s:
                times.append(session.read_s)
            else:
                reading.append(session)
            if session.unwritten:
                writing.append(session)
            if session.up:
                # Whether a reply is late is seen by a port that has nothing to read: not while that is not read.
                times.append(self._polling.wake_s(session.oldest(QueryStatus) if session in reading else None))
        wake_s = min((moment for moment in times if moment is not None), default=None)
        timeout_s = None if wake_s is None else max(0.0, wake_s - now)
        ready, writable, _ = select.select(reading, writing, [], timeout_s)
        if session in ready:
            return session
        if session in reading:
            # Where the time is over, nothing had come when it was: select looks again then, however late that is.
            self._polling.silent_s = now if ready or writable or wake_s is None else max(now, wake_s)
        return None

    def _take_requests(self) -> None:
        requests = self._mailbox.take()
        if requests.schedule is not None:
            self._polling.schedule = requests.schedule
        if requests.tracing is not None:
            self._tracing = requests.tracing
        self._pending.add(requests.channels, requests.fans)
        if requests.stop_moves:
            self._stop_moves()
        if requests.close or requests.open or requests.end:
            self._close_link(requests.close)
        self._take_open(requests)
        self._ended = requests.end

    def _take_open(self, requests: Requests) -> None:
        if requests.open is not None:
            self._settings, self._attempt = requests.open
            self._next_settings = requests.reopen
            self._retry_s = time.monotonic()
            # What came with it is for the new controller: the mailbox holds nothing of the former but stops.
            self._pending.add(requests.channels)
            self._publish()
        elif requests.reopen is not None and self._settings is not None:
            self._next_settings = requests.reopen
            if self._reason:
                self._retry_s = time.monotonic()
                self._failures = 0

    def _serve(self, readable: Session | None) -> None:
        """Whatever is due while the link is to be kept open. Raises LinkLost."""
        if readable is not None and readable is self._session:
            self._read(readable)
        if self._retry_s is not None and time.monotonic() >= self._retry_s:
            self._open_session()
        session = self._session
        if session is None:
            return
        session.check_time(self._polling.silent_s, time.monotonic())
        if session.up:
            self._pending.send(session, self._channels, self._generation, time.monotonic())
            self._poll(session)
        elif self._was_up:
            self._send_stops_unsynchronised(session)
        session.write()

    @property
    def _up(self) -> bool:
        return self._session is not None and self._session.up

    def _stop_moves(self) -> None:
        """The driver failed: stop every channel that moves, or may be about to, if the port still takes it."""
        try:
            session = self._session
            if session is not None:
                moving = [ch.number for ch in self._channels if ch.moving or self._pending.of(ch.number)]
                session.send_last_stops(moving)
        except Exception:
            log.exception("could not stop the motors")

    # --- Opening, losing and closing the link -------------------------------------------------------------------------

    def _open_session(self) -> None:
        """Open the port, and begin to synchronise. Raises LinkLost."""
        if self._was_up and self._next_settings is not None:
            self._settings, self._next_settings = self._next_settings, None
        settings = self._settings
        assert settings is not None
        self._retry_s = None
        self._close_session()
        try:
            port = open_port(settings.name, settings.baud)
        except PortError as error:
            raise LinkLost(str(error)) from None
        now = time.monotonic()
        self._stops_unsynchronised.clear()
        self._polling.over_network = settings.name.startswith(SOCKET)
        self._session = Session(port, settings.name, settings.reply_timeout_s, self._trace, now, known=self._was_up)

    def _lose_link(self, reason: str) -> None:
        """A link that was up once is tried again for ever, a first attempt is not."""
        if self._session is not None:
            self._give_up_orders(self._session)
        self._close_session()
        if not self._was_up:
            self._settings = self._next_settings = None
            self._reason = reason
            self._pending.clear()
            return
        if not self._reason:  # later ones are only that the port is not back yet
            self._reason = reason
        self._retry_s = time.monotonic() + BACK_OFF_S[min(self._failures, len(BACK_OFF_S) - 1)]
        self._failures += 1

    def _give_up_orders(self, session: Session) -> None:
        for sent in session.unanswered():
            if isinstance(sent.command, SwitchFans):
                self._fans_settled = max(self._fans_settled, sent.request)
            elif isinstance(sent.command, Stop):
                # Whatever else is lost, a stop is not: it is the first thing to be sent when the link is back.
                self._pending.add_stop(sent.command.channel, sent.request)
        for channel in self._channels:
            channel.link_lost(session.orders(channel.number))

    def _close_link(self, number: int) -> None:
        """Close the port: at the user's request, which has this number; or before another is opened, or the end."""
        if self._session is not None:
            try:
                self._send_pending_stops(self._session)
                self._session.write()
            except LinkLost:
                pass  # the controller is gone
        self._close_session()
        self._settings = self._next_settings = None
        self._retry_s = None
        self._was_up = False
        self._reason = ""
        self._reconnects = self._failures = 0
        self._channels = []
        self._generation = self._fans = None
        self._temperatures = {}
        self._pending.clear()
        self._attempt = number or self._attempt
        self._publish()

    def _send_pending_stops(self, session: Session) -> None:
        if session.up:
            self._pending.send_stops(session, self._channels, time.monotonic())
        elif self._was_up:
            session.send_stops_unsynchronised(self._pending.stops())

    def _send_stops_unsynchronised(self, session: Session) -> None:
        """No reply can be trusted now, but a motor can be stopped: each new stop is written once, at once, and stays
        pending until the line is in step."""
        new = {
            number: request
            for number, request in self._pending.stops().items()
            if request > self._stops_unsynchronised.get(number, 0) and number <= len(self._channels)
        }
        if new:
            self._stops_unsynchronised.update(new)
            session.send_stops_unsynchronised(new)

    def _close_session(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None

    # --- What the controller answers ----------------------------------------------------------------------------------

    def _read(self, session: Session) -> None:
        data = session.read()
        if not data:
            return
        now = time.monotonic()  # not before the data was read: it may have come just then
        for received in session.received(data, now):
            if isinstance(received, Synchronised):
                self._synchronised(session, received, now)
            else:
                self._answered(session, received, now)

    def _synchronised(self, session: Session, event: Synchronised, now: float) -> None:
        if self._was_up and self._reason:
            self._reconnects += 1
        if len(self._channels) != event.channels or self._generation != event.generation:
            self._give_up_orders(session)
            self._replace_channels(event)
            session.forget_orders()
        self._generation = event.generation
        self._fans = event.fans
        self._fans_request = max(self._fans_request, self._fans_settled)
        self._was_up = True
        self._reason = ""
        self._failures = 0
        self._take_status(session, event.status, session.status_asked_s, now, trouble=True)
        # After so short a pause a move is sent again, unless a newer request is pending.
        session.send_again(now, without_moves_of=self._pending.pending_channels())

    def _replace_channels(self, event: Synchronised) -> None:
        """This is not the controller of before, if there was one: nothing that was known of its channels is true."""
        former = {channel.number: channel for channel in self._channels}
        numbers = range(1, event.channels + 1)
        self._channels = [Channel(number, event.generation, former.get(number)) for number in numbers]

    def _answered(self, session: Session, answer: Answer, now: float) -> None:
        sent, reply = answer.sent, answer.reply
        command = sent.command
        if isinstance(reply, Status):
            late, late_s = self._polling.take_reply(sent, now, later_query=session.awaits(QueryStatus))
            self._take_status(session, reply, sent.sent_s, now, trouble=late, late_s=late_s)
        elif isinstance(reply, Fans):
            self._fans = reply.on
            self._fans_request = max(self._fans_request, sent.request)
        elif isinstance(reply, Temperature):
            assert isinstance(command, Measure)
            self._temperatures[command.address] = reply.celsius
        elif isinstance(command, SwitchFans):
            self._fans_settled = max(self._fans_settled, sent.request)
        elif isinstance(command, ORDERS):
            self._channels[command.channel - 1].answered(command, sent.request, sent.sent_s)

    def _take_status(
        self, session: Session, status: Status, asked_s: float, now: float, *, trouble: bool, late_s: float = 0.0
    ) -> None:
        for channel, target, current in zip(self._channels, status.targets, status.currents):
            report = Report(
                target,
                current,
                asked_s,
                now,
                unanswered=tuple(order for order, _ in session.orders(channel.number)),
                stop_pending=self._pending.of(channel.number).stop > 0,
                trouble=trouble,
                late_s=late_s,
            )
            order = channel.status(report, self._polling.schedule.move_timeout_s)
            if isinstance(order, Stop):
                self._pending.add_stop(channel.number, channel.settled)
            elif order is not None:
                self._send(session, order, channel.settled)
                self._send(session, QueryStatus())
        self._polling.plan(self._channels, session.status_asked_s, now)

    def _poll(self, session: Session) -> None:
        if not self._polling.take_due(self._channels, session.status_asked_s, time.monotonic()):
            return
        if session.awaits(QueryStatus):
            return
        # Nothing is answered while a probe measures, so that is done where nobody waits for anything.
        idle = session.quiet and not any(
            channel.moving or self._pending.of(channel.number) for channel in self._channels
        )
        self._send(session, QueryStatus())
        if idle and self._probes and self._generation == 2:
            self._send(session, Measure(self._probes[self._next_probe]))
            self._next_probe = (self._next_probe + 1) % len(self._probes)

    def _send(self, session: Session, command: Command, request: int = 0) -> None:
        session.send(command, request, time.monotonic())

    def _refuse_pending(self) -> None:
        """Without a link a move would run at some later time, when nobody expects it. A stop is kept."""
        if not self._reason and (self._was_up or self._settings is not None):
            return  # out of step for a moment, or connecting: they stay pending until replies can be trusted
        self._fans_settled = max(self._fans_settled, self._pending.refuse(self._channels))

    # --- Snapshots for the main thread --------------------------------------------------------------------------------

    def _publish(self) -> None:
        snapshot = self._take_snapshot()
        if snapshot != self._snapshot:
            self._snapshot = snapshot
            self._notify(snapshot)

    def _take_snapshot(self) -> Snapshot:
        if self._settings is None:
            return Snapshot(attempt=self._attempt, reason=self._reason)
        link = Link.OPENING
        if self._was_up:
            link = Link.LOST if self._reason else Link.UP
        return Snapshot(
            link=link,
            attempt=self._attempt,
            port=self._settings.name,
            reason=self._reason,
            generation=self._generation,
            channels=tuple(channel.state for channel in self._channels),
            fans=self._fans,
            fans_request=self._fans_request,
            temperatures=tuple(self._temperatures.items()),
            reconnects=self._reconnects,
        )

    def _trace(self, direction: str, data: bytes) -> None:
        if self._tracing:
            self._trace_line(f"{direction} {data!r}")
