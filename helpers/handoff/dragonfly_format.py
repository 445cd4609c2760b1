"""Files of Dragonfly: photons of the selected patterns, and the detector.

References
----------
Ayyer, Lan, Elser & Loh, J. Appl. Cryst. 49, 1320 (2016), doi:10.1107/S1600576716008165.
"""

import shutil
from pathlib import Path
from tempfile import TemporaryFile
from typing import NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from helpers.handoff.selection import Request
from helpers.outputs import new_hdf5, write_provenance
from helpers.physics import Geometry

HEADER_BYTES = 1024
INT32 = np.dtype("<i4")
LIST = h5py.vlen_dtype(INT32)
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
            file.create_dataset(name, n_patterns, LIST)
            for name in ("place_ones", "place_multi", "count_multi")
        )
        for block in request.photon_blocks():
            photons = find_photons(block)
            _write_lists(places, done, photons.place_ones, photons.ones)
            _write_lists(several, done, photons.place_multi, photons.multi)
            _write_lists(counts, done, photons.count_multi, photons.multi)
            done += len(block)
        write_provenance(file, **request.facts)
    _write_detector_if_known(folder, request)


def _write_lists(
    dataset: h5py.Dataset, start: int, values: Places, lengths: Places
) -> None:
    """Write one list for each pattern, from `start` on.

    `dataset[start:stop] = lists` takes lists of equal length for one array with two
    dimensions and fails; below that layer of h5py lists stay lists.
    """
    lists = np.empty(len(lengths), LIST)
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
        facts = vars(geometry) | {"voxel_inv_nm": geometry.voxel_inv_nm}
        write_provenance(file, shape=[n_rows, n_columns], **facts)
