"""Leave out what a profile's own comments say is known: `# dync: ignore[rule] reason`.

A comment holds for its line, and for warnings and infos alone: an error is what breaks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from types import MappingProxyType

from compiler.diagnostic import Diagnostic, Rule, Severity, Span, has_errors, suggestion
from compiler.document import Document, Node
from compiler.load.yaml_tree import lines_of

_COMMENT = re.compile(r"(?:^|(?<=\s))#[ \t]*dync:[ \t]*ignore\b(?:\[([^\]]*)\])?[ \t]*(.*)")
_IGNORE_COMMENT = Rule(
    "ignore-comment",
    Severity.ERROR,
    "a comment leaves out a warning or info of its line, and says why",
)
_FORM = "# dync: ignore[rule] reason"


@dataclass(frozen=True, slots=True)
class _Comment:
    """One comment: the rules that it names, why, and where it stands."""

    rules: tuple[str, ...]
    reason: str
    span: Span


def suppress(
    found: Collection[Diagnostic],
    document: Document,
    own: str,
    known: Callable[[], Collection[str]],
) -> tuple[Diagnostic, ...]:
    """Leave out findings that a comment on their line names; report comments that do not count.

    own: the profile's own file, where a comment that nothing needs is reported too; one in a
    profile that it extends may serve another. known: every rule id, asked for only when needed.
    """
    is_whole = not has_errors(found)  # later stages did not run after an error
    comments = [comment for file in document.sources for comment in _comments(document, file)]
    kept = list(found)
    for comment in comments:
        faults = list(_faults(comment, known))
        if not faults:
            here = [d for d in kept if _is_named(d, comment)]
            kept = [d for d in kept if d not in here or d.severity is Severity.ERROR]
            faults = list(_useless(comment, here, is_whole and comment.span.file == own))
        kept.extend(faults)
    return tuple(kept)


def _comments(document: Document, file: str) -> Iterator[_Comment]:
    """Find the comments of one file; --set has none."""
    text = document.sources[file]
    if file.startswith("--set ") or "dync:" not in text:
        return
    values = [node.span for node in _scalars(document.root) if node.span.file == file]
    for number, line in enumerate(lines_of(text), 1):
        match = _COMMENT.search(line)
        if match is None or any(_covers(span, number, match.start() + 1) for span in values):
            continue
        end = len(line.rstrip()) + 1
        rules = tuple(rule.strip() for rule in (match[1] or "").split(",") if rule.strip())
        span = Span(file, number, match.start() + 1, number, end)
        yield _Comment(rules=rules, reason=match[2].strip(), span=span)


def _scalars(node: Node) -> Iterator[Node]:
    """Return every plain value of a tree, without recursion: depth is the profile's."""
    rest = [node]
    while rest:
        one = rest.pop()
        if isinstance(one.value, (MappingProxyType, tuple)):
            rest.extend(one.children())
        else:
            yield one


def _covers(span: Span, line: int, column: int) -> bool:
    return (span.line, span.column) <= (line, column) < (span.end_line, span.end_column)


def _is_named(diagnostic: Diagnostic, comment: _Comment) -> bool:
    at = diagnostic.primary.span
    same_line = (at.file, at.line) == (comment.span.file, comment.span.line)
    return same_line and diagnostic.rule in comment.rules


def _faults(comment: _Comment, known: Callable[[], Collection[str]]) -> Iterator[Diagnostic]:
    """Report a comment without a rule, without a reason, or with a rule that there is not."""
    if not comment.rules:
        yield _IGNORE_COMMENT.at(comment.span, "the comment names no rule", fix=f"write {_FORM}")
    elif not comment.reason:
        rules = ", ".join(comment.rules)
        fix = f"say why it is right here: # dync: ignore[{rules}] because ..."
        yield _IGNORE_COMMENT.at(comment.span, f"ignore[{rules}] has no reason", fix=fix)
    for rule in comment.rules:
        if rule not in known():
            near = suggestion(rule, known())
            fix = f"write {near}" if near else "remove it (dync explain lists the rules)"
            yield _IGNORE_COMMENT.at(comment.span, f"there is no rule {rule!r}", fix=fix)


def _useless(comment: _Comment, here: list[Diagnostic], is_whole: bool) -> Iterator[Diagnostic]:
    """Report rules of a comment that found an error on its line, or nothing where all was asked."""
    for rule in comment.rules:
        severities = {d.severity for d in here if d.rule == rule}
        if severities == {Severity.ERROR}:
            message = f"{rule} is an error here, which no comment can ignore"
            fix = "mend the error, remove the comment"
            yield _IGNORE_COMMENT.at(comment.span, message, fix=fix, severity=Severity.WARNING)
        elif not severities and is_whole:
            message = f"{rule} finds nothing on this line"
            fix = f"remove {rule} from the comment"
            yield _IGNORE_COMMENT.at(comment.span, message, fix=fix, severity=Severity.WARNING)
