"""Run the notebooks in order on anybody's file, without anyone at the screen.

`run_notebooks` is the whole of it; `python -m helpers run` calls it. What it writes
lies in the work folder: executed copies and an HTML report in `reports/`.
"""

from helpers.pipeline.run import NOTEBOOKS_DIR, PipelineRun, run_notebooks

__all__ = ["NOTEBOOKS_DIR", "PipelineRun", "run_notebooks"]
