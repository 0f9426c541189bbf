# SPDX-License-Identifier: GPL-3.0-or-later
"""The two boxes between the threads: the mailbox of requests and the inbox of news. Newest wins, nothing is lost."""

from __future__ import annotations

import select
import threading
from functools import reduce
from typing import Union

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indi_multifocus.controller.requests import ChannelRequest, Mailbox, PortSettings, Requests
from indi_multifocus.controller.snapshot import Snapshot
from indi_multifocus.inbox import MAX_TRAFFIC, Inbox, News
from indi_multifocus.settings.files import Written

Box = Union[Mailbox, Inbox]

STOP, ZERO, MOVE = ChannelRequest(stop=1), ChannelRequest(zero=2), ChannelRequest(move=3, steps=500, via=520)
SINGLE = st.integers(1, 1000).flatmap(
    lambda number: st.sampled_from(
        [ChannelRequest(stop=number), ChannelRequest(zero=number), ChannelRequest(move=number, steps=number * 10)]
    )
)


def is_awake(box: Box) -> bool:
    """Whether who sleeps on it wakes up."""
    return bool(select.select([box], [], [], 0)[0])


# What several requests come to


@pytest.mark.parametrize(
    ("first", "later", "both"),
    [
        (MOVE, ChannelRequest(move=9, steps=7), ChannelRequest(move=9, steps=7)),
        (MOVE, STOP, STOP),
        (ZERO.then(MOVE), STOP, STOP),
        (MOVE, ZERO, ZERO),
        (STOP, ZERO, ChannelRequest(stop=1, zero=2)),
        (STOP.then(ZERO), MOVE, ChannelRequest(stop=1, zero=2, move=3, steps=500, via=520)),
        (MOVE, ChannelRequest(), MOVE),
    ],
)
def test_what_a_later_request_makes_needless_is_left_out(
    first: ChannelRequest, later: ChannelRequest, both: ChannelRequest
) -> None:
    assert first.then(later) == both


@given(st.lists(SINGLE, max_size=8), st.integers(0, 8))
def test_it_does_not_matter_how_many_of_them_are_taken_at_once(requests: list[ChannelRequest], cut: int) -> None:
    def fold(some: list[ChannelRequest]) -> ChannelRequest:
        return reduce(ChannelRequest.then, some, ChannelRequest())

    whole = fold(requests)
    assert fold(requests[:cut]).then(fold(requests[cut:])) == whole
    if requests:
        assert requests[-1].only_stop() in (whole.only_stop(), ChannelRequest())
        assert whole, "the last one is always carried out"


# The mailbox


def test_a_flood_of_requests_takes_one_slot_a_channel_and_never_waits() -> None:
    mailbox = Mailbox()
    for number in range(70_000):
        mailbox.put_channel(1, ChannelRequest(move=number, steps=number))
    mailbox.put_channel(2, STOP)
    assert is_awake(mailbox)
    assert mailbox.take().channels == {1: ChannelRequest(move=69_999, steps=69_999), 2: STOP}
    while is_awake(mailbox):  # as often as it was woken up for
        assert mailbox.take() == Requests()
    mailbox.close()


def test_of_what_was_asked_of_one_controller_another_gets_the_stops() -> None:
    mailbox = Mailbox()
    mailbox.put(close=7, open=None)
    mailbox.put_channel(1, STOP)
    mailbox.put_channel(1, MOVE)
    mailbox.put_channel(2, MOVE)
    mailbox.put_open(PortSettings("/dev/other"), 7)
    mailbox.put_channel(2, ZERO)
    requests = mailbox.take()
    assert (requests.close, requests.open) == (7, (PortSettings("/dev/other"), 7))
    assert requests.channels == {1: STOP, 2: ZERO}
    mailbox.close()


def test_requests_are_numbered_upwards() -> None:
    mailbox = Mailbox()
    numbers = [mailbox.new_number() for _ in range(3)]
    assert numbers == sorted({*numbers})
    assert numbers[0] > 0
    mailbox.close()


# The inbox


def test_of_snapshots_the_newest_is_taken_of_traffic_the_last_lines_and_of_reports_all() -> None:
    inbox = Inbox()
    for number in range(MAX_TRAFFIC + 100):
        inbox.put_snapshot(Snapshot(attempt=number))
        inbox.put_traffic(f"{number}")
    reports = (Written("/a", 1), Written("/a", 2, "no room"), Written("/b", 3))
    for report in reports:
        inbox.put_written(report)
    assert is_awake(inbox)
    news = inbox.take()
    assert news.snapshot == Snapshot(attempt=MAX_TRAFFIC + 99)
    assert news.traffic == tuple(f"{number}" for number in range(100, MAX_TRAFFIC + 100))
    assert news.written == reports
    assert inbox.take() == News()
    assert not is_awake(inbox)
    inbox.close()


def test_why_a_thread_failed_is_not_replaced_by_what_follows_from_it() -> None:
    inbox = Inbox()
    inbox.put_failure("the first")
    inbox.put_failure("the second")
    assert inbox.take().failure == "the first"
    inbox.close()


# Both


@pytest.mark.parametrize("make", [Mailbox, Inbox])
def test_a_box_that_is_closed_takes_no_harm(make: type[Box]) -> None:
    box = make()
    box.close()
    box.close()
    if isinstance(box, Mailbox):
        box.put_channel(1, STOP)
    else:
        box.put_snapshot(Snapshot())


def test_who_sleeps_on_a_box_sees_the_last_of_what_another_thread_puts_in() -> None:
    for _ in range(20):
        inbox = Inbox()
        putter = threading.Thread(
            target=lambda box: [box.put_snapshot(Snapshot(attempt=n)) for n in range(500)], args=[inbox]
        )
        putter.start()
        seen = -1
        while seen < 499:
            assert select.select([inbox], [], [], 10.0)[0], f"asleep after {seen}"
            snapshot = inbox.take().snapshot
            if snapshot is not None:
                assert snapshot.attempt > seen
                seen = snapshot.attempt
        putter.join()
        inbox.close()
