"""Measures, and prints one table: `make bench`.

The quick groups take about 25 minutes, `--full` twice that; `bench.py GROUP...` measures
some groups only, and `--list` says how long each takes. Results replace those of the same
groups in target/bench/results.json (and .csv), with the machine's kind and the seed;
`benches/report.py` makes docs/benchmarks.md from them.

Rows that lose are shown as LOSES and do not fail the run: a benchmark is not a test.
Rivals that are not on this machine are named.
"""

import argparse
import csv
import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

TREE = Path(__file__).resolve().parent.parent
RESULTS = TREE / "target" / "bench"
REQUIREMENTS = TREE / "benches" / "python" / "requirements.txt"
SEED = 20261122


@dataclass
class Group:
    """Rows that are measured together."""

    name: str
    minutes: float
    # A program under benches/python; else the Rust program measures it.
    program: str = ""
    arguments: tuple[str, ...] = ()
    # Only measured when asked for.
    full_only: bool = False
    # Its memory grows with --full.
    takes_quick: bool = False


GROUPS = [
    Group("python", 3, "bench.py"),
    Group("python-system", 0.3, "system.py"),
    Group("batches", 0.3, "batches.py"),
    Group("views", 0.2, "views.py"),
    Group("once", 0.3, "once.py"),
    Group("server", 3, "served.py"),
    Group("startup", 0.2, "startup.py"),
    Group("memory", 2, "memory.py", takes_quick=True),
    Group("php-apcu", 0.2, "php.py", ("apcu",)),
    Group("php-yac", 0.2, "php.py", ("yac",)),
    Group("blackboard", 5, "blackboard.py", full_only=True),
    Group("instructions", 0.5, "instructions.py"),
    Group("get", 4),
    Group("lock", 0.1),
    Group("set", 2),
    Group("tail", 0.2),
    Group("fixed-rate", 1),
    Group("workloads", 5),
    Group("scaling", 1),
    Group("matrix", 3),
    Group("overwrite", 1),
    Group("capacity", 0.2),
    Group("growth", 0.3),
]


def machine() -> dict:
    """The machine by its kind, and how busy it was before the run."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    model = ""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    rustc = subprocess.run(["rustc", "--version"], cwd=TREE, capture_output=True, text=True, check=False)
    return {
        "cores": os.cpu_count(),
        "memory_gib": round(memory / 2**30),
        "processor": model or platform.machine(),
        "kernel": ".".join(platform.release().split(".")[:2]),
        "python": platform.python_version(),
        "rustc": " ".join(rustc.stdout.split()[1:2]),
        "load_before": round(os.getloadavg()[0], 1),
    }


def install_rivals() -> None:
    """Installs the Python rivals into this environment; one that does not install is named and left out."""
    if sys.prefix == sys.base_prefix:
        print("not in an environment of the tree: Python rivals are taken as they are", file=sys.stderr)
        return
    marker = Path(sys.prefix) / "rivals-made-from"
    wanted = REQUIREMENTS.read_text(encoding="utf-8")
    if marker.exists() and marker.read_text(encoding="utf-8") == wanted:
        return
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--prefer-binary"]
    lines = [line for line in wanted.splitlines() if line and not line.startswith("#")]
    failed = [line for line in lines if subprocess.run([*pip, line], check=False).returncode != 0]
    for line in failed:
        print(f"does not install: {line}", file=sys.stderr)
    if not failed:
        marker.write_text(wanted, encoding="utf-8")


def rows_of(command: list[str], *, may_fail: bool = False) -> list[dict]:
    """The rows that a program prints as JSON, one a line."""
    done = subprocess.run(command, cwd=TREE, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0 and not may_fail:
        sys.exit(f"failed with exit {done.returncode}: {' '.join(command)}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def mean_hit_ratio_row(found: dict) -> dict:
    """The mean of all hit ratios with a limit, in points above textbook S3-FIFO."""
    above = found["above_s3fifo"]
    return {
        "row": f"hit ratio, mean of the {found['rows']}: above S3-FIFO",
        "measured": round(above, 3),
        "low": above,
        "high": above,
        "relation": ">=",
        "target": found["target"],
        "unit": "points",
        "holds": found["holds"],
        "detail": f"worst {found['worst_above_s3fifo']:+.2f} points, which may be {found['worst_target']:+.1f}",
        "labels": {},
    }


def hit_ratio_rows() -> list[dict]:
    """Hit ratios of request streams through a real region, in points below textbook S3-FIFO."""
    command = ["cargo", "bench", "--locked", "--package", "cache-server", "--bench", "hit_ratio", "--", "--json"]
    # It fails when a row loses; here a losing row is shown instead.
    found = rows_of(command, may_fail=True)
    if not found:
        sys.exit("the benchmark of hit ratios printed no row")
    rows = []
    for each in found:
        if each["kind"] == "mean":
            rows.append(mean_hit_ratio_row(each))
            continue
        below = each["s3fifo_percent"] - each["region_percent"]
        rows.append(
            {
                "row": f"hit ratio of {each['trace']} at {each['objects']:,} objects: below S3-FIFO",
                "measured": round(below, 2),
                "low": below,
                "high": below,
                "relation": "<=",
                "target": each["tolerance"],
                "unit": "points",
                "holds": each["holds"],
                "detail": f"{each['region_percent']:.2f} %, S3-FIFO {each['s3fifo_percent']:.2f} %, "
                f"LRU {each['lru_percent']:.2f} %, mean live objects {each['live_objects_mean']:,.0f}",
                "labels": {},
            }
        )
    return rows


def number(value: float | None, unit: str) -> str:
    if value is None:
        return "none"
    text = f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.3g}"
    return f"{text} {unit}".strip()


def target_text(row: dict) -> str:
    return f"{row['relation']} {number(row['target'], row['unit'])}" if row["relation"] else ""


def verdict(row: dict) -> str:
    return ("ok" if row["holds"] else "LOSES") if row["relation"] else ""


def spread_text(row: dict) -> str:
    return f"{number(row['low'], '')} .. {number(row['high'], '')}" if row["low"] != row["high"] else ""


def table(rows: list[dict]) -> str:
    """The rows as text: what was measured, its spread, its target, whether it holds, what is behind it."""
    cells = [("row", "measured", "p10 .. p90", "target", "")]
    for row in rows:
        cells.append(
            (row["row"], number(row["measured"], row["unit"]), spread_text(row), target_text(row), verdict(row))
        )
    widths = [max(len(cell[column]) for cell in cells) for column in range(5)]
    lines = []
    for cell, row in zip(cells, [None, *rows]):
        lines.append("  ".join(text.ljust(width) for text, width in zip(cell, widths)).rstrip())
        if row and row["detail"]:
            lines.append(f"    {row['detail']}")
    return "\n".join(lines)


def write_results(results: dict, directory: Path) -> None:
    """The results of all groups as JSON, and their rows as CSV."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    columns = ["group", "row", "measured", "low", "high", "unit", "relation", "target", "holds", "detail", "labels"]
    with (directory / "results.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        for name, group in results["groups"].items():
            for row in group["rows"]:
                labels = " ".join(f"{key}={value}" for key, value in row["labels"].items())
                writer.writerow({**{key: row[key] for key in columns[1:-1]}, "group": name, "labels": labels})


def main() -> int:
    parser = argparse.ArgumentParser(description="Runs the benchmarks and prints one table.")
    parser.add_argument("groups", nargs="*", metavar="GROUP", help="measure these groups only")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--full", action="store_true", help="every group at every size")
    parser.add_argument("--smoke", action="store_true", help="show that everything runs, measure nothing")
    parser.add_argument("--list", action="store_true", help="the groups and about how many minutes each takes")
    options = parser.parse_args()
    if options.list:
        for group in GROUPS:
            print(f"{group.name:<13} {group.minutes:>4}" + ("  with --full only" if group.full_only else ""))
        return 0
    if unknown := set(options.groups) - {group.name for group in GROUPS} - {"hit-ratio"}:
        parser.error(f"no group {', '.join(sorted(unknown))}; --list names them")

    directory = RESULTS / "smoke" if options.smoke else RESULTS
    kept = directory / "results.json"
    earlier = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    results = {"groups": earlier.get("groups", {})}
    install_rivals()
    build = ["cargo", "build", "--locked", "--release", "--package", "cache-benches", "--features", "rivals"]
    subprocess.run(build, cwd=TREE, check=True)
    program = Path(os.environ.get("CARGO_TARGET_DIR", TREE / "target")) / "release" / "cache-benches"
    common = ["--seed", str(options.seed), *(["--smoke"] if options.smoke else [])]
    measured, shown = [], []

    def keep(name: str, found: dict, rows: list[dict], seconds: float) -> None:
        absent = {row["absent"]: row["why"] for row in rows if "absent" in row}
        rows = [row for row in rows if "row" in row]
        results["groups"][name] = {
            "machine": found, "seed": options.seed, "seconds": round(seconds), "absent": absent, "rows": rows,
        }  # fmt: skip
        write_results(results, directory)
        measured.append(name)
        shown.extend(rows)
        for rival, why in absent.items():
            print(f"absent from {name}: {rival} ({why})", file=sys.stderr)

    for group in GROUPS:
        if options.groups and group.name not in options.groups:
            continue
        if group.full_only and not (options.full or options.groups):
            continue
        found, started = machine(), time.monotonic()
        if group.program:
            command = [sys.executable, f"benches/python/{group.program}", *group.arguments, *common]
            command += ["--quick"] if group.takes_quick and not options.full else []
            print(f"measuring {group.name}", file=sys.stderr)
        else:
            command = [str(program), *common, group.name]
        keep(group.name, found, rows_of(command), time.monotonic() - started)
    wants_hit_ratio = "hit-ratio" in options.groups or not options.groups
    if os.environ.get("CACHE_SHM_TRACES") and wants_hit_ratio and not options.smoke:
        found, started = machine(), time.monotonic()
        keep("hit-ratio", found, hit_ratio_rows(), time.monotonic() - started)

    print(", ".join(f"{name} {value}" for name, value in machine().items()) + f", seed {options.seed}")
    print(table(shown))
    held = [row for row in shown if row["relation"]]
    losing = sum(not row["holds"] for row in held)
    where = directory.relative_to(TREE)
    print(f"{len(held) - losing} of {len(held)} rows reach their target; written to {where}/results.json and .csv")
    return 0


if __name__ == "__main__":
    sys.exit(main())
