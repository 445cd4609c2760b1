"""What HDF5 would read as zeros is told: lost sources and links, files that change."""

import os
import warnings
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from helpers.errors import PatternsFileError
from helpers.patterns import hdf5_opening, open_patterns

N, FRAME = 12, (6, 5)
VALUES = np.random.default_rng(0).poisson(3, (N, *FRAME)).astype("u2") + 1


def write_virtual(path: Path, where: str, sources: list[Path], n: int) -> None:
    """Write a virtual dataset of equal parts, one of each source's `/d`."""
    layout = h5py.VirtualLayout((n * len(sources), *FRAME), "u2")
    for k, source in enumerate(sources):
        part = h5py.VirtualSource(source.name, "/d", (n, *FRAME), "u2")
        layout[k * n : (k + 1) * n] = part
    with h5py.File(path, "a") as file:
        file.create_virtual_dataset(where, layout, fillvalue=0)


@pytest.fixture
def sources(tmp_path: Path) -> list[Path]:
    """Three files of four patterns, compressed as detectors write them."""
    paths = [tmp_path / f"s{k}.h5" for k in range(3)]
    for path, values in zip(paths, np.split(VALUES, 3), strict=True):
        with h5py.File(path, "w") as file:
            file.create_dataset("d", data=values, chunks=(1, *FRAME), compression=1)
    return paths


def lose(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def rename(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file.move("d", "e")


def shorten(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["d"] = VALUES[:3]


def archive(path: Path) -> None:
    path.write_text("on tape")


def nest(path: Path) -> None:
    """Make the source virtual itself; its own source is gone."""
    path.unlink()
    write_virtual(path, "/d", [path.with_name("gone.h5")], 4)


def circle(path: Path) -> None:
    path.unlink()
    write_virtual(path, "/d", [path], 4)


BREAKS = {
    lose: "source files are missing: s1.h5",
    empty: "s1.h5: is empty",
    cut: "s1.h5",
    rename: "s1.h5:/d is not there",
    shorten: "s1.h5:/d has shape (3, 6, 5); (4, 6, 5) is wanted",
    archive: "s1.h5: is not an HDF5 file",
    nest: "s1.h5:/d is a virtual dataset whose source files are missing: gone.h5",
    circle: "s1.h5:/d leads back to itself",
}


def problem_of(path: Path) -> str:
    with pytest.raises(PatternsFileError) as caught:
        open_patterns(path)
    assert caught.value.path == path
    return str(caught.value)


@pytest.mark.parametrize("damage", BREAKS, ids=lambda damage: damage.__name__)
def test_a_source_that_cannot_give_its_part_is_named(
    damage: Callable[[Path], None], sources: list[Path], tmp_path: Path
) -> None:
    path = tmp_path / "run.h5"
    write_virtual(path, "/patterns", sources, 4)
    with open_patterns(path) as patterns:
        np.testing.assert_array_equal(patterns[:], VALUES)
    damage(sources[1])
    assert BREAKS[damage] in problem_of(path)
    outer = tmp_path / "outer.h5"
    layout = h5py.VirtualLayout((N, *FRAME), "u2")
    layout[:] = h5py.VirtualSource("run.h5", "/patterns", (N, *FRAME), "u2")
    with h5py.File(outer, "w") as file:
        file.create_virtual_dataset("patterns", layout)
    problem = problem_of(outer)
    assert "run.h5:/patterns is a virtual dataset" in problem
    assert "s1.h5" in problem


@pytest.mark.parametrize("part", [slice(2, 6), slice(0, 8, 2), slice(None)])
def test_parts_of_sources_that_are_there_are_read(part: slice, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file["d"] = VALUES
    taken = VALUES[part]
    layout = h5py.VirtualLayout(taken.shape, "u2")
    layout[:] = h5py.VirtualSource("s.h5", "/d", VALUES.shape, "u2")[part]
    with h5py.File(tmp_path / "run.h5", "w") as file:
        file.create_virtual_dataset("patterns", layout)
    with open_patterns(tmp_path / "run.h5") as patterns:
        np.testing.assert_array_equal(patterns[:], taken)


MASK, SHOTS = "/entry_1/data_1/mask", "/entry_1/eventNumber"
DATA = "/entry_1/data_1/data"


@pytest.mark.parametrize("where", [MASK, SHOTS])
@pytest.mark.parametrize(
    "link",
    [
        h5py.ExternalLink("gone.h5", "/x"),
        h5py.ExternalLink("here.h5", "/x"),
        h5py.SoftLink("/nowhere"),
    ],
    ids=["no file", "no dataset", "soft"],
)
def test_a_link_beside_the_patterns_that_leads_nowhere_is_named(
    where: str, link: object, tmp_path: Path
) -> None:
    h5py.File(tmp_path / "here.h5", "w").close()
    path = tmp_path / "run.cxi"
    with h5py.File(path, "w") as file:
        file[DATA] = VALUES
        file[where] = link
    problem = problem_of(path)
    assert f"{where} is a link to " in problem
    assert "which is not there" in problem
    if where == MASK:  # other bad pixels are given: nobody asks for the mask
        bad = np.zeros(FRAME, bool)
        assert not open_patterns(path, bad_pixels=bad).bad_pixels.any()


@pytest.mark.parametrize("where", [MASK, DATA])
def test_a_group_on_the_way_that_is_lost_is_named(where: str, tmp_path: Path) -> None:
    path = tmp_path / "run.cxi"
    with h5py.File(path, "w") as file:
        file["/entry_1/detector/data"] = VALUES
        file["/entry_1/data_1"] = h5py.SoftLink("/entry_1/detector")
        file["/entry_1/detector/mask"] = h5py.ExternalLink("gone.h5", "/mask")
    assert "/mask is a link to gone.h5:/mask, which is not there" in problem_of(path)


def test_a_mask_whose_virtual_source_is_gone_is_never_read_as_good(
    tmp_path: Path,
) -> None:
    path = tmp_path / "run.cxi"
    layout = h5py.VirtualLayout(FRAME, "u4")
    layout[:] = h5py.VirtualSource("m.h5", "/mask", FRAME, "u4")
    with h5py.File(path, "w") as file:
        file[DATA] = VALUES
        file.create_virtual_dataset(MASK, layout, fillvalue=0)
    assert f"{MASK} is a virtual dataset whose source files are missing: m.h5" in (
        problem_of(path)
    )
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file["mask"] = np.eye(*FRAME, dtype="u4")
    assert open_patterns(path).bad_pixels.sum() == min(FRAME)


def test_truth_and_labels_whose_source_is_gone_are_reported(tmp_path: Path) -> None:
    for name in ("truth", "labels"):
        path = tmp_path / f"{name}.h5"
        with h5py.File(path, "w") as file:
            file["patterns"] = VALUES
            file["mask"] = np.zeros(FRAME, "u1")
            layout = h5py.VirtualLayout((N,), "f8" if name == "labels" else "S8")
            layout[:] = h5py.VirtualSource("t.h5", "/t", (N,), layout.dtype)
            file.create_virtual_dataset(name, layout)
        assert f"/{name} is a virtual dataset whose source" in problem_of(path)


def test_a_file_that_changes_while_it_is_open_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    with h5py.File(path, "w") as file:
        file["patterns"] = VALUES
    patterns = open_patterns(path)
    patterns.check_unchanged()
    size = path.stat().st_size
    os.truncate(path, size - 100)
    with pytest.raises(
        PatternsFileError, match=rf"{size - 100:,} bytes; it had {size:,}"
    ):
        patterns.check_unchanged()
    with pytest.raises(PatternsFileError, match="the file ends before"):
        list(patterns.map(np.sum))
    path.unlink()
    with pytest.raises(PatternsFileError, match="when it was opened"):
        patterns.check_unchanged()


@pytest.mark.parametrize("nested", [False, True])
def test_a_source_that_is_cut_while_the_run_is_open_is_reported(
    nested: bool, sources: list[Path], tmp_path: Path
) -> None:
    write_virtual(tmp_path / "run.h5", "/d", sources, 4)
    path = tmp_path / "run.h5"
    if nested:
        path = tmp_path / "outer.h5"
        layout = h5py.VirtualLayout((N, *FRAME), "u2")
        layout[:] = h5py.VirtualSource("run.h5", "/d", (N, *FRAME), "u2")
        with h5py.File(path, "w") as file:
            file.create_virtual_dataset("patterns", layout)
    patterns = open_patterns(path)
    patterns.check_unchanged()
    cut(sources[2])
    with pytest.raises(PatternsFileError, match="bytes; it had") as caught:
        patterns.check_unchanged()
    assert caught.value.path == sources[2]


@pytest.mark.parametrize("name", ["mask", "bad_pixels", "good_map"])
def test_a_link_to_a_mask_beside_any_patterns_that_leads_nowhere_is_named(
    name: str, tmp_path: Path
) -> None:
    with h5py.File(tmp_path / "run.h5", "w") as file:
        file["patterns"] = VALUES
        file[name] = h5py.ExternalLink("gone.h5", "/x")
    assert f"/{name} is a link to gone.h5:/x, which is not there" in problem_of(
        tmp_path / "run.h5"
    )
    with open_patterns(tmp_path / "run.h5", bad_pixels=np.zeros(FRAME, bool)) as found:
        assert len(found) == N


def test_a_mask_of_another_file_that_changes_is_reported(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file["x"] = np.zeros(FRAME, "u4")
    with h5py.File(tmp_path / "run.cxi", "w") as file:
        file[DATA] = VALUES
        file[MASK] = h5py.ExternalLink("m.h5", "/x")
    patterns = open_patterns(tmp_path / "run.cxi")
    patterns.check_unchanged()
    (tmp_path / "m.h5").unlink()
    with pytest.raises(PatternsFileError, match="when it was opened"):
        patterns.check_unchanged()


def test_a_file_that_is_written_again_counts_by_its_values(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"

    def write(values: np.ndarray, later: int) -> None:
        path.unlink(missing_ok=True)
        with h5py.File(path, "w") as file:
            file["patterns"] = values
        os.utime(path, ns=(later, later))

    write(VALUES, 10**18)
    patterns = open_patterns(path)
    assert patterns.fingerprint
    write(VALUES, 2 * 10**18)
    patterns.check_unchanged()
    write(VALUES[::-1], 3 * 10**18)
    with pytest.raises(PatternsFileError, match="was written again after"):
        patterns.check_unchanged()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="locks of another system")
def test_reading_needs_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    import fcntl

    path = tmp_path / "run.h5"
    with h5py.File(path, "w") as file:
        file["patterns"] = VALUES
    monkeypatch.setattr(hdf5_opening, "has_writer", lambda _: False)
    with path.open("r+b") as locked:
        fcntl.flock(locked, fcntl.LOCK_EX)  # as on a disk that gives no lock
        with open_patterns(path) as patterns:
            np.testing.assert_array_equal(patterns[:], VALUES)
    assert not [each for each in recwarn if "being written" in str(each.message)]


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="there is no /proc/locks")
def test_a_lock_of_a_writer_is_seen(tmp_path: Path) -> None:
    import fcntl

    path = tmp_path / "run.h5"
    path.write_bytes(b"x")
    assert not hdf5_opening.has_writer(path)
    with path.open("r+b") as locked:
        fcntl.flock(locked, fcntl.LOCK_EX)
        assert hdf5_opening.has_writer(path)


@pytest.mark.parametrize("shape", [(N, 1, *FRAME), (N, *FRAME, 1), (N, 1, 1, *FRAME)])
def test_axes_of_length_1_are_reported_with_what_to_do(
    shape: tuple[int, ...], tmp_path: Path
) -> None:
    with h5py.File(tmp_path / "run.h5", "w") as file:
        file["patterns"] = VALUES.reshape(shape)
    problem = problem_of(tmp_path / "run.h5")
    assert f"write it again as dataset[()].reshape{VALUES.shape}" in problem


def test_a_user_may_open_the_file_too(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "run.h5", "w") as file:
        file["patterns"] = VALUES
    with open_patterns(tmp_path / "run.h5") as patterns:
        patterns[0]
        with h5py.File(tmp_path / "run.h5") as file:
            np.testing.assert_array_equal(file["patterns"][3], patterns[3])


@pytest.mark.parametrize("nested", [False, True])
def test_values_in_a_raw_file_are_all_there_or_told(
    nested: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # HDF5 looks for such files from here
    raw, path = tmp_path / "raw.bin", tmp_path / "run.h5"
    VALUES.tofile(raw)
    with h5py.File(path, "w") as file:
        outside = [(raw.name, 0, VALUES.nbytes)]
        file.create_dataset("d", VALUES.shape, VALUES.dtype, external=outside)
    if nested:
        path = tmp_path / "outer.h5"
        write_virtual(path, "/patterns", [tmp_path / "run.h5"], N)
    with open_patterns(path) as patterns:
        np.testing.assert_array_equal(patterns[:], VALUES)
    os.truncate(raw, VALUES.nbytes // 2)
    assert f"raw.bin, which has {VALUES.nbytes // 2} of {VALUES.nbytes}" in problem_of(
        path
    )
    raw.unlink()
    assert "takes its values from raw.bin, which is not there" in problem_of(path)


@pytest.mark.parametrize("step", [1, 3])
def test_patterns_without_a_source_were_never_written(
    step: int, sources: list[Path], tmp_path: Path
) -> None:
    layout = h5py.VirtualLayout((N, *FRAME), "u2")
    layout[: 4 * step : step] = h5py.VirtualSource("s0.h5", "/d", (4, *FRAME), "u2")
    with h5py.File(tmp_path / "run.h5", "w") as file:
        file.create_virtual_dataset("patterns", layout, fillvalue=0)
    with open_patterns(tmp_path / "run.h5") as patterns:
        unwritten = np.flatnonzero(patterns.find_unwritten())
        read = patterns[:]
    there = np.arange(0, 4 * step, step)
    np.testing.assert_array_equal(unwritten, np.delete(np.arange(N), there))
    np.testing.assert_array_equal(read[there], VALUES[:4])
    whole = tmp_path / "whole.h5"
    write_virtual(whole, "/patterns", sources, 4)
    with open_patterns(whole) as patterns:
        assert not patterns.find_unwritten().any()


@pytest.mark.parametrize("inside", [True, False])
def test_values_that_lie_outside_of_the_folder_are_reported(
    inside: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / "run.h5"
    values = path.parent / "run.bin" if inside else tmp_path / "secret.bin"
    counts = np.random.default_rng(0).poisson(1.0, (10, 6, 5)).astype("f4")
    counts.tofile(values)
    monkeypatch.chdir(path.parent)
    with h5py.File(path, "w") as file:
        name = "run.bin" if inside else str(values)
        file.create_dataset(
            "patterns", counts.shape, "f4", external=[(name, 0, counts.nbytes)]
        )
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        patterns = open_patterns(path)
    assert np.array_equal(patterns[:], counts)
    said = [
        str(each.message) for each in told if "takes its values" in str(each.message)
    ]
    assert [str(values) in each for each in said] == [True] * (not inside)


def test_source_whose_values_lie_outside_of_its_folder_is_refused(
    tmp_path: Path,
) -> None:
    (tmp_path / "data").mkdir()
    secret = tmp_path / "secret.bin"
    secret.write_bytes(bytes(1200))
    with h5py.File(tmp_path / "data" / "source.h5", "w") as file:
        file.create_dataset("d", (10, 6, 5), "f4", external=[(str(secret), 0, 1200)])
    with h5py.File(tmp_path / "data" / "run.h5", "w") as file:
        layout = h5py.VirtualLayout((10, 6, 5), "f4")
        layout[:] = h5py.VirtualSource("source.h5", "d", (10, 6, 5))
        file.create_virtual_dataset("patterns", layout)
    with pytest.raises(PatternsFileError, match=r"takes its values from .*secret.bin"):
        open_patterns(tmp_path / "data" / "run.h5")


@pytest.mark.parametrize("kind", ["plain", "NeXus", "NeXus in parts"])
def test_patterns_in_a_group_of_another_file_are_found(
    kind: str, tmp_path: Path
) -> None:
    with h5py.File(tmp_path / "far.h5", "w") as file:
        group = file.create_group("scan/first")
        name = "data_000001" if kind == "NeXus in parts" else "counts"
        group[name] = VALUES
        if kind != "plain":
            group.attrs["NX_class"] = "NXdata"
        if kind == "NeXus":
            group.attrs["signal"] = name
    with h5py.File(tmp_path / "run.h5", "w") as file:
        file["entry"] = h5py.ExternalLink("far.h5", "/scan")
        file["entry_too"] = np.zeros(3)
    with open_patterns(tmp_path / "run.h5") as patterns:
        np.testing.assert_array_equal(patterns.read_raw(slice(None)), VALUES)
        assert patterns.layout.name == kind.removesuffix(" in parts")


def test_masks_for_each_pattern_in_another_file_are_used(tmp_path: Path) -> None:
    masks = np.zeros((N, *FRAME), "u4")
    masks[:, 0], masks[3, 2:4] = 1, 4
    with h5py.File(tmp_path / "masks.h5", "w") as file:
        file["of/each"] = masks
    with h5py.File(tmp_path / "run.cxi", "w") as file:
        file["entry_1/data_1/data"] = VALUES
        file["entry_1/data_1/mask"] = h5py.ExternalLink("masks.h5", "/of/each")
    with open_patterns(tmp_path / "run.cxi") as patterns:
        np.testing.assert_array_equal(patterns[:] == 0, masks != 0)


def test_a_file_of_a_part_that_is_cut_while_the_run_is_open_is_reported(
    tmp_path: Path, sources: list[Path]
) -> None:
    with h5py.File(tmp_path / "master.h5", "w") as file:
        for number, source in enumerate(sources):
            file[f"data/data_{number:06}"] = h5py.ExternalLink(source.name, "/d")
        file["data"].attrs["NX_class"] = "NXdata"
    patterns = open_patterns(tmp_path / "master.h5")
    np.testing.assert_array_equal(patterns.read_raw(slice(None)), VALUES)
    patterns.check_unchanged()
    patterns.close()
    cut(sources[1])
    with pytest.raises(PatternsFileError, match=r"s1\.h5: has .* when it was opened"):
        patterns.check_unchanged()
