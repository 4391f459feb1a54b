"""The rows of batches: get_many of 100 keys beside 100 gets, where the processor holds few of the items.

A million keys, drawn at random, each read about once. The two take turns, in an order drawn for
each round, on keys drawn for each turn; times are processor time of the thread.
"""

import argparse
import json
import random
import sys
import time

import bench
import pycache

KEYS = 1_000_000
BATCH = 100
# Batches of one turn.
BATCHES = 100


def gets(cache: pycache.Cache, batches: list[list[str]]) -> None:
    get = cache.get
    for batch in batches:
        for key in batch:
            get(key)


def get_manys(cache: pycache.Cache, batches: list[list[str]]) -> None:
    get_many = cache.get_many
    for batch in batches:
        get_many(batch)


def main() -> int:
    parser = argparse.ArgumentParser(description="The rows of batches.")
    parser.add_argument("--seed", type=int, default=20261122)
    parser.add_argument("--smoke", action="store_true", help="show that it runs, measure nothing")
    options = parser.parse_args()
    draw = random.Random(options.seed)
    names = [f"user:{number:08}" for number in range(KEYS // 100 if options.smoke else KEYS)]
    subjects = [("gets", gets), ("get_many", get_manys)]
    taken = {name: [] for name, _ in subjects}
    with pycache.Cache(None, size="512MiB") as cache:
        for name in names:
            cache.set(name, bench.VALUE)
        assert len(cache) == len(names), "a benchmark of hits must not miss"
        assert cache.get_many(names[:BATCH]) == dict.fromkeys(names[:BATCH], bench.VALUE)
        for turn in range(-2, 2 if options.smoke else 61):
            draw.shuffle(subjects)
            for name, loop in subjects:
                batches = [draw.choices(names, k=BATCH) for _ in range(BATCHES)]
                started = time.thread_time_ns()
                loop(cache, batches)
                if turn >= 0:
                    taken[name].append((time.thread_time_ns() - started) / BATCHES / BATCH)
    ratios = [batch / single for batch, single in zip(taken["get_many"], taken["gets"])]
    title = f"Python get_many of {BATCH} / {BATCH} gets, {len(names)} keys"
    rows = [bench.row(title, ratios, "<=", 0.6)]
    for name, samples in taken.items():
        rows.append(bench.row(f"Python {name}, {len(names)} keys, a key", samples, "", None, unit="ns"))
    for row in rows:
        print(json.dumps({**row, "group": "batches"}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
