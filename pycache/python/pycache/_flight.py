"""Single flight: a missing value is made by one caller of the host while the others wait.

``Cache.get_or_set``, ``Cache.aget_or_set`` and ``Cache.memoize`` come here when a key is missing. The
leader holds a lease named by the key, looks again, calls the function, stores and gives the lease
back. Who waits sleeps on the lease's futex (for tasks a thread of the process does), and looks again
when it has the lease. A value that is due but still serves is made anew by whoever gets the lease at
once; the others do not wait for it.
"""

from __future__ import annotations

import inspect
import logging
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from copy import copy
from datetime import timedelta
from time import perf_counter
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from ._pycache import Cache, CacheError, Closed, thread_number
from .leases import Lock

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future

_Caches = Cache[Any, Any]
# A value that is due, and its version.
_Old = tuple[Any, int]

MISSING: Any = object()
_LOG = logging.getLogger("pycache")
# Ends the keys under which exceptions are remembered.
_RAISED = "\0raised"

# What was passed by, by region and code. Few regions, and few codes.
_failures: dict[tuple[str, str | None], Counter[str]] = {}
# The same of private regions, which no path tells apart.
_private_failures: WeakKeyDictionary[_Caches, Counter[str]] = WeakKeyDictionary()
# Which thread leads under which token of which region (tokens of two regions may be equal): whoever
# would wait for its own thread does not.
_threads: dict[tuple[_Caches, int], int] = {}
# The keys that this context makes the values of, those of its callers and parent tasks included. A task may
# outlive the function that began it: then the flight is over.
_above: ContextVar[dict[tuple[_Caches, Any], _Flight]] = ContextVar("pycache_above", default={})  # noqa: B039
# Of each loop, the keys that one of its tasks has taken on.
_taken_on: WeakKeyDictionary[AbstractEventLoop, dict[tuple[_Caches, Any], Future[None]]] = WeakKeyDictionary()


class _Flight:
    """One call of a function that makes a value."""

    is_over = False


def _flight_above(cache: _Caches, key: Any) -> _Flight | None:
    flight = _above.get().get((cache, key))
    return None if flight is None or flight.is_over else flight


class Plan:
    """How values are made and kept: what the caller of ``get_or_set`` or ``memoize`` said."""

    __slots__ = ("early", "keep", "negative", "negative_ttl", "on_error", "wait")

    def __init__(
        self,
        keep: dict[str, Any],
        early: tuple[float, float] | None,
        negative_ttl: timedelta | None,
        negative: Any,
        on_error: str,
        wait: float,
    ) -> None:
        if on_error not in ("call", "raise"):
            raise ValueError(f'on_error is "call" or "raise", not {on_error!r}')
        if not wait >= 0:
            raise ValueError(f"wait is a number of seconds, not {wait!r}")
        if (negative_ttl is None) is not (negative is None):
            raise ValueError("negative_ttl and negative go together: for how long, and which exceptions")
        classes = () if negative is None else negative if isinstance(negative, tuple) else (negative,)
        for one in classes:
            if not (isinstance(one, type) and issubclass(one, Exception)):
                raise TypeError(f"negative is a subclass of Exception or a tuple of these, not {one!r}")
        self.keep = keep
        """The keywords of a write."""
        self.early = early
        """Stale seconds and beta."""
        self.negative: tuple[type[Exception], ...] = classes
        self.negative_ttl = negative_ttl
        self.on_error = on_error
        self.wait = wait

    def tagged(self, *tags: str | bytes) -> Plan:
        """The same with more tags."""
        plan = copy(self)
        plan.keep = self.keep | {"tags": (*self.keep.get("tags", ()), *tags)}
        return plan


# --- failures -----------------------------------------------------------------------------------


def failures(cache: _Caches) -> Counter[str]:
    """The failures that were passed by, by code; of all handles of this process on that region."""
    path = cache.path
    if path is None:
        return _private_failures.setdefault(cache, Counter())
    return _failures.setdefault((path, cache.namespace_name), Counter())


def failed(cache: _Caches, error: BaseException, on_error: str) -> None:
    """Counts and logs ``error``, or raises it."""
    if on_error == "raise" or isinstance(error, Closed):
        raise error
    count(cache, getattr(error, "code", None) or type(error).__name__, error)


def count(
    cache: _Caches,
    code: str,
    what: object,
    did: str = "was passed by and the function called",
    raised: BaseException | None = None,
) -> None:
    """Counts a failure, and logs the first of its kind; with its traceback if the function ``raised`` it."""
    counts = failures(cache)
    counts[code] += 1
    if counts[code] == 1:
        _LOG.warning(
            "the cache %r %s; later failures of this kind are only counted: %s: %s", cache.name, did, code, what,
            exc_info=raised,
        )


# --- exceptions that are remembered ---------------------------------------------------------------


def _aside(key: Any) -> Any:
    """The key under which an exception is remembered: `delete` of the key knows it as well."""
    if isinstance(key, (str, int)):
        return f"{key}{_RAISED}"
    return key + _RAISED.encode() if isinstance(key, bytes) else (key, _RAISED)


def _class_named(module: str, name: str) -> Any:
    """The class of that name in a module that this process has loaded; it loads none."""
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def _remember(cache: _Caches, key: Any, plan: Plan, error: Exception) -> None:
    """Stores what ``error`` is, if an equal one can be made of that."""
    kind = type(error)
    try:
        if _class_named(kind.__module__, kind.__qualname__) is not kind or kind(*error.args).args != error.args:
            raise TypeError(f"{kind.__qualname__} is not made again from its args")
        cache.set(_aside(key), (kind.__module__, kind.__qualname__, error.args), plan.negative_ttl, tags=plan.keep.get("tags", ()))
    except Exception as failure:
        code = getattr(failure, "code", None) or type(failure).__name__
        count(cache, code, failure, "does not remember an exception")


def raise_remembered(cache: _Caches, key: Any, plan: Plan) -> None:
    """Raises what was remembered of ``key``, if something was."""
    if not plan.negative:
        return
    found = find(cache, _aside(key), "call")
    if found is MISSING:
        return
    try:
        module, name, args = found
        kind = _class_named(module, name)
        error = kind(*args) if isinstance(kind, type) and issubclass(kind, plan.negative) else None
    except Exception as failure:
        failed(cache, failure, "call")
        return
    if error is not None:
        raise error


def forget_raised(cache: _Caches, key: Any, plan: Plan) -> None:
    """The next miss calls the function."""
    if plan.negative:
        try:
            cache.delete(_aside(key))
        except Exception as error:
            failed(cache, error, plan.on_error)


# --- values -------------------------------------------------------------------------------------


def find(cache: _Caches, key: Any, on_error: str) -> Any:
    """The value, or MISSING; a key that is not there is no miss for the statistics."""
    try:
        return cache.get(key, MISSING) if key in cache else MISSING
    except Exception as error:
        failed(cache, error, on_error)
        return MISSING


def look(cache: _Caches, key: Any, plan: Plan) -> tuple[Any, _Old | None]:
    """The value or MISSING; and once more with its version, if it is due."""
    if plan.early is None:
        return cache.get(key, MISSING), None
    found = cache._look(key, *plan.early)
    if found is None:
        return MISSING, None
    value, version = found
    return value, None if version is None else (value, version)


class Begun:
    """When the call of a function began: by the clock, and by what was cleared and evicted before."""

    __slots__ = ("since", "start")

    def __init__(self, cache: _Caches, plan: Plan) -> None:
        try:
            self.since: list[int] | None = cache._generations(plan.keep.get("tags", ()))
        except CacheError:
            # Then it cannot be stored either, and that says why.
            self.since = None
        self.start = perf_counter()


def store(
    cache: _Caches, key: Any, value: Any, plan: Plan, replaces: bool, begun: Begun, version: int | None = None
) -> Any:
    """Stores ``value`` if it can be, and if nothing it may have been made of was cleared or evicted since the
    call began; what the caller gets."""
    cost = perf_counter() - begun.start if plan.early else 0.0
    try:
        return cache._made(key, value, cost, replaces, version, begun.since, **plan.keep)
    except Exception as error:
        failed(cache, error, plan.on_error)
    return value


@contextmanager
def _making(cache: _Caches, key: Any, plan: Plan, old: _Old | None) -> Iterator[None]:
    """Around the call of the function: what its exceptions leave behind."""
    try:
        yield
    except plan.negative as error:
        if old is not None:
            # The exception is the answer now. First, since whoever removes a key removes its exception.
            try:
                cache.delete(key)
            except Exception as failure:
                failed(cache, failure, "call")
        _remember(cache, key, plan, error)
        raise


def _renewal_failed(cache: _Caches, plan: Plan, error: Exception) -> None:
    """What becomes of an exception of the function while the old value still serves."""
    if plan.on_error == "raise" or isinstance(error, plan.negative):
        raise error
    count(cache, "renewal_failed", error, "serves an old value, as the function raised", error)


def _is_renewed(cache: _Caches, key: Any, old: _Old, on_error: str) -> Any:
    """The value that another has put in the place of ``old``; else MISSING."""
    try:
        value, version = cache.gets(key)
    except Exception as error:
        failed(cache, error, on_error)
        return MISSING
    return MISSING if version in (None, old[1]) else value


def refuse_awaitable(value: Any) -> Any:
    """``value``, unless it is a coroutine or the like: that has no value yet, and none that could be kept."""
    if inspect.isawaitable(value):
        if inspect.iscoroutine(value):
            value.close()
        raise TypeError(
            "the function returned a coroutine, which is not awaited here: use aget_or_set, or decorate the coroutine function itself"
        )
    return value


# --- threads ------------------------------------------------------------------------------------


@contextmanager
def _leading(cache: _Caches, key: Any, lock: Lock | None) -> Iterator[None]:
    """While the caller makes the value; gives the lease back whatever happens."""
    above, token = _flight_above(cache, key), None if lock is None else lock.token
    flight = above or _Flight()
    before = _above.set({**_above.get(), (cache, key): flight})
    if token is not None:
        _threads[cache, token] = thread_number()
    try:
        yield
    finally:
        flight.is_over = above is None
        # A coroutine that its loop left behind ends in another context.
        with suppress(ValueError):
            _above.reset(before)
        if token is not None:
            _threads.pop((cache, token), None)
        if lock is not None:
            try:
                # Such a coroutine ends outside of its task, too.
                lock._release_any()
            except CacheError:
                # The region went away, or the process forked: then it is nobody's any more.
                pass


def _board(cache: _Caches, key: Any, plan: Plan, waits: bool) -> Lock | None:
    """The lease of ``key``, held; None if the caller makes the value on its own."""
    if _flight_above(cache, key) is not None:
        return None
    try:
        lock = Lock(cache, key, 0, None, False, True)
        if lock.acquire(False):
            return lock
        if not waits:
            return None
        leader = lock._current()
        if leader is not None and _threads.get((cache, leader)) == thread_number():
            return None
        if lock.acquire(timeout=plan.wait):
            return lock
        count(cache, "flight_timeout", f"waited {plan.wait} s for another caller")
    except CacheError as error:
        failed(cache, error, plan.on_error)
    return None


def get_or_set(
    cache: _Caches,
    key: Any,
    function: Callable[[], Any],
    plan: Plan,
    error: BaseException | None = None,
    old: _Old | None = None,
    replaces: bool = False,
) -> Any:
    """What ``Cache.get_or_set`` does after a miss, with a value that is due, or after ``error`` kept
    it from reading."""
    if old is not None:
        return _renew(cache, key, function, plan, old)
    if error is not None:
        # What cannot be read is made anew, so that it heals.
        failed(cache, error, plan.on_error)
        replaces = True
    if not replaces:
        raise_remembered(cache, key, plan)
    lock = _board(cache, key, plan, True)
    with _leading(cache, key, lock):
        if lock is not None and not replaces:
            found = find(cache, key, plan.on_error)
            if found is not MISSING:
                return found
            raise_remembered(cache, key, plan)
        begun = Begun(cache, plan)
        with _making(cache, key, plan, None):
            value = function()
        return store(cache, key, refuse_awaitable(value), plan, replaces, begun)


def _renew(cache: _Caches, key: Any, function: Callable[[], Any], plan: Plan, old: _Old) -> Any:
    lock = _board(cache, key, plan, False)
    if lock is None:
        return old[0]
    with _leading(cache, key, lock):
        found = _is_renewed(cache, key, old, plan.on_error)
        if found is not MISSING:
            return found
        begun = Begun(cache, plan)
        try:
            with _making(cache, key, plan, old):
                value = function()
        except Exception as error:
            _renewal_failed(cache, plan, error)
            return old[0]
        return store(cache, key, refuse_awaitable(value), plan, False, begun, old[1])


# --- tasks --------------------------------------------------------------------------------------


async def _aboard(cache: _Caches, key: Any, plan: Plan, wait: float) -> Lock | None:
    try:
        lock = Lock(cache, key, 0, None, False, True)
        if await lock.aacquire(wait):
            return lock
        if wait:
            count(cache, "flight_timeout", f"waited {plan.wait} s for another caller")
    except CacheError as error:
        failed(cache, error, plan.on_error)
    return None


async def _make(cache: _Caches, key: Any, function: Callable[[], Any], plan: Plan, old: _Old | None = None) -> Any:
    with _making(cache, key, plan, old):
        value = function()
        return await value if inspect.isawaitable(value) else value


async def fly(
    cache: _Caches,
    key: Any,
    function: Callable[[], Any],
    plan: Plan,
    old: _Old | None = None,
    replaces: bool = False,
) -> Any:
    """As ``get_or_set`` for a task."""
    import asyncio

    loop, name = asyncio.get_running_loop(), (cache, key)
    others = _taken_on.setdefault(loop, {})
    is_above = _flight_above(cache, key) is not None
    if old is not None and (is_above or name in others):
        return old[0]
    if old is None and not replaces:
        raise_remembered(cache, key, plan)
    if is_above:
        begun = Begun(cache, plan)
        return store(cache, key, await _make(cache, key, function, plan), plan, replaces, begun)
    deadline = loop.time() + plan.wait
    while (other := others.get(name)) is not None:
        done, _ = await asyncio.wait({other}, timeout=max(deadline - loop.time(), 0))
        if not done:
            count(cache, "flight_timeout", f"waited {plan.wait} s for another task")
            begun = Begun(cache, plan)
            return store(cache, key, await _make(cache, key, function, plan), plan, replaces, begun)
        if not replaces:
            if (found := find(cache, key, plan.on_error)) is not MISSING:
                return found
            raise_remembered(cache, key, plan)
    others[name] = mine = loop.create_future()
    try:
        if old is not None:
            return await _arenew(cache, key, function, plan, old)
        lock = await _aboard(cache, key, plan, max(deadline - loop.time(), 0))
        with _leading(cache, key, lock):
            if lock is not None and not replaces:
                found = find(cache, key, plan.on_error)
                if found is not MISSING:
                    return found
                raise_remembered(cache, key, plan)
            begun = Begun(cache, plan)
            value = await _make(cache, key, function, plan)
            return store(cache, key, value, plan, replaces, begun)
    finally:
        del others[name]
        if not mine.done():
            mine.set_result(None)


async def _arenew(cache: _Caches, key: Any, function: Callable[[], Any], plan: Plan, old: _Old) -> Any:
    lock = await _aboard(cache, key, plan, 0)
    if lock is None:
        return old[0]
    with _leading(cache, key, lock):
        found = _is_renewed(cache, key, old, plan.on_error)
        if found is not MISSING:
            return found
        begun = Begun(cache, plan)
        try:
            value = await _make(cache, key, function, plan, old)
        except Exception as error:
            _renewal_failed(cache, plan, error)
            return old[0]
        return store(cache, key, value, plan, False, begun, old[1])


async def aget_or_set(cache: _Caches, key: Any, default: Any, plan: Plan) -> Any:
    """What ``Cache.aget_or_set`` does."""
    old, replaces = None, False
    try:
        found, old = look(cache, key, plan)
        if found is not MISSING and old is None:
            return found
    except Exception as error:
        if not callable(default):
            raise
        failed(cache, error, plan.on_error)
        replaces = True
    if not callable(default):
        return cache.setdefault(key, default, **plan.keep)
    return await fly(cache, key, default, plan, old, replaces)
