# SPDX-License-Identifier: GPL-3.0-or-later
"""Sync, zero and reversal of one channel: what changes the meaning of its positions, and what has to wait for that.

Used by `focuser.py`, in the main thread. Each of the three is answered Ok when it is on the disk, so that a focuser
which forgot it cannot move to the wrong place; meanwhile other requests about positions are held, since they mean
positions as they will be. A zero takes three steps, so that a power cut between them is noticed: it is saved that
the controller is about to count from here; the controller does it; it is saved that it did.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from .focuser_position import FocuserPosition
from .indi import Device, NewVector, NumberVector, Refused, State, SwitchVector, Value, Vector
from .position_state import Event, next_state

MAX_HELD = 32
"""Requests that may wait for a sync or a zero, which takes milliseconds."""

Handler = Callable[[Mapping[str, Value]], None]


class _Change(NamedTuple):
    """What is being carried out."""

    vector: Vector
    """What is answered in the end."""
    request: int = 0
    """Number of the zero, while the controller has it."""


class Syncing:
    """The companion of one focuser."""

    def __init__(self, device: Device, position: FocuserPosition, show: Callable[[], None]) -> None:
        """`show`: called when positions have another meaning, or that failed."""
        self._device = device
        self._position = position
        self._show = show
        self._change: _Change | None = None
        self._held: list[tuple[Vector, Mapping[str, Value]]] = []

    @property
    def vector(self) -> Vector | None:
        """What is answered when the meaning of positions has changed; None where nothing is being changed."""
        return self._change.vector if self._change is not None else None

    # --- Connecting ---------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """The link is being opened: the memory knows the result of an earlier change."""
        self._change = None

    def abandon(self, reason: str) -> None:
        """What is being changed is for another controller than the one that is there now."""
        if self._change is not None:
            self._end(f"[ERROR] {reason}")

    def disconnect(self) -> None:
        """Drop the held requests: their properties are deleted."""
        self._held = []

    # --- Requests -----------------------------------------------------------------------------------------------------

    def before(self, vector: Vector, handler: Handler) -> Handler:
        """A handler that is called when nothing is being changed any more."""

        def handle(values: Mapping[str, Value]) -> None:
            if self._change is None:
                handler(values)
            elif len(self._held) >= MAX_HELD:
                raise Refused("a sync is being carried out, and too much waits for that: try again soon")
            else:
                self._held.append((vector, values))
                vector.state = State.BUSY
                self._device.update(vector)

        return handle

    def sync(self, vector: NumberVector, position: int, steps: int) -> None:
        """What the controller counts as `steps` is `position` from now on."""

        def end(problem: str) -> None:
            if not problem:
                vector["FOCUS_SYNC_VALUE"].value = position
            self._end_saved(change, problem)

        change = self._begin(vector)
        memory = self._position.memory
        offset = position - memory.values.sign * steps
        memory.commit(end, offset=offset, zeroing=False, unverified=False, steps=steps)

    def reverse(self, vector: SwitchVector, reversed: bool, steps: int, save: Callable[[], None]) -> None:
        """Reverse the direction. The current place keeps its position, as with libindi's drivers.

        `save`: called when that is so.
        """

        def end(problem: str) -> None:
            if not problem:
                vector.select("INDI_ENABLED" if reversed else "INDI_DISABLED")
            self._end_saved(change, problem)
            if not problem:
                save()

        change = self._begin(vector)
        memory = self._position.memory
        offset = memory.values.position(steps) - (-steps if reversed else steps)
        memory.commit(end, reversed=reversed, offset=offset)

    def zero(self, vector: NumberVector) -> None:
        """Make the controller count from here. It saves that itself, whatever happens to our files."""
        change = self._begin(vector)
        self._position.memory.commit(lambda problem: self._send_zero(change, problem), zeroing=True)

    def drop_held(self, state: State, text: str | None = None) -> None:
        """Answer all held requests without carrying them out."""
        held, self._held = self._held, []
        for vector, _ in held:
            vector.state = state
            self._device.update(vector, text)

    # --- Results -------------------------------------------------------------------------------------------

    def take_snapshot(self) -> None:
        """Check in a new snapshot whether the controller carried out the zero."""
        change, state = self._change, self._position.channel_state
        if change is None or not change.request or state is None or state.request < change.request:
            return
        memory = self._position.memory
        # By what the controller counts, whatever else went wrong: positions are true if it counts from here, or not.
        if not self._position.link_up or state.target or state.current:
            memory.update(zeroing=False)
            self._end(f"[ERROR] {state.fault or 'the zero was stopped before the controller took it'}")
            return

        def end(problem: str) -> None:
            if self._change is done:
                kept = "the controller counts from 0 now, but that cannot be kept over a restart"
                self._end(f"[ERROR] {problem}: {kept}" if problem else None)

        done = self._change = change._replace(request=0)
        assert isinstance(change.vector, NumberVector)
        change.vector["FOCUS_SYNC_VALUE"].value = 0
        memory.update_then(end, offset=0, zeroing=False, unverified=False, steps=0, move=None)

    def _begin(self, vector: Vector) -> _Change:
        change = self._change = _Change(vector)
        self._position.state = next_state(self._position.state, Event.SYNC_ORDERED)
        vector.state = State.BUSY
        return change

    def _send_zero(self, change: _Change, problem: str) -> None:
        """It is on the disk that the controller is about to count from here."""
        if self._change is not change:
            return  # the link was opened anew meanwhile
        if not problem and not self._position.link_up:
            problem = "the controller does not answer now"
        if problem:
            self._position.memory.update(zeroing=False)
            self._end(f"[ERROR] {problem}; nothing was changed")
            return
        self._change = change._replace(request=self._position.zero())
        self._device.update(change.vector)

    def _end_saved(self, change: _Change, problem: str) -> None:
        """A sync or a reversal is on the disk and holds; or it is not, and nothing changed."""
        if self._change is change:
            self._end(f"[ERROR] {problem}; nothing was changed" if problem else None)

    def _end(self, error: str | None) -> None:
        """Answer, and carry out what was held."""
        change, self._change = self._change, None
        assert change is not None
        self._position.state = next_state(self._position.state, Event.SYNC_ENDED)
        change.vector.state = State.ALERT if error else State.OK
        self._device.update(change.vector, error)
        if error:
            self.drop_held(State.ALERT, "[ERROR] this was to follow a sync, which failed; nothing was done")
        while self._held and self._change is None:
            vector, values = self._held.pop(0)
            self._device.handle(_as_sent(self._device.name, vector, values))
        self._show()  # not before: no client is to see an arrival while a move waits


def _as_sent(device: str, vector: Vector, values: Mapping[str, Value]) -> NewVector:
    """Checked values as a client may have sent them."""
    texts = {True: "On", False: "Off"}
    elements = [(name, texts[value] if isinstance(value, bool) else str(value)) for name, value in values.items()]
    return NewVector(vector.kind, device, vector.name, tuple(elements))
