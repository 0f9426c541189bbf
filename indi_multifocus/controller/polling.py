# SPDX-License-Identifier: GPL-3.0-or-later
"""When the status is queried next, and whether the reply to that came late.

Rules of this file: no thread, no port, no clock. The poll thread is the only caller, and has one `Polling`. Times are
arguments, in seconds of one monotonic clock.
"""

from __future__ import annotations

from collections.abc import Iterable

from .channel import Channel
from .requests import Schedule
from .session import Sent

MAX_CATCH_UP_S = 0.005
"""A poll that is sent this much late, or less, counts as sent when it was due: else each would put off the next. More
would let polls follow each other without a pause after a busy moment."""

LATE_S = 0.3
"""A status that comes later than this, and later than is usual on this line, may be of a controller that has lost its
power meanwhile: the first query with it, so that this is the reply to a later one; or the query waited in a network
until the controller was back. What counts is how long the port had nothing to read, so that a busy machine, on which
this thread runs late, is not taken for that. A smaller value would make positions unverified where a network is slow
for once; a larger one would trust a controller that restarted within it.

On a serial port without a later query it is merely late: what is sent to a controller without power is lost there. And
the kernel passes on what a port receives by a work queue, which was measured to be up to 0.4 s late while others kept
the processors busy and wrote to the disk."""


class Polling:
    """The companion of the poll thread."""

    def __init__(self) -> None:
        self.schedule = Schedule()
        self._planned_by = self.schedule
        self._due_s: float | None = None
        """When to query the status; None while a reply is on its way, after which the next is planned."""
        self._polled_s = 0.0
        """When the last poll was due."""
        self._round_trip_s = 0.0
        self.over_network = False
        """A query may wait on its way to the controller."""
        self.silent_s = 0.0
        """When the port was last seen to have nothing to read."""

    def plan(self, channels: Iterable[Channel], asked_s: float, now: float) -> None:
        """The next poll: at the period, and once more just after the moment at which a channel must have arrived.
        `asked_s`: when the status was last queried."""
        schedule = self._planned_by = self.schedule
        moving = [channel for channel in channels if channel.moving]
        last_s = max(self._polled_s, asked_s - MAX_CATCH_UP_S)
        due_s = last_s + (schedule.moving_s if moving else schedule.idle_s)
        for channel in moving:
            due_s = channel.plan_poll(due_s, now, self._round_trip_s, schedule.moving_s)
        self._due_s = due_s

    def take_due(self, channels: Iterable[Channel], asked_s: float, now: float) -> bool:
        """Whether to query the status now. Then it counts as done."""
        if self._due_s is None:
            return False
        if self._planned_by is not self.schedule:
            self.plan(channels, asked_s, now)
        if now < self._due_s:
            return False
        self._polled_s = max(self._due_s, now - MAX_CATCH_UP_S)
        self._due_s = None
        return True

    def wake_s(self, query: Sent | None) -> float | None:
        """When to look again. `query`: the query of the status whose reply is on its way, if there is one."""
        late_s = self._late_after_s(query) if query is not None else None
        if late_s is not None and late_s <= self.silent_s:
            late_s = None  # that is known
        return min((moment for moment in (self._due_s, late_s) if moment is not None), default=None)

    def take_reply(self, query: Sent, now: float, *, later_query: bool) -> tuple[bool, float]:
        """The status came that this queried. Whether it is so late that it may be of a controller that lost its power
        since; and how much later it was probably taken than one whose query was sent alone.

        `later_query`: another one waits for its reply, and this may be that.
        """
        taken_s = now - query.sent_s
        late = (later_query or self.over_network) and self.silent_s >= self._late_after_s(query)
        if query.alone:
            self._round_trip_s = taken_s
        return late, max(0.0, taken_s - self._round_trip_s)

    def _late_after_s(self, query: Sent) -> float:
        return query.sent_s + max(LATE_S, 4 * self._round_trip_s)
