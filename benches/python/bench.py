"""The Python rows: one process, 20,000 str keys, values of 100 bytes.

Subjects take turns within each round, in rotating order, and a loop that does nothing
has its turn too: what it takes is taken off the others. Times are processor time of the
thread. Ratios are formed inside a round; their median and spread are reported. One JSON object a line on the standard output.
"""

import argparse
import functools
import json
import random
import statistics
import sys
import time

import pycache

KEYS = 20_000
VALUE = bytes(range(100))


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
    value = VALUE
    for key in keys:
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


def nanoseconds(rounds: int, keys: list[str], subjects: dict) -> dict[str, list[float]]:
    """Nanoseconds an operation of each subject in each round, the loop taken off."""
    names = list(subjects)
    taken = {name: [] for name in names}
    for round_number in range(-2, rounds):
        shift = round_number % len(names)
        for name in names[shift:] + names[:shift]:
            loop, call = subjects[name]
            started = time.thread_time_ns()
            loop(keys, call)
            if round_number >= 0:
                taken[name].append((time.thread_time_ns() - started) / len(keys))
    nothing = taken.pop("nothing")
    return {name: [each - loop for each, loop in zip(times, nothing)] for name, times in taken.items()}


def row(name: str, ratios: list[float], target: float, detail: str) -> dict:
    measured = statistics.median(ratios)
    return {
        "row": name,
        "measured": measured,
        "low": quantile(ratios, 0.1),
        "high": quantile(ratios, 0.9),
        "relation": "<=",
        "target": target,
        "unit": "",
        "holds": measured <= target,
        "detail": detail,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="The Python rows of the benchmarks.")
    parser.add_argument("--seed", type=int, default=20261122)
    parser.add_argument("--smoke", action="store_true", help="show that it runs, measure nothing")
    options = parser.parse_args()

    names = [f"user:{number:08}" for number in range(KEYS)]
    plain = dict.fromkeys(names, VALUE)

    @functools.lru_cache(maxsize=2 * KEYS)
    def remembered(key):
        return VALUE

    keys = names * (1 if options.smoke else 5)
    random.Random(options.seed).shuffle(keys)
    with pycache.Cache(None, size="64MiB") as cache:
        for key in names:
            cache.set(key, VALUE)
            remembered(key)
            assert cache.get(key) == VALUE
        subjects = {
            "nothing": (empty_loop, None),
            "cache.get": (fresh_copy(call_loop), cache.get),
            "lru_cache": (fresh_copy(call_loop), remembered),
            "dict.get": (fresh_copy(call_loop), plain.get),
            "cache.set": (set_loop, cache.set),
            "in cache": (contains_loop, cache),
            "cache.get_many of 32": (batches_of(cache.get_many, 32), None),
        }
        times = nanoseconds(2 if options.smoke else 41, keys, subjects)
        assert len(cache) == KEYS, "a benchmark of hits must not miss"

    def ratios(first: str, second: str) -> list[float]:
        return [a / b for a, b in zip(times[first], times[second])]

    medians = ", ".join(f"{name} {statistics.median(times[name]):.0f}" for name in times)
    rows = [
        row("Python get 100 B, 20k str keys / lru_cache hit", ratios("cache.get", "lru_cache"), 1.4, f"ns: {medians}"),
        row("Python set / get, 100 B", ratios("cache.set", "cache.get"), 4.0, ""),
    ]
    for each in rows:
        print(json.dumps(each))
    return 0


if __name__ == "__main__":
    sys.exit(main())
