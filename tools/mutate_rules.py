"""Break the conditions of the rules one after the other, and see whether a test notices.

    python tools/mutate_rules.py [MODULE...]     # all: about a minute

Each mutant changes one place of one module: a comparison becomes its contrary or moves its bound,
`and` becomes `or`, a `not` is dropped, a whole number becomes the next one. It is killed if some
profile is told something else, gets another plan, or fails: those of tests/errors, tests/accepted
and tests/golden, the ready ones, and the rules' own examples. A mutant that survives is a missing
case, or makes no difference.
"""

from __future__ import annotations

import ast
import copy
import functools
import os
import re
import sys
import textwrap
import types
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from compiler.library import library  # noqa: E402 -- the checkout, wherever this is run from
from compiler.load.compose import Unreadable  # noqa: E402
from compiler.pipeline import Compiled, compile_profile, found_together  # noqa: E402
from compiler.report.diagnostics import FORMATS, in_order  # noqa: E402
from compiler.rules.explain import pages  # noqa: E402

ERRORS = ROOT / "tests" / "errors"
MODULES = (
    "compiler.resolve.pairing",
    *(
        f"compiler.rules.{path.stem}"
        for path in sorted((ROOT / "compiler" / "rules").glob("*.py"))
        if path.stem not in ("__init__", "explain", "reading_pages", "tables")
    ),
)
CONTRARY: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.GtE,
    ast.GtE: ast.Lt,
    ast.Gt: ast.LtE,
    ast.LtE: ast.Gt,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
MOVED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
}
Probe = tuple[str, Callable[[], str]]


def mutants(tree: ast.Module) -> Iterator[tuple[int, str, ast.Module]]:
    """Return every mutant of a module: its line, what was changed, the whole tree."""
    places = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef))]
    inside = {id(part) for function in places for part in ast.walk(function)}
    for index, node in enumerate(ast.walk(tree)):
        if id(node) not in inside:
            continue
        for words, change in _changes(node):
            changed = copy.deepcopy(tree)
            target = next(part for at, part in enumerate(ast.walk(changed)) if at == index)
            change(target)
            yield getattr(node, "lineno", 0), words, ast.fix_missing_locations(changed)


def _changes(node: ast.AST) -> Iterator[tuple[str, Callable[[ast.AST], None]]]:
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        for table in (CONTRARY, MOVED):
            new = table.get(type(node.ops[0]))
            if new is not None:
                words = f"{type(node.ops[0]).__name__} -> {new.__name__}"
                yield words, functools.partial(_set, "ops", [new()])
    if isinstance(node, ast.BoolOp):
        other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield f"-> {type(other).__name__}", functools.partial(_set, "op", other)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield "not dropped", functools.partial(_set, "op", ast.UAdd())
    if isinstance(node, ast.Constant) and type(node.value) is int:
        yield f"{node.value} -> {node.value + 1}", functools.partial(_set, "value", node.value + 1)


def _set(field: str, value: object, node: ast.AST) -> None:
    if field == "op" and isinstance(value, ast.UAdd):  # `not x` becomes `x or False`
        assert isinstance(node, ast.UnaryOp)
        node.op = ast.Not()
        node.operand = ast.UnaryOp(op=ast.Not(), operand=node.operand)
    else:
        setattr(node, field, value)


def probes() -> list[Probe]:
    """List everything that is told about profiles, each as a function that tells it now."""
    found: list[Probe] = []
    for case in sorted(ERRORS.glob("*/*.yaml")):
        if not case.name.startswith("_"):
            found.append((case.parent.name, functools.partial(_told_of_case, case)))
    for name, page in pages(library().stacks()).items():
        for heading in ("Accepted:", "Rejected:", "Reported:"):
            text = _example(page, heading)
            if text:
                found.append((name, functools.partial(_told_of_text, text)))
    for pattern in ("profiles/*.yaml", "tests/golden/*/profile.yaml", "tests/accepted/*.yaml"):
        for path in sorted(ROOT.glob(pattern)):
            found.append(("ready", functools.partial(_told_of_case, path)))
    return found


def _told_of_case(path: Path) -> str:
    os.chdir(path.parent)
    options, names = [], [path.name]
    for line in path.read_text("utf-8", "replace").splitlines():
        header = re.fullmatch(r"# (set|with|options): (.+)", line)
        if header is None:
            break
        if header[1] == "set":
            options.append(header[2])
        elif header[1] == "with":
            names.append(header[2])
    compiled = [compile_profile(name, _read, options, library()) for name in names]
    return "".join(map(_told, compiled)) + repr(found_together(compiled))


def _told_of_text(text: str) -> str:
    lines = text.splitlines()
    overrides = [line.removeprefix("--set ") for line in lines if line.startswith("--set ")]
    body = "\n".join(line for line in lines if not line.startswith("--set ")) + "\n"
    os.chdir(ROOT / "profiles")
    read = lambda name: body if name == "example.yaml" else _read(name)  # noqa: E731
    return _told(compile_profile("example.yaml", read, overrides, library()))


def _told(compiled: Compiled) -> str:
    text = FORMATS["text"](in_order(compiled.diagnostics), compiled.sources)
    return text + (compiled.resolved.plan.to_json() if compiled.resolved else "no plan")


def _read(name: str) -> str:
    try:
        return Path(name).read_bytes().decode("utf-8", "surrogateescape")
    except OSError as error:
        raise Unreadable(str(error)) from error


def _example(page: str, heading: str) -> str:
    found = re.search(rf"^{heading}\n((?:    .*\n|\n)+)", page, re.MULTILINE)
    return textwrap.dedent(found[1]).strip() if found else ""


def swap(module: types.ModuleType, tree: ast.Module) -> Callable[[], None]:
    """Return a module's functions the code of a changed tree; the result puts the old one back."""
    scratch = types.ModuleType(module.__name__)
    scratch.__dict__.update({"__name__": module.__name__, "__file__": module.__file__})
    exec(compile(tree, str(module.__file__), "exec"), scratch.__dict__)
    kept = []
    for ours, theirs in _functions(vars(module), vars(scratch), module.__name__):
        kept.append((ours, ours.__code__))
        ours.__code__ = theirs.__code__

    def restore() -> None:
        for function, code in kept:
            function.__code__ = code

    return restore


def _functions(
    ours: dict[str, object], theirs: dict[str, object], module: str
) -> Iterator[tuple[types.FunctionType, types.FunctionType]]:
    for name, value in list(ours.items()):
        other = theirs.get(name)
        if isinstance(value, types.FunctionType) and isinstance(other, types.FunctionType):
            if value.__module__ == module and not value.__code__.co_freevars:
                yield value, other
        elif isinstance(value, type) and isinstance(other, type) and value.__module__ == module:
            yield from _functions(dict(vars(value)), dict(vars(other)), module)


def main() -> int:
    """Run the mutants, print the survivors and the counts."""
    wanted = [f"compiler.rules.{name}" if "." not in name else name for name in sys.argv[1:]]
    everything = probes()
    before = [(name, tell, tell()) for name, tell in everything]
    counts: Counter[str] = Counter()
    for name in wanted or MODULES:
        module = sys.modules.get(name) or __import__(name, fromlist=["_"])
        source = Path(str(module.__file__)).read_text("utf-8")
        rule = name.rpartition(".")[2].replace("_", "-")
        near_first = sorted(before, key=lambda item, rule=rule: item[0] != rule)  # type: ignore[misc]
        for line, words, tree in mutants(ast.parse(source)):
            counts["mutants"] += 1
            restore = swap(module, tree)
            try:
                survived = all(_same(tell, said) for _, tell, said in near_first)
            finally:
                restore()
            if survived:
                counts["survived"] += 1
                print(
                    f"{name}:{line}: {words}: {source.splitlines()[line - 1].strip()}", flush=True
                )
    killed = counts["mutants"] - counts["survived"]
    print(f"{counts['mutants']} mutants, {killed} killed, {counts['survived']} survived")
    return 0


def _same(tell: Callable[[], str], said: str) -> bool:
    try:
        return tell() == said
    except Exception:  # a rule that fails is noticed too
        return False


if __name__ == "__main__":
    sys.exit(main())
