"""One pattern after the other, to be labelled or only looked at.

`PatternWidget` is what these two widgets and the gallery share: the page's code, the
list of patterns, and its messages.
"""

import base64
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import traitlets
from numpy.typing import ArrayLike, NDArray

from helpers.errors import ParameterError
from helpers.labels import LABELS, LabelStore, Queue
from helpers.patterns import Patterns
from helpers.plots import find_crop
from helpers.widgets.keys import BROWSER_KEYS, LABELLER_KEYS, KeyTable, choose_keys
from helpers.widgets.label_service import (
    LabelService,
    RepeatPlan,
    name_session,
    number_words,
)
from helpers.widgets.pattern_table import (
    ALL,
    AS_GIVEN,
    AS_RECORDED,
    FILTERS,
    UNLABELLED,
    PatternOrder,
    check_index,
    make_pattern_table,
)
from helpers.widgets.pixels import (
    COLOUR_MAPS,
    Pixels,
    colour_tables,
    make_pixels,
    preview_png,
)

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

    def pixels(self, pattern: int) -> Pixels:
        """Return one pattern as the page draws it."""
        (pixels,) = make_pixels(self.patterns, [pattern], LONGEST_SIDE)
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
        codes = number_words(self.labels())
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


class Labeller(PatternWidget):
    """One pattern at a time, a key for each label; `label_patterns` makes one.

    It explains the parameters; the others are those of `PatternWidget`.
    """

    _esm = STATIC / "labeller.js"
    _css = STATIC / "labeller.css"

    def __init__(
        self,
        patterns: Patterns,
        order: PatternOrder,
        keys: KeyTable,
        *,
        labels: LabelService,
        relabel_share: float = 0.0,
        centre: tuple[float, float] | None = None,
        **base: Any,
    ) -> None:
        super().__init__(patterns, order, keys, labels=labels, **base)
        self.signal = find_signal(patterns, centre)
        self._service = labels
        self._relabel_share = relabel_share
        index = self.index(only=self._first_only)
        if index.size:
            self.preview = preview_png(self.pixels(int(index[0])).codes)

    def plan(self, order: str, only: str = ALL) -> RepeatPlan:
        """Return the patterns with those that come back to be labelled blind.

        Parameters
        ----------
        order, only
            As for `index`. In a list of one class nothing could come back blind.
        """
        share = self._relabel_share if only in (ALL, UNLABELLED) else 0.0
        return self._service.plan_repeats(self.index(order, only), share)

    def _list(self, order: str, only: str) -> list[NDArray[Any]]:
        plan = self.plan(order, only)
        return [plan.index, plan.is_repeat.astype(np.uint8)]


def label_patterns(
    patterns: Patterns,
    store: LabelStore,
    *,
    labeller: str,
    order: str | ArrayLike | None = None,
    only: str = ALL,
    queue: Queue | None = None,
    relabel_share: float = 0.0,
    photons: ArrayLike | None = None,
    hit_score: ArrayLike | None = None,
    prediction: ArrayLike | None = None,
    distance: ArrayLike | None = None,
    cluster: ArrayLike | None = None,
    centre: tuple[float, float] | None = None,
    blind: bool = False,
    keys: Mapping[str, str | Sequence[str]] | None = None,
    session: str | None = None,
) -> Labeller:
    """Make a widget to label patterns with; the last line of a cell shows it.

    It waits for nobody: labels go into the store while the notebook goes on. Run
    without a browser, it is a picture of the first pattern.

    Parameters
    ----------
    patterns
        The stack.
    store
        Where each label is kept, as soon as its key is pressed.
    labeller
        Who labels.
    order
        The name of an order or (m,) pattern indices; None = as recorded. Names: "as
        recorded", "random", "label"; with `cluster` "clusters", one of each in turn;
        with `hit_score` "hit score", with `distance` "ranking", with `prediction`
        "uncertainty", with `queue` "queue", its patterns that are unlabelled. The
        widget can change it.
    only
        "all", "unlabelled", a label word, or "labellers disagree"; the widget can
        change it.
    queue
        Which patterns a person should label next, from `labels.read_queue`; why each
        is asked for is shown beside it.
    relabel_share
        Share of the labeller's own patterns, 0 to 1, that come back later, once, as if
        unlabelled: neither the earlier label nor what the model says is shown. See
        `labels.self_consistency`.
    photons
        (n,) photons of each pattern of the stack, to be shown beside it.
    hit_score
        (n,) higher = more signal, such as the number of lit pixels.
    prediction
        (n,) probability of a single hit; NaN = not predicted.
    distance
        (n,) distance to the nearest template; NaN = not ranked.
    cluster
        (n,) cluster on the map; −1 = none.
    centre
        (row, column) of the beam, about which patterns are flattened; without it, the
        middle of the signal.
    blind
        True hides what others and the model found, for an independent opinion.
    keys
        Other keys for some actions, such as `{"single": "j"}`; None = those kept by
        `save_keys`. The help panel (?) shows the keys in force.
    session
        A name of this session, kept with each label; None = the time of day.

    Returns
    -------
        The widget; `index(order, only)` gives the patterns it shows.

    Raises
    ------
    ParameterError
        If an order, filter or key is impossible, or an array does not fit the stack.
    LabelsError
        If `labeller` is empty.
    """
    table = make_pattern_table(
        len(patterns),
        queue,
        photons=photons,
        hit_score=hit_score,
        prediction=prediction,
        distance=distance,
        cluster=cluster,
    )
    given = None
    if order is not None and not isinstance(order, str):
        given, order = check_index("order", order, len(patterns)), AS_GIVEN
    return Labeller(
        patterns,
        PatternOrder(table, patterns.shuffled(), given=given, queue=queue),
        choose_keys(LABELLER_KEYS, keys),
        labels=LabelService(store, labeller, session or name_session(), blind),
        relabel_share=_check_share(relabel_share),
        centre=centre,
        first_order=order or AS_RECORDED,
        first_only=only,
        blind=blind,
    )


def _check_share(share: float) -> float:
    if 0 <= share <= 1:
        return share
    msg = f"relabel_share: found {share}; expected a share from 0 to 1, such as 0.05."
    raise ParameterError(msg)


class PatternBrowser(PatternWidget):
    """Slider, jump and next by hit score; `browse_patterns` makes one."""

    _esm = STATIC / "browser.js"
    _css = STATIC / "browser.css"

    start = traitlets.Int().tag(sync=True)

    def __init__(
        self, patterns: Patterns, order: PatternOrder, keys: KeyTable, *, start: int = 0
    ) -> None:
        super().__init__(patterns, order, keys, first_order=AS_RECORDED)
        self.signal = find_signal(patterns)
        self.start = start
        self.preview = preview_png(self.pixels(start).codes)


def browse_patterns(
    patterns: Patterns,
    *,
    hit_score: ArrayLike | None = None,
    photons: ArrayLike | None = None,
    prediction: ArrayLike | None = None,
    distance: ArrayLike | None = None,
    start: int = 0,
) -> PatternBrowser:
    """Make a widget to look through patterns; the last line of a cell shows it.

    Parameters
    ----------
    patterns
        The stack.
    hit_score
        (n,) higher = more signal; given, the patterns can be gone through by it.
    photons
        (n,) photons of each pattern of the stack.
    prediction
        (n,) probability of a single hit; NaN = not predicted.
    distance
        (n,) distance to the nearest template; NaN = not ranked.
    start
        The pattern shown first.

    Raises
    ------
    ParameterError
        If there is no pattern `start`, or an array does not fit the stack.
    """
    table = make_pattern_table(
        len(patterns),
        photons=photons,
        hit_score=hit_score,
        prediction=prediction,
        distance=distance,
    )
    return PatternBrowser(
        patterns,
        PatternOrder(table, patterns.shuffled(), has_labels=False),
        choose_keys(BROWSER_KEYS),
        start=int(check_index("start", start, len(patterns))[0]),
    )
