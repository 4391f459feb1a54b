"""The API reference: written into the pages that ask for it, whenever the site is built.

A line `<!-- reference: pycache.Cache -->` in a page becomes the entry of that class, function or
module, with all its public members: signatures from the stub or the source, text from the
docstrings of the installed module. `(no constructor)` behind the name leaves out how objects are
made. `<!-- reference: errors -->` becomes an entry for each exception, from the table in
`cache-core/src/error.rs` and the stub, and `<!-- reference: stats -->` a table of what `stats()`
counts, from `cache-core/src/stats.rs`.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

TREE = Path(__file__).resolve().parent.parent.parent
ERRORS = TREE / "cache-core" / "src" / "error.rs"
STATS = TREE / "cache-core" / "src" / "stats.rs"
STUB = TREE / "pycache" / "python" / "pycache" / "_pycache.pyi"
PACKAGE = "pycache"

MARKER = re.compile(r"^<!-- reference: ([\w.]+)( \(no constructor\))? -->$", re.MULTILINE)


# --- docstrings ---------------------------------------------------------------------------------


def markdown(docstring: str) -> list[str]:
    """A docstring as lines of Markdown: examples and code in fences, arguments and errors as fields."""
    lines = inspect.cleandoc(docstring).splitlines()
    out: list[str] = []
    at = 0
    while at < len(lines):
        line = lines[at]
        at += 1
        if line.startswith(">>>"):
            block = [line, *until_blank(lines[at:])]
            at += len(block) - 1
            out += ["", "```pycon", *block, "```"]
        elif line.startswith(".. code-block::"):
            block = indented(lines[at:])
            at += len(block)
            out += ["", f"```{line.split()[-1]}", *textwrap.dedent("\n".join(block)).strip().splitlines(), "```"]
        elif line.endswith(":") and at < len(lines) and lines[at].startswith("    "):
            block = indented(lines[at:])
            at += len(block)
            field = {"Args:": ":param {}:", "Raises:": ":raises {}:"}.get(line)
            out += [""] if field else [line, ""]
            out += [f"{(field or '- `{}`:').format(name)} {text}" for name, text in items(block)]
        else:
            out.append(line)
    return out


def until_blank(lines: list[str]) -> list[str]:
    """The lines before the first that is empty."""
    return lines[: next((at for at, line in enumerate(lines) if not line.strip()), len(lines))]


def indented(lines: list[str]) -> list[str]:
    """The lines before the first that is neither indented nor empty."""
    return lines[: next((at for at, line in enumerate(lines) if line.strip() and line[0] != " "), len(lines))]


def items(lines: list[str]) -> Iterator[tuple[str, str]]:
    """Pairs of name and text of a section such as `Args:`."""
    for item in re.split(r"\n(?=\S)", textwrap.dedent("\n".join(lines)).strip()):
        name, _, text = item.partition(":")
        yield name, " ".join(text.split())


# --- sources and stubs --------------------------------------------------------------------------


class Source(NamedTuple):
    """Where something is written down: the statements of its name, and of what it contains."""

    nodes: list[ast.stmt]

    @property
    def body(self) -> list[ast.stmt]:
        return [node for part in self.nodes for node in getattr(part, "body", [])]

    def find(self, name: str) -> Source:
        """What is written under `name` inside: several statements if it has overloads."""
        return Source([node for node in self.body if name in names_of(node)])

    def docstring(self) -> str | None:
        """The first docstring; that of an attribute is the string behind it."""
        for node in self.nodes:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and (text := ast.get_docstring(node)):
                return text
        return None


def names_of(node: ast.stmt) -> list[str]:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return [node.name]
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return [node.target.id]
    return []


def source_of(module: str) -> Source:
    """The source of a module, or its stub if it is native."""
    file = importlib.import_module(module).__file__ or ""
    path = Path(file) if file.endswith(".py") else Path(file).with_name("_pycache.pyi")
    return Source([ast.parse(path.read_text(encoding="utf-8"))])


def home_of(cls: type) -> str:
    """The module that a class is written in; what is native says the one that it is met in."""
    module = cls.__module__
    return module if source_of(module).find(cls.__name__).nodes else f"{PACKAGE}._pycache"


def sources_of(cls: type) -> list[Source]:
    """The class and those of its bases that belong to the package, in the order of lookup."""
    ours = [base for base in cls.__mro__ if base.__module__.split(".")[0] == PACKAGE]
    return [source_of(home_of(base)).find(base.__name__) for base in ours]


def public(text: str) -> str:
    """Without the underscores that stubs put before the names of type variables."""
    return re.sub(r"\b_([A-Z])", r"\1", text)


def signature(node: ast.stmt, *, bound: bool) -> str:
    """Arguments and result of a function, without `self`."""
    assert isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    arguments = node.args
    if bound:
        for group in (arguments.posonlyargs, arguments.args):
            if group:
                del group[0]
                break
    result = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return public(f"({ast.unparse(arguments)}){result}")


# --- entries ------------------------------------------------------------------------------------


def fence(directive: str, signatures: list[str], options: list[str], content: list[str], ticks: int) -> list[str]:
    """A directive around its content. Of several signatures the first is the target of links."""
    lines: list[str] = []
    for at, each in enumerate(signatures):
        lines += [f"{'`' * ticks}{{{directive}}} {each}", *options, *([":no-index:"] if at else []), ""]
        lines += content if each is signatures[-1] else []
        lines += ["`" * ticks, ""]
    return lines


def decorators(node: ast.stmt) -> set[str]:
    return {ast.unparse(item) for item in getattr(node, "decorator_list", [])}


def member(cls: type, name: str, source: Source) -> list[str]:
    """The entry of a method, property or field."""
    node = source.nodes[0]
    found = inspect.getattr_static(cls, name, None)
    text = inspect.getdoc(found) if not isinstance(node, ast.AnnAssign) else None
    text = text or source.docstring() or ""
    if isinstance(node, ast.AnnAssign):
        return fence("py:attribute", [name], [f":type: {public(ast.unparse(node.annotation))}"], markdown(text), 5)
    if "property" in decorators(node):
        options = [f":type: {public(ast.unparse(node.returns))}"] if node.returns else []
        return fence("py:property", [name], options, markdown(text), 5)
    options = [":async:"] if isinstance(node, ast.AsyncFunctionDef) else []
    options += [":classmethod:"] if "classmethod" in decorators(node) else []
    signatures = [name + signature(each, bound=True) for each in source.nodes]
    return fence("py:method", signatures, options, markdown(text), 5)


def class_entry(cls: type, constructor: bool) -> list[str]:
    """A class with its public members, those of the package's own bases included."""
    sources = sources_of(cls)
    content = markdown(inspect.getdoc(cls) or "")
    signatures = [cls.__name__]
    makers = [each for source in sources for name in ("__new__", "__init__") for each in source.find(name).nodes]
    if constructor and makers:
        made = signature(makers[0], bound=True)
        signatures = [cls.__name__ + made.split(" -> ")[0]]
    seen: set[str] = set()
    for source in sources:
        strings = dict(zip(map(id, source.body), source.body[1:]))
        for node in source.body:
            for name in names_of(node):
                found = source.find(name)
                special = name.startswith("_") and not (name == "__call__" and found.docstring())
                if name in seen or special:
                    continue
                seen.add(name)
                entry = member(cls, name, found)
                after = strings.get(id(node))
                if isinstance(node, ast.AnnAssign) and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                    entry[-2:-2] = markdown(str(after.value.value))
                content += ["", *entry]
    return fence("py:class", signatures, [], content, 7)


def function_entry(function: Any) -> list[str]:
    node = source_of(function.__module__).find(function.__name__).nodes
    signatures = [function.__name__ + signature(each, bound=False) for each in node]
    return fence("py:function", signatures, [], markdown(inspect.getdoc(function) or ""), 7)


def entry(name: str, constructor: bool) -> str:
    """The text that stands for a marker."""
    if name == "errors":
        return "\n".join(["```{py:currentmodule} pycache\n```", "", *error_entries()])
    if name == "stats":
        rows = stats_rows(STATS.read_text(encoding="utf-8"))
        return "\n".join(["| name | what it is |", "|---|---|", *(f"| `{name}` | {text} |" for name, text in rows)])
    module_name, _, last = name.rpartition(".")
    parent = importlib.import_module(module_name) if module_name else None
    found = getattr(parent, last, None)
    if found is None or inspect.ismodule(found):
        found = importlib.import_module(name)
        return "\n".join([f"```{{py:module}} {name}\n```", "", *markdown(inspect.getdoc(found) or "")])
    # A class of a private module is listed under the public one that it is met in.
    shown = ".".join(part for part in module_name.split(".") if not part.startswith("_"))
    made = class_entry(found, constructor) if inspect.isclass(found) else function_entry(found)
    return "\n".join([f"```{{py:currentmodule}} {shown}\n```", "", *made])


# --- errors -------------------------------------------------------------------------------------


class Row(NamedTuple):
    """One row of the table of errors."""

    number: int
    word: str
    python_class: str
    python_base: str
    message: str


def unescaped(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


def error_rows(rust: str) -> list[Row]:
    """The table of errors, with what each variant says."""
    shown = rust.split("impl fmt::Display for Error", 1)[1]
    messages = {
        name: placeholders(unescaped(text), rest)
        for name, text, rest in re.findall(
            r'Error::(\w+)(?: \{[^}]*\})? => \{?\s*write!\(\s*f,\s*"((?:[^"\\]|\\.)*)"(.*?)\)[,\s]', shown, re.DOTALL
        )
    }
    table = re.findall(r'^    (\w+) = (\d+), "(\w+)", "(\w+)", "(\w+)";', rust, re.MULTILINE)
    return [Row(int(number), word, cls, base, messages[name]) for name, number, word, cls, base in table]


def placeholders(message: str, arguments: str) -> str:
    """The message with the names of what is filled in."""
    for argument in re.findall(r"(\w+)\.display\(\)", arguments):
        message = message.replace("{}", f"{{{argument}}}", 1)
    message = message.replace("{}", "{reason}")
    return re.sub(r"\{(\w+)(?::[^}]*)?\}", r"⟨\1⟩", message)


def error_entries() -> Iterator[str]:
    """An entry for each exception: what it means, and what it says to do next."""
    stub = Source([ast.parse(STUB.read_text(encoding="utf-8"))])
    rows = error_rows(ERRORS.read_text(encoding="utf-8"))
    base = stub.find("CacheError").docstring() or ""
    yield from fence("py:exception", ["CacheError"], [], markdown(base), 5)
    for name in dict.fromkeys(row.python_class for row in rows):
        same = [row for row in rows if row.python_class == name]
        content = [f"{stub.find(name).docstring() or ''} It is a `{same[0].python_base}`."]
        for row in same:
            content += ["", f"`{row.word}`, {row.number}:", f": {row.message}"]
        yield from fence("py:exception", [name], [], content, 5)


# --- statistics ---------------------------------------------------------------------------------


def stats_rows(rust: str) -> list[tuple[str, str]]:
    """Names of counters and sizes, with what they are."""
    counters = re.findall(r'^    \w+ (\w+) "([^"]+)";', rust, re.MULTILINE)
    sizes = re.findall(r"^ +/// ([^\n]+)\n +pub (\w+): u64,", rust, re.MULTILINE)
    return counters + [(name, re.sub(r",? ?\bsee `[^`]*`[^)]*|; see [^.]*", "", text)) for text, name in sizes]


# --- Sphinx -------------------------------------------------------------------------------------


def fill_in(app: Any, document: str, source: list[str]) -> None:
    """Replaces the markers of a page."""
    source[0] = MARKER.sub(lambda found: entry(found[1], constructor=not found[2]), source[0])


def setup(app: Any) -> dict[str, Any]:
    app.connect("source-read", fill_in)
    # A change of the package is no change of a page, so every build starts afresh.
    return {"parallel_read_safe": True}
