"""The rows of views: what it takes to lay a memoryview over a value where it lies.

Sizes take turns. A view that copied would take as much longer as its value is larger, and so does
the get beside it.
"""

import argparse
import json
import random
import sys
import time

import bench
import pycache

KIB, MIB = 1 << 10, 1 << 20
SIZES = {"64 KiB": 64 * KIB, "1 MiB": MIB, "16 MiB": 16 * MIB}
SMALLEST, LARGEST = "64 KiB", "16 MiB"


def microseconds(call, key: str, count: int) -> float:
    """What one call takes, its result given back at once."""
    started = time.thread_time_ns()
    for _ in range(count):
        call(key)
    return (time.thread_time_ns() - started) / count / 1000


def main() -> int:
    parser = argparse.ArgumentParser(description="The rows of views.")
    parser.add_argument("--seed", type=int, default=20261122)
    parser.add_argument("--smoke", action="store_true", help="show that it runs, measure nothing")
    options = parser.parse_args()
    order = random.Random(options.seed)
    with pycache.Cache(None, size="128MiB") as cache:
        # As in use: a region that has been full is known to have all its memory.
        for number in range(160 * MIB // (64 * KIB)):
            cache.set(f"before:{number}", bytes(60 * KIB))
        for name, size in SIZES.items():
            cache.set(name, bytes(size))
            view = cache.view(name)
            assert view is not None and view.readonly and view.nbytes == size
        del view
        calls = [(f"view of {name}", cache.view, name, 1000) for name in SIZES]
        calls += [(f"get of {name}, which copies it", cache.get, name, max(1, 4 * MIB // SIZES[name])) for name in SIZES]
        taken = {title: [] for title, *_ in calls}
        for turn in range(-2, 2 if options.smoke else 31):
            order.shuffle(calls)
            for title, call, name, count in calls:
                sample = microseconds(call, name, count)
                if turn >= 0:
                    taken[title].append(sample)
    rows = []
    for title, samples in taken.items():
        target = 2.0 if title == f"view of {LARGEST}" else None
        rows.append(bench.row(title, samples, "<=" if target else "", target, unit="us"))
    ratios = [large / small for large, small in zip(taken[f"view of {LARGEST}"], taken[f"view of {SMALLEST}"])]
    times = SIZES[LARGEST] // SIZES[SMALLEST]
    detail = f"a copy would take {times} times as long"
    rows.append(bench.row(f"view of {LARGEST} / view of {SMALLEST}", ratios, "<=", 2.0, detail))
    for row in rows:
        print(json.dumps({**row, "group": "views"}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
