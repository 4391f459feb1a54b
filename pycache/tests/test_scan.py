"""Walks over keys with a common beginning, and looks that leave no trace."""

from __future__ import annotations

from typing import Any

import pytest

from pycache import Cache, InvalidKey, UnsupportedType


def test_scan_meets_the_keys_that_begin_with_a_prefix(cache: Cache) -> None:
    cache.update({f"user:{number}": number for number in range(500)})
    cache.update({f"page:{number}": number for number in range(500)})
    assert sorted(cache.scan("user:")) == sorted(f"user:{number}" for number in range(500))
    assert sorted(cache.scan("user:49")) == sorted(["user:49", *(f"user:49{number}" for number in range(10))])
    assert sorted(cache.scan()) == sorted(cache)
    assert list(cache.scan("nobody")) == []


def test_scan_goes_by_the_bytes_of_keys(cache: Cache) -> None:
    cache[b"\xc3\xa4b"] = 1
    cache["äc"] = 2
    cache[17] = 3
    cache[("a", 1)] = 4
    assert set(cache.scan("ä")) == set(cache.scan("ä".encode())) == {b"\xc3\xa4b", "äc"}
    assert list(cache.scan("1")) == [17]
    assert len(list(cache.scan())) == 4


def test_delete_prefix_removes_those_and_no_others(cache: Cache) -> None:
    cache.update({f"user:{number}": number for number in range(300)})
    cache.update({f"users:{number}": number for number in range(300)})
    assert cache.delete_prefix("user:") == 300
    assert cache.delete_prefix("user:") == 0
    assert len(cache) == 300


@pytest.mark.parametrize("prefix", ["", b"", "x" * 65_536])
def test_a_prefix_is_as_long_as_a_key_can_be(cache: Cache, prefix: Any) -> None:
    cache["a"] = 1
    with pytest.raises(InvalidKey):
        cache.delete_prefix(prefix)
    assert len(cache) == 1


@pytest.mark.parametrize("prefix", [1, ("a",), 1.5])
def test_a_prefix_is_text_or_bytes(cache: Cache, prefix: Any) -> None:
    with pytest.raises(UnsupportedType):
        cache.scan(prefix)


def test_delete_prefix_needs_a_prefix(cache: Cache) -> None:
    with pytest.raises(TypeError):
        cache.delete_prefix()  # type: ignore[call-arg]


def test_peek_reads_without_a_trace_of_use(directory: str) -> None:
    """Keys that are only peeked at are dropped like those that nobody asks for."""
    with Cache("peek", size="1MiB", dir=directory) as cache:
        keys = [f"key:{number}" for number in range(200)]
        cache.update(dict.fromkeys(keys, bytes(100)))
        for key in keys[:100]:
            assert cache.get(key) is not None
        for key in keys[100:]:
            assert cache.peek(key) is not None
        for number in range(20_000):
            cache[f"other:{number}"] = bytes(100)
        used = sum(key in cache for key in keys[:100])
        peeked = sum(key in cache for key in keys[100:])
        assert (used, peeked) == (100, 0)


def test_peek_gives_the_value_or_the_default(cache: Cache) -> None:
    cache["a"] = [1]
    assert cache.peek("a") == [1]
    assert cache.peek("b") is None
    assert cache.peek("b", 5) == 5
