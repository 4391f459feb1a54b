"""NumPy arrays as the bytes of a ``.npy`` file, and back. Imported with the first array."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import lru_cache
from math import prod
from typing import Any

import numpy  # type: ignore[import-not-found, unused-ignore]
import numpy.lib.format  # type: ignore[import-not-found, unused-ignore]

# Its functions have no types.
npy: Any = numpy.lib.format

_MAGIC_BYTES = 8


def _head(dtype: Any, shape: tuple[int, ...]) -> bytes | None:
    """What stands before the items of an array in C order; None if bytes cannot hold them."""
    # A dtype that another package has registered has a text that names another dtype.
    if dtype.hasobject or dtype.isbuiltin == 2:
        return None
    try:
        descr = npy.dtype_to_descr(dtype)
        if npy.descr_to_dtype(descr) != dtype:
            return None
        file = io.BytesIO()
        npy.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
    except (TypeError, ValueError):
        return None
    return file.getvalue()


head: Callable[[Any, tuple[int, ...]], bytes | None] = lru_cache(maxsize=128)(_head)


def _read(head: bytes) -> tuple[Any, tuple[int, ...], Any]:
    file = io.BytesIO(head)
    read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[npy.read_magic(file)]
    shape, fortran, dtype = read(file)
    if dtype.hasobject or min(shape, default=0) < 0:
        raise ValueError("items that bytes cannot hold")
    return dtype, shape, "F" if fortran else "C"


_layout: Callable[[bytes], tuple[Any, tuple[int, ...], Any]] = lru_cache(maxsize=128)(_read)


def over(buffer: Any) -> Any:
    """The array that lies in ``buffer``, writable if that is; None if there is none."""
    view = memoryview(buffer)
    try:
        # Version 1 has two bytes for the length of the text that follows, later ones four.
        start = _MAGIC_BYTES + (2 if view[6] == 1 else 4)
        start += int.from_bytes(view[_MAGIC_BYTES:start], "little")
        dtype, shape, order = _layout(bytes(view[:start]))
        if dtype.itemsize * prod(shape) != len(view) - start:
            return None
        return numpy.ndarray(shape, dtype, buffer, start, order=order)
    except MemoryError:
        raise
    except Exception:
        # Whatever the bytes are, the caller says which key they are under.
        return None
