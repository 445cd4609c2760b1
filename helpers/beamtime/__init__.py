"""One model for many runs: what a run is, how far it drifted, what it holds.

`apply_model` goes through the runs of a beamtime: each is inspected, compared with what
the model was trained on, and predicted. `read_table` gives what was found, and the
folder of all is a work folder again: one stack, one selection, one audit.
"""

from helpers.beamtime.all_runs import (
    WholeAudit,
    audit_runs,
    audit_whole,
    describe_table,
    find_thresholds,
    show_drift,
    write_pages,
)
from helpers.beamtime.applying import Beamtime, apply_model, find_runs
from helpers.beamtime.drift import (
    Drift,
    Reference,
    RunRow,
    choose_run,
    read_reference,
    read_table,
)

__all__ = [
    "Beamtime",
    "Drift",
    "Reference",
    "RunRow",
    "WholeAudit",
    "apply_model",
    "audit_runs",
    "audit_whole",
    "choose_run",
    "describe_table",
    "find_runs",
    "find_thresholds",
    "read_reference",
    "read_table",
    "show_drift",
    "write_pages",
]
