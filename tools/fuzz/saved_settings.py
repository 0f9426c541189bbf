# SPDX-License-Identifier: GPL-3.0-or-later
"""Anything in the settings that CONFIG_PROCESS saved: the driver starts, connects and saves anew, come what may."""

from __future__ import annotations

from indi_multifocus.indi import NewVector
from indi_multifocus.settings.driver_settings import Settings
from indi_multifocus.settings.files import FileWriter
from indi_multifocus.settings.saved_properties import SavedProperties

from .inside import Inside, workshop

DEVICE = "MultiFocus 1"

_SAVED = b"""<INDIDriver>
<newSwitchVector device='MultiFocus 1' name='DEBUG'>
  <oneSwitch name='ENABLE'>
      Off
  </oneSwitch>
  <oneSwitch name='DISABLE'>
      On
  </oneSwitch>
</newSwitchVector>
<newNumberVector device='MultiFocus 1' name='FOCUS_MAX'>
  <oneNumber name='FOCUS_MAX_VALUE'>
      50000
  </oneNumber>
</newNumberVector>
<newNumberVector device='MultiFocus 1' name='FOCUS_MIN'><oneNumber name='FOCUS_MIN_VALUE'>-5</oneNumber>
</newNumberVector>
<newTextVector device='MultiFocus 1' name='DEVICE_PORT'><oneText name='PORT'>
      /dev/ttyUSB0
  </oneText></newTextVector>
<newSwitchVector device='MultiFocus 1' name='FOCUS_REVERSE_MOTION'><oneSwitch name='INDI_ENABLED'>On</oneSwitch>
</newSwitchVector>
</INDIDriver>
"""

SEEDS = [
    _SAVED,
    b"<INDIDriver></INDIDriver>",
    b"<INDIDriver><newNumberVector device='MultiFocus 1' name='Presets'><oneNumber name='PRESET_1'>7</oneNumber>"
    b"</newNumberVector><newTextVector device='MultiFocus 1' name='DEVICE_ADDRESS'><oneText name='ADDRESS'>h</oneText>"
    b"<oneText name='PORT'>1</oneText></newTextVector><newSwitchVector device='MultiFocus 1' name='CONNECTION_MODE'>"
    b"<oneSwitch name='CONNECTION_TCP'>On</oneSwitch></newSwitchVector></INDIDriver>",
    b"<INDIDriver><newNumberVector device='MultiFocus 1' name='POLLING_PERIOD'><oneNumber name='PERIOD_MS'>1e3"
    b"</oneNumber></newNumberVector><newSwitchVector device='MultiFocus 1' name='DEVICE_BAUD_RATE'>"
    b"<oneSwitch name='19200'>On</oneSwitch></newSwitchVector>"
    b"<newSwitchVector device='Other' name='X'></newSwitchVector></INDIDriver>",
    b"",
]

_NAMES = """
DEBUG POLLING_PERIOD PERIOD_MS CONNECTION_MODE CONNECTION_TCP DEVICE_PORT PORT DEVICE_BAUD_RATE DEVICE_ADDRESS ADDRESS
FOCUS_MAX FOCUS_MAX_VALUE FOCUS_MIN FOCUS_MIN_VALUE FOCUS_BACKLASH_TOGGLE FOCUS_BACKLASH_STEPS FOCUS_BACKLASH_VALUE
Presets PRESET_2 FOCUS_REVERSE_MOTION INDI_ENABLED CONNECTION CONNECT ABS_FOCUS_POSITION FOCUS_ABSOLUTE_POSITION
"""

WORDS = [
    *["<INDIDriver>", "</INDIDriver>", " device='MultiFocus 1'", " name='", "'>", "</oneNumber>", "</oneSwitch>"],
    *["<newNumberVector", "</newNumberVector>", "<newSwitchVector", "</newSwitchVector>", "<newTextVector"],
    *["<oneNumber name='", "<oneSwitch name='", "<oneText name='", "</oneText>", "On", "Off", "<!--", "-->", "&lt;"],
    *["9600", "1e400", "-9999999", "Other"],
    *_NAMES.split(),
]


def run(data: bytes) -> None:
    """Start a driver on what is saved, connect, load and save again, and read back what that wrote."""
    with workshop() as place:
        place.write(".indi/MultiFocus 1_config.xml", data)
        before = _read()
        with Inside(Settings()) as inside:
            inside.connect_all()
            assert not inside.moved, "what was saved moved a motor"
            for action in ("CONFIG_LOAD", "CONFIG_SAVE", "CONFIG_LOAD", "CONFIG_DEFAULT"):
                inside.new(DEVICE, "CONFIG_PROCESS", "Switch", {action: "On"})
                inside.settle()
                if action == "CONFIG_SAVE":
                    _check_saved(before, connected=inside.driver.focusers[0].connected)
            assert not inside.moved, "what was saved moved a motor"
            inside.new(DEVICE, "CONFIG_PROCESS", "Switch", {"CONFIG_PURGE": "On"})
            inside.settle()
        assert _saved().read() == []


def _saved() -> SavedProperties:
    return SavedProperties(DEVICE, FileWriter(lambda report: None))


def _read() -> list[NewVector]:
    problem = ""
    try:
        return _saved()._read_all()
    except ValueError as error:
        problem = str(error)
    assert problem.isprintable()
    return []


def _check_saved(before: list[NewVector], *, connected: bool) -> None:
    """The settings are there, and what belongs to other devices has stayed."""
    after = _saved()._read_all()
    names = {vector.name for vector in after if vector.device == DEVICE}
    assert {"DEBUG", "DEVICE_PORT"} <= names
    assert not connected or {"FOCUS_MAX", "Presets"} <= names
    others = {(vector.device, vector.name) for vector in before if vector.device.strip() != DEVICE}
    assert len(others) <= len({(vector.device, vector.name) for vector in after if vector.device != DEVICE}) + 1
