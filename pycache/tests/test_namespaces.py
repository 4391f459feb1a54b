"""Namespaces and tags: what is told apart, counted and removed by itself."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
from typing import Any

import pytest

from pycache import (
    BadSignature,
    Cache,
    InvalidArgument,
    InvalidLabel,
    NamespacesFull,
    RegionGone,
    TooManyTags,
    UnsupportedType,
)
from workers import PATIENCE

SPAWN = multiprocessing.get_context("spawn")


def test_the_same_key_is_another_one_in_each_namespace(cache: Cache) -> None:
    users, pages = cache.namespace("users"), cache.namespace("Seiten-ä")
    cache["7"], users["7"], pages["7"] = "lucky", "Ada", "home"
    assert [cache["7"], users["7"], pages["7"]] == ["lucky", "Ada", "home"]
    assert users.pop("7") == "Ada"
    assert [cache.get("7"), users.get("7"), pages.get("7")] == ["lucky", None, "home"]
    users.incr("n", default=0)
    users.append("log", "a", default="")
    users.set("large", b"x" * 500_000)
    assert {"n", "log", "large"} == set(users) and "n" not in cache and "n" not in pages
    assert users.gets("n")[0] == 1 and users.ttl("n") is None
    assert users.touch("n", 60) and not pages.touch("n", 60)
    assert users.get_many(["n", "7", "log"]) == {"n": 1, "log": "a"}
    assert len(users.get("large")) == 500_000 and len(users.view("large")) == 500_000
    assert users.delete_many(["n", "log", "7"]) == 2


def test_walks_see_their_namespace_alone(cache: Cache) -> None:
    users = cache.namespace("users")
    cache.update({f"key:{number}": number for number in range(300)})
    users.update({f"key:{number}": -number for number in range(1, 201)})
    assert (len(cache), len(users), bool(cache.namespace("empty"))) == (300, 200, False)
    assert set(users.values()) == {-number for number in range(1, 201)}
    assert dict(users.items()) == {f"key:{number}": -number for number in range(1, 201)}
    assert len(list(users.scan("key:1"))) == 111
    assert users.delete_prefix("key:1") == 111
    assert (len(cache), len(users)) == (300, 89)
    while users:
        key, value = users.popitem()
        assert cache[key] == -value
    with pytest.raises(KeyError):
        users.popitem()
    assert len(cache) == 300


def test_clear_takes_its_namespace_alone_or_all(cache: Cache) -> None:
    users, pages = cache.namespace("users"), cache.namespace("pages")

    def fill() -> None:
        for each in (cache, users, pages):
            each.update({number: b"x" * 100 for number in range(100)})

    fill()
    users.clear()
    assert (len(cache), len(users), len(pages)) == (100, 0, 100)
    cache.clear()
    assert (len(cache), len(users), len(pages)) == (0, 0, 100)
    fill()
    users.clear(all_namespaces=True)
    assert (len(cache), len(users), len(pages)) == (0, 0, 0)


def test_a_namespace_has_a_default_ttl_of_its_own(directory: str) -> None:
    cache = Cache("ttl", size="2MB", ttl=100, dir=directory)
    inherits, own, never = cache.namespace("a"), cache.namespace("a", ttl=5), cache.namespace("b", ttl=None)
    assert (inherits.default_ttl, own.default_ttl, never.default_ttl) == (100, 5, None)
    for each in (inherits, own, never):
        each["key"] = 1
    assert never.ttl("key") is None
    left = own.ttl("key")
    assert left is not None and left <= 5
    with pytest.raises(InvalidArgument):
        cache.namespace("a", ttl=0)


def test_handles_of_namespaces_are_handles(cache: Cache, directory: str) -> None:
    users = cache.namespace("users", ttl=60)
    assert users == cache.namespace("users") and users != cache and users != cache.namespace("pages")
    assert hash(users) == hash(cache.namespace("users"))
    assert (users.namespace_name, cache.namespace_name, users.name) == ("users", None, "test")
    assert "users" in repr(users) and "namespace" not in repr(cache)
    again = pickle.loads(pickle.dumps(users))
    users["key"] = "here"
    assert again["key"] == "here" and again == users and again.default_ttl == 60
    assert users.namespace("pages") == cache.namespace("pages"), "names are not nested"
    opened = Cache("test", dir=directory, namespace="users")
    assert opened["key"] == "here"
    users.close()
    assert users.closed and not cache.closed and again["key"] == "here"
    cache.close()
    assert opened["key"] == "here"


def test_locks_limits_and_semaphores_have_names_in_each_namespace(cache: Cache) -> None:
    users = cache.namespace("users")
    with cache.lock("name"):
        assert not users.lock("name").locked()
        assert cache.namespace("users").lock("name").acquire(blocking=False)
    assert users.lock("name").locked()
    assert cache.rate_limit("api", 1, per=60).hit().allowed
    assert users.rate_limit("api", 1, per=60).hit().allowed
    assert not users.rate_limit("api", 1, per=60).hit().allowed
    assert users.get_or_set("made", lambda: cache.get_or_set("made", lambda: 1) + 1) == 2
    assert (cache["made"], users["made"]) == (1, 2)


def test_each_namespace_has_its_counters_and_a_reset(cache: Cache) -> None:
    users = cache.namespace("users")
    for number in range(200):
        users[number] = number
        assert users.get(number) == number
    assert users.get("missing") is None and users.delete(7)
    expected = {"hits": 200, "misses": 1, "sets": 200, "deletes": 1, "evictions": 0, "expirations": 0}
    assert users.stats() == expected and cache.namespaces() == {"users": expected}
    assert cache.stats()["sets"] == 200
    assert users.stats(reset=True) == expected
    assert set(users.stats().values()) == {0}
    assert cache.stats(reset=True)["sets"] == 200, "the region's counters are its own"
    after = cache.stats()
    assert (after["sets"], after["hits"], after["items"]) == (0, 0, 199)
    users["again"] = 1
    assert (users.stats()["sets"], cache.stats()["sets"]) == (1, 1)


def test_what_is_evicted_counts_in_its_namespace(directory: str) -> None:
    cache = Cache("small", size="1MiB", dir=directory)
    users = cache.namespace("users")
    for number in range(20_000):
        users[number] = b"x" * 100
    stats = users.stats()
    assert stats["evictions"] == cache.stats()["evictions"] > 10_000


def _fill_namespace(cache: Cache, name: str) -> None:
    users = cache.namespace(name)
    users["pid"] = os.getpid()
    users.set("tagged", os.getpid(), tags="tag")


def test_a_namespace_is_the_same_in_every_process(cache: Cache) -> None:
    users = cache.namespace("users")
    worker = SPAWN.Process(target=_fill_namespace, args=(cache, "users"))
    worker.start()
    worker.join(PATIENCE)
    assert worker.exitcode == 0
    assert users["pid"] == users["tagged"] == worker.pid
    users.evict_tag("tag")
    assert "tagged" not in users and "pid" in users
    worker = SPAWN.Process(target=_fill_namespace, args=(users, "pages"))
    worker.start()
    worker.join(PATIENCE)
    assert worker.exitcode == 0 and cache.namespace("pages")["pid"] == worker.pid
    assert list(cache.namespaces()) == ["users", "pages"]


def test_a_namespace_is_found_by_its_name_in_a_region_made_anew(directory: str) -> None:
    """Its number is another one there: whatever is read or written must be under the name."""
    cache = Cache("anew", size="2MB", dir=directory)
    first, second = cache.namespace("first"), cache.namespace("second")
    first["key"], second["key"] = 1, 2
    cache.destroy()
    other = Cache("anew", size="2MB", dir=directory)
    other.namespace("second")["key"] = "second"
    other.namespace("first")["key"] = "first"
    for handle, value in ((first, "first"), (second, "second")):
        # Whoever notices first that the region is gone says so; then all have the new one.
        with contextlib.suppress(RegionGone):
            handle["lost"] = 0
        assert handle["key"] == value
        handle["key"] = value * 2
        assert other.namespace(value)["key"] == value * 2


def test_a_read_only_handle_finds_nothing_in_a_namespace_that_nobody_made(cache: Cache, directory: str) -> None:
    reader = Cache("test", dir=directory, read_only=True).namespace("users")
    assert reader.get("key") is None and "key" not in reader and len(reader) == 0
    assert set(reader.stats().values()) == {0}
    users = cache.namespace("users")
    users["key"] = "here"
    assert reader["key"] == "here" and list(reader) == ["key"]


def test_names_that_cannot_be_are_refused(cache: Cache) -> None:
    cases: list[tuple[Any, type[Exception]]] = [
        ("", InvalidLabel),
        ("x" * 65, InvalidLabel),
        ("ä" * 33, InvalidLabel),
        (7, TypeError),
        (None, TypeError),
        (b"users", TypeError),
    ]
    for name, error in cases:
        with pytest.raises(error):
            cache.namespace(name)
    assert cache.namespaces() == {}
    for number in range(1000):
        try:
            cache.namespace(f"name {number}")
        except NamespacesFull as full:
            assert str(number) in str(full)
            break
    assert len(cache.namespaces()) == number >= 15
    assert cache.namespace("name 3").namespace_name == "name 3"


TAGGED_WRITES = {
    "set": lambda cache, tags: cache.set("key", 1, tags=tags),
    "add": lambda cache, tags: cache.add("key", 1, tags=tags),
    "replace": lambda cache, tags: (cache.set("key", 0), cache.replace("key", 1, tags=tags)),
    "cas": lambda cache, tags: cache.cas("key", 1, None, tags=tags),
    "set_many": lambda cache, tags: cache.set_many({"key": 1, "other": 2}, tags=tags),
    "setdefault": lambda cache, tags: cache.setdefault("key", 1, tags=tags),
    "get_or_set": lambda cache, tags: cache.get_or_set("key", lambda: 1, tags=tags),
    "get_or_set a value": lambda cache, tags: cache.get_or_set("key", 1, tags=tags),
    "reserve": lambda cache, tags: cache.reserve("key", 1, tags=tags).commit(),
    "buffer": lambda cache, tags: cache.set("key", bytearray(b"x" * 100), 60, tags=tags),
}


@pytest.mark.parametrize("write", TAGGED_WRITES.values(), ids=TAGGED_WRITES.keys())
def test_every_write_may_name_tags(roomy: Cache, write: Any) -> None:
    for each in (roomy, roomy.namespace("users")):
        for tags in ("red", b"red", ["blue", "red"], (b"red",), (tag for tag in ("red", "blue"))):
            write(each, tags)
            assert "key" in each
            each.evict_tag("green")
            assert "key" in each
            each.evict_tag("red")
            assert "key" not in each, tags
        for none in ((), None):
            each.clear()
            write(each, none)
        each.evict_tag("red")
        assert "key" in each
        each.clear()


def test_a_value_keeps_its_tags_when_it_is_changed_in_place(cache: Cache) -> None:
    cache.set("number", 1, tags="red")
    cache.set("text", "a", tags="red")
    assert cache.incr("number") == 2 and cache.append("text", "b") == 2 and cache.touch("text", 60)
    cache.evict_tag("red")
    assert "number" not in cache and "text" not in cache
    cache.set("number", 1, tags="red")
    cache["number"] = 2
    cache.evict_tag("red")
    assert cache["number"] == 2, "a set without tags has none"


def test_a_tag_is_another_one_in_each_namespace(roomy: Cache) -> None:
    users = roomy.namespace("users")
    roomy.set("key", 1, tags="red")
    users.set("key", 1, tags="red")
    users.evict_tag("red")
    assert "key" in roomy and "key" not in users


def test_what_is_stored_while_a_tag_is_evicted_is_evicted_or_new(cache: Cache) -> None:
    """An eviction has one instant: a value that was read after it was stored after it."""
    for round in range(300):
        cache.set("key", round, tags=["red", "blue"])
        cache.evict_tag("blue" if round % 2 else "red")
        assert cache.add("key", round, tags="red")


def test_tags_that_cannot_be_are_refused_and_harm_nothing(cache: Cache) -> None:
    cache["key"] = "stays"
    cases: list[tuple[Any, type[Exception]]] = [
        ("", InvalidLabel),
        ("x" * 256, InvalidLabel),
        (["fine", ""], InvalidLabel),
        ([str(number) for number in range(65)], TooManyTags),
        (7, TypeError),
        ([7], UnsupportedType),
        ([None], UnsupportedType),
    ]
    for tags, error in cases:
        for write in (lambda: cache.set("key", 1, tags=tags), lambda: cache.add("new", 1, tags=tags)):
            with pytest.raises(error):
                write()
    for tag in (7, None, ["red"]):
        with pytest.raises(UnsupportedType):
            cache.evict_tag(tag)  # type: ignore[arg-type]
    with pytest.raises(InvalidLabel):
        cache.evict_tag("x" * 256)
    assert dict(cache.items()) == {"key": "stays"}
    cache.set("key", 1, tags=[str(number) for number in range(64)])
    cache.evict_tag("63")
    assert "key" not in cache


def test_a_signed_value_of_another_namespace_is_refused(directory: str) -> None:
    cache = Cache("signed", size="2MB", dir=directory, secret="0123456789abcdef")
    users = cache.namespace("users")
    cache["key"], users["key"] = "plain", "Ada"
    assert (cache["key"], users["key"]) == ("plain", "Ada")
    raw = Cache("signed", dir=directory)
    from pycache._codecs import Codec

    codec = Codec(None, None, 0, "0123456789abcdef")
    kind, sealed = codec.seal(2, b"key", b"stolen")
    assert codec.open(kind, b"key", sealed) == (2, b"stolen")
    assert isinstance(codec.within("users").open(kind, b"key", sealed), str), "the reason why it is refused"
    with pytest.raises(BadSignature):
        raw.namespace("users").get("key")
