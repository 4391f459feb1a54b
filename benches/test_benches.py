"""That every benchmark runs, that the report can be made of what they print, and that an
operation takes no more instructions than it did."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE / "python")]
import bench  # noqa: E402
import hit_ratio  # noqa: E402
import instructions  # noqa: E402
import report  # noqa: E402


@pytest.fixture(scope="session")
def smoke() -> dict:
    """What a run of everything at small sizes writes."""
    shutil.rmtree(bench.RESULTS / "smoke", ignore_errors=True)
    done = subprocess.run([sys.executable, HERE / "bench.py", "--smoke"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads((bench.RESULTS / "smoke" / "results.json").read_text(encoding="utf-8"))


def test_every_group_prints_rows_or_says_what_is_absent(smoke):
    assert list(smoke["groups"]) == [group.name for group in bench.GROUPS if not group.full_only]
    for name, group in smoke["groups"].items():
        assert group["rows"] or group["absent"], name


def test_the_rust_program_has_no_group_that_is_not_run(smoke):
    listed = subprocess.run([instructions.program(), "--list"], capture_output=True, text=True, check=True)
    assert set(listed.stdout.split()) == {group.name for group in bench.GROUPS if not group.program}


def test_every_rival_is_measured(smoke):
    absent = {name for group in smoke["groups"].values() for name in group["absent"]}
    # Debian's packages of APCu and Yac exclude each other.
    if missing := absent - {"Yac"}:
        pytest.skip(f"optional rivals that are not installed: {', '.join(sorted(missing))}")


# What Python's calls are to reach: rows by how they begin, with the number each is held against.
PYTHON_TARGETS = {
    "Python get 100 B, 20k str keys / lru_cache hit": 1.15,
    "Python `in` / lru_cache hit": 1.0,
    "Python local-object hit / lru_cache hit": 1.0,
    "Python set 100 B / the larger of 200 ns and 3 lru_cache hits": 1.0,
    "Python get_many of 100 / 100 gets": 0.6,
    "LMDB get / Python get": 12,
    "DiskCache get / Python get": 80,
    "redis-py get / Python get": 500,
    "pymemcache get / Python get": 400,
    "view of 16 MiB": 2.0,
    "view of 16 MiB / view of 64 KiB": 2.0,
    "get_or_set, 8 processes miss a key: runs of the function": 1,
    "take-over after kill -9 of the process that makes a value: worst": 50.0,
}


@pytest.mark.parametrize("start", PYTHON_TARGETS)
def test_what_python_is_to_reach_has_a_row_with_its_target(smoke, start):
    absent = {name for group in smoke["groups"].values() for name in group["absent"]}
    if start.split(" ")[0] in absent:
        pytest.skip(f"optional rival that is not installed: {start.split(' ')[0]}")
    rows = [row for group in smoke["groups"].values() for row in group["rows"]]
    targets = {row["target"] for row in rows if row["row"].startswith(start) and row["relation"]}
    assert PYTHON_TARGETS[start] in targets


def test_the_table_of_values_has_a_line_for_each_row(smoke):
    with (bench.RESULTS / "smoke" / "results.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    rows = [row["row"] for group in smoke["groups"].values() for row in group["rows"]]
    assert [line["row"] for line in lines] == rows


def test_the_same_results_make_the_same_report(smoke, tmp_path):
    pages = [tmp_path / name / "benchmarks.md" for name in ("one", "two")]
    for page in pages:
        page.parent.mkdir()
        report.write(smoke, page)
    files = [sorted(path.relative_to(page.parent) for path in page.parent.rglob("*.*")) for page in pages]
    assert files[0] == files[1] and len(files[0]) > 5
    for name in files[0]:
        assert (pages[0].parent / name).read_bytes() == (pages[1].parent / name).read_bytes()


def test_a_row_that_loses_is_shown_as_losing():
    row = {"row": "x", "measured": 2.0, "low": 1.0, "high": 3.0, "unit": "", "detail": "", "labels": {}}
    assert "**loses**" in report.verdicts([{**row, "relation": "<=", "target": 1.0, "holds": False}])
    assert "loses" not in report.verdicts([{**row, "relation": "", "target": None, "holds": True}])


def test_both_ways_for_tasks_to_wait_are_measured():
    command = [sys.executable, HERE / "python" / "waiting.py", "--tasks", "3", "--rounds", "2", "--seconds", "0.05"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == ["a thread that sleeps", "growing pauses"]


def hit_ratio_rows() -> list[dict]:
    """What the benchmark of hit ratios prints, as few of each kind as there may be."""
    by_objects = {"region": 40.0, "LRU": 41.0, "S3-FIFO": 39.0, "bound": 60.0}
    point = {"kind": "point", "trace": "x", "capacity": 100, "requests": 9, "full": 0, "byte_hit_percent": {}}
    by_bytes = {**point, "weighed": "bytes", "percent": 1, "full": 7, "byte_hit_percent": {"region": 12.5}}
    limit = {"kind": "limit", "trace": "x", "objects": 100, "region_percent": 40.0, "s3fifo_percent": 39.0}
    mean = {"kind": "mean", "rows": 1, "above_s3fifo": 1.0, "target": 0.4, "worst_above_s3fifo": 1.0, "holds": False}
    return [
        {"kind": "machine", **bench.machine(), "load_before": 0, "absent": ["y"]},
        {**limit, "tolerance": 0.3, "holds": True, "live_objects_mean": 100.0},
        mean,
        *({**point, "weighed": "objects", "percent": percent, "hit_percent": by_objects} for percent in (1, 20)),
        {**by_bytes, "hit_percent": {**by_objects, "region, live bytes": 40.5}},
        {"kind": "points-mean", "points": 2, "above_s3fifo": 1.0, "worst_above_s3fifo": 1.0},
    ]


def test_the_page_of_hit_ratios_shows_what_loses_what_is_absent_and_what_was_refused(tmp_path):
    rows = hit_ratio_rows()
    page = hit_ratio.page(rows)
    assert "absent were y" in page
    assert "| mean of the 1 |  |  | +1.000 | >= +0.4 | **loses** |" in page
    assert "| x, 20 % | 100 | 40.00 | **41.00** | 39.00 | 60.00 |" in page
    assert page.count("| 7 |") == 1 and "Sets refused" in page
    hit_ratio.write_values(rows, tmp_path / "values.csv")
    with (tmp_path / "values.csv").open(encoding="utf-8", newline="") as file:
        found = {
            (line["weighed"], line["percent"], line["policy"]): line["hit_percent"] for line in csv.DictReader(file)
        }
    assert len(found) == 4 + 4 + 5 and found["objects", "20", "LRU"] == "41.0000"


def test_the_same_hit_ratios_make_the_same_plot(tmp_path):
    pytest.importorskip("matplotlib")
    plots = [tmp_path / "one.svg", tmp_path / "two.svg"]
    for plot in plots:
        hit_ratio.draw(hit_ratio_rows(), plot)
    assert plots[0].read_bytes() == plots[1].read_bytes()


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="counting needs valgrind, which is not installed")
@pytest.mark.parametrize("kind", instructions.KINDS)
def test_an_operation_takes_no_more_instructions_than_it_did(smoke, kind):
    kept = json.loads(instructions.KEPT.read_text(encoding="utf-8"))
    assert not instructions.complaint(kind, kept[kind], instructions.counted(kind))


def test_growth_of_more_than_five_percent_is_complained_about():
    assert instructions.complaint("get", 100.0, 104.9) is None
    assert "5.1% more" in instructions.complaint("get", 100.0, 105.1)
