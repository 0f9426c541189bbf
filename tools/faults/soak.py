# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m tools.faults.soak`: does memory grow over a million status polls? `make soak` runs this.

Two chains of real processes, each with a simulated controller whose motors are quick:

- indiserver with the driver, which asks the controller every 0.1 ms while a client reads, and moves, retargets and
  aborts both channels all the time: SOAK_POLLS polls (1,000,000);
- focusd with its own indiserver and driver: SOAK_CALLS calls of report_status (100,000), and two clients that move a
  channel each, all the time, at least SOAK_CALLS / 50 moves in all.

The resident memory is read after each tenth, when all is at rest and the driver has been found to agree with the
controller. The first tenth is the warm-up. The table goes into docs/reliability.md; the exit status is 1 when a process
held more than ROOM_KB more after a later tenth than after the first, or when driver and controller did not agree.
"""

from __future__ import annotations

import os
import platform
import random
import re
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import Pyro4
from client import Received
from configuration import configure_focusd, configured
from ports import free_port
from waiting import eventually

from focus_cli import indiserver
from indi_multifocus import __version__
from indi_multifocus.simulator import Simulator
from tools.bench.client import Client
from tools.bench.processes import child, end, environment, start
from tools.bench.stand import connect, our_executable

from .__main__ import write

BEGIN = "<!-- what make soak found: begin -->\n"

ROOM_KB = 512
"""More than this is growth. A Python process comes and goes by some pages, whatever it does."""

SPEED = 500.0
"""Of the motors, in real ones: a move takes milliseconds."""

POLLING_S = 0.0001
CHANNELS = (1, 2)
POSITION = "ABS_FOCUS_POSITION"


class CountingSimulator(Simulator):
    """Knows how often it was asked for its status."""

    polls = 0

    def _note(self, data: bytes, now: float) -> int:
        self.polls += data.count(b"?")
        return super()._note(data, now)


def resident_kb(pid: int) -> int:
    """What a process holds in memory now."""
    found = re.search(r"VmRSS:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1])


@contextmanager
def place() -> Iterator[tuple[ExitStack, Path, CountingSimulator]]:
    """A folder and a controller, and what ends the processes that are started there."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-")))
        simulator = CountingSimulator(speed=SPEED)
        stack.enter_context(simulator)
        yield stack, folder, simulator


# The driver


class Restless:
    """An INDI client that wants something else all the time, and reads all that it is sent."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._random = random.Random(0)
        self.orders = 0

    def order(self) -> None:
        """Something else for one of the channels."""
        self.orders += 1
        device = f"MultiFocus {self._random.choice(CHANNELS)}"
        what = self._random.random()
        if what < 0.7:
            self._client.set(device, POSITION, FOCUS_ABSOLUTE_POSITION=self._random.randrange(-50_000, 50_000))
        elif what < 0.8:
            self._client.set(device, "FOCUS_ABORT_MOTION", ABORT="On")
        elif what < 0.9:
            self._client.set(device, "FOCUS_MOTION", **{self._random.choice(("FOCUS_INWARD", "FOCUS_OUTWARD")): "On"})
            self._client.set(device, "REL_FOCUS_POSITION", FOCUS_RELATIVE_POSITION=self._random.randrange(5000))
        elif what < 0.95:
            self._client.set(device, "Presets", PRESET_1=self._random.randrange(-50_000, 50_000))
            self._client.set(device, "Goto", **{"Preset 1": "On"})
        elif what < 0.99:
            self._client.set(device, POSITION, FOCUS_ABSOLUTE_POSITION=1e9)  # refused
        else:
            self._client.get_properties()
        time.sleep(0.02)
        self._client.forget()

    def position(self, channel: int) -> int:
        """Where a channel is by the driver's word, once it has been stopped and moved a last time.

        On a busy machine the simulated controller may answer so late that its position is unverified: it is synced.
        """
        device, goal = f"MultiFocus {channel}", self._random.randrange(-50_000, 50_000)

        def stands(vector: Received) -> bool:
            at_goal = (vector.device, vector.name) == (device, POSITION) and vector.number() == goal
            return at_goal and vector.state in ("Ok", "Alert")

        def synced(vector: Received) -> bool:
            return (vector.device, vector.name, vector.state) == (device, "FOCUS_SYNC", "Ok")

        self._client.set(device, POSITION, FOCUS_ABSOLUTE_POSITION=goal)
        position = self._client.next(stands, f"{device} to stand at {goal}")
        if position.state == "Alert":
            self._client.set(device, "FOCUS_SYNC", FOCUS_SYNC_VALUE=goal)
            self._client.next(synced, f"{device} to be synced")
        return round(position.number())


def soak_driver(polls: int) -> tuple[list[tuple[int, ...]], list[str]]:
    """Rows of (polls, orders, kB of the driver), and what went wrong."""
    rows: list[tuple[int, ...]] = []
    problems: list[str] = []
    with place() as (stack, folder, simulator):
        extra = configured(folder / "multifocus.json", simulator.port, moving_loop_delay=POLLING_S)
        env = {**environment(folder), **extra}
        command = indiserver.command(free_port(), str(folder / "socket"), our_executable())
        server = start(command, env, log=folder / "log")
        stack.callback(end, server)
        client = connect(int(command[2]))
        stack.callback(client.close)
        client.get_properties()
        client.next(
            lambda vector: (vector.device, vector.name) == ("MultiFocus 2", "DEVICE_PORT_SCAN"), "the definitions"
        )
        for channel in CHANNELS:
            client.set(f"MultiFocus {channel}", "CONNECTION", CONNECT="On", DISCONNECT="Off")
            client.next(lambda vector: vector.name == "FOCUS_LINK_INFO", "the connection")
        driver, restless = child(server.pid), Restless(client)
        for tenth in range(1, 11):
            while simulator.polls < polls * tenth // 10:
                restless.order()
            for channel in CHANNELS:
                shown, true = restless.position(channel), simulator.position(channel)
                if shown != true:
                    problems.append(f"channel {channel} is at {true}, and {shown} is shown")
            rows.append((simulator.polls, restless.orders, resident_kb(driver)))
            print(*rows[-1], flush=True)
        if "Traceback" in (folder / "log").read_text():
            problems.append((folder / "log").read_text())
    return rows, problems


# focusd


class Mover(threading.Thread):
    """A Pyro client that moves a channel, all the time."""

    def __init__(self, proxy: Callable[[], Pyro4.Proxy], channel: int) -> None:
        super().__init__(name=f"mover {channel}")
        self._proxy = proxy
        self._channel = channel
        self._random = random.Random(channel)
        self._ending = False
        self.moves = 0
        self.problem = ""

    def run(self) -> None:
        with self._proxy() as focusd:
            while not self._ending and not self.problem:
                code = focusd.set_focus(self._channel, self._random.randrange(-500, 500))
                self.moves += 1
                if code != 0:
                    self.problem = f"set_focus of channel {self._channel} returned {code}"

    def end(self) -> None:
        """Returns when the last move has ended."""
        self._ending = True
        self.join()


def soak_focusd(calls: int) -> tuple[list[tuple[int, ...]], list[str]]:
    """Rows of (calls of report_status, moves, kB of focusd, kB of its driver), and what went wrong."""
    rows: list[tuple[int, ...]] = []
    problems: list[str] = []
    with place() as (stack, folder, simulator):
        path = folder / "soak.json"
        number = configure_focusd(path, simulator.port, moving_loop_delay=0.01)
        process = start([sys.executable, "focusd", str(path)], environment(folder), log=folder / "log")
        stack.callback(end, process)

        def proxy() -> Pyro4.Proxy:
            return Pyro4.Proxy(f"PYRO:soak_daemon@127.0.0.1:{number}")

        focusd = stack.enter_context(proxy())
        _initialize(focusd)
        driver = child(child(process.pid))
        done = moved = 0
        for tenth in range(1, 11):
            movers = [Mover(proxy, channel) for channel in CHANNELS]
            for mover in movers:
                mover.start()
            while done < calls * tenth // 10 or moved + sum(mover.moves for mover in movers) < calls * tenth // 500:
                focusd.report_status()
                done += 1
                if any(mover.problem for mover in movers):
                    break
            for mover in movers:
                mover.end()
                moved += mover.moves
                problems += [mover.problem] * bool(mover.problem)
            status = focusd.report_status()
            for channel in CHANNELS:
                shown, true = status.get(f"current_steps_{channel}"), simulator.position(channel)
                if shown != true:
                    problems.append(f"channel {channel} is at {true}, and focusd reports {shown}")
            rows.append((done, moved, resident_kb(process.pid), resident_kb(driver)))
            print(*rows[-1], flush=True)
            if problems:
                break
    return rows, problems


def _initialize(focusd: Pyro4.Proxy) -> None:
    """Once it answers."""

    def codes() -> list[int]:
        with suppress(Pyro4.errors.CommunicationError):
            return [focusd.initialize()]
        return []

    (code,) = eventually(codes, "focusd to answer", 30.0, pause_s=0.05)
    assert code == 0, f"focusd cannot connect: {code}"


# Report


def grown(rows: list[tuple[int, ...]], column: int) -> int:
    """How many kB the process of this column held more than after the warm-up, at most."""
    return max(row[column] for row in rows) - rows[0][column]


def table(heads: list[str], rows: list[tuple[int, ...]]) -> str:
    """As Markdown."""
    lines = [f"| {' | '.join(heads)} |", f"|{'--:|' * len(heads)}"]
    lines += [f"| {' | '.join(f'{number:,}' for number in row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run both; the exit status."""
    polls = int(os.environ.get("SOAK_POLLS") or 1_000_000)
    calls = int(os.environ.get("SOAK_CALLS") or 100_000)
    begun_s = time.monotonic()
    driver_rows, problems = soak_driver(polls)
    focusd_rows, more = soak_focusd(calls)
    problems += more
    taken_s = time.monotonic() - begun_s
    growth = {
        "the driver": grown(driver_rows, 2),
        "focusd": grown(focusd_rows, 2),
        "focusd's driver": grown(focusd_rows, 3),
    }
    problems += [f"{name} grew by {kb} kB" for name, kb in growth.items() if kb > ROOM_KB]
    text = (
        f"Version {__version__}, Python {platform.python_version()}, {taken_s:.0f} s. Growth after the first tenth, at "
        f"most: {', '.join(f'{name} {kb} kB' for name, kb in growth.items())} (allowed: {ROOM_KB} kB).\n\n"
        + table(["status polls", "orders of the client", "driver (kB)"], driver_rows)
        + "\n"
        + table(["calls of report_status", "moves", "focusd (kB)", "its driver (kB)"], focusd_rows)
    )
    print(text)
    for problem in problems:
        print(f"wrong: {problem}", file=sys.stderr)
    if not problems:
        write(text, BEGIN)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
