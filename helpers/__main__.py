"""The command line: `python -m helpers run …`, `… apply …` and others."""

import argparse
import importlib.metadata
import io
import logging
import math
import os
import re
import select
import signal
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from helpers import __version__
from helpers.beamtime import (
    Beamtime,
    apply_model,
    audit_runs,
    audit_whole,
    describe_table,
    find_thresholds,
    write_pages,
)
from helpers.classifier import read_predictions
from helpers.errors import HelpersError, ParameterError
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
from helpers.labels import read_labels
from helpers.patterns import find_mask_shape, read_bad_pixels, use_cluster
from helpers.physics import POLARISATIONS, Geometry, make_geometry
from helpers.run import run_notebooks, summarise
from helpers.simulate import pnccd_bad_pixels, write_example_labels, write_simulated
from helpers.work_folder import PREDICTIONS

INDENT = 16  # of the help on formats
PACKAGE = "single-hits"
_COPYLEFT = re.compile(r"GPL|General Public|EUPL|CeCILL|Affero", re.IGNORECASE)
_CLASSIFIER = "License :: OSI Approved :: "
_LONGEST = 60  # some give the whole text
STOPPED_BY_USER = 130  # what a shell reports after Ctrl-C
DEFAULT_SHAPE = (260, 257)  # of simulated patterns
STOPPED_BY_SIGNAL = 128  # and more, after a batch system has ended the job


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status.

    Parameters
    ----------
    arguments
        What was typed after `python -m helpers`; from `sys.argv` when not given.
    """
    streams = [s for s in (sys.stdout, sys.stderr) if s]  # without those closed
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):  # a terminal may lack some letters
            stream.reconfigure(errors="replace")
    try:
        try:
            return _run_command(arguments)
        finally:
            for stream in streams:  # else it fails when nobody can catch it
                stream.flush()
    except BrokenPipeError:
        unread = [stream for stream in streams if _has_no_reader(stream)]
        if not unread:
            raise
        for stream in unread:  # what it still holds would fail again at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return STOPPED_BY_SIGNAL + signal.SIGPIPE


def _has_no_reader(stream: TextIO) -> bool:
    """Tell whether the other end of a pipe is closed, as by `| head`."""
    poll = select.poll()
    poll.register(stream, 0)
    return bool(poll.poll(0))


def _run_command(arguments: Sequence[str] | None) -> int:
    options = _make_parser().parse_args(arguments)
    try:
        options.command(options)
    except HelpersError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped. What was finished is kept.", file=sys.stderr)
        return STOPPED_BY_USER
    return 0


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m helpers",
        description="Select clean single hits from single-particle imaging data.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_run(commands.add_parser("run", help="run the notebooks on your patterns"))
    _add_simulate(
        commands.add_parser("simulate", help="write patterns with known truth")
    )
    _add_handoff(
        commands.add_parser("handoff", help="write the selection for another program")
    )
    _add_apply(commands.add_parser("apply", help="apply a model to further runs"))
    licences = commands.add_parser("licences", help="list those of all dependencies")
    licences.set_defaults(command=_list_licences)
    return parser


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.description = "Run the notebooks in order, headless, on your patterns."
    parser.add_argument(
        "--patterns",
        nargs="+",
        required=True,
        metavar="FILE",
        help="one or several files of patterns; together they form one stack",
    )
    parser.add_argument(
        "--work-dir",
        required=True,
        metavar="DIR",
        help="where results go; reports/ in it gets executed notebooks and the report",
    )
    parser.add_argument(
        "--labels",
        metavar="FILE",
        help="labels to start from: CSV pattern,label, or another form that is known",
    )
    parser.add_argument(
        "-p",
        nargs=2,
        action="append",
        default=[],
        dest="parameters",
        metavar=("NAME", "VALUE"),
        help="set a parameter of the notebooks that have it, or of one alone, such as "
        "rank.n_shown; may be repeated",
    )
    parser.add_argument(
        "--cluster",
        default="",
        metavar="WHERE",
        help="local, local:4, tcp://HOST:PORT, slurm or slurm:20; this machine without",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="NOTEBOOK",
        help="run only these notebooks, by name or by number, such as rank train",
    )
    parser.add_argument(
        "--notebooks",
        default=None,
        metavar="DIR",
        help="run the notebooks of this folder, such as a copy that you have changed",
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="run also the notebooks that would give the same as before",
    )
    parser.set_defaults(command=_run)


def _add_simulate(parser: argparse.ArgumentParser) -> None:
    parser.description = "Write simulated patterns: /patterns, /truth and /mask."
    parser.add_argument("--out", required=True, metavar="FILE", help="the HDF5 file")
    parser.add_argument(
        "--patterns", required=True, type=int, metavar="N", help="how many patterns"
    )
    parser.add_argument(
        "--seed", required=True, type=int, metavar="S", help="same seed, same patterns"
    )
    parser.add_argument(
        "--mask",
        metavar="FILE",
        help="bad pixels of your own detector: mask.npy, mask.byt or file.h5:/dataset; "
        "where it is not known which values mean bad, say it: 'mask.npy != 0'",
    )
    parser.add_argument(
        "--shape",
        nargs=2,
        type=int,
        metavar=("ROWS", "COLUMNS"),
        help="of a pattern; that of the mask, or 260 257, when not given",
    )
    parser.add_argument(
        "--sample", default="default", help="a name in helpers.simulate.SAMPLES"
    )
    parser.add_argument(
        "--labels", metavar="CSV", help="write example labels of some patterns here"
    )
    parser.set_defaults(command=_simulate)


def _run(options: argparse.Namespace) -> None:
    # after Ctrl-C its abandoned tasks would say that the kernel died
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    parameters = dict(options.parameters)
    if options.cluster:
        parameters["cluster"] = options.cluster
    result = run_notebooks(
        options.patterns,
        options.work_dir,
        options.labels,
        parameters,
        only=options.only,
        notebooks_dir=options.notebooks,
        force=options.force,
        log=_print_line,
    )
    lines = summarise(options.work_dir, parameters.get("store_url", ""))
    print("", "Found:", *(f"  {line}" for line in lines), sep="\n")
    print(
        "",
        f"Executed notebooks: {result.report.parent}",
        f"Report:             {result.report}",
        sep="\n",
    )


def _simulate(options: argparse.Namespace) -> None:
    of_mask = find_mask_shape(options.mask) if options.mask else None
    rows, columns = options.shape or of_mask or DEFAULT_SHAPE
    if options.mask:
        bad_pixels = read_bad_pixels(options.mask, (rows, columns)).pixels
    else:
        bad_pixels = pnccd_bad_pixels((rows, columns))
    write_simulated(
        options.out,
        options.patterns,
        options.seed,
        bad_pixels=bad_pixels,
        sample=options.sample,
    )
    print(f"{options.patterns} simulated patterns: {Path(options.out)}")
    if options.labels:
        write_example_labels(options.out, options.labels)
        print(f"Example labels: {Path(options.labels)}")


def _add_handoff(parser: argparse.ArgumentParser) -> None:
    parser.description = textwrap.fill(
        "Choose single hits by label and prediction, as 06-review does, and write them "
        "for another program, into selection/FORMAT in the work folder."
    )
    parser.epilog = f"formats:\n{_describe_formats()}"
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
    parser.set_defaults(command=_hand_over)


def _describe_formats() -> str:
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


def _hand_over(options: argparse.Namespace) -> None:
    """Choose by what is in a work folder, and write."""
    experiment = open_experiment(options.work_dir)
    labels = read_labels(options.work_dir, experiment.patterns, options.store_url)
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
    print(f"{len(selection)} patterns selected. Written:", *files, sep="\n  ")


def _choose(
    experiment: Experiment,
    labels: NDArray[np.str_],
    geometry: Geometry | None,
    options: argparse.Namespace,
) -> Selection:
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


def _add_apply(parser: argparse.ArgumentParser) -> None:
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
    parser.set_defaults(command=_apply)


def _apply(options: argparse.Namespace) -> None:
    if not 0 <= options.purity <= 1 or not options.watch >= 0:
        message = (
            f"--purity is {options.purity} and --watch {options.watch}; expected a "
            "share from 0 to 1, and minutes."
        )
        raise ParameterError(message)
    if options.cluster:
        _print_line(use_cluster(options.cluster))
    beamtime = Beamtime(
        Path(options.model).expanduser().absolute(),
        options.patterns,
        Path(options.out).expanduser().absolute(),
        options.purity,
    )
    rows = apply_model(beamtime, watch_s=60 * options.watch, log=_print_line)
    audit = audit_whole(beamtime.out_dir, rows)
    report = write_pages(beamtime.out_dir, rows, beamtime.reference, audit)
    _print_line(f"\n{describe_table(rows, audit_runs(beamtime.out_dir, rows))}")
    if audit:
        _print_line(audit.describe())
    print("", f"Report: {report}", sep="\n")


def _print_line(line: str) -> None:
    print(line, flush=True)


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


def _list_licences(_: argparse.Namespace) -> None:
    """Print a table of all licences, and a line on those that ask for something."""
    found = find_licences()
    rows = [
        ("package", "version", "needed by", "licence"),
        *((e.name, e.version or "–", ", ".join(e.needed_by), e.licence) for e in found),
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(w) for cell, w in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())
    asking = [f"{e.name} ({', '.join(e.needed_by)})" for e in found if e.is_copyleft]
    print(f"\nCopyleft: {', '.join(asking) or 'none'}.")
    print(
        "«all» is always installed; the rest comes with an extra of that name, which "
        "nobody needs who does not use it."
    )


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
    metadata = found.metadata
    classifiers = [
        each.removeprefix(_CLASSIFIER)
        for each in metadata.get_all("Classifier") or ()
        if each.startswith(_CLASSIFIER)
    ]
    said = [
        *(metadata.get_all("License-Expression") or ()),
        "; ".join(classifiers),
        *(_first_line(text) for text in metadata.get_all("License") or ()),
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


def _stop(number: int, _: object) -> None:
    """End as after an error, so that kernels and half-written files go away."""
    sys.exit(STOPPED_BY_SIGNAL + number)


def _stop_when_told() -> None:
    signal.signal(signal.SIGTERM, _stop)
    # A terminal that is closed; `nohup` has seen to it that this does not end a run.
    closed = getattr(signal, "SIGHUP", None)  # Windows has none
    if closed and signal.getsignal(closed) is not signal.SIG_IGN:
        signal.signal(closed, _stop)


if __name__ == "__main__":
    _stop_when_told()
    sys.exit(main())
