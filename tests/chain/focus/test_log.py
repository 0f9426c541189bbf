# SPDX-License-Identifier: GPL-3.0-or-later
"""focusd's log: on its stream at once, in the observatory's log when that takes it, and never in the way."""

from __future__ import annotations

import io
import threading
from types import ModuleType
from typing import Any

from focus_cli import log as log_module
from focus_cli.log import Log


class Observatory(ModuleType):
    """A log module whose server may be down: then a message hangs, as for a connection that times out."""

    def __init__(self) -> None:
        super().__init__("observatory")
        self.written: list[tuple[str, str, str]] = []
        self.up = threading.Event()
        self.up.set()
        for level in ("info", "warning", "error"):
            setattr(self, level, lambda table, message, level=level: self._write(level, table, message))

    def _write(self, level: str, table: str, message: str) -> None:
        self.up.wait()
        if message == "bad":
            raise OSError("refused")
        self.written.append((level, table, message))


def test_messages_go_to_the_stream_with_time_level_and_name() -> None:
    stream = io.StringIO()
    log = Log("focusd@test", None, stream)
    log.info("one")
    log.error("two")
    first, second = stream.getvalue().splitlines()
    assert first.endswith("Z INFO focusd@test: one")
    assert second.endswith("Z ERROR focusd@test: two")


def test_messages_go_to_the_observatorys_log_in_order(until: Any) -> None:
    observatory, stream = Observatory(), io.StringIO()
    log = Log("focusd@test", observatory, stream)
    for n in range(50):
        (log.info, log.warning, log.error)[n % 3](f"message {n}")
    log.close()
    until(lambda: len(observatory.written) == 50)
    assert [message for _, _, message in observatory.written] == [f"message {n}" for n in range(50)]
    assert observatory.written[2] == ("error", "focusd@test", "message 2")


def test_a_log_server_that_is_down_delays_nothing_and_takes_no_memory(monkeypatch: Any, until: Any) -> None:
    monkeypatch.setattr(log_module, "MAX_WAITING", 10)
    observatory, stream = Observatory(), io.StringIO()
    observatory.up.clear()
    log = Log("t", observatory, stream)
    for n in range(1000):
        log.info(f"message {n}")
    assert stream.getvalue().count("INFO t: message") == 1000
    assert stream.getvalue().count("does not take messages") == 1
    log.close()
    observatory.up.set()
    until(lambda: len(observatory.written) >= 10)
    assert len(observatory.written) <= 11


def test_an_error_of_the_observatorys_log_is_reported_and_survived(until: Any) -> None:
    observatory, stream = Observatory(), io.StringIO()
    log = Log("t", observatory, stream)
    log.info("bad")
    log.info("good")
    until(lambda: observatory.written == [("info", "t", "good")])
    assert "the observatory's log failed: refused" in stream.getvalue()
    log.close()


def test_a_stream_that_nobody_reads_any_more_is_no_error() -> None:
    stream = io.StringIO()
    stream.close()
    Log("t", None, stream).error("unheard")
