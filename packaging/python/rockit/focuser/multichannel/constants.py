# SPDX-License-Identifier: GPL-3.0-or-later
"""The codes of focusd, under the names by which scripts of the successor generation know them."""

from __future__ import annotations

from warwick.observatory.multifocus.constants import CommandStatus

__all__ = ["CommandStatus", "FocuserStatus"]


class FocuserStatus:
    """What `status` says of the whole box. Of a channel, `moving_N` says whether it moves."""

    Disabled, Active = 0, 1

    @classmethod
    def label(cls, status: int, formatting: bool = False) -> str:
        """A word for people; with `formatting`, in the markup of the rich library."""
        words = {cls.Disabled: ("OFFLINE", "red"), cls.Active: ("ONLINE", "default")}
        word, colour = words.get(status, ("UNKNOWN", "red"))
        return f"[b][{colour}]{word}[/{colour}][/b]" if formatting else word
