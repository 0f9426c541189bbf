# SPDX-License-Identifier: GPL-3.0-or-later
"""`focus watch`: a live view of all channels, and keys to step and stop them.

The main thread draws, and sleeps until a key, a signal or a report comes. A thread asks focusd for its status; one for
each channel gives the orders of keys, since focusd answers them when the motor stands; a stop has a connection of its
own, so that it waits for nobody.
"""

from __future__ import annotations

import functools
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import codes, terminal
from .session import CommandError, Session, UsageError, whole
from .show import on_terminal
from .signals import Signals

if TYPE_CHECKING:
    from rich.console import Console

    from .watch_view import Model

REPORT_S, DETAILS_S, TIMEOUT_S = 0.2, 1.0, 3.0
"""Time between two reports of the positions, and of the rest; and how long focusd may take for one."""
ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP)


class Reporter:
    """What focusd reports, for the view; asked for again and again by a thread."""

    def __init__(self, session: Session, wake: Callable[[], None]) -> None:
        self._session, self._wake = session, wake
        self.news: tuple[float, dict[str, Any], dict[str, Any], dict[str, str], str] = (0.0, {}, {}, {}, "")
        """When, status, details, labels of probes, and why there is none of these."""
        threading.Thread(target=self._run, name="status", daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                with self._session.focusd(TIMEOUT_S) as focusd:
                    self._follow(focusd)
            except Exception as error:  # shown on the screen, and tried again
                reachable = hasattr(error, "_pyroTraceback")
                self.news = (time.monotonic(), {}, {}, {}, str(error) if reachable else "focusd cannot be reached")
                self._wake()
                time.sleep(DETAILS_S)

    def _follow(self, focusd: Any) -> None:
        labels = focusd.temperature_labels() if "temperature_labels" in focusd._pyroMethods else {}
        details: dict[str, Any] = {}
        detailed_s = -DETAILS_S
        while True:
            now_s = time.monotonic()
            if now_s - detailed_s >= DETAILS_S and "report_details" in focusd._pyroMethods:
                details, detailed_s = focusd.report_details(), now_s
            self.news = (now_s, focusd.report_status() or {}, details, labels, "")
            self._wake()
            time.sleep(REPORT_S)


class Mover:
    """The orders of one channel. What is typed while it moves is added up, and follows."""

    def __init__(self, session: Session, channel: int, tell: Callable[[str], None]) -> None:
        self._session, self._channel, self._tell = session, channel, tell
        self._changed = threading.Condition()
        self._steps = 0
        threading.Thread(target=self._run, name=f"channel {channel}", daemon=True).start()

    def step(self, steps: int) -> None:
        """Move by this many."""
        with self._changed:
            self._steps += steps
            self._changed.notify_all()

    def stop(self) -> None:
        """Stop at once, and forget what was to follow."""
        with self._changed:
            self._steps = 0
        threading.Thread(target=self._stop, daemon=True).start()

    def _stop(self) -> None:
        code = self._call(lambda focusd: int(focusd.stop_channel(self._channel)))
        if code != codes.SUCCEEDED:
            self._tell(f"channel {self._channel} could not be stopped: {codes.message(code)}")

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._steps != 0)
                steps, self._steps = self._steps, 0
            code = self._call(functools.partial(self._move, steps))
            if code != codes.SUCCEEDED:
                self._tell(f"channel {self._channel}: {codes.message(code)}")

    def _move(self, steps: int, focusd: Any) -> int:
        return int(focusd.set_focus(self._channel, steps, offset=True))

    def _call(self, order: Callable[[Any], int]) -> int:
        try:
            with self._session.focusd(timeout_s=None) as focusd:
                return order(focusd)
        except Exception:  # what it was is seen in the view's title
            return codes.UNREACHABLE


def run(session: Session, arguments: list[str]) -> int:
    """`watch [<small step> <large step>]`; returns a code. Raises UsageError and CommandError."""
    near, far = (10, 100) if not arguments else _sizes(arguments)
    if not on_terminal() or sys.stdin is None or not sys.stdin.isatty():
        raise CommandError("watch is for terminals; `focus status` and `focus json` are for the rest")
    try:
        from rich.console import Console

        from .watch_view import Model
    except ImportError:
        needed = f"watch needs the Python package rich: {sys.executable} -m pip install rich"
        raise CommandError(needed) from None
    model = Model(list(session.channels), session.name, near=near, far=far)
    return _watch(session, model, Console(file=sys.stdout, highlight=False))


def _sizes(arguments: list[str]) -> tuple[int, int]:
    if len(arguments) != 2:
        raise UsageError
    near, far = map(whole, arguments)
    if not 0 < near <= far <= 1_000_000:
        raise UsageError
    return near, far


def _watch(session: Session, model: Model, console: Console) -> int:
    with Signals(*ENDS, signal.SIGWINCH, signal.SIGTSTP) as signals:

        def tell(text: str) -> None:
            model.notice = text
            signals.wake()

        reporter = Reporter(session, signals.wake)
        movers = {channel: Mover(session, channel, tell) for channel in session.channels}
        while True:
            number = _until_signal(model, console, signals, reporter, movers)
            if number != signal.SIGTSTP:
                return codes.TERMINATED if number else codes.SUCCEEDED
            signal.raise_signal(signal.SIGSTOP)  # Ctrl-Z, with the terminal as it was; until `fg`


def _until_signal(
    model: Model, console: Console, signals: Signals, reporter: Reporter, movers: dict[int, Mover]
) -> int:
    """Draw, and do what keys say; returns the signal that ended it, or 0 for the key that did."""
    from rich.console import Group

    from .watch_view import lines

    with terminal.Keyboard() as keyboard, console.screen(hide_cursor=True) as screen:
        while True:
            now_s, status, details, labels, problem = reporter.news
            if status:
                model.details, model.labels = details, labels
                model.take(now_s, status)
            elif problem:
                model.problem = problem
            screen.update(Group(*lines(model, console.width, console.height)))
            ready = select.select([signals.fileno(), keyboard.fileno()], [], [])[0]
            number = signals.wait(0) if signals.fileno() in ready else 0
            if number and number != signal.SIGWINCH:
                return number
            for key in keyboard.read() if keyboard.fileno() in ready else []:
                if key == terminal.QUIT:
                    return 0
                _press(key, model, movers)


def _press(key: str, model: Model, movers: dict[int, Mover]) -> None:
    order = model.channels.index(model.selected)
    if key in (terminal.PREVIOUS, terminal.NEXT):
        order += 1 if key == terminal.NEXT else -1
        model.selected = model.channels[order % len(model.channels)]
    elif key.isdigit():
        if int(key) in movers:
            model.selected = int(key)
    elif model.control is False:
        model.notice = "this machine may only watch: it is not among focusd's control_machines"
    elif key == terminal.STOP:
        model.notice = "stopping all channels"
        for mover in movers.values():
            mover.stop()
    else:
        steps = model.far if key in (terminal.FAR_IN, terminal.FAR_OUT) else model.near
        steps = -steps if key in (terminal.IN, terminal.FAR_IN) else steps
        model.notice = f"channel {model.selected}: {steps:+d}"
        movers[model.selected].step(steps)
