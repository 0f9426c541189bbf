# SPDX-License-Identifier: GPL-3.0-or-later
"""The driver: the channels of one controller as INDI devices, wired to standard input and output.

Two threads work here, one at a time, whichever holds `_touching`. One reads standard input, blocked in the read itself,
from which it wakes sooner than from a `select` before. The main thread sleeps on a pipe through which the poll thread
says that it left something to be shown, a new snapshot or a line of traffic for DEBUG; and it gets the signals. So the
poll thread never waits for a client, and INDI properties need no locks of their own.

There is one link for all channels. What belongs to it (port, baud rate, polling period, …) is one set of
properties that every device shows: a change on one is announced on all. The first channel that connects opens
the link, the last that disconnects closes it.
"""

from __future__ import annotations

import _thread
import os
import select
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from . import __version__
from .config_process import ConfigProcess
from .controller.poll_thread import Controller, Link, PortSettings, Schedule, Snapshot
from .controller.port import BY_ID, SOCKET, PortError, check_name, list_ports, socket_address
from .focuser import Focuser, Values, Vector, chosen
from .indi import (
    GetProperties,
    Malformed,
    NewVector,
    Number,
    NumberVector,
    Output,
    Permission,
    Reader,
    Refused,
    Rule,
    Shortcuts,
    State,
    Switch,
    SwitchVector,
    Text,
    TextVector,
    without_superseded,
)
from .settings.driver_settings import Settings

if TYPE_CHECKING:
    import threading

    from .simulator import Simulator

FOCUSER_INTERFACE = 8
"""FOCUSER_INTERFACE of libindi's basedevice.h."""

BAUD_RATES = ("9600", "19200", "38400", "57600", "115200", "230400")
"""The rates that libindi's serial connection offers."""

CONNECTION, OPTIONS = "Connection", "Options"

MOST_LEFT = 1000
"""So much of what the poll thread has to tell waits while nobody reads what we say. The last snapshot tells all."""


SERIAL, NETWORK = "CONNECTION_SERIAL", "CONNECTION_TCP"


def on_off(name: str, label: str, on: bool = False) -> SwitchVector:
    """libindi's pair ENABLE / DISABLE of the Options tab."""
    return SwitchVector(
        name, label, OPTIONS, [Switch("ENABLE", "Enable", on), Switch("DISABLE", "Disable", not on)], timeout=0
    )


class Shared:
    """The properties of the one link, which every device shows."""

    def __init__(self, settings: Settings) -> None:
        host, number = socket_address(settings.port)
        self.simulation = on_off("SIMULATION", "Simulation")
        self.mode = SwitchVector(
            "CONNECTION_MODE",
            "Connection Mode",
            CONNECTION,
            [Switch(SERIAL, "Serial", not host), Switch(NETWORK, "Network", bool(host))],
        )
        self.address = TextVector(
            "DEVICE_ADDRESS", "Server", CONNECTION, [Text("ADDRESS", "Address", host), Text("PORT", "Port", number)]
        )
        self.system_ports = SwitchVector("SYSTEM_PORTS", "System Ports", CONNECTION, [], rule=Rule.AT_MOST_ONE)
        self.scan = SwitchVector(
            "DEVICE_PORT_SCAN", "Refresh", CONNECTION, [Switch("Scan Ports", "Scan Ports")], rule=Rule.ONE_OF_MANY
        )
        self.polling = NumberVector(
            "POLLING_PERIOD",
            "Polling",
            OPTIONS,
            [
                Number(
                    "PERIOD_MS",
                    "Period (ms)",
                    round(settings.moving_s * 1000),
                    format="%.f",
                    min=10,
                    max=600_000,
                    step=1000,
                )
            ],
            timeout=0,
        )
        port = Settings.port if host else settings.port
        self.port = TextVector("DEVICE_PORT", "Ports", CONNECTION, [Text("PORT", "Port", port)])
        self.baud = SwitchVector(
            "DEVICE_BAUD_RATE",
            "Baud Rate",
            CONNECTION,
            [Switch(rate, rate, rate == str(settings.baud)) for rate in BAUD_RATES],
        )

    def connection(self) -> tuple[SwitchVector, TextVector, SwitchVector, TextVector]:
        """By what the controller is reached."""
        return self.mode, self.port, self.baud, self.address

    def port_name(self) -> str:
        """What to open, by the chosen mode. Raises PortError where that is not set right."""
        name = str(self.port["PORT"].value)
        if self.mode.on == NETWORK:
            host, number = self.address.values()
            if not host:
                raise PortError("no address is set: say in DEVICE_ADDRESS at which host and port the controller is")
            name = f"{SOCKET}{host}:{number}"
        check_name(name)
        return name


class Options:
    """What a device has for itself, beside its focuser: it is there whether or not the focuser is connected."""

    def __init__(self) -> None:
        self.connection = SwitchVector(
            "CONNECTION",
            "Connection",
            "Main Control",
            [Switch("CONNECT", "Connect"), Switch("DISCONNECT", "Disconnect", True)],
        )
        self.driver_info = TextVector(
            "DRIVER_INFO",
            "Driver Info",
            CONNECTION,
            [
                Text("DRIVER_NAME", "Name", "MultiFocus"),
                Text("DRIVER_EXEC", "Exec", "indi_multifocus"),
                Text("DRIVER_VERSION", "Version", __version__),
                Text("DRIVER_INTERFACE", "Interface", str(FOCUSER_INTERFACE)),
            ],
            permission=Permission.READ_ONLY,
        )
        self.debug = on_off("DEBUG", "Debug")


class Driver:
    """All channels of one controller. `run()` serves them until standard input ends."""

    def __init__(self, settings: Settings, *, stdin: int = 0, stdout: int = 1) -> None:
        self._settings = settings
        self._stdin = stdin
        self._output = Output(stdout, is_over=self._is_over)
        self._shortcuts = Shortcuts()
        self._reader = Reader(self._shortcuts.take)
        self._quiet_until_s = 0.0
        self._unlogged = 0
        self._left: list[Snapshot | str] = []
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        self._ending = False
        self._heard_all = False
        self._touching = _thread.allocate_lock()
        """Held by whoever touches properties, or calls the controller."""
        self._controller = Controller(
            self._leave, trace=self._leave, probes=[probe.address for probe in settings.probes]
        )
        self._schedule = Schedule(settings.moving_s, settings.idle_s, settings.move_timeout_s)
        self._controller.set_schedule(self._schedule)
        self._snapshot = Snapshot()
        self._attempt = 0
        self._shared = Shared(settings)
        self._options: dict[int, Options] = {}
        self._configs: list[ConfigProcess] = []
        self._simulator: Simulator | None = None
        self._waiting: set[int] = set()
        """Channels whose CONNECTION is Busy: the link is being opened for them."""
        self.focusers = [self._new_focuser(channel) for channel in range(1, settings.channels + 1)]
        for config in self._configs:
            config.load(quiet=True)
        if os.path.isdir(BY_ID):  # else there is nothing to see, and no need to spend time on looking
            self._offer_ports()

    def _new_focuser(self, channel: int) -> Focuser:
        settings = self._settings
        limits = settings.travel.get(channel)
        probe = next((probe for probe in settings.probes if probe.channel == channel), None)
        focuser = Focuser(
            channel,
            settings.device_name(channel),
            self._output,
            self._controller,
            travel=limits or settings.default_travel,
            limits=limits or (-9_999_999, 9_999_999),
            probe=probe,
            with_fans=channel == 1,
            all_probes=settings.probes if channel == 1 else (),
        )
        focuser.device.refused = self._show_elsewhere
        options = self._options[channel] = Options()
        define, shared = focuser.device.define, self._shared
        define(options.connection, lambda values: self._new_connection(focuser, values))
        define(options.driver_info)
        define(options.debug, lambda values: self._new_debug(focuser, values))
        define(shared.polling, self._new_polling)
        define(shared.simulation, self._new_simulation)
        config = ConfigProcess(focuser.device, self._settings.fixes(channel), self._configs)
        config.define()
        define(shared.mode, self._new_mode)
        define(shared.port, self._new_port)
        define(shared.baud, self._new_baud)
        define(shared.address, self._new_address)
        define(shared.scan, self._new_scan)
        config.keep_defaults([options.debug])
        config.keep_defaults([shared.polling, *shared.connection()], shared=True)
        config.keep_defaults(focuser.properties.settings())
        focuser.add_shortcuts(self._shortcuts)
        focuser.save_setting = lambda *vectors: self._save(config, *vectors)
        return focuser

    def _save(self, config: ConfigProcess, *vectors: Vector) -> None:
        """Save at once; but what somebody tries out on the simulator is kept only where he asks for it."""
        if self._shared.simulation.on == "DISABLE":
            config.save(*vectors)

    # --- The main loop ----------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Serve until standard input ends, nobody reads standard output any more, or `end()` is called."""
        try:
            first, _, _ = select.select([self._stdin, self._wake_read], [], [])
            if self._stdin not in first or self._read_stdin():
                listener = self._start_listening()
                while not self._ending and not self._output.closed:
                    os.read(self._wake_read, 4096)
                    with self._touching:
                        self._pick_up()
                if self._heard_all:
                    listener.join()
        finally:
            if self._controller.shutdown(timeout_s=0.5):
                self._close_pipe()
            self._stop_simulator()

    def _start_listening(self) -> threading.Thread:
        # Not before the first question is answered: it is slow. And in this thread, as the first that imports it:
        # that one is what threading takes for the main thread, and waits for at the end.
        import threading

        listener = threading.Thread(target=self._listen, name="input", daemon=True)
        listener.start()
        return listener

    def _listen(self) -> None:
        """Read standard input until it ends: in a thread of its own."""
        try:
            while not self._ending and not self._output.closed and self._read_stdin():
                pass
        finally:
            self._heard_all = True
            self.end()

    def end(self) -> None:
        """Leave `run()` soon; safe in a signal handler."""
        self._ending = True
        self._wake()

    def _is_over(self) -> bool:
        """Asked while nobody reads what we say: whether we are to end, by a signal or because nobody is left."""
        poll = select.poll()
        poll.register(self._stdin, select.POLLRDHUP)
        return self._ending or bool(poll.poll(0))

    def _close_pipe(self) -> None:
        """Nobody is left to be woken up; a late `end()` then writes nowhere."""
        write, self._wake_write = self._wake_write, -1
        os.close(write)
        os.close(self._wake_read)

    def _wake(self) -> None:
        try:
            os.write(self._wake_write, b"!")
        except OSError:
            pass  # it has enough to wake up for, or has ended

    def _leave(self, what: Snapshot | str) -> None:
        """Called in the poll thread; with traffic by whoever gives an order, too."""
        self._left.append(what)
        del self._left[:-MOST_LEFT]
        self._wake()

    def _pick_up(self) -> None:
        while self._left:
            what = self._left.pop(0)
            if isinstance(what, str):
                self._show_traffic(what)
            elif what.attempt == self._attempt:
                self._show(what)

    def _read_stdin(self) -> bool:
        """Whether there is more to come."""
        try:
            data = os.read(self._stdin, 65536)
        except BlockingIOError:  # not by us, but whoever gave it to us may have made it so
            select.select([self._stdin], [], [])
            return True
        except OSError:  # of a socket whose other end went before it had read everything
            return False
        with self._touching:
            self._take(data)
        return bool(data)

    def _take(self, data: bytes) -> None:
        """What clients send."""
        try:
            for event in without_superseded(self._reader.feed(data)):
                if isinstance(event, NewVector):
                    self._dispatch(event)
                elif isinstance(event, GetProperties):
                    self._get_properties(event)
                else:
                    self._log_malformed(event)
        finally:
            self._controller.end_ahead()

    def _log_malformed(self, event: Malformed) -> None:
        """At most once a second, and how many there were since: no client may fill the disk of the log."""
        now_s = time.monotonic()
        if now_s < self._quiet_until_s:
            self._unlogged += 1
            return
        more = f" (and {self._unlogged} times before)" if self._unlogged else ""
        print(f"indi_multifocus: ignored what a client sent: {event.reason}{more}", file=sys.stderr)
        self._unlogged = 0
        self._quiet_until_s = now_s + 1.0

    def _dispatch(self, event: NewVector) -> None:
        for focuser in self.focusers:
            if focuser.device.name == event.device:
                if self._options[focuser.channel].debug.on == "ENABLE":
                    focuser.device.debug(f"client: {event.name} {dict(event.elements)}")
                focuser.device.handle(event)

    def _show_elsewhere(self, vector: Vector) -> None:
        """What all devices show is refused on all, too; only who asked is told why."""
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
        self._waiting.add(focuser.channel)
        if self._attempt == 0:
            self._open()
        elif self._snapshot.link is Link.UP:
            self._welcome(focuser)
        elif self._snapshot.link is Link.LOST:
            self._report_loss(focuser)

    def _open(self) -> None:
        self._snapshot = Snapshot()
        try:
            name = self._simulated_port() if self._shared.simulation.on == "ENABLE" else self._shared.port_name()
        except PortError as error:
            self._refuse_all(str(error))
            return
        baud = int(self._shared.baud.on or 9600)
        self._attempt = self._controller.open(PortSettings(name, baud, self._settings.reply_timeout_s))

    def _simulated_port(self) -> str:
        if self._simulator is None:
            from .simulator import Simulator

            probes = {probe.address: 10.0 + number for number, probe in enumerate(self._settings.probes)}
            self._simulator = Simulator(channels=self._settings.channels, probes=probes)
            self._simulator.start()
        return self._simulator.port

    def _stop_simulator(self) -> None:
        if self._simulator is not None:
            self._simulator.close()
            self._simulator = None

    def _disconnect(self, focuser: Focuser) -> None:
        self._waiting.discard(focuser.channel)
        self._set_connection(focuser, State.IDLE, "DISCONNECT")
        focuser.disconnect()
        self._close_if_unused()

    def _close_if_unused(self) -> None:
        if not self._waiting and not any(focuser.connected for focuser in self.focusers):
            self._attempt = 0
            self._controller.close()

    def _set_connection(self, focuser: Focuser, state: State, choice: str, message: str | None = None) -> None:
        connection = self._options[focuser.channel].connection
        connection.select(choice)
        connection.state = state
        focuser.device.update(connection, message)

    def _show(self, snapshot: Snapshot) -> None:
        before, self._snapshot = self._snapshot, snapshot
        if snapshot.link is Link.CLOSED:
            if snapshot.reason:
                self._refuse_all(snapshot.reason)
            return
        for focuser in self.focusers:
            if snapshot.link is Link.UP and focuser.channel in self._waiting:
                self._welcome(focuser)
            elif focuser.connected:
                if snapshot.link is not before.link:
                    self._report_link(focuser, snapshot, before)
                if snapshot.link is Link.UP and _is_other(snapshot, before):
                    focuser.disconnect()
                    self._welcome(focuser)
                else:
                    focuser.show(snapshot)

    def _report_link(self, focuser: Focuser, snapshot: Snapshot, before: Snapshot) -> None:
        if snapshot.link is Link.LOST:
            self._report_loss(focuser)
        elif before.link is Link.LOST:
            focuser.device.info("the controller is back")

    def _report_loss(self, focuser: Focuser) -> None:
        focuser.device.error(f"{self._snapshot.reason}; trying to get it back")

    def _welcome(self, focuser: Focuser) -> None:
        """The link is up: this channel is connected, if the controller has it."""
        there = len(self._snapshot.channels)
        if focuser.channel > there:
            self._refuse(
                focuser,
                f"there is no channel {focuser.channel}: the controller has channels 1 to {there}",
            )
            return
        self._waiting.discard(focuser.channel)
        self._set_connection(focuser, State.OK, "CONNECT")
        config = self._configs[focuser.channel - 1]
        if not any(other.connected for other in self.focusers):
            self._save(config, *self._shared.connection())  # it works, and libindi's drivers save it here
        focuser.connect(self._snapshot)
        config.load(quiet=True, own=True)
        if there > len(self.focusers):
            focuser.device.warning(
                f"the controller has {there} channels, of which {len(self.focusers)} are configured: "
                'set "channels" in the configuration to use the others'
            )

    def _refuse_all(self, reason: str) -> None:
        for focuser in self.focusers:
            if focuser.channel in self._waiting:
                self._refuse(focuser, reason)

    def _refuse(self, focuser: Focuser, reason: str) -> None:
        self._waiting.discard(focuser.channel)
        focuser.memory.loses_sight()
        self._set_connection(focuser, State.ALERT, "DISCONNECT", f"[ERROR] {reason}")
        self._close_if_unused()

    # --- Properties of the link -------------------------------------------------------------------------------------

    def _announce(self, vector: Vector, state: State = State.OK) -> None:
        vector.state = state
        for focuser in self.focusers:
            focuser.device.update(vector)

    def _new_polling(self, values: Values) -> None:
        period_ms = float(values["PERIOD_MS"])
        self._shared.polling["PERIOD_MS"].value = period_ms
        self._schedule = replace(self._schedule, moving_s=period_ms / 1000)
        self._controller.set_schedule(self._schedule)
        self._announce(self._shared.polling)

    def _new_port(self, values: Values) -> None:
        name = str(values["PORT"]).strip()
        try:
            check_name(name)
        except PortError as error:
            raise Refused(str(error)) from None
        self._shared.port["PORT"].value = name
        self._announce(self._shared.port)

    def _new_baud(self, values: Values) -> None:
        chosen = next((name for name, on in values.items() if on), None)
        if chosen is not None:
            self._shared.baud.select(chosen)
        self._announce(self._shared.baud)

    def _new_address(self, values: Values) -> None:
        address = self._shared.address
        wanted = {name: str(values.get(name, text.value)).strip() for name, text in address.elements.items()}
        if any(wanted.values()):  # none at all is what there is at first, and what most people save
            try:
                check_name(f"{SOCKET}{wanted['ADDRESS']}:{wanted['PORT']}")
            except PortError as error:
                raise Refused(str(error)) from None
        for name, value in wanted.items():
            address[name].value = value
        self._announce(address)

    def _new_mode(self, values: Values) -> None:
        self._choose(self._shared.mode, values)

    def _new_simulation(self, values: Values) -> None:
        if self._attempt:
            raise Refused("SIMULATION cannot be changed while connected: disconnect all channels first")
        self._choose(self._shared.simulation, values)
        simulated = self._shared.simulation.on == "ENABLE"
        for focuser in self.focusers:
            focuser.simulate(simulated)
        if not simulated:
            self._stop_simulator()

    def _choose(self, vector: SwitchVector, values: Values) -> None:
        """The answer to a switch of two."""
        vector.select(chosen(vector, values))
        self._announce(vector)

    def _new_scan(self, values: Values) -> None:
        scan = self._shared.scan
        ports = self._offer_ports()
        scan.clear()
        self._announce(scan, State.OK if ports else State.ALERT)
        for focuser in self.focusers:
            if ports:
                focuser.device.info(f"Scan complete. Found {len(ports)} port(s).")
            else:
                focuser.device.warning("No candidate ports found on the system.")

    def _offer_ports(self) -> list[str]:
        """Offer this machine's serial ports, each as a switch that sets DEVICE_PORT."""
        ports = list_ports()
        system_ports = self._shared.system_ports
        system_ports.elements = {port: Switch(port, port) for port in ports}
        for focuser in self.focusers:
            focuser.device.remove(system_ports.name)
            if ports:
                focuser.device.define(system_ports, self._new_system_port)
        return ports

    def _new_system_port(self, values: Values) -> None:
        port = next((name for name, on in values.items() if on), None)
        if port is not None:
            self._shared.port["PORT"].value = port
            self._announce(self._shared.port)
        self._shared.system_ports.clear()
        if port is not None:
            self._shared.system_ports.select(port)
        self._announce(self._shared.system_ports)

    # --- Options of one device --------------------------------------------------------------------------------------

    def _new_debug(self, focuser: Focuser, values: Values) -> None:
        debug = self._options[focuser.channel].debug
        debug.select(chosen(debug, values))
        debug.state = State.OK
        focuser.device.update(debug)
        focuser.device.info(f"Debug is {'enabled' if debug.on == 'ENABLE' else 'disabled'}.")
        self._controller.tracing = any(options.debug.on == "ENABLE" for options in self._options.values())

    def _show_traffic(self, line: str) -> None:
        for focuser in self.focusers:
            if self._options[focuser.channel].debug.on == "ENABLE":
                focuser.device.debug(f"serial: {line}")


def _is_other(snapshot: Snapshot, before: Snapshot) -> bool:
    """Whether another controller was plugged in: what the channels offer depends on the one that they are on."""
    return (snapshot.generation, len(snapshot.channels)) != (before.generation, len(before.channels))
