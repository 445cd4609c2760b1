"""The stack is what NumPy would give of all files, read lazily and left unchanged."""

import hashlib
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.errors import ParameterError, PatternsFileError
from helpers.patterns import Patterns, find_run_numbers, open_patterns, sources
from helpers.patterns.sources import DatasetSource, JoinedSources

ROWS, COLUMNS = 5, 4
FRAME = (ROWS, COLUMNS)
PATTERN_BYTES = ROWS * COLUMNS * 4
LENGTHS = (7, 1, 12)  # of three files
N = sum(LENGTHS)
VALUES = np.random.default_rng(0).poisson(3, (N, *FRAME)).astype("f4")
BAD = np.zeros(FRAME, bool)
BAD[1, 2] = BAD[4, 0] = True


def write(path: Path, values: np.ndarray = VALUES, **options: Any) -> Path:
    with h5py.File(path, "w") as file:
        file.create_dataset("patterns", data=values, **options)
    return path


def write_run(folder: Path, dtype: str = "f4") -> list[Path]:
    """Write three files, stored in three ways."""
    options = [
        {},
        {"chunks": (1, *FRAME)},
        {"chunks": (5, 2, 3), "compression": "gzip"},
    ]
    parts = np.split(VALUES.astype(dtype), np.cumsum(LENGTHS)[:-1])
    return [
        write(folder / f"run{number}.h5", part, **how)
        for number, (part, how) in enumerate(zip(parts, options, strict=True))
    ]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Patterns:
    """Three files as one stack, read in pieces of three patterns at most."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "READ_BYTES", 3 * PATTERN_BYTES)
        return open_patterns(write_run(tmp_path_factory.mktemp("run")))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run7.h5"


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Note (first pattern, number of patterns) of everything read from a file."""
    noted: list[tuple[int, int]] = []
    read_piece = JoinedSources._read_piece

    def note(stack: JoinedSources, out: np.ndarray, source: Any, row: int) -> None:
        noted.append((row, len(out)))
        read_piece(stack, out, source, row)

    monkeypatch.setattr(JoinedSources, "_read_piece", note)
    return noted


def error_of(*args: Any, **options: Any) -> PatternsFileError:
    with pytest.raises(PatternsFileError) as caught:
        open_patterns(*args, **options)
    return caught.value


class TestStack:
    def test_several_files_are_one_stack(self, run: Patterns) -> None:
        assert len(run) == N
        assert run.shape == (N, *FRAME)
        assert run.dtype == np.float32
        assert [path.name for path in run.files] == ["run0.h5", "run1.h5", "run2.h5"]
        np.testing.assert_array_equal(run.file_index, np.repeat([0, 1, 2], LENGTHS))
        assert repr(run) == "<Patterns: 20 of 5 × 4, unit photons>"

    def test_locate_names_file_and_row(self, run: Patterns) -> None:
        located = [run.locate(index) for index in range(-N, N)]
        rows = np.concatenate([np.arange(length) for length in LENGTHS])
        expected = [
            (run.files[g], int(r)) for g, r in zip(run.file_index, rows, strict=True)
        ]
        assert located == expected * 2

    def test_different_integers_share_a_dtype(self, tmp_path: Path) -> None:
        small = write(tmp_path / "a.h5", VALUES[:3].astype("u2"))
        large = write(tmp_path / "b.h5", VALUES[3:].astype("i4"))
        patterns = open_patterns([small, large])
        assert patterns.dtype == np.int32
        np.testing.assert_array_equal(patterns.read_raw(slice(None)), VALUES)

    def test_one_file_is_open_at_a_time(self, tmp_path: Path) -> None:
        paths = write_run(tmp_path)
        patterns = open_patterns(paths)
        for path in paths:
            h5py.File(path, "r+").close()  # refused while it is open to read
        patterns[0], patterns[-1]
        h5py.File(paths[0], "r+").close()
        with pytest.raises(OSError, match="open"):
            h5py.File(paths[-1], "r+")

    def test_close_lets_go_and_reading_opens_again(self, path: Path) -> None:
        with open_patterns(write(path)) as patterns:
            patterns[0]
        h5py.File(path, "r+").close()
        np.testing.assert_array_equal(patterns[0], VALUES[0])

    def test_threads_may_share_it(self, run: Patterns) -> None:
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(run.__getitem__, list(range(N)) * 10))
        np.testing.assert_array_equal(found, np.tile(VALUES, (10, 1, 1)))


indices = st.integers(-N, N - 1)
numpy_indices = indices.flatmap(lambda i: st.sampled_from([np.int8(i), np.array(i)]))
slices = st.slices(N)
lists = st.lists(indices, max_size=30)
booleans = st.lists(st.booleans(), min_size=N, max_size=N).map(np.array)
tables = st.lists(st.tuples(indices, indices), min_size=1, max_size=5).map(np.array)
Key = Any


class TestIndexing:
    @given(
        key=st.one_of(
            indices, numpy_indices, slices, lists, lists.map(np.array), booleans, tables
        )
    )
    def test_is_that_of_numpy(self, key: Key, run: Patterns) -> None:
        empty = isinstance(key, np.ndarray) and key.size == 0
        expected = VALUES[key.astype(int) if empty else key]
        for found in (run[key], run.read_raw(key)):
            assert found.dtype == np.float32
            np.testing.assert_array_equal(found, expected, strict=True)

    @pytest.mark.parametrize("dtype", ["u1", "i8", ">f4", "f8", "f2"])
    def test_values_come_as_float32_and_raw_as_recorded(
        self, dtype: str, tmp_path: Path
    ) -> None:
        patterns = open_patterns(write_run(tmp_path, dtype))
        assert patterns.dtype == dtype
        for key in (3, slice(2, 15), [19, 0, 0, 8]):
            clean, raw = patterns[key], patterns.read_raw(key)
            assert clean.dtype == np.float32
            assert raw.dtype == dtype
            np.testing.assert_array_equal(clean, VALUES[key])
            np.testing.assert_array_equal(raw, VALUES[key])

    @pytest.mark.parametrize(
        "key",
        [N, -N - 1, [0, N], 1.0, [0.5], True, None, ..., "0", (0, 1), np.ones(3, bool)],
        ids=str,
    )
    def test_what_is_no_index(self, key: Key, run: Patterns) -> None:
        with pytest.raises(IndexError):
            run[key]

    def test_the_message_says_how_many_there_are(self, run: Patterns) -> None:
        for read in (run.__getitem__, run.read_raw, run.locate):
            with pytest.raises(IndexError, match="there are 20 patterns, counted from"):
                read(20)

    def test_iteration_ends(self, run: Patterns) -> None:
        np.testing.assert_array_equal(list(run), VALUES)


class TestReading:
    """What is read from the file for what is asked."""

    @pytest.mark.parametrize(
        ("key", "expected"),
        [
            (slice(2, 9), [(2, 7)]),
            ([8, 2, 3, 2], [(2, 2), (8, 1)]),
            (slice(0, 12, 5), [(0, 1), (5, 1), (10, 1)]),
            ([], []),
        ],
    )
    def test_neighbours_together(
        self, key: Key, expected: Any, path: Path, reads: list[tuple[int, int]]
    ) -> None:
        patterns = open_patterns(write(path))
        reads.clear()
        np.testing.assert_array_equal(patterns[key], VALUES[key])
        assert reads == expected

    def test_each_chunk_once(self, path: Path, reads: list[tuple[int, int]]) -> None:
        patterns = open_patterns(write(path, chunks=(5, *FRAME)))
        reads.clear()
        patterns[[19, 0, 4, 11, 0, 13]]
        assert reads == [(0, 5), (11, 3), (19, 1)]

    def test_in_pieces_of_whole_chunks(
        self, path: Path, reads: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sources, "READ_BYTES", 8 * PATTERN_BYTES)
        patterns = open_patterns(write(path, chunks=(3, *FRAME)))
        reads.clear()
        patterns[:]
        assert reads == [(0, 6), (6, 6), (12, 6), (18, 2)]

    @pytest.mark.parametrize(
        "options",
        [hdf5plugin.Bitshuffle(), hdf5plugin.Blosc2(), hdf5plugin.Zstd()],
        ids=["bitshuffle", "blosc2", "zstandard"],
    )
    def test_compressed(self, options: Any, path: Path) -> None:
        patterns = open_patterns(write(path, chunks=(4, *FRAME), **options))
        np.testing.assert_array_equal(patterns[[9, 1]], VALUES[[9, 1]])

    def test_files_are_not_changed(self, path: Path) -> None:
        before = write(path).read_bytes()
        with open_patterns(path, bad_pixels=BAD) as patterns:
            patterns[:][...] = 7
        assert path.read_bytes() == before
        assert not patterns.bad_pixels.flags.writeable


class TestCleanValues:
    def test_bad_pixels_are_zero(self, path: Path) -> None:
        patterns = open_patterns(write(path), bad_pixels=BAD)
        np.testing.assert_array_equal(patterns[:], np.where(BAD, 0, VALUES))
        np.testing.assert_array_equal(
            patterns[[3, 3]], np.where(BAD, 0, VALUES[[3, 3]])
        )
        np.testing.assert_array_equal(patterns.read_raw(slice(None)), VALUES)

    def test_not_finite_is_zero_and_negative_stays(self, path: Path) -> None:
        values = VALUES.astype("f8")
        values[2, 0] = np.nan, np.inf, -np.inf, -5
        values[3, 0, 0] = 1e300  # beyond float32
        patterns = open_patterns(write(path, values))
        assert patterns[2][0].tolist() == [0, 0, 0, -5]
        assert patterns[3][0, 0] == 0
        np.testing.assert_array_equal(patterns.read_raw(2), values[2])

    def test_constant_patterns_pass(self, path: Path) -> None:
        values = np.full((3, *FRAME), -3.5)
        patterns = open_patterns(write(path, values))
        np.testing.assert_array_equal(patterns[:], values)
        assert patterns.fingerprint
        assert patterns.describe()

    def test_other_bad_pixels(self, path: Path) -> None:
        patterns = open_patterns(write(path), bad_pixels=BAD)
        other = patterns.with_bad_pixels(~BAD)
        np.testing.assert_array_equal(other[0], np.where(BAD, VALUES[0], 0))
        np.testing.assert_array_equal(patterns[0], np.where(BAD, 0, VALUES[0]))

    def test_bad_pixels_are_copied(self, path: Path) -> None:
        given = BAD.copy()
        patterns = open_patterns(write(path), bad_pixels=given)
        given[...] = True
        np.testing.assert_array_equal(patterns.bad_pixels, BAD)

    @pytest.mark.parametrize(
        ("bad_pixels", "problem"),
        [
            (BAD.T, "has shape (4, 5); expected (5, 4)"),
            (BAD[None], "has shape (1, 5, 4); expected (5, 4)"),
            (BAD.astype(int), "has dtype int64; expected bool, True = leave out"),
            (~np.zeros(FRAME, bool), "leaves out every pixel"),
        ],
    )
    def test_bad_pixels_that_do_not_fit(
        self, bad_pixels: np.ndarray, problem: str, path: Path
    ) -> None:
        error = error_of(write(path), bad_pixels=bad_pixels)
        assert error.path == path
        assert problem in str(error)
        with pytest.raises(PatternsFileError, match="bad_pixels"):
            open_patterns(path).with_bad_pixels(bad_pixels)

    def test_bad_pixels_from_a_file(self, path: Path, tmp_path: Path) -> None:
        np.save(tmp_path / "mask.npy", np.where(BAD, 0, 1))
        patterns = open_patterns(write(path), bad_pixels=f"{tmp_path}/mask.npy == 0")
        np.testing.assert_array_equal(patterns.bad_pixels, BAD)


def write_oddly(path: Path, kind: str) -> None:
    """Write a dataset that lies in the file in a way of its own."""
    with h5py.File(path, "w", userblock_size=512) as file:
        if kind == "compact":
            made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            made.set_layout(h5py.h5d.COMPACT)
            space, number = h5py.h5s.create_simple(VALUES.shape), h5py.h5t.IEEE_F32LE
            found = h5py.h5d.create(file.id, b"patterns", number, space, made)
            h5py.Dataset(found)[:] = VALUES
        elif kind == "12 bits of 16":
            number = h5py.h5t.NATIVE_UINT16.copy()
            number.set_precision(12)
            number.set_offset(4)
            space = h5py.h5s.create_simple(VALUES.shape)
            found = h5py.h5d.create(file.id, b"patterns", number, space)
            h5py.Dataset(found)[:] = VALUES.astype("u2")
        elif kind == "never written":
            file.create_dataset("patterns", VALUES.shape, "f4", fillvalue=7)
        elif kind == "elsewhere":
            raw = [(f"{path}.raw", 0, h5py.h5f.UNLIMITED)]
            file.create_dataset("patterns", data=VALUES, external=raw)
        elif kind == "link":
            write(path.with_suffix(".other"))
            file["patterns"] = h5py.ExternalLink(path.with_suffix(".other"), "patterns")
        else:
            write(path.with_suffix(".other"))
            layout = h5py.VirtualLayout(VALUES.shape, "f4")
            layout[:] = h5py.VirtualSource(
                path.with_suffix(".other"), "patterns", VALUES.shape
            )
            file.create_virtual_dataset("patterns", layout)


class TestContiguous:
    """Plain numbers one after another are read without HDF5, as are all others with."""

    @pytest.mark.parametrize("dtype", ["f4", ">i2"])
    def test_plain_numbers_need_no_library(
        self, dtype: str, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        patterns = open_patterns(write(path, VALUES.astype(dtype)))
        monkeypatch.delattr(DatasetSource, "_read_into")
        raw = patterns.read_raw(slice(None))
        np.testing.assert_array_equal(raw, VALUES.astype(dtype), strict=True)
        np.testing.assert_array_equal(patterns[[7, 2]], VALUES[[7, 2]].astype(dtype))

    @pytest.mark.parametrize(
        "kind",
        ["compact", "12 bits of 16", "never written", "elsewhere", "link", "virtual"],
    )
    def test_whatever_lies_oddly_is_read_all_the_same(
        self, kind: str, path: Path
    ) -> None:
        write_oddly(path, kind)
        patterns = open_patterns(path)
        expected = np.full_like(VALUES, 7) if kind == "never written" else VALUES
        np.testing.assert_array_equal(patterns.read_raw(slice(None)), expected)

    def test_a_file_that_is_cut_is_reported(self, path: Path) -> None:
        patterns = open_patterns(write(path))
        patterns[0]
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size - 100)
        with pytest.raises(PatternsFileError, match="the file ends before"):
            patterns[:]

    def test_closing_leaves_what_is_being_read_alone(self, path: Path) -> None:
        """Or a thread would read from whatever file gets the same descriptor next."""
        patterns = open_patterns(write(path))
        patterns[0]
        (source,) = patterns._stack.sources
        lent = source.lend_descriptor()
        patterns.close()
        out = np.empty_like(VALUES)
        source.contiguous.read_into(out, 0, lent)
        os.close(lent)
        np.testing.assert_array_equal(out, VALUES)

    def test_no_descriptor_is_left_open(self, path: Path) -> None:
        def n_open() -> int:
            return len(list(Path("/proc/self/fd").iterdir()))

        patterns = open_patterns(write(path))
        before = n_open()
        for _ in range(3):
            patterns[:]
            list(patterns.map(len))
            patterns.close()
        assert n_open() == before


class TestFingerprint:
    def test_is_that_of_the_content(self, path: Path, tmp_path: Path) -> None:
        expected = open_patterns(write(path)).fingerprint
        assert len(expected) == 64
        (tmp_path / "moved").mkdir()
        moved = shutil.copy(path, tmp_path / "moved" / "other.h5")
        packed = write(tmp_path / "packed.h5", chunks=(4, *FRAME), compression="gzip")
        same = [moved, packed, write_run(tmp_path)]
        for files in same:
            assert open_patterns(files).fingerprint == expected
        assert open_patterns(path, bad_pixels=BAD).fingerprint == expected

    @pytest.mark.parametrize(
        "other",
        [
            VALUES + 1,
            VALUES[:-1],
            VALUES[::-1],
            VALUES.astype(int),
            VALUES.reshape(N, 4, 5),
        ],
        ids=["values", "length", "order", "dtype", "shape"],
    )
    def test_tells_others_apart(
        self, other: np.ndarray, path: Path, tmp_path: Path
    ) -> None:
        first = open_patterns(write(path)).fingerprint
        assert open_patterns(write(tmp_path / "b.h5", other)).fingerprint != first

    def test_tells_dtypes_of_the_same_bytes_apart(self, tmp_path: Path) -> None:
        found = {
            open_patterns(
                write(tmp_path / dtype, np.zeros((2, 3, 3), dtype))
            ).fingerprint
            for dtype in ("f4", "i4", "u4")
        }
        assert len(found) == 3

    def test_reads_little_of_a_large_stack(
        self, path: Path, reads: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("helpers.patterns.integrity.READ_BYTES", 40 * 32)
        patterns = open_patterns(write(path, np.zeros((300, 2, 2))))
        reads.clear()
        assert patterns.fingerprint == patterns.fingerprint
        assert sum(length for _, length in reads) == 16 + 40

    @pytest.mark.parametrize("packed", [False, True])
    @pytest.mark.parametrize("large", [False, True])
    def test_sees_single_hits_between_blanks(
        self, tmp_path: Path, packed: bool, large: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if large:
            monkeypatch.setattr("helpers.patterns.integrity.READ_BYTES", 1)
        options = {"chunks": (1, 12, 12), "compression": "gzip"} if packed else {}
        found = []
        for hit in (0, 131, 132):
            run = np.zeros((400, 12, 12), np.uint16)
            run[hit, 3:9, 3:9] = np.arange(36).reshape(6, 6)[:: 1 - 2 * (hit % 2)]
            patterns = open_patterns(write(tmp_path / f"{hit}.h5", run, **options))
            found.append(patterns.fingerprint)
        assert len(set(found)) == 3
        assert found[1][:32] == found[2][:32]  # 16 patterns do not tell them apart

    def test_sees_attributes_but_not_when_a_file_was_simulated(
        self, path: Path, tmp_path: Path
    ) -> None:
        first = open_patterns(write(path)).fingerprint
        for name, differs in (("run", True), ("made_at", False)):
            other = write(tmp_path / f"{name}.h5")
            with h5py.File(other, "a") as file:
                file.attrs[name] = "8"
            assert (open_patterns(other).fingerprint != first) == differs

    def test_random_order_is_that_of_older_versions(self, path: Path) -> None:
        patterns = open_patterns(write(path))
        whole = hashlib.sha256(f"{patterns.shape} {patterns.dtype.str}".encode())
        some = np.unique(np.linspace(0, len(patterns) - 1, 16).astype(int))
        for values in patterns.read_raw(some):
            whole.update(values.tobytes())
        before = whole.hexdigest()
        assert patterns.fingerprint[:32] == before[:32]
        order = np.random.default_rng(int(before, 16)).permutation(len(patterns))
        np.testing.assert_array_equal(patterns.shuffled(), order)


class TestFiles:
    def test_wildcards_sort_as_people_do(self, tmp_path: Path) -> None:
        for number in (10, 9, 1):
            write(tmp_path / f"run{number}.h5", VALUES[:number])
        patterns = open_patterns(f"{tmp_path}/run*.h5")
        assert [path.name for path in patterns.files] == [
            "run1.h5",
            "run9.h5",
            "run10.h5",
        ]

    def test_a_list_keeps_its_order(self, tmp_path: Path) -> None:
        paths = write_run(tmp_path)[::-1]
        assert open_patterns(paths).files == tuple(paths)

    def test_relative_wildcard(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_run(tmp_path)
        monkeypatch.chdir(tmp_path)
        assert open_patterns("run?.h5").files[0] == Path("run0.h5")

    def test_a_name_with_brackets_is_a_name(self, tmp_path: Path) -> None:
        path = write(tmp_path / "run[7].h5")
        assert open_patterns(path).files == (path,)

    def test_no_match(self, tmp_path: Path) -> None:
        error = error_of(tmp_path / "*.cxi")
        assert error.path == tmp_path / "*.cxi"
        assert "no file has a name like this" in str(error)

    def test_no_file_named(self) -> None:
        with pytest.raises(ParameterError, match="files is empty"):
            open_patterns([])

    def test_named_twice(self, tmp_path: Path) -> None:
        paths = write_run(tmp_path)
        error = error_of([f"{tmp_path}/*.h5", paths[1]])
        assert error.path == paths[1]
        assert "is named more than once" in str(error)

    def test_different_shapes(self, tmp_path: Path) -> None:
        first = write(tmp_path / "a.h5")
        other = write(tmp_path / "b.h5", VALUES.reshape(N, 4, 5))
        error = error_of([first, other])
        assert error.path == other
        assert f"have shape (4, 5); expected (5, 4) as in {first}" in str(error)

    def test_different_places(self, tmp_path: Path) -> None:
        first = write(tmp_path / "a.h5")
        other = tmp_path / "b.h5"
        with h5py.File(other, "w") as file:
            file["frames"] = VALUES
        error = error_of([first, other])
        assert error.path == other
        assert f"are in /frames; expected /patterns as in {first}" in str(error)

    def test_different_units(self, tmp_path: Path) -> None:
        first = write(tmp_path / "a.h5", VALUES.astype(int))
        unknown = write(tmp_path / "b.h5", VALUES * 0)
        other = write(tmp_path / "c.h5", VALUES * 0.5)
        error = error_of([first, unknown, other])
        assert error.path == other
        assert "are in ADU (fractions were seen" in str(error)
        assert f"but those of {first} in photons" in str(error)
        assert open_patterns([unknown, first]).unit == "photons"

    def test_all_broken_files_are_named(self, tmp_path: Path) -> None:
        first, whole, last = write_run(tmp_path)
        first.write_bytes(b"")
        last.unlink()
        error = error_of([first, whole, last])
        assert error.path == first
        assert error.problems == (
            "is empty (0 bytes); expected an HDF5 file. Copy or write it again.",
            f"it is not the only file that cannot be used; see also {last}.",
        )


class TestWhatFilesSay:
    def write_labelled(self, path: Path, bad: np.ndarray) -> Path:
        with h5py.File(path, "w") as file:
            file["patterns"] = VALUES[:3].astype(int)
            file["labels"] = np.array([1.0, 0, 1])
            file["mask"] = bad.astype("f8")
        return path

    def test_labels_and_masks_of_all_files(self, tmp_path: Path) -> None:
        other = np.zeros(FRAME, bool)
        other[0, 0] = True
        patterns = open_patterns(
            [
                self.write_labelled(tmp_path / "a.h5", BAD),
                write(tmp_path / "b.h5", VALUES[:2].astype(int)),
                self.write_labelled(tmp_path / "c.h5", other),
            ]
        )
        np.testing.assert_array_equal(patterns.bad_pixels, BAD | other)
        assert patterns.recorded_labels is not None
        assert patterns.recorded_labels.tolist() == [
            *("single", "other", "single"),
            *("", ""),
            *("single", "other", "single"),
        ]
        assert patterns.true_labels is None

    def test_bad_pixels_of_a_file_cannot_be_changed(self, path: Path) -> None:
        patterns = open_patterns(self.write_labelled(path, BAD))
        with pytest.raises(ValueError, match="read-only"):
            patterns.bad_pixels[0, 0] = True

    def test_given_bad_pixels_replace_those_of_the_file(self, path: Path) -> None:
        self.write_labelled(path, BAD)
        patterns = open_patterns(path, bad_pixels=np.zeros(FRAME, bool))
        assert not patterns.bad_pixels.any()

    def test_warnings_name_the_caller(self, path: Path) -> None:
        with h5py.File(write(path), "a") as file:
            file["mask"] = BAD.astype("u1")
        with pytest.warns(
            UserWarning, match="which values of /mask mean bad"
        ) as caught:
            patterns = open_patterns(path)
        assert caught[0].filename == __file__
        np.testing.assert_array_equal(patterns.bad_pixels, BAD)
        (unclear,) = patterns.unclear_masks
        np.testing.assert_array_equal(unclear.not_zero, BAD)
        said = open_patterns(path, bad_pixels=f"{path}:/mask == 1")
        np.testing.assert_array_equal(said.bad_pixels, BAD)

    def test_describe_says_what_was_found_and_assumed(self, path: Path) -> None:
        self.write_labelled(path, BAD)
        assert open_patterns(path).describe().splitlines() == [
            "3 patterns of 5 × 4 pixels (rows × columns), recorded as int64, in "
            f"/patterns of {path}.",
            "Layout: Liu Lab.",
            "Unit: photons (assumed: recorded as int64, none negative).",
            "Bad pixels: 2 of 20 (10.0%) are left out "
            "(/mask, whose values != 0 mean bad: 1 = bad).",
            "Labels in the file: 2 single, 1 other.",
        ]

    def test_describe_several_files(self, run: Patterns) -> None:
        first, *_, last = run.files
        text = run.describe()
        assert f"in /patterns of 3 files, {first} to {last}." in text
        assert "(0.0%) are left out (no mask is used)." in text


class TestMeasuredFiles:
    def test_liu_lab(self, real_file: Callable[[str], Path]) -> None:
        patterns = open_patterns(real_file("pr772_30.h5"))
        assert patterns.unit == "photons"
        raw = patterns.read_raw(slice(None))
        assert raw.dtype == np.int64
        np.testing.assert_array_equal(
            patterns[:], np.where(patterns.bad_pixels, 0, raw)
        )

    def test_raw_frames(self, real_file: Callable[[str], Path]) -> None:
        patterns = open_patterns(
            real_file("pnccd_adu_10.h5"),
            bad_pixels=real_file("mask_pnccd_back_260_257.byt"),
        )
        assert patterns.unit == "ADU"
        raw, clean = patterns.read_raw(slice(None)), patterns[:]
        assert np.count_nonzero(np.isinf(raw)) == 2
        kept = np.isfinite(raw) & ~patterns.bad_pixels
        np.testing.assert_array_equal(clean, np.where(kept, raw, 0))
        assert clean.min() < 0

    def test_single_image(self, real_file: Callable[[str], Path]) -> None:
        error = error_of(real_file("minimal.cxi"))
        assert "has shape (50, 100); expected (patterns, rows, columns)" in str(error)


@pytest.mark.parametrize(
    ("name", "runs"),
    [
        ("run12.h5", [12]),
        ("r0012-detector2.h5", [12]),
        ("cxi_r7_run08.cxi", [7, 8]),
        ("myRun12.h5", [12]),
        ("laser5.h5", []),
    ],
)
def test_runs_are_numbered_by_the_names_of_files(name: str, runs: list[int]) -> None:
    assert find_run_numbers(Path("run1") / name) == runs
