"""Values that are made anew while the old ones serve, and exceptions that are remembered."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import workers

from pycache import Cache, InvalidArgument, _flight
from pycache.testing import Clock

SPAWN = multiprocessing.get_context("spawn")


class NotFound(LookupError):
    """An exception of a module of its own."""


class Picky(LookupError):
    """One that is not made again from its args."""

    def __init__(self, number: int) -> None:
        super().__init__(f"number {number}")


class Numbers:
    """A function that returns 1, 2, ... or raises what it is told to, and counts its calls."""

    def __init__(self) -> None:
        self.calls = 0
        self.error: BaseException | None = None

    def __call__(self) -> int:
        self.calls += 1
        if self.error is not None:
            raise self.error
        return self.calls


Ask = Callable[..., Any]


@pytest.fixture(params=["get_or_set", "aget_or_set", "coroutine", "memoize", "memoize coroutine"])
def ask(request: pytest.FixtureRequest, cache_shm: Cache) -> Ask:
    """Each of the ways to ask for the value of ``key``, as a function of what makes it and its options."""
    way: str = request.param
    decorated: dict[Any, Any] = {}

    def of(function: Callable[[], Any], **options: Any) -> Any:
        async def coroutine() -> Any:
            await asyncio.sleep(0)
            return function()

        if way == "get_or_set":
            return cache_shm.get_or_set("key", function, **options)
        if way == "aget_or_set":
            return asyncio.run(cache_shm.aget_or_set("key", function, **options))
        if way == "coroutine":
            return asyncio.run(cache_shm.aget_or_set("key", coroutine, **options))
        if function not in decorated:
            is_task = way == "memoize coroutine"
            decorated[function] = cache_shm.memoize(prefix="key", **options)(coroutine if is_task else lambda: function())
        found = decorated[function]()
        return asyncio.run(found) if way == "memoize coroutine" else found

    return of


# --- stale --------------------------------------------------------------------------------------


def test_a_stale_value_is_made_anew_and_one_that_has_ended_too(ask: Ask, cache_shm_clock: Clock) -> None:
    make = Numbers()
    assert ask(make, ttl=60, stale_ttl=30) == 1
    cache_shm_clock.advance(59.9)
    assert ask(make, ttl=60, stale_ttl=30) == 1
    cache_shm_clock.advance(0.1)
    assert [ask(make, ttl=60, stale_ttl=30), ask(make, ttl=60, stale_ttl=30), make.calls] == [2, 2, 2]
    cache_shm_clock.advance(90)
    assert ask(make, ttl=60, stale_ttl=30) == 3


def test_a_stale_value_serves_until_its_end_while_the_function_raises(
    ask: Ask, cache_shm: Cache, cache_shm_clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    make = Numbers()
    assert ask(make, ttl=60, stale_ttl=30) == 1
    make.error = OSError("the source is down")
    cache_shm_clock.advance(89.9)
    with caplog.at_level(logging.WARNING, "pycache"):
        assert [ask(make, ttl=60, stale_ttl=30) for _ in range(3)] == [1, 1, 1]
    assert cache_shm.failures == {"renewal_failed": 3} and make.calls == 4
    assert len(caplog.records) == 1 and "the source is down" in caplog.text and "Traceback" in caplog.text
    cache_shm_clock.advance(0.1)
    with pytest.raises(OSError, match="the source is down"):
        ask(make, ttl=60, stale_ttl=30)
    make.error = None
    assert ask(make, ttl=60, stale_ttl=30) == 6


def test_on_error_raise_raises_what_the_function_raised(ask: Ask, cache_shm_clock: Clock) -> None:
    make = Numbers()
    ask(make, ttl=60, stale_ttl=30, on_error="raise")
    make.error = OSError()
    cache_shm_clock.advance(60)
    with pytest.raises(OSError):
        ask(make, ttl=60, stale_ttl=30, on_error="raise")


def test_the_default_ttl_of_the_cache_has_a_stale_part_too(cache_shm_clock: Clock) -> None:
    make = Numbers()
    with Cache("other", "2MB", ttl=60) as cache:
        assert cache.get_or_set("key", make, stale_ttl=30) == 1
        assert 89 < (cache.ttl("key") or 0) <= 90.1
        cache_shm_clock.advance(60)
        assert cache.get("key") == 1 and cache.get_or_set("key", make, stale_ttl=30) == 2


def test_while_one_thread_makes_a_value_anew_the_others_get_the_old_one(cache_shm: Cache, cache_shm_clock: Clock) -> None:
    make, begun, go = Numbers(), threading.Event(), threading.Event()
    assert cache_shm.get_or_set("key", make, 60, stale_ttl=30) == 1
    cache_shm_clock.advance(60)

    def slowly() -> str:
        begun.set()
        assert go.wait(workers.PATIENCE)
        return "new"

    said: list[Any] = []
    thread = threading.Thread(target=lambda: said.append(cache_shm.get_or_set("key", slowly, 60, stale_ttl=30)))
    thread.start()
    assert begun.wait(workers.PATIENCE)
    assert [cache_shm.get_or_set("key", make, 60, stale_ttl=30) for _ in range(3)] == [1, 1, 1]
    assert asyncio.run(cache_shm.aget_or_set("key", make, 60, stale_ttl=30)) == 1
    go.set()
    thread.join(workers.PATIENCE)
    assert said == ["new"] and cache_shm["key"] == "new" and make.calls == 1


def test_of_eight_processes_one_makes_a_stale_value_anew(cache_shm: Cache, cache_shm_clock: Clock) -> None:
    cache_shm.set("key", "old", ttl=90)
    cache_shm_clock.advance(60)
    processes = [SPAWN.Process(target=workers.renew_once, args=(cache_shm, 8)) for _ in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(workers.PATIENCE)
    assert [process.exitcode for process in processes] == [0] * 8
    assert (cache_shm["renewed"], cache_shm["served old"], cache_shm["key"]) == (1, 7, "new")


def test_a_renewer_that_is_killed_is_followed_by_another(cache_shm: Cache, cache_shm_clock: Clock) -> None:
    cache_shm.set("key", "old", ttl=90)
    cache_shm_clock.advance(60)
    renewer = SPAWN.Process(target=workers.renew_until_killed, args=(cache_shm,))
    renewer.start()
    workers.wait_for(cache_shm, "renews", True)
    assert cache_shm.get_or_set("key", lambda: "mine", 60, stale_ttl=30) == "old"
    renewer.kill()
    renewer.join(workers.PATIENCE)
    deadline = time.monotonic() + workers.PATIENCE
    while cache_shm.get_or_set("key", lambda: "mine", 60, stale_ttl=30) == "old" and time.monotonic() < deadline:
        pass
    assert cache_shm["key"] == "mine"


def test_tasks_of_a_loop_get_the_old_value_while_one_makes_it_anew(cache_shm: Cache, cache_shm_clock: Clock) -> None:
    cache_shm.set("key", "old", ttl=90)
    cache_shm_clock.advance(60)

    async def work() -> tuple[list[str], str]:
        begun, go = asyncio.Event(), asyncio.Event()

        async def make() -> str:
            begun.set()
            await go.wait()
            return "new"

        def ask() -> Any:
            return cache_shm.aget_or_set("key", make, 60, stale_ttl=30)

        renewer = asyncio.ensure_future(ask())
        await begun.wait()
        old = [await ask(), await ask()]
        go.set()
        return old, await renewer

    assert asyncio.run(work()) == (["old", "old"], "new")


def test_what_was_deleted_or_written_meanwhile_is_not_overwritten(cache_shm: Cache, cache_shm_clock: Clock) -> None:
    def during(step: Callable[[], Any]) -> Any:
        cache_shm.set("key", "old", ttl=90)
        cache_shm_clock.advance(60)
        return cache_shm.get_or_set("key", lambda: step() and "made", 60, stale_ttl=30)

    assert during(lambda: cache_shm.delete("key")) == "made" and "key" not in cache_shm
    assert during(lambda: cache_shm.set("key", "written") or True) == "made" and cache_shm["key"] == "written"


def test_a_function_that_asks_for_its_own_stale_key_gets_the_old_value(cache_shm: Cache, cache_shm_clock: Clock) -> None:
    def ask() -> Any:
        return cache_shm.get_or_set("key", lambda: ("new", ask()), 60, stale_ttl=30)

    async def aask() -> Any:
        async def make() -> Any:
            return "new", await aask()

        return await cache_shm.aget_or_set("key", make, 60, stale_ttl=30)

    for asked in (ask, lambda: asyncio.run(aask())):
        cache_shm.set("key", "old", ttl=90)
        cache_shm_clock.advance(60)
        assert asked() == ("new", "old")


def test_who_gets_the_lease_after_another_has_renewed_the_value_does_not_make_it_again(
    ask: Ask, cache_shm: Cache, cache_shm_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = Numbers()
    assert ask(make, ttl=60, stale_ttl=30) == 1
    cache_shm_clock.advance(60)
    for name in ("_board", "_aboard"):
        real = getattr(_flight, name)

        def overtaken(cache: Cache, key: Any, *rest: Any, real: Any = real) -> Any:
            cache.set(key, "theirs", 90)
            return real(cache, key, *rest)

        monkeypatch.setattr(_flight, name, overtaken)
    assert ask(make, ttl=60, stale_ttl=30) == "theirs" and make.calls == 1


# --- early --------------------------------------------------------------------------------------


def test_a_value_that_took_long_is_made_anew_before_its_end(ask: Ask, cache_shm: Cache, cache_shm_clock: Clock) -> None:
    calls = 0

    def make() -> int:
        nonlocal calls
        calls += 1
        time.sleep(0.005)
        return calls

    # With so great a beta the 5 ms that it took count for days; without one for nothing.
    ask(make, ttl=60, early=1e9)
    assert ask(make, ttl=60, early=1e9) == 2
    key = "key" if "key" in cache_shm else next(iter(cache_shm))
    assert 59 < (cache_shm.ttl(key) or 0) <= 60.1
    assert cache_shm.get_or_set(key, make, 60) == 2
    assert cache_shm.get_or_set(key, make, 60, early=1e-9) == 2


def test_early_counts_from_where_the_stale_part_begins(cache_shm: Cache, cache_shm_clock: Clock) -> None:
    make = Numbers()
    options: dict[str, Any] = {"ttl": 60, "stale_ttl": 30, "early": 1e-9}
    assert cache_shm.get_or_set("key", make, **options) == 1
    cache_shm_clock.advance(59)
    assert cache_shm.get_or_set("key", make, **options) == 1
    cache_shm_clock.advance(1)
    assert cache_shm.get_or_set("key", make, **options) == 2


# --- negative -----------------------------------------------------------------------------------


def test_an_exception_is_remembered_for_its_time(ask: Ask, cache_shm: Cache, cache_shm_clock: Clock) -> None:
    make = Numbers()
    make.error = NotFound("user", 7)
    for _ in range(3):
        with pytest.raises(NotFound) as raised:
            ask(make, ttl=60, negative_ttl=5, negative=LookupError)
        assert type(raised.value) is NotFound and raised.value.args == ("user", 7)
    assert make.calls == 1 and cache_shm.get("key") is None and "key" not in cache_shm
    make.error = None
    cache_shm_clock.advance(5)
    assert ask(make, ttl=60, negative_ttl=5, negative=LookupError) == 2
    assert not cache_shm.failures


def test_other_exceptions_are_not_remembered(ask: Ask) -> None:
    make = Numbers()
    make.error = ValueError()
    for _ in range(2):
        with pytest.raises(ValueError):
            ask(make, ttl=60, negative_ttl=5, negative=(LookupError, OSError))
    assert make.calls == 2


def test_an_exception_that_cannot_be_made_again_is_not_remembered(ask: Ask, cache_shm: Cache) -> None:
    class Local(LookupError):
        """One that no module has."""

    make = Numbers()
    for error in (Local(), Picky(7), LookupError(object())):
        make.error = error
        for _ in range(2):
            with pytest.raises(type(error)) as raised:
                ask(make, ttl=60, negative_ttl=5, negative=LookupError)
            assert raised.value is error
    assert make.calls == 6 and sum(cache_shm.failures.values()) == 6


def test_other_processes_get_what_was_remembered(cache_shm: Cache) -> None:
    def make() -> None:
        raise workers.Absent("key", (1, b"2"))

    with pytest.raises(workers.Absent):
        cache_shm.get_or_set("key", make, negative_ttl=60, negative=workers.Absent)
    process = SPAWN.Process(target=workers.meet_absence, args=(cache_shm, "key"))
    process.start()
    process.join(workers.PATIENCE)
    assert process.exitcode == 0 and cache_shm["met"] == ("Absent", ("key", (1, b"2")))


def test_who_waits_for_a_leader_gets_its_exception(cache_shm: Cache) -> None:
    begun, go = threading.Event(), threading.Event()
    calls: list[int] = []
    said: list[type] = []

    def make() -> None:
        calls.append(1)
        begun.set()
        assert go.wait(workers.PATIENCE)
        raise NotFound

    def work() -> None:
        try:
            cache_shm.get_or_set("key", make, negative_ttl=60, negative=NotFound)
        except NotFound as error:
            said.append(type(error))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert begun.wait(workers.PATIENCE)
    go.set()
    for thread in threads:
        thread.join(workers.PATIENCE)
    assert said == [NotFound] * 4 and len(calls) == 1


def test_a_remembered_class_is_never_loaded_and_never_another(cache_shm: Cache) -> None:
    make = Numbers()
    for found in (("os", "system", ("true",)), ("nowhere", "Absent", ()), ("builtins", "ValueError", ()), 5, ("a",)):
        cache_shm.delete("key")
        cache_shm["key\0raised"] = found
        before = make.calls
        assert cache_shm.get_or_set("key", make, negative_ttl=60, negative=LookupError) == before + 1


def test_a_listed_exception_ends_a_stale_value(ask: Ask, cache_shm: Cache, cache_shm_clock: Clock) -> None:
    make = Numbers()
    options: dict[str, Any] = {"ttl": 60, "stale_ttl": 30, "negative_ttl": 5, "negative": NotFound}
    assert ask(make, **options) == 1
    make.error = NotFound()
    cache_shm_clock.advance(60)
    for _ in range(2):
        with pytest.raises(NotFound):
            ask(make, **options)
    assert make.calls == 2 and not cache_shm.failures


def test_clear_and_refresh_forget_an_exception(cache_shm: Cache) -> None:
    make = Numbers()
    make.error = NotFound()
    asked = cache_shm.memoize(prefix="f", negative_ttl=60, negative=NotFound)(lambda: make())
    with pytest.raises(NotFound):
        asked()
    asked.cache_clear()
    make.error = None
    assert asked() == 2
    make.error = NotFound()
    cache_shm.delete(asked.cache_key())
    with pytest.raises(NotFound):
        asked()
    make.error = None
    assert asked.refresh() == 4
    cache_shm.delete(asked.cache_key())
    assert asked() == 5


@pytest.mark.parametrize("key", ["key", 7, b"key", ("key", 7), "k" * 65_535])
@pytest.mark.parametrize("remove", [Cache.delete, Cache.__delitem__, Cache.pop, lambda cache, key: cache.delete_many([key])])
def test_whoever_removes_a_key_removes_its_exception(cache_shm: Cache, key: Any, remove: Any) -> None:
    make = Numbers()
    for stores in (True, False):
        make.error = NotFound()
        for _ in range(2):
            with pytest.raises(NotFound):
                cache_shm.get_or_set(key, make, negative_ttl=60, negative=NotFound)
        make.error = None
        if stores:
            assert cache_shm.add(key, "another")
            remove(cache_shm, key)
        else:
            cache_shm.delete(key)
        calls = make.calls
        assert cache_shm.get_or_set(key, make, negative_ttl=60, negative=NotFound) == calls + 1
        cache_shm.clear()


# --- arguments ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"stale_ttl": 0}, ValueError), ({"stale_ttl": -1}, ValueError), ({"stale_ttl": float("nan")}, ValueError),
        ({"stale_ttl": "5"}, TypeError), ({"early": 0}, ValueError), ({"early": float("inf")}, ValueError),
        ({"early": "1"}, TypeError), ({"ttl": None, "stale_ttl": 5}, InvalidArgument), ({"negative_ttl": 5}, ValueError),
        ({"negative": LookupError}, ValueError), ({"negative_ttl": 5, "negative": "KeyError"}, TypeError),
        ({"negative_ttl": 5, "negative": BaseException}, TypeError), ({"negative_ttl": 0, "negative": KeyError}, ValueError),
    ],
)  # fmt: skip
def test_options_that_make_no_sense_are_refused(cache_shm: Cache, options: dict[str, Any], error: type) -> None:
    given = {"ttl": 60, **options}
    with pytest.raises(error):
        cache_shm.get_or_set("key", lambda: 1, **given)
    with pytest.raises(error):
        asyncio.run(cache_shm.aget_or_set("key", lambda: 1, **given))
    with pytest.raises(error):
        cache_shm.memoize(prefix="f", **given)
    assert "key" not in cache_shm


def test_what_only_a_function_can_do_needs_one(cache_shm: Cache) -> None:
    for options in ({"stale_ttl": 5}, {"early": 1}, {"negative_ttl": 5, "negative": KeyError}):
        with pytest.raises(TypeError, match="need a function"):
            cache_shm.get_or_set("key", 5, 60, **options)
        with pytest.raises(TypeError, match="need a function"):
            asyncio.run(cache_shm.aget_or_set("key", 5, 60, **options))
