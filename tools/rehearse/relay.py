# SPDX-License-Identifier: GPL-3.0-or-later
"""Between KStars and indiserver: passes everything on at once, and notes the messages about one focuser.

KStars opens several connections (one for each camera's frames); each is served by two threads. Elements of the
focuser are found by their text, so that frames of some megabytes cost nothing.
"""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from dataclasses import dataclass

_NOTED = re.compile(
    rb'<(new|set)(Number|Switch)Vector\s([^>]*?)>(.*?)</\1\2Vector>|<(message)\s([^>]*?)/>', re.DOTALL
)
_ELEMENT = re.compile(rb"<one\w+\s[^>]*name=[\"']([^\"']*)[^>]*>\s*(.*?)\s*</one", re.DOTALL)
_ATTRIBUTE = re.compile(rb"(\w+)\s*=\s*([\"'])(.*?)\2")
_LONGEST = 16_384
"""Elements of a focuser are shorter, in bytes."""


@dataclass(frozen=True)
class Note:
    """A message about the focuser, as it passed."""

    at_s: float
    """Of the monotonic clock."""
    kind: str
    """new (from KStars), set or message (from the driver)."""
    name: str
    state: str
    values: dict[str, str]
    message: str = ""

    def __str__(self) -> str:
        arrow = "→" if self.kind == "new" else "←"
        values = ", ".join(f"{name}={value}" for name, value in self.values.items())
        return " ".join(filter(None, (arrow, self.name, self.state, values, self.message)))


class Relay:
    """A context manager: `port` is where KStars connects to, `server` the indiserver's, `device` the focuser."""

    def __init__(self, server: int, device: str) -> None:
        self.server, self.device = server, device
        self._notes: list[Note] = []
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Relay:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            ending = [self._listener, *self._sockets]
        for connection in ending:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def notes(self, since_s: float = 0.0) -> list[Note]:
        """What has been noted since then, in order."""
        with self._lock:
            return [note for note in self._notes if note.at_s >= since_s]

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self.server))
                with self._lock:
                    self._sockets += [client, server]
                    is_first = len(self._sockets) == 2
                # indiserver passes the requests of each client to the others, and what the driver sends to all.
                for source, sink, kinds in (
                    (client, server, {"new"}),
                    (server, client, {"set", "message"} if is_first else set()),
                ):
                    source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    threading.Thread(target=self._pass_on, args=(source, sink, kinds), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, kinds: set[str]) -> None:
        text = b""
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                at_s = time.monotonic()
                sink.sendall(data)
                if kinds:
                    text = self._note(text + data, at_s, kinds)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def _note(self, text: bytes, at_s: float, kinds: set[str]) -> bytes:
        """Note what is complete, and return the rest."""
        end = 0
        for found in _NOTED.finditer(text):
            end = found.end()
            kind = (found[1] or found[5]).decode()
            attributes = {key.decode(): value.decode() for key, _, value in _ATTRIBUTE.findall(found[3] or found[6])}
            if attributes.get("device") != self.device or kind not in kinds:
                continue
            values = {key.decode(): value.decode() for key, value in _ELEMENT.findall(found[4] or b"")}
            name, state, message = (attributes.get(key, "") for key in ("name", "state", "message"))
            with self._lock:
                self._notes.append(Note(at_s, kind, name, state, values, message))
        return text[max(end, len(text) - _LONGEST) :]
