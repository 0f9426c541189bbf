# SPDX-License-Identifier: GPL-3.0-or-later
"""What is rehearsed. Each scenario starts a KStars, prints what it sees, and raises Failed where that is wrong.

It is given the folder for pictures and tables.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from . import autofocus
from .autofocus import LINEAR, POLYNOMIAL, Run, Signals
from .desktop import POSITION, PROJECT, Failed, KStars, Profile, Train, wait_for
from .observatory import (
    BEST,
    CAMERA,
    MOUNT,
    PROBE,
    START,
    Focuser,
    choose,
    environment,
    moonlite,
    multifocus,
    point,
    server,
    simulated,
    simulation,
    sync,
)
from .picture import v_curve
from .relay import Relay

LOGS = PROJECT / "build" / "rehearse"
"""For what is left of a scenario that failed."""

QUICK = 5.0
"""The speed of motors where no time is measured, in real ones."""

Make = Callable[..., contextlib.AbstractContextManager[Focuser]]


@dataclass
class Stage:
    """KStars, ready to focus."""

    kstars: KStars
    focuser: Focuser
    relay: Relay
    def autofocus(self, *, train: str = "", while_running: Callable[[Signals], None] | None = None) -> Run:
        """From START, with the settings of a train."""
        if train:
            self.kstars.set_train(train)
        autofocus.go_to(self.kstars, self.focuser, self.relay, START)
        return autofocus.run(self.kstars, self.focuser, self.relay, while_running=while_running)


def check(what: str, is_right: object) -> None:
    """Raises Failed where it is not."""
    if not is_right:
        raise Failed(what)
    print(f"  {what}", flush=True)


def check_converged(run: Run, what: str) -> None:
    """Print the verdict; raises Failed where the focus was not found."""
    print(f"  {what}: {run.verdict()}", flush=True)
    if not run.has_converged:
        raise Failed(f"{what} did not converge: {list(run.log)[-8:]}")


@contextlib.contextmanager
def stage(make: Make, trains: dict[str, dict[str, object]], **options: object) -> Iterator[Stage]:
    """Start everything, point at a field, and put the focuser at START. `trains`: settings of the focus module by the
    name of a train; `options`: of the focuser."""
    home = Path(tempfile.mkdtemp(prefix="rehearsal-"))
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, home, ignore_errors=True)
        focuser = stack.enter_context(make(home, **options))
        relay = stack.enter_context(server(home, focuser))
        profile = Profile(
            "Rehearsal",
            {MOUNT: "Mount", CAMERA: "CCD", focuser.label: "Focuser"},
            relay.port,
            tuple(Train(name, focuser.device, settings) for name, settings in trains.items()),
        )
        kstars = stack.enter_context(KStars(home, environment(), profile))
        try:
            kstars.start_profile(CAMERA, MOUNT, focuser.device, before=lambda: focuser.connect(kstars))
            focuser.ready(kstars)
            point(kstars, focuser)
            kstars.show_focus_module()
            yield Stage(kstars, focuser, relay)
        except BaseException:
            LOGS.mkdir(parents=True, exist_ok=True)
            for name in ("kstars.log", "indiserver.log"):
                with contextlib.suppress(OSError):
                    shutil.copy(home / name, LOGS / name)
            with contextlib.suppress(Exception):
                kstars.picture("^Ekos", LOGS / "failed.png")
            raise


def converge(folder: Path) -> None:
    """Linear 1 Pass, then Polynomial, at the motors' real speed, with pictures."""
    with stage(multifocus, {"Linear": LINEAR, "Polynomial": POLYNOMIAL}) as on:
        linear = on.autofocus()
        on.kstars.picture("^Ekos", folder / "autofocus.png")
        check_converged(linear, "Linear 1 Pass")
        turns = [move.target - move.begin for move in linear.moves]
        check(
            f"the overscan is two moves in succession, out and back in: {turns[:2]} at first, {turns[-2:]} at the end",
            turns[0] > 0 > turns[1] and turns[-2] > 0 > turns[-1],
        )
        polynomial = on.autofocus(train="Polynomial")
        check_converged(polynomial, "Polynomial")
        v_curve(folder / "v-curve.png", {"Linear 1 Pass": linear, "Polynomial": polynomial})


def simulate(folder: Path) -> None:
    """The driver as KStars starts it, without a configuration or a port, and with its option SIMULATION."""
    with stage(simulation, {"Linear": LINEAR}) as on:
        check_converged(on.autofocus(), "SIMULATION")


def compare(folder: Path, times: int = 3) -> None:
    """The same autofocus with libindi's drivers, and the table of docs/performance.md."""
    rows = []
    for name, make in (
        ("indi_multifocus", multifocus),
        ("indi_simulator_focus", simulated),
        ("indi_moonlite_focus", moonlite),
    ):
        with stage(make, {"Linear": LINEAR}) as on:
            runs = [on.autofocus() for _ in range(times)]
        for run in runs:
            check_converged(run, name)
        each_ms = [1000 * (move.took_s - move.steps / run.steps_per_s) for run in runs for move in run.moves]
        typical = sorted(runs, key=lambda run: run.beside_s)[times // 2]
        rows.append(
            f"| `{name}` | {len(typical.moves)} | {typical.motor_s:.1f} s | {typical.beside_s:.2f} s "
            f"| {statistics.median(each_ms):.0f} ms | {max(each_ms):.0f} ms | {typical.position - BEST:+d} steps |"
        )
    table = "| driver | moves | motor | all moves beside the motor | median of a move | longest | ended at |\n"
    table += "|---|---|---|---|---|---|---|\n" + "\n".join(rows) + "\n"
    (folder / "compare.md").write_text(table, encoding="utf-8")
    print(table, flush=True)


def abort(folder: Path) -> None:
    """Ekos's own abort in mid-move: what goes over the wire, with our driver and libindi's; and how it is stopped."""
    for name, make in (
        ("indi_multifocus", multifocus),
        ("indi_moonlite_focus", moonlite),
        ("indi_simulator_focus", simulated),
    ):
        with stage(make, {"Linear": {**LINEAR, "focusMotionTimeout": 10}}) as on:
            _abort_one(on, name)


def _abort_one(on: Stage, name: str) -> None:
    device = on.focuser.device
    begin_s = time.monotonic()

    def end_it(signals: Signals) -> None:
        wait_for(
            "Ekos has sent a move",
            lambda: [note for note in on.relay.notes(begin_s) if note.kind == "new" and note.name == POSITION[0]],
            quiet=True,
        )
        time.sleep(1)
        on.kstars.focus.abort()

    run = on.autofocus(while_running=end_it)
    check(f"{name}: Ekos calls the autofocus aborted", run.state == autofocus.ABORTED)
    sent = [note for note in on.relay.notes(begin_s) if note.kind == "new"]
    aborts = [note for note in sent if note.name == "FOCUS_ABORT_MOTION"]
    print(f"  {name}: Ekos sent {', '.join(str(note) for note in sent)}; FOCUS_ABORT_MOTION: {len(aborts)} times")
    target = float(sent[-1].values[POSITION[1]])
    if name == "indi_simulator_focus":  # it does nothing else while it moves
        wait_for(f"{name}: it goes on to {target:.0f}", lambda: on.kstars.position(device) == target)
        return
    check(f"{name}: the motor goes on", on.kstars.state(device) == "Busy")
    on.kstars.switch(device, "FOCUS_ABORT_MOTION", "ABORT")
    wait_for(f"{name}: FOCUS_ABORT_MOTION stops it", lambda: on.kstars.state(device) != "Busy", 3)
    check(f"{name}: it stands at {on.kstars.position(device):.0f}", on.kstars.position(device) < target)
    check_converged(on.autofocus(), f"{name}: the next autofocus")
    if name == "indi_multifocus":
        _stop_beneath(on)


def _stop_beneath(on: Stage) -> None:
    """Another client stops the motor while Ekos's autofocus goes on: Ekos sends the move again after its timeout."""
    device = on.focuser.device

    def stop(signals: Signals) -> None:
        wait_for("it moves", lambda: on.kstars.state(device) == "Busy", quiet=True)
        time.sleep(1)
        on.kstars.switch(device, "FOCUS_ABORT_MOTION", "ABORT")
        wait_for("FOCUS_ABORT_MOTION stops it while Ekos goes on", lambda: on.kstars.state(device) == "Idle")
        stopped_s = time.monotonic()
        again = wait_for(
            "Ekos logs nothing, and sends a move again",
            lambda: [note for note in on.relay.notes(stopped_s) if note.kind == "new"],
        )
        check(f"after {again[0].at_s - stopped_s:.0f} s: {again[0]}", again[0].name == POSITION[0])

    check_converged(on.autofocus(while_running=stop), "and goes on with it")


def backlash(folder: Path) -> None:
    """Backlash compensation of our driver, beneath Ekos's overscan and without."""
    without = {**LINEAR, "focusAFBacklashComp": False}
    with stage(multifocus, {"Overscan": LINEAR, "Without": without}, speed=QUICK) as on:
        device, kstars = on.focuser.device, on.kstars
        kstars.switch(device, "FOCUS_BACKLASH_TOGGLE", "INDI_ENABLED")
        kstars.set_numbers(device, "FOCUS_BACKLASH_STEPS", FOCUS_BACKLASH_VALUE=150)
        wait_for("backlash is on", lambda: kstars.state(device, "FOCUS_BACKLASH_STEPS") == "Ok", quiet=True)
        check_converged(on.autofocus(), "backlash of 150 steps, with overscan")
        check_converged(on.autofocus(train="Without"), "backlash of 150 steps, without overscan")


def both(folder: Path) -> None:
    """Ekos on channel 1, while another client takes a V-curve on channel 2; then Ekos's other train, on channel 2."""
    from autofocus import Observer, Optics
    from autofocus import run as take_v_curve
    from support import Lines

    home = Path(tempfile.mkdtemp(prefix="rehearsal-"))
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, home, ignore_errors=True)
        focuser = stack.enter_context(multifocus(home, speed=QUICK))
        relay = stack.enter_context(server(home, focuser))
        two = "MultiFocus 2"
        trains = (Train("First", focuser.device, LINEAR), Train("Second", two, LINEAR))
        profile = Profile("Rehearsal", {MOUNT: "Mount", CAMERA: "CCD", focuser.label: "Focuser"}, relay.port, trains)
        kstars = stack.enter_context(KStars(home, environment(), profile))
        kstars.start_profile(CAMERA, MOUNT, focuser.device, two)
        focuser.ready(kstars)
        sync(kstars, two)
        point(kstars, focuser)
        assert focuser.simulator is not None
        lines = Lines(focuser.simulator)
        missed_by: list[int] = []

        def take() -> None:
            offset = START  # the controller counts from 0, where FOCUS_SYNC was START
            optics = Optics(
                lambda: [int(line[1:]) for line in lines.orders() if line[:1] == b"2" and line[1:2] in b"+-"],
                best=400,
                play=0,
            )
            with Observer(relay.server) as observer:
                curve = take_v_curve(observer, two, optics, start=offset + 1000, step=150, count=9)
            missed_by.append(curve.best - offset - 400)

        thread = threading.Thread(target=take)

        def meanwhile(_: Signals) -> None:
            thread.start()

        autofocus.go_to(kstars, focuser, relay, START)
        run = autofocus.run(kstars, focuser, relay, while_running=meanwhile)
        thread.join(120)
        check_converged(run, "channel 1, by Ekos")
        check(f"channel 2, by another client meanwhile: missed by {missed_by} steps", missed_by in ([0], [1], [-1]))
        kstars.set_train("Second")
        wait_for("Ekos has channel 2", lambda: str(kstars.focus_property("focuser")) == two)
        choose(kstars, two)
        focuser.device = relay.device = two
        autofocus.go_to(kstars, focuser, relay, START)
        check_converged(autofocus.run(kstars, focuser, relay), "channel 2, by Ekos's second train")


def restart(folder: Path) -> None:
    """The Ekos profile, with an indiserver of KStars's own, is stopped in mid-move and started again."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", 7624))
        except OSError as error:
            raise Failed("KStars needs TCP port 7624, which another INDI server has") from error
    home = Path(tempfile.mkdtemp(prefix="rehearsal-"))
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, home, ignore_errors=True)
        focuser = stack.enter_context(multifocus(home))
        profile = Profile(
            "Rehearsal",
            {MOUNT: "Mount", CAMERA: "CCD", focuser.label: "Focuser"},
            trains=(Train("Linear", focuser.device, LINEAR),),
        )
        kstars = stack.enter_context(KStars(home, {**environment(), **focuser.environment}, profile))
        device = focuser.device
        kstars.start_profile(CAMERA, MOUNT, device)
        focuser.ready(kstars)
        assert focuser.simulator is not None
        simulator = focuser.simulator
        kstars.move(device, START + 1000)
        wait_for("it moves", lambda: simulator.position(1) > 100)
        kstars.ekos.stop()
        wait_for("the profile has stopped, the driver too", lambda: not kstars.devices() and not simulator.in_use())
        check("the motor goes on", simulator.standstill(1) is None)
        kstars.start_profile(CAMERA, MOUNT, device)
        where = kstars.position(device)
        check(f"started again, it knows where it is: {where:.0f}, {kstars.state(device)}", where > START + 100)
        wait_for("it arrives", lambda: kstars.state(device) == "Ok" and kstars.position(device) == START + 1000)
        point(kstars, focuser)
        kstars.move(device, START)
        wait_for("it is back", lambda: simulator.position(1) == 0 and kstars.state(device) == "Ok")
        with Relay(7624, device) as nobody:
            check_converged(autofocus.run(kstars, focuser, nobody), "the next autofocus (its moves are not seen)")


def cable(folder: Path) -> None:
    """The controller's cable is pulled in mid-run: Ekos fails with our message, and works after the replug."""
    with stage(multifocus, {"Linear": LINEAR}) as on:
        device, simulator = on.focuser.device, on.focuser.simulator
        assert simulator is not None

        def pull(signals: Signals) -> None:
            wait_for("the motor moves", lambda: simulator.standstill(1) is None, quiet=True)
            time.sleep(1)
            simulator.pull_cable()
            wait_for("the position is Alert", lambda: on.kstars.state(device) == "Alert")
            wait_for("Ekos tells it", lambda: any("Focuser error" in line for line in autofocus.log(on.kstars)))
            time.sleep(3)
            simulator.replug_cable()
            wait_for("the link is back", lambda: on.kstars.state(device) in ("Ok", "Busy"))

        begin_s = time.monotonic()
        run = on.autofocus(while_running=pull)
        notes = on.relay.notes(begin_s)
        errors = [note.message for note in notes if "[ERROR]" in note.message]
        check(f"the driver says why: {errors[:1]}", errors)
        orders = [note for note in notes if note.kind == "new" or note.state in ("Ok", "Alert") or note.message]
        print("  on the wire: " + "\n    ".join(str(note) for note in orders[:40]), flush=True)
        print("  Ekos: " + "\n    ".join(run.log[:8]), flush=True)
        print(f"  Ekos by itself: {run.verdict()}", flush=True)
        check_converged(on.autofocus(), "after the replug")


def temperature(folder: Path) -> None:
    """A probe of generation 2 is Ekos's source of the temperature."""
    settings = {**LINEAR, "defaultFocusTemperatureSource": "MultiFocus 1"}
    probes = {"rasa1": {"label": "RASA1", "address": PROBE, "channel": 1}}
    with stage(multifocus, {"Linear": settings}, speed=QUICK, temperature_probes=probes) as on:
        simulator, device = on.focuser.simulator, on.focuser.device
        assert simulator is not None

        def celsius() -> float:
            return float(on.kstars.indi.getNumber(device, "FOCUS_TEMPERATURE", "TEMPERATURE"))

        for there in (20.0, 15.5):
            simulator.set_probe(PROBE, there)
            wait_for(f"KStars shows {there} °C", lambda: celsius() == there)  # noqa: B023
            check_converged(on.autofocus(), f"at {there} °C")
            told = [line for line in on.kstars.log.splitlines() if "Autofocus values" in line][-1]
            told = told.partition("focus: ")[2]
            check(f"Ekos has noted {there:g} °C with the focus: {told}", f"temperature, {there:g} " in told)


SCENARIOS = {
    scenario.__name__: scenario
    for scenario in (converge, simulate, compare, abort, backlash, both, restart, cable, temperature)
}
