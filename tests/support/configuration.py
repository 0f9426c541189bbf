# SPDX-License-Identifier: GPL-3.0-or-later
"""The configurations and registries that tests and tools write for the drivers and focusds that they start."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ports import free_port

PROJECT = Path(__file__).resolve().parents[2]


def entries(**changed: Any) -> dict[str, Any]:
    """Those of test.json, with others in place of some, or beside them."""
    return {**json.loads((PROJECT / "test.json").read_text(encoding="utf-8")), **changed}


def configured(path: Path, port: str, **changed: Any) -> dict[str, str]:
    """Write a configuration with a controller on `port`. Returns the environment of a driver that is to use it."""
    path.write_text(json.dumps(entries(serial_port=port, **changed)), encoding="utf-8")
    return {"INDI_MULTIFOCUS_CONFIG": str(path)}


def configure_focusd(path: Path, port: str, *, host: str = "127.0.0.1", **changed: Any) -> int:
    """The same for a focusd on ports of its own, which a registry beside `path` names. Returns its Pyro port.

    Its daemon is the file's name: site_daemon, where `path` ends in site.json.
    """
    pyro_port = free_port()
    entry = {"name": f"{path.stem}_daemon", "host": host, "port": pyro_port}
    path.with_name("registry.json").write_text(json.dumps({"daemons": {path.stem: entry}}), encoding="utf-8")
    configured(path, port, **{"daemon": path.stem, "indi_port": free_port(), **changed})
    return pyro_port
