# SPDX-License-Identifier: GPL-3.0-or-later
"""What a status means for a channel: given orders, their answers, and statuses with times, the states that follow.

What a motor really does is asked of the simulated firmware, which is exact to the timer interrupt.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from indi_multifocus.controller.channel import (
    POWER_CYCLE_S,
    STALL_POLLS,
    STALL_S,
    Channel,
    Report,
)
from indi_multifocus.controller.motion import NOMINAL_STEPS_PER_S
from indi_multifocus.controller.protocol import Move, Order, Status, Stop, Zero, parse_line
from indi_multifocus.controller.snapshot import ChannelState
from indi_multifocus.simulation.firmware import BUILDS, Firmware

SPEED = NOMINAL_STEPS_PER_S[2]


class Exchange:
    """Channel 1 of a controller of the second generation, at rest at time 0, and what is sent to it and received."""

    def __init__(self, at: int = 0) -> None:
        self.channel = Channel(1, 2)
        self.number = 0
        self.received_s = 0.0
        self.status(0.0, at, at)

    @property
    def state(self) -> ChannelState:
        return self.channel.state

    def status(
        self, at_s: float, target: int, current: int, *unanswered: Order, timeout_s: float | None = None, **more: Any
    ) -> Order | None:
        """A status that was requested, taken and received at the same moment."""
        self.received_s = at_s
        return self.channel.status(Report(target, current, at_s, at_s, unanswered, **more), timeout_s)

    def move(self, steps: int, via: int | None = None, *, answered: bool = True, at_s: float | None = None) -> Order:
        """`at_s`: when it is ordered, if not at the moment of the last status."""
        now = self.received_s if at_s is None else at_s
        return self._order(self.channel.move(steps, via, now), answered, now)

    def zero(self, at_s: float = 0.0, *, answered: bool = True) -> Order:
        return self._order(self.channel.zero(), answered, at_s)

    def stop(self, *, answered: bool = True) -> Order:
        return self._order(self.channel.stop(self.number + 1), answered)

    def _order(self, order: Order, answered: bool, at_s: float = 0.0) -> Order:
        self.number += 1
        if answered:
            self.channel.answered(order, self.number, at_s)
        return order

    def lose_link(self, *unanswered: Order) -> None:
        """All orders that have no answer were the last ones."""
        first = self.number - len(unanswered) + 1
        self.channel.link_lost([(order, first + index) for index, order in enumerate(unanswered)])


@pytest.fixture
def exchange() -> Exchange:
    return Exchange()


# States


def test_a_channel_stands_where_the_first_status_says(exchange: Exchange) -> None:
    assert Exchange(at=-321).state == ChannelState(target=-321, current=-321, moving=False)


def test_a_channel_that_somebody_else_moved_is_followed() -> None:
    channel = Channel(1, 2)
    assert channel.status(Report(60, 10, 1.0, 1.0), None) is None
    assert channel.state == ChannelState(target=60, current=10, moving=True)
    assert channel.status(Report(60, 60, 2.0, 2.0), None) is None
    assert channel.state == ChannelState(target=60, current=60, moving=False)


def test_a_move_is_under_way_from_its_order_to_the_status_that_shows_the_target(exchange: Exchange) -> None:
    assert exchange.move(100) == Move(1, 100)
    assert (exchange.state.moving, exchange.state.request) == (True, 0)
    exchange.status(0.5, 100, 49)
    assert exchange.state == ChannelState(target=100, current=49, moving=True, request=1)
    exchange.status(1.1, 100, 100)
    assert exchange.state == ChannelState(target=100, current=100, moving=False, request=1)


def test_a_status_from_before_the_answer_is_not_the_end_of_a_move(exchange: Exchange) -> None:
    move = exchange.move(100, answered=False)
    exchange.status(0.1, 0, 0, move)
    assert (exchange.state.moving, exchange.state.request) == (True, 0)
    exchange.channel.answered(move, 1, 0.1)
    exchange.status(0.2, 100, 9)
    assert (exchange.state.moving, exchange.state.request) == (True, 1)


def test_a_move_to_where_it_stands_is_done_with_the_first_status_after_it(exchange: Exchange) -> None:
    exchange.move(0)
    exchange.status(0.1, 0, 0)
    assert exchange.state == ChannelState(target=0, current=0, moving=False, request=1)


def test_a_new_target_in_mid_move_is_the_one_to_arrive_at(exchange: Exchange) -> None:
    exchange.move(1000)
    exchange.status(1.0, 1000, 97)
    exchange.move(-10)
    exchange.status(1.1, -10, 100)
    assert exchange.state == ChannelState(target=-10, current=100, moving=True, request=2)
    exchange.status(3.0, -10, -10)
    assert exchange.state == ChannelState(target=-10, current=-10, moving=False, request=2)


def test_an_inward_move_is_under_way_until_its_last_step_is_done(exchange: Exchange) -> None:
    exchange.move(-100)
    exchange.status(0.0, -100, 0)
    end_s = 100 / SPEED
    exchange.status(end_s - 0.001, -100, -100)
    assert exchange.state == ChannelState(target=-100, current=-100, moving=True, request=1)
    ask_s = exchange.channel.plan_poll(99.0, now=end_s, round_trip_s=0.0, period_s=0.1)
    assert ask_s == pytest.approx(end_s, abs=0.001)
    exchange.status(ask_s, -100, -100)
    assert exchange.state == ChannelState(target=-100, current=-100, moving=False, request=1)


@pytest.mark.parametrize(("halt", "place"), [("stop", -100), ("zero", 0)])
def test_an_inward_move_that_was_halted_in_its_last_step_is_over_at_once(
    exchange: Exchange, halt: str, place: int
) -> None:
    exchange.move(-100)
    exchange.status(0.0, -100, 0)
    last_step_s = 100 / SPEED - 0.005
    exchange.stop() if halt == "stop" else exchange.zero(last_step_s)
    exchange.status(last_step_s, place, place)
    assert not exchange.state.moving


def test_so_is_one_that_ended_by_a_loss_of_power(exchange: Exchange) -> None:
    exchange.move(-5000)
    exchange.status(1.0, -5000, -97)
    exchange.status(2.0, -5000, -5000, trouble=True)
    assert (exchange.state.moving, exchange.state.unverified_count) == (False, 1)


def test_what_it_will_not_be_asked_is_settled_at_once_and_has_failed(exchange: Exchange) -> None:
    exchange.channel.refuse(1, "too far")
    assert exchange.state == ChannelState(target=0, current=0, moving=False, request=1, fault="too far")
    exchange.move(5)
    assert exchange.state.fault == ""


# By way of another place


def test_the_second_leg_follows_the_first_by_itself_and_both_are_one_move(exchange: Exchange) -> None:
    assert exchange.move(300, via=400) == Move(1, 400)
    states = []
    for at_s, target, current in ((1.0, 400, 97), (4.1, 400, 400)):
        order = exchange.status(at_s, target, current)
        states.append(exchange.state)
    assert order == Move(1, 300)
    exchange.channel.answered(order, exchange.channel.settled, 4.1)
    for at_s, target, current in ((4.2, 300, 390), (5.2, 300, 300)):
        assert exchange.status(at_s, target, current) is None
        states.append(exchange.state)
    assert [state.moving for state in states] == [True, True, True, False]
    assert {state.target for state in states} == {300}, "what is on the way is nobody's target"
    assert {state.request for state in states} == {1}


def test_the_second_leg_waits_until_it_is_known_that_the_first_was_begun(exchange: Exchange) -> None:
    exchange.status(0.1, 400, 400)
    exchange.status(5.0, 400, 400)
    move = exchange.move(300, via=400, answered=False)
    assert exchange.status(5.1, 400, 400, move) is None
    exchange.channel.answered(move, 1, 5.0)
    assert exchange.status(5.2, 400, 400) == Move(1, 300)


def test_the_second_leg_has_begun_only_when_a_status_shows_it(exchange: Exchange) -> None:
    exchange.move(300, via=400)
    second = exchange.status(4.2, 400, 400)
    assert second is not None
    assert exchange.status(4.3, 400, 400, second) is None, "it is ordered once"
    assert exchange.state.moving


@pytest.mark.parametrize(("instead", "place"), [("stop", 105), ("move", 105), ("zero", 0)])
def test_what_is_ordered_on_the_way_there_replaces_the_way_back(exchange: Exchange, instead: str, place: int) -> None:
    exchange.move(4900, via=5000)
    exchange.status(1.0, 5000, 97)
    if instead == "stop":
        exchange.stop()
    elif instead == "move":
        exchange.move(place)
    else:
        exchange.zero(1.0)
    assert exchange.status(1.1, place, place) is None
    assert exchange.state == ChannelState(target=place, current=place, moving=False, request=2)


def test_a_stop_on_the_way_back_stops_too(exchange: Exchange) -> None:
    exchange.move(-5000, via=5)
    second = exchange.status(0.1, 5, 5)
    assert second is not None
    exchange.channel.answered(second, 1, 0.1)
    exchange.status(1.0, -5000, -80)
    exchange.stop()
    exchange.status(1.1, -90, -90)
    assert exchange.state == ChannelState(target=-90, current=-90, moving=False, request=2)


# Stop and zero


def test_a_stop_forgives_the_fault_of_the_move_before(exchange: Exchange) -> None:
    exchange.channel.refuse(1, "too far")
    exchange.number = 1
    exchange.stop()
    assert exchange.state.fault == ""


def test_our_own_stop_of_a_move_that_failed_forgives_nothing(exchange: Exchange) -> None:
    exchange.move(100)
    exchange.status(0.5, 700, 40)
    assert "to 700" in exchange.state.fault
    exchange.channel.stop(exchange.channel.settled)
    assert "to 700" in exchange.state.fault


def test_a_stop_that_is_repeated_and_finds_the_motor_running_is_reported(exchange: Exchange) -> None:
    exchange.move(5000)
    exchange.status(1.0, 5000, 97)
    stop = exchange.stop(answered=False)
    exchange.lose_link(stop)
    exchange.status(9.0, 5000, 870, stop_pending=True, trouble=True)
    exchange.channel.settled = exchange.number  # a later request was refused meanwhile
    exchange.channel.stop(exchange.number)
    assert exchange.state.fault.endswith("the result of a stop was known: the motor was stopped")


def test_a_stop_that_is_repeated_to_a_motor_that_stands_is_not_reported(exchange: Exchange) -> None:
    exchange.lose_link(exchange.stop(answered=False))
    exchange.status(9.0, 0, 0, stop_pending=True, trouble=True)
    exchange.channel.settled = exchange.number
    exchange.channel.stop(exchange.number)
    assert exchange.state.fault == ""


def test_a_zero_in_mid_move_is_no_unverified_jump(exchange: Exchange) -> None:
    exchange.move(5000)
    for second in range(1, 30):
        exchange.status(second, 5000, int(second * SPEED))
    assert exchange.zero(30.0) == Zero(1)
    exchange.status(30.001, 0, 0)
    assert exchange.state == ChannelState(target=0, current=0, moving=False, request=2)
    exchange.move(10)
    exchange.status(30.2, 10, 10)
    assert exchange.state.unverified_count == 0


# Commands that came out wrong


def test_a_motor_that_goes_where_nobody_sent_it_is_stopped(exchange: Exchange) -> None:
    exchange.move(100)
    assert exchange.status(0.1, 700, 9) == Stop(1)
    assert exchange.state.fault.startswith("the motor goes to 700, and was to go to 100")


def test_a_motor_that_stays_where_it_was_has_a_wrong_command_and_a_verified_position(exchange: Exchange) -> None:
    exchange.move(100)
    assert exchange.status(0.1, 0, 0) == Stop(1)
    assert exchange.state.fault.startswith("the motor goes to 0, and was to go to 100")
    assert exchange.state.unverified_count == 0


def test_a_motor_that_runs_after_a_stop_is_stopped_again(exchange: Exchange) -> None:
    exchange.move(100)
    exchange.status(0.1, 100, 9)
    exchange.stop()
    assert exchange.status(0.2, 100, 19) == Stop(1)
    assert exchange.state.fault.startswith("the motor goes to 100 after a stop")


def test_a_target_that_changes_unasked_is_stopped(exchange: Exchange) -> None:
    exchange.move(100)
    exchange.status(0.1, 100, 9)
    assert exchange.status(0.2, 300, 19) == Stop(1)


def test_a_target_that_was_found_and_changes_unasked_is_stopped_too() -> None:
    channel = Channel(1, 2)
    assert channel.status(Report(60, 10, 0.1, 0.1), None) is None
    assert channel.status(Report(90, 20, 0.2, 0.2), None) == Stop(1)


def test_a_target_is_not_judged_while_an_order_has_no_answer(exchange: Exchange) -> None:
    exchange.move(100)
    exchange.status(0.1, 100, 9)
    move = exchange.move(300, answered=False)
    assert exchange.status(0.2, 100, 19, move) is None
    assert exchange.status(0.3, 300, 29, move) is None
    assert exchange.state.fault == ""


def test_after_a_lost_link_any_target_may_be_somebody_else_s(exchange: Exchange) -> None:
    exchange.move(100)
    exchange.status(0.1, 100, 9)
    exchange.lose_link()
    assert exchange.status(9.0, 300, 200, trouble=True) is None
    assert exchange.state.fault == ""


def test_so_it_may_after_a_stop_whose_end_was_seen(exchange: Exchange) -> None:
    exchange.stop()
    exchange.status(0.1, 0, 0)
    exchange.lose_link()
    assert exchange.status(9.0, 300, 200, trouble=True) is None
    assert exchange.state == ChannelState(target=300, current=200, moving=True, request=1)


# Motors that do not arrive


def test_a_motor_that_does_not_turn_is_stopped_after_some_polls_and_some_time(exchange: Exchange) -> None:
    exchange.move(500)
    exchange.status(1.0, 500, 40)
    for poll in range(1, STALL_POLLS):
        assert exchange.status(1.0 + poll * STALL_S, 500, 40) is None, "too few polls"
    stalled_s = 1.0 + STALL_POLLS * STALL_S
    assert exchange.status(stalled_s, 500, 40) == Stop(1)
    assert exchange.state.fault == "stalled at 40 on the way to 500: the motor was stopped"
    assert exchange.status(stalled_s + 0.01, 500, 40) is None, "the stop is under way"


def test_a_motor_that_was_stuck_before_anything_was_asked_is_stopped_by_a_request_of_its_own() -> None:
    channel = Channel(1, 2)
    orders = [channel.status(Report(600, 9, poll * STALL_S, poll * STALL_S), None) for poll in range(STALL_POLLS + 1)]
    assert orders == [None] * STALL_POLLS + [Stop(1)]
    assert channel.settled == 1, "0 is no request"


def test_a_stalled_first_leg_has_no_second(exchange: Exchange) -> None:
    exchange.move(300, via=400)
    for poll in range(STALL_POLLS + 1):
        exchange.status(1.0 + poll * STALL_S, 400, 40)
    assert exchange.status(9.0, 400, 400) is None
    assert exchange.state.target == 400


def test_a_slow_step_is_no_stall_however_often_it_is_asked_for(exchange: Exchange) -> None:
    exchange.move(500)
    exchange.status(1.0, 500, 40)
    for poll in range(1, 100):
        assert exchange.status(1.0 + poll / 100 * STALL_S, 500, 40) is None
    exchange.status(1.0 + STALL_S, 500, 41)
    assert exchange.status(1.1 + STALL_S, 500, 41) is None, "it has moved"


def test_a_move_that_takes_too_long_is_stopped(exchange: Exchange) -> None:
    exchange.move(5000)
    exchange.status(1.0, 5000, 5, timeout_s=3.0)
    assert exchange.status(3.9, 5000, 300, timeout_s=3.0) is None
    assert exchange.channel.plan_poll(9.0, 3.9, 0.0, 5.0) == exchange.channel._deadline_s == 4.0
    assert exchange.status(4.0, 5000, 310, timeout_s=3.0) == Stop(1)
    assert exchange.state.fault == "did not reach 5000 in time: the motor was stopped"
    assert exchange.status(5.0, 5000, 320, timeout_s=3.0) is None, "once"


def test_an_old_status_does_not_tell_that_a_move_takes_too_long(exchange: Exchange) -> None:
    """The driver was stopped meanwhile, and finds the answer to what it had asked before."""
    exchange.move(500)
    exchange.status(1.0, 500, 5, timeout_s=3.0)
    assert exchange.channel.status(Report(500, 30, 1.2, 9.0), 3.0) is None
    assert exchange.channel.plan_poll(9.1, 9.0, 0.0, 0.1) == 9.0
    assert exchange.status(9.0, 500, 500, timeout_s=3.0) is None
    assert exchange.state == ChannelState(target=500, current=500, moving=False, request=1)


def test_without_a_limit_a_move_has_more_time_than_it_needs(exchange: Exchange) -> None:
    exchange.move(1000)
    exchange.status(1.0, 1000, 0)
    assert exchange.channel._deadline_s == pytest.approx(1.0 + 1000 / SPEED * 1.5 + 10.0)


def test_a_new_move_has_its_own_time(exchange: Exchange) -> None:
    exchange.move(5000)
    exchange.status(1.0, 5000, 5, timeout_s=3.0)
    exchange.move(5000)
    exchange.status(2.0, 5000, 90, timeout_s=3.0)
    assert exchange.channel._deadline_s == 5.0
    exchange.move(6000)
    exchange.status(3.0, 6000, 180, timeout_s=3.0)
    assert exchange.channel._deadline_s == 6.0
    exchange.lose_link()
    exchange.status(4.0, 9000, 270, timeout_s=3.0, trouble=True)
    assert exchange.channel._deadline_s == 7.0, "somebody else's"
    exchange.status(5.0, 9000, 9000, timeout_s=3.0)
    assert exchange.channel._deadline_s is None


# Unverified, although nothing happened to the line


def run(exchange: Exchange, seconds: int = 3) -> int:
    """Send it far away, see it move for some time, and return where it was last seen."""
    exchange.move(5000)
    for second in range(1, seconds + 1):
        exchange.status(second, 5000, int(second * SPEED))
    return int(seconds * SPEED)


def test_a_jump_that_no_motor_could_make_is_unverified(exchange: Exchange) -> None:
    run(exchange)
    exchange.status(3.1, 5000, 5000)
    assert exchange.state == ChannelState(target=5000, current=5000, moving=False, request=1, unverified_count=1)


def test_a_motor_whose_speed_is_not_known_yet_may_be_a_quick_one(exchange: Exchange) -> None:
    exchange.move(5000)
    exchange.status(0.1, 5000, 5000)
    assert exchange.state.unverified_count == 0


def test_a_place_at_rest_to_which_nobody_sent_it_is_unverified(exchange: Exchange) -> None:
    """As after a zero that was meant for another channel."""
    exchange.move(40)
    exchange.status(1.0, 40, 40)
    exchange.status(9.0, 0, 0)
    assert exchange.state.unverified_count == 1


def test_the_way_by_another_place_does_not_go_on_from_an_unverified_one(exchange: Exchange) -> None:
    exchange.move(4900, via=5000)
    exchange.status(1.0, 5000, 97)
    assert exchange.status(9.0, 5000, 5000, trouble=True) is None
    assert (exchange.state.unverified_count, exchange.state.moving) == (1, False)


# Unverified: the line failed, so that the controller may have been without power


def test_an_arrival_that_nobody_saw_is_unverified_however_much_time_there_was(exchange: Exchange) -> None:
    run(exchange)
    exchange.status(500.0, 5000, 5000, trouble=True)
    assert exchange.state.unverified_count == 1


def test_a_motor_that_still_moves_has_not_lost_its_power(exchange: Exchange) -> None:
    run(exchange)
    exchange.status(9.0, 5000, int(9 * SPEED), trouble=True)
    assert (exchange.state.unverified_count, exchange.state.moving) == (0, True)


def test_a_motor_that_is_where_it_was_is_believed(exchange: Exchange) -> None:
    exchange.move(40)
    exchange.status(1.0, 40, 40)
    exchange.status(9.0, 40, 40, trouble=True)
    assert exchange.state.unverified_count == 0


@pytest.mark.parametrize("order", ["answered", "unanswered", "lost"])
def test_an_arrival_at_a_target_that_no_status_had_shown_is_unverified_too(exchange: Exchange, order: str) -> None:
    move = exchange.move(40, answered=order == "answered")
    if order == "lost":
        exchange.lose_link(move)
    exchange.status(9.0, 40, 40, *([move] if order == "unanswered" else []), trouble=True)
    assert exchange.state.unverified_count == 1


def test_an_arrival_at_the_target_is_unverified_also_after_a_stop(exchange: Exchange) -> None:
    run(exchange)
    exchange.stop()
    exchange.status(500.0, 5000, 5000, trouble=True)
    assert exchange.state.unverified_count == 1


def test_a_place_on_the_way_that_is_too_far_is_unverified(exchange: Exchange) -> None:
    run(exchange)
    exchange.status(4.0, 5000, 3000, trouble=True)
    assert (exchange.state.unverified_count, exchange.state.moving) == (1, True)


@pytest.mark.parametrize("stop", ["answered", "unanswered", "lost"])
def test_a_place_on_the_way_where_it_was_stopped_is_believed(exchange: Exchange, stop: str) -> None:
    seen = run(exchange)
    order = exchange.stop(answered=stop == "answered")
    if stop == "lost":
        exchange.lose_link(order)
    unanswered = [order] if stop == "unanswered" else []
    exchange.status(9.0, seen + 7, seen + 7, *unanswered, stop_pending=stop == "lost", trouble=True)
    assert exchange.state.unverified_count == 0


def test_a_place_on_the_way_where_nobody_stopped_it_is_unverified(exchange: Exchange) -> None:
    seen = run(exchange)
    exchange.lose_link()
    exchange.status(9.0, seen + 7, seen + 7, trouble=True)
    assert exchange.state.unverified_count == 1


def test_a_place_to_which_somebody_else_took_it_meanwhile_is_believed(exchange: Exchange) -> None:
    exchange.move(40)
    exchange.status(1.0, 40, 40)
    exchange.lose_link()
    exchange.status(9.0, 70, 70, trouble=True)
    assert exchange.state.unverified_count == 0


def test_the_way_to_a_new_target_may_have_begun_at_the_false_end_of_the_last(exchange: Exchange) -> None:
    exchange.move(500)
    exchange.status(1.0, 500, 97)
    move = exchange.move(600, answered=False, at_s=7.0)
    exchange.status(8.0, 600, 505, move, trouble=True)
    assert exchange.state.unverified_count == 1


def test_so_it_may_where_it_just_passes_the_place_at_which_it_was_seen_last(exchange: Exchange) -> None:
    exchange.move(500)
    exchange.status(1.0, 500, 97)
    exchange.move(98)
    exchange.move(96, at_s=5.0)
    exchange.status(9.0, 96, 97, trouble=True)
    assert exchange.state.unverified_count == 1


def test_a_motor_that_was_sent_away_and_back_while_nobody_saw_it_is_unverified_where_it_was(exchange: Exchange) -> None:
    exchange.move(500)
    exchange.status(1.0, 500, 97)
    exchange.move(97, at_s=5.0)
    exchange.status(9.0, 97, 97, trouble=True)
    assert exchange.state.unverified_count == 1


@pytest.mark.parametrize("place", [505, 97])
def test_so_may_the_way_to_where_it_was_stopped(exchange: Exchange, place: int) -> None:
    exchange.move(500)
    exchange.status(1.0, 500, 97)
    exchange.move(-600, at_s=7.0)
    exchange.stop()
    exchange.status(8.0, place, place, trouble=True)
    assert exchange.state.unverified_count == 1


def test_of_two_ways_that_nobody_saw_the_second_may_have_begun_at_a_false_end(exchange: Exchange) -> None:
    exchange.move(500)
    exchange.move(40, at_s=2.0)
    exchange.status(9.0, 40, 60, trouble=True)
    assert exchange.state.unverified_count == 1


def test_a_motor_that_still_goes_its_old_way_never_got_the_new_orders(exchange: Exchange) -> None:
    exchange.move(5000)
    exchange.status(1.0, 5000, 97)
    exchange.lose_link(exchange.move(100, answered=False, at_s=1.5), exchange.stop(answered=False))
    exchange.status(4.0, 5000, 390, stop_pending=True, trouble=True)
    assert exchange.state.unverified_count == 0


def test_two_orders_within_a_moment_leave_no_time_for_a_loss_of_power_between_them(exchange: Exchange) -> None:
    exchange.move(500)
    exchange.move(40, at_s=0.1)
    exchange.status(1.0, 40, 20, trouble=True)
    assert (exchange.state.unverified_count, exchange.state.moving) == (0, True)


def test_orders_that_were_lost_with_the_link_may_come_at_any_time(exchange: Exchange) -> None:
    exchange.lose_link(exchange.move(500, answered=False), exchange.move(40, answered=False, at_s=0.1))
    exchange.status(1.0, 40, 20, trouble=True)
    assert exchange.state.unverified_count == 1


def test_but_one_that_is_repeated_comes_as_late_as_that(exchange: Exchange) -> None:
    first = exchange.move(500, answered=False)
    second = exchange.move(40, answered=False, at_s=0.1)
    exchange.channel.status(Report(500, 20, 5.0, 5.5, (first, second), trouble=True), None)
    exchange.status(9.0, 40, 60, trouble=True)
    assert exchange.state.unverified_count == 1


@pytest.mark.parametrize("again_s", [(1.0, 1.05), (0.0, 5.0)])
def test_of_orders_to_and_fro_the_first_one_way_and_the_last_the_other_count(
    exchange: Exchange, again_s: tuple[float, float]
) -> None:
    for steps, at_s in zip((500, 40, 500, 40), (0.0, 0.0, *again_s)):
        exchange.move(steps, at_s=at_s)
    exchange.status(9.0, 40, 60, trouble=True)
    assert exchange.state.unverified_count == 1


def test_the_same_order_again_leads_nowhere_else(exchange: Exchange) -> None:
    exchange.move(5000)
    exchange.status(1.0, 5000, 97)
    exchange.lose_link(exchange.move(5000, answered=False, at_s=5.0))
    exchange.status(9.0, 5000, 870, trouble=True)
    assert exchange.state.unverified_count == 0


def test_where_it_was_to_go_before_a_zero_does_not_count_after_it(exchange: Exchange) -> None:
    exchange.move(500)
    exchange.status(1.0, 500, 97)
    exchange.zero(2.0)
    exchange.move(40, at_s=3.0)
    exchange.lose_link()
    exchange.status(3.2, 40, 19, trouble=True)
    assert (exchange.state.unverified_count, exchange.state.moving) == (0, True)


def test_a_motor_that_is_still_where_it_was_was_not_sent_away(exchange: Exchange) -> None:
    exchange.lose_link(exchange.move(500, answered=False), exchange.move(40, answered=False))
    exchange.status(9.0, 0, 0, trouble=True)
    assert exchange.state.unverified_count == 0
    assert "took the move to 40" in exchange.state.fault


def test_no_power_comes_back_within_a_moment(exchange: Exchange) -> None:
    exchange.move(100)
    exchange.status(1.0, 100, 97)
    exchange.status(1.0 + POWER_CYCLE_S / 2, 100, 100, trouble=True)
    assert exchange.state.unverified_count == 0
    seen = run(exchange)
    exchange.status(3.0 + POWER_CYCLE_S / 2, 5000, 5000, trouble=True)
    assert seen < 5000
    assert exchange.state.unverified_count == 1


def test_another_controller_s_channel_is_unverified_and_goes_on_counting(exchange: Exchange) -> None:
    exchange.move(5)
    other = Channel(1, 1, former=exchange.channel)
    assert other.settled == 1
    other.status(Report(0, 0, 1.0, 1.0, trouble=True), None)
    assert other.state == ChannelState(target=0, current=0, moving=False, request=1, unverified_count=1)


# Orders that were lost with the link


def test_a_move_that_the_controller_never_took_has_failed(exchange: Exchange) -> None:
    exchange.lose_link(exchange.move(500, answered=False))
    exchange.status(9.0, 0, 0, trouble=True)
    assert exchange.state.fault == "the link was lost before the controller took the move to 500"
    assert (exchange.state.moving, exchange.state.request) == (False, 1)


def test_a_move_that_the_controller_took_is_followed(exchange: Exchange) -> None:
    exchange.lose_link(exchange.move(500, answered=False))
    exchange.status(1.0, 500, 90, trouble=True)
    assert exchange.state == ChannelState(target=500, current=90, moving=True, request=1)


def test_a_move_that_was_answered_and_never_seen_is_asked_for_too(exchange: Exchange) -> None:
    exchange.move(500)
    exchange.lose_link()
    exchange.status(9.0, 0, 0, trouble=True)
    assert "took the move to 500" in exchange.state.fault


def test_a_second_leg_that_was_answered_and_never_seen_is_asked_for_too(exchange: Exchange) -> None:
    exchange.move(300, via=400)
    second = exchange.status(4.2, 400, 400)
    assert second is not None
    exchange.channel.answered(second, 1, 4.2)
    exchange.lose_link()
    exchange.status(9.0, 400, 400, trouble=True)
    assert "took the move to 300" in exchange.state.fault


@pytest.mark.parametrize("lost", [True, False])
def test_a_zero_of_which_the_answer_is_missing_is_no_jump(lost: bool) -> None:
    exchange = Exchange(at=5000)
    zero = exchange.zero(answered=False)
    if lost:
        exchange.lose_link(zero)
    exchange.status(0.2, 0, 0, *([] if lost else [zero]), trouble=True)
    assert (exchange.state.unverified_count, exchange.state.fault) == (0, "")


def test_a_zero_that_the_controller_never_took_has_failed() -> None:
    exchange = Exchange(at=40)
    exchange.lose_link(exchange.zero(answered=False))
    exchange.status(9.0, 40, 40, trouble=True)
    assert exchange.state.fault == "the link was lost before the controller took the zero"
    assert (exchange.state.request, exchange.state.unverified_count) == (1, 0)


def test_a_stop_is_not_given_up_with_the_link(exchange: Exchange) -> None:
    exchange.move(5000)
    exchange.lose_link(exchange.stop(answered=False))
    exchange.status(9.0, 5000, 800, trouble=True)
    assert exchange.state.request == 1, "the stop is still to come"


def test_a_second_leg_is_not_begun_by_surprise(exchange: Exchange) -> None:
    exchange.move(10, via=40)
    exchange.status(0.1, 40, 9)
    exchange.lose_link()
    assert exchange.state.fault == "the link was lost before the move to 10 was complete"
    assert exchange.status(9.0, 40, 40, trouble=True) is None
    assert (exchange.state.moving, exchange.state.unverified_count) == (False, 1)


# When to ask


def test_the_next_poll_is_the_one_that_sees_the_arrival(exchange: Exchange) -> None:
    exchange.move(100)
    exchange.status(1.0, 100, 0)
    arrival_s = 1.0 + 100 / SPEED
    plan = exchange.channel.plan_poll
    assert plan(1.1, now=1.0, round_trip_s=0.01, period_s=0.1) == 1.1, "the arrival is far"
    assert plan(99.0, now=1.0, round_trip_s=0.01, period_s=0.1) == pytest.approx(arrival_s, abs=0.002)
    # A poll shortly before would be on the wire when the motor arrives.
    assert plan(arrival_s - 0.005, now=1.0, round_trip_s=0.01, period_s=0.1) > arrival_s


def test_an_arrival_that_does_not_come_is_asked_for_less_and_less_often(exchange: Exchange) -> None:
    exchange.move(100)
    exchange.status(1.0, 100, 99)
    waits = [exchange.channel.plan_poll(99.0, now=9.0, round_trip_s=0.0, period_s=0.1) - 9.0 for _ in range(10)]
    assert waits[:3] == pytest.approx([0.002, 0.004, 0.008])
    assert waits[-1] == pytest.approx(0.1)
    assert exchange.channel.plan_poll(9.05, now=9.0, round_trip_s=0.0, period_s=0.1) == 9.05, "not later than planned"
    exchange.status(9.5, 100, 100)
    exchange.move(200)
    exchange.status(10.0, 200, 199)
    assert exchange.channel.plan_poll(99.0, now=19.0, round_trip_s=0.0, period_s=0.1) == pytest.approx(19.002)


def test_a_channel_at_rest_leaves_the_plan_as_it_is(exchange: Exchange) -> None:
    assert exchange.channel.plan_poll(5.0, now=1.0, round_trip_s=0.01, period_s=0.1) == 5.0


# All of it, with a motor


class Motor:
    """A channel, and the simulated firmware that it is about; orders are answered at once."""

    def __init__(self, generation: int) -> None:
        self.firmware = Firmware(generation)
        self.channel = Channel(1, generation)
        self.now_s = 0.0
        self.number = 0
        self.ask()

    def ask(self, *, trouble: bool = False) -> Order | None:
        (_, line), *_ = self.firmware.feed(b"?\n", self.now_s)
        status = parse_line(line.rstrip())
        assert isinstance(status, Status)
        report = Report(status.targets[0], status.currents[0], self.now_s, self.now_s, trouble=trouble)
        return self.channel.status(report, None)

    def order(self, what: str, steps: int) -> None:
        self.number += 1
        order: Order = Move(1, steps)
        if what == "move":
            order = self.channel.move(steps, None, self.now_s)
        elif what == "stop":
            order = self.channel.stop(self.number)
        else:
            order = self.channel.zero()
        self.firmware.feed(order.encode(), self.now_s)
        self.channel.answered(order, self.number, self.now_s)
        assert self.ask() is None

    def wait(self, seconds: float, period_s: float) -> None:
        """Ask now and then; nothing may have to be ordered for that."""
        end_s = self.now_s + seconds
        while self.now_s < end_s:
            self.now_s += period_s
            assert self.ask() is None

    @property
    def is_true(self) -> bool:
        """Whether the shaft is where the channel says, within a step."""
        shaft = self.firmware._motor(1).shaft / (1 << BUILDS[self.firmware.generation].shift)
        return abs(shaft - self.channel.state.current) < 1


ORDERS = st.sampled_from(["move", "move", "stop", "zero"])


@given(
    generation=st.sampled_from([1, 2]),
    orders=st.lists(st.tuples(ORDERS, st.integers(-3000, 3000), st.floats(0, 60)), max_size=12),
    period_s=st.floats(0.02, 1.0),
)
def test_with_a_controller_that_does_as_ordered_nothing_is_unverified_and_nothing_fails(
    generation: int, orders: list[tuple[str, int, float]], period_s: float
) -> None:
    motor = Motor(generation)
    for what, steps, seconds in orders:
        motor.order(what, steps)
        assert motor.channel.state.request == motor.number
        motor.wait(seconds, period_s)
    motor.wait(120, 1.0)
    state = motor.channel.state
    assert (state.moving, state.fault, state.unverified_count) == (False, "", 0)


@given(
    generation=st.sampled_from([1, 2]),
    target=st.integers(-3000, 3000),
    fails_s=st.floats(0, 60),
    off_s=st.floats(POWER_CYCLE_S + 1e-6, 60),  # a difference of two times may be rounded down
    period_s=st.floats(0.05, 1),
)
@example(generation=2, target=294, fails_s=3.0, off_s=POWER_CYCLE_S + 1e-6, period_s=1.0)
def test_a_claim_of_a_controller_that_lost_its_power_is_unverified_unless_it_was_seen_to_arrive(
    generation: int, target: int, fails_s: float, off_s: float, period_s: float
) -> None:
    motor = Motor(generation)
    motor.order("move", target)
    motor.wait(fails_s, period_s)
    arrived = not motor.channel.state.moving
    motor.firmware.restart(motor.now_s)
    motor.channel.link_lost([])
    motor.now_s += off_s
    motor.ask(trouble=True)
    assert motor.channel.state.current == target
    assert motor.is_true or motor.channel.state.unverified_count == 1
    assert not arrived or motor.channel.state.unverified_count == 0
