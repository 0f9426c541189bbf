# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything serial: the poll thread, which alone owns the port, and the layers below it.

From the top down: `poll_thread.py` (the thread and the life of the link), `channel.py` (what a status means for one
channel), `motion.py` (how a motor moves), `session.py` (one opened port), `protocol.py` (bytes and replies), `port.py`
(opening a port). The driver imports names from here; nothing in here knows of INDI.
"""
