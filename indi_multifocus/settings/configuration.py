# SPDX-License-Identifier: GPL-3.0-or-later
"""The JSON configuration of the documented focusd interface, read and checked.

Used by the driver (when INDI_MULTIFOCUS_CONFIG names a file) and by focusd and focus, once, at their
start. This is the border where the file's values enter: what leaves here is right, typed and immutable,
or it is a ConfigError, which names the key of the file and what to change. The names in
`daemon` and `control_machines` are only checked to be text: focus_cli looks them up.

The keys and their meanings are those of the public rockit-astro/focusd README, of both generations of
that program; `limits`, `labels`, `indi_host`, `indi_port` and a probe's `channel` are additions.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NoReturn, Optional, Union, get_args, get_origin

import msgspec
from msgspec import Meta, Struct

from ..controller.protocol import MAX_STEPS
from .device_name import CONTROL, EXPECTED, check_device_name
from .driver_settings import Probe
from .host_name import HOST_NAME
from .json_object import ConfigError, load_object, parse_object, plain, shown
from .system_text import from_system

__all__ = ["MAX_STEPS", "Config", "ConfigError", "Probe", "load", "parse"]

Path = Union[str, "os.PathLike[str]"]

Text = Annotated[str, Meta(pattern=rf"^ *[^{CONTROL} ][^{CONTROL}]*\Z", max_length=1000)]
Host = Annotated[str, Meta(pattern=HOST_NAME)]
Address = Annotated[str, Meta(pattern=r"^[0-9A-Fa-f]{16}\Z")]
Seconds = Annotated[float, Meta(gt=0, le=86400)]
Baud = Literal[1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200, 230400]
Channel = Annotated[int, Meta(ge=1, le=9)]
TcpPort = Annotated[int, Meta(ge=1, le=65535)]
Steps = Annotated[int, Meta(ge=-MAX_STEPS, le=MAX_STEPS)]


class _ProbeEntry(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A probe as it stands in the file, below its name."""

    label: Text
    address: Address
    """16 hexadecimal digits, upper case once loaded."""
    channel: Optional[Channel] = None  # noqa: UP045 - msgspec reads this, and Python 3.9 has no int | None


class Config(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A configuration that was checked. Times are in seconds, limits in steps."""

    daemon: Text
    """focusd's name in the observatory's directory."""
    log_name: Text
    """The name under which focusd writes to the observatory's log."""
    control_machines: tuple[Text, ...]
    """Names in the observatory's directory of the machines that may change anything."""
    serial_port: Text
    """A device, or a pyserial URL such as socket://host:port."""
    serial_baud: Baud
    serial_timeout: Seconds
    """How long an answer of the controller may take."""
    idle_loop_delay: Seconds
    """Time between two status queries while nothing moves."""
    moving_loop_delay: Seconds
    """Time between two status queries while something moves."""
    move_timeout: Seconds
    """How long a move may take before it is stopped."""
    channels: Channel = 2
    limits: Mapping[int, tuple[int, int]] = {}
    """Lowest and highest position by channel; one that is not in it has the controller's whole range."""
    labels: Mapping[int, str] = {}
    """INDI device names by channel, in place of "MultiFocus n"."""
    temperature_probes: Mapping[str, Probe] = {}
    """By the name under which focusd reports them, in the order of the file."""
    indi_host: Host = "localhost"
    indi_port: TcpPort = 7624


_SECONDS = "a number of seconds above 0, and not above 86400, is expected"
_A_PROBE = '{"label": "RASA 1", "address": "28EFE61E0B0000B9"}'
_EXPECTED = {
    "daemon": "the daemon's name in the observatory's directory is expected",
    "log_name": "the name to use in the observatory's log is expected",
    "control_machines": 'a list of machines\' names, like ["LocalHost"], is expected',
    "serial_port": 'the serial port of the controller, like "/dev/focuser", is expected',
    "serial_baud": f"one of {', '.join(map(str, get_args(Baud)))} is expected",
    "serial_timeout": _SECONDS,
    "idle_loop_delay": _SECONDS,
    "moving_loop_delay": _SECONDS,
    "move_timeout": _SECONDS,
    "channels": "a whole number from 1 to 9 is expected",
    "limits": 'lowest and highest steps by channel, like {"1": [-500, 20000]}, are expected',
    "labels": 'names by channel, like {"1": "RASA 1"}, are expected',
    "temperature_probes": f'probes by name, like {{"rasa1": {_A_PROBE}}}, are expected',
    "indi_host": "the name or IPv4 address of the machine that runs indiserver is expected",
    "indi_port": "a port number from 1 to 65535 is expected",
}
_EXPECTED_LIMITS = f"[lowest, highest] in whole steps from -{MAX_STEPS} to {MAX_STEPS} is expected"
_EXPECTED_PROBE = {
    "label": "a name for people is expected",
    "address": "the 16 hexadecimal digits of a probe are expected",
    "channel": _EXPECTED["channels"],
}


def load(path: Path) -> Config:
    """Read and check the configuration at `path`.

    Raises:
        ConfigError: it cannot be read or used; the text is one line for people.
    """
    name = from_system(os.fspath(path))
    try:
        entries = load_object(name)
    except FileNotFoundError:
        raise ConfigError(f"{plain(name)}: there is no such file") from None
    return _Parser(name).parse(entries)


def parse(data: bytes, name: str) -> Config:
    """Check the text of a configuration; `name` is what errors call the file.

    Raises:
        ConfigError: the same as `load`.
    """
    return _Parser(name).parse(parse_object(data, name))


class _Parser:
    """One file being checked; it knows what errors are to call the file."""

    def __init__(self, name: str) -> None:
        self._name = plain(name)

    def parse(self, entries: dict[str, Any]) -> Config:
        values = self._fields(Config, entries, _EXPECTED, ())
        channels = values.setdefault("channels", 2)
        values["limits"] = self._limits(values.get("limits", {}), channels)
        values["labels"] = self._labels(values.get("labels", {}), channels)
        values["temperature_probes"] = self._probes(values.get("temperature_probes", {}), channels)
        return Config(**values)

    # From entries to values

    def _fields(
        self, kind: type[Struct], entries: dict[str, Any], expected: Mapping[str, str], where: tuple[str, ...]
    ) -> dict[str, Any]:
        """The entries of an object as fields of `kind`, each of its type (in mappings nothing is checked)."""
        fields = {field.name: field for field in msgspec.structs.fields(kind)}
        for key, value in entries.items():
            if key not in fields:
                self._wrong((*where, key), value, f"there is no such key{_suggestion(key, list(fields))}")
        values = {}
        for name, field in fields.items():
            if name in entries:
                of = dict if get_origin(field.type) is Mapping else field.type
                values[name] = self._value(entries[name], of, (*where, name), expected[name])
            elif field.required:
                self._fail(f"{_dotted((*where, name))}: missing: {expected[name]}")
        return values

    def _value(self, value: object, kind: Any, where: tuple[str, ...], expected: str) -> Any:
        try:
            return msgspec.convert(value, kind)
        except msgspec.ValidationError:
            self._wrong(where, value, expected)

    def _by_channel(self, key: str, entries: dict[str, Any], channels: int) -> dict[int, Any]:
        """The entries of `limits` or `labels` by channel, in the order of channels."""
        known = {str(channel): channel for channel in range(1, channels + 1)}
        for channel, value in entries.items():
            if channel not in known:
                there = f'"1" to "{channels}"' if channels > 1 else '"1" alone'
                self._wrong((key, channel), value, f"there is no such channel: {there} can be set")
        return {channel: entries[text] for text, channel in known.items() if text in entries}

    def _limits(self, entries: dict[str, Any], channels: int) -> dict[int, tuple[int, int]]:
        limits = {}
        for channel, value in self._by_channel("limits", entries, channels).items():
            where = ("limits", str(channel))
            lowest, highest = self._value(value, tuple[Steps, Steps], where, _EXPECTED_LIMITS)
            if lowest >= highest:
                self._wrong(where, value, "the lowest steps must be below the highest")
            limits[channel] = (lowest, highest)
        return limits

    def _labels(self, entries: dict[str, Any], channels: int) -> dict[int, str]:
        labels = self._by_channel("labels", entries, channels)
        names = {f"MultiFocus {n}": n for n in range(1, channels + 1) if n not in labels}
        for channel, value in labels.items():
            where = ("labels", str(channel))
            label = self._value(value, str, where, EXPECTED)
            try:
                check_device_name(label)
            except ValueError as error:
                self._wrong(where, value, str(error))
            if label in names:
                self._wrong(where, value, f"another name is expected: channel {names[label]} has this one")
            names[label] = channel
        return labels

    def _probes(self, entries: dict[str, Any], channels: int) -> dict[str, Probe]:
        probes: dict[str, Probe] = {}
        for name, value in entries.items():
            where = ("temperature_probes", name)
            self._value(name, Text, where, "a name for the probe is expected as its key")
            entry = self._value(value, dict, where, f"a probe, like {_A_PROBE}, is expected")
            fields = self._fields(_ProbeEntry, entry, _EXPECTED_PROBE, where)
            fields["address"] = fields["address"].upper()
            probe = Probe(name, **fields)
            if probe.channel is not None and probe.channel > channels:
                known = f"there are channels 1 to {channels}" if channels > 1 else "there is channel 1 alone"
                self._wrong((*where, "channel"), probe.channel, known)
            for other, there in probes.items():
                if there.address == probe.address:
                    self._wrong((*where, "address"), probe.address, f"the probe {plain(other)} has it too")
                if there.channel == probe.channel is not None:
                    self._wrong((*where, "channel"), probe.channel, f"the probe {plain(other)} is there")
            probes[name] = probe
        return probes

    # What is wrong

    def _wrong(self, where: tuple[str, ...], value: object, expected: str) -> NoReturn:
        self._fail(": ".join([*([_dotted(where)] if where else []), shown(value), expected]))

    def _fail(self, reason: str) -> NoReturn:
        raise ConfigError(f"{self._name}: {reason}")


def _suggestion(key: str, keys: list[str]) -> str:
    from difflib import get_close_matches  # only for who has mistyped

    near = get_close_matches(key.lower(), keys, n=1, cutoff=0.5)
    return f"; {near[0]} is meant?" if near else f"; there are {', '.join(keys)}"


def _dotted(where: tuple[str, ...]) -> str:
    return ".".join(plain(part) for part in where)
