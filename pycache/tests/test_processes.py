"""Several processes on one region: fork, spawn, forkserver, threads, signals."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import workers

from pycache import Busy, Cache, RegionGone

METHODS = ["fork", "spawn", "forkserver"]


@pytest.fixture(params=METHODS)
def context(request: pytest.FixtureRequest) -> Any:
    """Each way in which multiprocessing starts processes."""
    return multiprocessing.get_context(request.param)


def run(context: Any, calls: list[tuple[Callable[..., None], tuple[Any, ...]]]) -> None:
    """Runs each call in a process of its own; all must end well."""
    processes = [context.Process(target=function, args=arguments) for function, arguments in calls]
    for process in processes:
        process.start()
    for process in processes:
        process.join(workers.PATIENCE)
    assert [process.exitcode for process in processes] == [0] * len(processes)


def in_child(action: Callable[[], object]) -> int:
    """Runs ``action`` in a forked child; its exit code, 0 when nothing was raised."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            action()
            code = 0
        except BaseException as error:
            sys.stderr.write(f"child: {error!r}\n")
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_handle_works_in_processes_of_every_kind(cache: Cache, context: Any) -> None:
    cache["question"] = ("life", 42)
    run(context, [(workers.answer, (cache,))])
    question, pid = cache["answer"]
    assert question == ("life", 42) and pid != os.getpid()
    assert cache["answered"] == 1


def test_no_increment_is_lost_between_processes(cache: Cache, context: Any) -> None:
    run(context, [(workers.count, (cache, 2000)) for _ in range(3)])
    assert cache["count"] == 6000


def test_each_item_is_taken_by_one_process_only(cache: Cache, context: Any) -> None:
    cache.update({f"item {number}": number for number in range(2000)})
    run(context, [(workers.take_all, (cache, str(number))) for number in range(3)])
    taken = [number for name in range(3) for number in cache[f"taken {name}"]]
    assert sorted(taken) == list(range(2000))


def test_no_value_is_torn_while_processes_overwrite_it(cache: Cache, context: Any) -> None:
    writers = [(workers.write_patterns, (cache, seed, 1500)) for seed in (0, 13)]
    readers = [(workers.check_patterns, (cache, 6000))]
    run(context, [*writers, *readers])
    workers.check_patterns(cache, 10)
    assert "torn" not in cache


def test_a_process_pool_shares_the_cache(cache: Cache, context: Any) -> None:
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        jobs = [pool.submit(workers.compute_slowly, cache, "key", f"result {number}") for number in range(8)]
        for job in jobs:
            job.result(workers.PATIENCE)
    results = {cache[f"result {number}"] for number in range(8)}
    assert results == {cache["key"]}
    assert 1 <= cache["computed"] <= 2


def test_a_pickled_handle_opens_the_same_region(directory: str) -> None:
    cache = Cache("p", size="2MB", ttl=100, timeout=5, dir=directory, serializer="pickle")
    cache["a"] = 1j
    for copied in (pickle.loads(pickle.dumps(cache)), copy.copy(cache), copy.deepcopy(cache)):
        assert copied == cache and copied is not cache
        assert copied["a"] == 1j
        assert (copied.default_ttl, copied.timeout, copied.name, copied.path) == (100, 5, "p", cache.path)
        copied.close()
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(cache, protocol)) == cache
    reader = pickle.loads(pickle.dumps(Cache("p", dir=directory, read_only=True)))
    assert reader.read_only and "a" in reader


def test_a_pickled_handle_does_not_depend_on_directory_or_environment(directory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(directory)
    monkeypatch.setenv("CACHE_SHM_DIR", directory)
    data = [pickle.dumps(Cache(name, size="2MB")) for name in ("plain", "./dotted")]
    monkeypatch.chdir("/")
    monkeypatch.delenv("CACHE_SHM_DIR")
    assert [pickle.loads(each).path for each in data] == [str(Path(directory, "plain")), str(Path(directory, "dotted"))]


def test_a_private_cache_is_shared_with_forked_children_only() -> None:
    cache = Cache(None, size="2MB")
    cache["question"] = 1
    assert in_child(lambda: workers.answer(cache)) == 0
    assert cache["answer"][0] == 1 and cache["answer"][1] != os.getpid()
    with pytest.raises(TypeError, match="private"):
        pickle.dumps(cache)


def test_forked_children_and_their_parent_go_on_side_by_side(cache: Cache) -> None:
    cache["before"] = "parent"

    def child() -> None:
        assert cache["before"] == "parent"
        cache["child"] = os.getpid()
        workers.count(cache, 1000)

        def grandchild() -> None:
            assert cache["before"] == "parent"
            workers.count(cache, 1000)

        assert in_child(grandchild) == 0
        cache.close()

    assert in_child(child) == 0
    workers.count(cache, 1000)
    assert cache["count"] == 3000
    assert not cache.closed and cache["child"] != os.getpid()


def test_what_a_child_closes_stays_open_in_its_parent(cache: Cache) -> None:
    assert in_child(cache.close) == 0
    cache["a"] = 1
    assert cache["a"] == 1


def test_an_iterator_goes_on_in_a_child(cache: Cache) -> None:
    cache.update({str(number): number for number in range(100)})
    iterator = iter(cache)
    next(iterator)

    def child() -> None:
        assert len(list(iterator)) == 99

    assert in_child(child) == 0
    assert len(list(iterator)) == 99


def test_a_child_that_dies_at_once_harms_nobody(cache: Cache) -> None:
    for _ in range(20):
        child = os.fork()
        if child == 0:
            while True:
                cache["a"] = b"x" * 5000
                cache.incr("n", default=0)
        workers_started = time.monotonic()
        while "n" not in cache:
            assert time.monotonic() < workers_started + workers.PATIENCE
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        number = cache["n"]
        assert cache.incr("n") == number + 1
        cache["a"] = b"y"
        assert cache.pop("a") == b"y"
        cache.delete("n")


def test_an_ephemeral_region_ends_with_its_processes(directory: str) -> None:
    cache = Cache("short", size="2MB", dir=directory, ephemeral=True)
    script = "import sys; from pycache import Cache; c = Cache('short', dir=sys.argv[1]); c['here'] = 1; sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", script, directory], stdin=subprocess.PIPE) as child:
        workers.wait_for(cache, "here", 1)
        cache.close()
        del cache
        assert os.listdir(directory) == ["short"]
        child.communicate(timeout=workers.PATIENCE)
    assert child.returncode == 0
    assert os.listdir(directory) == []


def test_an_ephemeral_region_of_killed_processes_is_made_anew(directory: str) -> None:
    script = "import sys; from pycache import Cache; c = Cache('short', '2MB', dir=sys.argv[1], ephemeral=True); c['a'] = 1; import os; os.abort()"
    done = subprocess.run([sys.executable, "-c", script, directory], stderr=subprocess.DEVNULL, timeout=workers.PATIENCE)
    assert done.returncode == -signal.SIGABRT
    cache = Cache("short", size="2MB", dir=directory)
    assert "a" not in cache


def test_a_region_that_another_process_destroys_is_gone_once(cache: Cache) -> None:
    assert in_child(lambda: cache.destroy()) == 0
    with pytest.raises(RegionGone):
        for _ in range(2):
            cache["a"] = 1
    cache["a"] = 2
    assert cache["a"] == 2


def test_threads_share_a_handle(cache: Cache) -> None:
    def work(number: int) -> None:
        for step in range(500):
            cache.incr("count", default=0)
            cache[f"{number} {step % 10}"] = (number, step)
            found = cache[f"{number} {step % 10}"]
            assert found == (number, step)
            cache.get_many([f"{other} {step % 10}" for other in range(4)])
            if step % 50 == 0:
                list(cache.items())

    with ThreadPoolExecutor(4) as pool:
        for job in [pool.submit(work, number) for number in range(4)]:
            job.result()
    assert cache["count"] == 2000


def test_a_handle_may_be_closed_while_threads_use_it(directory: str) -> None:
    for _ in range(20):
        cache = Cache("closing", size="8MB", dir=directory)
        cache["a"] = b"x" * 300_000
        outcomes: list[str] = []

        def work() -> None:
            try:
                while True:
                    cache["a"] = cache["a"]
            except ValueError as error:
                outcomes.append(type(error).__name__)

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        cache.close()
        for thread in threads:
            thread.join(workers.PATIENCE)
        assert outcomes == ["Closed"] * 3


# --- waiting ------------------------------------------------------------------------------------
#
# A stripe is held by writing a living participant's name into its lock word, which is what a
# process does that is stopped while it holds the lock. Offsets are those of docs/region-format.md.


class Stripes:
    """The lock words of all stripes of a region."""

    def __init__(self, cache: Cache) -> None:
        assert cache.path is not None
        self.file = os.open(cache.path, os.O_RDWR | os.O_CLOEXEC)
        header = struct.unpack("<512Q", os.pread(self.file, 4096, 0))
        stripe_count, participant_count = header[6], header[7]
        control, lanes, participant = 1024, 16 * 64, 1408
        self.participants = 4096 + control + lanes
        start = self.participants + participant * participant_count
        end = self.participants + participant * participant_count + stripe_count * STRIPE_BYTES
        self.words = range(start, end, STRIPE_BYTES)

    def owner(self, pid: int) -> int:
        """The lock word by which process ``pid`` holds a lock."""
        for index in range(64):
            generation, found = struct.unpack("<2Q", os.pread(self.file, 16, self.participants + 1408 * index))
            if found == pid:
                return (index + 1) << 18 | generation & 0x3FFFF
        raise LookupError(pid)

    def fill(self, word: int) -> None:
        for offset in self.words:
            os.pwrite(self.file, struct.pack("<I", word), offset)

    def close(self) -> None:
        os.close(self.file)


STRIPE_BYTES = 128 + (8 << 5)


@pytest.fixture
def held(cache: Cache) -> Iterator[Cache]:
    """A cache of which another, living process holds every stripe."""
    cache["there"] = [1]
    child = multiprocessing.get_context("spawn").Process(target=workers.hold_open, args=(cache,))
    child.start()
    try:
        workers.wait_for(cache, "here", child.pid)
        stripes = Stripes(cache)
        stripes.fill(stripes.owner(child.pid or 0))
        try:
            yield cache
        finally:
            stripes.fill(0)
            stripes.close()
    finally:
        cache["go"] = True
        child.join(workers.PATIENCE)


def test_a_write_waits_for_a_living_holder_until_its_timeout(held: Cache, directory: str) -> None:
    impatient = Cache("test", dir=directory, timeout=0.2)
    for write in (
        lambda: impatient.set("a", 1),
        lambda: impatient.delete("there"),
        lambda: impatient.incr("n", default=0),
        lambda: impatient.pop("there"),
        lambda: impatient.set("large", bytes(400_000)),
    ):
        start = time.monotonic()
        with pytest.raises(Busy, match=r"\d+ ms") as caught:
            write()
        waited = time.monotonic() - start
        assert isinstance(caught.value, TimeoutError)
        assert 0.15 < waited < 10
    assert impatient.set_many({"a": 1, "b": 2}) == ["a", "b"]


def test_a_timeout_of_zero_tries_once(held: Cache, directory: str) -> None:
    start = time.monotonic()
    with pytest.raises(Busy):
        Cache("test", dir=directory, timeout=0)["a"] = 1
    assert time.monotonic() - start < 1


def test_a_reader_never_waits_for_a_holder(held: Cache) -> None:
    start = time.monotonic()
    for _ in range(1000):
        assert held["there"] == [1]
        assert held.get("missing") is None
        assert "there" in held
        assert held.ttl("there") is None
    assert held.get_many(["there", "missing"]) == {"there": [1]}
    assert len(held) == 2 and "there" in list(held)
    assert time.monotonic() - start < 5


def test_other_threads_run_while_one_waits(held: Cache, directory: str) -> None:
    patient = Cache("test", dir=directory, timeout=1.0)
    steps = 0
    outcome: list[type] = []

    def write() -> None:
        try:
            patient["a"] = 1
        except Busy as error:
            outcome.append(type(error))

    thread = threading.Thread(target=write)
    thread.start()
    while thread.is_alive():
        steps += 1
        held.get("there")
    thread.join()
    assert outcome == [Busy]
    assert steps > 1000


def test_a_waiting_write_goes_on_when_the_holder_lets_go(held: Cache, directory: str) -> None:
    patient = Cache("test", dir=directory, timeout=30)
    stripes = Stripes(held)
    timer = threading.Timer(0.2, stripes.fill, [0])
    timer.start()
    patient["a"] = 1
    timer.join()
    stripes.close()
    assert held["a"] == 1


def test_an_interrupt_ends_a_wait(held: Cache, directory: str) -> None:
    # Whoever starts the tests in the background has interrupts ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    patient = Cache("test", dir=directory, timeout=60)
    timer = threading.Timer(0.3, os.kill, [os.getpid(), signal.SIGINT])
    timer.start()
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        patient["a"] = 1
    assert time.monotonic() - start < 30
    timer.join()
    assert patient["there"] == [1]


def test_a_lock_of_a_dead_process_is_taken_over(cache: Cache) -> None:
    cache["there"] = 1
    child = multiprocessing.get_context("spawn").Process(target=workers.hold_open, args=(cache,))
    child.start()
    workers.wait_for(cache, "here", child.pid)
    stripes = Stripes(cache)
    stripes.fill(stripes.owner(child.pid or 0))
    child.kill()
    child.join(workers.PATIENCE)
    start = time.monotonic()
    cache["a"] = 1
    cache.incr("n", default=0)
    assert cache.pop("there") == 1
    assert time.monotonic() - start < 10
    stripes.close()


def test_a_script_that_ends_with_an_open_cache_ends_well(directory: str) -> None:
    script = """
import sys, threading
from pycache import Cache
cache = Cache("exit", size="2MB", dir=sys.argv[1])
cache["a"] = 1
kept = iter(cache)
threading.Thread(target=lambda: [cache.get("a") for _ in range(10**6)], daemon=True).start()
"""
    done = subprocess.run([sys.executable, "-c", script, directory], capture_output=True, text=True, timeout=workers.PATIENCE)
    assert (done.returncode, done.stderr) == (0, "")
    assert Cache("exit", dir=directory)["a"] == 1
