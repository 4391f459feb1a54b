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
import queue
import sys
import threading
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
SECONDS_MAX = (40, 70)
"""What each of the two parts may take, unless --requests is given. The second part is given
what the first one served."""


@dataclass
class Result:
    """What one way of caching reached."""

    name: str
    served: list[int]
    """Requests that each process answered."""
    hits: int
    seconds: float
    hit_nanoseconds: array
    memory_bytes: int

    @property
    def requests(self) -> int:
        return sum(self.served)


def main() -> int:
    parser = argparse.ArgumentParser(description="Four processes serve a request stream from one shared cache.")
    parser.add_argument("trace", nargs="?", type=Path, help="a trace file; without one a stream is generated")
    parser.add_argument("--trace", dest="trace_option", type=Path, metavar="TRACE", help="the same")
    parser.add_argument("--requests", type=int, help=f"so many requests, whatever time they take [{REQUESTS:,}, or fewer in two minutes]")
    parser.add_argument("--workers", type=int, default=WORKERS, help=f"processes [{WORKERS}]")
    parser.add_argument("--memory", default=MEMORY, help=f"memory of the shared cache, and of the private ones together [{MEMORY}]")
    options = parser.parse_args()
    trace = options.trace_option or options.trace
    if options.workers < 1 or (options.requests is not None and options.requests < 1):
        parser.error("--workers and --requests are at least 1")

    requests = options.requests or REQUESTS
    seconds_max = SECONDS_MAX if options.requests is None else (float("inf"), float("inf"))
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
        f"{source}: {len(keys):,} requests for {len(set(keys)):,} pages; {1000 * time_to_render():.2f} ms to render one; "
        f"{options.workers} processes on {os.cpu_count()} cores",
        flush=True,
    )

    shares = [keys[index :: options.workers] for index in range(options.workers)]
    name = f"demo-{os.getpid()}"
    region = pycache.Cache(name, size=options.memory)
    try:
        memory_bytes = region.size
        shared = run("one shared region", shares, name, 0, seconds_max[0])
        # What the region's file really takes.
        shared.memory_bytes = os.stat(region.path).st_blocks * 512
    finally:
        region.destroy()
    shares = [share[:served] for share, served in zip(shares, shared.served)]
    entry_bytes = bytes_of_an_lru_entry(keys)
    entries = max(1, int(memory_bytes / options.workers / entry_bytes))
    private = run(f"{options.workers} private lru_caches", shares, None, entries, seconds_max[1])
    private.memory_bytes = int(private.memory_bytes * entry_bytes)
    print(table([shared, private]))
    print(
        f"\nlru_cache: {entries:,} entries in each of {options.workers} processes, {entry_bytes:,.0f} bytes an entry as tracemalloc"
        " counts it.\nTimes of hits include two looks at the clock; the processes share the cores with one another."
    )
    if shared.requests < len(keys) or private.requests < shared.requests:
        print(f"Time was up before all {len(keys):,} requests were served; --requests N serves N of them.")
    return 0


def time_to_render() -> float:
    """Seconds that a page takes here, the median of some."""
    seconds = []
    for number in range(31):
        began = time.perf_counter()
        page.render(f"warm-up {number}")
        seconds.append(time.perf_counter() - began)
    return sorted(seconds)[len(seconds) // 2]


def run(name: str, shares: list[list[str]], region: str | None, entries: int, seconds_max: float) -> Result:
    """Lets a process answer each share of the stream, and shows how far they are."""
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(len(shares) + 1)
    progress = context.Array("Q", 2 * len(shares), lock=False)
    answers = context.Queue()
    processes = []
    for index, keys in enumerate(shares):
        plan = worker.Plan(keys, region, entries, index, seconds_max)
        process = context.Process(target=worker.work, args=(plan, start, progress, answers), daemon=True)
        process.start()
        processes.append(process)
    try:
        start.wait(timeout=60)
    except threading.BrokenBarrierError:
        raise SystemExit("a worker did not start; its error is above") from None
    began = time.perf_counter()
    found = show(name, progress, sum(map(len, shares)), began, processes, answers)
    seconds = time.perf_counter() - began
    for process in processes:
        process.join()
    found.sort(key=lambda answer: answer.index)
    nanoseconds = array("Q", sorted(itertools.chain.from_iterable(answer.hit_nanoseconds for answer in found)))
    held = sum(answer.lru_entries for answer in found)
    return Result(name, [answer.requests for answer in found], sum(answer.hits for answer in found), seconds, nanoseconds, held)


def show(name: str, progress, total: int, began: float, processes: list, answers: multiprocessing.Queue) -> list:
    """Draws a line that grows, on a terminal, elsewhere a line for each quarter, until all have answered."""
    live = sys.stderr.isatty()
    quarter = 1
    found = []
    while len(found) < len(processes):
        try:
            found.append(answers.get(timeout=0.05))
        except queue.Empty:
            if any(process.exitcode for process in processes):
                raise SystemExit("a worker failed; its error is above") from None
        done, hits = sum(progress[0::2]), sum(progress[1::2])
        rate = done / (time.perf_counter() - began)
        text = f"{name}: {done:>9,} of {total:,} requests, {100 * hits / max(1, done):5.1f} % hits, {rate:>9,.0f} requests/s"
        if live:
            filled = 20 * done // total
            print(f"\r{'#' * filled}{'.' * (20 - filled)} {text}", end="", file=sys.stderr, flush=True)
        elif 4 * done >= quarter * total:
            quarter = 4 * done // total + 1
            print(text, file=sys.stderr, flush=True)
    if live:
        print(file=sys.stderr)
    return found


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
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
