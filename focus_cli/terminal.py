# SPDX-License-Identifier: GPL-3.0-or-later
"""Single keys from a terminal: its mode while they are read, and what the bytes mean. Used by watch.py.

The bytes are those of xterm (ECMA-48 and its application mode), which terminals and ssh send.
"""

from __future__ import annotations

import os
import termios
import tty
from types import TracebackType

IN, OUT, FAR_IN, FAR_OUT, STOP, QUIT, PREVIOUS, NEXT = "in", "out", "far in", "far out", "stop", "quit", "up", "down"

_KEYS = {
    b"q": QUIT,
    b"Q": QUIT,
    b" ": STOP,
    b"\t": NEXT,
    b"\x1b[Z": PREVIOUS,
    b"i": IN,
    b"o": OUT,
    b"I": FAR_IN,
    b"O": FAR_OUT,
    b"\x1b[5~": FAR_OUT,  # page up
    b"\x1b[6~": FAR_IN,  # page down
    **{b"%d" % channel: str(channel) for channel in range(1, 10)},
}
for _letter, _meaning in ((b"A", PREVIOUS), (b"B", NEXT), (b"C", OUT), (b"D", IN)):
    _KEYS[b"\x1b[" + _letter] = _KEYS[b"\x1bO" + _letter] = _meaning


class Keyboard:
    """A context in which the terminal on standard input gives each key at once and shows none."""

    def __enter__(self) -> Keyboard:
        self._settings = termios.tcgetattr(0)
        self._rest = b""
        tty.setcbreak(0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        termios.tcflush(0, termios.TCIFLUSH)  # a key that is held down is not for the shell
        termios.tcsetattr(0, termios.TCSADRAIN, self._settings)

    def fileno(self) -> int:
        """For select."""
        return 0

    def read(self) -> list[str]:
        """What was typed since; a channel is its digit. QUIT where the terminal has gone."""
        try:
            data = os.read(0, 1024)
        except OSError:
            return [QUIT]
        if not data:
            return [QUIT]
        keys, self._rest = decode(self._rest + data)
        return keys


def decode(data: bytes) -> tuple[list[str], bytes]:
    """The keys in `data`, and what may be the beginning of one. What means nothing is left out."""
    keys = []
    while data:
        length = next((length for length in range(4, 0, -1) if data[:length] in _KEYS), 0)
        if length:
            keys.append(_KEYS[data[:length]])
        elif any(known.startswith(data) for known in _KEYS):
            return keys, data
        data = data[length or 1 :]
    return keys, b""
