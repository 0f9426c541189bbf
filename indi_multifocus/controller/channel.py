# SPDX-License-Identifier: GPL-3.0-or-later
"""One channel: its orders, and what a status shows of them: moving, arrived, stalled, too late, unverified.

Rules of this file: no thread, no port, no clock. The poll thread is the only caller, and has one `Channel` for each
channel of the controller: it gets orders from it and sends them, and passes their replies and every status to it.
Times are arguments, in seconds of one monotonic clock; positions are controller steps. How a motor moves is for
`motion.py` to know.

The theory: a status is the controller's claim, and it can be wrong or be about something else.
- An order takes effect at some time between its sending and its reply. So while one has no reply neither the old nor
  the new target is a mistake, and no arrival is the end of the new move. Requests are numbered, and the state carries
  the number of the last that it reflects, so that nobody takes a status from before a move for the end of it.
- Where every order has its reply, the controller's target must be the one that was ordered last. If it is not, a
  command was garbled on the line, and the motor runs where nobody sent it.
- The target is written to EEPROM when the order comes, and a controller that lost its power takes it for the position
  of the motor (main.c, both generations). So an arrival is believed where the motor could have come so far since it
  was last seen, and nothing happened to the line meanwhile. Every other arrival is an unverified claim, and so is the
  end of a move that may have begun at such a position. These are counted in `unverified_count`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from .motion import NOMINAL_STEPS_PER_S, Motion
from .protocol import Move, Order, Stop, Zero
from .snapshot import ChannelState

STALL_POLLS = 3
STALL_S = 0.3
"""A channel is stalled when this many polls (the design says three) over this long saw it at the same position short
of its target: both, since at a short polling period three polls are less than the 16 ms of one step (generation 1). A
smaller value would take late replies on a busy machine for a stall; a larger one lets a blocked motor push longer."""

POWER_CYCLE_S = 0.15
"""No controller loses its power and answers again within this: its supply has to drain and USB to enumerate anew. A
smaller value would call moves unverified after a short disturbance; a larger one would believe a restart."""

ANY_TIME = (float("-inf"), float("inf"))


class Report(NamedTuple):
    """One channel in a status, and the circumstances of that."""

    target: int
    current: int
    asked_s: float
    received_s: float
    """The controller took the status at some time from `asked_s` to `received_s`."""
    unanswered: tuple[Order, ...] = ()
    """The channel's orders of which it is not known whether the controller has got them, oldest first."""
    stop_pending: bool = False
    """A stop is pending, and will be sent after this."""
    trouble: bool = False
    """Something happened to the line since the last status, so that the controller may have been without power."""
    late_s: float = 0.0
    """How much later it was probably taken than one whose query was sent alone: orders were sent before it."""

    @property
    def at_rest(self) -> bool:
        return self.target == self.current

    def is_under_way(self, kind: type[Order]) -> bool:
        """Whether the controller may have got an order of this kind."""
        return any(isinstance(order, kind) for order in self.unanswered)


class Channel:
    """The companion of one channel of one controller, from the moment at which the controller is known."""

    def __init__(self, number: int, generation: int, former: Channel | None = None) -> None:
        """`former`: the channel of this number of another controller, which was there before this one."""
        self.number = number
        self._motion = Motion(NOMINAL_STEPS_PER_S[generation])
        self.settled: int = former.settled if former is not None else 0
        """The last request that was answered, refused or given up: the next status reflects it."""
        self._deadline_s: float | None = None
        """When the move under way has failed, unless it has arrived."""
        self._request = 0
        self._fault = ""
        self._unverified_count: int = former._unverified_count + 1 if former is not None else 0
        # As of the last status; but the target is the second leg's as soon as that begins.
        self._target = self._current = 0
        self._then: int | None = None
        """Where the second leg of a move leads that has not begun."""
        self._unconfirmed = False
        """A move was ordered, and no status shows it yet."""
        # To verify arrivals: where it was last known to be, and when; and the targets that it may have had since, each
        # with the first and the last moment at which the controller may have got it.
        self._seen = 0
        self._seen_s: float | None = None
        self._ordered: dict[int, tuple[float, float]] = {}
        # To compare what it does with its orders.
        self._expected: int | None = None
        """The target that the controller must have; None where that is not known."""
        self._stopped = False
        """It acknowledged a stop or a zero, and no status has shown the result yet."""
        # Orders that were lost with the link, until a status shows whether they were carried out.
        self._lost_move: int | None = None
        self._lost_zero = False
        # For stalls, and for the end that does not come.
        self._progress_s = 0.0
        self._idle_polls = 0
        self._overdue_s = 0.0

    @property
    def moving(self) -> bool:
        return self._unconfirmed or self._motion.moving

    @property
    def state(self) -> ChannelState:
        return ChannelState(
            target=self._then if self._then is not None else self._target,
            current=self._current,
            moving=self.moving,
            request=self._request,
            fault=self._fault,
            unverified_count=self._unverified_count,
        )

    # --- Requests: each returns the order to send -------------------------------------------------------------

    def move(self, steps: int, via: int | None, now: float) -> Move:
        """Move to `steps`; by way of `via`, if that is given, where the second leg follows by itself."""
        self._fault = ""
        self._deadline_s = None
        self._then = None if via is None else steps
        return self._go(steps if via is None else via, now)

    def _go(self, target: int, now: float) -> Move:
        self._unconfirmed = True
        first_s, _ = self._ordered.get(target, (now, now))
        self._ordered[target] = (first_s, now)
        return Move(self.number, target)

    def zero(self) -> Zero:
        """Stop, and call this place 0."""
        self._fault = ""
        self._then = None
        return Zero(self.number)

    def stop(self, request: int) -> Stop:
        """Stop. `request` is a new one, or, where the stop is our own or is sent again, one that is settled."""
        self._then = None
        if request > self.settled:
            self._fault = ""
        elif self.moving and not self._fault:
            self._fault = "the link was lost before the result of a stop was known: the motor was stopped"
        return Stop(self.number)

    def refuse(self, request: int, why: str) -> None:
        """This request is not carried out."""
        self._request = self.settled = max(self.settled, request)
        self._fault = why

    # --- Replies to orders ---------------------------------------------------------------------------------------

    def answered(self, order: Order, request: int, sent_s: float) -> None:
        """The controller has got the order."""
        self.settled = max(self.settled, request)
        self._expected = order.target if isinstance(order, Move) else None
        self._stopped = not isinstance(order, Move)
        if isinstance(order, Zero):
            self._seen, self._seen_s, self._ordered = 0, sent_s, {}

    def link_lost(self, unanswered: Iterable[tuple[Order, int]]) -> None:
        """Whether these orders, given with their request numbers, were carried out, will be known by the next status.

        The caller sends stops again. Moves and zeros are given up: later they would come when nobody expects them.
        """
        for order, request in unanswered:
            if isinstance(order, Stop):
                continue
            self.settled = max(self.settled, request)
            if isinstance(order, Move):
                self._lost_move = order.target
                first_s, _ = self._ordered.get(order.target, ANY_TIME)
                self._ordered[order.target] = (first_s, float("inf"))
            else:
                self._lost_zero = True
        if self._unconfirmed and self._lost_move is None:
            self._lost_move = self._expected
        self._expected = None  # others may use the controller meanwhile
        if self._then is not None:
            self._fault = f"the link was lost before the move to {self._then} was complete"
            self._then = None

    # --- What a status means ------------------------------------------------------------------------------------------

    def status(self, report: Report, move_timeout_s: float | None) -> Order | None:
        """Take a status. Returns the order that follows from it: the second leg of a move, or a stop where it failed.

        `move_timeout_s`: after how long a move has failed; None: by its length.
        """
        unverified = self._is_unverified(report)
        if unverified:
            self._unverified_count += 1
            self._then = None
        self._settle_lost_orders(report)
        self._watch_progress(report)
        self._set_deadline(report, move_timeout_s)
        halted = self._stopped or unverified
        self._motion.status(
            report.asked_s, report.received_s, report.target, report.current, halted=halted, late_s=report.late_s
        )
        self._take(report)
        wrong = "" if report.unanswered else self._compare()
        if wrong:
            return self._fail(f"{wrong}, as if a command had been garbled: the motor was stopped")
        if report.at_rest:
            return self._next_leg(report.received_s)
        if self._idle_polls >= STALL_POLLS and report.received_s - self._progress_s >= STALL_S:
            return self._fail(f"stalled at {self._current} on the way to {self._target}: the motor was stopped")
        # By a status from after the deadline: where we slept ourselves, it may have arrived long ago.
        if self._deadline_s is not None and report.asked_s >= self._deadline_s:
            return self._fail(f"did not reach {self._target} in time: the motor was stopped")
        return None

    def _is_unverified(self, report: Report) -> bool:
        """Whether the motor may not be where the report claims."""
        if self._seen_s is None:
            return False
        if report.target == report.current == 0 and (self._lost_zero or report.is_under_way(Zero)):
            return False
        is_elsewhere = report.current != self._seen
        # Nobody ordered it: maybe a zero that was meant for another channel.
        if is_elsewhere and report.at_rest and not report.unanswered and self._expected not in (None, report.target):
            return True
        unseen_s = report.received_s - self._seen_s
        impossible = not self._motion.could_travel(report.current - self._seen, unseen_s)
        if not report.trouble:
            return self._motion.speed_is_measured and impossible
        return impossible or (unseen_s >= POWER_CYCLE_S and self._may_follow_a_false_arrival(report, is_elsewhere))

    def _may_follow_a_false_arrival(self, report: Report, is_elsewhere: bool) -> bool:
        """Whether the motor may never have reached the target where the controller claims it is, or went on from."""
        # Where it was not sent to it stands because of a stop, or because an order was garbled.
        stopped = self._stopped or report.stop_pending or report.is_under_way(Stop)
        arrived = report.current in self._ordered or (bool(self._ordered) and not stopped)
        if report.at_rest and is_elsewhere and arrived:
            return True
        # The way to its target, or to where it was stopped, may have begun at the end of another, which it never
        # reached: where there was time to lose power and come back between the two orders.
        on_its_way_to = self._ordered if report.at_rest and stopped else {report.target} & self._ordered.keys()
        return any(
            self._ordered[target][1] - first_s >= POWER_CYCLE_S
            for target in on_its_way_to
            for other, (first_s, _) in self._ordered.items()
            if other != target
        )

    def _settle_lost_orders(self, report: Report) -> None:
        """The link was lost before a move or zero was answered: did the controller take it?"""
        lost_move, self._lost_move = self._lost_move, None
        if lost_move is not None and lost_move != report.target:
            self._fault = f"the link was lost before the controller took the move to {lost_move}"
        lost_zero, self._lost_zero = self._lost_zero, False
        if lost_zero and not report.target == report.current == 0:
            self._fault = "the link was lost before the controller took the zero"

    def _watch_progress(self, report: Report) -> None:
        if report.at_rest:
            self._overdue_s = 0.0
        if report.at_rest or (report.target, report.current) != (self._target, self._current):
            self._progress_s, self._idle_polls = report.received_s, 0
        else:
            self._idle_polls += 1

    def _set_deadline(self, report: Report, move_timeout_s: float | None) -> None:
        if report.at_rest:
            self._deadline_s = None
        elif report.target != self._target or self._deadline_s is None:
            if move_timeout_s is None:
                move_timeout_s = self._motion.travel_time_s(report.target - report.current) * 1.5 + 10.0
            self._deadline_s = report.received_s + move_timeout_s

    def _take(self, report: Report) -> None:
        self._target, self._current = report.target, report.current
        self._seen, self._seen_s = report.current, report.asked_s
        self._request = self.settled
        targets = [order.target for order in report.unanswered if isinstance(order, Move)]
        self._unconfirmed = bool(targets)
        # What has no answer may have to be sent again.
        self._ordered = dict.fromkeys(targets, (report.asked_s, report.received_s))
        if not report.at_rest:
            self._ordered.setdefault(report.target, (report.asked_s, report.asked_s))

    def _compare(self) -> str:
        """What it does that was not ordered, where every order has its reply."""
        expected, self._expected = self._expected, self._target
        stopped, self._stopped = self._stopped, False
        if stopped and self._target != self._current:
            return f"the motor goes to {self._target} after a stop"
        if expected in (None, self._target):
            return ""
        return f"the motor goes to {self._target}, and was to go to {expected}"

    def _next_leg(self, now: float) -> Move | None:
        if self._then is None or self._unconfirmed:
            return None
        self._target, self._then = self._then, None
        return self._go(self._target, now)

    def _fail(self, fault: str) -> Stop:
        self._fault = fault
        self._then = None
        self._deadline_s = None
        self._idle_polls = 0
        # The stop goes by a number above 0, also where there was no request yet.
        self.settled = max(self.settled, 1)
        return Stop(self.number)

    # --- When to poll -----------------------------------------------------------------------------------------

    def plan_poll(self, poll_s: float, now: float, round_trip_s: float, period_s: float) -> float:
        """When to poll, in place of `poll_s`, so that the end of the move, or of its time, is seen at once."""
        if self._deadline_s is not None:
            poll_s = min(poll_s, max(now, self._deadline_s))
        arrival_s = self._motion.arrival_s()
        if arrival_s is None:
            return poll_s
        # The status is taken when the query has gone out, 2 of the some 48 bytes that a round trip carries.
        arrival_s += round_trip_s * 2 / 48 + 0.0005
        if arrival_s <= now:
            # It should be there and is not: look again soon, then less and less often.
            self._overdue_s = min(max(0.002, self._overdue_s * 2), period_s)
            return min(poll_s, now + self._overdue_s)
        # A poll that is still on the wire when the motor arrives would only be in the way.
        return arrival_s if poll_s + round_trip_s > arrival_s else poll_s
