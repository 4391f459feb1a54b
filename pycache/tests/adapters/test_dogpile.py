"""The backend for dogpile.cache: its rules, and one maker for all processes."""

from __future__ import annotations

import json
import multiprocessing
import threading
import time
from typing import Any

import pytest

pytest.importorskip("dogpile.cache", reason="dogpile.cache is not installed")

from dogpile.cache import CacheRegion, make_region
from dogpile.cache.api import NO_VALUE
from pycache import Cache, ValueTooLarge


def configured(directory: str, expiration_time: float | None = None, **arguments: Any) -> CacheRegion:
    made = {"name": "dogpile", "size": "4MiB", "dir": directory, "on_mismatch": "error", **arguments}
    return make_region().configure("pycache", expiration_time=expiration_time, arguments=made)


@pytest.fixture
def region(directory: str) -> CacheRegion:
    return configured(directory)


def test_values_of_any_kind_come_back_and_what_is_missing_is_no_value(region: CacheRegion) -> None:
    assert region.get("key") is NO_VALUE
    for value in ("text", {"a": (1, 2)}, None, CacheRegion):
        region.set("key", value)
        assert region.get("key") == value
    region.delete("key")
    region.delete("key")
    assert region.get("key") is NO_VALUE


def test_many_keys_are_lists_in_their_order(region: CacheRegion) -> None:
    region.set_multi({"a": 1, "b": 2})
    assert region.get_multi(["b", "missing", "a"]) == [2, NO_VALUE, 1]
    region.delete_multi(["a", "missing"])
    assert region.get_multi(["a", "b"]) == [NO_VALUE, 2]
    assert region.get_or_create_multi(["b", "c"], lambda *keys: [f"made {key}" for key in keys]) == [2, "made c"]


def test_an_expired_value_is_made_anew_and_the_old_one_served_meanwhile(directory: str) -> None:
    region = configured(directory, expiration_time=0.2)
    assert region.get_or_create("key", lambda: "first") == "first"
    time.sleep(0.25)
    assert region.get("key") is NO_VALUE
    started, finish = threading.Event(), threading.Event()

    def slowly() -> str:
        started.set()
        finish.wait(10)
        return "second"

    maker = threading.Thread(target=region.get_or_create, args=("key", slowly))
    maker.start()
    assert started.wait(10)
    other = configured(directory, expiration_time=0.2)
    assert region.key_is_locked("key") and other.key_is_locked("key")
    assert other.get_or_create("key", lambda: "not made") == "first"
    finish.set()
    maker.join()
    assert region.get("key", ignore_expiration=True) == "second" and not other.key_is_locked("key")


def test_a_decorated_function_is_computed_once_refreshed_and_forgotten(region: CacheRegion) -> None:
    calls: list[int] = []

    @region.cache_on_arguments()
    def double(number: int) -> int:
        calls.append(number)
        return 2 * number

    assert [double(2), double(2), double(3)] == [4, 4, 6] and calls == [2, 3]
    double.invalidate(2)
    assert double(2) == 4 and calls == [2, 3, 2]
    assert double.refresh(3) == 6 and len(calls) == 4


def test_values_are_bytes_and_live_as_long_as_the_region_is_told(directory: str) -> None:
    region = configured(directory, ttl=50)
    region.set("key", 1)
    region.set_multi({"other": 2})
    with Cache("dogpile", dir=directory) as cache:
        assert type(cache["key"]) is bytes
        assert all(49 < (cache.ttl(key) or 0) <= 50.1 for key in ("key", "other"))


def test_a_serializer_of_plain_data_takes_the_place_of_pickle(directory: str) -> None:
    region = make_region(serializer=lambda value: json.dumps(value).encode(), deserializer=json.loads)
    region.configure("pycache", arguments={"name": "plain", "size": "2MiB", "dir": directory})
    region.set("key", {"a": [1]})
    assert region.get("key") == {"a": [1]}
    with Cache("plain", dir=directory) as cache:
        assert b'{"a": [1]}' in cache["key"]
    with pytest.raises(TypeError):
        region.set("key", CacheRegion)


def make_once(directory: str, made: Any, ready: Any) -> None:
    region = configured(directory)
    ready.wait()

    def make() -> str:
        with made.get_lock():
            made.value += 1
        time.sleep(0.3)
        return "made"

    assert region.get_or_create("key", make) == "made"


def test_one_of_all_processes_makes_a_value(directory: str) -> None:
    context = multiprocessing.get_context("spawn")
    made, ready = context.Value("i", 0), context.Barrier(3)
    workers = [context.Process(target=make_once, args=(directory, made, ready)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert made.value == 1


def test_without_the_distributed_lock_each_process_has_its_own(directory: str) -> None:
    region = configured(directory, distributed_lock=False)
    assert region.backend.get_mutex("key") is None
    assert region.get_or_create("key", lambda: 1) == 1
    with Cache("dogpile", dir=directory) as cache:
        assert list(cache) == ["key"]


def test_a_lock_is_free_again_after_its_time(directory: str) -> None:
    # Two regions as two processes have them: one keeps a lock of each name.
    first, second = (configured(directory, lock_timeout=seconds).backend.get_mutex("key") for seconds in (1, 60))
    assert first.acquire() and first.locked() and second.locked()
    assert second.acquire(wait=False) is False
    assert second.acquire() is True
    first.release()
    assert second.locked(), "who lost the lock does not release it for another"
    second.release()
    assert not first.locked() and first.acquire(wait=False)


def hold_for_ever(directory: str, holds: Any) -> None:
    assert configured(directory, lock_timeout=None).backend.get_mutex("key").acquire()
    holds.set()
    time.sleep(60)


def test_the_lock_of_a_killed_process_is_free_at_once(directory: str) -> None:
    context = multiprocessing.get_context("spawn")
    holds = context.Event()
    holder = context.Process(target=hold_for_ever, args=(directory, holds))
    holder.start()
    assert holds.wait(60)
    region = configured(directory, lock_timeout=None)
    assert region.key_is_locked("key")
    holder.kill()
    holder.join(60)
    assert region.get_or_create("key", lambda: "made") == "made"


def test_a_runner_in_another_thread_gives_the_lock_back(directory: str) -> None:
    threads: list[threading.Thread] = []

    def run(cache: CacheRegion, key: str, creator: Any, mutex: Any) -> None:
        def work() -> None:
            try:
                cache.set(key, creator())
            finally:
                mutex.release()

        threads.append(threading.Thread(target=work))
        threads[-1].start()

    arguments = {"name": "dogpile", "size": "4MiB", "dir": directory, "lock_timeout": None}
    region = make_region(async_creation_runner=run).configure("pycache", expiration_time=0.05, arguments=arguments)
    assert region.get_or_create("key", lambda: "first") == "first"
    time.sleep(0.06)
    assert region.get_or_create("key", lambda: "second") == "first"
    for thread in threads:
        thread.join(60)
    assert region.get("key", ignore_expiration=True) == "second" and not region.key_is_locked("key")


def test_a_failure_is_a_miss_or_raises(region: CacheRegion, directory: str) -> None:
    large = bytes(3 << 20)
    region.set("key", "before")
    assert region.get_or_create("large", lambda: large) == large
    region.set("key", large)
    assert region.get("key") is NO_VALUE
    assert sum(region.backend.failures.values()) == 2
    with pytest.raises(ValueTooLarge):
        configured(directory, on_error="raise").set("key", large)


def test_arguments_must_name_the_region() -> None:
    with pytest.raises(ValueError, match="name"):
        make_region().configure("pycache", arguments={"size": "4MiB"})
