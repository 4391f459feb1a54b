"""Values with versions: read, changed elsewhere, replaced only if nobody was faster."""

from __future__ import annotations

import multiprocessing
from typing import Any

import pytest

from pycache import Cache


def test_gets_gives_a_value_with_its_token(cache: Cache) -> None:
    cache["a"] = None
    value, token = cache.gets("a")
    assert value is None
    assert isinstance(token, int)
    assert cache.gets("b") == (None, None)
    assert cache.gets("b", 5) == (5, None)
    cache["a"] = 2
    assert cache.gets("a")[1] != token


def test_cas_replaces_only_what_gets_has_seen(cache: Cache) -> None:
    cache["a"] = 1
    _, token = cache.gets("a")
    assert cache.cas("a", 2, token) is True
    assert cache.cas("a", 3, token) is False
    assert cache["a"] == 2
    _, token = cache.gets("a")
    del cache["a"]
    assert cache.cas("a", 3, token) is False
    assert "a" not in cache


def test_the_same_value_stored_again_is_another_version(cache: Cache) -> None:
    cache["a"] = 1
    _, token = cache.gets("a")
    cache["a"] = 1
    assert cache.cas("a", 2, token) is False


def test_cas_without_a_token_stores_what_is_missing(cache: Cache) -> None:
    assert cache.cas("a", 1, None) is True
    assert cache.cas("a", 2, None) is False
    assert cache["a"] == 1


def test_cas_gives_the_value_a_time_to_live(cache: Cache) -> None:
    cache["a"] = 1
    assert cache.cas("a", 2, cache.gets("a")[1], ttl=60)
    left = cache.ttl("a")
    assert left is not None
    assert 59 < left <= 60.1


@pytest.mark.parametrize("token", ["1", 1.0, True, -1, 2**64])
def test_a_token_is_what_gets_gave(cache: Cache, token: Any) -> None:
    cache["a"] = 1
    with pytest.raises((TypeError, ValueError), match="token"):
        cache.cas("a", 2, token)
    assert cache["a"] == 1


def add_to_a_list(name: str, directory: str, worker: int, rounds: int) -> None:
    with Cache(name, dir=directory) as cache:
        for number in range(rounds):
            while True:
                value, token = cache.gets("list", [])
                if cache.cas("list", [*value, (worker, number)], token):
                    break


def test_changes_of_several_processes_are_all_kept(cache: Cache, directory: str) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=add_to_a_list, args=("test", directory, worker, 50)) for worker in range(3)]
    for process in workers:
        process.start()
    for process in workers:
        process.join(60)
        assert process.exitcode == 0
    assert sorted(cache["list"]) == [(worker, number) for worker in range(3) for number in range(50)]


def test_a_large_value_has_a_version_too(cache: Cache) -> None:
    large = bytes(500_000)
    cache["a"] = large
    value, token = cache.gets("a")
    assert value == large
    assert cache.cas("a", b"small", token)
