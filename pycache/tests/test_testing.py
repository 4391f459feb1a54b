"""`pycache.testing`: regions of one test, and a clock that is moved instead of waited for."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import workers
from test_package import examples, passes

import pycache.testing
from pycache import Cache, InvalidArgument, NotRegion, RegionGone, RegionMissing, regions
from pycache.adapters.cachelib import SharedMemoryCache
from pycache.testing import Clock, isolated


def test_values_expire_when_the_clock_is_moved(cache_shm: Cache, cache_shm_clock: Clock) -> None:
    cache_shm.set("minute", 1, ttl=60)
    cache_shm.set("hour", 1, ttl=timedelta(hours=1))
    cache_shm["for ever"] = 1
    cache_shm_clock.advance(59.999)
    assert cache_shm.ttl("minute") == pytest.approx(0.001)
    cache_shm_clock.advance(timedelta(milliseconds=1))
    assert sorted(cache_shm) == ["for ever", "hour"]
    cache_shm_clock.advance(timedelta(days=365))
    assert list(cache_shm) == ["for ever"]


def test_locks_and_rates_go_by_the_clock(cache_shm: Cache, cache_shm_clock: Clock) -> None:
    lock, limit = cache_shm.lock("a", ttl=60), cache_shm.rate_limit("b", 1, per=60)
    assert lock.acquire() and limit.hit().allowed and not limit.hit().allowed
    cache_shm_clock.advance(60)
    assert not lock.owned() and limit.hit().allowed


def test_every_handle_of_the_test_has_the_clock(cache_shm: Cache, cache_shm_clock: Clock) -> None:
    other, reader = Cache("test", ttl=60), Cache("test", read_only=True)
    other["a"] = 1
    assert reader["a"] == cache_shm["a"] == 1
    cache_shm_clock.advance(60)
    assert "a" not in other and "a" not in reader and "a" not in cache_shm


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_other_processes_have_the_clock(cache_shm: Cache, cache_shm_clock: Clock, method: str) -> None:
    context: Any = multiprocessing.get_context(method)
    cache_shm.set("a", 1, ttl=60)
    for there in (True, False):
        process = context.Process(target=workers.say_whether_it_is_there, args=(cache_shm, "a"))
        process.start()
        process.join(workers.PATIENCE)
        assert (process.exitcode, cache_shm["found"]) == (0, there)
        cache_shm_clock.advance(60)


def test_another_process_moves_the_clock_of_this_one(cache_shm: Cache) -> None:
    cache_shm.set("a", 1, ttl=60)
    script = "import os; from pycache.testing import Clock; Clock(os.environ['CACHE_SHM_DIR']).advance(60)"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=workers.PATIENCE)
    assert "a" not in cache_shm


@pytest.mark.parametrize("wrong", [0, -1, -0.001, timedelta(0), None, float("inf"), float("nan")])
def test_the_clock_goes_forward_only(cache_shm_clock: Clock, wrong: Any) -> None:
    before = cache_shm_clock.now
    with pytest.raises(InvalidArgument):
        cache_shm_clock.advance(wrong)
    assert cache_shm_clock.now == before
    cache_shm_clock.advance(1e-9)
    assert cache_shm_clock.now == pytest.approx(before + 0.001)


def test_a_clock_belongs_to_a_directory(directory: str) -> None:
    with pytest.raises(RegionMissing):
        Clock(os.path.join(directory, "nothing"))
    Path(directory, ".clock").write_text("what is this?")
    os.chmod(Path(directory, ".clock"), 0o600)
    with pytest.raises(NotRegion, match=r"\.clock"):
        Clock(directory)


def test_nothing_is_left_of_a_block(monkeypatch: pytest.MonkeyPatch, directory: str) -> None:
    monkeypatch.setenv("CACHE_SHM_DIR", directory)
    outside = Cache("sessions", size="2MB")
    outside["where"] = "outside"
    with isolated() as isolation:
        inside = Cache("sessions", size="2MB")
        assert len(inside) == 0 and os.environ["CACHE_SHM_DIR"] == isolation.directory
        assert inside.path == str(Path(isolation.directory, "sessions"))
    assert not os.path.exists(isolation.directory)
    assert os.environ["CACHE_SHM_DIR"] == directory and outside["where"] == "outside"
    with pytest.raises(RegionGone):
        inside["where"] = "nowhere"
    assert regions(directory)[0].name == "sessions"


def test_a_block_that_raises_is_left_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CACHE_SHM_DIR", raising=False)
    with pytest.raises(ZeroDivisionError), isolated() as isolation:
        Cache("a", size="2MB")
        1 / 0
    assert not os.path.exists(isolation.directory) and "CACHE_SHM_DIR" not in os.environ


def test_adapters_open_their_regions_anew_in_each_block() -> None:
    pytest.importorskip("cachelib")
    with isolated():
        adapter = SharedMemoryCache("site", size="2MB")
        adapter.set("a", 1, timeout=60)
    with isolated() as (_, clock):
        assert adapter.get("a") is None
        adapter.set("a", 2, timeout=60)
        assert adapter.get("a") == 2
        clock.advance(60)
        assert adapter.get("a") is None and not adapter.failures


TESTS = """
import os, pytest
from pycache import Cache

@pytest.mark.parametrize("number", range(8))
def test_sees_nothing_of_the_others(number, cache_shm, cache_shm_isolated):
    same = Cache("test")
    assert len(same) == 0 and cache_shm == same
    same["mine"] = number
    with open(os.path.join(os.environ["LOG"], f"{os.getpid()}-{number}"), "w") as log:
        log.write(cache_shm_isolated.directory)
"""


def run_pytest(folder: Path, *arguments: str) -> list[str]:
    (folder / "conftest.py").write_text('pytest_plugins = ["pycache.testing"]\n')
    (folder / "test_it.py").write_text(TESTS)
    (folder / "log").mkdir()
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments, "test_it.py"]
    environment = {**os.environ, "LOG": str(folder / "log")}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=workers.PATIENCE)
    assert done.returncode == 0 and "8 passed" in done.stdout, done.stdout + done.stderr
    return sorted(path.name for path in (folder / "log").iterdir())


@pytest.mark.parametrize("arguments", [[], ["-n", "2"]], ids=["one process", "two workers"])
def test_each_test_and_worker_has_a_region_of_its_own(tmp_path: Path, arguments: list[str]) -> None:
    if arguments:
        pytest.importorskip("xdist")
    logs = run_pytest(tmp_path, *arguments)
    directories = {(tmp_path / "log" / name).read_text() for name in logs}
    assert len(logs) == len(directories) == 8
    assert len({name.split("-")[0] for name in logs}) == (2 if arguments else 1)
    assert not any(os.path.exists(directory) for directory in directories)


def test_the_module_does_without_pytest() -> None:
    script = "import sys; sys.modules['pytest'] = None; from pycache.testing import isolated\nwith isolated(): pass"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=workers.PATIENCE)


@pytest.mark.parametrize("what", [Clock, Clock.advance, isolated], ids=lambda what: what.__name__)
def test_the_examples_are_true(directory: str, what: Callable[..., object]) -> None:
    text = what.__doc__ or ""
    if ">>>" in text:
        names = {"Cache": Cache, "Clock": Clock, "isolated": isolated, "directory": directory}
        passes(examples(text, what.__name__, names))
    assert text and sorted(pycache.testing.__all__) == pycache.testing.__all__
