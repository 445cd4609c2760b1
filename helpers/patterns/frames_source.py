"""Patterns in a dataset for each."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from helpers.patterns.dataset_source import say_content
from helpers.patterns.hdf5 import LISTED, follow, get_whole_dataset, is_numeric
from helpers.patterns.source import Hdf5Source, find_size_problems


class FramesSource(Hdf5Source):
    """Patterns as /hit_0/image, /hit_1/image and so on, or a single image.

    In `where` a `*` stands for the number of the pattern; they are read in the order
    of these numbers, of which some may be left out.
    """

    def __init__(self, path: Path, file: h5py.File, where: str) -> None:
        super().__init__(path, file, where)
        self._names = find_frames(file, where)
        frames = [file[name] for name in self._names]
        self.shape = (len(frames), *frames[0].shape)
        self.dtype = np.result_type(*{frame.dtype for frame in frames})
        if self._names[0] == where:
            self.notes = (f"{where} is a single image: a stack of one pattern.",)

    @staticmethod
    def find_problems(path: Path, file: h5py.File, where: str) -> Iterator[str]:
        """Say why the images cannot be read as one stack; nothing if they can."""
        frames = {name: file[name] for name in find_frames(file, where)}
        if not frames:
            yield f"no dataset has a name like {where}, with a number for *."
            return
        expected = next(iter(frames.values())).shape
        strange = [
            f"{name} {frame.shape} of {say_content(frame.dtype)}"
            for name, frame in frames.items()
            if frame.shape != expected or len(expected) != 2 or not is_numeric(frame)
        ]
        if strange:
            more = f" and {len(strange) - LISTED} more" if len(strange) > LISTED else ""
            yield (
                f"found {', '.join(strange[:LISTED])}{more}; expected numbers of "
                "shape (rows, columns), the same for every pattern."
            )
        else:
            yield from find_size_problems(where, (len(frames), *expected))

    @staticmethod
    def find_shape(file: h5py.File, where: str) -> tuple[int, ...] | None:
        """Return (n, rows, columns), going by the first image."""
        names = find_frames(file, where)
        shape = file[names[0]].shape if names else ()
        return (len(names), *shape) if len(shape) == 2 else None

    def _read_into(self, out: NDArray[Any], file: h5py.File, start: int) -> None:
        for image, name in zip(out, self._names[start:], strict=False):
            file[name].read_direct(image)


def find_frames(file: h5py.File, where: str) -> list[str]:
    """Return the paths of the datasets that `where` stands for, in their order.

    Parameters
    ----------
    file
        Open.
    where
        Such as `/hit_*/image`, or a path without `*`.
    """
    paths = _find_paths(file, where)
    return [path for path in paths if get_whole_dataset(file, path) is not None]


def find_first_frame(file: h5py.File, where: str) -> h5py.Dataset | None:
    """Return the first dataset that `where` stands for; None if there is none.

    Parameters are those of `find_frames`.
    """
    paths = _find_paths(file, where)
    return get_whole_dataset(file, paths[0]) if paths else None


def _find_paths(file: h5py.File, where: str) -> list[str]:
    if "*" not in where:
        return [where]
    above, _, rest = where.partition("*")
    folder, prefix = above.rsplit("/", 1)
    suffix, _, below = rest.partition("/")
    group = follow(file, folder or "/")
    if not isinstance(group, h5py.Group):
        return []
    form = re.compile(rf"{re.escape(prefix)}(\d+){re.escape(suffix)}", re.ASCII)
    numbered = [(int(m[1]), m[0]) for name in group if (m := form.fullmatch(name))]
    return [f"{folder}/{name}/{below}".rstrip("/") for _, name in sorted(numbered)]
