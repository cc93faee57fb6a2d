"""Fill skeletons that thousands of workers share: once what is the same for all, then the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Generic, TypeVar

from compiler.document import Json
from compiler.stacks.placeholders import WORD, fill, text_of

T = TypeVar("T")


class _Prefilled(Generic[T]):
    """Named items of a skeleton; own: the words whose values each worker may have for itself."""

    def __init__(
        self,
        items: Mapping[str, Json],
        values: Mapping[str, Json],
        own: frozenset[str],
        filled: Callable[[Json, Mapping[str, Json]], T],
    ) -> None:
        used = {name: _words(item) & own for name, item in items.items()}
        self._fill = filled
        self._used = sorted(frozenset().union(*used.values()))
        self._own = {name: item for name, item in items.items() if used[name]}
        self._last_of = self._values(values)
        self._last = {name: filled(item, values) for name, item in items.items()}

    def filled(self, values: Mapping[str, Json]) -> Mapping[str, T]:
        """Return the items for one worker, in their order; those that have them alike share them.

        Alike are, of thousands, those that stand next to each other.
        """
        of = self._values(values)
        if of != self._last_of:
            self._last_of = of
            self._last = dict(self._last)
            for name, item in self._own.items():
                self._last[name] = self._fill(item, values)
        return self._last

    def _values(self, values: Mapping[str, Json]) -> list[Json]:
        return [values[name] for name in self._used]


class Prefilled(_Prefilled[Json]):
    """Items that keep the types of what fills them."""

    def __init__(
        self, items: Mapping[str, Json], values: Mapping[str, Json], own: frozenset[str]
    ) -> None:
        super().__init__(items, values, own, fill)


class PrefilledTexts(_Prefilled[str]):
    """Items that become words: of an environment, or of a command."""

    def __init__(
        self, items: Mapping[str, Json], values: Mapping[str, Json], own: frozenset[str]
    ) -> None:
        super().__init__(items, values, own, lambda item, values: text_of(fill(item, values)))


class PrefilledWords:
    """The words of a command."""

    def __init__(
        self, items: Iterable[str], values: Mapping[str, Json], own: frozenset[str]
    ) -> None:
        named: dict[str, Json] = {str(number): item for number, item in enumerate(items)}
        self._texts = PrefilledTexts(named, values, own)

    def filled(self, values: Mapping[str, Json]) -> tuple[str, ...]:
        """Return the words for one worker."""
        return tuple(self._texts.filled(values).values())


def _words(item: Json) -> frozenset[str]:
    """Return the words that an item is filled with, at any depth."""
    if isinstance(item, str):
        return frozenset(WORD.findall(item))
    below = item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
    return frozenset().union(*map(_words, below))
