"""A backend for aiocache.

.. code-block:: python

    from pycache.adapters.aiocache import SharedMemoryCache

    cache = SharedMemoryCache("site", size="64MiB", ttl=60, namespace="pages:")
    await cache.set("a", {"b": 1})

Values are plain types, stored without pickle, unless a serializer of aiocache is given.
``PickleSerializer`` stores any picklable object; then who can write the region's file can run code
in this process.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from aiocache.base import BaseCache  # type: ignore[import-untyped]
from aiocache.serializers import NullSerializer  # type: ignore[import-untyped]

from pycache import CacheError

from ._region import Region

__all__ = ["SharedMemoryCache"]


class SharedMemoryCache(BaseCache):  # type: ignore[misc]
    """One cache in shared memory for all processes, with aiocache's rules.

    A ttl is in seconds; None and 0 are for ever. Operations run where they are awaited, without a
    thread: they take about a microsecond, and a write that has to wait for other writers at most
    ``write_timeout`` seconds.

    Args:
        name: The region's name.
        serializer: A serializer of aiocache; none stores the plain types as they are.
        plugins, namespace, key_builder, timeout, ttl: As in aiocache.
        write_timeout: Longest wait of a write for other writers, in seconds.
        on_error: "ignore" makes a failure of the cache a miss (see ``failures``), "raise" raises it.
        options: Keywords of ``pycache.Cache``.
    """

    NAME = "pycache"

    def __init__(
        self,
        name: str,
        *,
        serializer: Any = None,
        plugins: Any = None,
        namespace: str | None = None,
        key_builder: Any = None,
        timeout: float | None = 5,
        ttl: float | None = None,
        write_timeout: float = 1.0,
        on_error: str = "ignore",
        **options: Any,
    ) -> None:
        super().__init__(
            serializer=serializer or NullSerializer(),
            plugins=plugins,
            namespace=namespace,
            key_builder=key_builder,
            timeout=timeout,
            ttl=ttl,
        )
        self._region = Region(name, on_error, {"timeout": write_timeout, **options})

    @property
    def failures(self) -> Counter[str]:
        """How many failures of each kind this object has ignored, by the errors' codes."""
        return self._region.failures

    async def _get(self, key: str, encoding: str | None = "utf-8", _conn: Any = None) -> Any:
        try:
            return self._region.cache.get(key)
        except CacheError as error:
            self._region.failed(error)
            return None

    async def _gets(self, key: str, encoding: str | None = "utf-8", _conn: Any = None) -> int | None:
        """The token of what is under ``key`` now, for a later ``set``."""
        try:
            return self._region.cache.gets(key)[1]
        except CacheError as error:
            self._region.failed(error)
            return None

    async def _multi_get(self, keys: list[str], encoding: str | None = "utf-8", _conn: Any = None) -> list[Any]:
        try:
            found = self._region.cache.get_many(keys)
        except CacheError as error:
            self._region.failed(error)
            found = {}
        return [found.get(key) for key in keys]

    async def _set(
        self, key: str, value: Any, ttl: float | None = None, _cas_token: int | None = None, _conn: Any = None
    ) -> bool:
        try:
            if _cas_token is not None:
                return self._region.cache.cas(key, value, _cas_token, ttl or None)
            self._region.cache.set(key, value, ttl or None)
        except CacheError as error:
            self._region.failed(error)
            self._region.drop(key)
        return True

    async def _multi_set(self, pairs: Iterable[tuple[str, Any]], ttl: float | None = None, _conn: Any = None) -> bool:
        for key, value in pairs:
            await self._set(key, value, ttl)
        return True

    async def _add(self, key: str, value: Any, ttl: float | None = None, _conn: Any = None) -> bool:
        try:
            if self._region.cache.add(key, value, ttl or None):
                return True
        except CacheError as error:
            self._region.failed(error)
            return True
        raise ValueError(f"Key {key} already exists, use .set to update the value")

    async def _exists(self, key: str, _conn: Any = None) -> bool:
        try:
            return key in self._region.cache
        except CacheError as error:
            self._region.failed(error)
            return False

    async def _increment(self, key: str, delta: int, _conn: Any = None) -> int:
        try:
            return self._region.cache.incr(key, delta, default=0, ttl=None)
        except CacheError as error:
            self._region.failed(error)
            return delta

    async def _expire(self, key: str, ttl: float | None, _conn: Any = None) -> bool:
        try:
            return self._region.cache.touch(key, ttl or None)
        except CacheError as error:
            self._region.failed(error)
            return False

    async def _delete(self, key: str, _conn: Any = None) -> int:
        try:
            return int(self._region.cache.delete(key))
        except CacheError as error:
            self._region.failed(error)
            return 0

    async def _clear(self, namespace: str | None = None, _conn: Any = None) -> bool:
        """Removes the keys of a namespace, of this object's if none is named, all if it has none."""
        prefix = namespace if namespace is not None else self.namespace
        try:
            if prefix:
                self._region.cache.delete_prefix(prefix)
            else:
                self._region.cache.clear()
        except CacheError as error:
            self._region.failed(error)
        return True

    async def _raw(self, command: str, *args: Any, encoding: str | None = "utf-8", _conn: Any = None, **kwargs: Any) -> Any:
        """A method of ``pycache.Cache`` by name; its errors raise."""
        return getattr(self._region.cache, command)(*args, **kwargs)

    async def _redlock_release(self, key: str, value: str) -> int:
        try:
            held, token = self._region.cache.gets(key)
            return int(token is not None and held == value and self._region.cache.cas(key, value, token, ttl=0))
        except CacheError as error:
            self._region.failed(error)
            return 0
