"""The same requests to the real Redis and to the server get the same replies, byte by byte."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Served
from .resp import Link, Reply

# A line is a request, a block a session on an empty database. Words are split at blanks;
# "" is an empty word. What only the real Redis has (other types) is in no line.
SESSIONS = (Path(__file__).parent / "redis_sessions.txt").read_text()

# Words of both that name the server, not the behaviour.
DIFFERENT = {
    # 7.0 does not know these yet; later versions answer OK.
    "CLIENT SETINFO lib-name redis-py",
    "CLIENT SETINFO lib-ver 1.0",
    "CLIENT SETINFO lib-what 1.0",
    "CLIENT SETINFO lib-name",
    "CLIENT NO-TOUCH x",
    # Redis adds in binary: 205.60000000000000001.
    "INCRBYFLOAT m 2.0e2",
    # The largest string depends on the region.
    "SETRANGE k 536870912 y",
}


def words(line: str) -> list[bytes]:
    found = re.findall(r'"([^"]*)"|(\S+)', line)
    return [(quoted or plain).encode() for quoted, plain in found]


def sessions() -> list[list[str]]:
    return [block.strip().splitlines() for block in SESSIONS.strip().split("\n\n")]


def unsorted(reply: Reply) -> Reply:
    """A reply in which the order of keys does not count."""
    return sorted(map(unsorted, reply), key=repr) if isinstance(reply, list) else reply


@pytest.fixture(params=["1", "3"], ids=["one-thread", "three-threads"])
def threaded(request: pytest.FixtureRequest, serve: Callable[..., Served]) -> Served:
    """A server with one thread, and one with several."""
    return serve("--threads", request.param)


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("session", sessions(), ids=lambda lines: lines[0].replace(" ", "-"))
def test_a_session_gets_the_replies_of_redis(
    threaded: Served, redis_path: str, session: list[str], protocol: int
) -> None:
    with Link(threaded.path) as ours, Link(redis_path) as theirs:
        theirs.call("FLUSHALL")
        for link in (ours, theirs):
            link.call("HELLO", protocol)
        different = []
        for line in session:
            request = words(line)
            theirs_says, ours_says = theirs.call(*request), ours.call(*request)
            if line.startswith(("SCAN", "KEYS")):
                is_same = unsorted(theirs_says) == unsorted(ours_says)
            else:
                is_same = theirs.heard == ours.heard
            if not is_same and line not in DIFFERENT:
                different.append(f"{line}\n    Redis {theirs.heard!r}\n    here  {ours.heard!r}")
        assert not different, "\n".join(different)


BAD = [
    b"*x\r\n",
    b"*2\r\n$3\r\nGET\r\n:1\r\n",
    b"*1\r\n$-5\r\n",
    b"*1\r\n$x\r\n",
    b"*2147483648\r\n",
    b'GET "a\r\n',
    b"GET 'a'b\r\n",
    b"*0\r\n*-1\r\n\r\nPING\r\n*x\r\n",
    b"PING\r\n*1\r\n+OK\r\n",
    b"x" * 70_000,
    b"*" + b"1" * 70_000,
    b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"*1\r\n$4\r\nQUIT\r\n*1\r\n$4\r\nPING\r\n",
]


@pytest.mark.parametrize("data", BAD, ids=range(len(BAD)))
def test_what_is_no_request_ends_with_the_words_of_redis(served: Served, redis_path: str, data: bytes) -> None:
    replies = []
    for path in (redis_path, served.path):
        with Link(path) as link:
            link.raw(data)
            try:
                replies.append(link.rest())
            except ConnectionResetError:
                # Closed with bytes unread: what was answered may be gone.
                replies.append(None)
    theirs, ours = replies
    if theirs is not None and ours is not None:
        assert ours == theirs


def test_random_sequences_leave_the_same_values(threaded: Served, redis_path: str) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    chooser = random.Random(seed)
    keys = [f"k{number}" for number in range(6)]
    values = ["", "1", "-5", "abc", "9223372036854775807", "3.5", "x" * 100]

    def anything() -> list[str | int]:
        key, other, value = chooser.choice(keys), chooser.choice(keys), chooser.choice(values)
        number = chooser.randrange(-3, 20)
        return chooser.choice(
            [
                ["SET", key, value],
                ["SET", key, value, "NX"],
                ["SET", key, value, "XX", "GET"],
                ["SET", key, value, "KEEPTTL"],
                ["SET", key, value, "EX", 1000],
                ["GET", key],
                ["GETDEL", key],
                ["GETSET", key, value],
                ["APPEND", key, value],
                ["SETRANGE", key, abs(number), value],
                ["GETRANGE", key, number, number + 5],
                ["STRLEN", key],
                ["INCR", key],
                ["INCRBY", key, number],
                ["DECRBY", key, number],
                ["DEL", key, other],
                ["EXISTS", key, other],
                ["RENAME", key, other],
                ["RENAMENX", key, other],
                ["COPY", key, other, "REPLACE"],
                ["EXPIRE", key, 1000],
                ["PERSIST", key],
                ["TTL", key],
                ["MSET", key, value, other, "m"],
                ["MSETNX", key, value, other, "m"],
                ["MGET", *keys],
                ["DBSIZE"],
            ]
        )

    with Link(threaded.path) as ours, Link(redis_path) as theirs:
        theirs.call("FLUSHALL")
        for step in range(4_000):
            request = anything()
            theirs_says, ours_says = theirs.call(*request), ours.call(*request)
            if request[0] == "TTL" and isinstance(theirs_says, int) and isinstance(ours_says, int):
                assert abs(theirs_says - ours_says) <= 1, (step, request)
            else:
                assert ours_says == theirs_says, (step, request)
