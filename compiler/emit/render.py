"""Render the bundle's templates; the one place that knows Jinja2."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from jinja2 import DictLoader, Environment, StrictUndefined, Template


class Renderer:
    """Renders templates given as text; each takes the fields of one view dataclass."""

    def __init__(self, templates: Mapping[str, str]) -> None:
        self._templates = templates
        self._environment = environment(templates)
        self._compiled: dict[str, Template] = {}
        self._names: dict[type, tuple[str, ...]] = {}

    def render(self, template: str, view: Any) -> str:
        """Render one template with a view's fields."""
        if template not in self._compiled:
            self._compiled[template] = self._environment.get_template(template)
        names = self._names.get(type(view))
        if names is None:
            names = self._names[type(view)] = tuple(item.name for item in fields(view))
        return self._compiled[template].render({name: getattr(view, name) for name in names})

    def static(self, name: str) -> str:
        """Return a file that goes into every bundle as it is."""
        return self._templates[name]


def environment(templates: Mapping[str, str]) -> Environment:
    """Return the one Jinja2 setting: whole lines, and no silent gaps."""
    return Environment(
        loader=DictLoader(dict(templates)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
