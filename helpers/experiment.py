"""What is known of the patterns before anyone labels them, kept in the work folder.

`experiment.json` holds the facts that a person reads: files, shape, unit, centre,
thresholds. `experiment.h5` holds the arrays that belong to them. Every later stage
starts from `open_experiment`, so a bad pixel proposed in the first notebook is left
out everywhere.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from helpers.errors import OtherPatternsError, ParameterError, WorkFolderError
from helpers.outputs import provenance, whole_file, write_json, write_provenance
from helpers.patterns import Patterns, open_patterns

JSON_NAME = "experiment.json"
ARRAYS_NAME = "experiment.h5"


@dataclass(frozen=True)
class Measurements:
    """Sums of one pass over the stack; bad pixels count nowhere.

    Attributes
    ----------
    photons
        (n,) float64: photons per pattern, negative values not counted.
    lit_pixels
        (n,) int64: pixels at or above the lit threshold; the hit score.
    powder
        (rows, columns) float64: mean over the patterns, in the file's unit.
    spread
        (rows, columns) float64: standard deviation over the patterns, likewise.
    not_finite
        (rows, columns) float64: share of at most 256 patterns, evenly spread, in which
        the pixel is NaN or infinite.
    """

    photons: NDArray[np.float64]
    lit_pixels: NDArray[np.int64]
    powder: NDArray[np.float64]
    spread: NDArray[np.float64]
    not_finite: NDArray[np.float64]


@dataclass(frozen=True)
class Experiment:
    """The patterns of a work folder with everything that the first notebook found.

    Attributes
    ----------
    patterns
        The stack, with the experiment's bad pixels.
    centre
        (row, column) of the beam in pixels, fractions allowed.
    measurements
        Photons, lit pixels and powder.
    facts
        The content of `experiment.json`.
    work_dir
        The work folder.
    """

    patterns: Patterns
    centre: tuple[float, float]
    measurements: Measurements
    facts: dict[str, Any]
    work_dir: Path


def suggest_lit_threshold(patterns: Patterns, n_sampled: int = 64) -> float:
    """Choose the value from which a pixel counts as lit, in the file's unit.

    Photon counts: 1. Otherwise six robust standard deviations (median absolute
    deviation × 1.4826) above the median of a sample, which read noise does not reach.

    Parameters
    ----------
    patterns
        The stack.
    n_sampled
        How many patterns, evenly spread, are looked at.
    """
    if patterns.unit == "photons":
        return 1.0
    sample = patterns[_spread_evenly(len(patterns), n_sampled)]
    values = sample[:, ~patterns.bad_pixels]
    middle = float(np.median(values))
    noise = 1.4826 * float(np.median(np.abs(values - middle)))
    return middle + 6 * noise if noise > 0 else float(np.nextafter(middle, np.inf))


def suggest_hit_threshold(lit_pixels: NDArray[np.int64]) -> float:
    """Split the hit scores into blanks and hits where the two groups differ most.

    Otsu's criterion on log(1 + lit pixels): the split with the largest variance
    between the groups. It is a suggestion to look at: a run without blanks is split
    all the same.

    Parameters
    ----------
    lit_pixels
        (n,) pixels lit in each pattern.

    References
    ----------
    Otsu, IEEE Trans. Syst. Man Cybern. 9, 62 (1979), doi 10.1109/TSMC.1979.4310076,
    eq. 18.
    """
    scores = np.sort(np.log1p(lit_pixels.astype(np.float64)))
    below = np.arange(1, scores.size)
    if scores.size < 2 or scores[0] == scores[-1]:
        return 0.0
    total = np.cumsum(scores)
    gap = total[:-1] / below - (total[-1] - total[:-1]) / (scores.size - below)
    between = np.where(np.diff(scores) > 0, below * (scores.size - below) * gap**2, -1)
    split = int(np.argmax(between))
    return float(np.expm1(scores[split : split + 2].mean()))


def measure_patterns(
    patterns: Patterns, lit_threshold: float, adu_per_photon: float = 1.0
) -> Measurements:
    """Pass once over the stack and sum what the first look needs.

    Parameters
    ----------
    patterns
        The stack.
    lit_threshold
        A pixel is lit from this value on, in the file's unit.
    adu_per_photon
        What one photon adds to a pixel, in the file's unit; 1 for photon counts.

    Raises
    ------
    ParameterError
        If `adu_per_photon` is not above 0.
    """
    if not adu_per_photon > 0:
        message = (
            f"adu_per_photon is {adu_per_photon}; expected a number above 0. "
            "Pass 1 for photon counts, else the detector's ADU per photon."
        )
        raise ParameterError(message)
    photons = np.zeros(len(patterns))
    lit_pixels = np.zeros(len(patterns), np.int64)
    first, second = np.zeros((2, *patterns.shape[1:]))
    for start, block in patterns.blocks(progress="Measure"):
        here = slice(start, start + len(block))
        photons[here] = np.maximum(block, 0).sum(axis=(1, 2), dtype=np.float64)
        lit_pixels[here] = np.count_nonzero(block >= lit_threshold, axis=(1, 2))
        first += block.sum(axis=0, dtype=np.float64)
        second += np.einsum("nij,nij->ij", block, block, dtype=np.float64)
    mean = first / len(patterns)
    spread = np.sqrt(np.maximum(second / len(patterns) - mean**2, 0))
    not_finite = _share_not_finite(patterns)
    return Measurements(photons / adu_per_photon, lit_pixels, mean, spread, not_finite)


def make_powder(patterns: Patterns, chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the mean over some patterns, (rows, columns), in the file's unit.

    Parameters
    ----------
    patterns
        The stack.
    chosen
        (n,) bool: which patterns count. Without any the powder is 0 everywhere.
    """
    total = np.zeros(patterns.shape[1:])
    for start, block in patterns.blocks():
        here = chosen[start : start + len(block)]
        total += block[here].sum(axis=0, dtype=np.float64)
    total /= max(1, np.count_nonzero(chosen))
    return total


def propose_bad_pixels(
    measurements: Measurements, bad_pixels: NDArray[np.bool_]
) -> dict[str, NDArray[np.bool_]]:
    """Name pixels that do not behave like their neighbours.

    Each pixel's mean over the patterns is compared with the median of the good pixels
    in the 7 × 7 pixels around it. *Hot* means more than 5 times that median and 10
    robust standard deviations above it; *dead* means no signal at all, ever, where at
    least half of a bright neighbourhood has some; *not finite* means NaN or infinite in
    at least one pattern in a hundred. The bar is high: what is proposed is meant to be
    accepted after a glance at the picture.

    Parameters
    ----------
    measurements
        Of the whole stack.
    bad_pixels
        (rows, columns) bool, True = left out already; never proposed again.

    Returns
    -------
    dict
        "hot", "dead", "not finite": (rows, columns) bool each.
    """
    powder = np.where(bad_pixels, np.nan, measurements.powder)
    around = _median_around(powder)
    residual = powder - around
    noise = 1.4826 * _median_around(np.abs(residual))
    n_patterns = len(measurements.photons)
    dead = (measurements.powder == 0) & (measurements.spread == 0)
    with np.errstate(invalid="ignore"):
        hot = (residual > 10 * noise) & (powder > 5 * np.maximum(around, 0))
        dead &= around * n_patterns > 20
        hot &= powder * n_patterns > 20
    return {
        "hot": hot & ~bad_pixels,
        "dead": dead & ~bad_pixels,
        "not finite": (measurements.not_finite >= 0.01) & ~bad_pixels,
    }


def write_experiment(
    work_dir: str | Path,
    patterns: Patterns,
    measurements: Measurements,
    centre: tuple[float, float],
    **facts: Any,
) -> Path:
    """Write `experiment.json` and `experiment.h5`; return the path of the first.

    Parameters
    ----------
    work_dir
        The work folder; made when it does not exist.
    patterns
        The stack, with every bad pixel that later stages shall leave out.
    measurements
        Of that stack.
    centre
        (row, column) in pixels.
    **facts
        More for `experiment.json`: thresholds and what was chosen by hand.
    """
    work_dir = Path(work_dir)
    arrays = vars(measurements) | {"bad_pixels": patterns.bad_pixels}
    with whole_file(work_dir / ARRAYS_NAME) as path, h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file[name] = values
        write_provenance(file, fingerprint=patterns.fingerprint)
    content = {
        "patterns_files": [str(path.resolve()) for path in patterns.files],
        "dataset": patterns.layout.patterns,
        "layout": patterns.layout.name,
        "description": patterns.describe(),
        "shape": list(patterns.shape),
        "unit": patterns.unit,
        "centre": list(centre),
        "n_bad_pixels": int(patterns.bad_pixels.sum()),
        **facts,
    }
    origin = provenance(fingerprint=patterns.fingerprint)
    write_json(work_dir / JSON_NAME, content | origin)
    return work_dir / JSON_NAME


def open_experiment(
    work_dir: str | Path, patterns_file: str | Path | Sequence[str | Path] = ""
) -> Experiment:
    """Open the patterns of a work folder, with bad pixels, centre and measurements.

    Parameters
    ----------
    work_dir
        Where 01-inspect wrote.
    patterns_file
        The patterns, if they have moved since or to make sure they are the same.

    Raises
    ------
    WorkFolderError
        If 01-inspect has not written here, or its files cannot be read.
    OtherPatternsError
        If the patterns are not those that were inspected.
    """
    work_dir = Path(work_dir)
    facts = _read_facts(work_dir / JSON_NAME)
    arrays = _read_arrays(work_dir / ARRAYS_NAME)
    patterns = open_patterns(
        patterns_file or facts["patterns_files"],
        dataset=facts["dataset"],
        bad_pixels=arrays.pop("bad_pixels"),
    )
    if patterns.fingerprint != facts["fingerprint"]:
        message = (
            f"{work_dir} belongs to {', '.join(facts['patterns_files'])}; found other "
            f"patterns in {', '.join(map(str, patterns.files))}. "
            "Give the files that were inspected, or a new work_dir."
        )
        raise OtherPatternsError(message)
    row, column = facts["centre"]
    measured = Measurements(**arrays)
    return Experiment(patterns, (row, column), measured, facts, work_dir)


def _share_not_finite(patterns: Patterns) -> NDArray[np.float64]:
    if not np.issubdtype(patterns.dtype, np.floating):
        return np.zeros(patterns.shape[1:])
    looked_at = _spread_evenly(len(patterns), 256)
    counts = np.zeros(patterns.shape[1:])
    for index in looked_at:
        counts += ~np.isfinite(patterns.read_raw(int(index)))
    return counts / len(looked_at)


def _spread_evenly(n_patterns: int, n_sampled: int) -> NDArray[np.int64]:
    chosen = np.linspace(0, n_patterns - 1, min(n_sampled, n_patterns))
    return chosen.astype(np.int64)


def _median_around(image: NDArray[np.float64], size: int = 7) -> NDArray[np.float64]:
    """Return the median of the finite pixels in the square around each pixel."""
    padded = np.pad(image, size // 2, constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size))
    flat = np.sort(windows.reshape(*image.shape, -1), axis=-1)  # NaN sorts last
    n_finite = np.isfinite(flat).sum(axis=-1)
    low, high = np.maximum(n_finite - 1, 0) // 2, n_finite // 2
    at = np.stack([low, np.minimum(high, flat.shape[-1] - 1)], axis=-1)
    median = np.take_along_axis(flat, at, axis=-1).mean(axis=-1)
    return np.where(n_finite > 0, median, np.nan)


def _read_facts(path: Path) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        message = (
            f"{path} is not there; expected what 01-inspect writes. "
            "Run 01-inspect with this work_dir first."
        )
        raise WorkFolderError(message) from None
    except (OSError, ValueError) as error:
        message = f"{path} cannot be read ({error}). Run 01-inspect again."
        raise WorkFolderError(message) from error
    problems = _find_fact_problems(facts)
    if problems:
        message = f"{path}: {'; '.join(problems)}. Run 01-inspect again."
        raise WorkFolderError(message)
    return facts


def _find_fact_problems(facts: Any) -> list[str]:
    """Say what is not as `write_experiment` writes it, in what is read back here."""
    if not isinstance(facts, dict):
        return [f"found a {type(facts).__name__}; expected names and values"]
    expected = {
        "patterns_files": ("file names", _is_list_of(str)),
        "dataset": ("a path", lambda found: isinstance(found, str)),
        "centre": ("row and column", _is_list_of(int, float, length=2)),
        "fingerprint": ("a text", lambda found: isinstance(found, str)),
    }
    return [
        f"{name} is {facts[name]!r:.80}; expected {what}"
        if name in facts
        else f"it lacks {name}"
        for name, (what, is_right) in expected.items()
        if name not in facts or not is_right(facts[name])
    ]


def _is_list_of(*kinds: type, length: int | None = None) -> Callable[[Any], bool]:
    """Return a test for lists of such values: at least one, or so many."""
    return lambda found: (
        isinstance(found, list)
        and all(type(each) in kinds for each in found)
        and (len(found) == length if length else bool(found))
    )


def _read_arrays(path: Path) -> dict[str, Any]:
    try:
        with h5py.File(path) as file:
            return {name: dataset[()] for name, dataset in file.items()}
    except OSError as error:
        message = f"{path} cannot be read ({error}). Run 01-inspect again."
        raise WorkFolderError(message) from error
