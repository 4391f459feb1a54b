"""The Python rows of the cache under the system's interpreter, which its distribution compiled
with other options than whoever made the one in use: `lru_cache` itself takes another time.

Under that interpreter `bench.py --own` runs with the package of this environment, if both are of
one version; else with a wheel that `make wheels` left for it.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pycache
from servers import Absent, say_absent

PROGRAM = "/usr/bin/python3"
WHEELS = Path(__file__).resolve().parent.parent.parent / "target" / "wheels"
ASK = "import sys; print(*sys.version_info[:3], sys.implementation.name, sys.base_prefix)"


def package_for(major: int, minor: int, directory: str) -> Path:
    """Where that version of CPython finds the package; `directory` is a place to put it."""
    if (major, minor) == sys.version_info[:2]:
        return Path(pycache.__file__).parent.parent
    wheels = list(WHEELS.glob(f"*-cp{major}{minor}-cp{major}{minor}-*.whl"))
    if not wheels:
        raise Absent(f"CPython {major}.{minor}, for which `make wheels` has made no wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
    other = ["--target", directory, "--python-version", f"{major}.{minor}", "--only-binary", ":all:"]
    subprocess.run([*pip, *other, wheels[0]], check=True)
    return Path(directory)


def measure(arguments: list[str]) -> None:
    """Runs the rows under the system's interpreter.

    Raises Absent if there is none, or if it is the one in use.
    """
    if not os.access(PROGRAM, os.X_OK):
        raise Absent("there is none")
    asked = subprocess.run([PROGRAM, "-I", "-c", ASK], capture_output=True, text=True, check=True)
    major, minor, patch, implementation, prefix = asked.stdout.split()
    if implementation != "cpython":
        raise Absent(f"it is {implementation}")
    if prefix == sys.base_prefix:
        raise Absent("it is the interpreter in use")
    with tempfile.TemporaryDirectory() as directory:
        package = package_for(int(major), int(minor), directory)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        environment["PYTHONPATH"] = str(package)
        program = Path(__file__).with_name("bench.py")
        named = f", {PROGRAM} {major}.{minor}.{patch}"
        command = [PROGRAM, program, "--own", "--named", named, *arguments]
        subprocess.run(command, env=environment, check=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="The Python rows of the cache under the system's interpreter.")
    parser.add_argument("--seed", default="20261122")
    parser.add_argument("--smoke", action="store_true", help="show that it runs, measure nothing")
    options = parser.parse_args()
    try:
        measure(["--seed", options.seed, *(["--smoke"] if options.smoke else [])])
    except Absent as error:
        say_absent("python-system", PROGRAM, error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
