"""The Python rivals, each set up as its own documentation recommends.

Each is a context manager that yields a Rival, or raises Absent or ImportError where it
is not on this machine. Files and sockets lie in memory-backed directories.
"""

import contextlib
import functools
import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import servers

SHM = "/dev/shm"


@dataclass
class Rival:
    """What one rival does for a get and a set."""

    get: Callable | None
    set: Callable | None
    # Its work is done in another process too, so that only the wall clock sees it.
    elsewhere: bool = False
    # It holds the keys already.
    filled: bool = False
    # How many keys of a turn it is given: those that take longer get fewer.
    operations: int = 20_000


@contextlib.contextmanager
def plain_dict(keys: list[str], value: bytes) -> Iterator[Rival]:
    held: dict[str, bytes] = {}
    yield Rival(held.get, held.__setitem__)


@contextlib.contextmanager
def lru_cache(keys: list[str], value: bytes) -> Iterator[Rival]:
    @functools.lru_cache(maxsize=2 * len(keys))
    def remembered(key):
        # A value of its own, as a function that is worth remembering returns.
        return bytes(bytearray(value))

    for key in keys:
        remembered(key)
    yield Rival(remembered, None, filled=True)


@contextlib.contextmanager
def cachebox(keys: list[str], value: bytes) -> Iterator[Rival]:
    import cachebox

    held = cachebox.LRUCache(2 * len(keys))
    yield Rival(held.get, held.insert)


@contextlib.contextmanager
def moka_py(keys: list[str], value: bytes) -> Iterator[Rival]:
    import moka_py

    held = moka_py.Moka(2 * len(keys))
    yield Rival(held.get, held.set)


@contextlib.contextmanager
def lmdb(keys: list[str], value: bytes) -> Iterator[Rival]:
    import lmdb

    with tempfile.TemporaryDirectory(dir=SHM) as directory:
        environment = lmdb.open(directory, map_size=256 << 20, sync=False, writemap=True)

        def get(key):
            with environment.begin() as transaction:
                return transaction.get(key.encode())

        def put(key, value):
            with environment.begin(write=True) as transaction:
                transaction.put(key.encode(), value)

        yield Rival(get, put, operations=5_000)
        environment.close()


@contextlib.contextmanager
def disk_cache(keys: list[str], value: bytes) -> Iterator[Rival]:
    import diskcache

    with tempfile.TemporaryDirectory(dir=SHM) as directory, diskcache.Cache(directory) as held:
        yield Rival(held.get, held.set, operations=500)


@contextlib.contextmanager
def ultra_dict(keys: list[str], value: bytes) -> Iterator[Rival]:
    from UltraDict2 import UltraDict

    # A buffer that holds all updates of the run, so that it need not write all of itself anew.
    held = UltraDict(buffer_size=256 << 20, auto_unlink=True)
    yield Rival(held.__getitem__, held.__setitem__, operations=5_000)
    held.close()
    held.unlink()


@contextlib.contextmanager
def shared_memory_dict(keys: list[str], value: bytes) -> Iterator[Rival]:
    from shared_memory_dict import SharedMemoryDict

    held = SharedMemoryDict(name=f"bench-{os.getpid()}", size=64 << 20)
    # Filled at once: every assignment would write all of it.
    held.update(dict.fromkeys(keys, value))
    yield Rival(held.get, held.__setitem__, filled=True, operations=3)
    held.shm.close()
    held.shm.unlink()


@contextlib.contextmanager
def manager_dict(keys: list[str], value: bytes) -> Iterator[Rival]:
    with multiprocessing.Manager() as manager:
        held = manager.dict()
        held.update(dict.fromkeys(keys, value))
        yield Rival(held.get, held.__setitem__, elsewhere=True, filled=True, operations=200)


@contextlib.contextmanager
def redis_py(keys: list[str], value: bytes) -> Iterator[Rival]:
    import hiredis  # noqa: F401  redis-py uses it where it is there
    import redis

    with servers.redis(256) as server, redis.Redis(unix_socket_path=server.path) as client:
        yield Rival(client.get, client.set, elsewhere=True, operations=200)


@contextlib.contextmanager
def pymemcache(keys: list[str], value: bytes) -> Iterator[Rival]:
    import pymemcache

    with servers.memcached(256) as server:
        # By default its sets do not wait for an answer; the cache's are done when they return.
        client = pymemcache.Client(server.path, no_delay=True, default_noreply=False)
        yield Rival(client.get, client.set, elsewhere=True, operations=200)
        client.close()


@contextlib.contextmanager
def pylibmc(keys: list[str], value: bytes) -> Iterator[Rival]:
    import pylibmc

    with servers.memcached(256) as server:
        client = pylibmc.Client([server.path], binary=True, behaviors={"tcp_nodelay": True, "ketama": True})
        yield Rival(client.get, client.set, elsewhere=True, operations=200)


RIVALS = {
    "dict": plain_dict,
    "lru_cache": lru_cache,
    "cachebox": cachebox,
    "moka-py": moka_py,
    "LMDB": lmdb,
    "DiskCache": disk_cache,
    "UltraDict": ultra_dict,
    "shared-memory-dict": shared_memory_dict,
    "Manager().dict": manager_dict,
    "redis-py": redis_py,
    "pymemcache": pymemcache,
    "pylibmc": pylibmc,
}
