"""Widgets to look at patterns and to label them, in a notebook.

`label_patterns` shows one pattern after the other, `show_gallery` a page of small ones,
`browse_patterns` lets one look through a stack, and `show_map` draw a line round a
group on the map. `slide_purity` chooses how many patterns are taken. `read_results`
finds what later notebooks have left to be shown beside the patterns, `save_keys` keeps
the keys that a person prefers, and `make_thumbnails` makes small patterns before they
are asked for.

`js/` holds the pages, which `make bundle` puts into one file a widget in `static/`.
`label_service.py` and `js/outbox.js` are the two ends of saving labels.
"""

from helpers.widgets.gallery import Gallery, show_gallery, slide_purity
from helpers.widgets.keys import save_keys
from helpers.widgets.map_view import MapView, show_map
from helpers.widgets.pattern_table import read_results
from helpers.widgets.pattern_widget import (
    Labeller,
    PatternBrowser,
    browse_patterns,
    label_patterns,
)
from helpers.widgets.pixels import make_thumbnails

__all__ = [
    "Gallery",
    "Labeller",
    "MapView",
    "PatternBrowser",
    "browse_patterns",
    "label_patterns",
    "make_thumbnails",
    "read_results",
    "save_keys",
    "show_gallery",
    "show_map",
    "slide_purity",
]
