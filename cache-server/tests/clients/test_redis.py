"""What clients of Redis can do with a region, and what others see of it."""

from __future__ import annotations

import signal
import struct
import subprocess
import threading
from collections.abc import Callable

import pytest
import redis

from pycache import Cache

from .conftest import SECONDS, Served, client, need, wait_for
from .resp import Link, request


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
