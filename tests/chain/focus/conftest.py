# SPDX-License-Identifier: GPL-3.0-or-later
"""The real chain: a simulated controller on a pty ↔ driver ↔ indiserver ↔ pyindi-client ↔ focusd ↔ Pyro ↔ focus.

Every part is a process of its own, as at the telescope. Each test has a chain to itself, on ports of its own, with a
private HOME; whatever happens, all its processes are gone afterwards.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Callable, Protocol, TypeVar

import Pyro4
import pytest
from client import FocuserClient
from configuration import entries
from ports import free_port
from waiting import eventually

from focus_cli import indiserver
from indi_multifocus.simulator import Simulator

PROJECT = Path(__file__).resolve().parents[3]
PATIENCE_S = 30.0
T = TypeVar("T")
PROBES = {"28EFE61E0B0000B9": 21.0625, "28EFE61E0B0000BA": -3.5}


def until(condition: Callable[[], T], what: str = "the condition") -> T:
    """`eventually`, with the patience that a chain of five processes needs."""
    return eventually(condition, what, PATIENCE_S, pause_s=0.01)


def end(process: subprocess.Popen[Any]) -> None:
    """Make sure that a process is gone."""
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=5)
    if process.poll() is None:
        process.kill()
        process.wait()


class Chain:
    """A simulated controller and everything above it."""

    def __init__(
        self,
        folder: Path,
        *,
        generation: int = 2,
        channels: int = 2,
        speed: float = 20.0,
        control: str = "LocalHost",
        host: str = "127.0.0.1",
        **settings: Any,
    ) -> None:
        """`settings`: further entries of the configuration."""
        self.folder = folder
        self.channels = channels
        # By its link: the number of a pulled terminal may at once be somebody else's.
        self.simulator = Simulator(
            generation=generation, channels=channels, speed=speed, probes=PROBES, link=folder / "focuser"
        )
        self.simulator.start()
        self.pyro_port, self.indi_port = free_port(), free_port()
        self.config = folder / "focus.json"
        (folder / "registry.json").write_text(
            json.dumps(
                {
                    "daemons": {"here_focus": {"name": "here_focus_daemon", "host": host, "port": self.pyro_port}},
                    "machines": {"OtherPC": "127.0.0.2"},
                }
            )
        )
        self.write_config(
            **{
                "daemon": "here_focus",
                "control_machines": [control],
                "serial_port": self.simulator.port,
                "channels": channels,
                "moving_loop_delay": 0.1,
                "idle_loop_delay": 0.3,
                "indi_port": self.indi_port,
                **settings,
            }
        )
        self.environment = {**os.environ, "HOME": str(folder), "FOCUSD_CONFIG_PATH": str(self.config)}
        for name in ("INDIDEV", "INDI_MULTIFOCUS_CONFIG", "NO_COLOR"):
            self.environment.pop(name, None)
        self.started: list[subprocess.Popen[Any]] = []
        self.log_path = folder / "focusd.log"
        self.daemon: subprocess.Popen[bytes] | None = None

    def write_config(self, **changes: Any) -> None:
        known = json.loads(self.config.read_text()) if self.config.exists() else entries()
        self.config.write_text(json.dumps({**known, **changes}))

    # focusd

    def start_focusd(self, *, environment: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Returns when its Pyro object answers."""
        with open(self.log_path, "ab") as log:
            process = self.run(
                [sys.executable, str(PROJECT / "focusd"), str(self.config)],
                stdout=log,
                stderr=log,
                env={**self.environment, **(environment or {})},
            )
        self.daemon = process
        until(lambda: process.poll() is not None or self._answers(), "focusd answers")
        assert process.poll() is None, self.log
        return process

    def _answers(self) -> bool:
        with suppress(Pyro4.errors.CommunicationError):
            with self.proxy() as focusd:
                return bool(focusd.report_status())
        return False

    def start(self, **options: Any) -> Chain:
        """focusd, connected."""
        self.start_focusd(**options)
        with self.proxy() as focusd:
            assert focusd.initialize() == 0, self.log
        return self

    def begin_anew(self) -> Chain:
        """Connected, at rest at 0, fans off, and nothing received, as when it was started."""
        with self.proxy() as focusd:
            assert focusd.initialize() in (0, 8), self.log
            for channel in range(1, self.channels + 1):
                assert focusd.stop_channel(channel) == 0
                assert focusd.reset_home_position(channel) == 0
            if self.simulator.fans:
                assert focusd.enable_fans(False) == 0
        self.simulator._received.clear()
        return self

    @property
    def log(self) -> str:
        return self.log_path.read_text() if self.log_path.exists() else ""

    def proxy(self) -> Any:
        """A Pyro client, as the observatory's programs make them."""
        proxy = Pyro4.Proxy(f"PYRO:here_focus_daemon@127.0.0.1:{self.pyro_port}")
        proxy._pyroTimeout = PATIENCE_S
        return proxy

    def call(self, method: str, *arguments: Any, **named: Any) -> Callable[[], int]:
        """Call in the background, on a connection of its own; returns what waits for the result."""
        results: list[int] = []

        def call() -> None:
            with self.proxy() as focusd:
                results.append(getattr(focusd, method)(*arguments, **named))

        thread = threading.Thread(target=call, daemon=True)
        thread.start()

        def result() -> int:
            thread.join(timeout=PATIENCE_S)
            assert results, f"{method} did not return"
            return results[0]

        return result

    def status(self) -> dict[str, Any]:
        with self.proxy() as focusd:
            return dict(focusd.report_status())

    def moving(self, channel: int) -> bool:
        return self.status().get(f"status_{channel}") == 2

    # The other processes

    def run(self, command: list[str], **options: Any) -> subprocess.Popen[Any]:
        process: subprocess.Popen[Any] = subprocess.Popen(command, stdin=subprocess.DEVNULL, **options)
        self.started.append(process)
        return process

    def start_focus(self, *arguments: str) -> subprocess.Popen[str]:
        """`focus …`, running."""
        return self.run(
            [sys.executable, str(PROJECT / "focus"), *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def focus(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`focus …`, to its end."""
        process = self.start_focus(*arguments)
        output, errors = process.communicate(timeout=PATIENCE_S)
        return subprocess.CompletedProcess(arguments, process.returncode, output, errors)

    def start_server(self) -> subprocess.Popen[bytes]:
        """An indiserver with the driver that is not focusd's; returns when the driver is there."""
        environment = {
            **self.environment,
            "INDI_MULTIFOCUS_CONFIG": str(self.config),
            "FOCUSD_PYTHON": sys.executable,
            "PYTHONPATH": str(PROJECT),
            "PATH": f"{PROJECT / 'focus_cli'}:{os.environ['PATH']}",
        }
        command = indiserver.command(self.indi_port, f"{self.folder}/indiserver", "indi_multifocus")
        with open(self.folder / "indiserver.log", "ab") as log:
            process = self.run(command, env=environment, stdout=log, stderr=log)
        until(self._has_driver, "the driver")
        return process

    def _has_driver(self) -> bool:
        try:
            self.observe().close()
        except OSError:
            return False
        return True

    def observe(self) -> FocuserClient:
        """Another INDI client, as KStars would be, which knows all channels. It is to be closed."""
        client = FocuserClient.of_server(self.indi_port)
        # A position may come before the definitions, where a channel moves.
        client.excused.update(client.name(channel) for channel in range(1, self.channels + 1))
        client.get_properties()
        # indiserver drops what is sent to a device that its driver has not defined yet.
        client.wait(lambda: sum("CONNECTION" in known for known in client.devices.values()) == self.channels, "devices")
        return client

    def processes(self, name: str) -> list[int]:
        """Running processes with `name` in their command line that belong to this chain."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if (folder / "stat").read_text().rpartition(")")[2].split()[0] == "Z":
                    continue
                mine = f"INDI_MULTIFOCUS_CONFIG={self.config}".encode() in (folder / "environ").read_bytes()
                if mine and name.encode() in (folder / "cmdline").read_bytes().replace(b"\0", b" "):
                    found.append(int(folder.name))
        return found

    def close(self) -> None:
        for process in reversed(self.started):
            end(process)
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()
        self.simulator.close()
        for pid in self.processes(""):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


class MakeChain(Protocol):
    def __call__(self, **options: Any) -> Chain: ...


@pytest.fixture
def make_chain(tmp_path: Path) -> Iterator[MakeChain]:
    """Chains on demand, with nothing but the simulator started."""
    chains: list[Chain] = []

    def make(**options: Any) -> Chain:
        folder = tmp_path / f"chain{len(chains)}"
        folder.mkdir()
        chains.append(Chain(folder, **options))
        return chains[-1]

    try:
        yield make
    finally:
        for chain in chains:
            chain.close()


@pytest.fixture
def chain(make_chain: MakeChain) -> Chain:
    """focusd with its own server, initialized; two channels, second generation."""
    return make_chain().start()


@pytest.fixture(scope="module")
def chain_of_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """A `chain` for all tests of a module that leave it as it was."""
    chain = Chain(tmp_path_factory.mktemp("chain"))
    try:
        yield chain.start()
    finally:
        chain.close()


@pytest.fixture(name="until")
def until_fixture() -> Callable[..., Any]:
    return until


@pytest.fixture(name="free_port")
def free_port_fixture() -> Callable[[], int]:
    return free_port


@contextmanager
def fake_focusd(methods: dict[str, Callable[..., Any]]) -> Iterator[int]:
    """A Pyro daemon with an object `here_focus_daemon` of these methods; yields its port."""
    kind = Pyro4.expose(type("FakeFocusd", (), {name: staticmethod(method) for name, method in methods.items()}))
    server = Pyro4.Daemon(host="127.0.0.1", port=0)
    server.register(kind, "here_focus_daemon")
    thread = threading.Thread(target=server.requestLoop, daemon=True)
    thread.start()
    try:
        yield server.sock.getsockname()[1]
    finally:
        server.shutdown()
        thread.join()


@pytest.fixture(name="fake_focusd")
def fake_focusd_fixture() -> Any:
    return fake_focusd
