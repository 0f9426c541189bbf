# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration file: what is read from it, and the message to a person who wrote it wrong."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from indi_multifocus.settings.configuration import Config, ConfigError, load, parse
from indi_multifocus.settings.driver_settings import Probe
from indi_multifocus.settings.json_object import MAX_SIZE

PROJECT = Path(__file__).resolve().parents[2]
DOCUMENTED: dict[str, Any] = {
    "daemon": "localhost_test",
    "log_name": "focusd@test",
    "control_machines": ["LocalHost"],
    "serial_port": "/dev/focuser",
    "serial_baud": 9600,
    "serial_timeout": 5,
    "channels": 2,
    "idle_loop_delay": 5,
    "moving_loop_delay": 0.5,
    "move_timeout": 180,
}
ADDRESS = "28EFE61E0B0000B9"
OTHER_ADDRESS = "28FBE91E0B000051"


def read(text: str | bytes) -> Config:
    return parse(text.encode() if isinstance(text, str) else text, "test.json")


def read_with(**entries: Any) -> Config:
    return read(json.dumps({**DOCUMENTED, **entries}))


def error(text: str | bytes) -> str:
    with pytest.raises(ConfigError) as caught:
        read(text)
    return str(caught.value)


def error_with(**entries: Any) -> str:
    return error(json.dumps({**DOCUMENTED, **entries}))


def test_the_documented_file_alone_is_a_whole_configuration() -> None:
    assert read_with() == Config(
        daemon="localhost_test",
        log_name="focusd@test",
        control_machines=("LocalHost",),
        serial_port="/dev/focuser",
        serial_baud=9600,
        serial_timeout=5.0,
        idle_loop_delay=5.0,
        moving_loop_delay=0.5,
        move_timeout=180.0,
        channels=2,
        limits={},
        labels={},
        temperature_probes={},
        indi_host="localhost",
        indi_port=7624,
    )


@pytest.mark.parametrize(
    ("file", "daemon", "machines"),
    [("test.json", "localhost_test", ("LocalHost",)), ("clasp.json", "clasp_focus", ("CLASPTCS",))],
)
def test_the_configurations_of_the_repository_are_right(file: str, daemon: str, machines: tuple[str, ...]) -> None:
    config = load(PROJECT / file)
    assert (config.daemon, config.control_machines, config.channels) == (daemon, machines, 2)


def test_every_optional_entry_is_read() -> None:
    config = read_with(
        channels=3,
        limits={"3": [-500, 20000], "1": [-9999999, 9999999]},
        labels={"2": "Röhre 2", "1": "RASA-1"},
        temperature_probes={
            "rasa1": {"label": "RASA 1", "address": ADDRESS.lower(), "channel": 1},
            "dome": {"label": "Dome", "address": OTHER_ADDRESS},
        },
        indi_host="clasp-tcs",
        indi_port=7625,
    )
    assert config.limits == {1: (-9999999, 9999999), 3: (-500, 20000)}
    assert config.labels == {1: "RASA-1", 2: "Röhre 2"}
    assert config.temperature_probes == {
        "rasa1": Probe("rasa1", label="RASA 1", address=ADDRESS, channel=1),
        "dome": Probe("dome", label="Dome", address=OTHER_ADDRESS, channel=None),
    }
    assert list(config.temperature_probes) == ["rasa1", "dome"]
    assert (config.indi_host, config.indi_port) == ("clasp-tcs", 7625)


def test_channels_may_be_left_out() -> None:
    without = {key: value for key, value in DOCUMENTED.items() if key != "channels"}
    assert read(json.dumps(without)).channels == 2


def test_a_configuration_cannot_be_changed() -> None:
    config: Any = read_with()
    with pytest.raises(AttributeError):
        config.channels = 9


@pytest.mark.parametrize("key", ["serial_timeout", "idle_loop_delay", "moving_loop_delay", "move_timeout"])
def test_fractions_of_seconds_count(key: str) -> None:
    assert getattr(read_with(**{key: 0.25}), key) == 0.25


@pytest.mark.parametrize("key", ["serial_timeout", "idle_loop_delay", "moving_loop_delay", "move_timeout"])
@pytest.mark.parametrize("value", [-1, 0, 0.0, -0.5, 86400.5, True, None, "5", [5]])
def test_what_is_no_time_is_refused(key: str, value: object) -> None:
    assert error_with(**{key: value}) == (
        f"test.json: {key}: {json.dumps(value)}: a number of seconds above 0, and not above 86400, is expected"
    )


def test_a_number_that_no_float_holds_is_refused_under_its_key() -> None:
    text = json.dumps(DOCUMENTED).replace("180", "1e999")
    assert error(text).startswith("test.json: move_timeout: a number that is too large: a number of seconds")


@pytest.mark.parametrize("key", [key for key in DOCUMENTED if key != "channels"])
def test_a_missing_entry_is_named_with_what_is_expected(key: str) -> None:
    text = error(json.dumps({other: value for other, value in DOCUMENTED.items() if other != key}))
    assert text.startswith(f"test.json: {key}: missing: ")
    assert text.endswith(" is expected")


def test_a_mistyped_key_is_named_with_the_one_that_is_meant() -> None:
    entries = {key.replace("moving_loop_delay", "moving_lop_delay"): DOCUMENTED[key] for key in DOCUMENTED}
    assert error(json.dumps(entries)) == (
        "test.json: moving_lop_delay: 0.5: there is no such key; moving_loop_delay is meant?"
    )


def test_a_key_like_no_other_is_answered_with_all_there_are() -> None:
    text = error_with(XXXXXX=1)
    assert text.startswith("test.json: XXXXXX: 1: there is no such key; there are daemon, log_name, ")
    assert "temperature_probes" in text


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        ("daemon", "", "\"\": the daemon's name in the observatory's directory is expected"),
        ("daemon", " ", "\" \": the daemon's name in the observatory's directory is expected"),
        ("log_name", 5, "5: the name to use in the observatory's log is expected"),
        ("control_machines", "LocalHost", '"LocalHost": a list of machines\' names, like'),
        ("control_machines", ["LocalHost", ""], '["LocalHost",""]: a list of machines\' names, like'),
        ("serial_port", "", '"": the serial port of the controller, like "/dev/focuser", is expected'),
        ("serial_port", "/dev/\n", '"/dev/\\n": the serial port of the controller'),
        ("serial_baud", 9601, "9601: one of 1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200, 230400 is"),
        ("serial_baud", "9600", '"9600": one of 1200, '),
        ("channels", 0, "0: a whole number from 1 to 9 is expected"),
        ("channels", 10, "10: a whole number from 1 to 9 is expected"),
        ("channels", 1.5, "1.5: a whole number from 1 to 9 is expected"),
        ("channels", True, "true: a whole number from 1 to 9 is expected"),
        ("limits", [0, 100], '[0,100]: lowest and highest steps by channel, like {"1": [-500, 20000]}, are'),
        ("labels", "RASA", '"RASA": names by channel, like {"1": "RASA 1"}, are expected'),
        ("temperature_probes", [], '[]: probes by name, like {"rasa1": {"label": "RASA 1", "address": "28'),
        ("indi_host", "a b", '"a b": the name or IPv4 address of the machine that runs indiserver is expected'),
        *(("indi_host", host, f'"{host}": the name or IPv4 ') for host in ("a..b", "a.b.", "-a", "ä", "::1", "")),
        ("indi_host", "x" * 64, f'"{"x" * 38}…: the name or IPv4 address'),
        ("daemon", "a" * 200_000 + "\n", f"\"{'a' * 38}…: the daemon's name"),
        ("indi_port", 65536, "65536: a port number from 1 to 65535 is expected"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_expected(key: str, value: object, complaint: str) -> None:
    assert error_with(**{key: value}).startswith(f"test.json: {key}: {complaint}")


@pytest.mark.parametrize(
    ("limits", "complaint"),
    [
        ({"3": [0, 1]}, 'limits.3: [0,1]: there is no such channel: "1" to "2" can be set'),
        ({"01": [0, 1]}, 'limits.01: [0,1]: there is no such channel: "1" to "2" can be set'),
        ({"1": [5, 5]}, "limits.1: [5,5]: the lowest steps must be below the highest"),
        ({"2": [5, -5]}, "limits.2: [5,-5]: the lowest steps must be below the highest"),
        ({"1": [0]}, "limits.1: [0]: [lowest, highest] in whole steps from -9999999 to 9999999"),
        ({"1": [0, 0.5]}, "limits.1: [0,0.5]: [lowest, highest] in whole steps from -9999999 to 9999999"),
        ({"1": [0, 10000000]}, "limits.1: [0,10000000]: [lowest, highest] in whole steps from -9999999 to"),
        ({"1": [False, 5]}, "limits.1: [false,5]: [lowest, highest] in whole steps from -9999999 to"),
    ],
)
def test_limits_that_cannot_be_are_refused(limits: object, complaint: str) -> None:
    assert error_with(limits=limits).startswith(f"test.json: {complaint}")


@pytest.mark.parametrize(
    "label",
    ["", " ", " a", "a ", "RASA.1", "a=b", "a;b", "*", "a@b", "a:b", "a/b", "\\", '"', "a\tb", "a&b", "a'b", "-a"],
)
def test_a_label_that_is_no_name_of_an_INDI_device_is_refused(label: str) -> None:
    assert error_with(labels={"1": label}).startswith(
        f"test.json: labels.1: {json.dumps(label)}: a name of 1 to 63 bytes is expected, without . = ; * @ : / "
    )


def test_a_label_may_be_as_long_as_INDI_keeps_names() -> None:
    assert read_with(labels={"1": "ü" * 31 + "x"}).labels == {1: "ü" * 31 + "x"}
    assert "labels.1" in error_with(labels={"1": "ü" * 32})


def test_two_channels_cannot_have_one_name() -> None:
    assert error_with(labels={"1": "RASA", "2": "RASA"}) == (
        'test.json: labels.2: "RASA": another name is expected: channel 1 has this one'
    )
    assert error_with(labels={"1": "MultiFocus 2"}) == (
        'test.json: labels.1: "MultiFocus 2": another name is expected: channel 2 has this one'
    )
    swapped = {"1": "MultiFocus 2", "2": "MultiFocus 1"}
    assert read_with(labels=swapped).labels == {1: "MultiFocus 2", 2: "MultiFocus 1"}


@pytest.mark.parametrize(
    ("probes", "complaint"),
    [
        ({"a": 5}, "a: 5: a probe, like "),
        ({"a": {"label": "A"}}, "a.address: missing: the 16 hexadecimal digits of a probe are expected"),
        ({"a": {"label": "", "address": ADDRESS}}, 'a.label: "": a name for people is expected'),
        ({"a": {"label": "A", "address": "28"}}, 'a.address: "28": the 16 hexadecimal digits of'),
        ({"a": {"label": "A", "address": ADDRESS + "\n"}}, 'a.address: "28EFE61E0B0000B9\\n": the 16 '),
        ({"a": {"label": "A", "adress": ADDRESS}}, f'a.adress: "{ADDRESS}": there is no such key; address'),
        ({"a": {"label": "A", "address": ADDRESS, "channel": 3}}, "a.channel: 3: there are channels 1 to 2"),
        ({"a": {"label": "A", "address": ADDRESS, "channel": "1"}}, 'a.channel: "1": a whole number'),
        ({" ": {"label": "A", "address": ADDRESS}}, ' : " ": a name for the probe is expected as its key'),
        (
            {"a": {"label": "A", "address": ADDRESS}, "b": {"label": "B", "address": ADDRESS.lower()}},
            f'b.address: "{ADDRESS}": the probe a has it too',
        ),
        (
            {
                "a": {"label": "A", "address": ADDRESS, "channel": 1},
                "b": {"label": "B", "address": OTHER_ADDRESS, "channel": 1},
            },
            "b.channel: 1: the probe a is there",
        ),
    ],
)
def test_probes_that_cannot_be_are_refused(probes: object, complaint: str) -> None:
    assert error_with(temperature_probes=probes).startswith(f"test.json: temperature_probes.{complaint}")


def test_the_message_about_a_single_channel_says_that_there_is_one() -> None:
    probes = {"a": {"label": "A", "address": ADDRESS, "channel": 2}}
    assert error_with(channels=1, temperature_probes=probes).endswith("a.channel: 2: there is channel 1 alone")


def test_probes_without_a_channel_do_not_contend_for_one() -> None:
    probes = {"a": {"label": "A", "address": ADDRESS}, "b": {"label": "B", "address": OTHER_ADDRESS}}
    assert len(read_with(temperature_probes=probes).temperature_probes) == 2


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "line 1, column 1: broken JSON: it ends too early"),
        ('{\n  "daemon": "x"\n', "line 2, column 16: broken JSON: it ends too early"),
        ('{\n  "daemon": "x",\n}', "line 3, column 1: broken JSON: trailing comma in object"),
        ('{\n  "dä": 5 5}', "line 2, column 11: broken JSON: expected ',' or '}'"),
        ('{\n  "daemon": "x", # a name\n}', "line 2, column 18: broken JSON: comments are not part of it"),
        ('{"serial_timeout": NaN}', "line 1, column 20: broken JSON: invalid character"),
        ("[" * 100000, "broken JSON: brackets within brackets within brackets"),
        (b'{\n "daemon": "\xe9"}', "line 2, column 13: this is not UTF-8 text"),
        ('{"daemon": 1}'.encode("utf-16"), "line 1, column 1: this is not UTF-8 text"),
        ('{"move_timeout": ' + "9" * 5000 + "}", "a number in it has thousands of digits"),
        ("[]", '[]: an object {"key": value, …} is expected'),
        ("null", 'null: an object {"key": value, …} is expected'),
        ('{"daemon": "a", "channels": 1, "daemon": "b"}', "daemon: this key is there twice"),
        ('{"limits": {"1": [0, 1], "\\u0031": [0, 2]}}', "1: this key is there twice"),
        (" " * (MAX_SIZE + 1), f"the file is larger than {MAX_SIZE} bytes, which none of these is"),
    ],
)
def test_a_file_that_is_no_JSON_object_is_refused_with_the_place(text: str | bytes, complaint: str) -> None:
    assert error(text) == f"test.json: {complaint}"


def test_what_looks_like_a_key_within_a_text_is_none() -> None:
    log_name = 'x", "log_name": "y'
    assert read_with(log_name=log_name).log_name == log_name


def test_the_byte_order_mark_of_other_editors_is_accepted() -> None:
    assert read(b"\xef\xbb\xbf" + json.dumps(DOCUMENTED).encode()) == read_with()


def test_a_long_value_is_cut_and_a_strange_one_stays_on_its_line() -> None:
    assert error_with(channels="x" * 1000) == (
        f'test.json: channels: "{"x" * 38}…: a whole number from 1 to 9 is expected'
    )
    assert "\u2028" not in error_with(**{"\u2028": "\x85\u2028"})


def test_a_file_that_cannot_be_read_is_named_with_the_reason(tmp_path: Path) -> None:
    reasons = {
        str(tmp_path / "none.json"): "there is no such file",
        str(tmp_path): "this is a folder; a JSON file is expected",
        str(tmp_path / ("x" * 300)): "the file cannot be read: File name too long",
    }
    for path, reason in reasons.items():
        with pytest.raises(ConfigError) as caught:
            load(path)
        assert str(caught.value).endswith(f": {reason}")
    with pytest.raises(ConfigError, match=r'^"a\\u0000b": the file cannot be read: embedded null byte$'):
        load("a\0b")


def test_a_file_that_one_may_not_read_is_named_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "secret.json"
    path.write_text("{}")
    path.chmod(0)
    user = os.geteuid()
    if user == 0:  # who may read everything
        os.seteuid(65534)
    try:
        with pytest.raises(ConfigError, match=r"secret\.json: the file cannot be read: Permission denied$"):
            load(path)
    finally:
        os.seteuid(user)


def test_a_huge_file_is_not_read_to_its_end(tmp_path: Path) -> None:
    with open(tmp_path / "huge.json", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ConfigError, match="is larger than"):
        load(tmp_path / "huge.json")
    with pytest.raises(ConfigError, match="this is a device; a JSON file is expected"):
        load("/dev/zero")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
    max_leaves=12,
)
KEYS = st.sampled_from([*DOCUMENTED, "limits", "labels", "temperature_probes", "indi_host", "indi_port"])


def read_or_one_line(data: bytes) -> None:
    """A Config, or a ConfigError that is one line and names the file; nothing else may come out."""
    try:
        config = parse(data, "test.json")
    except ConfigError as wrong:
        text = str(wrong)
    else:
        # What came through the border fits the types that the rest of the program trusts.
        again = msgspec.convert(msgspec.to_builtins(config, str_keys=True), Config, str_keys=True)
        assert again == config
        return
    assert len(text.splitlines()) == 1
    assert text.startswith("test.json: ")


@given(st.binary())
@example(b'{"\\ud800": 1}')
@example(b"{}}")
def test_any_bytes_are_a_configuration_or_one_line_of_error(data: bytes) -> None:
    read_or_one_line(data)


@given(st.dictionaries(KEYS | st.text(), JSON, max_size=3))
def test_any_entries_are_a_configuration_or_one_line_of_error(entries: dict[str, Any]) -> None:
    read_or_one_line(json.dumps({**DOCUMENTED, **entries}).encode())


@given(
    channels=st.integers(1, 9),
    limits=st.dictionaries(st.sampled_from("123456789x"), JSON | st.tuples(st.integers(), st.integers())),
    labels=st.dictionaries(st.sampled_from("123456789"), JSON | st.text(min_size=1)),
    probes=st.dictionaries(
        st.text(),
        st.fixed_dictionaries(
            {"label": st.text(), "address": st.from_regex("[0-9A-Fa-f]{16}")},
            optional={"channel": st.integers(1, 9) | st.none()},
        ),
    ),
)
def test_any_entries_by_channel_are_a_configuration_or_one_line_of_error(
    channels: int, limits: object, labels: object, probes: object
) -> None:
    entries = {"channels": channels, "limits": limits, "labels": labels, "temperature_probes": probes}
    read_or_one_line(json.dumps({**DOCUMENTED, **entries}).encode())


@given(st.data())
def test_a_damaged_file_is_a_configuration_or_one_line_of_error(data: st.DataObject) -> None:
    text = (PROJECT / "clasp.json").read_bytes()
    first = data.draw(st.integers(0, len(text)))
    last = data.draw(st.integers(first, min(len(text), first + 20)))
    read_or_one_line(text[:first] + data.draw(st.binary(max_size=8)) + text[last:])
