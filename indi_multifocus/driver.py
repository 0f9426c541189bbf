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

There is one link for all channels (`connection.py`). What belongs to it (port, baud rate, polling period, …) is one set
of properties that every device shows: a change on one is announced on all (`link_settings.py`).
"""

from __future__ import annotations

import logging
import os
import select
import time

from .config_process import ConfigProcess
from .connection import Connection
from .controller.controller import Controller
from .controller.protocol import MAX_STEPS
from .controller.requests import Schedule
from .focuser import Focuser, Values
from .inbox import Inbox
from .indi import (
    GetProperties,
    Malformed,
    Message,
    NewVector,
    Output,
    Reader,
    State,
    Vector,
    without_superseded,
)
from .link_settings import LinkSettings
from .properties import DeviceProperties
from .settings.driver_settings import Settings
from .settings.files import FileWriter
from .simulation_mode import SimulationMode

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
        self._link_settings = LinkSettings(
            settings, changed_port=self._use_new_port, changed_period=self._use_new_period
        )
        self._link = self._link_settings.properties
        self._names = settings.device_names()
        self._device_properties: dict[int, DeviceProperties] = {}
        self._configs: list[ConfigProcess] = []
        self._simulation = SimulationMode(settings, self._link_settings, lambda: self._connection.open)
        self._connection: Connection = Connection(
            self._controller,
            self._link,
            self._simulation,
            self._writer,
            settings.reply_timeout_s,
            save_link=self._save_link,
            load_settings=self._load_settings,
        )
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
        self._connection.define(focuser, own.connection)
        define(own.driver_info)
        define(own.debug, lambda values: self._new_debug(focuser, values))
        self._link_settings.define_polling(focuser.device)
        self._simulation.define(focuser.device)
        config = ConfigProcess(focuser.device, self._writer, settings.fixes(channel), self._configs)
        config.define()
        self._link_settings.define(focuser.device)
        config.keep_defaults([own.debug])
        config.keep_defaults([link.polling, *link.connection()], shared=True)
        config.keep_defaults(focuser.properties.settings())
        focuser.save_setting = lambda *vectors: self._save(config, *vectors)
        focuser.loads_settings = lambda: config.loading
        return focuser

    def _save_link(self, focuser: Focuser) -> None:
        self._save(self._configs[focuser.channel - 1], *self._link.connection())

    def _load_settings(self, focuser: Focuser) -> None:
        self._configs[focuser.channel - 1].load(quiet=True, own=True)

    def _save(self, config: ConfigProcess, *vectors: Vector) -> None:
        """Save soon; but what is set on the simulator is saved only by CONFIG_PROCESS."""
        if not self._simulation.on:
            config.save(*vectors)

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
        self._connection.close()
        self._simulation.stop()
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
            for config in self._configs:
                config.written(report)
            self._connection.written(report)
        for line in news.traffic:
            self._show_traffic(line)
        if news.snapshot is not None:
            self._connection.take(news.snapshot)
        return news.failure

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

    def _use_new_port(self, changed: Vector) -> None:
        self._connection.use_new_port(changed)

    def _use_new_period(self, period_s: float) -> None:
        self._schedule = self._schedule._replace(moving_s=period_s)
        self._controller.set_schedule(self._schedule)

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
