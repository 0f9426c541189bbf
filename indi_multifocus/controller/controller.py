# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller box as the main thread uses it: requests go in, snapshots come out by a callback.

`driver.py` has one `Controller`, and its focusers share it. Every method puts a request into the mailbox
(`requests.py`) and returns at once; the poll thread (`poll_thread.py`) does the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from .poll_thread import PollThread
from .requests import ChannelRequest, Mailbox, PortSettings, Schedule
from .snapshot import Snapshot


class Controller:
    """One controller box. Everything is for the main thread and returns at once."""

    def __init__(
        self,
        notify: Callable[[Snapshot], None],
        *,
        trace: Callable[[str], None] = lambda line: None,
        failed: Callable[[str], None] = lambda reason: None,
        probes: Iterable[str] = (),
    ) -> None:
        """All three are called in the poll thread: `notify` with each new snapshot; `trace` with each line
        of traffic, while tracing is on; `failed` with the reason when the poll thread ends by a bug of ours.

        `probes`: addresses of the temperature probes, 16 hexadecimal digits each.
        """
        self._mailbox = Mailbox()
        self._thread = PollThread(self._mailbox, notify, trace, failed, tuple(probes))

    def open(self, settings: PortSettings) -> int:
        """Open the link and keep it open, whatever happens to the cable, until `close()`.

        Returns the number that the snapshots of this attempt carry.
        """
        attempt = self._mailbox.new_number()
        self._mailbox.put_open(settings, attempt)
        self._thread.start()
        return attempt

    def reopen(self, settings: PortSettings) -> None:
        """Open this instead when the link is lost, which is at once where it is lost now."""
        self._mailbox.put(reopen=settings)

    def close(self) -> int:
        """Close the link. Pending stops are still sent; moves in progress are left to finish.

        Returns the number that the snapshot carries when the port is closed.
        """
        number = self._mailbox.new_number()
        self._mailbox.put(close=number, open=None)
        return number

    def move(self, channel: int, steps: int, via: int | None = None) -> int:
        """Move to `steps` (controller steps), by way of `via` where backlash is taken up. Returns the request
        number."""
        number = self._mailbox.new_number()
        self._mailbox.put_channel(channel, ChannelRequest(move=number, steps=steps, via=via))
        return number

    def stop(self, channel: int) -> int:
        """Stop where it is, before all other requests; pending ones are dropped. Returns the request number."""
        number = self._mailbox.new_number()
        self._mailbox.put_channel(channel, ChannelRequest(stop=number))
        return number

    def zero(self, channel: int) -> int:
        """Stop, and make this place 0. Returns the request number."""
        number = self._mailbox.new_number()
        self._mailbox.put_channel(channel, ChannelRequest(zero=number))
        return number

    def switch_fans(self, on: bool) -> int:
        """Fans on or off (second generation only). Returns the request number."""
        number = self._mailbox.new_number()
        self._mailbox.put(fans=(on, number))
        return number

    def set_schedule(self, schedule: Schedule) -> None:
        """Other polling periods and move time-out, from now on."""
        self._mailbox.put(schedule=schedule)

    def set_tracing(self, on: bool) -> None:
        """Whether `trace` gets the traffic."""
        self._mailbox.put(tracing=on)

    def shutdown(self, timeout_s: float, *, stop_moves: bool = False) -> bool:
        """Close the link and end the poll thread; waits for that, but no longer than `timeout_s`. Whether it ended.

        `stop_moves`: stop every moving channel first, since the driver failed and nobody will watch them.
        """
        self._mailbox.put(end=True, stop_moves=stop_moves)
        if not self._thread.join(timeout_s):
            return False
        self._mailbox.close()
        return True
