# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of machines on the network, as the resolver takes them. Used for the configuration and for registry.json."""

from __future__ import annotations

import re

_LABEL = "[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
HOST_NAME = rf"^(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*\Z"
"""RFC 1123: labels of 1 to 63 characters, 253 in all; and _, as in /etc/hosts. IPv4 addresses match too."""

_NAME = re.compile(HOST_NAME)


def is_host_name(text: str) -> bool:
    """Whether the resolver can be asked for it."""
    return _NAME.match(text) is not None
