"""`python -m helpers apply`: a trained model on the runs of a beamtime."""

import argparse
import math
from collections.abc import Callable
from pathlib import Path

from helpers.beamtime import (
    Beamtime,
    RunRow,
    apply_model,
    audit_whole,
    describe_table,
    write_pages,
)
from helpers.errors import ParameterError
from helpers.patterns import use_cluster


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
    say(f"\n{describe_table(rows)}")
    if audit:
        say(audit.describe())
    return rows, report
