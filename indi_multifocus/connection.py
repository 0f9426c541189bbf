# SPDX-License-Identifier: GPL-3.0-or-later
"""CONNECTION of all channels: there is one link, which the first that connects opens and the last that disconnects
closes.

Used by `driver.py`, in the main thread. While the link is open a `ControllerMemory` holds what is remembered of that
controller, locked against other drivers. Everything that the poll thread reports of the link comes through `take`.
"""

from __future__ import annotations

from collections.abc import Callable

from .controller.controller import Controller
from .controller.port import PortError, stable_name
from .controller.requests import PortSettings
from .controller.snapshot import Link, Snapshot
from .focuser import Focuser, Values
from .indi import State, SwitchVector, Vector
from .properties import LinkProperties
from .settings.files import FileWriter, Written
from .settings.remembered_position import ControllerMemory
from .simulation_mode import SimulationMode


class Connection:
    """The companion of the focusers on one link."""

    def __init__(
        self,
        controller: Controller,
        link: LinkProperties,
        simulation: SimulationMode,
        writer: FileWriter,
        reply_timeout_s: float,
        *,
        save_link: Callable[[Focuser], None],
        load_settings: Callable[[Focuser], None],
    ) -> None:
        """`save_link`: called to save by which port it is reached, after that worked; `load_settings`: to load what was
        saved of a focuser, after it was connected."""
        self._controller = controller
        self._link = link
        self._simulation = simulation
        self._writer = writer
        self._reply_timeout_s = reply_timeout_s
        self._save_link = save_link
        self._load_settings = load_settings
        self._focusers: list[Focuser] = []
        self._vectors: dict[int, SwitchVector] = {}
        """CONNECTION by channel."""
        self._memory: ControllerMemory | None = None
        """Of the controller whose link is open."""
        self._snapshot = Snapshot()
        self._attempt = 0
        """Number of the current attempt to open the link; 0 while it is closed."""
        self._closing = 0
        """Number of the closing of the link that is not done yet, or 0."""
        self._connecting: set[int] = set()
        """Channels whose CONNECTION is Busy: the link is being opened for them."""
        self._disconnecting: set[int] = set()
        """Channels whose CONNECTION is Busy: they are the last ones, and the link is being closed."""

    @property
    def open(self) -> bool:
        """Whether the link is open, or is being opened."""
        return self._attempt != 0

    def define(self, focuser: Focuser, vector: SwitchVector) -> None:
        """Define CONNECTION of a focuser."""
        self._focusers.append(focuser)
        self._vectors[focuser.channel] = vector
        focuser.device.define(vector, lambda values: self._new_connection(focuser, values))

    def take(self, snapshot: Snapshot) -> None:
        """Show what the poll thread reports, unless it is of an earlier attempt."""
        if snapshot.attempt == self._attempt:
            self._show(snapshot)
        elif snapshot.attempt == self._closing:
            self._closing = 0
            self._finish_disconnecting()

    def written(self, report: Written) -> None:
        """Take a report of the file writer, if it is about this controller."""
        if self._memory is not None and self._memory.written(report):
            for focuser in self._focusers:
                focuser.saved()
            self._finish_disconnecting()

    def close(self) -> None:
        """Let other drivers use the controller: this one ends."""
        if self._memory is not None:
            self._memory.close()

    # --- Connecting and disconnecting -----------------------------------------------------------------------------

    def _new_connection(self, focuser: Focuser, values: Values) -> None:
        if values.get("CONNECT", not values.get("DISCONNECT", True)):
            self._connect(focuser)
        else:
            self._disconnect(focuser)

    def _connect(self, focuser: Focuser) -> None:
        if focuser.connected:
            self._set_connection(focuser, State.OK, "CONNECT")
            return
        self._set_connection(focuser, State.BUSY, "CONNECT")
        self._disconnecting.discard(focuser.channel)
        self._connecting.add(focuser.channel)
        if self._attempt == 0:
            self._open()
        elif self._snapshot.link is Link.UP:
            self._finish_connecting(focuser)
        elif self._snapshot.link is Link.LOST:
            self._report_loss(focuser)

    def _open(self) -> None:
        self._snapshot = Snapshot()
        if self._memory is not None:
            self._memory.close()
            self._memory = None
        try:
            name = self._simulation.port() if self._simulation.on else self._link.port_name()
            self._memory = self._lock_memory(name)
        except PortError as error:
            self._refuse_all(str(error))
            return
        self._attempt, self._closing = self._controller.open(self._port_settings(name)), 0
        for focuser, memory in zip(self._focusers, self._memory.channels):
            focuser.open(memory)

    def _port_settings(self, name: str) -> PortSettings:
        return PortSettings(name, int(self._link.baud.on or 9600), self._reply_timeout_s)

    def _lock_memory(self, port: str) -> ControllerMemory:
        """What is remembered of the controller on this port. Raises PortError where another driver uses it."""
        try:
            # Nothing that is done on a simulator is remembered for the real focuser.
            writer = None if self._simulation.on else self._writer
            return ControllerMemory(stable_name(port), len(self._focusers), writer)
        except BlockingIOError:
            raise PortError(
                f"another driver uses the controller on {port}, or one that cannot be distinguished from it: "
                "disconnect it there first"
            ) from None

    def _check_controller(self, snapshot: Snapshot) -> None:
        """The link is back. Another controller, which has another stable name, has a memory of its own.

        Where nothing is remembered of it, it may be the same one in another socket, so the facts of the one before
        are taken over, unverified. Raises PortError where another driver uses its memory.
        """
        before = self._memory
        assert before is not None
        if self._simulation.on or stable_name(snapshot.port) == before.controller:
            return
        self._memory = self._lock_memory(snapshot.port)
        before.close()
        for focuser, memory, known in zip(self._focusers, self._memory.channels, before.channels):
            if not memory.found:
                memory.update(**{**known.values._asdict(), "unverified": True})
            focuser.change_memory(memory, snapshot)
        for focuser in self._focusers:
            self._save_link(focuser)

    def _disconnect(self, focuser: Focuser) -> None:
        self._connecting.discard(focuser.channel)
        self._disconnecting.add(focuser.channel)
        last = not self._in_use(but=focuser)
        self._set_connection(focuser, State.BUSY if last else State.IDLE, "DISCONNECT")
        focuser.disconnect()
        self._close_if_unused()
        self._finish_disconnecting()

    def _in_use(self, but: Focuser | None = None) -> bool:
        """Whether any channel is connected or connecting, apart from `but`."""
        return any(
            focuser is not but and (focuser.connected or focuser.channel in self._connecting)
            for focuser in self._focusers
        )

    def _close_if_unused(self) -> None:
        if self._attempt and not self._in_use():
            self._attempt, self._closing = 0, self._controller.close()

    def _finish_disconnecting(self) -> None:
        """When nobody is connected, the port is closed and all is on the disk, another driver may use the controller.
        Only then the last channel is Idle, so that whoever waits for that can connect there at once."""
        if self._attempt == 0 and self._memory is not None:
            if self._closing or not self._memory.saved:
                return
            self._memory.close()
        for focuser in self._focusers:
            if focuser.channel in self._disconnecting:
                self._disconnecting.discard(focuser.channel)
                if self._vectors[focuser.channel].state is State.BUSY:
                    self._set_connection(focuser, State.IDLE, "DISCONNECT")

    def _set_connection(self, focuser: Focuser, state: State, choice: str, message: str | None = None) -> None:
        connection = self._vectors[focuser.channel]
        connection.select(choice)
        connection.state = state
        focuser.device.update(connection, message)

    # --- What becomes of the link -----------------------------------------------------------------------------------

    def _show(self, snapshot: Snapshot) -> None:
        before, self._snapshot = self._snapshot, snapshot
        if snapshot.link is Link.CLOSED:
            if snapshot.reason:
                self._refuse_all(snapshot.reason)
            return
        if snapshot.reconnects != before.reconnects:
            try:
                self._check_controller(snapshot)
            except PortError as error:
                self._disconnect_all(str(error))
                return
        for focuser in self._focusers:
            if snapshot.link is Link.UP and focuser.channel in self._connecting:
                self._finish_connecting(focuser)
                continue
            if focuser.connected and snapshot.link is not before.link:
                self._report_link(focuser, snapshot, before)
            if focuser.connected and snapshot.link is Link.UP and _is_other(snapshot, before):
                focuser.disconnect()
                self._finish_connecting(focuser)
            else:
                focuser.show(snapshot)

    def _report_link(self, focuser: Focuser, snapshot: Snapshot, before: Snapshot) -> None:
        if snapshot.link is Link.LOST:
            self._report_loss(focuser)
        elif before.link is Link.LOST:
            focuser.device.info("the controller is back")

    def _report_loss(self, focuser: Focuser) -> None:
        focuser.device.error(f"{self._snapshot.reason}; trying to get it back")

    def _finish_connecting(self, focuser: Focuser) -> None:
        """The link is up: this channel is connected, if the controller has it."""
        there = len(self._snapshot.channels)
        if focuser.channel > there:
            channels = f"channels 1 to {there}" if there > 1 else "channel 1 alone"
            self._refuse(focuser, f"there is no channel {focuser.channel}: the controller has {channels}")
            return
        self._connecting.discard(focuser.channel)
        self._set_connection(focuser, State.OK, "CONNECT")
        if not any(other.connected for other in self._focusers):
            self._save_link(focuser)  # it works, and libindi's drivers save it here
        focuser.connect(self._snapshot)
        self._load_settings(focuser)
        if there > len(self._focusers):
            focuser.device.warning(
                f"the controller has {there} channels, of which {len(self._focusers)} are configured: "
                'set "channels" in the configuration to use the others'
            )

    def _refuse_all(self, reason: str) -> None:
        for focuser in self._focusers:
            if focuser.channel in self._connecting:
                self._refuse(focuser, reason)

    def _disconnect_all(self, reason: str) -> None:
        """The link cannot be used any more."""
        for focuser in self._focusers:
            if focuser.connected or focuser.channel in self._connecting:
                focuser.disconnect()
                self._refuse(focuser, reason)

    def _refuse(self, focuser: Focuser, reason: str) -> None:
        self._connecting.discard(focuser.channel)
        focuser.position.memory.link_lost()
        self._set_connection(focuser, State.ALERT, "DISCONNECT", f"[ERROR] {reason}")
        self._close_if_unused()

    # --- Changes of what it is opened by --------------------------------------------------------------------------

    def use_new_port(self, changed: Vector) -> None:
        """The port or how it is opened was changed. A link that is up stays as it is, and uses that when it is lost; a
        lost one uses it at once. A message states which."""
        if not self._attempt:
            return
        if self._simulation.on:
            self._report(f"{changed.label} applies when SIMULATION is off")
            return
        if changed not in self._link.in_use():
            self._report(f"{changed.label} applies in the other CONNECTION_MODE")
            return
        try:
            settings = self._port_settings(self._link.port_name())
        except PortError as error:
            self._report(f"{changed.label} is set, but the port cannot be used: {error}", warn=True)
            return
        self._controller.reopen(settings)
        if self._snapshot.link is Link.LOST:
            self._report(f"{changed.label} is used now: looking for the controller on {settings.name}")
        else:
            self._report(f"{changed.label} is used when the port is opened next: the link stays as it is until then")

    def _report(self, text: str, *, warn: bool = False) -> None:
        """Send a message to the users of every connected channel."""
        for focuser in self._focusers:
            if focuser.connected or focuser.channel in self._connecting:
                (focuser.device.warning if warn else focuser.device.info)(text)


def _is_other(snapshot: Snapshot, before: Snapshot) -> bool:
    """Whether another controller was plugged in: what the channels offer depends on the one that they are on."""
    return (snapshot.generation, len(snapshot.channels)) != (before.generation, len(before.channels))
