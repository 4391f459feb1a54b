"""The start-up rows: importing the module, creating a region, attaching to it, the first get.

Each sample is a process of its own, because all of it happens once in a process.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys

import bench

REGION = f"bench-startup-{os.getpid()}"

# Prints milliseconds of import, create, attach, the first get, and the get after it.
SAMPLE = """
import sys, time
clock = time.perf_counter
moments = [clock()]
import pycache
moments.append(clock())
created = pycache.Cache(sys.argv[1] + "-new", size="64MiB")
moments.append(clock())
cache = pycache.Cache(sys.argv[1])
moments.append(clock())
assert cache.get("key") == b"value"
moments.append(clock())
assert cache.get("key") == b"value"
moments.append(clock())
created.destroy()
print(*((after - before) * 1e3 for before, after in zip(moments, moments[1:])))
"""

ROWS = [
    ("import pycache", 30.0),
    ("create a region of 64 MiB", None),
    ("attach to a region of 64 MiB", 1.0),
    ("first get after an attach", None),
    ("second get after an attach", None),
]


def main() -> int:
    parser = argparse.ArgumentParser(description="The start-up rows of the benchmarks.")
    parser.add_argument("--seed", type=int, help="for the sake of the other programs; nothing is random here")
    parser.add_argument("--smoke", action="store_true", help="show that it runs, measure nothing")
    options = parser.parse_args()
    samples = []
    import pycache

    with pycache.Cache(REGION, size="64MiB") as cache:
        cache.set("key", b"value")
        for _ in range(2 if options.smoke else 31):
            command = [sys.executable, "-c", SAMPLE, REGION]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            samples.append([float(word) for word in done.stdout.split()])
        cache.destroy()
    for (name, target), times in zip(ROWS, zip(*samples)):
        detail = f"median of {len(times)} processes, at best {min(times):.3f} ms"
        found = bench.row(name, list(times), "<=" if target else "", target, detail, unit="ms")
        found["group"] = "startup"
        assert statistics.median(times) > 0
        print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
