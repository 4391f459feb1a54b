"""A lock of all processes of a host that a lease ends: made of one key of the cache."""

from __future__ import annotations

import secrets
import time
from typing import Any

from pycache import Busy, Cache

# A waiter looks again after this many seconds, and after ever longer ones up to the second.
_WAIT_SECONDS_MIN = 0.001
_WAIT_SECONDS_MAX = 0.05


class Lease:
    """A lock under a key that one holder has for at most ``seconds``.

    If the holder dies, or takes longer, the next one has it after that time; so two may hold it at
    once, and also if the region is so full that it evicts the key. That is right for what may be
    done twice and should not be, such as computing a value.
    """

    def __init__(self, cache: Cache[Any, Any], key: str, seconds: float) -> None:
        self._cache = cache
        self._key = key
        self._seconds = seconds
        self._mine = b""

    def acquire(self, wait: bool = True) -> bool:
        """Takes the lock; False if another holds it and ``wait`` is False."""
        mine = secrets.token_bytes(16)
        pause = _WAIT_SECONDS_MIN
        while True:
            try:
                if self._cache.add(self._key, mine, self._seconds):
                    self._mine = mine
                    return True
            except Busy:
                pass
            if not wait:
                return False
            time.sleep(pause)
            pause = min(2 * pause, _WAIT_SECONDS_MAX)

    def release(self) -> None:
        """Gives the lock back; leaves it alone if the lease ended and another object has it since."""
        held, token = self._cache.gets(self._key)
        if token is not None and held == self._mine:
            self._cache.cas(self._key, b"", token, ttl=0)
        self._mine = b""

    def locked(self) -> bool:
        """Whether anybody holds the lock."""
        return self._key in self._cache


def lock(cache: Cache[Any, Any], key: str, seconds: float) -> Lease:
    """The lock that adapters use: the one place to change for another kind."""
    return Lease(cache, key, seconds)
