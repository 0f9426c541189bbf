# SPDX-License-Identifier: GPL-3.0-or-later
"""`from warwick.observatory.multifocus import Config, CommandStatus, FocuserStatus`, for the observatory's own scripts.

The names, attributes and texts are those of rockit-astro/focusd's package of this name; what is behind them is in
indi_multifocus and focus_cli. Nothing of this project imports it. `warwick` and `warwick.observatory` are namespace
packages that belong to several projects, so neither has an `__init__.py` here.
"""

from .config import Config
from .constants import CommandStatus, FocuserStatus

__all__ = ["CommandStatus", "Config", "FocuserStatus"]
