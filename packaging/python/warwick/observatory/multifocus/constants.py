# SPDX-License-Identifier: GPL-3.0-or-later
"""The codes that focusd returns and reports, under the names by which the observatory's scripts know them."""

from __future__ import annotations

from focus_cli import codes

_BOLD, _RED, _YELLOW, _CLEAR = "\033[1m", "\033[91m", "\033[93m", "\033[0m"  # ECMA-48


class CommandStatus:
    """What a command of focusd returned."""

    Succeeded = codes.SUCCEEDED
    Failed = codes.FAILED
    Blocked = codes.BLOCKED
    InvalidControlIP = codes.INVALID_CONTROL_IP
    InvalidChannel = codes.INVALID_CHANNEL
    PositionOutsideLimits = codes.POSITION_OUTSIDE_LIMITS
    NotConnected = codes.NOT_CONNECTED
    NotDisconnected = codes.NOT_DISCONNECTED

    @classmethod
    def message(cls, error_code: int) -> str:
        """What a code means, for people."""
        return codes.message(error_code)


class FocuserStatus:
    """What `status_N` says of a channel. `status` of the whole box is Disabled or Active."""

    Disabled = codes.OFFLINE
    Idle = codes.IDLE
    Moving = codes.MOVING
    Active = codes.IDLE
    """The successor generation's name of 1."""

    @classmethod
    def label(cls, status: int, formatting: bool = False) -> str:
        """A word for people; with `formatting`, in the terminal's bold and colours."""
        words = {cls.Disabled: ("OFFLINE", _RED), cls.Idle: ("IDLE", ""), cls.Moving: ("MOVING", _YELLOW)}
        word, colour = words.get(status, ("UNKNOWN", _RED))
        return f"{_BOLD}{colour}{word}{_CLEAR}" if formatting else word
