"""Draws docs/images/top.svg: the live view of a region under load, as a terminal shows it.

``make screenshots`` runs it. The numbers are those of the machine that it runs on.
"""

from __future__ import annotations

import multiprocessing
import random
import re
import sys
import tempfile
import time
from html import escape
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent / "pycache" / "tests"))

from terminal import Terminal  # noqa: E402

from pycache import Cache  # noqa: E402

COLUMNS, LINES = 100, 38
CELL_WIDTH, CELL_HEIGHT = 8.4, 17
INK = "#d8dee9"
# The terminal's colours as the emulator names them, and as they are drawn.
COLOURS = {
    "00cd00": "#8fbf6a",
    "cdcd00": "#e0b050",
    "0000ee": "#6a9fd8",
    "00cdcd": "#6ac0c8",
    "cd0000": "#e06c6c",
    "cd00cd": "#c08ad0",
    "7f7f7f": "#7c8594",
}
# Name of the namespace, how many keys it has, bytes of a value.
LOADS = [(None, 300_000, 300), ("users", 20_000, 120), ("pages", 60_000, 900), ("fragments", 5_000, 60)]


def load(directory: str, seed: int) -> None:
    """Reads keys of which few are asked for often, and stores what is missing, until it is ended."""
    chance = random.Random(seed)
    with Cache("sessions", dir=directory) as cache:
        parts = [(cache if name is None else cache.namespace(name), keys, size) for name, keys, size in LOADS]
        end = time.monotonic() + 60
        while time.monotonic() < end:
            for number, (part, keys, size) in enumerate(parts):
                for _ in range(200 // (number + 1)):
                    key = str(int(chance.paretovariate(0.5)) % keys)
                    if part.get(key) is None:
                        part.set(key, "x" * size)


def svg(terminal: Terminal) -> str:
    """The screen as a picture; text stays text."""
    width, height = COLUMNS * CELL_WIDTH + 24, LINES * CELL_HEIGHT + 24
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img" '
        'aria-label="cache-shm top: rates, memory, segments, namespaces and processes of a region">',
        f'<rect width="{width:g}" height="{height:g}" rx="8" fill="#20242c"/>',
        '<g font-family="ui-monospace, Menlo, Consolas, monospace" font-size="14">',
    ]
    for row in range(LINES):
        line = terminal.screen.buffer[row]
        column = 0
        while column < COLUMNS:
            cell = line[column]
            end = column
            while end < COLUMNS and (line[end].fg, line[end].bold) == (cell.fg, cell.bold):
                end += 1
            text = "".join(line[at].data for at in range(column, end))
            weight = ' font-weight="bold"' if cell.bold else ""
            # Columns are kept by where each piece begins and how wide it is, whatever the font.
            for piece in re.finditer(r"\S+(?: \S+)*", text):
                parts.append(
                    f'<text x="{12 + (column + piece.start()) * CELL_WIDTH:g}" y="{24 + row * CELL_HEIGHT}" '
                    f'textLength="{len(piece[0]) * CELL_WIDTH:g}" lengthAdjust="spacingAndGlyphs" '
                    f'fill="{COLOURS.get(cell.fg, INK)}"{weight}>{escape(piece[0])}</text>'
                )
            column = end
    parts.append("</g></svg>\n")
    return "\n".join(parts)


def main() -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        Cache("sessions", size="32MB", dir=directory).close()
        workers = [multiprocessing.Process(target=load, args=(directory, seed)) for seed in (7, 8)]
        for worker in workers:
            worker.start()
        try:
            command = [str(Path(sys.executable).with_name("cache-shm")), "--dir", directory, "top", "sessions"]
            with Terminal(command, columns=COLUMNS, lines=LINES) as terminal:
                # Until it evicts, and some seconds of rates are there.
                terminal.until(lambda text: "evicts what nobody read" in text)
                for _ in range(16):
                    seen = terminal.text
                    terminal.until(lambda text: text != seen)
                picture = svg(terminal)
                terminal.press("q")
                terminal.end()
        finally:
            for worker in workers:
                worker.terminate()
                worker.join()
    (DOCS / "images" / "top.svg").write_text(picture, encoding="utf-8")


if __name__ == "__main__":
    main()
