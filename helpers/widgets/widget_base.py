"""What the three widgets share: the page's code, and answering its messages."""

import base64
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from helpers.patterns import Patterns
from helpers.widgets.pattern_table import Facts
from helpers.widgets.pixels import COLOUR_MAPS, Pixels, colour_tables, make_pixels

# A larger pattern is averaged down to this many pixels a side before it is sent.
LONGEST_SIDE = 1040

# What every widget's page begins with.
DRAWING = ("dom.js", "drawing.js", "display.js", "link.js", "facts.js")

Message = dict[str, Any]


def join_files(*names: str) -> str:
    """Return files of this folder one after the other.

    A widget takes one ES module and one style sheet. The parts are plain files without
    imports; the last script exports `render`.
    """
    here = Path(__file__).parent
    return "\n".join((here / name).read_text(encoding="utf-8") for name in names)


class PatternWidget(anywidget.AnyWidget):
    """A widget whose page asks for patterns and draws them.

    Messages come from the page in whatever thread the kernel chooses, so one lock is
    held while one is answered.

    Parameters
    ----------
    patterns
        The stack.
    facts
        What is shown beside each pattern.
    keys
        The keys of each action.
    """

    colour_tables = traitlets.Bytes().tag(sync=True)
    colour_maps = traitlets.List(list(COLOUR_MAPS)).tag(sync=True)
    preview = traitlets.Bytes().tag(sync=True)
    unit = traitlets.Unicode().tag(sync=True)
    key_table = traitlets.Dict().tag(sync=True)

    def __init__(
        self, patterns: Patterns, facts: Facts, keys: dict[str, list[str]]
    ) -> None:
        super().__init__(
            colour_tables=colour_tables(), unit=patterns.unit, key_table=keys
        )
        self.patterns = patterns
        self.facts = facts
        self._lock = threading.RLock()
        self._answers: dict[str, Callable[[Message], None]] = {"fetch": self._fetch}
        self.on_msg(self._receive)

    def pixels(self, pattern: int, longest: int = LONGEST_SIDE) -> Pixels:
        """Return one pattern as the page draws it, no side longer than `longest`."""
        (pixels,) = make_pixels(self.patterns, [pattern], longest)
        return pixels

    def _receive(self, _: object, content: Message, buffers: Sequence[bytes]) -> None:
        with self._lock:
            try:
                self._answers[content["kind"]](content)
            except Exception as error:
                # A thread of the kernel has nobody to tell; the page has.
                self.send({"kind": "trouble", "message": f"{error}"})
                raise

    def _fetch(self, content: Message) -> None:
        for pattern in content["patterns"]:
            pixels = self.pixels(pattern)
            rows, columns = pixels.codes.shape
            message = {
                "kind": "pixels",
                "pattern": pattern,
                "rows": rows,
                "columns": columns,
                "knee": pixels.knee,
                "top": pixels.top,
                "facts": self.facts.of(pattern),
                **self._labels_of(pattern),
            }
            self.send(message, [pixels.codes.tobytes()])

    def _labels_of(self, pattern: int) -> Message:
        """Return what to tell about the labels of a pattern with its pixels."""
        return {}

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        data, metadata = super()._repr_mimebundle_(**kwargs)
        picture = base64.b64encode(self.preview).decode("ascii")
        return {**data, "image/png": picture}, metadata
