"""Interpreters that the module is not made for say so."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import sysconfig

import pytest
import workers

SCRIPT = """
import sys
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
if sys.argv[1] == "loaded":
    import pycache
inside = '''
try:
    import pycache
except ImportError as error:
    assert "subinterpreters" in str(error), error
    print("refused", flush=True)
else:
    raise AssertionError("it was imported")
'''
number = interpreters.create()
failure = interpreters.run_string(number, inside)
assert failure is None, failure
interpreters.destroy(number)
import pycache
cache = pycache.Cache(None, size="2MB")
cache["a"] = 1
assert cache["a"] == 1
"""

SUBINTERPRETERS = [name for name in ("_interpreters", "_xxsubinterpreters") if importlib.util.find_spec(name)]


@pytest.mark.skipif(not SUBINTERPRETERS, reason="this Python was built without a module for subinterpreters")
@pytest.mark.parametrize("state", ["loaded", "not yet loaded"])
def test_a_subinterpreter_is_refused_and_the_main_one_is_not(state: str) -> None:
    command = [sys.executable, "-c", SCRIPT, state]
    done = subprocess.run(command, capture_output=True, text=True, timeout=workers.PATIENCE)
    assert (done.returncode, done.stdout, done.stderr) == (0, "refused\n", "")


@pytest.mark.skipif(bool(sysconfig.get_config_var("Py_GIL_DISABLED")), reason="this Python can run without the GIL, where importing warns")
def test_importing_warns_of_nothing() -> None:
    command = [sys.executable, "-W", "error", "-c", "import pycache"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=workers.PATIENCE)
    assert (done.returncode, done.stderr) == (0, "")
