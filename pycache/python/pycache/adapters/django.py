"""A cache backend for Django.

.. code-block:: python

    CACHES = {
        "default": {
            "BACKEND": "pycache.adapters.django.SharedMemoryCache",
            "LOCATION": "site",
            "TIMEOUT": 300,
            "OPTIONS": {"size": "256MiB"},
        }
    }

``LOCATION`` is the name of the region. ``OPTIONS`` are the keywords of ``pycache.Cache`` besides
``name`` and ``ttl``, and ``on_error``, "ignore" (the default) or "raise". ``MAX_ENTRIES`` and
``CULL_FREQUENCY`` are accepted and mean nothing: a region is bounded in bytes.

Values are any picklable objects, as in every backend of Django: who can write the region's file
can run code in this process. ``"serializer": None`` in ``OPTIONS`` stores plain types only, without
pickle, and makes anything else a TypeError; sessions then need plain values, and cached views and
their responses cannot be stored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from django.core.cache.backends.base import (  # type: ignore[import-untyped]
    DEFAULT_TIMEOUT,
    BaseCache,
)
from django.core.exceptions import ImproperlyConfigured  # type: ignore[import-untyped]

from pycache import CacheError

from ._region import shared

__all__ = ["SharedMemoryCache"]

_OF_DJANGO = ("MAX_ENTRIES", "CULL_FREQUENCY")


class SharedMemoryCache(BaseCache):  # type: ignore[misc]
    """One cache in shared memory for all processes of a site, with Django's rules.

    A timeout is in seconds, int or float; None is for ever, zero or less is expired already.
    The asynchronous methods run where they are awaited, without a thread: an operation takes
    about a microsecond, and a write that has to wait for other writers at most
    ``OPTIONS["timeout"]`` seconds (1.0).
    """

    def __init__(self, location: str, params: dict[str, Any]) -> None:
        super().__init__(params)
        options = {"serializer": "pickle", **(params.get("OPTIONS") or {})}
        for name in _OF_DJANGO:
            options.pop(name, None)
        on_error = options.pop("on_error", "ignore")
        if not location:
            raise ImproperlyConfigured("LOCATION must be the name of the cache's region")
        try:
            # Django makes a backend for each thread; they all use one handle.
            self._region = shared(location, on_error, options)
        except (TypeError, ValueError) as error:
            raise ImproperlyConfigured(f"OPTIONS of the cache {location!r}: {error}") from error

    @property
    def failures(self) -> Counter[str]:
        """How many failures of each kind this process has ignored, by the errors' codes."""
        return self._region.failures

    def get_backend_timeout(self, timeout: Any = DEFAULT_TIMEOUT) -> float | None:
        """Seconds to live from now, None for ever; zero and less are expired already."""
        seconds: float | None = self.default_timeout if timeout is DEFAULT_TIMEOUT else timeout
        return seconds

    def add(self, key: str, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        """Stores ``value`` only if ``key`` is not there; True if it was stored."""
        made = self.make_and_validate_key(key, version)
        ttl = self.get_backend_timeout(timeout)
        try:
            if ttl is not None and ttl <= 0:
                return made not in self._region.cache
            return self._region.cache.add(made, value, ttl)
        except CacheError as error:
            self._region.failed(error)
            return False

    def get(self, key: str, default: Any = None, version: int | None = None) -> Any:
        """The value of ``key``, a new object each time, or ``default``."""
        made = self.make_and_validate_key(key, version)
        try:
            return self._region.cache.get(made, default)
        except CacheError as error:
            self._region.failed(error)
            return default

    def set(self, key: str, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> None:
        """Stores ``value``; what cannot be kept, because it is too large or there is no room, is a miss."""
        made = self.make_and_validate_key(key, version)
        try:
            self._region.cache.set(made, value, self.get_backend_timeout(timeout))
        except CacheError as error:
            self._region.failed(error)
            self._region.drop(made)

    def touch(self, key: str, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        """Gives ``key`` a new timeout; False if it is not there."""
        made = self.make_and_validate_key(key, version)
        try:
            return self._region.cache.touch(made, self.get_backend_timeout(timeout))
        except CacheError as error:
            self._region.failed(error)
            return False

    def delete(self, key: str, version: int | None = None) -> bool:
        """Removes ``key``; True if it was there."""
        made = self.make_and_validate_key(key, version)
        try:
            return self._region.cache.delete(made)
        except CacheError as error:
            self._region.failed(error)
            return False

    def has_key(self, key: str, version: int | None = None) -> bool:
        """Whether ``key`` is there; does not read its value."""
        made = self.make_and_validate_key(key, version)
        try:
            return made in self._region.cache
        except CacheError as error:
            self._region.failed(error)
            return False

    def incr(self, key: str, delta: int = 1, version: int | None = None) -> int:
        """Adds ``delta`` in one step and keeps the timeout; ValueError if ``key`` is not there.

        TypeError if the value is no integer, OverflowError past 64 bits with sign.
        """
        made = self.make_and_validate_key(key, version)
        try:
            return self._region.cache.incr(made, delta)
        except KeyError:
            pass
        except CacheError as error:
            self._region.failed(error)
        raise ValueError(f"Key '{key}' not found")

    def get_many(self, keys: Iterable[str], version: int | None = None) -> dict[str, Any]:
        """The values of those keys that are there, under the keys as they were given."""
        made = {self.make_and_validate_key(key, version): key for key in keys}
        try:
            found = self._region.cache.get_many(made)
        except CacheError as error:
            self._region.failed(error)
            return {}
        return {made[key]: value for key, value in found.items()}

    def set_many(
        self, data: Mapping[str, Any], timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> list[str]:
        """Stores every pair; the keys that could not be stored, in both kinds of ``on_error``."""
        made = {self.make_and_validate_key(key, version): key for key in data}
        ttl = self.get_backend_timeout(timeout)
        try:
            failed = self._region.cache.set_many({key: data[given] for key, given in made.items()}, ttl)
        except CacheError as error:
            self._region.failed(error)
            failed = list(made)
        for key in failed:
            self._region.drop(key)
        return [made[key] for key in failed]

    def delete_many(self, keys: Iterable[str], version: int | None = None) -> None:
        """Removes every key."""
        made = [self.make_and_validate_key(key, version) for key in keys]
        try:
            self._region.cache.delete_many(made)
        except CacheError as error:
            self._region.failed(error)

    def clear(self) -> None:
        """Empties the region, or its namespace, whatever the prefix: that is Django's rule for ``clear``."""
        try:
            self._region.cache.clear()
        except CacheError as error:
            self._region.failed(error)

    def close(self, **kwargs: Any) -> None:
        """Does nothing: Django calls it after every request, and the region must stay open."""

    async def aadd(self, key: str, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        """As ``add``."""
        return self.add(key, value, timeout, version)

    async def aget(self, key: str, default: Any = None, version: int | None = None) -> Any:
        """As ``get``."""
        return self.get(key, default, version)

    async def aset(self, key: str, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> None:
        """As ``set``."""
        self.set(key, value, timeout, version)

    async def atouch(self, key: str, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        """As ``touch``."""
        return self.touch(key, timeout, version)

    async def adelete(self, key: str, version: int | None = None) -> bool:
        """As ``delete``."""
        return self.delete(key, version)

    async def ahas_key(self, key: str, version: int | None = None) -> bool:
        """As ``has_key``."""
        return self.has_key(key, version)

    async def aincr(self, key: str, delta: int = 1, version: int | None = None) -> int:
        """As ``incr``."""
        return self.incr(key, delta, version)

    async def aget_many(self, keys: Iterable[str], version: int | None = None) -> dict[str, Any]:
        """As ``get_many``."""
        return self.get_many(keys, version)

    async def aset_many(
        self, data: Mapping[str, Any], timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> list[str]:
        """As ``set_many``."""
        return self.set_many(data, timeout, version)

    async def adelete_many(self, keys: Iterable[str], version: int | None = None) -> None:
        """As ``delete_many``."""
        self.delete_many(keys, version)

    async def aclear(self) -> None:
        """As ``clear``."""
        self.clear()
