"""The rows of iceoryx2's blackboard, from a program outside the workspace.

It needs libclang and some minutes to build, so it is measured by `make bench-full` only.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "blackboard"


def main() -> int:
    # A directory of its own: its dependencies are built with other settings.
    target = Path(os.environ.get("CARGO_TARGET_DIR", PACKAGE.parent.parent / "target")) / "blackboard"
    build = ["cargo", "build", "--locked", "--release", "--target-dir", str(target)]
    built = subprocess.run(build, cwd=PACKAGE, capture_output=True, text=True, check=False)
    if built.returncode != 0:
        complaints = [line for line in built.stderr.splitlines() if line.startswith("error")]
        why = complaints[0] if complaints else "does not build here"
        print(json.dumps({"group": "blackboard", "absent": "iceoryx2 blackboard", "why": why}))
        return 0
    return subprocess.run([target / "release" / "cache-bench-blackboard", *sys.argv[1:]], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
