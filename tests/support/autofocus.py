# SPDX-License-Identifier: GPL-3.0-or-later
"""An autofocus without KStars: a V-curve through pyindi-client, on frames of libindi's CCD simulator or on a formula.

`run` does what an autofocus program does: it moves a focuser through a row of positions, measures the width of the
stars at each, fits a parabola and moves to its lowest point. What it measures with is one of two:

- `Camera`: the frames of `indi_simulator_ccd`, which blurs its stars by the focuser's ABS_FOCUS_POSITION. Widths are
  half-flux radii in pixels.
- `Optics`: a formula over the commands that a simulated controller received, with play in the mechanics, which the
  positions on INDI do not show.
"""

from __future__ import annotations

import array
import math
import re
import statistics
import sys
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Callable

import PyIndi
from support import DEADLINE_S, ROOT

GSC = ROOT / "tools" / "rehearse"
"""The folder of a program `gsc`, which the CCD simulator finds by PATH and asks for stars."""

CAMERA, POSITION = "CCD Simulator", "ABS_FOCUS_POSITION"
FOCAL_LENGTH_MM, APERTURE_MM = 800, 200
EXPOSURE_S = 0.02
NOISE = 2
"""Of the simulated camera, in units of a pixel."""
BOX_PX = 96


class Observer(PyIndi.BaseClient):  # type: ignore[misc]
    """An INDI client by pyindi-client, which waits for what it needs; a context manager."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self._changed = threading.Condition()
        self._fits = b""
        self.setServer("127.0.0.1", port)

    def __enter__(self) -> Observer:
        assert self.connectServer(), "the INDI server does not accept the connection"
        return self

    def __exit__(self, *_: object) -> None:
        self.disconnectServer()

    def newProperty(self, property: Any) -> None:
        self.updateProperty(property)

    def updateProperty(self, property: Any) -> None:
        """Called in the library's thread."""
        with self._changed:
            if property.getType() == PyIndi.INDI_BLOB:
                blob = PyIndi.PropertyBlob(property)[0]
                if blob.getBlobLen():
                    self._fits = bytes(blob.getblobdata())
            self._changed.notify_all()

    def wait(self, condition: Callable[[], Any], what: str) -> None:
        """Sleep until `condition` is true."""
        with self._changed:
            assert self._changed.wait_for(condition, DEADLINE_S), f"in vain waited for {what}"

    def property(self, device: str, name: str) -> Any:
        """The property, when it is defined."""
        self.wait(lambda: self._find(device, name) is not None, f"{device}.{name}")
        return self._find(device, name)

    def _find(self, device: str, name: str) -> Any:
        found = self.getDevice(device)
        property_ = found.getProperty(name) if found else None
        return property_ if property_ and property_.isValid() else None

    def state(self, device: str, name: str) -> str:
        """Idle, Ok, Busy or Alert."""
        return str(self.property(device, name).getStateAsString())

    def number(self, device: str, name: str, element: str) -> float:
        """The value of a number."""
        numbers = PyIndi.PropertyNumber(self.property(device, name))
        return next(float(number.getValue()) for number in numbers if number.getName() == element)

    def send_numbers(self, device: str, name: str, **values: float) -> None:
        """Send a newNumberVector."""
        # A vector of our own: the library's changes whenever an update arrives.
        self._send(PyIndi.PropertyNumber(len(values)), device, name, values, "setValue")

    def send_text(self, device: str, name: str, **values: str) -> None:
        """Send a newTextVector."""
        self._send(PyIndi.PropertyText(len(values)), device, name, values, "setText")

    def turn_on(self, device: str, name: str, element: str) -> None:
        """Send a newSwitchVector."""
        self._send(PyIndi.PropertySwitch(1), device, name, {element: PyIndi.ISS_ON}, "setState")

    def _send(self, vector: Any, device: str, name: str, values: dict[str, Any], setter: str) -> None:
        self.property(device, name)
        vector.setDeviceName(device)
        vector.setName(name)
        for element, (key, value) in zip(vector, values.items()):
            element.setName(key)
            getattr(element, setter)(value)
        self.sendNewProperty(vector)

    def connect(self, device: str) -> None:
        """Connect a device."""
        self.turn_on(device, "CONNECTION", "CONNECT")
        self.wait(lambda: self.state(device, "CONNECTION") == "Ok", f"{device} to connect")

    def move(self, device: str, position: int) -> None:
        """Move a focuser, and wait until it has arrived."""
        self.send_numbers(device, POSITION, FOCUS_ABSOLUTE_POSITION=position)

        def is_there() -> bool:
            state = self.state(device, POSITION)
            assert state != "Alert", f"{device} does not move to {position}"
            return state == "Ok" and self.number(device, POSITION, "FOCUS_ABSOLUTE_POSITION") == position

        self.wait(is_there, f"{device} to arrive at {position}")

    def expose(self) -> Frame:
        """A frame of the camera."""
        with self._changed:
            self._fits = b""
        self.send_numbers(CAMERA, "CCD_EXPOSURE", CCD_EXPOSURE_VALUE=EXPOSURE_S)
        self.wait(lambda: self._fits, "a frame")
        return Frame(self._fits)


class Frame:
    """A FITS image of 16 bits a pixel."""

    def __init__(self, fits: bytes) -> None:
        head = fits[: fits.index(b"END" + b" " * 77)]
        self.width, self.height = (int(re.findall(rb"NAXIS%d *= *(\d+)" % axis, head)[0]) for axis in (1, 2))
        self.pixels = array.array("h", fits[2880 * (len(head) // 2880 + 1) :][: 2 * self.width * self.height])
        if sys.byteorder == "little":
            self.pixels.byteswap()

    def brightest(self) -> tuple[int, int]:
        """Column and row of the brightest pixel."""
        row, column = divmod(self.pixels.index(max(self.pixels)), self.width)
        return column, row

    @property
    def has_stars(self) -> bool:
        """Whether there is anything but the sky and its noise."""
        return max(self.pixels) > statistics.median(self.pixels) + 50 * NOISE

    def half_flux_radius(self) -> float:
        """Of the one star in it, in pixels: the mean distance of its light from its centre."""
        sky = statistics.median(self.pixels)
        threshold = sky + 0.05 * (max(self.pixels) - sky)
        light = [
            (pixel - sky, index % self.width, index // self.width)
            for index, pixel in enumerate(self.pixels)
            if pixel > threshold
        ]
        flux = sum(value for value, _, _ in light)
        x, y = (sum(part[0] * part[axis] for part in light) / flux for axis in (1, 2))
        return sum(value * math.hypot(column - x, row - y) for value, column, row in light) / flux


class Camera:
    """libindi's CCD simulator, pointed at its brightest star, with a focuser in front."""

    def __init__(self, observer: Observer, focuser: str, *, best: int, travel: int) -> None:
        """`best`: the position of the best focus. At `best` ± `travel` / 20 the stars are 0.56 arcseconds wider than
        3.5, and the excess grows with the square of the distance."""
        self._observer = observer
        observer.connect(CAMERA)
        observer.setBLOBMode(PyIndi.B_ALSO, CAMERA, None)
        send = observer.send_numbers
        send(CAMERA, "POLLING_PERIOD", PERIOD_MS=10)
        send(CAMERA, "SCOPE_INFO", FOCAL_LENGTH=FOCAL_LENGTH_MM, APERTURE=APERTURE_MM)
        # Stars of magnitude 8 are as bright as they can be after a second.
        send(CAMERA, "SIMULATOR_SETTINGS", SIM_SATURATION=8, SIM_NOISE=NOISE)
        send(CAMERA, "SIM_FOCUSING", SIM_FOCUS_POSITION=best, SIM_FOCUS_MAX=travel, SIM_SEEING=3.5)
        observer.send_text(CAMERA, "ACTIVE_DEVICES", ACTIVE_FOCUSER=focuser)
        whole = observer.expose()
        self._size = (whole.width, whole.height)
        self._point(*whole.brightest())

    def __call__(self) -> float:
        """Expose, and measure the star. Without a mount it moves by some pixels a second, as the sky does."""
        for _ in range(20):
            frame = self._observer.expose()
            if not frame.has_stars:
                self._point(*self._whole_frame().brightest())
                continue
            column, row = frame.brightest()
            if max(abs(column - BOX_PX // 2), abs(row - BOX_PX // 2)) <= BOX_PX // 4:
                return frame.half_flux_radius()
            self._point(self._left + column, self._top + row)
        raise AssertionError("the star is never in the middle of a frame")

    def _point(self, column: int, row: int) -> None:
        """Read a box around this pixel from now on, as far as that is inside the frame."""
        self._left, self._top = (
            max(0, min(at - BOX_PX // 2, size - BOX_PX)) for at, size in zip((column, row), self._size)
        )
        self._read(self._left, self._top, BOX_PX, BOX_PX)

    def _whole_frame(self) -> Frame:
        self._read(0, 0, *self._size)
        return self._observer.expose()

    def _read(self, left: int, top: int, width: int, height: int) -> None:
        self._observer.send_numbers(CAMERA, "CCD_FRAME", X=left, Y=top, WIDTH=width, HEIGHT=height)


class Optics:
    """A formula in place of a camera: width = 2.5 + (distance from `best` / 1000)², with `play` in the mechanics.

    The optics follow the motor when it has gone through the play, in steps. Where the motor was is read from the
    commands that the simulated controller received, of which each is taken as carried out.
    """

    def __init__(self, targets: Callable[[], Iterable[int]], *, best: int, play: int) -> None:
        self._targets, self._best, self._play = targets, best, play

    @property
    def position(self) -> int:
        """Where the optics are: the motor's position when it came there outward."""
        position = 0
        for target in self._targets():
            position = min(max(position, target), target + self._play)
        return position

    def __call__(self) -> float:
        """The width of the stars."""
        return 2.5 + ((self.position - self._best) / 1000) ** 2


@dataclass(frozen=True)
class Curve:
    """What an autofocus found."""

    points: Sequence[tuple[int, float]]
    """Positions and widths."""
    best: int
    """The lowest point of the parabola through them, and where the focuser stands at the end."""
    width: float
    """Measured there."""


def run(observer: Observer, focuser: str, measure: Callable[[], float], *, start: int, step: int, count: int) -> Curve:
    """Measure at `count` positions from `start` inward, and move to the best focus that they show."""
    points = []
    for position in range(start, start - count * step, -step):
        observer.move(focuser, position)
        points.append((position, measure()))
    best = lowest_point(points)
    observer.move(focuser, best)
    return Curve(points, best, measure())


def lowest_point(points: Sequence[tuple[int, float]]) -> int:
    """Where the parabola by least squares has its minimum."""
    middle = statistics.mean(x for x, _ in points)
    scale = max(abs(x - middle) for x, _ in points)
    known = [((x - middle) / scale, y) for x, y in points]
    # Normal equations of y = a + b x + c x², by Cramer's rule.
    power = [sum(x**n for x, _ in known) for n in range(5)]
    right = [sum(y * x**n for x, y in known) for n in range(3)]

    def determinant(column: int) -> float:
        m = [[right[row] if at == column else power[row + at] for at in range(3)] for row in range(3)]
        return sum(
            m[0][at] * (m[1][(at + 1) % 3] * m[2][(at + 2) % 3] - m[1][(at + 2) % 3] * m[2][(at + 1) % 3])
            for at in range(3)
        )

    slope, bend = determinant(1), determinant(2)
    assert bend * determinant(3) > 0, f"these points have no lowest: {points}"
    return round(middle - scale * slope / (2 * bend))
