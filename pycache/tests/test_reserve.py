"""Values in the making: stored whole, or not at all."""

from __future__ import annotations

import io
import os
import threading
from typing import Any

import pytest

from pycache import Cache, Closed, InvalidKey, ReadOnly, ValueTooLarge


@pytest.mark.parametrize("size", [0, 5, 100_000, 500_000])
def test_a_block_that_ends_well_stores_its_buffer(cache: Cache, size: int) -> None:
    data = os.urandom(size)
    with cache.reserve("key", size, ttl=60) as buffer:
        assert (buffer.nbytes, buffer.readonly, bytes(buffer)) == (size, False, bytes(size))
        io.BytesIO(data).readinto(buffer)
        assert "key" not in cache
    assert cache["key"] == data and type(cache["key"]) is bytes
    left = cache.ttl("key")
    assert left is not None and 50 < left <= 60.1


def test_a_block_that_raises_stores_nothing(cache: Cache) -> None:
    cache["key"] = "before"
    with pytest.raises(RuntimeError, match="inside"), cache.reserve("key", 5) as buffer:
        buffer[:] = b"hello"
        raise RuntimeError("inside")
    assert cache["key"] == "before"


def test_the_buffer_ends_with_the_reservation(cache: Cache) -> None:
    place = cache.reserve("key", 5)
    buffer = place.buffer
    buffer[:] = b"hello"
    place.commit()
    with pytest.raises(ValueError, match="released"):
        buffer[0] = 0
    with pytest.raises(ValueError, match="over"):
        place.commit()
    place.discard()
    assert cache["key"] == b"hello"


def test_a_discarded_reservation_stores_nothing(cache: Cache) -> None:
    place = cache.reserve("key", 5)
    place.discard()
    with pytest.raises(ValueError, match="over"):
        place.commit()
    with cache.reserve("key", 5):
        pass
    assert cache["key"] == bytes(5)


def test_what_is_still_over_the_buffer_changes_nothing_any_more(cache: Cache) -> None:
    with cache.reserve("key", 5) as buffer:
        late = buffer[1:]
        buffer[:] = b"hello"
    late[:] = b"XXXX"
    assert cache["key"] == b"hello"


def test_a_commit_inside_of_the_block_is_the_one(cache: Cache) -> None:
    place = cache.reserve("key", 2)
    with place as buffer:
        buffer[:] = b"ab"
        place.commit()
    assert cache["key"] == b"ab"


def test_a_ttl_begins_with_the_commit_and_the_default_holds(directory: str) -> None:
    with Cache("ttl", size="2MB", ttl=100, dir=directory) as cache:
        for ttl, low, high in (((), 90, 101), ((1000,), 990, 1001)):
            with cache.reserve("key", 1, *ttl):
                pass
            left = cache.ttl("key")
            assert left is not None and low < left < high
        with cache.reserve("key", 1, ttl=None):
            pass
        assert cache.ttl("key") is None


def test_what_cannot_be_stored_is_refused_before_it_is_filled(cache: Cache, directory: str) -> None:
    with pytest.raises(ValueTooLarge, match="4000000"):
        cache.reserve("key", 4_000_000)
    with pytest.raises(InvalidKey):
        cache.reserve("", 1)
    with pytest.raises((OverflowError, ValueError)):
        cache.reserve("key", -1)
    wrong: Any = "soon"
    with pytest.raises(TypeError):
        cache.reserve("key", 1, ttl=wrong)
    with Cache("test", dir=directory, read_only=True) as reader, pytest.raises(ReadOnly):
        reader.reserve("key", 1)
    cache.close()
    with pytest.raises(Closed):
        cache.reserve("key", 1)


def test_threads_fill_reservations_side_by_side(cache: Cache) -> None:
    def work(number: int) -> None:
        for _ in range(50):
            with cache.reserve("key", 10_000) as buffer:
                buffer[:] = bytes([number]) * 10_000

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(cache["key"])) == 1
