# SPDX-License-Identifier: GPL-3.0-or-later
"""focusd: the documented Pyro interface of the focusers, and the process around it. `focusd <config.json>`.

`FocusDaemon` is what Pyro clients see. Each call of a control machine has a thread of its own (listener.py), so
`set_focus` may block in as many of them as there are channels while others ask and stop. Here a caller's right and
arguments are checked; what a call does is in focusers.py.

The main thread sets everything up, then sleeps until a signal ends the process.
"""

from __future__ import annotations

import datetime
import faulthandler
import functools
import os
import signal
import socket
import sqlite3
import sys
from collections.abc import Iterable, Mapping
from typing import Any, Callable, TextIO, TypeVar, cast

import Pyro4

from indi_multifocus import __version__
from indi_multifocus.settings.configuration import Config, ConfigError, load
from indi_multifocus.settings.json_object import plain

from . import codes, history, manual
from .directory import Daemon, Directory
from .focusers import Focusers, device_names
from .indi_client import IndiClient
from .listener import Address, Listener, PyroDaemon, address_of
from .log import Log
from .recorder import Recorder
from .server import Server, ServerError, answers, is_this_machine
from .streams import Messages, guarded, relay
from .threads import log_failures

START_S = 2.0
"""The first answer waits this long for the driver to say what state it is in."""

Method = TypeVar("Method", bound=Callable[..., int])


def _controls(method: Method) -> Method:
    """Only for the machines in `control_machines`."""

    @functools.wraps(method)
    def checked(self: FocusDaemon, *arguments: Any, **named: Any) -> int:
        if not self._is_allowed(Pyro4.current_context.client_sock_addr):
            return codes.INVALID_CONTROL_IP
        return method(self, *arguments, **named)

    return cast(Method, checked)


@Pyro4.expose
class FocusDaemon:
    """The Pyro object: all its public methods. A wrong kind of argument is a TypeError at the caller's."""

    def __init__(
        self, focusers: Focusers, control: Iterable[Address], labels: Mapping[str, str], history: str = ""
    ) -> None:
        """`history`: the path of its file."""
        self._focusers = focusers
        self._control = frozenset(control)
        self._labels = dict(labels)
        self._history = history

    def _is_allowed(self, peer: tuple[Any, ...] | None) -> bool:
        """Whether a client at this socket address may change anything."""
        return peer is not None and len(peer) > 0 and address_of(peer) in self._control  # without: gone already

    def report_status(self) -> dict[str, object]:
        """What is known of the focusers; for anyone."""
        now = datetime.datetime.now(datetime.timezone.utc)
        return {
            "date": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "software_version": __version__,
            **self._focusers.status(),
        }

    def report_details(self) -> dict[str, object]:
        """What `focus watch` shows besides the status; for anyone."""
        control = self._is_allowed(Pyro4.current_context.client_sock_addr)
        return {"control": control, "channels": self._focusers.details()}

    def report_history(self, since: float, after: int) -> str:
        """A page of the history from Unix time `since` on, behind row `after`, as history.read has it; for anyone."""
        if isinstance(since, bool) or not isinstance(since, (int, float)):
            raise TypeError(f"since: {_shown(since)}: a number is expected")
        if isinstance(after, bool) or not isinstance(after, int) or abs(after) >= 2**63:
            raise TypeError(f"after: {_shown(after)}: a whole number is expected")
        try:
            return history.read(self._history, float(since), after)
        except sqlite3.Error:
            return "[]"  # the log says why nothing is recorded

    def temperature_labels(self) -> dict[str, str]:
        """What to call the temperature probes; for anyone."""
        return self._labels

    @_controls
    def set_focus(self, channel: int, steps: int, offset: bool = False) -> int:
        """Move to `steps`, or with `offset` by that many; returns when the motor stands."""
        if not self._is_channel(channel):
            return codes.INVALID_CHANNEL
        if not isinstance(steps, int) or isinstance(steps, bool):
            raise TypeError(f"steps: {_shown(steps)}: a whole number is expected")
        return self._focusers.channels[channel].move(steps, offset=_switch("offset", offset))

    @_controls
    def stop_channel(self, channel: int) -> int:
        """Stop a move; returns when the motor stands."""
        if not self._is_channel(channel):
            return codes.INVALID_CHANNEL
        return self._focusers.channels[channel].stop()

    @_controls
    def reset_home_position(self, channel: int) -> int:
        """Call the place where it stands 0."""
        if not self._is_channel(channel):
            return codes.INVALID_CHANNEL
        return self._focusers.channels[channel].zero()

    @_controls
    def enable_fans(self, enabled: bool) -> int:
        """Turn the telescope's fans on or off."""
        return self._focusers.channels[1].switch_fans(_switch("enabled", enabled))

    @_controls
    def initialize(self) -> int:
        """Connect to the controller."""
        return self._focusers.initialize()

    @_controls
    def shutdown(self) -> int:
        """Disconnect from the controller."""
        return self._focusers.shutdown()

    def _is_channel(self, channel: object) -> bool:
        return isinstance(channel, int) and not isinstance(channel, bool) and channel in self._focusers.channels


def _switch(name: str, value: object) -> bool:
    if isinstance(value, (bool, int)) and value in (0, 1):
        return bool(value)
    raise TypeError(f"{name}: {_shown(value)}: True or False is expected")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:39]}…"


def _keep_chatter_out() -> Messages:
    """Turn standard output and error away from what libraries print; returns where our messages go: standard error.

    libindi's client prints on them ("creating new connection…"), and so does the observatory's log module.
    """
    stream = Messages(os.dup(2))
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    sys.stderr = cast(TextIO, stream)
    faulthandler.enable(stream)
    return stream


def _notify_systemd(state: str) -> None:
    """As sd_notify(3)."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as connection:
        try:
            connection.sendto(state.encode(), f"\0{path[1:]}" if path[0] == "@" else path)
        except OSError:
            pass  # whoever set it does not listen


class _Signals:
    """The signals that end the process, as something that the main thread can wait for."""

    def __init__(self) -> None:
        self._read, write = os.pipe()
        os.set_blocking(write, False)
        # Not from a handler of ours: Python runs those in the main thread, which does not wake up where the kernel
        # gives the signal to another one.
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup leaves it
                signal.signal(number, lambda *_: None)

    def wait(self) -> None:
        """Until one of them arrives."""
        os.read(self._read, 1)


def _serve(config: Config, config_path: str, daemon: Daemon, machines: list[str], log: Log, stream: Messages) -> str:
    """Serve until a signal comes; returns why it could not, or ""."""
    signals = _Signals()
    log_failures(log)
    try:
        pyro = PyroDaemon(daemon.host, daemon.port)
    except OSError as error:
        return f"cannot listen on {daemon.host}:{daemon.port}: {error.strerror or error}"
    server = None
    if not answers(config.indi_host, config.indi_port) and is_this_machine(config.indi_host):
        try:
            server = Server(config_path, config.indi_port, log, relay(stream))
        except ServerError as error:
            return str(error)
        server.start()
    recorder = None
    client = IndiClient(config.indi_host, config.indi_port, list(device_names(config).values()), log)
    try:
        client.start()
        focusers = Focusers(config, client, log)
        focusers.wait_until_known(START_S)
        history_path = history.path_for(config_path)
        recorder = Recorder(config, focusers, client, history_path, log)
        labels = {name: probe.label for name, probe in config.temperature_probes.items()}
        control = {address_of((address,)) for address in machines}
        pyro.register(FocusDaemon(focusers, control, labels, history_path), daemon.name)
        Listener(pyro, control.__contains__, log).start()
        log.info(
            f"focusd {__version__} serves {daemon.uri} by "
            f"{'its own' if server else 'the'} INDI server {config.indi_host}:{config.indi_port}"
        )
        _notify_systemd("READY=1")
        signals.wait()
        _notify_systemd("STOPPING=1")
        log.info("ending")
    finally:
        client.close()  # calls in progress return now
        if recorder is not None:
            recorder.close()
        if server:
            server.stop()
        log.close()
    return ""


def main() -> int:
    """Entry point; returns the exit status."""
    with guarded() as output:
        return output.settle("focusd", _run(sys.argv[1:]))


def _run(arguments: list[str]) -> int:
    if arguments == ["--version"]:
        print(f"focusd {__version__}")
        return 0
    if len(arguments) != 1 or arguments[0].startswith("-"):
        if arguments in (["-h"], ["--help"]):
            print(manual.program_help("focusd"))
            return 0
        print("usage: focusd <configuration.json>", file=sys.stderr)
        return 2
    path = arguments[0]
    try:
        config = load(path)
        directory = Directory(path)
        daemon = directory.daemon(config.daemon)
        machines = [directory.machine(name) for name in config.control_machines]
        device_names(config)
        if config.indi_port == daemon.port and is_this_machine(config.indi_host):
            raise ConfigError(
                f"{plain(path)}: indi_port: {config.indi_port}: focusd itself listens there, "
                f"for {config.daemon}; another port is expected"
            )
        observatory = directory.log()
    except ConfigError as error:
        print(f"focusd: {error}", file=sys.stderr)
        return 1
    stream = _keep_chatter_out()
    problem = _serve(config, path, daemon, machines, Log(config.log_name, observatory, cast(TextIO, stream)), stream)
    if problem:
        print(f"focusd: {problem}", file=stream)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
