"""The rows of values that are made once: how often the function runs when several processes miss the
same key at once, and how long the others take to notice that the process which made it was killed.

The processes are started once and told on their standard input what to do; each answers with one
line. Those that miss a key at once sleep until one moment, and the function takes a few
milliseconds, so that all of them come while it runs.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time

import bench
import pycache

PROCESSES = 8
# How long the function takes, and how long before the moment it is named.
MAKING_S, AHEAD_S = 0.005, 0.01
# A process that says that it calls does so within this time.
CALLING_S = 0.03
# Longest time of the whole program: what hangs is ended.
PATIENCE_S = 120


def work(name: str) -> None:
    """One of the processes: does what it is told until its standard input ends."""
    cache = pycache.Cache(name)
    for line in sys.stdin:
        what, key, moment = line.split()
        runs = []

        def make() -> int:
            runs.append(time.monotonic_ns())
            if what == "miss":
                time.sleep(MAKING_S)
            elif what == "lead":
                print("leading", flush=True)
                time.sleep(PATIENCE_S)
            return os.getpid()

        if what == "wait":
            print("calling", flush=True)
        time.sleep(max(0.0, float(moment) - time.monotonic()))
        made_by = cache.get_or_set(key, make)
        print(json.dumps({"made_by": made_by, "runs": runs}), flush=True)


class Process:
    """A process that does what it is told."""

    def __init__(self, name: str) -> None:
        command = [sys.executable, __file__, "--work", name]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def tell(self, what: str, key: str, moment: float = 0.0) -> None:
        self._process.stdin.write(f"{what} {key} {moment}\n")
        self._process.stdin.flush()

    def hear(self) -> str:
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("a process of the benchmark has ended")
        return line

    def kill(self) -> None:
        self._process.kill()

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


def misses(processes: list[Process], rounds: int) -> dict:
    """How often the function ran for a key that all processes missed at once."""
    for each in processes:
        # Attached, and everything loaded.
        each.tell("miss", "first")
        each.hear()
    runs = []
    for number in range(rounds):
        moment = time.monotonic() + AHEAD_S
        for each in processes:
            each.tell("miss", f"missed:{number}", moment)
        answers = [json.loads(each.hear()) for each in processes]
        runs.append(sum(len(answer["runs"]) for answer in answers))
        assert len({answer["made_by"] for answer in answers}) == 1 or runs[-1] > 1, "all got the one value"
    detail = f"{rounds} keys, {sum(runs)} runs; at most {max(runs)} and at least {min(runs)} for a key"
    row = bench.row(f"get_or_set, {len(processes)} processes miss a key: runs of the function", runs, "<=", 1, detail)
    # Not the median: a single second run is one too many.
    return {**row, "measured": max(runs), "low": min(runs), "high": max(runs), "holds": set(runs) == {1}}


def take_overs(name: str, waiter: Process, rounds: int) -> list[dict]:
    """Milliseconds from the kill of the process that makes a value until another makes it."""
    taken = []
    leader = Process(name)
    try:
        for number in range(rounds):
            leader.tell("lead", f"led:{number}")
            assert leader.hear() == "leading\n"
            waiter.tell("wait", f"led:{number}")
            assert waiter.hear() == "calling\n"
            # The next one starts meanwhile.
            leader, led = Process(name), leader
            time.sleep(CALLING_S)
            killed_ns = time.monotonic_ns()
            led.kill()
            (entered_ns,) = json.loads(waiter.hear())["runs"]
            assert entered_ns > killed_ns
            taken.append((entered_ns - killed_ns) / 1e6)
            led.end()
    finally:
        leader.end()
    detail = f"{rounds} kills, at worst {max(taken):.2f} ms"
    title = "take-over after kill -9 of the process that makes a value"
    median = bench.row(f"{title}: median", taken, "<=", 50.0, detail, unit="ms")
    worst = bench.row(f"{title}: worst of {rounds}", [max(taken)], "<=", 50.0, unit="ms")
    return [median, worst]


def main() -> int:
    parser = argparse.ArgumentParser(description="The rows of values that are made once.")
    parser.add_argument("--seed", type=int, help="for the sake of the other programs; nothing is random here")
    parser.add_argument("--smoke", action="store_true", help="show that it runs, measure nothing")
    parser.add_argument("--work", metavar="NAME", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.work)
        return 0
    signal.alarm(PATIENCE_S)
    name = f"bench-once-{os.getpid()}"
    with pycache.Cache(name, size="16MiB") as cache:
        processes = []
        try:
            processes += [Process(name) for _ in range(PROCESSES)]
            rows = [misses(processes, 3 if options.smoke else 200)]
            rows += take_overs(name, processes[0], 2 if options.smoke else 30)
        finally:
            for each in processes:
                each.end()
            cache.destroy()
    for row in rows:
        print(json.dumps({**row, "group": "once"}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
