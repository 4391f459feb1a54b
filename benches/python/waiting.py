"""What tasks that wait for locks cost: with the thread that sleeps for them, and with growing pauses.

    python benches/python/waiting.py

Prints for each way the processor time of tasks that wait for a second, the time from giving a lock
back to a task that has it, and how long many tasks take to pass through one lock.
"""

import argparse
import asyncio
import statistics
import threading
import time

import pycache.leases
from pycache import Cache


async def by_pauses(_lease, _timeout):
    """As where the kernel cannot wait for tasks."""
    return False


def hold(locks):
    """Lets another thread take the locks."""
    holder = threading.Thread(target=lambda: [lock.acquire() for lock in locks])
    holder.start()
    holder.join()


async def idle_cost(cache, task_count, seconds):
    """Percent of a processor that tasks take which wait for as many locks."""
    names = [f"held {number}" for number in range(task_count)]
    locks = [cache.lock(name, ttl=seconds + 1) for name in names]
    hold(locks)
    tasks = [asyncio.ensure_future(cache.lock(name).aacquire(seconds + 0.5)) for name in names]
    await asyncio.sleep(0.2)
    before = time.process_time()
    await asyncio.sleep(seconds)
    cost = (time.process_time() - before) / seconds
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    cache.clear()
    return 100 * cost


async def hand_over(cache, count):
    """Milliseconds from giving a lock back to the task that has it."""
    times = []
    for number in range(count):
        lock, held, given = cache.lock("passed"), threading.Event(), []

        def work(lock=lock, held=held, given=given, number=number):
            with lock:
                held.set()
                time.sleep(0.03 + number % 10 / 300)
                given.append(time.perf_counter())

        thread = threading.Thread(target=work)
        thread.start()
        held.wait()
        async with cache.lock("passed"):
            times.append((time.perf_counter() - given[0]) * 1e3)
        thread.join()
    return statistics.median(times), max(times)


async def pass_through(cache, task_count):
    """Milliseconds in which so many tasks take one lock in turn."""

    async def enter():
        async with cache.lock("gate"):
            await asyncio.sleep(0)

    before = time.perf_counter()
    await asyncio.gather(*(enter() for _ in range(task_count)))
    return (time.perf_counter() - before) * 1e3


def main():
    parser = argparse.ArgumentParser(description="What tasks that wait for locks cost.")
    parser.add_argument("--tasks", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=1.0)
    given = parser.parse_args()
    ways = {"a thread that sleeps": pycache.leases._wait, "growing pauses": by_pauses}
    for name, way in ways.items():
        pycache.leases._wait = way
        with Cache(None, size="32MiB") as cache:
            cost = asyncio.run(idle_cost(cache, given.tasks, given.seconds))
            median, most = asyncio.run(hand_over(cache, given.rounds))
            through = asyncio.run(pass_through(cache, given.tasks))
        print(
            f"{name}: {given.tasks} waiting tasks {cost:.2f} % of a processor; hand-over {median:.2f} ms (median), "
            f"{most:.2f} ms (longest of {given.rounds}); {given.tasks} tasks through one lock {through:.0f} ms",
            flush=True,
        )


if __name__ == "__main__":
    main()
