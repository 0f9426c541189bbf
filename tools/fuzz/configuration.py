# SPDX-License-Identifier: GPL-3.0-or-later
"""Anything in the JSON configuration: it is refused in one line for people, or a driver starts with it."""

from __future__ import annotations

import msgspec

from indi_multifocus.settings.configuration import ConfigError, parse
from indi_multifocus.settings.driver_settings import CONFIG_VARIABLE, load_settings

from .inside import Inside, workshop

SEEDS = [
    b"""{"daemon": "localhost_test", "log_name": "focusd@test", "control_machines": ["LocalHost"],
 "serial_port": "/dev/focuser", "serial_baud": 9600, "serial_timeout": 5, "idle_loop_delay": 5,
 "moving_loop_delay": 0.5, "move_timeout": 120, "channels": 2}""",
    b"""{"daemon": "d", "log_name": "l", "control_machines": [], "serial_port": "socket://host:4001",
 "serial_baud": 115200, "serial_timeout": 0.1, "idle_loop_delay": 1e1, "moving_loop_delay": 86400,
 "move_timeout": 1, "channels": 9, "limits": {"1": [-500, 20000], "9": [0, 9999999]},
 "labels": {"1": "Gr\xc3\xb6\xc3\x9fe", "2": "RASA <&'> 2"}, "indi_host": "10.0.0.1", "indi_port": 7625,
 "temperature_probes": {"rasa1": {"label": "RASA1", "address": "28EFE61E0B0000B9", "channel": 1},
  "rasa2": {"label": "\\u00e9", "address": "28aFE61E0B0000B9"}}}""",
    b"[]",
    b'{"daemon": 5, "daemon": null}',
]

WORDS = [
    *["daemon", "log_name", "control_machines", "serial_port", "serial_baud", "serial_timeout", "idle_loop_delay"],
    *["moving_loop_delay", "move_timeout", "channels", "limits", "labels", "temperature_probes", "indi_host"],
    *["indi_port", "label", "address", "channel", "28EFE61E0B0000B9", "socket://", "/dev/", "MultiFocus 1"],
    *["null", "true", "1e999", "-0", "9999999", '": {"', '": ["', '", "', '"}', "\\u0000", "\\ud800", "\\n", "\ufeff"],
]


def run(data: bytes) -> None:
    """Check `data`, and where it is a configuration, start a driver with it and let its channels connect."""
    try:
        config = parse(data, "the file")
    except ConfigError as error:
        text = str(error)
        assert text.startswith("the file: ")
        assert text.isprintable()
        assert len(text) < 1000
        return
    again = msgspec.to_builtins(config)
    for probe in again["temperature_probes"].values():
        del probe["name"]
    assert parse(msgspec.json.encode(again), "the file") == config
    with workshop() as place:
        path = place.write("configuration.json", data)
        place.environment(CONFIG_VARIABLE, path)
        with Inside(load_settings()) as inside:
            inside.connect_all()
            inside.settle()
