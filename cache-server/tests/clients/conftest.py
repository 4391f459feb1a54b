"""A server of one's own for every test, and the real Redis beside it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest
import redis

if TYPE_CHECKING:
    from . import memcached

SECONDS = 20.0
"""More than a server ever needs to begin, to end or to answer."""


def leave_out(reason: str) -> NoReturn:
    """Leaves a test out that this machine cannot run; where all is required, it has failed."""
    if os.environ.get("REQUIRE_ALL") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def need(program: str) -> str:
    """The path of a program of another project, with which the server is tested where it is installed."""
    found = shutil.which(program)
    if found is None:
        leave_out(f"{program} is not installed; .ci/run installs everything that the tests use")
    return found


def command() -> str:
    """The path of the command under test: without it nothing is tested, so it has to be there."""
    found = shutil.which("cache-shm")
    assert found is not None, "the command is not on the PATH; `make wheel` builds and installs it"
    return found


def ended(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """What the command under test said, with these arguments, until it ended by itself."""
    environment = {**os.environ, **variables}
    return subprocess.run(
        [command(), *words], capture_output=True, text=True, timeout=SECONDS, env=environment, check=False
    )


@dataclass
class Served:
    """A server that runs."""

    process: subprocess.Popen[str]
    directory: Path
    places: list[str]
    region: str = "served"
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def path(self) -> str:
        """Its socket for Redis clients."""
        return str(self.directory / f"{self.region}.sock")

    @property
    def address(self) -> tuple[str, int]:
        """Its address in the network, if it has one."""
        host, port = next(place for place in self.places if not place.startswith("/")).rsplit(":", 1)
        return host.strip("[]"), int(port)

    def connect(self) -> socket.socket:
        """A connection that gives up in the end."""
        link = socket.socket(socket.AF_UNIX)
        link.settimeout(SECONDS)
        link.connect(self.path)
        return link

    def end(self, number: int = signal.SIGTERM) -> int:
        """Ends it with a signal; its exit code."""
        self.process.send_signal(number)
        return self.process.wait(SECONDS)

    def log(self) -> str:
        """What it wrote on standard error."""
        return (self.directory / "log").read_text()


@pytest.fixture
def directory() -> Iterator[Path]:
    """A private directory on tmpfs, removed with everything in it."""
    path = tempfile.mkdtemp(prefix="cache-shm-served-", dir="/dev/shm")
    yield Path(path)
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def serve(directory: Path) -> Iterator[Callable[..., Served]]:
    """Starts servers with flags; all are gone at the end."""
    running: list[Served] = []

    def start(*flags: str, region: str = "served", size: str = "64MiB", **variables: str) -> Served:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("CACHE_SHM_")},
            "CACHE_SHM_CONFIG": "",
            **variables,
        }
        words = [command(), "--dir", str(directory), "--json", "serve", region, "--size", size, *flags]
        with (directory / "log").open("a") as log:
            process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=log, text=True, env=environment)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, f"the server did not start: {(directory / 'log').read_text()}"
        served = Served(process, directory, json.loads(line)["listening"], region, environment)
        running.append(served)
        return served

    yield start
    for served in running:
        served.process.kill()
        served.process.wait(SECONDS)


@pytest.fixture
def served(serve: Callable[..., Served]) -> Served:
    """A server as it is without options."""
    return serve()


@pytest.fixture(scope="session")
def redis_path() -> Iterator[str]:
    """The socket of a real Redis 7, empty at first."""
    program = need("redis-server")
    directory = tempfile.mkdtemp(prefix="redis-", dir="/dev/shm")
    path = f"{directory}/redis.sock"
    options = ["--port", "0", "--unixsocket", path, "--save", "", "--appendonly", "no", "--dir", directory]
    process = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: Path(path).exists())
    yield path
    process.kill()
    process.wait(SECONDS)
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def place_with(serve: Callable[..., Served], directory: Path) -> Callable[..., memcached.Place]:
    """Starts a server for memcached's clients, with flags."""
    from .memcached import Place  # It imports this module.

    def start(*flags: str, **options: str) -> memcached.Place:
        path = directory / "memcached.sock"
        return Place(serve("--memcached-socket", str(path), *flags, **options), path)

    return start


@pytest.fixture
def place(place_with: Callable[..., memcached.Place]) -> Iterator[memcached.Place]:
    """A server as it is without more options."""
    yield place_with()


def client(served: Served, **options: object) -> redis.Redis:
    """A client of the makers of Redis."""
    return redis.Redis(unix_socket_path=served.path, socket_timeout=SECONDS, **options)


def wait_for(condition: Callable[[], object]) -> None:
    """Waits until a condition holds, and fails if it never does."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.01)
