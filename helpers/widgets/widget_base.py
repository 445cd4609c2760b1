"""What the widgets share: the page's code, the list of patterns, and its messages."""

import base64
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import traitlets
from numpy.typing import NDArray

from helpers.labels import LABELS
from helpers.patterns import Patterns
from helpers.plots import find_crop
from helpers.widgets.keys import KeyTable
from helpers.widgets.label_service import LabelService
from helpers.widgets.pattern_table import ALL, FILTERS, PatternOrder
from helpers.widgets.pixels import COLOUR_MAPS, Pixels, colour_tables, make_pixels

# A larger pattern is averaged down to this many pixels a side before it is sent.
LONGEST_SIDE = 1040

# Made of the sources in js/ by `make bundle`.
STATIC = Path(__file__).parent / "static"

Message = dict[str, Any]


def find_signal(
    patterns: Patterns, centre: tuple[float, float] | None = None
) -> dict[str, list[float]]:
    """Say where the signal is, as shares of width and height.

    Parameters
    ----------
    patterns
        The stack.
    centre
        (row, column) of the beam; without it, the middle of the signal.

    Returns
    -------
        "middle": x and y; "crop": left, top, right and bottom.
    """
    rows, columns = find_crop(patterns)
    n_rows, n_columns = patterns.shape[1:]
    row, column = centre or (
        (rows.start + rows.stop - 1) / 2,
        (columns.start + columns.stop - 1) / 2,
    )
    crop = (
        columns.start / n_columns,
        rows.start / n_rows,
        columns.stop / n_columns,
        rows.stop / n_rows,
    )
    return {
        "middle": [(column + 0.5) / n_columns, (row + 0.5) / n_rows],
        "crop": list(crop),
    }


class PatternWidget(anywidget.AnyWidget):
    """A widget whose page goes through patterns, and may label them.

    Messages come from the page in whatever thread the kernel chooses, so one lock is
    held while one is answered.

    Parameters
    ----------
    patterns
        The stack.
    order
        The orders offered, and what is shown beside each pattern.
    keys
        The keys of each action.
    labels
        Where labels go; None = look only.
    first_order, first_only
        The order and the filter with which the page begins.
    blind
        True shows nothing that others or the model say.
    """

    colour_tables = traitlets.Bytes().tag(sync=True)
    colour_maps = traitlets.List(list(COLOUR_MAPS)).tag(sync=True)
    preview = traitlets.Bytes().tag(sync=True)
    unit = traitlets.Unicode().tag(sync=True)
    signal = traitlets.Dict().tag(sync=True)
    key_table = traitlets.Dict().tag(sync=True)
    words = traitlets.List(list(LABELS)).tag(sync=True)
    labeller = traitlets.Unicode().tag(sync=True)
    can_label = traitlets.Bool().tag(sync=True)

    def __init__(
        self,
        patterns: Patterns,
        order: PatternOrder,
        keys: KeyTable,
        *,
        labels: LabelService | None = None,
        first_order: str,
        first_only: str = ALL,
        blind: bool = False,
    ) -> None:
        super().__init__(
            colour_tables=colour_tables(),
            unit=patterns.unit,
            key_table={name: key._asdict() for name, key in keys.items()},
        )
        self.patterns = patterns
        self.table = order.table.without_model_values() if blind else order.table
        self.can_label = labels is not None
        self.labeller = labels.labeller if labels else ""
        self._order = order
        self._labels = labels
        self._first_order = first_order
        self._first_only = first_only
        self._lock = threading.RLock()
        self._answers: dict[str, Callable[[Message], None]] = {
            "hello": self._send_state,
            "fetch": self._send_pixels,
            "events": self._store_labels,
            "rescue": self._rescue,
        }
        self.on_msg(self._receive)

    def index(self, order: str | None = None, only: str = ALL) -> NDArray[np.int64]:
        """Return the patterns, in the order in which they are shown.

        Parameters
        ----------
        order
            "as given" where indices were given, or the name of an order; None = the
            first.
        only
            One of `helpers.widgets.pattern_table.FILTERS`, by the labels of now.
        """
        order = order or self._first_order
        labels = self.labels()
        disagree = None if self._labels is None else self._labels.disagree()
        return self._order.index(order, only, labels, disagree)

    def labels(self) -> NDArray[np.str_]:
        """Return the label words of now, (n,), "" = unlabelled."""
        if self._labels is None:
            return np.full(len(self.patterns), "")
        self._labels.look_again()
        return self._labels.labels()

    def label_of(self, pattern: int) -> str:
        """Return the label word of one pattern, "" = unlabelled."""
        if self._labels is None:
            return ""
        self._labels.look_again()
        return str(self._labels.labels_of(pattern)["label"])

    def pixels(self, pattern: int, longest: int = LONGEST_SIDE) -> Pixels:
        """Return one pattern as the page draws it, no side longer than `longest`."""
        (pixels,) = make_pixels(self.patterns, [pattern], longest)
        return pixels

    def _receive(self, _: object, content: Message, buffers: Sequence[bytes]) -> None:
        with self._lock:
            try:
                self._answers[content["kind"]](content)
            except Exception as error:
                # Nobody sees an error in a thread of the kernel; the page shows it.
                self.send({"kind": "trouble", "message": f"{error}"})
                raise

    def _send_state(self, content: Message) -> None:
        codes = np.zeros(len(self.patterns), dtype=np.uint8)
        if self._labels is not None:
            self._labels.look_again()
            codes = self._labels.codes()
        order = content.get("order") or self._first_order
        only = content.get("only") or self._first_only
        message = {
            "kind": "state",
            "view": content["view"],
            "orders": self._order.names,
            "order": order,
            "filters": FILTERS if self.can_label else [ALL],
            "only": only,
            "why_empty": self._order.why_empty(order),
            "lost": self._labels.lost if self._labels else "",
        }
        index, *more = self._list(order, only)
        buffers: list[NDArray[Any]] = [index.astype(np.int32), codes, *more]
        self.send(message, [each.tobytes() for each in buffers])

    def _list(self, order: str, only: str) -> list[NDArray[Any]]:
        """Return the patterns to be shown, and what this widget sends with them."""
        return [self.index(order, only)]

    def _send_pixels(self, content: Message) -> None:
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
                "values": self.table.row(pattern),
                "by": self._labels.labels_of(pattern)["by"] if self._labels else {},
            }
            self.send(message, [pixels.codes.tobytes()])

    def _store_labels(self, content: Message) -> None:
        if self._labels is None:
            return
        for answer in self._labels.take(content["session"], content["events"]):
            self.send(answer)

    def _rescue(self, _: Message) -> None:
        if self._labels is not None:
            self.send({"kind": "rescued", "message": self._labels.rescue()})

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        data, metadata = super()._repr_mimebundle_(**kwargs)
        picture = base64.b64encode(self.preview).decode("ascii")
        return {**data, "image/png": picture}, metadata
