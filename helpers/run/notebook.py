"""Execute one notebook, and say where and why it stopped if it does."""

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from helpers import errors
from helpers.errors import HelpersError, NotebookError
from helpers.outputs import atomic_write
from helpers.run.kernels import WarmKernel
from helpers.run.report import find_warnings, leave_pictures

SECONDS_TO_START = 300  # a busy shared machine may need minutes to start a kernel
LINES_SHOWN = 4

Cell = dict[str, Any]


def papermill_path(path: Path) -> str:
    """Write a path so that papermill does not fill in what stands between braces.

    Parameters
    ----------
    path
        Any path.
    """
    return str(path).replace("{", "{{").replace("}", "}}")


def execute_notebook(
    notebook: Path,
    executed: Path,
    parameters: Mapping[str, Any],
    kernel: WarmKernel | None = None,
) -> list[str]:
    """Run a notebook in its own folder and keep the executed copy, even of a failure.

    Parameters
    ----------
    notebook
        The notebook.
    executed
        Where the executed copy goes.
    parameters
        Values for its parameters cell.
    kernel
        Where it shall run; closed in the end. Started here when not given.

    Returns
    -------
    list
        The first line of each warning that it showed.

    Raises
    ------
    NotebookError
        If a cell raises, or the kernel dies or does not start.
    """
    kernel = kernel or WarmKernel(notebook)
    with closing(kernel), atomic_write(executed, private=True) as temporary:
        reason = _run(notebook, temporary, parameters, kernel)
        cells = _finish(temporary, executed)
    if reason:
        message = (
            f"{notebook.stem} stopped {_where(cells)}\n\n{reason}\n\n"
            f"Executed copy with all that was shown: {executed}"
        )
        raise NotebookError(message)
    return find_warnings(cells)


def _run(
    notebook: Path, output: Path, parameters: Mapping[str, Any], kernel: WarmKernel
) -> str:
    """Run the notebook; return why it stopped, "" if it came to its end."""
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    try:
        papermill.execute_notebook(
            papermill_path(notebook),
            papermill_path(output),
            dict(parameters),
            kernel_name="python3",
            language="python",
            cwd=notebook.parent,
            km=kernel.manager,
            start_timeout=SECONDS_TO_START,
            progress_bar={"desc": notebook.stem, "leave": False, "disable": None},
        )
    except PapermillExecutionError as error:
        return _reason(error.ename, error.evalue)
    except DeadKernelError:
        return (
            "Its Python process was ended from outside, most often for lack of memory. "
            "Close other programs, or run on a machine with more memory."
        )
    except RuntimeError as error:
        return f"Its Python process did not start: {error}"
    return ""


def _reason(error_name: str, message: str) -> str:
    """Return the message alone of an error that the user can put right."""
    family = getattr(errors, error_name, None)
    if isinstance(family, type) and issubclass(family, HelpersError):
        return message
    return (
        f"{error_name}: {message}\n"
        "This is no error that the notebooks foresee; the executed copy holds the "
        "traceback."
    )


def _finish(temporary: Path, executed: Path) -> list[Cell]:
    """Write its final place into the executed copy; return its cells.

    Widgets leave their pictures: JupyterLab shows those at once, but widgets without
    their kernel not always.
    """
    content = json.loads(temporary.read_text(encoding="utf-8"))
    content["metadata"].pop("widgets", None)
    for cell in content["cells"]:
        if "outputs" in cell:
            cell["outputs"] = leave_pictures(cell["outputs"])
    content["metadata"]["papermill"]["output_path"] = str(executed)
    text = json.dumps(content, indent=1, ensure_ascii=False)
    temporary.write_text(text + "\n", encoding="utf-8")
    cells: list[Cell] = content["cells"]
    return cells


def _where(cells: Sequence[Cell]) -> str:
    """Say which cell was the last that started."""
    started = [number for number, cell in enumerate(cells) if _has_started(cell)]
    if not started:
        return "before its first cell."
    before = cells[: started[-1] + 1]
    number = sum(cell["cell_type"] == "code" for cell in before)
    lines = "".join(before[-1]["source"]).strip().splitlines()
    excerpt = lines[:LINES_SHOWN] + ["…"] * (len(lines) > LINES_SHOWN)
    shown = "\n".join(f"    {line}" for line in excerpt)
    return f"at its code cell {number}{_heading(before)}:\n{shown}"


def _has_started(cell: Cell) -> bool:
    return bool(cell["metadata"].get("papermill", {}).get("start_time"))


def _heading(cells: Sequence[Cell]) -> str:
    """Name the last heading in these cells."""
    prose = [cell for cell in cells if cell["cell_type"] == "markdown"]
    lines = "\n".join("".join(cell["source"]) for cell in prose).splitlines()
    headings = [line.lstrip("# ") for line in lines if line.startswith("#")]
    return f", under «{headings[-1]}»" if headings else ""
