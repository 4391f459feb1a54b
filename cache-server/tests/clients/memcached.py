"""A server as memcached's clients find it."""

from __future__ import annotations

import socket
from pathlib import Path

from pymemcache.client.base import Client

from pycache import Cache

from .conftest import SECONDS, Served


class Place:
    """A server that memcached's clients reach."""

    def __init__(self, served: Served, socket_path: Path) -> None:
        """A server that runs, and its socket."""
        self.served = served
        self.path = str(socket_path)

    def connect(self) -> socket.socket:
        """A bare connection."""
        link = socket.socket(socket.AF_UNIX)
        link.settimeout(SECONDS)
        link.connect(self.path)
        return link

    def ask(self, request: bytes, end: bytes) -> bytes:
        """What comes on a connection of its own until `end`, or until the server closes it."""
        with self.connect() as link:
            link.sendall(request)
            return read_until(link, end)

    def client(self, **options: object) -> Client:
        """pymemcache, as it is most used."""
        return Client(self.path, timeout=SECONDS, connect_timeout=SECONDS, **options)

    def cache(self) -> Cache:
        """The region itself."""
        return Cache(self.served.region, dir=str(self.served.directory))


def read_until(link: socket.socket, end: bytes) -> bytes:
    """What comes until `end`, or until the other closes."""
    reply = b""
    while not reply.endswith(end):
        part = link.recv(1 << 16)
        if not part:
            break
        reply += part
    return reply
