#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
#
# What `make test-packages` needs beyond `make test`: installed where it is missing, if this is Debian and we are root.
# Else the tests that need it are skipped, and say so.
set -eu

missing() {
    command -v rpmbuild >/dev/null || echo rpm
    command -v systemd-analyze >/dev/null || echo systemd
    command -v udevadm >/dev/null || echo udev
    command -v dpkg-buildpackage >/dev/null || echo dpkg-dev
    command -v dh >/dev/null || echo debhelper
    command -v dh_python3 >/dev/null || echo dh-python
    command -v lintian >/dev/null || echo lintian
    command -v debootstrap >/dev/null || echo debootstrap
    command -v ip >/dev/null || echo iproute2
    [ -e /usr/share/bash-completion/bash_completion ] || echo bash-completion
    # pip compiles dbus-python, which pyindi-client asks for.
    pkg-config --exists dbus-1 glib-2.0 2>/dev/null || echo pkg-config libdbus-1-dev libglib2.0-dev
    command -v cc >/dev/null || echo gcc libc6-dev
}

packages=$(missing | tr '\n' ' ')
[ -n "$packages" ] || exit 0
if ! command -v apt-get >/dev/null || [ "$(id -u)" -ne 0 ]; then
    echo "tests will be skipped for want of: $packages" >&2
    exit 0
fi
apt-get -q update
# shellcheck disable=SC2086 # the names are to be split
env DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends $packages
