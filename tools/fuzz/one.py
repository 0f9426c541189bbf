# SPDX-License-Identifier: GPL-3.0-or-later
"""One target under atheris: `python -m tools.fuzz.one TARGET [options of libFuzzer] [inputs]`.

With a file as its only input it plays that one alone: so a finding is looked at.
"""

from __future__ import annotations

import importlib
import os
import sys

from . import TARGETS


def main() -> None:
    """Never returns: atheris ends the process."""
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: python -m tools.fuzz.one {'|'.join(TARGETS)} [options of libFuzzer] [inputs]")
    import atheris

    name = sys.argv.pop(1)
    # What drivers print for their log is no news here.
    log = os.fdopen(os.dup(2), "w")
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    with atheris.instrument_imports(include=["indi_multifocus", "focus_cli"]):
        target = importlib.import_module(f"tools.fuzz.{name}")

    def play(data: bytes) -> None:
        try:
            target.run(data)
        except BaseException:
            sys.stderr = log
            raise

    atheris.Setup(sys.argv, play)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
