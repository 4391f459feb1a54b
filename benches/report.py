"""Writes docs/benchmarks.md and its plots from what was measured last: `make report`.

The same results make the same bytes. Rows that lose are shown like all others.
"""

import argparse
import json
from collections.abc import Callable, Iterable
from pathlib import Path

import bench
import plots

PAGE = bench.TREE / "docs" / "benchmarks.md"

# Title, what the reader has to know, and the plots of each group, in the order of the page.
SECTIONS = {
    "get": (
        "Reads in one process",
        "16 B keys, 100 B values copied out, uniform keys, one thread. Every rival has its default hash, as in its "
        "manual (that of DashMap, papaya, scc and moka resists flooding with chosen keys, and costs more); *with "
        "rapidhash* it has the one that the cache uses. *Preallocated* regions are in huge pages, the others and the "
        "rivals' heaps in small ones. Maps hold counted or boxed values in this process; LMDB opens a read "
        "transaction for each get, because a cache's get has to see the last set.",
    ),
    "set": (
        "Sets in one process",
        "New keys into a full region or cache (*steady eviction*), or other values for keys that are there "
        "(*overwriting*). Rivals have their default hashes.",
    ),
    "workloads": (
        "Whole workloads",
        "One thread; a get that misses is followed by a set. Times of the cache divided by those of the rival. "
        "The size mixes and the scan-polluted stream have room for half of what they want, the others for all. Rivals "
        "have their default hashes.",
    ),
    "tail": (
        "The slowest sets",
        "From an empty region over a million keys into steady eviction. *Computing alone* is a loop of about a "
        "set's length, timed between the sets: what the machine itself takes from any program.",
    ),
    "growth": (
        "Growth to ten million items",
        "",
    ),
    "fixed-rate": (
        "Latency at a fixed rate",
        "One process reads and one writes, in a preallocated region in huge pages, in the shape of Chronicle Map's "
        "published test. Each operation is timed from the moment at which it was due, so a stall counts for all that "
        "it delayed. *Doing nothing* is the same timetable without operations.",
    ),
    "scaling": (
        "Two against one",
        "",
    ),
    "matrix": (
        "How cost grows",
        "Millions of operations a second of all processes together. A star marks cells in which sets were refused as "
        "full; what is *missed* are reads of keys that are not there.",
    ),
    "python": (
        "Python",
        "One process, 20,000 str keys, 100 B values, each its own object. All are filled in the order of the keys; "
        "*in order* they are read in it, in which a processor sees coming what it needs next, *shuffled* in another. "
        "Rivals of which another process does a part are timed by the wall clock, and so is the cache beside them.",
    ),
    "python-system": (
        "Python: the system's interpreter",
        "The same loops under `/usr/bin/python3`, which its distribution compiled with other options, so that "
        "`lru_cache` itself takes another time. No targets.",
    ),
    "batches": (
        "Batches",
        "A million str keys, 100 B values, keys drawn at random, so that the processor holds few of the items.",
    ),
    "views": (
        "Views",
        "A view is laid over the value where it lies and given back at once; `get` copies. The region has been full.",
    ),
    "once": (
        "Values made once",
        "Eight processes call `get_or_set` for the same missing key at one moment. In the second part the process "
        "that makes the value is killed while another waits for it.",
    ),
    "server": (
        "The server",
        "`redis-benchmark` on `cache-shm serve` and on Redis in turns, over Unix sockets, fifty connections, 100,000 "
        "keys. One request at a time the client is the limit. In the same way a small load of our own on memcached's "
        "protocol, and on memcached with its four threads.",
    ),
    "php-apcu": (
        "PHP: APCu",
        "Another interpreter with its own cache, in turns with this cache in Python.",
    ),
    "php-yac": (
        "PHP: Yac",
        "As for APCu.",
    ),
    "blackboard": (
        "iceoryx2's blackboard",
        "Its keys and types are fixed when it is created, one process writes, and nothing is evicted: a read is "
        "all that compares.",
    ),
    "memory": (
        "Memory",
        "Distinct 16 B keys until the subject has long evicted. *Overhead* is the limit less keys and values, for "
        "each item held. *Resident* is what the kernel counts: the region's file, the server's process.",
    ),
    "startup": (
        "Start-up",
        "Each sample is a process of its own.",
    ),
    "lock": (
        "The stripe lock",
        "",
    ),
    "overwrite": (
        "Overwriting what fits",
        "Nothing may be evicted or refused while live data stays below 85 % of the region.",
    ),
    "capacity": (
        "Capacity",
        "",
    ),
    "instructions": (
        "Counted instructions",
        "By callgrind; the tests fail when one grows by more than 5 % over the number kept in "
        "`benches/instructions.json`.",
    ),
    "hit-ratio": (
        "Hit ratio",
        "Request streams through a real region, in points below textbook S3-FIFO of as many objects.",
    ),
}


def markdown(columns: list[str], lines: Iterable[list[str]]) -> str:
    """A table; its cells may not contain bars."""
    rule = "|".join("---" if number == 0 else "---:" for number in range(len(columns)))
    rows = ["| " + " | ".join(columns) + " |", f"|{rule}|"]
    rows += ["| " + " | ".join(cell.replace("|", "/") for cell in line) + " |" for line in lines]
    return "\n".join(rows)


def verdicts(rows: list[dict]) -> str:
    """The rows that have a target, and those that have no place in a table of their own."""
    columns = ["", "measured", "p10 .. p90", "target", ""]
    lines = []
    for row in rows:
        verdict = {"ok": "ok", "LOSES": "**loses**", "": ""}[bench.verdict(row)]
        measured = bench.number(row["measured"], row["unit"])
        lines.append([row["row"], measured, bench.spread_text(row), bench.target_text(row), verdict])
    return markdown(columns, lines)


def pivot(rows: list[dict], down: Callable, across: Callable, cell: Callable, corner: str = "") -> str:
    """A table with a line for each `down` and a column for each `across`, in order of appearance."""
    found: dict[str, dict[str, str]] = {}
    columns: list[str] = []
    for row in rows:
        line, column = str(down(row)), str(across(row))
        found.setdefault(line, {})[column] = cell(row)
        if column not in columns:
            columns.append(column)
    lines = ([name, *(cells.get(column, "") for column in columns)] for name, cells in found.items())
    return markdown([corner, *columns], lines)


def label(name: str) -> Callable:
    return lambda row: row["labels"][name]


def call(row: dict) -> str:
    return f"{row['labels']['subject']} {row['labels']['operation']}"


def measured(row: dict) -> str:
    missed = row["labels"].get("missed_percent", 0)
    note = f" ({missed:.0f} % missed)" if missed >= 0.5 else ""
    return bench.number(row["measured"], "") + note + (" *" if "refused" in row["labels"] else "")


def percentile(row: dict) -> str:
    percent = row["labels"]["percent"]
    return "max" if percent == 100 else f"p{percent:g}"


def matrix_tables(rows: list[dict]) -> Iterable[str]:
    corners = {
        "processes": (lambda row: f"{row['labels']['popularity']}, {row['labels']['mix']}", "processes"),
        "keys": (label("mix"), "keys"),
        "value sizes": (label("mix"), "value_bytes"),
        "fill": (label("mix"), "fill"),
    }
    for table, (down, across) in corners.items():
        chosen = [row for row in rows if row["labels"].get("table") == table]
        if chosen:
            yield pivot(chosen, down, label(across), measured, f"million/s by {across.replace('_', ' ')}")


def tables(group: str, rows: list[dict]) -> Iterable[str]:
    """What a section shows of its rows: verdicts first, then tables of the rest."""
    placed: list[dict] = []
    extra: list[str] = []

    def place(names: set[str], make: Callable[[list[dict]], str]) -> None:
        chosen = [row for row in rows if not row["relation"] and names <= row["labels"].keys()]
        if chosen:
            extra.append(make(chosen))
            placed.extend(chosen)

    if group == "get":
        place({"subject", "keys"}, lambda found: pivot(found, label("subject"), label("keys"), measured, "ns by keys"))
    elif group == "workloads":
        place({"workload"}, lambda found: pivot(found, label("workload"), label("subject"), measured, "cache / rival"))
    elif group in ("tail", "fixed-rate"):
        place({"series"}, lambda found: pivot(found, label("series"), percentile, measured, "us"))
        if group == "fixed-rate":
            every = [row for row in rows if "series" in row["labels"]]
            extra[:] = [pivot(every, label("series"), percentile, measured, "us")]
    elif group in ("python", "python-system"):
        place({"subject", "operation"}, lambda found: pivot(found, call, label("order"), measured, "ns"))
    elif group == "memory":
        place({"limit_mib", "subject"}, memory_table)
    elif group == "matrix":
        extra.extend(matrix_tables(rows))
        placed.extend(row for row in rows if "table" in row["labels"])
    rest = [row for row in rows if row not in placed]
    if rest:
        yield verdicts(rest)
    yield from extra


def memory_table(rows: list[dict]) -> str:
    columns = ["values, limit, subject", "live items", "payload MiB", "overhead B", "resident MiB"]
    lines = []
    for row in rows:
        found = row["labels"]
        name = f"{found['values']}, {found['limit_mib']} MiB, {found['subject']}"
        numbers = [found["payload_mib"], found["overhead_bytes"], found["resident_mib"]]
        lines.append([name, measured(row), *(f"{number:.1f}" for number in numbers)])
    return markdown(columns, lines)


def machine_line(machine: dict) -> str:
    return (
        f"{machine['cores']} cores, {machine['memory_gib']} GiB, {machine['processor']}, Linux {machine['kernel']}, "
        f"CPython {machine['python']}, rustc {machine['rustc']}"
    )


def page(results: dict, drawn: dict[str, list[str]], directory: str) -> str:
    groups = results["groups"]
    held = [row for group in groups.values() for row in group["rows"] if row["relation"]]
    losing = sum(not row["holds"] for row in held)
    machines = sorted({machine_line(group["machine"]) for group in groups.values()})
    lines = [
        "# Benchmarks",
        "",
        "Written by `make report` from what `make bench` measured (`make bench-full` for every size). Numbers are",
        "medians; what is compared took turns in one run, slice by slice, and a ratio is the median of the ratios of",
        "neighbouring slices, beside its tenth and ninetieth percentile. Times of two runs or two machines are not",
        "comparable, and a machine that is not idle (a load of more than a few tenths before a group) makes them",
        "longer.",
        "Losing rows are shown. A ratio `a / b` of times below 1 means that a is faster.",
        "",
        f"Measured on: {'; '.join(machines)}. {len(held) - losing} of {len(held)} rows with a target reach it.",
    ]
    for name in [*SECTIONS, *(name for name in groups if name not in SECTIONS)]:
        if name not in groups:
            continue
        group = groups[name]
        title, text = SECTIONS.get(name, (name, ""))
        lines += ["", f"## {title}", ""]
        lines += [text, ""] if text else []
        seconds, load = group["seconds"], group["machine"]["load_before"]
        command = f"`.ci/with-tools python benches/bench.py {name}`"
        lines += [f"{command}, {seconds} s, seed {group['seed']}, load before it {load}."]
        if group["absent"]:
            lines += [
                "",
                "Not on this machine: " + ", ".join(f"{who} ({why})" for who, why in group["absent"].items()) + ".",
            ]
        for plot in drawn.get(name, []):
            lines += ["", f"![{title}]({directory}/{plot})"]
        for table in tables(name, group["rows"]):
            lines += ["", table]
    return "\n".join(lines) + "\n"


def write(results: dict, target: Path) -> None:
    """The page, and its plots in the directory of the same name beside it."""
    directory = target.with_suffix("")
    directory.mkdir(parents=True, exist_ok=True)
    drawn = plots.draw(results["groups"], directory)
    target.write_text(page(results, drawn, directory.name), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Writes the page of benchmarks from the last results.")
    parser.add_argument("--results", type=Path, default=bench.RESULTS / "results.json")
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args()
    bench.install_rivals()
    if not options.results.exists():
        parser.error(f"{options.results} is not there; `make bench` writes it")
    write(json.loads(options.results.read_text(encoding="utf-8")), options.page)
    print(f"wrote {options.page}")


if __name__ == "__main__":
    main()
