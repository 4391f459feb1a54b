"""What commands of one key are beside programs that change the key at the same time."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pycache import Cache

from .conftest import SECONDS, Served
from .resp import Link, request

TRY_SECONDS = 1.5
"""How long a race is tried for: thousands of rounds."""


def write_numbers(directory: Path, region: str) -> None:
    cache = Cache(region, dir=directory)
    number = 0
    while True:
        number += 1
        cache["from"] = number


def come_and_go(directory: Path, region: str) -> None:
    cache = Cache(region, dir=directory)
    while True:
        cache["from"] = 1
        cache.pop("from", None)


def write_old_and_new(directory: Path, region: str) -> None:
    cache = Cache(region, dir=directory)
    while True:
        cache.set("key", b"old", ttl=5)
        cache.set("key", b"new")


@contextmanager
def beside(work: Callable[[Path, str], None], served: Served) -> Iterator[None]:
    """A program that is attached to the region and goes on until it is killed."""
    process = multiprocessing.get_context("spawn").Process(target=work, args=(served.directory, served.region))
    process.start()
    try:
        cache = Cache(served.region, dir=served.directory)
        deadline = time.monotonic() + SECONDS
        while not ("from" in cache or "key" in cache):
            assert time.monotonic() < deadline
        yield
    finally:
        process.kill()
        process.join(SECONDS)


@pytest.mark.parametrize(
    ("setup", "command"),
    [
        (["SET", "key", "v"], ["EXPIRE", "key", "100", "NX"]),
        (["SET", "key", "v" * 40_000], ["EXPIRE", "key", "100", "NX"]),
        (["SET", "key", "v", "EX", "100"], ["PERSIST", "key"]),
    ],
    ids=["EXPIRE", "EXPIRE-of-a-large-value", "PERSIST"],
)
def test_of_clients_that_want_the_same_one_succeeds(
    serve: Callable[..., Served], setup: list[str], command: list[str]
) -> None:
    served = serve("--threads", "4")
    links = [Link(served.path) for _ in range(4)]
    for _ in range(1_000):
        assert links[0].call(*setup) == ("+", "OK")
        for link in links:
            link.raw(request(*command))
        assert sorted(link.read() for link in links) == [0, 0, 0, 1]
    for link in links:
        link.close()


def test_a_name_that_was_made_was_answered_for(served: Served) -> None:
    with beside(write_numbers, served), Link(served.path) as link:
        deadline = time.monotonic() + TRY_SECONDS
        while time.monotonic() < deadline:
            link.call("DEL", "to")
            reply = link.call("RENAMENX", "from", "to")
            is_made = link.call("EXISTS", "to") == 1
            assert reply == 1 if is_made else isinstance(reply, tuple), reply


def test_an_old_name_that_goes_meanwhile_was_moved(served: Served) -> None:
    with beside(come_and_go, served), Link(served.path) as link:
        deadline = time.monotonic() + TRY_SECONDS
        while time.monotonic() < deadline:
            link.call("DEL", "to")
            reply = link.call("RENAME", "from", "to")
            is_made = link.call("EXISTS", "to") == 1
            assert is_made == (reply == ("+", "OK")), reply


def test_getex_answers_what_it_gave_the_expiry(served: Served) -> None:
    with beside(write_old_and_new, served), Link(served.path) as link:
        deadline = time.monotonic() + TRY_SECONDS
        while time.monotonic() < deadline:
            reply = link.call("GETEX", "key", "EX", "1000")
            left, now = link.call("TTL", "key"), link.call("GET", "key")
            # The value is of one change, the time left of another, only if both were replaced.
            if reply == b"old" and now == b"new" and isinstance(left, int) and left > 900:
                assert link.call("TTL", "key") < 900, "the expiry of what was answered went to another"  # type: ignore[operator]
