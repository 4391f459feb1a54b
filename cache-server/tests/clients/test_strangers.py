"""What those can do whom nobody let in: no places taken, no log written at will, no probe sent away."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from pycache import Cache

from .conftest import SECONDS, Served, client, wait_for
from .test_http import TOKEN, all_of, in_network, raw, samples, socket_client

Serve = Callable[..., Served]

LET_IN = {"Authorization": f"Bearer {TOKEN}"}


def secret(directory: Path) -> Path:
    path = directory / "password"
    path.write_text("correct")
    path.chmod(0o600)
    return path


def dialled(place: str) -> socket.socket:
    host, port = place.rsplit(":", 1)
    return socket.create_connection((host, int(port)), SECONDS)


def is_closed(link: socket.socket, more: bytes) -> bool:
    """Whether the server closed it; goes on with a request meanwhile."""
    try:
        if more:
            link.sendall(more)
        link.setblocking(False)
        return link.recv(1 << 16) == b""
    except BlockingIOError:
        return False
    except (ConnectionError, BrokenPipeError):
        return True
    finally:
        link.settimeout(SECONDS)


def test_who_says_nothing_and_who_never_comes_to_an_end_keeps_no_place(serve: Serve, directory: Path) -> None:
    """A connection that said nothing was never closed, and one that went on by a byte not either."""
    token = directory / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    network = ["--bind", "127.0.0.1:0", "--memcached-bind", "127.0.0.1:0", "--http-bind", "127.0.0.1:0"]
    flags = [*network, "--password-file", str(secret(directory)), "--http-token-file", str(token)]
    served = serve(*flags, "--http-socket", str(directory / "http"))
    redis, memcached, page = [place for place in served.places if not place.startswith("/")]
    began = time.monotonic()
    links = [(dialled(redis), b""), (dialled(memcached), b""), (dialled(page), b""), (dialled(page), b"x")]
    links[-1][0].sendall(b"GET / HTTP/1.1\r\nHost: ")
    known, let_in = dialled(redis), raw(directory / "http")
    known.sendall(b"AUTH correct\r\n")
    assert known.recv(100) == b"+OK\r\n"
    let_in.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert let_in.recv(15) == b"HTTP/1.1 200 OK"
    open_links = list(links)

    def all_closed() -> bool:
        open_links[:] = [(link, more) for link, more in open_links if not is_closed(link, more)]
        return not open_links

    wait_for(all_closed)
    assert time.monotonic() - began > 5, "there is time to type a password"
    # Who was let in is silent as long as it likes.
    known.sendall(b"PING\r\n")
    assert known.recv(100) == b"+PONG\r\n"
    let_in.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    found = samples(all_of(let_in).split(b"\r\n\r\n", 2)[2].decode())
    assert found[("cache_shm_server_connections_closed_total", (("reason", "late"),))] == len(links)
    assert "Late" not in served.log()
    for link in [*(link for link, _ in links), known, let_in]:
        link.close()


def test_a_stranger_has_one_answer(serve: Serve, directory: Path) -> None:
    _, url = in_network(serve, directory)
    place = url.removeprefix("http://")
    for path, status in [("/healthz", 200), ("/metrics", 401), ("/", 401)]:
        with dialled(place) as link:
            link.sendall(f"GET {path} HTTP/1.1\r\nHost: {place}\r\n\r\n".encode() * 2)
            assert all_of(link).count(b"HTTP/1.1 ") == 1, path
        assert httpx.get(url + path).status_code == status
    with dialled(place) as link:
        request = f"GET /healthz HTTP/1.1\r\nHost: {place}\r\nAuthorization: Bearer {TOKEN}\r\n"
        link.sendall(f"{request.replace('/healthz', '/page.css')}\r\n{request}Connection: close\r\n\r\n".encode())
        assert all_of(link).count(b"HTTP/1.1 200 OK") == 2


def test_connections_of_http_leave_the_places_of_others_alone(serve: Serve, directory: Path) -> None:
    served = serve("--http-socket", str(directory / "http"), "--clients-max", "8")
    asked = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    held = [raw(directory / "http") for _ in range(2)]
    for link in held:
        link.sendall(asked)
        assert link.recv(15) == b"HTTP/1.1 200 OK"
    for _ in range(10):
        with raw(directory / "http") as link:
            assert all_of(link).startswith(b"HTTP/1.1 503 ")
    assert client(served).ping()
    held.pop().close()

    def is_served() -> bool:
        with raw(directory / "http") as link:
            link.sendall(asked)
            return link.recv(15) == b"HTTP/1.1 200 OK"

    wait_for(is_served)
    held.pop().close()


def test_requests_without_the_token_are_told_once_a_second_and_all_counted(serve: Serve, directory: Path) -> None:
    served, url = in_network(serve, directory)
    began = time.monotonic()
    for _ in range(100):
        assert httpx.get(f"{url}/metrics").status_code == 401
    seconds = time.monotonic() - began
    found = samples(httpx.get(f"{url}/metrics", headers=LET_IN).text)
    assert found[("cache_shm_server_logins_denied_total", ())] == 100
    wait_for(lambda: "without the token" in served.log())
    assert served.log().count("without the token") <= seconds + 1


def test_probes_ask_by_whatever_name_and_are_told_nothing_of_the_host(serve: Serve, directory: Path) -> None:
    served, url = in_network(serve, directory)
    for host in ["10.1.2.3:9090", "pod.example", "evil.example"]:
        answer = httpx.get(f"{url}/healthz", headers={"Host": host})
        assert (answer.status_code, answer.text) == (200, "ok\n"), host
        assert httpx.get(f"{url}/metrics", headers={"Host": host, **LET_IN}).status_code == 403, host
    assert httpx.post(f"{url}/healthz").status_code == 405
    with Cache(served.region, dir=served.directory) as cache:
        cache.destroy()
    # Something that is no region.
    (served.directory / served.region).mkdir()
    wait_for(lambda: httpx.get(f"{url}/healthz").status_code == 503)
    text = httpx.get(f"{url}/healthz").text
    assert str(directory) not in text and served.region not in text.replace("server", ""), text
    wait_for(lambda: "the region cannot be used" in served.log())


def test_a_token_in_the_address_is_left_by_who_was_let_in_already(serve: Serve, directory: Path) -> None:
    _, url = in_network(serve, directory)
    with httpx.Client(base_url=url, timeout=SECONDS) as browser:
        for _ in range(2):
            welcome = browser.get("/", params={"token": TOKEN})
            assert (welcome.status_code, welcome.headers["location"]) == (303, "/")
            # From a link on another site as well.
            assert "SameSite=Lax" in welcome.headers["set-cookie"]
        assert browser.get("/", params={"token": "another"}).status_code == 200


def test_a_change_that_waits_to_be_wanted_is_told_to_go_on(serve: Serve, directory: Path) -> None:
    serve("--http-socket", str(directory / "http"), "--http-writes")
    with socket_client(directory / "http") as page:
        csrf = page.get("/api/state").json()["server"]["csrf"]
    with raw(directory / "http") as link:
        head = f"POST /api/delete HTTP/1.1\r\nHost: localhost\r\nX-CSRF-Token: {csrf}\r\nContent-Length: 5\r\n"
        link.sendall(f"{head}Expect: 100-continue\r\nConnection: close\r\n\r\n".encode())
        said = b""
        while not said.endswith(b"\r\n\r\n"):
            said += link.recv(100)
        assert said == b"HTTP/1.1 100 Continue\r\n\r\n"
        link.sendall(b"ke")
        link.sendall(b"y=a")
        answer = all_of(link)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n") and answer.endswith(b'"deleted":false,"key":"a","namespace":""}')
