"""Files named by a person, opened and checked as one stack."""

import os
import re
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from helpers.errors import ParameterError, PatternsFileError
from helpers.patterns.hdf5 import check_file, enumerate_some
from helpers.patterns.mask_convention import BadPixels, check_bad_pixels
from helpers.patterns.masks import read_bad_pixels
from helpers.patterns.pattern_file import PatternFile, open_pattern_file
from helpers.patterns.scan import spread_places
from helpers.patterns.stack import Patterns, Unit

UNIT_SAMPLE = 16  # patterns looked at in all, when the files do not say their unit
FILES_SAMPLED = 8  # files looked at for it
LOWEST_SHARE = 0.001  # of the values: what is below may be defects
LOWEST_PHOTONS = 10  # that the darkest pixels of photon counts do not reach
RARE = 0.05  # share of values that are -1
WARNINGS_SHOWN = 5
# not the r of another word, such as laser5
RUN_IN_NAME = re.compile(r"(?:run|(?:^|[^a-z])r)[-_]?(\d+)", re.IGNORECASE)


def open_patterns(
    files: str | Path | Sequence[str | Path],
    dataset: str | None = None,
    bad_pixels: NDArray[np.bool_] | str | Path | None = None,
    label_words: Mapping[float, str] | None = None,
    geometry: str | Path | None = None,
) -> Patterns:
    """Open one or several files as one stack of patterns; nothing is loaded.

    Parameters
    ----------
    files
        One name or several, in the order of the stack. A name with `*`, `?` or `[…]`
        stands for all files that it matches, `run2` before `run10`; the folder of a run
        of the European XFEL, read by extra_data, for one file.
    dataset
        Where the patterns are in each file, such as `/a/b`, or `/hit_*/image` with a
        group for each; without it the layout is recognised, see
        `helpers.patterns.LAYOUTS`. Of Dragonfly's sparse files the shape of a pattern
        (`260x257`) or the name of the detector file; of a run with several detectors,
        the name of one.
    bad_pixels
        Pixels to leave out instead of those that the files' own masks call bad: (rows,
        columns) bool, True = leave out, or what `read_bad_pixels` reads, such as
        `mask.npy == 0`.
    label_words
        What the numbers of the files' labels mean, where their layout does not say,
        such as {0: "other", 1: "single"}.
    geometry
        CrystFEL geometry file (`.geom`) by which detector modules are assembled.

    Raises
    ------
    PatternsFileError, ParameterError
        If a file is missing or broken, of an unknown layout, or does not fit the
        others, with everything that is wrong with it; if no file is named.

    Warns
    -----
    UserWarning
        Of a mask or labels that say not what they mean, and of a file that is cut short
        or still being written.
    """
    paths = _expand(files)
    if geometry:
        geometry = Path(geometry).expanduser()
        check_file(geometry, "a CrystFEL geometry (.geom)")
    options = {
        "use_mask": bad_pixels is None,
        "label_words": label_words,
        "geometry": geometry or None,
    }
    pattern_files = _open_all(paths, dataset, options)
    _check_alike(pattern_files)
    cautions = _gather_warnings(pattern_files)
    chosen = _choose_bad_pixels(bad_pixels, pattern_files, cautions)
    for each in cautions:
        warnings.warn(each, stacklevel=2)
    return Patterns(
        pattern_files, chosen, _find_common_unit(pattern_files, chosen.pixels)
    )


def _expand(files: str | Path | Sequence[str | Path]) -> list[Path]:
    names = [files] if isinstance(files, str | Path) else files
    paths = [path for name in names for path in _match(Path(name).expanduser())]
    if not paths:
        message = "files is empty; expected at least one file of patterns."
        raise ParameterError(message)
    counts = Counter(os.path.realpath(path) for path in paths)
    twice = [path for path, n in counts.items() if n > 1]
    if twice:
        problem = "is named more than once; each file belongs in a stack once."
        raise PatternsFileError(twice[0], [problem])
    return paths


def _match(name: Path) -> list[Path]:
    if "\0" in str(name):
        problem = "no file can have a name with a zero byte in it. Check the name."
        raise PatternsFileError(name, [problem])
    paths = match_files(name)
    if not paths:
        counted = "" if name.is_absolute() else f" It counts from {Path.cwd()}."
        problem = f"no file has a name like this. Check folder and ending.{counted}"
        raise PatternsFileError(name, [problem])
    return paths


def find_run_numbers(path: Path) -> list[int]:
    """Return the numbers of runs in the name of a file: run12.h5, r0012.cxi."""
    return [int(number) for number in RUN_IN_NAME.findall(path.stem)]


def match_files(name: Path) -> list[Path]:
    """Return the files that `*`, `?` and `[…]` in a name match, run2 before run10.

    Parameters
    ----------
    name
        Of a file; returned as it is if it has no such signs, or there is such a file.
    """
    if os.path.lexists(name) or not re.search(r"[*?\[]", str(name)):
        return [name]
    found = Path(name.anchor).glob(str(name.relative_to(name.anchor)))
    return sorted(found, key=_natural_order)


def _natural_order(path: Path) -> list[str | int]:
    """Sort run2 before run10."""
    parts = re.split(r"(\d+)", str(path))
    return [int(part) if part.isdecimal() else part for part in parts]


def _open_all(
    paths: Sequence[Path], dataset: str | None, options: dict[str, Any]
) -> list[PatternFile]:
    pattern_files = []
    errors = []
    for path in paths:
        try:
            one = open_pattern_file(path, dataset, is_first=path is paths[0], **options)
            pattern_files.append(one)
        except PatternsFileError as error:
            errors.append(error)
    _raise_first(errors)
    return pattern_files


def _gather_warnings(pattern_files: Sequence[PatternFile]) -> list[str]:
    """Return what to warn of, of a long run only the beginning."""
    found = list(dict.fromkeys(each for one in pattern_files for each in one.warnings))
    if len(found) > WARNINGS_SHOWN:
        more = f"there are {len(found) - WARNINGS_SHOWN} more such warnings"
        found[WARNINGS_SHOWN:] = [f"{pattern_files[-1].source.path}: {more}."]
    return found


def _check_alike(pattern_files: Sequence[PatternFile]) -> None:
    """Check that all files can be read as one stack with the first."""
    first = pattern_files[0]
    errors = []
    for other in pattern_files[1:]:
        problems = []
        frame, expected = other.source.shape[1:], first.source.shape[1:]
        if frame != expected:
            problems.append(
                f"its patterns have shape {frame}; expected {expected} as in "
                f"{first.source.path}. Open files of different shapes one by one."
            )
        if other.layout.patterns != first.layout.patterns:
            problems.append(
                f"its patterns are in {other.layout.patterns}; expected "
                f"{first.layout.patterns} as in {first.source.path}. "
                "Pass dataset= if every file has the same, or open them one by one."
            )
        if problems:
            errors.append(PatternsFileError(other.source.path, problems))
    _raise_first(errors)


def _raise_first(errors: Sequence[PatternsFileError]) -> None:
    """Raise the first error, if any, naming the other files that have one too."""
    if len(errors) == 1:
        raise errors[0]
    if errors:
        first, *others = errors
        names = enumerate_some([str(error.path) for error in others])
        more = f"it is not the only file that cannot be used; see also {names}."
        raise PatternsFileError(first.path, [*first.problems, more]) from first


def _choose_bad_pixels(
    bad_pixels: NDArray[np.bool_] | str | Path | None,
    pattern_files: Sequence[PatternFile],
    cautions: list[str],
) -> BadPixels:
    """Return what to leave out; add warnings for the user."""
    frame = pattern_files[0].source.shape[1:]
    if isinstance(bad_pixels, str | Path):
        return read_bad_pixels(
            bad_pixels, frame, pattern_files[0].source, cautions.append
        )
    if bad_pixels is not None:
        return check_bad_pixels(bad_pixels, frame, pattern_files[0].source.path)
    found = [one.bad_pixels for one in pattern_files if one.bad_pixels]
    if not found:
        return BadPixels(np.zeros(frame, np.bool_), "no mask is used")
    origins = dict.fromkeys(one.origin for one in found)
    return BadPixels(np.any([one.pixels for one in found], axis=0), "; ".join(origins))


def _find_common_unit(
    pattern_files: Sequence[PatternFile], bad_pixels: NDArray[np.bool_]
) -> Unit:
    """Return the unit of all files, of which some may not tell.

    Of a long run, a few files spread over it are looked at.
    """
    chosen = spread_places(len(pattern_files), FILES_SAMPLED)
    n_sampled = max(2, UNIT_SAMPLE // chosen.size)
    found: dict[str, tuple[Unit, Path]] = {}
    for pattern_file in (pattern_files[i] for i in chosen):
        unit = find_unit(pattern_file, bad_pixels, n_sampled)
        found.setdefault(unit.name, (unit, pattern_file.source.path))
    known = [found[name] for name in found if name != "unknown"]
    if len(known) > 1:
        (one, path), (other, other_path) = known
        problem = (
            f"its patterns are in {other.name} ({other.why}), but those of {path} in "
            f"{one.name} ({one.why}). A stack has one unit: open them one by one."
        )
        raise PatternsFileError(other_path, [problem])
    (unit, _), *_ = known or found.values()
    return unit


def find_unit(
    pattern_file: PatternFile, bad_pixels: NDArray[np.bool_], n_sampled: int = 8
) -> Unit:
    """Tell the unit of a file's patterns.

    What the file or its layout says counts first. Otherwise a negative value other than
    -1, or a fraction, at any good pixel of a few patterns means ADU; whole numbers mean
    photons; and if all of them are 0, nothing is known unless they are recorded as
    integers.

    Parameters
    ----------
    pattern_file
        The file.
    bad_pixels
        (rows, columns) bool, True = leave out; also NaN and infinite values count
        nowhere.
    n_sampled
        How many evenly spread patterns are looked at.
    """
    if pattern_file.unit:
        return Unit(pattern_file.unit, "as the file or its layout says", True)
    with closing(pattern_file.source) as source:
        chosen = spread_places(source.shape[0], n_sampled)
        patterns = source.read_rows(chosen, source.dtype)
    values = patterns[:, ~bad_pixels]
    varies = (values != values[:, :1]).any(axis=1)  # others are no measurement
    values = values[varies] if varies.any() else values
    without = _find_minus_ones(values)
    values = values[np.isfinite(values) & ~without]
    seen = f"in {chosen.size} patterns spread over {source.path.name}"
    if why := _find_sign_of_adu(values):
        return Unit("ADU", f"{why} {seen}")
    if source.dtype.kind in "iu":
        but = ", but for -1 where there is no value" if without.any() else ""
        why = f"assumed: recorded as {source.dtype}, none negative{but}"
        return Unit("photons", why)
    if not values.any():
        return Unit("unknown", f"nothing but 0 was seen {seen}")
    return Unit("photons", f"assumed: nothing but whole numbers was seen {seen}")


def _find_sign_of_adu(values: NDArray[Any]) -> str:
    """Say by what values show that they are no photon counts; "" if they may be."""
    if (values < 0).any():
        return "negative values were seen"
    if (values % 1 != 0).any():
        return "fractions were seen"
    pedestal = _find_pedestal(values)
    return f"no value is near 0, most are near {pedestal:g}" if pedestal else ""


def _find_pedestal(values: NDArray[Any]) -> float:
    """Return the value that stands for no signal, where that is far from 0; else 0.

    Nearly all pixels of nearly all patterns see few photons or none. So values that
    reach neither 0 nor a small part of their median are counts of something else.
    """
    if not values.size:
        return 0.0
    low, middle = np.quantile(values.astype(np.float64), [LOWEST_SHARE, 0.5])
    return float(middle) if low > max(LOWEST_PHOTONS, middle / 4) else 0.0


def _find_minus_ones(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Find the values, (m, pixels), that say -1 for none, as photon counters do.

    A pixel has it always, or rarely; counts less a pedestal have it often.
    """
    without: NDArray[np.bool_] = values == -1
    now_and_then = without[:, ~without.all(axis=0)]
    is_rare = now_and_then.size == 0 or now_and_then.mean() < RARE
    return without if is_rare else np.zeros_like(without)
