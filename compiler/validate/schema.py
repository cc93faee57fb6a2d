"""Check a document against its JSON Schema, in words a person can act on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, TypeAlias

from jsonschema import Draft202012Validator

from compiler.diagnostic import MOST_FOUND, Diagnostic, Rule, Severity, Span, Suggestions
from compiler.document import Document, Json, Path
from compiler.load.secrets import masked

# A jsonschema ValidationError; its stubs give each field as perhaps unset, which it never is here.
_Error: TypeAlias = Any
TYPE_WORDS = {
    "null": "no value",
    "boolean": "a truth value",
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "array": "a list",
    "object": "a mapping",
}
"""JSON Schema's types as diagnostics name them."""
# The reasons of all but the first stand in the schema, as each key's description.
_UNKNOWN_KEY = Rule(
    "unknown-key", Severity.ERROR, "a key that nothing reads would be ignored in silence"
)
_MISSING_KEY = Rule("missing-key", Severity.ERROR)
_WRONG_TYPE = Rule("wrong-type", Severity.ERROR)
_WRONG_VALUE = Rule("wrong-value", Severity.ERROR)
_WRONG_FORM = Rule("wrong-form", Severity.ERROR)
_OUT_OF_RANGE = Rule("out-of-range", Severity.ERROR)
_QUANTITY = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*[A-Za-z]{1,6}\s*\Z")


def schema_diagnostics(document: Document, schema: Mapping[str, Any]) -> list[Diagnostic]:
    """List everything in which a document departs from the schema."""
    data = document.root.plain()
    errors: Iterable[_Error] = Draft202012Validator(schema).iter_errors(data)
    suggestions = Suggestions()
    found = (one for error in errors for one in _diagnose(error, document, suggestions))
    return list(islice(found, MOST_FOUND))


def with_defaults(data: Json, schema: Mapping[str, Any]) -> Any:
    """Fill in the schema's defaults; a mapping that the profile left out becomes an empty one."""
    if schema.get("type") == "array" and isinstance(data, list):
        return [with_defaults(item, schema["items"]) for item in data]
    if schema.get("type") != "object" or not isinstance(data, dict) or "properties" not in schema:
        return data
    filled: dict[str, Any] = {}
    for key, below in schema["properties"].items():
        if key in data:
            filled[key] = with_defaults(data[key], below)
        elif "default" in below:
            filled[key] = below["default"]
        elif "x-one-of" in schema:
            continue
        elif below.get("type") == "object" and "properties" in below:
            filled[key] = with_defaults({}, below)
        else:
            filled[key] = None
    return filled


def _diagnose(error: _Error, document: Document, suggestions: Suggestions) -> Iterator[Diagnostic]:
    path: Path = tuple(error.absolute_path)
    kind = str(error.validator)
    if kind == "additionalProperties":
        yield from _unknown_keys(error, document, path, suggestions)
    elif kind == "required":
        yield _missing_key(error, document, path)
    elif kind == "type":
        yield _wrong_type(error, document, path)
    elif kind == "enum":
        yield _wrong_value(error, document, path, suggestions)
    elif "propertyNames" in error.schema_path:
        span = document.key_span((*path, error.instance))
        yield _wrong_form(error, span, f"a name in {_name(path, document)}")
    elif kind in ("minProperties", "maxProperties"):
        yield _not_one_key(error, document, path)
    elif kind in ("pattern", "minLength"):
        yield _wrong_form(error, document.span(path), _name(path, document))
    else:
        yield _out_of_range(error, document, path)


def _name(path: Path, document: Document) -> str:
    words = [step for step in path if isinstance(step, str)]
    name = words[-1] if words else f"the {document.what}"
    return f"an entry of {name}" if path and isinstance(path[-1], int) else name


def _why(error: _Error) -> str:
    text = error.schema.get("description", "") if isinstance(error.schema, Mapping) else ""
    return text or "the profile follows schemas/profile.schema.json (dync schema)"


def _unknown_keys(
    error: _Error, document: Document, path: Path, suggestions: Suggestions
) -> Iterator[Diagnostic]:
    known = list(error.schema["properties"])
    place = f"in {_name(path, document)}" if path else f"at the top of the {document.what}"
    for key in error.instance:
        if key in known:
            continue
        near = suggestions.of(key, known)
        fix = f"write {near}" if near else f"remove it; known here: {', '.join(known)}"
        yield _UNKNOWN_KEY.at(
            document.key_span((*path, key)),
            f"unknown key {_shown(key)} {place}",
            fix=fix,
            label=f"did you mean {near}?" if near else "",
        )


def _missing_key(error: _Error, document: Document, path: Path) -> Diagnostic:
    key = error.message.split("'")[1]
    below = error.schema["properties"][key]
    example = below.get("examples") or below.get("enum")
    sample = f", for example: {key}: {_sample(example[0])}" if example else ""
    return _MISSING_KEY.at(
        document.key_span(path),
        f"{_name(path, document)} has no {key}",
        fix=f"add {key}{sample}",
        why=below["description"],
    )


def _not_one_key(error: _Error, document: Document, path: Path) -> Diagnostic:
    """Report a mapping that should have one of several keys."""
    if "properties" not in error.schema:
        return _out_of_range(error, document, path)
    known, found = ", ".join(error.schema["properties"]), list(error.instance)
    return _WRONG_FORM.at(
        document.span(path),
        f"{_name(path, document)} has {' and '.join(found) or 'no key'}, expected exactly one kind",
        fix="write an entry for each" if found else f"write one of: {known}",
        why=_why(error),
    )


def _sample(value: Json) -> str:
    """Write an example of the schema as it would stand in a profile, on one line."""
    if isinstance(value, dict):
        inner = ", ".join(f"{key}: {_sample(item)}" for key, item in value.items())
        return f"{{{inner}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_sample, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _wrong_type(error: _Error, document: Document, path: Path) -> Diagnostic:
    kinds = error.validator_value
    expected = [kinds] if isinstance(kinds, str) else list(kinds)
    wanted = " or ".join(TYPE_WORDS[kind] for kind in expected)
    value = error.instance
    name = _name(path, document)
    if value is None:
        message = f"{name} has no value, expected {wanted}"
        fix = "give it a value, or remove the line"
    else:
        message = f"{name} is {_words_of(value)}, expected {wanted}"
        fix = _type_fix(name, value, expected, error.schema)
    return _WRONG_TYPE.at(document.span(path), message, fix=fix, why=_why(error))


def _type_fix(name: str, value: Any, expected: list[str], schema: Any) -> str:
    quantity = _QUANTITY.match(value) if isinstance(value, str) else None
    if quantity and {"integer", "number"} & set(expected):
        return f"write the plain number: {name}: {quantity[1]}"
    if isinstance(value, str) and {"integer", "number"} & set(expected):
        bare = re.fullmatch(r"[0-9]+(?:\.[0-9]+)?", value)
        return (
            f"remove the quotes: {name}: {value}"
            if bare
            else f"write a number: {name}: {schema.get('default', 1)}"
        )
    if "string" in expected and isinstance(value, (bool, int, float)):
        return f'quote it: {name}: "{str(value).lower() if isinstance(value, bool) else value}"'
    if isinstance(value, float) and "integer" in expected:
        return f"write a whole number: {name}: {int(value)}"
    if "array" in expected and isinstance(value, dict):
        return "write a list: begin each entry with a hyphen and a space"
    if "array" in expected:
        return f"write a list: {name}: [{value}]"
    if "object" in expected and "properties" in schema:
        return f"write it as a mapping of {', '.join(schema['properties'])}"
    if "boolean" in expected:
        return f"write {name}: true or {name}: false"
    return "write it as " + " or ".join(TYPE_WORDS[kind] for kind in expected)


def _words_of(value: Any) -> str:
    if isinstance(value, bool):
        return f"the truth value {str(value).lower()}"
    if isinstance(value, str):
        return f"the text {_shown(value)}"
    if isinstance(value, (int, float)):
        return f"the number {value}"
    return "a list" if isinstance(value, list) else "a mapping"


def _shown(value: Any) -> str:
    text = repr(masked(value) if isinstance(value, str) else value)  # before it is cut
    return text if len(text) <= 60 else text[:57] + "...'"


def _wrong_value(
    error: _Error, document: Document, path: Path, suggestions: Suggestions
) -> Diagnostic:
    known = [str(value) for value in error.validator_value]
    given = error.instance
    near = suggestions.of(given, known) if isinstance(given, str) else None
    return _WRONG_VALUE.at(
        document.span(path),
        f"{_name(path, document)} {_shown(error.instance)} is not one of {', '.join(known)}",
        fix=f"write {_name(path, document)}: {near or ' or '.join(known)}",
        label=f"did you mean {near}?" if near else "",
        why=_why(error),
    )


def _wrong_form(error: _Error, span: Span, name: str) -> Diagnostic:
    form = error.schema.get("x-form", "not empty") if isinstance(error.schema, Mapping) else ""
    if error.validator == "minLength":
        form = "text that is not empty"
    plain = "-".join(re.findall("[a-z0-9]+", str(error.instance).lower()))[:32].rstrip("-")
    is_name = name == "name" and re.search(str(error.validator_value), plain)
    return _WRONG_FORM.at(
        span,
        f"{name} {_shown(error.instance)} does not have the form: {form}",
        fix=f"write name: {plain}" if is_name else f"write {form}",
        why=_why(error),
    )


def _out_of_range(error: _Error, document: Document, path: Path) -> Diagnostic:
    limit = error.validator_value
    words = {
        "minimum": f"at least {limit}",
        "maximum": f"at most {limit}",
        "exclusiveMinimum": f"more than {limit}",
        "minItems": f"at least {limit} entry",
        "maxItems": f"at most {limit} entries",
        "maxProperties": f"at most {limit} entries",
    }[str(error.validator)]
    found = error.instance
    return _OUT_OF_RANGE.at(
        document.span(path),
        f"{_name(path, document)} has {len(found)} entries, must have {words}"
        if isinstance(found, (list, dict))
        else f"{_name(path, document)} is {found}, must be {words}",
        fix=f"write {words}",
        why=_why(error),
    )
