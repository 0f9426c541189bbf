# SPDX-License-Identifier: GPL-3.0-or-later
"""Options and fixtures that all tests share."""

from __future__ import annotations

from hypothesis import settings

# A first example may have to import the module under test on a busy machine, so examples have
# no time limit of their own: a test that hangs is ended by pytest-timeout.
settings.register_profile("default", deadline=None)
settings.load_profile("default")
