# SPDX-License-Identifier: GPL-3.0-or-later
"""Clients of all manners, through the real indiserver: what each sends is understood, and none harms another."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import THROWAWAY, FocuserClient, IndiServer

pytestmark = pytest.mark.skipif(shutil.which("indiserver") is None, reason="indiserver is not installed")

DEVICE = "Throwaway"


@pytest.fixture
def server(home: Path) -> Iterator[IndiServer]:
    with IndiServer(home, program=THROWAWAY) as server:
        yield server


@pytest.fixture
def client(server: IndiServer) -> FocuserClient:
    client = server.client()
    client.settle(DEVICE)
    return client


def numbers(x: str) -> str:
    return f"<newNumberVector device='{DEVICE}' name='NUMBERS'><oneNumber name='X'>{x}</oneNumber></newNumberVector>"


def texts(text: str) -> str:
    return f"<newTextVector device='{DEVICE}' name='TEXTS'><oneText name='SAID'>{text}</oneText></newTextVector>"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12:30", "12.5"),
        ("\n      12:30:00\n  ", "12.5"),
        ("  12 30  0.0 ", "12.5"),
        ("\t12;30", "12.5"),
        (" 0:00:36 ", "0.01"),
        ("1.25e1", "12.5"),
        ("   42", "42"),
    ],
)
def test_numbers_are_understood_as_clients_write_them(client: FocuserClient, text: str, value: str) -> None:
    since = len(client.received)
    client.send(numbers(text))
    answer = client.next_set(DEVICE, "NUMBERS", since)
    assert (answer.state, answer.values["X"]) == ("Ok", value)


@pytest.mark.parametrize(
    "text", ["1e400", "0x10", "1_0", "inf", "nan", "", "1:2:3:4", "１２", "12,5", "100.5", "-0:30", "&lt;"]
)
def test_what_is_no_number_in_the_range_is_refused_and_changes_nothing(client: FocuserClient, text: str) -> None:
    since = len(client.received)
    client.send(numbers(text))
    answer = client.next_set(DEVICE, "NUMBERS", since)
    assert (answer.state, answer.values["X"]) == ("Alert", "1")
    assert "a number from 0 to 100 is expected" in answer.message


@pytest.mark.parametrize("text", ["a <&> \"b\" 'c'", "Größe 5 µm 🔭", "a]]>b", "one\ntwo", "-", "&"])
def test_a_text_comes_back_as_it_was_sent(client: FocuserClient, text: str) -> None:
    assert client.ask(DEVICE, "TEXTS", {"SAID": text}).values["SAID"] == text


def test_indi_eval_computes_with_what_the_driver_says(server: IndiServer, client: FocuserClient) -> None:
    true = server.run("indi_eval", "-t", "10", '"Throwaway.NUMBERS.Y" == 2.5 && "Throwaway.SWITCHES.A" == 1')
    assert true.returncode == 0, true.stderr
    assert server.run("indi_eval", "-t", "10", '"Throwaway.NUMBERS._STATE" == 3').returncode == 1
    client.send(numbers("42"))
    waited = server.run("indi_eval", "-t", "10", "-w", '"Throwaway.NUMBERS.X" == 42')
    assert waited.returncode == 0, waited.stderr


def test_a_new_range_reaches_every_client(server: IndiServer, client: FocuserClient) -> None:
    other = server.client()
    other.settle(DEVICE)
    client.ask(DEVICE, "DO", {"WIDEN": "On"})
    for each in (client, other):
        each.settle(DEVICE)
        assert each.devices[DEVICE]["NUMBERS"].ranges == {"X": (0, 5000, 1), "Y": (0, 0, 0)}
    assert other.ask(DEVICE, "NUMBERS", {"X": 4000}).state == "Ok"


def test_the_halves_of_clients_messages_do_not_mix(server: IndiServer, client: FocuserClient) -> None:
    others = [server.client() for _ in range(5)]
    message = numbers("7")
    for at in range(0, len(message), 10):
        for other in others:
            other.send(message[at : at + 10])
        assert client.ask(DEVICE, "NUMBERS", {"Y": at}).state == "Ok"
    client.wait(lambda: client.value(DEVICE, "NUMBERS", "X") == "7", "the message that came in pieces")


@pytest.mark.parametrize(
    "rubbish",
    [
        numbers("7")[:60],
        "<newTextVector device='Throwaway' name='TEXTS'><oneText name='SAID'>",
        "</newTextVector>",
        "<<<>>>",
        "<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>",
        texts("x" * 3_000_000),
        texts("x").replace("TEXTS", "x" * 3_000_000),
        texts("x").replace("Text", "BLOB"),
        f"<newNumberVector device='Throwaway' name='NUMBERS'>{numbers('7') * 50}</newNumberVector>",
    ],
    ids=["half", "open", "end", "brackets", "entity", "long text", "long name", "blob", "nested"],
)
def test_a_client_that_sends_rubbish_and_goes_harms_nobody(
    server: IndiServer, client: FocuserClient, rubbish: str
) -> None:
    with socket.create_connection(("127.0.0.1", server.port), 20) as bad:
        bad.sendall(b"<getProperties version='1.7'/>" + rubbish.encode())
        bad.shutdown(socket.SHUT_WR)
        while bad.recv(1 << 20):
            pass
    assert client.ask(DEVICE, "NUMBERS", {"X": 9}).values["X"] == "9"
    assert client.value(DEVICE, "TEXTS", "SAID") == "Größe <&> 5 µm"
