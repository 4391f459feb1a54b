"""A backend for dogpile.cache, with its mutex.

.. code-block:: python

    from dogpile.cache import make_region

    region = make_region().configure(
        "pycache",
        expiration_time=300,
        arguments={"name": "site", "size": "64MiB", "ttl": 3600},
    )

The region's values are bytes that dogpile's own serializer makes: pickle unless ``make_region`` gets
``serializer`` and ``deserializer``, for example of JSON. With pickle, who can write the region's
file can run code in this process.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dogpile.cache.api import NO_VALUE, BytesBackend, CacheMutex, SerializedReturnType

from pycache import CacheError, NotHolder

from ._region import Region

__all__ = ["SharedMemoryBackend"]


class SharedMemoryBackend(BytesBackend):
    """One cache in shared memory for all processes, with dogpile's rules.

    Keys in ``arguments``:
        name: The region's name.
        ttl: Seconds after which a value is removed, None (the default) for never. It should be
            longer than dogpile's ``expiration_time``, which decides when a value is made anew and
            until then serves the old one.
        distributed_lock: True (the default) lets one thread of all processes of the host make a
            value; False one thread of each process.
        lock_timeout: Seconds (30) after which a lock is free again although its holder lives and did
            not release it: longer than making a value takes; None for never. That of a process that
            died is free at once.
        on_error: "ignore" makes a failure of the cache a miss (see ``failures``), "raise" raises it.

    All others are keywords of ``pycache.Cache``.
    """

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        options = dict(arguments)
        self._ttl: float | None = options.pop("ttl", None)
        self._distributed: bool = options.pop("distributed_lock", True)
        self._lock_timeout: float | None = options.pop("lock_timeout", 30.0)
        try:
            name = options.pop("name")
        except KeyError:
            raise ValueError('arguments must have the name of the cache\'s region: {"name": ...}') from None
        self._region = Region(name, options.pop("on_error", "ignore"), options)

    @property
    def failures(self) -> Counter[str]:
        """How many failures of each kind this object has ignored, by the errors' codes."""
        return self._region.failures

    def get_mutex(self, key: str) -> CacheMutex | None:
        """The lock of those who make the value of ``key``; None for dogpile's own of one process."""
        if not self._distributed:
            return None
        try:
            return _Mutex(self._region, key, self._lock_timeout)
        except CacheError as error:
            self._region.failed(error)
            return None

    def get_serialized(self, key: str) -> SerializedReturnType:
        """The bytes of ``key``, or NO_VALUE."""
        try:
            found: SerializedReturnType = self._region.cache.get(key, NO_VALUE)
        except CacheError as error:
            self._region.failed(error)
            return NO_VALUE
        return found

    def get_serialized_multi(self, keys: Iterable[str]) -> Sequence[SerializedReturnType]:
        """The bytes of each of ``keys`` in their order, or NO_VALUE."""
        keys = list(keys)
        try:
            found = self._region.cache.get_many(keys)
        except CacheError as error:
            self._region.failed(error)
            found = {}
        return [found.get(key, NO_VALUE) for key in keys]

    def set_serialized(self, key: str, value: bytes) -> None:
        """Stores ``value``; if it cannot be kept, no older value stays."""
        try:
            self._region.cache.set(key, value, self._ttl)
        except CacheError as error:
            self._region.failed(error)
            self._region.drop(key)

    def set_serialized_multi(self, mapping: Mapping[str, bytes]) -> None:
        """Stores every pair."""
        for key, value in mapping.items():
            self.set_serialized(key, value)

    def delete(self, key: str) -> None:
        """Removes ``key``, if it is there."""
        self.delete_multi([key])

    def delete_multi(self, keys: Iterable[str]) -> None:
        """Removes every key that is there."""
        try:
            self._region.cache.delete_many(keys)
        except CacheError as error:
            self._region.failed(error)


class _Mutex(CacheMutex):
    """A lock of the region as dogpile knows it; one that fails lets everybody make the value."""

    def __init__(self, region: Region, key: str, seconds: float | None) -> None:
        self._region = region
        # A program may have a lock of its own by the name of the key.
        self._lock = region.cache.lock(f"_lock:{key}", seconds)

    def acquire(self, wait: bool = True) -> bool:
        try:
            return self._lock.acquire(wait)
        except CacheError as error:
            self._region.failed(error)
            return True

    def release(self) -> None:
        """Gives it back; leaves it alone if its time has passed and another has it since."""
        try:
            # A runner of `async_creation_runner` releases in another thread.
            self._lock._release_any()
        except NotHolder:
            pass
        except CacheError as error:
            self._region.failed(error)

    def locked(self) -> bool:
        try:
            return self._lock.locked()
        except CacheError as error:
            self._region.failed(error)
            return False
