# SPDX-License-Identifier: GPL-3.0-or-later
"""Opening the serial port: what may be opened, for us alone, and the message for the user when it cannot be.

Used by `controller.py` (the poll thread opens and closes) and, for the list of ports, by the driver. A port is named by
the path of a terminal device or by pyserial's `socket://host:port`. Nothing else is ever opened: the name comes from
any client of the INDI server, and INDI has no authentication.
"""

from __future__ import annotations

import errno
import fcntl
import grp
import os
import re
import socket
import stat
import termios
from typing import Protocol

import serial
from serial.tools.list_ports import comports

from ..settings.system_text import from_system, to_system

SOCKET = "socket://"

BY_ID = "/dev/serial/by-id"
"""Where udev names serial ports by their devices. It is there while there is such a port."""

_SYSFS = "/sys/dev/char"
"""Where the kernel says of what kind a character device is. Some containers do not have it."""

MAX_NAME = 1023
"""Characters of a port's name."""

MAX_QUOTED = 40
"""Characters of what is no port's name in a message."""

CONNECT_TIMEOUT_S = 5.0
"""For a TCP connection. Less would fail where the first packet is lost (sent again after 1 and 3 s); more would keep a
user waiting who mistyped the address."""


class PortError(Exception):
    """The port cannot be used. The text names the port, what is wrong with it, and what to do."""


class Port(Protocol):
    """An open port: a non-blocking file descriptor, and how to close it."""

    def fileno(self) -> int:
        """The file descriptor to select on, read and write."""

    def close(self) -> None:
        """Close it, so that others may open it."""


def open_port(name: str, baud: int) -> Port:
    """Open `name` at `baud` bits/s, for this process alone, non-blocking, and discard unread data.

    Raises PortError.
    """
    return _open_socket(name) if name.startswith(SOCKET) else _open_serial(name, baud)


def check_name(name: str) -> None:
    """Raise PortError unless `name` is the kind of thing that may be opened; opens nothing."""
    if len(name) > MAX_NAME:
        raise PortError(f"{_quoted(name)} is no port: its name has more than {MAX_NAME} characters")
    if name.startswith(SOCKET):
        _host_and_port(name)
        return
    if not name:
        raise PortError("no port is set: choose one (on Linux often /dev/ttyACM0 or /dev/ttyUSB0)")
    if "://" in name or not os.path.isabs(name) or "\0" in name:
        raise PortError(
            f"{_quoted(name)} is no port: the path of a serial device (/dev/ttyACM0) or {SOCKET}host:port is expected"
        )


def _quoted(name: str) -> str:
    """What is no port's name, as far as it helps to see it. (The path of a port is never cut.)"""
    return repr(name if len(name) <= MAX_QUOTED else f"{name[: MAX_QUOTED - 1]}…")


def stable_name(name: str) -> str:
    """What a controller is known by, whichever name its port has today: its USB serial number, or the USB socket for
    one that has none; else `name`.

    By what the kernel lists, since udev's links may come a moment later than the port.
    """
    device = os.path.realpath(to_system(name))
    for port in comports():
        if os.path.realpath(port.device) == device and port.vid is not None and port.pid is not None:
            return f"usb-{port.vid:04x}-{port.pid:04x}-{port.serial_number or port.location}"
    return name


def _open_serial(name: str, baud: int) -> Port:
    check_name(name)
    path = to_system(name)
    try:
        mode = os.stat(path)
    except OSError as error:
        raise PortError(_why(name, error)) from None
    # Looked at before it is opened: to open some devices (a watchdog) or a FIFO has effects of its own.
    if not stat.S_ISCHR(mode.st_mode) or not _is_terminal(path, mode.st_rdev):
        raise PortError(f"{name} is not a serial port: the path of a serial device (/dev/ttyACM0) is expected")
    try:
        port = serial.Serial(path, baud, timeout=0, exclusive=True)
    except (OSError, ValueError) as error:
        raise PortError(_why(name, error)) from None
    try:
        if not os.path.realpath(path).startswith("/dev/pts/"):
            _keep_others_out(port.fileno())
        _distinguish_no_data_from_hangup(port.fileno())
        port.reset_input_buffer()
        os.set_blocking(port.fileno(), False)
    except OSError as error:
        port.close()
        raise PortError(_why(name, error)) from None
    return port


def _keep_others_out(fd: int) -> None:
    """Refuse further opens of this terminal, also by programs that know nothing of pyserial's lock.

    Not on a pseudo-terminal, where the flag would outlive a driver that was killed. On a serial device it ends with the
    last close.
    """
    fcntl.ioctl(fd, termios.TIOCEXCL)


def _distinguish_no_data_from_hangup(fd: int) -> None:
    """Make a read without data a BlockingIOError, so that a read of no bytes means that the port is gone.

    pyserial sets VMIN to 0, with which a read without data returns no bytes, too.
    """
    attributes = termios.tcgetattr(fd)
    attributes[6][termios.VMIN] = 1
    termios.tcsetattr(fd, termios.TCSANOW, attributes)


def _is_terminal(name: str, device: int) -> bool:
    """Whether the character device is a terminal (or pseudo-terminal). It is opened only where there is no sysfs."""
    if os.path.realpath(name).startswith("/dev/pts/"):
        return True
    link = f"{_SYSFS}/{os.major(device)}:{os.minor(device)}/subsystem"
    try:
        return os.path.basename(os.readlink(link)) == "tty"
    except OSError:
        return not os.path.isdir(_SYSFS) and _is_terminal_when_opened(name)


def _is_terminal_when_opened(name: str) -> bool:
    try:
        fd = os.open(name, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    except OSError:
        return True  # when it is opened as a port, that says why not
    try:
        return os.isatty(fd)
    finally:
        os.close(fd)


_NUMBER = re.compile("[0-9]{1,5}")


def _host_and_port(name: str) -> tuple[str, int]:
    host, _, number = name[len(SOCKET) :].rpartition(":")
    if not host or not _NUMBER.fullmatch(number) or not 0 < int(number) < 65536:
        expected = f"{SOCKET}host:port is expected, with a port from 1 to 65535"
        raise PortError(f"{_quoted(name)} is no network port: {expected}")
    return host.strip("[]"), int(number)


def socket_address(name: str) -> tuple[str, str]:
    """Host and port number of a `socket://host:port`; two empty texts where `name` is none."""
    if not name.startswith(SOCKET):
        return "", ""
    try:
        host, number = _host_and_port(name)
    except PortError:  # reported when it is to be opened
        return "", ""
    return host, str(number)


class _Socket:
    """A TCP connection as a port."""

    def __init__(self, name: str) -> None:
        self._serial = serial.serial_for_url(name, timeout=0)

    def fileno(self) -> int:
        return int(self._serial.fileno())

    def close(self) -> None:
        self._serial.close()


def _open_socket(name: str) -> Port:
    host, number = _host_and_port(name)
    try:
        port = _Socket(name)
    except (OSError, ValueError, serial.SerialException) as error:
        raise PortError(_why_socket(host, number, error)) from None
    # One command is one small packet: Nagle's algorithm would hold it back for the acknowledgement of the last.
    with socket.socket(fileno=os.dup(port.fileno())) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    os.set_blocking(port.fileno(), False)
    return port


def _why_socket(host: str, number: int, error: Exception) -> str:
    return (
        f"cannot reach the controller at {host} port {number} ({_plain(error)}): "
        "is the address right, and the serial-to-network bridge running?"
    )


def _plain(error: BaseException) -> str:
    code = getattr(error, "errno", None)
    return os.strerror(code) if isinstance(code, int) else str(error)


def _why(name: str, error: Exception) -> str:
    """What went wrong with a serial port, and the remedy."""
    code = getattr(error, "errno", None)
    text = str(error)
    if code in (errno.ENOENT, errno.ENXIO, errno.ENODEV):
        others = ", ".join(list_ports()) or "none is there"
        return f"port {name} does not exist: is the controller plugged in and powered? Ports on this machine: {others}"
    if code in (errno.EACCES, errno.EPERM):
        return (
            f"no permission to open port {name}: add the user that runs indiserver to the port's group "
            f"({_group(name)}) and log in again"
        )
    if code in (errno.EBUSY, errno.EAGAIN, errno.EWOULDBLOCK) or "exclusively lock" in text:
        return f"port {name} is in use by another program: end that one (fuser -v {name} names it) and connect again"
    if code in (errno.ENOTTY, errno.EINVAL):
        return f"{name} is not a serial port: the path of a serial device (/dev/ttyACM0) is expected"
    return f"cannot open port {name}: {_plain(error)}"


def _group(name: str) -> str:
    try:
        return f"sudo usermod -aG {grp.getgrgid(os.stat(to_system(name)).st_gid).gr_name} <user>"
    except (OSError, KeyError):
        return "often dialout"


def list_ports() -> list[str]:
    """Serial ports of this machine, the stable /dev/serial/by-id names first, then the device names."""
    try:
        stable = sorted(os.path.join(BY_ID, entry) for entry in os.listdir(BY_ID))
    except OSError:
        stable = []
    # Boards that are USB devices; of the built-in UARTs most machines have dozens that are not there.
    devices = sorted(port.device for port in comports() if port.vid is not None)
    return [from_system(path) for path in stable + devices]
