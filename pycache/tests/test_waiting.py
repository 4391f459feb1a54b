"""How tasks wait for locks: one thread of the process sleeps for them all."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import workers

from pycache import Cache, CacheError, RegionGone, leases
from pycache.leases import Lock

SLEEPER = "cache-shm-wait"

needs_kernel = pytest.mark.skipif(
    leases._pycache.Bell.make() is None, reason="the kernel has no futex_waitv, so tasks wait by pauses"
)


def sleepers() -> list[Path]:
    """The threads of this process that sleep for tasks."""
    found = []
    for thread in Path("/proc/self/task").iterdir():
        try:
            if (thread / "comm").read_text().strip() == SLEEPER:
                found.append(thread)
        except OSError:
            # It has just ended.
            pass
    return found


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """Runs a coroutine that must not take long."""
    return asyncio.run(asyncio.wait_for(work, workers.PATIENCE))


def held_elsewhere(lock: Lock) -> threading.Event:
    """Lets another thread hold ``lock`` until the event is set."""
    held, go = threading.Event(), threading.Event()

    def work() -> None:
        # The test may be over, and its cache closed, before the lock is given back.
        with suppress(CacheError), lock:
            held.set()
            go.wait(workers.PATIENCE)

    threading.Thread(target=work, daemon=True).start()
    assert held.wait(workers.PATIENCE)
    return go


@needs_kernel
def test_a_waiting_task_tries_when_the_lock_is_given_back_and_not_before(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[float] = []
    real = Lock._try
    monkeypatch.setattr(Lock, "_try", lambda self, holder: tries.append(0) or real(self, holder), raising=False)

    async def work() -> None:
        go = held_elsewhere(cache.lock("a"))
        asyncio.get_running_loop().call_later(0.3, go.set)
        async with cache.lock("a"):
            pass

    run(work())
    assert 2 <= len(tries) <= 4


@needs_kernel
def test_one_thread_sleeps_for_all_tasks_and_goes_when_nobody_waits(cache: Cache) -> None:
    async def work() -> None:
        locks = [cache.lock(f"lock {number}") for number in range(30)]
        events = [held_elsewhere(lock) for lock in locks]
        tasks = [asyncio.ensure_future(cache.lock(f"lock {number % 30}").aacquire()) for number in range(60)]
        for _ in range(5):
            await asyncio.sleep(0.01)
        assert len(sleepers()) == 1
        status = (sleepers()[0] / "status").read_text()
        blocked = next(line.split()[1] for line in status.splitlines() if line.startswith("SigBlk"))
        # All but SIGKILL, SIGSTOP and those of the C library.
        assert bin(int(blocked, 16)).count("1") >= 59, "signals are for the threads of the program"
        for event in events:
            event.set()
        done, waiting = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        assert done
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    run(work())
    deadline = time.monotonic() + workers.PATIENCE
    while sleepers():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_hundred_tasks_pass_through_one_lock(cache: Cache) -> None:
    async def work() -> int:
        inside = passed = 0

        async def enter() -> None:
            nonlocal inside, passed
            async with cache.lock("a"):
                inside += 1
                assert inside == 1
                await asyncio.sleep(0)
                inside -= 1
                passed += 1

        await asyncio.gather(*(enter() for _ in range(100)))
        return passed

    assert run(work()) == 100


def test_a_permit_of_a_semaphore_is_waited_for(cache: Cache) -> None:
    async def work() -> None:
        gates = [cache.semaphore("gate", 2) for _ in range(3)]
        assert await gates[0].aacquire() and await gates[1].aacquire()
        waiting = asyncio.ensure_future(gates[2].aacquire())
        for _ in range(3):
            await asyncio.sleep(0)
        assert not waiting.done()
        gates[1].release()
        assert await waiting

    run(work())


def test_a_cancelled_task_does_not_keep_the_next_one_waiting(cache: Cache) -> None:
    async def work() -> None:
        go = held_elsewhere(cache.lock("a"))
        first, second = (asyncio.ensure_future(cache.lock("a").aacquire()) for _ in range(2))
        await asyncio.sleep(0.01)
        first.cancel()
        go.set()
        assert await second
        with pytest.raises(asyncio.CancelledError):
            await first

    run(work())


def test_waiting_has_its_timeout_and_leaves_no_descriptor(cache: Cache) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    async def work() -> tuple[int, int]:
        go = held_elsewhere(cache.lock("a"))
        before = descriptors()
        for _ in range(5):
            assert not await cache.lock("a").aacquire(0.005)
        found = before, descriptors()
        go.set()
        return found

    before, after = run(work())
    assert before == after


def test_loops_of_several_threads_wait(cache: Cache) -> None:
    counts: list[int] = []

    async def work() -> None:
        for _ in range(20):
            async with cache.lock("a"):
                count = cache.get("count", 0)
                await asyncio.sleep(0)
                cache["count"] = count + 1
        counts.append(1)

    threads = [threading.Thread(target=lambda: run(work())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(workers.PATIENCE)
    assert len(counts) == 4 and cache["count"] == 80


def test_who_waits_in_a_region_that_goes_gets_the_error(cache: Cache) -> None:
    async def work() -> None:
        held_elsewhere(cache.lock("a"))
        waiting = asyncio.ensure_future(cache.lock("a").aacquire())
        await asyncio.sleep(0.01)
        cache.destroy()
        with pytest.raises(RegionGone):
            await waiting

    run(work())


def test_where_the_kernel_cannot_wait_tasks_look_now_and_then(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    async def cannot(*_arguments: Any) -> bool:
        return False

    monkeypatch.setattr(leases, "_wait", cannot)

    async def work() -> None:
        go = held_elsewhere(cache.lock("a"))
        waiting = asyncio.ensure_future(cache.lock("a").aacquire())
        await asyncio.sleep(0.01)
        assert not waiting.done()
        go.set()
        assert await waiting

    run(work())


FORKS = """
import asyncio, os, sys, threading
from pycache import Cache

cache = Cache("forks", size="4MB", dir=sys.argv[1])

async def contend():
    async def enter():
        async with cache.lock("lock"):
            await asyncio.sleep(0)
    await asyncio.wait_for(asyncio.gather(*(enter() for _ in range(10))), 40)

asyncio.run(contend())
for _ in range(20):
    # The thread sleeps for nobody now, and is not in the child.
    child = os.fork()
    if child == 0:
        asyncio.run(contend())
        os._exit(0)
    asyncio.run(contend())
    assert os.waitpid(child, 0)[1] == 0
"""

ENDS = """
import asyncio, os, sys, threading
from pycache import Cache

cache = Cache("ends", size="4MB", dir=sys.argv[1])
lock = cache.lock("lock")

async def work():
    holder = threading.Thread(target=lock.acquire)
    holder.start()
    holder.join()
    for _ in range(5):
        asyncio.ensure_future(cache.lock("lock").aacquire())
    await asyncio.sleep(0.02)

if sys.argv[2] == "run":
    asyncio.run(work())
else:
    loop = asyncio.new_event_loop()
    loop.run_until_complete(work())
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task._log_destroy_pending = False
"""


@pytest.mark.parametrize(
    "arguments", [(FORKS,), (ENDS, "run"), (ENDS, "leave")], ids=["forked children", "the end of a loop", "the end of a process"]
)
def test_waiting_outlives(directory: str, arguments: tuple[str, ...]) -> None:
    script, *rest = arguments
    # From CPython 3.12 on a fork beside any other thread is remarked upon.
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script, directory, *rest]
    done = subprocess.run(command, capture_output=True, text=True, timeout=workers.PATIENCE)
    assert (done.returncode, done.stderr) == (0, "")
