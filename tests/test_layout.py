"""The folders of compiler/ are its stages: an import runs from a later one to an earlier one."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from functools import cache

from compiler.rules.tables import FOUND_RULES, MODEL_RULES, PLAN_RULES, STACK_RULES, TOPOLOGY_RULES
from tests.support import ROOT

VALUES, JOINING = "values", {"library", "pipeline", "__main__"}  # at the top
ORDER = (
    VALUES,
    "load",
    "validate",
    "stacks",
    "model",
    "resolve",
    "rules",
    "emit",
    "library",
    "pipeline",
    "write",
    "diff",
    "deploy.launch",
    "deploy",
    "deploy.probe",
    "deploy.verify",
    "deploy.doctor",
    "deploy.install",
    "deploy.status",
    "report",
    "cli",
    "__main__",
)
RULES = (*TOPOLOGY_RULES, *STACK_RULES, *MODEL_RULES, *FOUND_RULES, *PLAN_RULES)
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "compiler").rglob("*.py"))
}


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(FILES[module].read_text("utf-8"))


def place(module: str) -> str:
    """Return where a module lies: a folder, a module that joins stages, or the values."""
    name = module.removeprefix("compiler").removeprefix(".")
    while name and name not in ORDER:
        name = name.rpartition(".")[0]
    return name or VALUES


def imports(module: str) -> Iterator[str]:
    """Return the modules that one imports, also within functions and for types alone."""
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: a relative import"
            for alias in node.names:
                below = f"{node.module}.{alias.name}"
                yield from {below if below in FILES else str(node.module)} & set(FILES)
        elif isinstance(node, ast.Import):
            yield from {alias.name for alias in node.names} & set(FILES)


def test_imports_run_from_later_to_earlier() -> None:
    wrong = [
        f"{module} imports {other}"
        for module in FILES
        for other in imports(module)
        if ORDER.index(place(other)) > ORDER.index(place(module))
    ]
    assert wrong == []


def test_modules_import_in_no_circle() -> None:
    rest = {module: set(imports(module)) - {module} for module in FILES}
    while free := {module for module, needs in rest.items() if not needs & set(rest)}:
        rest = {module: needs for module, needs in rest.items() if module not in free}
    assert set(rest) == set()


def test_folders_are_the_stages() -> None:
    folders = {path.parent.name for path in (ROOT / "compiler").glob("*/__init__.py")}
    parts = {f"deploy.{path.parent.name}" for path in (ROOT / "compiler").glob("deploy/*/*.py")}
    assert folders | parts == set(ORDER) - {VALUES, *JOINING}
    assert len(list((ROOT / "compiler").glob("*.py"))) <= 14


def test_no_two_public_classes_have_one_name() -> None:
    classes = [node for name in FILES for node in tree(name).body if isinstance(node, ast.ClassDef)]
    names = Counter(node.name for node in classes if not node.name.startswith("_"))
    assert [name for name, count in names.items() if count > 1] == []


def test_only_resolve_and_the_rules_are_given_a_topology() -> None:
    takers = {
        place(module)
        for module in FILES
        for node in ast.walk(tree(module))
        if isinstance(node, ast.arg) and node.arg == "topology" and _is_topology(node.annotation)
    }
    assert takers == {"resolve", "rules"}


def _is_topology(annotation: ast.expr | None) -> bool:
    return annotation is not None and ast.unparse(annotation) == "Topology"


def test_a_rules_file_bears_its_id() -> None:
    names = [rule.__name__.rpartition(".")[2] for rule in RULES]
    assert names == [rule.RULE.id.replace("-", "_") for rule in RULES]
    files = {path.stem for path in (ROOT / "compiler" / "rules").glob("*.py")}
    assert files == {*names, "__init__", "tables", "explain", "reading_pages"}


def test_only_a_rule_makes_a_diagnostic() -> None:
    makers = [
        module
        for module in FILES
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("Diagnostic")
    ]
    assert makers == ["compiler.diagnostic"]  # Rule.at; dataclasses.replace moves one
