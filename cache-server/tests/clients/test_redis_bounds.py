"""What one request may cost, and what a transaction may hold."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from pycache import Cache

from .conftest import Served
from .resp import Link, request


def test_replies_of_a_transaction_are_bounded_and_its_commands_all_carried_out(
    serve: Callable[..., Served],
) -> None:
    served = serve("--output-bytes", "1MiB")
    with Link(served.path) as link:
        link.call("SET", "large", b"x" * 100_000)
        link.call("MULTI")
        for _ in range(50):
            link.call("GET", "large")
        link.call("INCR", "n")
        replies = link.call("EXEC")
        assert isinstance(replies, list) and len(replies) == 51
        told = [reply for reply in replies[:50] if reply == b"x" * 100_000]
        refused = [reply for reply in replies[:50] if isinstance(reply, tuple) and "output_bytes" in str(reply[1])]
        assert len(told) == 10 and len(refused) == 40 and replies[50] == 1


@pytest.mark.parametrize("words", [["COMMAND", "INFO"], ["COMMAND", "DOCS"]])
def test_a_reply_that_is_much_larger_than_its_request_is_refused(serve: Callable[..., Served], words: list[str]) -> None:
    served = serve("--output-bytes", "1MiB")
    with Link(served.path) as link:
        reply = link.call(*words, *["GET"] * 20_000)
        assert isinstance(reply, tuple) and "output_bytes" in str(reply[1])
        assert link.call("PING") == ("+", "PONG")


def test_a_piece_of_a_scan_does_not_depend_on_other_databases(served: Served) -> None:
    with Cache(served.region, dir=served.directory) as cache, Link(served.path) as link:
        cache.set_many({f"other:{number}": b"" for number in range(100_000)})
        link.call("SELECT", 3)
        for number in range(5):
            link.call("SET", f"mine:{number}", "")
        cursor, calls, found = b"0", 0, []
        while calls == 0 or cursor != b"0":
            reply = link.call("SCAN", cursor, "COUNT", 10)
            assert isinstance(reply, list) and isinstance(reply[0], bytes) and isinstance(reply[1], list)
            cursor, keys = reply
            found += keys
            calls += 1
        assert sorted(found) == [b"mine:%d" % number for number in range(5)]
        assert calls > 200
        # Rare keys are found nevertheless.
        assert link.call("RANDOMKEY") in found


def test_random_keys_are_of_all_that_there_are(served: Served) -> None:
    with Link(served.path) as link:
        for number in range(1_000):
            link.call("SET", number, "")
        assert len({link.call("RANDOMKEY") for _ in range(1_000)}) > 200


def test_info_counts_keys_only_where_it_is_asked_to(served: Served) -> None:
    with Link(served.path) as link:
        for database in (0, 2):
            link.call("SELECT", database)
            link.call("MSET", "a", 1, "b", 2)
            link.call("EXPIRE", "a", 100)
        for sections in ([], ["default"]):
            text = link.call("INFO", *sections)
            assert isinstance(text, bytes) and b"# Keyspace" not in text and b"# Stats" in text
        for section in ("keyspace", "all", "everything"):
            text = link.call("INFO", section)
            assert isinstance(text, bytes)
            assert b"db0:keys=2,expires=1,avg_ttl=0\r\ndb2:keys=2,expires=1,avg_ttl=0" in text


def test_a_client_watches_a_key_once_and_not_too_many(served: Served) -> None:
    with Link(served.path) as link:
        assert link.call("WATCH", *["same"] * 20_000) == ("+", "OK")
        assert link.call("WATCH", *range(9_999)) == ("+", "OK")
        reply = link.call("WATCH", "one too many")
        assert isinstance(reply, tuple) and reply[0] == "-" and "too many watched keys" in str(reply[1])
        assert link.call("WATCH", "same") == ("+", "OK")
        link.call("SET", "same", 1)
        link.call("MULTI")
        assert link.call("EXEC") is None
        assert link.call("WATCH", "one too many") == ("+", "OK")


def test_a_transaction_that_is_spoilt_holds_nothing(serve: Callable[..., Served]) -> None:
    served = serve("--buffers-bytes", "16MiB", "--clients-max", "4")
    with Link(served.path) as link:
        link.call("MULTI")
        link.call("NOSUCH")
        for _ in range(64):
            assert link.call("SET", "k", b"x" * 1_000_000) == ("+", "QUEUED")
        reply = link.call("EXEC")
        assert isinstance(reply, tuple) and str(reply[1]).startswith("EXECABORT")
        assert link.call("EXISTS", "k") == 0


def test_rights_are_those_of_the_moment_a_command_is_carried_out(
    serve: Callable[..., Served], directory: Path
) -> None:
    for name in ("all", "reader"):
        (directory / name).write_text(f"{name}-secret\n")
        (directory / name).chmod(0o600)
    served = serve(
        "--password-file", str(directory / "all"), "--reader-password-file", str(directory / "reader")
    )
    with Link(served.path) as link:
        link.call("AUTH", "all-secret")
        link.call("MULTI")
        for words in (["SET", "a", 1], ["AUTH", "reader", "reader-secret"], ["SET", "a", 2], ["GET", "a"]):
            assert link.call(*words) == ("+", "QUEUED")
        replies = link.call("EXEC")
        assert isinstance(replies, list) and isinstance(replies[2], tuple)
        assert str(replies[2][1]).startswith("NOPERM") and replies[3] == b"1"


def test_a_part_of_what_is_no_string_of_bytes_is_not_overwritten(served: Served) -> None:
    with Cache(served.region, dir=served.directory) as cache, Link(served.path) as link:
        for key, value in {"int": 12345, "text": "hello", "bytes": b"hello"}.items():
            cache[key] = value
            assert link.call("SETRANGE", key, 1, "XY") == 5
        cache["float"] = 1.5
        reply = link.call("SETRANGE", "float", 0, "x")
        assert isinstance(reply, tuple) and str(reply[1]).startswith("WRONGTYPE")
        assert cache["float"] == 1.5


def test_both_places_that_tell_the_version_tell_the_same(served: Served) -> None:
    with Link(served.path) as link:
        hello, text = link.call("HELLO", 2), link.call("INFO", "server")
        assert isinstance(hello, list) and isinstance(text, bytes)
        version = hello[hello.index(b"version") + 1]
        assert isinstance(version, bytes) and b"redis_version:" + version + b"\r\n" in text


def test_keys_that_are_read_together_are_of_one_step(serve: Callable[..., Served]) -> None:
    served = serve("--threads", "2")
    keys = [f"k{number}" for number in range(20)]
    is_over = threading.Event()

    def write() -> None:
        with Link(served.path) as link:
            number = 0
            while not is_over.is_set():
                number += 1
                link.raw(request("MSET", *[word for key in keys for word in (key, number)]) + request("DEL", *keys))
                link.read()
                link.read()

    # Connections go to the threads in turn.
    with Link(served.path) as link:
        thread = threading.Thread(target=write)
        thread.start()
        try:
            for _ in range(3_000):
                values = link.call("MGET", *keys)
                assert isinstance(values, list) and len(set(map(repr, values))) == 1
                assert link.call("EXISTS", *keys) in (0, len(keys))
        finally:
            is_over.set()
            thread.join()
