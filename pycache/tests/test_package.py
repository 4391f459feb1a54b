"""The package: its examples, its stubs, its command, and what importing it costs."""

from __future__ import annotations

import doctest
import importlib.metadata
import importlib.util
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import pycache
from pycache import Cache, destroy, error_counts, regions

PACKAGE = Path(pycache.__file__).parent
METHODS = sorted(name for name in dir(Cache) if not name.startswith("_") and callable(getattr(Cache, name)))


def examples(text: str | None, name: str, names: dict[str, Any]) -> doctest.DocTest:
    assert text, f"{name} has no docstring"
    return doctest.DocTestParser().get_doctest(inspect.cleandoc(text), names, name, None, 0)


def passes(test: doctest.DocTest) -> None:
    assert test.examples, f"{test.name} shows no example"
    said: list[str] = []
    outcome = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=said.append)
    assert outcome.failed == 0, "".join(said)


@pytest.mark.parametrize("name", METHODS)
def test_the_example_of_a_method_is_true(cache: Cache, name: str) -> None:
    passes(examples(getattr(Cache, name).__doc__, name, {"cache": cache, "Cache": Cache}))


def test_the_examples_of_the_package_are_true(directory: str) -> None:
    names = {"Cache": Cache, "regions": regions, "destroy": destroy, "error_counts": error_counts, "directory": directory}
    for what in (pycache, Cache, regions, destroy, error_counts):
        passes(examples(what.__doc__, what.__name__, dict(names)))


def test_every_property_says_what_it_is() -> None:
    properties = [name for name, value in vars(Cache).items() if inspect.isgetsetdescriptor(value) and name[0] != "_"]
    assert len(properties) >= 7
    for name in properties:
        assert getattr(Cache, name).__doc__, name


def test_the_signatures_can_be_inspected() -> None:
    assert list(inspect.signature(Cache.get).parameters) == ["self", "key", "default"]
    assert list(inspect.signature(Cache.set).parameters) == ["self", "key", "value", "ttl", "tags"]
    assert inspect.signature(Cache.incr).parameters["delta"].default == 1


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=120, check=False, env=os.environ | environment
    )


def test_importing_loads_neither_the_server_nor_what_is_seldom_used() -> None:
    script = "import sys, json, pycache; print(json.dumps([sorted(sys.modules), open('/proc/self/maps').read()]))"
    done = python("-c", script)
    assert done.returncode == 0, done.stderr
    modules, maps = json.loads(done.stdout)
    assert "pycache._pycache" in modules
    ours = sorted(module for module in modules if module.startswith("pycache"))
    assert ours == ["pycache", "pycache._pycache"]
    assert not {"decimal", "uuid", "zoneinfo", "pickle", "logging", "ssl", "asyncio"} & set(modules)
    assert "cache-shm" not in maps


def test_the_wheel_depends_on_nothing() -> None:
    required = importlib.metadata.requires("pycache-shm") or []
    assert required and all("extra ==" in line for line in required)


def test_importing_the_adapters_imports_no_framework() -> None:
    done = python("-c", "import sys, pycache.adapters; print(*sys.modules)")
    assert done.returncode == 0, done.stderr
    assert not set(FRAMEWORKS) & set(done.stdout.split())


def test_the_package_says_its_version_and_is_typed() -> None:
    assert importlib.metadata.version("pycache-shm") == pycache.__version__
    assert (PACKAGE / "py.typed").exists() and (PACKAGE / "_pycache.pyi").exists()


def test_all_names_are_exported() -> None:
    assert sorted(pycache.__all__) == pycache.__all__
    assert all(hasattr(pycache, name) for name in pycache.__all__)
    errors = {name for name, value in vars(pycache).items() if isinstance(value, type) and issubclass(value, Exception)}
    assert errors | {"Cache", "RegionInfo", "destroy", "error_counts", "regions", "__version__"} == set(pycache.__all__)


def test_the_command_is_the_same_program_both_ways(directory: str) -> None:
    cache = Cache("from-python", size="2MB", dir=directory)
    cache["greeting"] = "hello"
    listed = python("-m", "pycache", "list", "--json", CACHE_SHM_DIR=directory)
    assert listed.returncode == 0, listed.stderr
    assert "from-python" in listed.stdout
    found = python("-m", "pycache", "get", "from-python", "greeting", CACHE_SHM_DIR=directory)
    assert (found.returncode, found.stdout.strip()) == (0, "hello")
    missing = python("-m", "pycache", "get", "from-python", "nothing", CACHE_SHM_DIR=directory)
    assert missing.returncode == 1
    wrong = python("-m", "pycache", "get", "no-such-region", "key", CACHE_SHM_DIR=directory)
    assert wrong.returncode == 2 and "no-such-region" in wrong.stderr
    script = Path(sys.executable).with_name("cache-shm")
    if script.exists():
        same = subprocess.run([script, "get", "from-python", "greeting"], capture_output=True, text=True, check=False,
                              env=os.environ | {"CACHE_SHM_DIR": directory})
        assert (same.returncode, same.stdout.strip()) == (0, "hello")
    else:
        pytest.fail(f"there is no command {script}: the package is not installed")


def test_what_the_command_writes_python_reads(directory: str) -> None:
    cache = Cache("from-shell", size="2MB", dir=directory)
    done = python("-m", "pycache", "set", "from-shell", "7", "41", CACHE_SHM_DIR=directory)
    assert done.returncode == 0, done.stderr
    assert cache.incr(7) == 42
    assert list(cache) == ["7"]


# --- types --------------------------------------------------------------------------------------

needs_mypy = pytest.mark.skipif(importlib.util.find_spec("mypy") is None, reason="mypy is not installed")
FRAMEWORKS = ["aiocache", "cachelib", "django", "dogpile", "flask_caching", "limits", "prometheus_client", "requests_cache"]
MISSING = [name for name in FRAMEWORKS if importlib.util.find_spec(name) is None]
needs_frameworks = pytest.mark.skipif(bool(MISSING), reason=f"not installed, but imported by adapters: {', '.join(MISSING)}")

PROGRAM = '''
from datetime import timedelta
from typing import assert_type
from pycache import Busy, Cache, CacheError, RegionInfo, regions

cache: Cache[str, list[int]] = Cache("typed", size="2MB", ttl=timedelta(minutes=1), timeout=0.5)
assert_type(cache.get("a"), list[int] | None)
assert_type(cache.get("a", [1]), list[int])
assert_type(cache.get("a", "none"), list[int] | str)
assert_type(cache["a"], list[int])
assert_type(cache.view("a"), memoryview | None)
assert_type(cache.view("a", b""), memoryview | bytes)
assert_type(cache.pop("a", None), list[int] | None)
assert_type(cache.get_many(["a", "b"]), dict[str, list[int]])
assert_type(cache.set_many({"a": [1]}), list[str])
assert_type(cache.get_or_set("a", lambda: [1], ttl=5), list[int])

@cache.memoize(ttl=5, ignore=("wide",))
def load(number: int, wide: bool = False) -> list[int]:
    return [number]

@cache.memoize
async def aload(number: int) -> str:
    return str(number)

class Shelf:
    @cache.memoize(ignore=("self",))
    def book(self, number: int) -> str:
        return str(number)

    @cache.memoize
    @classmethod
    def made(cls, number: int) -> str:
        return str(number)

    @cache.memoize(ttl=5)
    @classmethod
    def amade(cls, number: int) -> str:
        return str(number)

    @cache.memoize
    @staticmethod
    def plain(number: int) -> bytes:
        return b""

    @cache.memoize(tags=lambda number: f"n:{number}", wait=timedelta(seconds=5))
    @staticmethod
    def dated(number: int) -> bytes:
        return b""

    @staticmethod
    @cache.memoize
    def outer(number: int) -> bytes:
        return b""

    @classmethod
    @cache.memoize
    def couter(cls, number: int) -> bytes:
        return b""

async def wait_for_it() -> None:
    assert_type(await cache.aget_or_set("a", lambda: [1]), list[int])
    assert_type(await aload(5), str)
    async with cache.alock("a"):
        pass

assert_type(load(5, wide=True), list[int])
assert_type(load.refresh(5), list[int])
assert_type(load.cache_key(5), str)
assert_type(load.cache_info().hits, int)
shelf = Shelf()
assert_type(shelf.book(5), str)
assert_type(Shelf.made(5), str)
assert_type(shelf.made(number=5), str)
assert_type(shelf.amade(5), str)
assert_type(Shelf.plain(5), bytes)
assert_type(Shelf.plain(5), bytes)
assert_type(Shelf.dated(5), bytes)
assert_type(Shelf.outer(5), bytes)
assert_type(Shelf.couter(5), bytes)
assert_type(shelf.book.cache_info().hits, int)
shelf.book.cache_clear()
assert_type(shelf.book.cache_key(shelf, 5), str)
assert_type(Shelf.book.cache_key(shelf, 5), str)
assert_type(Shelf.book.bypass(shelf, 5), str)
assert_type(shelf.book.bypass(shelf, 5), str)
assert_type(Shelf.made.cache_key(Shelf, 5), str)
assert_type(shelf.made.cache_info().misses, int)
assert_type(Shelf.plain.bypass(5), bytes)
assert_type(Shelf.plain.cache_key(5), str)
with cache.view("a") or memoryview(b"") as view:
    assert_type(view, memoryview)
found = cache.view("a")
if found is not None:
    with found as lent:
        assert_type(lent, memoryview)
limit = cache.rate_limit("a", 5, per=timedelta(hours=1))

@limit
def plain(number: int) -> int:
    return number

@limit(key=lambda number: number)
def keyed(number: int) -> int:
    return number

assert_type(plain(5), int)
assert_type(keyed(5), int)
assert_type(limit.acquire("ann", timeout=timedelta(seconds=1)), bool)
assert_type(cache.add("a", [1], ttl=None), bool)
assert_type(cache.incr("n", default=0), int)
assert_type(cache.ttl("a"), float | None)
assert_type([key for key in cache], list[str])
assert_type(dict(cache.items()), dict[str, list[int]])
assert_type(cache.stats()["hits"], int)
assert_type(regions(), list[RegionInfo])
with Cache[str, int]("other") as other:
    assert_type(other["a"], int)
with cache.lock("a", ttl=5) as lock:
    assert_type(lock.token, int | None)
assert_type(cache.semaphore("a", 2).acquire(timeout=1), bool)
assert_type(cache.rate_limit("a", 5, per=timedelta(hours=1)).hit("key").retry_after, float)
untyped = Cache(None)
untyped[("any", 7)] = {"thing"}
try:
    cache.set("a", [1], 30)
except Busy as error:
    assert_type(error.code, str | None)
except (CacheError, TimeoutError):
    pass
'''

WRONG = '''
from pycache import Cache
cache: Cache[str, int] = Cache("typed", 1 << 20)
cache[5] = 1
cache["a"] = "text"
cache.set("a", 1, ttl="60")
Cache("typed", size=1.5)
Cache("typed", on_mismatch="ignore")
cache.gett("a")
'''


def mypy(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *arguments], capture_output=True, text=True, cwd=cwd, check=False)


@needs_mypy
def test_a_typed_program_passes_and_a_wrong_one_does_not(tmp_path: Path) -> None:
    program = PROGRAM if sys.version_info >= (3, 11) else PROGRAM.replace(
        "from typing import assert_type", "from typing_extensions import assert_type")
    (tmp_path / "good.py").write_text(program)
    (tmp_path / "wrong.py").write_text(WRONG)
    good = mypy("mypy", "--strict", "good.py", cwd=tmp_path)
    assert good.returncode == 0, good.stdout
    wrong = mypy("mypy", "--strict", "wrong.py", cwd=tmp_path)
    assert {int(line.split(":")[1]) for line in wrong.stdout.splitlines() if ": error:" in line} == {4, 5, 6, 7, 8, 9}, wrong.stdout


@needs_mypy
@needs_frameworks
def test_the_stubs_say_what_the_module_has(tmp_path: Path) -> None:
    done = mypy("mypy.stubtest", "pycache", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_mypy
@needs_frameworks
def test_the_python_sources_are_strictly_typed(tmp_path: Path) -> None:
    sources = Path(__file__).parents[1] / "python" / "pycache"
    done = mypy("mypy", "--strict", sources, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
