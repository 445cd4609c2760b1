"""The formats that a selection is written in, and the one function that does it.

References
----------
.. [1] K. Ayyer, T.-Y. Lan, V. Elser & N. D. Loh, J. Appl. Cryst. 49, 1320 (2016),
   doi:10.1107/S1600576716008165: the files of Dragonfly.
.. [2] F. R. N. C. Maia, Nat. Methods 9, 854 (2012), doi:10.1038/nmeth.2110: CXI; its
   members and the bits of its mask are those of the reference document, version 1.6.
"""

import csv
import shutil
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from types import MappingProxyType
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from helpers import __version__
from helpers.errors import ParameterError
from helpers.handoff.selection import Request, Selection
from helpers.outputs import (
    atomic_folder,
    escape_formula,
    new_hdf5,
    provenance,
    write_json,
    write_provenance,
)
from helpers.patterns import CXI_SHOTS, Patterns, find_run_numbers
from helpers.physics import Geometry

README_NAME = "README.json"

# Lines of text; every index counts from 0.

CLASS_CHARACTERS = {
    "single": "s",
    "multiple": "m",
    "other": "o",
    "blank": "b",
    "unsure": "u",
    "": "-",
}
"""One for each word of `Request.words`, for Dragonfly's classifier."""

SPECKLENN_CODES = {"other": 0, "single": 1, "multiple": 2, "blank": 9}
"""For each word that SpeckleNN has a number for."""


def write_indices(folder: Path, request: Request) -> None:
    """Write `indices.txt` through the stack; of several files also one text each."""
    _write_lines(folder / "indices.txt", request.selection.index)
    if len(request.patterns.files) > 1:
        _write_rows_by_file(folder, request)


def write_blacklist(folder: Path, request: Request) -> None:
    """Write `blacklist.dat`: a line for each pattern of the stack, 1 = leave out."""
    _write_lines(folder / "blacklist.dat", (~request.is_selected).astype(int))


def write_classes(folder: Path, request: Request) -> None:
    """Write `classes.dat`: a line for each pattern of the stack, one character in it.

    They are those of `CLASS_CHARACTERS`; s is the selection.
    """
    characters = (CLASS_CHARACTERS[str(word)] for word in request.words)
    _write_lines(folder / "classes.dat", characters)


def write_liu_lab(folder: Path, request: Request) -> None:
    """Write a text of selected rows for each file, and the labels to train with.

    `train_index.dat` and `train_labels.dat` hold, line by line, every pattern that a
    person labelled: its file and row, and 1 for single or 0 for anything else.
    """
    _write_rows_by_file(folder, request)
    trained = (request.labels != "") & (request.labels != "unsure")
    names = [path.name for path in request.patterns.files]
    places = request.name_places(np.flatnonzero(trained), names, ",")
    _write_lines(folder / "train_index.dat", places)
    is_single = request.labels[trained] == "single"
    _write_lines(folder / "train_labels.dat", is_single.astype(int))


def write_specklenn(folder: Path, request: Request) -> None:
    """Write `labels.csv`: the selection as 1, and what people called otherwise.

    Patterns that are neither are left out. The row in the file counts as event number.

    Raises
    ------
    ParameterError
        If the experiment has no name, or the number of a run cannot be told.
    """
    if not request.experiment:
        message = "SpeckleNN wants the name of the experiment. Pass experiment=…."
        raise ParameterError(message)
    runs = _find_runs(request)
    words = request.words
    with (folder / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["exp", "run", "event_num", "label"])
        for i in np.flatnonzero(np.isin(words, list(SPECKLENN_CODES))):
            code = SPECKLENN_CODES[str(words[i])]
            run = runs[request.patterns.file_index[i]]
            experiment = escape_formula(request.experiment)
            writer.writerow([experiment, run, request.rows[i], code])


def write_list(folder: Path, request: Request) -> None:
    """Write `selection.lst`: the path of a pattern's file, and its row there."""
    paths = [str(path.resolve()) for path in request.patterns.files]
    places = request.name_places(request.selection.index, paths, " //")
    _write_lines(folder / "selection.lst", places)


def _write_rows_by_file(folder: Path, request: Request) -> None:
    """Write one text of selected rows for each file, named after it."""
    index = request.selection.index
    for number, name in enumerate(_name_texts(request.patterns.files)):
        own = index[request.patterns.file_index[index] == number]
        _write_lines(folder / name, request.rows[own])


def _name_texts(files: Iterable[Path]) -> list[str]:
    """Name a text after each file; with its number where two have the same name."""
    stems = [path.stem for path in files]
    if max(Counter(stem.lower() for stem in stems).values()) == 1:
        return [f"{stem}.txt" for stem in stems]
    return [f"{number:03}-{stem}.txt" for number, stem in enumerate(stems)]


def _find_runs(request: Request) -> list[int]:
    """Return the run of each file: as given for one, else from the file's name."""
    files = request.patterns.files
    if request.run is not None and len(files) == 1:
        return [request.run]
    found = map(find_run_numbers, files)
    runs = [numbers[0] for numbers in found if len(numbers) == 1]
    if len(runs) < len(files) or len(set(runs)) < len(files):
        message = (
            f"{', '.join(path.name for path in files)}: expected one run a file and "
            "its number in the name, such as run12.h5 or r0012.cxi. Rename the files, "
            "or hand on one at a time with run=…."
        )
        raise ParameterError(message)
    return runs


def _write_lines(path: Path, values: Iterable[Any] | NDArray[Any]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{value}\n" for value in values)


# Dragonfly [1]_: photons of the selected patterns, and the detector.

HEADER_BYTES = 1024
INT32 = np.dtype("<i4")
INT32_LIST = h5py.vlen_dtype(INT32)
GOOD, BAD = 0, 2  # a 1 would be a pixel that is kept, but not for the orientation

Places = NDArray[np.int32]


class SparsePhotons(NamedTuple):
    """Photons of some patterns, pixel by pixel where there are any, int32.

    Attributes
    ----------
    ones, multi
        (m,): how many pixels of each pattern have one photon, and how many have more.
    place_ones
        The pixels with one photon, pattern after pattern.
    place_multi, count_multi
        The pixels with more than one, and their photons.
    """

    ones: Places
    multi: Places
    place_ones: Places
    place_multi: Places
    count_multi: Places


def find_photons(counts: NDArray[np.int32]) -> SparsePhotons:
    """Say where the photons are.

    Parameters
    ----------
    counts
        (m, pixels) photon counts.
    """
    with_one, place_ones = np.nonzero(counts == 1)
    with_more, place_multi = np.nonzero(counts > 1)
    found = (
        np.bincount(with_one, minlength=len(counts)),
        np.bincount(with_more, minlength=len(counts)),
        place_ones,
        place_multi,
        counts[with_more, place_multi],
    )
    return SparsePhotons(*(part.astype(INT32) for part in found))


def write_emc(folder: Path, request: Request) -> None:
    """Write `selection.emc`, and `detector.h5` where the geometry is known.

    How many photons there are is known at the end only, so what follows the pixels with
    one photon waits in two temporary files: memory stays flat.
    """
    n_patterns = len(request.selection)
    n_pixels = int(np.prod(request.patterns.shape[1:]))
    lengths = np.zeros((2, n_patterns), INT32)
    done = 0
    with (
        (folder / "selection.emc").open("wb") as file,
        TemporaryFile(dir=folder) as places,
        TemporaryFile(dir=folder) as counts,
    ):
        header = np.array([n_patterns, n_pixels], INT32).tobytes()
        file.write(header.ljust(HEADER_BYTES, b"\0"))
        file.write(lengths.tobytes())
        for block in request.photon_blocks():
            photons = find_photons(block)
            lengths[:, done : done + len(block)] = photons.ones, photons.multi
            file.write(photons.place_ones.tobytes())
            places.write(photons.place_multi.tobytes())
            counts.write(photons.count_multi.tobytes())
            done += len(block)
        for waiting in (places, counts):
            waiting.seek(0)
            shutil.copyfileobj(waiting, file)
        file.seek(HEADER_BYTES)
        file.write(lengths.tobytes())
    _write_detector_if_known(folder, request)


def write_sparse_hdf5(folder: Path, request: Request) -> None:
    """Write `photons.h5`, and `detector.h5` where the geometry is known."""
    done = 0
    with new_hdf5(folder / "photons.h5") as file:
        # One number in an array, since its readers take the first one out of it.
        file["num_pix"] = np.array([np.prod(request.patterns.shape[1:])], INT32)
        n_patterns = len(request.selection)
        places, several, counts = (
            file.create_dataset(name, n_patterns, INT32_LIST)
            for name in ("place_ones", "place_multi", "count_multi")
        )
        for block in request.photon_blocks():
            photons = find_photons(block)
            _write_lists(places, done, photons.place_ones, photons.ones)
            _write_lists(several, done, photons.place_multi, photons.multi)
            _write_lists(counts, done, photons.count_multi, photons.multi)
            done += len(block)
        write_provenance(file, **request.metadata)
    _write_detector_if_known(folder, request)


def _write_lists(
    dataset: h5py.Dataset, start: int, values: Places, lengths: Places
) -> None:
    """Write one list for each pattern, from `start` on.

    `dataset[start:stop] = lists` takes lists of equal length for one array with two
    dimensions and fails; below that layer of h5py lists stay lists.
    """
    lists = np.empty(len(lengths), INT32_LIST)
    for i, stop in enumerate(np.cumsum(lengths)):
        lists[i] = values[stop - lengths[i] : stop]
    space = dataset.id.get_space()
    space.select_hyperslab((start,), lists.shape)
    dataset.id.write(h5py.h5s.create_simple(lists.shape), space, lists)


def _write_detector_if_known(folder: Path, request: Request) -> None:
    if request.geometry is not None:
        bad_pixels = request.patterns.bad_pixels
        write_detector(folder / "detector.h5", request.geometry, bad_pixels)


def write_detector(
    path: Path, geometry: Geometry, bad_pixels: NDArray[np.bool_]
) -> None:
    """Write the detector: where each pixel lies on the Ewald sphere, in voxels.

    A pixel on the axis is one voxel large, so `ewald_rad`, the radius of the Ewald
    sphere in voxels, is `detd`, the distance of the detector in pixels. `qx` grows with
    the column, `qy` with the row, `qz` against the beam's direction is below 0. `corr`
    is solid angle times polarisation, 1 on the axis. `mask` is 0 for good pixels and 2
    for bad ones. Pixels are in the order of a pattern's rows.

    Parameters
    ----------
    path
        The file to write.
    geometry
        Where the detector stands.
    bad_pixels
        (rows, columns) bool, True = leave out.
    """
    n_rows, n_columns = bad_pixels.shape
    radius = geometry.distance_pixels
    directions = geometry.directions((n_rows, n_columns)).reshape(3, -1)
    along_beam = np.array([[0.0], [0.0], [1.0]])
    with new_hdf5(path) as file:
        q = radius * (directions - along_beam)
        file["qx"], file["qy"], file["qz"] = q
        file["corr"] = geometry.correction((n_rows, n_columns)).ravel()
        file["mask"] = np.where(bad_pixels, BAD, GOOD).astype(np.uint8).ravel()
        file["detd"] = file["ewald_rad"] = radius
        metadata = vars(geometry) | {"voxel_inv_nm": geometry.voxel_inv_nm}
        write_provenance(file, shape=[n_rows, n_columns], **metadata)


# CXI [2]_: the selected patterns as recorded.

CXI_VERSION = 160
PIXEL_IS_BAD = 0x00000080
ONE_PER_EVENT = "experiment_identifier"
CXI_DETECTOR = "/entry_1/instrument_1/detector_1"
CXI_RESULT = "/entry_1/result_1"


def write_cxi(folder: Path, request: Request) -> None:
    """Write `selection.cxi`: the patterns as recorded, with the mask beside them."""
    with new_hdf5(folder / "selection.cxi") as file:
        file["cxi_version"] = CXI_VERSION
        file["number_of_entries"] = 1
        _write_identifiers(file, request)
        _write_shots(file, request)
        _write_patterns(file, request)
        _write_tags(file, request)
        _write_results(file, request)
        process = file.create_group("/entry_1/process_1")
        process["program"] = "single-hits"
        process["version"] = __version__
        process["date"] = provenance()["made_at"]
        process["command"] = "helpers.handoff.write_handoff, format cxi"
        data = file.create_group("/entry_1/data_1")
        for name in ("data", "mask", ONE_PER_EVENT):
            data[name] = h5py.SoftLink(f"{CXI_DETECTOR}/{name}")
        write_provenance(file, **request.metadata)


def _write_identifiers(file: h5py.File, request: Request) -> None:
    """Write the name of each event: its file and row."""
    names = [path.name for path in request.patterns.files]
    events = list(request.name_places(request.selection.index, names, " //"))
    path = f"/entry_1/{ONE_PER_EVENT}"
    file.create_dataset(path, data=events, dtype=h5py.string_dtype())
    file[f"{CXI_DETECTOR}/{ONE_PER_EVENT}"] = h5py.SoftLink(path)


def _write_shots(file: h5py.File, request: Request) -> None:
    """Write what the facility calls each event, where that is known; -1 = unknown."""
    for name, path in CXI_SHOTS:
        if name in request.patterns.shots:
            ids = request.patterns.shots[name][request.selection.index]
            dataset = file.create_dataset(path, data=ids)
            dataset.attrs["axes"] = ONE_PER_EVENT


def _write_patterns(file: h5py.File, request: Request) -> None:
    patterns = request.patterns
    frame = patterns.shape[1:]
    data = file.create_dataset(
        f"{CXI_DETECTOR}/data",
        (len(request.selection), *frame),
        patterns.dtype,
        maxshape=(None, *frame),  # an empty dataset may then have chunks too
        chunks=(1, *frame),
        compression="gzip",
        compression_opts=1,
        shuffle=True,
    )
    data.attrs["axes"] = f"{ONE_PER_EVENT}:y:x"
    data.attrs["unit"] = patterns.recorded_unit
    index = request.selection.index
    for here, block in patterns.map(
        np.copy, index, raw=True, here=True, progress="Hand on"
    ):
        data[here] = block
    mask = np.where(patterns.bad_pixels, PIXEL_IS_BAD, 0).astype(np.uint32)
    file[f"{CXI_DETECTOR}/mask"] = mask
    if request.geometry is not None:
        file[f"{CXI_DETECTOR}/distance"] = request.geometry.distance_mm / 1e3
        for name in ("x_pixel_size", "y_pixel_size"):
            file[f"{CXI_DETECTOR}/{name}"] = request.geometry.pixel_size_um / 1e6


def _write_tags(file: h5py.File, request: Request) -> None:
    """Say of each event whether a person or the model called it single."""
    from_label = request.selection.from_label
    tags = np.stack([from_label, ~from_label]).astype(np.int8)
    dataset = file.create_dataset(f"{CXI_DETECTOR}/tags", data=tags)
    dataset.attrs["headings"] = ["single by label", "single by prediction"]
    dataset.attrs["axes"] = f"tag:{ONE_PER_EVENT}"


def _write_results(file: h5py.File, request: Request) -> None:
    selection = request.selection
    optional: dict[str, NDArray[Any] | None] = {
        "single_hit_probability": selection.predictions,
        "photons": selection.photons,
        "diameter_nm": selection.diameter_nm,
        "stack_index": selection.index,
        "file": request.patterns.file_index[selection.index],
        "row": request.rows[selection.index],
    }
    for name, values in optional.items():
        if values is not None:
            dataset = file.create_dataset(f"{CXI_RESULT}/{name}", data=values)
            dataset.attrs["axes"] = ONE_PER_EVENT


# All of them.


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
            write_indices,
        ),
        "emc": Format(
            "Dragonfly: whole photons of the selected patterns as .emc, and the "
            "detector where its geometry is given",
            write_emc,
        ),
        "dragonfly-h5": Format(
            "Dragonfly: the same photons as sparse HDF5, and the detector likewise",
            write_sparse_hdf5,
        ),
        "blacklist": Format(
            "Dragonfly: a 0 or 1 for every pattern of all files, 1 = leave out",
            write_blacklist,
        ),
        "classes": Format(
            "Dragonfly's classifier: a character for every pattern of all files: s "
            "selected; else by label m multiple, o other, b blank, u unsure; - unknown",
            write_classes,
        ),
        "liulab": Format(
            "Liu Lab: for each file a text of its selected indices, from 0 in the "
            "file; train_index.dat (from 0 too) and train_labels.dat (1 single, 0 not) "
            "of all labelled patterns",
            write_liu_lab,
        ),
        "cxi": Format(
            "readers of CXI: the selected patterns as recorded, mask, tags, "
            "probabilities and where each comes from",
            write_cxi,
        ),
        "specklenn": Format(
            "SpeckleNN: exp,run,event_num,label of what is selected (1) or labelled "
            "(0 other, 2 multiple, 9 blank); events count from 0 in the file",
            write_specklenn,
        ),
        "list": Format(
            "OM, Cheetah, CrystFEL: a line «file //17» for each selected pattern, "
            "from 0 in the file",
            write_list,
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

    The folder is replaced as a whole or not at all; `README.json` in it, the last of
    the paths that are returned, says what the files are and where they came from.

    Parameters
    ----------
    work_dir, format_name
        The work folder; a name in `FORMATS`.
    patterns, selection
        The stack, and what was chosen of it.
    labels
        (n,) words that people gave, for the formats that tell more than the selection;
        None or "" = none.
    adu_per_photon, geometry
        For formats with photon counts, where the patterns are none; with a detector.
    experiment, run
        Of SpeckleNN's table. Where `run` is None, or there are several files, the
        numbers of the runs are taken from the names of the files.

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
        about = {
            "format": format_name,
            "description": FORMATS[format_name].description,
            "files": names,
        }
        write_json(temporary / README_NAME, about | provenance(**request.metadata))
    return [folder / name for name in (*names, README_NAME)]
