# SPDX-License-Identifier: GPL-3.0-or-later
"""Snapshots of the controller, from the poll thread to the main thread: immutable values; the newest has everything.

Used by both threads; a value that exists is complete and never changes. A snapshot may be missed: whatever must not be
missed is a number in it that only grows.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class Link(Enum):
    """The state of the serial link."""

    CLOSED = "closed"
    OPENING = "opening"
    UP = "up"
    LOST = "lost"


class ChannelState(NamedTuple):
    """One channel as of the last status: controller steps, and what became of the last request."""

    target: int
    current: int
    moving: bool
    request: int = 0
    """Number of the last move, stop or zero which this state reflects."""
    fault: str = ""
    """Why the last move failed, for people; empty when it did not."""
    unverified_count: int = 0
    """How often since the link was opened the controller claimed a position at which the motor may not be: it may have
    lost its power in mid-move."""


class Snapshot(NamedTuple):
    """All that is known of the controller at one moment. Channel 1 is `channels[0]`."""

    link: Link = Link.CLOSED
    attempt: int = 0
    """Which `Controller.open()` this belongs to."""
    port: str = ""
    """The port that is open, or that was opened last."""
    reason: str = ""
    """Why the link is CLOSED after an attempt to open it, or LOST; for people."""
    generation: int | None = None
    channels: tuple[ChannelState, ...] = ()
    fans: bool | None = None
    fans_request: int = 0
    """Number of the last request for the fans which `fans` reflects."""
    temperatures: tuple[tuple[str, float | None], ...] = ()
    """(probe address, °C or None where the probe does not answer), for the probes that were read."""
    reconnects: int = 0
