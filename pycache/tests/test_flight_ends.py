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


ENDS: dict[str, Any] = {
    "evict_tag": lambda cache: cache.evict_tag("row"),
    "clear": lambda cache: cache.clear(),
    "clear all": lambda cache: cache.clear(all_namespaces=True),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
@pytest.mark.parametrize("namespace", [None, "users"])
def test_what_was_begun_before_an_eviction_is_not_kept(roomy: Cache, end: Any, namespace: str | None) -> None:
    """Its function may have read what has changed since."""
    here = roomy if namespace is None else roomy.namespace(namespace)

    def make() -> str:
        end(here)
        return "made of what was there"

    async def amake() -> str:
        return make()

    @here.memoize(ttl=60, prefix="f", tags="row")
    def made(number: int) -> str:
        return make()

    assert here.get_or_set("key", make, tags=["row", "other"]) == "made of what was there" and "key" not in here
    assert asyncio.run(here.aget_or_set("key", amake, tags="row")) == "made of what was there" and "key" not in here
    made(1), made.refresh(1)
    assert len(here) == 0
    assert here.get_or_set("key", lambda: here.evict_tag("stranger") or "kept", tags="row") == "kept" == here["key"]


def test_clearing_a_function_reaches_a_call_of_it_that_is_under_way(cache: Cache) -> None:
    @cache.memoize(ttl=60)
    def made(number: int) -> int:
        made.cache_clear()
        return number

    made(1), made.refresh(1)
    assert len(cache) == 0


def test_what_a_block_raises_is_not_lost_with_its_lock(directory: str) -> None:
    async def loses(cache: Cache) -> None:
        async with cache.alock("alock"):
            cache.close()
            raise ValueError("of the block")

    for kind in ("lock", "semaphore", "alock"):
        cache = Cache("lost", size="1MiB", dir=directory)
        with pytest.raises(ValueError, match="of the block"):
            if kind == "alock":
                asyncio.run(loses(cache))
            with cache.lock(kind) if kind == "lock" else cache.semaphore("gate", 2):
                cache.close()
                raise ValueError("of the block")


class Plain:
    def method(self, number: int) -> int:
        return number


def test_a_bound_method_needs_what_tells_its_object_from_others(cache: Cache) -> None:
    with pytest.raises(ValueError, match="bound method"):
        cache.memoize(Plain().method)
    one = cache.memoize(prefix="one")(Plain().method)
    assert one(7) == 7 == one(7) and one.cache_info().hits == 1


def test_each_function_whose_arguments_make_no_key_is_named_once(cache: Cache, caplog: pytest.LogCaptureFixture) -> None:
    functions = []
    for name in ("first", "second"):
        def function(thing: object) -> int:
            return 1

        function.__qualname__ = name
        functions.append(cache.memoize(ttl=60, prefix=name)(function))
    for function in functions * 3:
        assert function(Plain()) == 1
    told = [record.getMessage() for record in caplog.records if "make no key" in record.getMessage()]
    assert [message.split(" ")[0] for message in told] == ["first", "second"] and "ignore=('self',)" in told[0]
    assert cache.failures == {"unsupported_type": 6}
