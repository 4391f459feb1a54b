"""Views of a cache's keys, values and items, and the way back from a pickle."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, KeysView, ValuesView
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import Cache


def _text(view: KeysView[Any] | ValuesView[Any] | ItemsView[Any, Any], cache: Cache[Any, Any]) -> str:
    return f"<{type(view).__name__} of {cache!r}>"


class CacheKeys(KeysView[Any]):
    """The keys of a cache."""

    __slots__ = ()
    _mapping: Cache[Any, Any]

    def __repr__(self) -> str:
        return _text(self, self._mapping)


class CacheValues(ValuesView[Any]):
    """The values of a cache; those removed during iteration are skipped."""

    __slots__ = ()
    _mapping: Cache[Any, Any]

    def __iter__(self) -> Iterator[Any]:
        return self._mapping._iter_values()

    def __contains__(self, value: object) -> bool:
        return any(found is value or found == value for found in self)

    def __repr__(self) -> str:
        return _text(self, self._mapping)


class CacheItems(ItemsView[Any, Any]):
    """The pairs of a cache; those removed during iteration are skipped."""

    __slots__ = ()
    _mapping: Cache[Any, Any]

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        return self._mapping._iter_items()

    def __repr__(self) -> str:
        return _text(self, self._mapping)


def reopen(cls: type[Cache[Any, Any]], keywords: dict[str, Any]) -> Cache[Any, Any]:
    """Opens the region that a pickled handle was on."""
    return cls(**keywords)
