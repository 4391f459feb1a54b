"""Measures hit ratios and writes docs/benchmarks/hit-ratio.md, its plot and its values: `make hit-ratio`.

The numbers come from the benchmark `hit_ratio` of cache-server; they are kept in
target/bench/hit-ratio.jsonl, and `--again` writes the page from there without measuring.
The same numbers make the same bytes. Rows that lose are shown like all others.
"""

import argparse
import csv
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import bench
import plots

KEPT = bench.TREE / "target" / "bench" / "hit-ratio.jsonl"
PAGE = bench.TREE / "docs" / "benchmarks" / "hit-ratio.md"
REQUIREMENTS = Path(__file__).resolve().parent / "requirements.txt"
COMMAND = ["cargo", "bench", "--locked", "--package", "cache-server", "--features", "rivals", "--bench", "hit_ratio"]

REGION = "region"
BOUND = "bound"
POLICIES = [REGION, "region, live bytes", "LRU", "S3-FIFO", "SIEVE", "ARC", "moka", "quick_cache", BOUND]
# A difference that the next run may not show, in points.
ALIKE = 0.05


def measure(traces: list[str]) -> list[dict]:
    """The rows of a whole run, after the kind of the machine; named skips go to the standard error."""
    machine = bench.machine()
    command = [*COMMAND, "--", "--full", "--json", *traces]
    done = subprocess.run(command, cwd=bench.TREE, stdout=subprocess.PIPE, text=True, check=False)
    lines = done.stdout.splitlines()
    rows = [json.loads(line) for line in lines if line.startswith("{")]
    skips = [line for line in lines if line.startswith("SKIP: ")]
    for line in skips:
        print(line, file=sys.stderr)
    # It fails when a row loses, which the page shows; any other failure ends before the last row.
    if not rows or rows[-1]["kind"] != "points-mean":
        sys.exit("the benchmark of hit ratios did not come to its end")
    absent = [line.removeprefix("SKIP: hit ratio of ").partition(":")[0] for line in skips if "no such trace" in line]
    return [{"kind": "machine", **machine, "absent": sorted(set(absent))}, *rows]


def table(columns: list[str], lines: list[list[str]]) -> list[str]:
    rule = "|".join("---" if number == 0 else "---:" for number in range(len(columns)))
    return ["| " + " | ".join(columns) + " |", f"|{rule}|", *("| " + " | ".join(line) + " |" for line in lines)]


def of_kind(rows: list[dict], kind: str) -> list[dict]:
    return [row for row in rows if row["kind"] == kind]


def points_of(rows: list[dict], weighed: str) -> list[dict]:
    return [row for row in of_kind(rows, "point") if row["weighed"] == weighed]


def policies_of(points: list[dict]) -> list[str]:
    return [name for name in POLICIES if name in points[0]["hit_percent"]]


def cells(found: dict[str, float], texts: dict[str, str]) -> list[str]:
    """A cell for each policy; the best of those that are no bound are bold."""
    best = max(value for name, value in found.items() if name != BOUND)
    return [f"**{texts[name]}**" if name != BOUND and found[name] >= best - 0.005 else texts[name] for name in texts]


def points_table(points: list[dict]) -> list[str]:
    lines = []
    for point in points:
        found = point["hit_percent"]
        texts = {name: f"{found[name]:.2f}" for name in policies_of(points)}
        lines.append([f"{point['trace']}, {point['percent']} %", f"{point['capacity']:,}", *cells(found, texts)])
    return table(["stream, part of its keys", "C", *policies_of(points)], lines)


def bytes_table(points: list[dict]) -> list[str]:
    lines = []
    for point in points:
        found, volume = point["hit_percent"], point["byte_hit_percent"]
        texts = {
            name: f"{found[name]:.2f}" + (f" ({volume[name]:.2f})" if name in volume else "")
            for name in policies_of(points)
        }
        capacity = f"{point['capacity'] / 1e6:.1f} MB"
        lines.append([f"{point['trace']}, {point['percent']} %", capacity, *cells(found, texts), f"{point['full']:,}"])
    return table(["stream, part of its bytes", "C", *policies_of(points), "sets refused"], lines)


def standing(points: list[dict]) -> list[str]:
    """The region beside each policy over all points."""
    lines = []
    for policy in policies_of(points):
        if policy in (REGION, BOUND):
            continue
        above = {
            f"{point['trace']}, {point['percent']} %": point["hit_percent"][REGION] - point["hit_percent"][policy]
            for point in points
        }
        ahead = sum(value > ALIKE for value in above.values())
        behind = sum(value < -ALIKE for value in above.values())
        worst, best = min(above, key=above.get), max(above, key=above.get)
        mean = sum(above.values()) / len(above)
        extremes = [f"{above[worst]:+.2f} ({worst})", f"{above[best]:+.2f} ({best})"]
        lines.append([policy, f"{mean:+.2f}", str(ahead), str(len(above) - ahead - behind), str(behind), *extremes])
    return table(["beside", "mean, points", "ahead", "alike", "behind", "worst", "best"], lines)


def limits_table(rows: list[dict]) -> list[str]:
    lines = []
    for row in of_kind(rows, "limit"):
        off = row["region_percent"] - row["s3fifo_percent"]
        measured = [f"{row['region_percent']:.2f}", f"{row['s3fifo_percent']:.2f}", f"{off:+.2f}"]
        verdict = "ok" if row["holds"] else "**loses**"
        name = f"{row['trace']}, {row['objects']:,}"
        lines.append([name, *measured, f">= {-row['tolerance']:+.1f}", verdict, f"{row['live_objects_mean']:,.0f}"])
    for row in of_kind(rows, "mean"):
        verdict = "ok" if row["holds"] else "**loses**"
        worst = f"worst {row['worst_above_s3fifo']:+.2f}"
        target = f">= {row['target']:+.1f}"
        lines.append([f"mean of the {row['rows']}", "", "", f"{row['above_s3fifo']:+.3f}", target, verdict, worst])
    return table(["stream, C objects", "region", "S3-FIFO", "above", "has to be", "", "live objects, mean"], lines)


def page(rows: list[dict]) -> str:
    machine = rows[0]
    by_objects, by_bytes = points_of(rows, "objects"), points_of(rows, "bytes")
    traces = list(dict.fromkeys(point["trace"] for point in by_objects))
    absent = f"absent were {', '.join(machine['absent'])}" if machine["absent"] else "none was absent"
    mean = of_kind(rows, "points-mean")[0]
    best = sum(
        point["hit_percent"][REGION] >= max(value for name, value in point["hit_percent"].items() if name != BOUND)
        for point in by_objects
    )
    kind = f"{machine['cores']} cores, {machine['memory_gib']} GiB, Linux {machine['kernel']}, rustc {machine['rustc']}"
    above = f"{mean['above_s3fifo']:+.2f} points in the mean of {mean['points']} points, {mean['worst_above_s3fifo']:+.2f} at worst"
    lines = [
        "# Hit ratio",
        "",
        "Written by `CACHE_SHM_TRACES=DIRECTORY make hit-ratio` (some minutes); the values are in",
        "[hit-ratio.csv](hit-ratio.csv). Losing rows are shown.",
        "",
        f"Of ten request streams {len(traces)} were replayed, {absent}: each request is a get, and a miss stores the",
        "key. The region is a real one, and every value that it hands out is compared with what was stored. LRU,",
        "S3-FIFO (threshold 1, a fixed tenth for small, ghosts for as many objects as the cache holds), SIEVE and ARC are",
        "simulators of the plain policies after their papers. moka (W-TinyLFU) and quick_cache are the real crates; moka does its",
        "pending tasks after every 64 requests, about as often as it would by itself: after each one its ratios are lower, since",
        "what waits is in the cache beyond its capacity, which favours it in the smallest ones. The bound is Belady's: no cache",
        "of that size gets more.",
        "",
        f"Measured on {kind}. Hit ratios do not depend on",
        "the speed of a machine. Those of the region, moka and quick_cache depend a little on how they hash: a region draws",
        "its seed when it is made, which moves single rows by a tenth of a point or two from run to run.",
        "",
        "## By objects",
        "",
        "All values of a point have one size, and the region is sized so that it holds C live objects in the mean, within",
        "0.1 % where its segments allow it; C is 1, 5, 10 or 20 % of the keys of the stream. Below 500 objects a value fills one",
        f"or more segments. The region is above S3-FIFO by {above}, and",
        f"has the highest ratio of all at {best}. Differences up to {ALIKE} count as alike.",
        "",
        *standing(by_objects),
        "",
        "![Hit ratio against cache size, a panel for each stream](hit-ratio.svg)",
        "",
        "Percent of requests that hit; the best of each row is bold.",
        "",
        *points_table(by_objects),
    ]
    if by_bytes:
        refused = sum(point["full"] for point in by_bytes)
        lines += [
            "",
            "## By bytes",
            "",
            "One stream says sizes, from 68 bytes to 4.1 MB. C is 1, 5, 10 or 20 % of the bytes of all objects. The others count",
            "the bytes of values only. *region* is a region whose file has C bytes: headers, index, free space and the ends of",
            "segments count against it. *region, live bytes* is one that holds C bytes of live items in the mean. An item is at most a",
            "quarter of a region. Percent of requests that hit, and in brackets percent of bytes. The bound is that of D. Berger et",
            "al., POMACS 2018 (PFOO-U), which holds for objects of any size and is less close.",
        ]
        if refused:
            lines += [
                "",
                "*Sets refused* are sets for which the region of C bytes found no room. Each is a miss here, and a defect: a region",
                "that evicts always has room for what is not larger than its largest item.",
            ]
        lines += ["", *bytes_table(by_bytes)]
    limits = of_kind(rows, "limit")
    if limits:
        lines += [
            "",
            "## Limits",
            "",
            f"The benchmark fails when a row is farther below S3-FIFO than its limit, or when the mean of all {len(limits)} is not",
            "0.4 points above it with no row more than 0.3 below. In the row with the lowest limit a segment is five objects, in a",
            "loop that is a little longer than the cache.",
            "",
            *limits_table(rows),
        ]
    return "\n".join(lines) + "\n"


def write_values(rows: list[dict], path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["trace", "weighed", "percent", "capacity", "policy", "hit_percent", "byte_hit_percent"])
        for point in of_kind(rows, "point"):
            for policy in policies_of([point]):
                volume = point["byte_hit_percent"].get(policy)
                where = [point["trace"], point["weighed"], point["percent"], point["capacity"], policy]
                ratio = f"{point['hit_percent'][policy]:.4f}"
                writer.writerow([*where, ratio, "" if volume is None else f"{volume:.4f}"])


def install() -> None:
    """Installs what draws into this environment, where it is absent."""
    if importlib.util.find_spec("matplotlib") is None:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        wanted = [line for line in REQUIREMENTS.read_text(encoding="utf-8").splitlines() if "matplotlib" in line]
        subprocess.run([*pip, *wanted], check=True)


def draw(rows: list[dict], path: Path) -> None:
    """A panel for each stream, and one for the stream by bytes; a line for each policy."""
    panels: dict[str, list[dict]] = {}
    for point in of_kind(rows, "point"):
        name = point["trace"] + (", by bytes" if point["weighed"] == "bytes" else "")
        panels.setdefault(name, []).append(point)
    across = 3
    down = -(-(len(panels) + 1) // across)
    figure, grid = plots.new_figure(down, across, (9, 2.5 * down))
    order = [name for name in policies_of(points_of(rows, "objects")) if name != BOUND]
    handles = {}
    for axes, (name, points) in zip(grid.flat, panels.items()):
        sizes = [point["percent"] for point in points]
        bound = [point["hit_percent"][BOUND] for point in points]
        handles["bound"] = axes.plot(sizes, bound, color="black", linestyle=":", linewidth=1.2)[0]
        # The cache last: above the others.
        for number, policy in reversed(list(enumerate(order))):
            ratios = [point["hit_percent"][policy] for point in points]
            width = 2 if policy == REGION else 1.2
            colour = plots.COLOURS[number % len(plots.COLOURS)]
            handles[policy] = axes.plot(sizes, ratios, marker="o", markersize=3, color=colour, linewidth=width)[0]
        axes.set_title(name, fontsize=9)
        axes.set_xscale("log")
        axes.set_xticks(sizes, [f"{size} %" for size in sizes])
        axes.minorticks_off()
    for number, axes in enumerate(grid.flat):
        if number >= len(panels):
            axes.axis("off")
        if number % across == 0:
            axes.set_ylabel("hits, % of requests")
    names = [*order, "bound"]
    grid.flat[len(panels)].legend([handles[name] for name in names], names, loc="center", frameon=False, fontsize=9)
    figure.supxlabel("cache size, % of the keys of the stream (or of their bytes)", fontsize=9)
    plots.save(figure, path)


def main() -> int:
    parser = argparse.ArgumentParser(description="Measures hit ratios and writes their page, plot and values.")
    parser.add_argument("traces", nargs="*", help="streams to measure; all, if none is named")
    parser.add_argument("--again", action="store_true", help="write from what was measured last")
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args()
    if not options.again:
        if not os.environ.get("CACHE_SHM_TRACES"):
            print("SKIP: hit ratio of real request streams: CACHE_SHM_TRACES does not name their directory")
            return 0
        rows = measure(options.traces)
        KEPT.parent.mkdir(parents=True, exist_ok=True)
        KEPT.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    elif not KEPT.exists():
        parser.error(f"{KEPT} is not there; `make hit-ratio` writes it")
    rows = [json.loads(line) for line in KEPT.read_text(encoding="utf-8").splitlines()]
    install()
    options.page.parent.mkdir(parents=True, exist_ok=True)
    draw(rows, options.page.with_suffix(".svg"))
    write_values(rows, options.page.with_suffix(".csv"))
    options.page.write_text(page(rows), encoding="utf-8")
    print(f"wrote {options.page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
