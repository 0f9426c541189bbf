# SPDX-License-Identifier: GPL-3.0-or-later
"""What is measured of a driver, each a function that sets up its stands and returns rows for the table.

Two stands run at the same time and are measured in turns, so that whatever the machine does meanwhile meets both.
Pauses between repetitions are of random length: nothing may fall into step with a poll.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from . import chain
from .processes import resident_mb, usage
from .report import Row, Target, percentile
from .stand import ABORT, OURS, POSITION, THEIRS, Stand

BYTE_MS = 10 / 9600 * 1000
STATUS_BYTES = 45
"""A status line of two channels; its query has two bytes."""

TRIES = 10
"""A reply is coming in half of the time; so of this many aborts at least one meets one."""

FAR = 3000
"""Steps of a move that no repetition completes: half a minute."""


@dataclass(frozen=True)
class Effort:
    """How many repetitions, how many seconds."""

    aborts: int = 120
    aborts_in_load: int = 100
    arrivals: int = 30
    arrivals_paced: int = 30
    starts: int = 40
    watch_s: float = 15.0
    idle_s: float = 40.0
    growth_s: float = 6.0
    growth_aborts: int = 60
    sets: int = 20
    status_batches: int = 20


QUICK = Effort(10, 10, 4, 4, 4, 3.0, 11.0, 2.0, 10, 3, 3)


def _ms(seconds: float) -> float:
    return seconds * 1000


class _Mover:
    """Sends a focuser to and fro, so that it never leaves its travel."""

    def __init__(self, stand: Stand) -> None:
        self.stand = stand
        self._middle = stand.position() + 5 * FAR
        self._outward = False

    def start(self) -> float:
        """Begin a long move, now this way, now that. How long the command took to the wire, ms."""
        self._outward = not self._outward
        self.stand.client.forget()
        self.stand.traffic()
        sent_s = self.stand.go(self._middle + (FAR if self._outward else -FAR))
        self.stand.shown(POSITION, "Busy")
        wire_s, _ = self.stand.on_wire(self.stand.driver.move, sent_s)
        return _ms(wire_s - sent_s)

    def abort(self) -> tuple[float, bool]:
        """Abort it: how long that took to the wire in ms, and whether a status reply was coming in just then."""
        before = self.stand.traffic()
        sent_s = self.stand.abort()
        self.stand.shown(ABORT, "Ok")
        wire_s, seen = self.stand.on_wire((self.stand.driver.stop,), sent_s)
        queries = [at_s for at_s, who, text in before + seen if who == "host" and "?" in text and at_s < sent_s]
        in_flight = bool(queries) and wire_s < queries[-1] + (2 + STATUS_BYTES) * BYTE_MS / 1000
        return _ms(wire_s - sent_s), in_flight


def latencies(effort: Effort) -> list[Row]:
    """Click → wire, abort → wire, standstill → Ok, memory; the line not paced, one client."""
    with ExitStack() as stack:
        stands = [stack.enter_context(Stand(driver)) for driver in (OURS, THEIRS)]
        movers = [_Mover(stand) for stand in stands]
        clicks: list[list[float]] = [[], []]
        aborts: list[list[float]] = [[], []]
        for _ in range(effort.aborts):
            for index, mover in enumerate(movers):
                clicks[index].append(mover.start())
                time.sleep(random.uniform(0.03, 0.15))
                aborts[index].append(mover.abort()[0])
                time.sleep(random.uniform(0.02, 0.05))
        outward, inward = _arrivals(stands, effort.arrivals)
        memory = [[resident_mb(stand.pid)] for stand in stands]
    arrival = (Target("median", 0.02, True),)
    wire = (Target("median", 1), Target("p99", 3))
    return [
        _row("click", "click → wire", "ms", clicks, wire, plot=True),
        _row("abort", "abort → wire", "ms", aborts, wire, plot=True),
        _row("arrival_out", "standstill → Ok, outward", "ms", outward, arrival, plot=True),
        _row("arrival_in", "standstill → Ok, inward", "ms", inward, arrival, plot=True),
        _row("memory", "resident memory, connected", "MB", memory, (Target("median", 1.6, True),)),
    ]


def _row(
    key: str,
    title: str,
    unit: str,
    samples: Sequence[Sequence[float]],
    targets: tuple[Target, ...] = (),
    *,
    plot: bool = False,
) -> Row:
    ours, theirs = (tuple(samples[0]), tuple(samples[1])) if len(samples) == 2 else (tuple(samples[0]), ())
    return Row(key, title, unit, ours, theirs, targets, plot)


def _arrivals(stands: Sequence[Stand], count: int) -> tuple[list[list[float]], list[list[float]]]:
    """From the motor's standstill to the client's Ok, ms: outward moves and inward moves."""
    found: tuple[list[list[float]], list[list[float]]] = ([[] for _ in stands], [[] for _ in stands])
    for stand in stands:
        _settle(stand)
    for _ in range(count):
        steps = random.randint(8, 50)
        for way in (0, 1):
            for index, stand in enumerate(stands):
                found[way][index].append(_arrival(stand, -steps if way else steps))
                time.sleep(random.uniform(0.0, 0.1))
    return found


def _settle(stand: Stand) -> None:
    """Come to rest at a place that the client knows."""
    time.sleep(1.2)
    stand.standstill()
    stand.client.forget()


def _arrival(stand: Stand, steps: int) -> float:
    stand.traffic()
    target = stand.position() + steps
    sent_s = stand.go(target)
    stand.shown(POSITION, "Busy")
    stand.on_wire(stand.driver.move, sent_s)
    ok = stand.shown(POSITION, "Ok", target)
    return _ms(ok.at_s - stand.standstill())


def paced(effort: Effort) -> list[Row]:
    """At true 9600 baud: arrival, updates, and the processor's share."""
    with Stand(OURS, baud=9600) as stand:
        outward, inward = _arrivals([stand], effort.arrivals_paced)
        rate, share = _watch(stand, effort.watch_s)
    limit_ms = (2 + STATUS_BYTES) * BYTE_MS
    return [
        _row(
            "arrival_out_9600", "standstill → Ok, outward, 9600 baud", "ms", outward,
            (Target("median", limit_ms + 55), Target("p99", limit_ms + 55)), plot=True,
        ),
        _row(
            "arrival_in_9600", "standstill → Ok, inward, 9600 baud", "ms", inward,
            (Target("median", limit_ms + 55), Target("p99", limit_ms + 55)), plot=True,
        ),
        _row("updates_9600", "position updates while moving, 9600 baud", "1/s", [[rate]],
             (Target("median", 10, at_least=True),)),
        _row("cpu_moving_9600", "processor while moving, 9600 baud", "%", [[share]], (Target("median", 2),)),
    ]  # fmt: skip


def _watch(stand: Stand, for_s: float) -> tuple[float, float]:
    """While it moves: position updates a second, and the processor's share in %."""
    mover = _Mover(stand)
    mover.start()
    time.sleep(0.5)
    stand.client.forget()
    before = usage(stand.pid)
    came = [vector.at_s for vector in stand.client.collect(for_s) if vector.name == POSITION]
    after = usage(stand.pid)
    mover.abort()
    return (len(came) - 1) / (came[-1] - came[0]), (after.cpu_s - before.cpu_s) / (after.at_s - before.at_s) * 100


def load(effort: Effort) -> list[Row]:
    """Abort → wire while moving at 9600 baud, polled at 10 Hz, with 50 more clients; ours with a reply in flight."""
    with ExitStack() as stack:
        stands = [
            stack.enter_context(Stand(driver, baud=9600, clients=49, polling_ms=100)) for driver in (OURS, THEIRS)
        ]
        movers = [_Mover(stand) for stand in stands]
        found: list[list[float]] = [[], []]
        for _ in range(effort.aborts_in_load * TRIES):
            if len(found[0]) >= effort.aborts_in_load:
                break
            for index, mover in enumerate(movers):
                mover.start()
                time.sleep(random.uniform(0.15, 0.4))
                took_ms, in_flight = mover.abort()
                if in_flight or index == 1:
                    found[index].append(took_ms)
                time.sleep(random.uniform(0.02, 0.05))
        if len(found[0]) < effort.aborts_in_load:
            tried = effort.aborts_in_load * TRIES
            raise TimeoutError(f"of {tried} aborts only {len(found[0])} met a reply that was coming in")
    title = "abort → wire, 9600 baud, 10 Hz, 50 clients, reply in flight"
    return [_row("abort_load", title, "ms", found, (Target("p99", 5),), plot=True)]


def starts(effort: Effort) -> list[Row]:
    """From the order to start it (indiserver's FIFO) to the last definition at the client, not connected."""
    found: list[list[float]] = [[], []]
    with ExitStack() as stack:
        stands = [stack.enter_context(Stand(driver, connect=False)) for driver in (OURS, THEIRS)]
        all_of = [_start_once(stand, None)[1] for stand in stands]
        for _ in range(effort.starts):
            for index, stand in enumerate(stands):
                found[index].append(_ms(_start_once(stand, all_of[index])[0]))
    return [_row("start", "start → all definitions", "ms", found, (Target("median", 100),), plot=True)]


def _start_once(stand: Stand, wanted: set[tuple[str, str]] | None) -> tuple[float, set[tuple[str, str]]]:
    stand.client.forget()
    began_s = time.monotonic()
    stand.order(f"start {stand.driver.executable}")
    came: set[tuple[str, str]] = set()
    while wanted is None or came != wanted:
        try:
            vector = stand.client.next(
                lambda vector: vector.kind == "def",
                f"more definitions of {stand.driver.name} than {len(came)}",
                1.5 if wanted is None else 20.0,
            )
        except TimeoutError:
            if wanted is None and came:
                break
            raise
        came.add((vector.device, vector.name))
        last_s = vector.at_s
    stand.order(f"stop {stand.driver.executable}")
    time.sleep(0.1)
    return last_s - began_s, came


def idle(effort: Effort) -> list[Row]:
    """Connected and at rest: wake-ups and the processor's share. And the latter while moving."""
    with ExitStack() as stack:
        stands = [stack.enter_context(Stand(driver)) for driver in (OURS, THEIRS)]
        for stand in stands:
            stand.traffic()
        before = [usage(stand.pid) for stand in stands]
        time.sleep(effort.idle_s)
        after = [usage(stand.pid) for stand in stands]
        polls = [sum(who == "host" for _, who, _ in stand.traffic()) for stand in stands]
        shares = [[(b.cpu_s - a.cpu_s) / (b.at_s - a.at_s) * 100] for a, b in zip(before, after)]
        wakeups = [[(b.wakeups - a.wakeups) / (b.at_s - a.at_s)] for a, b in zip(before, after)]
        beyond = (after[0].wakeups - before[0].wakeups - 2 * polls[0]) / effort.idle_s
        moving = [_watch(stand, effort.watch_s) for stand in stands]
    return [
        _row("idle_wakeups", "wake-ups, idle", "1/s", wakeups),
        _row("idle_beyond", "wake-ups, idle, other than to poll and to read the answer", "1/s", [[beyond]],
             (Target("median", 0),)),
        _row("cpu_idle", "processor, idle", "%", shares, (Target("median", 0.1),)),
        _row("cpu_moving", "processor while moving", "%", [[share] for _, share in moving], (Target("median", 2),)),
        _row("updates", "position updates while moving", "1/s", [[rate] for rate, _ in moving],
             (Target("median", 10, at_least=True),)),
    ]  # fmt: skip


def observatory(effort: Effort) -> list[Row]:
    """focus and focusd: the whole chain."""
    return chain.measure(effort.sets, effort.status_batches)


CHANNELS = (1, 3, 9)
CLIENTS = (1, 50, 200)


def growth(effort: Effort) -> list[Row]:
    """What more channels and more clients cost: processor time for each update, and abort → wire."""
    rows = []
    for channels in CHANNELS:
        costs, aborts = _grown(effort, channels=channels)
        what = f"{channels} channels moving" if channels > 1 else "1 channel moving"
        rows.append(_row(f"update_{channels}ch", f"processor for each update, {what}", "µs", [costs]))
        rows.append(_row(f"abort_{channels}ch", f"abort → wire, {what}", "ms", [aborts]))
    for clients in CLIENTS:
        costs, aborts = _grown(effort, clients=clients)
        what = f"{clients} clients" if clients > 1 else "1 client"
        rows.append(_row(f"update_{clients}cl", f"processor for each update, {what}", "µs", [costs]))
        rows.append(_row(f"abort_{clients}cl", f"abort → wire, {what}", "ms", [aborts]))
    return [*rows, *_flatness(rows)]


def _grown(effort: Effort, *, channels: int = 2, clients: int = 1) -> tuple[list[float], list[float]]:
    with Stand(OURS, channels=channels, clients=clients - 1, polling_ms=100) as stand:
        for channel in range(2, channels + 1):
            stand.go(8 * FAR, channel)
        mover = _Mover(stand)
        mover.start()
        time.sleep(0.5)
        stand.client.forget()
        before = usage(stand.pid)
        came = stand.client.collect(effort.growth_s)
        after = usage(stand.pid)
        cost = (after.cpu_s - before.cpu_s) / sum(vector.name == POSITION for vector in came) * 1e6
        aborts = []
        for _ in range(effort.growth_aborts):
            aborts.append(mover.abort()[0])
            mover.start()
            time.sleep(random.uniform(0.05, 0.15))
    return [cost], aborts


def _flatness(rows: Sequence[Row]) -> list[Row]:
    """Growth as one figure each: the most costly case in units of the least grown one."""
    found = {row.key: row for row in rows}
    result = []
    for what, sizes, unit in (("channels", CHANNELS, "ch"), ("clients", CLIENTS, "cl")):
        costs = [statistics.median(found[f"update_{size}{unit}"].ours) for size in sizes]
        late = [percentile(found[f"abort_{size}{unit}"].ours, 99) for size in sizes]
        span = f"{sizes[0]} → {sizes[-1]} {what}"
        result.append(_row(f"growth_{unit}", f"processor for each update, {span}", "×", [[costs[-1] / costs[0]]],
                           (Target("median", 1.1),)))  # fmt: skip
        result.append(_row(f"growth_abort_{unit}", f"abort → wire p99, {span}", "×", [[late[-1] / late[0]]]))
    return result
