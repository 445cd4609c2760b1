"""Run the notebooks headless, in order, with one report of all.

`run_notebooks` is the whole of it; `python -m helpers run` calls it. What it writes
lies in the work folder: executed copies and an HTML report in `reports/`.
"""

from helpers.patterns import use_cluster
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
    "describe_state",
    "run_notebooks",
    "summarise",
    "use_cluster",
]
