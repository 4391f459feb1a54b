"""The backend for requests-cache, with a server on this host."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

pytest.importorskip("requests_cache", reason="requests-cache is not installed")

from pycache import Cache
from pycache.adapters.requests_cache import SharedMemoryCache
from requests_cache import CachedSession


class Server(ThreadingHTTPServer):
    """Answers with the number of the request; ``/old`` leads to ``/new``, ``/large`` is 3 MiB."""

    served = 0


class Answer(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.served += 1
        moved = self.path == "/old"
        body = b"x" * (3 << 20) if self.path == "/large" else f'{{"number": {self.server.served}}}'.encode()
        self.send_response(302 if moved else 200)
        if moved:
            self.send_header("Location", "/new")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def url(server: Server) -> str:
    return f"http://127.0.0.1:{server.server_port}"


def session(directory: str, expire_after: int = 300, **arguments: Any) -> CachedSession:
    backend = SharedMemoryCache("http", **{"size": "4MiB", "dir": directory, **arguments})
    return CachedSession(backend=backend, expire_after=expire_after)


@pytest.mark.parametrize("serializer", ["pickle", "json"])
def test_a_response_is_fetched_once_for_all_sessions(directory: str, url: str, server: Server, serializer: str) -> None:
    one, other = session(directory, serializer=serializer), session(directory, serializer=serializer)
    first, second = one.get(f"{url}/a"), other.get(f"{url}/a")
    assert not first.from_cache and second.from_cache
    assert first.json() == second.json() == {"number": 1} and server.served == 1
    assert second.headers["Content-Type"] == "application/json" and second.url == f"{url}/a"
    assert one.cache.contains(url=f"{url}/a") and not one.cache.contains(url=f"{url}/b")
    assert one.get(f"{url}/b").json() == {"number": 2}
    assert sorted(other.cache.urls()) == [f"{url}/a", f"{url}/b"]
    with Cache("http", dir=directory) as region:
        assert {type(value) for value in region.values()} == {bytes if serializer == "pickle" else str}


def test_redirects_are_kept_too(directory: str, url: str, server: Server) -> None:
    one, other = session(directory), session(directory)
    assert one.get(f"{url}/old").url == f"{url}/new" and server.served == 2
    again = other.get(f"{url}/old")
    assert again.from_cache and again.url == f"{url}/new" and server.served == 2
    assert len(one.cache.redirects) == 1 and len(one.cache.responses) >= 1


def test_responses_can_be_deleted_and_cleared(directory: str, url: str, server: Server) -> None:
    one = session(directory)
    for page in "abc":
        one.get(f"{url}/{page}")
    assert len(one.cache.responses) == 3 and bool(one.cache.responses)
    one.cache.delete(urls=[f"{url}/a"])
    assert not one.get(f"{url}/a").from_cache and one.get(f"{url}/b").from_cache
    one.cache.delete(urls=[f"{url}/a", f"{url}/b"])
    assert len(list(one.cache.filter())) == 1
    with pytest.raises(KeyError):
        del one.cache.responses["missing"]
    with Cache("http", dir=directory) as region:
        region["foreign"] = 1
        one.cache.clear()
        assert list(region) == ["foreign"]
    one.close()
    assert not one.get(f"{url}/c").from_cache


def test_an_expired_response_is_fetched_again_and_stays_for_a_while(directory: str, url: str, server: Server) -> None:
    one = session(directory, expire_after=100, ttl_offset=50)
    one.get(f"{url}/a")
    with Cache("http", dir=directory) as region:
        (key,) = region
        assert 148 < (region.ttl(key) or 0) <= 150.1
        one.cache.reset_expiration(expire_after=timedelta(seconds=-5))
        assert one.get(f"{url}/a").json() == {"number": 2}
        session(directory, ttl=False).get(f"{url}/b")
        assert None in {region.ttl(key) for key in region}


def test_a_response_that_is_too_large_is_fetched_each_time(directory: str, url: str, server: Server) -> None:
    one = session(directory)
    assert all(len(one.get(f"{url}/large").content) == 3 << 20 for _ in range(2))
    assert server.served == 2 and sum(one.cache.failures.values()) == 2
