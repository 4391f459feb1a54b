"""What the documentation says is so: examples run, links lead somewhere, names are the names."""

import importlib.metadata
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
import stages

TREE = stages.TREE
HEADER = TREE / "cache-shm" / "include" / "cache_shm.h"
README = (TREE / "README.md").read_text(encoding="utf-8")
OF_PACKAGE = (TREE / "pycache" / "README.md").read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    """The code blocks of a page that are marked with a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.fixture
def environment(tmp_path):
    """The environment of a user whose regions lie in a directory of this test."""
    directory = tmp_path / "regions"
    directory.mkdir(mode=0o700)
    return {**os.environ, "CACHE_SHM_DIR": str(directory)}


def test_the_first_screen_shows_both_commands_and_ten_lines_of_python():
    screen = README.split("## Guarantees")[0].splitlines()
    assert len(screen) <= 40
    (shell,) = blocks("\n".join(screen), "sh")
    assert [line.split("#")[0].strip() for line in shell.splitlines()] == ["make demo", "make test"]
    (python,) = blocks("\n".join(screen), "python")
    assert sum(1 for line in python.splitlines() if line.strip()) == 10


@pytest.mark.parametrize("code", [*blocks(README, "python"), *blocks(OF_PACKAGE, "python")])
def test_a_python_example_of_the_readme_runs(code, environment):
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("session", blocks(README, "console"))
def test_a_console_session_of_the_readme_prints_what_it_shows(session, environment):
    lines = session.splitlines()
    starts = [number for number, line in enumerate(lines) if line.startswith("$ ")] + [len(lines)]
    assert starts[0] == 0
    for start, end in zip(starts, starts[1:]):
        command = shlex.split(lines[start][2:])
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (command, done.stderr)
        if shown := lines[start + 1 : end]:
            assert done.stdout.splitlines() == shown, command


OF_C = (TREE / "docs" / "c-api.md").read_text(encoding="utf-8")
# Each C program with what it prints: on the page of C, the block of text that follows it.
C_PROGRAMS = [(code, "1.17\n") for code in blocks(README, "c")]
C_PROGRAMS += re.findall(r"^```c\n(.*?)^```\n\n```text\n(.*?)^```", OF_C, re.MULTILINE | re.DOTALL)


def test_every_c_program_of_the_documentation_is_run():
    assert len(C_PROGRAMS) == len(blocks(README, "c")) + len(blocks(OF_C, "c")) >= 4


@pytest.mark.parametrize(("code", "printed"), C_PROGRAMS)
def test_a_c_example_compiles_and_prints_what_is_shown(code, printed, environment, tmp_path):
    build = ["cargo", "build", "--locked", "--package", "cache-shm-capi", "--message-format", "json"]
    built = subprocess.run(build, cwd=TREE, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    (library,) = set(re.findall(r'"([^"]+/libcache_shm\.a)"', built.stdout))
    source, program = tmp_path / "example.c", tmp_path / "example"
    source.write_text(code)
    warnings = ["-std=c11", "-Wall", "-Wextra", "-Werror"]
    command = ["cc", *warnings, f"-I{HEADER.parent}", source, library, "-lpthread", "-ldl", "-lm", "-o", program]
    compiled = subprocess.run(command, capture_output=True, text=True, check=False)
    assert compiled.returncode == 0, compiled.stderr
    done = subprocess.run([program], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, printed, "")


def functions_of_the_header() -> list[str]:
    code = re.sub(r"/\*.*?\*/|//[^\n]*|^#.*?$", "", HEADER.read_text(), flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"\b(\w+)\(", code)


def test_every_function_of_the_header_has_its_place_in_the_table():
    table = OF_C.split("## Every function")[1].split("\n## ")[0]
    listed = re.findall(r"`(cshm_\w+)`", "\n".join(line for line in table.splitlines() if line.startswith("|")))
    assert sorted(listed) == sorted(functions_of_the_header())
    assert set(re.findall(r"\bcshm_\w+\b", OF_C)) - set(listed) <= {"cshm_cache", "cshm_scan", "cshm_bytes", "cshm_write_options", "cshm_meta"}


def test_the_names_of_the_readme_are_the_names():
    rows = dict(re.findall(r"^\| ([\w ]+) \| `([^`]+)`", README.split("## Names")[1].split("\n## ")[0], re.MULTILINE))
    assert rows == {
        "Python distribution": "pycache-shm",
        "Python import": "pycache",
        "command": "cache-shm",
        "Rust crate": "cache-shm",
        "C prefix": "cshm_",
        "environment prefix": "CACHE_SHM_",
    }
    assert importlib.metadata.version(rows["Python distribution"])
    assert importlib.util.find_spec(rows["Python import"])
    assert shutil.which(rows["command"]) == str(Path(sys.executable).parent / rows["command"])
    functions = functions_of_the_header()
    assert functions and all(name.startswith(rows["C prefix"]) for name in functions)
    sources = [path for crate in ("cache-shm", "cache-server", "pycache") for path in (TREE / crate / "src").rglob("*.rs")]
    variables = {name for path in sources for name in re.findall(r"\bvar(?:_os)?\(\"(\w+)\"", path.read_text())}
    # The one that is a convention of all commands.
    assert all(name.startswith(rows["environment prefix"]) for name in variables - {"NO_COLOR"})
    shown = json.loads(subprocess.check_output([rows["command"], "config", "--json"], env=os.environ | {
        f"{rows['environment prefix']}DIR": "/named", f"{rows['environment prefix']}CONFIG": ""
    }))
    assert shown["options"]["dir"]["value"] == "/named"


PAGES = [*TREE.glob("*.md"), *(TREE / "docs").rglob("*.md")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_inside_the_tree_leads_to_a_file(page):
    text = page.read_text(encoding="utf-8")
    targets = [target for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target and target[0] != "#"]
    missing = [target for target in targets if not (page.parent / target.split("#")[0]).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_a_page_names_by_path_exists(page):
    text = page.read_text(encoding="utf-8")
    crates = "cache-core|cache-shm|cache-server|pycache|loom-tests|benches|docs|examples|\\.ci"
    named = set(re.findall(rf"`((?:{crates})/[\w./-]+\.\w+)`", text))
    missing = [name for name in named if not (TREE / name).exists()]
    assert not missing
