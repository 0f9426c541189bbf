# SPDX-License-Identifier: GPL-3.0-or-later
"""What `focus status` prints, of this focusd and of rockit-astro/focusd of either generation.

The first generation reports `status_N` for each channel, its successor `status` of the whole box, `moving_N`, fans and
temperatures; ours reports all of these.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from . import codes

Status = Mapping[str, Any]
"""What report_status returned."""


def summary(status: Status, labels: Mapping[str, str], channels: Iterable[int]) -> list[str]:
    """The lines. `labels`: what to call the temperature probes."""
    style = Style()
    lines = [f"Data received {style.bold(_date(status))}:"]
    lines += [f"Channel {channel}: {_channel(status, channel, style)}" for channel in channels]
    if "fans_enabled" in status and status.get("fans_available", True):  # the old focusd does not say which
        lines.append(f"OTA fans: {style.bold('ENABLED' if status['fans_enabled'] else 'DISABLED')}")
    if labels:
        lines.append("Temperature probes:")
        width = max(map(len, labels.values()))
        for probe, label in labels.items():
            celsius = status["temperature"].get(probe)
            shown = style.bold("UNKNOWN") if celsius is None else f"{style.bold(f'{celsius:.1f}')} °C"
            lines.append(f"   {label + ':':<{width + 1}} {shown}")
    return lines


def channel_state(status: Status, channel: int) -> int:
    """codes.OFFLINE, IDLE or MOVING."""
    known = status.get(f"status_{channel}")
    if known is None:
        known = codes.MOVING if status.get(f"moving_{channel}") else codes.IDLE
        known = known if status.get("status") and f"current_steps_{channel}" in status else codes.OFFLINE
    return int(known)


def on_terminal() -> bool:
    """Whether standard output is a terminal that can draw."""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


class Style:
    """Bold and colours, where people look at them."""

    def __init__(self) -> None:
        self._on = sys.stdout.isatty() and os.environ.get("TERM") != "dumb" and not os.environ.get("NO_COLOR")

    def bold(self, text: str, colour: str = "") -> str:
        """`colour`: the number of the ANSI sequence."""
        return f"\033[1{';' if colour else ''}{colour}m{text}\033[0m" if self._on else text

    def red(self, text: str) -> str:
        """For what does not work."""
        return self.bold(text, "31")

    def yellow(self, text: str) -> str:
        """For what is on its way."""
        return self.bold(text, "33")


def _date(status: Status) -> str:
    return str(status.get("date", "?")).replace("T", " ").replace("Z", "")


def _channel(status: Status, channel: int, style: Style) -> str:
    state = channel_state(status, channel)
    if state == codes.OFFLINE:
        return style.red("OFFLINE")
    steps = f"{status[f'current_steps_{channel}']:+07d}"
    if state != codes.MOVING:
        return f"{style.bold(steps)} steps"
    target = f"{status[f'target_steps_{channel}']:+07d}"
    return f"{style.yellow(steps)} steps (moving to {style.bold(target)} steps)"
