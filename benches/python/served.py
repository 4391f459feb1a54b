"""The rows of the server: requests a second and processor time of a request, beside those of Redis and memcached.

`redis-benchmark` loads both in turns over Unix sockets, with its fifty connections, 100 B values and
100,000 keys; on memcached's protocol `cache-benches memcached-load` does the same. A round is one run
on each; ratios are those within a round.
"""

import argparse
import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import bench
import instructions
import servers

KEYS, VALUE_BYTES = 100_000, 100
# How many requests are sent before the first reply is awaited, how many in all, and what is to be
# reached by each; where the client is the limit, as much as Redis but for the noise of a client.
DEPTHS = {1: (60_000, 0.97), 16: (600_000, 1.2)}
ROUNDS = 7
COMMANDS = ("SET", "GET")
# The same for memcached.
MEMCACHED_DEPTHS = {1: (100_000, 1.0), 16: (800_000, 1.0)}
# Requests a second, and processor seconds of the server for each request.
Load = Callable[[servers.Server, str, int, int], tuple[float, float]]


def ticks(server: servers.Server) -> float:
    """Seconds of a processor that the server has had."""
    fields = open(f"/proc/{server.process.pid}/stat", encoding="utf-8").read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def load(program: str, server: servers.Server, command: str, depth: int, count: int) -> tuple[float, float]:
    """Requests a second, and processor seconds of the server for each request."""
    options = ["-t", command.lower(), "-n", str(count), "-d", str(VALUE_BYTES), "-r", str(KEYS), "-P", str(depth)]
    before = ticks(server)
    done = subprocess.run(
        [program, "-s", server.path, *options, "-q", "--csv"], capture_output=True, text=True, check=True
    )
    (line,) = (line for line in done.stdout.splitlines() if line.startswith(f'"{command}'))
    return float(line.split(",")[1].strip('"')), (ticks(server) - before) / count


def load_memcached(server: servers.Server, kind: str, depth: int, count: int) -> tuple[float, float]:
    """As `load`, on memcached's protocol."""
    before = ticks(server)
    command = [instructions.program(), "memcached-load", server.path, kind.lower(), str(depth), str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout), (ticks(server) - before) / count


def compare(name: str, rival: servers.Server, served: servers.Server, load: Load, depths: dict, rounds: int) -> list[dict]:
    """The rows beside one rival."""
    rows = []
    for depth, (count, target) in depths.items():
        for command in COMMANDS:
            rates, costs, shown = [], [], []
            for number in range(rounds + 1):
                measured = {}
                for who, server in (("rival", rival), ("served", served))[:: 1 if number % 2 else -1]:
                    measured[who] = load(server, command, depth, count)
                if number == 0 and rounds > 1:
                    # Both have their memory now.
                    continue
                rates.append(measured["served"][0] / measured["rival"][0])
                costs.append(measured["served"][1] / max(measured["rival"][1], 1e-9))
                shown.append(f"{measured['served'][0] / 1e3:.0f}")
            title = f"server, {command} {VALUE_BYTES} B, {depth} at a time"
            detail = f"{', '.join(shown)} thousand requests a second"
            rows.append(bench.row(f"{title}: requests a second / {name}", rates, ">=", target, detail))
            cost_target = 1.0 if depth == 1 else None
            relation = "<=" if depth == 1 else ""
            rows.append(bench.row(f"{title}: processor time of the server / {name}", costs, relation, cost_target))
    return rows


def measure_redis(rounds: int, part: int) -> list[dict]:
    """The rows beside Redis; `part` divides the number of requests."""
    program = servers.installed("redis-benchmark")
    depths = {depth: (count // part, target) for depth, (count, target) in DEPTHS.items()}
    with servers.redis(256) as redis, servers.served(256) as served:
        return compare("Redis", redis, served, functools.partial(load, program), depths, rounds)


def measure_memcached(rounds: int, part: int) -> list[dict]:
    """The rows beside memcached."""
    if not Path(instructions.program()).exists():
        raise servers.Absent("cache-benches is not built; bench.py builds it")
    depths = {depth: (count // part, target) for depth, (count, target) in MEMCACHED_DEPTHS.items()}
    with servers.memcached(256) as memcached, servers.served(256, "--memcached-socket") as served:
        for server in (memcached, served):
            load_memcached(server, "fill", 16, 1)
        return compare("memcached", memcached, served, load_memcached, depths, rounds)


def main() -> int:
    parser = argparse.ArgumentParser(description="The rows of the server.")
    parser.add_argument("--seed", type=int, help="for the sake of the other programs; the client chooses its own keys")
    parser.add_argument("--smoke", action="store_true", help="show that it runs, measure nothing")
    options = parser.parse_args()
    for name, measure in (("Redis", measure_redis), ("memcached", measure_memcached)):
        try:
            rows = measure(*((1, 100) if options.smoke else (ROUNDS, 1)))
        except servers.Absent as error:
            servers.say_absent("server", name, error)
            continue
        for row in rows:
            print(json.dumps({**row, "group": "server"}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
