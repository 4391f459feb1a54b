"""Forks of a process whose threads are in the middle of everything."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from typing import Any

import pytest
import workers

from pycache import Cache

# The child of a process with threads is killed by its alarm if it hangs.
SCRIPT = """
import os, signal, sys, threading
from pycache import Cache

directory, rounds = sys.argv[1], int(sys.argv[2])
cache = Cache("forks", size="16MB", dir=directory)
cache["large"] = b"x" * 1_000_000
stop = threading.Event()

def work(name):
    while not stop.is_set():
        cache[f"large {name}"] = b"y" * 400_000      # copied while other threads run
        cache.get("large"), cache.incr("n", default=0)
        with cache.lock(f"lock {name}", ttl=30):     # a lease, taken and noted
            pass
        with cache.view("large") as view:
            view[5]
        Cache("forks", dir=directory).close()        # an attach under the process's lock
        if name == 0:
            private = Cache(None, size="1MiB")        # mapped, locked, dropped
            private["a"] = 1

threads = [threading.Thread(target=work, args=(name,)) for name in range(3)]
for thread in threads:
    thread.start()

def child(number):
    signal.alarm(30)
    cache.incr("children", default=0)
    assert len(cache["large"]) == 1_000_000
    with cache.lock("children's", ttl=30):
        cache[f"child {number}"] = b"z" * 300_000
    assert cache.pop(f"child {number}") == b"z" * 300_000
    own = Cache("forks", dir=directory)
    assert own.add(f"done {number}", True)

failed = []
for number in range(rounds):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            child(number)
            code = 0
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code != 0:
        failed.append((number, code))
stop.set()
for thread in threads:
    thread.join()
assert not failed, failed
assert cache["children"] == rounds
"""


def test_children_of_a_process_with_busy_threads_never_hang(directory: str) -> None:
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, directory, "60"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=2 * workers.PATIENCE)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_child_that_is_forked_while_others_use_something_for_the_first_time_never_hangs(directory: str) -> None:
    # A thread that loaded a module, or filled a static cell, at the moment of the fork left both
    # locked for ever in the child: it hung in its first lock, or its first pickled value. Many
    # programs at once, so that the moment is long.
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT]
    started = []
    for number in range(8):
        os.mkdir(own := os.path.join(directory, str(number)))
        started.append(subprocess.Popen([*command, own, "2"], stderr=subprocess.PIPE, text=True))
    try:
        said = [process.communicate(timeout=2 * workers.PATIENCE)[1] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0] * 8, said


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_pool_whose_workers_are_killed_leaves_the_cache_whole(cache: Cache, method: str) -> None:
    context: Any = multiprocessing.get_context(method)
    children = [context.Process(target=workers.write_patterns, args=(cache, seed, 10**9)) for seed in range(3)]
    for child in children:
        child.start()
    try:
        deadline = time.monotonic() + workers.PATIENCE
        while "pattern 4" not in cache and time.monotonic() < deadline:
            time.sleep(0.001)
        assert "pattern 4" in cache, "they are at work"
        workers.check_patterns(cache, 500)
    finally:
        for child in children:
            if child.pid is not None:
                os.kill(child.pid, signal.SIGKILL)
            child.join(workers.PATIENCE)
    assert [child.exitcode for child in children] == [-signal.SIGKILL] * 3
    workers.check_patterns(cache, 500)
    workers.write_patterns(cache, 7, 50)
    assert "torn" not in cache and cache.stats()["participants"] >= 1


def test_a_handle_goes_to_a_pool_as_an_argument(cache: Cache) -> None:
    for method in ("fork", "spawn", "forkserver"):
        with multiprocessing.get_context(method).Pool(2) as pool:
            jobs = [pool.apply_async(workers.count, (cache, 500)) for _ in range(4)]
            for job in jobs:
                job.get(workers.PATIENCE)
    assert cache["count"] == 6000
