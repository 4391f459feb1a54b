"""Operations: what each one promises."""

from __future__ import annotations

from typing import Any

import pytest

from pycache import Cache, IntegerOverflow, NotInteger, UnsupportedType, ValueTooLarge, error_counts

LARGEST, SMALLEST = 2**63 - 1, -(2**63)


def test_get_gives_the_value_or_the_default(cache: Cache) -> None:
    cache.set("a", 1)
    assert cache.get("a") == 1
    assert cache.get("a", 5) == 1
    assert cache.get("b") is None
    assert cache.get("b", 5) == 5
    assert cache.get(key="b", default=5) == 5


def test_set_replaces_and_returns_nothing(cache: Cache) -> None:
    assert cache.set("a", 1) is None  # type: ignore[func-returns-value]
    assert cache.set("a", "two") is None  # type: ignore[func-returns-value]
    assert cache["a"] == "two"


def test_add_stores_only_what_is_missing(cache: Cache) -> None:
    assert cache.add("a", 1) is True
    assert cache.add("a", 2) is False
    assert cache["a"] == 1


def test_replace_stores_only_what_is_there(cache: Cache) -> None:
    assert cache.replace("a", 1) is False
    assert "a" not in cache
    cache["a"] = 1
    assert cache.replace("a", 2) is True
    assert cache["a"] == 2


def test_delete_says_whether_the_key_was_there(cache: Cache) -> None:
    cache["a"] = 1
    assert cache.delete("a") is True
    assert cache.delete("a") is False


def test_pop_removes_and_returns(cache: Cache) -> None:
    cache["a"] = [1]
    assert cache.pop("a") == [1]
    assert "a" not in cache
    with pytest.raises(KeyError) as caught:
        cache.pop("a")
    assert caught.value.args == ("a",)
    assert cache.pop("a", None) is None
    assert cache.pop("a", default=5) == 5


def test_popitem_empties_the_cache(cache: Cache) -> None:
    expected: dict[Any, Any] = {f"k{number}": number for number in range(50)} | {7: "int", b"\xff": "bytes", ("t", 1): None}
    cache.update(expected)
    found = [cache.popitem() for _ in range(len(expected))]
    assert dict(found) == expected
    with pytest.raises(KeyError, match="empty"):
        cache.popitem()


def test_setdefault_gives_what_is_there(cache: Cache) -> None:
    assert cache.setdefault("a", 1) == 1
    assert cache.setdefault("a", 2) == 1
    assert cache.setdefault("n") is None
    assert "n" in cache
    assert cache.setdefault("n", 5) is None


def test_incr_counts_and_needs_a_key_or_a_default(cache: Cache) -> None:
    with pytest.raises(KeyError) as caught:
        cache.incr("n")
    assert caught.value.args == ("n",)
    assert "n" not in cache
    assert cache.incr("n", default=10) == 11
    assert cache.incr("n") == 12
    assert cache.incr("n", 5, default=100) == 17
    assert cache.incr("n", delta=-20) == -3
    assert cache.decr("n") == -4
    assert cache.decr("n", 6) == -10
    assert cache.decr("m", 2, default=10) == 8
    with pytest.raises(KeyError):
        cache.decr("o")
    assert cache["n"] == -10
    assert type(cache["n"]) is int


@pytest.mark.parametrize("key", ["n", b"n", 7, ("n", 1)])
def test_incr_works_under_every_kind_of_key(cache: Cache, key: Any) -> None:
    assert cache.incr(key, default=0) == 1
    assert cache.incr(key) == 2
    assert cache[key] == 2
    assert list(cache) == [key]
    cache[key] = 40
    assert cache.incr(key, 2) == 42
    assert list(cache.items()) == [(key, 42)]


@pytest.mark.parametrize(
    ("value", "delta", "expected"),
    [(5, 1, 6), ("5", 1, "6"), (b"5", 1, b"6"), ("9", 1, "10"), ("10", -1, "9"), ("-1", 1, "0"), (b"0", -1, b"-1"),
     (str(LARGEST - 1), 1, str(LARGEST)), (SMALLEST, 0, SMALLEST), ("7", 0, "7")],
)
def test_incr_works_on_ints_and_on_decimal_text_which_stays_text(cache: Cache, value: Any, delta: int, expected: Any) -> None:
    cache["n"] = value
    assert cache.incr("n", delta) == int(expected)
    assert cache["n"] == expected
    assert type(cache["n"]) is type(value)


@pytest.mark.parametrize(
    ("value", "delta"),
    [(LARGEST, 1), (SMALLEST, -1), (LARGEST - 5, 6), (str(LARGEST), 1), (str(SMALLEST).encode(), -1), (1, LARGEST), (-2, SMALLEST)],
)
def test_incr_past_64_bits_is_an_overflow_and_changes_nothing(cache: Cache, value: Any, delta: int) -> None:
    cache["n"] = value
    with pytest.raises(IntegerOverflow) as caught:
        cache.incr("n", delta)
    assert isinstance(caught.value, OverflowError)
    assert cache["n"] == value
    for wide in (2**63, SMALLEST - 1):
        with pytest.raises(OverflowError):
            cache.incr("n", wide)
        with pytest.raises(OverflowError):
            cache.incr("missing", default=wide)
    with pytest.raises(OverflowError):
        cache.incr("missing", 1, default=LARGEST)
    with pytest.raises(OverflowError):
        cache.decr("n", SMALLEST)
    assert cache["n"] == value
    assert "missing" not in cache


@pytest.mark.parametrize(
    "value",
    ["", "a", "07", "+7", " 7", "7 ", "7.0", "1_0", "-0", "٣", str(2**63), b"", b"\xff", 1.5, None, True, [1], bytearray(b"7"), 2**63, b"7\n"],
    ids=ascii,
)
def test_incr_on_anything_else_is_an_error_and_changes_nothing(cache: Cache, value: Any) -> None:
    cache["n"] = value
    with pytest.raises(NotInteger) as caught:
        cache.incr("n")
    assert isinstance(caught.value, TypeError)
    with pytest.raises(NotInteger):
        cache.incr("n", default=5)
    assert cache["n"] == value


@pytest.mark.parametrize("delta", [1.0, True, "1", None, [1]])
def test_incr_by_anything_but_an_int_is_an_error(cache: Cache, delta: Any) -> None:
    cache["n"] = 1
    with pytest.raises(TypeError):
        cache.incr("n", delta)
    with pytest.raises(TypeError):
        cache.decr("n", delta)
    if delta is not None:
        with pytest.raises(TypeError):
            cache.incr("m", default=delta)
    assert cache["n"] == 1


def test_many_are_read_and_written_at_once(cache: Cache) -> None:
    items = {f"key {number}": [number] for number in range(1000)}
    assert cache.set_many(items) == []
    assert cache.get_many(items) == items
    assert cache.get_many(iter(["key 1", "missing", "key 2", "key 1"])) == {"key 1": [1], "key 2": [2]}
    assert cache.get_many([]) == {}
    assert cache.set_many([]) == []
    assert cache.set_many((pair for pair in [("x", 1), ("x", 2)])) == []
    assert cache["x"] == 2
    assert cache.delete_many(["key 1", "missing", "key 1", "key 2"]) == 2
    assert cache.get_many(["key 1", "key 2", "key 3"]) == {"key 3": [3]}


@pytest.mark.parametrize("large", [bytes(3_000_000), "x" * 3_000_000, bytearray(3_000_000), [bytes(3_000_000)], memoryview(bytes(3_000_000))])
def test_a_batch_names_the_keys_that_did_not_fit_whatever_they_are_made_of(cache: Cache, large: Any) -> None:
    before = error_counts()
    assert cache.set_many({"small": 1, "large": large, "other": 2}) == ["large"]
    assert cache.get_many(["small", "large", "other"]) == {"small": 1, "other": 2}
    assert error_counts() == before


def test_a_batch_with_a_value_that_cannot_be_stored_stores_nothing(cache: Cache) -> None:
    with pytest.raises(UnsupportedType):
        cache.set_many({"a": 1, "b": object()})
    assert len(cache) == 0
    for wrong in (5, [1], [(1, 2, 3)], ["abc"]):
        with pytest.raises((TypeError, ValueError)):
            cache.set_many(wrong)  # type: ignore[arg-type]


def test_get_or_set_computes_once(cache: Cache) -> None:
    calls: list[int] = []

    def compute() -> str:
        calls.append(1)
        return "computed"

    assert cache.get_or_set("a", compute) == "computed"
    assert cache.get_or_set("a", compute) == "computed"
    assert cache.get_or_set("b", "plain") == "plain"
    assert cache.get_or_set("b", "other") == "plain"
    assert cache.get_or_set("n", None) is None
    assert cache.get_or_set("n", 5) is None
    assert calls == [1]


def test_get_or_set_gives_what_another_stored_meanwhile(cache: Cache) -> None:
    def compute() -> str:
        cache["a"] = "theirs"
        return "ours"

    assert cache.get_or_set("a", compute) == "theirs"
    assert cache["a"] == "theirs"


def test_get_or_set_stores_nothing_when_the_function_fails(cache: Cache) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cache.get_or_set("a", fail)
    assert "a" not in cache
    with pytest.raises(UnsupportedType):
        cache.get_or_set("a", object, on_error="raise")
    assert "a" not in cache


def test_clear_removes_everything(cache: Cache) -> None:
    cache.update({str(number): number for number in range(500)})
    cache.clear()
    assert len(cache) == 0
    assert list(cache) == []
    assert cache.get("1") is None
    cache["1"] = 2
    assert dict(cache.items()) == {"1": 2}
    cache.clear()
    cache.clear()
    assert not cache


def test_stats_count_what_happened(cache: Cache) -> None:
    before = cache.stats()
    assert before and all(type(name) is str and type(count) is int for name, count in before.items())
    cache["a"] = 1
    cache.get("a")
    cache.get("b")
    cache.delete("a")
    after = cache.stats()
    for name in ("sets", "hits", "misses", "deletes"):
        assert after[name] == before[name] + 1, name
    assert after["region_bytes"] == cache.size


def test_a_full_cache_drops_old_values_and_keeps_taking_new_ones(directory: str) -> None:
    cache = Cache("full", size="1MiB", dir=directory)
    for number in range(5000):
        cache[number] = bytes(1000)
    assert 100 < len(cache) < 1048
    assert cache.stats()["evictions"] > 0
    assert cache[4999] == bytes(1000)


def test_a_full_cache_that_may_not_evict_is_an_error_and_loses_nothing(directory: str) -> None:
    cache = Cache("full", size="1MiB", dir=directory, evict=False)
    stored = 0
    with pytest.raises(MemoryError, match="no room") as caught:
        for number in range(5000):
            cache[number] = bytes(1000)
            stored += 1
    assert type(caught.value).__name__ == "RegionFull"
    assert stored > 500
    assert len(cache) == stored
    assert all(cache[number] == bytes(1000) for number in range(stored))
    failed = cache.set_many({f"more {number}": bytes(1000) for number in range(200)})
    assert failed
    with pytest.raises(MemoryError):
        cache.update({f"again {number}": bytes(1000) for number in range(200)})
    assert cache.delete_many(range(100)) == 100
    cache["after"] = bytes(1000)
    assert cache["after"] == bytes(1000)


def test_a_value_too_large_leaves_the_old_one(cache: Cache) -> None:
    cache["a"] = 1
    for operation in (
        lambda: cache.set("a", bytes(2_000_000)),
        lambda: cache.replace("a", bytes(2_000_000)),
        lambda: cache.add("b", bytes(2_000_000)),
        lambda: cache.setdefault("b", bytes(2_000_000)),
        lambda: cache.get_or_set("b", bytes(2_000_000)),
        lambda: cache.update(b=bytes(2_000_000)),
    ):
        with pytest.raises(ValueTooLarge):
            operation()
    assert dict(cache.items()) == {"a": 1}


def test_wrong_calls_are_type_errors(cache: Cache) -> None:
    for call in (
        lambda: cache.get(),  # type: ignore[call-overload]
        lambda: cache.set("a"),  # type: ignore[call-arg]
        lambda: cache.set("a", 1, 2, 3),  # type: ignore[call-arg]
        lambda: cache.get("a", fallback=1),  # type: ignore[call-overload]
        lambda: cache.get("a", key="a"),  # type: ignore[call-overload]
        lambda: cache.get(default=1),  # type: ignore[call-overload]
        lambda: cache.set(value=1),  # type: ignore[call-arg]
        lambda: cache.set("a", 1, value=2),  # type: ignore[misc]
        lambda: cache.get_many(5),  # type: ignore[arg-type]
        lambda: cache.delete_many(None),  # type: ignore[arg-type]
        lambda: cache.incr("a", 1, 2, 3, 4),  # type: ignore[call-arg]
    ):
        with pytest.raises(TypeError):
            call()


