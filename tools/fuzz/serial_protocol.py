# SPDX-License-Identifier: GPL-3.0-or-later
"""Anything on the serial line: a conversation takes it in any fragmentation, and believes no more than what fits."""

from __future__ import annotations

from indi_multifocus.controller.conversation import (
    Answered,
    CommandError,
    Conversation,
    Event,
    NotAController,
    OutOfStep,
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
    Temperature,
    Zero,
)

from .choices import Choices

LINES = (
    b"T1=+000000,C1=+000000,T2=+000000,C2=+000000\r\n",
    b"T1=-000250,C1=+001234,T2=+999999,C2=-999999\r\n",
    b"T1=+1234567,C1=-1234567\r\n",
    b"T1=+1234567,C1=+000195T2=+000000,C2=+00000\r\n",
    b"$\r\n",
    b"?\r\n",
    b"0\r\n",
    b"1\r\n",
    b"21.0625\r\n",
    b"4095.5000\r\n",
    b"FAILED\r\n",
    b"\r\n",
    b"T1=+000123,C1=+000195,T2=+000000,C2=+00000\r\n",
)

ZEROS, STATUS, CUT, DONE, WHAT, OFF, ON, WARM = (bytes([6, LINES.index(line)]) for line in (
    LINES[0], LINES[1], LINES[12], b"$\r\n", b"?\r\n", b"0\r\n", b"1\r\n", b"21.0625\r\n"
))  # fmt: skip
"""It comes in."""

FIRST, SECOND = b"\2" + ZEROS + WHAT * 3, b"\2" + ZEROS + OFF * 2
"""The handshakes of the two generations."""

QUERY, MOVE, STOP, ZERO, FANS, SWITCH, MEASURE = (
    bytes([0, *order]) for order in ([0, 0], [1, 1, 2, 3, 232, 0], [2, 1], [3, 2], [4, 0], [5, 1], [6, 1])
)
"""It is sent."""

SEEDS = [
    FIRST + QUERY + STATUS + MOVE + QUERY + DONE + STATUS,
    SECOND + QUERY + STATUS + MOVE + STOP + ZERO + QUERY + DONE * 3 + STATUS,
    SECOND + FANS + ON + SWITCH + DONE + MEASURE + WARM,
    SECOND + QUERY + CUT + b"\2" + STATUS + OFF * 2,
    SECOND + QUERY + MOVE + DONE + b"\2" + DONE + STATUS + ON * 2,
    b"\2" + WHAT * 40,
    b"\2" + bytes([3, 40]) + b"x" * 40,
]

WORDS = [line.decode() for line in LINES]

_REPLIES: dict[type, type] = {
    QueryStatus: Status,
    QueryFans: Fans,
    SwitchFans: Acknowledged,
    Move: Acknowledged,
    Stop: Acknowledged,
    Zero: Acknowledged,
    Measure: Temperature,
}


def run(data: bytes) -> None:
    """Play what `data` decides on two conversations, of which one gets every byte by itself."""
    choices = Choices(data)
    whole, cut = Conversation(), Conversation()
    sent: list[Command] = []
    received = b""
    while choices.more:
        action = choices.byte() % 8
        if action == 2:
            assert whole.synchronise() == cut.synchronise()
            sent.clear()
        elif action in (0, 4, 5):
            _send(whole, cut, _command(choices), sent)
        else:
            coming = choices.some_bytes() if action == 3 else choices.pick(LINES)
            received += coming
            events = whole.receive(coming)
            assert [event for n in range(len(coming)) for event in cut.receive(coming[n : n + 1])] == events
            for event in events:
                _check(event, sent, received)
        assert whole.more_to_send() == cut.more_to_send()
        assert whole.unanswered == len(sent)


def _send(whole: Conversation, cut: Conversation, command: Command, sent: list[Command]) -> None:
    refusal = CommandError if whole.synchronised else RuntimeError
    try:
        line = whole.send(command)
    except refusal:
        return
    assert cut.send(command) == line
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert b"\r" not in line
    assert len(line) <= (16 if whole.generation == 1 else 18)
    sent.append(command)


def _check(event: Event, sent: list[Command], received: bytes) -> None:
    """What is believed was asked for, and received in just these bytes."""
    if isinstance(event, Answered):
        assert event.command is sent.pop(0)
        assert isinstance(event.reply, _REPLIES[type(event.command)])
        if isinstance(event.reply, Status):
            assert _line(event.reply) in received
        elif isinstance(event.reply, Temperature) and event.reply.celsius is not None:
            celsius = event.reply.celsius
            assert any(b"%.4f\r\n" % number in received for number in (celsius, celsius + 4096))
    elif isinstance(event, OutOfStep):
        assert event.unanswered == tuple(sent)
        sent.clear()
    elif isinstance(event, Synchronised):
        assert len(event.status.targets) == len(event.status.currents) == event.channels
        assert (event.fans is None) == (event.generation == 1)
        assert _line(event.status) in received
    elif isinstance(event, NotAController):
        assert event.reason.isprintable()


def _line(status: Status) -> bytes:
    """As a controller sends it."""
    places = zip(status.targets, status.currents)
    return b",".join(b"T%d=%+07d,C%d=%+07d" % (n, target, n, current) for n, (target, current) in enumerate(places, 1))


def _command(choices: Choices) -> Command:
    kind = choices.byte() % 7
    channel = choices.byte() % 11
    if kind == 0:
        return QueryStatus()
    if kind == 1:
        return Move(channel, choices.number())
    if kind == 2:
        return Stop(channel)
    if kind == 3:
        return Zero(channel)
    if kind == 4:
        return QueryFans()
    if kind == 5:
        return SwitchFans(bool(channel % 2))
    return Measure("28EFE61E0B0000B9" if channel else choices.text())
