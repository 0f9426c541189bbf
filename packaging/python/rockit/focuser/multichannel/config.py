# SPDX-License-Identifier: GPL-3.0-or-later
"""`Config` under the name by which scripts of the successor generation know it; it is the same for both generations."""

from warwick.observatory.multifocus.config import Config

__all__ = ["Config"]
