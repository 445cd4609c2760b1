"""All runs of a beamtime together: one stack, one selection, one audit, one report."""

import base64
import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from helpers.beamtime.drift import (
    FACTOR,
    FAR_PX,
    FEATURES_DIFFER,
    SIZE_DIFFERS,
    Reference,
    RunRow,
    count_singles,
    describe_singles,
    find_hit_threshold,
    find_hits,
    order_taken,
    read_table,
    run_dir,
)
from helpers.classifier import (
    Audit,
    audit_selection,
    audited_prefix,
    expect_purity,
    read_predictions,
    write_predictions,
)
from helpers.errors import HelpersError
from helpers.experiment import (
    Experiment,
    Measurements,
    open_experiment,
    write_experiment,
)
from helpers.intervals import Proportion
from helpers.labels import read_labels
from helpers.made_from import name_values
from helpers.outputs import atomic_write
from helpers.patterns import Patterns, open_patterns
from helpers.ranking import Ranking, read_ranking, write_ranking
from helpers.work_folder import LABELS_NAME, PREDICTIONS, RANKING


def write_whole(
    out_dir: Path,
    rows: Sequence[RunRow],
    reference: Reference,
    log: Callable[[str], None],
) -> None:
    """Write the folder of all runs as a work folder of one stack.

    `handoff`, the labeller and the notebooks work on it as on that of one run.

    Parameters
    ----------
    out_dir
        The folder of all runs.
    rows
        Of the runs; those that could not be used are left out.
    reference
        What the model knows.
    log
        Called with a line of text if the runs do not form a stack.
    """
    good = [row for row in rows if not row.problem]
    if not good:
        return
    try:
        _write_whole(out_dir, good, reference)
    except HelpersError as error:
        log(f"The runs do not form one stack: {error}")


def _write_whole(out_dir: Path, rows: Sequence[RunRow], reference: Reference) -> None:
    folders = [run_dir(out_dir, row.run) for row in rows]
    runs = [open_experiment(folder) for folder in folders]
    metadata = runs[0].metadata
    bad_pixels = np.any([run.patterns.bad_pixels for run in runs], axis=0)
    patterns = open_patterns(
        [row.file for row in rows],
        dataset=metadata["dataset"],
        bad_pixels=None if metadata.get("has_mask_of_each") else bad_pixels,
        geometry=metadata.get("geometry_file") or None,
    ).with_bad_pixels(bad_pixels)
    patterns = patterns.with_scale(metadata["pedestal"], metadata["adu_per_photon"])
    measured = _join_measurements(runs)
    patterns = patterns.with_measurements(measured.is_measurement)
    centre = np.mean([run.centre for run in runs], axis=0)
    write_experiment(
        out_dir,
        patterns,
        measured,
        (float(centre[0]), float(centre[1])),
        lit_threshold=metadata["lit_threshold"],
        hit_threshold=find_hit_threshold(measured),
        geometry_file=metadata["geometry_file"],
    )
    found = [read_predictions(folder / PREDICTIONS.name) for folder in folders]
    raw = np.concatenate([each.raw for each in found])
    model_file = Path(found[0].attributes["model_file"])
    write_predictions(
        out_dir / PREDICTIONS.name, raw, reference.model, model_file, patterns
    )
    if reference.templates is not None:
        write_ranking(out_dir / RANKING.name, _join_rankings(folders, patterns))
    else:
        (out_dir / RANKING.name).unlink(missing_ok=True)


def _join_rankings(folders: Sequence[Path], patterns: Patterns) -> Ranking:
    """Put the rankings of the runs together: all are by the same templates."""
    each = [read_ranking(folder / RANKING.name) for folder in folders]
    n_before = np.searchsorted(patterns.file_index, np.arange(len(each)))
    pairs = zip(each, n_before, strict=True)
    index = np.concatenate([one.index + first for one, first in pairs])
    distance = np.concatenate([one.distance for one in each])
    best_first = np.lexsort((index, distance))
    return replace(
        each[0],
        index=index[best_first],
        distance=distance[best_first],
        template=np.concatenate([one.template for one in each])[best_first],
        angle_deg=np.concatenate([one.angle_deg for one in each])[best_first],
        fingerprint=patterns.fingerprint,
        made_from={"patterns": patterns.fingerprint, **name_values(patterns)},
    )


def _join_measurements(runs: Sequence[Experiment]) -> Measurements:
    """Put those of the runs together; each pattern counts the same in the powder."""
    each = [run.measurements for run in runs]
    weights = np.array([run.patterns.is_measurement.sum() for run in runs], float)
    weights /= weights.sum()

    def average(arrays: list[NDArray[np.float64]]) -> NDArray[np.float64]:
        return np.asarray(np.tensordot(weights, np.stack(arrays), axes=1))

    powder = average([one.powder for one in each])
    squares = average([one.spread**2 + one.powder**2 for one in each])
    return Measurements(
        photons=np.concatenate([one.photons for one in each]),
        lit_pixels=np.concatenate([one.lit_pixels for one in each]),
        powder=powder,
        spread=np.sqrt(np.maximum(squares - powder**2, 0)),
        not_finite=average([one.not_finite for one in each]),
        no_measurement=np.concatenate([one.no_measurement for one in each]),
    )


def find_thresholds(
    folder: str | Path, patterns: Patterns
) -> NDArray[np.float32] | None:
    """Return from which probability on each pattern of a beamtime is taken.

    Parameters
    ----------
    folder
        The folder of all runs, or any other work folder.
    patterns
        Its stack, n patterns.

    Returns
    -------
    ndarray or None
        (n,) float32, the threshold of its run; None where the folder is not of a
        beamtime.
    """
    good = (row for row in read_table(folder) if not row.problem)
    rows = {Path(row.file).resolve(): row for row in good}
    files = [path.resolve() for path in patterns.files]
    if not rows or not set(files) <= rows.keys():
        return None
    of_runs = np.array([rows[file].threshold for file in files], np.float32)
    return of_runs[patterns.file_index]


@dataclass(frozen=True)
class WholeAudit:
    """What labels drawn at random from all runs say of the whole selection."""

    audit: Audit
    n_runs: int

    def describe(self) -> str:
        """Say it in a line."""
        return (
            f"{self.audit.n_audited:,} patterns of {self.n_runs} runs audited: purity "
            f"{self.audit.purity}, completeness {self.audit.completeness}"
        )


def audit_whole(out_dir: str | Path, rows: Sequence[RunRow]) -> WholeAudit | None:
    """Audit the selection of all runs by the labels in their common folder.

    Parameters
    ----------
    out_dir
        The folder of all runs, in which labels were given in random order.
    rows
        Of the runs; the audit is of all that are in the folder.

    Returns
    -------
    WholeAudit or None
        None as long as no label was given.
    """
    out_dir = Path(out_dir)
    if not (out_dir / LABELS_NAME).exists() or all(row.problem for row in rows):
        return None
    patterns = open_experiment(out_dir).patterns
    thresholds = find_thresholds(out_dir, patterns)
    if thresholds is None:
        return None
    found = read_predictions(out_dir / PREDICTIONS.name, patterns)
    words = read_labels(out_dir, patterns)
    above = found.probability - thresholds  # from 0 on it is taken
    audited = audited_prefix(patterns, words)
    if not audited.size:
        return None
    n_runs = np.unique(patterns.file_index[audited]).size
    return WholeAudit(audit_selection(audited, words, above, 0.0), n_runs)


def audit_runs(out_dir: str | Path, rows: Sequence[RunRow]) -> dict[str, Proportion]:
    """Say of each run that drifted what its own labels say of its selection.

    Its `to_label.csv` asks for patterns that were drawn at random from those taken.
    Labels of them count in the order in which they are asked for, up to the first that
    is missing.

    Parameters
    ----------
    out_dir
        The folder of all runs.
    rows
        Of the runs, from `read_table`.

    Returns
    -------
    dict
        Single hits among those taken, by the name of the run; without runs of which
        nobody has labelled what was asked for.
    """
    found = {}
    for row in rows:
        folder = run_dir(Path(out_dir), row.run)
        if row.problem or not row.is_drifted or not (folder / LABELS_NAME).exists():
            continue
        try:
            patterns = open_experiment(folder).patterns
        except HelpersError:  # its file is gone
            continue
        probability = read_predictions(folder / PREDICTIONS.name, patterns).probability
        said = read_labels(folder, patterns)[order_taken(patterns, probability, row)]
        missing = np.flatnonzero(said == "")
        said = said[: missing[0]] if missing.size else said
        if said.size:
            found[row.run] = Proportion(int((said == "single").sum()), said.size)
    return found


WIDTH = 96  # letters in a line, also in a notebook on a small screen
HOW_TO_LABEL = (
    "A run that drifted is not like the one that taught the model, so its own labels "
    "alone can say how many single hits are taken. Its folder, runs/NAME, asks for as "
    'many as are advised: open 03-label with that folder as work_dir, order="queue", '
    'patterns_file="" and labels_file="", label, and look here again.'
)


def describe_table(
    rows: Sequence[RunRow], audits: Mapping[str, Proportion] | None = None
) -> str:
    """Return the table as text, one run a line, and what is to be said of runs.

    Parameters
    ----------
    rows
        From `read_table`.
    audits
        From `audit_runs`: what is known of runs that drifted.
    """
    audits = audits or {}
    heads = ("run", "patterns", "hits", "taken", "single hits", "")
    table = [heads, *(_list_cells(row, audits.get(row.run)) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(width) if 0 < at < len(heads) - 1 else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in table
    ]
    said = [
        f"{row.run}: {row.summary}" for row in rows if row.problem or row.is_drifted
    ]
    parts = [
        lines,
        [textwrap.fill(text, WIDTH, subsequent_indent="  ") for text in said],
        [textwrap.fill(text, WIDTH) for text in _sum_up(rows, audits) if text],
    ]
    return "\n\n".join("\n".join(part) for part in parts if part)


def _list_cells(row: RunRow, audited: Proportion | None) -> tuple[str, ...]:
    if row.problem:
        return (row.run, *["–"] * 4, "cannot be used")
    numbers = (f"{each:,}" for each in (row.patterns, row.hits, row.taken))
    singles = describe_singles(row, audited)
    return (row.run, *numbers, singles, "drifted" if row.is_drifted else "")


def _sum_up(
    rows: Sequence[RunRow], audits: Mapping[str, Proportion]
) -> tuple[str, str]:
    """Say how many single hits are known, and how to learn it of the other runs."""
    good = [row for row in rows if not row.problem]
    counted = [count_singles(row, audits.get(row.run)) for row in good]
    known = [row for row, each in zip(good, counted, strict=True) if each is not None]
    singles = sum(each[0] for each in counted if each)
    text = (
        f"{len(good)} of {len(rows)} runs could be used: "
        f"{sum(row.patterns for row in good):,} patterns, "
        f"{sum(row.taken for row in good):,} taken. "
        f"{singles:,.0f} single hits are expected among the "
        f"{sum(row.taken for row in known):,} of "
        f"{len(known)} {'run' if len(known) == 1 else 'runs'}"
    )
    n_unknown = len(good) - len(known)
    if not n_unknown:
        return f"{text}.", ""
    return f"{text}; of the other {n_unknown} it is not known.", HOW_TO_LABEL


if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEMPLATE = "beamtime.html.j2"
REPORT_NAME = "report.html"
PICTURES = ("drift.png", "best.png")
N_BEST = 12
DPI = 70
LARGER = 1 + SIZE_DIFFERS
LIMITS = {
    "moved_px": ("beam moved by pixels", 0.0, 0.0, FAR_PX),
    "brightness": ("brightness of hits\n× the model's", 1.0, 1 / FACTOR, FACTOR),
    "background": ("background\n× the model's", 1.0, 1 / FACTOR, FACTOR),
    "size": ("size of particles\n× the model's", 1.0, 1 / LARGER, LARGER),
    "features": ("hits told apart\nin a share of pairs", 0.5, 0.25, FEATURES_DIFFER),
}
"""Title, value for a run like the model's, and the limits of what has not drifted."""


def write_pages(
    out_dir: str | Path,
    rows: Sequence[RunRow],
    reference: Reference | None = None,
    audit: WholeAudit | None = None,
) -> Path:
    """Write the report, with a page for each run, and return its path.

    Parameters
    ----------
    out_dir
        The folder that `apply_model` filled.
    rows
        Of the runs.
    reference
        What the model knows, to draw pictures of runs that have none yet; those that
        have some keep them.
    audit
        From `audit_whole`.
    """
    from jinja2 import Environment, FileSystemLoader

    out_dir = Path(out_dir)
    audits = audit_runs(out_dir, rows)
    pages = [_describe_page(out_dir, row, reference, audits) for row in rows]
    summary, note = _sum_up(rows, audits)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True
    )
    html = environment.get_template(TEMPLATE).render(
        pages=pages, audit=audit.describe() if audit else "", summary=summary, note=note
    )
    with atomic_write(out_dir / REPORT_NAME) as temporary:
        temporary.write_text(html, encoding="utf-8")
    return out_dir / REPORT_NAME


def _describe_page(
    out_dir: Path,
    row: RunRow,
    reference: Reference | None,
    audits: Mapping[str, Proportion],
) -> dict[str, Any]:
    folder, audited = run_dir(out_dir, row.run), audits.get(row.run)
    if reference is not None and not row.problem:
        _draw_missing(folder, row, reference)
    pictures = [folder / name for name in PICTURES if (folder / name).exists()]
    return {
        "row": row,
        "singles": describe_singles(row, audited),
        "size": _format_or_unknown("{:.2f}", row.size),
        "numbers": _list_numbers(row, audited),
        "pictures": [base64.b64encode(path.read_bytes()).decode() for path in pictures],
    }


def _list_numbers(row: RunRow, audited: Proportion | None) -> list[tuple[str, str]]:
    """Name what is known of a run, in the order in which one asks."""
    return [
        ("patterns", f"{row.patterns:,}"),
        ("hits", f"{row.hits:,}"),
        ("taken", f"{row.taken:,}, from probability {row.threshold:.3f} on"),
        ("single hits among them", describe_singles(row, audited)),
        ("beam at row, column", f"{row.row:.1f}, {row.column:.1f}"),
        ("moved", f"{row.moved_px:.1f} pixels"),
        (
            "brightness of the hits",
            _format_or_unknown("{:.2f} × the model's", row.brightness),
        ),
        ("background", _format_or_unknown("{:.2f} × the model's", row.background)),
        ("size of the particles", _format_or_unknown("{:.2f} × the model's", row.size)),
        (
            "single hits among all",
            _format_or_unknown("{:.0%}, by the network", row.share),
        ),
        (
            "hits told apart from the model's",
            _format_or_unknown("in {:.0%} of pairs; 50% is chance", row.features),
        ),
        ("bad pixels that the model's run had not", f"{row.new_bad_pixels:,}"),
        ("labels advised", f"{row.labels_advised}"),
        ("of these given", f"{audited.n_sample if audited else 0}"),
    ]


def _format_or_unknown(text: str, value: float) -> str:
    return "not known" if math.isnan(value) else text.format(value)


def _draw_missing(folder: Path, row: RunRow, reference: Reference) -> None:
    predicted = (folder / PREDICTIONS.name).stat().st_mtime_ns
    places = [folder / name for name in PICTURES]
    if all(p.exists() and p.stat().st_mtime_ns > predicted for p in places):
        return
    try:
        run = open_experiment(folder)
    except HelpersError:  # its file is gone; what was found is told all the same
        return
    for path, draw in zip(places, (_draw_drift, _draw_best), strict=True):
        with atomic_write(path) as temporary:
            draw(folder, run, row, reference).savefig(temporary, format="png", dpi=DPI)


def _draw_drift(
    folder: Path, run: Experiment, row: RunRow, reference: Reference
) -> "Figure":
    """Draw the run beside what the model knows."""
    from matplotlib.figure import Figure

    from helpers import plots
    from helpers.physics import radial_average

    figure = Figure(figsize=(15, 8), layout="constrained")
    axes = figure.subplots(2, 3).ravel()
    bad_pixels, measured = run.patterns.bad_pixels, run.measurements
    plots.plot_pattern(
        axes[0], measured.powder, bad_pixels, centre=run.centre, title=row.run
    )
    averages = {
        name: radial_average(
            one.measurements.powder, one.centre, one.patterns.bad_pixels
        )
        for name, one in (("model", reference.experiment), (row.run, run))
    }
    plots.plot_radial_averages(axes[1], averages, unit=run.patterns.unit)
    of_model = reference.experiment.measurements
    for name, one in (("model", of_model), (row.run, measured)):
        photons = one.photons[find_hits(one) & (one.photons > 0)]
        bins = np.linspace(0, np.log10(1 + photons.max(initial=9)), 60)
        axes[2].hist(
            np.log10(photons), list(bins), histtype="step", density=True, label=name
        )
    axes[2].set(xlabel="log₁₀ photons of a hit", ylabel="share of the hits")
    axes[2].legend()
    plots.plot_along_run(axes[3], measured.photons, ylabel="photons per pattern")
    probability = read_predictions(folder / PREDICTIONS.name).probability
    plots.plot_histogram(
        axes[4],
        probability,
        xlabel="probability of a single hit",
        threshold=row.threshold,
    )
    curve = expect_purity(probability, reference.out_of_fold, reference.words)
    plots.plot_purity_curve(
        axes[5], curve.number, curve.purity, curve.low, curve.high, chosen=row.taken
    )
    if row.is_drifted:
        axes[5].set_title("were it like the model's run, which it is not")
    return figure


def _draw_best(
    folder: Path, run: Experiment, row: RunRow, reference: Reference
) -> "Figure":
    """Draw the most probable single hits."""
    from matplotlib.figure import Figure

    from helpers import plots

    probability = read_predictions(folder / PREDICTIONS.name).probability
    best = np.argsort(-probability, kind="stable")[:N_BEST]
    figure = Figure(layout="constrained")
    plots.show_patterns(run.patterns, best, "{p:.2f}", figure=figure, p=probability)
    return figure


def show_drift(rows: Sequence[RunRow]) -> "Figure":
    """Draw how far runs are from what the model was trained on, a line for each run.

    Parameters
    ----------
    rows
        From `read_table`; runs that cannot be used are left out.
    """
    from matplotlib import pyplot as plt  # slow to import

    from helpers import plots

    good = [row for row in rows if not row.problem]
    lines = np.arange(len(good))
    size = (12, 1.2 + 0.3 * max(len(good), 2))
    fig, axes = plt.subplots(1, len(LIMITS), figsize=size, sharey=True)
    for ax, (name, (title, same, low, high)) in zip(axes, LIMITS.items(), strict=True):
        value = np.array([getattr(row, name) for row in good], float)
        is_far = (value < low) | (value > high)
        ax.axvspan(low, high, color="0.93")
        ax.axvline(same, color="0.6", linestyle="--")
        ax.plot(value[~is_far], lines[~is_far], "o")
        ax.plot(value[is_far], lines[is_far], "D", color=plots.VERMILION)
        for line in lines[np.isnan(value)]:
            ax.text(same, line, "not known", ha="center", va="center", fontsize=8)
        ax.set_title(title, fontsize=9)
        ax.margins(x=0.1)
    axes[0].set_yticks(lines, [row.run for row in good])
    axes[0].set_ylim(len(good) - 0.5, -0.5)
    fig.set_layout_engine("constrained")
    return fig
