"""Redis and memcached as processes of the benchmark's own, behind Unix sockets.

Configured as their manuals recommend for a cache: a limit, least recently used goes
first, nothing on disk, no network.
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path


class Absent(Exception):
    """A rival that is not on this machine; the text says what is missing."""


def say_absent(group: str, name: str, error: Exception) -> None:
    """Prints the line that says what a group leaves out, and why."""
    print(json.dumps({"group": group, "absent": name, "why": str(error)}))


class Server:
    """A running server."""

    def __init__(self, process: subprocess.Popen, path: str) -> None:
        self.process = process
        self.path = path

    def resident_bytes(self) -> int:
        """What the kernel counts as the process's resident memory."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise RuntimeError("the server has ended")

    def connect(self) -> socket.socket:
        """A connection of its own, for clients that speak the protocol themselves."""
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(self.path)
        return connection


@contextlib.contextmanager
def _running(command: list[str], path: str) -> Iterator[Server]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
                probe.connect(path)
                break
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"does not start: {' '.join(command)}")
            time.sleep(0.01)
        yield Server(process, path)
    finally:
        process.terminate()
        process.wait()


def installed(name: str) -> str:
    """Where a program is that a rival needs."""
    program = shutil.which(name)
    if program is None:
        raise Absent(f"{name} is not installed")
    return program


@contextlib.contextmanager
def redis(limit_mib: int) -> Iterator[Server]:
    """A Redis with that much memory for its data."""
    program = installed("redis-server")
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/socket"
        command = [program, "--port", "0", "--unixsocket", path, "--save", "", "--appendonly", "no", "--dir", directory]
        limit = ["--maxmemory", f"{limit_mib}mb", "--maxmemory-policy", "allkeys-lru"]
        with _running([*command, *limit], path) as server:
            yield server


@contextlib.contextmanager
def memcached(limit_mib: int) -> Iterator[Server]:
    """A memcached with that much memory for its data."""
    program = installed("memcached")
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/socket"
        user = ["-u", "root"] if os.geteuid() == 0 else []
        with _running([program, "-s", path, "-m", str(limit_mib), *user], path) as server:
            yield server


@contextlib.contextmanager
def served(limit_mib: int, listens: str = "--socket") -> Iterator[Server]:
    """This project's own server, on a region of that size; the flag says for whose clients."""
    program = installed("cache-shm")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        path = f"{directory}/socket"
        flags = ["--size", f"{limit_mib}MiB", listens, path, "--log-level", "error"]
        with _running([program, "--dir", directory, "serve", "bench", *flags], path) as server:
            yield server
