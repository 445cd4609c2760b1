"""The selected patterns as a CXI file, version 1.6.

References
----------
F. R. N. C. Maia, Nat. Methods 9, 854 (2012), doi:10.1038/nmeth.2110; the members and
the bits of the mask are those of the CXI reference document, version 1.6.
"""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from helpers import __version__
from helpers.handoff.selection import Request
from helpers.outputs import new_hdf5, provenance, write_provenance
from helpers.patterns import CXI_SHOTS

VERSION = 160
PIXEL_IS_BAD = 0x00000080
ONE_PER_EVENT = "experiment_identifier"
DETECTOR = "/entry_1/instrument_1/detector_1"
RESULT = "/entry_1/result_1"


def write_cxi(folder: Path, request: Request) -> None:
    """Write `selection.cxi`: the patterns as recorded, with the mask beside them."""
    with new_hdf5(folder / "selection.cxi") as file:
        file["cxi_version"] = VERSION
        file["number_of_entries"] = 1
        _write_identifiers(file, request)
        _write_shots(file, request)
        _write_patterns(file, request)
        _write_tags(file, request)
        _write_results(file, request)
        _write_process(file)
        data = file.create_group("/entry_1/data_1")
        for name in ("data", "mask", ONE_PER_EVENT):
            data[name] = h5py.SoftLink(f"{DETECTOR}/{name}")
        write_provenance(file, **request.facts)


def _write_identifiers(file: h5py.File, request: Request) -> None:
    """Write the name of each event: its file and row."""
    names = [path.name for path in request.patterns.files]
    index = request.selection.index
    places = zip(request.files[index], request.rows[index], strict=True)
    events = np.array([f"{names[i]} //{row}" for i, row in places], dtype=object)
    path = f"/entry_1/{ONE_PER_EVENT}"
    file.create_dataset(path, data=events, dtype=h5py.string_dtype())
    file[f"{DETECTOR}/{ONE_PER_EVENT}"] = h5py.SoftLink(path)


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
        f"{DETECTOR}/data",
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
    file[f"{DETECTOR}/mask"] = mask
    if request.geometry is not None:
        file[f"{DETECTOR}/distance"] = request.geometry.distance_mm / 1e3
        for name in ("x_pixel_size", "y_pixel_size"):
            file[f"{DETECTOR}/{name}"] = request.geometry.pixel_size_um / 1e6


def _write_tags(file: h5py.File, request: Request) -> None:
    """Say of each event whether a person or the model called it single."""
    from_label = request.selection.from_label
    tags = np.stack([from_label, ~from_label]).astype(np.int8)
    dataset = file.create_dataset(f"{DETECTOR}/tags", data=tags)
    dataset.attrs["headings"] = ["single by label", "single by prediction"]
    dataset.attrs["axes"] = f"tag:{ONE_PER_EVENT}"


def _write_results(file: h5py.File, request: Request) -> None:
    selection = request.selection
    optional: dict[str, NDArray[Any] | None] = {
        "single_hit_probability": selection.predictions,
        "photons": selection.photons,
        "diameter_nm": selection.diameter_nm,
        "stack_index": selection.index,
        "file": request.files[selection.index],
        "row": request.rows[selection.index],
    }
    for name, values in optional.items():
        if values is not None:
            dataset = file.create_dataset(f"{RESULT}/{name}", data=values)
            dataset.attrs["axes"] = ONE_PER_EVENT


def _write_process(file: h5py.File) -> None:
    process = file.create_group("/entry_1/process_1")
    process["program"] = "single-hits"
    process["version"] = __version__
    process["date"] = provenance()["made_at"]
    process["command"] = "helpers.handoff.write_handoff, format cxi"
