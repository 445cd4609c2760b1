"""`python -m helpers handoff`, `apply` and `licences`: what is done beside the run."""

import argparse
import importlib.metadata
import math
import re
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from helpers.beamtime import (
    Beamtime,
    RunRow,
    apply_model,
    audit_runs,
    audit_whole,
    describe_table,
    find_thresholds,
    write_pages,
)
from helpers.errors import ParameterError
from helpers.experiment import Experiment, open_experiment
from helpers.handoff import (
    FORMATS,
    Selection,
    add_diameters,
    cut_selection,
    find_scale,
    select_patterns,
    write_handoff,
)
from helpers.patterns import use_cluster
from helpers.physics import POLARISATIONS, Geometry, make_geometry
from helpers.work_folder import PREDICTIONS

INDENT = 16


def add_handoff_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what may be typed after `python -m helpers handoff`."""
    parser.description = textwrap.fill(
        "Choose single hits by label and prediction, as 06-review does, and write them "
        "for another program, into selection/FORMAT in the work folder."
    )
    parser.epilog = f"formats:\n{describe_formats()}"
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--to", required=True, metavar="FORMAT", help="see below")
    parser.add_argument(
        "--work-dir", required=True, metavar="DIR", help="where the notebooks wrote"
    )
    _add_choices(parser.add_argument_group("which patterns"))
    _add_geometry(
        parser.add_argument_group(
            "geometry", "all or none; for a detector file and for sizes"
        )
    )
    _add_details(parser.add_argument_group("details of some formats"))


def describe_formats() -> str:
    """Return what there is to write, for a help text."""
    return "\n".join(
        textwrap.fill(
            f"{name:{INDENT - 2}}{each.description}",
            initial_indent="  ",
            subsequent_indent=" " * INDENT,
        )
        for name, each in FORMATS.items()
    )


def _add_choices(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--threshold",
        type=float,
        metavar="P",
        help="take patterns from this probability on; the model's own when not given",
    )
    group.add_argument(
        "--photons",
        nargs=2,
        type=float,
        metavar=("LOW", "HIGH"),
        help="keep patterns with so many photons; inf for no limit",
    )
    group.add_argument(
        "--diameter-nm",
        nargs=2,
        type=float,
        metavar=("LOW", "HIGH"),
        help="keep particles of this size; needs the geometry",
    )
    group.add_argument(
        "--store-url",
        default="",
        metavar="URL",
        help="where the labels lie; labels.sqlite in the work folder when not given",
    )


def _add_geometry(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--pixel-size-um", type=float, metavar="UM")
    group.add_argument("--distance-mm", type=float, metavar="MM")
    group.add_argument("--wavelength-nm", type=float, metavar="NM")
    group.add_argument(
        "--polarisation", choices=POLARISATIONS, default=POLARISATIONS[0]
    )


def _add_details(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--adu-per-photon",
        type=float,
        metavar="ADU",
        help="what one photon adds to a pixel; as in 01-inspect when not given",
    )
    group.add_argument(
        "--experiment", default="", metavar="NAME", help="for SpeckleNN's table"
    )
    group.add_argument(
        "--run", type=int, metavar="N", help="likewise; else from the files' names"
    )


def hand_over(options: argparse.Namespace) -> tuple[Selection, list[Path]]:
    """Read a work folder, choose and write; return what was chosen, and the files.

    Parameters
    ----------
    options
        As `add_arguments` defines them.

    Raises
    ------
    WorkFolderError
        If an earlier stage has not written what is needed.
    ParameterError
        If an option is impossible, or one that is needed is missing.
    """
    experiment = open_experiment(options.work_dir)
    labels = _read_labels(experiment, options.store_url)
    geometry = make_geometry(
        experiment.centre,
        options.pixel_size_um,
        options.distance_mm,
        options.wavelength_nm,
        options.polarisation,
    )
    selection = _choose(experiment, labels, geometry, options)
    files = write_handoff(
        options.work_dir,
        options.to,
        experiment.patterns,
        selection,
        labels,
        adu_per_photon=find_scale(experiment, options.adu_per_photon),
        geometry=geometry,
        experiment=options.experiment,
        run=options.run,
    )
    return selection, files


def _read_labels(experiment: Experiment, store_url: str) -> NDArray[np.str_]:
    from helpers.labels import open_label_store

    patterns = experiment.patterns
    path = experiment.work_dir / "labels.sqlite"
    if not store_url and not path.exists():  # opening it would make it
        return np.full(len(patterns), "")
    place = store_url or path
    with open_label_store(place, patterns.fingerprint, len(patterns)) as store:
        store.is_measurement = patterns.is_measurement
        return store.current_labels()


def _choose(
    experiment: Experiment,
    labels: NDArray[np.str_],
    geometry: Geometry | None,
    options: argparse.Namespace,
) -> Selection:
    from helpers.classifier import read_predictions

    patterns = experiment.patterns
    path = experiment.work_dir / PREDICTIONS.name
    predictions = read_predictions(path, patterns)
    threshold = options.threshold
    if threshold is None:
        threshold = find_thresholds(options.work_dir, patterns)  # of a beamtime's runs
    if threshold is None:
        threshold = predictions.threshold
    photons = experiment.measurements.photons
    selection = select_patterns(predictions.probability, threshold, labels, photons)
    selection = cut_selection(selection, photons=options.photons)
    if options.diameter_nm is None:
        return selection
    if geometry is None:
        message = (
            "--diameter-nm needs the geometry. Give --pixel-size-um, --distance-mm "
            "and --wavelength-nm too."
        )
        raise ParameterError(message)
    selection = add_diameters(selection, patterns, geometry)
    return cut_selection(selection, diameter_nm=options.diameter_nm)


def add_apply_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what may be typed after `python -m helpers apply`."""
    parser.description = (
        "Inspect further runs, compare them with what a model was trained on, and "
        "predict them. Runs that were done before and have not changed are kept."
    )
    parser.add_argument(
        "--model",
        required=True,
        metavar="WORK_DIR",
        help="work folder of the model, up to 06-review",
    )
    parser.add_argument(
        "--patterns",
        nargs="+",
        required=True,
        metavar="FILE",
        help="files of the runs, one each; 'run*.h5' in quotes also finds later ones",
    )
    parser.add_argument(
        "--out", required=True, metavar="DIR", help="where tables and predictions go"
    )
    parser.add_argument(
        "--purity",
        type=float,
        default=0.9,
        metavar="P",
        help="share of single hits among those taken; 0 takes the model's threshold",
    )
    parser.add_argument(
        "--cluster",
        default="",
        metavar="WHERE",
        help="local, local:4, tcp://HOST:PORT, slurm or slurm:20; this process without",
    )
    parser.add_argument(
        "--watch",
        nargs="?",
        type=float,
        const=math.inf,
        default=0.0,
        metavar="MINUTES",
        help="go on with runs that arrive, so long or until Ctrl-C",
    )


def apply_to_runs(
    options: argparse.Namespace, say: Callable[[str], None]
) -> tuple[list[RunRow], Path]:
    """Apply the model; return the table and the report.

    Parameters
    ----------
    options
        As `add_apply_arguments` defines them.
    say
        Called with each line of text.

    Raises
    ------
    HelpersError
        If the model, the cluster or an option cannot be used.
    """
    if not 0 <= options.purity <= 1 or not options.watch >= 0:
        message = (
            f"--purity is {options.purity} and --watch {options.watch}; expected a "
            "share from 0 to 1, and minutes."
        )
        raise ParameterError(message)
    if options.cluster:
        say(use_cluster(options.cluster))
    beamtime = Beamtime(
        Path(options.model).expanduser().absolute(),
        options.patterns,
        Path(options.out).expanduser().absolute(),
        options.purity,
    )
    rows = apply_model(beamtime, watch_s=60 * options.watch, say=say)
    audit = audit_whole(beamtime.out_dir, rows)
    report = write_pages(beamtime.out_dir, rows, beamtime.known, audit)
    say(f"\n{describe_table(rows, audit_runs(beamtime.out_dir, rows))}")
    if audit:
        say(audit.describe())
    return rows, report


PACKAGE = "single-hits"
_COPYLEFT = re.compile(r"GPL|General Public|EUPL|CeCILL|Affero", re.IGNORECASE)
_CLASSIFIER = "License :: OSI Approved :: "
_LONGEST = 60  # some give the whole text


@dataclass(frozen=True)
class Licence:
    """A package, and what it may be used under.

    Attributes
    ----------
    name, version
        Of the package; "" = it is not installed here.
    licence
        As the package says it.
    needed_by
        "all", or the names of the extras that bring it.
    """

    name: str
    version: str
    licence: str
    needed_by: tuple[str, ...]

    @property
    def is_copyleft(self) -> bool:
        """Whether it asks something of programs that are handed on with it."""
        return bool(_COPYLEFT.search(self.licence))


def find_licences() -> list[Licence]:
    """Return the licences of all dependencies, of those of extras too, by name."""
    needed: dict[str, set[str]] = {}
    metadata = importlib.metadata.metadata(PACKAGE)
    for extra in ("", *(metadata.get_all("Provides-Extra") or ())):
        for name in _find_all(PACKAGE, extra, set()):
            needed.setdefault(name, set()).add(extra or "all")
    return [
        _describe(name, ("all",) if "all" in extras else tuple(sorted(extras)))
        for name, extras in sorted(needed.items())
    ]


def describe_licences() -> list[str]:
    """Return a table of all licences, and a line on those that ask for something."""
    found = find_licences()
    rows = [
        (each.name, each.version or "–", ", ".join(each.needed_by), each.licence)
        for each in found
    ]
    rows = [("package", "version", "needed by", "licence"), *rows]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    table = [
        "  ".join(
            [*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[3]]
        )
        for row in rows
    ]
    asking = [f"{e.name} ({', '.join(e.needed_by)})" for e in found if e.is_copyleft]
    return [
        *table,
        "",
        f"Copyleft: {', '.join(asking) or 'none'}.",
        "«all» is always installed; the rest comes with an extra of that name, which "
        "nobody needs who does not use it.",
    ]


def _find_all(name: str, extra: str, seen: set[str]) -> Iterator[str]:
    """Give what a package needs, and what that needs, each once."""
    if not _is_installed(name):
        return
    for requirement in importlib.metadata.requires(name) or ():
        text, _, marker = requirement.partition(";")
        asked = re.search(r"extra == ['\"]([\w-]+)['\"]", marker)
        if (asked[1] if asked else "") != extra:
            continue
        match = re.match(r"([\w.-]+)(?:\[([\w,-]+)\])?", text.strip())
        needed = _normalise(match[1]) if match else ""
        is_for_others = marker and not extra and not _is_installed(needed)
        if needed in seen or is_for_others:  # another system or version of Python
            continue
        seen.add(needed)
        yield needed
        for each in ("", *((match and match[2]) or "").split(",")):
            yield from _find_all(needed, each, seen)


def _normalise(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _describe(name: str, needed_by: tuple[str, ...]) -> Licence:
    if not _is_installed(name):
        return Licence(name, "", "not installed here", needed_by)
    found = importlib.metadata.distribution(name)
    facts = found.metadata
    classifiers = [
        each.removeprefix(_CLASSIFIER)
        for each in facts.get_all("Classifier") or ()
        if each.startswith(_CLASSIFIER)
    ]
    said = [
        *(facts.get_all("License-Expression") or ()),
        "; ".join(classifiers),
        *(_first_line(text) for text in facts.get_all("License") or ()),
        *(
            _first_line(file.read_text())
            for file in found.files or ()
            if _is_text(file)
        ),
        "not said",
    ]
    licence = next(text for text in said if text)
    return Licence(name, found.version, licence[:_LONGEST], needed_by)


def _is_text(file: importlib.metadata.PackagePath) -> bool:
    return ".dist-info" in file.parts[0] and file.name.startswith(("LICEN", "COPYING"))


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def _is_installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
