"""A cache for cachelib, and for what takes a cachelib cache, such as Flask-Session.

.. code-block:: python

    from pycache.adapters.cachelib import SharedMemoryCache

    cache = SharedMemoryCache("site", size="64MiB", default_timeout=300)

Values are any picklable objects, as in every cache of cachelib: who can write the region's file
can run code in this process. ``serializer=None`` stores plain types only, without pickle.
"""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

from cachelib.base import BaseCache

from pycache import CacheError

from ._region import Region

__all__ = ["SharedMemoryCache"]


class SharedMemoryCache(BaseCache):
    """One cache in shared memory for all processes, with cachelib's rules.

    A timeout is a number of seconds or a timedelta; 0 is never, None the default, less than 0
    expired already. A stored None cannot be told from a miss.

    Args:
        name: The region's name.
        default_timeout: Timeout of what names none.
        ignore_delete_many_errors: As in cachelib; False makes ``delete_many`` raise RuntimeError.
        key_prefix: Put before each key; ``clear`` then removes the keys with that prefix only.
        on_error: "ignore" makes a failure of the cache a miss (see ``failures``), "raise" raises it.
        options: Keywords of ``pycache.Cache``; ``serializer`` is "pickle" unless given.
    """

    def __init__(
        self,
        name: str,
        default_timeout: int | timedelta = 300,
        *,
        ignore_delete_many_errors: bool = True,
        key_prefix: str | None = None,
        on_error: str = "ignore",
        **options: Any,
    ) -> None:
        if isinstance(default_timeout, timedelta):
            default_timeout = -int(-default_timeout.total_seconds() // 1)
        super().__init__(default_timeout)
        self.ignore_delete_many_errors = ignore_delete_many_errors
        self.key_prefix = key_prefix or ""
        self._region = Region(name, on_error, {"serializer": "pickle", **options})

    @property
    def failures(self) -> Counter[str]:
        """How many failures of each kind this object has ignored, by the errors' codes."""
        return self._region.failures

    def _ttl(self, timeout: Any) -> float | timedelta | None:
        """What the cache takes for cachelib's timeout."""
        if timeout is None:
            timeout = self.default_timeout
        return None if timeout == 0 or timeout == timedelta(0) else timeout

    def get(self, key: str) -> Any:
        """The value of ``key``, None if there is none."""
        try:
            return self._region.cache.get(self.key_prefix + key)
        except CacheError as error:
            self._region.failed(error)
            return None

    def get_many(self, *keys: str) -> list[Any]:
        """The values of ``keys`` in their order, None for each that is not there."""
        try:
            found = self._region.cache.get_many([self.key_prefix + key for key in keys])
        except CacheError as error:
            self._region.failed(error)
            found = {}
        return [found.get(self.key_prefix + key) for key in keys]

    def has(self, key: str) -> bool:
        """Whether ``key`` is there; does not read its value."""
        try:
            return self.key_prefix + key in self._region.cache
        except CacheError as error:
            self._region.failed(error)
            return False

    def set(self, key: str, value: Any, timeout: Any = None) -> bool:
        """Stores ``value``; False if it could not be kept, and then no older value stays."""
        try:
            self._region.cache.set(self.key_prefix + key, value, self._ttl(timeout))
        except CacheError as error:
            self._region.failed(error)
            self._region.drop(self.key_prefix + key)
            return False
        return True

    def add(self, key: str, value: Any, timeout: Any = None) -> bool:
        """Stores ``value`` only if ``key`` is not there; True if it was stored."""
        try:
            return self._region.cache.add(self.key_prefix + key, value, self._ttl(timeout))
        except CacheError as error:
            self._region.failed(error)
            return False

    def set_many(self, mapping: dict[str, Any], timeout: Any = None) -> list[Any]:
        """Stores every pair; the keys that were stored."""
        return [key for key, value in mapping.items() if self.set(key, value, timeout)]

    def delete(self, key: str) -> bool:
        """Removes ``key``; True if it was there."""
        try:
            return self._region.cache.delete(self.key_prefix + key)
        except CacheError as error:
            self._region.failed(error)
            return False

    def clear(self) -> bool:
        """Removes the keys with the prefix, or everything in the region if there is none."""
        try:
            if self.key_prefix:
                self._region.cache.delete_prefix(self.key_prefix)
            else:
                self._region.cache.clear()
        except CacheError as error:
            self._region.failed(error)
            return False
        return True

    def inc(self, key: str, delta: int = 1) -> int | None:
        """Adds ``delta`` in one step; a missing key counts as 0 and gets the default timeout.

        An existing key keeps its timeout. TypeError if the value is no integer.
        """
        try:
            return self._region.cache.incr(self.key_prefix + key, delta, default=0, ttl=self._ttl(None))
        except CacheError as error:
            self._region.failed(error)
            return None

    def dec(self, key: str, delta: int = 1) -> int | None:
        """Subtracts ``delta`` in one step; otherwise as ``inc``."""
        return self.inc(key, -delta)
