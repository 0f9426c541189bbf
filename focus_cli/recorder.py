# SPDX-License-Identifier: GPL-3.0-or-later
"""The thread of focusd that writes down what happens to the focusers (history.py).

It sleeps until something has changed. Nothing waits for it: a disk that is full or gone costs rows, and one line in the
log when that begins and when it is over.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping

from indi_multifocus.settings.configuration import Config

from . import codes
from .channel import ChannelState
from .focusers import Focusers
from .history import Change, History
from .indi_client import IndiClient
from .log import Log
from .threads import keep_running

EVENTS = {codes.OFFLINE: "offline", codes.IDLE: "idle", codes.MOVING: "moving"}
STEP_CELSIUS, PAUSE_S = 0.1, 60.0
"""A temperature is a change when it differs by so much, and no sooner than this after the last one."""
PRUNE_S = 86400.0
"""What is too old is deleted once a day."""
SETTLED_S = 0.1
"""What belongs together (a position and its target) comes in several messages."""


class Recorder:
    """Records from its making on, until the client is closed."""

    def __init__(self, config: Config, focusers: Focusers, client: IndiClient, path: str, log: Log) -> None:
        self._focusers, self._client, self._log = focusers, client, log
        self._history = History(path)
        self._path = path
        self._own_probe = {probe.channel: name for name, probe in config.temperature_probes.items()}
        self._any_probe = next(iter(config.temperature_probes), None)
        self._states: dict[int, tuple[int, int, int]] = {}
        self._measured: dict[str, tuple[float, float]] = {}
        """By probe, when (monotonic) and what."""
        self._failing = False
        self._pruned_s = -PRUNE_S
        self._thread = keep_running("history", self._run, log)

    def close(self) -> None:
        """Wait for the last rows, for a moment; the client was closed."""
        self._thread.join(timeout=1.0)

    def _run(self) -> None:
        try:
            while True:
                with self._client.changed:
                    self._client.changed.wait_for(lambda: self._client.closed or self._has_changed(), PAUSE_S)
                    self._client.changed.wait_for(lambda: self._client.closed, SETTLED_S)
                    changes = self._changes()
                    closed = self._client.closed
                self._write(changes)
                if closed:
                    return
        finally:
            self._history.close()

    def _has_changed(self) -> bool:
        states, temperatures = self._now()
        return (
            bool(self._client.faults)
            or any(self._is_news(channel, state) for channel, state in states.items())
            or any(self._is_measured_anew(probe, celsius) for probe, celsius in temperatures.items())
        )

    def _now(self) -> tuple[dict[int, ChannelState], Mapping[str, float | None]]:
        states = {number: channel.state() for number, channel in self._focusers.channels.items()}
        return states, self._focusers.temperatures() if self._any_probe is not None else {}

    def _is_news(self, channel: int, state: ChannelState) -> bool:
        known = self._states.get(channel, (codes.OFFLINE, 0, 0))
        if state.status == codes.MOVING:  # where it is on its way is no change, and a zero, which is Busy too, no move
            return (known[0], known[2]) != (state.status, state.target) and state.current != state.target
        return known != self._of(state)

    @staticmethod
    def _of(state: ChannelState) -> tuple[int, int, int]:
        return (state.status, state.current, state.target) if state.status != codes.OFFLINE else (codes.OFFLINE, 0, 0)

    def _is_measured_anew(self, probe: str, celsius: float | None) -> bool:
        if celsius is None:
            return False
        if probe not in self._measured:
            return True
        when_s, before = self._measured[probe]
        return abs(celsius - before) >= STEP_CELSIUS and time.monotonic() - when_s >= PAUSE_S

    def _changes(self) -> list[Change]:
        now_s, changes = time.time(), []
        states, temperatures = self._now()
        while self._client.faults:
            when_s, device, level, text = self._client.faults.popleft()
            number = next((n for n, it in self._focusers.channels.items() if it.device == device), None)
            changes.append(Change(when_s, number, level, message=text))
        for probe, celsius in temperatures.items():
            if celsius is not None and self._is_measured_anew(probe, celsius):
                self._measured[probe] = (time.monotonic(), celsius)
                changes.append(Change(now_s, None, "temperature", probe=probe, celsius=celsius))
        for channel, state in states.items():
            if self._is_news(channel, state):
                self._states[channel] = self._of(state)
                known = state.status != codes.OFFLINE
                own = self._own_probe.get(channel, self._any_probe) if known else None
                changes.append(
                    Change(
                        now_s,
                        channel,
                        EVENTS[state.status],
                        state.current if known else None,
                        state.target if known else None,
                        own,
                        temperatures.get(own) if own is not None else None,
                    )
                )
        return changes

    def _write(self, changes: list[Change]) -> None:
        try:
            if time.monotonic() - self._pruned_s >= PRUNE_S:
                self._history.prune(time.time())
                self._pruned_s = time.monotonic()
            if changes:
                self._history.add(changes)
        except (sqlite3.Error, OSError) as error:
            self._history.close()
            if not self._failing:
                self._log.warning(f"the history is not recorded: {self._path}: {error}")
            self._failing = True
            return
        if self._failing and changes:
            self._failing = False
            self._log.info(f"the history is recorded again: {self._path}")
