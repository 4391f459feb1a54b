"""The decorators of cachetools over a cache as it is: it is a mutable mapping."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("cachetools", reason="cachetools is not installed")

import cachetools
from pycache import Cache, UnsupportedType


def test_functions_are_computed_once_under_a_key_of_plain_types(cache: Cache) -> None:
    calls: list[int] = []

    @cachetools.cached(cache, key=lambda number: ("double", number))
    def double(number: int) -> int:
        calls.append(number)
        return 2 * number

    assert [double(2), double(2), double(3)] == [4, 4, 6] and calls == [2, 3]
    assert cache["double", 2] == 4


def test_methods_share_what_their_key_says(cache: Cache) -> None:
    class Page:
        rendered = 0

        def __init__(self, name: str) -> None:
            self.name = name

        @cachetools.cachedmethod(lambda self: cache, key=lambda self: ("page", self.name))
        def render(self) -> str:
            Page.rendered += 1
            return f"<{self.name}>"

    assert [Page("a").render(), Page("a").render(), Page("b").render()] == ["<a>", "<a>", "<b>"]
    assert Page.rendered == 2


def test_a_value_that_is_too_large_is_returned_and_not_kept(cache: Cache) -> None:
    @cachetools.cached(cache, key=lambda size: ("large", size))
    def large(size: int) -> bytes:
        return bytes(size)

    assert len(large(3 << 20)) == 3 << 20 and len(cache) == 0


def test_a_key_of_other_types_is_refused(cache: Cache) -> None:
    @cachetools.cached(cache, key=lambda value: ("same", value))
    def same(value: Any) -> Any:
        return value

    with pytest.raises(UnsupportedType, match="object"):
        same(object())
