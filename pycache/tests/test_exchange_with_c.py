"""A C process and a Python process exchange values: each reads what the other stored, as what it is."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

import workers
from pycache import Cache

CAPI = Path(__file__).parents[2] / "cache-shm" / "capi"
HEADERS = CAPI.parent / "include"
COUNT = 200_000
SECONDS_MAX = 300

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The other end, compiled from the tree."""
    build = ["cargo", "build", "--locked", "--package", "cache-shm-capi", "--message-format", "json"]
    built = subprocess.run(build, cwd=CAPI, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    (library,) = set(re.findall(r'"([^"]+/libcache_shm\.a)"', built.stdout))
    made = tmp_path_factory.mktemp("c") / "exchange"
    source = CAPI / "tests" / "c" / "exchange.c"
    warnings = ["-std=c11", "-Wall", "-Wextra", "-Werror"]
    command = ["cc", *warnings, f"-I{HEADERS}", source, library, "-lpthread", "-ldl", "-lm", "-o", made]
    compiled = subprocess.run(command, capture_output=True, text=True, check=False)
    assert compiled.returncode == 0, compiled.stderr
    return made


def test_values_keep_their_kinds_between_c_and_python_and_no_count_is_lost(program: Path, directory: str):
    listed = [1, -1, "a", None, 1.5]
    cache = Cache("exchange", size="8MiB", dir=directory, ttl=600)
    mine = {
        "bytes": b"\0\1\xff",
        "text": "hé",
        "int": -1234567890123,
        "float": 1.5,
        "none": None,
        "true": True,
        "false": False,
        "list": listed,
        "bytearray": bytearray(b"abc"),
        "large": b"x" * 300_000,
        7: "an int is a key by its digits",
    }
    assert not cache.set_many(mine)
    cache.namespace("users")["ada"] = "Lovelace"
    with cache.lock("start"):
        command = [program, os.path.join(directory, "exchange"), str(COUNT)]
        other = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        # Now it waits for the lock: both count at once.
        workers.wait_for(cache, "c plain", b"plain")
    for _ in range(COUNT):
        cache.incr("count", default=0)
    out, errors = other.communicate(timeout=SECONDS_MAX)
    assert (other.returncode, out, errors) == (0, "ok\n", "")
    assert cache["count"] == 2 * COUNT

    theirs = {name: cache[f"c {name}"] for name in ["bytes", "text", "int", "float", "none", "true", "false", "list", "large"]}
    assert theirs == {name: mine[name] for name in theirs} | {"float": float("inf")}
    assert [type(value) for value in theirs.values()] == [type(mine[name]) for name in theirs]
    assert cache["c plain"] == b"plain"
    assert 500 < cache.ttl("c text") <= 600
    assert cache.ttl("c plain") is None
    cache.destroy()


@pytest.mark.parametrize("key", ["text", "large"])
def test_the_other_end_notices_a_value_that_is_missing(program: Path, directory: str, key: str):
    with Cache("exchange", size="8MiB", dir=directory) as cache:
        cache["bytes"] = b"\0\1\xff"
        done = subprocess.run(
            [program, os.path.join(directory, "exchange"), "0"], capture_output=True, text=True, timeout=SECONDS_MAX, check=False
        )
        assert done.returncode == 1
        assert "text: not_found" in done.stderr
        cache.destroy()
