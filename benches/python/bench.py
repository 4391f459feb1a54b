"""The Python rows: one process, 20,000 str keys, values of 100 bytes, beside every rival.

Every subject is filled in the order of the keys, and read twice: in that order, in which what
was stored side by side lies in a row before the processor, and in another, the same for all.

With `--own` no rival has its turn but `dict` and `lru_cache`, and no row has a target: what
`system.py` shows of another interpreter.

Subjects take turns within each round, in an order drawn for each, and a loop that does nothing
has its turn too: what it takes is taken off the others. Times are processor time of the
thread, or the wall clock for subjects of which another process does a part, and then for
the cache too. Ratios are formed inside a round; their median and spread are reported.
One JSON object a line on the standard output.
"""

import argparse
import contextlib
import json
import random
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import pycache
from rivals import RIVALS
from servers import Absent, say_absent

KEYS = 20_000
VALUE = bytes(range(100))
# Each key has a value of its own, as in any use: one for all would never leave the nearest cache.
VALUES = [bytes(bytearray(VALUE)) for _ in range(KEYS)]


def quantile(samples: list[float], q: float) -> float:
    """The value below which a share q of the samples lies, interpolated."""
    ordered = sorted(samples)
    position = q * (len(ordered) - 1)
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


# Each loop is a function of its own, so that the interpreter specialises each for its subject.


def empty_loop(keys, _call):
    for key in keys:
        pass


def call_loop(keys, call):
    for key in keys:
        call(key)


def set_loop(keys, call):
    for key, value in zip(keys, VALUES):
        call(key, value)


def contains_loop(keys, cache):
    for key in keys:
        key in cache


def fresh_copy(loop):
    """The same loop with specialisation state of its own."""
    return type(loop)(loop.__code__.replace(), loop.__globals__, loop.__name__)


def batches_of(call, size):
    """A call for each key that does its work once for `size` keys."""

    def loop(keys, _call):
        for start in range(0, len(keys), size):
            call(keys[start : start + size])

    return loop


@dataclass
class Subject:
    """What has its turn in each round."""

    loop: Callable
    call: Callable | None
    operations: int
    # Processor time of the thread, or the wall clock where other processes do a part.
    clock: Callable[[], int] = time.thread_time_ns


def nanoseconds(rounds: int, keys: list[str], subjects: dict[str, Subject], order: random.Random) -> dict:
    """Nanoseconds an operation of each subject in each round, the loop taken off.

    `order` draws the order of the subjects; that of the keys stays as it is.
    """
    names = list(subjects)
    taken = {name: [] for name in names}
    for round_number in range(-2, rounds):
        order.shuffle(names)
        for name in names:
            subject = subjects[name]
            # Each round begins with another key.
            first = (round_number + 2) * subject.operations % len(keys)
            chosen = (keys[first:] + keys[:first])[: subject.operations]
            if subject.operations == len(keys):
                # What the subject before it drove out of the processor's caches comes back.
                subject.loop(chosen, subject.call)
            started = subject.clock()
            subject.loop(chosen, subject.call)
            if round_number >= 0:
                taken[name].append((subject.clock() - started) / len(chosen))
    nothing = taken.pop("nothing")
    return {name: [each - loop for each, loop in zip(times, nothing)] for name, times in taken.items()}


def row(name: str, ratios: list[float], relation: str, target: float | None, detail: str = "", **labels) -> dict:
    measured = statistics.median(ratios)
    return {
        "group": "python",
        "row": name,
        "measured": measured,
        "low": quantile(ratios, 0.1),
        "high": quantile(ratios, 0.9),
        "relation": relation,
        "target": target,
        "unit": labels.pop("unit", ""),
        "holds": {"<=": measured <= (target or 0), ">=": measured >= (target or 0), "": True}[relation],
        "detail": detail,
        "labels": labels,
    }


# How many times as long as the cache's a rival's call has to take.
GET_TARGETS = {"redis-py": 500, "pymemcache": 400, "DiskCache": 80, "LMDB": 12}
SET_TARGETS = {"UltraDict": 3}
# What a set may take: so many nanoseconds, or as long as so many hits of lru_cache.
SET_NS, SET_HITS = 200, 3
LOCAL = "cache.get of a local object"


def rows_of(times: dict[str, list[float]], names: list[str], order: str) -> list[dict]:
    """The table of one order of the keys: the cache beside each rival, and what each took."""

    def ratio(name: str, first: str, second: str, relation: str = "", target: float | None = None) -> dict:
        ratios = [a / b for a, b in zip(times[first], times[second])]
        return row(f"{name}, {order}", ratios, relation, target)

    rows = [
        ratio("Python get 100 B, 20k str keys / lru_cache hit", "cache.get", "lru_cache get", "<=", 1.15),
        ratio("Python set / get, 100 B", "cache.set", "cache.get", "<=", 4.0),
        ratio("Python get_many of 32 / get, 100 B", "cache.get_many of 32", "cache.get"),
        ratio("Python `in` / get, 100 B", "in cache", "cache.get"),
        ratio("Python `in` / lru_cache hit", "in cache", "lru_cache get", "<=", 1.0),
        ratio("Python memoize hit / lru_cache hit", "cache.memoize hit", "lru_cache get"),
    ]
    if LOCAL in times:
        rows.append(ratio("Python local-object hit / lru_cache hit", LOCAL, "lru_cache get", "<=", 1.0))
    allowed = [max(SET_NS, SET_HITS * hit) for hit in times["lru_cache get"]]
    ratios = [taken / most for taken, most in zip(times["cache.set"], allowed)]
    name = f"Python set 100 B / the larger of {SET_NS} ns and {SET_HITS} lru_cache hits, {order}"
    rows.append(row(name, ratios, "<=", 1.0))
    for what, targets in [("get", GET_TARGETS), ("set", SET_TARGETS)]:
        for name in names:
            if f"{name} {what}" not in times:
                continue
            by_wall = "" if f"{name} {what}" not in ELSEWHERE else " by the wall clock"
            target = targets.get(name)
            title = f"{name} {what} / Python {what}"
            rows.append(ratio(title, f"{name} {what}", f"cache.{what}{by_wall}", ">=" if target else "", target))
    for name, samples in times.items():
        subject, _, what = name.rpartition(" ") if name.endswith((" get", " set")) else ("cache", "", name)
        labels = {"subject": subject, "operation": what.removeprefix("cache."), "order": order}
        rows.append(row(f"Python {name}, {order}", samples, "", None, unit="ns", **labels))
    return rows


ELSEWHERE: set[str] = set()


def memoized(stack: contextlib.ExitStack, names: list[str]) -> Callable:
    """A function that was called once for each key, as lru_cache's is."""
    cache = stack.enter_context(pycache.Cache(None, size="64MiB"))

    @cache.memoize
    def remembered(key):
        return bytes(bytearray(VALUE))

    for key in names:
        remembered(key)
    return remembered


def local_objects(stack: contextlib.ExitStack, names: list[str]) -> Callable:
    """The get of a cache that keeps its objects in this process, each of which was got once."""
    cache = stack.enter_context(pycache.Cache(None, size="64MiB", local=2 * len(names)))
    for key, value in zip(names, VALUES):
        cache.set(key, value)
        assert cache.get(key) is cache.get(key)
    return cache.get


def main() -> int:
    parser = argparse.ArgumentParser(description="The Python rows of the benchmarks.")
    parser.add_argument("--seed", type=int, default=20261122)
    parser.add_argument("--smoke", action="store_true", help="show that it runs, measure nothing")
    parser.add_argument("--own", action="store_true", help="the cache beside dict and lru_cache, without targets")
    parser.add_argument("--named", default="", help="what is added to the name of each row")
    options = parser.parse_args()

    names = [f"user:{number:08}" for number in range(KEYS // 20 if options.smoke else KEYS)]
    keys = names.copy()
    random.Random(options.seed).shuffle(keys)
    with contextlib.ExitStack() as stack:
        cache = stack.enter_context(pycache.Cache(None, size="64MiB"))
        for key in names:
            cache.set(key, VALUE)
            assert cache.get(key) == VALUE
        wall = time.perf_counter_ns
        subjects = {
            "nothing": Subject(empty_loop, None, len(keys)),
            "cache.get": Subject(fresh_copy(call_loop), cache.get, len(keys)),
            "cache.set": Subject(fresh_copy(set_loop), cache.set, len(keys)),
            "cache.get by the wall clock": Subject(fresh_copy(call_loop), cache.get, len(keys), wall),
            "cache.set by the wall clock": Subject(fresh_copy(set_loop), cache.set, len(keys), wall),
            "in cache": Subject(contains_loop, cache, len(keys)),
            "cache.get_many of 32": Subject(batches_of(cache.get_many, 32), None, len(keys)),
            "cache.memoize hit": Subject(fresh_copy(call_loop), memoized(stack, names), len(keys)),
        }
        subjects[LOCAL] = Subject(fresh_copy(call_loop), local_objects(stack, names), len(keys))
        present = []
        for name, make in RIVALS.items():
            if options.own and name not in ("dict", "lru_cache"):
                continue
            try:
                rival = stack.enter_context(make(names, VALUE))
            except (ImportError, Absent) as error:
                say_absent("python", name, error)
                continue
            present.append(name)
            if rival.set and not rival.filled:
                for key, value in zip(names, VALUES):
                    rival.set(key, value)
            assert rival.get(keys[0]) == VALUE, name
            operations = min(rival.operations, len(keys))
            clock = wall if rival.elsewhere else time.thread_time_ns
            for what, loop, call in [("get", call_loop, rival.get), ("set", set_loop, rival.set)]:
                if call:
                    subjects[f"{name} {what}"] = Subject(fresh_copy(loop), call, operations, clock)
                    if rival.elsewhere:
                        ELSEWHERE.add(f"{name} {what}")
        for order, chosen in [("in order", names), ("shuffled", keys)]:
            times = nanoseconds(2 if options.smoke else 31, chosen, subjects, random.Random(options.seed))
            for each in rows_of(times, present, order):
                if options.own:
                    each.update(relation="", target=None, holds=True)
                print(json.dumps({**each, "row": each["row"] + options.named}))
        assert len(cache) == len(keys), "a benchmark of hits must not miss"
    return 0


if __name__ == "__main__":
    sys.exit(main())
