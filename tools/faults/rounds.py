# SPDX-License-Identifier: GPL-3.0-or-later
"""Rounds of faults against the real driver process, with its real threads.

    three clients ── indiserver ── driver ── pseudo-terminal ── simulator

`schedule.py` runs the driver in one thread and in a time of its own, so it shows nothing about interleavings; here
everything is real. A round is a seed: random requests of the clients, and faults between and within them. Then all is
healed, and when it is quiet these must hold:

- a position with state Ok or Idle is where the motor really is, by what its shaft has turned;
- nothing is Busy any more, every channel can be connected, and the link is up;
- every request was answered;
- Ok or Idle was never shown while the motor turned: at any moment at which all requests were dealt with;
- after an abort nothing but the stop is sent to that channel, and it is sent.

`python -m tools.faults` calls `run_rounds`, a part of them in each of some worker processes.
"""

from __future__ import annotations

import os
import random
import select
import signal
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from support import FocuserClient, Received, eventually, is_running

from indi_multifocus.controller.channel import POWER_CYCLE_S

from .chain import Chain, Frame, Request, Result

CHANNELS = (1, 2)
ABSOLUTE, RELATIVE, ABORT, SYNC = "ABS_FOCUS_POSITION", "REL_FOCUS_POSITION", "FOCUS_ABORT_MOTION", "FOCUS_SYNC"

QUIET_S = 0.8
"""All is quiet when nothing has happened for so long: longer than between two polls of a motor that stands."""

LONGEST_S = 40.0
"""After this a round is not quiet any more: the longest move, a time-out and a back-off take far less."""

ANSWER_S = 5.0
"""A request is answered within this after all is healed: the line may have to get into step first, which takes a pause
of 1.2 s where a query was lost, and 3 s at most."""

POWER, SCALE = "power", "scale"
"""A round loses the controller's power, or changes what places are called while other requests are under way. With both
nobody could tell where the motor is."""


class Round:
    """What happens in one round."""

    def __init__(self, chain: Chain, seed: int) -> None:
        self._chain = chain
        self._simulator = chain.simulator
        self._random = random.Random(seed)
        self._seed = seed
        self._kind = self._random.choice((POWER, SCALE))
        self.result = Result(rounds=1)
        self._frames = {channel: Frame() for channel in CHANNELS}
        self._requests: list[Request] = []
        self._heal: list[tuple[float, Callable[[], None]]] = []
        """When which fault ends, and how."""
        self._aborted: dict[int, int] = {}
        """Channels whose last request was an abort, and how many lines the controller had received before."""
        self._begun_s = time.monotonic()
        self._trace: list[tuple[float, str]] = []
        self._traced = 0
        self._lines_before = len(self._simulator.received)

    # --- The round ----------------------------------------------------------------------------------------------------

    def run(self, *, keep_trace: bool = False) -> Result:
        """From one quiet moment to the next. A trace is kept where something went wrong, or where it is asked for."""
        chance = self._random
        try:
            self._prepare()
            for _ in range(chance.randint(6, 16)):
                if chance.random() < 0.3:
                    self._fault()
                else:
                    self._request()
                self._pass_time(chance.choice((0.0, 0.0, 0.005, 0.05, 0.3, 0.6)) * chance.random())
                if chance.random() < 0.4:
                    self._look()
            self._settle()
            self._judge()
        except AssertionError as error:
            self._wrong(f"{error}"[:600])
        if keep_trace or self.result.problems:
            self.result.traces[self._seed] = self._whole_trace()
        return self.result

    def _wrong(self, what: str) -> None:
        self._note(f"WRONG: {what}")
        self.result.problems.append((self._seed, what))

    def _note(self, what: str) -> None:
        self._trace.append((time.monotonic(), what))

    def _whole_trace(self) -> list[str]:
        lines = [(at_s, f"wire  {line!r}") for at_s, line in self._simulator.received[self._lines_before :]]
        return [f"{at_s - self._begun_s:8.4f} {what}" for at_s, what in sorted(self._trace + lines)]

    def _pass_time(self, seconds: float) -> None:
        """Let clients read, and faults end when it is time."""
        end_s = time.monotonic() + seconds
        while True:
            now_s = time.monotonic()
            for due in [due for due in self._heal if due[0] <= now_s]:
                self._heal.remove(due)
                due[1]()
            dues = [end_s, *(due[0] for due in self._heal)]
            fds = [client.read_fd for client in self._chain.clients]
            select.select(fds, [], [], max(0.0, min(dues) - now_s))
            self._read()
            if time.monotonic() >= end_s:
                return

    def _read(self) -> None:
        for client in self._chain.clients:
            client.read()
            assert not client.ended, "indiserver closed a client's connection"
        received = self._chain.clients[0].received
        for what in received[self._traced :]:
            self._note(f"shown {_text(what)}")
        self._traced = len(received)

    def _prepare(self) -> None:
        """Both channels connected, at rest, and their places called by names that are known."""
        for client in self._chain.clients:
            client.received.clear()
        self._settle()
        for channel in CHANNELS:
            self._frames[channel].sign = -1 if self._is_on(channel, "FOCUS_REVERSE_MOTION", "INDI_ENABLED") else 1
            for _ in range(3):  # on a busy machine the simulator may answer too late
                self._name_place(channel, self._random.randint(-5000, 5000))
                if self._frames[channel].known:
                    break
                self._settle()
            else:
                self._wrong(f"channel {channel} cannot be synced at rest: {self._client.messages()[-3:]}")
        self._requests.clear()

    @property
    def _client(self) -> FocuserClient:
        return self._chain.clients[0]

    def _state(self, channel: int, name: str) -> str:
        return self._client.state(self._client.name(channel), name)

    def _is_on(self, channel: int, name: str, element: str) -> bool:
        found = self._client.property(self._client.name(channel), name)
        return found is not None and element in found.on

    def _shaft(self, channel: int) -> float:
        return self._simulator.shaft(channel) / 16

    # --- Requests -----------------------------------------------------------------------------------------------------

    def _new(self, channel: int, name: str, values: dict[str, float | str], kind: str) -> None:
        client = self._random.choice(self._chain.clients)
        device = client.name(channel)
        self._aborted.pop(channel, None)
        self.result.requests += 1
        self._requests.append(Request(client, len(client.received), device, name))
        self._note(f"client {self._chain.clients.index(client)}: {device} {name} {values}")
        client.new(device, name, values, kind)

    def _request(self) -> None:
        chance = self._random
        channel = chance.choice(CHANNELS)
        kinds: dict[Callable[[int], None], int] = {
            self._move: 30,
            self._move_by: 10,
            self._abort: 8,
            self._abort_alone: 10,
            self._burst: 8,
            self._backlash: 3,
            self._fans: 2,
            self._reconnect: 5,
            self._name_place_at_rest: 6,
            self._restart: 1,
        }
        if self._kind == SCALE:
            kinds[self._change_scale] = 8
        chance.choices(list(kinds), list(kinds.values()))[0](channel)

    def _move(self, channel: int) -> None:
        here = self._client.value(self._client.name(channel), ABSOLUTE, "FOCUS_ABSOLUTE_POSITION") or "0"
        distance = self._random.choice((1, self._random.randint(1, 10), self._random.randint(20, 150)))
        goal = round(float(here)) + self._random.choice((-1, 1)) * distance
        self._new(channel, ABSOLUTE, {"FOCUS_ABSOLUTE_POSITION": goal}, "Number")

    def _move_by(self, channel: int) -> None:
        self._new(channel, "FOCUS_MOTION", {self._random.choice(("FOCUS_INWARD", "FOCUS_OUTWARD")): "On"}, "Switch")
        self._new(channel, RELATIVE, {"FOCUS_RELATIVE_POSITION": self._random.randint(1, 80)}, "Number")

    def _abort(self, channel: int) -> None:
        self._new(channel, ABORT, {"ABORT": "On"}, "Switch")

    def _abort_alone(self, channel: int) -> None:
        """When all else is dealt with."""
        self._settle_requests()
        before = len(self._simulator.received)
        moved = self._simulator.standstill(channel) is None
        self._abort(channel)
        if moved:
            self._aborted[channel] = before

    def _burst(self, channel: int) -> None:
        for _ in range(self._random.randint(2, 8)):
            self._random.choice((self._move, self._move, self._abort))(channel)

    def _backlash(self, channel: int) -> None:
        on = self._random.choice(("INDI_ENABLED", "INDI_DISABLED"))
        self._new(channel, "FOCUS_BACKLASH_STEPS", {"FOCUS_BACKLASH_VALUE": self._random.choice((0, 5, 20))}, "Number")
        self._new(channel, "FOCUS_BACKLASH_TOGGLE", {on: "On"}, "Switch")

    def _fans(self, channel: int) -> None:
        self._new(1, "FAN", {self._random.choice(("INDI_ENABLED", "INDI_DISABLED")): "On"}, "Switch")

    def _reconnect(self, channel: int) -> None:
        self._new(channel, "CONNECTION", {"DISCONNECT": "On"}, "Switch")
        self._pass_time(self._random.choice((0.0, 0.0, 0.05, 0.3)))
        self._new(channel, "CONNECTION", {"CONNECT": "On"}, "Switch")

    def _change_scale(self, channel: int) -> None:
        """Whatever else is under way: where this is, only the driver knows until all is quiet."""
        self._frames[channel].known = False
        what = self._random.choice(("zero", "sync", "reverse"))
        if what == "reverse":
            side = self._random.choice(("INDI_ENABLED", "INDI_DISABLED"))
            self._new(channel, "FOCUS_REVERSE_MOTION", {side: "On"}, "Switch")
        else:
            place = 0 if what == "zero" else self._random.randint(-5000, 5000)
            self._new(channel, SYNC, {"FOCUS_SYNC_VALUE": place}, "Number")

    def _name_place_at_rest(self, channel: int) -> None:
        if self._simulator.standstill(channel) is not None and self._frames[channel].known:
            self._settle_requests()
            if self._simulator.standstill(channel) is not None:
                self._name_place(channel, self._random.choice((0, self._random.randint(-5000, 5000))))

    def _name_place(self, channel: int, place: int) -> None:
        """Sync (or zero) where the motor stands, and wait for the answer."""
        device, client = self._client.name(channel), self._client
        shaft, since = self._shaft(channel), len(client.received)
        self._new(channel, SYNC, {"FOCUS_SYNC_VALUE": place}, "Number")
        self._settle_requests()
        end_s = time.monotonic() + LONGEST_S
        # That it is defined, by a connection that was under way, is no answer.
        while not any(
            answer.device == device
            and ((answer.kind == "set" and answer.name == SYNC and answer.state != "Busy") or SYNC in answer.message)
            for answer in client.received[since:]
        ):
            self._pass_time(0.02)
            assert time.monotonic() < end_s, f"{device}.{SYNC} is never answered"
        if any(answer[:4] == ("set", device, SYNC, "Ok") for answer in client.received[since:]):
            self._frames[channel] = Frame(place, shaft, self._frames[channel].sign, known=True)
        elif place == 0:
            self._frames[channel].known = False  # it is not known whether the controller took it

    def _settle_requests(self) -> None:
        """Wait until the driver has dealt with what all clients sent."""
        for client in self._chain.clients:
            client.settle(client.name(1))
        self._read()

    def _restart(self, channel: int) -> None:
        """The driver dies, or is ended, and indiserver starts it again."""
        how = self._random.choice((signal.SIGKILL, signal.SIGTERM))
        before = self._chain.server.driver_pid()
        self._note(f"the driver gets {how.name}")
        os.kill(before, how)
        eventually(lambda: not is_running(before), f"the driver to end by {how.name}")
        eventually(lambda: self._chain.server.driver_pid() != before, "the next driver")
        self._chain.call()
        self._requests.clear()
        self._aborted.clear()
        self._traced = 0
        for each in CHANNELS:
            self._frames[each].known &= self._kind != SCALE  # a zero may have been under way
            self._new(each, "CONNECTION", {"CONNECT": "On"}, "Switch")

    # --- Faults -------------------------------------------------------------------------------------------------------

    def _fault(self) -> None:
        simulator, chance = self._simulator, self._random
        for_s = chance.choice((0.02, 0.2, 0.9)) * chance.random()
        lasting: dict[str, tuple[Callable[[], None], Callable[[], None]]] = {
            "cable pulled": (simulator.pull_cable, simulator.replug_cable),
            "no answers": (lambda: simulator.silence(True), lambda: simulator.silence(False)),
            "answers ?": (lambda: simulator.answer_unknown(True), lambda: simulator.answer_unknown(False)),
            "echo": (lambda: simulator.echo(True), lambda: simulator.echo(False)),
            "late answers": (lambda: simulator.delay_replies(0.1), lambda: simulator.delay_replies(0.0)),
            "cut answers": (lambda: simulator.truncate_replies(chance.randint(0, 30)), self._whole_replies),
            "changed answers": (lambda: simulator.mangle_replies(self._mangle), self._whole_replies),
            "stream": (lambda: simulator.babble(b"T1=+0000", 0.002), lambda: simulator.babble(None)),
            "stall": (lambda: simulator.stall(1), lambda: simulator.stall(1, False)),
        }
        at_once: dict[str, Callable[[], None]] = {
            "noise": lambda: simulator.garbage(chance.choice((b"\0", b"\xff?", b"$\r\n", b"T1=", b"\r\n"))),
            "lost input": lambda: simulator.lose_input(chance.randint(1, 4)),
            "lost output": lambda: simulator.lose_output(chance.randint(1, 30)),
        }
        if self._kind == POWER:
            # Nobody could see a shorter one, from one poll to the next; no controller starts so soon.
            at_once["power of the box"] = lambda: simulator.power_cycle(POWER_CYCLE_S + for_s)
            at_once["power behind a UART"] = lambda: simulator.brown_out(POWER_CYCLE_S + for_s)
        name = chance.choice([*lasting, *at_once])
        self._note(f"fault: {name}")
        self.result.faults[name] += 1
        if name in at_once:
            at_once[name]()
            return
        begin, end = lasting[name]
        begin()
        self._heal.append((time.monotonic() + for_s, end))

    def _whole_replies(self) -> None:
        self._simulator.mangle_replies(None)

    def _mangle(self, reply: bytes) -> bytes:
        if not reply or self._random.random() < 0.5:
            return reply
        at = self._random.randrange(len(reply))
        return reply[:at] + bytes([reply[at] ^ 1 << self._random.randrange(7)]) + reply[at + 1 :]

    # --- Judgement ----------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """When all requests are dealt with, a motor that turns all the time must not be shown at rest."""
        before = {channel: self._turning(channel) for channel in CHANNELS}
        self._settle_requests()
        shown = {channel: self._state(channel, ABSOLUTE) for channel in CHANNELS}
        for channel in CHANNELS:
            if before[channel] and before[channel] == self._turning(channel) and shown[channel] in ("Ok", "Idle"):
                self._wrong(f"channel {channel} is shown {shown[channel]} while its motor turns")

    def _turning(self, channel: int) -> tuple[int, int] | None:
        """By which command the motor turns, and whereto; None while it stands."""
        if self._simulator.standstill(channel) is not None:
            return None
        orders = sum(line[:1] == b"%d" % channel for _, line in self._simulator.received[self._lines_before :])
        return orders, self._simulator.target(channel)

    def _settle(self) -> None:
        """Heal everything, and wait until all is quiet."""
        for _, heal in self._heal:
            heal()
        self._heal.clear()
        self._simulator.lose_input(0)
        self._simulator.lose_output(0)
        self._note("all is healed")
        quiet_since_s = time.monotonic()
        end_s, answers_s, connected_s = quiet_since_s + LONGEST_S, quiet_since_s + ANSWER_S, 0.0
        while True:
            self._pass_time(0.02)
            now_s = time.monotonic()
            noise = self._noise()
            waits = not all(request.is_answered() for request in self._requests)
            if noise or (waits and now_s < answers_s):
                quiet_since_s = now_s
            elif now_s - quiet_since_s > QUIET_S:
                break
            if now_s > end_s:
                raise AssertionError(f"never quiet: {noise}")
            if now_s - connected_s > 1.0:
                connected_s = now_s
                for channel in CHANNELS:
                    if self._state(channel, "CONNECTION") in ("Idle", "Alert"):
                        self._new(channel, "CONNECTION", {"CONNECT": "On"}, "Switch")
        self._settle_requests()

    def _noise(self) -> list[str]:
        """What is still going on."""
        found = [f"motor {channel} turns" for channel in CHANNELS if self._simulator.standstill(channel) is None]
        for channel in CHANNELS:
            device = self._client.name(channel)
            properties = self._client.devices.get(device, {})
            found += [f"{device}.{name} is Busy" for name, known in properties.items() if known.state == "Busy"]
            for name in ("CONNECTION", "FOCUS_LINK"):
                if name not in properties or (name, properties[name].state) == ("CONNECTION", "Alert"):
                    found.append(f"{device}.{name} is not there or Alert")
            if self._client.value(device, "FOCUS_LINK", "LINK") != "Ok":
                found.append(f"{device} has no link")
        return found

    def _judge(self) -> None:
        for request in self._requests:
            if not request.is_answered():
                self._wrong(f"client {self._chain.clients.index(request.client)} got no answer to {request.name}")
        for channel in CHANNELS:
            state = self._state(channel, ABSOLUTE)
            self.result.shown[state] += 1
            frame = self._frames[channel]
            truth = frame.position_of(self._shaft(channel))
            positions = [client.position(channel) for client in self._chain.clients]
            if len(set(positions)) > 1:
                self._wrong(f"channel {channel}: the clients know different positions: {positions}")
            if state in ("Ok", "Idle") and frame.known and abs(positions[0] - truth) > 1.0:
                self._wrong(f"channel {channel} is shown at {positions[0]:g} with {state}, and is at {truth:g}")
        for channel, since in self._aborted.items():
            orders = [line for _, line in self._simulator.received[since:] if line[:1] == b"%d" % channel]
            stop = b"%dS" % channel
            if stop not in orders and self._kind != POWER:
                self._wrong(f"channel {channel} never got the stop")
            elif stop in orders and set(orders[orders.index(stop) :]) != {stop}:
                self._wrong(f"channel {channel} got {orders} after an abort")


def _text(answer: Received) -> str:
    values = " ".join(f"{name}={value}" for name, value in answer.values.items())
    return f"{answer.kind} {answer.device} {answer.name} {answer.state} {values} {answer.message}"


def run_rounds(seeds: list[int], *, keep_traces: bool = False) -> Result:
    """A round for each seed, with the same processes unless something went wrong.

    `keep_traces`: also of rounds in which nothing did.
    """
    whole = Result()
    rest = list(seeds)
    while rest:
        with tempfile.TemporaryDirectory(prefix="faults-") as folder, ExitStack() as stack:
            chain = Chain(Path(folder))
            try:
                stack.enter_context(chain)
            except AssertionError:
                if chain.was_ended():
                    continue
                raise
            while rest:
                done = Round(chain, rest[0])
                result = done.run(keep_trace=keep_traces)
                if chain.was_ended():
                    break  # once more
                rest.pop(0)
                whole.add(result)
                if result.problems:
                    break
    return whole
