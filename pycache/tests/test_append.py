"""Appending: in one step, to what can be appended to."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from pycache import Cache, NotAppendable, UnsupportedType, ValueTooLarge


@pytest.mark.parametrize(
    ("value", "tail", "after"),
    [
        ("text", "äö", "textäö"),
        (b"by", b"tes", b"bytes"),
        (b"by", "tes", b"bytes"),
        ("te", b"xt", "text"),
        (12, "3", "123"),
        (bytearray(b"a"), b"b", bytearray(b"ab")),
        ("", "", ""),
    ],
)
def test_a_value_grows_and_keeps_its_type(cache: Cache, value: Any, tail: Any, after: Any) -> None:
    cache["a"] = value
    length = len(after.encode()) if isinstance(after, str) else len(after)
    assert cache.append("a", tail) == length
    assert cache["a"] == after
    assert type(cache["a"]) is type(after)


@pytest.mark.parametrize(("value", "tail"), [("text", b"\xff"), (1.5, "a"), (None, "a"), ([1], "a"), (True, b"")])
def test_what_cannot_be_appended_to_stays(cache: Cache, value: Any, tail: Any) -> None:
    cache["a"] = value
    with pytest.raises(NotAppendable) as caught:
        cache.append("a", tail)
    assert isinstance(caught.value, TypeError)
    assert cache["a"] == value


def test_a_missing_key_is_an_error_or_starts_as_the_default(cache: Cache) -> None:
    with pytest.raises(KeyError):
        cache.append("a", "b")
    assert cache.append("a", "b", default="") == 1
    assert cache["a"] == "b"
    assert cache.append("c", b"b", default=b"a", ttl=60) == 2
    assert cache["c"] == b"ab"
    left = cache.ttl("c")
    assert left is not None
    assert cache.append("c", b"c", default=b"x", ttl=600) == 3
    assert (cache.ttl("c") or 0) <= left


def test_a_default_that_cannot_be_appended_to_is_not_stored(cache: Cache) -> None:
    with pytest.raises(NotAppendable):
        cache.append("a", b"\xff", default="")
    assert "a" not in cache


def test_only_text_and_bytes_are_appended(cache: Cache) -> None:
    cache["a"] = "a"
    for tail in (1, None, bytearray(b"b"), ["b"]):
        with pytest.raises(UnsupportedType):
            cache.append("a", tail)  # type: ignore[arg-type]
    with pytest.raises(ValueTooLarge):
        cache.append("a", "b" * 3_000_000)
    assert cache["a"] == "a"


def test_appends_of_several_threads_are_all_kept(cache: Cache) -> None:
    def work(letter: str) -> None:
        for _ in range(200):
            cache.append("log", letter, default="")

    threads = [threading.Thread(target=work, args=(letter,)) for letter in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(cache["log"]) == sorted("abcd" * 200)
