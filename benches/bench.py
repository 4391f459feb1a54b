"""Runs every benchmark and prints one table: `make bench`.

Rows that lose are shown as LOSES and do not fail the run: a benchmark is not a test.
Results, the machine's kind and the seed go to target/bench/results.json. Where
CACHE_SHM_TRACES names a directory of request streams, their hit ratios are rows too.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

TREE = Path(__file__).resolve().parent.parent
RESULTS = TREE / "target" / "bench" / "results.json"
SEED = 20261122


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


def rows_of(command: list[str], *, may_fail: bool = False) -> list[dict]:
    """The rows that a program prints as JSON, one a line."""
    done = subprocess.run(command, cwd=TREE, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0 and not may_fail:
        sys.exit(f"failed with exit {done.returncode}: {' '.join(command)}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def hit_ratio_rows() -> list[dict]:
    """Hit ratios of request streams through a real region, in points below textbook S3-FIFO."""
    command = ["cargo", "bench", "--locked", "--package", "cache-server", "--bench", "hit_ratio", "--", "--json"]
    # It fails when a row loses; here a losing row is shown instead.
    found = rows_of(command, may_fail=True)
    if not found:
        sys.exit("the benchmark of hit ratios printed no row")
    rows = []
    for each in found:
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
            }
        )
    return rows


def number(value: float | None, unit: str) -> str:
    if value is None:
        return "none"
    text = f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.3g}"
    return f"{text} {unit}".strip()


def table(rows: list[dict]) -> str:
    """The rows as text: what was measured, its spread, its target, whether it holds, what is behind it."""
    cells = [("row", "measured", "p10 .. p90", "target", "")]
    for row in rows:
        spread = ""
        if row["low"] != row["high"]:
            spread = f"{number(row['low'], '')} .. {number(row['high'], '')}"
        target = f"{row['relation']} {number(row['target'], row['unit'])}"
        cells.append(
            (row["row"], number(row["measured"], row["unit"]), spread, target, "ok" if row["holds"] else "LOSES")
        )
    widths = [max(len(cell[column]) for cell in cells) for column in range(5)]
    lines = []
    for cell, row in zip(cells, [None, *rows]):
        lines.append("  ".join(text.ljust(width) for text, width in zip(cell, widths)).rstrip())
        if row and row["detail"]:
            lines.append(f"    {row['detail']}")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description="Runs every benchmark and prints one table.")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--smoke", action="store_true", help="show that everything runs, measure nothing")
    options = parser.parse_args()
    found = machine()
    common = ["--seed", str(options.seed), *(["--smoke"] if options.smoke else [])]
    subprocess.run(["cargo", "build", "--locked", "--release", "--package", "cache-benches"], cwd=TREE, check=True)
    target = Path(os.environ.get("CARGO_TARGET_DIR", TREE / "target"))
    rows = rows_of([sys.executable, "benches/python/bench.py", *common])
    rows += rows_of([str(target / "release" / "cache-benches"), *common])
    if os.environ.get("CACHE_SHM_TRACES") and not options.smoke:
        rows += hit_ratio_rows()

    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps({"machine": found, "seed": options.seed, "rows": rows}, indent=1) + "\n")
    print(", ".join(f"{name} {value}" for name, value in found.items()) + f", seed {options.seed}")
    print(table(rows))
    losing = sum(not row["holds"] for row in rows)
    print(f"{len(rows) - losing} of {len(rows)} rows reach their target; written to {RESULTS.relative_to(TREE)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
