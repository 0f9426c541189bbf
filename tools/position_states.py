# SPDX-License-Identifier: GPL-3.0-or-later
"""`make docs`: draws the states of a position into docs/architecture.md, from the table of transitions.

    python -m tools.position_states           draw it
    python -m tools.position_states --check   status 1 where it is not what would be drawn
"""

from __future__ import annotations

import sys
from pathlib import Path

from indi_multifocus.position_state import diagram

PAGE = Path(__file__).resolve().parent.parent / "docs" / "architecture.md"
BEGIN, END = "<!-- position states: begin -->\n", "<!-- position states: end -->"


def drawn(page: str) -> str:
    """The page with the diagram of now. Raises ValueError where it has no place for it."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"a line {BEGIN!r} and a line {END!r} are expected")
    return f"{before}{begin}```mermaid\n{diagram()}\n```\n{end}{after}"


def main() -> int:
    """Returns the exit status."""
    page = PAGE.read_text(encoding="utf-8")
    text = drawn(page)
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(text, encoding="utf-8")
    elif text != page:
        print(f"{PAGE.name} does not show the states of now: run make docs", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
