"""What one pass over the stack sums up, and how a work folder keeps it.

`experiment.json` is for the facts that a person reads, `experiment.h5` for arrays.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from helpers.errors import OtherPatternsError, ParameterError, PatternsFileError
from helpers.experiment.no_measurement import (
    KINDS,
    MEASURED,
    NUMBERS,
    Look,
    PatternCheck,
    find_no_measurements,
)
from helpers.made_from import check_fits, look_alike, name_file, name_values
from helpers.outputs import atomic_hdf5, provenance, write_json, write_provenance
from helpers.patterns import Patterns, open_patterns, reused_array
from helpers.physics import PixelSums
from helpers.work_folder import EXPERIMENT, MEASUREMENTS

OTHERS = "Give the files that were inspected, or a new work_dir."
LOOK_ALIKE = (
    "They agree in the few patterns that older versions of this package compared, but "
    "not in the rest: an older version wrote here, the file was packed in another way, "
    "or this is another run. If they are the same patterns, run "
    f"{EXPERIMENT.writer} again, and say same_run once where labels are opened; else "
    "give the files that were inspected, or a new work_dir."
)

LARGEST = float(np.finfo(np.float32).max)  # patterns are float32 once they are clean
ROUNDING = 1e-6  # of a standard deviation that is 0, as a share of the mean
SHOWN = 10  # indices in a message
LOOKED_AT = 256  # patterns that may hold too large values


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
        (rows, columns) float64: mean over the patterns in which the pixel has a value,
        in the patterns' unit.
    spread
        (rows, columns) float64: standard deviation over them, likewise.
    not_finite
        (rows, columns) float64: share of the measurements in which the pixel is NaN,
        infinite or too large for float32.
    no_measurement
        (n,) uint8: 0 where a pattern is a measurement; else why it is none, by the
        numbers of `NO_MEASUREMENT`. Such a pattern counts in no powder.
    lost_pixels
        (n,) int64: good pixels that have no value in that pattern; None of measurements
        read from a work folder.
    pixels
        For `find_bad_pixels`; None likewise.
    """

    photons: NDArray[np.float64]
    lit_pixels: NDArray[np.int64]
    powder: NDArray[np.float64]
    spread: NDArray[np.float64]
    not_finite: NDArray[np.float64]
    no_measurement: NDArray[np.uint8]
    lost_pixels: NDArray[np.int64] | None = None
    pixels: PixelSums | None = None

    @property
    def is_measurement(self) -> NDArray[np.bool_]:
        """(n,) bool."""
        return np.asarray(self.no_measurement == MEASURED)


def measure_patterns(patterns: Patterns, lit_threshold: float) -> Measurements:
    """Pass once over the stack and sum what the first look needs.

    Parameters
    ----------
    patterns
        The stack.
    lit_threshold
        A pixel is lit from this value on, in the patterns' unit.

    Raises
    ------
    PatternsFileError
        If nothing but NaN and infinite values is in the patterns.

    Warns
    -----
    UserWarning
        If all patterns are alike, or values are too large for float32 and count as 0.
    """
    check = PatternCheck.of(patterns, lit_threshold)
    measure = _Measure(patterns.bad_pixels, check)
    pixels = PixelSums.of(np.zeros((0, *patterns.shape[1:]), np.float32), lit_threshold)
    parts = []
    blocks = patterns.map(measure, keep_nan=True, join=_Part.join, progress="Measure")
    for _, block in blocks:
        parts += block.of_patterns
        pixels.add(block.pixels)
    photons, is_infinite, *looks = map(np.concatenate, zip(*parts, strict=True))
    look = Look(*looks)
    _check_not_too_large(patterns, np.flatnonzero(is_infinite))
    _check_finite(patterns, look.lost_pixels)
    none = find_no_measurements(patterns, check, look, photons, pixels.total)
    _correct(pixels, patterns, measure, look, none == MEASURED)
    only_value = look.only_value[none == MEASURED]
    powder, spread = _make_powder(pixels, only_value, patterns.bad_pixels)
    _check_alike(patterns, powder, spread)
    not_finite = 1 - pixels.n_finite / max(pixels.n_patterns, 1)
    return Measurements(
        photons,
        look.lit_tiles.sum(axis=1, dtype=np.int64),
        powder,
        spread,
        not_finite,
        none,
        look.lost_pixels,
        pixels,
    )


def _correct(
    pixels: PixelSums,
    patterns: Patterns,
    measure: "_Measure",
    look: Look,
    is_measurement: NDArray[np.bool_],
) -> None:
    """Add to the sums what was held back, and take out what is no measurement."""
    is_constant = ~np.isnan(look.only_value)
    held_back = np.flatnonzero(is_measurement & ~look.is_counted & ~is_constant)
    wrong = np.flatnonzero(~is_measurement & look.is_counted)
    for index, correct in ((held_back, pixels.add), (wrong, pixels.subtract)):
        if index.size:
            for _, part in patterns.map(
                measure.add_up, index, keep_nan=True, join=_add_sums
            ):
                correct(part)


def _add_sums(one: PixelSums, other: PixelSums) -> PixelSums:
    one.add(other)
    return one


def describe_lost_pixels(measurements: Measurements) -> str:
    """Name the patterns in which good pixels have no value; "" without any.

    Parameters
    ----------
    measurements
        From `measure_patterns`.
    """
    lost = measurements.lost_pixels
    if lost is None or not lost.any():
        return ""
    found = np.flatnonzero(lost)
    return (
        f"{found.size:,} of {lost.size:,} patterns lack values (NaN or infinite), "
        f"up to {lost.max():,} of the good pixels, which count as 0 in them alone: "
        f"{_name_some(found)}."
    )


def describe_no_measurements(measurements: Measurements) -> str:
    """Name and count the patterns that are no measurement; "" without any.

    Parameters
    ----------
    measurements
        From `measure_patterns`.

    Warns
    -----
    UserWarning
        If there are any, since nothing behind uses them.
    """
    none = measurements.no_measurement
    if measurements.is_measurement.all():
        return ""
    lines = [
        f"{found.size:,} {kind} ({KINDS[kind]}): {_name_some(found)}"
        for kind, number in NUMBERS.items()
        if (found := np.flatnonzero(none == number)).size
    ]
    n_out = np.count_nonzero(none != MEASURED)
    message = (
        f"{n_out:,} of {none.size:,} patterns are no measurement and are left out "
        f"everywhere: {'; '.join(lines)}."
    )
    warnings.warn(message, stacklevel=2)
    return message


def name_no_measurements(measurements: Measurements) -> NDArray[np.str_]:
    """Return the kind of each pattern that is no measurement, "" of all others, (n,).

    Parameters
    ----------
    measurements
        From `measure_patterns`, or of a work folder.
    """
    return np.array(["", *KINDS])[measurements.no_measurement]


class _Part(NamedTuple):
    # photons, which are infinite, `Look`
    of_patterns: list[tuple[NDArray[Any], ...]]
    pixels: PixelSums

    def join(self, other: "_Part") -> "_Part":
        """Add what comes next."""
        self.of_patterns.extend(other.of_patterns)
        self.pixels.add(other.pixels)
        return self


@dataclass(frozen=True)
class _Measure:
    """Sums over the pixels of each pattern, and over the patterns for each pixel."""

    bad_pixels: NDArray[np.bool_]
    check: PatternCheck

    def __call__(self, values: NDArray[np.float32]) -> _Part:
        is_infinite = np.zeros(len(values), np.bool_)
        finite = self._clean(values, is_infinite)
        lost = np.zeros(len(values), np.int64)
        if finite is not None:
            lost = np.count_nonzero(~finite & ~self.bad_pixels, axis=(1, 2))
        lit = values >= self.check.lit_threshold
        look = self.check(values, lost, lit)
        doubled = reused_array("doubled", values.shape, np.float64)
        doubled[...] = values
        flat = doubled.reshape(len(doubled), -1)
        some_negative = values.min(initial=0) < 0
        photons = (np.maximum(flat, 0) if some_negative else flat).sum(axis=1)
        counted = look.is_counted
        if not counted.all():
            values, doubled = values[counted], doubled[counted]
            finite = None if finite is None else finite[counted]
        pixels = PixelSums.of(values, self.check.lit_threshold, finite, doubled)
        return _Part([(photons, is_infinite, *look)], pixels)

    def add_up(self, values: NDArray[np.float32]) -> PixelSums:
        """Sum up for each pixel alone, whatever the patterns show."""
        finite = self._clean(values, np.zeros(len(values), np.bool_))
        return PixelSums.of(values, self.check.lit_threshold, finite)

    def _clean(
        self, values: NDArray[np.float32], is_infinite: NDArray[np.bool_]
    ) -> NDArray[np.bool_] | None:
        """Set to 0 what is bad or has no value; return what has, None if all have."""
        finite = np.isfinite(values)
        all_finite = finite.all()
        if not all_finite:
            is_infinite |= np.isinf(values).any(axis=(1, 2))
            values[~finite] = 0
        values[:, self.bad_pixels] = 0
        return None if all_finite else finite


def _make_powder(
    pixels: PixelSums, only_value: NDArray[np.float64], bad_pixels: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard deviation; patterns without a photon count."""
    if not pixels.n_patterns:
        mean = np.where(bad_pixels, 0, np.mean(only_value))
        return mean, np.zeros_like(mean)
    n = np.maximum(pixels.n_finite + np.count_nonzero(only_value == 0), 1)
    mean = pixels.total / n
    return mean, np.sqrt(np.maximum(pixels.squares / n - mean**2, 0))


def _sum(block: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.asarray(block.sum(axis=0, dtype=np.float64))


def make_powder(patterns: Patterns, chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the mean over some patterns, (rows, columns), in the patterns' unit.

    Parameters
    ----------
    patterns
        The stack.
    chosen
        (n,) bool: which patterns count, if they are measurements. Without any the
        powder is 0 everywhere.
    """
    index = np.flatnonzero(chosen & patterns.is_measurement)
    total = np.zeros(patterns.shape[1:])
    for _, block in patterns.map(_sum, index, join=np.add):
        total += block
    total /= max(1, index.size)
    return total


def _check_not_too_large(patterns: Patterns, infinite: NDArray[np.int64]) -> None:
    """Warn of values that are infinite in float32 alone."""
    if patterns.dtype.itemsize <= np.dtype(np.float32).itemsize:
        return
    sizes = ((i, np.abs(patterns.read_raw(i))) for i in infinite[:LOOKED_AT].tolist())
    too_large = [i for i, x in sizes if ((x > LARGEST) & (x < np.inf)).any()]
    if not too_large:
        return
    found = np.array(too_large)
    message = (
        f"{patterns.files[0]}: {found.size:,} of the {len(patterns):,} patterns hold "
        f"values beyond ±{LARGEST:.1e}, which count as 0: {_name_some(found)}. No "
        "detector records such values; look at how the file was written."
    )
    warnings.warn(message, stacklevel=3)


def _name_some(found: NDArray[np.int64]) -> str:
    return ", ".join(map(str, found[:SHOWN])) + (", …" if found.size > SHOWN else "")


def _check_finite(patterns: Patterns, lost_pixels: NDArray[np.int64]) -> None:
    n_good = np.count_nonzero(~patterns.bad_pixels)
    if (lost_pixels < n_good).any():
        return
    problem = (
        "every value is NaN or infinite, in all patterns. Expected photon counts or "
        "ADU. Write the file again, or name other patterns: dataset=."
    )
    raise PatternsFileError(patterns.files[0], [problem])


def _check_alike(
    patterns: Patterns, mean: NDArray[np.float64], spread: NDArray[np.float64]
) -> None:
    """Warn of patterns among which there is nothing to find."""
    alike = len(patterns) > 1 and (spread <= ROUNDING * np.abs(mean)).all()
    if mean.any() and not alike:
        return
    what = (
        "all patterns are alike, pixel by pixel" if mean.any() else "every value is 0"
    )
    message = (
        f"{patterns.files[0]}: {what}, in {len(patterns):,} patterns of "
        f"{patterns.layout.patterns}: there is nothing to tell them apart by. Look at "
        "how the file was written, or name other patterns: dataset=."
    )
    warnings.warn(message, stacklevel=3)


@dataclass(frozen=True)
class Experiment:
    """The patterns of a work folder with everything that the first notebook found.

    Attributes
    ----------
    patterns
        The stack, with the experiment's bad pixels, and what is no measurement.
    centre
        (row, column) of the beam in pixels, fractions allowed.
    measurements
        Photons, lit pixels and powder.
    metadata
        The content of `experiment.json`.
    work_dir
        The work folder.
    """

    patterns: Patterns
    centre: tuple[float, float]
    measurements: Measurements
    metadata: dict[str, Any]
    work_dir: Path


def write_experiment(
    work_dir: str | Path,
    patterns: Patterns,
    measurements: Measurements,
    centre: tuple[float, float],
    **metadata: Any,
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
    **metadata
        More for `experiment.json`: thresholds and what was chosen by hand.
    """
    _check_centre(centre, patterns)
    patterns.check_unchanged()
    work_dir = Path(work_dir).expanduser()
    arrays = vars(measurements) | {"bad_pixels": patterns.bad_pixels}
    with atomic_hdf5(work_dir / MEASUREMENTS.name) as file:
        for name in MEASUREMENTS.datasets:
            file[name] = arrays[name]
        file["no_measurement"].attrs["meaning"] = [
            "0: a measurement",
            *(f"{number}: {kind}" for kind, number in NUMBERS.items()),
        ]
        write_provenance(file, fingerprint=patterns.fingerprint)
    content = {
        "patterns_files": [str(path.resolve()) for path in patterns.files],
        "patterns_sizes": list(patterns.file_sizes),
        "dataset": patterns.layout.patterns,
        "layout": patterns.layout.name,
        "description": patterns.describe(),
        "shape": list(patterns.shape),
        "unit": patterns.recorded_unit,
        "pedestal": patterns.pedestal,
        "adu_per_photon": patterns.adu_per_photon,
        "centre": list(centre),
        "n_bad_pixels": int(patterns.bad_pixels.sum()),
        "no_measurement": {
            kind: int(np.count_nonzero(measurements.no_measurement == number))
            for kind, number in NUMBERS.items()
        },
        "has_mask_of_each": patterns.has_mask_of_each,
        **metadata,
    }
    made_from = {
        **name_values(patterns),
        "geometry": name_file(metadata.get("geometry_file")),
    }
    origin = provenance(fingerprint=patterns.fingerprint, made_from=made_from)
    write_json(work_dir / EXPERIMENT.name, content | origin)
    return work_dir / EXPERIMENT.name


def _check_centre(centre: tuple[float, float], patterns: Patterns) -> None:
    """Refuse a centre that is no place, and tell of one outside of the detector."""
    if not np.isfinite(centre).all():
        message = f"centre is {centre}; expected row and column in pixels."
        raise ParameterError(message)
    rows, columns = patterns.shape[1:]
    if not (-0.5 <= centre[0] < rows and -0.5 <= centre[1] < columns):
        warnings.warn(
            f"The centre, row {centre[0]:.1f}, column {centre[1]:.1f}, lies outside of "
            f"the detector of {rows} × {columns} pixels. If the beam does not, set "
            f"centre_row and centre_column in {EXPERIMENT.writer}.",
            stacklevel=3,
        )


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
    work_dir = Path(work_dir).expanduser()
    metadata = EXPERIMENT.read_json(work_dir / EXPERIMENT.name)
    check_fits(work_dir / EXPERIMENT.name, EXPERIMENT)
    arrays, _ = MEASUREMENTS.read_hdf5(work_dir / MEASUREMENTS.name)
    check_fits(work_dir / MEASUREMENTS.name, MEASUREMENTS)
    bad_pixels = arrays.pop("bad_pixels")
    patterns = open_patterns(
        patterns_file or metadata["patterns_files"],
        dataset=metadata["dataset"],
        # the files' own masks are asked again where each pattern has one
        bad_pixels=None if metadata.get("has_mask_of_each") else bad_pixels,
        geometry=metadata.get("geometry_file"),
    ).with_bad_pixels(bad_pixels)
    patterns = patterns.with_scale(metadata["pedestal"], metadata["adu_per_photon"])
    if patterns.fingerprint != metadata["fingerprint"]:
        alike = look_alike(patterns.fingerprint, metadata["fingerprint"])
        message = (
            f"{work_dir} belongs to {', '.join(metadata['patterns_files'])}; found "
            f"other patterns in {', '.join(map(str, patterns.files))}. "
            f"{LOOK_ALIKE if alike else OTHERS}"
        )
        raise OtherPatternsError(message)
    _warn_of_other_sizes(patterns, metadata.get("patterns_sizes", []))
    row, column = metadata["centre"]
    sums: dict[str, Any] = dict(arrays)
    measured = Measurements(**sums)
    patterns = patterns.with_measurements(measured.is_measurement)
    return Experiment(patterns, (row, column), measured, metadata, work_dir)


def _warn_of_other_sizes(patterns: Patterns, sizes: list[int]) -> None:
    """Say which files are not of the size that 01-inspect saw."""
    for path, size, before in zip(
        patterns.files, patterns.file_sizes, sizes, strict=False
    ):
        if size != before:
            warnings.warn(
                f"{path} has {size:,} bytes; it had {before:,} when 01-inspect read "
                "it. If it was not recompressed, copy it again, and run 01-inspect.",
                stacklevel=3,
            )
