"""Label patterns one after the other."""

from collections.abc import Mapping, Sequence

import numpy as np
import traitlets
from numpy.typing import ArrayLike, NDArray

from helpers.errors import ParameterError
from helpers.labels import LABELS, LabelStore, Queue
from helpers.patterns import Patterns
from helpers.widgets.keys import LABELLER_KEYS, choose_keys
from helpers.widgets.label_service import LabelService, RepeatPlan, name_session
from helpers.widgets.pattern_table import (
    ALL,
    AS_GIVEN,
    FILTERS,
    UNLABELLED,
    Listing,
    check_facts,
    check_index,
)
from helpers.widgets.pixels import preview_png
from helpers.widgets.widget_base import DRAWING, Message, PatternWidget, join_files


class Labeller(PatternWidget):
    """One pattern at a time, a key for each label; `label_patterns` makes one.

    Parameters
    ----------
    patterns
        The stack.
    listing
        The orders offered, and what is shown beside each pattern.
    desk
        Where labels go.
    keys
        The keys of each action.
    order
        The name of the first order.
    only
        One of `helpers.widgets.pattern_table.FILTERS`.
    relabel_share
        Share of the labeller's own patterns that come back to be labelled blind.
    blind
        True shows nothing that others or the model say.
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
        listing: Listing,
        desk: LabelService,
        keys: dict[str, list[str]],
        *,
        order: str,
        only: str = ALL,
        relabel_share: float = 0.0,
        blind: bool = False,
    ) -> None:
        facts = listing.facts
        super().__init__(patterns, facts.without_opinions() if blind else facts, keys)
        self.labeller = desk.labeller
        self._desk = desk
        self._listing = listing
        self._first_order = order
        self._first_only = only
        self._relabel_share = relabel_share
        self._answers |= {"hello": self._greet, "events": self._take}
        index = self.index(order, only)
        if index.size:
            self.preview = preview_png(self.pixels(int(index[0])).codes)

    def index(self, order: str, only: str = ALL) -> NDArray[np.int64]:
        """Return the patterns, in the order in which they are shown.

        Parameters
        ----------
        order
            "as given" where indices were given, or the name of an order.
        only
            One of `helpers.widgets.pattern_table.FILTERS`, by the labels of now.
        """
        desk = self._desk
        return self._listing.index(order, only, desk.labels(), desk.disagree())

    def plan(self, order: str, only: str = ALL) -> RepeatPlan:
        """Return the patterns with those that come back to be labelled blind.

        Parameters
        ----------
        order, only
            As for `index`. In a list of one class nothing could come back blind.
        """
        share = self._relabel_share if only in (ALL, UNLABELLED) else 0.0
        return self._desk.plan_repeats(self.index(order, only), share)

    def _greet(self, content: Message) -> None:
        self._desk.look_again()
        order = content.get("order") or self._first_order
        only = content.get("only") or self._first_only
        message = {
            "kind": "state",
            "view": content["view"],
            "orders": self._listing.orders,
            "order": order,
            "filters": FILTERS,
            "only": only,
            "why_empty": self._listing.why_empty(order),
        }
        plan = self.plan(order, only)
        buffers = [
            plan.index.astype(np.int32).tobytes(),
            self._desk.codes().tobytes(),
            plan.is_repeat.astype(np.uint8).tobytes(),
        ]
        self.send(message, buffers)

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
    queue: Queue | None = None,
    relabel_share: float = 0.0,
    photons: ArrayLike | None = None,
    hit_score: ArrayLike | None = None,
    prediction: ArrayLike | None = None,
    distance: ArrayLike | None = None,
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
        recorded", "random", "label"; with `hit_score` "hit score", with `distance`
        "ranking", with `prediction` "uncertainty", with `queue` "queue", its patterns
        that are unlabelled. The widget can change it.
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
    blind
        True hides what others and the model say, for an independent opinion.
    keys
        Other keys for some actions, such as `{"single": "j"}`; None = those kept by
        `save_keys`. The help panel (?) shows the keys in force.
    session
        A name of this sitting, kept with each label; None = the time of day.

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
    facts = check_facts(
        len(patterns),
        queue,
        photons=photons,
        hit_score=hit_score,
        prediction=prediction,
        distance=distance,
    )
    given = None
    if order is not None and not isinstance(order, str):
        given = check_index("order", order, len(patterns))
    listing = Listing(facts, patterns.shuffled(), given=given, queue=queue)
    first = order if isinstance(order, str) else "as recorded"
    return Labeller(
        patterns,
        listing,
        LabelService(store, labeller, session or name_session(), blind),
        choose_keys(LABELLER_KEYS, keys),
        order=first if given is None else AS_GIVEN,
        only=only,
        relabel_share=_check_share(relabel_share),
        blind=blind,
    )


def _check_share(share: float) -> float:
    if 0 <= share <= 1:
        return share
    msg = f"relabel_share: found {share}; expected a share from 0 to 1, such as 0.05."
    raise ParameterError(msg)
