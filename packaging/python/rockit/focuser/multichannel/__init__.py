# SPDX-License-Identifier: GPL-3.0-or-later
"""`from rockit.focuser.multichannel import Config, CommandStatus, FocuserStatus`, for the observatory's own scripts.

The names, attributes and texts are those of rockit-astro/focusd's package of this name, the successor of
warwick.observatory.multifocus, which is beside it. Nothing of this project imports it. `rockit` and `rockit.focuser`
are namespace packages that belong to several projects, so neither has an `__init__.py` here.
"""

from .config import Config
from .constants import CommandStatus, FocuserStatus

__all__ = ["CommandStatus", "Config", "FocuserStatus"]
