"""The guide is true: every example of every page runs, and prints what the page shows."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
import page as runner
import stages

PAGES = [stages.TREE / "docs" / "index.md", *sorted((stages.TREE / "docs" / "guide").glob("*.md"))]
PAGE_SECONDS = 120


@pytest.fixture
def place(tmp_path):
    """A directory to run in, and the environment of a user whose regions lie in memory of this test."""
    regions = tempfile.mkdtemp(prefix="pycache-guide-", dir="/dev/shm")
    yield tmp_path, {**os.environ, "CACHE_SHM_DIR": regions}
    shutil.rmtree(regions, ignore_errors=True)


def run(page, place):
    directory, environment = place
    command = [sys.executable, runner.__file__, page]
    return subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, timeout=PAGE_SECONDS, check=False
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_examples_of_a_page_run_and_print_what_they_show(page, place):
    done = run(page, place)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(re.match(r"(\d+) blocks ran", done.stdout)[1]) > 0


@pytest.mark.parametrize(
    "block",
    [
        "```python\nassert False\n```",
        "```pycon\n>>> 1 + 1\n3\n```",
        "```pycon\n>>> missing\n```",
        "```console\n$ echo one\ntwo\n```",
        "```console\n$ false\n```",
        "```console\nno command\n```",
        "```pythn\nassert False\n```",
    ],
)
def test_an_example_that_is_not_true_fails_its_page(block, place, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"# Page\n\n```python\nname = 1\n```\n\n{block}\n")
    done = run(page, place)
    assert done.returncode != 0
    assert "page.md" in done.stdout + done.stderr or "AssertionError" in done.stderr


def test_blocks_share_names_and_files(place, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "```python\nname = 'Ada'\n```\n```pycon\n>>> name\n'Ada'\n```\n"
        "```python\n# greet.py\nprint('hello, anybody')\n```\n```console\n$ python greet.py\nhello, ...\n```\n"
    )
    done = run(page, place)
    assert (done.returncode, done.stdout) == (0, "4 blocks ran\n"), done.stderr


def test_every_block_of_a_page_is_seen():
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert len(runner.FENCE.findall(text)) * 2 == len(re.findall(r"^ *```", text, re.MULTILINE)), page.name
