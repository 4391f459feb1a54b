"""Single flight at its edges: two regions, interrupts, tasks that outlive what began them, ends out of turn."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import subprocess
import sys
from typing import Any

import pytest

from pycache import Cache, RegionGone
from workers import PATIENCE


def test_a_value_of_one_region_is_made_within_that_of_another() -> None:
    """Their tokens begin with the second in which they were made, so they may be equal."""
    with Cache(None, size="1MiB") as one, Cache(None, size="1MiB") as two:
        assert one.get_or_set("a", lambda: two.get_or_set("b", lambda: 1) + 1) == 2
        assert two.get_or_set("b", lambda: 0) == 1


class Interrupted:
    """A serializer that is interrupted once while it reads."""

    name = "interrupted"
    interrupts = 0

    def dumps(self, value: Any) -> bytes:
        return repr(sorted(value)).encode()

    def loads(self, data: bytes) -> Any:
        self.interrupts -= 1
        if self.interrupts == 0:
            raise KeyboardInterrupt
        return set(eval(bytes(data)))


def test_an_interrupt_while_a_value_is_read_is_not_lost() -> None:
    serializer = Interrupted()
    with Cache(None, size="1MiB", serializer=serializer) as cache:
        @cache.memoize(prefix="f")
        def made(number: int) -> set[Any]:
            return {frozenset([number]).__class__.__name__}

        made(1)
        for read in (lambda: made(1), lambda: cache.get_or_set(made.cache_key(1), lambda: {0})):
            serializer.interrupts = 1
            with pytest.raises(KeyboardInterrupt):
                read()
            assert read() == {"frozenset"}


def test_a_task_that_outlives_the_function_that_began_it_waits_like_others() -> None:
    calls = 0

    async def make() -> int:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0.02)
        return calls

    async def main(cache: Cache) -> None:
        over = asyncio.Event()

        async def later() -> list[int]:
            await over.wait()
            cache.delete("key")
            return await asyncio.gather(*[cache.aget_or_set("key", make) for _ in range(10)])

        tasks = []

        async def lead() -> int:
            tasks.append(asyncio.create_task(later()))
            return 0

        await cache.aget_or_set("key", lead)
        over.set()
        assert await tasks[0] == [1] * 10 and calls == 1

    with Cache(None, size="1MiB") as cache:
        asyncio.run(main(cache))


def test_a_coroutine_that_its_loop_left_behind_gives_its_flight_back(cache: Cache) -> None:
    async def main() -> None:
        task = asyncio.ensure_future(cache.aget_or_set("key", lambda: asyncio.sleep(1000)))
        while not cache_is_led(cache):
            await asyncio.sleep(0)
        tasks.append(task)

    tasks: list[Any] = []
    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    loop.close()
    tasks.clear()
    del loop
    with contextlib.suppress(RuntimeError):
        gc.collect()
    script = f"""
from pycache import Cache
cache = Cache({cache.name!r}, dir={str(cache.path).rsplit("/", 1)[0]!r})
assert cache.get_or_set("key", lambda: 1, wait=40) == 1 and not cache.failures
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr


def cache_is_led(cache: Cache) -> bool:
    from pycache.leases import Lock

    return Lock(cache, "key", 0, None, False, True).locked()


def test_counted_failures_keep_no_region() -> None:
    def mapped() -> int:
        with open("/proc/self/maps") as maps:
            return sum("memfd" in line for line in maps)

    before = mapped()
    for _ in range(10):
        assert not Cache(None, size="1MiB").failures
    gc.collect()
    assert mapped() == before


def test_a_lock_is_one_lock_in_a_region_made_anew(directory: str) -> None:
    cache = Cache("anew", size="1MiB", dir=directory)
    users = cache.namespace("users")
    kept = [cache.lock("name"), users.lock("name")]
    script = f"""
from pycache import Cache
Cache("anew", dir={directory!r}).destroy()
Cache("anew", size="1MiB", dir={directory!r}).namespace("others")
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=PATIENCE)
    for handle in (cache, users):
        with contextlib.suppress(RegionGone):
            handle["key"] = 1
    fresh = Cache("anew", dir=directory)
    for lock, again in zip(kept, (fresh.lock("name"), fresh.namespace("users").lock("name"))):
        assert lock.acquire(blocking=False)
        assert again.locked() and not again.acquire(blocking=False)
        lock.release()
        assert again.acquire(blocking=False)
