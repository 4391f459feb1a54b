"""``python -m pycache`` and ``cache-shm``: the command line, a program of its own.

The program lies beside this file. It takes the place of the interpreter, so that
neither its code nor its signals and threads ever meet those of Python.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn


def main() -> NoReturn:
    """Runs the command with the arguments of this process; does not return."""
    program = Path(__file__).with_name("cache-shm")
    try:
        os.execv(program, ["cache-shm", *sys.argv[1:]])
    except OSError as error:
        print(f"cache-shm: cannot run {program}: {error.strerror}; install pycache-shm again", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
