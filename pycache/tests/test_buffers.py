"""Buffers of other objects as values, and NumPy arrays."""

from __future__ import annotations

import array
import ctypes
import importlib.util
import io
import mmap
import multiprocessing
import subprocess
import sys
import threading
from typing import Any

import pytest

from pycache import BadEncoding, Cache, UnsupportedType, ValueTooLarge
from pycache._pycache import decode, encode

ARRAY = 9
BYTES = 0

numpy: Any = None
if importlib.util.find_spec("numpy") is not None:
    import numpy
needs_numpy = pytest.mark.skipif(numpy is None, reason="numpy is not installed")


def mapped(data: bytes) -> mmap.mmap:
    memory = mmap.mmap(-1, len(data))
    memory[:] = data
    return memory


BUFFERS = [
    memoryview(b"some bytes"),
    memoryview(bytearray(b"some bytes"))[2:7],
    memoryview(b""),
    memoryview(array.array("i", range(12))).cast("B").cast("i", (3, 4)),
    array.array("d", [1.5, -2.0]),
    array.array("B", bytes(300_000)),
    mapped(b"mapped bytes"),
    (ctypes.c_int16 * 3)(1, 2, 3),
    io.BytesIO(b"a file").getbuffer(),
]


@pytest.mark.parametrize("value", BUFFERS, ids=lambda value: type(value).__name__)
def test_a_buffer_is_stored_as_its_bytes(cache: Cache, value: Any) -> None:
    data = bytes(memoryview(value).cast("B")) if memoryview(value).nbytes else b""
    assert encode(value) == (BYTES, data)
    cache["key"] = value
    assert cache["key"] == data and type(cache["key"]) is bytes
    assert cache.replace("key", value) and cache.add("other", value)
    assert cache.cas("key", value, cache.gets("key")[1])
    assert cache.set_many({"a": value, "b": 1}) == []
    assert cache.get_or_set("c", value) is value
    cache.update(d=value)
    assert [cache[key] for key in ("key", "other", "a", "c", "d")] == [data] * 5


def test_a_buffer_is_given_back_after_the_call(cache: Cache) -> None:
    value = bytearray(b"some bytes")
    view = memoryview(value)
    cache["key"] = view
    cache.set_many({"a": view})
    with pytest.raises(UnsupportedType):
        cache["key"] = [view]
    view.release()
    value.append(0)
    memory = mapped(b"mapped")
    cache["key"] = memory
    memory.close()
    assert cache["key"] == b"mapped"


def test_a_buffer_in_pieces_is_refused(cache: Cache) -> None:
    cache["key"] = b"before"
    with pytest.raises(UnsupportedType, match="C-contiguous") as caught:
        cache["key"] = memoryview(b"some bytes")[::2]
    assert isinstance(caught.value, TypeError)
    assert cache["key"] == b"before"


def test_a_released_buffer_is_an_error(cache: Cache) -> None:
    view = memoryview(b"some bytes")
    view.release()
    with pytest.raises(ValueError, match="released"):
        cache["key"] = view


def test_a_buffer_that_does_not_fit_says_both_numbers(cache: Cache) -> None:
    with pytest.raises(ValueTooLarge, match="2000000"):
        cache["key"] = memoryview(bytes(2_000_000))


def test_a_buffer_inside_of_a_container_is_refused(cache: Cache) -> None:
    for value in ([memoryview(b"a")], {"a": array.array("b", b"a")}):
        with pytest.raises(UnsupportedType):
            cache["key"] = value


class Blob(bytes):
    pass


class MutableBlob(bytearray):
    pass


@pytest.mark.parametrize("value", [Blob(b"a"), MutableBlob(b"a")], ids=lambda value: type(value).__name__)
def test_a_subclass_of_bytes_is_more_than_its_bytes(cache: Cache, value: Any) -> None:
    with pytest.raises(UnsupportedType):
        cache["key"] = value


def test_a_view_may_be_stored_under_another_key(cache: Cache) -> None:
    cache["a"] = b"x" * 100_000
    cache["b"] = cache.view("a")
    assert cache["b"] == cache["a"]


def test_a_pickle_keeps_the_type_of_a_buffer_that_it_can_hold(directory: str) -> None:
    cache = Cache("p", size="2MB", dir=directory, serializer="pickle")
    cache["key"] = array.array("d", [1.5])
    assert cache["key"] == array.array("d", [1.5])
    for value in (memoryview(b"bytes"), mapped(b"bytes")):
        cache["key"] = value
        assert cache["key"] == b"bytes"


def test_a_buffer_that_others_write_to_is_stored_at_its_size(cache: Cache) -> None:
    value = bytearray(100_000)
    view = memoryview(value)
    stop = threading.Event()

    def scribble() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            view[:] = bytes([number % 256]) * len(value)

    thread = threading.Thread(target=scribble)
    thread.start()
    for _ in range(500):
        cache["key"] = view
        assert len(cache["key"]) == len(value)
    stop.set()
    thread.join()


def test_storing_a_buffer_does_not_import_numpy(directory: str) -> None:
    script = f"""
import sys
from pycache import Cache
cache = Cache("script", size="2MB", dir={directory!r})
cache["a"] = memoryview(b"x")
assert cache["a"] == b"x" and cache.view("a") == b"x" and cache.array("b") is None
assert "numpy" not in sys.modules and "pycache._arrays" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


# --- NumPy ---------------------------------------------------------------------------------------


def arrays() -> list[Any]:
    if numpy is None:
        return []
    structure = numpy.dtype([("a", "<i4"), ("b", "<f8", (2,)), ("c", "S3")])
    padded = numpy.dtype({"names": ["x", "y"], "formats": ["u1", "<f8"], "offsets": [0, 8], "itemsize": 24})
    return [
        numpy.arange(6, dtype="<f4").reshape(2, 3),
        numpy.arange(6, dtype=">i8"),
        numpy.array(1.5),
        numpy.array([True, False]),
        numpy.zeros((0, 3), dtype="u2"),
        numpy.zeros((3, 0, 2)),
        numpy.array([1 + 2j]),
        numpy.array(["äö", "x"]),
        numpy.array([b"ab", b"c"]),
        numpy.array(["2026-11-23", "NaT"], dtype="datetime64[ns]"),
        numpy.array([5], dtype="timedelta64[s]"),
        numpy.array([(1, (2.0, 3.0), b"abc")] * 3, dtype=structure),
        numpy.zeros(2, dtype=padded),
        numpy.arange(100_000, dtype="f8").reshape(10, 100, 100),
        numpy.float16([1.5]),
    ]


@needs_numpy
@pytest.mark.parametrize("value", arrays(), ids=lambda value: f"{value.dtype.str}{value.shape}")
def test_an_array_keeps_its_dtype_and_shape(cache: Cache, value: Any) -> None:
    def same(found: Any) -> None:
        assert type(found) is numpy.ndarray
        assert (found.dtype, found.shape) == (value.dtype, value.shape)
        assert repr(found.tolist()) == repr(value.tolist())

    cache["key"] = value
    same(cache["key"])
    same(cache.array("key"))
    same(cache.get_many(["key"])["key"])
    same(numpy.load(io.BytesIO(encode(value)[1])))
    assert cache["key"].flags.writeable and not cache.array("key").flags.writeable
    same(cache.pop("key"))


@needs_numpy
def test_an_array_is_lent_without_a_copy_and_for_reading(cache: Cache) -> None:
    from test_views import lies_in, pins

    value = numpy.arange(50_000, dtype="f8").reshape(100, 500)
    cache["key"] = value
    found = cache.array("key")
    start = found.__array_interface__["data"][0]
    assert lies_in(str(cache.path), start) and start % 64 == 0
    assert found.flags.aligned and found.flags.c_contiguous and not found.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        found[0, 0] = 1
    with pytest.raises(ValueError, match="WRITEABLE"):
        found.flags.writeable = True
    part = found[3:5, ::2]
    del found
    cache["key"] = numpy.zeros(50_000)
    cache.clear()
    for number in range(20_000):
        cache[number] = b"c" * 1000
    cache.close()
    assert (part == value[3:5, ::2]).all()
    with Cache(None, size="4MB") as other:
        other["key"] = value
        found = other.array("key")
        assert pins(other) == 1
        del found
        assert pins(other) == 0


@needs_numpy
def test_an_array_in_fortran_order_is_read(cache: Cache) -> None:
    value = numpy.asfortranarray(numpy.arange(6.0).reshape(2, 3))
    file = io.BytesIO()
    numpy.save(file, value)
    found = decode(ARRAY, file.getvalue())
    assert (found == value).all() and found.flags.f_contiguous
    with pytest.raises(UnsupportedType, match="C-contiguous"):
        cache["key"] = value
    with pytest.raises(UnsupportedType, match="C-contiguous"):
        cache["key"] = numpy.arange(10)[::2]


@needs_numpy
def test_items_that_bytes_cannot_hold_are_refused(cache: Cache, directory: str) -> None:
    cache["key"] = b"before"
    refused = [numpy.array([object()]), numpy.array([(1, None)], dtype=[("a", "i4"), ("b", "O")])]
    if hasattr(numpy.dtypes, "StringDType"):
        refused.append(numpy.array(["text"], dtype=numpy.dtypes.StringDType()))
    for value in refused:
        with pytest.raises(UnsupportedType, match="not objects"):
            cache["key"] = value
    for value in (numpy.ndarray.view(numpy.zeros(1), numpy.memmap), numpy.ma.array([1, 2], mask=[0, 1]), numpy.float64(1.5), numpy.int32(1)):
        with pytest.raises(UnsupportedType):
            cache["key"] = value
    assert cache["key"] == b"before"
    trusting = Cache("p", size="2MB", dir=directory, serializer="pickle")
    for value in (numpy.array([None, "a"]), numpy.int32(1), numpy.arange(10)[::2]):
        trusting["key"] = value
        assert type(trusting["key"]) is type(value) and (trusting["key"] == value).all()


@needs_numpy
def test_a_value_that_is_no_array_has_none(cache: Cache) -> None:
    cache["key"] = b"bytes"
    with pytest.raises(UnsupportedType, match="NumPy array"):
        cache.array("key")
    cache["key"] = numpy.arange(3)
    with pytest.raises(UnsupportedType, match="numpy.ndarray"):
        cache.view("key")
    assert cache.array("none") is None and cache.array("none", 5) == 5


def npy(text: str, items: bytes = b"", version: bytes = b"\1\0") -> bytes:
    return b"\x93NUMPY" + version + len(text).to_bytes(2, "little") + text.encode("latin1") + items


@needs_numpy
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x93NUMPY",
        b"\x93NUMPY\1\0\xff\xff",
        npy(""),
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }", bytes(7)),
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }", bytes(9)),
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-2, -1), }", bytes(8)),
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2**70,), }", bytes(8)),
        npy(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({2**70}, 0), }}"),
        npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", bytes(8)),
        npy("{'descr': [('a', '|O')], 'fortran_order': False, 'shape': (1,), }", bytes(8)),
        npy("{'descr': 'nothing', 'fortran_order': False, 'shape': (1,), }", bytes(8)),
        npy("__import__('os').abort()"),
        npy("(" * 9000),
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }", bytes(8), b"\7\0"),
    ],
)
def test_bytes_that_are_no_array_are_an_error(data: bytes) -> None:
    with pytest.raises(BadEncoding, match="kind 9"):
        decode(ARRAY, data)


def total(cache: Cache) -> None:
    cache["total"] = float(cache.array("key").sum())
    cache["own"] = cache["key"] * 2


@needs_numpy
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_share_an_array(cache: Cache, method: str) -> None:
    cache["key"] = numpy.arange(20_000, dtype="f8")
    process = multiprocessing.get_context(method).Process(target=total, args=(cache,))
    process.start()
    process.join(60)
    assert process.exitcode == 0
    assert cache["total"] == 19_999 * 10_000
    assert (cache.array("own") == cache.array("key") * 2).all()
