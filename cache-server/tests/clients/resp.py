"""A Redis client that hides nothing: it sends what it is given and returns replies as they came."""

from __future__ import annotations

import socket
from typing import Union

Reply = Union[bytes, int, None, list["Reply"], tuple[str, "Reply"]]


class Link:
    """One connection."""

    def __init__(self, path: str | tuple[str, int], timeout: float = 20.0) -> None:
        family = socket.AF_UNIX if isinstance(path, str) else socket.AF_INET
        self.socket = socket.socket(family)
        self.socket.settimeout(timeout)
        self.socket.connect(path)
        self.left = b""
        self.heard = b""
        """The bytes of the last reply."""

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Link:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, *words: bytes | str | int) -> None:
        self.socket.sendall(request(*words))

    def call(self, *words: bytes | str | int) -> Reply:
        """The reply to one command: ("+", text), ("-", text), an int, bytes, a list, or None."""
        self.send(*words)
        self.heard = b""
        return self.read()

    def raw(self, data: bytes) -> None:
        self.socket.sendall(data)

    def rest(self) -> bytes:
        """Everything until the server closes."""
        data = self.left
        while more := self.socket.recv(1 << 16):
            data += more
        return data

    def line(self) -> bytes:
        while b"\r\n" not in self.left:
            more = self.socket.recv(1 << 16)
            if not more:
                raise EOFError(self.left)
            self.left += more
        line, self.left = self.left.split(b"\r\n", 1)
        self.heard += line + b"\r\n"
        return line

    def exactly(self, count: int) -> bytes:
        parts = [self.left]
        have = len(self.left)
        while have < count:
            more = self.socket.recv(1 << 20)
            if not more:
                raise EOFError
            parts.append(more)
            have += len(more)
        data = b"".join(parts)
        self.left = data[count:]
        self.heard += data[:count]
        return data[:count]

    def read(self) -> Reply:
        line = self.line()
        mark, text = line[:1], line[1:]
        if mark in (b"+", b"-"):
            return (mark.decode(), text.decode())
        if mark == b":":
            return int(text)
        if mark == b"_":
            return None
        if mark in (b"$", b"="):
            if text == b"-1":
                return None
            data = self.exactly(int(text) + 2)[:-2]
            return data[4:] if mark == b"=" else data
        if mark in (b"*", b"~"):
            return None if text == b"-1" else [self.read() for _ in range(int(text))]
        if mark == b"%":
            return [self.read() for _ in range(2 * int(text))]
        raise AssertionError(line)


def request(*words: bytes | str | int) -> bytes:
    """The bytes of one command."""
    encoded = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in encoded)
