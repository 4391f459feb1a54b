"""What the adapters share: a region that is opened at its first use, and what a failure of it does.

A cache that fails must not take its application with it. With ``on_error="ignore"`` a failure
counts as a miss, or as a write that was not kept; it is counted in ``failures``, and the first of
its kind is logged. Mistakes of the program, such as a value that cannot be stored, always raise.
"""

from __future__ import annotations

import logging
import weakref
from collections import Counter
from collections.abc import Mapping
from typing import Any

from pycache import (
    Cache,
    CacheError,
    IntegerOverflow,
    InvalidArgument,
    InvalidConfig,
    InvalidKey,
    InvalidLabel,
    InvalidName,
    InvalidSize,
    NestedTooDeep,
    NotAppendable,
    NotInteger,
    SizeMismatch,
    UnsupportedType,
)

logger = logging.getLogger("pycache.adapters")

# What can be said of a region besides its name: the keywords of `Cache` but `ttl`, for the
# libraries have times to live of their own.
OPTIONS = frozenset(
    (
        "size timeout evict ephemeral read_only on_mismatch mode group dir prealloc"
        " serializer compress compress_min secret secret_file namespace local"
    ).split()
)

# Errors that say what the program did, not how the cache is.
MISTAKES = (
    IntegerOverflow,
    InvalidArgument,
    InvalidConfig,
    InvalidKey,
    InvalidLabel,
    InvalidName,
    InvalidSize,
    NestedTooDeep,
    NotAppendable,
    NotInteger,
    SizeMismatch,
    UnsupportedType,
)


class Region:
    """A region by name, opened at its first use and never closed, so that forked children have it.

    Args:
        name: The region's name, as for ``pycache.Cache``.
        on_error: "ignore" or "raise"; see the module.
        options: Keywords of ``pycache.Cache`` other than ``name`` and ``ttl``.

    Raises TypeError for an option that there is not, ValueError for another ``on_error``.
    """

    def __init__(self, name: str, on_error: str = "ignore", options: Mapping[str, Any] | None = None) -> None:
        self.name = name
        self.options = dict(options or {})
        if unknown := sorted(self.options.keys() - OPTIONS):
            raise TypeError(f"{unknown[0]!r} is no option of a cache region; there are {', '.join(sorted(OPTIONS))}")
        if on_error not in ("ignore", "raise"):
            raise ValueError(f'on_error is "ignore" or "raise", not {on_error!r}')
        self.on_error = on_error
        #: How many failures of each kind were ignored, by the ``code`` of the error.
        self.failures: Counter[str] = Counter()
        self._cache: Cache[Any, Any] | None = None
        _regions.add(self)

    @property
    def cache(self) -> Cache[Any, Any]:
        """The open cache; raises what ``pycache.Cache`` raises."""
        cache = self._cache
        if cache is None:
            # Two threads may both come here: then one handle is used once and dropped.
            self._cache = cache = Cache(self.name, **self.options)
        return cache

    def failed(self, error: CacheError) -> None:
        """Counts ``error`` and returns, or raises it; called where it was caught."""
        if self.on_error == "raise" or isinstance(error, MISTAKES):
            raise error
        code = error.code or type(error).__name__
        self.failures[code] += 1
        if self.failures[code] == 1:
            logger.warning(
                "the cache region %r failed and is passed by; later failures of this kind are only counted: %s: %s",
                self.name, type(error).__name__, error,
            )

    def drop(self, key: Any) -> None:
        """Removes ``key`` after a write of it that failed, so that no older value stays."""
        try:
            self.cache.delete(key)
        except CacheError:
            pass


_regions: weakref.WeakSet[Region] = weakref.WeakSet()


def forget() -> None:
    """Lets every region be opened anew at its next use: for tests that move the directory."""
    for region in list(_regions):
        region._cache = None


_shared: dict[tuple[Any, ...], Region] = {}


def shared(name: str, on_error: str, options: Mapping[str, Any]) -> Region:
    """The one `Region` of this process for these arguments, for libraries that make an adapter in each thread."""
    key = (name, on_error, *sorted((option, str(value)) for option, value in options.items()))
    region = _shared.get(key)
    return region if region is not None else _shared.setdefault(key, Region(name, on_error, options))
