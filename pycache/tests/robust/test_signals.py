"""Signals end waits, and only in the thread that handles them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import workers

from pycache import Cache


@pytest.fixture(autouse=True)
def interrupts() -> Iterator[None]:
    """Whoever starts the tests in the background has interrupts ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def held(cache: Cache, what: Callable[[Cache], Any]) -> Any:
    """A lease that another thread of this process holds."""
    lease = what(cache)
    thread = threading.Thread(target=lease.acquire)
    thread.start()
    thread.join(workers.PATIENCE)
    return lease


LEASES: list[Callable[[Cache], Any]] = [lambda cache: cache.lock("a"), lambda cache: cache.semaphore("a", 1)]


@pytest.mark.parametrize("what", LEASES, ids=["lock", "semaphore"])
def test_an_interrupt_ends_the_wait_for_a_lease(cache: Cache, what: Callable[[Cache], Any]) -> None:
    kept = held(cache, what)
    timer = threading.Timer(0.2, os.kill, [os.getpid(), signal.SIGINT])
    timer.start()
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        what(cache).acquire(timeout=workers.PATIENCE)
    assert time.monotonic() - start < workers.PATIENCE / 2
    timer.join()
    assert kept.locked() and not what(cache).acquire(blocking=False), "who waited has not got it"


def test_a_handler_that_returns_does_not_end_the_wait(cache: Cache) -> None:
    kept = held(cache, LEASES[0])
    seen: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, _frame: seen.append(number))
    signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
    try:
        assert not cache.lock("a").acquire(timeout=0.5)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert len(seen) >= 2 and kept.locked(), "handlers ran while it waited"


def test_a_handler_may_use_the_cache_at_any_moment(cache: Cache) -> None:
    def handle(_number: int, _frame: object) -> None:
        cache.incr("handled", default=0)
        cache["large"] = b"h" * 300_000

    cache["large"] = b"m" * 300_000
    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    deadline = time.monotonic() + workers.PATIENCE
    try:
        while cache.get("handled", 0) < 100 and time.monotonic() < deadline:
            cache["large"] = b"m" * 300_000
            value = cache["large"]
            assert len(set(value)) == 1 and len(value) == 300_000
            cache.incr("worked", default=0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert cache["handled"] >= 100


def test_a_stopped_process_goes_on_where_it_was(cache: Cache) -> None:
    script = "import sys; from pycache import Cache\ncache = Cache('test', dir=sys.argv[1])\nwhile not cache.get('stop'): cache.incr('n', default=0)"
    directory = os.path.dirname(cache.path or "")
    child = subprocess.Popen([sys.executable, "-c", script, directory], stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + workers.PATIENCE
        while cache.get("n", 0) < 100 and time.monotonic() < deadline:
            time.sleep(0.001)
        for _ in range(20):
            child.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, child.pid, os.WSTOPPED)
            assert cache.get("n", 0) >= 100, "a read does not wait for it"
            child.send_signal(signal.SIGCONT)
        cache["stop"] = True
        assert child.wait(workers.PATIENCE) == 0
    finally:
        child.kill()
        child.communicate()
