# SPDX-License-Identifier: GPL-3.0-or-later
"""`make test-kstars`: a real KStars, in a virtual display, uses the driver as an observer would; driven by its D-Bus.

Not collected by pytest: KStars with all that it needs is some 500 MB. It finds the driver by the catalogue entry,
starts it from an Ekos profile together with simulated camera and mount, connects both channels of a simulated
controller, moves, aborts, reads positions, and moves the focuser from Ekos's focus module. Pictures of the control
panel and of that module go into the folder that is given.

Exit status 0 when everything was as it should be. Every process that is started is ended.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
sys.path.append(str(PROJECT))

from tools.rehearse.desktop import Failed, KStars, Profile, Train, wait_for  # noqa: E402
from tools.rehearse.observatory import CAMERA, MOUNT, environment, multifocus  # noqa: E402

ONE, TWO = "MultiFocus 1", "MultiFocus 2"


def observe(kstars: KStars, pictures: Path) -> None:
    """The session itself."""
    kstars.start_profile(ONE, TWO)
    for device in (ONE, TWO):
        wait_for(f"{device} has a position", partial(_is_in, kstars, "Ok", device))
    kstars.move(ONE, 300)
    kstars.move(TWO, 30_000)
    wait_for("both move", lambda: kstars.position(ONE) > 0 and kstars.position(TWO) > 0)
    wait_for(f"{ONE} arrives", lambda: kstars.state(ONE) == "Ok" and kstars.position(ONE) == 300)
    kstars.switch(TWO, "FOCUS_ABORT_MOTION", "ABORT")
    wait_for(f"{TWO} is stopped on the way", lambda: kstars.state(TWO) == "Idle" and 0 < kstars.position(TWO) < 30_000)
    wait_for("Ekos's focus module has a focuser", lambda: str(kstars.focus_property("focuser")) == ONE)
    before = kstars.position(ONE)
    if not kstars.focus.focusOut(100):
        raise Failed("the focus module does not move the focuser")
    wait_for("it moves the focuser", lambda: kstars.position(ONE) == before + 100)
    kstars.show_focus_module()
    kstars.picture("^Ekos", pictures / "ekos.png")
    if not kstars.windows("INDI Control Panel"):
        kstars.trigger("show_control_panel")
    window = wait_for("the control panel is there", lambda: kstars.windows("INDI Control Panel"))[-1]
    kstars.xdotool("windowsize", window, "900", "900", "windowmove", window, "0", "0")
    kstars.xdotool("windowraise", window, "windowfocus", window)
    time.sleep(1)  # until it is painted, a key is lost
    # The order of the tabs is another each time; the channel's number is underlined in its own.
    kstars.xdotool("key", f"alt+{ONE[-1]}")
    kstars.picture("INDI Control Panel", pictures / "control_panel.png")
    kstars.ekos.stop()


def _is_in(kstars: KStars, state: str, device: str) -> bool:
    return kstars.state(device) == state


def main() -> int:
    """Run the session; returns the exit status."""
    pictures = Path(sys.argv[1])
    pictures.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        home = Path(tempfile.mkdtemp(prefix="kstars-"))
        stack.callback(shutil.rmtree, home, ignore_errors=True)
        focuser = stack.enter_context(multifocus(home))
        drivers = {MOUNT: "Mount", CAMERA: "CCD", focuser.label: "Focuser"}
        profile = Profile("MultiFocus", drivers, trains=(Train("Primary", ONE, {}),))
        try:
            kstars = stack.enter_context(KStars(home, {**environment(), **focuser.environment}, profile))
            observe(kstars, pictures)
        except Failed as problem:
            print(f"FAILED: {problem}\n{(home / 'kstars.log').read_text(errors='replace')[-3000:]}")
            return 1
    print("KStars uses the driver as it should")
    return 0


if __name__ == "__main__":
    sys.exit(main())
