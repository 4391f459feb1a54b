"""What `logging` hears of the region: handed on at the end of a call, with nothing locked."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from pycache import Cache, RegionGone
from pycache.testing import Clock

NAME = "pycache.region"
SECONDS_MAX = 60


@pytest.fixture(autouse=True)
def hearing(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.INFO, NAME):
        yield


def texts(caplog: pytest.LogCaptureFixture, part: str) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == NAME and part in record.getMessage()]


def holder(directory: str, name: str = "test") -> subprocess.Popen[str]:
    """A process that holds a lock of the region until it is killed."""
    script = f"""
import signal
from pycache import Cache
signal.alarm({2 * SECONDS_MAX})
cache = Cache({name!r}, dir={directory!r})
assert cache.lock("held").acquire()
print("held", flush=True)
signal.pause()
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait(SECONDS_MAX)
    assert process.stdout is not None
    process.stdout.close()


def test_the_death_of_a_holder_is_heard_by_who_takes_over(
    cache: Cache, directory: str, caplog: pytest.LogCaptureFixture
) -> None:
    process = holder(directory)
    kill(process)
    with cache.lock("held"):
        cache["a"] = 1
    told = texts(caplog, "ended in the middle")
    assert len(told) == 1
    assert f"process {process.pid} " in told[0] and str(cache.path) in told[0]
    assert [record.levelname for record in caplog.records if record.getMessage() == told[0]] == ["WARNING"]


def test_a_handler_may_use_the_very_cache(cache: Cache, directory: str, caplog: pytest.LogCaptureFixture) -> None:
    class Storing(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            with cache.lock("of the handler"):
                cache.set_many({f"record {number}": record.getMessage() for number in range(1000)})

    handler = Storing()
    logging.getLogger(NAME).addHandler(handler)
    try:
        kill(holder(directory))
        with cache.lock("held"):
            cache["a"] = 1
        assert "ended in the middle" in cache["record 7"]
    finally:
        logging.getLogger(NAME).removeHandler(handler)


def test_a_handler_that_fails_does_not_fail_the_call(cache: Cache, directory: str) -> None:
    class Failing(logging.Handler):
        def handle(self, record: logging.LogRecord) -> bool:
            raise ValueError("a handler")

    handler = Failing()
    logging.getLogger(NAME).addHandler(handler)
    hook, sys.unraisablehook = sys.unraisablehook, lambda found: failed.append(found.exc_value)
    failed: list[BaseException | None] = []
    try:
        kill(holder(directory))
        with cache.lock("held"):
            cache["a"] = 1
    finally:
        sys.unraisablehook = hook
        logging.getLogger(NAME).removeHandler(handler)
    assert cache["a"] == 1 and [str(error) for error in failed] == ["a handler"]


def test_threads_that_write_while_a_handler_waits_go_on(cache: Cache, directory: str) -> None:
    """A handler that waited for another thread of the cache would have stopped both, had anything been locked."""
    written = threading.Event()

    class Waiting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            def write() -> None:
                for number in range(1000):
                    cache[number] = number
                written.set()

            threading.Thread(target=write).start()
            assert written.wait(SECONDS_MAX)

    handler = Waiting()
    logging.getLogger(NAME).addHandler(handler)
    try:
        kill(holder(directory))
        with cache.lock("held"):
            cache["a"] = 1
        assert written.is_set() and cache[999] == 999
    finally:
        logging.getLogger(NAME).removeHandler(handler)


def test_a_region_that_is_removed_from_outside_is_heard_of(directory: str, caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock(directory)
    cache = Cache("removed", size="2MB", dir=directory)
    reader = Cache("removed", dir=directory, read_only=True)
    os.unlink(os.path.join(directory, "removed"))
    clock.advance(1)
    for failing in (lambda: cache.set("a", 1), lambda: reader.get("a")):
        with pytest.raises(RegionGone):
            failing()
    assert len(texts(caplog, "from outside")) == 2, "an attachment for reading and one for writing"


def test_many_deaths_make_few_records(cache: Cache, directory: str, caplog: pytest.LogCaptureFixture) -> None:
    started = time.monotonic()
    processes = []
    for number in range(5):
        process = holder(directory)
        kill(process)
        with cache.lock("held"):
            cache["a"] = number
        processes.append(process.pid)
    while True:
        cache["a"] = 1
        told = texts(caplog, "ended in the middle")
        if str(processes[-1]) in told[-1]:
            break
        assert time.monotonic() - started < SECONDS_MAX
    assert len(told) <= 2 + (time.monotonic() - started)
