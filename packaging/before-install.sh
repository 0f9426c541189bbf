#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
#
# The beginning of `make install`: whether there is a Python for it, the first argument, and whether its folders, the
# others, can be written. Else nothing is done at all.
set -eu

python=$1
shift
if ! "${python:-false}" -c 'import sys; sys.exit(sys.version_info < (3, 9))' 2>/dev/null; then
    echo "make install: ${python:-PYTHON} is no Python 3.9 or later: install python3, or name another by PYTHON=…" >&2
    exit 1
fi

for folder in "$@"; do
    there=$folder
    while [ ! -e "$there" ]; do there=$(dirname "$there"); done
    if [ ! -w "$there" ]; then
        echo "make install: $there cannot be written: run it as root, as by 'sudo make install'" >&2
        exit 1
    fi
done
