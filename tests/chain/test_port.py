# SPDX-License-Identifier: GPL-3.0-or-later
"""What may be opened as a port, for whom, and the message when it cannot be."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import serial
from support import DEADLINE_S, eventually

from indi_multifocus.controller import port as port_module
from indi_multifocus.controller.port import PortError, check_name, list_ports, open_port, socket_address
from indi_multifocus.simulator import Simulator

pytestmark = pytest.mark.usefixtures("no_thread_is_left")


@pytest.fixture
def bridge() -> Iterator[socket.socket]:
    """A listening network port, as a serial-to-network bridge has."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening


def url(listening: socket.socket) -> str:
    return f"socket://127.0.0.1:{listening.getsockname()[1]}"


def why_not(name: str) -> str:
    with pytest.raises(PortError) as refusal:
        open_port(name, 9600)
    text = str(refusal.value)
    assert "\n" not in text
    return text


def ask(fd: int, command: bytes) -> bytes:
    """Send a line, and wait for the line that answers it."""
    os.write(fd, command)
    reply = bytearray()

    def whole() -> bool:
        try:
            reply.extend(os.read(fd, 4096))
        except BlockingIOError:
            pass
        return reply.endswith(b"\r\n")

    eventually(whole, f"the answer to {command!r}")
    return bytes(reply)


# A serial port


def test_an_open_port_is_a_descriptor_that_does_not_block(simulator: Simulator) -> None:
    port = open_port(simulator.port, 9600)
    with pytest.raises(BlockingIOError):
        os.read(port.fileno(), 1)
    assert ask(port.fileno(), b"?\n") == b"T1=+000000,C1=+000000,T2=+000000,C2=+000000\r\n"
    port.close()


def test_what_was_unread_before_it_was_opened_is_thrown_away(simulator: Simulator) -> None:
    simulator.garbage(b"of yesterday\r\n")
    port = open_port(simulator.port, 9600)
    with pytest.raises(BlockingIOError):
        os.read(port.fileno(), 1)
    port.close()


def test_a_port_may_be_named_by_a_symbolic_link(tmp_path: Path) -> None:
    with Simulator(link=tmp_path / "focuser") as simulator:
        port = open_port(str(tmp_path / "focuser"), 9600)
        assert simulator.in_use()
        port.close()


def test_a_port_is_ours_alone_until_it_is_closed(simulator: Simulator) -> None:
    port = open_port(simulator.port, 9600)
    text = why_not(simulator.port)
    assert simulator.port in text
    assert "in use by another program" in text
    assert "fuser" in text
    with pytest.raises(serial.SerialException):
        serial.Serial(simulator.port, exclusive=True)
    port.close()
    assert not simulator.in_use()
    open_port(simulator.port, 9600).close()


def test_a_port_that_another_process_holds_is_left_to_it(simulator: Simulator) -> None:
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, serial; port = serial.Serial(sys.argv[1], exclusive=True); print('got it', flush=True); "
            "sys.stdin.read()",
            simulator.port,
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"got it\n"
            text = why_not(simulator.port)
        finally:
            holder.communicate(timeout=DEADLINE_S)
    assert simulator.port in text
    assert "in use by another program" in text
    open_port(simulator.port, 9600).close()


def test_a_port_that_forbids_further_opens_is_in_use(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    # Root may open it all the same, so what others get is played.
    def busy(*_: object, **__: object) -> None:
        raise serial.SerialException(errno.EBUSY, f"could not open port {simulator.port}: device or resource busy")

    monkeypatch.setattr(serial, "Serial", busy)
    assert "in use by another program" in why_not(simulator.port)


def test_a_port_without_permission_is_refused_with_the_group_to_join(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise serial.SerialException(errno.EACCES, f"could not open port {simulator.port}: permission denied")

    monkeypatch.setattr(serial, "Serial", forbidden)
    text = why_not(simulator.port)
    assert f"no permission to open port {simulator.port}" in text
    assert "usermod -aG" in text


def test_an_error_of_the_port_s_kernel_driver_is_reported_in_its_words(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise serial.SerialException(errno.EIO, "could not configure port")

    monkeypatch.setattr(serial, "Serial", broken)
    text = why_not(simulator.port)
    assert simulator.port in text
    assert os.strerror(errno.EIO) in text


# What is no serial port


def test_a_port_that_is_not_there_is_named_with_those_that_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(port_module, "list_ports", lambda: ["/dev/ttyACM7", "/dev/ttyUSB3"])
    text = why_not("/dev/ttyNOT_THERE")
    assert text.startswith("port /dev/ttyNOT_THERE does not exist")
    assert "plugged in" in text
    assert "/dev/ttyACM7, /dev/ttyUSB3" in text


def test_a_dangling_link_is_a_port_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "focuser").symlink_to("/dev/ttyNOT_THERE")
    assert "does not exist" in why_not(str(tmp_path / "focuser"))


def test_a_regular_file_is_no_port_and_is_left_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "notes"
    file.write_text("mine")
    text = why_not(str(file))
    assert str(file) in text
    assert "not a serial port" in text
    assert file.read_text() == "mine"


def test_a_folder_is_no_port(tmp_path: Path) -> None:
    assert "not a serial port" in why_not(str(tmp_path))


def test_a_fifo_is_no_port_and_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    # An opener would be the writer without which this end receives nothing.
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert "not a serial port" in why_not(str(path))
        assert os.read(fd, 1) == b""
    finally:
        os.close(fd)


def test_a_socket_in_the_file_system_is_no_port(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        assert "not a serial port" in why_not(str(tmp_path / "socket"))


@pytest.mark.parametrize("device", ["/dev/null", "/dev/zero", "/dev/urandom"])
def test_a_character_device_that_is_no_terminal_is_no_port(device: str) -> None:
    text = why_not(device)
    assert device in text
    assert "not a serial port" in text


def test_where_there_is_no_sysfs_a_device_is_opened_to_see_whether_it_is_a_terminal(
    monkeypatch: pytest.MonkeyPatch, simulator: Simulator
) -> None:
    monkeypatch.setattr(port_module, "_SYSFS", "/not/there")
    real = os.path.realpath  # of a pseudo-terminal its path would be enough
    monkeypatch.setattr(os.path, "realpath", lambda path, **_: f"/x{real(path)}")
    assert "not a serial port" in why_not("/dev/null")
    assert "not a serial port" in why_not("/dev/urandom")
    open_port(simulator.port, 9600).close()


def test_a_path_through_a_file_is_an_error_and_no_surprise(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    assert f"{file}/ttyACM0" in why_not(f"{file}/ttyACM0")


def test_a_name_too_long_for_the_file_system_is_refused() -> None:
    assert "cannot open port /dev/x" in why_not("/dev/" + "x" * 500)


@pytest.mark.parametrize(
    "name",
    [
        "ttyACM0",
        "../dev/ttyACM0",
        "COM3",
        "loop://",
        "spy:///dev/ttyACM0?file=/tmp/x",
        "rfc2217://localhost:1",
        "alt:///dev/ttyACM0",
        "hwgrep://ACM",
        "/dev/tty\0ACM0",
        "http://localhost/",
    ],
)
def test_only_a_path_or_a_socket_is_a_name_of_a_port(name: str) -> None:
    with pytest.raises(PortError, match="serial device"):
        check_name(name)
    assert "serial device" in why_not(name)


def test_no_name_at_all_asks_for_one() -> None:
    assert "no port is set" in why_not("")


@pytest.mark.parametrize("name", ["/dev/ttyACM0", "/dev/serial/by-id/usb-x", "socket://mill:4001", "socket://[::1]:1"])
def test_a_name_is_checked_without_opening_anything(name: str) -> None:
    check_name(name)


# The network


def test_a_socket_is_a_port_like_another(bridge: socket.socket) -> None:
    port = open_port(url(bridge), 9600)
    peer, _ = bridge.accept()
    with peer:
        with pytest.raises(BlockingIOError):
            os.read(port.fileno(), 1)
        os.write(port.fileno(), b"?\n")
        peer.settimeout(DEADLINE_S)
        assert peer.recv(10) == b"?\n"
        port.close()
        assert peer.recv(10) == b""


def test_a_command_on_a_socket_is_not_held_back_for_the_one_before(bridge: socket.socket) -> None:
    port = open_port(url(bridge), 9600)
    with socket.socket(fileno=os.dup(port.fileno())) as connection:
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    port.close()


def test_a_socket_where_nobody_listens_is_refused_with_host_and_port(bridge: socket.socket) -> None:
    number = bridge.getsockname()[1]
    bridge.close()
    text = why_not(f"socket://127.0.0.1:{number}")
    assert f"127.0.0.1 port {number}" in text
    assert os.strerror(errno.ECONNREFUSED) in text


def test_a_host_that_does_not_exist_is_refused_with_its_name() -> None:
    assert "no.such.host.invalid port 4001" in why_not("socket://no.such.host.invalid:4001")


@pytest.mark.parametrize(
    "name",
    ["socket://", "socket://host", "socket://:4001", "socket://host:0", "socket://host:65536", "socket://host:x",
     "socket://host:-1", "socket://host:٣", "socket://host:" + "1" * 240],
)  # fmt: skip
def test_a_socket_without_a_host_or_a_right_port_is_no_name(name: str) -> None:
    with pytest.raises(PortError, match="socket://host:port is expected"):
        check_name(name)
    assert "socket://host:port is expected" in why_not(name)


def test_host_and_number_of_a_socket_are_told_apart() -> None:
    assert socket_address("socket://mill:4001") == ("mill", "4001")
    assert socket_address("/dev/ttyACM0") == ("", "")
    assert socket_address("socket://mill") == ("", "")
    assert socket_address("socket://mill:" + "1" * 5000) == ("", "")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("/dev/" + "x" * 60_000, "more than 1023 characters"),
        ("socket://mill:" + "1" * 5000, "more than 1023 characters"),
        ("x" * 1000, "the path of a serial device"),
        ("socket://" + "x" * 1000, "host:port is expected"),
    ],
)
def test_a_name_of_any_length_is_refused_in_few_words(name: str, why: str) -> None:
    with pytest.raises(PortError, match=why) as refusal:
        check_name(name)
    assert len(str(refusal.value)) < 160


# Looking for ports


def test_the_ports_of_usb_devices_are_listed_the_stable_names_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Found:
        def __init__(self, device: str, vid: int | None) -> None:
            self.device, self.vid = device, vid

    found = [Found("/dev/ttyUSB0", 0x0403), Found("/dev/ttyS0", None), Found("/dev/ttyACM0", 0x03EB)]
    monkeypatch.setattr(port_module, "comports", lambda: found)
    names = ["usb-B-if00", "usb-A-if00"]
    monkeypatch.setattr(os, "listdir", lambda folder: names if folder == "/dev/serial/by-id" else [])
    assert list_ports() == [
        "/dev/serial/by-id/usb-A-if00",
        "/dev/serial/by-id/usb-B-if00",
        "/dev/ttyACM0",
        "/dev/ttyUSB0",
    ]


def test_a_machine_without_ports_has_an_empty_list(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(folder: str) -> list[str]:
        raise FileNotFoundError(folder)

    monkeypatch.setattr(port_module, "comports", list)
    monkeypatch.setattr(os, "listdir", none)
    assert list_ports() == []


def test_a_failure_after_the_opening_leaves_the_port_free(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: serial.Serial) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(serial.Serial, "reset_input_buffer", broken)
    assert os.strerror(errno.EIO) in why_not(simulator.port)
    assert not simulator.in_use()


def test_the_lock_of_the_port_is_the_one_that_other_programs_know(simulator: Simulator) -> None:
    port = open_port(simulator.port, 9600)
    fd = os.open(simulator.port, os.O_RDWR | os.O_NOCTTY)
    try:
        with pytest.raises(BlockingIOError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(fd)
        port.close()
