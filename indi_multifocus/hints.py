# SPDX-License-Identifier: GPL-3.0-or-later
"""What annotations and aliases of types take from `typing` and `collections.abc`, without importing them.

Used by every module of the driver, protocol.py and indi/ included: to them it is a piece of the standard library. To
type checkers it is those modules themselves; when the driver runs nothing looks at a hint, so here they mean nothing.

Why: importing typing was a sixth of the time from the driver's start to its last definition, and collections is some
more of it.
"""

from __future__ import annotations

TYPE_CHECKING = False
"""True to type checkers, which go by the name."""

__all__ = [
    "TYPE_CHECKING",
    "Callable",
    "Collection",
    "Container",
    "Generic",
    "Iterable",
    "Iterator",
    "Mapping",
    "Protocol",
    "Sequence",
    "TypeVar",
    "Union",
]

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping, Sequence
    from typing import Generic, Protocol, TypeVar, Union
else:

    class Generic:
        """Takes any parameters."""

        __slots__ = ()

        def __class_getitem__(cls, parameters):
            return cls

    Union = Callable = Collection = Container = Iterable = Iterator = Mapping = Sequence = Generic
    Protocol = object

    def TypeVar(name, *constraints, **options):
        """A parameter's name."""
        return name
