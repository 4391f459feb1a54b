"""The examples for web servers and task queues, run on the real frameworks."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pycache import Cache

EXAMPLES = Path(__file__).parents[3] / "examples"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / name / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def served() -> list[str]:
    return []


@pytest.fixture
def client(cache: Cache, served: list[str]) -> Any:
    pytest.importorskip("starlette", reason="Starlette is not installed")
    pytest.importorskip("httpx", reason="httpx, which Starlette's test client needs, is not installed")
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse, Response, StreamingResponse
    from starlette.routing import Route
    from starlette.testclient import TestClient

    async def page(request: Request) -> Response:
        served.append(request.url.path)
        text = f"{request.query_params.get('name', 'page')} {len(served)}"
        if request.url.path == "/stream":
            return StreamingResponse(iter([text, " in ", "parts"]), media_type="text/plain")
        if request.url.path == "/missing":
            return PlainTextResponse(text, 404)
        headers = {"/private": {"cache-control": "private"}, "/varies": {"vary": "accept-language"}}
        answer = PlainTextResponse(text, headers=headers.get(request.url.path))
        if request.url.path == "/login":
            answer.set_cookie("session", "secret")
        return answer

    paths = ["/page", "/stream", "/missing", "/private", "/varies", "/login"]
    middleware = [Middleware(load("responses").ResponseCache, cache=cache, ttl=60)]
    return TestClient(Starlette(routes=[Route(path, page, methods=["GET", "POST"]) for path in paths], middleware=middleware))


@pytest.mark.parametrize("path", ["/page", "/page?name=other", "/stream"])
def test_a_response_is_made_once(client: Any, served: list[str], path: str) -> None:
    first, second = client.get(path), client.get(path)
    assert first.status_code == second.status_code == 200 and first.text == second.text and len(served) == 1
    assert "x-cache" not in first.headers and second.headers["x-cache"] == "hit"
    assert second.headers["content-type"] == first.headers["content-type"]
    assert client.get("/page?name=another").text == "another 2"


@pytest.mark.parametrize("path", ["/missing", "/private", "/varies", "/login"])
def test_what_is_not_for_everybody_is_not_kept(client: Any, served: list[str], cache: Cache, path: str) -> None:
    client.get(path)
    client.cookies.clear()
    assert "x-cache" not in client.get(path).headers and len(served) == 2 and len(cache) == 0


def test_requests_of_somebody_and_other_methods_pass_by(client: Any, served: list[str]) -> None:
    client.get("/page")
    client.get("/page", headers={"authorization": "Basic eDp5"})
    client.get("/page", headers={"cookie": "session=1"})
    client.post("/page")
    assert len(served) == 4


def test_a_cache_that_fails_is_passed_by(client: Any, served: list[str], cache: Cache) -> None:
    cache.close()
    assert [client.get("/page").text for _ in range(2)] == ["page 1", "page 2"]


def test_tasks_that_are_delivered_twice_are_worked_on_once(directory: str, tmp_path: Path) -> None:
    pytest.importorskip("celery", reason="Celery is not installed")
    environment = {**os.environ, "TASKS_BROKER_DIR": str(tmp_path), "CACHE_SHM_DIR": directory}
    send = "import tasks\nfor number in range(20): tasks.bill.delay(f'order {number}')"
    for _ in range(2):
        subprocess.run([sys.executable, "-c", send], cwd=EXAMPLES / "tasks", env=environment, check=True)
    options = ["--pool", "prefork", "--concurrency", "2", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    command = [sys.executable, "-m", "celery", "-A", "tasks", "worker", "--loglevel", "WARNING", *options]
    worker = subprocess.Popen(
        command, cwd=EXAMPLES / "tasks", env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        with Cache("tasks", dir=directory) as cache:
            deadline = time.monotonic() + 60
            while cache.get("bills", 0) + cache.get("repeated", 0) < 40:
                assert worker.poll() is None and time.monotonic() < deadline, dict(cache)
                time.sleep(0.05)
            assert (cache["bills"], cache["repeated"]) == (20, 20)
            # Those who worked are children of the worker that opened the region.
            assert worker.pid not in {cache[f"billed:order {number}"] for number in range(20)}
    finally:
        worker.terminate()
        output, _ = worker.communicate(timeout=30)
    assert "Traceback" not in output, output
