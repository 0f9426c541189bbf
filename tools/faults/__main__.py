# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m tools.faults`: thousands of schedules of faults, and the table of docs/reliability.md. For `make faults`.

FAULT_SECONDS bounds the time (default 300), FAULT_SEED names the first seed (default: 0), and FAULT_REPLAY shows what
happens in one schedule: "<seed> <kind>" as printed where something went wrong. The exit status is 1 when anything did.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from indi_multifocus import __version__

from .chain import Result
from .rounds import run_rounds
from .schedule import EVERYTHING, FAULTS, Outcome, run

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"
TRACES = PAGE.parents[1] / "build" / "faults"
BEGIN, END = "<!-- what make faults found: begin -->\n", "<!-- end -->\n"
BEGIN_ROUNDS = "<!-- what the rounds found: begin -->\n"
ROUNDS = "rounds"
WORKERS = 4
"""Chains of processes at a time; they wait for motors most of the time."""

BATCH = 8
"""Schedules of one kind that a process carries out in one go."""


@dataclass
class Row:
    """What became of the schedules of one kind."""

    schedules: int = 0
    injected: int = 0
    commands: int = 0
    losses: int = 0
    right: int = 0
    failed: int = 0
    cautious: int = 0
    unverified: int = 0
    wrong: list[tuple[int, str]] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        """One schedule more."""
        self.schedules += 1
        self.injected += sum(outcome.faults.values())
        self.commands += outcome.commands
        self.losses += outcome.losses
        self.right += outcome.right
        self.failed += outcome.failed
        self.cautious += outcome.cautious
        self.unverified += outcome.unverified
        self.wrong += [(outcome.seed, problem) for problem in outcome.problems]


def kinds_of(name: str) -> tuple[str, ...]:
    """The faults that a schedule of this row may hold."""
    return tuple(FAULTS) if name == EVERYTHING else (name,)


def batch(name: str, first: int) -> tuple[str, list[Outcome]]:
    """Some schedules of one kind; in a process of the pool."""
    return name, [run(seed, kinds_of(name)) for seed in range(first, first + BATCH)]


def measure(seconds: float, first_seed: int) -> dict[str, Row]:
    """As many schedules as there is time for: half of them of one kind of fault, half of all kinds."""
    rows = {name: Row() for name in (*FAULTS, EVERYTHING)}
    names = [name for kind in FAULTS for name in (kind, EVERYTHING)]
    end_s = time.monotonic() + seconds
    workers = os.cpu_count() or 1
    with ProcessPoolExecutor(workers) as pool:
        work = ((names[number % len(names)], first_seed + number * BATCH) for number in count())
        running = {pool.submit(batch, *next(work)) for _ in range(workers * 2)}
        while running:
            done = next(iter(running))
            running.discard(done)
            name, outcomes = done.result()
            for outcome in outcomes:
                rows[name].add(outcome)
                for problem in outcome.problems:
                    print(f'wrong: FAULT_REPLAY="{outcome.seed} {name}": {problem}', flush=True)
            if time.monotonic() < end_s:
                running.add(pool.submit(batch, *next(work)))
    return rows


def table(rows: dict[str, Row]) -> str:
    """As Markdown."""
    lines = [
        "| fault | injected | schedules | links lost | right | order failed, said so | wrong, said so "
        "| right, but not known | wrong or hung, not said |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    total = Row()
    for name, row in rows.items():
        lines.append(_line(name, row))
        for key in ("schedules", "injected", "losses", "right", "failed", "cautious", "unverified", "wrong"):
            setattr(total, key, getattr(total, key) + getattr(row, key))
    lines.append(_line("**all**", total))
    return "\n".join(lines) + "\n"


def _line(name: str, row: Row) -> str:
    numbers = (row.injected, row.schedules, row.losses, row.right, row.failed, row.unverified, row.cautious)
    return f"| {name} | {' | '.join(map(str, numbers))} | {len({seed for seed, _ in row.wrong})} |"


def write(text: str, begin: str = BEGIN) -> None:
    """Put it into the page, between the marks."""
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(begin)
    _, _, after = rest.partition(END)
    PAGE.write_text(before + begin + text + END + after, encoding="utf-8")


def measure_rounds(count: int, first_seed: int) -> Result:
    """Rounds with the real process."""
    whole = Result()
    seeds = range(first_seed, first_seed + count)
    with ProcessPoolExecutor(WORKERS) as pool:
        for result in pool.map(run_rounds, [list(seeds[start : start + BATCH]) for start in range(0, count, BATCH)]):
            whole.add(result)
            for seed, problem in result.problems:
                print(f'wrong: FAULT_REPLAY="{seed} {ROUNDS}": {problem}', flush=True)
            for seed, trace in result.traces.items():
                _keep(seed, trace)
    return whole


def _keep(seed: int, trace: list[str]) -> None:
    """Where real threads and processes run, no seed gives quite the same round again."""
    TRACES.mkdir(parents=True, exist_ok=True)
    path = TRACES / f"round-{seed}.txt"
    path.write_text("\n".join(trace) + "\n")
    print(f"what happened in it: {path}", flush=True)


def text_of_rounds(result: Result, first_seed: int, taken_s: float) -> str:
    """As Markdown."""
    shown = sum(result.shown.values())
    states = ", ".join(f"{state} {number}" for state, number in sorted(result.shown.items()))
    faults = ", ".join(f"{name} {number}" for name, number in sorted(result.faults.items()))
    return (
        f"Version {__version__}, Python {platform.python_version()}, seeds from {first_seed}: {result.rounds} rounds "
        f"with {result.requests} requests and {sum(result.faults.values())} faults in {taken_s:.0f} s; "
        f"{len({seed for seed, _ in result.problems})} of them went wrong. Of {shown} positions at the end were shown: "
        f"{states}.\n\nFaults: {faults}.\n"
    )


def replay(seed: int, name: str) -> int:
    """Show one; the exit status."""
    if name == ROUNDS:
        result = run_rounds([seed], keep_traces=True)
        print(*result.traces[seed], sep="\n")
        return 1 if result.problems else 0
    outcome = run(seed, kinds_of(name or EVERYTHING), print)
    print(*outcome.problems, sep="\n")
    return 1 if outcome.problems else 0


def main() -> int:
    """Run until the time is over; the exit status."""
    wanted = os.environ.get("FAULT_REPLAY")
    if wanted:
        seed, _, name = wanted.partition(" ")
        return replay(int(seed), name)
    begun_s = time.monotonic()
    first_seed = int(os.environ.get("FAULT_SEED", "0"))
    rows = measure(float(os.environ.get("FAULT_SECONDS", "300")), first_seed)
    taken_s = time.monotonic() - begun_s
    made = Counter(
        schedules=sum(row.schedules for row in rows.values()), wrong=sum(len(r.wrong) for r in rows.values())
    )
    commands = sum(row.commands for row in rows.values())
    text = (
        f"Version {__version__}, Python {platform.python_version()}, seeds from {first_seed}: "
        f"{made['schedules']} schedules with {commands} commands in {taken_s:.0f} s.\n\n{table(rows)}"
    )
    print(text)
    write(text)
    begun_s = time.monotonic()
    rounds = measure_rounds(int(os.environ.get("FAULT_ROUNDS", "500")), first_seed)
    text = text_of_rounds(rounds, first_seed, time.monotonic() - begun_s)
    print(text)
    write(text, BEGIN_ROUNDS)
    return 1 if made["wrong"] or rounds.problems else 0


if __name__ == "__main__":
    sys.exit(main())
