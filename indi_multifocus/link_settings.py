# SPDX-License-Identifier: GPL-3.0-or-later
"""What clients set of the link that all channels share: its port, and how often it is polled.

Used by `driver.py`, in the main thread. It is one set of properties, shown by every device: a change on one is
announced on all. What a change means for a link that is open is the driver's business.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence

from .controller.port import BY_ID, SOCKET, PortError, check_name, list_ports
from .indi import Device, Refused, State, Switch, SwitchVector, Value, Vector
from .properties import LinkProperties
from .settings.driver_settings import Settings

Values = Mapping[str, Value]


class LinkSettings:
    """The companion of the devices on one link."""

    def __init__(
        self, settings: Settings, *, changed_port: Callable[[Vector], None], changed_period: Callable[[float], None]
    ) -> None:
        """`changed_port`: called with the property, after a change of what is to be opened, or how; `changed_period`
        with the polling period in seconds."""
        self.properties = LinkProperties(settings)
        self._changed_port = changed_port
        self._changed_period = changed_period
        self._devices: Sequence[Device] = ()

    def define(self, device: Device) -> None:
        """Define those properties that come last on a device."""
        link = self.properties
        device.define(link.mode, self._new_mode)
        device.define(link.port, self._new_port)
        device.define(link.baud, self._new_baud)
        device.define(link.address, self._new_address)
        device.define(link.scan, self._new_scan)

    def define_polling(self, device: Device) -> None:
        """Define POLLING_PERIOD, which comes earlier."""
        device.define(self.properties.polling, self._new_polling)

    def serve(self, devices: Sequence[Device]) -> None:
        """These are all devices on the link."""
        self._devices = devices

    def offer_ports(self) -> None:
        """Offer the serial ports of this machine, if there are any."""
        if os.path.isdir(BY_ID):
            self._offer_ports()

    def announce(self, vector: Vector, state: State = State.OK) -> None:
        """Send the property to the clients of all devices."""
        vector.state = state
        for device in self._devices:
            device.update(vector)

    def choose(self, vector: SwitchVector, values: Values) -> None:
        """Accept a new value of a switch."""
        vector.select(vector.wanted(values))
        self.announce(vector)

    def _new_polling(self, values: Values) -> None:
        period_ms = float(values["PERIOD_MS"])
        self.properties.polling["PERIOD_MS"].value = period_ms
        self._changed_period(period_ms / 1000)
        self.announce(self.properties.polling)

    def _new_port(self, values: Values) -> None:
        name = str(values["PORT"]).strip()
        _check(name)
        self.properties.port["PORT"].value = name
        self._accept(self.properties.port)

    def _new_baud(self, values: Values) -> None:
        rate = next((name for name, on in values.items() if on), None)
        if rate is not None:
            self.properties.baud.select(rate)
        self._accept(self.properties.baud)

    def _new_address(self, values: Values) -> None:
        address = self.properties.address
        wanted = {name: str(values.get(name, text.value)).strip() for name, text in address.elements.items()}
        if any(wanted.values()):  # both empty is the default, and what most people save
            _check(f"{SOCKET}{wanted['ADDRESS']}:{wanted['PORT']}")
        for name, value in wanted.items():
            address[name].value = value
        self._accept(address)

    def _new_mode(self, values: Values) -> None:
        self.properties.mode.select(self.properties.mode.wanted(values))
        self._accept(self.properties.mode)

    def _accept(self, vector: Vector) -> None:
        self.announce(vector)
        self._changed_port(vector)

    def _new_scan(self, values: Values) -> None:
        scan = self.properties.scan
        ports = self._offer_ports()
        scan.clear()
        self.announce(scan, State.OK if ports else State.ALERT)
        for device in self._devices:
            if ports:
                device.info(f"Scan complete. Found {len(ports)} port(s).")
            else:
                device.warning("No candidate ports found on the system.")

    def _offer_ports(self) -> list[str]:
        """Offer this machine's serial ports, each as a switch that sets DEVICE_PORT."""
        ports = list_ports()
        system_ports = self.properties.system_ports
        system_ports.elements = {port: Switch(port, port) for port in ports}
        for device in self._devices:
            device.remove(system_ports.name)
            if ports:
                device.define(system_ports, self._new_system_port)
        return ports

    def _new_system_port(self, values: Values) -> None:
        port = next((name for name, on in values.items() if on), None)
        self.properties.system_ports.clear()
        if port is not None:
            self.properties.system_ports.select(port)
        self.announce(self.properties.system_ports)
        if port is not None:
            self.properties.port["PORT"].value = port
            self._accept(self.properties.port)


def _check(port: str) -> None:
    """Raise Refused unless `port` can be the name of a port."""
    try:
        check_name(port)
    except PortError as error:
        raise Refused(str(error)) from None
