"""How a server begins and ends, and what it says of its options."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import SECONDS, Served, ended, wait_for
from .resp import Link


def test_a_server_ends_after_what_is_under_way(serve: Callable[..., Served]) -> None:
    served = serve()
    value = b"x" * (4 << 20)
    with Link(served.path) as link:
        link.call("SET", "k", value)
        link.send("GET", "k")
        # A part of it: the rest is under way when the signal comes.
        assert link.line() == b"$%d" % len(value)
        served.process.send_signal(signal.SIGTERM)
        wait_for(lambda: not Path(served.path).exists())
        assert link.exactly(len(value)) == value
        assert served.process.wait(SECONDS) == 0


def test_a_client_that_never_reads_does_not_keep_a_server_from_its_end(serve: Callable[..., Served]) -> None:
    served = serve()
    with Link(served.path) as link:
        link.call("SET", "k", b"x" * (4 << 20))
        link.send("GET", "k")
        assert link.line()
        began = time.monotonic()
        assert served.end() == 0
        assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('[serve]\nclients_max = "many"\n', ":2"),
        ("[serve]\nno_such = 1\n", ":2"),
        ('[default]\nsize = "1MiB"\n[serve]\nbind = "127.0.0.1:1"\n', ":4"),
        ("[serve]\nthreads = [1]\n", ":2"),
    ],
)
def test_a_mistake_in_the_file_is_named_and_nothing_starts(directory: Path, text: str, named: str) -> None:
    file = directory / "cache.toml"
    file.write_text(text)
    file.chmod(0o600)
    for flags in (["--check"], []):
        done = ended("--dir", str(directory), "serve", "r", *flags, CACHE_SHM_CONFIG=str(file))
        assert done.returncode == 2 and f"{file}{named}" in done.stderr, done.stderr
    assert not list(directory.glob("r*"))


def test_check_says_which_options_hold_and_where_from(directory: Path) -> None:
    file = directory / "cache.toml"
    file.write_text('[serve]\nthreads = 2\nlog_format = "json"\n')
    file.chmod(0o600)
    variables = {"CACHE_SHM_CONFIG": str(file), "CACHE_SHM_SERVE_DATABASES": "4"}
    done = ended("serve", "r", "--check", "--threads", "3", **variables)
    assert done.returncode == 0, done.stderr
    rows = dict(line.split(None, 1) for line in done.stdout.splitlines())
    assert rows["threads"] == "3  (flag --threads)"
    assert rows["databases"] == "4  (environment CACHE_SHM_SERVE_DATABASES)"
    assert rows["log_format"] == f"json  ({file}:3 [serve])"
    assert rows["clients_max"] == "10000  (default)"
