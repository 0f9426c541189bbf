# SPDX-License-Identifier: GPL-3.0-or-later
"""The driver: the channels of one controller as INDI devices, wired to standard input and output.

Threads, what each owns, and what it waits for:

| thread | owns                                                  | waits in                                           |
|--------|-------------------------------------------------------|----------------------------------------------------|
| main   | all that is INDI: reader, devices, focusers, stdout   | `select`: stdin, inbox, signals, stdout while full |
| poll   | all that is serial: port, session, channels, schedule | `select`: port, mailbox, time of the next poll     |
| files  | nothing; it writes what it is given                   | its condition variable                             |

What passes between them are immutable values. Main puts requests into the mailbox (`controller/requests.py`); the
others put snapshots, traffic and reports into the inbox (`inbox.py`). These two and the file writer have the only
locks. (With SIMULATION there is one more thread, which is the simulated controller.)

There is one link for all channels. What belongs to it (port, baud rate, polling period, …) is one set of properties
that every device shows: a change on one is announced on all. The first channel that connects opens the link, the last
that disconnects closes it.
"""

from __future__ import annotations

import logging
import os
import select
import time
from typing import TYPE_CHECKING

from .config_process import ConfigProcess
from .controller.controller import (
    Controller,
)
from .controller.port import PortError, stable_name
from .controller.protocol import MAX_STEPS
from .controller.requests import PortSettings, Schedule
from .controller.snapshot import Link, Snapshot
from .focuser import Focuser, Values
from .inbox import Inbox
from .indi import (
    GetProperties,
    Malformed,
    Message,
    NewVector,
    Output,
    Reader,
    Refused,
    State,
    Vector,
    without_superseded,
)
from .link_settings import LinkSettings
from .properties import DeviceProperties
from .settings.driver_settings import Settings
from .settings.files import FileWriter, Written
from .settings.remembered_position import ControllerMemory

if TYPE_CHECKING:
    from .simulation.simulator import Simulator

log = logging.getLogger(__name__)

SHUTDOWN_S, WRITE_S, DRAIN_S = 0.4, 0.3, 0.1
"""How long shutdown waits for the poll thread, for files and for the reader of standard output: below a second."""


class Driver:
    """All channels of one controller. `run()` serves them until standard input ends."""

    def __init__(
        self,
        settings: Settings,
        *,
        introduction: Message | None = None,
        stdin: int = 0,
        stdout: int = 1,
        signals: int | None = None,
    ) -> None:
        """`introduction`: sent first, see `server_name.py`; `signals`: a file descriptor that becomes readable when a
        signal wants the driver to end."""
        self._settings = settings
        self._stdin = stdin
        self._signals = signals
        self._output = Output(stdout)
        self._reader = Reader()
        self._quiet_until_s = 0.0
        self._unlogged = 0
        self._inbox = Inbox()
        self._writer = FileWriter(self._inbox.put_written, failed=self._inbox.put_failure)
        self._controller = Controller(
            self._inbox.put_snapshot,
            trace=self._inbox.put_traffic,
            failed=self._inbox.put_failure,
            probes=[probe.address for probe in settings.probes],
        )
        self._schedule = Schedule(settings.moving_s, settings.idle_s, settings.move_timeout_s)
        self._controller.set_schedule(self._schedule)
        self._memory: ControllerMemory | None = None
        """Of the controller whose link is open."""
        self._snapshot = Snapshot()
        self._attempt = 0
        """Number of the current attempt to open the link; 0 while it is closed."""
        self._closing = 0
        """Number of the closing of the link that is not done yet, or 0."""
        self._link_settings = LinkSettings(
            settings, changed_port=self._use_new_port, changed_period=self._use_new_period
        )
        self._link = self._link_settings.properties
        self._names = settings.device_names()
        self._device_properties: dict[int, DeviceProperties] = {}
        self._configs: list[ConfigProcess] = []
        self._simulator: Simulator | None = None
        self._connecting: set[int] = set()
        """Channels whose CONNECTION is Busy: the link is being opened for them."""
        self._disconnecting: set[int] = set()
        """Channels whose CONNECTION is Busy: they are the last ones, and the link is being closed."""
        if introduction is not None:
            self._output.write(introduction)
        self.focusers = [self._new_focuser(channel) for channel in range(1, settings.channels + 1)]
        self._link_settings.serve([focuser.device for focuser in self.focusers])
        for config in self._configs:
            config.load(quiet=True)
        self._link_settings.offer_ports()

    def _new_focuser(self, channel: int) -> Focuser:
        settings = self._settings
        limits = settings.travel.get(channel)
        probe = next((probe for probe in settings.probes if probe.channel == channel), None)
        focuser = Focuser(
            channel,
            self._names[channel],
            self._output,
            self._controller,
            travel=limits or settings.default_travel,
            limits=limits or (-MAX_STEPS, MAX_STEPS),
            probe=probe,
            with_fans=channel == 1,
            all_probes=settings.probes if channel == 1 else (),
        )
        focuser.device.refused = self._show_elsewhere
        own = self._device_properties[channel] = DeviceProperties()
        define, link = focuser.device.define, self._link
        define(own.connection, lambda values: self._new_connection(focuser, values))
        define(own.driver_info)
        define(own.debug, lambda values: self._new_debug(focuser, values))
        self._link_settings.define_polling(focuser.device)
        define(link.simulation, self._new_simulation)
        config = ConfigProcess(focuser.device, self._writer, settings.fixes(channel), self._configs)
        config.define()
        self._link_settings.define(focuser.device)
        config.keep_defaults([own.debug])
        config.keep_defaults([link.polling, *link.connection()], shared=True)
        config.keep_defaults(focuser.properties.settings())
        focuser.save_setting = lambda *vectors: self._save(config, *vectors)
        focuser.loads_settings = lambda: config.loading
        return focuser

    def _save(self, config: ConfigProcess, *vectors: Vector) -> None:
        """Save soon; but what is set on the simulator is saved only by CONFIG_PROCESS."""
        if not self._simulated:
            config.save(*vectors)

    @property
    def _simulated(self) -> bool:
        return self._link.simulation.on == "ENABLE"

    # --- The main loop ----------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Serve until standard input ends, nobody reads standard output any more, or a signal comes.

        Returns the exit status: 1 where a thread failed by a bug of ours, after what moved was stopped.
        """
        failure = "the main thread failed"
        try:
            failure = self._serve()
        except Exception as error:
            log.exception("the main thread failed")
            failure = f"internal error of the driver: {error!r}"
        finally:
            self._end(failure)
        if self._output.problem:
            log.error("standard output: %s", self._output.problem)
        return 1 if failure or self._output.problem else 0

    def _serve(self) -> str:
        """Returns why the driver cannot go on, or "" where it is to end."""
        reading: list[int | Inbox] = [self._inbox, self._stdin]
        if self._signals is not None:
            reading.append(self._signals)
        while not self._output.closed:
            ready, writable, _ = select.select(reading, [self._output] if self._output.waiting else [], [])
            if self._signals in ready:
                return ""
            if writable:
                self._output.flush()
            if self._inbox in ready:
                failure = self._take_news()
                if failure:
                    return failure
            if self._stdin in ready and not self._read_stdin():
                return ""
        return ""

    def _end(self, failure: str) -> None:
        """Close the link and write what is to be written."""
        try:
            for focuser in self.focusers:
                if failure:
                    focuser.device.error(f"{failure}; the driver stops what moves, and ends")
                focuser.release()
        finally:
            ended = self._controller.shutdown(SHUTDOWN_S, stop_moves=bool(failure))
        self._writer.close(WRITE_S)
        self._output.drain(DRAIN_S)
        if self._memory is not None:
            self._memory.close()
        self._stop_simulator()
        if ended:
            self._inbox.close()

    def _read_stdin(self) -> bool:
        """Handle what clients sent. Returns False at the end of standard input."""
        try:
            data = os.read(self._stdin, 65536)
        except BlockingIOError:
            return True
        except OSError:  # of a socket whose other end went before it had read everything
            return False
        for event in without_superseded(self._reader.feed(data)):
            if isinstance(event, NewVector):
                self._dispatch(event)
            elif isinstance(event, GetProperties):
                self._get_properties(event)
            else:
                self._log_malformed(event)
        return bool(data)

    def _take_news(self) -> str:
        """Show what the other threads report. Returns why one of them failed, or ""."""
        news = self._inbox.take()
        for report in news.written:
            self._take_report(report)
        for line in news.traffic:
            self._show_traffic(line)
        if news.snapshot is not None and news.snapshot.attempt == self._attempt:
            self._show(news.snapshot)
        if self._closing and news.snapshot is not None and news.snapshot.attempt == self._closing:
            self._closing = 0
            self._finish_disconnecting()
        return news.failure

    def _take_report(self, report: Written) -> None:
        for config in self._configs:
            config.written(report)
        if self._memory is not None and self._memory.written(report):
            for focuser in self.focusers:
                focuser.saved()
            self._finish_disconnecting()

    def _log_malformed(self, event: Malformed) -> None:
        """Log one message a second, with the number of the others, so that no client can fill the disk with them."""
        now_s = time.monotonic()
        if now_s < self._quiet_until_s:
            self._unlogged += 1
            return
        more = f" (and {self._unlogged} times before)" if self._unlogged else ""
        log.warning("ignored what a client sent: %s%s", event.reason, more)
        self._unlogged = 0
        self._quiet_until_s = now_s + 1.0

    def _dispatch(self, event: NewVector) -> None:
        for focuser in self.focusers:
            if focuser.device.name == event.device:
                if self._device_properties[focuser.channel].debug.on == "ENABLE":
                    focuser.device.debug(f"client: {event.name} {dict(event.elements)}")
                focuser.device.handle(event)

    def _show_elsewhere(self, vector: Vector) -> None:
        """Show the refusal of a shared property on the other devices, too; the message is on one of them."""
        for focuser in self.focusers:
            if focuser.device.vector(vector.name) is vector:
                focuser.device.publish(vector)

    def _get_properties(self, event: GetProperties) -> None:
        for focuser in self.focusers:
            if event.device in (None, "", focuser.device.name):
                focuser.device.get_properties(event.name)

    # --- The link ---------------------------------------------------------------------------------------------------

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
            name = self._simulated_port() if self._simulated else self._link.port_name()
            self._memory = self._lock_memory(name)
        except PortError as error:
            self._refuse_all(str(error))
            return
        self._attempt, self._closing = self._controller.open(self._port_settings(name)), 0
        for focuser, memory in zip(self.focusers, self._memory.channels):
            focuser.open(memory)

    def _port_settings(self, name: str) -> PortSettings:
        return PortSettings(name, int(self._link.baud.on or 9600), self._settings.reply_timeout_s)

    def _lock_memory(self, port: str) -> ControllerMemory:
        """What is remembered of the controller on this port. Raises PortError where another driver uses it."""
        try:
            # Nothing that is done on a simulator is remembered for the real focuser.
            writer = None if self._simulated else self._writer
            return ControllerMemory(stable_name(port), len(self.focusers), writer)
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
        if self._simulated or stable_name(snapshot.port) == before.controller:
            return
        self._memory = self._lock_memory(snapshot.port)
        before.close()
        for focuser, memory, known in zip(self.focusers, self._memory.channels, before.channels):
            if not memory.found:
                memory.update(**{**vars(known.values), "unverified": True})
            focuser.change_memory(memory, snapshot)
        for config in self._configs:
            self._save(config, *self._link.connection())

    def _simulated_port(self) -> str:
        if self._simulator is None:
            probes = {probe.address: 10.0 + number for number, probe in enumerate(self._settings.probes)}
            from .simulation.simulator import Simulator  # an observatory never needs it

            speed = self._link.simulation_speed["FACTOR"].value
            self._simulator = Simulator(channels=self._settings.channels, probes=probes, speed=speed)
            self._simulator.start()
        return self._simulator.port

    def _stop_simulator(self) -> None:
        if self._simulator is not None:
            self._simulator.close()
            self._simulator = None

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
            for focuser in self.focusers
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
        for focuser in self.focusers:
            if focuser.channel in self._disconnecting:
                self._disconnecting.discard(focuser.channel)
                if self._device_properties[focuser.channel].connection.state is State.BUSY:
                    self._set_connection(focuser, State.IDLE, "DISCONNECT")

    def _set_connection(self, focuser: Focuser, state: State, choice: str, message: str | None = None) -> None:
        connection = self._device_properties[focuser.channel].connection
        connection.select(choice)
        connection.state = state
        focuser.device.update(connection, message)

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
        for focuser in self.focusers:
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
        config = self._configs[focuser.channel - 1]
        if not any(other.connected for other in self.focusers):
            self._save(config, *self._link.connection())  # it works, and libindi's drivers save it here
        focuser.connect(self._snapshot)
        config.load(quiet=True, own=True)
        if there > len(self.focusers):
            focuser.device.warning(
                f"the controller has {there} channels, of which {len(self.focusers)} are configured: "
                'set "channels" in the configuration to use the others'
            )

    def _refuse_all(self, reason: str) -> None:
        for focuser in self.focusers:
            if focuser.channel in self._connecting:
                self._refuse(focuser, reason)

    def _disconnect_all(self, reason: str) -> None:
        """The link cannot be used any more."""
        for focuser in self.focusers:
            if focuser.connected or focuser.channel in self._connecting:
                focuser.disconnect()
                self._refuse(focuser, reason)

    def _refuse(self, focuser: Focuser, reason: str) -> None:
        self._connecting.discard(focuser.channel)
        focuser.position.memory.link_lost()
        self._set_connection(focuser, State.ALERT, "DISCONNECT", f"[ERROR] {reason}")
        self._close_if_unused()

    # --- Properties of the link -------------------------------------------------------------------------------------

    def _use_new_period(self, period_s: float) -> None:
        self._schedule = self._schedule._replace(moving_s=period_s)
        self._controller.set_schedule(self._schedule)

    def _use_new_port(self, changed: Vector) -> None:
        """The port or how it is opened was changed. A link that is up stays as it is, and uses that when it is lost; a
        lost one uses it at once. A message states which."""
        if not self._attempt:
            return
        if self._simulated:
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
        for focuser in self.focusers:
            if focuser.connected or focuser.channel in self._connecting:
                (focuser.device.warning if warn else focuser.device.info)(text)

    def _new_simulation(self, values: Values) -> None:
        if self._attempt:
            raise Refused("SIMULATION cannot be changed while connected: disconnect all channels first")
        self._link_settings.choose(self._link.simulation, values)
        if not self._simulated:
            self._stop_simulator()
        speed = self._link.simulation_speed
        for focuser in self.focusers:
            focuser.device.remove(speed.name)
            if self._simulated:
                focuser.device.define(speed, self._new_simulation_speed)

    def _new_simulation_speed(self, values: Values) -> None:
        speed = self._link.simulation_speed
        speed["FACTOR"].value = float(values["FACTOR"])
        if self._simulator is not None:
            self._simulator.set_speed(speed["FACTOR"].value)
        self._link_settings.announce(speed)

    # --- Options of one device --------------------------------------------------------------------------------------

    def _new_debug(self, focuser: Focuser, values: Values) -> None:
        debug = self._device_properties[focuser.channel].debug
        debug.select(debug.wanted(values))
        debug.state = State.OK
        focuser.device.update(debug)
        focuser.device.info(f"Debug is {'enabled' if debug.on == 'ENABLE' else 'disabled'}.")
        self._controller.set_tracing(any(own.debug.on == "ENABLE" for own in self._device_properties.values()))

    def _show_traffic(self, line: str) -> None:
        for focuser in self.focusers:
            if self._device_properties[focuser.channel].debug.on == "ENABLE":
                focuser.device.debug(f"serial: {line}")


def _is_other(snapshot: Snapshot, before: Snapshot) -> bool:
    """Whether another controller was plugged in: what the channels offer depends on the one that they are on."""
    return (snapshot.generation, len(snapshot.channels)) != (before.generation, len(before.channels))
