"""memcached's clients use a region through the server."""

from __future__ import annotations

import random
import re
import socket
import string
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pylibmc
import pytest
from pymemcache import serde
from pymemcache.client.base import PooledClient
from pymemcache.exceptions import MemcacheClientError, MemcacheServerError, MemcacheUnknownCommandError

from .conftest import SECONDS, wait_for
from .memcached import Place, read_until



def test_pymemcache_does_what_it_does_with_memcached(place: Place) -> None:
    """Every command of the client is answered in a way that it understands."""
    client = place.client(serde=serde.pickle_serde, default_noreply=False)
    assert client.set("k", {"a": [1, 2]}) and client.get("k") == {"a": [1, 2]}
    assert client.get("missing") is None and client.get("missing", 5) == 5
    assert client.set("int", 7) and client.get("int") == 7
    assert client.set_many({f"key{i}": i for i in range(100)}) == []
    assert client.get_many([f"key{i}" for i in range(200)]) == {f"key{i}": i for i in range(100)}
    assert client.add("new", b"1") is True and client.add("new", b"2") is False
    assert client.replace("new", b"2") is True and client.replace("none", b"2") is False
    assert client.append("new", b"3") is True and client.prepend("new", b"1") is True
    assert client.get("new") == b"123"
    assert client.append("none", b"x") is False and client.prepend("none", b"x") is False
    value, version = client.gets("new")
    assert value == b"123"
    assert client.cas("new", b"4", version) is True
    assert client.cas("new", b"5", version) is False
    assert client.cas("none", b"5", version) is None
    assert client.gets_many(["new"])["new"][0] == b"4"
    assert client.incr("int", 3) == 10 and client.decr("int", 20) == 0 and client.incr("none", 1) is None
    assert client.touch("int", 100) is True and client.touch("none", 100) is False
    assert client.delete("int") is True and client.delete("int") is False
    assert client.delete_many(["new", "k"]) is True
    assert client.version() == b"1.6.18"
    assert client.stats()[b"curr_items"] == 100
    assert client.stats("settings")[b"maxbytes"] == 64 << 20
    assert client.flush_all() is True and client.get("key1") is None
    client.quit()


def test_pymemcache_sends_without_waiting(place: Place) -> None:
    """A client that wants no replies gets none, whatever it sends."""
    client = place.client()
    for number in range(1000):
        client.set(f"k{number}", str(number).encode(), noreply=True)
    client.incr("k1", 1, noreply=True)
    client.delete("k2", noreply=True)
    client.add("k3", b"no", noreply=True)
    assert client.get_many(["k0", "k1", "k2", "k3"]) == {"k0": b"0", "k1": b"2", "k3": b"3"}


def test_pymemcache_meets_the_errors_that_it_knows(place: Place) -> None:
    """What is refused raises what it raises with memcached."""
    client = place.client(default_noreply=False)
    client.set("text", b"abc")
    with pytest.raises(MemcacheClientError, match="non-numeric"):
        client.incr("text", 1)
    with pytest.raises(MemcacheServerError, match="object too large for cache"):
        client.set("large", b"x" * (33 << 20))
    with pytest.raises(MemcacheUnknownCommandError):
        client.raw_command(b"nothing")
    assert client.get("text") == b"abc", "the connection goes on"


def test_pylibmc_does_what_it_does_with_memcached(place: Place) -> None:
    """libmemcached understands every answer, with its flags for types."""
    client = pylibmc.Client([place.path], behaviors={"cas": True, "no_block": False})
    values = {"int": 7, "text": "grüße", "bytes": b"\x00\xff", "bool": True, "list": [1, 2], "large": "x" * 500_000}
    for key, value in values.items():
        assert client.set(key, value)
    assert client.get_multi(list(values)) == values
    assert client.set_multi(values) == []
    assert client.add("int", 8) is False and client.replace("int", 9) is True
    assert client.incr("int") == 10 and client.decr("int", 3) == 7
    value, version = client.gets("text")
    assert client.cas("text", "new", version) is True and client.cas("text", "old", version) is False
    assert client.append("bytes", b"end") and client.prepend("bytes", b"start")
    assert client.get("bytes") == b"start\x00\xffend"
    assert client.touch("int", 100) and not client.touch("none", 100)
    assert client.delete("int") and not client.delete("int")
    assert client.delete_multi(["text", "bool"])
    with pytest.raises(pylibmc.NotFound):
        client.incr("none")
    assert dict(client.get_stats()[0][1])["curr_items"] == b"3"
    assert client.flush_all() and client.get("list") is None


def test_the_region_and_its_clients_see_the_same(place: Place) -> None:
    """What Python stored is readable, and what clients store is bytes with flags of their own."""
    cache, client = place.cache(), place.client(default_noreply=False)
    cache["int"], cache["text"], cache["bytes"], cache["float"] = -12, "grüße", b"\x00", 1.5
    assert client.get("int") == b"-12" and client.get("text") == "grüße".encode() and client.get("bytes") == b"\x00"
    client.set("from", b"client", flags=12)
    assert cache["from"] == b"client"
    cache["n"] = 5
    assert client.incr("n", 2) == 7 and cache["n"] == 7, "an int stays one"
    assert client.append("n", b"1") and cache["n"] == "71"
    assert client.append("text", b"!") and cache["text"] == "grüße!"
    cache["list"] = [1]
    assert client.append("list", b"x") is False and cache["list"] == [1]
    with pytest.raises(MemcacheClientError, match="non-numeric"):
        client.incr("int", 1)
    cache.set("soon", b"x", ttl=100)
    assert place.ask(b"mg soon t\r\n", b"\r\n") == b"HD t100\r\n"


def test_flags_and_expiry_survive_a_change_of_the_value(place: Place) -> None:
    """incr, append and touch keep what a value is."""
    replies = place.ask(
        b"ms n 2 F4294967295 T100\r\n41\r\nincr n 1\r\nappend n 9 9 1\r\n0\r\nmg n v f t\r\n"
        b"touch n 200\r\nmg n v f t\r\nmn\r\n",
        b"MN\r\n",
    )
    assert replies == (
        b"HD\r\n42\r\nSTORED\r\nVA 3 f4294967295 t100\r\n420\r\nTOUCHED\r\nVA 3 f4294967295 t200\r\n420\r\nMN\r\n"
    )


def test_gats_tells_the_version_that_is_left(place: Place) -> None:
    """A version that came with another expiry can be exchanged."""
    client = place.client(default_noreply=False)
    client.set("k", b"1")
    told = re.fullmatch(rb"VALUE k 0 1 (\d+)\r\n1\r\nEND\r\n", place.ask(b"gats 100 k\r\n", b"END\r\n"))
    assert told and client.cas("k", b"2", told[1]) is True
    assert place.ask(b"mg k t\r\n", b"\r\n") == b"HD t-1\r\n"


def test_one_client_of_many_wins_the_right_to_make_a_value(place: Place) -> None:
    """Of those who meet a stale or a missing value at once, exactly one is told to make it."""
    count = 8
    for prepare in (b"ms k 3\r\nold\r\nmd k I T100\r\nmn\r\n", b"md k\r\nmn\r\n"):
        place.ask(prepare, b"MN\r\n")
        links = [place.connect() for _ in range(count)]
        barrier, replies = threading.Barrier(count), []

        def ask(link: socket.socket, barrier: threading.Barrier = barrier, replies: list[bytes] = replies) -> None:
            barrier.wait(SECONDS)
            link.sendall(b"mg k v N30\r\nmn\r\n")
            replies.append(read_until(link, b"MN\r\n"))

        threads = [threading.Thread(target=ask, args=(link,)) for link in links]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SECONDS)
        won = [reply for reply in replies if b" W\r\n" in reply]
        assert len(replies) == count and len(won) == 1, replies
        assert all(b" Z" in reply for reply in replies if reply not in won)
        for link in links:
            link.close()


def test_a_value_that_is_too_large_is_thrown_away_without_being_kept(place_with: Callable[..., Place]) -> None:
    """Its bytes are not taken for commands, its old value goes, and the connection goes on."""
    place = place_with(size="8MiB")
    with place.connect() as link:
        link.sendall(b"set k 0 0 3\r\nold\r\n")
        assert read_until(link, b"\r\n") == b"STORED\r\n"
        size = 40 << 20
        link.sendall(b"set k 0 0 %d\r\n" % size)
        assert read_until(link, b"\r\n") == b"SERVER_ERROR object too large for cache\r\n"
        data = b"flush_all\r\n" * (size // 11 + 1)
        link.sendall(data[:size] + b"\r\nget k\r\n")
        assert read_until(link, b"END\r\n") == b"END\r\n"
        resident = int(Path(f"/proc/{place.served.process.pid}/statm").read_text().split()[1]) * 4096
        assert resident < size
        link.sendall(b"ms k %d\r\n" % size + data[:size] + b"\r\nmn\r\n")
        assert read_until(link, b"MN\r\n") == b"SERVER_ERROR object too large for cache\r\nMN\r\n"


def test_requests_may_come_in_any_pieces_and_many_at_once(place: Place) -> None:
    """Neither a byte at a time nor thousands of requests in one go change an answer."""
    request = b"set k 7 0 11\r\nhello\r\nbye\n\r\ngets k\r\nms k 2 MA\r\n!!\r\nmg k v f\r\n"
    whole = place.ask(request + b"mn\r\n", b"MN\r\n")
    with place.connect() as link:
        for byte in request + b"mn\r\n":
            link.sendall(bytes([byte]))
        assert len(read_until(link, b"MN\r\n")) == len(whole)
    with place.connect() as link:
        count = 20_000
        sender = threading.Thread(target=link.sendall, args=(b"set n 0 0 1\r\n1\r\nget n\r\n" * count + b"mn\r\n",))
        sender.start()
        assert read_until(link, b"MN\r\n") == b"STORED\r\nVALUE n 0 1\r\n1\r\nEND\r\n" * count + b"MN\r\n"
        sender.join(SECONDS)


def test_a_value_as_large_as_the_region_takes_goes_there_and_back(place: Place) -> None:
    """Large values are whole."""
    client = place.client(default_noreply=False)
    value = random.Random(1).randbytes(15 << 20)
    assert client.set("large", value) and client.get("large") == value
    assert client.touch("large", 100) and client.append("large", b"!")
    assert client.get("large") == value + b"!"


@pytest.mark.parametrize("request_", [b"x" * 3000, b"stats " * 500, b"GET / HTTP/1.1\r\n", b"POST / HTTP/1.1\r\n", b"Host: there\r\n", b"quit\r\n"])
def test_what_is_no_talk_of_memcached_is_closed(place: Place, request_: bytes) -> None:
    """As memcached does; nobody else notices."""
    with place.connect() as other:
        assert place.ask(request_, b"never") == b""
        other.sendall(b"mn\r\n")
        assert read_until(other, b"MN\r\n") == b"MN\r\n"


def test_those_who_are_too_many_are_told_so(place_with: Callable[..., Place]) -> None:
    """In memcached's words."""
    place = place_with("--clients-max", "1")
    with place.connect() as link:
        link.sendall(b"mn\r\n")
        assert read_until(link, b"MN\r\n") == b"MN\r\n"
        # Said before anything is asked, and hung up: to send something would be too late.
        with place.connect() as another:
            assert read_until(another, b"never") == b"ERROR Too many open connections\r\n"


def test_who_says_a_last_word_and_leaves_is_let_go(place: Place) -> None:
    """A client that sends something without a reply and ends at once keeps no connection.

    Both may be told to the server as one event; it took the bytes, and waited for more.
    """
    for _ in range(50):
        assert place.ask(b"mn\r\n", b"MN\r\n") == b"MN\r\n"
        with place.connect() as link:
            link.sendall(b"set k 0 0 1 noreply\r\n1\r\n")
            link.shutdown(socket.SHUT_WR)
            assert read_until(link, b"never") == b""


def test_many_threads_count_together(place_with: Callable[..., Place]) -> None:
    """No addition of any client of any worker is lost."""
    place = place_with("--threads", "2")
    client = PooledClient(place.path, max_pool_size=8, timeout=SECONDS)
    client.set("n", b"0", noreply=False)
    steps = 300

    def work() -> None:
        for _ in range(steps):
            client.incr("n", 1)
            while True:
                value, version = client.gets("list") or (None, None)
                done = client.cas("list", value + b".", version) if value is not None else client.add("list", b".", noreply=False)
                if done:
                    break

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS * 3)
    assert client.get("n") == str(4 * steps).encode()
    assert client.get("list") == b"." * (4 * steps)


def test_expiry_comes_when_it_was_said(place: Place) -> None:
    """Seconds from now, or a moment of the day."""
    client = place.client(default_noreply=False)
    client.set("relative", b"1", expire=1)
    client.set("absolute", b"1", expire=int(time.time()) + 100)
    client.set("never", b"1")
    assert place.ask(b"mg absolute t\r\n", b"\r\n") in {b"HD t99\r\n", b"HD t100\r\n"}
    wait_for(lambda: client.get("relative") is None)
    assert client.get("never") == b"1"


def test_no_bytes_end_the_server(place: Place) -> None:
    """Random talk is answered or closed."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    words = ["get", "gets", "gat", "set", "add", "cas", "append", "incr", "decr", "touch", "delete", "mg", "ms", "md", "ma"]
    words += ["me", "mn", "stats", "flush_all", "noreply", "0", "1", "-1", "k", "l", "v", "b", "T1", "N1", "R1", "I", "C1"]
    words += ["\r\n", "\r\n", "\r\n", "\r\n", "\n", "MA", "D7", "aGVsbG8=", "99999999999", *string.printable]
    with place.connect() as witness:
        for _ in range(150):
            with place.connect() as link:
                talk = " ".join(dice.choice(words) for _ in range(200)).encode() + b"\r\n"
                try:
                    link.sendall(talk)
                    link.shutdown(socket.SHUT_WR)
                    read_until(link, b"never")
                except (BrokenPipeError, ConnectionResetError):
                    pass  # It was closed before it said all.
        witness.sendall(b"mn\r\n")
        assert read_until(witness, b"MN\r\n") == b"MN\r\n"
