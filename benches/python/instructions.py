"""Instructions of one operation, counted by callgrind: a number that does not wobble.

`benches/instructions.json` holds what was counted last; the tests fail when an operation
takes 5 % more. After a change that is worth it, `instructions.py --update` writes the
file anew. The number holds for the compiler that the tree pins, on x86-64.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from servers import Absent, say_absent

TREE = Path(__file__).resolve().parent.parent.parent
KEPT = TREE / "benches" / "instructions.json"
KINDS = {
    "get": "get 100 B",
    "get-miss": "get, a miss",
    "set": "set 100 B, overwriting",
    "set-evicting": "set 100 B, evicting",
}
GROWTH_MAX = 1.05
OPERATIONS = (20_000, 120_000)


def program() -> Path:
    return Path(os.environ.get("CARGO_TARGET_DIR", TREE / "target")) / "release" / "cache-benches"


def counted(kind: str) -> float:
    """Instructions of one operation of this kind."""
    if shutil.which("valgrind") is None:
        raise Absent("valgrind is not installed")
    totals = []
    for operations in OPERATIONS:
        command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
        command += [str(program()), "counted", kind, str(operations)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        totals.append(int(re.search(r"Collected : (\d+)", done.stderr)[1]))
    return (totals[1] - totals[0]) / (OPERATIONS[1] - OPERATIONS[0])


def complaint(kind: str, kept: float, now: float) -> str | None:
    """What is wrong with a count, if it has grown by more than is accepted."""
    if now <= kept * GROWTH_MAX:
        return None
    return (
        f"{KINDS[kind]} takes {now:.1f} instructions, {now / kept - 1:.1%} more than the {kept:.1f} of "
        f"{KEPT.relative_to(TREE)}; make it cheaper, or say why in the commit and run instructions.py --update"
    )


def row(kind: str, kept: float, now: float) -> dict:
    most = round(kept * GROWTH_MAX, 1)
    return {
        "group": "instructions",
        "row": f"instructions of {KINDS[kind]}",
        "measured": round(now, 1),
        "low": now,
        "high": now,
        "relation": "<=",
        "target": most,
        "unit": "",
        "holds": complaint(kind, kept, now) is None,
        "detail": f"{kept:.1f} when last kept",
        "labels": {"operation": kind},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Counts the instructions of an operation.")
    parser.add_argument("--seed", type=int, help="for the sake of the other programs; the work is always the same")
    parser.add_argument("--smoke", action="store_true", help="show that it runs: one kind only")
    parser.add_argument("--update", action="store_true", help="keep what was counted")
    options = parser.parse_args()
    kept = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.exists() else {}
    try:
        now = {kind: counted(kind) for kind in list(KINDS)[: 1 if options.smoke else None]}
    except Absent as error:
        say_absent("instructions", "callgrind", error)
        return 0
    if options.update:
        KEPT.write_text(json.dumps({kind: round(count, 1) for kind, count in now.items()}, indent=1) + "\n")
        kept = now
    for kind, count in now.items():
        print(json.dumps(row(kind, kept[kind], count)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
