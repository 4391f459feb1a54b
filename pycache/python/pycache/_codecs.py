"""Serializers, compression and signatures: values on their way through a handle that asked for them.

Imported by the first such handle, or to read what one of them wrote. The bytes are described in
docs/value-encoding.md.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from copy import copy
from typing import Any

JSON, MSGPACK, NAMED, COMPRESSED, SIGNED = 17, 18, 19, 24, 25

# What a compressed value may have without compression.
_RAW_BYTES_MAX = 1 << 30
_SECRET_BYTES_MIN = 16
_MAC_BYTES = 32
_MAC_BEGIN = b"cache-shm signed value 1\0"
_HEAD_BYTES = 10
_METHODS = {"zlib": 1, "lz4": 2, "zstd": 3}

_Change = Callable[[bytes], bytes]


def _json() -> tuple[Callable[[Any], bytes], Callable[[bytes], Any]]:
    import json

    encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
    return lambda value: encoder.encode(value).encode(), json.loads


def _msgpack() -> tuple[Callable[[Any], bytes], Callable[[bytes], Any]]:
    import msgpack  # type: ignore[import-untyped, import-not-found, unused-ignore]

    return (
        lambda value: msgpack.packb(value, use_bin_type=True),
        lambda data: msgpack.unpackb(data, raw=False, strict_map_key=False),
    )


def _msgspec() -> tuple[Callable[[Any], bytes], Callable[[bytes], Any]]:
    import msgspec.msgpack  # type: ignore[import-not-found, unused-ignore]

    return msgspec.msgpack.encode, msgspec.msgpack.decode


_SERIALIZERS = {"json": (JSON, _json), "msgpack": (MSGPACK, _msgpack), "msgspec": (MSGPACK, _msgspec)}


def _zstd() -> tuple[_Change, Callable[[bytes, int], bytes]]:
    try:
        # A module of the standard library from Python 3.14 on.
        from compression import zstd  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        import zstandard  # type: ignore[import-not-found, unused-ignore]

        def expand(data: bytes, size: int) -> bytes:
            # The frame's own size decides how much memory it takes.
            if zstandard.frame_content_size(data) != size:
                return b""
            return zstandard.ZstdDecompressor().decompress(data)

        return lambda data: zstandard.ZstdCompressor().compress(data), expand
    return zstd.compress, lambda data, size: zstd.ZstdDecompressor().decompress(data, size + 1)


def _lz4() -> tuple[_Change, Callable[[bytes, int], bytes]]:
    import lz4.frame  # type: ignore[import-untyped, import-not-found, unused-ignore]

    return lz4.frame.compress, lambda data, size: lz4.frame.LZ4FrameDecompressor().decompress(data, size + 1)


def _zlib() -> tuple[_Change, Callable[[bytes, int], bytes]]:
    import zlib

    # Level 1: a cache is written often.
    return lambda data: zlib.compress(data, 1), lambda data, size: zlib.decompressobj().decompress(data, size + 1)


_COMPRESSORS = {"zlib": _zlib, "lz4": _lz4, "zstd": _zstd}
_BY_METHOD = {number: _COMPRESSORS[name] for name, number in _METHODS.items()}


class Codec:
    """What one handle does with values beyond the built-in encodings."""

    kind = 0
    name = ""
    _prefix = b""
    _namespace = b""
    _dumps: Callable[[Any], bytes]
    loads: Callable[[bytes], Any]

    def __init__(self, serializer: Any, compress: str | None, compress_min: int, secret: str | bytes | None) -> None:
        if isinstance(serializer, str):
            if serializer not in _SERIALIZERS:
                raise ValueError('serializer is "pickle", "json", "msgpack", "msgspec" or an object with dumps and loads')
            self.kind, load = _SERIALIZERS[serializer]
            self._dumps, self.loads = load()
            self.name = "msgpack" if self.kind == MSGPACK else serializer
        elif serializer is not None:
            self.name = str(getattr(serializer, "name", None) or getattr(serializer, "__name__", type(serializer).__name__))
            name = self.name.encode()
            if not callable(getattr(serializer, "dumps", None)) or not callable(getattr(serializer, "loads", None)):
                raise TypeError("serializer is a name, or an object with dumps and loads")
            if not 0 < len(name) < 256:
                raise ValueError("the name of a serializer has 1 to 255 bytes")
            self.kind, self._prefix = NAMED, bytes([len(name)]) + name
            self._dumps, self.loads = serializer.dumps, serializer.loads
        if compress is not None and compress not in _COMPRESSORS:
            raise ValueError('compress is "zstd", "lz4" or "zlib"')
        if compress_min < 0:
            raise ValueError("compress_min is a number of bytes")
        self._compress = None if compress is None else _COMPRESSORS[compress]()[0]
        self._method = 0 if compress is None else _METHODS[compress]
        self._compress_min = compress_min
        self._secret = secret.encode() if isinstance(secret, str) else secret
        if self._secret is not None and len(self._secret) < _SECRET_BYTES_MIN:
            raise ValueError("secret is str or bytes of at least 16 bytes, such as secrets.token_bytes(32)")

    def within(self, namespace: str) -> Codec:
        """The same for the values of a namespace."""
        codec = copy(self)
        codec._namespace = namespace.encode()
        return codec

    def dumps(self, value: Any) -> tuple[int, bytes]:
        """Kind and bytes of a value that has no kind of its own."""
        data = self._dumps(value)
        if not isinstance(data, bytes):
            raise TypeError(f"dumps of the serializer {self.name!r} gives bytes; not {type(data).__name__}")
        return self.kind, self._prefix + data

    def _mac(self, kind: int, key: bytes, data: bytes) -> bytes:
        # The key and its namespace are signed too, so that no value can be put under another key.
        lengths = len(key) | len(self._namespace) << 24
        begin = _MAC_BEGIN + lengths.to_bytes(4, "little") + self._namespace + key + bytes([kind])
        mac = hmac.new(self._secret or b"", begin, "sha256")
        mac.update(data)
        return mac.digest()

    def seal(self, kind: int, key: bytes, data: bytes) -> tuple[int, bytes]:
        """What is stored in place of ``data`` of ``kind``."""
        if self._compress is not None and self._compress_min <= len(data) <= _RAW_BYTES_MAX:
            packed = bytes([kind, self._method]) + len(data).to_bytes(8, "little") + self._compress(data)
            if len(packed) < len(data):
                kind, data = COMPRESSED, packed
        if self._secret is not None:
            kind, data = SIGNED, bytes([kind]) + self._mac(kind, key, data) + data
        return kind, data

    def open(self, kind: int, key: bytes, data: bytes) -> tuple[int, bytes] | str:
        """Undoes ``seal``; a word for what is wrong."""
        if kind == SIGNED:
            if self._secret is None:
                return "no secret"
            kind, mac, data = data[0] if data else 0, data[1 : 1 + _MAC_BYTES], data[1 + _MAC_BYTES :]
            if not hmac.compare_digest(mac, self._mac(kind, key, data)):
                return "changed"
        elif self._secret is not None:
            return "unsigned"
        return _expand(data) if kind == COMPRESSED else (kind, data)


def _expand(data: bytes) -> tuple[int, bytes] | str:
    size = int.from_bytes(data[2:_HEAD_BYTES], "little")
    if len(data) < _HEAD_BYTES or data[1] not in _BY_METHOD or size > _RAW_BYTES_MAX:
        return "compressed"
    expand = _BY_METHOD[data[1]]()[1]
    try:
        # Stops one byte after the size that the head says, whatever follows.
        raw = expand(data[_HEAD_BYTES:], size)
    except MemoryError:
        raise
    except Exception:
        return "compressed"
    return (data[0], raw) if len(raw) == size else "compressed"


# For handles that asked for nothing and meet what another wrote.
READER = Codec(None, None, 0, None)
