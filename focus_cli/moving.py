# SPDX-License-Identifier: GPL-3.0-or-later
"""A move that `focus set` or `focus offset` has asked for: waiting for its end, and what ends the waiting early.

Used by commands.py, in the main thread. A thread of its own calls focusd, which answers when the motor stands; another
one asks for the status, where that is shown; the main thread sleeps until one of them has something, or a signal comes.
What happens then is what the user can be taken to want:

- Somebody ended the command (SIGINT, which is Ctrl-C, SIGTERM, SIGQUIT): the channel is stopped.
- Nobody ended it, it was lost (SIGHUP: the terminal or the ssh connection is gone; the network; SIGKILL): the motor
  goes on to its target, watched by the driver.
"""

from __future__ import annotations

import math
import signal
import sys
import threading
import time
from typing import Any, Callable, NamedTuple

from . import codes
from .progress import Display
from .session import Session
from .show import Status, channel_state, on_terminal
from .signals import Signals

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)
LEAVES = (signal.SIGHUP,)
STOPPED_WITHIN_S = 1.0
"""How long after a stop the order may take to return; then it may have been overtaken, and the stop is repeated."""

FOLLOW_S, FOLLOW_TIMEOUT_S = 0.15, 1.0
"""Time between two questions for the status, and how long an answer may take."""
REFUSED_WITHIN_S = 0.1
"""An order that focusd refuses returns at once: a status asked for this much later is about an order it took."""


class HungUp(Exception):
    """SIGHUP came: the process is to end by it, and the motor goes on."""


class Call:
    """One call of focusd in a thread of its own."""

    def __init__(self, session: Session, order: Callable[[Any], int], signals: Signals) -> None:
        self._session, self._order, self._signals = session, order, signals
        self._ended = threading.Event()
        self._code: int | None = None
        self._error: BaseException | None = None
        self.sent_s = math.inf
        """When focusd, which was there, was asked; of the monotonic clock."""
        threading.Thread(target=self._run, name="order", daemon=True).start()

    @property
    def ended(self) -> bool:
        """It has returned."""
        return self._ended.is_set()

    def wait(self, timeout_s: float) -> bool:
        """Sleep until it has returned; False when time is up."""
        return self._ended.wait(timeout_s)

    def result(self) -> int:
        """What it returned or raised."""
        if self._error is not None:
            raise self._error
        assert self._code is not None
        return self._code

    def _run(self) -> None:
        try:
            with self._session.focusd(timeout_s=None) as focusd:
                self.sent_s = time.monotonic()
                self._code = int(self._order(focusd))
        except BaseException as error:  # raised again by result()
            self._error = error
        finally:
            self._ended.set()
            self._signals.wake()


class Follower:
    """What focusd reports of the channels, asked for again and again by a thread of its own."""

    def __init__(self, session: Session, signals: Signals) -> None:
        self._session, self._signals = session, signals
        self._reported: tuple[float, Status] = (-math.inf, {})
        threading.Thread(target=self._run, name="status", daemon=True).start()

    @property
    def asked_s(self) -> float:
        """When `status` was asked for."""
        return self._reported[0]

    @property
    def status(self) -> Status:
        """The newest report."""
        return self._reported[1]

    def _run(self) -> None:
        while True:
            try:
                with self._session.focusd(timeout_s=FOLLOW_TIMEOUT_S) as focusd:
                    while True:
                        asked_s = time.monotonic()
                        self._reported = asked_s, focusd.report_status() or {}
                        self._signals.wake()
                        time.sleep(FOLLOW_S)
            except Exception:  # whatever is wrong, the order's own connection says it
                time.sleep(FOLLOW_TIMEOUT_S)


class Patience(NamedTuple):
    """How long a command waits for the motor."""

    wait: bool = True
    """False: until it is known to move."""
    timeout_s: float | None = None
    """None: as long as it takes."""


def move(session: Session, channel: int, order: Callable[[Any], int], patience: Patience) -> int:
    """Give the order and wait for its end; returns a code. Raises what the call does, or HungUp."""
    end_s = None if patience.timeout_s is None else time.monotonic() + patience.timeout_s
    drawn = patience.wait and on_terminal()
    with Signals(*STOPS, *LEAVES) as signals, Display(session, channel if drawn else 0) as display:
        call = Call(session, order, signals)
        follower = Follower(session, signals) if drawn or not patience.wait else None
        while True:
            number = signals.wait(None if end_s is None else max(0.0, end_s - time.monotonic()))
            if call.ended:
                break
            if number in LEAVES:
                display.close()
                _say(f"focus: hung up; channel {channel} goes on to its target")
                raise HungUp
            if number:
                display.close()
                return _stop(session, channel, call)
            if end_s is not None and time.monotonic() >= end_s:
                return codes.TIMED_OUT
            if follower is not None and follower.asked_s > call.sent_s + REFUSED_WITHIN_S:
                if not patience.wait and channel_state(follower.status, channel) == codes.MOVING:
                    return codes.SUCCEEDED
                display.show(follower.status)
        try:
            code = call.result()
        except Exception:
            if call.sent_s < math.inf:
                display.close()
                _say(f"focus: the connection to focusd was lost; channel {channel} goes on to its target")
            raise
        display.finish()
        return code


def _stop(session: Session, channel: int, call: Call) -> int:
    """Stop the channel, whatever else the user types meanwhile."""
    print(f"\nstopping channel {channel}", flush=True)
    with session.focusd() as focusd:
        code = int(focusd.stop_channel(channel))
        if code == codes.SUCCEEDED and not call.wait(STOPPED_WITHIN_S):
            code = int(focusd.stop_channel(channel))
    if code != codes.SUCCEEDED:
        print(f"channel {channel} could not be stopped")
        return code
    print(f"channel {channel} is stopped")
    return codes.TERMINATED


def _say(text: str) -> None:
    print(text, file=sys.stderr)
