# SPDX-License-Identifier: GPL-3.0-or-later
"""The checks of `focus doctor` about the serial port and what is at its other end.

A port that some program has is left alone, unless the user says otherwise: two that ask take each other's answers.
"""

from __future__ import annotations

import errno
import fcntl
import grp
import os
import pwd
import re
import select
import stat
import sys
import termios
import time
import tty
from collections.abc import Iterator
from typing import NamedTuple

from indi_multifocus.settings.configuration import Config

from .doctor_network import Indi
from .finding import NOTE, OK, PROBLEM, Finding

ANSWER_S = 2.0
"""For the controller, which may be in a temperature measurement of 1 s."""
MEMORY = 1
"""Major number of /dev/null and its like: devices.txt of Linux."""
TRIES = 3
"""A first answer may be the end of somebody's half line."""
_STATUS = re.compile(rb"^(T\d=[+-]\d{6,7},C\d=[+-]\d{6,7},?)+$")


class Holder(NamedTuple):
    """A process that can write to the port."""

    pid: int
    name: str


def port(config: Config, indi: Indi | None, interactive: bool) -> Iterator[Finding]:
    """Is it there, may we, who has it, and is it the controller."""
    path = config.serial_port
    if "://" in path:
        yield Finding("port", NOTE, f"{path} is in the network; it is not looked at")
        return
    try:
        mode = os.stat(path)
    except OSError as error:
        remedy = "plug the controller in; ls -l /dev/serial/by-id shows what is there"
        yield Finding("port", PROBLEM, f"{path}: {error.strerror}", remedy)
        return
    real = os.path.realpath(path)
    name = path if real == path else f"{path} ({real})"
    if not stat.S_ISCHR(mode.st_mode) or os.major(mode.st_rdev) == MEMORY:
        yield Finding("port", PROBLEM, f"{name} is no serial port", "let serial_port name the controller's")
        return
    if not os.access(path, os.R_OK | os.W_OK):
        group = _group(mode.st_gid)
        remedy = f"sudo usermod -aG {group} $USER, and log in anew"
        yield Finding("port", PROBLEM, f"{name} is there; {_user()} may not open it, its group {group} may", remedy)
        return
    yield Finding("port", OK, f"{name} is there, and {_user()} may open it")
    holders, hidden = holders_of(mode.st_rdev)
    if holders:
        who = " and ".join(f"{holder.name} (process {holder.pid})" for holder in holders[:3])
        ours = any("indi_multifocus" in holder.name for holder in holders)
        yield Finding("port in use", OK if ours else NOTE, f"by {who}")
        if not (interactive and _agrees(who)):
            yield from _by_driver(config, indi)
            return
    elif hidden and indi is not None and indi.linked:
        yield from _by_driver(config, indi)
        return
    yield _controller(config, path, hidden)


def _by_driver(config: Config, indi: Indi | None) -> Iterator[Finding]:
    if indi is not None and indi.linked:
        yield Finding("firmware", OK, f"generation {indi.generation}, says the driver")
    else:
        yield Finding("firmware", NOTE, "not asked, because the port is in use", "end that program to have it asked")


def _agrees(who: str) -> bool:
    print(f"{who} has the port and may lose an answer. Ask the controller all the same? [y/N] ", end="")
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def holders_of(device: int) -> tuple[list[Holder], bool]:
    """The processes that can write to a device, and whether there are processes that we cannot look into."""
    found, hidden = [], False
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            numbers = os.listdir(f"/proc/{pid}/fd")
        except PermissionError:
            hidden = True
            continue
        except OSError:
            continue  # it has ended
        if any(_writes_to(pid, number, device) for number in numbers):
            found.append(Holder(int(pid), _name(pid)))
    return found, hidden


def _writes_to(pid: str, number: str, device: int) -> bool:
    try:
        status = os.stat(f"/proc/{pid}/fd/{number}")
        if not stat.S_ISCHR(status.st_mode) or status.st_rdev != device:
            return False
        with open(f"/proc/{pid}/fdinfo/{number}", encoding="ascii") as file:
            flags = re.search(r"^flags:\s*([0-7]+)", file.read(), re.MULTILINE)  # proc(5)
    except OSError:
        return False
    return flags is not None and int(flags[1], 8) & os.O_ACCMODE != os.O_RDONLY


def _name(pid: str) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = [word.decode("utf-8", "replace") for word in file.read().split(b"\0") if word]
    except OSError:
        return "?"
    if any("indi_multifocus" in word for word in words):
        return "indi_multifocus"
    return os.path.basename(words[0]) if words else "?"


def _controller(config: Config, path: str, hidden: bool) -> Finding:
    """Ask what is at the other end."""
    try:
        found = ask(path, config.serial_baud)
    except termios.error:
        return Finding("firmware", PROBLEM, f"{path} is no serial port", "let serial_port name the controller's")
    except OSError as error:
        if error.errno in (errno.EBUSY, errno.EAGAIN):
            remedy = "sudo focus doctor says which program has it" if hidden else "end the program that has it"
            return Finding("port in use", PROBLEM, f"{path} is locked by another program", remedy)
        return Finding("port in use", PROBLEM, f"{path}: {error.strerror or error}", "unplug it and plug it in again")
    if found is None:
        remedy = "is it another instrument's port? is the controller powered?"
        return Finding("firmware", PROBLEM, f"what is at {path} does not answer as the controller does", remedy)
    generation, channels = found
    text = f"the controller, generation {generation}, {channels} channel{'s' if channels > 1 else ''}"
    if channels != config.channels:
        remedy = f'"channels": {channels}'
        return Finding("firmware", PROBLEM, f"{text}; {config.channels} in the configuration", f"set {remedy} there")
    return Finding("firmware", OK, text)


def ask(path: str, baud: int) -> tuple[int, int] | None:
    """Generation and number of channels of the controller at this port; None where that is none. Raises OSError."""
    fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.ioctl(fd, termios.TIOCEXCL)
        tty.setraw(fd)
        settings = termios.tcgetattr(fd)
        settings[4] = settings[5] = getattr(termios, f"B{baud}")
        termios.tcsetattr(fd, termios.TCSANOW, settings)
        for _ in range(TRIES):
            status = _answer(fd, b"?\n")
            if _STATUS.match(status):
                # Generation 1 answers ? to what it does not know.
                return (1 if _answer(fd, b"#\n") == b"?" else 2), status.count(b"T")
        return None
    finally:
        fcntl.ioctl(fd, termios.TIOCNXCL)
        os.close(fd)


def _answer(fd: int, command: bytes) -> bytes:
    """The first line that comes after `command`, without its end; empty where none does."""
    termios.tcflush(fd, termios.TCIFLUSH)
    os.write(fd, command)
    data, end_s = b"", time.monotonic() + ANSWER_S
    while b"\n" not in data and len(data) < 1000:
        if not select.select([fd], [], [], max(0.0, end_s - time.monotonic()))[0]:
            return b""
        more = os.read(fd, 1000)
        if not more:
            return b""
        data += more
    return data.split(b"\n")[0].strip()


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return f"user {os.geteuid()}"


def _group(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)
