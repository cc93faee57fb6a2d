"""Leave out what a profile's own comments say is known: `# dync: ignore[rule] reason`.

A comment holds for its line, and for warnings and infos alone: an error is what breaks.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

from compiler.diagnostic import Diagnostic, Rule, Severity, Span, Suggestions, has_errors
from compiler.document import Document, Node
from compiler.load.yaml_tree import lines_of

_COMMENT = re.compile(r"(?:^|(?<=\s))#[ \t]*dync:[ \t]*ignore\b(?:\[([^\]]*)\])?[ \t]*(.*)")
_IGNORE_COMMENT = Rule(
    "ignore-comment",
    Severity.ERROR,
    "a comment leaves out a warning or info of its line, and says why",
)
_FORM = "# dync: ignore[rule] reason"
_Stretch: TypeAlias = tuple[tuple[int, int], tuple[int, int]]


@dataclass(frozen=True, slots=True)
class _Comment:
    """One comment: the rules that it names, why, and where it stands."""

    rules: Mapping[str, None]
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
    if not comments:
        return tuple(found)
    by_line: dict[tuple[str, int], list[Diagnostic]] = {}
    for d in found:
        by_line.setdefault((d.primary.span.file, d.primary.span.line), []).append(d)
    known_ids, suggestions = set(known()), Suggestions()
    faults: list[Diagnostic] = []
    left_out: set[int] = set()
    for comment in comments:
        wrong = list(_faults(comment, known_ids, suggestions))
        if not wrong:
            line = by_line.get((comment.span.file, comment.span.line), ())
            here = [d for d in line if d.rule in comment.rules]
            left_out.update(id(d) for d in here if d.severity is not Severity.ERROR)
            wrong = list(_useless(comment, here, is_whole and comment.span.file == own))
        faults.extend(wrong)
    return (*(d for d in found if id(d) not in left_out), *faults)


def _comments(document: Document, file: str) -> Iterator[_Comment]:
    """Find the comments of one file; --set has none."""
    text = document.sources[file]
    if file.startswith("--set ") or "dync:" not in text:
        return
    values = sorted(_stretches(document.root, file))
    for number, line in enumerate(lines_of(text), 1):
        match = _COMMENT.search(line)
        if match is None or _covered(values, (number, match.start() + 1)):
            continue
        end = len(line.rstrip()) + 1
        named = (rule.strip() for rule in (match[1] or "").split(","))
        rules = dict.fromkeys(rule for rule in named if rule)
        span = Span(file, number, match.start() + 1, number, end)
        yield _Comment(rules=rules, reason=match[2].strip(), span=span)


def _stretches(root: Node, file: str) -> Iterator[_Stretch]:
    """Return where the plain values of a file begin and end; no two of them overlap."""
    for node in _scalars(root):
        at = node.span
        if at.file == file and (at.line, at.column) < (at.end_line, at.end_column):
            yield (at.line, at.column), (at.end_line, at.end_column)


def _covered(stretches: Sequence[_Stretch], place: tuple[int, int]) -> bool:
    """Return whether one of the sorted stretches holds a place."""
    after = bisect_right(stretches, place, key=lambda stretch: stretch[0])
    return after > 0 and place < stretches[after - 1][1]


def _scalars(node: Node) -> Iterator[Node]:
    """Return every plain value of a tree, without recursion: depth is the profile's."""
    rest = [node]
    while rest:
        one = rest.pop()
        if isinstance(one.value, (MappingProxyType, tuple)):
            rest.extend(one.children())
        else:
            yield one


def _faults(
    comment: _Comment, known: Collection[str], suggestions: Suggestions
) -> Iterator[Diagnostic]:
    """Report a comment without a rule, without a reason, or with a rule that there is not."""
    if not comment.rules:
        yield _IGNORE_COMMENT.at(comment.span, "the comment names no rule", fix=f"write {_FORM}")
    elif not comment.reason:
        rules = ", ".join(comment.rules)
        fix = f"say why it is right here: # dync: ignore[{rules}] because ..."
        yield _IGNORE_COMMENT.at(comment.span, f"ignore[{rules}] has no reason", fix=fix)
    for rule in comment.rules:
        if rule not in known:
            near = suggestions.of(rule, known)
            fix = f"write {near}" if near else "remove it (dync explain lists the rules)"
            yield _IGNORE_COMMENT.at(comment.span, f"there is no rule {rule!r}", fix=fix)


def _useless(comment: _Comment, here: list[Diagnostic], is_whole: bool) -> Iterator[Diagnostic]:
    """Report rules of a comment that found an error on its line, or nothing where all was asked."""
    found: dict[str, set[Severity]] = {}
    for d in here:
        found.setdefault(d.rule, set()).add(d.severity)
    for rule in comment.rules:
        severities = found.get(rule, set())
        if severities == {Severity.ERROR}:
            message = f"{rule} is an error here, which no comment can ignore"
            fix = "mend the error, remove the comment"
            yield _IGNORE_COMMENT.at(comment.span, message, fix=fix, severity=Severity.WARNING)
        elif not severities and is_whole:
            message = f"{rule} finds nothing on this line"
            fix = f"remove {rule} from the comment"
            yield _IGNORE_COMMENT.at(comment.span, message, fix=fix, severity=Severity.WARNING)
