"""Single flight: a missing value is made by one caller of the host while the others wait.

``Cache.get_or_set``, ``Cache.aget_or_set`` and ``Cache.memoize`` come here when a key is missing. The
leader holds a lease named by the key, looks again, calls the function, stores and gives the lease
back. Who waits sleeps on the lease's futex (a task looks at growing pauses), and looks again when
it has the lease.
"""

from __future__ import annotations

import inspect
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from ._pycache import Cache, CacheError, Closed, thread_number
from .leases import Lock

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future

_Caches = Cache[Any, Any]

MISSING: Any = object()
_LOG = logging.getLogger("pycache")

# What was passed by, by region and code. Few regions, and few codes.
_failures: dict[_Caches, Counter[str]] = {}
# Which thread leads under which token: whoever would wait for its own thread does not.
_threads: dict[int, int] = {}
# The keys that this context makes the values of, those of its callers and parent tasks included.
_above: ContextVar[frozenset[tuple[_Caches, Any]]] = ContextVar("pycache_above", default=frozenset())
# Of each loop, the keys that one of its tasks has taken on.
_taken_on: WeakKeyDictionary[AbstractEventLoop, dict[tuple[_Caches, Any], Future[None]]] = WeakKeyDictionary()


def failures(cache: _Caches) -> Counter[str]:
    """The failures that were passed by, by code; of all handles of this process on that region."""
    return _failures.setdefault(cache, Counter())


def failed(cache: _Caches, error: BaseException, on_error: str) -> None:
    """Counts and logs ``error``, or raises it."""
    if on_error == "raise" or isinstance(error, Closed):
        raise error
    count(cache, getattr(error, "code", None) or type(error).__name__, error)


def count(cache: _Caches, code: str, what: object) -> None:
    """Counts a failure, and logs the first of its kind."""
    counts = failures(cache)
    counts[code] += 1
    if counts[code] == 1:
        _LOG.warning(
            "the cache %r was passed by and the function called; later failures of this kind are only counted: %s: %s",
            cache.name, code, what,
        )


def check(on_error: str, wait: float) -> None:
    """Refuses what makes no sense."""
    if on_error not in ("call", "raise"):
        raise ValueError(f'on_error is "call" or "raise", not {on_error!r}')
    if not wait >= 0:
        raise ValueError(f"wait is a number of seconds, not {wait!r}")


def find(cache: _Caches, key: Any, on_error: str) -> Any:
    """The value, or MISSING; a key that is not there is no miss for the statistics."""
    try:
        return cache.get(key, MISSING) if key in cache else MISSING
    except Exception as error:
        failed(cache, error, on_error)
        return MISSING


def store(cache: _Caches, key: Any, value: Any, keep: dict[str, Any], on_error: str, replaces: bool) -> Any:
    """Stores ``value`` if it can be; what the caller gets."""
    try:
        if not replaces:
            return cache.setdefault(key, value, **keep)
        cache.set(key, value, **keep)
    except Exception as error:
        failed(cache, error, on_error)
    return value


@contextmanager
def _leading(cache: _Caches, key: Any, lock: Lock | None) -> Iterator[None]:
    """While the caller makes the value; gives the lease back whatever happens."""
    before, token = _above.get(), None if lock is None else lock.token
    _above.set(before | {(cache, key)})
    if token is not None:
        _threads[token] = thread_number()
    try:
        yield
    finally:
        _above.set(before)
        if token is not None:
            del _threads[token]
        if lock is not None:
            try:
                lock.release()
            except CacheError:
                # The region went away, or the process forked: then it is nobody's any more.
                pass


def _board(cache: _Caches, key: Any, on_error: str, wait: float) -> Lock | None:
    """The lease of ``key``, held; None if the caller makes the value on its own."""
    if (cache, key) in _above.get():
        return None
    try:
        lock = Lock(cache, key, 0, None, False, True)
        if lock.acquire(False):
            return lock
        leader = lock._current()
        if leader is not None and _threads.get(leader) == thread_number():
            return None
        if lock.acquire(timeout=wait):
            return lock
        count(cache, "flight_timeout", f"waited {wait} s for another caller")
    except CacheError as error:
        failed(cache, error, on_error)
    return None


def get_or_set(
    cache: _Caches,
    key: Any,
    function: Callable[[], Any],
    keep: dict[str, Any],
    on_error: str,
    wait: float,
    error: BaseException | None = None,
    replaces: bool = False,
) -> Any:
    """What ``Cache.get_or_set`` does after a miss, or after ``error`` kept it from reading."""
    check(on_error, wait)
    if error is not None:
        # What cannot be read is made anew, so that it heals.
        failed(cache, error, on_error)
        replaces = True
    lock = _board(cache, key, on_error, wait)
    with _leading(cache, key, lock):
        if lock is not None and not replaces:
            found = find(cache, key, on_error)
            if found is not MISSING:
                return found
        return store(cache, key, function(), keep, on_error, replaces)


async def _aboard(cache: _Caches, key: Any, on_error: str, wait: float) -> Lock | None:
    try:
        lock = Lock(cache, key, 0, None, False, True)
        if await lock.aacquire(wait):
            return lock
        count(cache, "flight_timeout", f"waited {wait} s for another caller")
    except CacheError as error:
        failed(cache, error, on_error)
    return None


async def _make(function: Callable[[], Any]) -> Any:
    value = function()
    return await value if inspect.isawaitable(value) else value


async def fly(
    cache: _Caches,
    key: Any,
    function: Callable[[], Any],
    keep: dict[str, Any],
    on_error: str,
    wait: float,
    replaces: bool = False,
) -> Any:
    """As ``get_or_set`` for a task."""
    import asyncio

    check(on_error, wait)
    if (cache, key) in _above.get():
        return store(cache, key, await _make(function), keep, on_error, replaces)
    loop, name = asyncio.get_running_loop(), (cache, key)
    others = _taken_on.setdefault(loop, {})
    deadline = loop.time() + wait
    while (other := others.get(name)) is not None:
        done, _ = await asyncio.wait({other}, timeout=max(deadline - loop.time(), 0))
        if not done:
            count(cache, "flight_timeout", f"waited {wait} s for another task")
            return store(cache, key, await _make(function), keep, on_error, replaces)
        if not replaces and (found := find(cache, key, on_error)) is not MISSING:
            return found
    others[name] = mine = loop.create_future()
    try:
        lock = await _aboard(cache, key, on_error, max(deadline - loop.time(), 0))
        with _leading(cache, key, lock):
            if lock is not None and not replaces:
                found = find(cache, key, on_error)
                if found is not MISSING:
                    return found
            return store(cache, key, await _make(function), keep, on_error, replaces)
    finally:
        del others[name]
        if not mine.done():
            mine.set_result(None)


async def aget_or_set(
    cache: _Caches, key: Any, default: Any, keep: dict[str, Any], on_error: str, wait: float
) -> Any:
    """What ``Cache.aget_or_set`` does."""
    replaces = False
    try:
        found = cache.get(key, MISSING)
        if found is not MISSING:
            return found
    except Exception as error:
        if not callable(default):
            raise
        failed(cache, error, on_error)
        replaces = True
    if not callable(default):
        return cache.setdefault(key, default, **keep)
    return await fly(cache, key, default, keep, on_error, wait, replaces)
