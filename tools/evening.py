# SPDX-License-Identifier: GPL-3.0-or-later
"""`make pictures-focus`: the pictures of `focus watch` and of `focus log --plot`, from an evening at two telescopes.

A simulated controller has a thermometer on each telescope; driver, indiserver and focusd run as `./focusd` starts them,
with files of their own in a temporary folder. The air cools down, the best focus of each telescope follows it, and each
is focused again and again: `focus set` through a row of positions, a width of the stars at each (a formula with noise),
the lowest point of the curve through them, and a rest. What is drawn is what focusd has recorded of it.

It takes twenty minutes: motors run at their own speed, only the air cools down somewhat faster than most evenings do.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from autofocus import lowest_point
from configuration import configure_focusd
from waiting import eventually

from focus_cli.plot import REST_S
from indi_multifocus.simulator import Simulator

PROJECT = Path(__file__).resolve().parents[1]
WARM, COOLING = 13.0, -12.0
"""°C at the beginning, and °C per hour."""
FOCUSED = 8
"""How often each telescope is focused."""
EXPOSURE_S = 1.0
START, MICROSTEPS = 5000, 16
"""Where both stand at first, and the microsteps of a step."""
STEP, STEPS_OUT = 60, 4
"""Of a V-curve."""
COLUMNS, ROWS = 80, 24


@dataclass
class Telescope:
    """What is simulated of one, besides its motor."""

    channel: int
    probe: str
    warmer: float
    """°C, than the air."""
    best: float
    """Position of the best focus at 0 °C."""
    slope: float
    """Steps per °C."""
    noise: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.noise = random.Random(self.channel)

    def width(self, position: int, celsius: float) -> float:
        """Half-flux radius, px."""
        out = (position - self.best - self.slope * celsius) / 90
        return math.hypot(1.3, out) * self.noise.gauss(1, 0.02)


TELESCOPES = (
    Telescope(1, "28EFE61E0B0000B9", 0.0, 5250, -21.0),
    Telescope(2, "28EFE61E0B0000BA", 0.8, 5260, -34.0),
)


class Evening:
    """The air, the controller, focusd and a terminal, until `close`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._begin_s = time.monotonic()
        (folder / "eeprom").write_text(json.dumps([START * MICROSTEPS] * len(TELESCOPES)), encoding="ascii")
        self.simulator = Simulator(
            eeprom=folder / "eeprom",
            link=folder / "focuser",
            probes={telescope.probe: self.celsius(telescope) for telescope in TELESCOPES},
        )
        self._over = threading.Event()
        self._air = threading.Thread(target=self._cool, name="air", daemon=True)
        self._tmux = ["tmux", "-L", f"evening-{os.getpid()}", "-f", "/dev/null"]
        self._focusd: subprocess.Popen[bytes] | None = None
        configure_focusd(
            folder / "twin_focus.json",
            self.simulator.port,
            host="LocalHost",
            moving_loop_delay=0.1,
            limits={"1": [0, 8000], "2": [0, 8000]},
            temperature_probes={
                f"rasa{telescope.channel}": {
                    "label": f"RASA{telescope.channel}",
                    "address": telescope.probe,
                    "channel": telescope.channel,
                }
                for telescope in TELESCOPES
            },
        )
        self._environment = {
            **os.environ,
            "HOME": str(folder),
            "FOCUSD_CONFIG_PATH": str(folder / "twin_focus.json"),
            "TERM": "xterm-256color",
            "LC_ALL": "C.UTF-8",
        }
        for name in ("INDIDEV", "INDI_MULTIFOCUS_CONFIG", "NO_COLOR", "STATE_DIRECTORY", "XDG_STATE_HOME"):
            self._environment.pop(name, None)

    def celsius(self, telescope: Telescope) -> float:
        """Of a telescope, now."""
        return WARM + telescope.warmer + COOLING * (time.monotonic() - self._begin_s) / 3600

    def _cool(self) -> None:
        while not self._over.wait(1.0):
            for telescope in TELESCOPES:
                self.simulator.set_probe(telescope.probe, self.celsius(telescope))

    def start(self) -> None:
        """Return when focusd is connected to the controller."""
        self.simulator.start()
        self._air.start()
        log = open(self._folder / "focusd.log", "wb")  # noqa: SIM115
        with log:
            self._focusd = subprocess.Popen(
                [sys.executable, PROJECT / "focusd", self._folder / "twin_focus.json"],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        eventually(lambda: b" serves PYRO:" in (self._folder / "focusd.log").read_bytes(), "focusd", pause_s=0.1)
        self.focus("init")

    def focus(self, *arguments: object) -> str:
        """What a command line prints. Raises CalledProcessError."""
        command = [sys.executable, str(PROJECT / "focus"), *map(str, arguments)]
        done = subprocess.run(command, env=self._environment, stdout=subprocess.PIPE, text=True, check=True)
        return done.stdout

    def tmux(self, *arguments: str) -> str:
        """A command to the terminal."""
        done = subprocess.run([*self._tmux, *arguments], env=self._environment, stdout=subprocess.PIPE, check=True)
        return done.stdout.decode()

    def watch(self) -> None:
        """Begin `focus watch` in the terminal."""
        size = ["-x", str(COLUMNS), "-y", str(ROWS)]
        self.tmux("new-session", "-d", *size, f"'{sys.executable}' '{PROJECT / 'focus'}' watch")

    def screen(self, *flags: str) -> str:
        """What the terminal shows; with -e, in colour."""
        return self.tmux("capture-pane", "-p", *flags)

    def close(self) -> None:
        """End everything."""
        with suppress(subprocess.CalledProcessError):
            self.tmux("kill-server")
        self._over.set()
        if self._focusd is not None:
            self._focusd.terminate()
            self._focusd.wait(timeout=20)
        self.simulator.close()


@contextmanager
def evening() -> Iterator[Evening]:
    """One, in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="evening-") as folder:
        one = Evening(Path(folder))
        try:
            one.start()
            yield one
        finally:
            one.close()


def autofocus(one: Evening, telescope: Telescope, near: int) -> int:
    """A V-curve around `near`, from outside inward; returns the position of the best focus, where it stands."""
    curve = []
    for position in range(near + STEPS_OUT * STEP, near - STEPS_OUT * STEP - 1, -STEP):
        one.focus("set", telescope.channel, position)
        time.sleep(EXPOSURE_S)
        curve.append((position, telescope.width(position, one.celsius(telescope)) ** 2))
    best = lowest_point(curve)
    one.focus("set", telescope.channel, best)
    return best


def observe(one: Evening, telescope: Telescope) -> None:
    """Focus, and rest, again and again."""
    best = round(telescope.best + telescope.slope * one.celsius(telescope)) + 70
    for number in range(FOCUSED):
        if number:
            time.sleep(REST_S + 5)
        best = autofocus(one, telescope, best)
        print(f"  channel {telescope.channel}: {best} at {one.celsius(telescope):.1f} °C", flush=True)


def picture(one: Evening, path: Path) -> None:
    """Wait until channel 1 is on a long way, and draw the terminal's screen."""
    from rich.console import Console
    from rich.text import Text

    one.focus("offset", 1, 1500, "--no-wait")
    eventually(lambda: one.simulator.position(1) > START + 300, "a long way", pause_s=0.05)
    eventually(lambda: re.search(r"MOVING +\d", one.screen()), "the move's speed on the screen", pause_s=0.05)
    shown = one.screen("-e")
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(Text.from_ansi(shown.rstrip("\n")), highlight=False, no_wrap=True)
    drawn = console.export_svg(title="focus watch", unique_id="watch")
    # Without the fonts of another site, for which a reader's program would ask there.
    drawn = re.sub(r"\s*@font-face \{.*?\}", "", drawn, flags=re.DOTALL)
    # Else some programs draw two blanks as one.
    drawn = re.sub(r"<text [^>]*>\s*</text>", "", drawn).replace("<text ", '<text xml:space="preserve" ')
    path.write_text(drawn.rstrip() + "\n", encoding="utf-8")


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.evening", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="for watch.svg and log.png")
    folder = parser.parse_args().folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    with evening() as one:
        one.watch()
        observers = [threading.Thread(target=observe, args=(one, telescope)) for telescope in TELESCOPES]
        for observer in observers:
            observer.start()
        for observer in observers:
            observer.join()
        time.sleep(REST_S + 5)
        print(one.focus("log", "--since", "1h", "--plot", folder / "log.png"), end="")
        picture(one, folder / "watch.svg")
    print(folder / "watch.svg")
    return 0


if __name__ == "__main__":
    sys.exit(main())
