"""Locks, semaphores and rate limits that all processes of a host share.

``Cache.lock``, ``Cache.semaphore`` and ``Cache.rate_limit`` make them.
"""

from __future__ import annotations

import inspect
import itertools
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from contextlib import suppress
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast, overload
from weakref import WeakKeyDictionary

from . import _pycache
from ._pycache import CacheError

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future, Task

    from typing_extensions import Self

__all__ = ["Hit", "Lock", "RateLimit", "Semaphore"]

# Pauses between two tries of a task where the kernel cannot wait for it, in seconds: the first, and the longest.
_PAUSE_FIRST = 0.001
_PAUSE_LONGEST = 0.05

_Function = TypeVar("_Function", bound=Callable[..., Any])

# Tasks have odd numbers, threads even ones.
_numbers = itertools.count(1, 2)
_tasks: WeakKeyDictionary[Task[Any], int] = WeakKeyDictionary()


def _task() -> int | None:
    """The number of the running task; None where none runs."""
    asyncio = sys.modules.get("asyncio")
    try:
        task = asyncio.current_task() if asyncio else None
    except RuntimeError:
        return None
    if task is None:
        return None
    return _tasks.get(task) or _tasks.setdefault(task, next(_numbers))


class _Watch:
    """The tasks of one loop that wait for locks. One thread of the process sleeps for them all."""

    def __init__(self, loop: AbstractEventLoop, bell: _pycache.Bell) -> None:
        self._bell, self._waiting = bell, dict[int, "Future[None]"]()
        loop.add_reader(bell.fileno(), self._rung)

    def _rung(self) -> None:
        for number in self._bell.rung():
            future = self._waiting.get(number)
            if future is not None and not future.done():
                future.set_result(None)

    async def wait(self, loop: AbstractEventLoop, lease: _pycache.Lease, timeout: float | None) -> None:
        import asyncio

        number, future = next(_waits), loop.create_future()
        self._waiting[number] = future
        try:
            wait = self._bell.wait(lease, number)
            await asyncio.wait({future}, timeout=timeout)
            del wait
        finally:
            del self._waiting[number]
            if not self._waiting:
                _watches.pop(loop, None)
                with suppress(RuntimeError):
                    # Unless the loop is closed.
                    loop.remove_reader(self._bell.fileno())


_waits = itertools.count()
_watches: WeakKeyDictionary[AbstractEventLoop, _Watch] = WeakKeyDictionary()


async def _wait(lease: _pycache.Lease, timeout: float | None) -> bool:
    """Waits until ``lease`` can perhaps be taken, or for ``timeout``; False where there is no way to."""
    import asyncio

    loop = asyncio.get_running_loop()
    try:
        watch = _watches.get(loop)
        if watch is None:
            bell = _pycache.Bell.make()
            if bell is None:
                return False
            watch = _watches[loop] = _Watch(loop, bell)
        await watch.wait(loop, lease, timeout)
    except (OSError, NotImplementedError):
        # No descriptor or thread is left, or the loop watches none.
        return False
    return True


def _seconds(timeout: float | timedelta | None) -> float | None:
    """How long to wait; None is for ever."""
    seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
    if seconds is None or seconds == -1:
        return None
    if not seconds >= 0:
        raise ValueError(f"timeout is zero or more seconds, or -1 to wait for ever, not {timeout!r}")
    return seconds


def _greenlet_sleep() -> Callable[[float], None] | None:
    """What lets the other greenlets of this thread run; None where gevent runs none."""
    gevent: Any = sys.modules.get("gevent")
    monkey: Any = sys.modules.get("gevent.monkey")
    try:
        if gevent is None or not (isinstance(gevent.getcurrent(), gevent.Greenlet) or (monkey and monkey.is_module_patched("time"))):
            return None
        return cast(Callable[[float], None], gevent.sleep)
    except AttributeError:
        # Another thread is loading it.
        return None


class _Lease(_pycache.Lease):
    async def aacquire(self, timeout: float | timedelta | None = -1) -> bool:
        """As ``acquire`` for the running task; other tasks run while it waits."""
        import asyncio

        number = _task()
        if number is None:
            raise RuntimeError("aacquire is awaited in a task")
        seconds = _seconds(timeout)
        deadline = None if seconds is None else time.monotonic() + seconds
        pause = _PAUSE_FIRST
        while not self._try(number):
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return False
            if not await _wait(self, left):
                await asyncio.sleep(pause if left is None else min(pause, left))
                pause = min(2 * pause, _PAUSE_LONGEST)
        return True

    async def __aenter__(self) -> Self:
        await self.aacquire()
        return self

    async def __aexit__(self, *exception: object) -> None:
        try:
            self.release()
        except CacheError:
            # What the block raised says more than that the lock was lost meanwhile.
            if exception[0] is None:
                raise


class Lock(_Lease):
    """A lock of the host, as ``Cache.lock`` describes it."""


class Semaphore(_Lease):
    """A semaphore of the host, as ``Cache.semaphore`` describes it."""


class Hit(NamedTuple):
    """What became of a hit."""

    allowed: bool
    """It was counted."""
    remaining: int
    """How many more would be allowed now."""
    retry_after: float
    """In how many seconds one like it is allowed, if nobody else comes; 0 if it was."""


class RateLimit(_pycache.Rate):
    """A rate limit of the host, as ``Cache.rate_limit`` describes it."""

    def hit(self, key: Any = "", cost: int = 1) -> Hit:
        """Counts ``cost`` hits for ``key`` if they are allowed now; a cost of 0 only asks."""
        return Hit(*self._hit(key, cost))

    def acquire(self, key: Any = "", cost: int = 1, timeout: float | timedelta | None = -1) -> bool:
        """Waits until ``cost`` hits for ``key`` are allowed, and counts them.

        False at once if that is later than in ``timeout`` seconds; -1 is for ever.
        """
        for pause in self._pauses(key, cost, timeout):
            if pause is None:
                return False
            (_greenlet_sleep() or time.sleep)(pause)
        return True

    async def aacquire(self, key: Any = "", cost: int = 1, timeout: float | timedelta | None = -1) -> bool:
        """As ``acquire`` for the running task; other tasks run while it waits."""
        import asyncio

        for pause in self._pauses(key, cost, timeout):
            if pause is None:
                return False
            await asyncio.sleep(pause)
        return True

    def _pauses(self, key: Any, cost: int, timeout: float | timedelta | None) -> Iterator[float | None]:
        """How long to sleep between two tries, until one is allowed; None if that would be too late."""
        seconds = _seconds(timeout)
        deadline = None if seconds is None else time.monotonic() + seconds
        while not (hit := self.hit(key, cost)).allowed:
            is_late = deadline is not None and time.monotonic() + hit.retry_after > deadline
            yield None if is_late else hit.retry_after

    @overload
    def __call__(self, function: None = None, /, *, key: Callable[..., Any] | None = None) -> Callable[[_Function], _Function]: ...
    @overload
    def __call__(self, function: _Function, /, *, key: Callable[..., Any] | None = None) -> _Function: ...
    def __call__(self, function: Any = None, /, *, key: Callable[..., Any] | None = None) -> Any:
        """Decorates a function, or a coroutine function, whose calls wait until they are allowed; with
        ``key``, a function of the same arguments, those of each key by themselves.
        """
        if function is None:
            return partial(self.__call__, key=key)
        key_of = key or (lambda *_arguments, **_keywords: "")
        if inspect.iscoroutinefunction(function):

            @wraps(function)
            async def wait(*arguments: Any, **keywords: Any) -> Any:
                await self.aacquire(key_of(*arguments, **keywords))
                return await function(*arguments, **keywords)

            return wait

        @wraps(function)
        def sleep(*arguments: Any, **keywords: Any) -> Any:
            self.acquire(key_of(*arguments, **keywords))
            return function(*arguments, **keywords)

        return sleep
