"""The same requests to the real memcached and to the server get the same replies, byte by byte."""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pycache import Cache

from .conftest import SECONDS, Served, need, wait_for

# A block is a session on an empty cache, a line one that is sent; `set` and its kin are
# followed by their data. {cas} is the version that was told last.
SESSIONS = (Path(__file__).parent / "memcached-sessions.txt").read_text()

# What the server refuses because a region does not keep it, and what is only told otherwise.
DIFFERENT = {
    b"mg k h": b"CLIENT_ERROR invalid flag\r\n",
    b"mg k l": b"CLIENT_ERROR invalid flag\r\n",
    b"ms k 1 E7\r\na": b"CLIENT_ERROR invalid flag\r\n",
    b"set k 4294967296 0 1": b"CLIENT_ERROR bad command line format\r\n",
    b"set k 0 3000000000 1": b"CLIENT_ERROR bad command line format\r\n",
    b"set e 0 0 0\r\n": b"STORED\r\n",
    b"incr e 1": b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n",
    b"mg k t T100": b"HD t100\r\n",
    b"touch k 0": b"TOUCHED\r\n",
    b"flush_all 10": b"CLIENT_ERROR invalid exptime argument\r\n",
    b"stats items": b"END\r\n",
    b"stats detail on": b"CLIENT_ERROR usage: stats detail on|off|dump\r\n",
    b"stats cachedump 1 1": b"CLIENT_ERROR stats cachedump not allowed\r\n",
    b"flush_all 1 2": b"CLIENT_ERROR invalid exptime argument\r\n",
    b"ma n t T100 N100": b"HD t100\r\n",
    b"mg aGVsbG8=aGVsbG8= b": b"CLIENT_ERROR error decoding key\r\n",
    b"mg aw== b k": b"HD kaw== b\r\n",
    b"ms longer 2\r\n99": b"HD\r\n",
    b"md longer I T50": b"HD\r\n",
    b"ma longer T100 v": b"VA 3\r\n100\r\n",
    b"mg longer R1000 v t": b"VA 3 t100 X W\r\n100\r\n",
}

# More than an item may have in either.
LARGE_BYTES = 20_000_000


# Numbers as C reads them.
ODD_NUMBERS = [
    [b"set k 0 0 %d\r\n" % len(value) + value, b"incr k 1", b"get k", b"ma k MD v"]
    for value in [b" 12", b"12 ", b"+12", b"0012", b"12x", b"12 x", b"12\0x", b"\x00012", b"\x0b12\x0c", b"-0", b"-", b"-1", b"- 1"]
    + [b"-18446744073709551615", b"-18446744073709551616", b"0" * 30 + b"7", b" " * 30 + b"7", b"\n7", b"", b" "]
]
ODD_NUMBERS += [
    [b"set k 0 0 1\r\n5", b"incr k " + delta, b"ma k v D" + delta, b"touch k " + delta, b"set k " + delta + b" 0 1\r\n5", b"get k"]
    for delta in [b"\t1", b"1\t", b"-0", b"-1", b"+1", b"1x", b"-18446744073709551615", b"\x0b1\x0c"]
]


class Talk:
    """A connection that knows where a reply ends: at that of an `mn` behind the request."""

    def __init__(self, path: str) -> None:
        """Connects."""
        self.link = socket.socket(socket.AF_UNIX)
        self.link.settimeout(SECONDS)
        self.link.connect(path)
        self.cas = b"0"

    def ask(self, request: bytes) -> bytes:
        """The reply to a request; its versions are kept and hidden, and its times rounded."""
        self.link.sendall(request.replace(b"{cas}", self.cas) + b"\r\nmn\r\n")
        reply = b""
        ends = 2 if request.startswith(b"mn") else 1
        while not reply.endswith(b"MN\r\n" * ends):
            part = self.link.recv(1 << 16)
            if not part:
                return reply + b"(closed)"
            reply += part
        for found in re.finditer(rb"^VALUE \S+ \d+ \d+ (\d+)\r$|^(?:HD|VA).* c(\d+)", reply, re.MULTILINE):
            self.cas = found[1] or found[2]
        reply = re.sub(rb"^(VALUE \S+ \d+ \d+) \d+\r$", rb"\1 CAS\r", reply, flags=re.MULTILINE)
        reply = re.sub(rb"^((?:HD|VA).*) c[1-9]\d*", rb"\1 cCAS", reply, flags=re.MULTILINE)
        return re.sub(rb" t(99|101)\b", b" t100", reply).removesuffix(b"MN\r\n")


def requests(session: str) -> list[bytes]:
    """The requests of a session: a line, and the data of those that have some."""
    lines = session.split("\n")
    found = []
    while lines:
        line = lines.pop(0)
        words = line.split()
        has_data = bool(words) and words[0] in {"set", "add", "replace", "append", "prepend", "cas", "ms"}
        has_data = has_data and bool(lines) and not lines[0].startswith(("set", "ms", "cas"))
        data = "\r\n" + lines.pop(0) if has_data and (words[0] == "ms" or len(words) >= 5) else ""
        found.append((line + data).encode())
    return found


def sessions() -> list[list[bytes]]:
    """All sessions."""
    blocks: list[list[str]] = [[]]
    lines = SESSIONS.strip("\n").split("\n")
    for index, line in enumerate(lines):
        # An empty line behind one that announces no bytes is its data.
        is_data = index > 0 and re.search(r"^(set|append) \S+ \d+ \d+ 0$|^ms k 0$", lines[index - 1])
        if line or is_data:
            blocks[-1].append(line)
        else:
            blocks.append([])
    return [requests("\n".join(block)) for block in blocks] + ODD_NUMBERS


def without_blanks(reply: bytes) -> bytes:
    """A reply without the blanks that memcached leaves where a number became shorter."""

    def shorter(found: re.Match[bytes]) -> bytes:
        return found[1] + b" %d" % len(found[3]) + found[2] + b"\r\n" + found[3] + b"\r"

    return re.sub(rb"^(VA|VALUE \S+ \d+) \d+(.*)\r\n(\d+) +\r$", shorter, reply, flags=re.MULTILINE)


@contextlib.contextmanager
def memcached(*options: str) -> Iterator[str]:
    """The socket of a real memcached."""
    program = need("memcached")
    directory = tempfile.mkdtemp(prefix="memcached-", dir="/dev/shm")
    path = f"{directory}/memcached.sock"
    process = subprocess.Popen([program, "-s", path, "-u", "root", "-U", "0", *options], stderr=subprocess.DEVNULL)
    wait_for(lambda: Path(path).exists())
    yield path
    process.kill()
    process.wait(SECONDS)
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="module")
def memcached_path() -> Iterator[str]:
    """The socket of a real memcached as it is without options."""
    with memcached() as path:
        yield path


@pytest.fixture
def path(serve: Callable[..., Served], directory: Path) -> str:
    """The socket of the server for memcached clients."""
    place = str(directory / "memcached.sock")
    serve("--memcached-socket", place)
    return place


def test_replies_are_those_of_memcached(path: str, memcached_path: str) -> None:
    """Each request of each session is answered alike."""
    ours, theirs = Talk(path), Talk(memcached_path)
    differing = []
    for session in sessions():
        for talk in (ours, theirs):
            assert talk.ask(b"flush_all") == b"OK\r\n"
        for request in session:
            got, wanted = ours.ask(request), theirs.ask(request)
            if got != without_blanks(wanted):
                differing.append((request, got, wanted))
    assert not differing, "\n".join(f"{request!r}\n  {got!r}\n  {wanted!r}" for request, got, wanted in differing)


STORES = ["set k 0 0 N", "add k 0 0 N", "replace k 0 0 N", "append k 0 0 N", "prepend k 0 0 N", "cas k 0 0 N {cas}"]
STORES += ["cas k 0 0 N 1", "set k 0 0 N noreply", "cas k 0 0 N {cas} noreply", "ms k N", "ms k N ME", "ms k N MR"]
STORES += ["ms k N MA", "ms k N C{cas}", "ms k N C1 q", "ms k N I C{cas}"]


@pytest.mark.parametrize("request_", ["append k 0 0 N", "prepend k 0 0 N", "ms k N MA", "ms k N MP q"])
def test_what_grows_too_large_is_not_stored_and_stays(
    serve: Callable[..., Served], directory: Path, memcached_path: str, request_: str
) -> None:
    """Each of two parts may be an item, but not both together."""
    place = str(directory / "memcached.sock")
    serve("--memcached-socket", place, size="4MiB")
    part = b"\r\n" + b"x" * 700_000
    replies = []
    for talk in (Talk(place), Talk(memcached_path)):
        assert talk.ask(b"set k 0 0 700000" + part) == b"STORED\r\n"
        replies.append([talk.ask(request_.replace("N", "700000").encode() + part), talk.ask(b"mg k s")])
    assert replies[0] == replies[1]


@pytest.mark.parametrize("request_", STORES)
def test_a_value_that_is_too_large_leaves_what_it_leaves_in_memcached(
    path: str, memcached_path: str, request_: str
) -> None:
    """The old value goes or stays; what is exchanged by its version stays."""
    replies = []
    for talk in (Talk(path), Talk(memcached_path)):
        talk.ask(b"set k 0 0 3\r\nold")
        talk.ask(b"gets k")
        large = request_.replace("N", str(LARGE_BYTES), 1).encode() + b"\r\n" + b"x" * LARGE_BYTES
        replies.append([talk.ask(large), talk.ask(b"get k")])
    assert replies[0] == replies[1]


# Of a key that is there nothing is made in any case: no room is needed.
@pytest.mark.parametrize("request_", [request for request in STORES if request not in {"add k 0 0 N", "ms k N ME"}])
def test_a_value_without_room_leaves_what_it_leaves_in_memcached(
    serve: Callable[..., Served], directory: Path, request_: str
) -> None:
    """In a region that drops nothing, as in a memcached that drops nothing."""
    place = str(directory / "memcached.sock")
    Cache("served", dir=str(directory), size="8MiB", evict=False).close()
    serve("--memcached-socket", place, size="8MiB")
    replies = []
    with memcached("-M", "-m", "8") as memcached_path:
        for talk in (Talk(place), Talk(memcached_path)):
            talk.ask(b"set k 0 0 3\r\nold")
            talk.ask(b"gets k")
            number, large = 0, b"x" * 300_000
            while talk.ask(b"add %d 0 0 %d\r\n" % (number, len(large)) + large) == b"STORED\r\n":
                number += 1
            assert number > 10
            large = request_.replace("N", str(len(large)), 1).encode() + b"\r\n" + large
            replies.append([talk.ask(large), talk.ask(b"get k")])
    assert replies[0] == replies[1]


def test_what_cannot_be_kept_is_refused(path: str) -> None:
    """Nothing is ignored in silence."""
    talk = Talk(path)
    talk.ask(b"set k 0 0 1\r\na")
    for request, wanted in DIFFERENT.items():
        assert talk.ask(request) == wanted
    assert talk.ask(b"get k") == b"VALUE k 0 1\r\na\r\nEND\r\n"
