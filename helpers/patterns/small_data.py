"""LCLS small data: of many things a value for each event, and of detectors an image."""

from pathlib import PurePosixPath

import h5py

from helpers.patterns.hdf5 import find_datasets, get_dataset, is_numeric

EVENTS = ("/event_time", "/fiducials")
CONFIGURATION = PurePosixPath("/UserDataCfg")
MASKS = ("mask", "cmask")  # 1 = good, as psana has it


def find_detector(file: h5py.File) -> str:
    """Return where the only detector is, one image or some modules for each event.

    "" in a file that is no small data, or has several, or none.
    """
    events = [get_dataset(file, name) for name in EVENTS]
    if any(each is None or each.ndim != 1 for each in events):
        return ""
    n_events = len(file[EVENTS[0]])
    found = [
        name
        for name in find_datasets(file)
        if (dataset := get_dataset(file, name)) is not None
        and dataset.ndim in (3, 4)
        and len(dataset) == n_events
        and is_numeric(dataset)
    ]
    return found[0] if len(found) == 1 else ""


def find_masks(file: h5py.File, detector: str) -> tuple[str, ...]:
    """Return where the masks of a detector are that fit its images.

    Parameters
    ----------
    file
        Open.
    detector
        From `find_detector`.
    """
    folder = CONFIGURATION / PurePosixPath(detector).parts[1]
    frame = file[detector].shape[1:]
    found = (str(folder / name) for name in MASKS)
    return tuple(
        name
        for name in found
        if (mask := get_dataset(file, name)) is not None and mask.shape == frame
    )
