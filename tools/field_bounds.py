"""Read which bounds vLLM's configuration classes set to an option's number, from their source.

vLLM checks them when it builds its configuration, after it has imported torch; its parser does not
know them. Only source is read: ``Field(default=1, ge=1)`` in vllm/config/*.py, and which field an
option fills, ``add_argument("--max-num-seqs", **scheduler_kwargs["max_num_seqs"])`` in
vllm/engine/arg_utils.py.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

WORDS = {"ge": "at_least", "gt": "more_than", "le": "at_most", "lt": "less_than"}
Bounds = dict[str, float]


def option_bounds(package: Path) -> dict[str, Bounds]:
    """Return the bounds of every option, by its snake_case name; package: the folder of vllm."""
    fields = {}
    for module in sorted((package / "config").glob("*.py")):
        for node in ast.walk(ast.parse(module.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef):
                fields[node.name] = dict(_fields(node))
    arguments = ast.parse((package / "engine" / "arg_utils.py").read_text("utf-8"))
    classes = dict(_kwargs_classes(arguments))
    found = {}
    for name, kwargs, field in _options(arguments):
        bounds = fields.get(classes.get(kwargs, ""), {}).get(field)
        if bounds:
            found[name] = bounds
    return found


def _fields(node: ast.ClassDef) -> Iterator[tuple[str, Bounds]]:
    for item in node.body:
        if not (isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)):
            continue
        calls = [part for part in ast.walk(item) if isinstance(part, ast.Call)]
        bounds = {
            WORDS[word.arg]: float(number)
            for call in calls
            if isinstance(call.func, ast.Name) and call.func.id == "Field"
            for word in call.keywords
            if word.arg in WORDS and (number := _number(word.value)) is not None
        }
        yield item.target.id, {key: _whole(value) for key, value in bounds.items()}


def _number(node: ast.expr) -> float | None:
    try:
        value = ast.literal_eval(node)
    except ValueError:
        return None
    return value if isinstance(value, (int, float)) else None


def _whole(value: float) -> float:
    return int(value) if value == int(value) else value


def _kwargs_classes(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Find ``scheduler_kwargs = get_kwargs(SchedulerConfig)``."""
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Assign)
            and isinstance(node.value, ast.Call)
            and isinstance(node.value.func, ast.Name)
            and node.value.func.id == "get_kwargs"
            and isinstance(node.targets[0], ast.Name)
            and isinstance(node.value.args[0], ast.Name)
        ):
            yield node.targets[0].id, node.value.args[0].id


def _options(tree: ast.AST) -> Iterator[tuple[str, str, str]]:
    """Find ``add_argument("--option", **kwargs["field"])``: option, kwargs, field."""
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        if node.func.attr != "add_argument":
            continue
        subscripts = [
            part
            for word in node.keywords
            if word.arg is None
            for part in ast.walk(word.value)
            if isinstance(part, ast.Subscript)
        ]
        for part in subscripts:
            if not (isinstance(part.value, ast.Name) and isinstance(part.slice, ast.Constant)):
                continue
            for flag in node.args:
                if isinstance(flag, ast.Constant) and str(flag.value).startswith("--"):
                    name = str(flag.value)[2:].replace("-", "_")
                    yield name, part.value.id, str(part.slice.value)
