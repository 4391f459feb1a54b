"""Throws bytes at the parsers of what strangers send: `make fuzz SECONDS=60`.

Every target under fuzz/fuzz_targets runs for so many seconds, under AddressSanitizer. What it finds is kept in
target/fuzz/artifacts, and the inputs by which it came far in target/fuzz/corpus. Ends with 1 if something was found,
and with 2 if a target could not be built. Needs the nightly compiler; cargo-fuzz is installed into target/tools.
"""

import os
import subprocess
import sys
from pathlib import Path

TREE = Path(__file__).resolve().parent.parent
FUZZ = TREE / "fuzz"
TOOLS = TREE / "target" / "tools"
WORK = TREE / "target" / "fuzz"
VERSION = "0.13.2"
# Inputs are requests: longer ones are only slower.
INPUT_BYTES_MAX = 4096
# One input never takes longer, or needs more memory.
INPUT_SECONDS_MAX, MEMORY_MIB_MAX = 10, 1024


def targets() -> list[str]:
    return sorted(path.stem for path in (FUZZ / "fuzz_targets").glob("*.rs"))


def environment() -> dict[str, str]:
    # A toolchain that the environment names would win over the one asked for.
    names = {name: value for name, value in os.environ.items() if name != "RUSTUP_TOOLCHAIN"}
    return names | {
        "CARGO_TARGET_DIR": str(WORK / "build"),
        "PATH": f"{TOOLS / 'bin'}{os.pathsep}{os.environ['PATH']}",
    }


def cargo_fuzz(*words: str) -> int:
    command = ["cargo", "+nightly", "fuzz", words[0], "--fuzz-dir", str(FUZZ), *words[1:]]
    return subprocess.run(command, cwd=FUZZ, env=environment(), check=False).returncode


def run(target: str, seconds: int) -> int:
    """Fuzzes one target that is built; 0 if nothing was found."""
    corpus, artifacts = WORK / "corpus" / target, WORK / "artifacts" / target
    for directory in (corpus, artifacts):
        directory.mkdir(parents=True, exist_ok=True)
    seeds = FUZZ / "seeds" / target
    options = [
        f"-max_total_time={seconds}",
        f"-max_len={INPUT_BYTES_MAX}",
        f"-timeout={INPUT_SECONDS_MAX}",
        f"-rss_limit_mb={MEMORY_MIB_MAX}",
        f"-artifact_prefix={artifacts}/",
        "-print_final_stats=1",
    ]
    if (dictionary := FUZZ / "dictionaries" / f"{target}.dict").exists():
        options.append(f"-dict={dictionary}")
    directories = [str(corpus), *([str(seeds)] if seeds.is_dir() else [])]
    return cargo_fuzz("run", target, *directories, "--", *options)


def main() -> int:
    seconds = int(sys.argv[1]) if sys.argv[1:] else 60
    if not (TOOLS / "bin" / "cargo-fuzz").exists():
        install = ["cargo", "install", "--quiet", "--locked", "--root", str(TOOLS), "--version", VERSION, "cargo-fuzz"]
        subprocess.run(install, check=True)
    wanted = sys.argv[2:] or targets()
    for target in wanted:
        if cargo_fuzz("build", target) != 0:
            print(f"{target}: NOT BUILT")
            return 2
    found = [target for target in wanted if run(target, seconds) != 0]
    for target in wanted:
        print(f"{target}: {'FOUND SOMETHING, see target/fuzz/artifacts' if target in found else 'nothing found'}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
