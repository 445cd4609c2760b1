"""Label patterns one after the other."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from helpers.errors import ParameterError
from helpers.labels import LabelStore, Queue
from helpers.patterns import Patterns
from helpers.widgets.keys import LABELLER_KEYS, KeyTable, choose_keys
from helpers.widgets.label_service import LabelService, RepeatPlan, name_session
from helpers.widgets.pattern_table import (
    ALL,
    AS_GIVEN,
    AS_RECORDED,
    UNLABELLED,
    PatternOrder,
    check_index,
    make_pattern_table,
)
from helpers.widgets.pixels import preview_png
from helpers.widgets.widget_base import STATIC, PatternWidget, find_signal


class Labeller(PatternWidget):
    """One pattern at a time, a key for each label; `label_patterns` makes one.

    Parameters
    ----------
    patterns, order, keys, **base
        As for `PatternWidget`.
    labels
        Where labels go.
    relabel_share
        Share of the labeller's own patterns that come back to be labelled blind.
    centre
        (row, column) of the beam.
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
