# SPDX-License-Identifier: GPL-3.0-or-later
"""`dataclass`, `field`, `replace` and `Enum` as in the standard library's dataclasses and enum, as far as the driver
uses them.

Used by every module of the driver that has a record, protocol.py and indi/ included: to them it is a piece of the
standard library. To type checkers it is dataclasses and enum themselves.

Why: clients wait for a driver's definitions, and more than half of the driver's start was to import dataclasses (and
with it inspect), and to have it compile four methods for each of some thirty classes. Here a class costs next to
nothing, and a new instance a microsecond more. Not there: inherited fields, order, slots, `__post_init__`.
"""

from __future__ import annotations

from .hints import TYPE_CHECKING

__all__ = ["Enum", "dataclass", "field", "replace"]

if TYPE_CHECKING:
    from dataclasses import dataclass, field, replace
    from enum import Enum
else:

    class _Members(type):
        def __iter__(cls):
            return iter(cls._members.values())

    class Enum(metaclass=_Members):
        """Members are the names in capital letters; each has its `name` and `value`, and `cls(value)` finds it."""

        def __init_subclass__(cls):
            members = cls._members = {}
            for name, value in [item for item in vars(cls).items() if item[0].isupper()]:
                member = str.__new__(cls, value) if issubclass(cls, str) else object.__new__(cls)
                member.name, member.value = name, value
                members[value] = member
                setattr(cls, name, member)

            def find(cls, value):
                if value not in members:
                    raise ValueError(f"{value!r} is not a valid {cls.__qualname__}")
                return members[value]

            # Set here, since str would come first where a class has both as its bases.
            cls.__new__ = find
            cls.__reduce_ex__ = lambda self, protocol: (cls, (self.value,))
            cls.__repr__ = lambda self: f"<{cls.__qualname__}.{self.name}: {self.value!r}>"

    class field:
        """A default that is made anew for each instance."""

        def __init__(self, *, default_factory):
            self.make = default_factory

    def replace(record, **changes):
        """A copy with other values. Raises TypeError for a name that is no field."""
        return type(record)(**{**record.__dict__, **changes})

    def dataclass(cls=None, *, frozen=False):
        """Make a record of a class: its annotated names are the fields, in order."""
        if cls is None:
            return lambda cls: dataclass(cls, frozen=frozen)
        names = tuple(getattr(cls, "__annotations__", ()))
        defaults = {name: cls.__dict__[name] for name in names if name in cls.__dict__}

        def init(self, *args, **named):
            values = self.__dict__
            values.update(zip(names, args))
            values.update(named)
            if len(values) != len(names) or len(args) + len(named) != len(names):
                _complete(cls, names, defaults, args, named, values)

        def equal(self, other):
            return self.__dict__ == other.__dict__ if type(self) is type(other) else NotImplemented

        def represent(self):
            values = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
            return f"{cls.__qualname__}({values})"

        cls.__init__, cls.__eq__, cls.__repr__ = init, equal, represent
        cls.__hash__ = None
        if frozen:
            cls.__hash__ = lambda self: hash(tuple([getattr(self, name) for name in names]))
            cls.__setattr__ = cls.__delattr__ = _refuse
        return cls

    def _complete(cls, names, defaults, args, named, values):
        """Fill in defaults. Raises TypeError where the arguments do not fit the fields."""
        for name in (*names[: len(args)], *named):
            if name not in names or (name in named and name in names[: len(args)]):
                raise TypeError(f"{cls.__qualname__}() got an unexpected argument {name!r}, or that one twice")
        if len(args) > len(names):
            raise TypeError(f"{cls.__qualname__}() takes {len(names)} arguments, and {len(args)} were given")
        for name in names:
            if name not in values:
                if name not in defaults:
                    raise TypeError(f"{cls.__qualname__}() misses the argument {name!r}")
                default = defaults[name]
                values[name] = default.make() if isinstance(default, field) else default

    def _refuse(self, name, *value):
        """A frozen record stays as it is."""
        raise AttributeError(f"cannot assign to field {name!r}")
