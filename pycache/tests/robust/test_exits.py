"""Programs that end in any state of the cache end well, and leave a region that others can use."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest
import workers

from pycache import Cache

OPEN = """
import atexit, gc, os, signal, sys, threading, weakref
from pycache import Cache
cache = Cache("exit", size="8MB", dir=sys.argv[1])
cache["a"] = b"x" * 300_000
cache["n"] = 0
begun = threading.Event()
"""

ENDS = {
    "with views, slices and arrays over them": """
view = cache.view("a")
part = view[10:20]
atexit.register(lambda: print(bytes(part)[:2], len(view)))
""",
    "with a view that is released last of all": """
class Last:
    view = cache.view("a")
    def __del__(self): self.view.release()
sys.last = Last()
""",
    "with a reservation that is neither kept nor dropped": """
reservation = cache.reserve("b", 1000)
reservation.buffer[0] = 1
inside = cache.reserve("c", 1000)
memory = inside.__enter__()
""",
    "with a lock and a permit that it holds": """
lock, gate = cache.lock("lock"), cache.semaphore("gate", 1)
assert lock.acquire() and gate.acquire()
""",
    "with an iterator in the middle": """
cache.update({f"key{number}": number for number in range(100)})
keys, items = iter(cache), iter(cache.items())
next(keys), next(items)
""",
    "with daemon threads in the middle of operations": """
def work():
    while True:
        begun.set()
        cache["b"] = b"y" * 400_000
        cache.get("b"), cache.incr("n"), cache.view("a"), list(cache.scan())
for _ in range(3): threading.Thread(target=work, daemon=True).start()
begun.wait(30)
""",
    "with a daemon thread that waits for a lock": """
cache.lock("lock").acquire()
def wait():
    begun.set()
    cache.lock("lock").acquire()
threading.Thread(target=wait, daemon=True).start()
begun.wait(30)
""",
    "by os._exit": """
lock = cache.lock("lock"); lock.acquire(); view = cache.view("a")
sys.stdout.flush(); os._exit(0)
""",
    "with a cycle through the cache that is collected at the end": """
class Node: pass
node = Node()
node.cache, node.self, node.keys = cache, node, cache.keys()
node.view = cache.view("a")
del cache, node
""",
    "after it closed and destroyed what it still uses": """
view = cache.view("a"); cache.close(); Cache("other", size="2MB", dir=sys.argv[1]).destroy()
""",
}


@pytest.mark.parametrize("how", ENDS)
def test_a_program_ends_well(directory: str, how: str) -> None:
    command = [sys.executable, "-X", "dev", "-c", OPEN + ENDS[how], directory]
    done = subprocess.run(command, capture_output=True, text=True, timeout=workers.PATIENCE)
    assert (done.returncode, done.stderr) == (0, "")
    cache = Cache("exit", dir=directory)
    assert cache["a"] == b"x" * 300_000
    lock, gate = cache.lock("lock"), cache.semaphore("gate", 1)
    assert lock.acquire(timeout=10) and gate.acquire(timeout=10), "what the dead held is free"
    cache["after"] = 1
    assert cache.stats()["participants"] == 1 and cache.stats()["pins"] == 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGABRT], ids=lambda number: number.name)
def test_what_a_killed_program_held_is_free(directory: str, number: signal.Signals) -> None:
    script = OPEN + "lock = cache.lock('lock'); lock.acquire(); view = cache.view('a'); os.kill(os.getpid(), int(sys.argv[2]))"
    command = [sys.executable, "-c", script, directory, str(int(number))]
    done = subprocess.run(command, capture_output=True, timeout=workers.PATIENCE)
    assert done.returncode == -number
    cache = Cache("exit", dir=directory)
    assert cache.lock("lock").acquire(timeout=10) and len(cache["a"]) == 300_000


def test_a_cache_in_a_cycle_gives_back_its_slot_when_it_is_collected(directory: str) -> None:
    script = OPEN + """
other = Cache("exit", dir=sys.argv[1], read_only=True)
class Handle(Cache): pass
handle = Handle("exit", dir=sys.argv[1])
handle.self = handle
gone = weakref.ref(handle)
del handle, cache
gc.collect()
assert gone() is None, "a subclass with a dict is seen by the collector"
assert other.stats()["participants"] == 0, other.stats()["participants"]
"""
    done = subprocess.run([sys.executable, "-c", script, directory], capture_output=True, text=True, timeout=workers.PATIENCE)
    assert (done.returncode, done.stderr) == (0, "")
