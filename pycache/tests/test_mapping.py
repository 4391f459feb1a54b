"""The mapping protocol: a cache is used like a dict."""

from __future__ import annotations

import collections.abc
from typing import Any

import pytest

from pycache import Cache


def test_a_cache_is_a_mutable_mapping(cache: Cache) -> None:
    assert isinstance(cache, collections.abc.MutableMapping)
    assert issubclass(Cache, collections.abc.Mapping)
    for name in dir(collections.abc.MutableMapping):
        if not name.startswith("_"):
            assert callable(getattr(cache, name)), name


def test_items_are_set_read_and_deleted(cache: Cache) -> None:
    cache["a"] = 1
    assert cache["a"] == 1
    assert "a" in cache
    assert "b" not in cache
    del cache["a"]
    assert "a" not in cache


@pytest.mark.parametrize("key", ["a", b"a", 7, ("a", 1)])
def test_a_missing_key_is_a_key_error_that_names_it(cache: Cache, key: Any) -> None:
    with pytest.raises(KeyError) as caught:
        cache[key]
    assert caught.value.args == (key,)
    with pytest.raises(KeyError) as caught:
        del cache[key]
    assert caught.value.args == (key,)


def test_len_bool_and_iteration_agree(cache: Cache) -> None:
    assert len(cache) == 0 and not cache and list(cache) == []
    expected = {f"key {number}": number for number in range(1000)}
    cache.update(expected)
    assert len(cache) == 1000 and cache
    assert sorted(cache) == sorted(expected)
    assert dict(cache.items()) == expected
    assert dict(cache) == expected
    assert sorted(cache.values()) == list(range(1000))
    assert {**cache} == expected


def test_views_follow_the_cache(cache: Cache) -> None:
    keys, values, items = cache.keys(), cache.values(), cache.items()
    assert (len(keys), len(values), len(items)) == (0, 0, 0)
    cache["a"] = [1]
    cache["b"] = 2
    assert keys == {"a", "b"} and keys & {"a"} == {"a"} and "a" in keys and "c" not in keys
    assert [1] in values and 3 not in values
    assert ("b", 2) in items and ("b", 3) not in items and ("c", 2) not in items
    assert (len(keys), len(values), len(items)) == (2, 2, 2)
    assert sorted(keys) == ["a", "b"]
    assert isinstance(keys, collections.abc.KeysView)
    assert isinstance(values, collections.abc.ValuesView)
    assert isinstance(items, collections.abc.ItemsView)
    assert "CacheKeys" in repr(keys) and "CacheValues" in repr(values) and "CacheItems" in repr(items)


def test_an_iterator_iterates_over_itself_and_ends(cache: Cache) -> None:
    cache["a"] = 1
    iterator = iter(cache)
    assert iter(iterator) is iterator
    assert list(iterator) == ["a"]
    with pytest.raises(StopIteration):
        next(iterator)


def test_iteration_survives_any_change_on_the_way(cache: Cache) -> None:
    stays = {f"stay {number}" for number in range(500)}
    for view in (cache.keys(), cache.values(), cache.items()):
        cache.update(dict.fromkeys(stays, 1))
        cache.update({f"go {number}": 1 for number in range(500)})
        seen: list[Any] = []
        for step, entry in enumerate(view):
            seen.append(entry)
            cache.delete(f"go {step}")
            if step < 2000:
                cache[f"new {step}"] = 1
        assert len(seen) >= len(stays)
        if not isinstance(view, collections.abc.ValuesView):
            assert stays <= {entry[0] if isinstance(entry, tuple) else entry for entry in seen}
    iterator = iter(cache.items())
    next(iterator)
    cache.clear()
    assert len(list(iterator)) <= 1000


def test_update_takes_what_dict_update_takes(cache: Cache) -> None:
    cache.update({"a": 1})
    cache.update([("b", 2), ("c", 3)])
    cache.update(d=4)
    cache.update({"e": 5}, f=6)
    cache.update(iter([("g", 7)]))
    cache.update()

    class Keyed:
        def keys(self) -> list[str]:
            return ["h"]

        def __getitem__(self, key: str) -> int:
            return 8

    cache.update(Keyed())
    assert dict(cache.items()) == dict(zip("abcdefgh", range(1, 9)))
    cache.update(cache)
    for wrong in (5, None, ["abc"], [(1, 2, 3)]):
        with pytest.raises((TypeError, ValueError)):
            cache.update(wrong)  # type: ignore[call-overload]


def test_equality_and_hash_go_by_region(cache: Cache, directory: str) -> None:
    again = Cache("test", dir=directory)
    other = Cache("other", size="2MB", dir=directory)
    assert cache == again and not cache != again
    assert hash(cache) == hash(again)
    assert cache != other and cache != {} and cache != "test"
    assert len({cache, again, other}) == 2
    first, second = Cache(None, size="1MiB"), Cache(None, size="1MiB")
    assert first != second and first == first
    value = hash(cache)
    again.close()
    assert again == cache and hash(again) == value


def test_a_cache_works_as_a_context_manager(directory: str) -> None:
    with Cache("context", size="2MB", dir=directory) as cache:
        cache["a"] = 1
        assert not cache.closed
    assert cache.closed
    with pytest.raises(ZeroDivisionError), Cache("context", dir=directory) as cache:
        assert cache["a"] == 1
        1 / 0
    assert cache.closed


def test_a_cache_shows_its_name_and_size(cache: Cache) -> None:
    assert "Cache 'test'" in repr(cache)
    assert str(cache.size) in repr(cache)
    cache.close()
    assert "closed" in repr(cache)
    assert "None" in repr(Cache(None, size="1MiB"))


def test_a_subclass_of_cache_is_a_cache(directory: str) -> None:
    class Sessions(Cache):
        def login(self, user: str) -> None:
            self[user] = "in"

    sessions = Sessions("sessions", size="2MB", dir=directory)
    sessions.login("ada")
    assert sessions["ada"] == "in"
    assert "Sessions" in repr(sessions)


def test_a_cache_can_be_named_in_annotations() -> None:
    assert Cache[str, bytes].__origin__ is Cache  # type: ignore[attr-defined]
