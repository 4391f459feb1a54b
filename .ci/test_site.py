"""The documentation site: built strictly, complete, whole, and readable without a network."""

import builtins
import html.parser
import importlib
import inspect
import pkgutil
import re
import sys
import zlib
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import pycache
import pycache.adapters
import pycache.leases
import pycache.prometheus
import pycache.testing

sys.path.insert(0, str(Path(__file__).resolve().parent))
import build_site
import stages

sys.path.insert(0, str(build_site.DOCS / "site"))
import reference

PACKAGE = Path(pycache.__file__).parent


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The site, built from the tree and the installed package."""
    directory = tmp_path_factory.mktemp("built") / "site"
    done = build_site.build(directory)
    assert (done.returncode, done.stderr) == (0, "")
    return directory


class Page(html.parser.HTMLParser):
    """What a page names: where it leads, what it loads, which anchors it has."""

    def __init__(self, path):
        super().__init__()
        self.links, self.loads, self.anchors = [], [], {""}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        found = {name: value or "" for name, value in attributes}
        self.anchors.update(found[name] for name in ("id", "name") if name in found)
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        elif tag == "link" and found.get("rel") not in ("index", "search", "next", "prev", "canonical"):
            self.loads.append(found["href"])
        elif tag != "a" and "src" in found:
            self.loads.append(found["src"])


def broken(site):
    """Links and loads of a site that lead to no file or anchor of it, and loads from elsewhere."""
    pages = {path.resolve(): Page(path) for path in site.rglob("*.html")}
    found = []
    for path, page in pages.items():
        for target in [*page.links, *page.loads]:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                if target in page.loads and parts.scheme != "data":
                    found.append(f"{path.name} loads {target}")
                continue
            file = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not file.is_file():
                found.append(f"{path.name}: {target}")
            elif file in pages and unquote(parts.fragment) not in pages[file].anchors:
                found.append(f"{path.name}: {target} (no such anchor)")
    return found


def test_every_link_leads_somewhere_and_nothing_is_loaded_from_elsewhere(site):
    assert broken(site) == []


def test_no_style_loads_anything_from_a_network(site):
    styles = [*site.rglob("*.css"), *site.rglob("*.svg"), *site.rglob("*.html")]
    assert styles
    for path in styles:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"(url\(|@import)\s*['\"]?(https?:)?//", text), path


def test_the_search_for_broken_links_finds_them(tmp_path):
    (tmp_path / "page.html").write_text(
        '<a href="page.html#here">.</a><p id="here"><a href="gone.html">.</a><a href="#gone">.</a>'
        '<script src="https://example.net/x.js"></script><a href="https://example.net/">.</a>'
    )
    assert broken(tmp_path) == [
        "page.html: gone.html",
        "page.html: #gone (no such anchor)",
        "page.html loads https://example.net/x.js",
    ]


def test_the_search_page_needs_no_server(site):
    # Loaded by a script tag: a page that is opened from a file may not fetch anything.
    assert "searchindex.js" in "".join(Page(site / "search.html").loads)
    assert "Search.setIndex" in (site / "searchindex.js").read_text(encoding="utf-8")


# --- the reference --------------------------------------------------------------------------------


def inventory(site):
    """The names that have an entry, as the site's own list has them."""
    _, _, rest = (site / "objects.inv").read_bytes().partition(b"using zlib.\n")
    lines = zlib.decompress(rest).decode().splitlines()
    return {line.split(" ")[0] for line in lines if " py:" in line}


def ours(cls, name):
    """Whether a member comes from the package; not from Python, nor a constant that a framework wants to know."""
    owner = next(base for base in cls.__mro__ if name in vars(base))
    others = [base for base in cls.__mro__ if base.__module__.split(".")[0] != "pycache"]
    wanted = any(name in vars(base).get("__annotations__", ()) or name in vars(base) for base in others)
    constant = isinstance(getattr(cls, name), (str, list)) and wanted
    return owner not in others and not constant


def members(module, cls):
    """The full names of a class and of its public members."""
    yield f"{module}.{cls.__name__}"
    if not issubclass(cls, BaseException):
        # A named tuple's fields are public although their names are made by machine.
        names = [name for name in dir(cls) if not name.startswith("_") and ours(cls, name)]
        yield from (f"{module}.{cls.__name__}.{name}" for name in names)


def public_names():
    """Everything that a user may name."""
    modules = [pycache, pycache.leases, pycache.prometheus, pycache.testing]
    for info in pkgutil.iter_modules(pycache.adapters.__path__):
        if not info.name.startswith("_"):
            modules.append(importlib.import_module(f"pycache.adapters.{info.name}"))
    for module in modules:
        for name in module.__all__:
            found = getattr(module, name)
            if inspect.isclass(found):
                yield from members(module.__name__, found)
            else:
                yield f"{module.__name__}.{name}"


def test_every_public_name_has_an_entry(site):
    names = set(public_names())
    assert {"pycache.Cache.get", "pycache.Busy", "pycache.leases.Lock.acquire", "pycache.RegionInfo.size"} <= names
    # Fixtures are taken by their names, and nobody imports them.
    fixtures = {name for name in vars(pycache.testing) if name.startswith("cache_shm")}
    assert "cache_shm" in fixtures
    names |= {f"pycache.testing.{name}" for name in fixtures}
    # What `Cache.reserve` gives has a name that nobody needs, and methods that everybody does.
    names |= {"pycache.Reservation.buffer", "pycache.Reservation.commit", "pycache.Reservation.discard"}
    assert names - inventory(site) == set()


def test_every_entry_says_something(site):
    text = "".join(path.read_text(encoding="utf-8") for path in (site / "reference").glob("*.html"))
    entries = re.findall(r'<dt class="sig[^>]*id="([^"]+)"((?:(?!</dt>).)*)</dt>\s*<dd>(\s*</dd>)?', text, re.DOTALL)
    assert len(entries) > 100
    # Of several signatures only the last is followed by the text.
    assert [name for name, _, nothing in entries if nothing and not overloaded(name)] == []


def overloaded(name):
    """Whether a method has several signatures in the stub, or in its module."""
    module, cls, method = name.rsplit(".", 2)
    module = "pycache._pycache" if module == "pycache" else module
    return len(reference.source_of(module).find(cls).find(method).nodes) > 1


def test_an_entry_shows_the_signature_of_the_stub_and_the_text_of_the_docstring():
    entry = reference.entry("pycache.Cache", constructor=True)
    assert "{py:method} get(key: Key, default: None=None) -> Value | None" in entry
    assert "Never waits for another process." in inspect.getdoc(pycache.Cache.get)
    assert "Never waits for another process." in entry


def test_docstrings_become_markdown():
    docstring = """What it does.

    Args:
        key: A name,
            or a number.

    Raises:
        KeyError: There is none.

    >>> 1 + 1
    2

    The end.
    """
    assert "\n".join(reference.markdown(docstring)) == (
        "What it does.\n\n\n:param key: A name, or a number.\n\n:raises KeyError: There is none.\n"
        "\n```pycon\n>>> 1 + 1\n2\n```\n\nThe end."
    )


def test_every_row_of_the_table_of_errors_is_listed_with_what_it_says():
    rust = reference.ERRORS.read_text(encoding="utf-8")
    rows = reference.error_rows(rust)
    assert [row.number for row in rows] == list(range(2, 2 + len(rows))) and len(rows) >= 40
    assert {row.python_class for row in rows} == {name for name in pycache.__all__ if is_error(name)}
    for row in rows:
        assert issubclass(getattr(pycache, row.python_class), getattr(builtins, row.python_base))
        assert len(row.message) > 20 and not re.search(r"[{}\\]", row.message), row
    text = "\n".join(reference.error_entries())
    assert all(row.message in text and f"`{row.word}`, {row.number}" in text for row in rows)


def test_every_number_of_the_statistics_is_explained():
    rows = reference.stats_rows(reference.STATS.read_text(encoding="utf-8"))
    with pycache.Cache(None, size="1MiB") as cache:
        assert [name for name, _ in rows] == list(cache.stats())


def is_error(name):
    found = getattr(pycache, name)
    return inspect.isclass(found) and issubclass(found, pycache.CacheError) and found is not pycache.CacheError


def test_commands_that_errors_and_pages_name_exist():
    cli = (stages.TREE / "cache-server" / "src" / "cli.rs").read_text(encoding="utf-8")
    commands = {name.lower() for name in re.findall(r"^    (\w+)\([\w<>]+\),$", cli, re.MULTILINE)}
    assert {"get", "verify"} <= commands
    texts = [reference.ERRORS, build_site.DOCS / "command-line.md", *(build_site.DOCS / "guide").glob("*.md")]
    named = {name for path in texts for name in re.findall(r"(?:`|\$ )cache-shm ([a-z]+)", path.read_text(encoding="utf-8"))}
    assert named - commands == set()
