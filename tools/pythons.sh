#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
#
# `make test-pythons`: the unit tests by every Python that PYTHONS names and that uv, pyenv or the PATH has, each in a
# virtual environment of its own in build/pythons. Exit status 1 when one of them failed.
set -u

find_python() {
    { command -v uv >/dev/null && uv python find --no-project "$1" 2>/dev/null; } ||
        ls -d "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/python 2>/dev/null | tail -n 1 | grep . ||
        command -v "python$1"
}

status=0
for version in ${PYTHONS:-3.9 3.10 3.11 3.12 3.13 3.14}; do
    python=$(find_python "$version")
    if ! "${python:-false}" -c '' 2>/dev/null; then
        echo "Python $version: not here ('uv python install $version' or 'pyenv install $version' gets it)"
        continue
    fi
    folder=build/pythons/$version
    [ -e "$folder/ready" ] || {
        "$python" -m venv --clear "$folder" &&
            "$folder/bin/python" -m pip install --quiet --disable-pip-version-check "pip>=21.3" &&
            "$folder/bin/python" -m pip install --quiet --disable-pip-version-check -e ".[focus,test]" &&
            # By itself: what it asks for has to be compiled, and is for other parts of it than focusd uses.
            "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps pyindi-client &&
            touch "$folder/ready"
    } || { status=1; continue; }
    if "$folder/bin/python" -m pytest -q -n auto --timeout=300 tests/unit >"$folder/log" 2>&1; then
        how=passed
    else
        how="FAILED, see $folder/log" status=1
    fi
    echo "$("$folder/bin/python" -V): $how: $(tail -n 1 "$folder/log")"
done
exit $status
