"""Look at many patterns at once, label them by the handful, say how many to take."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipywidgets
import numpy as np
import traitlets
from numpy.typing import ArrayLike, NDArray

from helpers.errors import ParameterError
from helpers.labels import LabelStore, Queue
from helpers.patterns import Patterns
from helpers.plots import describe_crop, find_crop
from helpers.widgets.keys import GALLERY_KEYS, KeyTable, choose_keys
from helpers.widgets.label_service import LabelService, name_session
from helpers.widgets.pattern_table import (
    AS_GIVEN,
    PatternOrder,
    check_column,
    check_index,
    make_pattern_table,
)
from helpers.widgets.pattern_widget import STATIC, Message, PatternWidget
from helpers.widgets.pixels import BAD, Thumbnails, make_pixels, preview_png

if TYPE_CHECKING:
    from helpers.classifier import PurityCurve

PREVIEW_SIDE = 48
PREVIEW_COLUMNS = 8


class Gallery(PatternWidget):
    """Pages of small patterns; `show_gallery` makes one, and explains its parameters.

    The others are those of `PatternWidget`.
    """

    _esm = STATIC / "gallery.js"
    _css = STATIC / "gallery.css"

    score_name = traitlets.Unicode().tag(sync=True)
    threshold = traitlets.Float(None, allow_none=True).tag(sync=True)
    per_page = traitlets.Int().tag(sync=True)
    crop_note = traitlets.Unicode().tag(sync=True)
    way = traitlets.Unicode("gallery").tag(sync=True)
    tells_cursor = traitlets.Bool(False).tag(sync=True)
    cursor = traitlets.Int(-1).tag(sync=True)
    n_stored = traitlets.Int(0)

    def __init__(
        self,
        patterns: Patterns,
        order: PatternOrder,
        keys: KeyTable,
        *,
        score_name: str,
        threshold: float | None,
        per_page: int,
        thumbnails: Thumbnails,
        way: str = "gallery",
        **base: Any,
    ) -> None:
        super().__init__(patterns, order, keys, first_order=AS_GIVEN, **base)
        self.score_name = score_name
        self.threshold = threshold
        self.per_page = per_page
        self.way = way
        self.crop_note = describe_crop(patterns)
        self._thumbnails = thumbnails
        self._answers["thumbnails"] = self._send_thumbnails
        self.preview = preview_png(self._first_page())

    def show_only(self, index: ArrayLike) -> None:
        """Show other patterns, from the first of them.

        Parameters
        ----------
        index
            (m,) which patterns of the stack, in the order in which they are shown.
        """
        given = check_index("index", index, len(self.patterns))
        with self._lock:
            self._order = replace(self._order, given=given)
        self.send({"kind": "anew"})

    def _store_labels(self, content: Message) -> None:
        super()._store_labels(content)
        self.n_stored += len(content["events"])

    def _list(self, order: str, only: str) -> list[NDArray[Any]]:
        index = self.index(order, only)
        score = self._order.score
        scores = np.empty(0) if score is None else score[index]
        return [index, scores.astype(np.float32)]

    def _first_page(self) -> NDArray[np.uint8]:
        """Return the first page as one picture, (rows, columns) of codes."""
        first = self.index()[: self.per_page]
        crop = find_crop(self.patterns)
        made = make_pixels(self.patterns, first.tolist(), PREVIEW_SIDE, crop)
        tiles = [each.codes for each in made]
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
    cluster: ArrayLike | None = None,
    queue: Queue | None = None,
    blind: bool = False,
    keys: Mapping[str, str | Sequence[str]] | None = None,
    work_dir: str | Path | None = None,
    session: str | None = None,
    way: str = "gallery",
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
    photons, hit_score, prediction, distance, cluster
        (n,) as for `label_patterns`: shown beside an enlarged pattern, and further
        orders.
    queue
        Which patterns a person should label next: one more order, and why each is asked
        for.
    blind
        True hides what others and the model found, for an independent opinion.
    keys
        As for `label_patterns`.
    work_dir
        The work folder, in which thumbnails are kept once made; None = not kept.
    session
        A name of this session, kept with each label; None = the time of day.
    way
        How patterns come to be labelled here; kept with each label.

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
    table = make_pattern_table(
        n_patterns,
        queue,
        photons=photons,
        hit_score=hit_score,
        prediction=prediction,
        distance=distance,
        cluster=cluster,
    )
    labels = None
    if store is not None:
        labels = LabelService(store, labeller, session or name_session(), blind)
    order = PatternOrder(
        table,
        patterns.shuffled(),
        given=check_index("index", index, n_patterns),
        is_limited=True,
        queue=queue,
        score=check_column("score", score, n_patterns),
        has_labels=labels is not None,
    )
    return Gallery(
        patterns,
        order,
        choose_keys(GALLERY_KEYS, keys),
        labels=labels,
        score_name=score_name,
        threshold=threshold,
        per_page=per_page,
        thumbnails=Thumbnails(patterns, work_dir),
        way=way,
        blind=blind,
    )


class PuritySlider(ipywidgets.VBox):
    """Slide along a purity curve; `slide_purity` makes one.

    Attributes
    ----------
    threshold
        The probability from which patterns are taken where the slider stands; as it was
        given until the slider is moved.
    """

    def __init__(self, curve: "PurityCurve", threshold: float) -> None:
        self._curve = curve
        self.threshold = threshold
        self._slider = ipywidgets.IntSlider(
            curve.find_threshold(threshold),
            0,
            len(curve.number) - 1,
            description="few … many",
            readout=False,
            style={"description_width": "initial"},
            layout=ipywidgets.Layout(width="36em"),
        )
        self._text = ipywidgets.Label()
        self._slider.observe(self._follow, "value")
        super().__init__([self._slider, self._text])
        self._describe()

    def _follow(self, change: Any) -> None:
        self.threshold = float(self._curve.threshold[change.new])
        self._describe()

    def _describe(self) -> None:
        self._text.value = self._curve.describe(self._slider.value)


def slide_purity(curve: "PurityCurve", threshold: float) -> PuritySlider:
    """Make a slider; the last line of a cell shows it.

    Parameters
    ----------
    curve
        From `review.expect_purity`.
    threshold
        Where the slider begins.
    """
    return PuritySlider(curve, threshold)
