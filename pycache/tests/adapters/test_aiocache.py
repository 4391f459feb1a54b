"""The backend for aiocache: its rules, its decorators and its locks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

pytest.importorskip("aiocache", reason="aiocache is not installed")

from aiocache import cached, caches, multi_cached
from aiocache.lock import OptimisticLock, OptimisticLockError, RedLock
from aiocache.serializers import JsonSerializer, PickleSerializer
from pycache import Cache, UnsupportedType, ValueTooLarge
from pycache.adapters.aiocache import SharedMemoryCache

Make = Callable[..., SharedMemoryCache]


@pytest.fixture
def make(directory: str) -> Make:
    return lambda **arguments: SharedMemoryCache("aio", **{"size": "4MiB", "dir": directory, **arguments})


def run(work: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(work())  # type: ignore[arg-type]


def test_the_operations_do_what_aiocache_says(make: Make) -> None:
    async def use() -> None:
        cache = make()
        assert await cache.get("key") is None and await cache.get("key", default=5) == 5
        assert await cache.set("key", {"a": [1, 2.5, None]}) is True
        assert await cache.get("key") == {"a": [1, 2.5, None]}
        assert await cache.exists("key") is True and await cache.exists("missing") is False
        assert await cache.add("new", 1) is True
        with pytest.raises(ValueError, match="already exists"):
            await cache.add("new", 2)
        assert await cache.delete("new") == 1 and await cache.delete("new") == 0
        assert await cache.multi_set([("a", 1), ("b", 2)]) is True
        assert await cache.multi_get(["b", "missing", "a"]) == [2, None, 1]
        assert await cache.raw("incr", "a", 5) == 6
        assert await cache.clear() is True
        assert await cache.multi_get(["a", "b"]) == [None, None]
        await cache.close()
        assert await cache.set("key", 1)

    run(use)


def test_counters_begin_at_their_delta(make: Make) -> None:
    async def use() -> None:
        cache = make()
        assert await cache.increment("count") == 1
        assert await cache.increment("count", delta=-5) == -4
        assert await cache.increment("new", delta=7) == 7
        await cache.set("text", "x")
        with pytest.raises(TypeError):
            await cache.increment("text")

    run(use)


def test_a_ttl_is_seconds_and_zero_is_for_ever(make: Make, directory: str) -> None:
    async def use() -> None:
        cache = make(ttl=100)
        region = Cache("aio", size="4MiB", dir=directory)
        await cache.set("key", 1)
        assert 99 < (region.ttl("key") or 0) <= 100.1
        for never in (0, None):
            await cache.set("key", 1, ttl=never)
            assert region.ttl("key") is None
        await cache.set("key", 1, ttl=5.5)
        assert (region.ttl("key") or 0) <= 5.6
        assert await cache.expire("key", 50) is True and (region.ttl("key") or 0) > 49
        assert await cache.expire("key", 0) is True and region.ttl("key") is None
        assert await cache.expire("missing", 5) is False
        await cache.set("key", 1, ttl=-1)
        assert not await cache.exists("key")

    run(use)


def test_namespaces_are_apart(make: Make) -> None:
    async def use() -> None:
        one, two, every = make(namespace="one:"), make(namespace="two:"), make()
        await one.set("key", 1)
        await two.set("key", 2)
        assert await one.get("key") == 1 and await every.get("two:key") == 2
        assert await one.get("key", namespace="two:") == 2
        await one.clear()
        assert await one.get("key") is None and await two.get("key") == 2
        await one.clear(namespace="two:")
        assert await two.get("key") is None

    run(use)


def test_plain_types_are_the_default_and_serializers_are_those_of_aiocache(make: Make) -> None:
    async def use() -> None:
        plain, pickling, json = make(), make(serializer=PickleSerializer()), make(serializer=JsonSerializer())
        with pytest.raises(UnsupportedType):
            await plain.set("key", make)
        await pickling.set("key", SharedMemoryCache)
        assert await pickling.get("key") is SharedMemoryCache
        await json.set("json", (1, 2))
        assert await json.get("json") == [1, 2] and await plain.get("json") == "[1, 2]"
        await json.set("count", 5)
        assert await json.increment("count") == 6 and await json.get("count") == 6

    run(use)


def test_decorated_functions_are_computed_once(directory: str) -> None:
    async def use() -> None:
        calls: list[Any] = []
        arguments = {"name": "aio", "size": "4MiB", "dir": directory}
        caches.set_config({"default": {"cache": "pycache.adapters.aiocache.SharedMemoryCache", **arguments}})

        @cached(alias="default", key_builder=lambda function, number: f"double:{number}")
        async def double(number: int) -> int:
            calls.append(number)
            return 2 * number

        @multi_cached("keys", alias="default")
        async def names(keys: list[str]) -> dict[str, str]:
            calls.append(tuple(keys))
            return {key: key.upper() for key in keys}

        assert [await double(2), await double(2), await double(3)] == [4, 4, 6]
        assert await names(keys=["a"]) == {"a": "A"}
        assert await names(keys=["a", "b"]) == {"a": "A", "b": "B"}
        assert calls == [2, 3, ("a",), ("b",)]

    run(use)


def test_an_optimistic_lock_sees_what_another_wrote(make: Make) -> None:
    async def use() -> None:
        cache, other = make(), make()
        await cache.set("key", 1)
        async with OptimisticLock(cache, "key") as lock:
            assert await lock.cas(2) is True
        async with OptimisticLock(cache, "key") as lock:
            await other.set("key", 2)
            with pytest.raises(OptimisticLockError):
                await lock.cas(3)
        assert await cache.get("key") == 2

    run(use)


def test_a_red_lock_lets_one_compute(make: Make) -> None:
    async def use() -> None:
        cache = make()
        computed: list[int] = []

        async def compute() -> None:
            async with RedLock(cache, "key", lease=5):
                if await cache.get("key") is None:
                    computed.append(1)
                    await asyncio.sleep(0.05)
                    await cache.set("key", 1)

        await asyncio.gather(*(compute() for _ in range(5)))
        assert computed == [1] and not await cache.exists("key-lock")

    run(use)


def test_a_failure_is_a_miss_or_raises(make: Make) -> None:
    async def use() -> None:
        cache, large = make(), bytes(3 << 20)
        await cache.set("key", 1)
        await cache.set("key", large)
        assert await cache.get("key") is None and sum(cache.failures.values()) == 1
        with pytest.raises(ValueTooLarge):
            await make(on_error="raise").set("key", large)

    run(use)
