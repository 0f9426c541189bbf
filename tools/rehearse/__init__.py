# SPDX-License-Identifier: GPL-3.0-or-later
"""`make rehearse`: the real Ekos focuses the simulated telescope, through indiserver and the driver.

- `desktop`: a virtual display, a message bus, and KStars with an Ekos profile; also used by `make test-kstars`.
- `observatory`: indiserver with a focuser and libindi's simulated camera and mount, and the focusers to choose from.
- `relay`: what passes between KStars and indiserver about the focuser, with times.
- `autofocus`: one run of Ekos's autofocus, and what came of it.
- `scenarios`: what is rehearsed; `__main__` runs them, and draws the pictures.
- `gsc`: the stars of the simulated camera.
"""
