"""What Redis clients are promised of the server."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from pycache import Cache

from .conftest import SECONDS, Served, need, wait_for
from .resp import Link, request


def client(served: Served, **options: object) -> redis.Redis:
    return redis.Redis(unix_socket_path=served.path, socket_timeout=SECONDS, **options)


# Real clients.


@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_py_works_in_both_versions_of_the_protocol(served: Served, protocol: int) -> None:
    r = client(served, protocol=protocol, decode_responses=True, client_name="tester")
    assert r.ping() and r.set("user:1", "Ada", ex=100) and r.get("user:1") == "Ada"
    assert 98 <= r.ttl("user:1") <= 100
    assert r.mset({"a": 1, "b": "zwei"}) and r.mget("a", "b", "c") == ["1", "zwei", None]
    assert r.incr("n", 5) == 5 and r.incrbyfloat("f", 0.5) == 0.5 and r.append("b", "!") == 5
    assert r.set("a", 2, nx=True) is None and r.set("a", 2, xx=True, get=True) == "1"
    assert sorted(r.scan_iter("*", count=2)) == ["a", "b", "f", "n", "user:1"]
    with r.pipeline() as pipe:
        assert pipe.set("p", 1).incr("p").get("p").execute() == [True, 2, "2"]
    assert r.client_list()[0]["name"] == "tester" and r.client_getname() == "tester"
    assert r.info("keyspace")["db0"]["keys"] == 6 and r.info()["redis_mode"] == "standalone"
    assert r.config_get("maxmemory")["maxmemory"] == str(64 << 20)
    assert "get" in r.command() and r.memory_usage("user:1") > 40
    with pytest.raises(redis.ResponseError, match="not an integer"):
        r.incr("b")
    with pytest.raises(redis.ResponseError, match="unknown command"):
        r.lpush("list", 1)
    assert r.flushdb() and r.dbsize() == 0


def test_a_transaction_is_not_run_if_a_program_changed_what_it_watches(served: Served) -> None:
    r = client(served)
    with Cache("served", dir=str(served.directory)) as cache, r.pipeline() as pipe:
        cache["balance"] = 100
        pipe.watch("balance")
        balance = int(pipe.get("balance"))
        cache["balance"] = 50
        pipe.multi()
        pipe.set("balance", balance - 10)
        with pytest.raises(redis.WatchError):
            pipe.execute()
        assert cache["balance"] == 50


def test_a_client_may_wait_for_a_lock_of_redis_py(served: Served) -> None:
    # Its lock is SET NX PX and a script, which this server has not: the name is what is shared.
    r = client(served)
    assert r.set("lock", "me", nx=True, px=10_000)
    assert not r.set("lock", "you", nx=True, px=10_000)


def test_redis_cli_and_redis_benchmark_run_unchanged(served: Served) -> None:
    cli = need("redis-cli")

    def say(*words: str) -> str:
        return subprocess.run(
            [cli, "-s", served.path, *words], check=True, capture_output=True, text=True, timeout=SECONDS
        ).stdout.strip()

    assert say("PING") == "PONG" and say("SET", "k", "v", "EX", "10") == "OK" and say("GET", "k") == "v"
    assert say("-3", "HELLO", "3").startswith("server cache-shm")
    piped = subprocess.run(
        [cli, "-s", served.path, "--pipe"],
        input=b"".join(request("SET", f"piped:{number}", number) for number in range(1000)),
        check=True,
        capture_output=True,
        timeout=SECONDS,
    )
    assert b"errors: 0, replies: 1000" in piped.stdout
    assert len(say("--scan", "--pattern", "piped:*").splitlines()) == 1000
    for depth in ("1", "16"):
        options = ["-t", "get,set,incr,mset", "-n", "2000", "-r", "100", "-P", depth, "-q", "--csv"]
        done = subprocess.run(
            [need("redis-benchmark"), "-s", served.path, *options],
            check=True,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        assert [line.split(",")[0].strip('"')[:4] for line in done.stdout.splitlines()[1:]] == [
            "SET",
            "GET",
            "INCR",
            "MSET",
        ]
        assert "ERR" not in done.stdout + done.stderr


# What other programs see.


def test_python_and_redis_clients_see_each_others_values(served: Served) -> None:
    r = client(served)
    with Cache("served", dir=str(served.directory)) as cache:
        cache["int"], cache["str"], cache["bytes"], cache["float"] = 42, "grün", b"\x00\xff", 1.5
        cache.set("tagged", {"a": [1, 2]})
        assert r.get("int") == b"42" and r.get("str") == "grün".encode() and r.get("bytes") == b"\x00\xff"
        assert r.get("float") == struct.pack("<d", 1.5) and r.strlen("int") == 2
        assert r.incr("int") == 43 and cache["int"] == 43
        assert r.append("str", "!") == 6 and cache["str"] == "grün!"
        assert r.append("int", "0") == 3 and r.get("int") == b"430"
        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            r.append("tagged", "x")
        assert r.getrange("int", 0, 1) == b"43" and len(r.get("tagged")) > 0
        r.set("from-redis", "text", ex=50)
        assert cache["from-redis"] == b"text" and 49 <= cache.ttl("from-redis") <= 50
        users = cache.namespace("db3")
        third = client(served, db=3)
        third.set("k", "v")
        assert users["k"] == b"v" and "k" not in cache
        third.flushdb()
        assert "k" not in users and r.exists("int")


def test_programs_do_not_notice_that_the_server_was_killed(serve: Callable[..., Served]) -> None:
    served = serve()
    with Cache("served", dir=str(served.directory)) as cache:
        client(served).set("k", "v")
        served.end(signal.SIGKILL)
        assert cache["k"] == b"v"
        cache["k"] = "w"
        again = serve()
        assert client(again).get("k") == b"w"


def test_a_region_that_is_made_anew_is_served_anew(served: Served) -> None:
    r = client(served)
    r.set("k", "v")
    with Cache("served", dir=str(served.directory)) as cache:
        cache.destroy()
    with Cache("served", dir=str(served.directory), size="32MiB") as cache:
        cache["other"] = 1

        def sees() -> bool:
            try:
                return r.get("other") == b"1"
            except redis.ResponseError:
                return False

        wait_for(sees)
        assert r.get("k") is None


# Passwords.


def test_a_network_address_without_a_password_is_refused(directory: Path) -> None:
    command = [need("cache-shm"), "--dir", str(directory), "serve", "r", "--bind", "127.0.0.1:0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 2
    assert "--bind" in done.stderr and "password_file" in done.stderr and "--no-auth" in done.stderr


def test_who_does_not_know_the_password_gets_nothing(serve: Callable[..., Served], directory: Path) -> None:
    (directory / "password").write_text("s3cret\n")
    (directory / "reader").write_text("look\n")
    for name in ("password", "reader"):
        (directory / name).chmod(0o600)
    served = serve(
        "--bind",
        "127.0.0.1:0",
        "--password-file",
        str(directory / "password"),
        "--reader-password-file",
        str(directory / "reader"),
    )
    for place in (served.path, served.address):
        with Link(place) as link:
            refused = ("-", "NOAUTH Authentication required.")
            assert link.call("GET", "k") == refused and link.call("FLUSHALL") == refused
            assert link.call("MULTI") == refused and link.call("INFO") == refused
            wrong = ("-", "WRONGPASS invalid username-password pair or user is disabled.")
            assert link.call("AUTH", "wrong") == wrong and link.call("AUTH", "nobody", "s3cret") == wrong
            assert link.call("HELLO", 3)[1].startswith("NOAUTH HELLO")  # type: ignore[index]
            assert link.call("AUTH", "s3cret") == ("+", "OK") and link.call("SET", "k", "v") == ("+", "OK")
            assert link.call("RESET") == ("+", "RESET") and link.call("GET", "k") == refused
            assert link.call("AUTH", "reader", "look") == ("+", "OK")
            assert link.call("GET", "k") == b"v" and link.call("ACL", "WHOAMI") == b"reader"
            for words in (["SET", "k", "w"], ["DEL", "k"], ["FLUSHALL"], ["EXPIRE", "k", 1], ["CLIENT", "LIST"]):
                reply = link.call(*words)
                assert isinstance(reply, tuple) and reply[1].startswith("NOPERM User reader"), reply
            assert link.call("MULTI") == ("+", "OK")
            assert link.call("SET", "k", "w")[1].startswith("NOPERM")  # type: ignore[index]
            assert link.call("EXEC")[1].startswith("EXECABORT")  # type: ignore[index]
    r = redis.Redis(*served.address, username="reader", password="look", socket_timeout=SECONDS)
    assert r.get("k") == b"v"
    with pytest.raises(redis.exceptions.NoPermissionError):
        r.set("k", "w")
    # A stranger cannot have the server keep much.
    with Link(served.address) as link:
        link.raw(b"*2\r\n$3\r\nGET\r\n$1000000\r\n")
        assert link.rest() == b"-ERR Protocol error: unauthenticated bulk length\r\n"


def test_a_new_password_is_read_when_the_server_is_told_to(serve: Callable[..., Served], directory: Path) -> None:
    password = directory / "password"
    password.write_text("old")
    password.chmod(0o600)
    served = serve("--password-file", str(password))
    password.write_text("new")
    served.process.send_signal(signal.SIGHUP)

    def is_new() -> bool:
        with Link(served.path) as link:
            return link.call("AUTH", "new") == ("+", "OK")

    wait_for(is_new)
    with Link(served.path) as link:
        assert link.call("AUTH", "old")[1].startswith("WRONGPASS")  # type: ignore[index]


def test_the_socket_is_its_owners_alone(served: Served) -> None:
    assert os.stat(served.path).st_mode & 0o777 == 0o600


# Clients that are slow, hostile or many.


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


@pytest.mark.parametrize("last", [b"\r\n", request("PING"), b"*1\r\n$4\r\nPI", request("CLIENT", "REPLY", "OFF")])
def test_a_client_that_says_its_last_and_leaves_is_let_go(served: Served, last: bytes) -> None:
    for _ in range(50):
        with Link(served.path) as link:
            link.raw(last)
            link.socket.shutdown(socket.SHUT_WR)
            link.rest()
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


def test_the_socket_has_the_permissions_it_was_given(serve: Callable[..., Served]) -> None:
    assert os.stat(serve("--socket-mode", "660").path).st_mode & 0o777 == 0o660


def test_what_lies_where_the_lock_should_be_is_left_alone(directory: Path) -> None:
    target = directory / "target"
    for make in (lambda lock: lock.symlink_to(target), os.mkfifo):
        lock = directory / ".r.sock.lock"
        make(lock)
        command = [need("cache-shm"), "--dir", str(directory), "serve", "r", "--size", "1MiB"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        assert done.returncode == 2 and "lock" in done.stderr, done.stderr
        assert not target.exists()
        lock.unlink()


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


def resident_bytes(served: Served) -> int:
    """Memory of the server that is its own."""
    text = Path(f"/proc/{served.process.pid}/status").read_text()
    return int(text.split("RssAnon:")[1].split()[0]) * 1024


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
    import resource

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


# Connections among themselves.


@pytest.mark.parametrize("threads", ["1", "3"])
def test_a_transaction_is_one_step_for_other_clients(serve: Callable[..., Served], threads: str) -> None:
    served = serve("--threads", threads)
    stop = threading.Event()
    torn: list[object] = []

    def look() -> None:
        with Link(served.path) as link:
            while not stop.is_set():
                pair = link.call("MGET", "a", "b")
                link.send("MULTI"), link.send("GET", "a"), link.send("GET", "b"), link.send("EXEC")
                for _ in range(3):
                    link.read()
                inner = link.read()
                for seen in (pair, inner):
                    if isinstance(seen, list) and seen[0] != seen[1]:
                        torn.append(seen)

    def change(name: str) -> None:
        with Link(served.path) as link:
            for number in range(500):
                value = f"{name}{number}"
                if number % 2:
                    link.call("MSET", "a", value, "b", value)
                else:
                    link.raw(
                        request("MULTI") + request("SET", "a", value) + request("SET", "b", value) + request("EXEC")
                    )
                    for _ in range(4):
                        link.read()

    lookers = [threading.Thread(target=look) for _ in range(2)]
    changers = [threading.Thread(target=change, args=(name,)) for name in "xyz"]
    for thread in lookers + changers:
        thread.start()
    for thread in changers:
        thread.join(SECONDS)
    stop.set()
    for thread in lookers:
        thread.join(SECONDS)
    assert not torn, torn[:3]


@pytest.mark.parametrize("threads", ["1", "4"])
def test_counters_of_many_clients_add_up(serve: Callable[..., Served], threads: str) -> None:
    served = serve("--threads", threads)

    def count() -> None:
        with Link(served.path) as link:
            link.raw(request("INCR", "n") * 2_000)
            for _ in range(2_000):
                assert isinstance(link.read(), int)

    crowd = [threading.Thread(target=count) for _ in range(8)]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join(SECONDS)
    with Link(served.path) as link:
        assert link.call("GET", "n") == b"16000"


def test_a_client_can_be_killed_by_another(serve: Callable[..., Served]) -> None:
    served = serve("--threads", "2")
    with Link(served.path) as victim, Link(served.path) as killer:
        number = victim.call("CLIENT", "ID")
        assert killer.call("CLIENT", "KILL", "ID", str(number)) == 1
        assert victim.rest() == b""
        assert killer.call("CLIENT", "KILL", "ID", str(number)) == 0


def test_replies_that_nobody_wants_are_not_sent(served: Served) -> None:
    with Link(served.path) as link:
        link.send("CLIENT", "REPLY", "SKIP")
        link.send("SET", "k", "skipped")
        assert link.call("GET", "k") == b"skipped"
        link.send("CLIENT", "REPLY", "OFF")
        link.send("SET", "k", "off")
        link.send("CLIENT", "REPLY", "ON")
        assert link.read() == ("+", "OK") and link.call("GET", "k") == b"off"


# The life of a server.


def test_who_says_a_last_word_and_leaves_is_let_go(served: Served) -> None:
    # The kernel may tell of a client's last request and of its end as one event. The server read the
    # request, took the socket for empty, and waited for ever for a second event.
    for _ in range(50):
        with served.connect() as link:
            link.sendall(b"CLIENT REPLY OFF\r\nPING\r\n")
            link.shutdown(socket.SHUT_WR)
            assert link.recv(100) == b""


def test_two_servers_do_not_share_a_socket(served: Served) -> None:
    command = [need("cache-shm"), "--dir", str(served.directory), "serve", "served"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 2 and "another server listens" in done.stderr
    assert client(served).ping()


def test_the_socket_of_a_dead_server_is_replaced_and_a_file_is_not(serve: Callable[..., Served]) -> None:
    served = serve()
    served.end(signal.SIGKILL)
    assert client(serve()).ping()
    file = served.directory / "file.sock"
    file.write_text("precious")
    command = [need("cache-shm"), "--dir", str(served.directory), "serve", "served", "--socket", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 2 and "no socket" in done.stderr and file.read_text() == "precious"


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
        command = [need("cache-shm"), "--dir", str(directory), "serve", "r", *flags]
        variables = {**os.environ, "CACHE_SHM_CONFIG": str(file)}
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=SECONDS, env=variables, check=False
        )
        assert done.returncode == 2 and f"{file}{named}" in done.stderr, done.stderr
    assert not list(directory.glob("r*"))


def test_check_says_which_options_hold_and_where_from(directory: Path) -> None:
    file = directory / "cache.toml"
    file.write_text('[serve]\nthreads = 2\nlog_format = "json"\n')
    file.chmod(0o600)
    variables = {**os.environ, "CACHE_SHM_CONFIG": str(file), "CACHE_SHM_SERVE_DATABASES": "4"}
    command = [need("cache-shm"), "serve", "r", "--check", "--threads", "3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, env=variables, check=True)
    rows = dict(line.split(None, 1) for line in done.stdout.splitlines())
    assert rows["threads"] == "3  (flag --threads)"
    assert rows["databases"] == "4  (environment CACHE_SHM_SERVE_DATABASES)"
    assert rows["log_format"] == f"json  ({file}:3 [serve])"
    assert rows["clients_max"] == "10000  (default)"




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
    command = [need("cache-shm"), "--dir", str(directory), "serve", "r", "--size", "1MiB"]
    flags = ["--password-file", str(password)]
    with subprocess.Popen([*command, *flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
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
