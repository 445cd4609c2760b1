"""Label patterns one after the other."""

import numpy as np
import traitlets
from numpy.typing import ArrayLike, NDArray

from helpers.labels import LABELS, LabelStore
from helpers.patterns import Patterns
from helpers.widgets.desk import LabelDesk, name_sitting
from helpers.widgets.front import DRAWING, Message, PatternWidget, join_files
from helpers.widgets.orders import (
    ALL,
    AS_GIVEN,
    FILTERS,
    Facts,
    check_facts,
    check_index,
    keep_patterns,
    named_orders,
    sort_patterns,
)
from helpers.widgets.pixels import preview_png


class Labeller(PatternWidget):
    """One pattern at a time, a key for each label; `label_patterns` makes one.

    Parameters
    ----------
    patterns
        The stack.
    facts
        What is shown beside each pattern.
    desk
        Where labels go.
    order
        The name of an order, or (m,) pattern indices.
    only
        One of `helpers.widgets.orders.FILTERS`.
    seed
        Seed of the random order.
    """

    _esm = join_files(
        *DRAWING, "viewer.js", "outbox.js", "sheet.js", "labelpage.js", "labeller.js"
    )
    _css = join_files("common.css", "viewer.css")

    words = traitlets.List(list(LABELS)).tag(sync=True)
    labeller = traitlets.Unicode().tag(sync=True)

    def __init__(
        self,
        patterns: Patterns,
        facts: Facts,
        desk: LabelDesk,
        *,
        order: str | NDArray[np.int64],
        only: str = ALL,
        seed: int = 0,
    ) -> None:
        super().__init__(patterns, facts)
        self.labeller = desk.labeller
        self._desk = desk
        self._seed = seed
        self._given = None if isinstance(order, str) else order
        self._first_order = order if isinstance(order, str) else AS_GIVEN
        self._first_only = only
        self._answers |= {"hello": self._greet, "events": self._take}
        index = self.index(self._first_order, only)
        if index.size:
            self.preview = preview_png(self.pixels(int(index[0])).codes)

    def index(self, order: str, only: str = ALL) -> NDArray[np.int64]:
        """Return the patterns, in the order in which they are shown.

        Parameters
        ----------
        order
            "as given" where indices were given, or the name of an order.
        only
            One of `helpers.widgets.orders.FILTERS`; by the labels of this moment.
        """
        if order == AS_GIVEN and self._given is not None:
            index = self._given
        else:
            index = sort_patterns(order, len(self.patterns), self.facts, self._seed)
        return keep_patterns(index, only, self._desk.labels(), self._desk.disagree())

    def _greet(self, content: Message) -> None:
        self._desk.look_again()
        order = content.get("order") or self._first_order
        only = content.get("only") or self._first_only
        given = () if self._given is None else (AS_GIVEN,)
        message = {
            "kind": "state",
            "view": content["view"],
            "orders": [*given, *named_orders(self.facts)],
            "order": order,
            "filters": FILTERS,
            "only": only,
        }
        index = self.index(order, only).astype(np.int32)
        self.send(message, [index.tobytes(), self._desk.codes().tobytes()])

    def _take(self, content: Message) -> None:
        for answer in self._desk.take(content["session"], content["events"]):
            self.send(answer)

    def _labels_of(self, pattern: int) -> Message:
        return {"by": self._desk.labels_of(pattern)["by"]}


def label_patterns(
    patterns: Patterns,
    store: LabelStore,
    *,
    labeller: str,
    order: str | ArrayLike | None = None,
    only: str = ALL,
    photons: ArrayLike | None = None,
    hit_score: ArrayLike | None = None,
    prediction: ArrayLike | None = None,
    distance: ArrayLike | None = None,
    blind: bool = False,
    session: str | None = None,
    seed: int = 0,
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
        recorded", "random"; with `hit_score` "hit score", with `distance` "ranking",
        with `prediction` "uncertainty". The widget can change it.
    only
        "all", "unlabelled", a label word, or "labellers disagree"; the widget can
        change it.
    photons
        (n,) photons of each pattern of the stack, to be shown beside it.
    hit_score
        (n,) higher = more signal, such as the number of lit pixels.
    prediction
        (n,) probability of a single hit; NaN = not predicted.
    distance
        (n,) distance to the nearest template; NaN = not ranked.
    blind
        True hides what others said, for a second, independent opinion.
    session
        A name of this sitting, kept with each label; None = the time of day.
    seed
        Seed of the random order.

    Returns
    -------
        The widget; `index(order, only)` gives the patterns it shows.

    Raises
    ------
    ParameterError
        If an order or filter is unknown, or an array does not fit the stack.
    LabelsError
        If `labeller` is empty.
    """
    facts = check_facts(
        len(patterns),
        photons=photons,
        hit_score=hit_score,
        prediction=prediction,
        distance=distance,
    )
    if order is None:
        order = "as recorded"
    elif not isinstance(order, str):
        order = check_index("order", order, len(patterns))
    desk = LabelDesk(store, labeller, session or name_sitting(), blind)
    return Labeller(patterns, facts, desk, order=order, only=only, seed=seed)
