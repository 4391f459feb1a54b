"""Times to live: what each form means, and that nothing expires early."""

from __future__ import annotations

import datetime
import decimal
import math
import time
from typing import Any

import pytest

from pycache import Cache

SECOND = datetime.timedelta(seconds=1)
# The clock of expiry moves in ticks of up to 10 ms.
TICK = 0.02


@pytest.mark.parametrize("ttl", [60, 60.0, datetime.timedelta(minutes=1)])
def test_a_ttl_is_seconds_or_a_timedelta(cache: Cache, ttl: Any) -> None:
    writes = [
        lambda: cache.set("k", 1, ttl),
        lambda: cache.set("k", 1, ttl=ttl),
        lambda: cache.add("k", 1, ttl),
        lambda: cache.get_or_set("k", 1, ttl),
        lambda: cache.setdefault("k", 1, ttl),
        lambda: cache.set_many({"k": 1}, ttl),
        lambda: (cache.set("k", 0), cache.replace("k", 1, ttl)),
        lambda: (cache.set("k", 1), cache.touch("k", ttl)),
    ]
    for write in writes:
        cache.clear()
        write()
        left = cache.ttl("k")
        assert left is not None and 59 < left <= 60 + TICK
        assert cache["k"] == 1


def test_without_a_default_values_live_for_ever(cache: Cache) -> None:
    cache["k"] = 1
    assert cache.ttl("k") is None
    assert cache.default_ttl is None


@pytest.mark.parametrize("default", [100, 100.0, 100 * SECOND])
def test_unset_means_the_default_and_none_means_for_ever(directory: str, default: Any) -> None:
    cache = Cache("ttl", size="2MB", ttl=default, dir=directory)
    assert cache.default_ttl == 100
    cache["k"] = 1
    assert 99 < (cache.ttl("k") or 0) <= 100 + TICK
    cache.set("k", 1, ttl=None)
    assert cache.ttl("k") is None
    assert cache.touch("k")
    assert 99 < (cache.ttl("k") or 0) <= 100 + TICK
    assert cache.touch("k", None)
    assert cache.ttl("k") is None
    cache.set("k", 1, ttl=10)
    assert (cache.ttl("k") or 0) <= 10 + TICK
    cache.update(u=1)
    assert cache.ttl("u") is not None
    assert cache.incr("n", default=0) == 1
    assert cache.ttl("n") is not None


@pytest.mark.parametrize("ttl", [0, 0.0, -0.0, -1, -1e300, -math.inf, datetime.timedelta(0), -SECOND, -(10**30)])
def test_zero_or_less_is_expired_already(cache: Cache, ttl: Any) -> None:
    cache["k"] = 1
    cache.set("k", 2, ttl)
    assert "k" not in cache and len(cache) == 0
    cache["k"] = 1
    assert cache.touch("k", ttl)
    assert "k" not in cache
    cache["k"] = 1
    assert cache.replace("k", 2, ttl)
    assert "k" not in cache
    cache["k"] = 1
    assert cache.set_many({"k": 2}, ttl) == []
    assert "k" not in cache
    assert cache.get_or_set("k", 5, ttl) == 5
    assert not cache.add("k", 5, ttl)
    assert "k" not in cache


@pytest.mark.parametrize("ttl", [math.inf, 1e300, 10**30, 2**63])
def test_longer_than_the_clock_is_for_ever(cache: Cache, ttl: Any) -> None:
    cache.set("k", 1, ttl)
    assert cache.ttl("k") is None


def test_the_longest_timedelta_is_kept(cache: Cache) -> None:
    cache.set("k", 1, datetime.timedelta.max)
    assert cache["k"] == 1


def test_longer_than_a_month_is_still_relative(cache: Cache) -> None:
    cache.set("k", 1, ttl=60 * 60 * 24 * 365)
    assert 60 * 60 * 24 * 364 < (cache.ttl("k") or 0) <= 60 * 60 * 24 * 365 + TICK


@pytest.mark.parametrize("ttl", [True, False, "60", b"60", [60], decimal.Decimal(60), 1j, object()])
def test_another_type_is_a_type_error_and_changes_nothing(cache: Cache, ttl: Any) -> None:
    cache["k"] = 1
    for write in (cache.set, cache.add, cache.replace, cache.get_or_set, cache.setdefault):
        with pytest.raises(TypeError, match="ttl"):
            write("k", 2, ttl)  # type: ignore[operator]
    with pytest.raises(TypeError, match="ttl"):
        cache.touch("k", ttl)
    with pytest.raises(TypeError, match="ttl"):
        cache.set_many({"k": 2}, ttl)
    assert cache["k"] == 1 and cache.ttl("k") is None


def test_nan_is_a_value_error_and_changes_nothing(cache: Cache, directory: str) -> None:
    cache["k"] = 1
    for write in (cache.set, cache.add, cache.replace):
        with pytest.raises(ValueError, match="ttl"):
            write("k", 2, math.nan)
    with pytest.raises(ValueError, match="ttl"):
        cache.touch("k", math.nan)
    assert cache["k"] == 1 and cache.ttl("k") is None


@pytest.mark.parametrize("ttl", [0, -1, math.nan, True, "60", -SECOND])
def test_a_default_is_longer_than_nothing(directory: str, ttl: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="ttl"):
        Cache("ttl", size="2MB", ttl=ttl, dir=directory)


def test_a_value_never_expires_early_and_at_most_a_tick_late(cache: Cache) -> None:
    for ttl in (0.05, 0.1):
        before = time.monotonic()
        cache.set("k", 1, ttl)
        after = time.monotonic()
        while "k" in cache:
            alive_until = time.monotonic()
            assert alive_until < after + ttl + 2, "still there two seconds later"
        # It was gone at some moment before now, so now may not be before its time.
        assert time.monotonic() - before >= ttl - TICK
        assert cache.get("k") is None and len(cache) == 0 and list(cache) == []


def test_less_than_a_millisecond_is_still_some_time(cache: Cache) -> None:
    cache.set("k", 1, 1e-9)
    assert (cache.ttl("k") if "k" in cache else 0.0) is not None


def test_an_expired_value_is_gone_for_every_operation(cache: Cache) -> None:
    def expired() -> str:
        cache.set("k", 1, 0.001)
        while "k" in cache:
            pass
        return "k"

    assert cache.get(expired()) is None
    assert not cache.delete(expired())
    assert cache.pop(expired(), None) is None
    assert not cache.replace(expired(), 1)
    assert not cache.touch(expired(), 60)
    assert cache.get_many([expired()]) == {}
    assert cache.setdefault(expired(), 2) == 2
    assert cache.add(expired(), 2)
    assert cache.incr(expired(), default=10) == 11
    with pytest.raises(KeyError):
        cache.ttl(expired())
    with pytest.raises(KeyError):
        cache.incr(expired())
    with pytest.raises(KeyError):
        cache.popitem()


def test_incr_keeps_the_ttl_of_an_existing_key(directory: str) -> None:
    cache = Cache("ttl", size="2MB", ttl=1000, dir=directory)
    cache.set("n", 1, ttl=50)
    cache.incr("n")
    assert 49 < (cache.ttl("n") or 0) <= 50 + TICK
    cache.set("n", 1, ttl=None)
    cache.incr("n")
    assert cache.ttl("n") is None
    cache.set("text", "1", ttl=50)
    cache.incr("text", 10**10)
    assert 49 < (cache.ttl("text") or 0) <= 50 + TICK


def test_ttl_of_a_missing_key_is_a_key_error(cache: Cache) -> None:
    with pytest.raises(KeyError) as caught:
        cache.ttl("k")
    assert caught.value.args == ("k",)


def test_a_large_value_keeps_its_new_ttl(cache: Cache) -> None:
    cache.set("k", bytes(500_000), ttl=10)
    assert cache.touch("k", 60)
    assert 59 < (cache.ttl("k") or 0) <= 60 + TICK
    assert cache["k"] == bytes(500_000)


def test_incr_gives_a_new_key_its_ttl(cache: Cache) -> None:
    assert cache.incr("n", default=0, ttl=50) == 1
    assert 49 < (cache.ttl("n") or 0) <= 50 + TICK
    assert cache.incr("n", ttl=500) == 2
    assert 49 < (cache.ttl("n") or 0) <= 50 + TICK
    assert cache.decr("m", default=0, ttl=datetime.timedelta(seconds=50)) == -1
    assert 49 < (cache.ttl("m") or 0) <= 50 + TICK


@pytest.mark.parametrize("zone", [None, datetime.timezone.utc, datetime.timezone(datetime.timedelta(hours=5))])
def test_expire_at_takes_moments_of_any_zone(cache: Cache, zone: datetime.timezone | None) -> None:
    cache["k"] = 1
    assert cache.expire_at("k", datetime.datetime.now(zone) + datetime.timedelta(seconds=60))
    assert 58 < (cache.ttl("k") or 0) <= 60 + TICK
    assert not cache.expire_at("missing", datetime.datetime.now(zone))


def test_expire_at_takes_seconds_since_1970(cache: Cache) -> None:
    cache["k"] = 1
    assert cache.expire_at("k", time.time() + 60)
    assert 58 < (cache.ttl("k") or 0) <= 60 + TICK
    assert cache.expire_at("k", int(time.time()) - 1)
    assert "k" not in cache


@pytest.mark.parametrize("moment", ["tomorrow", None, True, datetime.timedelta(seconds=5), datetime.date(2050, 1, 1)])
def test_expire_at_refuses_what_is_no_moment(cache: Cache, moment: Any) -> None:
    cache["k"] = 1
    with pytest.raises(TypeError, match="moment"):
        cache.expire_at("k", moment)
    with pytest.raises(ValueError, match="nan"):
        cache.expire_at("k", float("nan"))
    assert cache.ttl("k") is None


def test_persist_lets_a_key_live_for_ever(cache: Cache) -> None:
    cache.set("k", 1, ttl=60)
    assert cache.persist("k")
    assert cache.ttl("k") is None
    assert not cache.persist("missing")
