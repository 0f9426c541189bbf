# SPDX-License-Identifier: GPL-3.0-or-later
"""One to nine channels, as a configuration names them, on a controller that has as many, more, or fewer.

All of it is real but the controller: the simulator and the driver are processes of their own, started by their command
lines, and the driver reads a JSON file. Of the second generation one with more than two channels was never built, but
its protocol has room for nine, and its status line then is 200 bytes long.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from configuration import configured, entries
from support import DEADLINE_S, ROOT, DriverProcess, FocuserClient, run_driver

ALL = range(1, 10)


@contextmanager
def simulator(*arguments: str) -> Iterator[str]:
    """A simulated controller; its port."""
    process = subprocess.Popen(
        [sys.executable, "-m", "indi_multifocus.simulator", "--speed", "20", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait(DEADLINE_S)
        process.stdout.close()


@contextmanager
def driver(home: Path, port: str, last: int, **changed: Any) -> Iterator[FocuserClient]:
    """A driver with a configuration of these entries, when its channel `last` is there."""
    path = home / "focusers.json"
    common = entries(serial_port=port, moving_loop_delay=0.02)
    del common["channels"]
    path.write_text(json.dumps({**common, **changed}))
    with DriverProcess(home, {"INDI_MULTIFOCUS_CONFIG": str(path)}) as running:
        running.client.settle(running.client.name(last))
        yield running.client


def at(client: FocuserClient, channel: int, position: int) -> None:
    """Wait until the channel is there, and well."""
    device = client.name(channel)
    client.wait(
        lambda: (client.state(device, "ABS_FOCUS_POSITION"), client.position(channel)) == ("Ok", position),
        f"{device} to be at {position}",
    )


@pytest.mark.parametrize("count", ALL)
def test_as_many_channels_as_are_configured_are_focusers_of_their_own(home: Path, count: int) -> None:
    channels = range(1, count + 1)
    with simulator("--channels", str(count)) as port, driver(home, port, count, channels=count) as client:
        assert list(client.devices) == [f"MultiFocus {channel}" for channel in channels]
        client.connect(*channels)
        for channel in channels:
            client.move(channel, 10 * channel)
        for channel in channels:
            at(client, channel, 10 * channel)
        client.move(count, -100_000)
        client.wait_state(client.name(count), "ABS_FOCUS_POSITION", "Busy")
        client.abort(count)
        assert -100_000 < client.position(count) <= 10 * count
        for channel in channels[:-1]:
            at(client, channel, 10 * channel)
        assert not [text for text in client.messages() if "[ERROR]" in text or "[WARNING]" in text]
        shared = [channel for channel in channels if client.property(client.name(channel), "FAN") is not None]
        assert shared == [1]


@pytest.mark.parametrize("generation", ["1", "2"])
def test_without_a_word_on_channels_there_are_two(home: Path, generation: str) -> None:
    with simulator("--generation", generation) as port, driver(home, port, 2) as client:
        assert list(client.devices) == ["MultiFocus 1", "MultiFocus 2"]
        client.connect(1, 2)
        client.move_and_wait(2, -40)


def test_without_a_configuration_there_are_two(home: Path) -> None:
    with DriverProcess(home) as running:
        running.client.settle("MultiFocus 2")
        assert list(running.client.devices) == ["MultiFocus 1", "MultiFocus 2"]


def test_channels_that_the_controller_lacks_say_which_it_has_and_the_others_work(home: Path) -> None:
    with simulator("--channels", "4") as port, driver(home, port, 9, channels=9) as client:
        client.connect(1, 2, 3, 4)
        for channel in range(5, 10):
            wanted = f"there is no channel {channel}: the controller has channels 1 to 4"
            assert wanted in client.fail_to_connect(channel)
        client.move_and_wait(4, 25)


def test_channels_that_are_not_configured_are_mentioned_to_each_that_connects(home: Path) -> None:
    with simulator("--channels", "9") as port, driver(home, port, 3, channels=3) as client:
        client.connect(1, 3)
        for device in ("MultiFocus 1", "MultiFocus 3"):
            warning = client.wait_message("9 channels, of which 3 are configured", device=device)
            assert '"channels" in the configuration' in warning
        client.move_and_wait(3, 25)


def test_labels_limits_and_thermometers_are_those_of_their_channels(home: Path) -> None:
    probes = {f"probe{channel}": {"label": f"T{channel}", "address": f"28{channel:014X}"} for channel in (2, 7)}
    for channel, probe in zip((2, 7), probes.values()):
        probe["channel"] = channel  # type: ignore[assignment]
    sensors = [f"--probe=28{channel:014X}={channel}.5" for channel in (2, 7)]
    entries = {
        "channels": 7,
        "labels": {"7": "Guide scope"},
        "limits": {"2": [-70, 70]},
        "temperature_probes": probes,
        "idle_loop_delay": 0.05,
    }
    with simulator("--channels", "7", *sensors) as port, driver(home, port, 6, **entries) as client:
        client.connect(2, 1)
        client.settle("Guide scope")
        client.new("Guide scope", "CONNECTION", {"CONNECT": "On"})
        client.wait_state("Guide scope", "CONNECTION", "Ok")
        client.wait(lambda: client.value("Guide scope", "FOCUS_TEMPERATURE", "TEMPERATURE") == "7.5", "its temperature")
        client.wait(lambda: client.value("MultiFocus 2", "FOCUS_TEMPERATURE", "TEMPERATURE") == "2.5", "the other")
        assert client.property("MultiFocus 1", "FOCUS_TEMPERATURE") is None
        assert client.devices["MultiFocus 1"]["TEMPERATURES"].values == {"probe2": "2.5", "probe7": "7.5"}
        assert client.devices["MultiFocus 2"]["ABS_FOCUS_POSITION"].ranges["FOCUS_ABSOLUTE_POSITION"][:2] == (-70, 70)
        refused = client.ask("MultiFocus 2", "FOCUS_MAX", {"FOCUS_MAX_VALUE": 71})
        assert refused.state == "Alert"


@pytest.mark.parametrize("count", [0, 10, "two", 2.5, None])
def test_no_other_number_of_channels_starts_a_driver(home: Path, count: object) -> None:
    done = run_driver(home, configured(home / "focusers.json", "/dev/ttyACM0", channels=count))
    assert (done.returncode, done.stdout) == (1, "")
    assert "channels: " in done.stderr
    assert "a whole number from 1 to 9 is expected" in done.stderr
