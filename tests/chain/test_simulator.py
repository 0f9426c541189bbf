# SPDX-License-Identifier: GPL-3.0-or-later
"""The simulated controller: the firmware by bytes and times of the test's choice, and the whole of it on a real pty.

What the firmware must answer is in `tests/support/transcripts/`, which were taken from the two public firmwares.
"""

from __future__ import annotations

import errno
import fcntl
import json
import math
import os
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from waiting import DEADLINE_S, eventually

from indi_multifocus.simulation.firmware import BUILDS, MEASUREMENT_S, Firmware, Uart, crc8
from indi_multifocus.simulator import Simulator

ROOT = Path(__file__).resolve().parents[2]
TRANSCRIPTS = ROOT / "tests" / "support" / "transcripts"
# So fast that every move has arrived before the next command.
FAST = 1e9
BOTH = pytest.mark.parametrize("generation", [1, 2])

PROBE = "28FF641E8C160497"


def transcript(generation: int, section: int) -> list[tuple[bytes, bytes]]:
    """What was sent and answered in a section of a transcript: 0 with held motors, 1 with fast ones."""
    sections: list[list[tuple[bytes, bytes]]] = []
    for text in (TRANSCRIPTS / f"generation{generation}.jsonl").read_text().splitlines():
        entry = json.loads(text)
        if "comment" in entry:
            sections.append([])
        else:
            sections[-1].append((entry["send"].encode(), entry["reply"].encode()))
    return sections[section]


class Host:
    """A program at the other end of the cable."""

    def __init__(self, port: str) -> None:
        self.fd = os.open(port, os.O_RDWR | os.O_NOCTTY)
        self._buffer = b""

    def __enter__(self) -> Host:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def send(self, data: bytes) -> None:
        os.write(self.fd, data)

    def read(self, count: int) -> bytes:
        """The next `count` bytes."""
        end = time.monotonic() + DEADLINE_S
        while len(self._buffer) < count:
            ready, _, _ = select.select([self.fd], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"only {self._buffer!r} came, of {count} bytes"
            data = os.read(self.fd, 65536)
            assert data, f"only {self._buffer!r} came, then the end"
            self._buffer += data
        data, self._buffer = self._buffer[:count], self._buffer[count:]
        return data

    def line(self) -> bytes:
        data = b""
        while not data.endswith(b"\r\n"):
            data += self.read(1)
        return data

    def ask(self, command: bytes) -> bytes:
        """Send a command line, and return the next reply line, without its end."""
        self.send(command + b"\n")
        return self.line()[:-2]


def reply_to(firmware: Firmware, data: bytes, now: float = 0.0) -> bytes:
    return b"".join(reply for _, reply in firmware.feed(data, now))


def in_tick(firmware: Firmware, number: int) -> float:
    """A time just after the timer interrupt of this number, and well before the next."""
    return (number + 0.5) / BUILDS[firmware.generation].timer_hz


def status(*channels: tuple[int, int]) -> bytes:
    return ",".join(f"T{n}={t:+07d},C{n}={c:+07d}" for n, (t, c) in enumerate(channels, 1)).encode()


# The firmware's answers


@BOTH
@pytest.mark.parametrize(("section", "motors"), [(0, {"held": True}), (1, {"speed": FAST})])
def test_the_transcripts_are_answered_byte_for_byte_through_a_pty(
    generation: int, section: int, motors: dict[str, Any]
) -> None:
    with Simulator(generation=generation, **motors) as simulator, Host(simulator.port) as host:
        for send, reply in transcript(generation, section):
            host.send(send)
            # Where nothing should come, what comes all the same is read as the next reply, and is wrong there.
            assert host.read(len(reply)) == reply, send
        host.send(b"#\n")
        assert host.read(3) == (b"?\r\n" if generation == 1 else b"0\r\n")


@BOTH
def test_the_transcripts_are_answered_also_when_they_come_byte_by_byte(generation: int) -> None:
    firmware = Firmware(generation, held=True)
    now = 0.0
    for send, reply in transcript(generation, 0):
        now += 1.0
        assert b"".join(reply_to(firmware, send[i : i + 1], now) for i in range(len(send))) == reply, send


def test_both_line_ends_end_a_line_and_a_second_one_spoils_the_next_command() -> None:
    firmware = Firmware()
    assert reply_to(firmware, b"?\r") == status((0, 0), (0, 0)) + b"\r\n"
    assert reply_to(firmware, b"1S\r\n") == b"$\r\n"
    assert reply_to(firmware, b"1S\n") == b"?\r\n"
    assert reply_to(firmware, b"1S\n") == b"$\r\n"


@BOTH
@pytest.mark.parametrize("channels", range(1, 10))
def test_every_number_of_channels_has_its_status(generation: int, channels: int) -> None:
    firmware = Firmware(generation, channels, held=True)
    for channel in range(1, channels + 1):
        assert reply_to(firmware, b"%d-%d\n" % (channel, channel * 100)) == b"$\r\n"
    expected = status(*((-100 * channel, 0) for channel in range(1, channels + 1)))
    assert reply_to(firmware, b"?\n") == expected + b"\r\n"
    assert reply_to(firmware, b"%cS\n" % (ord("1") + channels)) == b"?\r\n"


@pytest.mark.parametrize(("generation", "buffer"), [(1, 16), (2, 20)])
def test_of_a_line_longer_than_the_buffer_the_rest_is_dropped(generation: int, buffer: int) -> None:
    firmware = Firmware(generation)
    for length in (buffer, buffer + 1, 300):
        assert reply_to(firmware, b"x" * length + b"\n") == b"?\r\n"
        assert reply_to(firmware, b"1+" + b"7" * length + b"\n") == b"?\r\n"
        assert reply_to(firmware, b"1" * length + b"\n") == b""
    assert reply_to(firmware, b"?\n") == status((0, 0), (0, 0)) + b"\r\n"
    assert reply_to(firmware, b"\n2S721691#2@?9123\n") == b"?\r\n"
    assert reply_to(firmware, b"1+10\n") == b"$\r\n"


def test_a_controller_that_hangs_by_fault_turns_its_motors_and_comes_back_with_the_power() -> None:
    firmware = Firmware(1)
    assert reply_to(firmware, b"1+10\n") == b"$\r\n"
    firmware.fault_hang()
    assert reply_to(firmware, b"\n1S\n?\n", 0.01) == b""
    assert firmware.position(1, 10.0) == 10
    firmware.restart(11.0)
    assert reply_to(firmware, b"?\n", 12.0) == status((10, 10), (0, 0)) + b"\r\n"


def test_a_reply_shorter_than_the_one_before_leaves_nothing_of_it() -> None:
    firmware = Firmware(2, 3, held=True)
    firmware.feed(b"2+1234567\n", 0.0)
    assert reply_to(firmware, b"?\n") == b"T1=+000000,C1=+000000,T2=+1234567,C2=+000000T3=+000000,C3=+000000\r\n"
    assert reply_to(firmware, b"#\n") == b"0\r\n"
    firmware.feed(b"2Z\n", 0.0)
    assert reply_to(firmware, b"?\n") == status((0, 0), (0, 0), (0, 0)) + b"\r\n"


@settings(max_examples=300)
@given(
    generation=st.sampled_from([1, 2]),
    channels=st.integers(1, 9),
    chunks=st.lists(
        st.tuples(
            st.floats(0, 2),
            st.one_of(
                st.binary(max_size=40),
                st.text(alphabet="?#@SZ+-0123456789ABFx \r\n", max_size=40).map(str.encode),
                st.sampled_from([b"?\n", b"1+999999\n", b"2-7\n", b"@" + PROBE.encode() + b"\n", b"@\n"]),
            ),
        ),
        max_size=20,
    ),
)
def test_no_bytes_make_the_firmware_raise(generation: int, channels: int, chunks: list[tuple[float, bytes]]) -> None:
    firmware = Firmware(generation, channels, probes={PROBE: 20.0})
    now = ready = 0.0
    for pause, data in chunks:
        now += pause
        for due, reply in firmware.feed(data, now):
            assert reply
            assert due >= ready
            ready = due
        for channel in range(1, channels + 1):
            firmware.position(channel, now)
    firmware.restart(now)
    assert firmware.feed(b"?\n", now)[0][1].startswith(b"T1=")


@pytest.mark.parametrize(
    "wrong",
    [
        {"generation": 3},
        {"channels": 0},
        {"channels": 10},
        {"speed": 0.0},
        {"speed": math.nan},
        {"speed": math.inf},
        {"eeprom": [1]},
        {"eeprom": [0, 2**31]},
        {"probes": {"28": 20.0}},
        {"probes": {"28FF641E8C16049G": 20.0}},
        {"probes": {PROBE: 126.0}},
        {"probes": {PROBE: math.nan}},
    ],
)
def test_what_no_controller_could_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Firmware(**wrong)


# Motion


@BOTH
def test_a_motor_makes_one_microstep_in_two_interrupts_after_the_one_that_switches_it_on(generation: int) -> None:
    firmware = Firmware(generation)
    start = 1000
    firmware.feed(b"1+2\n", in_tick(firmware, start))
    distance = 2 << BUILDS[generation].shift
    for tick in range(start, start + 2 * distance + 5):
        expected = min(distance, max(0, tick - start - 1) // 2)
        assert firmware.microsteps(1, in_tick(firmware, tick)) == expected


@pytest.mark.parametrize(("generation", "microsteps_per_s", "shift"), [(1, 3906.25, 6), (2, 1562.5, 4)])
def test_the_motors_turn_at_the_speed_of_the_real_ones(generation: int, microsteps_per_s: float, shift: int) -> None:
    firmware = Firmware(generation)
    firmware.feed(b"1+999999\n2-999999\n", in_tick(firmware, 0))
    for seconds in (1, 16, 3600):
        # One interrupt of all went into switching on.
        now = in_tick(firmware, round(seconds * microsteps_per_s * 2) + 1)
        microsteps = math.floor(seconds * microsteps_per_s)
        assert firmware.microsteps(1, now) == microsteps
        assert firmware.position(1, now) == microsteps >> shift
        assert firmware.microsteps(2, now) == -microsteps


def test_speed_multiplies_the_speed_of_the_motors() -> None:
    slow, fast = Firmware(2), Firmware(2, speed=8.0)
    for firmware in (slow, fast):
        firmware.feed(b"1+90000\n", 0.0)
    for tick in (1, 10, 12345):
        assert fast.microsteps(1, in_tick(fast, tick) / 8) == slow.microsteps(1, in_tick(slow, tick))


def test_the_speed_can_be_changed_in_mid_move() -> None:
    firmware, hz = Firmware(2), BUILDS[2].timer_hz
    firmware.feed(b"1+1000\n2+10\n", 100.0)
    arrival_s = 100.0 + (1 + 2 * 160) / hz
    change_s = 100.0 + 6000.5 / hz
    firmware.set_speed(2.0, change_s)
    # 6000 interrupts at the motor's own speed, and the other 26001 at twice that.
    end_s = change_s + 26_001 / (2 * hz)
    assert firmware.microsteps(1, change_s) == 2999  # one interrupt went into switching on
    assert firmware.standstill(1, end_s - 2 / hz) is None
    assert firmware.standstill(1, end_s + 2 / hz) == pytest.approx(end_s, abs=2 / hz)
    assert firmware.standstill(2, end_s + 2 / hz) == pytest.approx(arrival_s, abs=2 / hz)
    with pytest.raises(ValueError, match="above 0"):
        firmware.set_speed(0.0, end_s)
    with Simulator(speed=1e-6) as simulator, Host(simulator.port) as host:
        assert host.ask(b"1+1000") == b"$"
        simulator.set_speed(1e9)
        eventually(lambda: host.ask(b"?") == status((1000, 1000), (0, 0)), "the arrival")


def test_steps_are_the_floor_of_microsteps_also_below_zero() -> None:
    firmware = Firmware(2)
    firmware.feed(b"1-2\n", in_tick(firmware, 0))
    assert reply_to(firmware, b"?\n", in_tick(firmware, 2)) == status((-2, 0), (0, 0)) + b"\r\n"
    # One microstep below zero is step -1 already.
    assert reply_to(firmware, b"?\n", in_tick(firmware, 3)) == status((-2, -1), (0, 0)) + b"\r\n"
    assert firmware.microsteps(1, in_tick(firmware, 3)) == -1
    firmware.feed(b"1S\n", in_tick(firmware, 3))
    assert firmware.target(1) == -1


def test_all_channels_move_at_the_same_time() -> None:
    firmware = Firmware(2, 9)
    for channel in range(1, 10):
        firmware.feed(b"%d+%d\n" % (channel, channel), in_tick(firmware, 0))
    at_5 = in_tick(firmware, 1 + 2 * 16 * 5)
    assert [firmware.position(channel, at_5) for channel in range(1, 10)] == [1, 2, 3, 4, 5, 5, 5, 5, 5]


def test_a_new_target_while_moving_is_taken_at_once() -> None:
    firmware = Firmware(2)
    firmware.feed(b"1+1000\n", in_tick(firmware, 0))
    turning_point = in_tick(firmware, 2001)
    assert firmware.microsteps(1, turning_point) == 1000
    assert reply_to(firmware, b"1-1000\n", turning_point) == b"$\r\n"
    assert firmware.microsteps(1, in_tick(firmware, 2003)) == 999
    assert firmware.microsteps(1, in_tick(firmware, 2001 + 2000)) == 0
    assert firmware.target(1) == -1000


def test_stop_leaves_the_motor_and_the_target_at_the_microstep_where_it_is() -> None:
    firmware = Firmware(2)
    firmware.feed(b"1+1000\n", in_tick(firmware, 0))
    now = in_tick(firmware, 2 * 1007 + 1)
    firmware.feed(b"1S\n", now)
    assert firmware.eeprom == [1007, 0]
    assert firmware.microsteps(1, now + 100.0) == 1007
    assert reply_to(firmware, b"?\n", now + 100.0) == status((62, 62), (0, 0)) + b"\r\n"


def test_zero_stops_the_motor_and_calls_the_place_zero() -> None:
    firmware = Firmware(2)
    firmware.feed(b"1+1000\n", 0.0)
    firmware.feed(b"1Z\n", 1.0)
    turned = firmware.shaft(1, 1.0)
    assert turned > 0
    assert reply_to(firmware, b"?\n", 50.0) == status((0, 0), (0, 0)) + b"\r\n"
    assert firmware.shaft(1, 50.0) == turned
    assert firmware.eeprom == [0, 0]


@BOTH
def test_the_target_is_saved_at_the_command_and_is_the_position_after_a_loss_of_power(generation: int) -> None:
    eeprom = [0, 0]
    firmware = Firmware(generation, eeprom=eeprom)
    firmware.feed(b"1+5000\n2-70\n#1\n", 0.0)
    shift = BUILDS[generation].shift
    assert eeprom == [5000 << shift, -70 * 2**shift]
    firmware.restart(1.0)
    turned = firmware.shaft(1, 1.0)
    assert reply_to(firmware, b"?\n", 2.0) == status((5000, 5000), (-70, -70)) + b"\r\n"
    assert not firmware.fans
    assert 0 < turned == firmware.shaft(1, 100.0) < 5000 << shift
    again = Firmware(generation, eeprom=eeprom)
    assert reply_to(again, b"?\n") == status((5000, 5000), (-70, -70)) + b"\r\n"


def test_a_half_received_line_does_not_survive_a_loss_of_power() -> None:
    firmware = Firmware()
    firmware.feed(b"1+12", 0.0)
    firmware.restart(0.0)
    assert reply_to(firmware, b"?\n") == status((0, 0), (0, 0)) + b"\r\n"


@BOTH
def test_standstill_is_the_time_of_the_last_microstep_or_of_the_stop(generation: int) -> None:
    firmware = Firmware(generation)
    hz = BUILDS[generation].timer_hz
    assert firmware.standstill(1, 5.0) == 0.0
    start = round(10 * hz)
    firmware.feed(b"1+3\n", in_tick(firmware, start))
    arrival = start + 1 + 2 * (3 << BUILDS[generation].shift)
    assert firmware.standstill(1, in_tick(firmware, arrival - 1)) is None
    assert firmware.standstill(1, in_tick(firmware, arrival)) == arrival / hz
    firmware.feed(b"1+9\n", in_tick(firmware, arrival + 100))
    firmware.feed(b"1S\n", in_tick(firmware, arrival + 120))
    assert firmware.standstill(1, in_tick(firmware, arrival + 500)) == (arrival + 120) / hz


def test_a_stalled_motor_takes_targets_and_stays_until_it_is_let_go() -> None:
    firmware = Firmware(2)
    firmware.feed(b"1+10\n2+10\n", in_tick(firmware, 0))
    firmware.stall(1, True, in_tick(firmware, 101))
    assert reply_to(firmware, b"1+20\n?\n", in_tick(firmware, 9999)) == b"$\r\n" + status((20, 3), (10, 10)) + b"\r\n"
    firmware.stall(1, False, in_tick(firmware, 9999))
    assert firmware.microsteps(1, in_tick(firmware, 9999 + 40)) == 50 + 20
    assert firmware.position(1, in_tick(firmware, 99999)) == 20


class Interrupts:
    """The timer interrupt of main.c, taken one by one: what the computed motion must come to."""

    def __init__(self) -> None:
        self.current = self.target = self.turned = 0
        self.enabled = self.step_high = False

    def __call__(self) -> None:
        if not self.enabled and self.current != self.target:
            self.enabled = self.step_high = True
        elif self.current != self.target:
            if not self.step_high:
                direction = 1 if self.current < self.target else -1
                self.current += direction
                self.turned += direction
            self.step_high = not self.step_high
        else:
            self.enabled = False


@settings(max_examples=300)
@given(
    st.lists(
        st.tuples(st.integers(0, 150), st.sampled_from(["S", "Z", "?", "+0", "+1", "-1", "+3", "-4"])), max_size=25
    )
)
def test_computed_motion_is_that_of_single_interrupts(schedule: list[tuple[int, str]]) -> None:
    firmware, model = Firmware(2), Interrupts()
    tick = 0
    for pause, verb in schedule:
        for _ in range(pause):
            model()
        tick += pause
        if verb == "?":
            assert firmware.microsteps(1, in_tick(firmware, tick)) == model.current
            continue
        firmware.feed(f"1{verb}\n".encode(), in_tick(firmware, tick))
        if verb == "Z":
            model.current = model.target = 0
        else:
            model.target = model.current if verb == "S" else int(verb) << 4
    for _ in range(300):
        model()
        tick += 1
        assert firmware.microsteps(1, in_tick(firmware, tick)) == model.current
    assert firmware.shaft(1, in_tick(firmware, tick)) == model.turned
    assert firmware.target(1) == model.target >> 4


# Temperatures


def test_a_measurement_blocks_and_what_comes_meanwhile_is_done_after_it() -> None:
    firmware = Firmware(2, probes={PROBE: 21.0625})
    start = in_tick(firmware, 100)
    firmware.feed(b"1+900\n", start)
    assert firmware.feed(b"@" + PROBE.encode() + b"\n?\n1S", start) == [(start + MEASUREMENT_S, b"21.0625\r\n")]
    end = start + MEASUREMENT_S
    assert 0.75 <= MEASUREMENT_S <= 1.0
    assert firmware.wake_at == end
    assert firmware.feed(b"\n", start + 0.5) == []
    assert firmware.waiting == len(b"?\n1S\n")
    expected = Firmware(2)
    expected.feed(b"1+900\n", start)
    # Also when the caller comes late, they were done when the measurement ended.
    assert firmware.feed(b"", end + 3.0) == [
        (end, status((900, expected.position(1, end)), (0, 0)) + b"\r\n"),
        (end, b"$\r\n"),
    ]
    assert firmware.waiting == 0
    assert firmware.microsteps(1, end + 9.0) == expected.microsteps(1, end)


def test_measurements_that_wait_are_made_one_after_the_other() -> None:
    firmware = Firmware(2, probes={PROBE: 1.5})
    command = b"@" + PROBE.encode() + b"\n"
    replies = firmware.feed(command * 3 + b"#\n", 1.0)
    for now in (2.0, 3.0, 4.0):
        replies += firmware.feed(b"", now)
    assert [reply for _, reply in replies] == [b"1.5000\r\n"] * 3 + [b"0\r\n"]
    assert [due for due, _ in replies] == pytest.approx([1.0 + MEASUREMENT_S * count for count in (1, 2, 3, 3)])


def test_a_loss_of_power_ends_a_measurement() -> None:
    firmware = Firmware(2, probes={PROBE: 1.5})
    firmware.feed(b"@" + PROBE.encode() + b"\n1+5\n", 1.0)
    firmware.restart(1.1)
    assert reply_to(firmware, b"?\n", 1.2) == status((0, 0), (0, 0)) + b"\r\n"
    assert firmware.feed(b"", 9.0) == []


@pytest.mark.parametrize(
    ("celsius", "text"),
    [
        (21.0625, b"21.0625\r\n"),
        (0.0, b"0.0000\r\n"),
        (85.5, b"85.5000\r\n"),
        (125.0, b"125.0000\r\n"),
        # The firmware counts the reading as unsigned: 4096 too much.
        (-10.125, b"4085.8750\r\n"),
        (-0.0625, b"4095.9375\r\n"),
        (-55.0, b"4041.0000\r\n"),
    ],
)
def test_temperatures_are_printed_as_the_firmware_does(celsius: float, text: bytes) -> None:
    firmware = Firmware(2, probes={PROBE: celsius})
    assert reply_to(firmware, b"@" + PROBE.encode() + b"\n") == text


def test_a_probe_that_is_not_there_fails_after_the_same_time() -> None:
    firmware = Firmware(2, probes={PROBE: 1.0})
    command = b"@" + PROBE.encode() + b"\n"
    firmware.set_probe(PROBE, None)
    assert firmware.feed(command, 1.0) == [(1.0 + MEASUREMENT_S, b"FAILED\r\n")]
    firmware.set_probe(PROBE.lower(), 2.25)
    assert firmware.feed(command, 9.0) == [(9.0 + MEASUREMENT_S, b"2.2500\r\n")]


@pytest.mark.parametrize(
    ("digits", "reply"),
    [
        (b"0000000000000000", b"1.0000\r\n"),
        (b"GG00000000000000", b"?\r\n"),
        (b"000000000000000G", b"1.0000\r\n"),
        (b"00000000000000G0", b"?\r\n"),
        (b"+000000000000000", b"1.0000\r\n"),
        (b"+G00000000000000", b"?\r\n"),
        (b"0x00000000000000", b"1.0000\r\n"),
        (b" 00000000000000 ", b"1.0000\r\n"),
        (b"-100000000000000", b"FAILED\r\n"),
        (b"000000000000000\x00", b"1.0000\r\n"),
        (b"000000000000000", b"?\r\n"),
        (b"00000000000000000", b"?\r\n"),
    ],
)
def test_an_address_is_read_with_the_leniency_of_sscanf(digits: bytes, reply: bytes) -> None:
    firmware = Firmware(2, probes={"0" * 16: 1.0})
    assert reply_to(firmware, b"@" + digits + b"\n") == reply


@pytest.mark.parametrize(("before", "reply"), [(b"00", b"1.0000\r\n"), (b"GG", b"?\r\n")])
def test_an_address_that_ends_in_blanks_goes_on_with_what_an_older_line_left(before: bytes, reply: bytes) -> None:
    firmware = Firmware(2, probes={"0" * 16: 1.0})
    assert reply_to(firmware, b"x" * 17 + before + b"\n") == b"?\r\n"
    assert reply_to(firmware, b"@" + b"0" * 14 + b"  \n") == reply


def test_what_is_no_address_is_answered_at_once() -> None:
    assert Firmware(2).feed(b"@zzzzzzzzzzzzzzzz\n", 1.0) == [(1.0, b"?\r\n")]


def with_crc(address: str) -> str:
    return f"{address}{crc8(bytes.fromhex(address)):02X}"


def test_a_bare_at_sign_lists_the_probes_in_the_order_of_a_1_wire_search() -> None:
    # The lowest bits of the first byte decide: 0x28, 0x10, 0x01.
    addresses = [with_crc(start + "000000000000") for start in ("01", "28", "10", "30", "02")]
    firmware = Firmware(2, probes=dict.fromkeys(addresses[:3], 20.0))
    assert reply_to(firmware, b"@\n") == ",".join(addresses[i] for i in (2, 1, 0)).encode() + b"\r\n"
    firmware.set_probe("28000000000000FF", 20.0)  # the last byte is no CRC of the others
    firmware.set_probe(addresses[3], 20.0)
    firmware.set_probe(addresses[4], 20.0)
    # 0x30 differs from 0x10 in a higher bit only; and there is room for four.
    assert reply_to(firmware, b"@\n") == ",".join(addresses[i] for i in (2, 3, 1, 4)).encode() + b"\r\n"


def test_the_crc_is_that_of_the_1_wire_bus() -> None:
    # The example of Maxim's application note 27.
    assert crc8(bytes.fromhex("02 1C B8 01 00 00 00")) == 0xA2


def test_a_bare_at_sign_without_a_probe_is_harmless_rubbish() -> None:
    firmware = Firmware(2)
    assert reply_to(firmware, b"@\n") == b"\n"
    assert reply_to(firmware, b"?\n") == status((0, 0), (0, 0)) + b"\r\n"


# The 9600-baud line


def test_at_9600_baud_a_byte_takes_ten_bits_and_bytes_queue_up() -> None:
    uart = Uart()
    byte_s = 10 / 9600
    first = uart.pace(1.0, b"$\r\n")
    assert [data for _, data in first] == [b"$", b"\r", b"\n"]
    assert [when for when, _ in first] == pytest.approx([1.0 + byte_s * count for count in (1, 2, 3)])
    # Ready while the line is busy, and ready when it is free.
    assert [when for when, _ in uart.pace(1.001, b"?")] == pytest.approx([1.0 + 4 * byte_s])
    assert [when for when, _ in uart.pace(2.0, b"?")] == pytest.approx([2.0 + byte_s])
    assert uart.pace(3.0, b"") == []


def test_a_status_is_formatted_when_its_line_is_complete_and_a_stop_is_heard_while_it_goes_out() -> None:
    firmware, uart = Firmware(2), Uart()
    firmware.feed(b"1+900\n", 0.0)
    [(ready, text)] = firmware.feed(b"?\n", 1.0)
    assert text == status((900, firmware.position(1, 1.0)), (0, 0)) + b"\r\n"
    last = uart.pace(ready, text)[-1][0]
    assert last == pytest.approx(1.0 + 45 * 10 / 9600)
    firmware.feed(b"1S\n", 1.01)
    assert firmware.standstill(1, last) == pytest.approx(1.01, abs=1 / 3125)


def test_a_paced_line_carries_the_same_bytes() -> None:
    with Simulator(baud_pacing=True) as simulator, Host(simulator.port) as host:
        host.send(b"?\n2S\n1X\n#\n")
        assert host.read(45 + 3 + 3) == status((0, 0), (0, 0)) + b"\r\n$\r\n0\r\n"


# On a pty


def test_the_host_may_close_the_port_and_open_it_again() -> None:
    with Simulator(speed=FAST) as simulator:
        assert not simulator.in_use()
        for position in (100, -200, 300):
            with Host(simulator.port) as host:
                assert simulator.in_use()
                assert host.ask(b"1%+d" % position) == b"$"
            assert not simulator.in_use()
        assert simulator.position(1) == 300


def test_what_a_host_left_behind_waits_for_the_next_one() -> None:
    with Simulator() as simulator:
        with Host(simulator.port) as host:
            host.send(b"2S\n1+12")
            eventually(lambda: simulator.received, "the stop to be received")
        with Host(simulator.port) as host:
            host.send(b"3\n")
            assert host.read(6) == b"$\r\n$\r\n"
        assert simulator.target(1) == 123
        assert [line for _, line in simulator.received] == [b"2S", b"1+123"]


def claimed(port: str) -> bool:
    """Whether somebody has claimed this terminal for himself (TIOCEXCL)."""
    try:
        fd = os.open(port, os.O_RDWR | os.O_NOCTTY)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        return True
    try:
        # Root gets past a claim.
        get_exclusive = 0x80045440
        return fcntl.ioctl(fd, get_exclusive, b"\0" * 4) != b"\0" * 4
    finally:
        os.close(fd)


def test_a_killed_host_leaves_no_claim_on_the_port() -> None:
    script = (
        "import fcntl, os, sys, termios; fd = os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY);"
        "fcntl.ioctl(fd, termios.TIOCEXCL); print('claimed', flush=True); sys.stdin.read()"
    )
    with Simulator() as simulator:
        child = subprocess.Popen(
            [sys.executable, "-c", script, simulator.port], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == b"claimed\n"
            # To find out who holds the port the simulator lifts the claim for a moment, also after a look of ours.
            eventually(lambda: claimed(simulator.port), "the claim")
            assert simulator.in_use()
            eventually(lambda: claimed(simulator.port), "the claim still")
        finally:
            child.kill()
            child.communicate()
        eventually(lambda: not claimed(simulator.port), "the claim to end")
        assert not simulator.in_use()
        with Host(simulator.port) as host:
            assert host.ask(b"1S") == b"$"


def test_a_claim_lasts_while_its_host_lives() -> None:
    with Simulator() as simulator, Host(simulator.port) as host:
        fcntl.ioctl(host.fd, termios.TIOCEXCL)
        assert simulator.in_use()
        # The simulator's thread may be looking at its own first close just now, and lets the claim go for that moment.
        eventually(lambda: claimed(simulator.port), "the claim")
        assert host.ask(b"1S") == b"$"


def test_a_host_that_never_reads_does_not_stop_the_controller() -> None:
    with Simulator() as simulator, Host(simulator.port) as host:
        # More replies than any buffer between the two ends holds.
        wanted = 10_000
        os.set_blocking(host.fd, False)

        def send_more() -> bool:
            try:
                os.write(host.fd, b"?\n" * 500)
            except BlockingIOError:
                pass
            return len(simulator.received) > wanted

        eventually(send_more, "the queries to be received")
        os.set_blocking(host.fd, True)
        host.send(b"\n2+77\n2+77\n")
        eventually(lambda: simulator.target(2) == 77, "the command behind the unread replies")


def test_every_line_is_noted_with_the_time_at_which_it_came() -> None:
    with Simulator() as simulator, Host(simulator.port) as host:
        before = time.monotonic()
        host.send(b"1+5\r\n?")
        assert host.line() == b"$\r\n"
        after = time.monotonic()
        host.send(b"\n")
        assert host.line() == b"?\r\n"
        assert [line for _, line in simulator.received] == [b"1+5", b"", b"?"]
        assert before <= simulator.received[0][0] <= after <= simulator.received[2][0]


def test_the_truth_about_a_move_can_be_asked_at_any_time() -> None:
    with Simulator(speed=100.0) as simulator, Host(simulator.port) as host:
        before = time.monotonic()
        assert host.ask(b"2-5000") == b"$"
        assert simulator.target(2) == -5000
        assert simulator.standstill(2) is None
        rested = eventually(lambda: simulator.standstill(2), "the arrival")
        assert rested is not None
        # Exact: one interrupt to switch on, two for each microstep.
        assert rested - before >= 5000 * 16 * 2 / 3125 / 100
        assert rested <= time.monotonic()
        assert simulator.position(2) == -5000
        assert simulator.microsteps(2) == simulator.shaft(2) == -80000
        assert not simulator.fans
        assert host.ask(b"#1") == b"$"
        assert simulator.fans


def test_temperatures_are_measured_through_the_pty() -> None:
    with Simulator(probes={PROBE: -3.5}) as simulator, Host(simulator.port) as host:
        sent = time.monotonic()
        host.send(b"@" + PROBE.encode() + b"\n1S\n")
        assert host.line() == b"4092.5000\r\n"
        assert host.line() == b"$\r\n"
        assert time.monotonic() - sent >= MEASUREMENT_S
        simulator.set_probe(PROBE, 4.0)
        assert host.ask(b"@" + PROBE.encode()) == b"4.0000"


def test_channels_that_do_not_exist_are_an_error_of_the_test() -> None:
    with Simulator(channels=1) as simulator:
        for channel in (0, 2):
            with pytest.raises(ValueError):
                simulator.position(channel)


def test_a_closed_simulator_leaves_nothing_behind_and_can_be_started_again(tmp_path: Path) -> None:
    link = tmp_path / "controller"
    simulator = Simulator(link=link, speed=FAST)
    with simulator:
        with pytest.raises(RuntimeError):
            simulator.start()
        with Host(simulator.port) as host:
            assert host.ask(b"1+10") == b"$"
        terminal = os.readlink(link)
    assert not os.path.lexists(link)
    assert not os.path.exists(terminal)
    simulator.close()
    simulator.replug_cable()
    assert not os.path.lexists(link)
    with simulator, Host(simulator.port) as host:
        assert host.ask(b"?") == status((10, 10), (0, 0))


def test_without_a_link_and_without_a_cable_there_is_no_port() -> None:
    with Simulator() as simulator:
        simulator.pull_cable()
        with pytest.raises(RuntimeError):
            _ = simulator.port
        simulator.replug_cable()
        with Host(simulator.port) as host:
            assert host.ask(b"1S") == b"$"


def test_an_old_link_is_replaced_but_nothing_else(tmp_path: Path) -> None:
    link = tmp_path / "controller"
    link.symlink_to("/nowhere")
    with Simulator(link=link), Host(str(link)) as host:
        assert host.ask(b"1S") == b"$"
    link.write_text("precious")
    with pytest.raises(ValueError, match="not a symbolic link"):
        Simulator(link=link).start()
    assert link.read_text() == "precious"
    with pytest.raises(OSError, match="No such file"):
        Simulator(link=tmp_path / "missing" / "controller").start()


def test_a_link_that_belongs_to_somebody_else_by_now_is_not_removed(tmp_path: Path) -> None:
    link = tmp_path / "controller"
    with Simulator(link=link) as first, Simulator(link=link):
        terminal = os.readlink(link)
        first.close()
        assert os.readlink(link) == terminal


# EEPROM file


def test_the_eeprom_file_is_written_before_the_command_is_answered(tmp_path: Path) -> None:
    file = tmp_path / "eeprom"
    with Simulator(eeprom=file) as simulator, Host(simulator.port) as host:
        assert not file.exists()
        assert host.ask(b"1+500") == b"$"
        assert json.loads(file.read_text()) == [8000, 0]
        assert host.ask(b"2-1") == b"$"
        assert json.loads(file.read_text()) == [8000, -16]
        assert host.ask(b"1Z") == b"$"
        assert json.loads(file.read_text()) == [0, -16]
    assert os.listdir(tmp_path) == ["eeprom"]


@BOTH
def test_the_eeprom_file_keeps_the_targets_over_a_restart(generation: int, tmp_path: Path) -> None:
    file = tmp_path / "eeprom"
    with Simulator(generation=generation, eeprom=file) as simulator, Host(simulator.port) as host:
        assert host.ask(b"1+5000") == b"$"
        assert host.ask(b"2-300") == b"$"
    with Simulator(generation=generation, channels=3, eeprom=file) as simulator, Host(simulator.port) as host:
        assert host.ask(b"?") == status((5000, 5000), (-300, -300), (0, 0))


@pytest.mark.parametrize("content", ["", "{", '{"1": 5}', "[1.5, 0]", "[true, 0]", '["1", 0]', "[3000000000, 0]"])
def test_what_is_no_eeprom_is_refused_and_left_alone(content: str, tmp_path: Path) -> None:
    file = tmp_path / "eeprom"
    file.write_text(content)
    with pytest.raises(ValueError):
        Simulator(eeprom=file)
    assert file.read_text() == content


def test_a_full_disk_does_not_end_the_simulator(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Simulator(eeprom=tmp_path / "missing" / "eeprom") as simulator, Host(simulator.port) as host:
        assert host.ask(b"1+5") == b"$"
        assert host.ask(b"1S") == b"$"
    assert "EEPROM not saved" in capsys.readouterr().err


# Faults


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with Simulator(speed=FAST) as controller:
        yield controller


@pytest.fixture
def host(simulator: Simulator) -> Iterator[Host]:
    with Host(simulator.port) as program:
        assert program.ask(b"1S") == b"$"
        yield program


def ended(host: Host) -> bool:
    """Whether the port under the host is gone."""
    try:
        return os.read(host.fd, 100) == b""
    except OSError:
        return True


def test_a_pulled_cable_ends_the_port_and_a_replugged_one_has_another_number(tmp_path: Path) -> None:
    link = tmp_path / "controller"
    with Simulator(link=link, speed=20.0) as simulator, Host(simulator.port) as host:
        assert host.ask(b"1+500") == b"$"
        first = os.readlink(link)
        simulator.pull_cable()
        assert not os.path.lexists(link)
        assert not simulator.in_use()
        assert ended(host)
        with pytest.raises(OSError):
            host.send(b"1S\n")
        simulator.pull_cable()
        simulator.replug_cable()
        simulator.replug_cable()
        # The old host has not let go of the old number.
        assert os.readlink(link) != first
        with Host(simulator.port) as again:
            eventually(lambda: again.ask(b"?") == status((500, 500), (0, 0)), "the motor to arrive all the same")


def test_a_power_cycle_in_mid_move_comes_back_claiming_the_target(tmp_path: Path) -> None:
    link = tmp_path / "controller"
    with Simulator(link=link) as simulator, Host(simulator.port) as host:
        assert host.ask(b"1+99999") == b"$"
        eventually(lambda: simulator.position(1) > 1, "the motor to move")
        simulator.power_cycle()
        assert ended(host)
        with Host(simulator.port) as again:
            assert again.ask(b"?") == status((99999, 99999), (0, 0))
        turned = simulator.shaft(1)
        assert turned < 99999 * 16
        assert simulator.standstill(1) is not None
        assert simulator.shaft(1) == turned


def test_a_power_cycle_keeps_the_port_away_for_its_time(tmp_path: Path) -> None:
    link = tmp_path / "controller"
    with Simulator(link=link) as simulator:
        start = time.monotonic()
        simulator.power_cycle(off_s=0.05)
        eventually(lambda: os.path.lexists(link), "the port to come back")
        assert time.monotonic() - start >= 0.05
        with Host(simulator.port) as host:
            assert host.ask(b"1S") == b"$"


def test_a_brown_out_leaves_the_port_and_loses_what_is_sent_meanwhile() -> None:
    with Simulator() as simulator, Host(simulator.port) as host:
        assert host.ask(b"1+300") == b"$"
        simulator.brown_out(off_s=0.2)
        host.send(b"?\n1+44")
        eventually(lambda: simulator._power_back_at is None, "the power to come back")
        assert host.ask(b"?") == status((300, 300), (0, 0))
        assert [line for _, line in simulator.received] == [b"1+300", b"?"]
        simulator.brown_out()
        assert host.ask(b"?") == status((300, 300), (0, 0))


def test_a_loss_of_power_swallows_the_replies_under_way(simulator: Simulator, host: Host) -> None:
    simulator.delay_replies(3600.0)
    host.send(b"?\n")
    eventually(lambda: len(simulator.received) == 2, "the command")
    simulator.delay_replies(0.0)
    simulator.brown_out()
    assert host.ask(b"1S") == b"$"


def test_garbage_arrives_as_it_is(simulator: Simulator, host: Host) -> None:
    noise = bytes(range(256))
    simulator.garbage(noise)
    assert host.read(256) == noise
    assert host.ask(b"1S") == b"$"


def test_babble_goes_on_until_it_is_ended(simulator: Simulator, host: Host) -> None:
    simulator.babble(b"$GPGGA,\r\n", 0.001)
    assert [host.line() for _ in range(5)] == [b"$GPGGA,\r\n"] * 5
    simulator.babble(None)
    host.send(b"1S\n")
    eventually(lambda: host.line() == b"$\r\n", "the end of the babble")
    assert host.ask(b"2S") == b"$"


def test_babble_that_nobody_reads_neither_blocks_nor_piles_up(simulator: Simulator, host: Host) -> None:
    simulator.babble(b"x" * 4000, 0.0)

    def congested() -> bool:
        with simulator._lock:
            return simulator._cable is not None and simulator._cable.congested

    eventually(congested, "the terminal to be full")
    simulator.babble(None)
    host.send(b"1+55\n")
    eventually(lambda: simulator.target(1) == 55, "the command behind the babble")


def test_an_EEPROM_that_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "eeprom")
    with pytest.raises(OSError, match="this is a FIFO"):
        Simulator(eeprom=tmp_path / "eeprom")


def test_silence_swallows_replies_and_not_commands(simulator: Simulator, host: Host) -> None:
    simulator.silence(True)
    host.send(b"1+55\n")
    eventually(lambda: simulator.target(1) == 55, "the command")
    simulator.silence(False)
    assert host.ask(b"?") == status((55, 55), (0, 0))


def test_a_controller_that_hangs_takes_no_command_until_the_power_is_cycled(simulator: Simulator, host: Host) -> None:
    simulator.fault_hang()
    host.send(b"1+55\n?\n")
    eventually(lambda: [line for _, line in simulator.received][-2:] == [b"1+55", b"?"], "the lines")
    assert simulator.target(1) == 0
    simulator.brown_out()
    assert host.ask(b"?") == status((0, 0), (0, 0))


def test_replies_can_be_truncated_and_merged(simulator: Simulator, host: Host) -> None:
    simulator.truncate_replies(1)
    host.send(b"1S\n2S\n?\n")
    assert host.read(3) == b"$$T"
    simulator.truncate_replies(0)
    host.send(b"1S\n")
    eventually(lambda: len(simulator.received) == 5, "the command")
    simulator.truncate_replies(None)
    assert host.ask(b"1S") == b"$"


def test_replies_can_be_mangled_in_any_way(simulator: Simulator, host: Host) -> None:
    simulator.mangle_replies(lambda reply: b"\0" + reply.replace(b"+", b"\xff"))
    assert host.ask(b"?") == b"\0" + status((0, 0), (0, 0)).replace(b"+", b"\xff")
    simulator.mangle_replies(None)
    assert host.ask(b"1S") == b"$"


def test_delayed_replies_come_late_and_in_order(simulator: Simulator, host: Host) -> None:
    simulator.delay_replies(0.05)
    start = time.monotonic()
    host.send(b"?\n")
    eventually(lambda: len(simulator.received) == 2, "the command")
    simulator.delay_replies(0.0)
    host.send(b"1S\n")
    assert host.line() == status((0, 0), (0, 0)) + b"\r\n"
    assert time.monotonic() - start >= 0.05
    assert host.line() == b"$\r\n"


def test_a_controller_can_answer_unknown_to_everything(simulator: Simulator, host: Host) -> None:
    simulator.answer_unknown(True)
    assert [host.ask(command) for command in (b"?", b"1+5", b"1X", b"#")] == [b"?"] * 4
    assert simulator.target(1) == 0
    simulator.answer_unknown(False)
    assert host.ask(b"1+5") == b"$"


def test_an_echo_is_no_controller(simulator: Simulator, host: Host) -> None:
    simulator.echo(True)
    host.send(b"1+5\n\r")
    assert host.read(5) == b"1+5\n\r"
    assert simulator.target(1) == 0
    simulator.echo(False)
    assert host.ask(b"1+5") == b"$"


def test_bytes_can_be_lost_on_their_way_in(simulator: Simulator, host: Host) -> None:
    simulator.lose_input(2)
    assert host.ask(b"xx1+5") == b"$"
    assert simulator.target(1) == 5


def test_bytes_can_be_lost_on_their_way_out(simulator: Simulator, host: Host) -> None:
    simulator.lose_output(10)
    assert host.ask(b"?") == status((0, 0), (0, 0))[10:]
    assert host.ask(b"1S") == b"$"


def test_a_stalled_motor_stays_where_it_is(simulator: Simulator, host: Host) -> None:
    simulator.stall(2)
    assert host.ask(b"2+50") == b"$"
    assert host.ask(b"1+50") == b"$"
    assert host.ask(b"?") == status((50, 50), (50, 0))
    simulator.stall(2, False)
    eventually(lambda: simulator.position(2) == 50, "the motor to be let go")


# The command line


class Program:
    """The simulator as a process; its port is the first line that it prints."""

    def __init__(self, *options: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "indi_multifocus.simulator", *options],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert self.process.stdout is not None
            self.port = self.process.stdout.readline().rstrip("\n")
            assert self.port, self.process.communicate()
        except BaseException:
            self.kill()
            raise

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def end(self, number: int = signal.SIGTERM) -> tuple[str, str]:
        """End it politely; what it printed after its port, on both streams."""
        self.process.send_signal(number)
        return self.process.communicate(timeout=DEADLINE_S)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_the_program_prints_its_port_serves_it_and_ends_cleanly(number: int, tmp_path: Path) -> None:
    link = tmp_path / "controller"
    with Program("--link", str(link)) as program:
        assert program.port == str(link)
        with Host(program.port) as host:
            assert host.ask(b"?") == status((0, 0), (0, 0))
            assert host.ask(b"#") == b"0"
        assert program.end(number) == ("", "")
        assert program.process.returncode == 0
    assert not os.path.lexists(link)


def test_the_program_keeps_its_targets_over_a_restart_even_when_killed(tmp_path: Path) -> None:
    options = ("--eeprom", str(tmp_path / "eeprom"), "--generation", "1", "--channels", "3")
    with Program(*options) as program, Host(program.port) as host:
        assert host.ask(b"#") == b"?"
        assert host.ask(b"3-777777") == b"$"
        program.kill()
    with Program(*options) as program, Host(program.port) as host:
        assert host.ask(b"?") == status((0, 0), (0, 0), (-777777, -777777))


def test_the_program_takes_speed_pacing_and_probes() -> None:
    with Program("--speed", "1e9", "--baud-pacing", "--probe", f"{PROBE}=19.5") as program, Host(program.port) as host:
        assert host.ask(b"1+1000") == b"$"
        eventually(lambda: host.ask(b"?") == status((1000, 1000), (0, 0)), "the arrival")
        assert host.ask(b"@" + PROBE.encode()) == b"19.5000"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--channels", "10"], "1 to 9"),
        (["--speed", "0"], "speed"),
        (["--generation", "3"], "generation"),
        (["--link", "/missing/directory/link"], "No such file"),
        (["--eeprom", "setup.cfg"], "no EEPROM"),
        (["--probe", "28"], "--probe"),
        (["--probe", "28=1"], "16 hex digits"),
    ],
)
def test_wrong_options_end_the_program_with_a_message(options: list[str], message: str) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "indi_multifocus.simulator", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert result.returncode != 0
    assert result.stdout == ""
    assert message in result.stderr
    assert "Traceback" not in result.stderr
