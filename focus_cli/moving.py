# SPDX-License-Identifier: GPL-3.0-or-later
"""A move that `focus set` or `focus offset` has asked for: waiting for its end, and what ends the waiting early.

Used by focus.py, in its main thread. A thread of its own calls focusd, which answers when the motor stands; the main
thread sleeps until it has, or until a signal comes. What happens then is what the user can be taken to want:

- Somebody ended the command (SIGINT, which is Ctrl-C, SIGTERM, SIGQUIT): the channel is stopped.
- Nobody ended it, it was lost (SIGHUP: the terminal or the ssh connection is gone; the network; SIGKILL): the motor
  goes on to its target, watched by the driver.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from types import TracebackType
from typing import Any, Callable, Protocol

from . import codes

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)
LEAVES = (signal.SIGHUP,)
STOPPED_WITHIN_S = 1.0
"""How long after a stop the order may take to return; then it may have been overtaken, and the stop is repeated."""


class HungUp(Exception):
    """SIGHUP came: the process is to end by it, and the motor goes on."""


class Session(Protocol):
    """What is needed of focus.py's."""

    def focusd(self, timeout_s: float | None = ...) -> Any:
        """A context: a Pyro proxy."""


class Signals:
    """The signals that end the waiting, and other threads' calls, as something that the main thread can sleep for."""

    def __enter__(self) -> Signals:
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        # Not by exceptions from handlers: those come anywhere, and only when the main thread happens to run.
        self._wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._handlers = {
            number: signal.signal(number, lambda *_: None)
            for number in (*STOPS, *LEAVES)
            if signal.getsignal(number) is not signal.SIG_IGN  # as nohup and shells leave it
        }
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        # The pipe stays: the thread of a call that never returned may yet write to it.

    def wake(self) -> None:
        """From another thread: there is something to see."""
        try:
            os.write(self._write, b"\0")
        except BlockingIOError:
            pass  # it has enough to wake up for

    def wait(self, timeout_s: float | None = None) -> int:
        """Sleep; returns the number of a signal, or 0."""
        try:
            if select.select([self._read], [], [], timeout_s)[0]:
                return os.read(self._read, 1)[0]
        except InterruptedError:
            pass
        return 0


class Call:
    """One call of focusd in a thread of its own."""

    def __init__(self, session: Session, order: Callable[[Any], int], signals: Signals) -> None:
        self._session, self._order, self._signals = session, order, signals
        self._ended = threading.Event()
        self._code: int | None = None
        self._error: BaseException | None = None
        self.sent = False
        """focusd was there, and has been asked."""
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
                self.sent = True
                self._code = int(self._order(focusd))
        except BaseException as error:  # raised again by result()
            self._error = error
        finally:
            self._ended.set()
            self._signals.wake()


def move(session: Session, channel: int, order: Callable[[Any], int]) -> int:
    """Give the order and wait for its end; returns a code. Raises what the call does, or HungUp."""
    with Signals() as signals:
        call = Call(session, order, signals)
        while True:
            number = signals.wait()
            if call.ended:
                break
            if number in LEAVES:
                _say(f"focus: hung up; channel {channel} goes on to its target")
                raise HungUp
            if number:
                return _stop(session, channel, call)
        try:
            return call.result()
        except Exception:
            if call.sent:
                _say(f"focus: the connection to focusd was lost; channel {channel} goes on to its target")
            raise


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
