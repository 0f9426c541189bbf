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

echo "installed for $1 ($("$1" -V)); PYTHON=… make install takes another"
command -v indiserver >/dev/null ||
    echo "missing: indiserver. Install indi-bin (Debian, Ubuntu) or libindi (Fedora); KStars brings it along"
"$1" - <<'END'
import sys
from importlib.util import find_spec

if find_spec("serial") is None:
    print("missing: pyserial, for", sys.executable + ". Install python3-serial (Debian, Ubuntu) or python3-pyserial (Fedora)")
names = {"msgspec": "msgspec", "Pyro4": "Pyro4", "PyIndi": "pyindi-client"}
missing = [name for module, name in names.items() if find_spec(module) is None]
if missing:
    print("optional, not needed with KStars: focusd, focus and a JSON configuration also want", ", ".join(missing))
END
