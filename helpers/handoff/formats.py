"""The formats that a selection is written in, and the one function that does it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from helpers.errors import ParameterError
from helpers.handoff import cxi_format, dragonfly_format, text_formats
from helpers.handoff.selection import Request, Selection
from helpers.outputs import atomic_folder, provenance, write_json
from helpers.patterns import Patterns
from helpers.physics import Geometry

README_NAME = "README.json"


@dataclass(frozen=True)
class Format:
    """One way to hand a selection on.

    Attributes
    ----------
    description
        Which program reads it, and what is in it.
    write
        Writes its files into a folder.
    """

    description: str
    write: Callable[[Path, Request], None]


FORMATS = MappingProxyType(
    {
        "indices": Format(
            "Dragonfly's h5toemc -s: selected indices, one a line, from 0 through the "
            "stack; with several files also one text each, from 0 in the file",
            text_formats.write_indices,
        ),
        "emc": Format(
            "Dragonfly: whole photons of the selected patterns as .emc, and the "
            "detector where its geometry is given",
            dragonfly_format.write_emc,
        ),
        "dragonfly-h5": Format(
            "Dragonfly: the same photons as sparse HDF5, and the detector likewise",
            dragonfly_format.write_sparse_hdf5,
        ),
        "blacklist": Format(
            "Dragonfly: a 0 or 1 for every pattern of all files, 1 = leave out",
            text_formats.write_blacklist,
        ),
        "classes": Format(
            "Dragonfly's classifier: a character for every pattern of all files: s "
            "selected; else by label m multiple, o other, b blank, u unsure; - unknown",
            text_formats.write_classes,
        ),
        "liulab": Format(
            "Liu Lab: for each file a text of its selected indices, from 0 in the "
            "file; train_index.dat (from 0 too) and train_labels.dat (1 single, 0 not) "
            "of all labelled patterns",
            text_formats.write_liu_lab,
        ),
        "cxi": Format(
            "readers of CXI: the selected patterns as recorded, mask, tags, "
            "probabilities and where each comes from",
            cxi_format.write_cxi,
        ),
        "specklenn": Format(
            "SpeckleNN: exp,run,event_num,label of what is selected (1) or labelled "
            "(0 other, 2 multiple, 9 blank); events count from 0 in the file",
            text_formats.write_specklenn,
        ),
        "list": Format(
            "OM, Cheetah, CrystFEL: a line «file //17» for each selected pattern, "
            "from 0 in the file",
            text_formats.write_list,
        ),
    }
)
"""By name; what `write_handoff` knows."""


def write_handoff(
    work_dir: str | Path,
    format_name: str,
    patterns: Patterns,
    selection: Selection,
    labels: NDArray[np.str_] | None = None,
    *,
    adu_per_photon: float | None = None,
    geometry: Geometry | None = None,
    experiment: str = "",
    run: int | None = None,
) -> list[Path]:
    """Write a selection for another program, into `selection/<format>/`.

    The folder is replaced as a whole or not at all. `README.json` in it says what the
    files are and where they came from. Memory does not grow with the selection.

    Parameters
    ----------
    work_dir
        The work folder.
    format_name
        A name in `FORMATS`.
    patterns
        The stack.
    selection
        What was chosen of it.
    labels
        (n,) words that people gave, for the formats that tell more than the selection;
        None or "" = none.
    adu_per_photon
        What one photon adds to a pixel, for the formats that hold photon counts.
        Needed where the patterns are not photon counts.
    geometry
        Where the detector stands, for the formats with a detector.
    experiment, run
        Of SpeckleNN's table. Where `run` is None, or there are several files, the
        numbers of the runs are taken from the names of the files.

    Returns
    -------
    list
        Paths of the files, `README.json` the last.

    Raises
    ------
    ParameterError
        If there is no such format, or what it needs is not given.
    """
    if format_name not in FORMATS:
        message = f"There is no format {format_name!r}. Known: {', '.join(FORMATS)}."
        raise ParameterError(message)
    words = np.full(len(patterns), "") if labels is None else labels
    request = Request(
        patterns, selection, words, adu_per_photon, geometry, experiment, run
    )
    folder = Path(work_dir).expanduser() / "selection" / format_name
    with atomic_folder(folder) as temporary:
        FORMATS[format_name].write(temporary, request)
        names = sorted(path.name for path in temporary.iterdir())
        _write_readme(temporary / README_NAME, format_name, names, request)
    return [folder / name for name in (*names, README_NAME)]


def _write_readme(
    path: Path, format_name: str, names: list[str], request: Request
) -> None:
    about = {
        "format": format_name,
        "description": FORMATS[format_name].description,
        "files": names,
    }
    write_json(path, about | provenance(**request.facts))
