# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading a file that somebody has named, refusing at once what is none: a FIFO, a device, a folder."""

from __future__ import annotations

import errno
import os
import stat

from .system_text import to_system

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def read_regular_file(path: str, limit: int) -> bytes:
    """The first `limit` bytes of a regular file, also by a symbolic link.

    Raises OSError, also for what is no regular file, and ValueError for a path with a zero byte. `strerror` then
    names what it is, as in "this is a FIFO".
    """
    if "\0" in path:
        raise ValueError("embedded null byte")  # as Python up to 3.12 puts it; later ones name their function
    # Without O_NONBLOCK the opening of a FIFO would wait for a writer, and that of a modem for its carrier.
    fd = os.open(to_system(path), os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        mode = os.fstat(fd).st_mode
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, f"this is {_KINDS.get(stat.S_IFMT(mode), 'no file')}", path)
        data = b""
        while len(data) < limit and (more := os.read(fd, limit - len(data))):
            data += more
        return data
    finally:
        os.close(fd)
