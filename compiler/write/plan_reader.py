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
    names = [item.name for item in fields(kind)]
    for name in names:
        if name not in data:
            raise NotAPlan(f"{_dotted(path)}no {name!r}")
    for name in data:
        if name not in names:
            raise NotAPlan(f"{_dotted(path)}{shown(name)} is no key of it")
    hints = _hints(typing.cast(Hashable, kind))
    return kind(
        **{
            name: _value(hints[name], data[name], _at(kind, path, name), (kind, name))
            for name in names
        }
    )


def _with_launch(data: Mapping[str, Any]) -> dict[str, Any]:
    """Give a process its launch, whose fields are written among its own."""
    own = {item.name for item in fields(Launch)}
    rest = {name: value for name, value in data.items() if name not in own}
    if "launch" in rest:
        return {**rest, "launch there": None}
    return {**rest, "launch": {name: value for name, value in data.items() if name in own}}


def _at(kind: type[Any], path: Path, name: str) -> Path:
    return path if kind is Process and name == "launch" else (*path, name)


@lru_cache(maxsize=64)
def _hints(kind: Hashable) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _value(hint: Any, data: Any, path: Path, of: tuple[type[Any], str]) -> Any:
    read = _READERS.get(get_origin(hint) or hint)
    if read is not None:
        return read(hint, data, path, of)
    if hasattr(hint, "__supertype__"):
        return _value(hint.__supertype__, data, path, of)
    if is_dataclass(hint):
        return _record(typing.cast(type[Any], hint), data, path)
    return _member(hint, data, path)


def _one_of(hint: Any, data: Any, path: Path, of: tuple[type[Any], str]) -> Any:
    """Read what may be nothing, a word or a record, told apart by what is there."""
    kinds = get_args(hint)
    if any(get_origin(kind) is list for kind in kinds):  # document.Json: anything
        return data
    if data is None and type(None) in kinds:
        return None
    rest = [kind for kind in kinds if kind is not type(None)]
    records = [kind for kind in rest if is_dataclass(kind)]
    chosen = records if isinstance(data, dict) and records else rest
    return _value(chosen[0], data, path, of)


def _list(hint: Any, data: Any, path: Path, of: tuple[type[Any], str]) -> tuple[Any, ...]:
    if not isinstance(data, list):
        raise _wrong(path, data, "a list")
    if not data and of in NOT_EMPTY:
        raise _wrong(path, data, "a list that is not empty")
    item = get_args(hint)[0]
    return tuple(_value(item, part, (*path, number), of) for number, part in enumerate(data))


def _mapping(hint: Any, data: Any, path: Path, of: tuple[type[Any], str]) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise _wrong(path, data, "a mapping")
    form = KEYS.get(of, TEXT)
    for name in data:
        if not form.fits(name):
            raise _wrong((*path, "a key"), name, form.words)
    item = get_args(hint)[1]
    return {name: _value(item, part, (*path, name), of) for name, part in data.items()}


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


def _member(hint: type[Enum], data: Any, path: Path) -> Enum:
    words = [item.value for item in hint]
    if not isinstance(data, str) or data not in words:
        raise _wrong(path, data, " or ".join(words))
    return hint(data)


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
