"""`python -m helpers handoff`: a work folder's selection for another program."""

import argparse
import textwrap
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from helpers.beamtime import find_thresholds
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
