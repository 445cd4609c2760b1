"""Each known kind of file is recognised; each way to be broken is named."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import fabio
import h5py
import hdf5plugin
import numpy as np
import pytest

from helpers.__main__ import main
from helpers.errors import PatternsFileError
from helpers.patterns import (
    LAYOUTS,
    Layout,
    Source,
    find_mask_shape,
    layout_table,
    open_patterns,
    read_bad_pixels,
)
from helpers.patterns.hdf5 import find_datasets
from helpers.patterns.opening import find_unit
from helpers.patterns.pattern_file import open_pattern_file
from helpers.patterns.sources import DatasetSource, Hdf5Source

N, ROWS, COLUMNS = 6, 5, 4
FRAME = (ROWS, COLUMNS)
NO_BAD_PIXELS = np.zeros(FRAME, bool)
COUNTS = np.arange(N * ROWS * COLUMNS).reshape(N, *FRAME)
BAD = np.zeros(FRAME, bool)
BAD[1, 2] = BAD[4, 0] = True


def write(path: Path, **datasets: Any) -> Path:
    """Write datasets, or links, by the paths that stand for their names."""
    with h5py.File(path, "w") as file:
        for name, values in datasets.items():
            file[name] = values
    return path


def replace(path: Path, where: str, values: Any) -> None:
    """Break one value of a file."""
    with h5py.File(path, "a") as file:
        del file[where]
        if values is not None:
            file[where] = values


def write_plain(path: Path) -> Path:
    return write(path, patterns=COUNTS.astype("f4"))


def write_simulated(path: Path) -> Path:
    truth = np.array([b"single", b"blank", b"single", b"multiple", b"other", b"blank"])
    patterns = COUNTS.astype("f4")
    return write(path, patterns=patterns, truth=truth, mask=BAD.astype("u1"))


def write_liu_lab(path: Path) -> Path:
    labels = np.array([1.0, 0, 0, 1, 0, 0])
    return write(path, patterns=COUNTS, labels=labels, mask=BAD.astype("f8"))


def write_cxi(path: Path) -> Path:
    """Write as the CXI standard has it: data_1 links to the detector."""
    detector = "/entry_1/instrument_1/detector_1"
    mask = np.where(BAD, 2 + 512, 0).astype("u4")
    return write(
        path,
        **{
            "cxi_version": 150,
            f"{detector}/data": COUNTS.astype("i4"),
            f"{detector}/mask": mask,
            "/entry_1/data_1/data": h5py.SoftLink(f"{detector}/data"),
        },
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run7.h5"


def problems_of(path: Path, **options: Any) -> tuple[str, ...]:
    """Open a broken file; return its problems, each of which the message must name."""
    with pytest.raises(PatternsFileError) as caught:
        open_pattern_file(path, **options)
    error = caught.value
    assert error.path == path
    assert str(error) == "\n".join(f"{path}: {text}" for text in error.problems)
    return error.problems


def read_all(source: Source) -> np.ndarray:
    values = np.empty(source.shape, source.dtype)
    source.read_into(values, 0)
    source.close()
    return values


class TestRecognition:
    def test_liu_lab_labels_become_words(self, path: Path) -> None:
        labels = open_pattern_file(write_liu_lab(path)).labels
        assert labels is not None
        expected = ["single", "other", "other", "single", "other", "other"]
        assert labels.tolist() == expected

    def test_simulated_truth_is_not_a_label(self, path: Path) -> None:
        recording = open_pattern_file(write_simulated(path))
        assert recording.labels is None
        assert recording.true_labels is not None
        assert recording.true_labels.tolist()[:4] == [
            "single",
            "blank",
            "single",
            "multiple",
        ]

    def test_truth_may_be_text_of_any_length(self, path: Path) -> None:
        replace(
            write_simulated(path), "truth", ["single"] * (N - 1) + ["Einzeltreffer"]
        )
        truth = open_pattern_file(path).true_labels
        assert truth is not None
        assert truth[-1] == "Einzeltreffer"

    def test_cxi_mask_beside_the_link_comes_first(self, path: Path) -> None:
        write_cxi(path)
        with h5py.File(path, "a") as file:
            file["entry_1/data_1/mask"] = (~BAD).astype("u4")
        found = open_pattern_file(path).bad_pixels
        assert found is not None
        np.testing.assert_array_equal(found.pixels, ~BAD)
        assert found.origin == (
            "/entry_1/data_1/mask, whose values & 0xffff96df mean bad: CXI bits, 0 = "
            f"good; bits that occur, in pixels: 1 (invalid) in {BAD.size - 2}: bad"
        )

    def test_mask_for_each_pattern_counts_by_majority(self, path: Path) -> None:
        masks = np.zeros(COUNTS.shape, "u4")
        masks[:4, 0, 0] = 1  # 4 of 6 patterns: bad
        masks[:3, 0, 1] = 1  # 3 of 6: not more than half
        replace(write_cxi(path), "entry_1/instrument_1/detector_1/mask", masks)
        found = open_pattern_file(path).bad_pixels
        assert found is not None
        assert np.argwhere(found.pixels).tolist() == [[0, 0]]

    def test_the_only_stack_is_found_wherever_it_is(self, path: Path) -> None:
        write(path, **{"deep/down/frames": COUNTS, "angle": np.zeros(N)})
        assert open_pattern_file(path).layout.patterns == "/deep/down/frames"

    @pytest.mark.parametrize("own", ["#refs#/a", "#subsystem#/MCOS"])
    def test_what_matlab_keeps_for_itself_is_no_stack(
        self, own: str, path: Path
    ) -> None:
        write(path, imgs=COUNTS, **{own: np.zeros((3, 3, 3))})
        assert open_pattern_file(path).layout.patterns == "/imgs"

    def test_the_largest_of_several_stacks_is_suggested(self, path: Path) -> None:
        write(path, a=COUNTS[:2], b=COUNTS, c=COUNTS[:1])
        assert "Pass dataset='/b'." in problems_of(path)[0]

    def test_one_stack_with_two_names_is_one_stack(self, path: Path) -> None:
        write(path, **{"a/frames": COUNTS, "b": h5py.SoftLink("/a/frames")})
        assert open_pattern_file(path).source.shape == COUNTS.shape

    def test_root_patterns_are_preferred(self, path: Path) -> None:
        write(path, patterns=COUNTS, other=COUNTS + 1)
        np.testing.assert_array_equal(read_all(open_pattern_file(path).source), COUNTS)

    def test_names_are_unique(self) -> None:
        names = [layout.name for layout in LAYOUTS]
        assert len(set(names)) == len(names)


class TestNamedDataset:
    @pytest.mark.parametrize("where", ["/b/frames", "b/frames", "b/frames/"])
    def test_dataset_is_taken_as_named(self, where: str, path: Path) -> None:
        write(path, **{"patterns": COUNTS, "b/frames": COUNTS + 1})
        recording = open_pattern_file(path, where)
        assert recording.layout.patterns == "/b/frames"
        np.testing.assert_array_equal(read_all(recording.source), COUNTS + 1)

    @pytest.mark.parametrize(
        "where", ["/entry_1/data_1/data", "/entry_1/instrument_1/detector_1/data"]
    )
    def test_known_place_keeps_its_layout(self, where: str, path: Path) -> None:
        recording = open_pattern_file(write_cxi(path), where)
        assert recording.layout.name == "CXI"
        assert recording.layout.patterns == where
        assert recording.bad_pixels is not None

    def test_other_place_has_no_labels_of_the_layout(self, path: Path) -> None:
        write_liu_lab(path)
        with h5py.File(path, "a") as file:
            file["raw/frames"] = COUNTS
        recording = open_pattern_file(path, "/raw/frames")
        assert recording.layout.name == "plain"
        assert recording.labels is None


class TestStorage:
    @pytest.mark.parametrize(
        "options",
        [
            {"chunks": (1, *FRAME), "compression": "gzip"},
            {"chunks": (4, 2, 3)},
            {"chunks": (2, *FRAME), **hdf5plugin.Bitshuffle()},
            {"chunks": (2, *FRAME), **hdf5plugin.Blosc()},
            {"chunks": (2, *FRAME), **hdf5plugin.Zstd()},
        ],
        ids=["gzip", "small chunks", "bitshuffle", "blosc", "zstandard"],
    )
    def test_compressed_and_chunked(self, options: dict[str, Any], path: Path) -> None:
        with h5py.File(path, "w") as file:
            file.create_dataset("patterns", data=COUNTS, **options)
        source = open_pattern_file(path).source
        assert source.chunk == options["chunks"][0]
        np.testing.assert_array_equal(read_all(source), COUNTS)

    @pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "i8", "f2", ">f4", "f8"])
    def test_any_real_number(self, dtype: str, path: Path) -> None:
        source = open_pattern_file(write(path, patterns=COUNTS.astype(dtype))).source
        assert source.dtype == dtype
        np.testing.assert_array_equal(read_all(source), COUNTS)

    def test_external_link(self, path: Path, tmp_path: Path) -> None:
        write(tmp_path / "other.h5", frames=COUNTS)
        write(path, patterns=h5py.ExternalLink("other.h5", "/frames"))
        np.testing.assert_array_equal(read_all(open_pattern_file(path).source), COUNTS)

    def test_virtual_dataset(self, path: Path, tmp_path: Path) -> None:
        write_virtual(path, write(tmp_path / "part.h5", frames=COUNTS))
        np.testing.assert_array_equal(read_all(open_pattern_file(path).source), COUNTS)

    def test_links_in_a_circle_end(self, path: Path) -> None:
        write(path, **{"a/frames": COUNTS, "a/up": h5py.SoftLink("/")})
        with h5py.File(path) as file:
            assert list(find_datasets(file)) == ["/a/frames"]


def write_virtual(path: Path, part: Path) -> None:
    layout = h5py.VirtualLayout(COUNTS.shape, COUNTS.dtype)
    layout[:] = h5py.VirtualSource(part.name, "frames", COUNTS.shape)
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("patterns", layout)


class TestWarnings:
    def test_mask_of_unknown_polarity_is_read_by_its_name(self, path: Path) -> None:
        recording = open_pattern_file(
            write(path, patterns=COUNTS, mask=BAD.astype("u1"))
        )
        assert recording.bad_pixels is not None
        np.testing.assert_array_equal(recording.bad_pixels.pixels, BAD)
        (warning,) = recording.warnings
        assert warning.startswith(f"{path}: the patterns do not decide which values of")
        assert f"bad_pixels='{path}:/mask == 0'" in warning

    def test_strange_labels_count_as_unlabelled(self, path: Path) -> None:
        replace(write_liu_lab(path), "labels", np.array([1.0, 0, 7, 2, np.nan, 0]))
        recording = open_pattern_file(path)
        assert recording.labels is not None
        assert recording.labels.tolist() == ["single", "other", "", "", "", "other"]
        (warning,) = recording.warnings
        assert "/labels holds 2, 7; expected 1 (single), 0 (other)" in warning

    def test_own_mask_does_not_matter_when_it_is_not_used(self, path: Path) -> None:
        replace(write_liu_lab(path), "mask", BAD[:2].astype("f8"))
        assert open_pattern_file(path, use_mask=False).bad_pixels is None

    def test_nan_is_a_label_not_given(self, path: Path) -> None:
        replace(write_liu_lab(path), "labels", np.array([1.0, 0, np.nan, 0, 0, 0]))
        recording = open_pattern_file(path)
        assert recording.labels is not None
        assert recording.labels[2] == ""
        assert recording.warnings == ()


class TestBadPixelsFiles:
    def read(self, where: str | Path) -> np.ndarray:
        return read_bad_pixels(where, FRAME).pixels

    def problem_of(self, where: str | Path, path: Path) -> str:
        with pytest.raises(PatternsFileError) as caught:
            self.read(where)
        assert caught.value.path == path
        (problem,) = caught.value.problems
        return problem

    def test_npy_of_bool(self, tmp_path: Path) -> None:
        np.save(tmp_path / "mask.npy", BAD)
        np.testing.assert_array_equal(self.read(tmp_path / "mask.npy"), BAD)

    @pytest.mark.parametrize(
        ("values", "condition"),
        [
            (BAD.astype(int), "== 1"),
            (BAD.astype(int), "!=0"),
            (1 - BAD, "== 0"),
            (np.where(BAD, -1, 7), "==-1"),
            (np.where(BAD, np.nan, 1), "!= 1"),
            (~BAD, "== 0"),
        ],
    )
    def test_said_polarity(
        self, values: np.ndarray, condition: str, tmp_path: Path
    ) -> None:
        np.save(tmp_path / "mask.npy", values)
        found = self.read(f"{tmp_path / 'mask.npy'} {condition}")
        np.testing.assert_array_equal(found, BAD)

    def test_polarity_is_never_guessed(self, tmp_path: Path) -> None:
        path = tmp_path / "mask.npy"
        np.save(path, BAD.astype(int))
        assert self.problem_of(path, path) == (
            "it is not known which of its values (0, 1) mean bad. Say it: "
            f"bad_pixels='{path} != 0' or bad_pixels='{path} == 0'."
        )

    def test_byt_has_the_polarity_of_dragonfly(self, tmp_path: Path) -> None:
        values = np.where(BAD, 2, 0).astype("u1")
        values[0, 0] = 1  # good, but not for orientation
        values.tofile(tmp_path / "mask.byt")
        np.testing.assert_array_equal(self.read(tmp_path / "mask.byt"), BAD)
        everything = self.read(f"{tmp_path / 'mask.byt'} != 0")
        np.testing.assert_array_equal(everything, values > 0)

    def test_byt_of_wrong_size(self, tmp_path: Path) -> None:
        path = tmp_path / "mask.byt"
        BAD[:3].tofile(path)
        problem = self.problem_of(path, path)
        assert problem.startswith("has 12 bytes; expected 20")

    def test_mask_of_a_known_layout(self, path: Path) -> None:
        found = self.read(f"{write_liu_lab(path)}:/mask")
        np.testing.assert_array_equal(found, BAD)

    def test_mask_in_any_hdf5_file(self, path: Path) -> None:
        write(path, **{"geometry/good": (~BAD).astype("u1")})
        found = self.read(f"{path}:/geometry/good == 0")
        np.testing.assert_array_equal(found, BAD)
        problem = self.problem_of(f"{path}:/geometry/good", path)
        assert problem.startswith("it is not known which of its values (0, 1) mean bad")

    def test_bool_mask_in_hdf5(self, path: Path) -> None:
        write(path, bad=BAD)
        np.testing.assert_array_equal(self.read(f"{path}:/bad"), BAD)

    def test_dataset_that_is_not_there(self, path: Path) -> None:
        problem = self.problem_of(f"{write_plain(path)}:/mask", path)
        assert problem == (
            "there is no dataset /mask. Datasets in the file: /patterns."
        )

    def test_missing(self, tmp_path: Path) -> None:
        path = tmp_path / "mask.npy"
        assert "there is no such file" in self.problem_of(path, path)

    @pytest.mark.parametrize("name", ["mask.txt", "mask.npy"])
    def test_other_kind_of_file(self, name: str, tmp_path: Path) -> None:
        (tmp_path / name).write_text("0 1 0 1")
        problem = self.problem_of(tmp_path / name, tmp_path / name)
        assert problem.startswith("is not a mask that can be read (")

    def test_wrong_shape(self, tmp_path: Path) -> None:
        path = tmp_path / "mask.npy"
        np.save(path, BAD.T)
        problem = self.problem_of(path, path)
        assert problem.startswith("the mask has shape (4, 5); expected (5, 4)")

    def test_all_pixels_bad(self, tmp_path: Path) -> None:
        path = tmp_path / "mask.npy"
        np.save(path, np.ones(FRAME, bool))
        assert "leaves out every pixel" in self.problem_of(path, path)


class TestUnits:
    @pytest.mark.parametrize(
        ("values", "unit", "why"),
        [
            (COUNTS.astype("u2"), "photons", "recorded as uint16"),
            (COUNTS.astype("f4"), "photons", "nothing but whole numbers"),
            (COUNTS + 0.25, "ADU", "fractions"),
            (COUNTS - 2.0, "ADU", "negative"),
            (COUNTS - 2, "ADU", "negative"),
            (COUNTS % 7 % 2 - 1, "ADU", "negative"),
            (np.where(COUNTS == 9, -1, COUNTS), "photons", "-1 where there is no"),
            (np.where(COUNTS % 29 == 0, -1, COUNTS), "photons", "-1 where there is no"),
            (np.zeros(COUNTS.shape), "unknown", "nothing but 0"),
            (np.full(COUNTS.shape, np.nan), "unknown", "nothing but 0"),
            (np.zeros(COUNTS.shape, "i4"), "photons", "recorded as int32"),
            (np.where(COUNTS == 9, np.inf, COUNTS), "photons", "whole numbers"),
        ],
    )
    def test_shown_by_the_values(
        self, values: np.ndarray, unit: str, why: str, path: Path
    ) -> None:
        found = find_unit(
            open_pattern_file(write(path, patterns=values)), NO_BAD_PIXELS
        )
        assert found.name == unit
        assert why in found.why

    def test_bad_pixels_do_not_count(self, path: Path) -> None:
        values = np.where(BAD, -1.0, COUNTS)
        assert find_unit(open_pattern_file(write(path, patterns=values)), BAD).name == (
            "photons"
        )

    @pytest.mark.parametrize(
        ("said", "unit"),
        [("photons", "photons"), ("Photon counts", "photons"), ("ADU", "ADU")],
    )
    def test_said_by_an_attribute(self, said: str, unit: str, path: Path) -> None:
        write(path, patterns=COUNTS * 0.5)
        with h5py.File(path, "a") as file:
            file["patterns"].attrs["units"] = said
        found = find_unit(open_pattern_file(path), NO_BAD_PIXELS)
        assert found == (unit, "as the file or its layout says", True)

    def test_said_by_the_layout(self, path: Path) -> None:
        replace(write_simulated(path), "patterns", COUNTS * 0.5)
        assert find_unit(open_pattern_file(path), NO_BAD_PIXELS).name == "photons"

    def test_no_file_stays_open(self, path: Path) -> None:
        recording = open_pattern_file(write_plain(path))
        find_unit(recording, NO_BAD_PIXELS)
        h5py.File(path, "r+").close()  # HDF5 refuses this while it is open to read


class GroupPerPattern(Hdf5Source):
    """Patterns as /shot_0/image, /shot_1/image and so on."""

    def __init__(self, path: Path, file: h5py.File, where: str) -> None:
        super().__init__(path, file, where)
        self.shape = (len(file), *FRAME)
        self.dtype = file["shot_0/image"].dtype

    @classmethod
    def check(
        cls, file: h5py.File, where: str, problems: list[str]
    ) -> tuple[int, ...] | None:
        return (len(file), *file["shot_0/image"].shape)

    def _read_into(self, out: np.ndarray, file: h5py.File, start: int) -> None:
        for number, image in enumerate(out, start):
            image[...] = file[f"shot_{number}/image"]


def test_a_new_kind_of_file_needs_a_layout_and_a_source(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = Layout(
        name="group per pattern",
        recognise=lambda file: "shot_0" in file,
        patterns="/shot_*/image",
        source=GroupPerPattern,
    )
    monkeypatch.setattr(layout_table, "LAYOUTS", (new, *LAYOUTS))
    write(path, **{f"shot_{number}/image": COUNTS[number] for number in range(N)})
    for dataset in (None, new.patterns):
        recording = open_pattern_file(path, dataset)
        assert recording.layout == new
        np.testing.assert_array_equal(read_all(recording.source), COUNTS)
    assert find_unit(recording, NO_BAD_PIXELS).name == "photons"

    @pytest.mark.parametrize("zero", [200, 1000, 32768])
    @pytest.mark.parametrize("dtype", ["u2", "f4"])
    def test_whole_numbers_on_a_pedestal_are_no_photons(
        self, dtype: str, zero: int, path: Path
    ) -> None:
        rng = np.random.default_rng(0)
        photons = rng.poisson(np.geomspace(0.01, 40, 30 * 40), (9, 30 * 40))
        adu = np.rint(zero + rng.normal(0, 12, photons.shape) + 130 * photons)
        with h5py.File(path, "w") as file:
            file["raw"] = adu.clip(0, 65535).reshape(9, 30, 40).astype(dtype)
        patterns = open_patterns(path)
        assert patterns.unit == "ADU"
        assert "no value is near 0" in patterns.describe()

    @pytest.mark.parametrize("value", [-1, -100, 0.5, 40_000])
    def test_a_pattern_of_one_value_says_nothing_of_the_unit(
        self, value: float, path: Path
    ) -> None:
        counts = np.random.default_rng(0).poisson(0.4, (9, 30, 40)).astype("f4")
        counts[4] = value
        with h5py.File(path, "w") as file:
            file["counts"] = counts
        assert open_patterns(path).unit == "photons"

    def test_bright_photon_counts_are_photons(self, path: Path) -> None:
        rng = np.random.default_rng(0)
        falling = np.geomspace(1, 3000, 30 * 40).reshape(30, 40)
        with h5py.File(path, "w") as file:
            file["counts"] = rng.poisson(falling, (9, 30, 40)).astype("u2")
        assert open_patterns(path).unit == "photons"


class TestMeasuredFiles:
    def test_liu_lab(self, real_file: Callable[[str], Path]) -> None:
        recording = open_pattern_file(real_file("pr772_30.h5"))
        assert recording.layout.name == "Liu Lab"
        assert isinstance(recording.source, DatasetSource)
        assert recording.source.shape == (30, 128, 128)
        assert recording.labels is not None
        assert np.unique(recording.labels, return_counts=True)[1].tolist() == [19, 11]
        assert recording.bad_pixels is not None
        assert np.count_nonzero(recording.bad_pixels.pixels) == 304

    def test_raw_frames(self, real_file: Callable[[str], Path]) -> None:
        recording = open_pattern_file(real_file("pnccd_adu_10.h5"))
        assert recording.layout.name == "plain"
        frame = recording.source.shape[1:]
        assert frame == (260, 257)
        found = read_bad_pixels(real_file("mask_pnccd_back_260_257.byt"), frame)
        assert np.count_nonzero(found.pixels) == 5804
        assert find_unit(recording, found.pixels).name == "ADU"

    def test_single_image(self, real_file: Callable[[str], Path]) -> None:
        path = real_file("minimal.cxi")
        assert problems_of(path) == (
            "/entry_1/data_1/data has shape (50, 100); expected (patterns, rows, "
            "columns). No dataset of numbers in it has three dimensions; it holds "
            "/entry_1/data_1/data (50, 100).",
        )


class TestMaskShape:
    """A mask says the shape of the patterns that are simulated on it."""

    def test_of_each_kind_of_file(self, tmp_path: Path) -> None:
        np.save(tmp_path / "mask.npy", np.zeros((7, 9)))
        with h5py.File(tmp_path / "mask.h5", "w") as file:
            file["mask"] = np.zeros((3, 7, 9))
        (tmp_path / "mask.byt").write_bytes(bytes(63))
        assert find_mask_shape(tmp_path / "mask.npy") == (7, 9)
        assert find_mask_shape(f"{tmp_path}/mask.h5:/mask != 0") == (7, 9)
        assert find_mask_shape(tmp_path / "mask.byt") is None

    def test_of_what_is_no_mask(self, tmp_path: Path) -> None:
        np.save(tmp_path / "mask.npy", np.zeros(7))
        with pytest.raises(PatternsFileError, match=r"has shape \(7,\); expected"):
            find_mask_shape(tmp_path / "mask.npy")
        with pytest.raises(PatternsFileError, match="no such file"):
            find_mask_shape(tmp_path / "gone.npy")

    def test_simulate_takes_it(self, tmp_path: Path) -> None:
        bad = np.zeros((64, 70), bool)
        bad[:3] = True
        np.save(tmp_path / "mask.npy", bad)
        out, mask = str(tmp_path / "run.h5"), str(tmp_path / "mask.npy")
        numbers = ["--patterns", "2", "--seed", "1"]
        assert main(["simulate", "--out", out, *numbers, "--mask", mask]) == 0
        np.testing.assert_array_equal(open_patterns(out).bad_pixels, bad)


@pytest.mark.parametrize("ending", [".npz", ".tif", ".edf", ".cbf"])
def test_masks_in_other_kinds_of_file(ending: str, tmp_path: Path) -> None:
    bad = np.zeros((30, 40), np.int32)
    bad[10:12] = bad[:, 7] = 1
    path = tmp_path / f"mask{ending}"
    if ending == ".npz":
        np.savez(path, bad)
    elif ending == ".tif":
        fabio.tifimage.TifImage(data=bad.astype("u1")).write(str(path))
    elif ending == ".edf":
        fabio.edfimage.EdfImage(data=bad).write(str(path))
    else:
        fabio.cbfimage.CbfImage(data=bad).write(str(path))
    found = read_bad_pixels(f"{path} == 1", (30, 40)).pixels
    np.testing.assert_array_equal(found, bad == 1)
    assert find_mask_shape(path) == (30, 40)
    path.write_bytes(path.read_bytes()[:20] + b"on tape")
    with pytest.raises(PatternsFileError, match="is not a mask that can be read"):
        read_bad_pixels(f"{path} == 1", (30, 40))
