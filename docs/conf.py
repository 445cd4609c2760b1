"""The documentation site; `make docs` builds it from these pages and a run.

The Makefile lays this folder, the executed notebooks and the list of changes beside
each other first, as they lie in the repository, so that links hold in both. Nothing is
fetched while building or reading: formulas become MathML, which browsers draw.
"""

import tomllib
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx

REPOSITORY = Path(__file__).parents[1]

project = "Single hits"
author = "The authors of single-hits"
copyright = "the authors of single-hits; BSD-3-Clause"
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))
release = PROJECT["project"]["version"]
root_doc = "docs/index"

extensions = ["myst_nb"]
nb_execution_mode = "off"  # `make run` has executed them
nb_merge_streams = True
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
highlight_language = "sh"  # of blocks that name none
nitpicky = True
html_math_renderer = "mathml"

html_theme = "sphinx_book_theme"
html_title = "Single hits"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_use_index = False
html_theme_options = {
    "logo": {"text": "Single hits"},
    "show_navbar_depth": 1,
    "home_page_in_toc": True,
    "navbar_persistent": [],
    "use_download_button": False,
    "use_fullscreen_button": False,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}


def _visit_inline(translator: Any, node: nodes.Element) -> None:
    translator.body.append(tex2mathml(node.astext()))
    raise nodes.SkipNode


def _visit_block(translator: Any, node: nodes.Element) -> None:
    math = tex2mathml(node.astext(), as_block=True)
    translator.body.append(f'<div class="math">{math}</div>\n')
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    """Draw formulas as MathML: no script, no fonts, no network."""
    app.add_html_math_renderer("mathml", (_visit_inline, None), (_visit_block, None))
