"""What the server's options mean: where they stand, what is refused, and what is told."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pycache import Cache

from .conftest import Served, client, ended, wait_for

Serve = Callable[..., Served]


def options(directory: Path, text: str) -> str:
    """A file of options."""
    file = directory / "cache.toml"
    file.write_text(text)
    file.chmod(0o600)
    return str(file)


def checked(directory: Path, region: str, *flags: str, **variables: str) -> dict[str, str]:
    """The options that hold for the server of a region."""
    done = ended("--dir", str(directory), "serve", region, "--check", *flags, **variables)
    assert done.returncode == 0, done.stderr
    return dict(line.split(None, 1) for line in done.stdout.splitlines())


# --- where options stand ----------------------------------------------------------------------------


def test_the_section_of_one_server_stands_before_that_of_all(directory: Path) -> None:
    # The order in the file does not matter.
    text = "[serve.users]\nthreads = 4\n[serve]\nthreads = 2\ndatabases = 8\nbind = []\n"
    file = options(directory, text)
    users = checked(directory, "users", CACHE_SHM_CONFIG=file)
    assert users["threads"] == f"4  ({file}:2 [serve.users])"
    assert users["databases"] == f"8  ({file}:5 [serve])"
    assert checked(directory, "others", CACHE_SHM_CONFIG=file)["threads"] == f"2  ({file}:4 [serve])"
    variable = checked(directory, "users", CACHE_SHM_CONFIG=file, CACHE_SHM_SERVE_THREADS="6")
    assert variable["threads"] == "6  (environment CACHE_SHM_SERVE_THREADS)"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('[serve.users]\nclients_max = "many"\n', ":2 [serve.users]: clients_max"),
        ("[serve]\nthreads = 2\n[serve.users]\nno_such = 1\n", ":4 [serve.users]: the server has no option"),
        ("[serve.users]\nthreads = [1]\n", ":2 [serve.users]: threads is one value and no list"),
    ],
)
def test_a_mistake_in_the_section_of_any_server_names_file_line_and_section(
    directory: Path, text: str, named: str
) -> None:
    file = options(directory, text)
    for region in ("users", "others"):
        done = ended("--dir", str(directory), "serve", region, "--check", CACHE_SHM_CONFIG=file)
        assert done.returncode == 2 and f"{file}{named}" in done.stderr, done.stderr


def test_several_addresses_are_a_list_or_one_text(directory: Path) -> None:
    for text in ('["127.0.0.1:1", "[::1]:1"]', '"127.0.0.1:1, [::1]:1"'):
        file = options(directory, f"[serve]\nauth = false\nbind = {text}\n")
        assert checked(directory, "r", CACHE_SHM_CONFIG=file)["bind"].startswith("127.0.0.1:1, [::1]:1  (")


# --- what --check knows -----------------------------------------------------------------------------


def test_check_prints_the_size_and_the_directory(directory: Path) -> None:
    rows = checked(directory, "r", "--size", "3MiB")
    assert rows["size"] == "3MiB  (flag --size)" and rows["dir"] == f"{directory}  (flag --dir)"
    assert not list(directory.iterdir()), "it makes nothing"


def test_check_refuses_what_the_start_refuses_and_nothing_is_made(directory: Path) -> None:
    there = str(directory / "x.sock")
    cases = [
        (["serve", "a/../b"], "cannot name a region"),
        (["serve", "r", "--size", "1"], "region size"),
        (["serve", "r", "--dir", "/nowhere/at/all"], "/nowhere/at/all"),
        (["serve", "r", "--socket", "/nowhere/x.sock"], "there is no directory /nowhere"),
        (["serve", "r", "--socket", there, "--memcached-socket", there], "socket and memcached_socket are both"),
        (["serve", "r", "--http-socket", str(directory / "r.sock")], "socket and http_socket are both"),
        (["serve", "r", "--snapshot-file", "/nowhere/file"], "/nowhere"),
        (["serve", "r", "--socket-mode", "666"], "--no-auth"),
        (["serve", "r", "--log-level", "warning"], "off, error, warn, info, debug or trace"),
    ]
    for words, named in cases:
        place = [] if "--dir" in words else ["--dir", str(directory)]
        told = {ended(*place, *words, *flags, CACHE_SHM_CONFIG="").stderr for flags in ([], ["--check"])}
        assert len(told) == 1 and named in told.pop(), words
    done = ended("serve", "r", "--dir", "/nowhere/at/all", CACHE_SHM_CONFIG="")
    assert done.returncode == 2 and "there is no region" not in done.stderr
    assert not list(directory.iterdir())


# --- what is told -----------------------------------------------------------------------------------


def test_a_misspelt_variable_is_told(serve: Serve, directory: Path) -> None:
    variables = {"CACHE_SHM_SERVE_CLIENT_MAX": "5"}
    done = ended("--dir", str(directory), "serve", "r", "--check", **variables)
    assert done.stderr.count("CACHE_SHM_SERVE_CLIENT_MAX") == 1
    served = serve(**variables)
    assert served.end() == 0
    assert served.log().count("CACHE_SHM_SERVE_CLIENT_MAX") == 1
    assert "CACHE_SHM_SERVE_CLIENT_MAX" in ended("config", **variables).stderr


def test_a_region_of_another_size_is_served_with_a_warning(serve: Serve, directory: Path) -> None:
    with Cache("served", dir=directory, size="4MiB"):
        served = serve(size="8MiB")
        assert served.end() == 0
    assert "another size" in served.log() and "bytes_asked=8388608 bytes=4194304" in served.log()


def test_the_second_server_of_a_region_says_that_it_is_not_alone(serve: Serve, directory: Path) -> None:
    first = serve()
    assert "another server serves this region" not in first.log()
    second = serve("--socket", str(directory / "second.sock"))
    wait_for(lambda: "another server serves this region" in second.log())
    assert client(first).set("k", "v")
    assert second.end() == 0 and first.end() == 0


# --- what is left behind ----------------------------------------------------------------------------


def test_a_region_that_was_destroyed_is_made_anew_as_it_was(serve: Serve, directory: Path) -> None:
    made = ["create", "served", "--size", "4MiB", "--no-evict", "--mode", "660"]
    assert ended("--dir", str(directory), *made).returncode == 0
    # Without a size of its own: what holds is the region's.
    served = serve(size="4MiB")
    before = (directory / "served").stat().st_ino
    assert ended("--dir", str(directory), "destroy", "served", "--yes").returncode == 0

    def is_new() -> bool:
        file = directory / "served"
        return file.exists() and file.stat().st_ino != before

    wait_for(is_new)
    assert (directory / "served").stat().st_mode & 0o777 == 0o660
    with Cache("served", dir=directory) as cache:
        assert cache.size == 4 << 20
    info = ended("--dir", str(directory), "info", "served").stdout
    assert "no-evict" in info
    assert client(served).set("k", "v")


def test_a_server_that_ends_leaves_nothing_beside_the_region(serve: Serve, directory: Path) -> None:
    served = serve("--http-socket", str(directory / "http"))
    assert served.end() == 0
    assert {path for path in os.listdir(directory) if path != "log"} == {"served"}
    # And the next one gets its lock.
    assert client(serve()).ping()
