"""The backend for Django: what Django documents for caches, and what is built on them."""

from __future__ import annotations

import asyncio
import datetime
import logging
import multiprocessing
import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("django", reason="Django is not installed")

from django.conf import settings

settings.configure(
    SECRET_KEY="of-a-test",
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=["testserver"],
    INSTALLED_APPS=["django.contrib.sessions"],
    MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware"],
    SESSION_ENGINE="django.contrib.sessions.backends.cache",
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
    USE_TZ=True,
)

import django

django.setup()

from django.contrib.sessions.backends.cache import SessionStore
from django.core.cache import CacheKeyWarning, caches
from django.core.cache.utils import make_template_fragment_key
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse
from django.template import engines
from django.test import Client, override_settings
from django.urls import path
from django.utils.safestring import SafeString, mark_safe
from django.views.decorators.cache import cache_page
from pycache import BadSignature, Cache, UnsupportedType, ValueTooLarge
from pycache.adapters.django import SharedMemoryCache

BACKEND = "pycache.adapters.django.SharedMemoryCache"
RENDERED: list[str] = []


@cache_page(60)
def page(request: HttpRequest) -> HttpResponse:
    RENDERED.append(request.path)
    return HttpResponse(f"page {len(RENDERED)}")


def visits(request: HttpRequest) -> HttpResponse:
    request.session["visits"] = request.session.get("visits", 0) + 1
    return HttpResponse(str(request.session["visits"]))


urlpatterns = [path("page", page), path("visits", visits)]


def shouting_key(key: str, prefix: str, version: int) -> str:
    return f"{prefix}/{version}/{key.upper()}"


@pytest.fixture
def site(directory: str) -> Iterator[Any]:
    """Django's caches, configured with one region under several prefixes and versions."""
    of_region = {"BACKEND": BACKEND, "LOCATION": "site", "OPTIONS": {"size": "4MiB", "dir": directory}}
    configured = {
        "default": of_region,
        "second": of_region | {"VERSION": 2},
        "prefix": of_region | {"KEY_PREFIX": "other"},
        "function": of_region | {"KEY_FUNCTION": f"{__name__}.shouting_key"},
        "forever": of_region | {"TIMEOUT": None},
        "never": of_region | {"TIMEOUT": 0},
        "loud": of_region | {"OPTIONS": of_region["OPTIONS"] | {"on_error": "raise"}},
        "named": of_region | {"OPTIONS": of_region["OPTIONS"] | {"namespace": "named", "local": 100}},
        "plain": of_region | {"OPTIONS": of_region["OPTIONS"] | {"serializer": None}},
    }
    with override_settings(CACHES=configured):
        yield caches


@pytest.fixture
def default(site: Any) -> SharedMemoryCache:
    return site["default"]


def seconds_left(cache: SharedMemoryCache, key: str) -> float | None:
    return cache._region.cache.ttl(cache.make_key(key))


class Thing:
    """What only pickle can store."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Thing) and other.name == self.name


VALUES = [
    "text", "", "Iñtërnâtiônàlizætiøn", b"bytes", 7, -1, 2**80, 1.5, True, None, [1, [2]], (1, 2), {"a": {"b": 1}}, {1, 2},
    datetime.date(2026, 1, 2), datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc), Thing("a"), Thing, len,
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_any_picklable_value_comes_back_equal_and_of_its_type(default: SharedMemoryCache, value: Any) -> None:
    default.set("key", value)
    assert default.get("key", "default") == value
    assert type(default.get("key", "default")) is type(value)
    assert default.get_many(["key"]) == {"key": value}


def test_each_get_gives_a_new_object(default: SharedMemoryCache) -> None:
    default.set("key", {"list": [1]})
    default.get("key")["list"].append(2)
    assert default.get("key") == {"list": [1]}


def test_text_marked_as_safe_stays_safe(default: SharedMemoryCache) -> None:
    default.set("key", mark_safe("<b>"))
    assert type(default.get("key")) is SafeString


def test_what_cannot_be_pickled_raises(default: SharedMemoryCache) -> None:
    default.set("key", "before")
    with pytest.raises((AttributeError, TypeError)):
        default.set("key", lambda: None)
    assert default.get("key") == "before"


def test_a_missing_key_gives_the_default_and_none_is_a_value(default: SharedMemoryCache) -> None:
    assert default.get("key") is None
    assert default.get("key", "default") == "default"
    default.set("key", None)
    assert default.get("key", "default") is None
    assert default.has_key("key")


def test_add_stores_only_what_is_missing(default: SharedMemoryCache) -> None:
    assert default.add("key", 1) is True
    assert default.add("key", 2) is False
    assert default.get("key") == 1


def test_has_key_and_in(default: SharedMemoryCache) -> None:
    assert not default.has_key("key") and "key" not in default
    default.set("key", 0)
    assert default.has_key("key") and "key" in default
    assert not default.has_key("key", version=9)


def test_delete_says_whether_the_key_was_there(default: SharedMemoryCache) -> None:
    default.set("key", 1)
    assert default.delete("key") is True
    assert default.delete("key") is False


def test_incr_and_decr_count_and_need_the_key(default: SharedMemoryCache) -> None:
    default.set("key", 41, timeout=50)
    assert default.incr("key") == 42
    assert default.incr("key", 10) == 52
    assert default.decr("key", 2) == 50
    assert default.incr("key", -60) == -10
    assert default.get("key") == -10
    assert (seconds_left(default, "key") or 0) <= 50.1
    for count in (default.incr, default.decr):
        with pytest.raises(ValueError, match="'missing' not found"):
            count("missing")
    default.set("text", "x")
    with pytest.raises(TypeError):
        default.incr("text")


def test_timeouts_are_seconds_none_is_for_ever_and_zero_is_expired(default: SharedMemoryCache) -> None:
    default.set("key", 1)
    assert 299 < (seconds_left(default, "key") or 0) <= 300.1
    default.set("key", 1, 50)
    assert 49 < (seconds_left(default, "key") or 0) <= 50.1
    default.set("key", 1, timeout=5.5)
    assert (seconds_left(default, "key") or 0) <= 5.6
    default.set("key", 1, 60 * 60 * 24 * 60)
    assert (seconds_left(default, "key") or 0) > 60 * 60 * 24 * 59
    default.set("key", 1, None)
    assert seconds_left(default, "key") is None
    for expired in (0, -1, -100.0):
        default.set("key", 1, expired)
        assert "key" not in default
        assert default.add("key", 1, expired) is True
        assert "key" not in default
        assert default.set_many({"key": 1}, expired) == []
        assert "key" not in default


def test_what_has_expired_is_gone(default: SharedMemoryCache) -> None:
    default.set("key", 1, timeout=0.01)
    time.sleep(0.05)
    assert default.get("key") is None
    assert default.add("key", 2) is True


def test_the_default_timeout_is_the_setting(site: Any) -> None:
    site["forever"].set("key", 1)
    assert seconds_left(site["forever"], "key") is None
    site["never"].set("key", 1)
    assert site["never"].get("key") is None


def test_touch_gives_a_new_timeout(default: SharedMemoryCache) -> None:
    assert default.touch("key") is False
    default.set("key", 1, 10)
    assert default.touch("key", 50) is True
    assert 49 < (seconds_left(default, "key") or 0) <= 50.1
    assert default.touch("key") is True
    assert 299 < (seconds_left(default, "key") or 0) <= 300.1
    assert default.touch("key", None) is True
    assert seconds_left(default, "key") is None
    assert default.touch("key", 0) is True
    assert default.touch("key") is False


def test_many_keys_at_once(default: SharedMemoryCache) -> None:
    assert default.set_many({"a": 1, "b": None, "c": Thing("c")}, timeout=50) == []
    assert 49 < (seconds_left(default, "b") or 0) <= 50.1
    assert default.get_many(["a", "b", "c", "d"]) == {"a": 1, "b": None, "c": Thing("c")}
    assert default.get_many(letter for letter in "ad") == {"a": 1}
    assert default.get_many([]) == {} and default.set_many({}) == []
    assert default.delete_many(["a", "d"]) is None  # type: ignore[func-returns-value]
    default.delete_many(iter("b"))
    assert default.get_many("abcd") == {"c": Thing("c")}


def test_get_or_set_keeps_what_is_there(default: SharedMemoryCache) -> None:
    assert default.get_or_set("key", lambda: "made") == "made"
    assert default.get_or_set("key", "other") == "made"
    assert default.get_or_set("none", None) is None
    assert default.get_or_set("versioned", 1, version=2) == 1
    assert default.get("versioned") is None


def test_versions_are_apart(site: Any) -> None:
    first, second = site["default"], site["second"]
    first.set("key", 1)
    assert second.get("key") is None
    assert second.get("key", version=1) == 1
    second.set_many({"key": 2, "other": 3})
    assert first.get("key") == 1
    assert first.get_many(["key", "other"], version=2) == {"key": 2, "other": 3}
    assert first.incr("key", version=2) == 3
    assert first.add("key", 9, version=2) is False
    assert first.touch("key", 50, version=3) is False
    first.delete_many(["key"], version=2)
    assert second.get("key") is None and first.get("key") == 1
    assert first.delete("other", version=2) is True


def test_the_version_of_a_key_can_be_moved(default: SharedMemoryCache) -> None:
    default.set("key", 1)
    assert default.incr_version("key") == 2
    assert default.get("key") is None and default.get("key", version=2) == 1
    assert default.decr_version("key", version=2) == 1
    assert default.get("key") == 1
    for move in (default.incr_version, default.decr_version):
        with pytest.raises(ValueError, match="not found"):
            move("missing")


def test_prefixes_and_key_functions_make_the_keys(site: Any) -> None:
    site["default"].set("key", 1)
    site["prefix"].set("key", 2)
    site["function"].set("key", 3)
    assert [site[name].get("key") for name in ("default", "prefix", "function")] == [1, 2, 3]
    region = site["default"]._region.cache
    assert sorted(region) == ["/1/KEY", ":1:key", "other:1:key"]


def test_clear_empties_the_region_and_close_does_nothing(site: Any) -> None:
    site["default"].set("key", 1)
    site["prefix"].set("key", 1)
    site["default"].close()
    assert site["default"].get("key") == 1
    site["default"].clear()
    assert "key" not in site["default"] and "key" not in site["prefix"]


def test_an_alias_with_a_namespace_is_apart_from_the_others(site: Any) -> None:
    default, named = site["default"], site["named"]
    default.set("key", "text of the default")
    named.set("key", "text of the named")
    assert (default.get("key"), named.get("key")) == ("text of the default", "text of the named")
    assert named.get("key") is named.get("key")
    named.clear()
    assert named.get("key") is None and default.get("key") == "text of the default"
    named.set("key", [1])
    default.clear()
    assert named.get("key") == [1]


@pytest.mark.parametrize("key", ["a" * 251, "with space", "with\nbreak", "a" * 250 + "清"])
def test_keys_that_memcached_refuses_warn_and_work(default: SharedMemoryCache, key: str) -> None:
    for operation in (default.get, default.delete, default.has_key):
        with pytest.warns(CacheKeyWarning):
            operation(key)
    with pytest.warns(CacheKeyWarning):
        assert default.set_many({key: 1}) == []
    with pytest.warns(CacheKeyWarning):
        assert default.get_many([key]) == {key: 1}


def test_the_asynchronous_methods_do_the_same_in_the_thread_that_awaits(default: SharedMemoryCache) -> None:
    async def use() -> None:
        assert await default.aget("key", "default") == "default"
        await default.aset("key", 1)
        assert await default.aadd("key", 2) is False and await default.aadd("new", 2) is True
        assert await default.aincr("key") == 2 and await default.adecr("key", 5) == -3
        with pytest.raises(ValueError):
            await default.aincr("missing")
        assert await default.atouch("key", 50) is True
        assert await default.ahas_key("key") is True
        assert await default.aset_many({"a": 1, "b": 2}, 50) == []
        assert await default.aget_many(["a", "b", "c"]) == {"a": 1, "b": 2}
        await default.adelete_many(["a", "b"])
        assert await default.aget_many("ab") == {}
        assert await default.aget_or_set("made", lambda: 5) == 5
        assert await default.aincr_version("made") == 2 and await default.aget("made", version=2) == 5
        assert await default.adecr_version("made", version=2) == 1
        assert await default.adelete("key") is True
        await default.aclose()
        await default.aclear()
        assert await default.aget("new") is None

    before = threading.active_count()
    asyncio.run(use())
    assert threading.active_count() == before


# --- failures -----------------------------------------------------------------------------------


def test_a_failure_is_a_miss_counted_and_logged_once(default: SharedMemoryCache, caplog: pytest.LogCaptureFixture) -> None:
    large = bytes(3 << 20)
    default.set("key", "before")
    with caplog.at_level(logging.WARNING, logger="pycache.adapters"):
        default.set("key", large)
        assert default.get("key") is None, "the old value must not stay"
        assert default.add("key", large) is False
        assert default.set_many({"large": large, "small": 1}) == ["large"]
    assert default.get("small") == 1
    assert sum(default.failures.values()) == 2
    (record,) = caplog.records
    assert "'site'" in record.getMessage() and "ValueTooLarge" in record.getMessage()


def test_failures_raise_where_that_is_asked_for(site: Any) -> None:
    with pytest.raises(ValueTooLarge):
        site["loud"].set("key", bytes(3 << 20))
    assert site["loud"].set_many({"key": bytes(3 << 20)}) == ["key"], "set_many says it in its own way"
    assert site["loud"].failures == {}


def test_a_region_that_was_destroyed_is_made_anew(default: SharedMemoryCache, directory: str) -> None:
    default.set("key", 1)
    Cache("site", dir=directory).destroy()
    for _ in range(2):
        default.set("key", 2)
    assert default.get("key") == 2
    assert Cache("site", dir=directory)[":1:key"] == 2


def test_a_region_that_cannot_be_opened_is_a_cache_without_hits(directory: str) -> None:
    missing = os.path.join(directory, "not-there")
    cache = SharedMemoryCache("site", {"OPTIONS": {"dir": missing, "read_only": True}})
    cache.set("key", 1)
    assert cache.get("key", 5) == 5 and cache.get_many(["key"]) == {} and "key" not in cache
    assert not cache.touch("key") and not cache.delete("key") and not cache.add("key", 1)
    cache.delete_many(["key"])
    cache.clear()
    with pytest.raises(ValueError, match="not found"):
        cache.incr("key")
    assert sum(cache.failures.values()) == 10


def test_a_full_region_that_does_not_evict_keeps_nothing_new(directory: str) -> None:
    cache = SharedMemoryCache("full", {"OPTIONS": {"size": "1MiB", "dir": directory, "evict": False}})
    failed = cache.set_many({f"key{number}": bytes(10_000) for number in range(200)})
    assert failed and failed[-1] == "key199"
    assert cache.get("key0") == bytes(10_000) and cache.get("key199") is None
    cache.set("key0", bytes(200_000))
    assert cache.get("key0") is None


@pytest.mark.parametrize("options", [{"sise": "4MiB"}, {"on_error": "log"}])
def test_options_that_there_are_not_are_a_mistake_of_the_settings(options: dict[str, Any]) -> None:
    with pytest.raises(ImproperlyConfigured):
        SharedMemoryCache("site", {"OPTIONS": options})
    with pytest.raises(ImproperlyConfigured):
        SharedMemoryCache("", {})


def test_options_compress_and_sign_what_django_stores(directory: str) -> None:
    secret = "sixteen bytes or more"
    options = {"size": "2MiB", "dir": directory, "compress": "zlib", "compress_min": 100, "secret": secret}
    cache = SharedMemoryCache("signed", {"OPTIONS": options})
    cache.set("page", {"html": "<p>" * 5000})
    assert cache.get("page") == {"html": "<p>" * 5000}
    region = Cache("signed", dir=directory, secret=None)
    with pytest.raises(BadSignature):
        region[":1:page"]
    assert region.stats()["live_bytes"] < 5000
    # Somebody who can write the region, but does not know the secret.
    region[":1:page"] = "forged"
    assert cache.get("page", "nothing") == "nothing"
    assert cache.failures == {"bad_signature": 1}


def test_options_of_other_backends_for_their_culling_mean_nothing(directory: str) -> None:
    cache = SharedMemoryCache("cull", {"OPTIONS": {"dir": directory, "size": "2MiB", "MAX_ENTRIES": 3, "CULL_FREQUENCY": 2}})
    cache.set_many({f"key{number}": number for number in range(100)})
    assert len(cache.get_many(f"key{number}" for number in range(100))) == 100


def test_without_pickle_plain_types_only_are_stored(site: Any) -> None:
    site["plain"].set("key", {"plain": [1, 2.5, "text"]})
    assert site["plain"].get("key") == {"plain": [1, 2.5, "text"]}
    with pytest.raises(UnsupportedType):
        site["plain"].set("key", Thing("a"))
    site["default"].set("pickled", Thing("a"))
    assert site["plain"].get("pickled", "default") == "default", "what was pickled is a miss"
    assert sum(site["plain"].failures.values()) == 1


# --- processes, threads, and what Django builds on a cache ----------------------------------------


def other_process(directory: str) -> None:
    cache = SharedMemoryCache("site", {"OPTIONS": {"dir": directory}})
    for _ in range(500):
        cache.incr("count")
    cache.set("thing", Thing(cache.get("greeting")))


def test_processes_share_the_region(default: SharedMemoryCache, directory: str) -> None:
    default.set_many({"count": 0, "greeting": "hello"})
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=other_process, args=(directory,)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert default.get("count") == 1000
    assert default.get("thing") == Thing("hello")


def test_threads_have_backends_of_their_own_on_one_handle(site: Any) -> None:
    found: list[SharedMemoryCache] = []
    thread = threading.Thread(target=lambda: found.append(site["default"]))
    thread.start()
    thread.join()
    assert found[0] is not site["default"]
    assert found[0]._region.cache is site["default"]._region.cache


def test_sessions_live_in_the_cache(default: SharedMemoryCache) -> None:
    session = SessionStore()
    session["user"] = {"id": 7, "since": datetime.datetime(2026, 1, 2)}
    session.create()
    key = session.session_key
    again = SessionStore(session_key=key)
    assert again["user"] == {"id": 7, "since": datetime.datetime(2026, 1, 2)}
    assert again.exists(key)
    again.cycle_key()
    assert again.session_key != key and not again.exists(key)
    assert again["user"]["id"] == 7
    again.delete()
    assert SessionStore(session_key=again.session_key).load() == {}


def test_a_client_keeps_its_session(default: SharedMemoryCache) -> None:
    one, other = Client(), Client()
    assert [one.get("/visits").content for _ in range(3)] == [b"1", b"2", b"3"]
    assert other.get("/visits").content == b"1"


def test_cached_views_are_rendered_once(default: SharedMemoryCache) -> None:
    RENDERED.clear()
    answers = {Client().get("/page").content for _ in range(3)}
    assert answers == {b"page 1"} and RENDERED == ["/page"]
    assert Client().get("/page?other").content == b"page 2"
    default.clear()
    assert Client().get("/page").content == b"page 3"


def test_template_fragments_are_rendered_once(default: SharedMemoryCache) -> None:
    template = engines["django"].from_string("{% load cache %}{% cache 60 side name %}{{ text }}{% endcache %}")
    assert template.render({"name": "ann", "text": "<first>"}) == "&lt;first&gt;"
    assert template.render({"name": "ann", "text": "second"}) == "&lt;first&gt;"
    assert template.render({"name": "bob", "text": "second"}) == "second"
    default.delete(make_template_fragment_key("side", ["ann"]))
    assert template.render({"name": "ann", "text": "third"}) == "third"
