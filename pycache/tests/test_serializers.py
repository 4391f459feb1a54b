"""Serializers, compression and signatures: what one handle writes, the right ones read."""

from __future__ import annotations

import base64
import importlib.util
import json
import multiprocessing
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from pycache import BadEncoding, BadSignature, Cache, InvalidArgument, UnsupportedType, WrongSerializer
from pycache._pycache import decode

JSON, MSGPACK, NAMED, COMPRESSED, SIGNED = 17, 18, 19, 24, 25
SECRET = b"sixteen bytes or more"


def needs(name: str, *modules: str) -> Any:
    there = any(importlib.util.find_spec(module) is not None for module in modules)
    return pytest.param(name, marks=pytest.mark.skipif(not there, reason=f"{modules[-1]} is not installed"))


SERIALIZERS = ["pickle", "json", needs("msgpack", "msgpack"), needs("msgspec", "msgspec")]
COMPRESSORS = ["zlib", needs("lz4", "lz4"), needs("zstd", "zstandard")]


class Reversed:
    """Base85 of JSON, backwards: nothing else reads it."""

    def __init__(self, name: str = "reversed") -> None:
        self.name = name

    def dumps(self, value: Any) -> bytes:
        return base64.b85encode(json.dumps(value).encode())[::-1]

    def loads(self, data: bytes) -> Any:
        return json.loads(base64.b85decode(data[::-1]))


Open = Callable[..., Cache]


@pytest.fixture
def open_cache(directory: str) -> Open:
    """Opens handles on one region."""

    def open_cache(**keywords: Any) -> Cache:
        return Cache("s", size="4MB", dir=directory, on_mismatch="error", **keywords)

    return open_cache


STRUCTURE = {"name": "Ada", "list": [1, 2.5, None, True, "äö"], "deep": {"a": {"b": []}}}


@pytest.mark.parametrize("serializer", [*SERIALIZERS, Reversed()], ids=str)
def test_a_structure_comes_back(open_cache: Open, serializer: Any) -> None:
    cache = open_cache(serializer=serializer)
    cache["key"] = STRUCTURE
    assert cache["key"] == STRUCTURE
    assert cache.get_many(["key"]) == {"key": STRUCTURE}
    assert cache.gets("key")[0] == STRUCTURE and cache.peek("key") == STRUCTURE
    assert list(cache.items()) == [("key", STRUCTURE)]
    cache["large"] = ["x" * 400_000]
    assert cache["large"] == ["x" * 400_000]
    assert cache.setdefault("key", []) == STRUCTURE
    assert cache.pop("key") == STRUCTURE


@pytest.mark.parametrize("serializer", [*SERIALIZERS, Reversed()], ids=str)
def test_what_has_a_kind_of_its_own_is_read_by_all(open_cache: Open, serializer: Any) -> None:
    cache, plain = open_cache(serializer=serializer), open_cache()
    for value in (b"bytes", "text", 7, 1.5, None, True, bytearray(b"a")):
        cache["key"] = value
        assert plain["key"] == value and type(plain["key"]) is type(value)
    cache["n"] = 1
    assert cache.incr("n") == 2
    cache["view"] = memoryview(b"view")
    assert cache.view("view") == b"view"


WRITERS = {"pickle": {1j}, "json": [1], "msgpack": [1], "reversed": [1]}


@pytest.mark.parametrize("writer", [*SERIALIZERS[:3], Reversed()], ids=str)
@pytest.mark.parametrize("reader", [None, *SERIALIZERS[:3], Reversed(), Reversed("other")], ids=str)
def test_the_value_of_another_serializer_is_named_and_not_garbage(open_cache: Open, writer: Any, reader: Any) -> None:
    name = getattr(writer, "name", writer)
    if getattr(reader, "name", reader) == name:
        return
    written, cache = open_cache(serializer=writer), open_cache(serializer=reader)
    written["key"] = WRITERS[name]
    for read in (lambda: cache["key"], lambda: cache.get("key"), lambda: cache.get_many(["key"]), lambda: list(cache.values())):
        with pytest.raises(WrongSerializer, match=f'serializer="{name}"'):
            read()
    with pytest.raises(UnsupportedType):
        cache.view("key")
    assert written["key"] == WRITERS[name]


@pytest.mark.skipif(importlib.util.find_spec("msgpack") is None or importlib.util.find_spec("msgspec") is None,
                    reason="msgpack or msgspec is not installed")
def test_both_serializers_of_messagepack_read_each_other(open_cache: Open) -> None:
    one, other = open_cache(serializer="msgpack"), open_cache(serializer="msgspec")
    for writer, reader in ((one, other), (other, one)):
        writer["key"] = STRUCTURE
        assert reader["key"] == STRUCTURE


def test_what_a_serializer_refuses_is_its_own_error(open_cache: Open) -> None:
    cache = open_cache(serializer="json")
    with pytest.raises(TypeError, match="JSON serializable"):
        cache["key"] = [object()]
    assert "key" not in cache

    class Wrong:
        name = "wrong"

        def dumps(self, value: Any) -> str:
            return "text"

        def loads(self, data: bytes) -> Any:
            return data

    wrong: Any = Wrong()
    with pytest.raises(TypeError, match="'wrong' gives bytes; not str"):
        open_cache(serializer=wrong)["key"] = [1]


@pytest.mark.parametrize(("kind", "data"), [(JSON, b"{"), (MSGPACK, b"\xc1"), (NAMED, b""), (NAMED, b"\5ab")])
@pytest.mark.parametrize("serializer", [None, *SERIALIZERS])
def test_damaged_bytes_of_a_serializer_are_an_error(open_cache: Open, serializer: Any, kind: int, data: bytes) -> None:
    from pycache import _codecs

    class Foreign(_codecs.Codec):
        def seal(self, _: int, key: bytes, value: bytes) -> tuple[int, bytes]:
            return kind, data

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_codecs, "Codec", Foreign)
        open_cache(compress="zlib")["key"] = 1
    with pytest.raises((BadEncoding, WrongSerializer)) as caught:
        open_cache(serializer=serializer)["key"]
    own = {JSON: ["json"], MSGPACK: ["msgpack", "msgspec"]}.get(kind, [])
    assert isinstance(caught.value, BadEncoding) == (serializer in own or data == b"" or data == b"\5ab")


def test_wrong_settings_are_refused(open_cache: Open) -> None:
    for keywords in ({"serializer": "yaml"}, {"compress": "rar"}, {"compress_min": -1, "compress": "zlib"},
                     {"secret": b"short"}, {"secret": ""}):
        with pytest.raises(InvalidArgument):
            open_cache(**keywords)
    for keywords in ({"serializer": 5}, {"serializer": object()}, {"compress": 5}, {"secret": 5}):
        with pytest.raises(TypeError):
            open_cache(**keywords)


# --- compression ---------------------------------------------------------------------------------

TEXT = "some text that repeats itself. " * 10_000


@pytest.mark.parametrize("compress", COMPRESSORS)
@pytest.mark.parametrize("secret", [None, SECRET], ids=["unsigned", "signed"])
def test_large_values_are_compressed(open_cache: Open, compress: Any, secret: bytes | None) -> None:
    cache = open_cache(compress=compress, secret=secret)
    reader = open_cache(secret=secret)
    for value in (TEXT, TEXT.encode(), bytearray(TEXT.encode()), [TEXT], {"a": TEXT}):
        cache["key"] = value
        for handle in (cache, reader):
            assert handle["key"] == value and type(handle["key"]) is type(value)
    assert cache.stats()["live_bytes"] < 100_000
    with pytest.raises((UnsupportedType, InvalidArgument)):
        cache.view("key")


def test_a_value_that_fits_only_compressed_is_stored(open_cache: Open) -> None:
    cache = open_cache(compress="zlib")
    cache["key"] = bytes(10_000_000)
    assert cache["key"] == bytes(10_000_000)


def test_small_values_and_what_does_not_shrink_stay_as_they_are(open_cache: Open) -> None:
    import os

    cache, noise = open_cache(compress="zlib", compress_min=100), os.urandom(10_000)
    cache.update({"small": b"a" * 99, "noise": noise, "large": b"a" * 101, "n": 1})
    assert cache.view("small") == b"a" * 99 and cache.view("noise") == noise
    assert cache["large"] == b"a" * 101
    assert cache.incr("n") == 2
    with pytest.raises(UnsupportedType, match="compressed"):
        cache.view("large")


@pytest.mark.parametrize("data", [b"", b"\0\1", bytes(10), b"\0\1" + (5).to_bytes(8, "little") + b"garbage",
                                  b"\0\1" + (1 << 62).to_bytes(8, "little"), b"\0\7" + bytes(20)])
def test_damaged_compressed_bytes_are_an_error(data: bytes) -> None:
    with pytest.raises(BadEncoding, match="compressed"):
        decode(COMPRESSED, data)


@pytest.mark.parametrize("compress", COMPRESSORS)
def test_a_bomb_is_an_error_before_it_takes_memory(compress: Any) -> None:
    import resource

    from pycache import _codecs

    _, packed = _codecs.Codec(None, compress, 0, None).seal(0, b"", bytes(200_000_000))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BadEncoding):
        decode(COMPRESSED, packed[:2] + (1000).to_bytes(8, "little") + packed[10:])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


# --- signatures ----------------------------------------------------------------------------------

VALUES = [b"bytes", "text", "ä", 7, 1.5, None, True, [1, {"a": 2}], b"x" * 300_000, "x" * 300_000]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: str(value)[:10])
def test_a_signed_value_comes_back_and_an_unsigned_one_does_not(open_cache: Open, value: Any) -> None:
    signed, plain, other = open_cache(secret=SECRET), open_cache(), open_cache(secret="another secret of some length")
    signed[("a", 1)] = value
    assert signed[("a", 1)] == value and type(signed[("a", 1)]) is type(value)
    assert signed.get_many([("a", 1)]) == {("a", 1): value}
    assert list(signed.items()) == [(("a", 1), value)]
    assert signed.setdefault(("a", 1), 0) == value
    for handle in (plain, other):
        with pytest.raises(BadSignature) as caught:
            handle.get(("a", 1))
        assert isinstance(caught.value, ValueError) and caught.value.code == "bad_signature"
    assert signed.popitem() == (("a", 1), value)
    plain["key"] = value
    reads = [lambda: signed["key"], lambda: signed.peek("key"), lambda: signed.gets("key"), lambda: signed.get_many(["key"]),
             lambda: list(signed.values()), lambda: signed.setdefault("key", 1), lambda: signed.get_or_set("key", 1),
             lambda: signed.pop("key")]
    for read in reads:
        with pytest.raises(BadSignature, match="not signed"):
            read()


def test_a_changed_byte_is_a_bad_signature(open_cache: Open) -> None:
    cache = open_cache(secret=SECRET)
    cache["key"] = "a value to be changed"
    assert cache.path is not None
    with open(cache.path, "r+b") as file:
        content = file.read()
        at = content.index(b"a value to be changed")
        for place in (at, at - 1, at - 32, at - 33):
            file.seek(place)
            file.write(bytes([content[place] ^ 1]))
            file.flush()
            with pytest.raises(BadSignature, match="changed"):
                cache.get("key")
            file.seek(place)
            file.write(content[place : place + 1])
            file.flush()
            assert cache["key"] == "a value to be changed"


def test_a_signed_value_is_bound_to_its_key(open_cache: Open) -> None:
    from pycache import _codecs

    codec = _codecs.Codec(None, None, 0, SECRET)
    kind, data = codec.seal(2, b"key", b"value")
    assert kind == SIGNED and codec.open(kind, b"key", data) == (2, b"value")
    assert codec.open(kind, b"other", data) == "changed"
    for cut in range(len(data)):
        assert codec.open(kind, b"key", data[:cut]) == "changed"


def test_a_pickle_is_not_loaded_before_its_signature_is_good(open_cache: Open) -> None:
    attacker, cache = open_cache(serializer="pickle"), open_cache(serializer="pickle", secret=SECRET)
    attacker["key"] = {1j}
    with pytest.raises(BadSignature):
        cache["key"]
    cache["key"] = {1j}
    assert cache["key"] == {1j}


def test_what_cannot_be_signed_is_refused(open_cache: Open) -> None:
    cache = open_cache(secret=SECRET)
    cache["key"] = 1
    for operation in (lambda: cache.incr("key"), lambda: cache.decr("key"), lambda: cache.append("key", "1"),
                      lambda: cache.view("key"), lambda: cache.array("key")):
        with pytest.raises(InvalidArgument, match="secret"):
            operation()
    assert cache["key"] == 1
    with cache.reserve("made", 3) as buffer:
        buffer[:] = b"abc"
    cache["lent"] = memoryview(b"abc")
    assert cache["made"] == cache["lent"] == b"abc"
    assert cache.set_many({"a": 1, "b": "b"}) == [] and cache.get_many("ab") == {"a": 1, "b": "b"}
    assert cache.cas("a", 2, cache.gets("a")[1]) and cache["a"] == 2


def read_signed(cache: Cache) -> None:
    assert cache["key"] == STRUCTURE
    cache["answer"] = ["x" * 5000]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_pickled_handle_keeps_its_settings(open_cache: Open, method: str) -> None:
    cache = open_cache(serializer="json", compress="zlib", compress_min=10, secret=SECRET)
    cache["key"] = STRUCTURE
    process = multiprocessing.get_context(method).Process(target=read_signed, args=(cache,))
    process.start()
    process.join(60)
    assert process.exitcode == 0
    assert cache["answer"] == ["x" * 5000]
    assert repr(SECRET) not in repr(cache) and "secret" not in repr(cache)
    again = pickle.loads(pickle.dumps(open_cache(serializer=Reversed())))
    again["own"] = [1]
    assert again["own"] == [1]


def test_the_default_imports_none_of_it(directory: str) -> None:
    script = f"""
import sys
from pycache import Cache
cache = Cache("script", size="2MB", dir={directory!r})
cache["a"] = [1]
assert cache["a"] == [1]
assert not {{"pycache._codecs", "json", "hmac", "zlib", "pickle"}} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-S", "-c", f"import sys; sys.path[:] = {sys.path!r}\n" + script],
                          capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
