"""The PHP rows: APCu or Yac in a PHP process, beside this cache in a Python process.

Two interpreters are compared with their caches, so these rows have no target. They take
turns by the wall clock, the loops taken off. Debian's packages of the two exclude each other; YAC_SO may
name the module of the one that is only unpacked.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import bench
import pycache
from servers import Absent

SCRIPT = Path(__file__).resolve().parent.parent / "php" / "bench.php"
# As the manuals of both say for the command line, with room for all keys.
SETTINGS = {
    "apcu": ["apc.enable_cli=1", "apc.shm_size=64M"],
    "yac": ["yac.enable=1", "yac.enable_cli=1", "yac.keys_memory_size=64M", "yac.values_memory_size=64M"],
}


def module(extension: str) -> str:
    """The path of the extension's module."""
    named = os.environ.get("YAC_SO") if extension == "yac" else None
    found = [named] if named else sorted(str(path) for path in Path("/usr/lib/php").glob(f"*/{extension}.so"))
    if not found:
        raise Absent(f"php8.2-{extension} is not installed")
    return found[-1]


def start(extension: str, keys: int) -> subprocess.Popen:
    php = shutil.which("php8.2") or shutil.which("php")
    if php is None:
        raise Absent("php8.2-cli is not installed")
    options = [word for setting in [f"extension={module(extension)}", *SETTINGS[extension]] for word in ("-d", setting)]
    command = [php, "-n", *options, str(SCRIPT), extension, str(keys)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)


def main() -> int:
    parser = argparse.ArgumentParser(description="The PHP rows of the benchmarks.")
    parser.add_argument("extension", choices=SETTINGS)
    parser.add_argument("--seed", type=int, default=20261122)
    parser.add_argument("--smoke", action="store_true", help="show that it runs, measure nothing")
    options = parser.parse_args()
    count = bench.KEYS // 20 if options.smoke else bench.KEYS
    keys = [f"user:{number:08}" for number in range(count)]
    random.Random(options.seed).shuffle(keys)
    name = {"apcu": "APCu", "yac": "Yac"}[options.extension]
    try:
        php = start(options.extension, count)
    except Absent as error:
        print(json.dumps({"group": f"php-{options.extension}", "absent": name, "why": str(error)}))
        return 0

    def in_php(order: str) -> float:
        php.stdin.write(order + "\n")
        return float(php.stdout.readline())

    def here(loop, call) -> float:
        started = time.perf_counter_ns()
        loop(keys, call)
        return (time.perf_counter_ns() - started) / len(keys)

    rows = []
    with php, pycache.Cache(None, size="64MiB") as cache:
        for key in keys:
            cache.set(key, bench.VALUE)
        for what, loop, call in [("get", bench.call_loop, cache.get), ("set", bench.set_loop, cache.set)]:
            loop = bench.fresh_copy(loop)
            theirs, ours = [], []
            for turn in range(-2, 2 if options.smoke else 41):
                php_turn = in_php(what) - in_php("nothing")
                own_turn = here(loop, call) - here(bench.empty_loop, None)
                if turn >= 0:
                    theirs.append(php_turn)
                    ours.append(own_turn)
            ratios = [other / own for other, own in zip(theirs, ours)]
            detail = f"{name} {bench.quantile(theirs, 0.5):.0f} ns, Python {bench.quantile(ours, 0.5):.0f} ns"
            row = bench.row(f"{name} {what} in PHP / Python {what}, 100 B", ratios, "", None, detail, subject=name)
            rows.append(row)
        php.stdin.close()
    for row in rows:
        row["group"] = f"php-{options.extension}"
        print(json.dumps(row))
    return 0


if __name__ == "__main__":
    sys.exit(main())
