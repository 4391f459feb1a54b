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
from hypothesis import given, settings
from hypothesis import strategies as st

from pycache import Cache, UnsupportedType

# A cache for generated tests, which have no fixtures of their own.
SHARED = Cache[Any, Any](None, "2MB")
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


def test_tags_are_made_of_the_arguments(roomy: Cache) -> None:
    cache = roomy
    calls: list[int] = []

    @cache.memoize(prefix="page", tags=lambda number, lang="en": [f"page:{number}", lang])
    def page(number: int, lang: str = "en") -> str:
        calls.append(number)
        return f"{number} {lang}"

    @cache.memoize(prefix="apage", tags=lambda number: None if number == 2 else f"page:{number}")
    async def apage(number: int) -> str:
        calls.append(number)
        return str(number)

    def ask() -> list[int]:
        calls.clear()
        assert [page(1), page(number=2), page(1, "de")] == ["1 en", "2 en", "1 de"]
        assert [asyncio.run(apage(1)), asyncio.run(apage(2))] == ["1", "2"]
        return list(calls)

    assert (ask(), ask()) == ([1, 2, 1, 1, 2], [])
    cache.evict_tag("page:1")
    assert (ask(), ask()) == ([1, 1, 1], [])
    cache.evict_tag("de")
    assert ask() == [1]
    page.refresh(2)
    cache.evict_tag("page:2")
    assert ask() == [2], "refreshed with its tags"
    page.cache_clear()
    assert ask() == [1, 2, 1], "beside the tag of the function"
    assert not cache.failures
    with pytest.raises(TypeError):
        cache.memoize(prefix="wrong", tags=lambda: 5)(lambda: 1)()


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


def signatures() -> list[Any]:
    """Functions of every kind of parameters."""

    def none() -> None: ...
    def one(a: Any) -> None: ...
    def two(a: Any, b: Any = 5) -> None: ...
    def texts(a: Any = "x", b: Any = None, c: Any = b"y", d: Any = 1.0) -> None: ...
    def keywords(a: Any, *, b: Any = 2, c: Any = (1,)) -> None: ...
    def needed(a: Any, *, b: Any) -> None: ...
    def positional(a: Any, b: Any = 3, /) -> None: ...
    def more(a: Any, **rest: Any) -> None: ...
    def shadow(a: Any, /, **rest: Any) -> None: ...
    def many(a: Any, *rest: Any) -> None: ...
    def changing(a: Any, b: Any = []) -> None: ...

    return [none, one, two, texts, keywords, needed, positional, more, shadow, many, changing]


VALUES = st.one_of(
    st.integers(), st.text(max_size=5), st.binary(max_size=5), st.none(), st.booleans(), st.floats(), st.text("'\"\\ a\n\x7f\x80é", max_size=4),
    st.sampled_from(["x" * 197, "x" * 198, "x" * 199, "x" * 5000, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, (1, "2"), ""]),
)  # fmt: skip


@settings(max_examples=400)
@given(
    function=st.sampled_from(signatures()),
    arguments=st.lists(VALUES, max_size=4),
    keywords=st.dictionaries(st.sampled_from("abcd"), VALUES, max_size=3),
    typed=st.booleans(),
    ignore=st.sampled_from([(), ("a",), ("b",)]),
)
def test_the_short_way_finds_what_the_long_way_stored_and_nothing_else(
    function: Any, arguments: list[Any], keywords: dict[str, Any], typed: bool, ignore: tuple[str, ...]
) -> None:
    parameters = inspect.signature(function).parameters
    memoized = SHARED.memoize(prefix="p", typed=typed, ignore=[name for name in ignore if name in parameters])(function)
    SHARED.clear()
    try:
        key = memoized.cache_key(*arguments, **keywords)
    except TypeError:
        with pytest.raises(TypeError):
            memoized(*arguments, **keywords)
        return
    # What only the right key has, and what any other call would find.
    SHARED[key] = "found"
    assert memoized(*arguments, **keywords) == "found" and memoized.cache_info() == (1, 0)
    SHARED[key + " "] = "other"
    del SHARED[key]
    assert memoized(*arguments, **keywords) is None and SHARED[key] is None


def test_hits_are_counted_whatever_way_they_are_found(cache: Cache) -> None:
    f = cache.memoize(prefix="f")(lambda value: value)
    for value in (1, "a", (1, 2), "a"):
        f(value), f(value=value)
    assert f.cache_info() == (5, 3)
    f.cache_clear()
    assert f.cache_info() == (0, 0)


def test_a_value_that_cannot_be_read_is_made_anew(directory: str) -> None:
    with Cache("a", size="2MB", dir=directory, serializer="pickle") as writer, Cache("a", dir=directory) as reader:
        f = reader.memoize(prefix="f")(lambda value: value)
        writer[f.cache_key(1)] = object()
        assert (f(1), f(1), reader.failures) == (1, 1, {"wrong_serializer": 1})
