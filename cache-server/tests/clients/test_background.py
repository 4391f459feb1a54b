"""What the server does for a region by itself: space ahead of need, expiry, the dead, snapshots."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pycache import Cache

from .conftest import SECONDS, Served, command, ended, wait_for
from .test_http import samples, socket_client

Serve = Callable[..., Served]


def number(directory: Path, name: str) -> float:
    """A metric of the server."""
    with socket_client(directory / "http") as client:
        return samples(client.get("/metrics").text)[(name, ())]


# --- the region -------------------------------------------------------------------------------------


def test_space_is_free_and_has_memory_before_it_is_needed(serve: Serve, directory: Path) -> None:
    served = serve("--http-socket", str(directory / "http"))
    backed = "cache_shm_server_backed_bytes_total"
    wait_for(lambda: number(directory, backed) >= 4 * 256 << 10)
    with Cache(served.region, dir=served.directory) as cache:
        written = 0

        def reclaims() -> bool:
            # Until a share falls to the server: writers do what they need themselves.
            nonlocal written
            for _ in range(5_000):
                written += 1
                cache[f"key{written}"] = b"x" * 1000
            return number(directory, "cache_shm_server_reclaim_shares_total") > 0

        wait_for(reclaims)
        segment_bytes = cache.stats()["segment_bytes"]
        wait_for(lambda: cache.stats()["free_bytes"] >= 4 * segment_bytes)
        assert cache.stats()["evictions"] > 0


def test_what_expired_is_gone_without_anybody_asking(serve: Serve) -> None:
    served = serve()
    with Cache(served.region, dir=served.directory) as cache:
        for key in range(20_000):
            cache.set(f"key{key}", b"x" * 1000, ttl=0.05)
        wait_for(lambda: cache.stats()["expirations"] >= 15_000)
        assert cache.stats()["evictions"] == 0


def test_without_work_in_advance_the_server_leaves_the_region_alone(serve: Serve, directory: Path) -> None:
    served = serve("--http-socket", str(directory / "http"), "--maintain-interval", "none")
    with Cache(served.region, dir=served.directory) as cache:
        cache["a"] = 1
    assert number(directory, "cache_shm_server_backed_bytes_total") == 0


def test_the_slots_of_the_dead_are_freed(serve: Serve) -> None:
    served = serve()
    program = f"""
import sys
from pycache import Cache
cache = Cache({served.region!r}, dir={str(served.directory)!r})
cache["a"] = 1
print("attached", flush=True)
sys.stdin.read()
"""
    with Cache(served.region, dir=served.directory, read_only=True) as look:
        command = [sys.executable, "-c", program]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == "attached\n"
            assert look.stats()["participants"] == 2
            other.kill()
            other.wait(SECONDS)
        wait_for(lambda: look.stats()["participants"] == 1)
        assert look.stats()["sets"] == 1, "what it counted stays"
    wait_for(lambda: "freed the slots" in served.log())


@pytest.mark.parametrize("interval", ["100ms", "1h", "none"])
def test_a_region_that_was_made_anew_is_looked_after(serve: Serve, interval: str) -> None:
    """However seldom the thread works: it looks each second."""
    served = serve("--maintain-interval", interval)
    with Cache(served.region, dir=served.directory) as cache:
        cache.destroy()
    wait_for(lambda: "attaching anew" in served.log())
    with Cache(served.region, dir=served.directory) as cache:
        wait_for(lambda: cache.stats()["participants"] == 2)
        cache.set("a", b"1", ttl=0.01)
    assert served.process.poll() is None


@pytest.mark.parametrize(("size", "thousandths_max"), [("64MiB", 2), ("4GiB", 4)])
def test_an_idle_server_costs_next_to_nothing(serve: Serve, directory: Path, size: str, thousandths_max: float) -> None:
    """The guide names what it costs; what is allowed here is four times that, for slower machines."""
    served = serve("--http-socket", str(directory / "http"), size=size)
    with Cache(served.region, dir=served.directory, read_only=True) as cache:
        stats = cache.stats()
        ahead = min(max(stats["segments"] // 64, 4), 64) * stats["segment_bytes"]
    wait_for(lambda: number(directory, "cache_shm_server_backed_bytes_total") >= ahead)

    def used_ns() -> int:
        threads = Path(f"/proc/{served.process.pid}/task").iterdir()
        return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads)

    before, began = used_ns(), time.monotonic()
    # What is measured is a time without anything.
    time.sleep(5)
    thousandths = (used_ns() - before) / (time.monotonic() - began) / 1e6
    assert 0 < thousandths < thousandths_max


# --- snapshots --------------------------------------------------------------------------------------


def test_a_region_comes_back_from_the_snapshot_of_the_end(serve: Serve, directory: Path) -> None:
    flags = ["--snapshot-file", str(directory / "snapshot"), "--snapshot-at-end", "--restore"]
    served = serve(*flags)
    wait_for(lambda: "there is no snapshot yet" in served.log())
    with Cache(served.region, dir=served.directory) as cache:
        cache["a"] = {"b": [1, 2.5]}
        cache.namespace("users").set("user:7", "Ada", ttl=600)
        cache.set("short", b"x", ttl=0.5)
        assert served.end() == 0
        wait_for(lambda: "wrote a snapshot" in served.log())
        wait_for(lambda: "short" not in cache)
        cache.destroy()
    served = serve(*flags)
    with Cache(served.region, dir=served.directory) as cache:
        assert cache["a"] == {"b": [1, 2.5]} and "short" not in cache
        assert cache.namespace("users")["user:7"] == "Ada"
        assert 0 < (cache.namespace("users").ttl("user:7") or 0) <= 600
        # A region that had all of the snapshot lacks only what was dropped since.
        del cache["a"]
        served.end(signal.SIGKILL)
        served = serve(*flags)
        assert "a" not in cache


def test_a_program_that_comes_before_the_server_costs_no_snapshot(serve: Serve, directory: Path) -> None:
    # After a boot the region of whoever came first was taken for one that is newer than any snapshot.
    flags = ["--snapshot-file", str(directory / "snapshot"), "--snapshot-at-end", "--restore"]
    served = serve(*flags)
    with Cache(served.region, dir=served.directory) as cache:
        cache["a"], cache["b"] = 1, 1
        assert served.end() == 0
        cache.destroy()
    with Cache(served.region, dir=served.directory, size="64MiB") as cache:
        cache["b"] = 2
        served = serve(*flags)
        assert (cache["a"], cache["b"]) == (1, 2)


def test_a_region_that_is_replaced_under_its_server_costs_no_snapshot(serve: Serve, directory: Path) -> None:
    flags = ["--snapshot-file", str(directory / "snapshot"), "--snapshot-at-end", "--restore"]
    served = serve(*flags)
    with Cache(served.region, dir=served.directory) as cache:
        cache["a"] = 1
        assert served.end() == 0
    served = serve(*flags)
    with Cache(served.region, dir=served.directory) as cache:
        cache.destroy()
    wait_for(lambda: "attaching anew" in served.log())
    assert served.end() == 0
    wait_for(lambda: "snapshot.before" in served.log())
    assert (directory / "snapshot.before").stat().st_size > (directory / "snapshot").stat().st_size


KEYS = 50_000


@dataclass
class Starting:
    """A server that restores so many keys that it can be met at it."""

    process: subprocess.Popen[str]
    directory: Path

    def log(self) -> str:
        return (self.directory / "log").read_text()

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(SECONDS)


@pytest.fixture
def starting(serve: Serve, directory: Path) -> Iterator[tuple[Starting, list[str]]]:
    """Such a server, and its flags."""
    flags = ["--snapshot-file", str(directory / "snapshot"), "--snapshot-at-end", "--restore"]
    served = serve(*flags)
    with Cache(served.region, dir=served.directory) as cache:
        cache.set_many({f"key{key}": b"x" * 500 for key in range(KEYS)})
        assert served.end() == 0
        cache.destroy()
    (directory / "log").write_text("")
    words = [command(), "--dir", str(directory), "serve", served.region, "--size", "64MiB", *flags]
    with (directory / "log").open("a") as log:
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=log, text=True, env=served.environment)
    server = Starting(process, directory)
    wait_for(lambda: "restoring the snapshot" in server.log())
    yield server, flags
    process.kill()
    process.wait(SECONDS)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_server_that_ends_while_it_restores_goes_on_at_its_next_start(
    serve: Serve, directory: Path, starting: tuple[Starting, list[str]], number: int
) -> None:
    # The next start found the region there and did not restore, and its end replaced the snapshot.
    server, flags = starting
    size = (directory / "snapshot").stat().st_size
    assert server.end(number) == (0 if number == signal.SIGTERM else -number)
    assert (directory / "snapshot").stat().st_size == size, "it came to no snapshot of its own"
    served = serve(*flags)
    with Cache(served.region, dir=served.directory) as cache:
        assert len(cache) == KEYS


def test_nobody_waits_at_the_socket_of_a_server_that_restores_and_a_reload_does_not_end_it(
    starting: tuple[Starting, list[str]],
) -> None:
    server, _ = starting
    server.process.send_signal(signal.SIGHUP)
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(SECONDS)
        try:
            client.connect(str(server.directory / "served.sock"))
        except (FileNotFoundError, ConnectionRefusedError):
            pass
        else:
            assert "restored the snapshot" in server.log()
    assert server.process.stdout is not None
    assert "is served at" in server.process.stdout.readline()
    assert server.end(signal.SIGTERM) == 0
    assert "passwords read anew" in server.log()


def test_snapshots_are_written_at_their_interval_and_told(serve: Serve, directory: Path) -> None:
    file = directory / "snapshot"
    served = serve("--http-socket", str(directory / "http"), "--snapshot-file", str(file), "--snapshot-interval", "50ms")
    with Cache(served.region, dir=served.directory) as cache:
        cache["a"] = 1
        prefix = "cache_shm_server_snapshot"
        wait_for(lambda: number(directory, f"{prefix}_items") == 1)
        written = number(directory, f"{prefix}s_total")
        wait_for(lambda: number(directory, f"{prefix}s_total") > written)
        assert abs(number(directory, f"{prefix}_timestamp_seconds") - time.time()) < SECONDS
        assert number(directory, f"{prefix}_bytes") > 0
        assert number(directory, f"{prefix}_failures_total") == 0
        # A file does not replace a directory: failures are counted, and the server goes on.
        assert file.stat().st_mode & 0o777 == 0o600
        mark = directory / ".snapshot.region"

        def is_in_the_way() -> bool:
            # The server makes a new one at any moment.
            mark.unlink(missing_ok=True)
            with contextlib.suppress(FileExistsError):
                mark.mkdir()
            return mark.is_dir()

        wait_for(is_in_the_way)
        wait_for(lambda: number(directory, f"{prefix}_failures_total") > 0)
        assert cache["a"] == 1 and served.process.poll() is None


def test_before_the_first_snapshot_there_is_no_time_of_it(serve: Serve, directory: Path) -> None:
    serve("--http-socket", str(directory / "http"), "--snapshot-file", str(directory / "snapshot"), "--snapshot-at-end")
    assert number(directory, "cache_shm_server_snapshots_total") == 0
    with pytest.raises(KeyError):
        number(directory, "cache_shm_server_snapshot_timestamp_seconds")


def test_a_damaged_snapshot_is_put_aside_and_the_server_starts_empty(serve: Serve, directory: Path) -> None:
    file = directory / "snapshot"
    file.write_bytes(b"not a snapshot")
    served = serve("--snapshot-file", str(file), "--snapshot-at-end", "--restore")
    wait_for(lambda: "was not restored" in served.log())
    assert (directory / "snapshot.damaged").read_bytes() == b"not a snapshot"
    assert served.end() == 0
    assert file.stat().st_size > 0


def test_a_last_snapshot_that_cannot_be_written_is_no_good_end(serve: Serve, directory: Path) -> None:
    file = directory / "snapshot"
    served = serve("--snapshot-file", str(file), "--snapshot-at-end")
    file.mkdir()
    assert served.end() == 2
    assert "no snapshot was written" in served.log()


def test_two_signals_at_once_are_one(serve: Serve, directory: Path) -> None:
    # Who ends a program with a time limit sends it two; the last snapshot was given up.
    served = serve("--snapshot-file", str(directory / "snapshot"), "--snapshot-at-end")
    with Cache(served.region, dir=served.directory) as cache:
        cache["large"] = b"x" * 4_000_000
    with served.connect() as client:
        # Replies that are under way keep it from its end until both have come.
        client.sendall(b"GET large\r\n" * 10)
        assert client.recv(1) == b"$"
        served.process.send_signal(signal.SIGTERM)
        served.process.send_signal(signal.SIGINT)
        wait_for(lambda: not Path(served.path).exists())
    assert served.process.wait(SECONDS) == 0
    assert (directory / "snapshot").stat().st_size > 4_000_000


def test_a_second_signal_ends_a_server_at_once_and_without_its_last_snapshot(serve: Serve, directory: Path) -> None:
    served = serve("--snapshot-file", str(directory / "snapshot"), "--snapshot-at-end")
    with Cache(served.region, dir=served.directory) as cache:
        cache["large"] = b"x" * 4_000_000
    with served.connect() as client:
        # Replies that are under way are waited for.
        client.sendall(b"GET large\r\n" * 10)
        assert client.recv(1) == b"$"
        began = time.monotonic()

        def is_over() -> bool:
            served.process.send_signal(signal.SIGTERM)
            return served.process.poll() is not None

        wait_for(is_over)
        assert 1 <= time.monotonic() - began < 4, "not before a second has passed"
    assert served.process.returncode == 2, "a snapshot was wanted"
    assert not (directory / "snapshot").exists()
    assert "ending at once" in served.log()


def test_snapshots_without_a_place_are_refused_at_the_start(serve: Serve, directory: Path) -> None:
    with pytest.raises(AssertionError, match="snapshot_file"):
        serve("--snapshot-at-end")
    os.mkfifo(directory / "fifo")
    fifo = str(directory / "fifo")
    for file, wanted in [("/nowhere/at/all", "nowhere"), (fifo, "fifo"), (str(directory), "directory")]:
        with pytest.raises(AssertionError, match=wanted):
            serve("--snapshot-file", file)
        done = ended("serve", "served", "--check", "--snapshot-file", file, CACHE_SHM_CONFIG="")
        assert done.returncode == 2 and wanted in done.stderr
    # What stands in the way of the mark was met by each snapshot alone.
    (directory / ".file.region").mkdir()
    done = ended("serve", "served", "--check", "--snapshot-file", str(directory / "file"), CACHE_SHM_CONFIG="")
    assert done.returncode == 2 and ".file.region" in done.stderr
    assert not (directory / "served").exists(), "a start that fails leaves no region"


def test_a_start_that_fails_leaves_no_region_behind(serve: Serve, directory: Path) -> None:
    # One that was there stays.
    (directory / "taken").write_text("no socket")
    with pytest.raises(AssertionError, match="no socket"):
        serve("--socket", str(directory / "taken"))
    assert not (directory / "served").exists()
    with Cache("served", dir=str(directory), size="64MiB") as cache:
        cache["a"] = 1
    with pytest.raises(AssertionError, match="no socket"):
        serve("--socket", str(directory / "taken"))
    assert (directory / "served").exists()
