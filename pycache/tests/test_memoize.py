"""memoize: which calls are the same, what is kept, and what never fails."""

from __future__ import annotations

import asyncio
import enum
import gc
import inspect
import logging
import subprocess
import sys
import weakref
from typing import Any

import pytest

from pycache import Cache, UnsupportedType

COLOUR = enum.Enum("COLOUR", "RED BLUE")


def test_the_same_call_has_one_value_however_it_is_written(cache: Cache) -> None:
    calls: list[tuple[Any, ...]] = []

    @cache.memoize(ttl=60)
    def add(left: int, right: int = 2, *rest: int, scale: int = 1, **more: int) -> int:
        """Adds."""
        calls.append((left, right))
        return (left + right) * scale

    assert [add(1), add(1, 2), add(right=2, left=1), add(1, scale=1)] == [3] * 4
    assert calls == [(1, 2)] and add.cache_info() == (3, 1)
    different = {add.cache_key(1), add.cache_key(2), add.cache_key(1, 2, 3), add.cache_key(1, scale=3), add.cache_key(1, x=3),
                 add.cache_key(1, y=3)}
    assert len(different) == 6
    assert add.cache_key(1, x=1, y=2) == add.cache_key(1, y=2, x=1)
    assert add.__doc__ == "Adds." and add.__wrapped__(1) == 3 and list(inspect.signature(add).parameters)[0] == "left"
    assert cache[add.cache_key(1)] == 3 and (cache.ttl(add.cache_key(1)) or 0) > 59
    with pytest.raises(TypeError):
        add()  # type: ignore[call-arg]


def test_a_none_is_a_value(cache: Cache) -> None:
    calls: list[int] = []

    @cache.memoize
    def nothing() -> None:
        calls.append(1)

    nothing(), nothing()
    assert calls == [1]


@pytest.mark.parametrize("value", [1, "1", b"1", None, 1.5, (1, 2), [1, 2], {1, 2}, {1: 2}, COLOUR.RED, COLOUR.BLUE, int, 2**80,
                                   float("nan"), "(1,2)", "é\n", (1, (2,)), (1, 2, ())])
def test_every_argument_has_a_key_of_its_own(cache: Cache, value: Any) -> None:
    @cache.memoize
    def f(value: Any) -> Any:
        return None

    others = [1, "1", b"1", None, 1.5, (1, 2), [1, 2], {1, 2}, {1: 2}, COLOUR.RED, COLOUR.BLUE, int, 2**80, float("nan"), "(1,2)",
              "é\n", (1, (2,)), (1, 2, ())]
    assert sum(f.cache_key(other) == f.cache_key(value) for other in others) == 1


def test_typed_keeps_equal_numbers_apart(cache: Cache) -> None:
    loose, strict = cache.memoize(prefix="a")(lambda x: x), cache.memoize(prefix="b", typed=True)(lambda x: x)
    assert len({loose.cache_key(x) for x in (1, 1.0, True)}) == 1
    assert len({strict.cache_key(x) for x in (1, 1.0, True)}) == 3
    assert len({loose.cache_key((x, 5)) for x in (1, 1.0, True)}) == 1


def test_long_arguments_have_short_keys(cache: Cache) -> None:
    f = cache.memoize(prefix="f")(lambda x: len(x))
    assert f("x" * 100_000) == 100_000 and len(f.cache_key("x" * 100_000)) < 100
    assert f.cache_key("x" * 100_000) != f.cache_key("x" * 99_999)


def test_keys_are_the_same_in_every_process() -> None:
    program = (
        "from pycache import Cache\n"
        "f = Cache(None, '2MB').memoize(prefix='f')(lambda **x: 1)\n"
        "print(f.cache_key(a={'x', 'y', 'z', 3.5}, b={'k': frozenset('abcdef')}, c=str))"
    )
    said = {subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True,
                           env={"PYTHONHASHSEED": str(seed)}).stdout for seed in range(3)}
    assert len(said) == 1 and said.pop().startswith("f(")


def test_arguments_without_a_key_call_the_function(cache: Cache, caplog: pytest.LogCaptureFixture) -> None:
    calls: list[object] = []

    @cache.memoize
    def f(value: object) -> int:
        calls.append(value)
        return len(calls)

    with caplog.at_level(logging.WARNING, "pycache"):
        assert [f(object()), f(object())] == [1, 2]
    assert cache.failures["unsupported_type"] == 2 and len(caplog.records) == 1
    strict = cache.memoize(prefix="s", on_error="raise")(lambda value: 1)
    with pytest.raises(UnsupportedType):
        strict(object())
    with pytest.raises(UnsupportedType):
        f.cache_key(object())


class Shelf:
    """What a test memoizes methods of."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __cache_key__(self) -> int:
        return self.number


def test_methods_are_kept_without_their_objects(cache: Cache) -> None:
    class Own(Shelf):
        @cache.memoize
        def book(self, title: str) -> str:
            return f"{self.number} {title}"

        @cache.memoize(ignore=("self",))
        def shared(self) -> int:
            return self.number

        @classmethod
        @cache.memoize
        def inner(cls) -> str:
            return cls.__name__

        @cache.memoize()
        @classmethod
        def outer(cls) -> str:
            return cls.__name__

        @cache.memoize
        @staticmethod
        def alone(number: int) -> int:
            return number

        @cache.memoize
        @classmethod
        def bare(cls) -> str:
            return cls.__name__

        @cache.memoize
        @property
        def label(self) -> str:
            return f"label {self.number}"

        @property
        @cache.memoize
        def title(self) -> str:
            return f"shelf {self.number}"

    one, two = Own(1), Own(2)
    for _ in range(2):
        assert (one.book("a"), two.book("a")) == ("1 a", "2 a")
        assert (one.shared(), two.shared()) == (1, 1)
        assert (one.inner(), Own.outer(), one.alone(3), two.title) == ("Own", "Own", 3, "shelf 2")
        assert (one.bare(), Own.bare(), two.label) == ("Own", "Own", "label 2")
    assert Own.book.cache_info() == (2, 2)
    assert Own.book.cache_key(one, "a") in cache
    gone = weakref.ref(one)
    del one
    gc.collect()
    assert gone() is None


def test_clear_bypass_refresh_and_version(cache: Cache) -> None:
    number = 0

    def count() -> int:
        nonlocal number
        number += 1
        return number

    f = cache.memoize(prefix="count")(count)
    other = cache.memoize(prefix="count", version=2)(count)
    assert (f(), f(), f.bypass(), f(), f.refresh(), f(), other(), f()) == (1, 1, 2, 1, 3, 3, 4, 3)
    f.cache_clear()
    assert f.cache_info() == (0, 0) and f() == 5 and other() == 4


def test_what_has_no_name_or_no_value_is_refused(cache: Cache) -> None:
    with pytest.raises(ValueError, match="prefix"):
        cache.memoize(lambda: 1)
    with pytest.raises(TypeError, match="generator"):
        @cache.memoize
        def numbers() -> Any:
            yield 1
    with pytest.raises(TypeError, match="no parameter"):
        cache.memoize(prefix="f", ignore=("x",))(lambda y: 1)
    with pytest.raises(TypeError):
        cache.memoize(colour="red")  # type: ignore[call-overload]


def test_coroutine_functions(cache: Cache) -> None:
    calls: list[int] = []

    @cache.memoize(ttl=60)
    async def double(number: int) -> int:
        calls.append(number)
        await asyncio.sleep(0.01)
        return 2 * number

    async def work() -> list[int]:
        made = await asyncio.gather(*(double(4) for _ in range(10)))
        return [*made, await double(number=4), await double.refresh(4), await double.bypass(4)]

    assert inspect.iscoroutinefunction(double)
    assert asyncio.run(work()) == [8] * 13
    assert calls == [4, 4, 4]
