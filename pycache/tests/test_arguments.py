"""What arguments may be, and what is said of those that may not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from pycache import Cache, InvalidArgument, RegionGone, UnsupportedType

NUMBERS: dict[str, Callable[[Cache, Any], Any]] = {
    "local": lambda _cache, number: Cache(None, size="2MB", local=number),
    "mode": lambda _cache, number: Cache(None, size="2MB", mode=number),
    "group": lambda _cache, number: Cache(None, size="2MB", group=number),
    "compress_min": lambda _cache, number: Cache(None, size="2MB", compress="zlib", compress_min=number),
    "nbytes": lambda cache, number: cache.reserve("key", number),
    "value": lambda cache, number: cache.semaphore("gate", number),
    "limit": lambda cache, number: cache.rate_limit("api", number, per=1),
    "cost": lambda cache, number: cache.rate_limit("api", 5, per=1).hit(cost=number),
    "a token": lambda cache, number: cache.cas("key", 1, number),
}


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("number", [-1, -(2**70), -(10**5000)], ids=["-1", "64 bits", "digits"])
def test_a_number_that_is_none_of_theirs_is_named_with_what_is_allowed(cache: Cache, name: str, number: int) -> None:
    with pytest.raises(ValueError, match=f"{name} is .*, not ") as raised:
        NUMBERS[name](cache, number)
    assert isinstance(raised.value, InvalidArgument) and raised.value.code == "invalid_argument"
    if number > -(10**100):
        assert str(raised.value).endswith(f"not {number}")


# Text is a group's name.
NO_NUMBERS = [(name, wrong) for name in NUMBERS for wrong in (1.0, "1", True) if (name, wrong) != ("group", "1")]


@pytest.mark.parametrize(("name", "wrong"), NO_NUMBERS)
def test_what_is_no_number_is_a_type_error(cache: Cache, name: str, wrong: Any) -> None:
    with pytest.raises(TypeError, match=name):
        NUMBERS[name](cache, wrong)


def test_sizes_and_numbers_of_counters_have_errors_of_their_own(cache: Cache) -> None:
    with pytest.raises(ValueError, match="-1"):
        Cache(None, size=-1)
    assert cache.incr("n", -5, default=-1) == -6
    with pytest.raises(OverflowError):
        cache.incr("n", -(2**70))


@pytest.mark.parametrize("per", [0, -1, timedelta(0), None, float("nan"), float("inf"), "1", True])
def test_a_rate_is_per_some_time_and_its_errors_name_that(cache: Cache, per: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="per is") as raised:
        cache.rate_limit("api", 5, per=per)
    assert "ttl" not in str(raised.value)


@pytest.mark.parametrize("name", ["stale_ttl", "negative_ttl"])
def test_times_are_called_by_their_names(cache: Cache, name: str) -> None:
    others: dict[str, Any] = {"negative": KeyError} if name == "negative_ttl" else {}
    for wrong in (0, -1, timedelta(seconds=-1), float("nan"), "5", True):
        with pytest.raises((ValueError, TypeError), match=f"{name} is"):
            cache.get_or_set("key", lambda: 1, 60, **others, **{name: wrong})
        with pytest.raises((ValueError, TypeError), match=f"{name} is"):
            asyncio.run(cache.aget_or_set("key", lambda: 1, 60, **others, **{name: wrong}))


def test_what_is_not_stored_is_told_with_what_is(cache: Cache) -> None:
    with pytest.raises(UnsupportedType, match="NumPy arrays, Arrow tables"):
        cache["key"] = object()


def test_a_region_that_is_gone_says_what_the_next_call_does(directory: str) -> None:
    cache, other = (Cache("gone", size="2MB", dir=directory) for _ in range(2))
    cache["key"] = 1
    other.destroy()
    with pytest.raises(RegionGone, match="the next call uses the one that is there then"):
        cache["key"] = 2
    cache["key"] = 3
    assert cache["key"] == 3
