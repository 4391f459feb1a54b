"""The examples of docs/adapters.md run as they stand, each in a process of its own."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[3] / "docs" / "adapters.md").read_text(encoding="utf-8")
SECTIONS = re.findall(r"^## ([^\n]+)\n+```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_each_adapter_has_its_example() -> None:
    import pycache.adapters

    modules = {path.stem for path in Path(pycache.adapters.__path__[0]).glob("[a-z]*.py")}
    assert modules and len(SECTIONS) == len(modules) + 1, "and cachetools"
    assert all(f"pycache.adapters.{module}" in PAGE or f'"{module}"' in PAGE or module == "dogpile" for module in modules)


@pytest.mark.parametrize(("name", "code"), SECTIONS, ids=[name for name, _ in SECTIONS])
def test_an_example_of_the_page_runs(directory: str, name: str, code: str) -> None:
    for module in re.findall(r"^(?:from|import) (?:pycache\.adapters\.)?(\w+)", code, re.MULTILINE):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    environment = {**os.environ, "CACHE_SHM_DIR": directory}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert os.listdir(directory), "the example used no region"
