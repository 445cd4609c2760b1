"""The command line: `python -m helpers run …`, `… apply …` and others."""

import argparse
import io
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from helpers import __version__
from helpers.errors import HelpersError

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
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal may lack some letters
            stream.reconfigure(errors="replace")
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


def _add_handoff(parser: argparse.ArgumentParser) -> None:
    from helpers.run import add_handoff_arguments

    add_handoff_arguments(parser)
    parser.set_defaults(command=_hand_over)


def _add_apply(parser: argparse.ArgumentParser) -> None:
    from helpers.run import add_apply_arguments

    add_apply_arguments(parser)
    parser.set_defaults(command=_apply)


def _run(options: argparse.Namespace) -> None:
    from helpers.run import run_notebooks, summarise

    # after Ctrl-C its abandoned tasks would say that the kernel died
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    result = run_notebooks(
        options.patterns,
        options.work_dir,
        options.labels,
        dict(options.parameters) | _say_cluster(options.cluster),
        only=options.only,
        notebooks_dir=options.notebooks,
        force=options.force,
        say=lambda line: print(line, flush=True),
    )
    lines = summarise(options.work_dir, dict(options.parameters).get("store_url", ""))
    print("", "Found:", *(f"  {line}" for line in lines), sep="\n")
    print(
        "",
        f"Executed notebooks: {result.report.parent}",
        f"Report:             {result.report}",
        sep="\n",
    )


def _say_cluster(cluster: str) -> dict[str, str]:
    """Return the parameter of the notebooks, if one was given."""
    return {"cluster": cluster} if cluster else {}


def _simulate(options: argparse.Namespace) -> None:
    from helpers.patterns import find_mask_shape, read_bad_pixels
    from helpers.simulate import pnccd_bad_pixels, write_example_labels, write_simulated

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


def _hand_over(options: argparse.Namespace) -> None:
    from helpers.run import hand_over

    selection, files = hand_over(options)
    print(f"{len(selection)} patterns selected. Written:", *files, sep="\n  ")


def _list_licences(_: argparse.Namespace) -> None:
    from helpers.run import describe_licences

    print(*describe_licences(), sep="\n")


def _apply(options: argparse.Namespace) -> None:
    from helpers.run import apply_to_runs

    _, report = apply_to_runs(options, lambda line: print(line, flush=True))
    print("", f"Report: {report}", sep="\n")


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
