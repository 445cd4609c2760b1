"""How long the notebooks of a run took, cell by cell.

Run `make run`, then `python tests/bench/bench_run.py [work folder] [--from SECONDS]`.
The times are those that papermill wrote into the executed notebooks.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import nbformat


def main() -> None:
    """Print a table of all notebooks, and the cells that took longest."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("work_dir", type=Path, nargs="?", default=Path("data/work"))
    parser.add_argument("--from", dest="least", type=float, default=1.0)
    options = parser.parse_args()
    print("| notebook | s | first cell, s | other cells of a second or more |")
    print("|---|---:|---:|---|")
    for path in sorted((options.work_dir / "reports").glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        first, *others = list_cells(notebook)
        long = [f"{line} {s:.1f}" for s, line in others if s >= options.least]
        took = notebook.metadata.papermill.duration
        print(f"| {path.stem} | {took:.1f} | {first[0]:.2f} | {'; '.join(long)} |")


def list_cells(notebook: nbformat.NotebookNode) -> Iterator[tuple[float, str]]:
    """Give the seconds of each code cell, and its first line of code."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            lines = [*cell.source.strip().splitlines(), ""]
            yield cell.metadata.papermill.get("duration") or 0.0, f"`{lines[0][:40]}`"


if __name__ == "__main__":
    main()
