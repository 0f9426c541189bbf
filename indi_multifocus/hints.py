# SPDX-License-Identifier: GPL-3.0-or-later
"""What annotations and aliases of types take from `typing`, without importing it.

Used by every module of the driver, protocol.py and indi/ included: to them it is a piece of the standard library. To
type checkers it is `typing` itself; when the driver runs nothing looks at a hint, so here they mean nothing.

Why: importing typing was a sixth of the time from the driver's start to its last definition.
"""

from __future__ import annotations

TYPE_CHECKING = False
"""True to type checkers, which go by the name."""

__all__ = ["TYPE_CHECKING", "Generic", "Protocol", "TypeVar", "Union"]

if TYPE_CHECKING:
    from typing import Generic, Protocol, TypeVar, Union
else:

    class Generic:
        """Takes any parameters."""

        __slots__ = ()

        def __class_getitem__(cls, parameters):
            return cls

    Union = Generic
    Protocol = object

    def TypeVar(name, *constraints, **options):
        """A parameter's name."""
        return name
