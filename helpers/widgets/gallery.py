"""Look at many patterns at once, and label them by the handful."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import traitlets
from numpy.typing import ArrayLike, NDArray

from helpers.errors import ParameterError
from helpers.labels import LABELS, LabelStore, Queue
from helpers.patterns import Patterns
from helpers.widgets.keys import GALLERY_KEYS, choose_keys
from helpers.widgets.label_service import LabelService, name_session
from helpers.widgets.pattern_table import (
    ALL,
    AS_GIVEN,
    FILTERS,
    Listing,
    check_column,
    check_facts,
    check_index,
)
from helpers.widgets.pixels import BAD, Thumbnails, preview_png
from helpers.widgets.widget_base import DRAWING, Message, PatternWidget, join_files

PREVIEW_SIDE = 48
PREVIEW_COLUMNS = 8


class Gallery(PatternWidget):
    """Pages of small patterns; `show_gallery` makes one.

    Parameters
    ----------
    patterns
        The stack.
    listing
        The patterns, their orders, and what is shown beside an enlarged one.
    keys
        The keys of each action.
    score_name
        What the score is called.
    threshold
        Where a line is drawn when patterns are sorted by score.
    per_page
        Patterns a page.
    desk
        Where labels go; None = look only.
    thumbnails
        The small patterns.
    blind
        True shows nothing that others or the model say.
    """

    _esm = join_files(
        *DRAWING,
        "outbox.js",
        "sheet.js",
        "labelpage.js",
        "thumbs.js",
        "grid.js",
        "gallery.js",
    )
    _css = join_files("common.css", "gallery.css")

    words = traitlets.List(list(LABELS)).tag(sync=True)
    labeller = traitlets.Unicode().tag(sync=True)
    can_label = traitlets.Bool().tag(sync=True)
    score_name = traitlets.Unicode().tag(sync=True)
    threshold = traitlets.Float(None, allow_none=True).tag(sync=True)
    per_page = traitlets.Int().tag(sync=True)

    def __init__(
        self,
        patterns: Patterns,
        listing: Listing,
        keys: dict[str, list[str]],
        *,
        score_name: str,
        threshold: float | None,
        per_page: int,
        desk: LabelService | None,
        thumbnails: Thumbnails,
        blind: bool = False,
    ) -> None:
        facts = listing.facts
        super().__init__(patterns, facts.without_opinions() if blind else facts, keys)
        self.score_name = score_name
        self.threshold = threshold
        self.per_page = per_page
        self.can_label = desk is not None
        self.labeller = desk.labeller if desk else ""
        self._listing = listing
        self._desk = desk
        self._thumbnails = thumbnails
        self._answers |= {
            "hello": self._greet,
            "thumbnails": self._send_thumbnails,
            "events": self._take,
        }
        self.preview = preview_png(self._first_page())

    def index(self, order: str = AS_GIVEN, only: str = ALL) -> NDArray[np.int64]:
        """Return the patterns, in the order in which they are shown.

        Parameters
        ----------
        order
            "as given" or the name of another order.
        only
            One of `helpers.widgets.pattern_table.FILTERS`, by the labels of now.
        """
        if self._desk is None:
            return self._listing.index(order, only, np.full(len(self.patterns), ""))
        desk = self._desk
        return self._listing.index(order, only, desk.labels(), desk.disagree())

    def _first_page(self) -> NDArray[np.uint8]:
        """Return the first page as one picture, (rows, columns) of codes."""
        first = self.index()[: self.per_page]
        tiles = [self.pixels(int(each), longest=PREVIEW_SIDE).codes for each in first]
        if not tiles:
            return np.full((1, 1), BAD, dtype=np.uint8)
        tiles = [np.pad(tile, 1, constant_values=BAD) for tile in tiles]
        gaps = -len(tiles) % PREVIEW_COLUMNS
        tiles += [np.full_like(tiles[0], BAD)] * gaps
        rows = [
            np.hstack(tiles[start : start + PREVIEW_COLUMNS])
            for start in range(0, len(tiles), PREVIEW_COLUMNS)
        ]
        return np.vstack(rows)

    def _greet(self, content: Message) -> None:
        codes = np.zeros(len(self.patterns), dtype=np.uint8)
        if self._desk is not None:
            self._desk.look_again()
            codes = self._desk.codes()
        order = content.get("order") or AS_GIVEN
        only = content.get("only") or ALL
        message = {
            "kind": "state",
            "view": content["view"],
            "orders": self._listing.orders,
            "order": order,
            "filters": FILTERS if self._desk is not None else [ALL],
            "only": only,
            "why_empty": self._listing.why_empty(order),
        }
        index = self.index(order, only)
        score = self._listing.score
        scores = () if score is None else score[index]
        buffers = [
            index.astype(np.int32).tobytes(),
            codes.tobytes(),
            np.asarray(scores, dtype=np.float32).tobytes(),
        ]
        self.send(message, buffers)

    def _send_thumbnails(self, content: Message) -> None:
        pixels = self._thumbnails.of(content["patterns"])
        rows, columns = pixels[0].codes.shape
        message = {
            "kind": "thumbnails",
            "patterns": content["patterns"],
            "rows": rows,
            "columns": columns,
            "knees": [each.knee for each in pixels],
            "tops": [each.top for each in pixels],
        }
        self.send(message, [b"".join(each.codes.tobytes() for each in pixels)])

    def _take(self, content: Message) -> None:
        if self._desk is None:
            return
        for answer in self._desk.take(content["session"], content["events"]):
            self.send(answer)

    def _labels_of(self, pattern: int) -> Message:
        if self._desk is None:
            return {"by": {}}
        return {"by": self._desk.labels_of(pattern)["by"]}


def show_gallery(
    patterns: Patterns,
    index: ArrayLike,
    *,
    store: LabelStore | None = None,
    labeller: str = "",
    score: ArrayLike | None = None,
    score_name: str = "score",
    threshold: float | None = None,
    per_page: int = 48,
    photons: ArrayLike | None = None,
    hit_score: ArrayLike | None = None,
    prediction: ArrayLike | None = None,
    distance: ArrayLike | None = None,
    queue: Queue | None = None,
    blind: bool = False,
    keys: Mapping[str, str | Sequence[str]] | None = None,
    work_dir: str | Path | None = None,
    session: str | None = None,
) -> Gallery:
    """Make a widget with pages of small patterns; the last line of a cell shows it.

    With a store, patterns are labelled by key or button: the one under the cursor,
    those selected by click and Shift-click, or the whole page. Run without a browser,
    it is a picture of the first page.

    Parameters
    ----------
    patterns
        The stack.
    index
        (m,) which patterns, in the order in which they are first shown.
    store
        Where labels are kept; None = look only.
    labeller
        Who labels; needed with a store.
    score
        (n,) a number for each pattern of the stack, NaN = none; the gallery can sort
        by it.
    score_name
        What the score is called.
    threshold
        Where a line is drawn when patterns are sorted by score.
    per_page
        Patterns a page; the widget can change it.
    photons, hit_score, prediction, distance
        (n,) as for `label_patterns`: shown beside an enlarged pattern, and further
        orders.
    queue
        Which patterns a person should label next: one more order, and why each is asked
        for.
    blind
        True hides what others and the model say, for an independent opinion.
    keys
        As for `label_patterns`.
    work_dir
        The work folder, in which thumbnails are kept once made; None = not kept.
    session
        A name of this sitting, kept with each label; None = the time of day.

    Raises
    ------
    ParameterError
        If `index` holds what is no pattern, an array does not fit the stack, or a key
        is impossible.
    LabelsError
        If there is a store but no labeller.
    """
    n_patterns = len(patterns)
    if per_page < 1:
        msg = f"per_page: found {per_page}; expected at least 1 pattern a page."
        raise ParameterError(msg)
    facts = check_facts(
        n_patterns,
        queue,
        photons=photons,
        hit_score=hit_score,
        prediction=prediction,
        distance=distance,
    )
    desk = None
    if store is not None:
        desk = LabelService(store, labeller, session or name_session(), blind)
    listing = Listing(
        facts,
        patterns.shuffled(),
        given=check_index("index", index, n_patterns),
        is_limited=True,
        queue=queue,
        score=check_column("score", score, n_patterns),
        has_labels=desk is not None,
    )
    return Gallery(
        patterns,
        listing,
        choose_keys(GALLERY_KEYS, keys),
        score_name=score_name,
        threshold=threshold,
        per_page=per_page,
        desk=desk,
        thumbnails=Thumbnails(patterns, work_dir),
        blind=blind,
    )
