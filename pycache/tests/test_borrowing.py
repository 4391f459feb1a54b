"""Pickles whose buffers lie in the region, and `borrow`, which lends what can be lent."""

from __future__ import annotations

import gc
import pickle
import struct
import subprocess
import sys
from typing import Any

import pytest
from test_views import address, lies_in, pins

from pycache import BadEncoding, BadSignature, Cache, InvalidArgument, ValueTooLarge, WrongSerializer
from pycache._pickles import dumps

numpy = pytest.importorskip("numpy", reason="numpy is not installed")

PICKLE, PICKLE_BUFFERS = 16, 20
LARGE = 300_000
SECRET = b"sixteen bytes or more"


class Frame:
    """An object of arrays, as those of many libraries are."""

    def __init__(self, **columns: Any) -> None:
        self.columns = columns

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Frame) and all(
            (other.columns[name] == column).all() for name, column in self.columns.items()
        )


def frame(count: int) -> Frame:
    return Frame(a=numpy.arange(count, dtype="f8"), b=numpy.arange(2 * count, dtype="u2").reshape(2, -1), c=numpy.zeros(0))


@pytest.fixture
def trusting(directory: str) -> Cache:
    return Cache("trusting", size="64MB", dir=directory, serializer="pickle")


@pytest.mark.parametrize("count", [1, 128, 1000, 60_000])
def test_get_gives_a_copy_that_may_be_changed(trusting: Cache, count: int) -> None:
    trusting["frame"] = frame(count)
    found = trusting["frame"]
    assert found == frame(count)
    found.columns["a"][0] = 7
    found.columns["b"][1, 0] = 7
    assert trusting["frame"] == frame(count) and trusting.peek("frame") == frame(count)
    assert trusting.get_many(["frame"])["frame"] == frame(count)
    assert pins(trusting) == 0
    assert trusting.pop("frame") == frame(count)


def test_borrow_lends_the_buffers_where_they_lie_for_as_long_as_they_are_used(trusting: Cache) -> None:
    trusting["frame"] = frame(60_000)
    found = trusting.borrow("frame")
    assert found == frame(60_000)
    columns = found.columns
    assert trusting.path is not None
    for name in "ab":
        column = columns[name]
        assert lies_in(trusting.path, address(column.data)) and address(column.data) % 64 == 0
        assert not column.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            column[0] = 1
    assert pins(trusting) == 1
    part = columns["b"][1, 5:10]
    del found, columns, column
    gc.collect()
    trusting["frame"] = "another"
    trusting.clear()
    assert pins(trusting) == 1 and part.tolist() == list(range(60_005, 60_010))
    del part
    assert pins(trusting) == 0


def test_small_buffers_stay_inside_the_pickle(trusting: Cache) -> None:
    assert dumps(frame(10), 1 << 20)[0] == PICKLE  # type: ignore[index]
    assert dumps(frame(1000), 1 << 20)[0] == PICKLE_BUFFERS  # type: ignore[index]
    trusting["frame"] = frame(10)
    found = trusting.borrow("frame")
    assert found == frame(10) and pins(trusting) == 0
    found.columns["a"][0] = 7


@pytest.mark.parametrize("buffer", [b"x" * LARGE, bytearray(b"x" * LARGE)])
def test_a_pickle_buffer_keeps_whether_it_may_be_written_to(trusting: Cache, buffer: bytes | bytearray) -> None:
    trusting["buffer"] = [pickle.PickleBuffer(buffer)]
    found = memoryview(trusting["buffer"][0])
    assert found == buffer and found.readonly == isinstance(buffer, bytes)
    assert memoryview(trusting.borrow("buffer")[0]).readonly


def test_borrow_gives_what_get_gives_of_everything_else(trusting: Cache) -> None:
    for value in (None, 1, "text", b"bytes", bytearray(b"x"), [1, {"a": (2, 3)}], frame, b"x" * LARGE):
        trusting["key"] = value
        assert trusting.borrow("key") == value and type(trusting.borrow("key")) is type(value)
    assert trusting.borrow("nothing") is None and trusting.borrow("nothing", 5) == 5
    trusting["array"] = numpy.arange(LARGE)
    array = trusting.borrow("array")
    assert not array.flags.writeable and pins(trusting) == 1


def test_where_nothing_can_be_pinned_a_copy_is_lent(trusting: Cache, directory: str) -> None:
    trusting["frame"] = frame(60_000)
    reader = Cache("trusting", dir=directory, read_only=True, serializer="pickle")
    assert reader.borrow("frame") == frame(60_000) == reader["frame"]
    assert pins(trusting) == 0


def test_what_is_borrowed_outlives_the_handle_and_the_process_ends_well(directory: str) -> None:
    script = f"""
import numpy
from pycache import Cache
cache = Cache("ends", size="16MB", dir={directory!r}, serializer="pickle")
cache["a"] = {{"array": numpy.arange(100_000), "object": frozenset, "class": complex}}
array = cache.borrow("a")["array"]
cache.destroy()
cache.close()
assert int(array.sum()) == sum(range(100_000))
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


@pytest.mark.parametrize("options", [{"compress": "zlib"}, {"secret": SECRET}, {"compress": "zlib", "secret": SECRET}])
def test_signatures_and_compression_cover_the_buffers(directory: str, options: dict[str, Any]) -> None:
    cache = Cache("sealed", size="64MB", dir=directory, serializer="pickle", **options)
    for count in (1000, 60_000):
        cache["frame"] = frame(count)
        found = cache["frame"]
        assert found == frame(count)
        found.columns["a"][0] = 7
    if "secret" in options:
        with pytest.raises(InvalidArgument, match="borrow"):
            cache.borrow("frame")
        with pytest.raises(BadSignature):
            Cache("sealed", dir=directory, serializer="pickle").get("frame")
    else:
        assert cache.borrow("frame") == frame(60_000)


def test_a_changed_byte_of_a_buffer_breaks_the_signature(directory: str) -> None:
    cache = Cache("sealed", size="64MB", dir=directory, serializer="pickle", secret=SECRET)
    cache["frame"] = Frame(a=numpy.frombuffer(b"needle" * 1000, "u1"))
    path = cache.path
    assert path is not None
    with open(path, "r+b") as file:
        data = file.read()
        at = data.index(b"needleneedle")
        file.seek(at)
        file.write(b"N")
    with pytest.raises(BadSignature):
        cache["frame"]


def test_who_does_not_trust_pickles_reads_none_with_buffers(trusting: Cache, directory: str) -> None:
    plain = Cache("trusting", dir=directory)
    for count in (1000, 60_000):
        trusting["frame"] = frame(count)
        for read in (plain.get, plain.borrow, plain.peek):
            with pytest.raises(WrongSerializer, match="pickle"):
                read("frame")
    assert pins(trusting) == 0


def test_an_object_that_does_not_fit_says_both_numbers(trusting: Cache) -> None:
    with pytest.raises(ValueTooLarge, match="40000"):
        trusting["frame"] = Frame(a=numpy.zeros(40_000_000, "u1"))
    assert "frame" not in trusting


def valid() -> bytes:
    kind, data = dumps(frame(1000), 1 << 20)  # type: ignore[misc]
    assert kind == PICKLE_BUFFERS
    return data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(15),
        bytes(16),
        struct.pack("<2Q", 1, 0),
        struct.pack("<2Q", 2**60, 2**60),
        struct.pack("<2Q", 2**64 - 1, 0) + bytes(64),
        struct.pack("<3Q", 1, 2**63, 5) + bytes(64),
        struct.pack("<3Q", 1, 1, 2**64 - 1) + bytes(64),
        valid()[:-1],
        valid() + b"x",
    ],
)
def test_bytes_that_are_no_pickle_with_buffers_are_an_error(
    trusting: Cache, monkeypatch: pytest.MonkeyPatch, data: bytes
) -> None:
    monkeypatch.setattr("pycache._pickles.dumps", lambda value, bytes_max: (PICKLE_BUFFERS, data))
    trusting["forged"] = object()
    for read in (trusting.get, trusting.borrow, trusting.peek):
        with pytest.raises(BadEncoding, match="buffers"):
            read("forged")
    gc.collect()
    assert pins(trusting) == 0


def test_a_pickle_that_wants_more_buffers_than_there_are_is_an_error_of_pickle(
    trusting: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = pickle.dumps([pickle.PickleBuffer(b"a"), pickle.PickleBuffer(b"b")], 5, buffer_callback=lambda buffer: None)
    data = struct.pack("<3Q", 1, len(whole), 1) + whole
    data += bytes(-len(data) % 64) + b"a"
    monkeypatch.setattr("pycache._pickles.dumps", lambda value, bytes_max: (PICKLE_BUFFERS, data))
    trusting["forged"] = object()
    with pytest.raises(pickle.UnpicklingError):
        trusting["forged"]
