# SPDX-License-Identifier: GPL-3.0-or-later
"""The numbers that focusd returns and focus exits with, and what they are called. Used by both; imports nothing.

Numbers and messages are those of rockit-astro/focusd (CommandStatus and FocuserStatus in constants.py), of both
generations, because scripts compare them.
"""

from __future__ import annotations

SUCCEEDED = 0
FAILED = 1
BLOCKED = 2
INVALID_CONTROL_IP = 3
INVALID_CHANNEL = 4
POSITION_OUTSIDE_LIMITS = 6
NOT_CONNECTED = 7
NOT_DISCONNECTED = 8

USAGE = -1
"""focus alone: the command was not understood, and its usage was shown."""
TIMED_OUT = 124
"""focus alone: --timeout is over, and the motor still moves. The number is timeout(1)'s."""
TERMINATED = -100
"""focus alone: ended by Ctrl-C or another signal."""
UNREACHABLE = -101
"""focus alone: focusd does not answer."""

_MESSAGES = {
    FAILED: "error: command failed",
    BLOCKED: "error: another command is already running",
    INVALID_CONTROL_IP: "error: command not accepted from this IP",
    INVALID_CHANNEL: "error: invalid channel",
    POSITION_OUTSIDE_LIMITS: "error: requested position outside channel range",
    NOT_CONNECTED: "error: focuser is not connected",
    NOT_DISCONNECTED: "error: focuser is already connected",
    TIMED_OUT: "error: still moving; the motor goes on to its target",
    TERMINATED: "error: terminated by user",
    UNREACHABLE: "error: unable to communicate with focus daemon",
}


def message(code: int) -> str:
    """What a code means, for people."""
    return _MESSAGES.get(code, f"error: Unknown error code {code}")


OFFLINE, IDLE, MOVING = 0, 1, 2
"""`status_N` of a channel. The `status` of the whole box is 0 (offline) or 1."""
