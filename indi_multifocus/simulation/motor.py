# SPDX-License-Identifier: GPL-3.0-or-later
"""One stepper motor of a simulated controller, without I/O and without a clock: time is the number of the interrupt.

The companion of `firmware.py`, which has one for each channel.
"""

from __future__ import annotations


class Motor:
    """One stepper motor as the timer interrupt drives it: the state between two interrupts."""

    def __init__(self, microsteps: int, tick: int) -> None:
        self.current = microsteps
        self.target = microsteps
        self.shaft = 0  # microsteps that the motor has really turned; no zero and no power cycle changes it
        self.stalled = False
        self.rest_tick = tick  # the interrupt at which it last came to rest
        self._tick = tick
        self._enabled = False
        self._step_high = False

    @property
    def moving(self) -> bool:
        return self.current != self.target

    def advance(self, tick: int) -> None:
        """Let every interrupt up to and including number `tick` happen (main.c, ISR(TIMER1_COMPA_vect))."""
        interrupts = tick - self._tick
        if interrupts <= 0:
            return
        first, self._tick = self._tick, tick
        if self.stalled:
            return
        distance = self.target - self.current
        if distance == 0:
            self._enabled = False
            return
        if not self._enabled:
            # This interrupt only switches the motor on.
            self._enabled = self._step_high = True
            interrupts -= 1
            first += 1
        # The step line rises once in two interrupts, and the count changes with it; if it is low now, at the
        # first of them.
        needed = 2 * abs(distance) - (0 if self._step_high else 1)
        if interrupts >= needed:
            steps = abs(distance)
            self._step_high = True
            self._enabled = interrupts == needed
            self.rest_tick = first + needed
        else:
            steps = (interrupts + (0 if self._step_high else 1)) // 2
            self._step_high = self._step_high == (interrupts % 2 == 0)
        turned = steps if distance > 0 else -steps
        self.current += turned
        self.shaft += turned

    def aim(self, target: int) -> None:
        """Take a new target, in microsteps.  `advance` to the present first."""
        if self.moving and target == self.current:
            self.rest_tick = self._tick
        self.target = target

    def place(self, microsteps: int) -> None:
        """Be here, at rest: the zero command, and power-on.  `advance` to the present first."""
        if self.moving:
            self.rest_tick = self._tick
        self.current = self.target = microsteps

    def lose_power(self, microsteps: int) -> None:
        """Power went and came back: `microsteps` is what the EEPROM remembered."""
        self.place(microsteps)
        self._enabled = self._step_high = False
