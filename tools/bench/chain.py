# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole chain of the observatory, each part a process, and what is measured of it.

focus ── focusd ── indiserver ── driver ── wire ── device
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import Pyro4
from configuration import configure_focusd
from waiting import eventually

from .processes import PROJECT, Helper, end, environment, start
from .report import Row, Target

OVERHEAD_MS = 150
STATUS_RATIO = 0.7


class Chain:
    """A context manager; when it is entered, focusd is connected to the controller."""

    def __init__(self) -> None:
        self._stack = ExitStack()

    def __enter__(self) -> Chain:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="bench-")))
            env = environment(folder)
            self._device = Helper("tools.bench.device", "multifocus", "2", env=env)
            stack.callback(self._device.close)
            self._wire = Helper("tools.bench.wire", str(self._device.ready), "0", "pty", env=env)
            stack.callback(self._wire.close)
            config = folder / "bench.json"
            port = configure_focusd(config, str(self._wire.ready), moving_loop_delay=0.1)
            self._env = {**env, "FOCUSD_CONFIG_PATH": str(config)}
            log = folder / "log"
            daemon = start([command("focusd"), str(config)], self._env, log=log)
            stack.callback(end, daemon)
            eventually(lambda: b" serves " in log.read_bytes(), f"focusd; see {log}", pause_s=0.01)
            self.focusd = stack.enter_context(Pyro4.Proxy(f"PYRO:bench_daemon@127.0.0.1:{port}"))
            self.focusd._pyroTimeout = 30.0
            code = self.focusd.initialize()
            if code:
                raise RuntimeError(f"focusd could not connect (code {code}): {log.read_text()}")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def set(self, steps: int) -> tuple[float, float]:
        """Run `focus set 1 STEPS`: milliseconds from its start to the command on the wire, and from the motor's
        standstill to its end."""
        self._wire.ask("take")
        began_s = time.monotonic()
        subprocess.run([command("focus"), "set", "1", str(steps)], env=self._env, cwd=PROJECT, check=True, timeout=60)
        ended_s = time.monotonic()
        sent = [at_s for at_s, who, text in self._wire.ask("take") if who == "host" and f"1{steps:+d}" in text]
        if not sent:
            raise RuntimeError(f"`focus set 1 {steps}` ended, and 1{steps:+d} was not on the wire")
        wire_s = sent[0]
        return (wire_s - began_s) * 1000, (ended_s - float(self._device.ask("?"))) * 1000


def command(name: str) -> str:
    """The console script beside this Python."""
    return str(Path(sys.executable).with_name(name))


def measure(sets: int, batches: int) -> list[Row]:
    """`focus set` beyond the motor's time, and the rate of report_status beside a bare Pyro4 object's."""
    with Chain() as chain:
        spans = []
        for number in range(sets):
            spans.append(chain.set(random.randint(10, 60) * (1 if number % 2 else -1)))
            time.sleep(random.uniform(0.0, 0.1))
        rates = _rates(chain, batches)
    whole = tuple(before + after for before, after in spans)
    limits = (Target("median", OVERHEAD_MS), Target("p99", OVERHEAD_MS))
    return [
        Row("focus_set", "`focus set` beyond the motor's time", "ms", whole, (), limits, True),
        Row("focus_set_wire", "of which: its start → wire", "ms", tuple(before for before, _ in spans)),
        Row("focus_set_end", "of which: standstill → its end", "ms", tuple(after for _, after in spans)),
        Row("report_status", "report_status, beside a bare Pyro4 object", "1/s", *rates,
            (Target("median", STATUS_RATIO, ratio=True, at_least=True),)),
    ]  # fmt: skip


def _rates(chain: Chain, batches: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Calls a second: focusd's and the bare object's, in turns, both on a connection that stands."""
    bare = Helper("tools.bench.bare", json.dumps(chain.focusd.report_status()), env=dict(os.environ))
    try:
        with Pyro4.Proxy(bare.ready) as other:
            other._pyroTimeout = 30.0
            found: tuple[list[float], list[float]] = ([], [])
            for _ in range(batches):
                for rates, proxy in zip(found, (chain.focusd, other)):
                    rates.append(_rate(proxy))
    finally:
        bare.close()
    return tuple(found[0]), tuple(found[1])


def _rate(proxy: Any, calls: int = 200) -> float:
    began_s = time.monotonic()
    for _ in range(calls):
        proxy.report_status()
    return calls / (time.monotonic() - began_s)
