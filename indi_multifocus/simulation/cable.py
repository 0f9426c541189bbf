# SPDX-License-Identifier: GPL-3.0-or-later
"""The pseudo-terminal between a simulated controller and its host, and a symbolic link to it.

The companion of `simulator.py`, which calls it from one thread, or under its lock.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import termios
import tty
from contextlib import suppress

from indi_multifocus.threads import WakePipe

_READ_SIZE = 4096

# How long the firmware waits for a host that does not read (LUFA's stream timeout), before it drops the rest.
_SEND_TIMEOUT_S = 0.1

# Linux constants that the standard library lacks (asm-generic/ioctls.h, linux/inotify.h).
_TIOCGEXCL = 0x80045440
_IN_CLOSE_WRITE = 0x8


class Cable:
    """A pseudo-terminal: a serial port for the host, and our end of it.

    Our own handle of the host's end keeps the terminal, and what is unread in it, when the host closes.
    But it also keeps the claim (TIOCEXCL) of a host that was killed, while a real port is free with the last
    close.  So closes are watched, and the claim ends with the last.
    """

    def __init__(self) -> None:
        self._ours, theirs = os.openpty()
        self._keeper = self._watch = -1
        self._unsent = bytearray()
        self.gives_up_at: float | None = None
        try:
            tty.setraw(theirs)
            os.set_blocking(self._ours, False)
            self.path = os.ttyname(theirs)
            self._keeper = self._open_keeper()
            self._watch = _watch_closes(self.path)
        except BaseException:
            self.close()
            raise
        finally:
            os.close(theirs)

    def close(self) -> None:
        for fd in (self._watch, self._ours, self._keeper):
            if fd >= 0:
                os.close(fd)

    def _open_keeper(self) -> int:
        # For reading only, so that its own closing is none of the closes that are watched.
        return os.open(self.path, os.O_RDONLY | os.O_NOCTTY)

    @property
    def congested(self) -> bool:
        """Whether the host has yet to take what was sent."""
        return bool(self._unsent)

    def wait(self, wake: WakePipe, timeout_s: float | None, *, reading: bool) -> None:
        """Sleep until something happens."""
        sources = [wake.fileno(), *(fd for fd in (self._watch, self._ours if reading else -1) if fd >= 0)]
        select.select(sources, [self._ours] if self._unsent else [], [], timeout_s)

    def release_if_closed(self) -> None:
        """End a host's claim to the port, if that host has closed it or died."""
        if self._watch >= 0 and _drain(self._watch):
            self.in_use()

    def in_use(self) -> bool:
        """Whether a host has the port open.  Our end sees a hang-up if nobody has, ourselves included."""
        claimed = fcntl.ioctl(self._keeper, _TIOCGEXCL, b"\0" * 4) != b"\0" * 4
        if claimed:
            fcntl.ioctl(self._keeper, termios.TIOCNXCL)
        os.close(self._keeper)
        poll = select.poll()
        poll.register(self._ours, 0)
        hung_up = bool(poll.poll(0))
        self._keeper = self._open_keeper()
        if claimed and not hung_up:
            fcntl.ioctl(self._keeper, termios.TIOCEXCL)
        return not hung_up

    def read(self) -> bytes:
        try:
            return os.read(self._ours, _READ_SIZE)
        except OSError:
            return b""

    def write(self, data: bytes, now: float) -> None:
        """Send; the controller does nothing else until the host took it, or the firmware gives up."""
        self._unsent += data
        self.flush(now)

    def flush(self, now: float) -> None:
        """Go on with what the terminal did not take yet."""
        try:
            while self._unsent:
                del self._unsent[: os.write(self._ours, self._unsent)]
                self.gives_up_at = None
        except OSError:
            if self.gives_up_at is None:
                self.gives_up_at = now + _SEND_TIMEOUT_S
            elif self.gives_up_at <= now:
                self._unsent.clear()
                self.gives_up_at = None


def _watch_closes(path: str) -> int:
    """A descriptor that is readable after a close by one who could write; -1 where there is no inotify."""
    try:
        libc = ctypes.CDLL(None)
        watch = int(libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        if watch >= 0:
            libc.inotify_add_watch(watch, os.fsencode(path), _IN_CLOSE_WRITE)
    except (OSError, AttributeError):
        return -1
    return watch


def _drain(fd: int) -> bool:
    """Read all there is; whether there was anything."""
    found = False
    with suppress(BlockingIOError):
        while os.read(fd, _READ_SIZE):
            found = True
    return found


def make_link(target: str, link: str) -> None:
    """Point `link` at `target` in one step; an older link is replaced, anything else left alone."""
    if os.path.lexists(link) and not os.path.islink(link):
        raise ValueError(f"{link} exists and is not a symbolic link")
    new = f"{link}.{os.getpid()}.new"
    os.symlink(target, new)
    os.replace(new, link)


def remove_link(target: str, link: str) -> None:
    with suppress(OSError):  # somebody else's by now, or gone
        if os.readlink(link) == target:
            os.unlink(link)
