"""A backend for requests-cache.

.. code-block:: python

    from requests_cache import CachedSession
    from pycache.adapters.requests_cache import SharedMemoryCache

    session = CachedSession(backend=SharedMemoryCache("http", size="64MiB"), expire_after=300)

Responses are bytes or text that a serializer of requests-cache makes: pickle unless another is named,
such as ``serializer="json"``. With pickle, who can write the region's file can run code in this
process.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from requests_cache.backends.base import BaseCache, BaseStorage

from pycache import CacheError

from ._region import Region

__all__ = ["SharedMemoryCache", "SharedMemoryStorage"]


class SharedMemoryCache(BaseCache):
    """Responses in shared memory for all processes, with the rules of requests-cache.

    Args:
        cache_name: The region's name.
        serializer: Name or object of a serializer of requests-cache.
        decode_content: As in requests-cache, for serializers of text.
        ttl: Removes a response ``ttl_offset`` seconds after it has expired; False leaves all to
            eviction.
        ttl_offset: How long an expired response can still be revalidated, or used after an error.
        on_error: "ignore" makes a failure of the cache a miss (see ``failures``), "raise" raises it.
        options: Keywords of ``pycache.Cache``.
    """

    def __init__(
        self,
        cache_name: str = "http_cache",
        *,
        serializer: Any = "pickle",
        decode_content: bool = False,
        ttl: bool = True,
        ttl_offset: float = 3600,
        on_error: str = "ignore",
        **options: Any,
    ) -> None:
        super().__init__(cache_name)
        self._region = Region(cache_name, on_error, options)
        offset = ttl_offset if ttl else None
        self.responses = SharedMemoryStorage(self._region, "response:", serializer, decode_content, offset)
        self.redirects = SharedMemoryStorage(self._region, "redirect:", None, False, None)

    @property
    def failures(self) -> Counter[str]:
        """How many failures of each kind this object has ignored, by the errors' codes."""
        return self._region.failures


class SharedMemoryStorage(BaseStorage[str, Any]):
    """The keys of a region that begin with a prefix, as a mapping."""

    def __init__(
        self, region: Region, prefix: str, serializer: Any, decode_content: bool, ttl_offset: float | None
    ) -> None:
        super().__init__(serializer=serializer, decode_content=decode_content)
        self._region = region
        self._prefix = prefix
        self._ttl_offset = ttl_offset

    def __getitem__(self, key: str) -> Any:
        try:
            found = self._region.cache[self._prefix + key]
        except CacheError as error:
            self._region.failed(error)
            raise KeyError(key) from error
        return self.deserialize(key, found)

    def __setitem__(self, key: str, item: Any) -> None:
        ttl = None
        if self._ttl_offset is not None:
            left = getattr(item, "expires_delta", None)
            if left is not None and left + self._ttl_offset > 0:
                ttl = left + self._ttl_offset
        try:
            self._region.cache.set(self._prefix + key, self.serialize(item), ttl)
        except CacheError as error:
            self._region.failed(error)
            self._region.drop(self._prefix + key)

    def __delitem__(self, key: str) -> None:
        try:
            if self._region.cache.delete(self._prefix + key):
                return
        except CacheError as error:
            self._region.failed(error)
        raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        try:
            return isinstance(key, str) and self._prefix + key in self._region.cache
        except CacheError as error:
            self._region.failed(error)
            return False

    def __iter__(self) -> Iterator[str]:
        try:
            for key in self._region.cache.scan(self._prefix):
                yield key[len(self._prefix) :]
        except CacheError as error:
            self._region.failed(error)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def bulk_delete(self, keys: Iterable[str]) -> None:
        """Removes those of ``keys`` that are there."""
        try:
            self._region.cache.delete_many([self._prefix + key for key in keys])
        except CacheError as error:
            self._region.failed(error)

    def clear(self) -> None:
        """Removes every key with the prefix."""
        try:
            self._region.cache.delete_prefix(self._prefix)
        except CacheError as error:
            self._region.failed(error)
