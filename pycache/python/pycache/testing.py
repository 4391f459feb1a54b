"""Regions and a clock for tests: nothing is shared with other tests, and nothing waits.

A pytest plugin; ask for it in the topmost ``conftest.py``::

    pytest_plugins = ["pycache.testing"]

Then a test takes what it needs as arguments::

    def test_a_session_ends(cache_shm, cache_shm_clock):
        cache_shm.set("session", "token", ttl=3600)
        cache_shm_clock.advance(3600)
        assert "session" not in cache_shm

While such a test runs, ``CACHE_SHM_DIR`` names a directory of its own, so that whatever the
tested code opens by name is new and is destroyed afterwards, in this process and in those that it
starts. With another test runner, ``isolated`` does the same. Tests that run at once in other
processes (pytest-xdist) have directories of their own; threads of one process share theirs.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from typing import Any, NamedTuple

from . import Cache, CacheError, destroy, regions
from ._pycache import Clock

__all__ = ["Clock", "Isolation", "isolated"]

DIRECTORY = "CACHE_SHM_DIR"


class Isolation(NamedTuple):
    """What ``isolated`` gives."""

    directory: str
    """Where regions are that are opened by name."""
    clock: Clock
    """The clock by which they expire."""


@contextlib.contextmanager
def isolated() -> Iterator[Isolation]:
    """Regions of its own for a ``with`` block, with a clock that is moved by hand.

    Inside the block ``CACHE_SHM_DIR`` names a new directory, in this process and in those that it
    starts. Regions in it are destroyed at the end: handles that are kept see an empty cache no
    more, but RegionGone. Handles from before the block, and caches without a name, are not
    affected; the adapters open their regions anew on either side of it.

    >>> with isolated() as (directory, clock):
    ...     cache = Cache("sessions", size="2MB", ttl=60)
    ...     cache["user"] = 7
    ...     clock.advance(60)
    ...     "user" in cache
    False
    """
    before = os.environ.get(DIRECTORY)
    parent = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    directory = tempfile.mkdtemp(prefix=f"cache-shm-test-{os.getpid()}-", dir=parent)
    try:
        clock = Clock(directory)
        os.environ[DIRECTORY] = directory
        _forget_adapters()
        yield Isolation(directory, clock)
    finally:
        if before is None:
            os.environ.pop(DIRECTORY, None)
        else:
            os.environ[DIRECTORY] = before
        _forget_adapters()
        for region in regions(directory):
            with contextlib.suppress(CacheError):
                destroy(region.name, directory)
        shutil.rmtree(directory, ignore_errors=True)


def _forget_adapters() -> None:
    """Lets the adapters that are in use open their regions anew."""
    adapters = sys.modules.get("pycache.adapters._region")
    if adapters is not None:
        adapters.forget()


try:
    import pytest
except ImportError:
    pass
else:

    @pytest.fixture
    def cache_shm_isolated() -> Iterator[Isolation]:
        """A directory for the regions of this test, and their clock: see ``isolated``."""
        with isolated() as isolation:
            yield isolation

    @pytest.fixture
    def cache_shm_clock(cache_shm_isolated: Isolation) -> Clock:
        """The clock by which values expire in this test; ``advance(seconds)`` moves it."""
        return cache_shm_isolated.clock

    @pytest.fixture
    def cache_shm(cache_shm_isolated: Isolation) -> Iterator[Cache[Any, Any]]:
        """An empty cache of 4 MiB, of this test alone; its name is ``test``."""
        with Cache[Any, Any]("test", size="4MiB") as cache:
            yield cache
