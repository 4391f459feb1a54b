"""One client of memcached's beside others: what is one step, whose turn it is, what is counted."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from pathlib import Path

import httpx

from .conftest import SECONDS, wait_for
from .memcached import Place, read_until
from .resp import Link

Start = Callable[..., Place]


def test_what_is_read_to_go_was_read_before_it_goes(place_with: Start) -> None:
    """Of values that are taken with a time that has passed, each is seen by one client."""
    place = place_with("--threads", "2")
    stored: list[bytes] = []
    seen: list[bytes] = []

    def work(name: int, take: bytes) -> None:
        with place.connect() as link:
            for turn in range(100):
                values = [b"%d-%d-%d" % (name, turn, number) for number in range(100)]
                add = b"add k 0 0 %d\r\n%s\r\n"
                link.sendall(b"".join(add % (len(value), value) + take for value in values) + b"mn\r\n")
                replies = read_until(link, b"MN\r\n")
                told = re.findall(rb"^(?:NOT_)?STORED\r$", replies, re.MULTILINE)
                stored.extend(value for value, reply in zip(values, told, strict=True) if reply == b"STORED\r")
                seen.extend(re.findall(rb"^(?:VALUE|VA) .*\r\n(.*)\r$", replies, re.MULTILINE))

    requests = [b"gat -1 k\r\n", b"mg k v T-1\r\n"]
    threads = [threading.Thread(target=work, args=(name, requests[name % 2])) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert len(stored) > 1000, "the test tries what it is for"
    assert sorted(seen) == sorted(stored)


def test_a_line_of_many_keys_leaves_the_others_their_turns(place: Place) -> None:
    """Two million keys in one line are answered a piece at a time."""
    with place.connect() as other, place.connect() as link:
        sent, replies = threading.Event(), []

        def ask() -> None:
            link.sendall(b"gat 100" + b" v" * 2_000_000)
            sent.set()
            link.sendall(b"\r\n")
            replies.append(read_until(link, b"END\r\n"))

        thread = threading.Thread(target=ask)
        thread.start()
        assert sent.wait(SECONDS)
        turns = 0
        while not replies:
            other.sendall(b"mn\r\n")
            assert read_until(other, b"MN\r\n") == b"MN\r\n"
            turns += 1
        thread.join(SECONDS)
        assert replies == [b"END\r\n"] and turns > 100


def test_the_answer_to_a_line_of_many_keys_is_whole(place_with: Start) -> None:
    """However long it is: it is made no faster than the client takes it."""
    place = place_with("--output-bytes", "2MiB")
    keys, value = [b"k%d" % number for number in range(3000)], b"x" * 1500
    with place.connect() as link:
        link.sendall(b"".join(b"set %s 3 0 %d noreply\r\n%s\r\n" % (key, len(value), value) for key in keys))
        link.sendall(b"get " + b" ".join(keys) + b"\r\nmn\r\n")
        wanted = b"".join(b"VALUE %s 3 %d\r\n%s\r\n" % (key, len(value), value) for key in keys) + b"END\r\nMN\r\n"
        assert read_until(link, b"MN\r\n") == wanted
        link.sendall(b"get " + b" ".join(keys) + b" " + b"k" * 251 + b"\r\nmn\r\n")
        assert read_until(link, b"MN\r\n") == b"CLIENT_ERROR bad command line format\r\nMN\r\n"


def test_what_is_thrown_away_is_no_command(place_with: Start, directory: Path) -> None:
    """The number of commands and that of their durations are the same, whatever clients send."""
    place = place_with("--http-socket", str(directory / "http"), size="8MiB")
    size = 10 << 20
    with place.connect() as link:
        link.sendall(b"set k 0 0 %d\r\n" % size)
        assert read_until(link, b"\r\n") == b"SERVER_ERROR object too large for cache\r\n"
        for _ in range(size >> 20):
            link.sendall(b"x" * (1 << 20))
        link.sendall(b"\r\nget" + b" k" * 5000 + b"\r\nmn\r\n")
        assert read_until(link, b"MN\r\n") == b"END\r\nMN\r\n"
    assert place.ask(b"x" * 3000, b"never") == b"" and place.ask(b"quit\r\n", b"never") == b""
    with Link(place.served.path) as redis:
        redis.call("PING")
        redis.raw(b"*x\r\n")
        assert redis.rest().startswith(b"-ERR Protocol error")
    transport = httpx.HTTPTransport(uds=str(directory / "http"))
    with httpx.Client(transport=transport, base_url="http://localhost", timeout=SECONDS) as http:

        def count(name: str) -> int:
            found = re.search(rf"^cache_shm_server_{name} (\d+)", http.get("/metrics").text, re.MULTILINE)
            assert found
            return int(found[1])

        # The end of what a worker does is noted after it has answered.
        wait_for(lambda: count("commands_total") == 5)
        wait_for(lambda: count("command_duration_seconds_count") == 5)


def test_a_look_at_a_key_without_its_value_counts_as_a_read(place: Place) -> None:
    """As in memcached; but not one that says that it is none."""

    def counted() -> tuple[bytes, bytes]:
        stats = place.ask(b"stats\r\n", b"END\r\n")
        found = re.search(rb"STAT get_hits (\d+)\r\nSTAT get_misses (\d+)\r\n", stats)
        assert found
        return found[1], found[2]

    place.ask(b"set k 0 0 1\r\na\r\nset n 0 0 1\r\n5\r\nmn\r\n", b"MN\r\n")
    place.cache()["int"] = 12
    assert counted() == (b"0", b"0")
    assert place.ask(b"mg k s\r\nmg int s f\r\nmg none\r\nmn\r\n", b"MN\r\n") == b"HD s1\r\nHD s2 f0\r\nEN\r\nMN\r\n"
    assert counted() == (b"2", b"1")
    assert place.ask(b"mg k u\r\nmg none u q\r\nmn\r\n", b"MN\r\n") == b"HD\r\nMN\r\n"
    assert counted() == (b"2", b"1")


def test_those_who_are_connected_are_listed(place: Place) -> None:
    """With where they came to, and since when they are silent."""
    with place.connect() as link:
        link.sendall(b"mn\r\n")
        read_until(link, b"MN\r\n")
        listed = place.ask(b"stats conns\r\n", b"END\r\n").decode()
    assert listed.count(f":listen_addr {place.path}:0\r\n") == 2
    assert len(re.findall(r"^STAT \d+:secs_since_last_cmd \d+\r$", listed, re.MULTILINE)) == 2
