"""The examples of docs/running.md run as they stand, each in a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import workers

PAGE = (Path(__file__).parents[2] / "docs" / "running.md").read_text(encoding="utf-8")
SECTIONS = re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
EXAMPLES = [(name, code) for name, text in SECTIONS for code in re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)]


@pytest.mark.parametrize(("name", "code"), EXAMPLES, ids=[name for name, _ in EXAMPLES])
def test_an_example_of_the_page_runs(directory: str, tmp_path: Path, name: str, code: str) -> None:
    environment = {**os.environ, "CACHE_SHM_DIR": directory}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=workers.PATIENCE)
    assert done.returncode == 0, done.stderr
