# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a channel is and what it does, by all that the driver knows: snapshots, orders and the memory.

Used by `focuser.py`, which shows it to clients, in the main thread; it knows nothing of INDI. There are three sources:
the newest snapshot of the controller, the orders that were given since, and what earlier runs of the driver left in the
memory. The table of `position_state.py` gives the state that follows from them.
"""

from __future__ import annotations

from .controller.controller import Controller
from .controller.motion import NOMINAL_STEPS_PER_S, Motion
from .controller.protocol import max_steps
from .controller.snapshot import ChannelState, Link, Snapshot
from .moves import Circumstances, Plan, plan_move
from .position_state import Event, PositionState, next_state, observe
from .settings.remembered_position import PositionMemory, Remembered, this_boot, uptime_s


class FocuserPosition:
    """The companion of one channel."""

    def __init__(self, channel: int, controller: Controller) -> None:
        self.memory = PositionMemory()
        self.snapshot = Snapshot()
        self.channel_state: ChannelState | None = None
        """None while the channel is not connected."""
        self.state = PositionState.ARRIVED
        self.travel = (0, 0)
        """First and last position that a move may lead to."""
        self.abort_request = 0
        """Number of an abort of which it is not known that it was carried out, else 0."""
        self._channel = channel
        self._controller = controller
        self._request = self._move_request = 0
        """Numbers of the last order, and of the last move. A snapshot that does not reflect one is from before it."""
        self._waypoints: tuple[int, ...] = ()
        """Where the last move turns round and ends, in controller steps."""
        self._unverified_count = 0

    @property
    def scale(self) -> Remembered:
        """How positions follow from controller steps."""
        return self.memory.values

    @property
    def link_up(self) -> bool:
        """Whether the controller answers."""
        return self.snapshot.link is Link.UP

    @property
    def moves(self) -> bool:
        """Whether the motor turns, or is about to."""
        state = self.channel_state
        return state is not None and (state.moving or state.request < self._move_request)

    @property
    def reflects_orders(self) -> bool:
        """Whether the newest snapshot reflects the last order."""
        return self.channel_state is not None and self.channel_state.request >= self._request

    # --- The life of the link -----------------------------------------------------------------------------------------

    def open(self, memory: PositionMemory) -> None:
        """The link is being opened, for this channel or another. A stop that could not be sent before comes first."""
        self.memory = memory
        self._request = self._move_request = self.abort_request = self._unverified_count = 0
        if memory.values.stop_pending:
            self._request = self.abort_request = self._controller.stop(self._channel)

    def connect(self, snapshot: Snapshot, *, syncing: bool) -> None:
        """The channel is used from now on. `syncing`: a sync of an earlier connection is still being carried out."""
        self.snapshot = snapshot
        state = self.channel_state = snapshot.channels[self._channel - 1]
        self.state = PositionState.ARRIVED
        if syncing:
            self.state = PositionState.ZEROING
        if self.abort_request > state.request:
            self.state = PositionState.ABORTING
        self._verify_position(state, syncing=syncing)
        self._note_unverified(state)

    def _verify_position(self, state: ChannelState, *, syncing: bool = False) -> None:
        """Verify the reported position by the memory, and mark the memory as in use."""
        if not syncing:
            self._resolve_zero(state)
        self._verify(state)
        if self.memory.values.stop_pending and not self.abort_request:
            self._request = self.abort_request = self._controller.stop(self._channel)
        self.memory.update(in_use=True)

    def change_memory(self, memory: PositionMemory, snapshot: Snapshot) -> None:
        """Another controller is there, of which `memory` is: its position is verified by that, as on connecting."""
        self.memory = memory
        if self.channel_state is not None and self._channel <= len(snapshot.channels):
            self.snapshot = snapshot
            state = snapshot.channels[self._channel - 1]
            self._unverified_count = state.unverified_count  # by what was known of the other controller
            self._verify_position(state)

    def release(self) -> bool:
        """The channel is not used any more: save what the next connection must know.

        Returns whether there is a stop that could not be sent.
        """
        state, self.channel_state = self.channel_state, None
        if state is None:
            return False
        stop_pending = self.abort_request > state.request
        if stop_pending:
            self.memory.update(stop_pending=True)
        if self.link_up and not state.moving and state.request >= self._request:
            self.memory.update(in_use=False, move=None, steps=state.current)
        self._waypoints = ()
        return stop_pending and not self.link_up

    def _resolve_zero(self, state: ChannelState) -> None:
        """A zero of which an earlier run, or an earlier connection, did not see the end: has it been carried out?"""
        if self.scale.zeroing:
            if state.target == state.current == 0:
                self.memory.update(offset=0, unverified=False, zeroing=False, steps=0, move=None)
            elif state.current == self.scale.steps:
                self.memory.update(zeroing=False)  # the motor did not move, and the controller counts as before
            else:
                self.memory.update(zeroing=False, unverified=True)

    def _verify(self, state: ChannelState) -> None:
        """Can the reported position be true, by what an earlier run of the driver saved?"""
        remembered = self.memory.values
        move = remembered.move
        if move is None:
            moved = remembered.in_use and not state.moving and state.current != remembered.steps
            self.memory.update(unverified=remembered.unverified or moved)  # a move of which the disk never knew
            return
        motor = Motion(NOMINAL_STEPS_PER_S[self.snapshot.generation or 1])
        impossible = not motor.could_travel(state.current - move.start, max(0.0, uptime_s() - move.time_s))
        # A motor that moves has power, and is seen to its end. Where it stands, any place but the first may be one that
        # the controller was to go to: a turning point, or an earlier target.
        rebooted = not state.moving and state.current != move.start and move.boot != this_boot()
        self.memory.update(
            unverified=remembered.unverified or impossible or rebooted, move=move if state.moving else None
        )

    # --- Orders -------------------------------------------------------------------------------------------------------

    def plan(self, position: int, backlash: int) -> Plan:
        """Decide on a move, before anything is sent. The link is up. Raises Refused."""
        assert self.channel_state is not None
        return plan_move(
            position,
            Circumstances(
                scale=self.scale,
                travel=self.travel,
                max_steps=max_steps(self.snapshot.generation),
                current=self.channel_state.current,
                moving=self.moves,
                backlash=backlash,
            ),
        )

    def move(self, plan: Plan) -> None:
        """Request the move."""
        assert self.channel_state is not None
        current = self.channel_state.current
        self._request = self._move_request = self._controller.move(self._channel, plan.steps, plan.via)
        self.state = next_state(self.state, Event.MOVE_ORDERED)
        self._waypoints = plan.waypoints
        self.memory.move_begins(current, plan.steps)

    def stop(self) -> None:
        """Request a stop; where the controller does not answer, keep it until it does."""
        self._request = self.abort_request = self._controller.stop(self._channel)
        if self.link_up:
            self.state = next_state(self.state, Event.ABORT_ORDERED)
        else:
            self.memory.update(stop_pending=True)

    def zero(self) -> int:
        """Request a zero. Returns its number."""
        self._request = self._controller.zero(self._channel)
        return self._request

    def leaves(self, travel: tuple[int, int]) -> int | None:
        """The position outside the new `travel` to which the channel is moving, where the one of now allows it."""
        if not self.moves or self.channel_state is None:
            return None
        (low, high), (new_low, new_high) = self.travel, travel
        positions = map(self.scale.position, self._waypoints or (self.channel_state.target,))
        return next((at for at in positions if low <= at <= high and not new_low <= at <= new_high), None)

    # --- What the controller does -------------------------------------------------------------------------------------

    def take(self, snapshot: Snapshot) -> None:
        """There is a new snapshot."""
        self.snapshot = snapshot
        if len(snapshot.channels) >= self._channel:
            self.channel_state = snapshot.channels[self._channel - 1]
            self._note_unverified(self.channel_state)

    def _note_unverified(self, state: ChannelState) -> None:
        if state.unverified_count > self._unverified_count:
            self.memory.update(unverified=True)
        self._unverified_count = state.unverified_count

    def observe(self) -> None:
        """Apply what is known of the channel to the table of states."""
        state = self.channel_state
        if state is None:
            return
        if not self.link_up:
            self.state = next_state(self.state, Event.LINK_LOST)
            return
        if self.state is PositionState.LOST and self.abort_request:
            self.state = next_state(self.state, Event.ABORT_ORDERED)  # while the link was lost
        event = observe(state, self._request, unverified=self.scale.unverified, failed=bool(self.trouble()))
        self.state = next_state(self.state, event)

    def remember(self) -> None:
        """Save the motion that the newest snapshot shows."""
        state = self.channel_state
        if not self.link_up:
            self.memory.link_lost()
        elif state is not None and self.moves:
            self.memory.still_moves(state.current, state.target)
        elif state is not None:
            self.memory.at_rest(state.current)

    def settle_abort(self, snapshot: Snapshot) -> bool:
        """Whether an abort has just been carried out. It need not be kept any longer, connected or not."""
        if not self.abort_request or snapshot.link is not Link.UP or self._channel > len(snapshot.channels):
            return False
        if snapshot.channels[self._channel - 1].request < self.abort_request:
            return False
        self.abort_request = 0
        self.memory.update(stop_pending=False)
        return True

    def trouble(self) -> str:
        """What is wrong with a channel at rest, for people; empty where nothing is."""
        state = self.channel_state
        if state is None:
            return ""
        position = self.scale.position(state.current)
        if self.scale.unverified:
            return (
                f"position {position} is unverified: the controller reports an arrival that was not observed or is "
                "impossible, as when power was lost in mid-move; sync or zero to accept"
            )
        if state.fault:
            return state.fault
        low, high = self.travel
        if not low <= position <= high:
            return f"position {position} is outside the travel of {low} to {high}: move back, or sync"
        if self.memory.at_risk:
            return f"position {position} would be wrong after a power cut, unnoticed: {self.memory.problem}"
        return ""
