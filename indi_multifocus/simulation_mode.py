# SPDX-License-Identifier: GPL-3.0-or-later
"""SIMULATION: a simulated controller in the driver's own process, in place of the one on the port.

Used by `driver.py` and `connection.py`, in the main thread. The simulated controller has a thread of its own and a
pseudo-terminal, so that everything above the port is as with a real one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .indi import Device, Refused
from .link_settings import LinkSettings, Values
from .settings.driver_settings import Settings

if TYPE_CHECKING:
    from .simulation.simulator import Simulator


class SimulationMode:
    """SIMULATION and SIMULATION_SPEED of all devices."""

    def __init__(self, settings: Settings, link_settings: LinkSettings, connected: Callable[[], bool]) -> None:
        """`connected`: whether the link is open, so that SIMULATION cannot be changed."""
        self._settings = settings
        self._link_settings = link_settings
        self._link = link_settings.properties
        self._connected = connected
        self._devices: list[Device] = []
        self._simulator: Simulator | None = None

    @property
    def on(self) -> bool:
        """Whether SIMULATION is enabled."""
        return self._link.simulation.on == "ENABLE"

    def define(self, device: Device) -> None:
        """Define SIMULATION on a device."""
        self._devices.append(device)
        device.define(self._link.simulation, self._new_simulation)

    def port(self) -> str:
        """The port of the simulated controller, which is started if it does not run."""
        if self._simulator is None:
            probes = {probe.address: 10.0 + number for number, probe in enumerate(self._settings.probes)}
            from .simulation.simulator import Simulator  # an observatory never needs it

            speed = self._link.simulation_speed["FACTOR"].value
            self._simulator = Simulator(channels=self._settings.channels, probes=probes, speed=speed)
            self._simulator.start()
        return self._simulator.port

    def stop(self) -> None:
        """End the simulated controller."""
        if self._simulator is not None:
            self._simulator.close()
            self._simulator = None

    def _new_simulation(self, values: Values) -> None:
        if self._connected():
            raise Refused("SIMULATION cannot be changed while connected: disconnect all channels first")
        self._link_settings.choose(self._link.simulation, values)
        if not self.on:
            self.stop()
        speed = self._link.simulation_speed
        for device in self._devices:
            device.remove(speed.name)
            if self.on:
                device.define(speed, self._new_speed)

    def _new_speed(self, values: Values) -> None:
        speed = self._link.simulation_speed
        speed["FACTOR"].value = float(values["FACTOR"])
        if self._simulator is not None:
            self._simulator.set_speed(speed["FACTOR"].value)
        self._link_settings.announce(speed)
