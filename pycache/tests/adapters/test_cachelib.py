"""The caches for cachelib and Flask-Caching: their rules, and what is built on them."""

from __future__ import annotations

import datetime
import subprocess
import sys
import time
from typing import Any

import pytest

pytest.importorskip("cachelib", reason="cachelib is not installed")

from pycache import Cache, UnsupportedType, ValueTooLarge
from pycache.adapters.cachelib import SharedMemoryCache


@pytest.fixture
def shared(directory: str) -> SharedMemoryCache:
    return SharedMemoryCache("site", size="4MiB", dir=directory)


def seconds_left(cache: SharedMemoryCache, key: str) -> float | None:
    return cache._region.cache.ttl(cache.key_prefix + key)


def test_set_says_true_and_get_gives_the_value_or_none(shared: SharedMemoryCache) -> None:
    assert shared.get("key") is None
    for value in ("text", b"bytes", 7, 1.5, [1], {"a": (1, 2)}, datetime.date(2026, 1, 2), None, SharedMemoryCache):
        assert shared.set("key", value) is True
        assert shared.get("key") == value and type(shared.get("key")) is type(value)
    assert shared.has("key") is True and shared.has("missing") is False


def test_add_stores_only_what_is_missing(shared: SharedMemoryCache) -> None:
    assert shared.add("key", 1) is True
    assert shared.add("key", 2) is False
    assert shared.get("key") == 1


def test_timeout_zero_is_for_ever_and_none_is_the_default(shared: SharedMemoryCache) -> None:
    for write in (shared.set, shared.add):
        shared.clear()
        write("key", 1)
        assert 299 < (seconds_left(shared, "key") or 0) <= 300.1
        shared.delete("key")
        write("key", 1, timeout=0)
        assert seconds_left(shared, "key") is None
        shared.delete("key")
        write("key", 1, timeout=50)
        assert 49 < (seconds_left(shared, "key") or 0) <= 50.1
    shared.set("key", 1, timeout=datetime.timedelta(seconds=20))
    assert 19 < (seconds_left(shared, "key") or 0) <= 20.1
    shared.set("key", 1, timeout=-1)
    assert shared.get("key") is None


def test_a_default_of_zero_is_for_ever(directory: str) -> None:
    shared = SharedMemoryCache("site", 0, size="2MiB", dir=directory)
    shared.set("key", 1)
    assert seconds_left(shared, "key") is None
    assert SharedMemoryCache("site", datetime.timedelta(seconds=1.5), dir=directory).default_timeout == 2


def test_many_keys_are_lists_in_their_order(shared: SharedMemoryCache) -> None:
    assert shared.set_many({"a": 1, "b": 2}, timeout=50) == ["a", "b"]
    assert shared.get_many("b", "missing", "a") == [2, None, 1]
    assert shared.get_dict("a", "missing") == {"a": 1, "missing": None}
    assert {"a", "b"} <= set(shared.delete_many("a", "b"))
    assert shared.get_many("a", "b") == [None, None]


def test_delete_says_whether_the_key_was_there(shared: SharedMemoryCache) -> None:
    shared.set("key", 1)
    assert shared.delete("key") is True
    assert shared.delete("key") is False


def test_counters_begin_at_zero_and_keep_their_timeout(shared: SharedMemoryCache) -> None:
    assert shared.inc("count") == 1
    assert 299 < (seconds_left(shared, "count") or 0) <= 300.1
    assert shared.inc("count", 10) == 11
    assert shared.dec("count", 2) == 9
    assert shared.dec("other") == -1
    shared.set("count", 5, timeout=50)
    assert shared.inc("count") == 6
    assert (seconds_left(shared, "count") or 0) <= 50.1
    shared.set("text", "x")
    with pytest.raises(TypeError):
        shared.inc("text")


def test_clear_removes_what_has_the_prefix(directory: str) -> None:
    one = SharedMemoryCache("site", size="4MiB", dir=directory, key_prefix="one:")
    two = SharedMemoryCache("site", dir=directory, key_prefix="two:")
    all_keys = SharedMemoryCache("site", dir=directory)
    one.set("key", 1)
    two.set("key", 2)
    assert one.get_many("key") == [1] and all_keys.get("two:key") == 2
    assert one.clear() is True
    assert one.get("key") is None and two.get("key") == 2
    assert all_keys.clear() is True
    assert two.get("key") is None


def test_a_failure_is_false_or_raises(shared: SharedMemoryCache, directory: str) -> None:
    large = bytes(3 << 20)
    shared.set("key", "before")
    assert shared.set("key", large) is False
    assert shared.get("key") is None
    assert shared.add("key", large) is False
    assert shared.set_many({"large": large, "small": 1}) == ["small"]
    assert sum(shared.failures.values()) == 3
    loud = SharedMemoryCache("site", dir=directory, on_error="raise")
    with pytest.raises(ValueTooLarge):
        loud.set("key", large)


def test_without_pickle_plain_types_only_are_stored(directory: str) -> None:
    plain = SharedMemoryCache("plain", size="2MiB", dir=directory, serializer=None)
    assert plain.set("key", {"a": [1, 2]}) and plain.get("key") == {"a": [1, 2]}
    with pytest.raises(UnsupportedType):
        plain.set("key", SharedMemoryCache)


def test_what_has_expired_is_gone(shared: SharedMemoryCache) -> None:
    shared.set("key", 1, timeout=1)
    deadline = time.monotonic() + 5
    while shared.has("key"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert shared.get("key") is None and shared.add("key", 2) is True


# --- Flask-Caching ------------------------------------------------------------------------------

PROCESS = """
import sys
from flask import Flask
from flask_caching import Cache

app = Flask(__name__)
cache = Cache(app, config={
    "CACHE_TYPE": "pycache.adapters.flask_caching.SharedMemoryCache",
    "CACHE_OPTIONS": {"name": "flask", "size": "4MiB", "dir": sys.argv[1]},
})

@app.get("/")
@cache.cached(timeout=60)
def page():
    return f"rendered by {sys.argv[2]}"

print(app.test_client().get("/").text)
"""


def flask_app(directory: str, **config: Any) -> tuple[Any, Any]:
    pytest.importorskip("flask_caching", reason="Flask-Caching is not installed")
    from flask import Flask
    from flask_caching import Cache as FlaskCache

    app = Flask(__name__)
    app.config["CACHE_TYPE"] = "pycache.adapters.flask_caching.SharedMemoryCache"
    app.config["CACHE_OPTIONS"] = {"name": "flask", "size": "4MiB", "dir": directory}
    app.config.update(config)
    return app, FlaskCache(app)


def test_flask_views_are_rendered_once_for_all_processes(directory: str) -> None:
    pytest.importorskip("flask_caching", reason="Flask-Caching is not installed")
    for number in ("1", "2"):
        done = subprocess.run([sys.executable, "-c", PROCESS, directory, number], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (0, "rendered by 1\n"), done.stderr


def test_flask_functions_are_memoized_and_forgotten(directory: str) -> None:
    app, cache = flask_app(directory)
    calls: list[tuple[int, int]] = []

    @cache.memoize(60)
    def add(a: int, b: int) -> int:
        calls.append((a, b))
        return a + b

    @cache.cached(key_prefix="nothing", cache_none=True)
    def nothing() -> None:
        calls.append((0, 0))

    with app.app_context():
        assert [add(1, 2), add(1, 2), add(2, 2)] == [3, 3, 4]
        assert calls == [(1, 2), (2, 2)]
        cache.delete_memoized(add, 1, 2)
        assert [add(1, 2), add(2, 2)] == [3, 4] and len(calls) == 3
        cache.delete_memoized(add)
        assert [add(1, 2), add(2, 2)] == [3, 4] and len(calls) == 5
        assert nothing() is None and nothing() is None and len(calls) == 6


def test_flask_caching_configures_the_backend(directory: str) -> None:
    app, cache = flask_app(directory, CACHE_DEFAULT_TIMEOUT=50, CACHE_KEY_PREFIX="mine:")
    with app.app_context():
        cache.set("key", 1)
        assert cache.add("key", 2) is False and cache.get("key") == 1
        assert cache.get_many("key", "missing") == [1, None] and cache.get_dict("key") == {"key": 1}
        region = Cache("flask", dir=directory)
        assert list(region) == ["mine:key"] and 49 < (region.ttl("mine:key") or 0) <= 50.1
        region["foreign"] = 1
        cache.clear()
        assert list(region) == ["foreign"]


def test_flask_caching_must_name_a_region(directory: str) -> None:
    with pytest.raises(ValueError, match="name"):
        flask_app(directory, CACHE_OPTIONS={"size": "4MiB"})
