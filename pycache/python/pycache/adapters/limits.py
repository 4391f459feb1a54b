"""A storage for limits, and so for Flask-Limiter, slowapi and what else counts with limits.

.. code-block:: python

    import pycache.adapters.limits  # makes the scheme known
    from limits.storage import storage_from_string

    storage = storage_from_string("pycache://rate-limits", size="16MiB")

The URI names the region; options are the keywords of ``pycache.Cache``. ``async+pycache://`` is the
same for ``limits.aio``. Values are integers and bytes; nothing is pickled.

A counter that is evicted starts from 0 again. Give the limits a region of their own that is large
enough: the evictions of its ``stats()`` say whether it is.
"""

from __future__ import annotations

import time
from array import array
from bisect import bisect_left
from math import floor
from typing import Any
from urllib.parse import urlparse

from limits.aio.storage import MovingWindowSupport as AsyncMovingWindowSupport
from limits.aio.storage import SlidingWindowCounterSupport as AsyncSlidingWindowCounterSupport
from limits.aio.storage import Storage as AsyncStorage
from limits.errors import ConfigurationError
from limits.storage import MovingWindowSupport, SlidingWindowCounterSupport, Storage

from pycache import Cache, CacheError

from ._region import Region

__all__ = ["AsyncSharedMemoryStorage", "SharedMemoryStorage"]


class SharedMemoryStorage(Storage, MovingWindowSupport, SlidingWindowCounterSupport):
    """Rate limits of all processes of a host, exact in each of the three strategies.

    A hit of the fixed window is one atomic step. A hit of the moving window reads the times of the
    hits that are in it and writes them with one more, 8 bytes each, again if another was faster.

    Args:
        uri: ``pycache://NAME``.
        wrap_exceptions: As in limits: errors of the cache as ``limits.errors.StorageError``.
        key_prefix: Put before each key; ``reset`` removes the keys with it.
        options: Keywords of ``pycache.Cache``.
    """

    STORAGE_SCHEME = ["pycache"]

    def __init__(
        self, uri: str | None = None, wrap_exceptions: bool = False, *, key_prefix: str = "LIMITS:", **options: Any
    ) -> None:
        super().__init__(uri, wrap_exceptions)
        name = urlparse(uri or "").netloc
        if not name:
            raise ConfigurationError(f"{uri!r} names no region: it must be pycache://NAME")
        try:
            self._region = Region(name, "raise", options)
        except TypeError as error:
            raise ConfigurationError(str(error)) from error
        self._prefix = key_prefix

    @property
    def _cache(self) -> Cache[str, Any]:
        return self._region.cache

    @property
    def base_exceptions(self) -> type[Exception]:
        """What the cache raises."""
        return CacheError

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Adds ``amount`` in one step; a new counter lives for ``expiry`` seconds."""
        return self._cache.incr(self._prefix + key, amount, default=0, ttl=expiry)

    def get(self, key: str) -> int:
        """The counter, 0 if there is none."""
        return int(self._cache.get(self._prefix + key, 0))

    def get_expiry(self, key: str) -> float:
        """The moment, in seconds since 1970, at which the counter ends; now if there is none."""
        try:
            return time.time() + (self._cache.ttl(self._prefix + key) or 0.0)
        except KeyError:
            return time.time()

    def check(self) -> bool:
        """Whether the region can be used."""
        try:
            self._cache.stats()
        except CacheError:
            return False
        return True

    def reset(self) -> int | None:
        """Removes everything that this storage counts; how many counters and windows that were."""
        return self._cache.delete_prefix(self._prefix)

    def clear(self, key: str) -> None:
        """Removes the counter and the moving window of ``key``."""
        self._cache.delete_many([self._prefix + key, self._window_key(key)])

    # --- moving window: the times of the hits, oldest first, as 8-byte floats -----------------

    def _window_key(self, key: str) -> str:
        return f"{self._prefix}window:{key}"

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Adds ``amount`` hits unless the window would then have more than ``limit``."""
        if amount > limit:
            return False
        window_key = self._window_key(key)
        while True:
            stored, token = self._cache.gets(window_key, b"")
            times = array("d", stored)
            now = time.time()
            del times[: bisect_left(times, now - expiry)]
            if len(times) + amount > limit:
                return False
            # In order even if the clock was set back.
            moment = max(now, times[-1]) if times else now
            times.extend([moment] * amount)
            if self._cache.cas(window_key, times.tobytes(), token, ttl=expiry):
                return True

    def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        """The time of the oldest hit in the window (now if there is none), and how many there are."""
        times = array("d", self._cache.get(self._window_key(key), b""))
        now = time.time()
        first = bisect_left(times, now - expiry)
        count = len(times) - first
        return (times[first], count) if count else (now, 0)

    # --- sliding window counter: one counter for each window, named by its number ---------------

    def _counters(self, key: str, expiry: int, now: float) -> tuple[str, str]:
        number = int(now / expiry)
        return f"{self._prefix}{key}/{number - 1}", f"{self._prefix}{key}/{number}"

    def acquire_sliding_window_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Adds ``amount`` to the window unless the weighted count would then exceed ``limit``."""
        if amount > limit:
            return False
        while True:
            now = time.time()
            before, current = self._counters(key, expiry, now)
            count, token = self._cache.gets(current, 0)
            left = expiry - now % expiry
            weighted = self._cache.get(before, 0) * left / expiry + count
            if floor(weighted) + amount > limit:
                return False
            # A counter is looked at until the window after its own has ended.
            if self._cache.cas(current, count + amount, token, ttl=left + expiry):
                return True

    def get_sliding_window(self, key: str, expiry: int) -> tuple[int, float, int, float]:
        """Count and seconds left of the window before, and of this one."""
        now = time.time()
        before, current = self._counters(key, expiry, now)
        found = self._cache.get_many([before, current])
        left = expiry - now % expiry
        return found.get(before, 0), left if before in found else 0.0, found.get(current, 0), left + expiry

    def clear_sliding_window(self, key: str, expiry: int) -> None:
        """Removes the counters of this window and the one before."""
        self._cache.delete_many(self._counters(key, expiry, time.time()))


class AsyncSharedMemoryStorage(AsyncStorage, AsyncMovingWindowSupport, AsyncSlidingWindowCounterSupport):
    """`SharedMemoryStorage` for ``limits.aio``; operations run where they are awaited, without a thread."""

    STORAGE_SCHEME = ["async+pycache"]

    def __init__(self, uri: str | None = None, wrap_exceptions: bool = False, **options: Any) -> None:
        super().__init__(uri, wrap_exceptions)
        self._storage = SharedMemoryStorage(uri, False, **options)

    @property
    def base_exceptions(self) -> type[Exception]:
        """What the cache raises."""
        return CacheError

    async def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """As in `SharedMemoryStorage`, and so the others."""
        return self._storage.incr(key, expiry, amount)

    async def get(self, key: str) -> int:
        return self._storage.get(key)

    async def get_expiry(self, key: str) -> float:
        return self._storage.get_expiry(key)

    async def check(self) -> bool:
        return self._storage.check()

    async def reset(self) -> int | None:
        return self._storage.reset()

    async def clear(self, key: str) -> None:
        self._storage.clear(key)

    async def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        return self._storage.acquire_entry(key, limit, expiry, amount)

    async def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        return self._storage.get_moving_window(key, limit, expiry)

    async def acquire_sliding_window_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        return self._storage.acquire_sliding_window_entry(key, limit, expiry, amount)

    async def get_sliding_window(self, key: str, expiry: int) -> tuple[int, float, int, float]:
        return self._storage.get_sliding_window(key, expiry)

    async def clear_sliding_window(self, key: str, expiry: int) -> None:
        self._storage.clear_sliding_window(key, expiry)
