"""What the server answers by HTTP: page, metrics, health, look-up; who is let in; what is refused."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import prometheus_client
import pytest
from prometheus_client.parser import text_string_to_metric_families

from pycache import Cache
from pycache.prometheus import Collector

from .conftest import SECONDS, Served, wait_for

Serve = Callable[..., Served]

PATHS = {
    "/": "text/html",
    "/page.css": "text/css",
    "/page.js": "text/javascript",
    "/metrics": "text/plain; version=0.0.4",
    "/healthz": "text/plain",
    "/api/state": "application/json",
    "/api/key?key=a": "application/json",
}


@pytest.fixture
def page(serve: Serve, directory: Path) -> Iterator[tuple[Served, httpx.Client]]:
    """A server with its page on a socket, and a client of it."""
    served = serve("--http-socket", str(directory / "http"))
    with socket_client(directory / "http") as client:
        yield served, client


def socket_client(path: Path) -> httpx.Client:
    return httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), base_url="http://localhost", timeout=SECONDS)


TOKEN = "correct horse"


def in_network(serve: Serve, directory: Path, *flags: str) -> tuple[Served, str]:
    """A server with its page at an address of loopback; its address."""
    secret = directory / "token"
    secret.write_text(TOKEN + "\n")
    secret.chmod(0o600)
    served = serve("--http-bind", "127.0.0.1:0", "--http-token-file", str(secret), *flags)
    host, port = served.address
    return served, f"http://{host}:{port}"


def raw(path: Path) -> socket.socket:
    link = socket.socket(socket.AF_UNIX)
    link.settimeout(SECONDS)
    link.connect(str(path))
    return link


def all_of(link: socket.socket) -> bytes:
    """What comes until the server closes."""
    parts = []
    while part := link.recv(1 << 16):
        parts.append(part)
    return b"".join(parts)


# --- what there is ----------------------------------------------------------------------------------


def test_every_path_is_answered_and_nothing_of_it_is_kept_or_run_elsewhere(page: tuple[Served, httpx.Client]) -> None:
    _, client = page
    for path, kind in PATHS.items():
        answer = client.get(path)
        assert (answer.status_code, answer.headers["content-type"].startswith(kind)) == (200, True), path
        assert answer.headers["cache-control"] == "no-store" and answer.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        head = client.head(path)
        assert (head.status_code, head.content) == (200, b"") and int(head.headers["content-length"]) > 0
        assert client.post(path).status_code == 405
    for path in ["/nothing", "/page.js/", "/api", "/../etc/passwd"]:
        assert client.get(path).status_code == 404, path
    refused = client.delete("/metrics")
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")
    assert client.get("/api/delete").status_code == 405


def test_the_page_names_nothing_that_is_elsewhere(page: tuple[Served, httpx.Client]) -> None:
    _, client = page
    for path in ["/", "/page.css", "/page.js"]:
        text = client.get(path).text.replace("http://www.w3.org/2000/svg", "")
        assert "//" not in "".join(line for line in text.splitlines() if "http" in line), path
        assert "@import" not in text and "url(" not in text


def test_a_look_up_tells_what_python_stored_and_leaves_no_trace(page: tuple[Served, httpx.Client]) -> None:
    served, client = page
    with Cache(served.region, dir=served.directory) as cache:
        cache.set("user:7", "Ada", ttl=60)
        cache.namespace("numbers")["n"] = 41
        found = client.get("/api/key", params={"key": "user:7"}).json()
        assert (found["found"], found["kind"], found["value"], found["hex"]) == (True, "str", "Ada", b"Ada".hex())
        assert 0 < found["ttl_ms"] <= 60_000
        assert client.get("/api/key", params={"key": "n", "namespace": "numbers"}).json()["value"] == 41
        assert client.get("/api/key", params={"key_hex": b"user:7".hex()}).json()["found"]
        assert not client.get("/api/key", params={"key": "n"}).json()["found"]
        assert not client.get("/api/key", params={"key": "n", "namespace": "nobody's"}).json()["found"]
        assert list(cache.namespaces()) == ["numbers"]
        stats = cache.stats()
        assert (stats["hits"], stats["misses"]) == (0, 0)
    assert client.get("/api/key").status_code == 400
    assert client.get("/api/key", params={"key": "x" * 10_000}).status_code == 200
    assert client.get("/api/key", params={"key": ""}).status_code == 400
    assert client.get("/api/key", params={"key": "n", "namespace": "n" * 65}).status_code == 400


def test_the_state_has_what_happened_and_only_what_is_new(page: tuple[Served, httpx.Client]) -> None:
    served, client = page
    with Cache(served.region, dir=served.directory) as cache:
        for number in range(1000):
            cache[f"key{number}"] = b"x" * 100
        wait_for(lambda: (client.get("/api/state").json()["picture"] or {"stats": {"sets": 0}})["stats"]["sets"] == 1000)
        state = client.get("/api/state").json()
        assert len(state["columns"]) == len(state["rows"][-1])
        assert state["picture"]["server"]["clients"] == 1
        assert {participant["pid"] for participant in state["picture"]["participants"]} == {os.getpid(), served.process.pid}
        newest = int(state["rows"][-1][0])
        assert all(row[0] > newest for row in client.get("/api/state", params={"since": newest}).json()["rows"])
        assert client.get("/api/state", params={"since": "soon"}).status_code == 400
        assert state["server"]["csrf"] is None
        # Its own looks are nobody's reads.
        assert cache.stats()["hits"] == 0


# --- the metrics ------------------------------------------------------------------------------------


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(text)
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value for family in families for sample in family.samples
    }


def test_the_metrics_of_the_region_are_those_that_python_exports(page: tuple[Served, httpx.Client]) -> None:
    served, client = page
    with Cache(served.region, dir=served.directory) as cache:
        users = cache.namespace('us"ers\\\n')
        for number in range(100):
            users[f"secret{number}"] = number
        assert users["secret1"] == 1 and cache.get("none") is None and users.delete("secret2")
        registry = prometheus_client.CollectorRegistry()
        registry.register(Collector(cache))
        # The server's thread works meanwhile: what it changes may differ between two looks.
        of_thread = ("_free_bytes", "_dead_bytes")

        def both() -> tuple[dict, dict]:
            # Who asks adds up what its process has counted so far of namespaces, so it asks first.
            theirs = samples(prometheus_client.generate_latest(registry).decode())
            ours = samples(client.get("/metrics").text)
            theirs = {key: value for key, value in theirs.items() if not key[0].startswith("cache_shm_errors")}
            return {key: ours.get(key) for key in theirs}, theirs

        ours, theirs = both()
        differing = {key for key in theirs if ours[key] != theirs[key] and not key[0].endswith(of_thread)}
        assert not differing and len(theirs) > 25
    text = client.get("/metrics").text
    assert "secret" not in text
    described = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    of_region = {name for name, _ in samples(text) if name.startswith("cache_shm_") and "_server_" not in name}
    assert of_region - {"cache_shm_build_info"} == {name for name, _ in theirs} and of_region <= described


def test_the_metrics_tell_of_the_server_and_its_process(page: tuple[Served, httpx.Client]) -> None:
    served, client = page
    with served.connect() as link:
        link.sendall(b"SET a 1\r\nNOSUCH\r\n")
        wait_for(lambda: samples(client.get("/metrics").text)[("cache_shm_server_commands_total", ())] == 2)
    found = samples(client.get("/metrics").text)
    value = lambda name, **labels: found[(name, tuple(sorted(labels.items())))]  # noqa: E731
    assert value("cache_shm_server_command_errors_total") == 1
    assert value("cache_shm_server_command_duration_seconds_count") == 2
    assert value("cache_shm_server_command_duration_seconds_bucket", le="+Inf") == 2
    assert 0 < value("cache_shm_server_command_duration_seconds_sum") < SECONDS
    buckets = [count for (name, _), count in found.items() if name.endswith("_seconds_bucket")]
    assert buckets == sorted(buckets) and len(buckets) > 20
    assert value("cache_shm_server_http_requests_total") > 1
    assert value("process_resident_memory_bytes") > 1 << 20 and value("process_open_fds") > 3
    assert value("process_cpu_seconds_total") > 0
    assert 0 <= time.time() - value("process_start_time_seconds") < 10 * SECONDS
    again = samples(client.get("/metrics").text)
    assert again[("process_start_time_seconds", ())] == value("process_start_time_seconds")
    assert {dict(labels).get("reason") for name, labels in found if name.endswith("_connections_closed_total")} == {
        "idle", "late", "stalled", "overflowed", "killed",
    }  # fmt: skip
    assert client.get("/metrics").headers["date"].endswith(" GMT")
    assert [labels for name, labels in found if name == "cache_shm_build_info"]


# --- health -----------------------------------------------------------------------------------------


def test_health_is_that_of_the_region_and_leaves_nothing_behind(page: tuple[Served, httpx.Client]) -> None:
    served, client = page
    with Cache(served.region, dir=served.directory) as cache:
        before = cache.stats()
        assert client.get("/healthz").text == "ok\n"
        after = cache.stats()
        assert {name for name in before if before[name] != after[name]} <= {"free_bytes", "dead_bytes"}
        # Made anew by somebody else: the server follows.
        cache.destroy()
    with Cache(served.region, dir=served.directory, size="32MiB") as cache:
        assert client.get("/healthz").status_code == 200
        cache["a"] = b"new"
        assert client.get("/api/key", params={"key": "a"}).json()["value"] == "new"
        wait_for(lambda: client.get("/api/state").json()["picture"]["stats"]["region_bytes"] == 32 << 20)


def test_a_server_that_ends_is_not_healthy(serve: Serve, directory: Path) -> None:
    served = serve("--http-socket", str(directory / "http"))
    with raw(directory / "http") as link:
        # A request that was begun keeps the server for a moment; it came with the one that is answered.
        link.sendall(b"HEAD /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /healthz HTTP/1.1\r\nHost: local")
        assert link.recv(15) == b"HTTP/1.1 200 OK"
        served.process.send_signal(signal.SIGTERM)
        wait_for(lambda: "ending" in served.log())
        link.sendall(b"host\r\n\r\n")
        answer = all_of(link)
        assert b"HTTP/1.1 503 " in answer and answer.endswith(b"the server ends\n")
    assert served.process.wait(SECONDS) == 0


# --- who is let in ----------------------------------------------------------------------------------


def test_only_names_of_this_host_are_answered(page: tuple[Served, httpx.Client]) -> None:
    _, client = page
    for host in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80", "", "localhost:x"]:
        assert client.get("/metrics", headers={"Host": host}).status_code == 403, host
    for host in ["localhost", "127.0.0.1:8080", "[::1]"]:
        assert client.get("/metrics", headers={"Host": host}).status_code == 200, host


def test_given_names_are_answered_too(serve: Serve, directory: Path) -> None:
    _, url = in_network(serve, directory, "--http-hosts", "cache.internal,proxy:8080")
    with httpx.Client(base_url=url, timeout=SECONDS, headers={"Authorization": f"Bearer {TOKEN}"}) as client:
        port = url.rsplit(":", 1)[1]
        for host in [f"cache.internal:{port}", "Cache.Internal", "proxy:8080", f"localhost:{port}"]:
            assert client.get("/metrics", headers={"Host": host}).status_code == 200, host
        for host in ["proxy", "proxy:8081", "localhost:1", "evil.example"]:
            assert client.get("/metrics", headers={"Host": host}).status_code == 403, host


def test_in_the_network_nobody_is_let_in_without_the_token(serve: Serve, directory: Path) -> None:
    served, url = in_network(serve, directory)
    with httpx.Client(base_url=url, timeout=SECONDS) as client:
        for path in PATHS:
            expected = 200 if path == "/healthz" else 401
            assert client.get(path).status_code == expected, path
        assert client.get("/nothing").status_code == 401
        for said in ["Bearer wrong", "Bearer", "Basic x", TOKEN]:
            assert client.get("/metrics", headers={"Authorization": said}).status_code == 401, said
        assert client.get("/metrics").headers["www-authenticate"] == "Bearer"
        assert client.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
        assert client.get("/", params={"token": "wrong"}).status_code == 401
    assert "correct horse" not in served.log()


def test_a_browser_says_the_token_once_and_a_new_token_ends_that(serve: Serve, directory: Path) -> None:
    served, url = in_network(serve, directory)
    with httpx.Client(base_url=url, timeout=SECONDS) as client:
        welcome = client.get("/", params={"token": TOKEN})
        assert (welcome.status_code, welcome.headers["location"]) == (303, "/")
        cookie = welcome.headers["set-cookie"]
        assert "HttpOnly" in cookie and "SameSite=Lax" in cookie and "correct" not in cookie
        assert client.get("/").status_code == 200 and client.get("/api/state").status_code == 200
        (directory / "token").write_text("another")
        served.process.send_signal(signal.SIGHUP)
        wait_for(lambda: client.get("/").status_code == 401)
        assert client.get("/metrics", headers={"Authorization": "Bearer another"}).status_code == 200


def test_the_server_does_not_start_with_a_page_for_everybody(serve: Serve) -> None:
    with pytest.raises(AssertionError, match="http_token_file"):
        serve("--http-bind", "127.0.0.1:0")


# --- changes ----------------------------------------------------------------------------------------


def test_nothing_is_deleted_unless_that_is_allowed(page: tuple[Served, httpx.Client]) -> None:
    served, client = page
    with Cache(served.region, dir=served.directory) as cache:
        cache["a"] = 1
        assert client.post("/api/delete", data={"key": "a"}).status_code == 403
        assert cache["a"] == 1


def test_a_key_is_deleted_by_who_was_told_the_page_s_secret(serve: Serve, directory: Path) -> None:
    served = serve("--http-socket", str(directory / "http"), "--http-writes")
    with socket_client(directory / "http") as client, Cache(served.region, dir=served.directory) as cache:
        cache["a"] = 1
        csrf = client.get("/api/state").json()["server"]["csrf"]
        post = lambda **headers: client.post("/api/delete", data={"key": "a"}, headers=headers)  # noqa: E731
        assert post().status_code == 403 and post(**{"X-CSRF-Token": "x"}).status_code == 403
        assert post(**{"X-CSRF-Token": csrf, "Origin": "http://evil.example"}).status_code == 403
        assert cache["a"] == 1
        assert post(**{"X-CSRF-Token": csrf, "Origin": "http://localhost"}).json()["deleted"] is True
        assert "a" not in cache and post(**{"X-CSRF-Token": csrf}).json()["deleted"] is False
        assert client.post("/api/delete", headers={"X-CSRF-Token": csrf}).status_code == 400


# --- requests that are none -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"PING\r\n\r\n", 400),
        (b"*1\r\n$4\r\nPING\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", 400),
        (b"POST /api/delete HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST /api/delete HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n", 400),
        (b"POST /api/delete HTTP/1.1\r\nHost: localhost\r\nContent-Length: 262145\r\n\r\n", 413),
        (b"GET /" + b"a" * (16 << 10), 431),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"A: b\r\n" * 100 + b"\r\n", 431),
        (b"GET / HTTP/2.0\r\n\r\n", 400),
        (b"HEAD / HTTP/1.1\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00", 400),
    ],
)
def test_what_is_no_request_is_refused_in_words_and_the_connection_ends(
    page: tuple[Served, httpx.Client], sent: bytes, status: int
) -> None:
    served, client = page
    with raw(served.directory / "http") as link:
        link.sendall(sent)
        answer = all_of(link)
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer
    head, body = answer.split(b"\r\n\r\n", 1)
    assert b"Connection: close" in head
    assert body == b"" if sent.startswith(b"HEAD") else len(body.split()) > 3
    assert client.get("/healthz").status_code == 200


def test_requests_that_come_at_once_or_in_pieces_are_answered_in_order(page: tuple[Served, httpx.Client]) -> None:
    served, _ = page
    request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    last = b"HEAD /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with raw(served.directory / "http") as link:
        link.sendall(request * 50 + last)
        answers = all_of(link)
    assert answers.count(b"HTTP/1.1 200 OK\r\n") == 51 and answers.count(b"\r\n\r\nok\n") == 50
    with raw(served.directory / "http") as link:
        for byte in request + last:
            link.sendall(bytes([byte]))
        assert all_of(link).count(b"HTTP/1.1 200 OK\r\n") == 2
    with raw(served.directory / "http") as link:
        # As a proxy is asked, and with a list of two headers.
        link.sendall(b"GET http://localhost/healthz HTTP/1.1\r\nHost: x\r\nConnection: x\r\nConnection: close\r\n\r\n")
        assert all_of(link).endswith(b"\r\n\r\nok\n")
    with raw(served.directory / "http") as link:
        link.sendall(b"GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n")
        assert all_of(link).endswith(b"ok\n")


def test_half_a_request_and_answers_that_are_not_read_harm_nobody(serve: Serve, directory: Path) -> None:
    served = serve("--http-socket", str(directory / "http"), "--stall-timeout", "300ms", "--output-bytes", "2MiB")
    half = [raw(directory / "http") for _ in range(20)]
    for link in half:
        link.sendall(b"POST /api/delete HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nkey=")
    greedy = raw(directory / "http")
    greedy.setblocking(False)
    asked = b"GET /page.js HTTP/1.1\r\nHost: localhost\r\n\r\n"
    try:
        for _ in range(10_000):
            greedy.send(asked)
    except (BlockingIOError, BrokenPipeError, ConnectionResetError):
        pass
    with socket_client(directory / "http") as client:
        assert client.get("/metrics").status_code == 200
        for link in half:
            assert all_of(link) == b""
            link.close()
        wait_for(lambda: samples(client.get("/metrics").text)[("cache_shm_server_clients", ())] == 1)
    greedy.close()
    assert served.process.poll() is None


def test_one_too_many_is_told_so(serve: Serve, directory: Path) -> None:
    serve("--http-socket", str(directory / "http"), "--clients-max", "1")
    with raw(directory / "http") as first:
        first.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert first.recv(15) == b"HTTP/1.1 200 OK"
        with raw(directory / "http") as second:
            assert all_of(second).startswith(b"HTTP/1.1 503 ")


def test_a_redis_client_gets_nothing_here_and_a_browser_nothing_there(page: tuple[Served, httpx.Client]) -> None:
    served, _ = page
    with served.connect() as link:
        link.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\nFLUSHALL\r\n")
        assert all_of(link) == b""
