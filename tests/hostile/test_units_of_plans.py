"""Whatever a plan says that is read, its units say no more than those of the plan as it was."""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

from compiler.emit.render import Renderer
from compiler.emit.systemd.units import emit_systemd
from compiler.library import templates
from compiler.plan import Plan
from compiler.write.plan_reader import NotAPlan, plan_from_json
from tests.support import ROOT

CASES = ("agg-secrets", "dynamo-1.3-disagg", "tiers-sentinel", "tiers-multiprocess")
MORE = "\nUser=root\n[Service]\nExecStartPre=+/bin/id\n"
TRAPS = (
    f'/x"{MORE}"',
    f"x{MORE}",
    "/x\rUser=root\u2028User=root\u2029\x0bUser=root\\",
    "/x\\",
    '/x" "-/etc',
    "+/bin/id %n ; \\",
    "http://x/\u2028User=root\\",
)
RUNS = ("ExecStart", "ExecStartPre", "ExecStartPost", "ExecStopPost", "ExecReload", "ExecStop")


def texts(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Return where in a plan a text stands, or the name of a mapping's key."""
    if isinstance(value, str):
        yield path
    elif isinstance(value, (dict, list)):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from texts(value[key], (*path, key))


def put(data: Any, path: tuple[Any, ...], new: str) -> Any:
    data = copy.deepcopy(data)
    place = data
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = new
    return data


def keyed(data: Any, path: tuple[Any, ...], new: str) -> Any:
    """Give the key of a mapping another name."""
    data = copy.deepcopy(data)
    place = data
    for step in path[:-1]:
        place = place[step]
    if isinstance(place, dict):
        place[new] = place.pop(path[-1])
    return data


def directives(plan: Plan) -> dict[str, list[tuple[str, str]]]:
    """Return the lines of each unit as systemd reads them: a backslash joins one to the next.

    Source: systemd 252, systemd.syntax(7): also one before a comment, and none in a comment.
    """
    found = {}
    for item in emit_systemd(plan, renderer()):
        if item.path.startswith("systemd/") and "/user/" not in item.path:
            own = [line for line in item.text.split("\n") if line and line[0] not in "#;"]
            lines = "\n".join(own).replace("\\\n", " ").split("\n")
            found[item.path] = [(line.partition("=")[0], line.partition("=")[2]) for line in lines]
    return found


@cache
def renderer() -> Renderer:
    return Renderer(templates())


@pytest.mark.parametrize("case", CASES)
def test_no_text_of_a_plan_becomes_a_line_of_a_unit(case: str) -> None:
    data = json.loads((ROOT / "tests/golden" / case / "expected/plan.json").read_text("utf-8"))
    was = directives(plan_from_json(json.dumps(data)))
    # Texts of one field are handled alike: one of each kind of process is enough.
    fields: dict[tuple[Any, ...], tuple[Any, ...]] = {}
    for path in texts(data):
        kind = data["processes"][path[1]]["kind"] if path[0] == "processes" else ""
        named = [step for step in path if isinstance(step, str)]
        fields.setdefault((kind, *named[:2], path[-1] == 0), path)
    read = 0
    for path in fields.values():
        for trap in TRAPS:
            for changed in (put(data, path, trap), keyed(data, path, trap)):
                read += compared(was, changed)
    assert read > 50, "what is free text is read"


def compared(was: dict[str, list[tuple[str, str]]], changed: Any) -> bool:
    try:
        plan = plan_from_json(json.dumps(changed))
    except NotAPlan:
        return False
    now = directives(plan)
    assert now.keys() == was.keys()
    for path, lines in now.items():
        assert accounts(lines) == accounts(was[path]), path
        for key, value in lines:
            assert key not in RUNS or value.startswith(("/", "-/bin/sh -c ")), (path, key, value)
        names, before = Counter(k for k, _ in lines), Counter(k for k, _ in was[path])
        # A word that systemd does not carry goes by lib/service.sh, with its variables.
        del names["Environment"], before["Environment"]
        assert names == before, path
    return True


def accounts(lines: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [line for line in lines if line[0] in ("User", "Group", "LoadCredential")][:1]
