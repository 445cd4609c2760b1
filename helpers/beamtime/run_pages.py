"""One HTML file of a beamtime: the table, and a page for each run."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from helpers.beamtime.drift import Known, find_hits, keep_lit
from helpers.beamtime.run_folder import RunRow, describe_singles, run_dir
from helpers.beamtime.whole import WholeAudit
from helpers.classifier import expect_purity, read_predictions
from helpers.errors import HelpersError
from helpers.experiment import Experiment, open_experiment
from helpers.outputs import atomic_write
from helpers.work_folder import PREDICTIONS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEMPLATE = "beamtime.html.j2"
REPORT_NAME = "report.html"
PICTURES = ("drift.png", "best.png")
N_BEST = 16
DPI = 70


def write_pages(
    out_dir: str | Path,
    rows: Sequence[RunRow],
    known: Known | None = None,
    audit: WholeAudit | None = None,
) -> Path:
    """Write the report, with a page for each run, and return its path.

    Parameters
    ----------
    out_dir
        The folder that `apply_model` filled.
    rows
        Of the runs.
    known
        What the model knows, to draw pictures of runs that have none yet; those that
        have some keep them.
    audit
        From `audit_whole`.
    """
    from jinja2 import Environment, FileSystemLoader

    out_dir = Path(out_dir)
    pages = [_describe_page(out_dir, row, known) for row in rows]
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True
    )
    good = [row for row in rows if not row.problem]
    html = environment.get_template(TEMPLATE).render(
        pages=pages,
        audit=audit.describe() if audit else "",
        n_patterns=sum(row.patterns for row in good),
        n_taken=sum(row.taken for row in good),
        singles=sum(row.singles for row in good),
        n_good=len(good),
    )
    with atomic_write(out_dir / REPORT_NAME) as temporary:
        temporary.write_text(html, encoding="utf-8")
    return out_dir / REPORT_NAME


def _describe_page(out_dir: Path, row: RunRow, known: Known | None) -> dict[str, Any]:
    folder = run_dir(out_dir, row.run)
    if known is not None and not row.problem:
        _draw_missing(folder, row, known)
    pictures = [folder / name for name in PICTURES if (folder / name).exists()]
    return {
        "row": row,
        "singles": describe_singles(row),
        "numbers": _list_numbers(row),
        "pictures": [base64.b64encode(path.read_bytes()).decode() for path in pictures],
    }


def _list_numbers(row: RunRow) -> list[tuple[str, str]]:
    """Name what is known of a run, in the order in which one asks."""
    return [
        ("patterns", f"{row.patterns:,}"),
        ("hits", f"{row.hits:,}"),
        ("taken", f"{row.taken:,}, from probability {row.threshold:.3f} on"),
        ("single hits expected among them", describe_singles(row)),
        ("beam at row, column", f"{row.row:.1f}, {row.column:.1f}"),
        ("moved", f"{row.moved_px:.1f} pixels"),
        ("brightness of the hits", f"{row.brightness:.2f} × the model's"),
        ("background", f"{row.background:.2f} × the model's"),
        ("size of the particles", f"{row.size:.2f} × the model's"),
        ("single hits among all", f"{row.share:.0%}, as the network lets expect"),
        ("hits told from the model's", f"{row.features:.0%} of pairs (50 % is chance)"),
        ("bad pixels that the model's run had not", f"{row.new_bad_pixels:,}"),
        ("labels advised", f"{row.labels_advised}"),
    ]


def _draw_missing(folder: Path, row: RunRow, known: Known) -> None:
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
            temporary.write_bytes(_as_png(draw(folder, run, row, known)))


def _as_png(figure: "Figure") -> bytes:
    held = io.BytesIO()
    figure.savefig(held, format="png", dpi=DPI)
    return held.getvalue()


def _draw_drift(folder: Path, run: Experiment, row: RunRow, known: Known) -> "Figure":
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
        for name, one in (("model", known.experiment), (row.run, run))
    }
    plots.plot_radial_averages(axes[1], averages, unit=run.patterns.unit)
    for name, one in (("model", known.experiment.measurements), (row.run, measured)):
        photons = one.photons[find_hits(keep_lit(one)) & (one.photons > 0)]
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
    curve = expect_purity(probability, known.out_of_fold, known.words)
    plots.plot_purity_curve(
        axes[5], curve.number, curve.purity, curve.low, curve.high, chosen=row.taken
    )
    return figure


def _draw_best(folder: Path, run: Experiment, row: RunRow, known: Known) -> "Figure":
    """Draw the most probable single hits."""
    from matplotlib.figure import Figure

    from helpers import plots

    probability = read_predictions(folder / PREDICTIONS.name).probability
    best = np.argsort(-probability, kind="stable")[:N_BEST]
    shape = run.patterns.shape
    figure = Figure(figsize=(12, 3.6 * shape[1] / shape[2]), layout="constrained")
    captions = [f"{i:,} · {probability[i]:.2f}" for i in best]
    plots.plot_gallery(
        figure.subplots(), run.patterns[best], captions, run.patterns.bad_pixels
    )
    return figure
