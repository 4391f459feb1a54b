"""Runs the examples of a page in the current directory: `python page.py PAGE.md`.

The blocks of a page are one session, from top to bottom:

- `python` runs. If its first line is a comment that names a file (`# worker.py`), the block is
  written there instead, for the blocks below.
- `pycon` runs with the names of the `python` blocks and prints what it shows.
- `console` runs each line that begins with `$ ` in a shell, and its standard output is what is
  shown; where nothing is shown it succeeds. Lines that begin with `> ` go on with the command.

`...` in what is shown stands for anything. Blocks of the languages in SHOWN only are not run.
"""

import doctest
import re
import subprocess
import sys
from pathlib import Path

SHOWN = {"text", "sh", "yaml", "ini", "toml", "nginx"}
COMMAND_SECONDS = 60

FENCE = re.compile(r"^```([\w{}:-]*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# ([\w-]+\.\w+)\n")


class Failed(Exception):
    """A block did not do what the page says."""


def matches(shown: str, printed: str) -> bool:
    """Whether a program printed what is shown; a missing line end at the end does not matter."""
    return doctest.OutputChecker().check_output(shown.rstrip("\n"), printed.rstrip("\n"), doctest.ELLIPSIS)


def run_python(code: str, place: str, line: int, names: dict[str, object]) -> None:
    if named := FILE.match(code):
        Path(named[1]).write_text(code, encoding="utf-8")
    else:
        exec(compile("\n" * line + code, place, "exec"), names)


def run_pycon(code: str, place: str, line: int, names: dict[str, object]) -> None:
    test = doctest.DocTestParser().get_doctest(code, {}, place, place, line)
    test.globs = names
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    if not test.examples or runner.run(test, out=said.append, clear_globs=False).failed:
        raise Failed(f"{place}:{line}: " + ("".join(said) or "no example in this block"))


def run_console(session: str, place: str, line: int) -> None:
    steps = re.findall(r"^\$ (.*\n(?:> .*\n)*)((?:(?!\$ ).*\n)*)", session, re.MULTILINE)
    if "".join(f"$ {command}{shown}" for command, shown in steps) != session:
        raise Failed(f"{place}:{line}: a console block begins with a command")
    for command, shown in steps:
        command = command.replace("\n> ", "\n")
        done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False)
        if shown and not matches(shown, done.stdout):
            raise Failed(f"{place}:{line}: {command}expected:\n{shown}got:\n{done.stdout}{done.stderr}")
        if not shown and done.returncode:
            raise Failed(f"{place}:{line}: {command}exit {done.returncode}: {done.stderr}")


def run(page: Path) -> int:
    """Runs a page; how many blocks ran."""
    text = page.read_text(encoding="utf-8")
    names: dict[str, object] = {"__name__": "__page__"}
    count = 0
    for block in FENCE.finditer(text):
        language, code = block.groups()
        line = text.count("\n", 0, block.start()) + 1
        if language == "python":
            run_python(code, page.name, line, names)
        elif language == "pycon":
            run_pycon(code, page.name, line, names)
        elif language == "console":
            run_console(code, page.name, line)
        elif language.startswith("{") or language in SHOWN:
            continue
        else:
            raise Failed(f"{page.name}:{line}: a block of language {language!r} is neither run nor known")
        count += 1
    return count


if __name__ == "__main__":
    # What a page's programs import lies beside them, as it does for programs that are run by name.
    sys.path[0] = ""
    try:
        print(f"{run(Path(sys.argv[1]))} blocks ran")
    except Failed as failure:
        sys.exit(str(failure))
