# SPDX-License-Identifier: GPL-3.0-or-later
"""The names of INDI devices: which ones INDI's own tools can carry, and what the channels' devices are called.

Used by the driver and by focusd, which have to agree. What is refused was found out with indi_getprop, indi_setprop and
chained indiservers (1.9.9): every printable ASCII character at the start, in the middle and at the end of a name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from .system_text import variable

PREFIX_VARIABLE = "INDIDEV"
"""Replaces the prefix of devices' names, as in libindi's drivers."""
PREFIX = "MultiFocus"
MAX_BYTES = 63
"""libindi keeps a device's name in 64 bytes (MAXINDIDEVICE)."""

CONTROL = r"\x00-\x1f\x7f-\x9f\u2028\u2029\ufffe\uffff"
# In the arguments of indi_getprop and indi_setprop . = ; and * have a meaning, and a leading - makes an option of them;
# indi_setprop puts & and ' into its XML as they are. In indiserver's arguments @ and : have a meaning, and so has " in
# its FIFO. A device's saved settings are a file that bears its name.
_REFUSED = CONTROL + r".=;*@:/\\&'" + '"'
MAX_QUOTED = 40
"""Characters of a name in an error."""
PATTERN = rf"^(?![ -])[^{_REFUSED}]+(?<! )\Z"
EXPECTED = (
    f"a name of 1 to {MAX_BYTES} bytes is expected, without . = ; * @ : / \\ & ' \" and outer blanks, "
    "and with no - in front: INDI's tools cannot address others"
)
_NAME = re.compile(PATTERN)


def check_device_name(name: str) -> None:
    """Raises ValueError, whose text is what is expected, for a name that INDI's tools cannot address."""
    if not _NAME.match(name) or len(name.encode("utf-8", "surrogateescape")) > MAX_BYTES:
        raise ValueError(EXPECTED)
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ValueError("UTF-8 text is expected") from None


def device_names(channels: int, labels: Mapping[int, str]) -> dict[int, str]:
    """The device of each channel from 1 on: its label, or the prefix and its number.

    Raises ValueError, whose text names INDIDEV and what is expected of it; labels were checked with the
    configuration.
    """
    prefix = variable(PREFIX_VARIABLE) or PREFIX
    names: dict[int, str] = {}
    for channel in range(1, channels + 1):
        name = labels.get(channel) or f"{prefix} {channel}"
        if channel not in labels:
            try:
                check_device_name(name)
            except ValueError as error:
                raise ValueError(f"{PREFIX_VARIABLE}: {_shown(prefix)}: {error}") from None
        names[channel] = name
    for channel, name in names.items():
        if any(other != channel and names[other] == name for other in names):
            clash = f"two channels would be named {_shown(name)}: another prefix or label is expected"
            raise ValueError(f"{PREFIX_VARIABLE}: {_shown(prefix)}: {clash}")
    return names


def _shown(text: str) -> str:
    shown = "".join(character if character.isprintable() else "?" for character in text[:MAX_QUOTED])
    return f'"{shown}{"…" if len(text) > MAX_QUOTED else ""}"'
