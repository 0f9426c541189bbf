#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Set-up behind `make run` and `make test`: the system packages that are missing, and a virtual
# environment in .venv with this project (editable) and its tools. Run from the project's folder by
# the Makefile, with PYTHON and READY (the file to touch when all is done) in the environment.
# What is there already is left alone: where nothing is missing it needs neither apt-get nor root.
set -eu
PYTHON=${PYTHON:-python3}
READY=${READY:-.venv/ready-by-hand}

say() { echo "setup: $*" >&2; }

# One at a time, and whoever waited may find the work done.
if command -v flock >/dev/null; then
    exec 9<tools/setup.sh
    flock 9
    if [ -e "$READY" ] && [ -z "$(find setup.cfg pyproject.toml tools/setup.sh -newer "$READY")" ]; then
        exit 0
    fi
fi

if ! command -v "$PYTHON" >/dev/null; then
    say "$PYTHON is not there: install python3, or name another with PYTHON=…"
    exit 1
fi
if ! "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 9))'; then
    say "$PYTHON is $("$PYTHON" -V 2>&1); Python 3.9 or later is needed (name another with PYTHON=…)"
    exit 1
fi

# Debian's names of what is missing. Headers and compiler are for dbus-python, which the INDI client
# library of focusd asks for and which comes as source only.
missing() {
    version=$("$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    command -v indiserver >/dev/null && command -v indi_getprop >/dev/null || echo indi-bin
    "$PYTHON" -c 'import venv, ensurepip' 2>/dev/null || echo "python$version-venv"
    "$PYTHON" -c '
import os.path, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")))
' || echo "python$version-dev"
    # Not needed to run anything: the tests of `focus watch` type into it.
    command -v tmux >/dev/null || echo tmux
    if ! command -v cc >/dev/null; then
        echo gcc
        echo libc6-dev
    fi
    command -v pkg-config >/dev/null || echo pkg-config
    pkg-config --exists dbus-1 2>/dev/null || echo libdbus-1-dev
    pkg-config --exists glib-2.0 2>/dev/null || echo libglib2.0-dev
}

packages=$(missing | tr '\n' ' ')
if [ -n "$packages" ]; then
    if ! command -v apt-get >/dev/null; then
        say "please install, under your system's names for them, what Debian calls: $packages"
        exit 1
    fi
    if [ "$(id -u)" -eq 0 ]; then
        sudo=
    elif command -v sudo >/dev/null; then
        sudo=sudo
    else
        say "please install as root, then try again: apt-get install $packages"
        exit 1
    fi
    say "installing the system packages $packages"
    $sudo apt-get -q update
    # shellcheck disable=SC2086 # the names are to be split
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends $packages
    packages=$(missing | tr '\n' ' ')
    if [ -n "$packages" ]; then
        say "installed, but $PYTHON does not find it: $packages (another Python than Debian's?)"
        exit 1
    fi
fi

# A whole environment of the same interpreter is brought up to date; any other is made anew.
interpreter='import sys; print(sys.version, sys.base_prefix)'
if ls .venv/ready-* >/dev/null 2>&1 &&
    [ "$(.venv/bin/python -c "$interpreter" 2>/dev/null)" = "$("$PYTHON" -c "$interpreter")" ]; then
    rm .venv/ready-*
    say "bringing .venv up to date"
else
    say "making .venv with $("$PYTHON" -V 2>&1); this takes a minute or two"
    "$PYTHON" -m venv --clear .venv
fi
# Before 21.3 pip cannot install this project editable.
.venv/bin/python -m pip install --quiet --disable-pip-version-check "pip>=21.3"
.venv/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[focusd,test]"
touch "$READY"
say "done"
