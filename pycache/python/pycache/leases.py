"""Locks, semaphores and rate limits that all processes of a host share.

``Cache.lock``, ``Cache.semaphore`` and ``Cache.rate_limit`` make them.
"""

from __future__ import annotations

import inspect
import itertools
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast
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
    async def aacquire(self, timeout: float = -1) -> bool:
        """As ``acquire`` for the running task; other tasks run while it waits."""
        import asyncio

        number = _task()
        if number is None:
            raise RuntimeError("aacquire is awaited in a task")
        deadline = None if timeout == -1 else time.monotonic() + timeout
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

    def __call__(self, function: _Function) -> _Function:
        """Decorates a function, or a coroutine function, whose calls wait until they are allowed."""
        if inspect.iscoroutinefunction(function):

            @wraps(function)
            async def wait(*arguments: Any, **keywords: Any) -> Any:
                import asyncio

                while not (hit := self.hit()).allowed:
                    await asyncio.sleep(hit.retry_after)
                return await function(*arguments, **keywords)

            return cast(_Function, wait)

        @wraps(function)
        def sleep(*arguments: Any, **keywords: Any) -> Any:
            while not (hit := self.hit()).allowed:
                time.sleep(hit.retry_after)
            return function(*arguments, **keywords)

        return cast(_Function, sleep)
