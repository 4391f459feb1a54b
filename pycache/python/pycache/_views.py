"""Views of a cache's keys, values and items, values in the making, and the way back from a pickle."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, KeysView, ValuesView
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from . import Cache


class LocalInfo(NamedTuple):
    """What the kept objects of a handle did, as ``Cache.local_info`` returns it."""

    hits: int
    """How often an object was given again."""
    misses: int
    """How often the region was read, or had no value."""
    currsize: int
    """Objects that are kept now."""
    maxsize: int
    """Objects that are kept at most: ``local``."""


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


class Reservation:
    """A value in the making: ``buffer`` is filled, ``commit`` stores it under its key.

    The bytes are private until then, so a process that dies in between leaves nothing, and
    what was under the key stays there. In a ``with`` statement the buffer is committed at
    the end of the block, and dropped if the block raises.
    """

    __slots__ = ("_cache", "_keep", "_key", "buffer")

    buffer: memoryview
    """The bytes, writable, zero at first; released when the reservation is over."""

    def __init__(self, cache: Cache[Any, Any], key: Any, nbytes: int, keep: dict[str, Any]) -> None:
        self._cache: Cache[Any, Any] | None = cache
        self._key = key
        self._keep = keep
        self.buffer = memoryview(bytearray(nbytes))

    def commit(self) -> None:
        """Stores the bytes, whereupon their time to live begins, and ends the reservation.

        After an error, such as Busy, the reservation still stands.
        """
        if self._cache is None:
            raise ValueError("the reservation is over: it was committed or discarded")
        self._cache.set(self._key, self.buffer, **self._keep)
        self.discard()

    def discard(self) -> None:
        """Ends the reservation without storing anything. Discarding twice is fine."""
        self._cache = None
        try:
            self.buffer.release()
        except BufferError:
            # An array over it is still in use; what it writes from now on is seen by nobody.
            pass

    def __enter__(self) -> memoryview:
        return self.buffer

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if error_type is None and self._cache is not None:
                self.commit()
        finally:
            self.discard()


def reopen(cls: type[Cache[Any, Any]], keywords: dict[str, Any]) -> Cache[Any, Any]:
    """Opens the region that a pickled handle was on."""
    return cls(**keywords)
