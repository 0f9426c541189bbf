# SPDX-License-Identifier: GPL-3.0-or-later
"""The checks of `focus doctor` about names, focusd, the INDI server and who can reach them."""

from __future__ import annotations

import re
import socket
from collections.abc import Generator, Iterator
from typing import NamedTuple

from indi_multifocus import __version__
from indi_multifocus.settings.configuration import Config, ConfigError

from .directory import Daemon, Directory
from .finding import NOTE, OK, PROBLEM, Finding
from .server import answers, is_this_machine
from .session import Session

ANSWER_S = 3.0
"""For focusd or indiserver, which may be on another machine."""
MAX_ANSWER = 1_000_000
"""Bytes of definitions that are read: those of many devices."""


class Surroundings(NamedTuple):
    """What the names mean."""

    host: str
    """Where focusd runs."""
    here: bool
    """That is this machine."""
    daemon: Daemon | None


class Indi(NamedTuple):
    """What an INDI server says of the first channel."""

    driver: str
    """DRIVER_EXEC; empty where the device is not there."""
    generation: str
    linked: bool


def names(path: str, config: Config) -> Generator[Finding, None, Surroundings]:
    """The names of daemon and machines."""
    try:
        directory = Directory(path)
        daemon = directory.daemon(config.daemon)
        addresses = {name: directory.machine(name) for name in config.control_machines}
    except ConfigError as error:
        yield Finding("names", PROBLEM, str(error), "name it in registry.json beside the configuration")
        return Surroundings("another machine", False, None)
    here = is_this_machine(daemon.host)
    where = f"{config.daemon} is {daemon.host}:{daemon.port}{', this machine' if here else ''}"
    yield Finding("names", OK, f"{where}; control machines: {', '.join(f'{n} ({a})' for n, a in addresses.items())}")
    own = _own_address(daemon)
    if own in addresses.values():
        yield Finding("control", OK, "this machine may move the focusers")
    else:
        remedy = f"to change that, add its name to control_machines: its address is {own}"
        yield Finding("control", NOTE, "this machine may watch and not move the focusers", remedy if own else "")
    return Surroundings(daemon.host, here, daemon)


def _own_address(daemon: Daemon) -> str:
    """Ours, as focusd sees it; empty where there is no way to it."""
    try:
        family, _, _, _, address = socket.getaddrinfo(daemon.host, daemon.port, 0, socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(address)  # sends nothing
            return str(probe.getsockname()[0])
    except OSError:
        return ""


def focusd(path: str, config: Config, surroundings: Surroundings) -> Iterator[Finding]:
    """Is it up, and the same version."""
    daemon = surroundings.daemon
    if daemon is None:
        return
    start = "sudo systemctl start focusd@<config>, or ./focusd <config>.json"
    if not answers(daemon.host, daemon.port):
        where = "" if surroundings.here else f", on {daemon.host}; or open its port in the firewall there"
        yield Finding("focusd", PROBLEM, f"nothing answers at {daemon.host}:{daemon.port}", start + where)
        return
    try:
        with Session(path, config).focusd(ANSWER_S) as proxy:
            status = proxy.report_status() or {}
    except Exception as error:  # whatever Pyro, or a program that is no focusd, makes of it
        text = f"what answers at {daemon.host}:{daemon.port} is no {daemon.name}: {error}"
        yield Finding("focusd", PROBLEM, text, "see which program has that port: ss -ltnp")
        return
    version = str(status.get("software_version", "unknown"))
    if version != __version__:
        text = f"up, in version {version}; this focus is {__version__}"
        yield Finding("focusd", NOTE, text, "after an upgrade: sudo systemctl restart focusd@<config>")
    else:
        yield Finding("focusd", OK, f"up, version {version}")
    online = status.get("status", int(all(status.get(f"status_{n}") for n in range(1, config.channels + 1))))
    if online:
        yield Finding("controller", OK, "connected")
    else:
        yield Finding("controller", PROBLEM, "focusd is not connected to it", "focus init")


def indi_server(config: Config) -> Generator[Finding, None, Indi | None]:
    """Is it up, and with which driver."""
    where = f"{config.indi_host}:{config.indi_port}"
    device = config.labels.get(1) or "MultiFocus 1"
    try:
        answer = _ask_indi(config.indi_host, config.indi_port, device)
    except OSError as error:
        text = f"none at {where} ({error.strerror or error}); focusd starts one where it runs on the same machine"
        yield Finding("INDI server", NOTE, text)
        return None
    if "FOCUS_LINK" not in answer and "DRIVER_INFO" not in answer:
        others = sorted(set(re.findall(r'device="([^"]*)"', answer)))
        text = f"{where} has no {device}" + (f", but {', '.join(others[:5])}" if others else "")
        yield Finding(
            "INDI server", PROBLEM, text, "start the driver there, or give this configuration another indi_port"
        )
        return None
    indi = Indi(_value(answer, "DRIVER_EXEC"), _value(answer, "GENERATION"), _value(answer, "LINK") == "up")
    version = _value(answer, "DRIVER_VERSION")
    if indi.driver != "indi_multifocus":
        text = f"{where} has {device} by another driver, {indi.driver}"
        yield Finding("INDI server", PROBLEM, text, "stop that driver")
    elif version != __version__:
        text = f"{where}, the driver in version {version}; this is {__version__}"
        yield Finding("INDI server", NOTE, text, "restart what runs it, as after an upgrade")
    else:
        yield Finding("INDI server", OK, f"{where}, with indi_multifocus {version}")
    return indi


def _ask_indi(host: str, port: int, device: str) -> str:
    """What it says of a device, or where it has none of that name, of all."""
    answer = b""
    with socket.create_connection((host, port), timeout=ANSWER_S) as connection:
        connection.sendall(b'<getProperties version="1.7"/>\n')
        connection.settimeout(ANSWER_S / 3)
        wanted = f'device="{device}" name="FOCUS_LINK_INFO"'.encode()
        try:
            while len(answer) < MAX_ANSWER and not re.search(wanted + rb".*?</def", answer, re.DOTALL):
                data = connection.recv(65536)
                if not data:
                    break
                answer += data
        except socket.timeout:
            pass  # that was all
    text = answer.decode("utf-8", "replace")
    own = re.findall(rf'<(\w+) device="{re.escape(device)}".*?</\1>', text, re.DOTALL)
    if not own:
        return text
    return "".join(found[0] for found in re.finditer(rf'<(\w+) device="{re.escape(device)}".*?</\1>', text, re.DOTALL))


def _value(answer: str, element: str) -> str:
    found = re.findall(rf'<defText name="{element}"[^>]*>\s*([^<]*?)\s*</defText>', answer)
    return found[-1] if found else ""


def listening(config: Config, surroundings: Surroundings) -> Iterator[Finding]:
    """On which addresses they listen, for the firewall."""
    if not surroundings.here or surroundings.daemon is None:
        return
    for name, port in (("focusd", surroundings.daemon.port), ("INDI server", config.indi_port)):
        addresses = sorted(_listeners(port))
        if not addresses:
            continue
        if all(address.startswith("127.") or address == "::1" for address in addresses):
            yield Finding(f"{name}'s port", OK, f"{port} is open to this machine alone")
        elif name == "focusd":
            remedy = f"for other machines: sudo firewall-cmd --permanent --add-port={port}/tcp"
            yield Finding(f"{name}'s port", OK, f"{port} listens on {', '.join(addresses)}", remedy)
        else:
            text = f"{port} listens on {', '.join(addresses)}, and asks nobody for a name"
            remedy = "keep it closed in the firewall, or open to observers' machines alone: docs/observatory.md"
            yield Finding(f"{name}'s port", NOTE, text, remedy)


def _listeners(port: int) -> set[str]:
    """The local addresses on which anybody listens on this TCP port: proc(5), /proc/net/tcp."""
    found = set()
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        try:
            with open(f"/proc/net/{table}", encoding="ascii") as file:
                rows = [line.split() for line in file.readlines()[1:]]
        except OSError:
            continue
        for row in rows:
            address, _, number = row[1].partition(":")
            if row[3] == "0A" and int(number, 16) == port:
                words = [int(address[at : at + 8], 16).to_bytes(4, "little") for at in range(0, len(address), 8)]
                found.add(socket.inet_ntop(family, b"".join(words)))
    return found
