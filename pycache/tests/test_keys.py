"""Keys: which objects are the same key, what comes back, and what is refused."""

from __future__ import annotations

import enum
from collections import namedtuple
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pycache import Cache, InvalidKey, NestedTooDeep, UnsupportedType

KEYS: list[Any] = [
    "a",
    "é",
    "\U0001f600",
    "a b/c:d",
    "a" * 65535,
    b"a",
    b"\0",
    b"\xff\xfe",
    b"\xff\x80",
    0,
    7,
    -7,
    2**63,
    -(2**63) - 1,
    10**100,
    (),
    ("user", 7),
    ("user", "7"),
    (b"user", -1, 2**70, -(2**70)),
    ("nested", (1, (2, ()))),
]


@pytest.mark.parametrize("key", KEYS, ids=lambda key: ascii(key)[:30])
def test_a_key_is_handed_back_as_it_was_stored(cache: Cache, key: Any) -> None:
    cache[key] = "value"
    assert cache[key] == "value"
    assert key in cache
    assert [(type(found), found) for found in cache] == [(type(key), key)]
    assert list(cache.items()) == [(key, "value")]
    assert cache.get_many([key]) == {key: "value"}
    assert cache.popitem() == (key, "value")
    assert key not in cache


@pytest.mark.parametrize(
    ("one", "other"),
    [("a", b"a"), ("é", "é".encode()), (7, "7"), (7, b"7"), (-12, "-12"), (2**100, str(2**100)), (0, "0")],
)
def test_keys_of_the_same_bytes_are_the_same_key(cache: Cache, one: Any, other: Any) -> None:
    cache[one] = "first"
    assert cache[other] == "first"
    cache[other] = "second"
    assert cache[one] == "second"
    assert len(cache) == 1
    assert [(type(key), key) for key in cache] == [(type(other), other)]
    assert cache.delete(one) and not cache.delete(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [(7, "07"), ("a", ("a",)), (("a", 1), ("a", "1")), (("a", b"b"), ("a", "b")), (("a", ("b",)), ("a", "b")), ("A", "a")],
)
def test_keys_of_other_bytes_are_other_keys(cache: Cache, one: Any, other: Any) -> None:
    cache[one] = 1
    assert other not in cache
    cache[other] = 2
    assert (cache[one], cache[other], len(cache)) == (1, 2, 2)


simple = st.text(min_size=1, max_size=30) | st.binary(min_size=1, max_size=30) | st.integers()
keys = simple | st.recursive(simple, lambda inner: st.lists(inner, max_size=4).map(tuple), max_leaves=8)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(keys)
def test_every_key_finds_its_value_and_comes_back(cache: Cache, key: Any) -> None:
    cache.clear()
    cache[key] = 1
    assert cache.get(key) == 1
    (found,) = cache
    assert type(found) is type(key) and found == key


class Colour(enum.IntEnum):
    RED = 1


class Name(str):
    pass


Point = namedtuple("Point", "x y")


@pytest.mark.parametrize(
    "key",
    [None, True, False, 1.0, bytearray(b"a"), memoryview(b"a"), ["a"], {"a"}, object(), Colour.RED, Name("a"), Point(1, 2),
     (True,), (1.0,), (None,), ("a", ["b"]), (Name("a"),)],
    ids=ascii,
)
def test_other_types_are_refused_by_every_operation(cache: Cache, key: Any) -> None:
    operations = [
        lambda: cache.get(key),
        lambda: cache[key],
        lambda: key in cache,
        lambda: cache.set(key, 1),
        lambda: cache.__setitem__(key, 1),
        lambda: cache.__delitem__(key),
        lambda: cache.add(key, 1),
        lambda: cache.replace(key, 1),
        lambda: cache.delete(key),
        lambda: cache.pop(key, None),
        lambda: cache.touch(key),
        lambda: cache.ttl(key),
        lambda: cache.incr(key),
        lambda: cache.decr(key, default=0),
        lambda: cache.get_many([key]),
        lambda: cache.set_many([(key, 1)]),
        lambda: cache.delete_many([key]),
        lambda: cache.get_or_set(key, 1),
        lambda: cache.setdefault(key, 1),
        lambda: cache.update([(key, 1)]),
    ]
    for operation in operations:
        with pytest.raises(UnsupportedType, match="a key is a str, bytes, int") as caught:
            operation()
        assert isinstance(caught.value, TypeError)
    assert len(cache) == 0


def test_the_refusal_of_a_named_tuple_says_what_to_do(cache: Cache) -> None:
    with pytest.raises(UnsupportedType, match=r"Point.*tuple\(key\)"):
        cache[Point(1, 2)] = 1
    cache[tuple(Point(1, 2))] = 1
    assert (1, 2) in cache


@pytest.mark.parametrize("key", ["", b""])
def test_an_empty_key_is_an_error(cache: Cache, key: Any) -> None:
    for operation in (cache.get, cache.delete, lambda key: cache.set(key, 1), lambda key: cache.incr(key, default=0)):
        with pytest.raises(InvalidKey, match="the key is empty") as caught:
            operation(key)
        assert isinstance(caught.value, ValueError)
        assert caught.value.code == "key_empty"


@pytest.mark.parametrize("key", ["a" * 65536, b"a" * 65536, "é" * 32768, ("a" * 65530, "b" * 10), ("a",) * 65536])
def test_a_key_over_the_limit_says_both_numbers(cache: Cache, key: Any) -> None:
    with pytest.raises(InvalidKey, match=r"the key has \d+ bytes, the most is 65535") as caught:
        cache[key] = 1
    assert caught.value.code == "key_too_long"
    assert len(cache) == 0


def test_a_text_that_has_no_utf_8_is_no_key(cache: Cache) -> None:
    with pytest.raises(ValueError):
        cache["\ud800"] = 1


def test_a_tuple_nested_too_deep_is_no_key(cache: Cache) -> None:
    key: tuple[Any, ...] = ()
    for _ in range(64):
        key = (key,)
    with pytest.raises(NestedTooDeep):
        cache[key] = 1


def test_one_bad_key_stores_nothing_of_a_batch(cache: Cache) -> None:
    for bad in (None, "", 1.5):
        with pytest.raises((TypeError, ValueError)):
            cache.set_many([("good", 1), (bad, 2)])
    assert len(cache) == 0
