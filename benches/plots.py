"""The plots of the report, as SVG: the same rows make the same bytes."""

from collections.abc import Iterable
from pathlib import Path

OWN = "cache"
# The cache is drawn in the first colour everywhere, rivals in the others.
COLOURS = ["#c0392b", "#2c6fbb", "#3a9a5b", "#8e5ea2", "#d08a1d", "#555555", "#7fb1d6"]


def new_figure(down: int = 1, across: int = 1, size: tuple[float, float] = (7, 3.6)):
    """A figure and its axes, set up so that nothing of the time or the machine gets into the file."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    plt.rcParams.update({"svg.hashsalt": "benchmarks", "svg.fonttype": "none", "font.size": 9, "axes.grid": True})
    plt.rcParams.update({"grid.alpha": 0.3, "axes.spines.top": False, "axes.spines.right": False})
    return plt.subplots(down, across, figsize=size)


def save(figure, path: Path) -> str:
    import matplotlib.pyplot as plt

    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None, "Creator": None})
    plt.close(figure)
    # matplotlib ends lines of paths with blanks.
    text = "\n".join(line.rstrip() for line in path.read_text(encoding="utf-8").splitlines()) + "\n"
    path.write_text(text, encoding="utf-8")
    return path.name


Series = dict[str, list[tuple[float, float]]]


def _series(rows: Iterable[dict], name: str, across: str, value: str = "measured") -> Series:
    found: Series = {}
    for row in rows:
        labels = row["labels"]
        if name in labels and across in labels:
            number = row["measured"] if value == "measured" else labels[value]
            found.setdefault(str(labels[name]), []).append((float(labels[across]), float(number)))
    return found


def _lines(series: Series, path: Path, across: str, upwards: str, *, log_y: bool = False, base: int = 10) -> str:
    figure, axes = new_figure()
    ordered = sorted(series, key=lambda name: name != OWN)
    for number, name in enumerate(ordered):
        points = sorted(series[name])
        colour = COLOURS[number % len(COLOURS)]
        axes.plot(
            *zip(*points), marker="o", markersize=3, color=colour, label=name, linewidth=2 if name == OWN else 1.2
        )
    axes.set_xscale("log", base=base)
    if log_y:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.set_xlabel(across)
    axes.set_ylabel(upwards)
    axes.legend(frameon=False, fontsize=8)
    return save(figure, path)


def _bars(values: dict[str, float], path: Path, across: str) -> str:
    figure, axes = new_figure()
    ordered = sorted(values, key=values.get, reverse=True)
    colours = [COLOURS[0] if name.startswith(OWN) else COLOURS[1] for name in ordered]
    axes.barh(ordered, [values[name] for name in ordered], color=colours)
    axes.set_xscale("log")
    axes.set_xlabel(across)
    return save(figure, path)


def _percentiles(rows: list[dict], path: Path) -> str:
    """Latency over one in so many operations: p99 is one in a hundred."""
    series: Series = {}
    for row in rows:
        labels = row["labels"]
        if "series" in labels and labels["percent"] < 100 and row["measured"] > 0:
            one_in = 100 / (100 - labels["percent"])
            series.setdefault(labels["series"], []).append((one_in, row["measured"]))
    return _lines(series, path, "slower is one operation in", "us", log_y=True)


def draw(groups: dict, directory: Path) -> dict[str, list[str]]:
    """Draws what the groups have rows for; says which files belong to which group."""
    rows = {name: group["rows"] for name, group in groups.items()}
    drawn: dict[str, list[str]] = {}

    def keep(group: str, file: str) -> None:
        drawn.setdefault(group, []).append(file)

    if "get" in rows:
        chosen = [row for row in rows["get"] if row["unit"] == "ns"]
        keep("get", _lines(_series(chosen, "subject", "keys"), directory / "get.svg", "keys", "ns a get", log_y=True))
    for group in ("tail", "fixed-rate"):
        if group in rows:
            keep(group, _percentiles(rows[group], directory / f"{group}.svg"))
    if "matrix" in rows:
        by_processes = [
            {**row, "labels": {**row["labels"], "line": f"{row['labels']['popularity']}, {row['labels']['mix']}"}}
            for row in rows["matrix"]
            if row["labels"].get("table") == "processes"
        ]
        path = directory / "processes.svg"
        keep("matrix", _lines(_series(by_processes, "line", "processes"), path, "processes", "million/s", base=2))
        sizes = [row for row in rows["matrix"] if row["labels"].get("table") == "value sizes"]
        series = _series(sizes, "mix", "value_bytes", "core_ns")
        keep("matrix", _lines(series, directory / "value-sizes.svg", "bytes of a value", "ns an operation", log_y=True))
    if "python" in rows:
        gets = {
            row["labels"]["subject"]: row["measured"]
            for row in rows["python"]
            if row["labels"].get("operation") == "get" and row["labels"]["order"] == "shuffled"
        }
        keep("python", _bars(gets, directory / "python.svg", "ns a get, keys shuffled"))
    if "memory" in rows:
        smallest = [row for row in rows["memory"] if row["labels"].get("limit_mib") == 64]
        values = {
            f"{row['labels']['subject']}, {row['labels']['values']}": row["labels"]["overhead_bytes"]
            for row in smallest
        }
        keep("memory", _bars(values, directory / "memory.svg", "bytes beside key and value, for each item in 64 MiB"))
    return drawn
