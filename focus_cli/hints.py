# SPDX-License-Identifier: GPL-3.0-or-later
"""What to do about a code that a command of `focus` returned: a line for people, beside the message for scripts."""

from __future__ import annotations

import time
from typing import Any

from . import codes
from .session import Session

RECENT_S = 60.0
"""Earlier messages of the driver are about something else."""
ANSWER_S = 2.0
"""A hint is worth no longer wait: the command has its answer already."""


def hint(session: Session, code: int, arguments: list[str]) -> str:
    """The line; empty where there is nothing to add. `arguments` are the command's, its channel first, if any."""
    channel = int(arguments[0]) if arguments and arguments[0].isdigit() else session.channels[0]
    if code == codes.NOT_CONNECTED:
        return "`focus init` connects it"
    if code == codes.BLOCKED:
        return f"channel {channel} is moving: `focus status` shows where to, `focus stop {channel}` stops it"
    if code == codes.UNREACHABLE:
        return "`focus doctor` says why, and what to do"
    if code == codes.INVALID_CONTROL_IP:
        return "only the control_machines of focusd's configuration may do this; `focus doctor` says who they are"
    if code not in (codes.FAILED, codes.POSITION_OUTSIDE_LIMITS):
        return ""
    of = _details(session, channel)
    if code == codes.POSITION_OUTSIDE_LIMITS:
        known = of.get("lowest") is not None and of.get("highest") is not None
        return f"channel {channel} goes from {of['lowest']} to {of['highest']}" if known else ""
    if of.get("message") and time.time() - float(of.get("message_time", 0)) < RECENT_S:
        return f"{of.get('device')}: {of['message']}"
    return "focusd's log says why: journalctl -u 'focusd@*'"


def _details(session: Session, channel: int) -> dict[str, Any]:
    try:
        with session.focusd(ANSWER_S) as focusd:
            if "report_details" not in focusd._pyroMethods:
                return {}
            channels = focusd.report_details()["channels"]
    except Exception:  # a hint is not worth another message
        return {}
    return next((dict(entry) for entry in channels if entry.get("channel") == channel), {})
