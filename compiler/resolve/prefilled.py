"""Fill skeletons that thousands of workers share: once what is the same for all, then the rest."""

from __future__ import annotations

from collections.abc import Mapping

from compiler.document import Json
from compiler.stacks.placeholders import WORD, fill, text_of


class Prefilled:
    """Named items of a skeleton; own: the words whose values each worker has for itself."""

    def __init__(
        self, items: Mapping[str, Json], values: Mapping[str, Json], own: frozenset[str]
    ) -> None:
        self._own = {name: item for name, item in items.items() if _words(item) & own}
        self._items = {
            name: item if name in self._own else fill(item, values) for name, item in items.items()
        }

    def filled(self, values: Mapping[str, Json]) -> dict[str, Json]:
        """Return the items for one worker, in their order."""
        found = dict(self._items)
        for name, item in self._own.items():
            found[name] = fill(item, values)
        return found


class PrefilledTexts:
    """The same for what becomes words of an environment."""

    def __init__(
        self, items: Mapping[str, Json], values: Mapping[str, Json], own: frozenset[str]
    ) -> None:
        self._own = {name: item for name, item in items.items() if _words(item) & own}
        self._texts = {
            name: "" if name in self._own else text_of(fill(item, values))
            for name, item in items.items()
        }

    def filled(self, values: Mapping[str, Json]) -> dict[str, str]:
        """Return the texts for one worker, in the items' order."""
        found = dict(self._texts)
        for name, item in self._own.items():
            found[name] = text_of(fill(item, values))
        return found


def _words(item: Json) -> frozenset[str]:
    """Return the words that an item is filled with, at any depth."""
    if isinstance(item, str):
        return frozenset(WORD.findall(item))
    below = item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
    return frozenset().union(*map(_words, below))
