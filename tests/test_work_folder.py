"""The table of a work folder's files, and what is said of one that is not so."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from helpers import work_folder
from helpers.errors import HelpersError
from helpers.work_folder import EXPERIMENT, Values, WorkFile

FILES = [each for each in vars(work_folder).values() if isinstance(each, WorkFile)]
IN_HDF5 = [each for each in FILES if each.datasets]
IN_JSON = [each for each in FILES if each.name.endswith(".json")]
LENGTHS = {
    "n": 3,
    "N": 100,
    "r": 4,
    "c": 5,
    "R": 4,
    "C": 5,
    "t": 3,
    "v": 2,
    "e": 2,
    "p": 6,
    "m": 2,
    "f": 3,
}
FACTS = {
    "a text": "x",
    "a path": "/x",
    "a number from 0 to 1": 0.5,
    "a whole number from 0": 7,
    "a number": 0.0,
    "a number above 0": 2.5,
    "true or false": True,
    "file names": ["x.h5"],
    "words": ["x"],
    "row and column": [1.0, 2.0],
    "sizes of files": [7],
    "names and values": {"x": 1},
    "slope and below above 0, and an offset": {"slope": 1.0, "offset": 0.0},
}


def write(work_file: WorkFile, path: Path) -> Path:
    """Write a file that is as the table says."""
    with h5py.File(path, "w") as file:
        for name, values in work_file.datasets.items():
            shape = [LENGTHS[letter] for letter in values.shape]
            file[name] = (
                np.full(shape, "single", object)
                if values.dtype is str
                else make_values(values, shape)
            )
        for name, entry in work_file.metadata.items():
            file.attrs[name] = FACTS[entry.what]
    return path


def make_values(values: Values, shape: list[int]) -> NDArray[Any]:
    if values.are_unique:
        return np.arange(shape[0]).astype(values.dtype)
    return np.zeros(shape, values.dtype)


def problem_of(work_file: WorkFile, path: Path) -> str:
    """Return the error of reading a file."""
    with pytest.raises(HelpersError) as caught:
        work_file.read_hdf5(path)
    assert type(caught.value) is work_file.error
    assert str(path) in str(caught.value)
    assert f"Run {work_file.writer}" in str(caught.value)
    return str(caught.value)


def each(files: list[WorkFile]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("work_file", files, ids=lambda file: file.name)


def test_every_file_has_its_own_name_and_a_notebook_that_writes_it() -> None:
    notebooks = Path(__file__).parents[1] / "notebooks"
    assert len({file.name for file in FILES}) == len(FILES) > 8
    assert {f"{f.writer}.ipynb" for f in FILES} <= {p.name for p in notebooks.iterdir()}


@each(IN_HDF5)
def test_what_is_as_it_says_is_read(work_file: WorkFile, tmp_path: Path) -> None:
    arrays, metadata = work_file.read_hdf5(write(work_file, tmp_path / "file.h5"))
    assert arrays.keys() == work_file.datasets.keys()
    assert work_file.metadata.keys() <= metadata.keys()
    for name, values in work_file.datasets.items():
        assert [*arrays[name].shape] == [LENGTHS[letter] for letter in values.shape]
        assert arrays[name].dtype.kind == np.dtype(values.dtype).kind


@each(IN_HDF5)
def test_what_is_missing_cut_or_no_hdf5_is_reported(
    work_file: WorkFile, tmp_path: Path
) -> None:
    path = tmp_path / Path(work_file.name).name
    assert f"is not there; expected what {work_file.writer}" in problem_of(
        work_file, path
    )
    write(work_file, path)
    path.write_bytes(path.read_bytes()[:-100])
    assert "cannot be read" in problem_of(work_file, path)
    path.write_text("on tape")
    assert "cannot be read" in problem_of(work_file, path)


def lose(file: h5py.File, name: str) -> None:
    del file[name]


def put(values: object) -> Callable[[h5py.File, str], None]:
    def replace(file: h5py.File, name: str) -> None:
        del file[name]
        file[name] = values

    return replace


def pretend(file: h5py.File, name: str) -> None:
    """Let a dataset say that it is larger than any memory, without its values."""
    shape = (2**40,) * file[name].ndim if file[name].ndim == 1 else (2**20,) * 3
    dtype = file[name].dtype
    del file[name]
    file.create_dataset(name, shape[:3], dtype)


DAMAGES = [
    (lose, "there is no dataset"),
    (put(np.zeros((2, 2, 2, 2))), "has shape (2, 2, 2, 2)"),
    (put(np.zeros(3, complex)), "has dtype complex128"),
    (pretend, "shape"),
]


@each(IN_HDF5)
@pytest.mark.parametrize(("damage", "said"), DAMAGES)
def test_datasets_that_are_not_as_they_should_be_are_reported(
    work_file: WorkFile,
    damage: Callable[[h5py.File, str], None],
    said: str,
    tmp_path: Path,
) -> None:
    for name in work_file.datasets:
        path = write(work_file, tmp_path / "file.h5")
        if work_file.datasets[name].dtype is str and damage is pretend:
            continue
        with h5py.File(path, "r+") as file:
            damage(file, name)
        problem = problem_of(work_file, path)
        assert name in problem
        assert said in problem or "is not there as a whole" in problem


@each(IN_HDF5)
def test_values_that_cannot_be_are_reported(
    work_file: WorkFile, tmp_path: Path
) -> None:
    metadata = {name: FACTS[entry.what] for name, entry in EXPERIMENT.metadata.items()}
    metadata["shape"] = [LENGTHS[letter] for letter in "NRC"]
    (tmp_path / EXPERIMENT.name).write_text(json.dumps(metadata))
    for name, values in work_file.datasets.items():
        is_float = np.dtype(values.dtype).kind == "f"
        wrong = {np.nan} if is_float and not values.may_lack else set()
        wrong |= {-1.0} if values.low == 0 or values.are_patterns else set()
        wrong |= {1e7} if values.are_patterns else {7.0} if values.high == 1 else set()
        for value in wrong:
            path = write(work_file, tmp_path / "file.h5")
            with h5py.File(path, "r+") as file:
                file[name][...] = value
            problem = problem_of(work_file, path)
            assert f"{name} holds " in problem


@each(IN_HDF5)
def test_attributes_that_are_lost_or_strange_are_reported(
    work_file: WorkFile, tmp_path: Path
) -> None:
    for name, entry in work_file.metadata.items():
        path = write(work_file, tmp_path / "file.h5")
        with h5py.File(path, "r+") as file:
            del file.attrs[name]
        assert f"it lacks {name}" in problem_of(work_file, path)
        with h5py.File(path, "r+") as file:
            file.attrs[name] = np.nan
        assert f"{name} is nan; expected {entry.what}" in problem_of(work_file, path)


@each(IN_JSON)
def test_json_that_is_missing_cut_or_strange_is_reported(
    work_file: WorkFile, tmp_path: Path
) -> None:
    path = tmp_path / work_file.name
    right = {name: FACTS[entry.what] for name, entry in work_file.metadata.items()}
    path.write_text(json.dumps(right))
    assert work_file.read_json(path) == right
    name = next(iter(right))
    strange = {
        "cannot be read": json.dumps(right)[:-5],
        "holds a list": "[1]",
        f"it lacks {name}": json.dumps({k: v for k, v in right.items() if k != name}),
        f"{name} is None": json.dumps(right | {name: None}),
    }
    for said, text in strange.items():
        path.write_text(text)
        with pytest.raises(work_file.error, match=said) as caught:
            work_file.read_json(path)
        assert f"Run {work_file.writer} again" in str(caught.value)
