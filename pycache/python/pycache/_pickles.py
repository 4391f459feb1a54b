"""Pickles whose large buffers stand beside them, and back. The bytes are in docs/value-encoding.md.

An object that pickles itself by protocol 5 (a NumPy array, a table made of arrays) hands its buffers out:
each is then copied once instead of into the pickle and from there, and can be lent where it lies.
"""

from __future__ import annotations

import pickle
import struct
from typing import Any

PICKLE, PICKLE_BUFFERS = 16, 20

# Smaller ones stay inside the pickle: each of those beside it may cost up to 64 bytes of padding.
_BUFFER_BYTES_MIN = 1024
_ALIGN = 64
_PROTOCOL = 5
_HEAD = struct.Struct("<2Q")


def dumps(value: Any, bytes_max: int) -> tuple[int, bytes] | int:
    """Kind and bytes of a value; the number of its bytes where they are more than ``bytes_max``."""
    buffers: list[memoryview] = []

    def stays_inside(buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes < _BUFFER_BYTES_MIN:
            return True
        buffers.append(raw)
        return False

    data = pickle.dumps(value, _PROTOCOL, buffer_callback=stays_inside)
    if not buffers:
        return PICKLE, data
    sizes = [raw.nbytes for raw in buffers]
    parts: list[bytes | memoryview] = [_HEAD.pack(len(sizes), len(data)), struct.pack(f"<{len(sizes)}Q", *sizes), data]
    size = _HEAD.size + 8 * len(sizes) + len(data)
    for raw in buffers:
        parts += bytes(-size % _ALIGN), raw
        size += -size % _ALIGN + raw.nbytes
    return (PICKLE_BUFFERS, b"".join(parts)) if size <= bytes_max else size


def split(stored: Any) -> tuple[bytes, list[memoryview]] | None:
    """The pickle, and its buffers where they lie in ``stored``; None if they are not there."""
    view = memoryview(stored)
    if len(view) < _HEAD.size:
        return None
    count, size = _HEAD.unpack_from(view)
    at = _HEAD.size + 8 * count
    if count == 0 or at > len(view) or size > len(view) - at:
        return None
    sizes = struct.unpack_from(f"<{count}Q", view, _HEAD.size)
    # A copy: what is lent may be changed while it is read.
    data = bytes(view[at : at + size])
    at += size
    buffers = []
    for size in sizes:
        at += -at % _ALIGN
        if size > len(view) - at:
            return None
        buffers.append(view[at : at + size])
        at += size
    return (data, buffers) if at == len(view) else None
