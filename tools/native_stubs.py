"""Stand in for compiled extension modules, which no argument parser needs.

Lets a GPU wheel's Python files be imported on a machine without the driver library, or under
another interpreter than the one its extensions were built for.
"""

from __future__ import annotations

import importlib
import sys
import types


class Placeholder:
    """Any class or function of a compiled module; never called while parsers are built."""

    def __init__(self, *_args: object, **_kwargs: object) -> None: ...

    def __class_getitem__(cls, _item: object) -> type[Placeholder]:
        return cls


class NativeStub(types.ModuleType):
    """A module that has every public name and does nothing."""

    __path__: list[str] = []  # noqa: RUF012 -- what marks a package, as import expects it

    def __getattr__(self, name: str) -> type[Placeholder]:
        if name.startswith("__"):
            raise AttributeError(name)
        return Placeholder


def install(*names: str) -> None:
    """Put a stub in place of each named module that cannot be imported here."""
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError:
            sys.modules[name] = NativeStub(name)
