"""Configuration of the documentation site. `make docs` builds it into target/site."""

import sys
from importlib.metadata import version as version_of
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

project = "pycache-shm"
author = copyright = "the authors of pycache-shm"
release = version = version_of("pycache-shm")

# `reference` is the module beside this file: it writes the API reference into the pages that ask for it.
extensions = ["myst_parser", "reference"]
exclude_patterns = ["site"]

# Links are plain Markdown, with the anchors that other viewers of Markdown make too.
myst_heading_anchors = 3
myst_enable_extensions = ["deflist", "fieldlist"]

# Quotes in the text are those of code.
smartquotes = False

add_module_names = False
maximum_signature_line_length = 88
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = f"pycache-shm {version}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": False}
pygments_style = "friendly"
pygments_dark_style = "github-dark"
