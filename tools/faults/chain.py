# SPDX-License-Identifier: GPL-3.0-or-later
"""What `rounds.py` works with: the processes of a chain, what is known of a channel, and what rounds led to."""

from __future__ import annotations

import signal
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from configuration import configured
from support import FocuserClient, IndiServer

from indi_multifocus.simulator import Simulator

TWO = "MultiFocus 2"
CLIENTS = 3


@dataclass
class Frame:
    """What the places of a channel are called: `position` is where the shaft was at `shaft` (steps)."""

    position: float = 0.0
    shaft: float = 0.0
    sign: int = 1
    known: bool = False

    def position_of(self, shaft: float) -> float:
        """The true position."""
        return self.position + self.sign * (shaft - self.shaft)


@dataclass(frozen=True)
class Request:
    """One that a client made; `since`: how many messages it had received before."""

    client: FocuserClient
    since: int
    device: str
    name: str

    def is_answered(self) -> bool:
        """Whether the client has received anything about that property since."""
        return any(
            answer.device == self.device and (answer.name == self.name or self.name in answer.message)
            for answer in self.client.received[self.since :]
        )


@dataclass
class Result:
    """What some rounds led to."""

    rounds: int = 0
    requests: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    shown: Counter[str] = field(default_factory=Counter)
    """States of the positions at the end."""
    problems: list[tuple[int, str]] = field(default_factory=list)
    """The seed, and what was wrong."""
    traces: dict[int, list[str]] = field(default_factory=dict)
    """By seed, where something was wrong."""

    def add(self, other: Result) -> None:
        """These too."""
        self.rounds += other.rounds
        self.requests += other.requests
        self.faults += other.faults
        self.shown += other.shown
        self.problems += other.problems
        self.traces.update(other.traces)


class Chain:
    """The processes and the controller, for many rounds."""

    def __init__(self, folder: Path) -> None:
        self.simulator = Simulator(link=folder / "focuser")
        home = folder / "home"
        home.mkdir()
        extra = configured(
            folder / "focus.json",
            self.simulator.port,
            serial_timeout=0.6,
            idle_loop_delay=0.3,
            moving_loop_delay=0.03,
            move_timeout=20,
        )
        self.server = IndiServer(home, extra, restarts=1_000_000)
        self.clients: list[FocuserClient] = []
        self._stack = ExitStack()

    def __enter__(self) -> Chain:
        with ExitStack() as stack:
            stack.enter_context(self.simulator)
            stack.enter_context(self.server)
            self.call()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *problem: object) -> None:
        self._stack.close()

    def was_ended(self) -> bool:
        """Whether somebody else has ended indiserver: a KStars that starts on this machine ends all that run."""
        return self.server.process.poll() in (-signal.SIGTERM, -signal.SIGKILL)

    def call(self) -> None:
        """Have clients that know this driver, and no others."""
        for client in self.clients:
            self.server.hang_up(client)
        self.clients = [self.server.client() for _ in range(CLIENTS)]
        for client in self.clients:
            client.wait(lambda client=client: client.property(TWO, "DEVICE_PORT_SCAN"), "the devices")  # type: ignore[misc]
