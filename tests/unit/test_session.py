# SPDX-License-Identifier: GPL-3.0-or-later
"""What is sent on a port, what answers it, what is sent again: with the simulated firmware on a socket, no clock."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from indi_multifocus.controller.conversation import (
    CommandError,
    Synchronised,
)
from indi_multifocus.controller.protocol import (
    Acknowledged,
    Command,
    Fans,
    Measure,
    Move,
    QueryFans,
    QueryStatus,
    Status,
    Stop,
    SwitchFans,
    Zero,
)
from indi_multifocus.controller.session import (
    ASK_AGAIN_S,
    HANDSHAKE_S,
    MAX_IN_FLIGHT,
    MEASURE_S,
    Answer,
    LinkLost,
    Session,
)
from indi_multifocus.simulation.firmware import Firmware

TIMEOUT_S = 5.0
PROBE = "28FF641E8C160497"


class Line:
    """A session, and the controller at the other end of its port."""

    def __init__(self, generation: int = 2, timeout_s: float = TIMEOUT_S) -> None:
        self.firmware = Firmware(generation)
        self.now = 100.0
        self.far, near = socket.socketpair()
        near.setblocking(False)
        self.far.setblocking(False)
        self.near = near
        self.traffic: list[tuple[str, bytes]] = []
        self.session = Session(near, "/dev/tty", timeout_s, lambda *what: self.traffic.append(what), self.now)

    def close(self) -> None:
        self.near.close()
        self.far.close()

    def send(self, *commands: Command) -> None:
        for number, command in enumerate(commands, 1):
            self.session.send(command, number, self.now)

    def written(self) -> bytes:
        """What has come to the other end."""
        self.session.write()
        try:
            return self.far.recv(4096)
        except BlockingIOError:
            return b""

    def reply(self, data: bytes) -> list[Answer | Synchronised]:
        """Let the other end say this, and return what the session makes of it."""
        self.far.send(data)
        return list(self.session.received(self.session.read(), self.now))

    def turn(self) -> list[Answer | Synchronised]:
        """The controller answers to all that was written; what the session makes of that."""
        replies = self.firmware.feed(self.written(), self.now)
        return self.reply(b"".join(reply for _, reply in replies)) if replies else []

    def get_into_step(self) -> Synchronised:
        for _ in range(8):
            for received in self.turn():
                assert isinstance(received, Synchronised)
                return received
        raise AssertionError("out of step")


@pytest.fixture
def line() -> Iterator[Line]:
    """One that is in step."""
    made = Line()
    made.get_into_step()
    yield made
    made.close()


def replies(received: list[Answer | Synchronised]) -> list[tuple[int, str]]:
    """Of each answer the request's number, and its kind."""
    return [(answer.sent.request, type(answer.reply).__name__) for answer in received if isinstance(answer, Answer)]


# Getting into step


@pytest.mark.parametrize("generation", [1, 2])
def test_a_session_begins_with_questions_and_is_up_when_it_is_known_who_answers(generation: int) -> None:
    line = Line(generation)
    up = [line.session.up]
    event = line.get_into_step()
    assert [*up, line.session.up] == [False, True]
    assert (event.generation, event.channels, event.status) == (generation, 2, Status((0, 0), (0, 0)))
    line.close()


def test_silence_is_asked_again_and_then_given_up() -> None:
    line = Line()
    assert line.session.wake_s() == line.now + ASK_AGAIN_S
    assert line.written() == b"?\n?\n"
    line.now += ASK_AGAIN_S
    line.session.check_time(line.now, line.now)
    assert line.written() == b"?\n?\n"
    assert line.session.wake_s() == line.now + ASK_AGAIN_S
    line.now += ASK_AGAIN_S
    line.session.check_time(line.now, line.now)
    assert line.session.wake_s() == 100.0 + HANDSHAKE_S
    with pytest.raises(LinkLost, match="nothing answers on /dev/tty: is it the focus controller, does it have power"):
        line.session.check_time(100.0 + HANDSHAKE_S, 100.0 + HANDSHAKE_S)
    line.close()


def test_nonsense_is_given_up_too() -> None:
    line = Line()
    assert line.reply(b"T1=") == []
    with pytest.raises(LinkLost, match="what answers on /dev/tty makes no sense"):
        line.session.check_time(100.0 + HANDSHAKE_S, 100.0 + HANDSHAKE_S)
    with pytest.raises(LinkLost, match="what answers on /dev/tty is not a focus controller: "):
        line.reply(b"OK\r\n" * 20)
    line.close()


def test_a_controller_that_was_there_before_is_waited_for_like_for_any_reply_of_it() -> None:
    line = Line()
    again = Session(line.near, "/dev/tty", TIMEOUT_S, lambda *_: None, 100.0, known=True)
    again.check_time(100.0 + HANDSHAKE_S, 100.0 + HANDSHAKE_S)
    with pytest.raises(LinkLost):
        again.check_time(100.0 + TIMEOUT_S, 100.0 + TIMEOUT_S)
    line.get_into_step()
    line.now += 60.0
    line.reply(b"gnat\r\n")
    line.session.check_time(line.now + HANDSHAKE_S, line.now + HANDSHAKE_S)
    with pytest.raises(LinkLost):
        line.session.check_time(line.now + TIMEOUT_S, line.now + TIMEOUT_S)
    line.close()


def test_while_it_is_found_out_who_answers_silence_counts_from_the_last_question() -> None:
    line = Line()
    line.now += 1.0
    line.turn()
    assert line.written() == b"#\n"
    assert line.session.wake_s() == 101.0 + ASK_AGAIN_S
    line.close()


# Answers


def test_answers_belong_to_commands_in_their_order(line: Line) -> None:
    line.send(Move(1, 5), QueryStatus(), SwitchFans(True), QueryFans())
    kinds = ["Acknowledged", "Status", "Acknowledged", "Fans"]
    assert replies(line.turn()) == list(enumerate(kinds, 1))
    assert line.session.quiet


def test_an_answer_names_its_query(line: Line) -> None:
    line.send(Stop(1))
    line.now += 0.5
    line.send(QueryFans())
    stop, fans = line.turn()
    assert isinstance(stop, Answer)
    assert isinstance(fans, Answer)
    assert (stop.sent.command, stop.sent.sent_s, stop.sent.alone) == (Stop(1), 100.0, True)
    assert (fans.sent.command, fans.sent.sent_s, fans.sent.alone) == (QueryFans(), 100.5, False)
    assert (stop.reply, fans.reply) == (Acknowledged(), Fans(False))


def test_it_is_known_what_waits_for_an_answer(line: Line) -> None:
    line.send(Move(1, 5), Stop(2), Move(1, 7))
    assert line.session.orders(1) == [(Move(1, 5), 1), (Move(1, 7), 3)]
    assert line.session.orders(2) == [(Stop(2), 2)]
    awaited = [line.session.awaits(QueryStatus)]
    line.send(QueryStatus())
    assert [*awaited, line.session.awaits(QueryStatus)] == [False, True]
    line.turn()
    assert (line.session.orders(1), line.session.unanswered()) == ([], [])


def test_only_so_much_may_wait_for_answers(line: Line) -> None:
    full = []
    for _ in range(MAX_IN_FLIGHT):
        full.append(line.session.full)
        line.send(QueryStatus())
    assert [*full, line.session.full] == [False] * MAX_IN_FLIGHT + [True]


def test_a_stop_serves_another_while_it_is_the_last_order_to_its_channel(line: Line) -> None:
    assert not line.session.join_stop(1, 9)
    line.send(Stop(1), Move(2, 5))
    assert line.session.join_stop(1, 9)
    assert not line.session.join_stop(2, 9)
    assert line.session.orders(1) == [(Stop(1), 9)]
    line.send(Move(1, 5))
    assert not line.session.join_stop(1, 10)


def test_a_stop_that_may_be_lost_is_written_again_as_soon_as_the_line_falls_out_of_step(line: Line) -> None:
    line.send(Move(1, 5), Stop(2))
    line.written()
    line.reply(b"gnat\r\n")
    assert line.written() == b"?\n?\n2S\n"
    line.now += ASK_AGAIN_S
    line.session.check_time(line.now, line.now)
    assert line.written() == b"?\n?\n2S\n"
    line.now += ASK_AGAIN_S
    line.session.check_time(line.now, line.now)
    line.get_into_step()
    line.session.send_again(line.now, without_moves_of=())
    assert line.session.orders(2) == [(Stop(2), 2)], "and again when its reply can be trusted"


def test_what_this_controller_must_not_get_is_refused() -> None:
    line = Line(generation=1)
    line.get_into_step()
    line.session.check(Move(1, 1_000_000))
    with pytest.raises(CommandError):
        line.session.check(Measure(PROBE))
    line.close()


def test_it_is_known_when_a_status_was_last_asked_for(line: Line) -> None:
    line.now += 1.0
    line.send(Move(1, 5))
    asked_s = [line.session.status_asked_s]
    line.send(QueryStatus())
    asked_s.append(line.session.status_asked_s)
    line.now += 1.0
    line.reply(b"gnat\r\n")
    asked_s.append(line.session.status_asked_s)
    line.now += 1.0
    line.turn()
    assert line.written() == b"#\n"
    asked_s.append(line.session.status_asked_s)
    line.now += 1.0
    line.reply(b"gnat\r\n")
    assert line.written() == b"?\n"
    assert [*asked_s, line.session.status_asked_s] == [100.0, 101.0, 102.0, 102.0, 104.0]


# Out of step


def fall_out_of_step(line: Line, *commands: Command) -> None:
    """Let what answers these make no sense."""
    line.send(*commands)
    line.written()
    assert line.reply(b"gnat\r\n") == []
    assert not line.session.up


def test_a_reply_that_does_not_fit_costs_a_moment_and_what_was_on_its_way_is_sent_again(line: Line) -> None:
    fall_out_of_step(line, Move(1, 5), QueryStatus(), SwitchFans(True))
    assert line.session.orders(1) == [(Move(1, 5), 1)], "nobody knows whether the controller has got it"
    line.get_into_step()
    line.session.send_again(line.now, without_moves_of=[])
    assert line.written() == b"1+5\n#1\n#\n?\n"
    assert line.session.orders(1) == [(Move(1, 5), 1)]
    assert ("!", b"garbage (b'gnat') came where '1+5' was to be answered") in line.traffic


def test_what_was_not_written_yet_is_not_written_while_nothing_is_believed(line: Line) -> None:
    line.send(Move(1, 5))
    line.reply(b"gnat\r\n")
    assert line.written() == b"?\n?\n"


def test_nothing_is_sent_again_where_nothing_was_on_its_way(line: Line) -> None:
    fall_out_of_step(line, QueryStatus())
    line.get_into_step()
    line.session.send_again(line.now, without_moves_of=[])
    assert line.written() == b""


def test_of_each_channel_only_the_last_order_is_sent_again(line: Line) -> None:
    fall_out_of_step(line, Move(1, 5), Move(2, 5), Zero(1), SwitchFans(True), SwitchFans(False))
    line.get_into_step()
    line.session.send_again(line.now, without_moves_of=[])
    assert line.written() == b"2+5\n1Z\n#0\n#\n?\n"


def test_a_move_that_the_user_replaced_is_not_sent_again_but_a_stop_is(line: Line) -> None:
    fall_out_of_step(line, Move(1, 5), Stop(2))
    line.get_into_step()
    line.session.send_again(line.now, without_moves_of=[1, 2])
    assert line.written() == b"2S\n?\n"


def test_what_is_sent_before_it_is_known_that_the_next_line_does_not_fit_is_sent_again(line: Line) -> None:
    line.send(QueryStatus())
    line.written()
    line.far.send(b"T1=+000000,C1=+000000,T2=+000000,C2=+000000\r\ngnat\r\n")
    for received in line.session.received(line.session.read(), line.now):
        assert isinstance(received, Answer)
        line.send(Move(1, 7), QueryStatus())
    assert line.written() == b"?\n?\n"
    line.firmware.feed(b"?\n?\n", line.now)
    line.far.send(b"T1=+000000,C1=+000000,T2=+000000,C2=+000000\r\n")
    list(line.session.received(line.session.read(), line.now))
    line.get_into_step()
    line.session.send_again(line.now, without_moves_of=[])
    assert line.written() == b"1+7\n?\n"


def test_what_was_meant_for_another_controller_is_forgotten(line: Line) -> None:
    fall_out_of_step(line, Move(1, 5))
    line.get_into_step()
    line.session.forget_orders()
    line.session.send_again(line.now, without_moves_of=[])
    assert line.written() == b""


def test_stops_can_be_sent_where_there_is_no_time_to_get_into_step(line: Line) -> None:
    fall_out_of_step(line, Stop(2), Move(1, 5))
    line.written()
    line.session.send_stops_unsynchronised([1])
    assert line.written() == b"1S\n2S\n"


# The end


def test_a_controller_that_does_not_answer_is_given_up_after_the_time_out(line: Line) -> None:
    assert line.session.wake_s() is None, "nothing is waited for"
    line.now += 60.0
    line.send(QueryStatus())
    assert line.session.wake_s() == line.now + TIMEOUT_S
    line.session.check_time(line.now + TIMEOUT_S - 0.01, line.now + TIMEOUT_S - 0.01)
    with pytest.raises(LinkLost, match="the controller on /dev/tty does not answer"):
        line.session.check_time(line.now + TIMEOUT_S, line.now + TIMEOUT_S)


def test_while_something_comes_it_is_not_silent(line: Line) -> None:
    line.send(QueryStatus())
    line.now += TIMEOUT_S - 1
    line.reply(b"T1=+0")
    assert line.session.wake_s() == line.now + TIMEOUT_S


def test_a_measurement_has_its_time_also_with_a_short_time_out() -> None:
    line = Line(timeout_s=0.2)
    line.get_into_step()
    line.send(QueryStatus())
    assert line.session.wake_s() == line.now + 0.2
    line.send(Measure(PROBE))
    assert line.session.wake_s() == line.now + MEASURE_S
    line.close()


def test_a_port_that_fails_is_lost_with_its_name() -> None:
    line = Line()
    line.far.close()
    with pytest.raises(LinkLost, match="lost the controller: /dev/tty failed"):
        line.session.write()
    with pytest.raises(LinkLost, match="lost the controller: /dev/tty"):
        list(line.session.received(line.session.read(), line.now))
    line.close()


def test_a_port_that_is_hung_up_is_lost(line: Line) -> None:
    line.far.shutdown(socket.SHUT_WR)
    with pytest.raises(LinkLost, match="/dev/tty was unplugged or closed"):
        list(line.session.received(line.session.read(), line.now))


def test_a_port_that_takes_only_some_gets_the_rest_later(line: Line) -> None:
    stops = [Stop(1)] * 200_000
    line.send(*stops)
    line.session.write()
    assert line.session.unwritten
    line.session.write()
    assert line.session.read() == b"", "nothing to read is no end"
    came = b""
    while piece := line.written():
        came += piece
    assert came == b"1S\n" * len(stops)
