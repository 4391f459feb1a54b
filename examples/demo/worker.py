"""What one of the demo's processes does: answer its share of the requests."""

import functools
import multiprocessing
import signal
import time
from array import array
from dataclasses import dataclass

import page
import pycache


@dataclass
class Plan:
    """What a worker is told."""

    keys: list[str]
    region: str | None
    """Name of the shared region; None = a `functools.lru_cache` of one's own."""
    lru_entries: int
    index: int
    seconds_max: float
    """When these have passed, what is left of the keys is left."""


@dataclass
class Answer:
    """What a worker found."""

    index: int
    requests: int
    hits: int
    hit_nanoseconds: array
    """How long each hit took, the two looks at the clock included."""
    lru_entries: int
    """Entries in its private cache at the end."""


def work(plan: Plan, start, progress, answers: multiprocessing.Queue) -> None:
    """Answers every request of `plan` and puts an `Answer` into `answers`.

    `progress` is an array of two counters for each worker, requests and hits.
    """
    # An interrupt is the parent's business, which ends its children.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if plan.region is None:
        answer = serve_from_private_cache(plan, start, progress)
    else:
        answer = serve_from_region(plan, start, progress)
    answers.put(answer)


def serve_from_region(plan: Plan, start, progress) -> Answer:
    with pycache.Cache(plan.region) as cache:
        get_or_set = cache.get_or_set
        rendered = 0

        def ask(key: str) -> bytes:
            def render() -> bytes:
                nonlocal rendered
                rendered += 1
                return page.render(key)

            return get_or_set(key, render)

        return serve(plan, start, progress, ask, lambda: rendered)


def serve_from_private_cache(plan: Plan, start, progress) -> Answer:
    cached = functools.lru_cache(maxsize=plan.lru_entries)(page.render)
    answer = serve(plan, start, progress, cached, lambda: cached.cache_info().misses)
    answer.lru_entries = cached.cache_info().currsize
    return answer


def serve(plan: Plan, start, progress, ask, misses) -> Answer:
    clock = time.perf_counter_ns
    nanoseconds = array("Q")
    requests_at, hits_at = 2 * plan.index, 2 * plan.index + 1
    start.wait()
    deadline = clock() + plan.seconds_max * 1e9
    missed = misses()
    done = 0
    for key in plan.keys:
        began = clock()
        ask(key)
        took = clock() - began
        if (now_missed := misses()) == missed:
            nanoseconds.append(took)
        missed = now_missed
        done += 1
        if done % 64 == 0:
            progress[requests_at] = done
            progress[hits_at] = len(nanoseconds)
            if began > deadline:
                break
    progress[requests_at] = done
    progress[hits_at] = len(nanoseconds)
    return Answer(plan.index, done, len(nanoseconds), nanoseconds, 0)
