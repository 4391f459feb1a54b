"""The memory rows: what the cache, memcached and Redis hold within the same limit and data.

Each is given distinct keys of 16 bytes until it has long evicted. Items are counted by
the subject itself; payload is keys and values of a sample of what was given, as found
again. Resident memory is what the kernel counts: of the region's file, and of the
servers' processes.
"""

import argparse
import json
import os
import random
import socket
import sys
from collections.abc import Iterator

import bench
import pycache
import servers

KEY_BYTES = 16
BATCH = 1000
SAMPLE = 20_000
LIMITS_MIB = [64, 256, 1024]
SIZES = {"16 B": 16, "100 B": 100, "200 B": 200, "1 KiB": 1024, "mixed": None}
# Sizes of the mix, drawn for each key by its number: most are small, most bytes are in large ones.
MIX = [16] * 40 + [100] * 30 + [200] * 15 + [1024] * 10 + [4096] * 4 + [32_768]
MIX_MEAN = sum(MIX) // len(MIX)


def key(number: int) -> bytes:
    return b"key:%012d" % number


def value_bytes(number: int, size: int | None) -> int:
    return MIX[number * 2_654_435_761 % 2**32 % len(MIX)] if size is None else size


def batches(count: int) -> Iterator[range]:
    for first in range(0, count, BATCH):
        yield range(first, min(first + BATCH, count))


class Reader:
    """Whole answers from a socket."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.stream = connection.makefile("rb", buffering=1 << 20)

    def ask(self, request: bytes, lines: int) -> list[bytes]:
        self.connection.sendall(request)
        return [self.stream.readline() for _ in range(lines)]


class Cache:
    name = "cache"

    def __init__(self, limit_mib: int) -> None:
        self.region = f"bench-memory-{os.getpid()}"
        self.cache = pycache.Cache(self.region, size=f"{limit_mib}MiB")

    def fill(self, numbers: range, size: int | None) -> None:
        self.cache.set_many({key(number): bytes(value_bytes(number, size)) for number in numbers})

    def items(self) -> int:
        return len(self.cache)

    def holds(self, numbers: list[int]) -> list[bool]:
        return [key(number) in self.cache for number in numbers]

    def resident_bytes(self) -> int:
        return os.stat(self.cache.path).st_blocks * 512

    def close(self) -> None:
        self.cache.destroy()
        self.cache.close()


class Redis:
    name = "Redis"

    def __init__(self, limit_mib: int) -> None:
        self.running = servers.redis(limit_mib)
        self.server = self.running.__enter__()
        self.reader = Reader(self.server.connect())

    def fill(self, numbers: range, size: int | None) -> None:
        requests = [
            b"*3\r\n$3\r\nSET\r\n$16\r\n%b\r\n$%d\r\n%b\r\n" % (key(number), length, bytes(length))
            for number in numbers
            for length in [value_bytes(number, size)]
        ]
        self.reader.ask(b"".join(requests), len(requests))

    def items(self) -> int:
        return int(self.reader.ask(b"DBSIZE\r\n", 1)[0][1:])

    def holds(self, numbers: list[int]) -> list[bool]:
        answers = self.reader.ask(b"".join(b"EXISTS %b\r\n" % key(number) for number in numbers), len(numbers))
        return [answer == b":1\r\n" for answer in answers]

    def resident_bytes(self) -> int:
        return self.server.resident_bytes()

    def close(self) -> None:
        self.reader.connection.close()
        self.running.__exit__(None, None, None)


class Memcached(Redis):
    name = "memcached"

    def __init__(self, limit_mib: int) -> None:
        self.running = servers.memcached(limit_mib)
        self.server = self.running.__enter__()
        self.reader = Reader(self.server.connect())

    def fill(self, numbers: range, size: int | None) -> None:
        requests = [
            b"set %b 0 0 %d\r\n%b\r\n" % (key(number), length, bytes(length))
            for number in numbers
            for length in [value_bytes(number, size)]
        ]
        self.reader.ask(b"".join(requests), len(requests))

    def items(self) -> int:
        self.reader.connection.sendall(b"stats\r\n")
        found = 0
        while (line := self.reader.stream.readline()) != b"END\r\n":
            if line.startswith(b"STAT curr_items "):
                found = int(line.split()[2])
        return found

    def holds(self, numbers: list[int]) -> list[bool]:
        # A touch of what is there says TOUCHED, and takes one line whatever the value.
        answers = self.reader.ask(b"".join(b"touch %b 0\r\n" % key(number) for number in numbers), len(numbers))
        return [answer == b"TOUCHED\r\n" for answer in answers]


def measured(subject, limit_mib: int, size: int | None, seed: int) -> dict:
    """Fills one subject and counts what it holds."""
    # Twice as many as fit without any overhead.
    count = 2 * (limit_mib << 20) // ((size or MIX_MEAN) + KEY_BYTES)
    for numbers in batches(count):
        subject.fill(numbers, size)
    sample = random.Random(seed).sample(range(count), min(SAMPLE, count))
    here = [number for first in range(0, len(sample), BATCH) for number in held(subject, sample[first : first + BATCH])]
    mean = sum(value_bytes(number, size) + KEY_BYTES for number in here) / max(len(here), 1)
    items = subject.items()
    return {"items": items, "payload": items * mean, "resident": subject.resident_bytes()}


def held(subject, numbers: list[int]) -> list[int]:
    return [number for number, there in zip(numbers, subject.holds(numbers)) if there]


def count_row(name: str, number: float, relation: str, target: float | None, unit: str, detail: str, **labels) -> dict:
    found = bench.row(name, [number], relation, target, detail, unit=unit)
    found["labels"] = labels
    found["group"] = "memory"
    return found


def rows_of(limit_mib: int, label: str, size: int | None, found: dict[str, dict]) -> Iterator[dict]:
    own = found["cache"]
    is_target = limit_mib == 64 and size == 100
    where = f"{label} in {limit_mib} MiB"
    for name, one in found.items():
        mib = {what: one[what] / 2**20 for what in ("payload", "resident")}
        overhead = ((limit_mib << 20) - one["payload"]) / one["items"]
        labels = {"subject": name, "values": label, "limit_mib": limit_mib, "overhead_bytes": round(overhead, 1)}
        labels |= {"payload_mib": round(mib["payload"], 1), "resident_mib": round(mib["resident"], 1)}
        detail = (
            f"payload {mib['payload']:.1f} MiB, {overhead:.1f} B beside it an item, resident {mib['resident']:.1f} MiB"
        )
        yield count_row(f"live items of {where}: {name}", one["items"], "", None, "", detail, **labels)
    overhead = ((limit_mib << 20) - own["payload"]) / own["items"]
    yield count_row(
        f"overhead an item, {where}", overhead, "<=" if is_target else "", 40.0 if is_target else None, "B", ""
    )
    for name, target in [("memcached", 1.2), ("Redis", 1.3)]:
        if name in found:
            ratio = own["items"] / found[name]["items"]
            targets = (">=", target) if is_target else ("", None)
            yield count_row(f"live items of {where} / {name}", ratio, *targets, "", "")


def main() -> int:
    parser = argparse.ArgumentParser(description="The memory rows of the benchmarks.")
    parser.add_argument("--seed", type=int, default=20261122)
    parser.add_argument("--smoke", action="store_true", help="show that it runs, measure nothing")
    parser.add_argument("--quick", action="store_true", help="the smallest limit only")
    options = parser.parse_args()
    limits = LIMITS_MIB[:1] if options.smoke or options.quick else LIMITS_MIB
    absent = {}
    for limit_mib in limits:
        for label, size in [("1 KiB", 1024)] if options.smoke else SIZES.items():
            found = {}
            for make in (Cache, Memcached, Redis):
                try:
                    subject = make(limit_mib)
                except servers.Absent as error:
                    absent[make.name] = str(error)
                    continue
                try:
                    found[make.name] = measured(subject, limit_mib, size, options.seed)
                finally:
                    subject.close()
            for row in rows_of(limit_mib, label, size, found):
                print(json.dumps(row), flush=True)
    for name, why in absent.items():
        print(json.dumps({"group": "memory", "absent": name, "why": why}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
