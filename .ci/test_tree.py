"""What must hold for the tree itself: tools are named when missing, text is free of one
machine's traces, dependencies are few and explained, licences allowed, atomics in one room.

Each check is a function from text to complaints, so that a test can show that it complains.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
import stages

TREE = stages.TREE


def tracked_files() -> list[Path]:
    """Every file of the project: what git tracks, and what it would track if added."""
    if not (TREE / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git checkout, so the project's files are not known")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=TREE, check=True, capture_output=True, text=True).stdout
    return [TREE / name for name in listed.split("\0") if name and (TREE / name).is_file()]


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


# --- text that belongs to one machine ---------------------------------------------------------

# Written in pieces, so that this file does not contain what it looks for.
MACHINE_TEXT = [
    re.compile(r"(?<![\w.~$}-])/(" + "|".join(["ho" + r"me/\w{2,}", "ro" + "ot/", "wo" + "rk/", "Us" + "ers/"]) + ")"),
    re.compile(r"(index|static)\.crates" + r"\.io|pypi" + r"\.org|pythonhosted" + r"\.org|deb\.debian" + r"\.org|npmjs" + r"\.org"),
    re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b"),
]


def machine_text(text: str) -> list[str]:
    return [line for line in text.splitlines() if any(pattern.search(line) for pattern in MACHINE_TEXT)]


def test_no_file_names_a_path_or_a_host_of_one_machine():
    found = {
        f"{path.relative_to(TREE)}: {line.strip()[:120]}"
        for path in tracked_files()
        # Pictures have no text, and by chance anything.
        if path.suffix != ".png"
        for line in machine_text(text_of(path))
    }
    assert not found, "\n".join(sorted(found))


@pytest.mark.parametrize("text", ["cd /ro" + "ot/x", "open('/ho" + "me/ann/x')", "https://pypi" + ".org/simple", "// TO" + "DO later"])
def test_the_search_for_machine_text_finds_it(text):
    assert machine_text(f"fine\n{text}\n") == [text]


def test_ordinary_paths_are_not_complained_about():
    assert machine_text("/dev/shm ~/wo" + "rk/x $HOME/ro" + "ot/ target/wo" + "rk/ homewo" + "rk/ /tmp/x") == []


# --- atomics ----------------------------------------------------------------------------------

ATOMICS = re.compile(r"\b(std|core)::sync::(atomic|\{[^}]*atomic)|\bloom::|\bportable_atomic\b")


def names_atomics(source: str) -> bool:
    code = "\n".join(line for line in source.splitlines() if not line.lstrip().startswith("//"))
    return ATOMICS.search(code) is not None


def test_only_one_module_of_the_engine_names_atomics():
    root = TREE / "cache-core" / "src"
    # The movable clock of the unit tests is no part of any protocol, and models do not see it.
    of_tests = [root / "testing.rs", *(root / "tests").rglob("*.rs")]
    sources = sorted(set(root.rglob("*.rs")) - set(of_tests))
    naming = [str(path.relative_to(TREE)) for path in sources if names_atomics(text_of(path))]
    assert naming == ["cache-core/src/sync.rs"]


@pytest.mark.parametrize("source", ["use std::sync::atomic::AtomicU64;", "use core::sync::{Arc, atomic::fence};", "loom::model(|| {})"])
def test_the_search_for_atomics_finds_them(source):
    assert names_atomics(source)
    assert not names_atomics("// " + source)


# --- dependencies -----------------------------------------------------------------------------


def cargo_metadata(*arguments: str) -> dict:
    command = ["cargo", "metadata", "--locked", "--format-version", "1", *arguments]
    done = subprocess.run(command, cwd=TREE, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


REQUIREMENTS = {
    ".ci": TREE / ".ci" / "requirements.txt",
    "docs": TREE / "docs" / "requirements.txt",
    "benches": TREE / "benches" / "python" / "requirements.txt",
    "examples": TREE / "examples" / "demo" / "requirements.txt",
}


def pins(path: Path) -> list[str]:
    """The lines of a requirements file that name a package."""
    return [line for line in text_of(path).splitlines() if line.strip() and not line.startswith("#")]


def direct_dependencies() -> dict[str, set[str]]:
    """Each direct dependency from outside the tree, with the parts that name it."""
    found: dict[str, set[str]] = {}
    packages = cargo_metadata("--no-deps")["packages"]
    packages += cargo_metadata("--no-deps", "--manifest-path", "benches/blackboard/Cargo.toml")["packages"]
    for package in packages:
        for dependency in package["dependencies"]:
            if dependency.get("path") is None:
                found.setdefault(dependency["name"], set()).add(package["name"])
    for part, path in REQUIREMENTS.items():
        for line in pins(path):
            found.setdefault(re.match(r"[\w.-]+", line)[0], set()).add(part)
    project = text_of(TREE / "pycache" / "pyproject.toml")
    for listed in re.findall(r"^(?:requires|dependencies) = \[(.*?)\]", project, re.MULTILINE | re.DOTALL):
        for name in re.findall(r"[\"']([A-Za-z][\w.-]*)", listed):
            found.setdefault(name, set()).add("pycache")
    return found


def documented_dependencies(text: str) -> dict[str, set[str]]:
    """The rows `| name | used by | why |` of docs/dependencies.md; a row without a reason is none."""
    rows = re.findall(r"^\| `([^`]+)` \| ([^|]+) \| ([^|]+) \|$", text, re.MULTILINE)
    return {name: {part.strip(" `") for part in parts.split(",")} for name, parts, why in rows if len(why.strip()) >= 20}


def test_every_direct_dependency_has_its_line_and_no_line_is_stale():
    assert documented_dependencies(text_of(TREE / "docs" / "dependencies.md")) == direct_dependencies()


def test_a_dependency_without_a_reason_is_not_documented():
    assert documented_dependencies("| `left` | a, `b` | because it is needed here |\n| `right` | a | why? |\n") == {
        "left": {"a", "b"}
    }


def test_python_tools_are_pinned_to_one_version():
    lines = [line for path in REQUIREMENTS.values() for line in pins(path)]
    pin = r"[\w.-]+==\d+(\.\d+)*(; python_version (<|>=) \"3\.\d+\")?"
    assert lines and all(re.fullmatch(pin, line) for line in lines)


def allowed(expression: str, licences: set[str]) -> bool:
    """Whether an SPDX expression can be met with the given licences."""
    expression = expression.replace("/", " OR ")
    words = re.findall(r"\(|\)|[^\s()]+", expression)
    terms = {"OR": "or", "AND": "and", "(": "(", ")": ")"}
    python, after_with = [], False
    for word in words:
        if word == "WITH" or after_with:
            after_with = word == "WITH"
            continue
        python.append(terms.get(word, str(word in licences)))
    return bool(eval(" ".join(python)))  # only True, False, and, or and brackets are left


def test_every_crate_has_an_allowed_licence_and_comes_from_the_default_registry():
    configuration = text_of(TREE / "deny.toml")
    licences = set(re.findall(r'"([^"]+)"', re.search(r"^allow = \[(.*?)\]", configuration, re.MULTILINE | re.DOTALL)[1]))
    exceptions = {
        crate: set(re.findall(r'"([^"]+)"', allow))
        for allow, crate in re.findall(r'\{ allow = \[(.*?)\], crate = "([^"]+)" \}', configuration)
    }
    assert "MIT" in licences
    packages = [package for package in cargo_metadata("--all-features")["packages"] if package["source"]]
    assert packages
    for package in packages:
        assert package["source"].startswith("registry+"), package["id"]
        also = exceptions.pop(package["name"], set())
        assert allowed(package["license"] or "", licences | also), (package["name"], package["license"])
    assert not exceptions, "an exception for a crate that is not used"


def test_licence_expressions_are_understood():
    assert allowed("MIT OR GPL-3.0", {"MIT"})
    assert allowed("(MIT OR Apache-2.0) AND Unicode-3.0", {"Apache-2.0", "Unicode-3.0"})
    assert allowed("MIT/Apache-2.0", {"MIT"})
    assert not allowed("MIT AND GPL-3.0", {"MIT"})
    assert not allowed("GPL-3.0", {"MIT"})


# --- what the tools say -----------------------------------------------------------------------


def with_tools(tmp_path: Path, absent: str, *, fake: dict[str, str] | None = None, **environment: str):
    """Runs .ci/with-tools with a PATH that has everything it uses but one tool."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ["sh", "sed", "cat", "cc", "make", "cargo", "rustc", "python3"]:
        found = shutil.which(tool)
        if tool != absent and found:
            (tools / tool).write_text(f'#!/bin/sh\nexec "{found}" "$@"\n')
            (tools / tool).chmod(0o755)
    for tool, script in (fake or {}).items():
        (tools / tool).write_text(f"#!/bin/sh\n{script}\n")
        (tools / tool).chmod(0o755)
    inherited = {name: value for name, value in os.environ.items() if name not in ("PATH", "PYTHON", "VIRTUAL_ENV")}
    return subprocess.run(
        [TREE / ".ci" / "with-tools"],
        env={**inherited, "PATH": str(tools), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_nothing_is_said_when_nothing_is_missing(tmp_path):
    done = with_tools(tmp_path, "nothing")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("absent", "line"),
    [
        ("cargo", "missing: Rust .* install rustup from .*rustup toolchain install"),
        ("cc", "missing: a C compiler .* apt-get install gcc"),
        ("python3", "missing: CPython 3.10 or newer .* apt-get install python3 python3-venv"),
    ],
)
def test_a_missing_tool_is_named_in_one_line_with_how_to_get_it(tmp_path, absent, line):
    done = with_tools(tmp_path, absent)
    assert done.returncode == 1
    assert re.fullmatch(line + ".*\n", done.stderr)


def test_an_old_python_is_as_good_as_none(tmp_path):
    done = with_tools(tmp_path, "nothing", fake={"python3": "exit 1"})
    assert done.returncode == 1
    assert re.fullmatch("missing: CPython 3.10 or newer .*\n", done.stderr)


def test_a_python_that_was_asked_for_and_does_not_work_is_named(tmp_path):
    done = with_tools(tmp_path, "nothing", PYTHON="python2.7")
    assert done.returncode == 1
    assert "PYTHON=python2.7" in done.stderr


def test_a_cargo_without_the_pinned_toolchain_is_named(tmp_path):
    done = with_tools(tmp_path, "nothing", fake={"cargo": "exit 1", "rustc": "exit 1"})
    assert done.returncode == 1
    assert re.fullmatch("missing: Rust .* with rustfmt and clippy: run 'rustup toolchain install'.*\n", done.stderr)


# --- the runner -------------------------------------------------------------------------------


def test_the_runner_counts_what_test_runners_print():
    outcome = stages.Outcome()
    for line in [
        "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s",
        "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s",
        "test slow::one ... ignored, needs an hour",
        "test peer ... ignored, the entry of peers, started by the tests",
        "SKIPPED [1] tests/test_x.py:3: needs Redis",
        "SKIP: valgrind is not installed",
        "==== 4 passed, 1 skipped in 0.31s ====",
        "1 failed, 5 passed, 2 errors in 61.02s (0:01:01)",
    ]:
        outcome.read(line)
    assert (outcome.passed, outcome.failed) == (12 + 3 + 4 + 5, 2 + 1 + 2)
    assert outcome.skips == ["slow::one: needs an hour", "tests/test_x.py:3: needs Redis", "valgrind is not installed"]


def run_stages(monkeypatch, capsys, tmp_path, *commands: str, require_all: str = "0") -> tuple[int, str]:
    chosen = [stages.Stage(f"s{n}", ["sh", "-c", command], counts_tests=True) for n, command in enumerate(commands)]
    monkeypatch.setattr(stages, "stages", lambda quick: chosen)
    monkeypatch.setattr(stages, "LOGS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["stages.py"])
    monkeypatch.setenv("REQUIRE_ALL", require_all)
    status = stages.main()
    return status, capsys.readouterr().out.splitlines()[-1]


PASSES = "echo 'test result: ok. 2 passed; 0 failed;'"


def test_a_run_in_which_all_passes_ends_with_the_count(monkeypatch, capsys, tmp_path):
    assert run_stages(monkeypatch, capsys, tmp_path, PASSES, PASSES) == (0, "4 passed, 0 failed")


def test_a_stage_that_fails_or_runs_no_test_fails_the_run(monkeypatch, capsys, tmp_path):
    assert run_stages(monkeypatch, capsys, tmp_path, PASSES, "exit 3") == (1, "2 passed, 1 failed")
    assert run_stages(monkeypatch, capsys, tmp_path, PASSES, "true") == (1, "2 passed, 1 failed")


def test_a_skip_is_named_and_is_a_failure_where_all_is_required(monkeypatch, capsys, tmp_path):
    skipping = PASSES + "; echo 'SKIP: no Redis'"
    assert run_stages(monkeypatch, capsys, tmp_path, skipping) == (0, "2 passed, 0 failed, 1 skipped")
    assert run_stages(monkeypatch, capsys, tmp_path, skipping, require_all="1") == (1, "2 passed, 1 failed, 1 skipped")


# --- arguments that name a model ----------------------------------------------------------------


def models_without_a_case(engine: str, models: str) -> set[str]:
    """Names in ``[loom: name]`` of the engine that no case of the models has."""
    cases = {re.split(r"[.:]", name)[0] for name in re.findall(r"\b(?:model|twin)\(\s*\"([^\"]+)\"", models)}
    return set(re.findall(r"\[loom: ([a-z_]+)\]", engine)) - cases


def test_every_model_that_the_engine_names_exists():
    engine = "\n".join(text_of(path) for path in (TREE / "cache-core/src").rglob("*.rs"))
    models = "\n".join(text_of(path) for path in (TREE / "loom-tests/tests").rglob("*.rs"))
    assert "[loom: " in engine
    assert not models_without_a_case(engine, models)


def test_the_search_for_models_finds_a_missing_one():
    assert models_without_a_case("// [loom: gone] [loom: pin]", 'model("pin.by_hand", 2, f)') == {"gone"}
