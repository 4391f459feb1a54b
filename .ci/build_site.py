"""Builds the documentation site: `python build_site.py [DIRECTORY]`, target/site unless one is named.

Every warning is an error: a link that leads nowhere, a page that no list names, a reference to
something that is gone. The site is files only, and needs no network to be read.
"""

import shutil
import subprocess
import sys
from pathlib import Path

TREE = Path(__file__).resolve().parent.parent
DOCS = TREE / "docs"


def build(site: Path) -> subprocess.CompletedProcess[str]:
    """Builds the site into an empty directory."""
    shutil.rmtree(site, ignore_errors=True)
    strictly = ["--fail-on-warning", "--keep-going", "--fresh-env", "--quiet"]
    sphinx = [sys.executable, "-m", "sphinx", "--builder", "html", *strictly, "--conf-dir", DOCS / "site"]
    # What only the next build needs is kept out of the site.
    doctrees = site.with_name(f"{site.name}.doctrees")
    done = subprocess.run([*sphinx, "--doctree-dir", doctrees, DOCS, site], capture_output=True, text=True, check=False)
    shutil.rmtree(doctrees, ignore_errors=True)
    (site / ".buildinfo").unlink(missing_ok=True)
    return done


def main() -> int:
    site = Path(sys.argv[1]).resolve() if sys.argv[1:] else TREE / "target" / "site"
    done = build(site)
    print(done.stdout + done.stderr, end="", file=sys.stderr)
    if done.returncode == 0:
        print(f"open {site / 'index.html'}")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
