"""Clients that are slow, hostile or many harm nobody."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from .conftest import SECONDS, Served, client, command, wait_for
from .resp import Link, request


def resident_bytes(served: Served) -> int:
    """Memory of the server that is its own."""
    text = Path(f"/proc/{served.process.pid}/status").read_text()
    return int(text.split("RssAnon:")[1].split()[0]) * 1024


def test_a_request_in_single_bytes_is_answered(served: Served) -> None:
    with Link(served.path) as link:
        for byte in request("SET", "k", "value") + request("GET", "k"):
            link.raw(bytes([byte]))
        assert link.read() == ("+", "OK") and link.read() == b"value"


def test_pipelined_requests_are_answered_in_order_however_many(served: Served) -> None:
    count = 20_000
    with Link(served.path) as link:
        data = b"".join(request("SET", f"k{number}", number) + request("GET", f"k{number}") for number in range(count))
        sender = threading.Thread(target=link.raw, args=(data,))
        sender.start()
        for number in range(count):
            assert link.read() == ("+", "OK")
            assert link.read() == str(number).encode()
        sender.join(SECONDS)


@pytest.mark.parametrize("value_bytes", [100, 10_000])
def test_a_client_that_sends_everything_before_it_reads_gets_everything(served: Served, value_bytes: int) -> None:
    r = client(served)
    r.set("k", b"x" * value_bytes)
    pipe = r.pipeline(transaction=False)
    count = 20_000_000 // value_bytes
    for _ in range(count):
        pipe.get("k")
    # One thread, which takes no reply before all requests are sent.
    assert pipe.execute() == [b"x" * value_bytes] * count


@pytest.mark.parametrize(
    ("last", "answer"),
    [
        (b"\r\n", b""),
        (request("PING"), b"+PONG\r\n"),
        (b"*1\r\n$4\r\nPI", b""),
        (request("CLIENT", "REPLY", "OFF"), b""),
        (b"CLIENT REPLY OFF\r\nPING\r\n", b""),
    ],
)
def test_a_client_that_says_its_last_and_leaves_is_let_go(served: Served, last: bytes, answer: bytes) -> None:
    # The kernel may tell of a client's last request and of its end as one event. The server read the
    # request, took the socket for empty, and waited for ever for a second event.
    for _ in range(50):
        with Link(served.path) as link:
            link.raw(last)
            link.socket.shutdown(socket.SHUT_WR)
            assert link.rest() == answer
        with Link(served.path) as link:
            link.raw(last)
    with Link(served.path) as link:
        wait_for(lambda: b"connected_clients:1\r" in link.call("INFO", "clients"))  # type: ignore[operator]


def test_a_client_that_has_ended_its_requests_still_gets_its_replies(served: Served) -> None:
    value = b"x" * (4 << 20)
    with Link(served.path) as link:
        link.call("SET", "k", value)
        link.raw(request("GET", "k") * 4)
        link.socket.shutdown(socket.SHUT_WR)
        for _ in range(4):
            assert link.read() == value
        assert link.rest() == b""


def test_a_stopped_program_holds_up_nobody_but_those_who_want_the_same(served: Served) -> None:
    # It stops in the middle of its writes, whatever they are at.
    writer = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from pycache import Cache\n"
            f"cache = Cache('served', dir={str(served.directory)!r})\n"
            "print('writing', flush=True)\n"
            "while True: cache['k'] = b'x' * 1000",
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert writer.stdout is not None and writer.stdout.readline() == "writing\n"
        held = 0
        with Link(served.path) as asker, Link(served.path) as other:
            for _ in range(300):
                writer.send_signal(signal.SIGSTOP)
                asker.raw(request("SET", "k", "v") * 100)
                began = time.monotonic()
                assert other.call("PING") == ("+", "PONG")
                waited = time.monotonic() - began
                replies = [asker.read() for _ in range(100)]
                writer.send_signal(signal.SIGCONT)
                assert waited < 5, waited
                held += any(isinstance(reply, tuple) and reply[1].startswith("TRYAGAIN") for reply in replies)
                if held >= 3:
                    break
        print("rounds in which the lock was held", held)
    finally:
        writer.kill()
        writer.wait(SECONDS)


def test_large_values_go_in_and_out(served: Served) -> None:
    value = os.urandom(12 << 20)
    with Link(served.path) as link:
        assert link.call("SET", "large", value) == ("+", "OK")
        assert link.call("GET", "large") == value
        assert link.call("SETRANGE", "large", 5, b"hello") == len(value)
        assert link.call("GETRANGE", "large", 5, 9) == b"hello"
        too_large = link.call("SETRANGE", "large", 17 << 20, b"x")
        assert isinstance(too_large, tuple) and "maximum allowed size" in too_large[1]
    # The client learns why, also if it has sent all of it.
    with Link(served.path) as link:
        link.raw(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$18000000\r\n" + b"x" * 18_000_000)
        assert link.rest() == b"-ERR Protocol error: invalid bulk length\r\n"
    with pytest.raises(redis.ResponseError, match="invalid bulk length"):
        client(served).set("k", b"x" * 18_000_000)


def test_a_client_that_never_reads_harms_nobody(serve: Callable[..., Served]) -> None:
    served = serve("--stall-timeout", "1s")
    value = b"x" * (1 << 20)
    with Link(served.path) as link, Link(served.path) as other:
        assert other.call("SET", "k", value) == ("+", "OK")
        before = resident_bytes(served)
        link.raw(request("GET", "k") * 5000)
        for number in range(100):
            assert other.call("SET", "n", number) == ("+", "OK")
        # What it asks for beyond a few megabytes is not even made.
        assert resident_bytes(served) - before < 16 << 20
        wait_for(lambda: "reason=Stalled" in served.log())
        assert other.call("PING") == ("+", "PONG")


def test_half_a_request_is_not_waited_for_for_ever(serve: Callable[..., Served]) -> None:
    served = serve("--stall-timeout", "1s", "--idle-timeout", "none")
    with Link(served.path) as half, Link(served.path) as idle:
        half.raw(b"*2\r\n$3\r\nGET\r\n$100\r\nabc")
        assert half.rest() == b""
        assert idle.call("PING") == ("+", "PONG")


def test_a_silent_client_is_closed_only_if_that_was_asked_for(serve: Callable[..., Served]) -> None:
    served = serve("--idle-timeout", "1s")
    with Link(served.path) as link:
        assert link.call("PING") == ("+", "PONG")
        assert link.rest() == b""


def test_requests_and_replies_beyond_the_limits_end_the_connection(serve: Callable[..., Served]) -> None:
    served = serve("--request-bytes", "1MiB", "--output-bytes", "2MiB", "--buffers-bytes", "8MiB")
    with Link(served.path) as link:
        link.raw(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$2000000\r\n")
        with pytest.raises((ConnectionResetError, BrokenPipeError, EOFError)):
            link.raw(b"x" * 2_000_000)
            link.line()
    with Link(served.path) as link:
        link.call("SET", "k", b"x" * 900_000)
        reply = link.call("MGET", *["k"] * 5)
        assert isinstance(reply, tuple) and "output_bytes" in reply[1], reply
        assert link.call("PING") == ("+", "PONG")


def test_one_client_too_many_is_told_so(serve: Callable[..., Served]) -> None:
    served = serve("--clients-max", "3")
    links = [Link(served.path) for _ in range(3)]
    for link in links:
        assert link.call("PING") == ("+", "PONG")
    # Also when they come all at once.
    crowd = [Link(served.path) for _ in range(50)]
    for link in crowd:
        assert link.rest() == b"-ERR max number of clients reached\r\n"
        link.close()
    with Link(served.path) as link:
        assert link.rest() == b"-ERR max number of clients reached\r\n"
    links[0].close()

    def is_room() -> bool:
        with Link(served.path) as link:
            try:
                return link.call("PING") == ("+", "PONG")
            except (EOFError, ConnectionResetError, BrokenPipeError):
                return False

    wait_for(is_room)
    for link in links:
        link.close()


def test_idle_connections_cost_little(serve: Callable[..., Served]) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    wanted = min(10_000, hard - 300)
    served = serve("--clients-max", str(wanted + 1))
    with Link(served.path) as first:
        first.call("PING")
        before = resident_bytes(served)
        links = []
        for _ in range(wanted):
            link = socket.socket(socket.AF_UNIX)
            # Waits where the kernel's queue is full.
            link.connect(served.path)
            link.settimeout(SECONDS)
            links.append(link)
        for link in links:
            link.sendall(request("SET", "k", "v" * 1000))
        for link in links:
            assert link.recv(100) == b"+OK\r\n"
        assert f"connected_clients:{wanted + 1}" in first.call("INFO", "clients").decode()  # type: ignore[union-attr]
        each = (resident_bytes(served) - before) / wanted
        print("connections", wanted, "bytes each", each)
        assert each < 1024
        assert first.call("GET", "k") == b"v" * 1000
        for link in links:
            link.close()
        wait_for(lambda: b"connected_clients:1\r" in first.call("INFO", "clients"))  # type: ignore[operator]


def test_what_clients_have_under_way_is_bounded_whoever_they_are(serve: Callable[..., Served]) -> None:
    served = serve("--buffers-bytes", "32MiB", "--clients-max", "100")
    tricks = [
        # Arguments without bytes: more places than bytes.
        b"*1048576\r\n" + b"$0\r\n\r\n" * 500_000,
        # Commands that wait for an EXEC that never comes.
        request("MULTI") + request("SET", "k", b"x" * 50_000) * 100,
        request("WATCH", *(f"{number:060000}" for number in range(100))),
        b"*2\r\n$3\r\nGET\r\n$16000000\r\n" + b"x" * 4_000_000,
    ]
    before = resident_bytes(served)
    links = []
    for number in range(60):
        link = Link(served.path)
        links.append(link)
        try:
            link.raw(tricks[number % len(tricks)])
        except (ConnectionResetError, BrokenPipeError):
            pass
        assert resident_bytes(served) - before < 96 << 20
    with Link(served.path) as small:
        assert small.call("SET", "small", 1) == ("+", "OK")
    wait_for(lambda: "reason=Overflow" in served.log())
    for link in links:
        link.close()
    with Link(served.path) as small:
        wait_for(lambda: b"connected_clients:1\r" in small.call("INFO", "clients"))  # type: ignore[operator]
        assert small.call("SET", "large", b"x" * 4_000_000) == ("+", "OK")


def test_a_standard_error_that_nobody_reads_stops_no_client(directory: Path) -> None:
    password = directory / "password"
    password.write_text("s3cret")
    password.chmod(0o600)
    words = [command(), "--dir", str(directory), "serve", "r", "--size", "1MiB"]
    flags = ["--password-file", str(password)]
    with subprocess.Popen([*words, *flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None and process.stdout.readline()
            with Link(str(directory / "r.sock")) as link:
                # Each is a line of the log; together they are more than a pipe holds.
                link.raw(request("AUTH", "wrong") * 2_000)
                for _ in range(2_000):
                    assert link.read() == ("-", "WRONGPASS invalid username-password pair or user is disabled.")
                assert link.call("AUTH", "s3cret") == ("+", "OK")
        finally:
            process.kill()
