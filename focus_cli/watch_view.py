# SPDX-License-Identifier: GPL-3.0-or-later
"""What `focus watch` shows, as lines of text; watch.py says when. It knows the terminal's size, and no terminal.

Of rich it needs Text alone. A channel takes two lines, and where there is room a third for its last message.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.text import Text

from . import codes
from .progress import Speed
from .show import Status, channel_state

SAMPLE_S, WINDOW_S, ENOUGH_S = 5.0, 1800.0, 120.0
"""The trend of a temperature: one value each 5 s, of the last half hour; none until two minutes are known."""
HELP = "←/→ step in/out  PgDn/PgUp far in/out  1-9 ↑/↓ channel  space stops all  q ends"


class Trend:
    """How fast a temperature changes, from the last half hour."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, float]] = deque()

    def see(self, now_s: float, celsius: float) -> None:
        """The temperature at this time."""
        if self._seen and now_s - self._seen[-1][0] < SAMPLE_S:
            return
        self._seen.append((now_s, celsius))
        while self._seen[0][0] < now_s - WINDOW_S:
            self._seen.popleft()

    @property
    def per_hour(self) -> float | None:
        """°C per hour, by least squares; None while two minutes are not over."""
        if not self._seen or self._seen[-1][0] - self._seen[0][0] < ENOUGH_S:
            return None
        n = len(self._seen)
        mean_s = sum(when for when, _ in self._seen) / n
        mean = sum(celsius for _, celsius in self._seen) / n
        spread = sum((when - mean_s) ** 2 for when, _ in self._seen)
        return 3600 * sum((when - mean_s) * (celsius - mean) for when, celsius in self._seen) / spread


@dataclass
class Model:
    """All that is known."""

    channels: Sequence[int]
    title: str
    selected: int = 1
    near: int = 10
    far: int = 100
    status: Status = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    problem: str = "connecting to focusd"
    """Why nothing is known."""
    notice: str = ""
    """What became of the last key."""
    speeds: dict[int, Speed] = field(default_factory=dict)
    trends: dict[str, Trend] = field(default_factory=dict)

    def take(self, now_s: float, status: Status) -> None:
        """A report of focusd."""
        self.status, self.problem = status, ""
        for channel in self.channels:
            state = channel_state(status, channel)
            if state != codes.MOVING:
                self.speeds[channel] = Speed()  # of the next move, which begins no sooner than now
            if state != codes.OFFLINE:
                self.speeds.setdefault(channel, Speed()).see(now_s, int(status[f"current_steps_{channel}"]))
        for probe, celsius in (status.get("temperature") or {}).items():
            if celsius is not None:
                self.trends.setdefault(probe, Trend()).see(now_s, celsius)

    @property
    def control(self) -> bool | None:
        """Whether this machine may move anything; None where focusd does not say."""
        return self.details.get("control")

    def of(self, channel: int) -> Mapping[str, Any]:
        """What report_details says of a channel; empty for an older focusd."""
        for entry in self.details.get("channels", ()):
            if entry.get("channel") == channel:
                return dict(entry)
        return {}


def lines(model: Model, width: int, height: int) -> list[Text]:
    """The screen: at most `height` lines of at most `width` cells."""
    head = [_title(model, width), _surroundings(model)]
    room = height - len(head) - 3
    each = max(2, min(4, room // len(model.channels)))
    body: list[Text] = []
    for channel in model.channels:
        body += [_state(model, channel), _travel(model, channel, width), _message(model, channel), Text()][:each]
    foot = [Text(model.notice, style="bold"), Text(HELP, style="dim")]
    screen = [*head, Text(), *body]
    screen = screen[: max(0, height - len(foot))]
    screen += [Text()] * (height - len(foot) - len(screen)) + foot
    for line in screen:
        line.truncate(width, overflow="ellipsis")
    return screen[-height:] if height < len(screen) else screen


def _title(model: Model, width: int) -> Text:
    title = Text(f"focus watch  {model.title}", style="bold")
    if model.problem:
        right = Text(model.problem, style="bold red")
    elif model.control is False:
        right = Text("watching only: not a control machine", style="yellow")
    else:
        right = Text(f"steps of {model.near} and {model.far}")
    gap = max(2, width - title.cell_len - right.cell_len)
    return Text.assemble(title, " " * gap, right)


def _surroundings(model: Model) -> Text:
    status, parts = model.status, []
    date = str(status.get("date", "")).replace("T", " ").replace("Z", " UTC")
    if status.get("fans_enabled") is not None and status.get("fans_available", True):
        parts.append(f"fans {'on' if status['fans_enabled'] else 'off'}")
    shown = {model.of(channel).get("probe") for channel in model.channels}
    for probe, label in model.labels.items():
        if probe not in shown:
            parts.append(f"{label} {_temperature(model, probe)}")
    return Text("   ".join(filter(None, [date, *parts])), style="dim" if model.problem else "")


def _temperature(model: Model, probe: str) -> str:
    celsius = (model.status.get("temperature") or {}).get(probe)
    if celsius is None:
        return "no answer"
    trend = model.trends[probe].per_hour if probe in model.trends else None
    arrow = "" if trend is None else f" {'→' if abs(trend) < 0.05 else '↑' if trend > 0 else '↓'}{trend:+.1f}/h"
    return f"{celsius:.1f} °C{arrow}"


def _state(model: Model, channel: int) -> Text:
    details, state = model.of(channel), channel_state(model.status, channel)
    name = str(details.get("device") or f"channel {channel}")
    line = Text(f"{'▶' if channel == model.selected else ' '}{channel} {name:<13.13} ", style="bold")
    if model.problem or state == codes.OFFLINE:
        line.append(f"{'OFFLINE':<9}", style="bold red")
        line.append(f" {details.get('link', '')}" if not model.problem else "")
        return line
    current, target = (int(model.status[f"{what}_steps_{channel}"]) for what in ("current", "target"))
    moving = state == codes.MOVING
    unverified = details.get("position") not in (None, "", "verified")
    word, style = ("MOVING", "yellow") if moving else ("UNVERIFIED", "bold red") if unverified else ("IDLE", "green")
    line.append(f"{current:+07d}", style="bold yellow" if moving else "bold")
    line.append(f" → {target:+07d}" if moving else " " * 10)
    line.append(f"  {word:<8}", style=style)
    speed = model.speeds[channel].steps_per_s if moving and channel in model.speeds else 0.0
    line.append(f" {f'{abs(speed):.1f}/s' if speed else '':<{16 - max(8, len(word))}}")
    probe = details.get("probe")
    line.append(f" {_temperature(model, str(probe)) if probe else '':<16}")
    link = str(details.get("link", ""))
    line.append(f" link {link}" if link else "", style="" if link == "up" else "bold red")
    return line


def _travel(model: Model, channel: int, width: int) -> Text:
    details = model.of(channel)
    lowest, highest = details.get("lowest"), details.get("highest")
    if model.problem or lowest is None or highest is None or channel_state(model.status, channel) == codes.OFFLINE:
        return Text()
    room = max(10, min(width, 100) - 24)
    bar = ["─"] * room

    def place(steps: int) -> int:
        share: float = (steps - lowest) / max(1, highest - lowest)
        return round(min(1.0, max(0.0, share)) * (room - 1))

    current, target = (int(model.status[f"{what}_steps_{channel}"]) for what in ("current", "target"))
    bar[place(target)] = "○"
    bar[place(current)] = "●"
    inside = lowest <= current <= highest
    return Text.assemble(
        f"{lowest:>10} ├", ("".join(bar), "" if inside else "bold red"), f"┤ {highest}{'' if inside else ' OUTSIDE'}"
    )


def _message(model: Model, channel: int) -> Text:
    details = model.of(channel)
    if not details.get("message"):
        return Text()
    when = time.strftime("%H:%M:%S", time.gmtime(float(details.get("message_time", 0))))
    return Text(f"   {when} {details['message']}", style="dim")
