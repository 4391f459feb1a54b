"""Local objects: the very object again, as long as the region still holds its value."""

from __future__ import annotations

import contextlib
import datetime
import decimal
import gc
import multiprocessing
import os
import pickle
import random
import signal
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from pycache import Cache, Closed, InvalidArgument, RegionGone
from workers import PATIENCE, wait_for, wait_until

SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture
def local(cache: Cache, directory: str) -> Iterator[Cache]:
    """Another handle on the same region, which keeps objects."""
    with Cache("test", dir=directory, local=100) as handle:
        yield handle


NEVER_CHANGE = [
    "text of some length",
    "Grüße",
    b"bytes",
    2**70,
    3.25,
    (1, "two", (b"three", None)),
    frozenset({"a", "b"}),
    datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc),
    datetime.timedelta(days=3),
    decimal.Decimal("1.25"),
    uuid.UUID(int=7),
]
CHANGE = [[1, 2], {"a": 1}, {1, 2}, bytearray(b"x"), (1, [2]), ("a", ("b", {"c": 1}))]


@pytest.mark.parametrize("value", NEVER_CHANGE, ids=lambda value: type(value).__name__)
def test_what_cannot_change_is_given_again(cache: Cache, local: Cache, value: Any) -> None:
    cache["key"] = value
    first = local["key"]
    assert first == value and type(first) is type(value)
    assert local["key"] is first and local.get("key") is first
    assert local.get_or_set("key", lambda: 0) is first
    cache["key"] = value
    assert local["key"] == value, "a value that was stored again is read again"


@pytest.mark.parametrize("value", CHANGE, ids=lambda value: type(value).__name__)
def test_what_can_change_is_decoded_afresh_unless_it_is_shared(cache: Cache, local: Cache, directory: str, value: Any) -> None:
    cache["key"] = value
    assert local["key"] == value and local["key"] is not local["key"]
    with Cache("test", dir=directory, local=10, share_mutable=True) as sharing:
        assert sharing["key"] is sharing["key"] and sharing["key"] == value


def test_every_form_of_key_has_its_object(cache: Cache, local: Cache) -> None:
    for key in ("text", b"bytes", 12, -(2**80), ("tuple", 1, (b"x",)), "ä" * 30):
        cache[key] = ("value of", str(key))
        assert local[key] == ("value of", str(key)) and local[key] is local[key]
    assert local[12] is local["12"], "they are one key"
    for key in (True, 1.0, None):
        with pytest.raises(TypeError):
            local.get(key)  # type: ignore[call-overload]


CHANGES: dict[str, Any] = {
    "set": lambda cache: cache.set("key", ("new",)),
    "delete": lambda cache: cache.delete("key"),
    "pop": lambda cache: cache.pop("key"),
    "clear": lambda cache: cache.clear(),
    "clear all": lambda cache: cache.clear(all_namespaces=True),
    "evict_tag": lambda cache: cache.evict_tag("tag"),
    "expiry": lambda cache: cache.touch("key", 0),
    "cas": lambda cache: cache.cas("key", ("new",), cache.gets("key")[1]),
    "replace": lambda cache: cache.replace("key", ("new",)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
@pytest.mark.parametrize("size", [1, 40_000])
def test_no_object_outlives_its_value(cache: Cache, local: Cache, change: Any, size: int) -> None:
    for spaces in ((cache, local), (cache.namespace("users"), local.namespace("users"))):
        plain, keeping = spaces
        plain.set("key", ("old" * size,), tags="tag")
        assert keeping["key"] is keeping["key"]
        change(plain)
        assert keeping.get("key") == plain.get("key") != ("old" * size,)
        # By the handle itself, too.
        plain.set("key", ("old" * size,), tags="tag")
        assert keeping["key"] is keeping["key"]
        change(keeping)
        assert keeping.get("key") == plain.get("key") != ("old" * size,)


def test_an_object_ends_with_its_time(cache_shm_clock: Any) -> None:
    cache = Cache("clock", size="2MB", local=10)
    try:
        cache.set("key", "text", ttl=10)
        assert cache["key"] is cache["key"]
        cache_shm_clock.advance(11)
        assert cache.get("key") is None
    finally:
        cache.destroy()


def _overwrite(cache: Cache) -> None:
    wait_for(cache, "go", True)
    cache["key"] = ("of the other process", os.getpid())


def test_another_process_is_heard_at_once(cache: Cache, local: Cache) -> None:
    cache["key"] = ("old",)
    assert local["key"] is local["key"]
    worker = SPAWN.Process(target=_overwrite, args=(cache,))
    worker.start()
    cache["go"] = True
    worker.join(PATIENCE)
    assert worker.exitcode == 0
    assert local["key"] == ("of the other process", worker.pid)


def _count_up(cache: Cache) -> None:
    while True:
        cache.set("key", (cache["key"][0] + 1,))


def test_a_stopped_writer_never_lets_an_old_object_be_given_beside_a_new_value(cache: Cache, local: Cache) -> None:
    """Wherever in its set the writer stops: what anybody has read is not older by the kept object."""
    cache["key"] = (0,)
    worker = SPAWN.Process(target=_count_up, args=(cache,), daemon=True)
    worker.start()
    assert worker.pid is not None
    chance = random.Random(3)
    try:
        for _ in range(300):
            before = local["key"]
            wait_until(lambda: cache["key"] != before)
            for _ in range(chance.randrange(300)):
                local.get("key")
            os.kill(worker.pid, signal.SIGSTOP)
            for _ in range(3):
                seen = cache["key"]
                assert local["key"] >= seen, "older than what was seen"
            assert local["key"] > before
            os.kill(worker.pid, signal.SIGCONT)
    finally:
        worker.kill()
        worker.join(PATIENCE)


def test_objects_are_as_many_as_was_said(cache: Cache, directory: str) -> None:
    with Cache("test", dir=directory, local=50) as local:
        for number in range(1000):
            cache[number] = f"value {number}"
        favourite = local[0]
        for number in range(1000):
            assert local[number] == f"value {number}"
            assert local[0] is favourite, "what is asked for again and again stays"
        info = local.local_info()
        assert info is not None and (info.currsize, info.maxsize) == (50, 50)
        assert info.hits >= 1000 and info.misses == 1000
    assert cache.local_info() is None


def test_a_local_hit_counts_as_a_use_and_as_a_hit(directory: str) -> None:
    with Cache("uses", size="1MiB", dir=directory, local=10) as cache:
        cache["used"] = "stays"
        for number in range(20_000):
            assert cache["used"] == "stays"
            cache[number] = b"x" * 400
        assert "used" in cache and 0 not in cache
        assert cache.stats()["hits"] == 20_000
        info = cache.local_info()
        assert info is not None and info.hits > 19_000


def test_objects_are_those_of_the_region_that_is_there(directory: str) -> None:
    with Cache("anew", size="2MB", dir=directory, local=10) as cache:
        cache["key"] = "of the first"
        assert cache["key"] is cache["key"]
        Cache("anew", dir=directory).destroy()
        other = Cache("anew", size="2MB", dir=directory)
        other["key"] = "of the second"
        cache.delete_many([])
        with contextlib.suppress(RegionGone):
            cache["other"] = 1
        assert cache["key"] == "of the second" and cache["key"] is cache["key"]


def test_a_forked_child_has_objects_of_its_own(cache: Cache, local: Cache) -> None:
    cache["key"] = ("parent",)
    kept = local["key"]
    child = os.fork()
    if child == 0:
        # What a test raises in a child is lost: its exit code tells.
        code = 1
        try:
            assert local["key"] == ("parent",)
            local["key"] = ("child",)
            assert local["key"] == ("child",) and local["key"] is local["key"]
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert kept == ("parent",) and local["key"] == ("child",)


def test_a_closed_handle_lets_its_objects_go(cache: Cache, directory: str) -> None:
    local = Cache("test", dir=directory, local=10, serializer="pickle", share_mutable=True)
    cache_with = Cache("test", dir=directory, serializer="pickle")
    cache_with["key"] = Ending("a")
    assert local["key"] is local["key"]
    Ending.ended.clear()
    local.close()
    gc.collect()
    assert Ending.ended == ["a"]
    with pytest.raises(Closed):
        local.get("key")


class Ending:
    """Writes down when it ends, and looks into a cache then."""

    ended: list[str] = []
    looks_into: Cache | None = None

    def __init__(self, name: str) -> None:
        self.name = name

    def __del__(self) -> None:
        self.ended.append(self.name)
        if self.looks_into is not None:
            with contextlib.suppress(Closed):
                self.looks_into.get("other")


def test_objects_that_look_into_the_cache_when_they_end_do_no_harm(cache: Cache, directory: str) -> None:
    writer = Cache("test", dir=directory, serializer="pickle")
    local = Cache("test", dir=directory, local=3, serializer="pickle", share_mutable=True)
    Ending.looks_into = local
    try:
        cache["other"] = ("other",)
        for round in range(50):
            for number in range(5):
                writer[number] = Ending(f"{round} {number}")
                assert local[number].name == f"{round} {number}"
            assert local["other"] == ("other",)
        local.close()
    finally:
        Ending.looks_into = None
    gc.collect()


def test_pickles_and_namespaces_keep_objects_too(cache: Cache, local: Cache) -> None:
    cache["key"] = ("value",)
    again = pickle.loads(pickle.dumps(local))
    assert again["key"] is again["key"] and again.local_info().maxsize == 100
    users = local.namespace("users")
    users["key"] = ("other",)
    assert users["key"] is users["key"] and users["key"] == ("other",) and local["key"] == ("value",)


def test_memoized_values_are_given_again(local: Cache) -> None:
    @local.memoize(ttl=60)
    def text(number: int) -> str:
        return f"number {number}"

    text(1)
    assert text(1) is text(1)
    text.cache_clear()
    assert text.cache_info().hits == 0 and text(1) == "number 1"


def test_wrong_counts_are_refused(directory: str) -> None:
    cases: list[tuple[dict[str, Any], type[Exception]]] = [
        ({"local": -1}, InvalidArgument),
        ({"local": 2**40}, InvalidArgument),
        ({"local": "many"}, TypeError),
        ({"share_mutable": True}, InvalidArgument),
    ]
    for keywords, error in cases:
        with pytest.raises(error):
            Cache("refused", size="2MB", dir=directory, **keywords)
