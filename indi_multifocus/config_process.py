# SPDX-License-Identifier: GPL-3.0-or-later
"""CONFIG_PROCESS of one device: load, save, default, purge of the settings that a user wants to keep.

Used by `driver.py`, in the main thread. What is loaded is handed to the device as if a client had sent it, so it is
checked as that is; and only properties that were named as settings are, so that no file can move a motor. Files are
written in the background, and a client is answered when that is done.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .indi import (
    Device,
    LightVector,
    NewVector,
    NumberVector,
    Refused,
    Rule,
    State,
    Switch,
    SwitchVector,
    Value,
    Vector,
    parse_number,
)
from .settings.files import FileWriter, Written
from .settings.saved_properties import SavedProperties, Settable, as_message


class ConfigProcess:
    """The property, the settings that it is about, and what they are by default."""

    def __init__(
        self, device: Device, writer: FileWriter, fixed: frozenset[str], together: list[ConfigProcess]
    ) -> None:
        """`fixed`: names of properties that the observatory sets; what was saved does not replace that.

        `together`: those of all devices on the same link, to which this one adds itself. What these devices share is
        saved for each of them, so that no two files disagree on it.
        """
        self._device = device
        self._saved = SavedProperties(device.name, writer)
        self._fixed = fixed
        self._together = together
        self._together.append(self)
        self._shared: set[str] = set()
        self._defaults: dict[str, NewVector] = {}
        self.loading = False
        """Whether what is being set comes from a file or the defaults, and not from a client."""
        self._unwritten: dict[str, int] = {}
        """Files whose writing a client waits for, and the number of the report."""
        self._done = ""
        """The message for that client when they are written."""
        self._autosaved = 0
        """The number of the last report on this device's file which nobody waits for."""
        self._vector = SwitchVector(
            "CONFIG_PROCESS",
            "Configuration",
            "Options",
            [
                Switch("CONFIG_LOAD", "Load"),
                Switch("CONFIG_SAVE", "Save"),
                Switch("CONFIG_DEFAULT", "Default"),
                Switch("CONFIG_PURGE", "Purge"),
            ],
            rule=Rule.AT_MOST_ONE,
            timeout=0,
        )

    def define(self) -> None:
        """Offer the property."""
        self._device.define(self._vector, self._new)

    def keep_defaults(self, settings: Iterable[Settable], *, shared: bool = False) -> None:
        """These are settings, and what they are now is their default. `shared`: all devices show the same ones."""
        for vector in settings:
            self._defaults[vector.name] = as_message(self._device.name, vector)
            if shared:
                self._shared.add(vector.name)

    def load(self, *, quiet: bool = False, own: bool = False) -> bool:
        """Apply what was saved, as far as its properties are defined now; with `own`, nothing that is shared.

        Whether anything was saved. Raises Refused for a file that cannot be used; `quiet`: warns of it instead.
        """
        try:
            messages = self._read()
        except Refused as problem:
            if not quiet:
                raise Refused(f"{problem}; nothing was changed") from None
            self._device.warning(f"{problem}; the defaults are used")
            return False
        self._apply(message for message in messages if not (own and message.name in self._shared))
        return bool(messages)

    def _read(self) -> list[NewVector]:
        """What was saved. Raises Refused for a file that cannot be used."""
        try:
            return self._saved.read()
        except ValueError as error:
            raise Refused(str(error)) from None
        except OSError as error:
            raise Refused(f"cannot read {self._saved.path}: {error.strerror}") from None

    def save(self, *vectors: Vector) -> None:
        """Save these soon, unless the observatory sets them, and leave the others as they were saved."""
        if self.loading:
            return
        settings = [v for v in vectors if not isinstance(v, LightVector) and v.name not in self._fixed]
        for config, theirs in self._by_device(settings):
            try:
                config._autosaved = max(config._autosaved, config._saved.write(theirs))
            except OSError as error:
                self._device.warning(f"cannot write {config._saved.path}: {error.strerror}")

    def written(self, report: Written) -> None:
        """Take a report of the file writer."""
        if 0 < self._autosaved <= report.number and report.path == self._saved.path:
            self._autosaved = 0
            if report.problem:
                self._device.warning(report.problem)
        waited_for = self._unwritten.get(report.path)
        if waited_for is not None and waited_for <= report.number:
            del self._unwritten[report.path]
            if report.problem:
                self._unwritten.clear()
                self._answer(State.ALERT, f"[ERROR] {report.problem}")
            elif not self._unwritten:
                self._answer(State.OK, f"[INFO] {self._done}")

    def _new(self, values: Mapping[str, Value]) -> None:
        action = next((name for name, on in values.items() if on), "")
        self._vector.clear()
        if action == "CONFIG_LOAD":
            if self.load():
                self._answer(State.OK, "[INFO] Device configuration loaded.")
            else:  # no error: KStars sends this whenever a device connects
                self._answer(State.ALERT, "[INFO] There is no saved configuration to load.")
        elif action == "CONFIG_SAVE":
            self._write()
            self._answer_when_written("Device configuration saved.")
        elif action == "CONFIG_DEFAULT":
            self._apply(self._defaults.values())
            self._answer(State.OK, "[INFO] Default configuration loaded.")
        elif action == "CONFIG_PURGE":
            there = self._purge()
            self._answer_when_written(
                "Device configuration deleted." if there else "There was no configuration to delete."
            )
        else:
            self._answer(State.IDLE, None)

    def _answer(self, state: State, text: str | None) -> None:
        self._vector.state = state
        self._device.update(self._vector, text)

    def _answer_when_written(self, text: str) -> None:
        self._done = text
        if not self._unwritten:
            self._answer(State.OK, f"[INFO] {text}")

    def _settings(self) -> list[Settable]:
        vectors = (self._device.vector(name) for name in self._defaults)
        return [vector for vector in vectors if vector is not None and not isinstance(vector, LightVector)]

    def _by_device(self, vectors: list[Settable]) -> list[tuple[ConfigProcess, list[Settable]]]:
        """Of these settings of this device, those that each device on the link shows."""
        of_each = [
            (config, [v for v in vectors if config is self or v.name in self._shared]) for config in self._together
        ]
        return [(config, theirs) for config, theirs in of_each if theirs]

    def _write(self) -> None:
        """Raises Refused."""
        self._unwritten.clear()
        for config, theirs in self._by_device(self._settings()):
            try:
                self._wait_for(config, config._saved.write(theirs))
            except OSError as error:
                raise Refused(f"cannot write {config._saved.path}: {error.strerror}") from None

    def _wait_for(self, config: ConfigProcess, number: int) -> None:
        if number:
            self._unwritten[config._saved.path] = number

    def _purge(self) -> bool:
        """Whether there was anything to delete. Raises Refused."""
        self._unwritten.clear()
        saved = self._saved
        try:
            number = saved.purge()
            self._wait_for(self, number)
            for config in self._together:
                if config is not self:
                    saved = config._saved
                    self._wait_for(config, saved.forget(self._shared))
        except OSError as error:
            raise Refused(f"cannot write {saved.path}: {error.strerror}") from None
        except ValueError as error:
            raise Refused(str(error)) from None
        return bool(number)

    def _apply(self, messages: Iterable[NewVector]) -> None:
        wanted = {message.name: message for message in messages}
        present = {vector.name: as_message(self._device.name, vector) for vector in self._settings()}
        self.loading = True
        try:
            for name in self._in_order(wanted):
                message = wanted.get(name)
                if message is not None and name in present and name not in self._fixed and message != present[name]:
                    self._device.handle(message)
        finally:
            self.loading = False

    def _in_order(self, wanted: Mapping[str, NewVector]) -> list[str]:
        """The settings in the order in which they can be applied: neither end of the travel may meet the other."""
        names = list(self._defaults)
        high = self._device.vector("FOCUS_MAX")
        if "FOCUS_MIN" in wanted and isinstance(high, NumberVector):
            try:
                low = parse_number(dict(wanted["FOCUS_MIN"].elements).get("FOCUS_MIN_VALUE", ""))
            except ValueError:
                return names  # refused when its turn comes
            first, second = "FOCUS_MIN", "FOCUS_MAX"
            if low >= high["FOCUS_MAX_VALUE"].value:
                first, second = second, first
            names = [first, second, *(name for name in names if name not in (first, second))]
        return names
