# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of an indiserver, by what its usage says it can do."""

from __future__ import annotations

import pytest

from focus_cli import indiserver


@pytest.mark.parametrize(
    ("usage", "local"),
    [
        (" -m m : kill client\n -u path  : Path for the local connection socket (abstract)\n", ["-u", "/tmp/a"]),
        (" -m m : kill client\n -p p     : alternate IP port\n", []),
    ],
    ids=["1.9", "1.8"],
)
def test_the_local_socket_is_named_where_there_is_one(
    usage: str, local: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indiserver, "usage", lambda: usage)
    assert indiserver.command(7000, "/tmp/a", "-r", "0") == ["indiserver", "-p", "7000", *local, "-r", "0"]
