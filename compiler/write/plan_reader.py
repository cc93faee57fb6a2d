"""Read a plan back from text that anybody may have written: by the types of its own fields."""

from __future__ import annotations

import typing
from collections.abc import Callable, Hashable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import lru_cache
from types import UnionType
from typing import Any, Union, get_args, get_origin

from compiler.plan import FORMAT, Plan
from compiler.process import Launch, Process
from compiler.write.plan_forms import FORMS, KEYS, NOT_EMPTY, PORTS, TEXT
from compiler.write.plan_sense import refuse_senseless
from compiler.write.strict_json import NotStrict, read_json, refuse_odd_values, shown

Path = tuple[str | int, ...]
_LARGEST = 2**62


class NotAPlan(ValueError):
    """What is no plan that dync wrote: where, what stands there, what was expected."""


def plan_from_json(text: str | bytes) -> Plan:
    """Read a plan, and believe nothing of it.

    Errors: NotAPlan for text that is no plan of this format.
    """
    try:
        data = read_json(text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text)
        refuse_odd_values(data)
    except NotStrict as error:
        raise NotAPlan(str(error)) from None
    if not isinstance(data, dict):
        raise NotAPlan(f"{shown(data)}, expected a mapping")
    if data.get("format") != FORMAT or isinstance(data["format"], bool):
        raise NotAPlan(f"plan format {shown(data.get('format'))} is not {FORMAT}")
    plan: Plan = _record(Plan, data, ())
    try:
        refuse_senseless(plan)
    except NotStrict as error:
        raise NotAPlan(str(error)) from None
    return plan


def _record(kind: type[Any], data: Any, path: Path) -> Any:
    """Read a mapping into a dataclass: its fields and no others, each of its type."""
    if not isinstance(data, dict):
        raise _wrong(path, data, "a mapping")
    if kind is Process:
        data = _with_launch(data)
    hints = _hints(typing.cast(Hashable, kind))
    for name in hints:
        if name not in data:
            raise NotAPlan(f"{_dotted(path)}no {name!r}")
    for name in data:
        if name not in hints:
            raise NotAPlan(f"{_dotted(path)}{shown(name)} is no key of it")
    return kind(
        **{
            name: _value(hint, data[name], _at(kind, path, name), (kind, name))
            for name, hint in hints.items()
        }
    )


def _with_launch(data: Mapping[str, Any]) -> dict[str, Any]:
    """Give a process its launch, whose fields are written among its own."""
    own = _hints(typing.cast(Hashable, Launch))
    rest = {name: value for name, value in data.items() if name not in own}
    if "launch" in rest:
        return {**rest, "launch there": None}
    return {**rest, "launch": {name: value for name, value in data.items() if name in own}}


def _at(kind: type[Any], path: Path, name: str) -> Path:
    return path if kind is Process and name == "launch" else (*path, name)


@lru_cache(maxsize=64)
def _hints(kind: Any) -> dict[str, Any]:
    """Return the types of a dataclass's fields, in their order."""
    hints = typing.get_type_hints(kind)
    return {item.name: hints[item.name] for item in fields(kind)}


def _value(hint: Any, data: Any, path: Path, of: tuple[type[Any], str]) -> Any:
    read, known = _reader(hint)
    return read(known, data, path, of)


@lru_cache(maxsize=256)
def _reader(hint: Any) -> tuple[_Reader, Any]:
    """Return what reads values of a type, and the type that it is told."""
    if hasattr(hint, "__supertype__"):
        return _reader(hint.__supertype__)
    if is_dataclass(hint):
        return _part, hint
    if any(get_origin(kind) is list for kind in get_args(hint)):  # document.Json
        return _anything, hint
    return _READERS.get(get_origin(hint) or hint, _member), hint


def _part(hint: Any, data: Any, path: Path, _: tuple[type[Any], str]) -> Any:
    return _record(hint, data, path)


def _anything(_: Any, data: Any, __: Path, ___: tuple[type[Any], str]) -> Any:
    return data


@lru_cache(maxsize=256)
def _choices(hint: Any) -> tuple[bool, Any, Any]:
    """Return whether a value may be nothing, its type where it is a mapping, and where not."""
    kinds = get_args(hint)
    rest = [kind for kind in kinds if kind is not type(None)]
    records = [kind for kind in rest if is_dataclass(kind)]
    return type(None) in kinds, (records or rest)[0], rest[0]


def _one_of(hint: Any, data: Any, path: Path, of: tuple[type[Any], str]) -> Any:
    """Read what may be nothing, a word or a record, told apart by what is there."""
    may_be_nothing, record, other = _choices(hint)
    if data is None and may_be_nothing:
        return None
    return _value(record if isinstance(data, dict) else other, data, path, of)


def _list(hint: Any, data: Any, path: Path, of: tuple[type[Any], str]) -> tuple[Any, ...]:
    if not isinstance(data, list):
        raise _wrong(path, data, "a list")
    if not data and of in NOT_EMPTY:
        raise _wrong(path, data, "a list that is not empty")
    read, item = _reader(get_args(hint)[0])
    return tuple(read(item, part, (*path, number), of) for number, part in enumerate(data))


def _mapping(hint: Any, data: Any, path: Path, of: tuple[type[Any], str]) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise _wrong(path, data, "a mapping")
    form = KEYS.get(of, TEXT)
    for name in data:
        if not form.fits(name):
            raise _wrong((*path, "a key"), name, form.words)
    read, item = _reader(get_args(hint)[1])
    return {name: read(item, part, (*path, name), of) for name, part in data.items()}


def _text(_: Any, data: Any, path: Path, of: tuple[type[Any], str]) -> str:
    form = FORMS.get(of, TEXT)
    if not isinstance(data, str) or not form.fits(data):
        raise _wrong(path, data, form.words)
    return data


def _whole(_: Any, data: Any, path: Path, of: tuple[type[Any], str]) -> int:
    least, most = (1, 65535) if of in PORTS else (0, _LARGEST)
    if not isinstance(data, int) or isinstance(data, bool) or not least <= data <= most:
        raise _wrong(path, data, f"a whole number from {least} to {most}")
    return data


def _number(_: Any, data: Any, path: Path, __: tuple[type[Any], str]) -> float:
    is_number = isinstance(data, (int, float)) and not isinstance(data, bool)
    if not is_number or not 0 <= data <= _LARGEST:
        raise _wrong(path, data, f"a number from 0 to {_LARGEST}")
    return typing.cast(float, data)


def _truth(_: Any, data: Any, path: Path, __: tuple[type[Any], str]) -> bool:
    if not isinstance(data, bool):
        raise _wrong(path, data, "true or false")
    return data


def _member(hint: type[Enum], data: Any, path: Path, _: tuple[type[Any], str]) -> Enum:
    found = _words(hint).get(data) if isinstance(data, str) else None
    if found is None:
        raise _wrong(path, data, " or ".join(_words(hint)))
    return found


@lru_cache(maxsize=64)
def _words(hint: Any) -> dict[str, Enum]:
    return {item.value: item for item in hint}


_Reader = Callable[[Any, Any, Path, tuple[type[Any], str]], Any]
_READERS: Mapping[Any, _Reader] = {
    Union: _one_of,
    UnionType: _one_of,
    tuple: _list,
    typing.get_origin(Mapping[str, str]): _mapping,
    str: _text,
    int: _whole,
    float: _number,
    bool: _truth,
}


def _wrong(path: Path, data: Any, wanted: str) -> NotAPlan:
    return NotAPlan(f"{_dotted(path)}{shown(data)}, expected {wanted}")


def _dotted(path: Path) -> str:
    """Return where in the plan, in ASCII: a key may be anything."""
    steps = (shown(step).strip('"') for step in path)
    return f"{'.'.join(steps)}: " if path else ""
