# SPDX-License-Identifier: GPL-3.0-or-later
"""focusd's TCP port: no client, of whatever kind and number, keeps a control machine's stop waiting.

Pyro's own servers have a thread for each connection, or block in the handshake of one for all. Here:

- One thread does all input and output, and waits for nobody. It collects a client's message; only a whole one goes
  further. Everything has a deadline from its first byte on: handshake, message, taking the reply; idle connections too.
- A message from a control machine gets a thread of its own, because its call may last as long as a move.
- Messages from all others, who may ask for the status alone, take turns in one thread.
- Each address has a number of connections, and so have all that are no control machines together. One connection more
  closes the one of them that has been idle longest.

Pyro reads the message from, and writes the reply to, a `Client`, which it takes for a connection.
"""

from __future__ import annotations

import errno
import ipaddress
import math
import queue
import selectors
import socket
import threading
import time
from typing import Any, Callable, Union

import Pyro4
from Pyro4.message import MSG_CONNECT, MSG_INVOKE, MSG_PING, Message
from Pyro4.socketutil import SocketConnection

from . import literals
from .log import Log
from .net import watch_peer
from .threads import describe, keep_running

HANDSHAKE_S = 5.0
"""From the connection to the last byte of the handshake."""
MESSAGE_S = 5.0
"""From the first byte of a message to its last."""
REPLY_S = 10.0
"""For a client to take a reply."""
IDLE_S = 50.0
"""A connection that is not a control machine's is closed after this time without a call."""
CONTROL_IDLE_S = 3600.0
"""The same of a control machine, whose programs keep their connections."""
CHECK_S = 0.5
"""Time between two looks at the deadlines."""
MAX_EACH, MAX_OTHERS = 32, 128
"""Connections of one address that is not a control machine's, and of all these together."""
MAX_CONTROL = 200
"""Connections of all control machines together; each takes a thread while a call is in progress."""
BACKLOG = 512
"""Connections that the kernel keeps until they are accepted: more than one machine opens in a burst."""
TELL_S = 600.0
"""Time between two messages about too many connections."""

Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]


def address_of(peer: tuple[Any, ...]) -> Address:
    """The IP address in a socket address; of an IPv4 client of an IPv6 socket it is the IPv4 address."""
    address = ipaddress.ip_address(str(peer[0]).partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped
    return address


class Client(SocketConnection):  # type: ignore[misc]
    """One connection. While `running`, it belongs to the thread that handles its message, else to the listener's."""

    def __init__(self, connection: socket.socket, address: Address, control: bool) -> None:
        super().__init__(connection)
        self.address = address
        self.control = control
        self.introduced = False
        """The handshake is done."""
        self.running = False
        self.received = bytearray()
        self.message = memoryview(b"")
        """What Pyro has not read yet of the message that is being handled."""
        self.reply = bytearray()
        """What is to be sent; nothing is read before it was."""
        self.last = False
        """The connection ends with this reply."""
        self.since_s = time.monotonic()
        """When it last began to wait for something from its client."""
        self.deadline_s = self.since_s + HANDSHAKE_S

    def recv(self, size: int) -> bytes:
        """For Pyro: the next bytes of the message."""
        data = bytes(self.message[:size])
        self.message = self.message[size:]
        if len(data) < size:
            raise Pyro4.errors.ConnectionClosedError("the message ends too early")
        return data

    def send(self, data: bytes) -> None:
        """For Pyro: the reply."""
        self.reply += data

    def next_message(self) -> bytes | None:
        """Take the first message that was received whole.

        Raises Pyro4.errors.ProtocolError where what was received does not begin like one that is accepted now.
        """
        if len(self.received) < Message.header_size:
            return None
        header = Message.from_header(bytes(self.received[: Message.header_size]))
        size = header.data_size + header.annotations_size
        limit = literals.MAX_TEXT if self.introduced else literals.MAX_INTRODUCTION
        if not 0 <= header.data_size <= size <= limit:
            raise Pyro4.errors.ProtocolError("too large")
        if header.type not in ((MSG_INVOKE, MSG_PING) if self.introduced else (MSG_CONNECT,)):
            raise Pyro4.errors.ProtocolError("unexpected kind of message")
        end = Message.header_size + size
        if len(self.received) < end:
            return None
        message = bytes(self.received[:end])
        del self.received[:end]
        return message


class PyroDaemon(Pyro4.Daemon):  # type: ignore[misc]
    """Pyro's side of a message: finds the object, calls the method, writes the reply. Its socket only listens."""

    def __init__(self, host: str, port: int) -> None:
        """Raises OSError."""
        literals.install()
        settings = Pyro4.config
        settings.SERVERTYPE = "multiplex"  # the one without threads; its loop is not used
        settings.REQUIRE_EXPOSE = True
        settings.PREFER_IP_VERSION = 0
        super().__init__(host=host, port=port)

    def _Daemon__deserializeBlobArgs(self, message: object) -> None:
        """Pyro's own passes what a client sent to `marshal`, which is not made for that."""
        raise Pyro4.errors.SerializeError("calls that are to be kept serialized are not accepted")

    def handle(self, client: Client) -> bool:
        """Handle the message of a client; whether the connection goes on. May raise anything."""
        if client.introduced:
            self.handleRequest(client)
            return True
        return bool(self._handshake(client))


class Listener:
    """Serves the objects of `daemon`. `start` is called once, from any thread."""

    def __init__(self, daemon: PyroDaemon, is_control: Callable[[Address], bool], log: Log) -> None:
        self._daemon = daemon
        self._is_control = is_control
        self._log = log
        self._clients: set[Client] = set()
        self._waiting: queue.SimpleQueue[Client] = queue.SimpleQueue()
        """Clients that are not control machines, each with a message."""
        self._done: queue.SimpleQueue[Client] = queue.SimpleQueue()
        """Clients whose message was handled."""
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = socket.socketpair()
        for own in (self._wake_read, self._wake_write, daemon.sock):
            own.setblocking(False)
        daemon.sock.listen(BACKLOG)
        self._selector.register(daemon.sock, selectors.EVENT_READ)
        self._selector.register(self._wake_read, selectors.EVENT_READ)
        self._check_s = 0.0
        self._tell_s = -math.inf

    def start(self) -> None:
        """Begin to accept connections; returns at once."""
        keep_running("Pyro", self._serve, self._log)
        keep_running("status calls", self._handle_waiting, self._log)

    # --- Handling messages ----------------------------------------------------------------------------------------

    def _handle_waiting(self) -> None:
        while True:
            self._handle(self._waiting.get())

    def _handle(self, client: Client) -> None:
        """In the thread of this message, or of all that are not control machines'."""
        try:
            client.last = not self._daemon.handle(client)
        except (Pyro4.errors.PyroError, OSError):
            client.last = True  # not a message that is understood
        except Exception as error:
            client.last = True
            self._log.error(f"a message of {client.address} could not be handled: {describe(error)}")
        self._done.put(client)
        try:
            self._wake_write.send(b"!")
        except BlockingIOError:
            pass  # it is awake

    # --- Input and output: one thread -----------------------------------------------------------------------------

    def _serve(self) -> None:
        while True:
            for key, _ in self._selector.select(CHECK_S if self._clients else None):
                if key.fileobj is self._daemon.sock:
                    self._accept_all()
                elif key.fileobj is self._wake_read:
                    self._take_replies()
                elif key.data in self._clients:  # not closed meanwhile
                    self._attend(key.data, self._send if key.data.reply else self._receive)
            now_s = time.monotonic()
            if now_s >= self._check_s:
                self._check_s = now_s + CHECK_S
                for client in [client for client in self._clients if client.deadline_s <= now_s]:
                    self._close(client)

    def _attend(self, client: Client, step: Callable[[Client], None]) -> None:
        """Do the next step for a client; if that fails, the connection ends, and nothing else."""
        try:
            step(client)
        except (OSError, Pyro4.errors.PyroError):
            self._close(client)
        except Exception as error:
            self._log.error(f"the connection of {client.address} failed: {describe(error)}")
            self._close(client)

    def _accept_all(self) -> None:
        for _ in range(BACKLOG):
            try:
                connection, peer = self._daemon.sock.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self._close_one([client for client in self._clients if not client.control])
                    time.sleep(0.02)  # whoever waits to be accepted stays there
                    return
                continue  # gone already
            try:
                self._accept(connection, address_of(peer))
            except OSError:
                connection.close()

    def _accept(self, connection: socket.socket, address: Address) -> None:
        client = Client(connection, address, self._is_control(address))
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        watch_peer(connection)
        if not self._make_room(client):
            client.close()
            return
        self._clients.add(client)
        self._selector.register(connection, selectors.EVENT_READ, client)

    def _make_room(self, new: Client) -> bool:
        """Close the connection that has been idle longest, where there are too many; whether there is room now."""
        if new.control:
            groups = [([client for client in self._clients if client.control], MAX_CONTROL)]
        else:
            others = [client for client in self._clients if not client.control]
            same = [client for client in others if client.address == new.address]
            groups = [(same, MAX_EACH), (others, MAX_OTHERS)]
        for group, limit in groups:
            if len(group) >= limit:
                self._tell(new.address, len(group))
                if not self._close_one(group):
                    return False
                break
        return True

    def _close_one(self, group: list[Client]) -> bool:
        idle = [client for client in group if not client.running]
        if idle:
            self._close(min(idle, key=lambda client: client.since_s))
        return bool(idle)

    def _tell(self, address: Address, number: int) -> None:
        now_s = time.monotonic()
        if now_s - self._tell_s > TELL_S:
            self._tell_s = now_s
            self._log.warning(f"{number} connections, the newest from {address}: of these the longest idle are closed")

    def _receive(self, client: Client) -> None:
        data = client.sock.recv(literals.MAX_TEXT if client.introduced else literals.MAX_INTRODUCTION)
        if not data:
            self._close(client)
            return
        if client.introduced and not client.received:
            client.deadline_s = time.monotonic() + MESSAGE_S
        client.received += data
        self._next(client)

    def _next(self, client: Client) -> None:
        """Have the next message handled, where it is there. Raises Pyro4.errors.ProtocolError."""
        message = client.next_message()
        if message is None:
            return
        client.message = memoryview(message)
        client.running, client.deadline_s = True, math.inf
        self._selector.unregister(client.sock)
        if client.control:
            threading.Thread(target=self._handle, args=(client,), name=f"call of {client.address}", daemon=True).start()
        else:
            self._waiting.put(client)

    def _take_replies(self) -> None:
        self._wake_read.recv(4096)
        while not self._done.empty():
            self._attend(self._done.get(), self._take_reply)

    def _take_reply(self, client: Client) -> None:
        client.running, client.introduced = False, client.introduced or not client.last
        client.since_s = time.monotonic()
        client.deadline_s = client.since_s + REPLY_S
        self._selector.register(client.sock, selectors.EVENT_WRITE, client)
        self._send(client)

    def _send(self, client: Client) -> None:
        """Send what can be sent of the reply; after its end the next message is read."""
        if client.reply:
            try:
                del client.reply[: client.sock.send(client.reply)]
            except BlockingIOError:
                pass
            if client.reply:
                return
        if client.last:
            self._close(client)
            return
        idle_s = CONTROL_IDLE_S if client.control else IDLE_S
        client.deadline_s = time.monotonic() + (MESSAGE_S if client.received else idle_s)
        self._selector.modify(client.sock, selectors.EVENT_READ, client)
        self._next(client)

    def _close(self, client: Client) -> None:
        self._clients.discard(client)
        try:
            self._selector.unregister(client.sock)
        except (KeyError, ValueError):
            pass  # while its message was handled
        client.close()
