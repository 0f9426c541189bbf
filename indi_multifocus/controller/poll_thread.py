# SPDX-License-Identifier: GPL-3.0-or-later
"""The poll thread: it keeps the link to the controller, carries out what is wanted, and asks in time how things stand.

Who calls what, from which thread:
- the driver, called the main thread here (it has two threads, of which one works at a time), calls the public methods
  of `Controller`. They never wait: they leave a wish, and unless the poll thread has its turn just then, send what
  follows from it; the poll thread then is woken to see to the rest. What is known to be wished before it can be said
  in full is written even sooner, by `say_stop_ahead` and `say_move_ahead`.
- the poll thread sleeps in `select` on the port and on the wake-up pipe, until a reply, a wish or the next poll. It
  alone opens the port, reads it and closes it, and hands what it knows to `notify` as an immutable `Snapshot`.
- whoever works the `Session` on the port (`session.py`: bytes, answers, what is said again) or the `Channel`s
  (`channel.py`: what a status means) holds `_turning`, which the main thread never waits for.

Wishes are kept a channel, not in a queue: the last target wins, a stop cancels the move that was not yet
sent, and a flood of requests takes no memory. A stop is written at once, whatever is still to be answered:
the link is full duplex, and the controller answers in order.

Every move, stop and zero has a request number, by which a channel's state tells what it reflects.
"""

from __future__ import annotations

import _thread
import os
import select
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from .channel import Channel, ChannelState, Report
from .port import PortError, open_port
from .protocol import (
    ORDERS,
    Command,
    CommandError,
    Fans,
    Measure,
    Move,
    QueryFans,
    QueryStatus,
    Status,
    Stop,
    SwitchFans,
    Synchronised,
    Temperature,
    Zero,
    max_steps,
    move_line,
    stop_line,
)
from .session import Answer, LinkLost, Session

if TYPE_CHECKING:
    import threading

BACK_OFF_S = (0.5, 1.0, 2.0, 4.0, 8.0, 10.0)
"""Waits between attempts to open the port again."""

BEHIND_S = 0.005
"""A poll that is sent this much late, or less, counts as sent when it was due: else each would put off the next."""

LATE_S = 0.3
"""A status that is later than this, and than what is usual on this line, may have been asked of a controller that has
been without power since: its answer to the next question passes for the one that was lost."""


class Link(Enum):
    """The state of the serial link."""

    CLOSED = "closed"
    OPENING = "opening"
    UP = "up"
    LOST = "lost"


@dataclass(frozen=True)
class PortSettings:
    """What to open, and how long a reply may take (seconds)."""

    name: str
    baud: int = 9600
    reply_timeout_s: float = 5.0


@dataclass(frozen=True)
class Schedule:
    """How often to ask, in seconds between polls; and after how long a move has failed (None: by its length)."""

    moving_s: float = 0.1
    idle_s: float = 5.0
    move_timeout_s: float | None = None


@dataclass(frozen=True)
class Snapshot:
    """All that is known of the controller at one moment. Channel 1 is `channels[0]`."""

    link: Link = Link.CLOSED
    attempt: int = 0
    """Which `Controller.open()` this belongs to."""
    reason: str = ""
    """Why the link is CLOSED after an attempt to open it, or LOST; for people."""
    generation: int | None = None
    channels: tuple[ChannelState, ...] = ()
    fans: bool | None = None
    fans_request: int = 0
    """Number of the last order for the fans which `fans` reflects."""
    temperatures: tuple[tuple[str, float | None], ...] = ()
    """(probe address, °C or None where the probe does not answer), for the probes that were asked."""
    reconnects: int = 0


@dataclass
class _Wishes:
    """What the main thread wants of one channel; guarded by the controller's lock."""

    stop: int = 0
    zero: int = 0
    move: int = 0
    steps: int = 0
    via: int | None = None

    @property
    def anything(self) -> bool:
        return bool(self.stop or self.zero or self.move)


class Controller:
    """One controller box. Everything public is for the main thread and returns at once."""

    def __init__(
        self,
        notify: Callable[[Snapshot], None],
        *,
        trace: Callable[[str], None] | None = None,
        probes: Iterable[str] = (),
    ) -> None:
        """`notify` gets each new snapshot, in the poll thread. `trace` gets the traffic while `tracing` is set, in
        whichever thread reads or writes it.

        `probes`: addresses of the temperature probes, 16 hexadecimal digits each.
        """
        self._notify = notify
        self._trace = trace
        self.tracing = False
        self._probes = tuple(probes)
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)

        self._number = 0
        """Of the last request; the main thread's own."""

        # Shared between the threads, under the lock.
        self._lock = _thread.allocate_lock()
        self._wishes: dict[int, _Wishes] = {}
        self._want_open: tuple[PortSettings, int] | None = None
        self._want_close = False
        self._want_fans: tuple[bool, int] | None = None
        self._want_schedule = Schedule()
        self._ending = False

        # Whoever has its turn holds `_turning`: all that follows is that one's own.
        self._turning = _thread.allocate_lock()
        self._is_ahead = False
        """The main thread has its turn, from the moment it wrote a line ahead until the order that belongs to it."""
        self._ended = False
        self._schedule = self._want_schedule
        self._snapshot = Snapshot()
        self._attempt = 0
        self._settings: PortSettings | None = None
        """What is to be open; None when nothing is."""
        self._session: Session | None = None
        self._was_up = False
        """This attempt has found a controller, so that it is looked for until it is back."""
        self._reason = ""
        self._retry_s: float | None = None
        self._failures = 0
        """Attempts to get the link back that failed, since it was lost."""
        self._reconnects = 0
        self._poll_s: float | None = None
        """When to ask for a status; None while one is on its way, whose coming plans the next."""
        self._polled_s = 0.0
        """When the last poll was due."""
        self._planned_by = self._schedule
        self._round_trip_s = 0.0
        self._channels: list[Channel] = []
        self._generation: int | None = None
        self._fans: bool | None = None
        self._fans_request = self._fans_settled = 0
        """The last order for the fans which `_fans` reflects; and the last that is carried out, or never will be."""
        self._temperatures: dict[str, float | None] = {}
        self._next_probe = 0

        self._thread: threading.Thread | None = None
        """From the first `open` on: until then there is nothing to do, and it delays the first definition."""

    # --- The main thread's side -------------------------------------------------------------------------------------

    def open(self, settings: PortSettings) -> int:
        """Open the link and keep it open, whatever happens to the cable, until `close()`.

        Returns the number that the snapshots of this attempt carry.
        """
        attempt = self._new_number()
        with self._lock:
            self._want_open = (settings, attempt)
            self._wishes.clear()
        if self._thread is None:
            self._start()
        self._wake()
        return attempt

    def _start(self) -> None:
        import threading

        self._thread = threading.Thread(target=self._run, name="poll", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Close the link. Stops that were asked for are still sent; moves in progress are left to finish."""
        with self._lock:
            self._want_close = True
            self._want_open = None
        self._wake()

    def move(self, channel: int, steps: int, via: int | None = None) -> int:
        """Move to `steps` (controller steps), by way of `via` where backlash is taken up. Returns the request
        number."""
        number = self._new_number()
        with self._lock:
            wishes = self._wishes.setdefault(channel, _Wishes())
            wishes.move, wishes.steps, wishes.via = number, steps, via
        self._say_at_once(channel)
        return number

    def stop(self, channel: int) -> int:
        """Stop where it is, ahead of everything else; what was not sent yet is not sent. Returns the request number."""
        number = self._new_number()
        with self._lock:
            wishes = self._wishes.setdefault(channel, _Wishes())
            wishes.stop, wishes.move, wishes.zero = number, 0, 0
        self._say_at_once(channel)
        return number

    def say_stop_ahead(self, channel: int) -> None:
        """Write the stop that the next call orders, which is `stop` of this channel; or do nothing."""
        if not self._turning.acquire(False):
            return
        session = self._session
        self._is_ahead = (
            session is not None
            and channel <= len(self._channels)
            and session.say_ahead(stop_line(channel), alone=False)
        )
        if not self._is_ahead:
            self._turning.release()

    def say_move_ahead(self, channel: int, steps: int) -> None:
        """Write the move that the next call orders, which is `move` of this channel to `steps`; or do nothing."""
        if not self._turning.acquire(False):
            return
        session, wishes = self._session, self._wishes.get(channel)
        limit = max_steps(self._generation)
        self._is_ahead = (
            session is not None
            and channel <= len(self._channels)
            and -limit <= steps <= limit
            and (wishes is None or not (wishes.stop or wishes.zero))
            and session.say_ahead(move_line(channel, steps), alone=True)
        )
        if not self._is_ahead:
            self._turning.release()

    def end_ahead(self) -> None:
        """The order that was to follow has been given. If it was not, what was written was a mistake, and is treated as
        noise on the line is.
        """
        if self._is_ahead:
            self._give_turn_back()

    def _give_turn_back(self) -> None:
        self._is_ahead = False
        if self._session is not None:
            self._session.forget_ahead()
        self._turning.release()

    def zero(self, channel: int) -> int:
        """Stop and call this place 0. Returns the request number."""
        number = self._new_number()
        with self._lock:
            wishes = self._wishes.setdefault(channel, _Wishes())
            wishes.zero, wishes.move = number, 0
        self._wake()
        return number

    def switch_fans(self, on: bool) -> int:
        """Fans on or off (second generation only). Returns the request number."""
        number = self._new_number()
        with self._lock:
            self._want_fans = (on, number)
        self._wake()
        return number

    def set_schedule(self, schedule: Schedule) -> None:
        """Other polling periods and move time-out, from now on."""
        with self._lock:
            self._want_schedule = schedule
        self._wake()

    def shutdown(self, timeout_s: float) -> bool:
        """Close the link and end the poll thread; waits for that, but no longer than `timeout_s`. Whether it ended."""
        with self._lock:
            self._ending = True
        self._wake()
        if self._thread is not None:
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                return False
        if self._wake_write >= 0:
            write, self._wake_write = self._wake_write, -1
            os.close(write)
            os.close(self._wake_read)
        return True

    def _new_number(self) -> int:
        self._number += 1
        return self._number

    def _say_at_once(self, channel: int) -> None:
        """Carry out what is wanted of this channel in the caller's thread, unless the poll thread has its turn: then
        that does it.

        An order is on the wire a tenth of a millisecond sooner than by waking the other thread first.
        """
        if self._is_ahead or self._turning.acquire(False):
            try:
                session = self._session
                if session is not None and session.up:
                    self._carry_out_wishes(session, self._channels[channel - 1 : channel])
                    session.write()
            except LinkLost:
                pass  # the poll thread finds that, too
            finally:
                self._give_turn_back()
        self._wake()

    def _wake(self) -> None:
        try:
            os.write(self._wake_write, b"!")
        except OSError:
            pass  # it has enough to wake up for, or has ended

    # --- The poll thread --------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._ended:
            try:
                self._turn()
            except Exception as error:  # a bug of ours must not leave a channel moving with nobody watching
                import traceback

                traceback.print_exc()
                with self._turning:
                    self._lose_link(f"internal error of the driver: {error!r}")
                    self._tell()

    def _turn(self) -> None:
        """Sleep until there is something to do, and do it."""
        readable = self._sleep()
        with self._turning:
            self._do_what_is_due(readable)

    def _do_what_is_due(self, readable: bool) -> None:
        """Close and open as the user wants, serve the open port, and tell. `readable`: there is something to read."""
        with self._lock:
            opening, self._want_open = self._want_open, None
            closing, self._want_close = self._want_close, False
            self._schedule = self._want_schedule
            self._ended = self._ending
        if closing or opening or self._ended:
            self._hang_up()
            readable = False
        if self._ended:
            return
        try:
            if opening:
                self._begin(*opening)
            self._serve(readable)
        except LinkLost as lost:
            self._lose_link(str(lost))
        if not self._up:
            self._refuse_wishes()
        self._tell()

    def _sleep(self) -> bool:
        """Wait for the port, for a wish or for the clock. Whether there is something to read on the port."""
        with self._turning:
            reading, writing, timeout_s = self._to_wait_for(time.monotonic())
        ready, _, _ = select.select([self._wake_read, *reading], writing, [], timeout_s)
        if self._wake_read in ready:
            os.read(self._wake_read, 4096)
            ready.remove(self._wake_read)
        return bool(ready)

    def _to_wait_for(self, now: float) -> tuple[list[int], list[int], float | None]:
        """What to read, what to write, and for how long; whoever changes that meanwhile wakes the poll thread."""
        times = [self._retry_s]
        reading, writing = [], []
        session = self._session
        if session is not None:
            times.append(session.wake_s())
            if now < session.listen_s:
                times.append(session.listen_s)
            else:
                reading.append(session.fileno())
            if session.unwritten:
                writing.append(session.fileno())
            if session.up:
                times.append(self._poll_s)
        wake_s = min((moment for moment in times if moment is not None), default=None)
        return reading, writing, None if wake_s is None else max(0.0, wake_s - now)

    def _serve(self, readable: bool) -> None:
        """Whatever is due while the link is to be kept open. Raises LinkLost."""
        if self._session is not None and readable:
            self._read(self._session)
        if self._retry_s is not None and time.monotonic() >= self._retry_s:
            self._open_session()
        session = self._session
        if session is None:
            return
        session.keep_time(time.monotonic())
        if session.up:
            self._carry_out_wishes(session, self._channels)
            self._poll(session)
        session.write()

    @property
    def _up(self) -> bool:
        return self._session is not None and self._session.up

    # --- Opening, losing and closing the link -------------------------------------------------------------------------

    def _begin(self, settings: PortSettings, attempt: int) -> None:
        self._settings = settings
        self._attempt = attempt
        self._tell()
        self._open_session()

    def _open_session(self) -> None:
        """Open the port, and begin to get into step. Raises LinkLost."""
        settings = self._settings
        assert settings is not None
        self._retry_s = None
        try:
            port = open_port(settings.name, settings.baud)
        except PortError as error:
            raise LinkLost(str(error)) from None
        now = time.monotonic()
        self._session = Session(port, settings.name, settings.reply_timeout_s, self._note, now, known=self._was_up)

    def _lose_link(self, reason: str) -> None:
        """A link that was up once is tried again for ever, a first attempt is not."""
        if self._session is not None:
            self._give_up_orders(self._session)
        self._close_session()
        if not self._was_up:
            self._settings = None
            self._reason = reason
            with self._lock:
                self._wishes.clear()
            return
        if not self._reason:  # the first says more than that the port is not back yet
            self._reason = reason
        self._retry_s = time.monotonic() + BACK_OFF_S[min(self._failures, len(BACK_OFF_S) - 1)]
        self._failures += 1

    def _give_up_orders(self, session: Session) -> None:
        for sent in session.unanswered():
            if isinstance(sent.command, SwitchFans):
                self._fans_settled = max(self._fans_settled, sent.request)
            elif isinstance(sent.command, Stop):
                # Whatever else is lost, a stop is not: it is the first thing to be said when the link is back.
                self._wish_stop(sent.command.channel, sent.request)
        for channel in self._channels:
            channel.link_lost(session.orders(channel.number))

    def _hang_up(self) -> None:
        """Close the port because the user wants so, or before another is opened."""
        if self._session is not None:
            try:
                self._say_last_stops(self._session)
            except LinkLost:
                pass  # nobody is there to be stopped
        self._close_session()
        self._settings = None
        self._retry_s = None
        self._was_up = False
        self._reason = ""
        self._reconnects = self._failures = 0
        self._channels = []
        self._generation = self._fans = None
        self._temperatures = {}
        with self._lock:
            if self._want_open is None:
                self._wishes.clear()
            self._want_fans = None
        self._tell()

    def _say_last_stops(self, session: Session) -> None:
        if session.up:
            for channel in self._channels:
                self._carry_out_stop(session, channel)
        elif self._was_up:
            with self._lock:
                session.say_stops([number for number, wishes in self._wishes.items() if wishes.stop])
        session.write()

    def _close_session(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None

    # --- What the controller says -------------------------------------------------------------------------------------

    def _read(self, session: Session) -> None:
        now = time.monotonic()
        for heard in session.read(now):
            if isinstance(heard, Synchronised):
                self._synchronised(session, heard, now)
            else:
                self._answered(session, heard, now)

    def _synchronised(self, session: Session, event: Synchronised, now: float) -> None:
        if self._was_up and self._reason:
            self._reconnects += 1
        if len(self._channels) != event.channels or self._generation != event.generation:
            self._exchange(event)
            session.forget_orders()
        self._generation = event.generation
        self._fans = event.fans
        self._fans_request = max(self._fans_request, self._fans_settled)
        self._was_up = True
        self._reason = ""
        self._failures = 0
        self._status(session, event.status, session.status_asked_s, now, trouble=True)
        with self._lock:
            # After so short a pause a move is still wanted, unless the user thought better of it.
            replaced = [number for number, wishes in self._wishes.items() if wishes.anything]
        session.send_again(now, without_moves_of=replaced)

    def _exchange(self, event: Synchronised) -> None:
        """This is not the controller of before, if there was one: nothing that was known of its channels is true."""
        former = {channel.number: channel for channel in self._channels}
        numbers = range(1, event.channels + 1)
        self._channels = [Channel(number, event.generation, former.get(number)) for number in numbers]

    def _answered(self, session: Session, answer: Answer, now: float) -> None:
        sent, reply = answer.sent, answer.reply
        command = sent.command
        if isinstance(reply, Status):
            taken_s = now - sent.sent_s
            late = taken_s > max(LATE_S, 4 * self._round_trip_s)
            if sent.alone:
                self._round_trip_s = taken_s
            self._status(session, reply, sent.sent_s, now, trouble=late, late_s=max(0.0, taken_s - self._round_trip_s))
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

    def _status(
        self, session: Session, status: Status, asked_s: float, now: float, *, trouble: bool, late_s: float = 0.0
    ) -> None:
        for channel, target, current in zip(self._channels, status.targets, status.currents):
            report = Report(
                target,
                current,
                asked_s,
                now,
                unanswered=tuple(order for order, _ in session.orders(channel.number)),
                stop_waits=self._stop_is_wished(channel.number),
                trouble=trouble,
                late_s=late_s,
            )
            order = channel.status(report, self._schedule.move_timeout_s)
            if isinstance(order, Stop):
                self._wish_stop(channel.number, channel.settled)
            elif order is not None:
                self._send(session, order, channel.settled)
                self._send(session, QueryStatus())
        self._plan_poll(session, now)

    # --- When to ask --------------------------------------------------------------------------------------------------

    def _plan_poll(self, session: Session, now: float) -> None:
        """The next poll: at the period, and once more just after the moment at which a channel must have arrived."""
        schedule = self._planned_by = self._schedule
        moving = [channel for channel in self._channels if channel.moving]
        asked_s = max(self._polled_s, session.status_asked_s - BEHIND_S)
        poll_s = asked_s + (schedule.moving_s if moving else schedule.idle_s)
        for channel in moving:
            poll_s = channel.plan_poll(poll_s, now, self._round_trip_s, schedule.moving_s)
        self._poll_s = poll_s

    def _poll(self, session: Session) -> None:
        if self._poll_s is None:
            return
        now = time.monotonic()
        if self._planned_by is not self._schedule:
            self._plan_poll(session, now)
        due_s = self._poll_s
        if now < due_s:
            return
        self._poll_s = None
        if session.awaits(QueryStatus):
            return
        # Nothing is answered while a probe measures, so that is done where nobody waits for anything.
        idle = session.quiet and not any(channel.moving for channel in self._channels) and not self._wished()
        self._send(session, QueryStatus())
        self._polled_s = max(due_s, now - BEHIND_S)
        if idle and self._probes and self._generation == 2:
            self._send(session, Measure(self._probes[self._next_probe]))
            self._next_probe = (self._next_probe + 1) % len(self._probes)

    # --- What the user wants ------------------------------------------------------------------------------------------

    def _carry_out_wishes(self, session: Session, channels: Sequence[Channel]) -> None:
        """Stops first, whatever is still to be answered."""
        told = [self._carry_out_stop(session, channel) for channel in channels]
        told += [self._carry_out_order(session, channel) for channel in channels]
        self._carry_out_fans(session)
        if any(told):
            self._send(session, QueryStatus())

    def _carry_out_stop(self, session: Session, channel: Channel) -> bool:
        """Whether there was something to send."""
        with self._lock:
            wishes = self._wishes.get(channel.number)
            if wishes is None or not wishes.stop:
                return False
            request, wishes.stop = wishes.stop, 0
        stop = channel.stop(request)
        if session.join_stop(channel.number, request):
            return False
        self._send(session, stop, request)
        return True

    def _carry_out_order(self, session: Session, channel: Channel) -> bool:
        """Send the zero or the move that is wanted. Whether there was one, and it could be sent."""
        if session.full:
            return False
        # A move waits until the zero before it is answered: were that said again, in doubt whether it had been
        # carried out, it would shift the scale under the move.
        zeroing = any(isinstance(order, Zero) for order, _ in session.orders(channel.number))
        with self._lock:
            wishes = self._wishes.get(channel.number)
            if wishes is None:
                return False
            zero, wishes.zero = wishes.zero, 0
            move = 0 if zero or zeroing else wishes.move
            if move:
                wishes.move = 0
            steps, via = wishes.steps, wishes.via
        if zero:
            self._send(session, channel.zero(), zero)
        elif move:
            return self._start_move(session, channel, move, steps, via)
        return zero > 0

    def _start_move(self, session: Session, channel: Channel, request: int, steps: int, via: int | None) -> bool:
        try:
            for target in (steps, via):
                if target is not None:
                    session.check(Move(channel.number, target))
        except CommandError as error:
            channel.refuse(request, str(error))
            return False
        self._send(session, channel.move(steps, via, time.monotonic()), request)
        return True

    def _carry_out_fans(self, session: Session) -> None:
        if session.full:
            return
        with self._lock:
            fans, self._want_fans = self._want_fans, None
        if fans is not None and self._generation == 2:
            on, request = fans
            self._send(session, SwitchFans(on), request)
            self._send(session, QueryFans(), request)

    def _refuse_wishes(self) -> None:
        """Without a link a move would run at some later time, when nobody expects it. A stop is kept."""
        if not self._reason and self._was_up:
            return  # out of step for a moment: it is wanted as soon as replies can be believed
        with self._lock:
            if self._want_fans is not None:
                self._fans_settled = self._want_fans[1]
            self._want_fans = None
            for number, wishes in self._wishes.items():
                request = max(wishes.move, wishes.zero)
                wishes.move = wishes.zero = 0
                if request and number <= len(self._channels):
                    why = "the controller does not answer now, so this was not carried out"
                    self._channels[number - 1].refuse(request, why)

    def _wish_stop(self, channel: int, request: int) -> None:
        """As `stop`, but for ourselves."""
        with self._lock:
            wishes = self._wishes.setdefault(channel, _Wishes())
            wishes.stop = max(wishes.stop, request)

    def _stop_is_wished(self, channel: int) -> bool:
        with self._lock:
            wishes = self._wishes.get(channel)
            return wishes is not None and wishes.stop > 0

    def _wished(self) -> bool:
        with self._lock:
            return any(wishes.anything for wishes in self._wishes.values())

    def _send(self, session: Session, command: Command, request: int = 0) -> None:
        session.send(command, request, time.monotonic())

    # --- Telling ------------------------------------------------------------------------------------------------------

    def _tell(self) -> None:
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
            reason=self._reason,
            generation=self._generation,
            channels=tuple(channel.state for channel in self._channels),
            fans=self._fans,
            fans_request=self._fans_request,
            temperatures=tuple(self._temperatures.items()),
            reconnects=self._reconnects,
        )

    def _note(self, direction: str, data: bytes) -> None:
        if self.tracing and self._trace is not None:
            self._trace(f"{direction} {data!r}")
