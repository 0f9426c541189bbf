#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
#
# The end of `make install` on a running system: let systemd and udev see what is new, and say what is missing.
# The argument is the Python that the installed commands run by.
set -eu

if [ "$(id -u)" -eq 0 ]; then
    if command -v systemd-sysusers >/dev/null; then systemd-sysusers || true; fi
    if [ -d /run/systemd/system ]; then systemctl daemon-reload || true; fi
    if [ -S /run/udev/control ]; then udevadm control --reload && udevadm trigger --subsystem-match=tty || true; fi
fi

command -v indiserver >/dev/null ||
    echo "indiserver is missing: install indi-bin (Debian, Ubuntu) or libindi (Fedora)"
"$1" - <<'END'
from importlib.util import find_spec

needs = {
    "the driver": {"serial": "pyserial"},
    "a configuration file": {"msgspec": "msgspec"},
    "focus": {"Pyro4": "Pyro4"},
    "focusd": {"PyIndi": "pyindi-client"},
}
for what, packages in needs.items():
    for module, package in packages.items():
        if find_spec(module) is None:
            print(f"{what} needs the Python package {package}, which is missing")
END
