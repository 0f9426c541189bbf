# SPDX-License-Identifier: GPL-3.0-or-later
"""`./focusd` and `./focus` run straight from a git clone, by whatever python3 is first on the path.

Used by these two scripts before they import anything that is not in the standard library; not where installed.
"""

from __future__ import annotations

import importlib.util
import os
import sys


def ensure_packages(script: str, *packages: str) -> None:
    """Return where this Python has `packages`; else run `script` anew by the clone's virtual environment, or exit 1."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if not missing:
        return
    folder = os.path.dirname(os.path.abspath(script))
    environment = os.path.join(folder, ".venv")
    python = os.path.join(environment, "bin", "python")
    if os.access(python, os.X_OK) and os.path.realpath(sys.prefix) != os.path.realpath(environment):
        os.execv(python, [python, os.path.abspath(script), *sys.argv[1:]])
    name = os.path.basename(script)
    sys.exit(f"{name}: this Python lacks {', '.join(missing)}: run `make setup` in {folder} first")
