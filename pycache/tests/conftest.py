"""What every test gets: a directory of its own in shared memory, and a cache in it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator

import pytest
from hypothesis import settings

from pycache import Cache

pytest_plugins = ["pycache.testing"]

# Hypothesis prints the seed of what fails; examples are not kept between runs.
settings.register_profile("pycache", database=None, deadline=None, print_blob=True)
settings.load_profile("pycache")


@pytest.fixture
def directory() -> Iterator[str]:
    """A private directory on tmpfs, removed with everything in it."""
    path = tempfile.mkdtemp(prefix="pycache-test-", dir="/dev/shm")
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def roomy() -> Iterator[Cache]:
    """An empty cache so large that no two of a handful of tags share a word: then one would take the other along."""
    with Cache(None, size="512MiB") as cache:
        yield cache


@pytest.fixture
def cache(directory: str) -> Iterator[Cache]:
    """An empty cache of 4 MB."""
    with Cache("test", size="4MB", dir=directory) as cache:
        yield cache
