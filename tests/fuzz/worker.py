"""Opens the files that it is told, one after another, and says what came of each.

A process of its own, so that a crash in a C library or a hang ends nothing else.
"""

import json
import resource
import shutil
import sys
import traceback
import warnings
from pathlib import Path

from helpers.errors import HelpersError
from helpers.experiment import open_experiment
from helpers.labels.label_csv import read_labels_csv
from helpers.patterns import hdf5_opening, open_patterns

MEMORY = 2**30  # enough to open small files; a damaged length may ask for any
CPU_SECONDS = 1.0  # for one step in a small file, before it counts as a circle


def open_stack(path: Path, dataset: str | None = None) -> None:
    with open_patterns(path, dataset=dataset) as patterns:
        patterns[: min(4, len(patterns))]
        patterns[-1]
        assert patterns.fingerprint
        assert patterns.describe()


def open_hdf5(path: Path) -> None:
    try:
        open_stack(path)
    except HelpersError as error:
        if "Say it, rows first" not in str(error):
            raise
        open_stack(path, "6x5")


def open_emc(path: Path) -> None:
    open_stack(path, "6x5")


def open_csv(path: Path) -> None:
    read_labels_csv(path, 8)


def open_json(path: Path) -> None:
    work = path.parent / "work"
    shutil.copyfile(path, work / "experiment.json")
    open_experiment(work).patterns.close()


OPENERS = {
    "hdf5": open_hdf5,
    "emc": open_emc,
    "npy": open_stack,
    "tif": open_stack,
    "csv": open_csv,
    "json": open_json,
}


def try_to_open(kind: str, path: Path) -> tuple[str, str]:
    """Return the outcome, and what was said."""
    try:
        OPENERS[kind](path)
    except HelpersError as error:
        named = path.name in str(error) or kind == "json"
        return ("clear error" if named else "unclear error"), str(error)
    except Exception:
        return "unclear error", traceback.format_exc()
    return "opened", ""


def main() -> None:
    """Answer each name of a file on stdin by a line of JSON on stdout."""
    kind = sys.argv[1]
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("ignore")
    hdf5_opening.CPU_SECONDS = CPU_SECONDS
    for line in sys.stdin:
        answer = try_to_open(kind, Path(line.rstrip("\n")))
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
