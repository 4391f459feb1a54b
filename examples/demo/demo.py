"""Four processes serve a request stream from one shared cache: `make demo`.

Each request asks for a page that takes about a millisecond to render. First the four
processes share one region through `cache.get_or_set`; then, for comparison, each has a
`functools.lru_cache` of its own, and the four together the same memory. The stream is
dealt out to the processes like cards, the same way both times.

    python examples/demo/demo.py                       a generated stream
    python examples/demo/demo.py TRACE                 a trace file, see stream.py
    python examples/demo/demo.py --requests 20000 --memory 16MiB --workers 4
"""

import argparse
import functools
import itertools
import multiprocessing
import os
import sys
import time
import tracemalloc
from array import array
from dataclasses import dataclass
from pathlib import Path

import page
import pycache
import stream
import worker

REQUESTS = 100_000
WORKERS = 4
MEMORY = "8MiB"
SECONDS_MAX = 110
"""What the whole demo may take; slow machines get fewer requests."""


@dataclass
class Result:
    """What one way of caching reached."""

    name: str
    requests: int
    hits: int
    seconds: float
    hit_nanoseconds: array
    memory_bytes: int


def main() -> int:
    parser = argparse.ArgumentParser(description="Four processes serve a request stream from one shared cache.")
    parser.add_argument("trace", nargs="?", type=Path, help="a trace file; without one a stream is generated")
    parser.add_argument("--trace", dest="trace_option", type=Path, metavar="TRACE", help="the same")
    parser.add_argument("--requests", type=int, help=f"at most so many requests [{REQUESTS:,}, fewer if rendering is slow]")
    parser.add_argument("--workers", type=int, default=WORKERS, help=f"processes [{WORKERS}]")
    parser.add_argument("--memory", default=MEMORY, help=f"memory of the shared cache, and of the private ones together [{MEMORY}]")
    options = parser.parse_args()
    trace = options.trace_option or options.trace
    if options.workers < 1 or (options.requests is not None and options.requests < 1):
        parser.error("--workers and --requests are at least 1")

    render_seconds = time_to_render()
    requests = options.requests or requests_in_time(render_seconds, options.workers)
    try:
        keys = stream.from_trace(trace, requests) if trace else stream.generated(requests)
    except (OSError, EOFError) as error:
        print(f"cannot read {trace}: {error}", file=sys.stderr)
        return 2
    if not keys:
        print(f"{trace} has no requests", file=sys.stderr)
        return 2
    source = trace.name if trace else f"a generated stream (seed {stream.SEED})"
    print(
        f"{source}: {len(keys):,} requests for {len(set(keys)):,} pages; "
        f"{1000 * render_seconds:.2f} ms to render one; {options.workers} processes on {os.cpu_count()} cores"
    )

    name = f"demo-{os.getpid()}"
    region = pycache.Cache(name, size=options.memory)
    try:
        memory_bytes = region.stats()["region_bytes"]
        shared = run("one shared region", keys, options.workers, name, 0)
        shared.memory_bytes = resident_bytes(name)
    finally:
        region.destroy()
    entry_bytes = bytes_of_an_lru_entry(keys)
    entries = max(1, int(memory_bytes / options.workers / entry_bytes))
    private = run(f"{options.workers} private lru_caches", keys, options.workers, None, entries)
    private.memory_bytes = int(private.memory_bytes * entry_bytes)
    print(table([shared, private]))
    print(
        f"\nlru_cache: {entries:,} entries in each of {options.workers} processes, {entry_bytes:,.0f} bytes an entry as tracemalloc"
        " counts it.\nTimes of hits include two looks at the clock; the processes share the cores with one another."
    )
    return 0


def time_to_render() -> float:
    """Seconds that a page takes here, the median of some."""
    seconds = []
    for number in range(31):
        began = time.perf_counter()
        page.render(f"warm-up {number}")
        seconds.append(time.perf_counter() - began)
    return sorted(seconds)[len(seconds) // 2]


def requests_in_time(render_seconds: float, workers: int) -> int:
    """As many requests as fit into the time if every one of them had to be rendered twice."""
    at_once = min(workers, os.cpu_count() or 1)
    return max(1_000, min(REQUESTS, int(SECONDS_MAX / 2 * at_once / render_seconds)))


def run(name: str, keys: list[str], workers: int, region: str | None, entries: int) -> Result:
    """Lets `workers` processes answer the stream, and shows how far they are."""
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(workers + 1)
    progress = context.Array("Q", 2 * workers, lock=False)
    answers = context.Queue()
    processes = []
    for index in range(workers):
        plan = worker.Plan(keys[index::workers], region, entries, index)
        process = context.Process(target=worker.work, args=(plan, start, progress, answers), daemon=True)
        process.start()
        processes.append(process)
    start.wait(timeout=60)
    began = time.perf_counter()
    show(name, progress, len(keys), began, processes)
    seconds = time.perf_counter() - began
    found = [answers.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    nanoseconds = array("Q", sorted(itertools.chain.from_iterable(answer.hit_nanoseconds for answer in found)))
    held = sum(answer.lru_entries for answer in found)
    return Result(name, len(keys), sum(answer.hits for answer in found), seconds, nanoseconds, held)


def show(name: str, progress, total: int, began: float, processes: list) -> None:
    """Draws a line that grows, on a terminal; elsewhere a line for each quarter."""
    live = sys.stderr.isatty()
    quarter = 1
    while True:
        done, hits = sum(progress[0::2]), sum(progress[1::2])
        elapsed = time.perf_counter() - began
        text = f"{name}: {done:>9,} of {total:,} requests, {100 * hits / max(1, done):5.1f} % hits, {done / elapsed:>9,.0f} requests/s"
        if live:
            filled = 20 * done // total
            print(f"\r{'#' * filled}{'.' * (20 - filled)} {text}", end="", file=sys.stderr, flush=True)
        elif 4 * done >= quarter * total:
            quarter = 4 * done // total + 1
            print(text, file=sys.stderr, flush=True)
        if done >= total:
            break
        if any(process.exitcode for process in processes):
            raise SystemExit("a worker failed; its error is above")
        time.sleep(0.05)
    if live:
        print(file=sys.stderr)


def resident_bytes(name: str) -> int:
    """Memory that the region's file really takes."""
    paths = [info.path for info in pycache.regions() if info.name == name]
    return os.stat(paths[0]).st_blocks * 512


def bytes_of_an_lru_entry(keys: list[str]) -> float:
    """Bytes that one page in a `functools.lru_cache` takes: page, entry and its place."""
    sample = list(dict.fromkeys(keys))[:1000]
    cached = functools.lru_cache(maxsize=None)(page.render)
    tracemalloc.start()
    for key in sample:
        cached(key)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return held / len(sample)


def percentile(ordered: array, share: float) -> float:
    """Microseconds below which `share` of the times lie."""
    if not ordered:
        return float("nan")
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] / 1000


def table(results: list[Result]) -> str:
    """The results beside one another."""
    rows = [
        ("hit ratio", lambda result: f"{100 * result.hits / result.requests:.2f} %"),
        ("requests/s", lambda result: f"{result.requests / result.seconds:,.0f}"),
        ("pages rendered", lambda result: f"{result.requests - result.hits:,}"),
        ("hit, p50", lambda result: f"{percentile(result.hit_nanoseconds, 0.5):.2f} us"),
        ("hit, p99", lambda result: f"{percentile(result.hit_nanoseconds, 0.99):.2f} us"),
        ("hit, p99.9", lambda result: f"{percentile(result.hit_nanoseconds, 0.999):.2f} us"),
        ("memory", lambda result: f"{result.memory_bytes / 2**20:.1f} MiB"),
    ]
    width = max(len(result.name) for result in results)
    lines = ["", " " * 14 + "  ".join(f"{result.name:>{width}}" for result in results)]
    lines += [f"{label:<14}" + "  ".join(f"{cell(result):>{width}}" for result in results) for label, cell in rows]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
