"""Views: values lent where they lie, and what ends them."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from pycache import Cache, Closed, InvalidKey, UnsupportedType

LARGE = 300_000


class Buffer(ctypes.Structure):
    """CPython's Py_buffer."""

    _fields_ = [
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.c_void_p),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    ]


def address(view: Any) -> int:
    """Where the bytes of a buffer begin."""
    buffer = Buffer()
    ctypes.pythonapi.PyObject_GetBuffer(ctypes.py_object(view), ctypes.byref(buffer), 0)
    ctypes.pythonapi.PyBuffer_Release(ctypes.byref(buffer))
    return int(buffer.buf or 0)


def lies_in(path: str, start: int) -> bool:
    """True if an address of this process is in a mapping of a file."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, _, _, _, inode, *_ = line.split()
        low, high = (int(part, 16) for part in span.split("-"))
        if low <= start < high:
            return int(inode) == os.stat(path).st_ino
    return False


def pins(cache: Cache) -> int:
    return cache.stats()["pins"]


@pytest.mark.parametrize(
    ("value", "data"),
    [
        (b"bytes", b"bytes"),
        (bytearray(b"array"), b"array"),
        ("äöü", "äöü".encode()),
        (b"", b""),
        ("", b""),
        (bytes(range(256)) * 2048, bytes(range(256)) * 2048),
    ],
)
def test_a_view_shows_the_bytes_of_a_value(cache: Cache, value: Any, data: bytes) -> None:
    cache["key"] = value
    view = cache.view("key")
    assert isinstance(view, memoryview)
    assert (view.format, view.itemsize, view.ndim, view.shape) == ("B", 1, 1, (len(data),))
    assert view.c_contiguous
    assert view == data and bytes(view) == data


def test_a_view_is_read_only(cache: Cache) -> None:
    cache["key"] = b"value"
    view = cache.view("key")
    assert view is not None and view.readonly
    with pytest.raises(TypeError, match="read-only"):
        view[0] = 0
    with pytest.raises((TypeError, BufferError)):
        (ctypes.c_char * 5).from_buffer(view)
    with pytest.raises((TypeError, BufferError)):
        (ctypes.c_char * 5).from_buffer(view.obj)
    assert cache["key"] == b"value"


def test_a_miss_is_none_or_the_default(cache: Cache) -> None:
    assert cache.view("key") is None
    assert cache.view("key", b"default") == b"default"
    assert cache.view("key", default=7) == 7
    with pytest.raises(InvalidKey):
        cache.view("")


@pytest.mark.parametrize("value", [1, 1.5, None, True, [b"a"], {"a": 1}, 2**70])
def test_other_values_have_no_view(cache: Cache, value: Any) -> None:
    cache["key"] = value
    with pytest.raises(UnsupportedType, match="bytes, bytearray or str") as caught:
        cache.view("key")
    assert isinstance(caught.value, TypeError)
    assert pins(cache) == 0
    assert cache["key"] == value


@pytest.mark.parametrize("size", [5, 5000, LARGE])
def test_a_view_is_not_a_copy(cache: Cache, size: int) -> None:
    cache["key"] = bytes(size)
    view, again = cache.view("key"), cache.view("key")
    assert lies_in(str(cache.path), address(view))
    assert address(view) == address(again)
    assert size < 16384 or address(view) % 64 == 0
    assert not lies_in(str(cache.path), address(cache["key"]))


def test_a_view_of_much_takes_no_memory(directory: str) -> None:
    cache = Cache("much", size="128MB", dir=directory)
    cache["key"] = b"x" * (16 << 20)

    def private() -> int:
        status = Path("/proc/self/status").read_text()
        return int(status.split("RssAnon:")[1].split()[0]) * 1024

    before = private()
    views = [cache.view("key") for _ in range(10)]
    assert private() - before < 4 << 20
    assert all(view is not None and view[-1] == ord("x") for view in views)


@pytest.mark.parametrize("size", [50, LARGE])
def test_a_view_stays_as_it_is(directory: str, size: int) -> None:
    cache = Cache("stays", size="4MB", dir=directory)
    cache["key"] = b"a" * size
    view = cache.view("key")
    cache["key"] = b"b" * size
    after = cache.view("key")
    del cache["key"]
    for number in range(20_000):
        cache[number] = b"c" * 1000
    assert cache.stats()["evictions"] > 0
    cache.clear()
    cache.destroy()
    cache.close()
    del cache
    assert view == b"a" * size
    assert after == b"b" * size


def test_a_pin_ends_with_the_last_reference(cache: Cache) -> None:
    cache["key"] = b"0123456789"
    view = cache.view("key")
    assert view is not None
    assert pins(cache) == 1
    part = view[2:5]
    del view
    assert pins(cache) == 1 and part == b"234"
    del part
    assert pins(cache) == 0


def test_release_and_with_end_a_pin(cache: Cache) -> None:
    cache["key"] = b"0123456789"
    view = cache.view("key")
    assert view is not None
    view.release()
    assert pins(cache) == 0
    with pytest.raises(ValueError, match="released"):
        view[0]
    again = cache.view("key")
    assert again is not None
    with pytest.raises(RuntimeError, match="inside"), again:
        assert pins(cache) == 1
        raise RuntimeError("inside")
    assert pins(cache) == 0


def test_a_view_is_a_use_and_a_hit(cache: Cache) -> None:
    cache["key"] = b"value"
    before = cache.stats()
    assert cache.view("key") is not None and cache.view("none") is None
    after = cache.stats()
    assert (after["hits"] - before["hits"], after["misses"] - before["misses"]) == (1, 1)


def test_where_nothing_can_be_pinned_a_view_is_a_copy(directory: str) -> None:
    cache = Cache("many", size="64MB", dir=directory)
    for number in range(100):
        cache[number] = bytes([number]) * LARGE
    views = [cache.view(number) for number in range(100)]
    lent = [lies_in(str(cache.path), address(view)) for view in views]
    assert any(lent) and not all(lent)
    for number, view in enumerate(views):
        assert view == bytes([number]) * LARGE
    del view
    views.clear()
    assert pins(cache) == 0


def test_a_read_only_handle_views_a_copy(cache: Cache, directory: str) -> None:
    cache["key"] = b"value"
    with Cache("test", dir=directory, read_only=True) as reader:
        view = reader.view("key")
        cache["key"] = b"other"
        assert view == b"value"
        assert reader.view("key") == b"other"
        assert pins(cache) == 0


def test_a_closed_cache_gives_no_views(cache: Cache) -> None:
    cache["key"] = b"value"
    cache.close()
    with pytest.raises(Closed):
        cache.view("key")


def test_threads_see_whole_values_while_others_overwrite_them(cache: Cache) -> None:
    stop = threading.Event()
    torn: list[bytes] = []

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            cache["key"] = bytes([number % 256]) * 20_000

    def read() -> None:
        held: list[memoryview] = []
        for _ in range(2000):
            view = cache.view("key")
            if view is not None:
                held.append(view)
            if len(held) == 8:
                torn.extend(bytes(view) for view in held if bytes(view).count(view[0]) != 20_000)
                held.clear()

    cache["key"] = b"\0" * 20_000
    writer = threading.Thread(target=write)
    readers = [threading.Thread(target=read) for _ in range(3)]
    for thread in (writer, *readers):
        thread.start()
    for thread in readers:
        thread.join()
    stop.set()
    writer.join()
    assert torn == []
    assert pins(cache) == 0


def view_and_wait(name: str, directory: str, ready: Any) -> None:
    cache = Cache(name, dir=directory)
    views = [cache.view(key) for key in ("a", "b")]
    assert all(views)
    ready.set()
    signal.pause()


def test_the_pins_of_a_killed_process_hold_nothing_up(directory: str) -> None:
    cache = Cache("killed", size="4MB", dir=directory)
    cache["a"], cache["b"] = bytes(LARGE), bytes(LARGE)
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=view_and_wait, args=("killed", directory, ready))
    process.start()
    assert ready.wait(60)
    assert pins(cache) >= 1
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join(60)
    cache.clear()
    for number in range(50_000):
        cache[number] = b"c" * 1000
    with Cache("killed", dir=directory):
        pass
    stats = cache.stats()
    assert (stats["pins"], stats["condemned_bytes"]) == (0, 0)


def in_child(action: Any) -> None:
    """Runs ``action`` in a forked child, which must end well."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            action()
            code = 0
        except BaseException as error:
            sys.stderr.write(f"child: {error!r}\n")
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_child_may_read_and_end_the_views_that_it_inherits(cache: Cache) -> None:
    cache["key"] = b"a" * LARGE
    view = cache.view("key")
    assert view is not None

    def child() -> None:
        cache["key"] = b"b" * LARGE
        assert view == b"a" * LARGE
        own = cache.view("key")
        view.release()
        assert own == b"b" * LARGE

    in_child(child)
    assert view == b"a" * LARGE
    assert cache["key"] == b"b" * LARGE
    view.release()
    assert pins(cache) == 0


def test_a_child_keeps_what_its_parent_gives_up(cache: Cache) -> None:
    cache["key"] = b"a" * LARGE
    view = cache.view("key")
    assert view is not None
    go_in, go_out = os.pipe()

    def child() -> None:
        os.read(go_in, 1)
        assert view == b"a" * LARGE

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    view.release()
    cache.clear()
    for number in range(20_000):
        cache[number] = b"c" * 1000
    os.write(go_out, b"x")
    process.join(60)
    assert process.exitcode == 0


def test_a_script_that_ends_with_views_ends_well(directory: str) -> None:
    script = f"""
import sys, threading
from pycache import Cache
cache = Cache("script", size="4MB", dir={directory!r})
cache["a"] = b"x" * {LARGE}
view = cache.view("a")
sys.kept = [cache.view("a")[1:], view.obj]
class Late:
    def __del__(self):
        assert len(view) == {LARGE} and view[-1] == 120
late = Late()
late.itself = late
"""
    done = subprocess.run([sys.executable, "-X", "dev", "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    with Cache("script", dir=directory) as cache:
        assert pins(cache) == 0 and len(cache["a"]) == LARGE
