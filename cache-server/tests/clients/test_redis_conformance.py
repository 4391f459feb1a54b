"""The same requests to the real Redis and to the server get the same replies, byte by byte."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

import pytest

from .conftest import Served
from .resp import Link, Reply

# A line is a request, a block a session on an empty database. Words are split at blanks;
# "" is an empty word. What only the real Redis has (other types) is in no line.
SESSIONS = r"""
PING
PING hello
ping
PING a b
ECHO hello
ECHO
NOSUCH
NOSUCH with some arguments
GET
GET a b

GET missing
SET k v
GET k
SET k "" 
GET k
STRLEN k
STRLEN missing
SET k v EX 100
TTL k
SET k v KEEPTTL
TTL k
SET k v
TTL k
PTTL k
TTL missing
PTTL missing
EXPIRETIME k
EXPIRETIME missing
PEXPIRETIME missing

SET k v NX
SET k w NX
GET k
SET k w XX
GET k
SET m w XX
GET m
SET k x GET
SET n x GET
GET n
SET n y NX GET
GET n
SET o y NX GET
GET o
SET p y XX GET
GET p
SET k v EX
SET k v EX 0
SET k v EX -1
SET k v EX x
SET k v EX 10 PX 10
SET k v EX 10 KEEPTTL
SET k v NX XX
SET k v WHAT
SET k v PX 100000 NX
SET k v PX 100000 XX
TTL k
SET k v EXAT 1
GET k
SET k v PXAT 99999999999999
TTL nothing
SET k v EX 9223372036854775807

SETNX k v
SETNX k w
GET k
SETEX k 100 v
TTL k
SETEX k 0 v
SETEX k -5 v
SETEX k x v
PSETEX k 100000 v
TTL k
PSETEX k 0 v
GETSET k new
TTL k
GETSET missing new
GET missing
GETDEL missing
GETDEL nothing
GETDEL k
GET k
SETEX k 9223372036854775807 v

SET k v
GETEX k
TTL k
GETEX k EX 100
TTL k
GETEX k PERSIST
TTL k
GETEX k PX 100000
TTL k
GETEX k EXAT 99999999999
GETEX k EX
GETEX k EX 0
GETEX k NOSUCH
GETEX missing EX 100
GETEX missing

APPEND k hello
APPEND k " world"
GET k
STRLEN k
GETRANGE k 0 4
GETRANGE k 0 -1
GETRANGE k -5 -1
GETRANGE k 5 3
GETRANGE k -1 -5
GETRANGE k 100 200
GETRANGE k -100 2
GETRANGE missing 0 -1
GETRANGE k x 1
SUBSTR k 0 3
SETRANGE k 6 redis
GET k
SETRANGE k 15 tail
GET k
SETRANGE new 3 x
GET new
SETRANGE new -1 x
SETRANGE new 0 ""
SETRANGE empty 0 ""
EXISTS empty
SETRANGE k x y
SETRANGE k 536870912 y

INCR n
INCR n
GET n
DECR n
INCRBY n 10
DECRBY n 3
INCRBY n x
INCRBY n 1.5
INCRBY n 9223372036854775807
GET n
SET s abc
INCR s
SET s " 1"
INCR s
SET s 01
INCR s
SET s 9223372036854775807
INCR s
DECR s
SET s -9223372036854775808
DECR s
DECRBY s -9223372036854775808
SET t 7
INCR t
TYPE t
OBJECT ENCODING t
STRLEN t
APPEND t 5
INCR t
SET e 5 EX 100
INCR e
TTL e
SET big 99999999999999999999
INCR big
INCRBY n 99999999999999999999

INCRBYFLOAT f 1.5
INCRBYFLOAT f 1.5
INCRBYFLOAT f -3
INCRBYFLOAT f 0.25
INCRBYFLOAT f x
INCRBYFLOAT f nan
INCRBYFLOAT f inf
GET f
SET g 10
INCRBYFLOAT g 0.5
INCR g
SET h abc
INCRBYFLOAT h 1
SET i 5.0e3
INCRBYFLOAT i 1
INCRBYFLOAT j 0.1
INCRBYFLOAT j 0.2
INCRBYFLOAT j 0.7
SET l 9007199254740993
INCRBYFLOAT l 1
INCRBYFLOAT l -9007199254740994
SET m 10.50
INCRBYFLOAT m 0.1
INCRBYFLOAT m -5
INCRBYFLOAT m 2.0e2
INCRBYFLOAT o 0.000000000000000001
INCRBYFLOAT o 1e-17
INCRBYFLOAT o -1e-17
INCRBYFLOAT p +.5
INCRBYFLOAT p 5.
INCRBYFLOAT p " 1"

MSET a 1 b 2 c 3
MGET a b c d
MSET a
MSET a 1 b
MSETNX a 9 z 9
GET z
MSETNX x 1 y 2
MGET x y
MSETNX x
EXISTS a b c d
EXISTS a a
TOUCH a b nothing
DEL a b nothing
EXISTS a b
UNLINK c nothing
DBSIZE
DEL
EXISTS

SET k v
TYPE k
TYPE missing
RENAME k l
GET k
GET l
RENAME k l
RENAME l l
SET m w
RENAMENX l m
RENAMENX l n
GET n
RENAMENX nothing x
RENAMENX n n
SET e v EX 100
RENAME e f
TTL f
COPY f g
TTL g
COPY f g
COPY f g REPLACE
COPY f f
COPY nothing x
COPY f g NOSUCH
COPY f f DB 1
COPY f g DB 99
SELECT 1
GET f
SELECT 0
DBSIZE

SET k v
EXPIRE k 100
TTL k
EXPIRE k 50 NX
EXPIRE k 50 XX
TTL k
EXPIRE k 100 GT
TTL k
EXPIRE k 10 GT
EXPIRE k 10 LT
TTL k
EXPIRE k 10 NX XX
EXPIRE k 10 GT LT
EXPIRE k 10 WHAT
EXPIRE missing 10
EXPIRE k x
PERSIST k
PERSIST k
PERSIST missing
TTL k
EXPIRE k 100 GT
EXPIRE k 100 LT
TTL k
PEXPIRE k 100000
TTL k
EXPIREAT k 99999999999
EXPIRETIME k
PEXPIREAT k 99999999999999
PEXPIRETIME k
EXPIRE k 9223372036854775807
EXPIRE k 0
GET k
SET k v
EXPIRE k -1
GET k
SET k v
EXPIREAT k 1
EXISTS k
SET k v
PEXPIREAT k -5
EXISTS k
SET k v
PEXPIREAT k -9223372036854775808
EXISTS k
SET k v EX x WHAT
SET k v EX x NX XX
SET k v EX x
EXPIRE k x WHAT
EXPIRE missing x
GETEX missing EX 0
GETEX k EX x
SET k v
GETEX k EX x
GETEX k EX 0
GETEX k PERSIST EX
SETRANGE missing 99999999999 ""
SETRANGE k 99999999999 ""
SETRANGE k -1 ""
SETRANGE missing x ""

MULTI
AUTH password
HELLO 9
PING
EXEC
MULTI
CLIENT NOSUCH
PING
EXEC
MULTI
CONFIG GET
EXEC
MULTI
OBJECT ENCODING
EXEC
MULTI
COMMAND COUNT x
EXEC
MULTI
WATCH
EXEC
MULTI
AUTH
EXEC
MULTI
CLIENT GETNAME
OBJECT ENCODING missing
COMMAND GETKEYS GET a
COMMAND GETKEYS GET
EXEC
MULTI
SET k v
RESET
EXEC

MULTI
SET k 1
INCR k
GET k
EXEC
MULTI
MULTI
SET k
EXEC
EXEC
DISCARD
MULTI
SET k 5
DISCARD
GET k
WATCH k
SET k 9
MULTI
GET k
EXEC
WATCH k
MULTI
GET k
EXEC
WATCH k
UNWATCH
SET k 10
MULTI
GET k
EXEC
MULTI
WATCH k
EXEC
WATCH missing
SET missing 1
MULTI
PING
EXEC
MULTI
NOSUCH
EXEC
MULTI
INCR k
SET s abc
INCR s
EXEC
WATCH
MULTI
EXEC

SELECT 3
SET k three
SELECT 0
GET k
SELECT 3
GET k
SELECT 16
SELECT -1
SELECT x
FLUSHDB
DBSIZE
SELECT 0
FLUSHDB ASYNC
FLUSHDB SYNC
FLUSHDB NOW
FLUSHALL
FLUSHALL SYNC
FLUSHALL a b

SET k v
SCAN 0
SCAN 0 MATCH k*
SCAN 0 MATCH x*
SCAN 0 COUNT 100
SCAN 0 TYPE string
SCAN 0 TYPE list
SCAN x
SCAN 0 COUNT 0
SCAN 0 COUNT x
SCAN 0 WHAT
SCAN 0 MATCH
SCAN
KEYS *
KEYS x*
KEYS
RANDOMKEY
DEL k
RANDOMKEY
KEYS *

SET k hello
OBJECT ENCODING k
OBJECT REFCOUNT k
OBJECT ENCODING missing
OBJECT NOSUCH k
OBJECT
SET long aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
OBJECT ENCODING long
SET n 12
OBJECT ENCODING n
MEMORY USAGE missing
MEMORY NOSUCH
MEMORY USAGE
CLIENT GETNAME
CLIENT SETNAME me
CLIENT GETNAME
CLIENT SETNAME "a b"
CLIENT SETINFO lib-name redis-py
CLIENT SETINFO lib-ver 1.0
CLIENT SETINFO lib-what 1.0
CLIENT SETINFO lib-name
CLIENT NOSUCH
CLIENT
CLIENT KILL 1.2.3.4:5
CLIENT KILL ID 999999
CLIENT KILL ID x
CLIENT LIST TYPE nosuch
CLIENT NO-TOUCH x
CONFIG GET nosuchparameter
CONFIG GET save
CONFIG GET appendonly
CONFIG NOSUCH
CONFIG
COMMAND GETKEYS MSET a 1 b 2
COMMAND GETKEYS GET a
COMMAND GETKEYS PING
COMMAND GETKEYS PING a
COMMAND GETKEYS NOSUCH a
COMMAND GETKEYS GET a b
COMMAND GETKEYS MSET a
COMMAND GETKEYS MSET a 1
COMMAND INFO nosuch
COMMAND COUNT x
CLIENT GETREDIR
CLIENT KILL
CLIENT ID x
CONFIG GET
CONFIG RESETSTAT x
OBJECT ENCODING
OBJECT ENCODING a b
MEMORY USAGE n SAMPLES -1
MEMORY USAGE n SAMPLES x
MEMORY USAGE n SAMPLES
MEMORY USAGE n WHAT 5
ACL NOSUCH
COMMAND NOSUCH
AUTH
AUTH password
AUTH default anything
AUTH nobody anything
AUTH a b c
HELLO 9
HELLO x
HELLO 2 WHAT
ACL WHOAMI
RESET
QUIT
"""

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
