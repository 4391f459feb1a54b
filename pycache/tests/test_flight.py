"""Single flight: who makes a missing value, and what becomes of the others."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
import threading
import time
from contextlib import closing
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
import workers

from pycache import Cache, Closed, UnsupportedType, ValueTooLarge

SPAWN = multiprocessing.get_context("spawn")
# From the death of a leader to its successor. The engine takes a few milliseconds; a busy machine more.
TAKE_OVER_MAX = 0.5


def test_of_eight_processes_that_miss_one_makes_the_value(cache: Cache) -> None:
    barrier = SPAWN.Barrier(8)
    processes = [SPAWN.Process(target=workers.make_once, args=(cache, barrier)) for _ in range(8)]
    for process in processes:
        process.start()
    workers.wait_for(cache, "missing", 8)
    cache["go"] = True
    for process in processes:
        process.join(workers.PATIENCE)
    assert [process.exitcode for process in processes] == [0] * 8
    assert cache["made"] == 1
    assert cache[("got", cache["key"])] == 8


def test_a_killed_leader_is_replaced_at_once(cache: Cache) -> None:
    leader = SPAWN.Process(target=workers.lead_until_killed, args=(cache, "key"))
    leader.start()
    workers.wait_for(cache, "leads", True)
    moments: list[float] = []

    def kill() -> None:
        moments.append(time.monotonic())
        os.kill(leader.pid or 0, signal.SIGKILL)

    timer = threading.Timer(0.2, kill)
    timer.start()
    assert cache.get_or_set("key", lambda: moments.append(time.monotonic()) or "mine", wait=workers.PATIENCE) == "mine"
    timer.join(workers.PATIENCE)
    leader.join(workers.PATIENCE)
    killed, made = moments
    assert 0 <= made - killed < TAKE_OVER_MAX
    assert not cache.failures


def test_only_the_leader_gets_the_exception_and_the_next_one_leads(cache: Cache) -> None:
    calls: list[int] = []
    said: list[object] = []
    barrier = threading.Barrier(4)

    def make() -> str:
        calls.append(1)
        if len(calls) == 1:
            raise ZeroDivisionError
        return "value"

    def work() -> None:
        barrier.wait(workers.PATIENCE)
        try:
            said.append(cache.get_or_set("key", make))
        except ZeroDivisionError as error:
            said.append(type(error))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(workers.PATIENCE)
    assert len(calls) == 2
    assert sorted(map(str, said)) == ["<class 'ZeroDivisionError'>", "value", "value", "value"]


def test_behind_a_function_that_always_raises_each_caller_calls_it_in_turn(cache: Cache) -> None:
    at_once: list[int] = []
    said: list[str] = []

    def make() -> None:
        at_once.append(len(running) + 1)
        running.append(1)
        time.sleep(0.001)
        running.pop()
        raise LookupError(len(at_once))

    running: list[int] = []
    barrier = threading.Barrier(4)

    def work() -> None:
        barrier.wait(workers.PATIENCE)
        try:
            cache.get_or_set("key", make)
        except LookupError as error:
            said.append(str(error))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(workers.PATIENCE)
    assert at_once == [1] * 4 and sorted(said) == ["1", "2", "3", "4"], "each its own exception"


async def fetch() -> str:
    return "fetched"


@pytest.mark.parametrize("function", [fetch, lambda: fetch(), partial(fetch)])
@pytest.mark.filterwarnings("error")
def test_a_coroutine_is_no_value(cache: Cache, function: Any) -> None:
    for _ in range(2):
        with pytest.raises(TypeError, match="aget_or_set"):
            cache.get_or_set("key", function, negative_ttl=60, negative=TypeError)
    with pytest.raises(TypeError, match="aget_or_set"):
        cache.memoize(prefix="f")(lambda: function())()
    for give in (cache.get_or_set, cache.aget_or_set):
        with closing(fetch()) as coroutine, pytest.raises(TypeError, match="without calling it"):
            give("key", coroutine)
    assert "key" not in cache and not cache.failures
    assert asyncio.run(cache.aget_or_set("key", function)) == "fetched"


def test_waits_are_timedeltas_too(cache: Cache) -> None:
    soon = timedelta(milliseconds=10)
    with Cache(None, size="2MB", timeout=timedelta(seconds=2)) as timed:
        assert timed.timeout == 2
    holder = cache.lock("a")
    holder.acquire()
    assert not in_thread(lambda: cache.lock("a").acquire(timeout=soon))

    async def work() -> bool:
        return await cache.alock("a").aacquire(soon)

    assert asyncio.run(work()) is False
    assert cache.get_or_set("key", lambda: 5, wait=soon) == 5
    for wrong, error in ((-1, ValueError), (timedelta(seconds=-1), ValueError), (float("nan"), ValueError), ("1", TypeError)):
        with pytest.raises(error, match="wait"):
            cache.get_or_set("other", lambda: 5, wait=wrong)  # type: ignore[arg-type]
        with pytest.raises(error, match="wait"):
            cache.memoize(prefix="f", wait=wrong)  # type: ignore[call-overload]


def in_thread(action: Any) -> Any:
    said: list[Any] = []
    thread = threading.Thread(target=lambda: said.append(action()))
    thread.start()
    thread.join(workers.PATIENCE)
    return said[0]


def test_a_recursion_for_the_same_key_does_not_wait_for_itself(cache: Cache) -> None:
    assert cache.get_or_set("key", lambda: cache.get_or_set("key", lambda: "inner", wait=3600), wait=3600) == "inner"
    assert not cache.failures


def test_a_thread_that_a_leader_started_with_its_context_does_not_wait_for_it(cache: Cache) -> None:
    async def make() -> str:
        return await asyncio.to_thread(cache.get_or_set, "key", lambda: "inner", wait=3600)

    assert asyncio.run(cache.aget_or_set("key", make, wait=3600)) == "inner"


def test_a_function_called_in_the_loop_of_a_leading_task_does_not_wait_for_it(cache: Cache) -> None:
    async def work() -> tuple[str, str]:
        started, go = asyncio.Event(), asyncio.Event()

        async def make() -> str:
            started.set()
            await go.wait()
            return "task"

        task = asyncio.ensure_future(cache.aget_or_set("key", make))
        await started.wait()
        said = cache.get_or_set("key", lambda: "function", wait=3600)
        go.set()
        return said, await task

    assert asyncio.run(work()) == ("function", "function")


def test_who_has_waited_long_enough_makes_the_value_itself(cache: Cache) -> None:
    leads, go = threading.Event(), threading.Event()

    def make() -> str:
        leads.set()
        assert go.wait(workers.PATIENCE)
        return "slow"

    thread = threading.Thread(target=cache.get_or_set, args=("key", make))
    thread.start()
    assert leads.wait(workers.PATIENCE)
    assert cache.get_or_set("key", lambda: "own", wait=0.02) == "own"
    go.set()
    thread.join(workers.PATIENCE)
    assert cache["key"] == "own" and cache.failures == {"flight_timeout": 1}


def test_a_cache_that_fails_does_not_fail_its_caller(cache: Cache, caplog: pytest.LogCaptureFixture) -> None:
    value, large = object(), bytes(2_000_000)
    with caplog.at_level(logging.WARNING, "pycache"):
        for _ in range(3):
            assert cache.get_or_set("a", lambda: value) is value
            assert cache.get_or_set("a", lambda: large) is large
    assert cache.failures == {"unsupported_type": 3, "value_too_large": 3}
    assert len(caplog.records) == 2 and "a" not in cache
    for made, error in ((value, UnsupportedType), (large, ValueTooLarge)):
        with pytest.raises(error):
            cache.get_or_set("a", lambda made=made: made, on_error="raise")


def test_a_full_table_of_leases_and_a_read_only_handle_call_the_function(directory: str) -> None:
    with Cache("small", size="1MiB", dir=directory) as cache:
        locks = [cache.lock(str(number)) for number in range(64)]
        assert all(lock.acquire(False) for lock in locks)
        assert cache.get_or_set("key", lambda: 5) == 5
        assert cache.failures == {"leases_full": 1} and cache["key"] == 5
        reader = Cache("small", dir=directory, read_only=True)
        assert reader.get_or_set("other", lambda: 6) == 6 and "other" not in cache


def test_what_cannot_be_read_is_made_anew(directory: str) -> None:
    with Cache("a", size="2MB", dir=directory, serializer="pickle") as writer, Cache("a", dir=directory) as reader:
        writer["key"] = object()
        assert reader.get_or_set("key", lambda: 5) == 5
        assert writer["key"] == 5 and reader.failures == {"wrong_serializer": 1}


def test_locks_have_other_names_than_flights(cache: Cache) -> None:
    with cache.lock("key"):
        assert cache.get_or_set("key", lambda: 5, wait=3600) == 5


def test_a_closed_cache_and_wrong_arguments_raise(cache: Cache) -> None:
    with pytest.raises(ValueError, match="on_error"):
        cache.get_or_set("key", lambda: 5, on_error="ignore")  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="wait"):
        cache.get_or_set("key", lambda: 5, wait=-1)
    cache.close()
    with pytest.raises(Closed):
        cache.get_or_set("key", lambda: 5)


# --- tasks --------------------------------------------------------------------------------------


def test_of_tasks_that_miss_one_makes_the_value(cache: Cache) -> None:
    calls: list[int] = []

    async def make() -> list[int]:
        calls.append(1)
        await asyncio.sleep(0.01)
        return [1]

    async def work() -> list[Any]:
        return await asyncio.gather(*(cache.aget_or_set("key", make) for _ in range(20)))

    assert asyncio.run(work()) == [[1]] * 20
    assert calls == [1]


def test_a_cancelled_leader_is_followed_by_the_next_task(cache: Cache) -> None:
    async def work() -> str:
        started = asyncio.Event()

        async def never() -> str:
            started.set()
            await asyncio.Event().wait()
            return "never"

        async def make() -> str:
            return "next"

        leader = asyncio.ensure_future(cache.aget_or_set("key", never))
        await started.wait()
        follower = asyncio.ensure_future(cache.aget_or_set("key", make))
        await asyncio.sleep(0)
        leader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leader
        return await asyncio.wait_for(follower, workers.PATIENCE)

    assert asyncio.run(work()) == "next" == cache["key"]


def test_a_task_takes_over_from_a_killed_process(cache: Cache) -> None:
    leader = SPAWN.Process(target=workers.lead_until_killed, args=(cache, "key"))
    leader.start()
    workers.wait_for(cache, "leads", True)

    async def work() -> str:
        task = asyncio.ensure_future(cache.aget_or_set("key", lambda: "mine", wait=workers.PATIENCE))
        await asyncio.sleep(0.05)
        assert not task.done()
        os.kill(leader.pid or 0, signal.SIGKILL)
        return await asyncio.wait_for(task, workers.PATIENCE)

    assert asyncio.run(work()) == "mine"
    leader.join(workers.PATIENCE)


def test_a_coroutine_that_asks_for_its_own_key_does_not_wait(cache: Cache) -> None:
    async def inner() -> str:
        return "inner"

    async def make() -> str:
        return str(await cache.aget_or_set("key", inner, wait=3600))

    assert asyncio.run(cache.aget_or_set("key", make, wait=3600)) == "inner"
