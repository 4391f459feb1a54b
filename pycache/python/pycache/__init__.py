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
import sys
from _thread import RLock, get_ident
from collections.abc import MutableMapping
from types import ModuleType
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
    InvalidConfig,
    InvalidKey,
    InvalidLabel,
    InvalidName,
    InvalidSize,
    LeasesFull,
    NamespacesFull,
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
    TooManyTags,
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
    "InvalidConfig",
    "InvalidKey",
    "InvalidLabel",
    "InvalidName",
    "InvalidSize",
    "LeasesFull",
    "NamespacesFull",
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
    "TooManyTags",
    "UnsupportedFilesystem",
    "UnsupportedType",
    "ValueTooLarge",
    "WrongSerializer",
    "__version__",
    "destroy",
    "error_counts",
    "regions",
]

MutableMapping.register(Cache)

# Held while a module is loaded at its first use. A fork waits for it: a child of a process in
# which another thread loads a module would wait for ever for that thread, which it does not have.
_loading = RLock()
_forking: set[int] = set()
_LOADING_SECONDS_MAX = 10


def _load(name: str) -> ModuleType:
    with _loading:
        __import__(name)
        return sys.modules[name]


def _before_fork() -> None:
    if _loading.acquire(timeout=_LOADING_SECONDS_MAX):
        _forking.add(get_ident())


def _after_fork_in_parent() -> None:
    if get_ident() in _forking:
        _forking.discard(get_ident())
        _loading.release()


def _after_fork_in_child() -> None:
    global _loading
    _loading = RLock()
    _forking.clear()


os.register_at_fork(
    before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
)


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


def error_counts() -> dict[str, int]:
    """How often each error of the cache was raised in this process, on all its caches, by its ``code``.

    A forked child begins with the counts of its parent. Errors that did not happen are missing, and so
    are those that were answered without an exception, such as the keys that ``set_many`` returns.

    >>> before = error_counts().get("key_empty", 0)
    >>> Cache(None, size="2MB").get("")
    Traceback (most recent call last):
    ...
    pycache.InvalidKey: the key is empty; a key has 1 to 65,535 bytes
    >>> error_counts()["key_empty"] - before
    1
    """
    return _pycache.error_counts()
