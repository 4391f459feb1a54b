"""Builds a wheel for every CPython from 3.10 to 3.13 that the machine has, and tries each: `make wheels`.

Interpreters are looked for where this one is, on the PATH, in /usr/bin and among pyenv's
versions; of each kind (version and ABI) one is enough, and only the one in use must be there.
Each wheel is installed into a new environment, in which a part of the tests is run. The wheels
are left in target/wheels/, named by their tags.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

TREE = Path(__file__).resolve().parent.parent
WHEELS = TREE / "target" / "wheels"
MINORS = range(10, 14)

# What a wheel must keep to be of use: storing, finding, expiring, lending, and other processes.
SMOKE = ["test_mapping.py", "test_operations.py", "test_ttl.py", "test_views.py", "test_processes.py",
         "robust/test_exits.py", "robust/test_interpreters.py"]

# The tag of an interpreter that can build here; nothing for another.
ASK = """
import sys, sysconfig
if sys.implementation.name == "cpython" and sys.version_info[0] == 3:
    import ensurepip, venv
    threads = "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
    print(f"cp{sys.version_info[0]}{sys.version_info[1]}{threads}")
"""


def candidates() -> list[Path]:
    """Programs that may be interpreters, the one in use first."""
    names = [f"python3.{minor}{threads}" for minor in MINORS for threads in ("", "t")]
    found = [Path(sys.executable).resolve()]
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    for folder in [*os.environ.get("PATH", "").split(os.pathsep), "/usr/bin", *sorted(pyenv.glob("*/bin"), reverse=True)]:
        found += [Path(folder, name) for name in names if Path(folder, name).is_file()]
    return found


def tag_of(python: Path) -> str | None:
    """The tag of an interpreter, such as cp311 or cp313t; None if it cannot make an environment."""
    try:
        asked = subprocess.run([python, "-c", ASK], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return asked.stdout.strip() or None


def interpreters() -> dict[str, Path]:
    """One interpreter of each kind."""
    found: dict[str, Path] = {}
    asked: set[Path] = set()
    for python in candidates():
        real = python.resolve()
        if real not in asked:
            asked.add(real)
            tag = tag_of(python)
            if tag and tag.removesuffix("t") in {f"cp3{minor}" for minor in MINORS}:
                found.setdefault(tag, python)
    return dict(sorted(found.items()))


def pinned(*names: str) -> list[str]:
    """The requirements of the tests that have these names."""
    lines = (TREE / ".ci" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.split("==")[0] in names]


def make(tag: str, python: Path, work: Path) -> Path:
    """Builds a wheel with `python`, and runs the tests on it in an environment of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYO3_", "PYTHON"))}
    environment.pop("VIRTUAL_ENV", None)

    def run(*command: str | Path) -> None:
        subprocess.run(command, cwd=TREE, env=environment, stdin=subprocess.DEVNULL, check=True)

    made, venv = work / "made", work / "venv"
    run(python, "-m", "venv", venv)
    program = venv / "bin" / "python"
    environment["PYO3_PYTHON"] = str(program)
    # What was built for another interpreter in the same place is built anew.
    environment["PYO3_ENVIRONMENT_SIGNATURE"] = tag
    pip = [program, "-m", "pip", "--disable-pip-version-check"]
    run(*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", made, TREE / "pycache")
    (wheel,) = made.glob("*.whl")
    if f"-{tag.removesuffix('t')}-{tag}-" not in wheel.name:
        raise RuntimeError(f"{python} is {tag} and made {wheel.name}")
    run(*pip, "install", "--quiet", wheel, *pinned("pytest", "hypothesis"))
    tests = [TREE / "pycache" / "tests" / name for name in SMOKE]
    run(program, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests)
    run(venv / "bin" / "cache-shm", "--version")
    WHEELS.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy2(wheel, WHEELS))


def main() -> int:
    shutil.rmtree(WHEELS, ignore_errors=True)
    found = interpreters()
    made, failed = [], []
    for tag, python in found.items():
        print(f"--> {tag}: {python}", flush=True)
        with tempfile.TemporaryDirectory(prefix="wheel-") as work:
            try:
                made.append(make(tag, python, Path(work)))
            except (subprocess.CalledProcessError, RuntimeError, ValueError) as error:
                print(f"{tag}: {error}", file=sys.stderr)
                failed.append(tag)
    for wheel in made:
        print(f"{wheel.relative_to(TREE)}, {wheel.stat().st_size / 1e6:.1f} MB")
    if absent := [f"cp3{minor}" for minor in MINORS if f"cp3{minor}" not in found]:
        print(f"no interpreter here: {', '.join(absent)}")
    if failed or not made:
        print(f"not made: {', '.join(failed) or 'any wheel'}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
