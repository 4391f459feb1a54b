"""Functions that the tests run in other processes; spawned ones import them from here."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from pycache import Cache

# Longer than any test waits on a slow machine.
PATIENCE = 60.0


def wait_until(holds: Callable[[], bool]) -> None:
    """Returns when ``holds()`` does."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError("it never came about")


def wait_for(cache: Cache, key: Any, value: Any) -> None:
    """Returns when ``key`` has ``value``."""
    deadline = time.monotonic() + PATIENCE
    while cache.get(key) != value:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{key!r} never became {value!r}")
        time.sleep(0.001)


def answer(cache: Cache) -> None:
    """Doubles the question."""
    cache["answer"] = [cache["question"], os.getpid()]
    cache.incr("answered", default=0)


def count(cache: Cache, times: int) -> None:
    """Adds one, often."""
    for _ in range(times):
        cache.incr("count", default=0)


def take_all(cache: Cache, name: str) -> None:
    """Takes items until there are none, and writes down which."""
    taken = []
    for number in range(2000):
        if cache.pop(f"item {number}", None) is not None:
            taken.append(number)
    cache[f"taken {name}"] = taken


def write_patterns(cache: Cache, seed: int, rounds: int) -> None:
    """Overwrites a few keys with values that tell whether they are whole."""
    sizes = [0, 1, 7, 100, 4096, 20_000, 300_000]
    for number in range(rounds):
        letter = bytes([97 + (number + seed) % 26])
        cache[f"pattern {number % 5}"] = letter * sizes[number % len(sizes)]


def check_patterns(cache: Cache, rounds: int) -> None:
    """Reads them; a value of two letters is torn."""
    for number in range(rounds):
        value = cache.get(f"pattern {number % 5}")
        if value and value.count(value[:1]) != len(value):
            cache.incr("torn", default=0)


def compute_slowly(cache: Cache, key: str, results: str) -> None:
    """Stores what get_or_set returns."""

    def compute() -> int:
        cache.incr("computed", default=0)
        return os.getpid()

    cache[results] = cache.get_or_set(key, compute)


def hold_open(cache: Cache) -> None:
    """Keeps the region open until told to go."""
    cache["here"] = os.getpid()
    wait_for(cache, "go", True)


def count_under_lock(cache: Cache, times: int) -> None:
    """Adds one by reading and writing, often."""
    for _ in range(times):
        with cache.lock("guard"):
            cache["guarded"] = cache["guarded"] + 1


def hold_lock(cache: Cache, name: str) -> None:
    """Holds a lock and a permit until it is killed."""
    lock, gate = cache.lock(name), cache.semaphore(name, 1)
    with lock, gate:
        cache["token"] = lock.token
        cache["held"] = True
        time.sleep(PATIENCE)


def hit_often(cache: Cache, times: int) -> None:
    """Counts the hits that were allowed."""
    limit = cache.rate_limit("shared", 50, per=3600)
    for _ in range(times):
        if limit.hit().allowed:
            cache.incr("allowed", default=0)


def say_whether_it_is_there(cache: Cache, key: Any) -> None:
    """Writes down whether the key is found."""
    cache["found"] = key in cache


def make_once(cache: Cache, barrier: Any) -> None:
    """Misses a key together with others."""

    def make() -> int:
        cache.incr("made", default=0)
        wait_for(cache, "go", True)
        return os.getpid()

    barrier.wait(PATIENCE)
    cache.incr("missing", default=0)
    cache.incr(("got", cache.get_or_set("key", make)), default=0)


def lead_until_killed(cache: Cache, key: str) -> None:
    """Makes a value and never ends."""

    def make() -> None:
        cache["leads"] = True
        time.sleep(PATIENCE)

    cache.get_or_set(key, make)


class Absent(LookupError):
    """An exception that processes share."""


def renew_once(cache: Cache, count: int) -> None:
    """Meets a stale value together with others; who makes it anew waits for them."""

    def make() -> str:
        cache.incr("renewed", default=0)
        wait_for(cache, "served old", count - 1)
        return "new"

    if cache.get_or_set("key", make, 60, stale_ttl=30) == "old":
        cache.incr("served old", default=0)


def renew_until_killed(cache: Cache) -> None:
    """Makes a stale value anew and never ends."""

    def make() -> None:
        cache["renews"] = True
        time.sleep(PATIENCE)

    cache.get_or_set("key", make, 60, stale_ttl=30)


def meet_absence(cache: Cache, key: str) -> None:
    """Writes down which exception was remembered."""
    try:
        cache.get_or_set(key, lambda: None, negative_ttl=60, negative=LookupError)
    except LookupError as error:
        cache["met"] = (type(error).__name__, error.args)
