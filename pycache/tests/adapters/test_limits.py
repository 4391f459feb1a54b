"""The storage for limits: what is allowed, in each strategy, by one process and by several."""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from array import array
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("limits", reason="limits is not installed")

from limits import RateLimitItemPerMinute, RateLimitItemPerSecond, parse
from limits.aio.strategies import MovingWindowRateLimiter as AsyncMovingWindow
from limits.errors import ConfigurationError, StorageError
from limits.storage import storage_from_string
from limits.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter, SlidingWindowCounterRateLimiter
from pycache import Cache, RegionMissing
from pycache.adapters.limits import AsyncSharedMemoryStorage, SharedMemoryStorage

STRATEGIES = [FixedWindowRateLimiter, MovingWindowRateLimiter, SlidingWindowCounterRateLimiter]


@pytest.fixture
def storage(directory: str) -> SharedMemoryStorage:
    made = storage_from_string("pycache://limits", size="4MiB", dir=directory)
    assert isinstance(made, SharedMemoryStorage)
    return made


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_limit_lets_as_many_through_as_it_says(storage: SharedMemoryStorage, strategy: Any) -> None:
    limiter, limit = strategy(storage), parse("5/hour")
    assert limiter.test(limit, "ann", cost=5) and not limiter.test(limit, "ann", cost=6)
    assert [limiter.hit(limit, "ann") for _ in range(7)] == [True] * 5 + [False] * 2
    assert limiter.hit(limit, "bob"), "another's hits do not count"
    assert not limiter.test(limit, "ann")
    reset, remaining = limiter.get_window_stats(limit, "ann")
    assert remaining == 0 and time.time() <= reset <= time.time() + 3600.1
    limiter.clear(limit, "ann")
    assert limiter.get_window_stats(limit, "ann").remaining == 5
    assert limiter.hit(limit, "ann") and not limiter.test(limit, "bob", cost=5)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_hit_can_cost_more_than_one(storage: SharedMemoryStorage, strategy: Any) -> None:
    limiter, limit = strategy(storage), parse("10/hour")
    assert limiter.hit(limit, "ann", cost=6)
    assert not limiter.hit(limit, "ann", cost=11)
    if strategy is not FixedWindowRateLimiter:
        assert not limiter.hit(limit, "ann", cost=5)
        assert limiter.hit(limit, "ann", cost=4)
        assert limiter.get_window_stats(limit, "ann").remaining == 0


def until(check: Callable[[], bool]) -> float:
    """Seconds until something is so."""
    started = time.monotonic()
    while not check():
        assert time.monotonic() < started + 10
        time.sleep(0.01)
    return time.monotonic() - started


def test_a_fixed_window_begins_with_its_first_hit_and_ends(storage: SharedMemoryStorage) -> None:
    limiter, limit = FixedWindowRateLimiter(storage), RateLimitItemPerSecond(2)
    assert limiter.hit(limit) and limiter.hit(limit) and not limiter.hit(limit)
    assert until(lambda: limiter.test(limit)) <= 1.5
    assert limiter.hit(limit)


def test_a_moving_window_forgets_each_hit_after_its_time(storage: SharedMemoryStorage) -> None:
    limiter, limit, now = MovingWindowRateLimiter(storage), RateLimitItemPerMinute(2), time.time()
    hits_before = array("d", [now - 61, now - 59.5, now - 10])
    storage._cache.set(storage._window_key(limit.key_for("ann")), hits_before.tobytes())
    assert limiter.get_window_stats(limit, "ann") == (now - 59.5 + 60, 0)
    assert not limiter.hit(limit, "ann")
    until(lambda: limiter.hit(limit, "ann"))
    assert time.time() >= now + 0.5
    assert not limiter.hit(limit, "ann"), "the third hit is in the window for fifty seconds more"
    assert limiter.get_window_stats(limit, "ann") == (now - 10 + 60, 0)


def test_a_sliding_window_counts_a_share_of_the_one_before(storage: SharedMemoryStorage) -> None:
    key, expiry = "key", 3600
    before, current = storage._counters(key, expiry, time.time())
    storage._cache.set(before, 100)
    left = expiry - time.time() % expiry
    count, seconds, now_count, now_seconds = storage.get_sliding_window(key, expiry)
    assert (count, now_count) == (100, 0) and abs(seconds - left) < 1 and abs(now_seconds - left - expiry) < 1
    allowed = 200 - int(100 * left / expiry)
    taken = sum(storage.acquire_sliding_window_entry(key, 200, expiry) for _ in range(201))
    assert abs(taken - allowed) <= 1


def test_the_expiry_of_a_counter_is_known(storage: SharedMemoryStorage) -> None:
    assert abs(storage.get_expiry("key") - time.time()) < 0.1
    assert storage.incr("key", 60) == 1 and storage.incr("key", 600, amount=4) == 5
    assert storage.get("key") == 5
    assert abs(storage.get_expiry("key") - time.time() - 60) < 0.2, "later hits do not lengthen the window"


def test_reset_removes_the_limits_and_nothing_else(storage: SharedMemoryStorage, directory: str) -> None:
    storage.incr("a", 60)
    with Cache("limits", dir=directory) as region:
        region["foreign"] = 1
        storage.acquire_entry("b", 5, 60)
        assert storage.reset() == 2
        assert list(region) == ["foreign"]
    assert storage.check()


@pytest.mark.parametrize("uri", ["pycache://", "pycache:", None])
def test_a_uri_without_a_name_is_a_mistake(uri: str | None) -> None:
    with pytest.raises(ConfigurationError, match="pycache://NAME"):
        SharedMemoryStorage(uri)
    with pytest.raises(ConfigurationError, match="sise"):
        SharedMemoryStorage("pycache://limits", sise="4MiB")


def test_errors_are_those_of_the_cache_or_of_limits(directory: str) -> None:
    missing = {"dir": directory, "read_only": True}
    with pytest.raises(RegionMissing):
        SharedMemoryStorage("pycache://limits", **missing).incr("key", 60)
    wrapping = SharedMemoryStorage("pycache://limits", wrap_exceptions=True, **missing)
    with pytest.raises(StorageError):
        wrapping.incr("key", 60)
    assert wrapping.check() is False


def hits(directory: str, strategy: Any, limit: str, tries: int, count: Any) -> None:
    limiter = strategy(SharedMemoryStorage("pycache://limits", dir=directory))
    allowed = sum(limiter.hit(parse(limit), "all") for _ in range(tries))
    with count.get_lock():
        count.value += allowed


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_processes_together_get_through_what_the_limit_says(
    storage: SharedMemoryStorage, directory: str, strategy: Any
) -> None:
    storage.check()
    context = multiprocessing.get_context("spawn")
    count = context.Value("i", 0)
    arguments = (directory, strategy, "300/day", 200, count)
    workers = [context.Process(target=hits, args=arguments) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert count.value == 300


def test_the_asynchronous_storage_does_the_same(directory: str) -> None:
    async def use() -> None:
        storage = storage_from_string("async+pycache://limits", size="4MiB", dir=directory)
        assert isinstance(storage, AsyncSharedMemoryStorage)
        limiter, limit = AsyncMovingWindow(storage), RateLimitItemPerMinute(2)
        assert [await limiter.hit(limit) for _ in range(3)] == [True, True, False]
        assert (await limiter.get_window_stats(limit)).remaining == 0
        assert await storage.incr("key", 60) == 1 and await storage.get("key") == 1
        assert await storage.get_expiry("key") > time.time() + 50
        assert await storage.acquire_sliding_window_entry("key", 1, 60)
        assert (await storage.get_sliding_window("key", 60))[2] == 1
        await storage.clear_sliding_window("key", 60)
        await storage.clear("key")
        assert await storage.check() and await storage.reset() == 1

    asyncio.run(use())


def test_flask_limiter_counts_in_the_region(directory: str) -> None:
    pytest.importorskip("flask_limiter", reason="Flask-Limiter is not installed")
    from flask import Flask
    from flask_limiter import Limiter

    def client() -> Any:
        app = Flask(__name__)
        limiter = Limiter(
            lambda: "everybody", app=app, storage_uri="pycache://limits", storage_options={"size": "4MiB", "dir": directory}
        )
        app.get("/")(limiter.limit("3/hour")(lambda: "fine"))
        return app.test_client()

    one, other = client(), client()
    assert [each.get("/").status_code for each in (one, other, one, other, one)] == [200, 200, 200, 429, 429]
