"""Greenlets of one thread: who waits lets the others run, and nobody waits for its own thread."""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import signal
import subprocess
import sys

import pytest
import workers

from pycache import Cache

pytestmark = pytest.mark.skipif(importlib.util.find_spec("gevent") is None, reason="gevent is not installed")

SPAWN = multiprocessing.get_context("spawn")
PATCHES = ["import gevent.monkey; gevent.monkey.patch_all()", "import gevent"]

BEGIN = """
import sys, time
import gevent, gevent.event
from pycache import Cache

cache = Cache("greenlets", size="8MB", dir=sys.argv[1])

def calls(function):
    with gevent.Timeout(40):
        jobs = [gevent.spawn(function, number) for number in range(5)]
        gevent.joinall(jobs, raise_error=True)
        return [job.value for job in jobs]
"""

OWN_THREAD = """
@cache.memoize(ttl=60, prefix="f", wait=3600)
def memoized(number):
    gevent.sleep(0.02)
    return number

def work(number):
    def make():
        gevent.sleep(0.02)
        return number
    return cache.get_or_set("key", make, wait=3600), memoized(7)

begun = time.monotonic()
found = calls(work)
assert {number for number, _ in found} <= set(range(5)) and {seven for _, seven in found} == {7}
assert time.monotonic() - begun < 30
assert not cache.failures
"""

LOCKS = """
def work(number):
    lock = cache.lock("lock")
    with lock, cache.semaphore("gate", 1):
        before = cache.get("inside", 0)
        gevent.sleep(0.002)
        cache["inside"] = before + 1
    assert not cache.lock("lock").owned()
    return lock.acquire(timeout=20) and lock.release()

calls(work)
assert cache["inside"] == 5
with cache.lock("lock"):
    assert calls(lambda number: cache.lock("lock").acquire(timeout=0.01)) == [False] * 5
"""

OTHER_PROCESS = """
def tick():
    for _ in range(20):
        gevent.sleep(0.001)
    cache["ticked"] = True

ticker = gevent.spawn(tick)
with gevent.Timeout(40):
    assert gevent.spawn(cache.get_or_set, "key", lambda: "mine", wait=30).get() == "mine"
ticker.join()
"""


def run(script: str, directory: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", script, directory], stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("patch", PATCHES, ids=["patched", "not patched"])
@pytest.mark.parametrize("script", [OWN_THREAD, LOCKS], ids=["flights", "locks"])
def test_greenlets_of_one_thread_do_not_block_each_other(directory: str, patch: str, script: str) -> None:
    process = run(patch + BEGIN + script, directory)
    _, errors = process.communicate(timeout=workers.PATIENCE)
    assert (process.returncode, errors) == (0, "")


@pytest.mark.parametrize("patch", PATCHES, ids=["patched", "not patched"])
def test_the_others_run_while_a_greenlet_waits_for_another_process(directory: str, patch: str) -> None:
    with Cache("greenlets", size="8MB", dir=directory) as cache:
        leader = SPAWN.Process(target=workers.lead_until_killed, args=(cache, "key"))
        leader.start()
        workers.wait_for(cache, "leads", True)
        process = run(patch + BEGIN + OTHER_PROCESS, directory)
        try:
            workers.wait_for(cache, "ticked", True)
            assert process.poll() is None
        finally:
            os.kill(leader.pid or 0, signal.SIGKILL)
            leader.join(workers.PATIENCE)
        _, errors = process.communicate(timeout=workers.PATIENCE)
        assert process.returncode == 0 and cache["key"] == "mine", errors
        # Python's logging says on stderr what nobody asked it to write elsewhere.
        assert all("what was held is taken over" in line for line in errors.splitlines()), errors
