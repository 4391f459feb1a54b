"""Servers and event loops of others: gunicorn with workers, gevent, uvloop."""

from __future__ import annotations

import http.client
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import workers

from pycache import Cache


def needs(module: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(importlib.util.find_spec(module) is None, reason=f"{module} is not installed")


APPLICATION = """
import os
from pycache import Cache

# With --preload this runs once, in the master, and every worker inherits it.
cache = Cache("site", size="8MB", dir=os.environ["REGIONS"])
view = None

def application(environ, start):
    global view
    path = environ["PATH_INFO"]
    if path == "/view":
        cache["page"] = b"page" * 1000
        view = cache.view("page")
    if path == "/die":
        lock = cache.lock("held")
        assert lock.acquire(timeout=5)
        os.kill(os.getpid(), 9)
    hits = cache.incr("hits", default=0)
    start("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.getpid()} {os.getppid()} {hits}".encode()]
"""


def ask(port: int, path: str = "/") -> tuple[int, int, int] | None:
    """Worker, master and count of hits; None if the server did not answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=workers.PATIENCE)
    try:
        connection.request("GET", path)
        worker, master, hits = connection.getresponse().read().split()
        return int(worker), int(master), int(hits)
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()


@needs("gunicorn")
def test_the_workers_of_gunicorn_share_what_was_loaded_before_them(directory: str, tmp_path: Path) -> None:
    (tmp_path / "site_application.py").write_text(APPLICATION)
    # The socket is made here, so that its port is known and nobody else's.
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        os.set_inheritable(listener.fileno(), True)
        command = [sys.executable, "-m", "gunicorn", "--preload", "--workers", "2", "--bind", f"fd://{listener.fileno()}",
                   "--chdir", str(tmp_path), "--no-control-socket", "site_application:application"]
        server = subprocess.Popen(command, env={**os.environ, "REGIONS": directory}, pass_fds=[listener.fileno()],
                                  stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        answers = 0
        seen: set[int] = set()
        deadline = time.monotonic() + workers.PATIENCE
        killed: list[int] = []
        while (len(killed) < 2 or len(seen) < 4) and time.monotonic() < deadline:
            answer = ask(port, "/view" if answers % 2 else "/")
            if answer is None:
                assert server.poll() is None
                continue
            worker, master, hits = answer
            answers += 1
            assert master == server.pid and hits == answers
            seen.add(worker)
            if len(seen) >= 2 and not killed:
                os.kill(worker, signal.SIGKILL)
                killed.append(worker)
            elif len(seen) >= 3 and len(killed) == 1:
                assert ask(port, "/die") is None
                killed.append(0)
        assert len(killed) == 2 and len(seen) >= 4, "killed workers were replaced, and no hit was lost"
        cache = Cache("site", dir=directory)
        assert cache.lock("held").acquire(timeout=10), "what a killed worker held is free"
        assert cache["hits"] == answers
    finally:
        server.terminate()
        _, errors = server.communicate(timeout=workers.PATIENCE)
    assert "Traceback" not in errors, errors
    assert server.returncode == 0


GEVENT = """
import gevent.monkey
gevent.monkey.patch_all()
import gevent, os, sys, threading
from pycache import Cache

cache = Cache("gevent", size="8MB", dir=sys.argv[1])

def work(name):
    for number in range(200):
        cache.incr("count", default=0)
        cache[name] = number
        gevent.sleep(0)
        assert cache[name] == number
    return cache.get_or_set("once", lambda: name)

with gevent.Timeout(40):
    jobs = [gevent.spawn(work, f"greenlet {number}") for number in range(20)]
    gevent.joinall(jobs, raise_error=True)
    assert cache["count"] == 4000 and len({job.value for job in jobs}) == 1
    pool = gevent.get_hub().threadpool
    assert pool.apply(lambda: cache.incr("count")) == 4001, "in a real thread"
    thread = threading.Thread(target=cache.incr, args=("count",))   # a greenlet, patched
    thread.start(); thread.join()
    pid = os.fork()
    if pid == 0:
        os._exit(0 if cache.incr("count") == 4003 else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert cache["count"] == 4003
"""

UVLOOP = """
import asyncio, sys, uvloop
from pycache import Cache

cache = Cache("uvloop", size="8MB", dir=sys.argv[1])

async def work(name):
    for number in range(200):
        cache.incr("count", default=0)
        await asyncio.sleep(0)
    async with cache.lock("lock"):
        seen = cache.get("inside", 0)
        await asyncio.sleep(0)
        cache["inside"] = seen + 1
    await asyncio.to_thread(cache.incr, "count")

async def main():
    assert type(asyncio.get_running_loop()).__module__ == "uvloop"
    await asyncio.wait_for(asyncio.gather(*(work(number) for number in range(10))), 40)
    script = f"from pycache import Cache; Cache('uvloop', dir={sys.argv[1]!r}).incr('count')"
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", script)
    assert await asyncio.wait_for(child.wait(), 40) == 0

uvloop.run(main())
assert (cache["count"], cache["inside"]) == (2011, 10)
"""


@pytest.mark.parametrize(
    "script", [pytest.param(GEVENT, marks=needs("gevent"), id="gevent"), pytest.param(UVLOOP, marks=needs("uvloop"), id="uvloop")]
)
def test_a_cache_works_under_the_loop_of(directory: str, script: str) -> None:
    done = subprocess.run([sys.executable, "-c", script, directory], capture_output=True, text=True, timeout=workers.PATIENCE)
    assert (done.returncode, done.stderr) == (0, "")
