"""Builds the wheel from the tree with `pip wheel ./pycache`, as a user would, and installs it here."""

import shutil
import subprocess
import sys
from pathlib import Path

TREE = Path(__file__).resolve().parent.parent
WHEELS = TREE / "target" / "wheel"


def main() -> int:
    shutil.rmtree(WHEELS, ignore_errors=True)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", WHEELS, TREE / "pycache"]
    if status := subprocess.run(build, check=False).returncode:
        return status
    wheels = list(WHEELS.glob("*.whl"))
    if len(wheels) != 1:
        print(f"expected one wheel in {WHEELS}, found {len(wheels)}", file=sys.stderr)
        return 1
    install = [*pip, "install", "--quiet", "--no-deps", "--force-reinstall", wheels[0]]
    if status := subprocess.run(install, check=False).returncode:
        return status
    print(f"installed {wheels[0].name}, {wheels[0].stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
