# SPDX-License-Identifier: GPL-3.0-or-later
"""The poll thread: the only code that touches the serial port.

Who calls what, from which thread:
- the main thread calls the public methods of `Controller`. They never wait: they leave a wish and wake the poll thread.
- the poll thread sleeps in `select` on the port and on the wake-up pipe, until a reply, a wish or the next
  poll. It alone opens, reads, writes and closes the port, and hands what it knows to `notify` as an immutable
  `Snapshot`.

Wishes are kept a channel, not in a queue: the last target wins, a stop cancels the move that was not yet
sent, and a flood of requests takes no memory. A stop is written at once, whatever is still to be answered:
the link is full duplex, and the controller answers in order.

Every move, stop and zero has a request number. What a status means for a channel, and which request its state reflects,
is for `channel.py` to say.
"""

from __future__ import annotations

import errno
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from enum import Enum

from .channel import Channel, ChannelState, Report
from .port import Port, PortError, open_port
from .protocol import (
    ORDERS,
    Answered,
    Command,
    CommandError,
    Conversation,
    Event,
    Fans,
    Measure,
    Move,
    NotAController,
    Order,
    OutOfStep,
    QueryFans,
    QueryStatus,
    Status,
    Stop,
    SwitchFans,
    Synchronised,
    Temperature,
    Zero,
)
from .records import dataclass, field

BACK_OFF_S = (0.5, 1.0, 2.0, 4.0, 8.0, 10.0)
"""Waits between attempts to open the port again."""

IN_FLIGHT = 4
"""Lines that may wait for their replies before anything but a stop waits too: they fit a USB endpoint's 64 bytes."""

HANDSHAKE_S = 3.0
"""A controller that is there answers within this, also one in the middle of a 1 s temperature measurement."""

ASK_AGAIN_S = 1.2
"""Silence before `?` is sent anew while synchronising: longer than a temperature measurement."""

LATE_S = 0.3
"""A status that is later than this, and than what is usual on this line, may have been asked of a controller that has
been without power since: its answer to the next question passes for the one that was lost."""

MEASURE_S = 2.0
"""A temperature takes up to 1 s, in which nothing is answered; so while one is measured no silence is shorter
than this."""


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


@dataclass
class _Sent:
    """A command that has no reply yet."""

    command: Command
    request: int
    sent_s: float
    alone: bool
    """Nothing else was in flight, so that its round trip is that of the line."""


@dataclass
class _Session:
    """What belongs to one opened port."""

    port: Port
    begun_s: float
    conversation: Conversation = field(default_factory=Conversation)
    sent: deque[_Sent] = field(default_factory=deque)
    unwritten: bytearray = field(default_factory=bytearray)
    asked_s: float = 0.0
    heard_s: float = 0.0
    heard_anything: bool = False


class Controller:
    """One controller box. Everything public is for the main thread and returns at once."""

    def __init__(
        self,
        notify: Callable[[Snapshot], None],
        *,
        trace: Callable[[str], None] | None = None,
        probes: Iterable[str] = (),
    ) -> None:
        """`notify` gets each new snapshot and `trace` the traffic while `tracing` is set, both in the poll thread.

        `probes`: addresses of the temperature probes, 16 hexadecimal digits each.
        """
        self._notify = notify
        self._trace = trace
        self.tracing = False
        self._probes = tuple(probes)
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)

        # Shared between the threads, under the lock.
        self._lock = threading.Lock()
        self._number = 0
        self._wishes: dict[int, _Wishes] = {}
        self._want_open: tuple[PortSettings, int] | None = None
        self._want_close = False
        self._want_fans: tuple[bool, int] | None = None
        self._schedule = Schedule()
        self._ending = False

        # The poll thread's own.
        self._ended = False
        self._polling_schedule = self._schedule
        self._snapshot = Snapshot()
        self._settings: PortSettings | None = None
        self._session: _Session | None = None
        self._was_up = False
        self._reason = ""
        self._channels: list[Channel] = []
        self._generation: int | None = None
        self._fans: bool | None = None
        self._fans_request = self._fans_settled = 0
        """The last order for the fans which `_fans` reflects; and the last that is carried out, or never will be."""
        self._temperatures: dict[str, float | None] = {}
        self._next_probe = 0
        self._reconnects = 0
        self._attempts = 0
        self._retry_s: float | None = None
        self._poll_s: float | None = None
        self._polled_s = 0.0
        self._round_trip_s = 0.0
        self._trouble = False
        self._late = False
        self._attempt = 0
        self._redo: list[_Sent] = []

        self._thread = threading.Thread(target=self._run, name="poll", daemon=True)
        self._thread.start()

    # --- The main thread's side -------------------------------------------------------------------------------------

    def open(self, settings: PortSettings) -> int:
        """Open the link and keep it open, whatever happens to the cable, until `close()`.

        Returns the number that the snapshots of this attempt carry.
        """
        with self._lock:
            self._number += 1
            attempt = self._number
            self._want_open = (settings, attempt)
            self._wishes.clear()
        self._wake()
        return attempt

    def close(self) -> None:
        """Close the link. Stops that were asked for are still sent; moves in progress are left to finish."""
        with self._lock:
            self._want_close = True
            self._want_open = None
        self._wake()

    def move(self, channel: int, steps: int, via: int | None = None) -> int:
        """Move to `steps` (controller steps), by way of `via` where backlash is taken up. Returns the request
        number."""
        with self._lock:
            self._number += 1
            wishes = self._wishes.setdefault(channel, _Wishes())
            wishes.move, wishes.steps, wishes.via = self._number, steps, via
            number = self._number
        self._wake()
        return number

    def stop(self, channel: int) -> int:
        """Stop where it is, ahead of everything else; what was not sent yet is not sent. Returns the request number."""
        with self._lock:
            self._number += 1
            wishes = self._wishes.setdefault(channel, _Wishes())
            wishes.stop, wishes.move, wishes.zero = self._number, 0, 0
            number = self._number
        self._wake()
        return number

    def zero(self, channel: int) -> int:
        """Stop and call this place 0. Returns the request number."""
        with self._lock:
            self._number += 1
            wishes = self._wishes.setdefault(channel, _Wishes())
            wishes.zero, wishes.move = self._number, 0
            number = self._number
        self._wake()
        return number

    def switch_fans(self, on: bool) -> int:
        """Fans on or off (second generation only). Returns the request number."""
        with self._lock:
            self._number += 1
            self._want_fans = (on, self._number)
            number = self._number
        self._wake()
        return number

    def set_schedule(self, schedule: Schedule) -> None:
        """Other polling periods and move time-out, from now on."""
        with self._lock:
            self._schedule = schedule
        self._wake()

    def shutdown(self, timeout_s: float) -> bool:
        """Close the link and end the poll thread; waits for that, but no longer than `timeout_s`. Whether it ended."""
        with self._lock:
            self._ending = True
        self._wake()
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            return False
        if self._wake_write >= 0:
            write, self._wake_write = self._wake_write, -1
            os.close(write)
            os.close(self._wake_read)
        return True

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
                self._give_up(f"internal error of the driver: {error!r}")
                self._tell()

    def _turn(self) -> None:
        """Sleep until there is something to do, and do it."""
        readable = self._sleep()
        with self._lock:
            opening, self._want_open = self._want_open, None
            closing, self._want_close = self._want_close, False
            self._ended = self._ending
        if closing or opening or self._ended:
            self._hang_up()
            readable = False
        if self._ended:
            return
        if opening:
            self._begin(*opening)
        if readable:
            self._read(time.monotonic())
        self._keep_time(time.monotonic())
        self._carry_out_wishes()
        self._poll(time.monotonic())
        self._write()
        self._tell()

    def _sleep(self) -> bool:
        """Wait for the port, for a wish or for the clock. Whether there is something to read on the port."""
        session = self._session
        reading = [self._wake_read]
        writing = []
        if session is not None:
            reading.append(session.port.fileno())
            if session.unwritten:
                writing.append(session.port.fileno())
        wake_s = self._next_wake_s()
        timeout_s = None if wake_s is None else max(0.0, wake_s - time.monotonic())
        ready, _, _ = select.select(reading, writing, [], timeout_s)
        if self._wake_read in ready:
            os.read(self._wake_read, 4096)
            ready.remove(self._wake_read)
        return bool(ready)

    def _next_wake_s(self) -> float | None:
        times = [self._retry_s, self._poll_s, self._reply_deadline_s()]
        if self._session is not None and not self._session.conversation.synchronised:
            times.append(self._session.asked_s + ASK_AGAIN_S)
        return min((moment for moment in times if moment is not None), default=None)

    @property
    def _up(self) -> bool:
        return self._session is not None and self._session.conversation.synchronised

    # Opening and losing the link

    def _begin(self, settings: PortSettings, attempt: int) -> None:
        self._settings = settings
        self._attempt = attempt
        self._channels = []
        self._temperatures = {}
        self._generation = self._fans = None
        self._was_up = False
        self._reconnects = self._attempts = 0
        self._reason = ""
        self._redo = []
        self._tell()
        self._open_session()

    def _open_session(self) -> None:
        assert self._settings is not None
        self._retry_s = None
        try:
            port = open_port(self._settings.name, self._settings.baud)
        except PortError as error:
            self._give_up(str(error))
            return
        now = time.monotonic()
        self._session = _Session(port, begun_s=now, heard_s=now)
        self._synchronise(now)

    def _synchronise(self, now: float) -> None:
        session = self._session
        assert session is not None
        session.sent.clear()
        session.unwritten.clear()
        session.asked_s = self._polled_s = now
        self._poll_s = None
        self._say(session.conversation.synchronise())

    def _hang_up(self) -> None:
        """Close the port because the user wants so."""
        if self._up:
            self._carry_out_wishes(only_stops=True)
        elif self._was_up and self._session is not None:
            self._say_stops_out_of_step()
        self._write()
        self._close_session()
        self._settings = None
        self._retry_s = None
        self._was_up = False
        self._reason = ""
        self._channels = []
        with self._lock:
            if self._want_open is None:
                self._wishes.clear()
            self._want_fans = None
        self._tell()

    def _say_stops_out_of_step(self) -> None:
        """There is no time left to get into step, but a stop is not lost for that."""
        channels = {sent.command.channel for sent in self._redo if isinstance(sent.command, Stop)}
        with self._lock:
            channels |= {number for number, wishes in self._wishes.items() if wishes.stop}
        for number in sorted(channels):
            self._say(Stop(number).encode())

    def _close_session(self) -> None:
        session, self._session = self._session, None
        self._poll_s = None
        if session is not None:
            try:
                session.port.close()
            except OSError:
                pass  # the device is gone already

    def _give_up(self, reason: str) -> None:
        """This attempt failed. A link that was up once is tried again for ever, a first attempt is not."""
        session = self._session
        if session is not None:
            self._abandon(session)
        self._close_session()
        self._trouble = True
        if not self._was_up:
            self._settings = None
            self._reason = reason
            with self._lock:
                self._wishes.clear()
            return
        if not self._reason:
            self._reason = reason
        self._retry_s = time.monotonic() + BACK_OFF_S[min(self._attempts, len(BACK_OFF_S) - 1)]
        self._attempts += 1

    def _abandon(self, session: _Session) -> None:
        """The link is lost: what was not answered is unknown, until a status tells."""
        lost = [*self._redo, *session.sent]
        session.sent.clear()
        self._redo = []
        for sent in lost:
            if isinstance(sent.command, SwitchFans):
                self._fans_settled = max(self._fans_settled, sent.request)
            elif isinstance(sent.command, Stop):
                # Whatever else is lost, a stop is not: it is the first thing to be said when the link is back.
                self._wish_stop(sent.command.channel, sent.request)
        for channel in self._channels:
            orders = [(sent.command, sent.request) for sent in lost if isinstance(sent.command, ORDERS)]
            channel.link_lost([order for order in orders if order[0].channel == channel.number])

    def _stop_is_wished(self, channel: int) -> bool:
        with self._lock:
            wishes = self._wishes.get(channel)
            return wishes is not None and wishes.stop > 0

    def _wish_stop(self, channel: int, request: int) -> None:
        with self._lock:
            wishes = self._wishes.setdefault(channel, _Wishes())
            wishes.stop = max(wishes.stop, request)

    # Reading

    def _read(self, now: float) -> None:
        session = self._session
        if session is None:
            return
        try:
            data = os.read(session.port.fileno(), 4096)
        except BlockingIOError:
            return
        except OSError as error:
            self._give_up(f"lost the controller: {self._name} failed ({os.strerror(error.errno or errno.EIO)})")
            return
        if not data:
            self._give_up(f"lost the controller: {self._name} was unplugged or closed")
            return
        session.heard_s = now
        session.heard_anything = True
        self._note("<", data)
        for event in session.conversation.receive(data):
            self._handle(session, event, now)
            if self._session is not session:
                return
        more = session.conversation.more_to_send()
        if more:
            session.asked_s = now
            self._say(more)

    @property
    def _name(self) -> str:
        return self._settings.name if self._settings is not None else "the port"

    def _handle(self, session: _Session, event: Event, now: float) -> None:
        if isinstance(event, Answered):
            self._answered(session.sent.popleft(), event, now)
        elif isinstance(event, Synchronised):
            self._synchronised(event, now)
        elif isinstance(event, OutOfStep):
            self._note("!", event.reason.encode())
            self._trouble = True
            self._redo += [sent for sent in session.sent if isinstance(sent.command, (*ORDERS, SwitchFans))]
            session.begun_s = now
            self._synchronise(now)
        elif isinstance(event, NotAController):
            self._give_up(f"what answers on {self._name} is not a focus controller: {event.reason}")

    def _answered(self, sent: _Sent, event: Answered, now: float) -> None:
        command, reply = event.command, event.reply
        if isinstance(reply, Status):
            self._late = now - sent.sent_s > max(LATE_S, 4 * self._round_trip_s)
            if sent.alone:
                self._round_trip_s = now - sent.sent_s
            self._status(reply, sent.sent_s, now)
        elif isinstance(reply, Fans):
            self._fans = reply.on
            self._fans_request = max(self._fans_request, sent.request)
        elif isinstance(reply, Temperature):
            assert isinstance(command, Measure)
            self._temperatures[command.address] = reply.celsius
        elif isinstance(command, ORDERS):
            self._channels[command.channel - 1].answered(command, sent.request, sent.sent_s)
        elif isinstance(command, SwitchFans):
            self._fans_settled = max(self._fans_settled, sent.request)

    def _synchronised(self, event: Synchronised, now: float) -> None:
        if self._was_up and self._reason:
            self._reconnects += 1
        if len(self._channels) != event.channels or self._generation != event.generation:
            self._exchange(event)
        self._generation = event.generation
        self._fans = event.fans
        self._fans_request = max(self._fans_request, self._fans_settled)
        self._was_up = True
        self._reason = ""
        self._attempts = 0
        session = self._session
        assert session is not None
        self._status(event.status, session.asked_s, now)
        self._trouble = False
        redo, self._redo = self._redo, []
        with self._lock:
            replaced = [number for number, wishes in self._wishes.items() if wishes.stop or wishes.zero or wishes.move]
        for sent in _last_of_each_channel(redo):
            # Every command names its end, not a way, so it may be said twice; after this short a pause it is
            # still wanted, unless the user thought better of it.
            if not (isinstance(sent.command, Move) and sent.command.channel in replaced):
                self._send(sent.command, sent.request)
            if isinstance(sent.command, SwitchFans):
                self._send(QueryFans(), sent.request)
        if redo:
            self._send(QueryStatus())

    def _exchange(self, event: Synchronised) -> None:
        """This is not the controller of before, if there was one: nothing that was known of its channels is true."""
        former = {channel.number: channel for channel in self._channels}
        numbers = range(1, event.channels + 1)
        self._channels = [Channel(number, event.generation, former.get(number)) for number in numbers]
        self._redo = []

    # What a status means

    def _status(self, status: Status, asked_s: float, now: float) -> None:
        for channel, target, current in zip(self._channels, status.targets, status.currents):
            report = Report(
                target,
                current,
                asked_s,
                now,
                unanswered=tuple(order for order, _ in self._unanswered(channel)),
                stop_waits=self._stop_is_wished(channel.number),
                trouble=self._trouble or self._late,
            )
            order = channel.status(report, self._schedule.move_timeout_s)
            if isinstance(order, Stop):
                self._wish_stop(channel.number, channel.settled)
            elif order is not None:
                self._send(order, channel.settled)
                self._send(QueryStatus())
        self._plan_poll(now)

    def _unanswered(self, channel: Channel) -> list[tuple[Order, _Sent]]:
        """The channel's orders of which it is not known whether the controller has got them."""
        waiting = [*self._redo, *self._session.sent] if self._session is not None else self._redo
        orders = [(sent.command, sent) for sent in waiting if isinstance(sent.command, ORDERS)]
        return [(order, sent) for order, sent in orders if order.channel == channel.number]

    # When to ask next

    def _plan_poll(self, now: float) -> None:
        """The next poll: at the period, and once more just after the moment at which a channel must have arrived."""
        moving = [channel for channel in self._channels if channel.moving]
        if not moving:
            self._poll_s = self._polled_s + self._schedule.idle_s
            return
        poll_s = self._polled_s + self._schedule.moving_s
        for channel in moving:
            poll_s = channel.plan_poll(poll_s, now, self._round_trip_s, self._schedule.moving_s)
        self._poll_s = poll_s

    def _keep_time(self, now: float) -> None:
        """Whatever is due by the clock alone."""
        if self._retry_s is not None and now >= self._retry_s:
            self._open_session()
        session = self._session
        if session is None:
            return
        if not session.conversation.synchronised:
            self._keep_synchronising(session, now)
            return
        deadline_s = self._reply_deadline_s()
        if deadline_s is not None and now >= deadline_s:
            self._give_up(f"the controller on {self._name} does not answer")

    def _keep_synchronising(self, session: _Session, now: float) -> None:
        assert self._settings is not None
        limit_s = max(HANDSHAKE_S, self._settings.reply_timeout_s if self._was_up else 0.0)
        if now >= session.begun_s + limit_s:
            if session.heard_anything:
                self._give_up(f"what answers on {self._name} makes no sense: is it the focus controller?")
            else:
                self._give_up(
                    f"nothing answers on {self._name}: is it the focus controller, does it have power, "
                    "and does no other program read from it?"
                )
        elif now >= session.asked_s + ASK_AGAIN_S:
            self._synchronise(now)

    def _reply_deadline_s(self) -> float | None:
        session = self._session
        if session is None or self._settings is None:
            return None
        if not session.conversation.synchronised:
            return session.begun_s + max(HANDSHAKE_S, self._settings.reply_timeout_s if self._was_up else 0.0)
        if not session.sent:
            return None
        timeout_s = self._settings.reply_timeout_s
        if any(isinstance(sent.command, Measure) for sent in session.sent):
            timeout_s = max(timeout_s, MEASURE_S)
        return max(session.sent[0].sent_s, session.heard_s) + timeout_s

    # Writing

    def _carry_out_wishes(self, only_stops: bool = False) -> None:
        with self._lock:
            schedule_changed, self._polling_schedule = self._polling_schedule is not self._schedule, self._schedule
        if schedule_changed and self._up and self._poll_s is not None:
            self._plan_poll(time.monotonic())
        if self._session is None or not self._up:
            self._refuse_wishes()
            return
        told = False
        for channel in self._channels:
            told |= self._carry_out_stop(channel)
        if not only_stops:
            for channel in self._channels:
                told |= self._carry_out_rest(channel)
            self._carry_out_fans()
        if told:
            self._send(QueryStatus())

    def _carry_out_stop(self, channel: Channel) -> bool:
        with self._lock:
            wishes = self._wishes.get(channel.number)
            if wishes is None or not wishes.stop:
                return False
            request, wishes.stop = wishes.stop, 0
        stop = channel.stop(request)
        last = self._last_in_flight(channel)
        if last is not None and isinstance(last.command, Stop):
            last.request = max(last.request, request)  # the one that is on its way serves both
            return False
        self._send(stop, request)
        return True

    def _last_in_flight(self, channel: Channel) -> _Sent | None:
        unanswered = self._unanswered(channel)
        return unanswered[-1][1] if unanswered else None

    def _carry_out_rest(self, channel: Channel) -> bool:
        assert self._session is not None
        with self._lock:
            wishes = self._wishes.get(channel.number)
            if wishes is None or not (wishes.zero or wishes.move) or len(self._session.sent) >= IN_FLIGHT:
                return False
            last = self._last_in_flight(channel)
            zeroing = bool(wishes.zero) or (last is not None and isinstance(last.command, Zero))
            if zeroing and not wishes.zero:
                return False
            # A move waits until the zero before it is answered: were that said again, in doubt whether it had been
            # carried out, it would shift the scale under the move.
            wish = _Wishes(zero=wishes.zero, move=0 if zeroing else wishes.move, steps=wishes.steps, via=wishes.via)
            wishes.zero, wishes.move = 0, wishes.move if zeroing else 0
        if wish.zero:
            self._send(channel.zero(), wish.zero)
        else:
            self._start_move(channel, wish)
        return True

    def _start_move(self, channel: Channel, wish: _Wishes) -> None:
        assert self._session is not None
        try:
            for steps in (wish.steps, wish.via):
                if steps is not None:
                    self._session.conversation.check(Move(channel.number, steps))
        except CommandError as error:
            channel.refuse(wish.move, str(error))
        else:
            self._send(channel.move(wish.steps, wish.via), wish.move)

    def _carry_out_fans(self) -> None:
        assert self._session is not None
        with self._lock:
            if len(self._session.sent) >= IN_FLIGHT:
                return
            fans, self._want_fans = self._want_fans, None
        if fans is not None and self._generation == 2:
            on, request = fans
            self._send(SwitchFans(on), request)
            self._send(QueryFans(), request)

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

    def _poll(self, now: float) -> None:
        session = self._session
        if session is None or not self._up or self._poll_s is None or now < self._poll_s:
            return
        if any(isinstance(sent.command, QueryStatus) for sent in session.sent):
            self._poll_s = None  # its reply plans the next one
            return
        self._send(QueryStatus())
        self._poll_s = None
        at_rest = not any(channel.moving for channel in self._channels)
        if self._generation == 2 and self._probes and at_rest and len(session.sent) == 1 and not self._wished():
            self._send(Measure(self._probes[self._next_probe]))
            self._next_probe = (self._next_probe + 1) % len(self._probes)

    def _wished(self) -> bool:
        with self._lock:
            return any(wishes.stop or wishes.zero or wishes.move for wishes in self._wishes.values())

    def _send(self, command: Command, request: int = 0) -> None:
        session = self._session
        assert session is not None
        now = time.monotonic()
        if not session.conversation.synchronised:
            # A later line of the same read did not fit: this is said when replies can be believed again.
            self._redo.append(_Sent(command, request, now, alone=False))
            return
        self._say(session.conversation.send(command))
        session.sent.append(_Sent(command, request, now, alone=not session.sent))
        if isinstance(command, QueryStatus):
            self._polled_s = now

    def _say(self, data: bytes) -> None:
        assert self._session is not None
        self._note(">", data)
        self._session.unwritten += data

    def _write(self) -> None:
        session = self._session
        if session is None or not session.unwritten:
            return
        try:
            written = os.write(session.port.fileno(), session.unwritten)
        except BlockingIOError:
            return
        except OSError as error:
            self._give_up(f"lost the controller: {self._name} failed ({os.strerror(error.errno or errno.EIO)})")
            return
        del session.unwritten[:written]

    # Telling

    def _tell(self) -> None:
        snapshot = self._take_snapshot()
        if snapshot != self._snapshot:
            self._snapshot = snapshot
            self._notify(snapshot)

    def _take_snapshot(self) -> Snapshot:
        if self._settings is None:
            link = Link.CLOSED
        elif self._was_up:
            link = Link.LOST if self._reason else Link.UP
        else:
            link = Link.OPENING
        if link is Link.CLOSED:
            return Snapshot(attempt=self._attempt, reason=self._reason)
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


def _last_of_each_channel(commands: Iterable[_Sent]) -> list[_Sent]:
    """Without the moves, stops and zeros that a later one of the same channel replaced.

    Said again they could do harm: a move to a place of the old scale, after the zero that followed it was carried out.
    """
    last: dict[object, _Sent] = {}
    for sent in commands:
        key = getattr(sent.command, "channel", type(sent.command))
        last.pop(key, None)
        last[key] = sent
    return list(last.values())
