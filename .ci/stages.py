"""The test runner of the whole tree: `make test` and `make check`.

Runs the stages below one after the other, times each, counts the tests that each
ran, and ends with one table, every skip by name and one line `N passed, N failed`.
A stage that was to run tests and ran none has failed. With REQUIRE_ALL=1 a skip is a
failure. The full output of each stage is kept in target/stages/.
"""

import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

TREE = Path(__file__).resolve().parent.parent
LOGS = TREE / "target" / "stages"

# A passing test says what it left out by printing a line that begins like this.
SKIP = "SKIP: "

# A test that is ignored for this reason is not left out: other tests run it, in processes of their own.
ENTRY = "started by the tests"


@dataclass
class Stage:
    """One command of the run."""

    name: str
    command: list[str]
    counts_tests: bool = False
    environment: dict[str, str] = field(default_factory=dict)


@dataclass
class Outcome:
    """What a stage's output said."""

    passed: int = 0
    failed: int = 0
    skips: list[str] = field(default_factory=list)

    def read(self, line: str) -> None:
        """Takes the next line of a stage's output into account."""
        if found := re.match(r"test result: \w+\. (\d+) passed; (\d+) failed", line):
            self.passed += int(found[1])
            self.failed += int(found[2])
        elif found := re.match(r"test (\S+) .*\.\.\. ignored(?:, (.*))?$", line):
            reason = found[2] or "ignored"
            if ENTRY not in reason:
                self.skips.append(f"{found[1]}: {reason}")
        elif re.match(r"(=+ )?(\d+ \w+, )*\d+ \w+ in \d[\d.]*s", line):
            counts = {word: int(count) for count, word in re.findall(r"(\d+) (\w+)", line)}
            self.passed += counts.get("passed", 0)
            self.failed += counts.get("failed", 0) + counts.get("error", 0) + counts.get("errors", 0)
        elif found := re.match(r"SKIPPED \[\d+\] (.*)", line):
            self.skips.append(found[1])
        elif line.startswith(SKIP):
            self.skips.append(line.removeprefix(SKIP).strip())


def run(stage: Stage) -> tuple[int, Outcome]:
    """Runs a stage, shows and keeps its output; what passing tests print is only kept."""
    outcome = Outcome()
    environment = {**os.environ, **stage.environment}
    with (LOGS / f"{stage.name}.log").open("w", encoding="utf-8") as log:
        child = subprocess.Popen(
            stage.command,
            cwd=TREE,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        )
        of_passing_tests = False
        for line in child.stdout:
            log.write(line)
            line = line.rstrip("\n")
            outcome.read(line)
            if line == "successes:":
                of_passing_tests = True
            elif line.startswith("test result:") or line == "failures:":
                of_passing_tests = False
            if not of_passing_tests:
                print(line, flush=True)
        return child.wait(), outcome


def cargo_test(*arguments: str) -> list[str]:
    """A `cargo test` that shows what passing tests print, so that skips are seen."""
    return ["cargo", "test", "--locked", "--no-fail-fast", *arguments, "--", "--show-output"]


def pytest(*arguments: str) -> list[str]:
    """A `pytest` that names each skip."""
    return ["python", "-m", "pytest", "-q", "-rs", *arguments]


# The benchmarks' rivals are optional, but what measures them must not rot.
RIVALS = ["--features", "cache-benches/rivals,cache-server/rivals"]


def stages(quick: bool) -> list[Stage]:
    """What is run, in the order of what fails soonest."""
    wheel = [sys.executable, ".ci/wheel.py"]
    every = [
        Stage("format", ["cargo", "fmt", "--all", "--check"]),
        Stage("tree", pytest(".ci/test_tree.py"), counts_tests=True),
        Stage("clippy", ["cargo", "clippy", "--locked", "--workspace", "--all-targets", *RIVALS, "--", "-D", "warnings"]),
    ]
    if quick:
        every += [
            Stage("rust", cargo_test("--workspace", "--lib", "--bins", *RIVALS), counts_tests=True),
            Stage("wheel", wheel),
            Stage("python", pytest("pycache/tests", "-x", "-m", "not slow"), counts_tests=True),
        ]
        return every
    every += [
        Stage("rust", cargo_test("--workspace", *RIVALS), counts_tests=True),
        Stage(
            "models",
            cargo_test("--release", "--package", "loom-tests", "--target-dir", "target/loom"),
            counts_tests=True,
            environment={"RUSTFLAGS": "--cfg loom"},
        ),
        Stage(
            "sweep",
            cargo_test("--release", "--package", "cache-shm", "--test", "sweep"),
            counts_tests=True,
        ),
        Stage(
            "chaos",
            cargo_test("--release", "--package", "cache-shm", "--test", "chaos"),
            counts_tests=True,
        ),
        Stage(
            "rustdoc",
            # Without the Python module and the C interface: their documentation is the stub and the header.
            ["cargo", "doc", "--locked", "--workspace", "--exclude", "pycache", "--exclude", "cache-shm-capi"]
            + ["--lib", "--no-deps", "--document-private-items"],
            environment={"RUSTDOCFLAGS": "-D warnings -A rustdoc::private_intra_doc_links"},
        ),
        Stage("wheel", wheel),
        Stage("python", pytest("pycache/tests"), counts_tests=True),
        Stage("server", pytest("cache-server/tests/clients"), counts_tests=True),
        Stage("benches", pytest("benches/test_benches.py"), counts_tests=True),
        Stage("docs", pytest(".ci/test_docs.py", ".ci/test_guide.py", ".ci/test_site.py"), counts_tests=True),
        Stage("wheels", [sys.executable, ".ci/wheels.py"], counts_tests=True),
    ]
    return every


def main() -> int:
    quick = sys.argv[1:] == ["quick"]
    if sys.argv[1:] not in ([], ["quick"]):
        print("usage: stages.py [quick]", file=sys.stderr)
        return 2
    require_all = os.environ.get("REQUIRE_ALL") == "1"
    LOGS.mkdir(parents=True, exist_ok=True)
    rows, skips, passed, failed = [], [], 0, 0
    started = time.monotonic()
    for stage in stages(quick):
        print(f"\n==> {stage.name}: {' '.join(stage.command)}", flush=True)
        stage_started = time.monotonic()
        status, outcome = run(stage)
        seconds = time.monotonic() - stage_started
        if status != 0:
            verdict = f"FAILED (exit {status})"
            outcome.failed = max(outcome.failed, 1)
        elif outcome.failed:
            verdict = "FAILED"
        elif stage.counts_tests and outcome.passed == 0:
            verdict = "FAILED (ran no test)"
            outcome.failed = 1
        else:
            verdict = "ok"
            outcome.passed = outcome.passed if stage.counts_tests else 1
        rows.append((stage.name, seconds, outcome.passed, verdict))
        skips += [f"{stage.name}: {skip}" for skip in outcome.skips]
        passed += outcome.passed
        failed += outcome.failed

    print(f"\n{'stage':<10} {'seconds':>8} {'passed':>7}  result")
    for name, seconds, count, verdict in rows:
        print(f"{name:<10} {seconds:>8.1f} {count:>7}  {verdict}")
    print(f"{'all':<10} {time.monotonic() - started:>8.1f} {passed:>7}")
    for skip in skips:
        print(f"{SKIP}{skip}")
    if skips and require_all:
        print("REQUIRE_ALL=1: a skip is a failure")
        failed += len(skips)
    print(f"{passed} passed, {failed} failed" + (f", {len(skips)} skipped" if skips else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
