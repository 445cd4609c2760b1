"""Widgets to look at patterns and to label them, in a notebook.

`label_patterns` shows one pattern after the other, `show_gallery` a page of small ones,
`browse_patterns` lets one look through a stack. Python and page stand side by side:
`desk.py` and `outbox.js` are the two ends of saving labels.
"""

from helpers.widgets.browser import PatternBrowser, browse_patterns
from helpers.widgets.gallery import Gallery, show_gallery
from helpers.widgets.labeller import Labeller, label_patterns

__all__ = [
    "Gallery",
    "Labeller",
    "PatternBrowser",
    "browse_patterns",
    "label_patterns",
    "show_gallery",
]
