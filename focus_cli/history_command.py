# SPDX-License-Identifier: GPL-3.0-or-later
"""`focus log`: what focusd has recorded, as a table, CSV, JSON, or a plot."""

from __future__ import annotations

import csv
import datetime
import json
import re
import sys
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from . import codes
from .history import Change
from .session import CommandError, Session, UsageError, whole

UNITS_S = {"m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
DAY_S = UNITS_S["d"]


class Wanted(NamedTuple):
    """The options."""

    form: str = "table"
    """table, csv or json."""
    since_s: float = 0.0
    channel: int = 0
    """0: all."""
    plot: str = ""


def run(session: Session, arguments: list[str]) -> int:
    """`log [options]`; returns a code. Raises UsageError and CommandError."""
    wanted = _options(session, arguments)
    changes = [change for change in fetch(session, wanted.since_s) if _is_wanted(change, wanted.channel)]
    if wanted.plot:
        from .plot import draw

        for line in draw(changes, wanted.plot):
            print(line)
    elif wanted.form == "csv":
        table = csv.writer(sys.stdout, lineterminator="\n")
        table.writerow(["time", *Change._fields[1:]])
        table.writerows([iso(change.time), *change[1:]] for change in changes)
    elif wanted.form == "json":
        for change in changes:
            print(json.dumps({**change._asdict(), "time": iso(change.time)}))
    else:
        for change in changes:
            print(_line(change))
    return codes.SUCCEEDED


def _options(session: Session, arguments: list[str]) -> Wanted:
    now_s = datetime.datetime.now(datetime.timezone.utc).timestamp()
    wanted = Wanted(since_s=now_s - DAY_S)
    left = iter(arguments)
    for argument in left:
        name, equals, value = argument.partition("=")
        if argument in ("--csv", "--json"):
            wanted = wanted._replace(form=argument[2:])
            continue
        if name not in ("--since", "--channel", "--plot"):
            raise UsageError
        value = value if equals else next(left, "")
        if name == "--since":
            wanted = wanted._replace(since_s=since(value, now_s))
        elif name == "--plot" and value:
            wanted = wanted._replace(plot=value)
        elif name == "--channel" and whole(value) in session.channels:
            wanted = wanted._replace(channel=whole(value))
        else:
            raise UsageError
    return wanted


def since(text: str, now_s: float) -> float:
    """`90m`, `12h`, `7d`, `2w` ago, or a date or time of UTC, as Unix time. Raises UsageError."""
    ago = re.fullmatch(r"([0-9]{1,6})([mhdw])", text)
    if ago:
        return now_s - int(ago[1]) * UNITS_S[ago[2]]
    try:
        when = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise UsageError from None
    return (when if when.tzinfo else when.replace(tzinfo=datetime.timezone.utc)).timestamp()


def fetch(session: Session, since_s: float) -> Iterator[Change]:
    """What focusd has recorded since, in order. Raises CommandError where it records nothing."""
    with session.focusd() as focusd:
        if "report_history" not in focusd._pyroMethods:
            raise CommandError("this focusd keeps no history")
        after = 0
        while rows := json.loads(focusd.report_history(since_s, after)):
            for number, *fields in rows:
                after = number
                yield Change(*fields)


def _is_wanted(change: Change, channel: int) -> bool:
    return not channel or change.channel in (None, channel)


def iso(time_s: float) -> str:
    """As everywhere: UTC, to the second."""
    return datetime.datetime.fromtimestamp(time_s, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _line(change: Change) -> str:
    parts: Iterable[str] = (
        iso(change.time).replace("T", " ").replace("Z", ""),
        f"{change.channel or '':>2}",
        f"{change.event:<11}",
        f"{change.position:+07d}" if change.position is not None else "",
        f"→ {change.target:+07d}" if change.event == "moving" and change.target is not None else "",
        f"{change.probe} {change.celsius:.1f} °C" if change.celsius is not None else "",
        change.message or "",
    )
    return "  ".join(filter(None, parts)).rstrip()
