"""What is known of each run of a beamtime, kept in its folder."""

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from helpers.errors import ParameterError
from helpers.outputs import atomic_write, write_json

RUNS_NAME = "runs"
ROW_NAME = "run.json"
TABLE_NAME = "beamtime.csv"
NAN = float("nan")


@dataclass(frozen=True)
class RunRow:
    """One run in the table of a beamtime.

    Attributes
    ----------
    run, file
        Its name and its file.
    problem
        Why it could not be used; "" of a run that was.
    drift
        A sentence on how far it is from what the model knows.
    patterns, hits
        How many there are.
    taken, threshold
        How many the chosen purity takes, and from which probability on.
    singles, low, high
        How many single hits are expected among those taken, and the 95 % interval.
    row, column
        Of the beam, in pixels.
    moved_px, brightness, background, size, share, share_factor, features
        As in `Drift`.
    new_bad_pixels
        Likewise.
    labels_advised
        How many labels of this run would be worth giving.
    made_from
        What the results depend on; if it is the same, so are they.
    """

    run: str
    file: str
    problem: str = ""
    drift: str = ""
    patterns: int = 0
    hits: int = 0
    taken: int = 0
    threshold: float = NAN
    singles: float = 0.0
    low: float = 0.0
    high: float = 0.0
    row: float = NAN
    column: float = NAN
    moved_px: float = NAN
    brightness: float = NAN
    background: float = NAN
    size: float = NAN
    share: float = NAN
    share_factor: float = NAN
    features: float = NAN
    new_bad_pixels: int = 0
    labels_advised: int = 0
    made_from: dict[str, Any] = field(default_factory=dict)

    @property
    def says(self) -> str:
        """What is wrong with it, or how far it drifted."""
        return self.problem or self.drift


def run_dir(out_dir: Path, name: str) -> Path:
    """Return the folder of a run."""
    return out_dir / RUNS_NAME / name


def write_row(out_dir: Path, row: RunRow) -> None:
    """Keep what is known of a run."""
    values = {k: None if _is_nan(v) else v for k, v in asdict(row).items()}
    write_json(run_dir(out_dir, row.run) / ROW_NAME, values)


def read_row(out_dir: Path, name: str) -> RunRow | None:
    """Read it again; None if it is missing, or of another version."""
    path = run_dir(out_dir, name) / ROW_NAME
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        known = {each.name for each in fields(RunRow)}
        given: dict[str, Any] = {
            k: NAN if v is None else v for k, v in found.items() if k in known
        }
        return RunRow(**given)
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def read_table(out_dir: str | Path, names: Sequence[str] | None = None) -> list[RunRow]:
    """Read what is known of the runs of a beamtime.

    Parameters
    ----------
    out_dir
        The folder that `apply_model` filled.
    names
        Which runs, in this order; all of them without it.
    """
    out_dir = Path(out_dir)
    if names is None:
        names = sorted(path.parent.name for path in out_dir.glob(f"runs/*/{ROW_NAME}"))
    rows = (read_row(out_dir, name) for name in names)
    return [row for row in rows if row is not None]


def write_table(out_dir: Path, rows: Sequence[RunRow]) -> Path:
    """Write the table as CSV, whole."""
    path = out_dir / TABLE_NAME
    names = [each.name for each in fields(RunRow) if each.name != "made_from"]
    with (
        atomic_write(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        for row in rows:
            values = [getattr(row, name) for name in names]
            writer.writerow(["" if _is_nan(value) else value for value in values])
    return path


def describe_table(rows: Sequence[RunRow]) -> str:
    """Return the table as text, one run a line.

    Parameters
    ----------
    rows
        From `read_table`.
    """
    head = f"{'run':12} {'patterns':>8} {'hits':>7} {'single hits':>22} {'labels':>6}  "
    lines = [f"{head}what is to be said"]
    for row in rows:
        numbers = (
            f"{'–':>8} {'–':>7} {'–':>22} {'–':>6}"
            if row.problem
            else f"{row.patterns:8,} {row.hits:7,} {describe_singles(row):>22} "
            f"{row.labels_advised:6}"
        )
        lines.append(f"{row.run:12} {numbers}  {row.says}")
    good = [row for row in rows if not row.problem]
    lines.append(
        f"{len(good)} of {len(rows)} runs, {sum(row.patterns for row in good):,} "
        f"patterns, {sum(row.singles for row in good):,.0f} single hits expected among "
        f"{sum(row.taken for row in good):,} taken."
    )
    return "\n".join(lines)


def choose_run(rows: Sequence[RunRow], name: str = "") -> RunRow:
    """Return a run to look at.

    Parameters
    ----------
    rows
        From `read_table`.
    name
        Which one; "" is the one of which most labels are advised.

    Raises
    ------
    ParameterError
        If there is no such run, or it could not be used.
    """
    good = [row for row in rows if not row.problem]
    named = [row for row in good if row.run == name] if name else good
    if not named:
        known = ", ".join(row.run for row in good) or "none"
        message = f"there is no run {name!r} that could be used; there are: {known}."
        raise ParameterError(message)
    return max(named, key=lambda row: row.labels_advised)


def describe_singles(row: RunRow) -> str:
    """Say how many single hits are expected, with the interval."""
    return f"{row.singles:,.0f} ({row.low:,.0f} to {row.high:,.0f})"


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)
