"""Run the notebooks headless, in order, with one report of all; hand a selection on.

`run_notebooks` is the whole of it; `python -m helpers run` calls it. What it writes
lies in the work folder: executed copies and an HTML report in `reports/`. `hand_over`
is `python -m helpers handoff`.
"""

from helpers.patterns import use_cluster
from helpers.run.commands import (
    add_apply_arguments,
    add_handoff_arguments,
    apply_to_runs,
    describe_licences,
    find_licences,
    hand_over,
)
from helpers.run.pipeline import (
    NOTEBOOKS_DIR,
    PipelineRun,
    describe_state,
    run_notebooks,
    summarise,
)

__all__ = [
    "NOTEBOOKS_DIR",
    "PipelineRun",
    "add_apply_arguments",
    "add_handoff_arguments",
    "apply_to_runs",
    "describe_licences",
    "describe_state",
    "find_licences",
    "hand_over",
    "run_notebooks",
    "summarise",
    "use_cluster",
]
