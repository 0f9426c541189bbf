# SPDX-License-Identifier: GPL-3.0-or-later
"""`make fuzz`: every target, or those that are named, for FUZZ_SECONDS each (60), as many at a time as there are cores.

What the fuzzer learns is kept in .fuzz/TARGET/corpus, and goes on from there next time. A finding is a file
.fuzz/TARGET/crash-… (or timeout-…, oom-…), with its story at the end of .fuzz/TARGET/log; then the exit status is 1.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from . import TARGETS

PLACE = Path(".fuzz")
INPUT_TIMEOUT_S = 20
MEMORY_MB = 1024


def prepare(name: str) -> None:
    """Write down what a target begins with."""
    target = importlib.import_module(f"tools.fuzz.{name}")
    place = PLACE / name
    seeds = place / "seeds"
    for folder in (place / "corpus", seeds):
        folder.mkdir(parents=True, exist_ok=True)
    for seed in target.SEEDS:
        (seeds / hashlib.sha1(seed).hexdigest()).write_bytes(seed)
    (place / "words").write_text("".join(f'"{_escaped(word)}"\n' for word in target.WORDS if word))


def fuzz(name: str, seconds: int) -> tuple[bool, str]:
    """Whether nothing was found in that time, and a line about what was done."""
    place = PLACE / name
    command = [sys.executable, "-m", "tools.fuzz.one", name]
    command += [f"-max_total_time={seconds}", f"-timeout={INPUT_TIMEOUT_S}"]
    command += [f"-rss_limit_mb={MEMORY_MB}", f"-dict={place / 'words'}", f"-artifact_prefix={place}/"]
    command += ["-print_final_stats=1", "-max_len=8192", str(place / "corpus"), str(place / "seeds")]
    with open(place / "log", "wb") as log:
        begun = time.monotonic()
        status = subprocess.run(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, check=False).returncode
        took = time.monotonic() - begun
    output = (place / "log").read_text(errors="replace")
    runs = re.findall(r"stat::number_of_executed_units:\s*(\d+)", output)
    covered = re.findall(r"cov: (\d+) ft: (\d+) corp: (\d+)", output)
    done = f"{runs[-1] if runs else '?'} inputs in {took:.0f} s"
    if covered:
        done += ", {} edges, {} features, {} inputs kept".format(*covered[-1])
    if status == 0:
        return True, f"{name}: {done}; nothing found"
    tail = "\n".join(line for line in output.splitlines() if not line.startswith("#"))[-3000:]
    return False, f"{name}: {done}; FOUND something, see {place}/log\n{tail}"


def _escaped(word: str) -> str:
    return "".join(
        chr(byte) if 0x20 <= byte < 0x7F and chr(byte) not in '"\\' else f"\\x{byte:02x}" for byte in word.encode()
    )


def main() -> int:
    """Exit status 0 when nothing was found, 1 when something was, 2 when it cannot be done."""
    seconds = int(os.environ.get("FUZZ_SECONDS") or 60)
    names = sys.argv[1:] or list(TARGETS)
    unknown = set(names) - set(TARGETS)
    if unknown:
        print(f"there is no target {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}", file=sys.stderr)
        return 2
    for name in names:
        prepare(name)
    well = True
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for fine, story in pool.map(lambda name: fuzz(name, seconds), names):
            print(story, flush=True)
            well = well and fine
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
