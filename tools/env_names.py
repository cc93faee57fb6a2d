"""Find the environment variables that a package's Python files read."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path


def env_names_read(root: Path, prefix: str) -> set[str]:
    """Return the names under `prefix` that the files below `root` read.

    A read is `os.getenv`, a lookup in `os.environ`, or a call of a function whose own name says
    `env`; the name may be a literal or a constant of the same file.
    """
    pattern = re.compile(re.escape(prefix) + r"[A-Z0-9_]*[A-Z0-9]")
    return {name for name in _reads(root) if pattern.fullmatch(name)}


def env_prefixes(root: Path, prefix: str) -> set[str]:
    """Return the longer prefixes, ``PREFIX_X_``, under which whole families of names are read."""
    pattern = re.compile(re.escape(prefix) + r"[A-Z0-9_]*[A-Z0-9]_")
    found = set()
    for tree in _trees(root):
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found |= {node.value} if pattern.fullmatch(node.value) else set()
    return found


def _trees(root: Path) -> Iterator[ast.Module]:
    for path in sorted(root.rglob("*.py")):
        yield ast.parse(path.read_text(encoding="utf-8"))


def _reads(root: Path) -> Iterator[str]:
    for tree in _trees(root):
        constants = _string_constants(tree)
        for node in ast.walk(tree):
            for key in _env_keys(node):
                if isinstance(key, ast.Constant) and isinstance(key.value, str):
                    yield key.value
                elif isinstance(key, ast.Name) and key.id in constants:
                    yield constants[key.id]


def _string_constants(tree: ast.Module) -> dict[str, str]:
    constants = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            for target in node.targets:
                if isinstance(target, ast.Name) and isinstance(node.value.value, str):
                    constants[target.id] = node.value.value
    return constants


def _env_keys(node: ast.AST) -> list[ast.expr]:
    if isinstance(node, ast.Call) and "env" in ast.unparse(node.func).lower():
        return [*node.args[:2], *(k.value for k in node.keywords)]
    if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
        return [node.slice] if ast.unparse(node.value).endswith("environ") else []
    if isinstance(node, ast.Compare) and isinstance(node.ops[0], (ast.In, ast.NotIn)):
        return [node.left] if ast.unparse(node.comparators[0]).endswith("environ") else []
    return []
