# SPDX-License-Identifier: GPL-3.0-or-later
"""CONFIG_PROCESS of one device: load, save, default, purge of the settings that a user wants to keep.

Used by `driver.py`, in the main thread. What is loaded is handed to the device as if a client had sent it, so it is
checked as that is; and only properties that were named as settings are, so that no file can move a motor.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .indi import Device, LightVector, NewVector, Refused, Rule, State, Switch, SwitchVector, Value, Vector
from .saved import SavedConfig, Settable, as_message


class ConfigProcess:
    """The property, the settings that it is about, and what they are by default."""

    def __init__(self, device: Device, fixed: frozenset[str]) -> None:
        """`fixed`: names of properties that the observatory sets; what was saved does not replace that."""
        self._device = device
        self._fixed = fixed
        self._defaults: dict[str, NewVector] = {}
        self._loading = False
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

    def keep_defaults(self, settings: Iterable[Settable]) -> None:
        """These are settings, and what they are now is their default."""
        for vector in settings:
            self._defaults[vector.name] = as_message(self._device.name, vector)

    def load(self, *, quiet: bool = False) -> None:
        """Apply what was saved, as far as its properties are defined now.

        Raises Refused for a file that cannot be used; `quiet`: says so in a warning instead.
        """
        saved = SavedConfig(self._device.name)
        try:
            messages = saved.read()
        except ValueError as error:
            problem = f"{error}; the defaults are used"
        except OSError as error:
            problem = f"cannot read {saved.path}: {error.strerror}"
        else:
            self._apply(messages)
            return
        if not quiet:
            raise Refused(problem)
        self._device.warning(problem)

    def save_one(self, vector: Vector) -> None:
        """Save this property at once, and leave the others as they were saved."""
        if not self._loading and not isinstance(vector, LightVector):
            try:
                self._write([vector])
            except Refused as problem:
                self._device.warning(str(problem))

    def _new(self, values: Mapping[str, Value]) -> None:
        action = next((name for name, on in values.items() if on), "")
        self._vector.clear()
        done = ""
        if action == "CONFIG_LOAD":
            self.load()
            done = "Device configuration loaded."
        elif action == "CONFIG_SAVE":
            self._write(self._settings())
            done = "Device configuration saved."
        elif action == "CONFIG_DEFAULT":
            self._apply(self._defaults.values())
            done = "Default configuration loaded."
        elif action == "CONFIG_PURGE":
            done = self._purge()
        self._vector.state = State.OK if action else State.IDLE
        self._device.update(self._vector, f"[INFO] {done}" if done else None)

    def _settings(self) -> list[Settable]:
        vectors = (self._device.vector(name) for name in self._defaults)
        return [vector for vector in vectors if vector is not None and not isinstance(vector, LightVector)]

    def _write(self, vectors: Iterable[Settable]) -> None:
        saved = SavedConfig(self._device.name)
        try:
            saved.write(vectors)
        except OSError as error:
            raise Refused(f"cannot save {saved.path}: {error.strerror}") from None

    def _purge(self) -> str:
        saved = SavedConfig(self._device.name)
        try:
            there = saved.purge()
        except OSError as error:
            raise Refused(f"cannot delete {saved.path}: {error.strerror}") from None
        return f"Device configuration {saved.path} deleted." if there else f"There is no {saved.path}."

    def _apply(self, messages: Iterable[NewVector]) -> None:
        wanted = {message.name: message for message in messages}
        present = {vector.name: as_message(self._device.name, vector) for vector in self._settings()}
        self._loading = True
        try:
            # FOCUS_MAX once more at the end: neither order of the two ends suits every pair of new limits.
            for name in (*self._defaults, "FOCUS_MAX"):
                message = wanted.get(name)
                if message is not None and name in present and name not in self._fixed and message != present[name]:
                    self._device.handle(message)
        finally:
            self._loading = False
