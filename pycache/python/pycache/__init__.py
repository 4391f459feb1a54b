"""One cache in shared memory for all processes of a host.

>>> cache = Cache("docs-module", size="2MB", dir=directory)
>>> cache.set("greeting", "hello", ttl=60)
>>> cache["greeting"]
'hello'
>>> cache.incr("visits", default=0)
1
>>> cache.destroy()
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from typing import NamedTuple

from . import _pycache
from ._pycache import (
    BadEncoding,
    BadSignature,
    BufferTooSmall,
    Busy,
    Cache,
    CacheError,
    Closed,
    EarlierBoot,
    ForeignOwner,
    FormatVersion,
    IntegerOverflow,
    InternalError,
    InvalidArgument,
    InvalidKey,
    InvalidName,
    InvalidSize,
    LeasesFull,
    NestedTooDeep,
    NoSpace,
    NotAppendable,
    NotHolder,
    NotInteger,
    NotRegion,
    ParticipantsFull,
    PinsFull,
    ReadOnly,
    RegionCorrupt,
    RegionExists,
    RegionFull,
    RegionGone,
    RegionHalfMade,
    RegionIOError,
    RegionMissing,
    RegionPermission,
    RegionSymlink,
    RegionTruncated,
    SizeMismatch,
    UnsupportedFilesystem,
    UnsupportedType,
    ValueTooLarge,
    WrongSerializer,
)

__version__ = _pycache.__version__

__all__ = [
    "BadEncoding",
    "BadSignature",
    "BufferTooSmall",
    "Busy",
    "Cache",
    "CacheError",
    "Closed",
    "EarlierBoot",
    "ForeignOwner",
    "FormatVersion",
    "IntegerOverflow",
    "InternalError",
    "InvalidArgument",
    "InvalidKey",
    "InvalidName",
    "InvalidSize",
    "LeasesFull",
    "NestedTooDeep",
    "NoSpace",
    "NotAppendable",
    "NotHolder",
    "NotInteger",
    "NotRegion",
    "ParticipantsFull",
    "PinsFull",
    "ReadOnly",
    "RegionCorrupt",
    "RegionExists",
    "RegionFull",
    "RegionGone",
    "RegionHalfMade",
    "RegionIOError",
    "RegionInfo",
    "RegionMissing",
    "RegionPermission",
    "RegionSymlink",
    "RegionTruncated",
    "SizeMismatch",
    "UnsupportedFilesystem",
    "UnsupportedType",
    "ValueTooLarge",
    "WrongSerializer",
    "__version__",
    "destroy",
    "regions",
]

MutableMapping.register(Cache)


class RegionInfo(NamedTuple):
    """What is known of a region without opening it."""

    name: str
    """Its name; with the directory this opens it."""
    path: str
    """Its file."""
    size: int
    """Bytes of the region."""
    used: int
    """Bytes of memory or disk that it takes now."""
    created: float
    """When it was made, in seconds since 1970; 0 if that is not known."""
    uid: int
    """User id of its owner."""
    mode: int
    """Permission bits of its file."""
    format_version: int
    """Version of its format; 0 if that is not known."""
    state: str
    """What it can be used for: "ready", or "earlier_boot", "half_made", "destroyed", "truncated",
    "other_version", "corrupt", "denied"."""


def regions(dir: str | os.PathLike[str] | None = None) -> list[RegionInfo]:
    """The regions in ``dir``, or in the directory where this user's regions are.

    >>> cache = Cache("docs-regions", size="2MB", dir=directory)
    >>> [region.name for region in regions(directory)]
    ['docs-regions']
    >>> cache.destroy()
    """
    return [RegionInfo(**fields) for fields in _pycache.regions(dir)]


def destroy(name: str, dir: str | os.PathLike[str] | None = None) -> None:
    """Destroys the region ``name`` without opening it: also one that cannot be opened.

    >>> cache = Cache("docs-destroy", size="2MB", dir=directory)
    >>> destroy("docs-destroy", directory)
    >>> regions(directory)
    []
    """
    _pycache.destroy(name, dir)
