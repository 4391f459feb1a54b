"""The same requests to the real memcached and to the server get the same replies, byte by byte."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

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
}


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
        while not reply.endswith(b"MN\r\n"):
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
    return [requests("\n".join(block)) for block in blocks]


@pytest.fixture(scope="module")
def memcached_path() -> Iterator[str]:
    """The socket of a real memcached."""
    program = need("memcached")
    directory = tempfile.mkdtemp(prefix="memcached-", dir="/dev/shm")
    path = f"{directory}/memcached.sock"
    process = subprocess.Popen([program, "-s", path, "-u", "root", "-U", "0"], stderr=subprocess.DEVNULL)
    wait_for(lambda: Path(path).exists())
    yield path
    process.kill()
    process.wait(SECONDS)
    shutil.rmtree(directory, ignore_errors=True)


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
            # memcached leaves blanks where a number became shorter.
            if got != re.sub(rb"^(VA|VALUE)(.*) 2\r\n9 \r$", rb"\1\2 1\r\n9\r", wanted, flags=re.MULTILINE):
                differing.append((request, got, wanted))
    assert not differing, "\n".join(f"{request!r}\n  {got!r}\n  {wanted!r}" for request, got, wanted in differing)


def test_what_cannot_be_kept_is_refused(path: str) -> None:
    """Nothing is ignored in silence."""
    talk = Talk(path)
    talk.ask(b"set k 0 0 1\r\na")
    for request, wanted in DIFFERENT.items():
        assert talk.ask(request) == wanted
    assert talk.ask(b"get k") == b"VALUE k 0 1\r\na\r\nEND\r\n"
