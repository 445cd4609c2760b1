"""Labels that people gave to patterns: stored, counted, compared, never lost.

Every key press is one more event in a database, and nothing in it is ever changed or
taken out: undo is an event as well, and the label of a pattern is what the events say.
`open_label_store` opens one file for one person, or a PostgreSQL database for several
people at once. Nothing here knows widgets.
"""

from helpers.labels.database import LABELS
from helpers.labels.events import LabelEvent, Press, Undo
from helpers.labels.label_csv import Queue, read_queue, write_queue
from helpers.labels.label_forms import import_labels, read_foreign_labels
from helpers.labels.reader import (
    SelfAgreement,
    cohen_kappa,
    consensus,
    count_votes,
    describe_agreement,
    describe_repeats,
    disagreements,
    fleiss_kappa,
    mark_repeat,
    self_consistency,
)
from helpers.labels.store import (
    LabelStore,
    name_labeller,
    open_label_store,
    open_work,
    read_labels,
)
from helpers.labels.store_places import PASSWORD_VARIABLE, split_password

__all__ = [
    "LABELS",
    "PASSWORD_VARIABLE",
    "LabelEvent",
    "LabelStore",
    "Press",
    "Queue",
    "SelfAgreement",
    "Undo",
    "cohen_kappa",
    "consensus",
    "count_votes",
    "describe_agreement",
    "describe_repeats",
    "disagreements",
    "fleiss_kappa",
    "import_labels",
    "mark_repeat",
    "name_labeller",
    "open_label_store",
    "open_work",
    "read_foreign_labels",
    "read_labels",
    "read_queue",
    "self_consistency",
    "split_password",
    "write_queue",
]
