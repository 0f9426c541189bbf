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

# Install these system packages, which `missing` names, or say which they are.
install() {
    [ $# -gt 0 ] || return 0
    if ! command -v apt-get >/dev/null; then
        say "please install, under your system's names for them, what Debian calls: $*"
        exit 1
    fi
    if [ "$(id -u)" -eq 0 ]; then
        sudo=
    elif command -v sudo >/dev/null && sudo -v 2>/dev/null; then
        sudo=sudo
    else
        say "please install as root, then try again: apt-get install $*"
        exit 1
    fi
    say "installing the system packages $*"
    $sudo apt-get -q update
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends "$@"
}

version=$("$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
missing() {
    command -v indiserver >/dev/null && command -v indi_getprop >/dev/null || echo indi-bin
    "$PYTHON" -c 'import venv, ensurepip' 2>/dev/null || echo "python$version-venv"
    command -v tmux >/dev/null || echo tmux
}
# shellcheck disable=SC2046 # the names are to be split
install $(missing)
left=$(missing)
if [ -n "$left" ]; then
    say "installed, but $PYTHON does not find it: $left (another Python than Debian's?)"
    exit 1
fi

# Without a wheel of pyindi-client for this Python and this machine it is compiled, which takes these.
missing_to_compile() {
    "$PYTHON" -c '
import os.path, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")))
' || echo "python$version-dev"
    command -v c++ >/dev/null || echo g++ libc6-dev
    command -v swig >/dev/null || echo swig
    [ -e /usr/include/libindi/baseclient.h ] || echo libindi-dev
    [ -e /usr/include/libnova/libnova.h ] || echo libnova-dev
    [ -e /usr/include/zlib.h ] || echo zlib1g-dev
}

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
pip() { .venv/bin/python -m pip --quiet --disable-pip-version-check "$@"; }
# Before 21.3 pip cannot install this project editable.
pip install "pip>=21.3"
pip install --editable ".[focus,test]"
# By itself: it asks for dbus-python, which has to be compiled and which focusd does not use.
if ! pip install --no-deps --only-binary :all: pyindi-client 2>/dev/null; then
    say "there is no wheel of pyindi-client for $("$PYTHON" -V) on $(uname -m): it is compiled"
    # shellcheck disable=SC2046
    install $(missing_to_compile)
    if ! pip install --no-deps pyindi-client; then
        say "it does not compile, as with libindi 1.9.9: docs/systems.md says for which systems there is a wheel"
        exit 1
    fi
fi
touch "$READY"
say "done"
