"""A small file of each facility's real shape opens as docs/layouts.md says."""

import pickle
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import pytest
import tifffile
from fuzz.seeds import write_emc, write_sparse

from helpers.errors import PatternsFileError
from helpers.labels import read_foreign_labels
from helpers.patterns import LAYOUTS, Patterns, open_patterns
from helpers.patterns.layout_table import EMC
from helpers.simulate import Sample, simulate_patterns

N, ROWS, COLUMNS = 6, 5, 4
FRAME = (ROWS, COLUMNS)
COUNTS = np.random.default_rng(0).poisson(1, (N, *FRAME)).astype("i4")
BAD = np.zeros(FRAME, bool)
BAD[1, 2] = BAD[4, 0] = True
BITS = np.where(BAD, 512, 0).astype("u4")  # of CXI; 0 = good
ENTRY = "/entry_1"
IMAGE = f"{ENTRY}/image_1"
DETECTOR = f"{ENTRY}/instrument_1/detector_1"
TRUTH = [b"single", b"blank", b"single", b"multiple", b"other", b"blank"]
TAGS = [60013864 + 2 * number for number in range(N)]


class Facility(NamedTuple):
    """What a file holds, and what is read from it."""

    content: dict[str, Any]
    unit: str = "photons"
    has_mask: bool = False
    asks: str = ""  # where a mask is whose polarity nobody says


def cheetah(folder: str, mask: str) -> Facility:
    """Return a file of Cheetah, with its patterns in one of several places."""
    content = {
        "cxi_version": 140,
        "/cheetah/event_data/hit": np.ones(N),
        "/LCLS/photon_energy_eV": np.ones(N),
        f"{folder}/data": COUNTS,
        mask: BITS.astype("u2"),
        f"{DETECTOR}/non_assembled/data": COUNTS + 1,
    }
    return Facility(content, has_mask=True)


def small_data(detector: str, **more: Any) -> Facility:
    """Return small data of LCLS: a value for each event of many things."""
    content = {
        "event_time": np.arange(N, dtype="u8") + (1 << 40),
        "fiducials": 3 * np.arange(N),
        "lightStatus/xray": np.ones(N, "i4"),
        "ipm2/channels": np.ones((N, 4)),
        "epix10k/ROI_0_sum": np.ones(N),
        "Sums/epix10k_calib": np.ones(FRAME),
        "UserDataCfg/epix10k/ped": np.ones((3, *FRAME)),
        "UserDataCfg/epix10k/mask": (~BAD).astype("u1"),
        "UserDataCfg/epix10k/cmask": np.ones((7, 7), "u1"),
        detector: COUNTS,
    }
    return Facility(content | more, has_mask=True)


def psocake(kind: str) -> Facility:
    content = {
        f"{DETECTOR}/{kind}": COUNTS,
        f"{ENTRY}/data_1/mask": BITS,
        f"{ENTRY}/result_1/nHits": np.ones(N),
        "/LCLS/eventNumber": np.arange(N),
        "/LCLS/photon_energy_eV": np.ones(N),
    }
    return Facility(content, asks=f"{ENTRY}/data_1/mask")


def singfel(folder: str) -> Facility:
    numbers = (2, 16, 23, 100, 101, 1000)  # as large as they are wide, not as text
    content: dict[str, Any] = {"/params/geom/mask": BITS}
    for number, image in zip(numbers, COUNTS, strict=True):
        group = f"{folder}/{number:07}"
        content |= {f"{group}/data": image, f"{group}/diffr": image / 2}
        content[f"{group}/angle"] = np.zeros(4)
    return Facility(content, asks="/params/geom/mask")


def sacla(*runs: int, detector: int | str = 1) -> Facility:
    content: dict[str, Any] = {}
    for run in runs:
        content[f"run_{run}/event_info/bl_3/lh_1"] = np.zeros(N)
        folder = f"run_{run}/detector_2d_{detector}"
        content[f"{folder}/detector_info/detector_name"] = "MPCCD-8-2-001"
        for tag, image in zip(TAGS, COUNTS, strict=True):
            content[f"{folder}/tag_{tag}/detector_data"] = image
    return Facility(content)


CXI = {"cxi_version": 150, f"{DETECTOR}/data": COUNTS, f"{DETECTOR}/mask": BITS}
FACILITIES = {
    "plain": Facility({"deep/frames": COUNTS}),
    "simulated by this package": Facility(
        {"patterns": COUNTS.astype("f4"), "truth": TRUTH, "mask": BAD.astype("u1")},
        has_mask=True,
    ),
    "Liu Lab": Facility(
        {"patterns": COUNTS.astype("i8"), "labels": np.ones(N), "mask": BAD * 1.0},
        has_mask=True,
    ),
    "CXIDB 58, back detector": Facility(
        {"photonConverter/pnccdBack/photonCount": COUNTS}
    ),
    "CXIDB 58, front detector": Facility(
        {"photonConverter/pnccdFront/photonCount": COUNTS}
    ),
    "older amo86615 export": Facility({"hitClass/adu": COUNTS}, unit="ADU"),
    "CXI": Facility(
        CXI | {f"{ENTRY}/data_1/data": h5py.SoftLink(f"{DETECTOR}/data")}, has_mask=True
    ),
    "CXI, detector": Facility(CXI, has_mask=True),
    "CXI, image": Facility(
        {f"{IMAGE}/data": COUNTS, f"{IMAGE}/mask": BITS}, has_mask=True
    ),
    "Cheetah CXI, image": cheetah(IMAGE, f"{IMAGE}/mask"),
    "Cheetah CXI, detector and photon corrected": cheetah(
        f"{DETECTOR}/detector_and_photon_corrected", f"{DETECTOR}/mask_shared"
    ),
    "Cheetah CXI, detector corrected": cheetah(
        f"{DETECTOR}/detector_corrected", f"{DETECTOR}/mask_shared"
    ),
    "Cheetah CXI, detector": cheetah(DETECTOR, f"{DETECTOR}/mask"),
    "CXIDB 56": Facility(
        {
            f"{IMAGE}/data": COUNTS,
            f"{IMAGE}/mask": BITS,
            f"{IMAGE}/tags": np.zeros((3, N)),
            f"{IMAGE}/model/diameterNM": np.ones(N),
        },
        has_mask=True,
    ),
    "psocake, photons": psocake("photons"),
    "psocake": psocake("data"),
    "EM-classification": Facility(
        {
            f"{IMAGE}/data": COUNTS,
            f"{IMAGE}/mask": BITS,
            f"{IMAGE}/image_center": np.array([2.0, 2, 0]),
            f"{IMAGE}/num_photons": COUNTS.sum(axis=(1, 2)),
        },
        has_mask=True,
    ),
    "Condor": Facility(
        {
            f"{ENTRY}/data_1/data": COUNTS,
            f"{ENTRY}/data_1/mask": np.tile(BITS.astype("u2"), (N, 1, 1)),
            "/particles/particle_00/diameter": np.ones(N),
            "/source/wavelength": np.ones(N),
            "/detector/cx": np.ones(N),
        },
        has_mask=True,
    ),
    "skopi": Facility({"photons": COUNTS}),
    "singfel / SimEx": singfel("/data"),
    "singfel / SimEx, frames at the root": singfel(""),
    "euxfel2013": Facility(
        {f"hit_{number}/image": image for number, image in enumerate(COUNTS)}
    ),
    "SACLA DataConvert": sacla(78692),
    "SACLA DataConvert, assembled": sacla(78692, detector="assembled_1"),
    "LCLS small data": small_data("epix10k/ROI_0_area"),
}
TESTED_BELOW = {
    *("singfel / SimEx, one frame", "NeXus", "Dragonfly, sparse HDF5", EMC.name),
    *("European XFEL hits CXI", "EXtra-data virtual CXI"),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run7.cxi"


def write(path: Path, content: dict[str, Any]) -> Path:
    with h5py.File(path, "w") as file:
        for name, values in content.items():
            file[name] = values
    return path


def check(
    patterns: Patterns, layout: str, bad: np.ndarray | None = None, unit: str = ""
) -> None:
    """Check layout, values, mask and what `describe` says."""
    assert patterns.layout.name == layout
    np.testing.assert_array_equal(patterns.read_raw(slice(None)), COUNTS)
    expected = np.zeros(FRAME, bool) if bad is None else bad
    np.testing.assert_array_equal(patterns.bad_pixels, expected)
    np.testing.assert_array_equal(patterns[:], np.where(expected, 0, COUNTS))
    assert not unit or patterns.unit == unit
    text = patterns.describe()
    assert f"Layout: {layout}." in text
    assert f"Bad pixels: {expected.sum()} of 20" in text
    with warnings.catch_warnings(action="ignore"):
        again = open_patterns(patterns.files, patterns.layout.patterns, expected)
    assert again.fingerprint == patterns.fingerprint  # as the later stages open it


def problem_of(*args: Any, **options: Any) -> str:
    with pytest.raises(PatternsFileError) as caught:
        open_patterns(*args, **options)
    return str(caught.value)


@pytest.mark.parametrize("name", FACILITIES)
def test_file_of_a_facility(name: str, path: Path) -> None:
    facility = FACILITIES[name]
    write(path, facility.content)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        patterns = open_patterns(path)
    undecided = f"do not decide which values of {facility.asks} mean bad"
    asked = [undecided in str(each.message) for each in caught]
    assert asked == ([True] if facility.asks else [])
    has_mask = facility.has_mask or facility.asks
    check(patterns, name, BAD if has_mask else None, facility.unit)
    if facility.asks:
        assert "as its name says" in patterns.describe()
        mask = f"{path}:{facility.asks}"
        with pytest.warns(UserWarning, match="the patterns do not decide"):
            named = open_patterns(path, bad_pixels=mask)
        np.testing.assert_array_equal(named.bad_pixels, BAD)
        said = open_patterns(path, bad_pixels=f"{mask} != 0")
        np.testing.assert_array_equal(said.bad_pixels, BAD)


def test_every_layout_has_a_file_here() -> None:
    names = {layout.name for layout in (*LAYOUTS, EMC)}
    assert names == FACILITIES.keys() | TESTED_BELOW


def test_liu_lab_pr772_study(tmp_path: Path) -> None:
    names = [f"amo86615_{run}_{run}_class_v1.h5" for run in (190, 191)]
    paths = [write(tmp_path / name, {"data/frames": COUNTS}) for name in names]
    (tmp_path / "train_index.dat").write_text(f"{names[0]},0\n{names[1]},5\n")
    (tmp_path / "train_labels.dat").write_text("1\n0\n")
    words = read_foreign_labels(tmp_path, open_patterns(paths))
    assert words.tolist() == ["single", *[""] * (2 * N - 2), "other"]


def test_cheetah_several_images(path: Path) -> None:
    content = {
        "/cheetah/event_data/hit": np.ones(N),
        f"{ENTRY}/image_2/data": COUNTS,
        f"{ENTRY}/image_2/mask": BITS,
        f"{ENTRY}/image_10/data": COUNTS + 1,
        f"{ENTRY}/image_10/mask": BITS * 0,
        f"{ENTRY}/image_1/data": COUNTS[0],  # an average, no stack
    }
    patterns = open_patterns(write(path, content))
    check(patterns, "Cheetah CXI, image", BAD)
    said = "/entry_1/image_2/data was chosen, the first of 2; for another pass dataset="
    assert said in patterns.describe()
    other = open_patterns(path, dataset="/entry_1/image_10/data")
    assert other.layout.name == "Cheetah CXI, image"
    assert not other.bad_pixels.any()
    np.testing.assert_array_equal(other[:], COUNTS + 1)


def test_other_frames_of_singfel(path: Path) -> None:
    write(path, FACILITIES["singfel / SimEx"].content)
    diffr = open_patterns(path, dataset="/data/*/diffr")
    np.testing.assert_array_equal(diffr[:], COUNTS / 2)


def test_singfel_one_frame(path: Path) -> None:
    content = {"/data/data": COUNTS[0], "/data/diffr": COUNTS[0] / 2}
    patterns = open_patterns(write(path, content))
    assert patterns.layout.name == "singfel / SimEx, one frame"
    np.testing.assert_array_equal(patterns[:], COUNTS[:1])
    assert "is a single image: a stack of one pattern" in patterns.describe()


def test_labels_of_euxfel2013(path: Path) -> None:
    codes = {f"hit_{number}/lbl": number % 3 for number in range(1, N)}
    write(path, FACILITIES["euxfel2013"].content | codes)
    with pytest.warns(UserWarning, match="holds 0, 1, 2; the file does not say"):
        patterns = open_patterns(path)
    assert patterns.recorded_labels is None
    words = {0: "single", 1: "no particle", 2: "other"}
    patterns = open_patterns(path, label_words=words)
    assert patterns.recorded_labels is not None
    expected = ["", "no particle", "other", "single", "no particle", "other"]
    assert patterns.recorded_labels.tolist() == expected


def test_codes_of_labels_that_are_given_as_texts_are_told(path: Path) -> None:
    codes = {f"hit_{number}/lbl": number % 3 for number in range(1, N)}
    write(path, FACILITIES["euxfel2013"].content | codes)
    words: Any = {"0": "single"}
    with pytest.warns(UserWarning, match=r"holds 0, 1, 2; expected '0' \(single\)"):
        open_patterns(path, label_words=words)


def test_numbers_of_shots_that_are_no_numbers_are_left_out(path: Path) -> None:
    entry = {"/entry_1/data_1/data": COUNTS, "/entry_1/trainId": np.arange(N)}
    write(path, entry | {"/entry_1/eventNumber": np.array([b"first"] * N)})
    assert list(open_patterns(path).shots) == ["train"]


def test_sacla_with_several_runs_and_tags_of_any_length(path: Path) -> None:
    patterns = open_patterns(write(path, sacla(901, 1202, detector=3).content))
    check(patterns, "SACLA DataConvert")
    assert patterns.shots["tag"].tolist() == TAGS
    assert "/run_901/detector_2d_3/tag_*/detector_data was" in patterns.describe()
    other = "/run_1202/detector_2d_3/tag_*/detector_data"
    assert f"dataset='{other}'" in patterns.describe()
    patterns.close()
    with open_patterns(path, dataset=other) as patterns:
        assert patterns.layout.patterns == other
    with h5py.File(path, "a") as file:
        file["run_901/detector_2d_3/tag_007/detector_data"] = COUNTS[0] + 1
    patterns = open_patterns(path)
    assert patterns.shots["tag"][0] == 7  # by number, not by name
    np.testing.assert_array_equal(patterns.read_raw(0), COUNTS[0] + 1)


def write_nexus(path: Path, way: str) -> Path:
    """Write NeXus as it was said at different times: which dataset is the signal."""
    with h5py.File(path, "w") as file:
        entry, data = file.create_group("scan"), file.create_group("scan/result")
        detector = file.create_group("scan/instrument/eiger")
        entry.attrs["NX_class"], data.attrs["NX_class"] = "NXentry", "NXdata"
        detector.attrs["NX_class"] = np.bytes_("NXdetector")
        detector["counts"] = COUNTS
        detector["pixel_mask"] = BAD.astype("u4") * 2
        detector["flatfield"] = np.ones((2, *FRAME))
        file["scan/other"] = np.zeros((3, 3, 3))
        data["counts"] = h5py.SoftLink("/scan/instrument/eiger/counts")
        data.attrs["axes"] = ["frame_number", "y", "x"]
        if way == "default":
            file.attrs["default"], entry.attrs["default"] = "scan", np.bytes_("result")
        if way == "texts in arrays":
            data.attrs["NX_class"] = np.array([b"NXdata"])
            detector.attrs["NX_class"] = np.array([b"NXdetector"])
            data.attrs["signal"] = np.array([b"counts"])
        elif way == "old":
            detector["counts"].attrs["signal"] = 1
        else:
            data.attrs["signal"] = "counts"
    return path


def test_events_of_small_data_are_kept(path: Path) -> None:
    write(path, small_data("epix10k/calib").content)
    patterns = open_patterns(path)
    np.testing.assert_array_equal(patterns.shots["event"], 3 * np.arange(N))
    write(
        path,
        small_data(
            "jungfrau4M/calib", **{"jungfrau4M/other": np.ones((9, 2, 2))}
        ).content,
    )
    assert open_patterns(path).layout.patterns == "/jungfrau4M/calib"
    assert not open_patterns(path).bad_pixels.any()


def test_small_data_of_several_detectors_asks(path: Path) -> None:
    write(path, small_data("epix10k/calib", **{"rayonix/calib": COUNTS}).content)
    problem = problem_of(path)
    assert "/epix10k/calib (6, 5, 4), /rayonix/calib (6, 5, 4). Pass data" in problem
    chosen = open_patterns(path, dataset="/rayonix/calib")
    np.testing.assert_array_equal(chosen.read_raw(2), COUNTS[2])


def test_small_data_of_modules(path: Path) -> None:
    modules = np.arange(N * 2 * ROWS * COLUMNS).reshape(N, 2, *FRAME)
    write(path, small_data("jungfrau1M/calib", **{"jungfrau1M/calib": modules}).content)
    with pytest.warns(UserWarning, match="2 modules of 5 × 4 pixels are stacked"):
        patterns = open_patterns(path)
    np.testing.assert_array_equal(patterns[3], modules[3].reshape(2 * ROWS, COLUMNS))


@pytest.mark.parametrize("way", ["default", "signal alone", "old", "texts in arrays"])
def test_nexus(way: str, path: Path) -> None:
    patterns = open_patterns(write_nexus(path, way))
    check(patterns, "NeXus", BAD)
    assert patterns.layout.patterns == "/scan/result/counts"


@pytest.mark.parametrize("default", [".", "/", "/scan", "gone"])
def test_a_default_of_nexus_that_leads_to_no_data(default: str, path: Path) -> None:
    with h5py.File(write_nexus(path, "signal alone"), "a") as file:
        file.attrs["default"], file["scan"].attrs["default"] = "scan", default
    assert open_patterns(path).layout.patterns == "/scan/result/counts"


@pytest.mark.parametrize(
    "axes",
    [
        *(["y", "x", "frame"], ["row", "time", "column"], "y:x:event"),
        *(["y", "x", "."], ["slow_axis", "fast_axis", "energy"]),
    ],
)
def test_axes_in_another_order_are_reported(axes: list[str] | str, path: Path) -> None:
    with h5py.File(write_nexus(path, "default"), "a") as file:
        file["scan/result"].attrs["axes"] = axes
    problem = problem_of(path)
    assert "has the axes (" in problem
    assert "expected that axis first" in problem
    assert open_patterns(path, dataset="/scan/other").shape == (3, 3, 3)


def write_array(path: Path, values: np.ndarray) -> Path:
    if path.suffix == ".npz":
        np.savez_compressed(path, energy=np.ones(N), counts=values)
    elif path.suffix == ".npy":
        np.save(path, values)
    else:
        tifffile.imwrite(path, values, photometric="minisblack")
    return path


@pytest.mark.parametrize("dtype", ["u2", "f4", ">i4"])
@pytest.mark.parametrize("ending", [".npy", ".npz", ".tif", ".TIFF"])
def test_arrays_and_images(ending: str, dtype: str, tmp_path: Path) -> None:
    path = write_array(tmp_path / f"run7{ending}", COUNTS.astype(dtype))
    patterns = open_patterns(path)
    check(patterns, "array")
    inside = "counts of " if ending == ".npz" else ""
    assert f", in {inside}{path}." in patterns.describe()
    blocks = [block for _, block in patterns.map(np.copy, length=2)]
    np.testing.assert_array_equal(np.concatenate(blocks), COUNTS)
    np.testing.assert_array_equal(patterns[[4, 0]], COUNTS[[4, 0]])


def write_in_parts(path: Path, signal: str) -> Path:
    """Write a NeXus file as Dectris' detectors do: links to files of some patterns."""
    with h5py.File(path, "w") as file:
        data = file.create_group("entry/data")
        detector = file.create_group("entry/instrument/detector")
        data.attrs["NX_class"], detector.attrs["NX_class"] = "NXdata", "NXdetector"
        detector["detectorSpecific/pixel_mask"] = BAD.astype("u4")
        if signal:
            data.attrs["signal"] = signal
        for number, part in enumerate(np.array_split(COUNTS, [1, 3]), 1):
            name = f"data_{number:06d}"
            write(path.with_name(f"{name}.h5"), {"entry/data/data": part})
            data[name] = h5py.ExternalLink(f"{name}.h5", "/entry/data/data")
    return path


@pytest.mark.parametrize("signal", ["", "data_000001"])
def test_nexus_in_numbered_parts_is_one_stack(signal: str, tmp_path: Path) -> None:
    path = write_in_parts(tmp_path / "master.h5", signal)
    patterns = open_patterns(path)
    check(patterns, "NeXus", BAD)
    for index in ([5, 0, 3], [1, 2], [2, 3]):
        np.testing.assert_array_equal(patterns.read_raw(index), COUNTS[index])
    named = open_patterns(path, dataset="/entry/data/data_*", bad_pixels=~BAD)
    np.testing.assert_array_equal(named.read_raw(slice(None)), COUNTS)
    patterns.close()
    named.close()
    for lost in ("data_000001.h5", "data_000003.h5"):
        (tmp_path / lost).rename(tmp_path / "away.h5")
        assert f"is a link to {lost}:/entry/data/data, which is not" in problem_of(path)
        (tmp_path / "away.h5").rename(tmp_path / lost)


def test_a_shot_without_an_image_is_reported(path: Path) -> None:
    write(path, sacla(7).content)
    with h5py.File(path, "a") as file:
        del file[f"run_7/detector_2d_1/tag_{TAGS[2]}/detector_data"]
    with pytest.warns(UserWarning, match="1 of 6 groups like .* hold no image"):
        patterns = open_patterns(path)
    np.testing.assert_array_equal(patterns[:], np.delete(COUNTS, 2, axis=0))
    assert patterns.shots["tag"].tolist() == [*TAGS[:2], *TAGS[3:]]


def test_a_signal_with_axes_of_length_1_says_how_to_write_it(path: Path) -> None:
    with h5py.File(write_nexus(path, "default"), "a") as file:
        del file["scan/instrument/eiger/counts"], file["scan/other"]
        del file["scan/instrument/eiger/flatfield"]
        file["scan/instrument/eiger/counts"] = COUNTS[:, np.newaxis]
    assert f"write it again as dataset[()].reshape{COUNTS.shape}" in problem_of(path)


@pytest.mark.parametrize("n", [3, 4, 7])
@pytest.mark.parametrize(
    "options",
    [
        {"photometric": "rgb", "planarconfig": "separate"},
        {"photometric": "rgb", "planarconfig": "separate", "compression": "zlib"},
        {"imagej": True},
        {"photometric": "minisblack", "truncate": True},
        {"photometric": "minisblack", "compression": "zlib", "predictor": True},
        {"photometric": "minisblack", "tile": (16, 16)},
        {"photometric": "miniswhite", "byteorder": ">", "bigtiff": True},
        {"photometric": "minisblack", "metadata": None},
        {"photometric": "minisblack", "ome": True},
    ],
    ids=lambda options: " ".join(map(str, options.values())),
)
def test_a_tiff_is_the_same_patterns_however_it_is_written(
    options: dict[str, Any], n: int, tmp_path: Path
) -> None:
    if options.get("planarconfig") and n > 4:
        pytest.skip("of so many planes no program makes a colour")
    values = np.random.default_rng(n).poisson(1, (n, 32, 32)).astype("u2")
    tifffile.imwrite(tmp_path / "run.tif", values, **options)
    patterns = open_patterns(tmp_path / "run.tif")
    np.testing.assert_array_equal(patterns[:], values)
    np.testing.assert_array_equal(patterns[[n - 1, 1]], values[[n - 1, 1]])


def test_a_tiff_written_image_by_image_is_one_stack(tmp_path: Path) -> None:
    path = tmp_path / "run.tif"
    for image in COUNTS:
        tifffile.imwrite(path, image, append=True)
    check(open_patterns(path), "array")
    tifffile.imwrite(path, COUNTS[:2], append=True, photometric="minisblack")
    expected = np.concatenate([COUNTS, COUNTS[:2]])
    np.testing.assert_array_equal(open_patterns(path)[:], expected)
    np.testing.assert_array_equal(open_patterns(path)[[7, 4, 5]], expected[[7, 4, 5]])


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (
            [COUNTS, np.zeros((9, 9), "i4")],
            r"several kinds \(\(6, 5, 4\) int32, \(1, 9",
        ),
        ([COUNTS, COUNTS[0].astype("f4")], "several kinds"),
        ([np.zeros((32, 30, 3), "u1")], r"holds colour images \(32, 30, 3\)"),
        ([np.zeros((2, 32, 30, 4), "u1")], r"holds colour images"),
        ([np.zeros((2, 2, 32, 30), "u1")], r"\(2, 2, 32, 30\) and dtype uint8"),
        ([np.zeros((2, 32, 30), "c8")], "dtype complex64; expected numbers"),
    ],
)
def test_images_that_are_no_patterns_are_reported(
    images: list[np.ndarray], said: str, tmp_path: Path
) -> None:
    for image in images:
        kind = "rgb" if image.dtype == "u1" and image.shape[-1] < 5 else "minisblack"
        tifffile.imwrite(tmp_path / "a.tif", image, append=True, photometric=kind)
    with pytest.raises(PatternsFileError, match=said):
        open_patterns(tmp_path / "a.tif")


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("damage", ["cut", "zeros"])
def test_a_damaged_tiff_never_reads_as_fewer_images(
    compression: str | None, damage: str, tmp_path: Path, capfd: Any
) -> None:
    path = tmp_path / "run.tif"
    values = np.random.default_rng(0).poisson(1, (30, 40, 44)).astype("u2")
    tifffile.imwrite(
        path, values, photometric="minisblack", compression=compression, rowsperstrip=40
    )
    content = path.read_bytes()
    offsets = [page.offset for page in tifffile.TiffFile(path).pages]
    if damage == "cut":
        path.write_bytes(content[: offsets[-4]])
    else:
        path.write_bytes(content[: offsets[9]] + bytes(60) + content[offsets[9] + 60 :])
    if damage == "zeros" and not compression:  # all values are there, one by one
        np.testing.assert_array_equal(open_patterns(path)[:], values)
    else:
        with pytest.raises(PatternsFileError, match="cannot be read"):
            open_patterns(path)[:]
    assert capfd.readouterr().err == ""


def test_a_tag_that_cannot_be_read_does_no_harm_to_a_tiff(
    tmp_path: Path, capfd: Any
) -> None:
    path = tmp_path / "run.tif"
    tag = (65000, "s", 0, "of the detector's own", True)
    tifffile.imwrite(path, COUNTS, photometric="minisblack", extratags=[tag])
    with tifffile.TiffFile(path) as file:
        place = file.pages[0].tags[65000].offset
    content = bytearray(path.read_bytes())
    content[place + 2 : place + 4] = b"\xff\xff"  # no such kind of value
    path.write_bytes(content)
    check(open_patterns(path), "array")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("kind", ["CXI", "plain"])
def test_masks_for_other_patterns_are_told(kind: str, path: Path) -> None:
    folder = f"{ENTRY}/data_1" if kind == "CXI" else ""
    name = "data" if kind == "CXI" else "patterns"
    masks = np.tile(BITS, (N - 2, 1, 1))
    write(path, {f"{folder}/{name}": COUNTS, f"{folder}/mask": masks})
    said = rf"mask has shape \({N - 2}, 5, 4\); expected one mask, or one for each"
    if kind == "CXI":
        with pytest.raises(PatternsFileError, match=said):
            open_patterns(path)
    else:
        with pytest.warns(UserWarning, match=rf"{said} .* not used"):
            assert not open_patterns(path).bad_pixels.any()
    write(path, {f"{folder}/{name}": COUNTS, f"{folder}/mask": masks[:1]})
    with warnings.catch_warnings(action="ignore"):
        np.testing.assert_array_equal(open_patterns(path).bad_pixels, BAD)


@pytest.mark.parametrize("bad_is", [0, 1])
def test_a_mask_beside_an_array_is_used(bad_is: int, tmp_path: Path) -> None:
    row, column = np.indices((40, 36))
    light = 9 / (1 + np.hypot(row - 20, column - 17))
    values = np.random.default_rng(0).poisson(light, (80, 40, 36))
    bad = np.zeros((40, 36), bool)
    bad[18:21] = bad[:, 30] = True
    values[:, bad] = 0
    path = tmp_path / "run.npz"
    np.savez(path, counts=values, mask=np.where(bad, bad_is, 1 - bad_is))
    patterns = open_patterns(path)
    np.testing.assert_array_equal(patterns.bad_pixels, bad)
    assert "as the patterns decide" in patterns.describe()
    assert not open_patterns(path, bad_pixels=~bad).bad_pixels[bad].any()
    named = open_patterns(path, bad_pixels=f"{path}:/mask == {1 - bad_is}")
    np.testing.assert_array_equal(named.bad_pixels, ~bad)
    np.savez(path, counts=values, mask=bad[:-1])
    with pytest.warns(UserWarning, match=r"mask has shape \(39, 36\); .* not used"):
        assert not open_patterns(path).bad_pixels.any()


def test_several_arrays_as_one_stack(tmp_path: Path) -> None:
    files = [write_array(tmp_path / f"{k}.npy", COUNTS + k) for k in range(2)]
    patterns = open_patterns(files)
    np.testing.assert_array_equal(patterns[:], np.concatenate([COUNTS, COUNTS + 1]))
    assert "its patterns are in" in problem_of(
        [write(tmp_path / "a.h5", {"patterns": COUNTS}), files[0]]
    )


def test_one_image_is_a_stack_of_one(tmp_path: Path) -> None:
    patterns = open_patterns(write_array(tmp_path / "one.tif", COUNTS[0]))
    np.testing.assert_array_equal(patterns[:], COUNTS[:1])


def test_arrays_that_are_no_stack_are_reported(tmp_path: Path) -> None:
    path = write_array(tmp_path / "a.npy", COUNTS[0])
    assert "has shape (5, 4) and dtype" in problem_of(path)
    assert "Fortran order" in problem_of(write_array(path, np.asfortranarray(COUNTS)))
    write_array(path, COUNTS).write_bytes(path.read_bytes()[:-30])
    assert f"holds {N - 1} of {N} patterns: it is cut short" in problem_of(path)
    path.write_bytes(b"on tape")
    assert "cannot be read as .npy" in problem_of(path)
    np.save(path, np.array([{}, {}], object), allow_pickle=True)
    assert "expected numbers of shape" in problem_of(path)
    np.savez(tmp_path / "b.npz", a=COUNTS, b=COUNTS)
    assert "holds a (6, 5, 4), b (6, 5, 4)" in problem_of(tmp_path / "b.npz")
    assert open_patterns(tmp_path / "b.npz", dataset="b").layout.patterns == "b"
    problem = problem_of(tmp_path / "b.npz", dataset="c")
    assert "there is no array c; it holds a (6, 5, 4)" in problem
    (tmp_path / "b.npz").write_bytes(b"PK on tape")
    assert "cannot be read as .npz" in problem_of(tmp_path / "b.npz")
    (tmp_path / "c.tif").write_bytes(b"II*\0 on tape")
    assert "cannot be read as .tif" in problem_of(tmp_path / "c.tif")


def test_an_array_that_is_cut_while_it_is_open_is_reported(tmp_path: Path) -> None:
    path = write_array(tmp_path / "a.npy", COUNTS)
    patterns = open_patterns(path)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(PatternsFileError, match="the file ends before"):
        patterns[:]


@pytest.mark.parametrize(
    ("shape", "chunks", "is_told"),
    [
        ((48, 50, 300), None, True),
        ((130, 128, 600), (130, 128, 1), True),
        ((40, 44, 50), (40, 44, 1), True),
        ((300, 48, 50), None, False),
        ((300, 48, 50), (1, 48, 50), False),
        ((40, 44, 50), (40, 44, 50), False),
        ((64, 32, 256), None, False),  # strips of a module
    ],
)
def test_an_axis_order_that_looks_odd_is_reported(
    shape: tuple[int, int, int], chunks: Any, is_told: bool, path: Path
) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("images", shape, "u1", chunks=chunks)[0] = 1
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        open_patterns(path)
    texts = [str(each.message) for each in told if "moveaxis" in str(each.message)]
    assert len(texts) == is_told
    if is_told:
        n, rows, columns = shape
        assert f"read as {n} patterns of {rows} × {columns}" in texts[0]
        assert f"{columns} patterns of {n} × {rows}" in texts[0]


@pytest.mark.parametrize("sample", ["default", "dim"])
@pytest.mark.parametrize("ending", [".h5", ".npy"])
def test_patterns_that_the_last_axis_counts_are_noticed_by_their_values(
    sample: str, ending: str, tmp_path: Path
) -> None:
    found = Sample(photons=2_000, background=300) if sample == "dim" else sample
    counts = simulate_patterns(
        50, 3, sample=found, bad_pixels=np.zeros((44, 40), np.bool_)
    ).patterns
    path, told = tmp_path / f"run{ending}", []
    for values in (counts, np.ascontiguousarray(np.moveaxis(counts, 0, -1))):
        if ending == ".npy":
            np.save(path, values)
        else:
            write(path, {"images": values})
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            open_patterns(path).close()
        told.append([str(each.message) for each in caught])
    assert told[0] == []
    (text,) = told[1]
    assert "read as 44 patterns of 40 × 50. If these are 50 patterns of 44 ×" in text


def test_values_that_should_be_scaled_are_reported(path: Path) -> None:
    write(path, {"images": COUNTS})
    with h5py.File(path, "a") as file:
        file["images"].attrs["scale_factor"] = 0.5
    with pytest.warns(UserWarning, match=r"scale_factor = 0\.5, which is not applied"):
        open_patterns(path)


def test_frames_of_different_shapes(path: Path) -> None:
    write(path, FACILITIES["euxfel2013"].content)
    with h5py.File(path, "a") as file:
        del file["hit_3/image"]
        file["hit_3/image"] = COUNTS[0].T
    problem = problem_of(path)
    assert "found /hit_3/image (4, 5) of int32" in problem
    assert "expected numbers of shape (rows, columns), the same for" in problem


def test_hummingbird_is_asked_for(path: Path) -> None:
    content = {
        f"{ENTRY}/detector_1/data": COUNTS,
        f"{ENTRY}/detector_2/data": COUNTS + 1,
        f"{ENTRY}/result_1/hitscore_litpixel": np.ones(N),
    }
    problem = problem_of(write(path, content))
    assert "its layout is not known" in problem
    assert "Pass dataset='/entry_1/detector_1/data'" in problem
    check(open_patterns(path, "/entry_1/detector_1/data"), "plain")


class TestModules:
    """Detectors of several modules: assembled by positions, or stacked and said so."""

    modules = (4, 6, 3)
    values = np.arange(N * 4 * 6 * 3).reshape(N, *modules).astype("u2")

    def positions(self) -> np.ndarray:
        """Return x, y, z (m) of two by two modules with a gap of two pixels."""
        slow, fast = np.mgrid[:6, :3]
        corners = [(0, 0), (0, 5), (8, 0), (8, 5)]
        y = np.stack([slow + row for row, _ in corners])
        x = np.stack([fast + column for _, column in corners])
        return np.stack([x, y, 0 * x]) * 2e-4

    def image(self, values: np.ndarray, gap: float = 0) -> np.ndarray:
        """Return what two by two modules look like."""
        image = np.full((*values.shape[:-3], 14, 8), gap, values.dtype)
        corners = [(0, 0), (0, 5), (8, 0), (8, 5)]
        for number, (row, column) in enumerate(corners):
            here = (..., slice(row, row + 6), slice(column, column + 3))
            image[here] = values[..., number, :, :]
        return image

    def write_hits(self, path: Path, turned: bool = False, **more: Any) -> Path:
        good = np.ones(self.modules, "u1")
        good[1, 2, 0] = 0
        content = {
            f"{DETECTOR}/data": self.values,
            f"{DETECTOR}/good_pixels": good,
            f"{DETECTOR}/xyz_map": self.positions(),
        }
        if turned:
            content = {name: np.swapaxes(v, -1, -2) for name, v in content.items()}
        links = {f"{ENTRY}/data_1/data": h5py.SoftLink(f"{DETECTOR}/data")}
        return write(path, content | links | more)

    @pytest.mark.parametrize("turned", [False, True])
    def test_european_xfel_hits(self, turned: bool, path: Path) -> None:
        patterns = open_patterns(self.write_hits(path, turned))
        assert patterns.layout.name == "European XFEL hits CXI"
        np.testing.assert_array_equal(
            patterns.read_raw(slice(None)), self.image(self.values)
        )
        bad = self.image(np.zeros(self.modules, bool), gap=True)
        bad[2, 5] = True
        np.testing.assert_array_equal(patterns.bad_pixels, bad)
        text = patterns.describe()
        assert "good_pixels, whose values == 0 mean bad: 1 = good" in text
        assert "4 modules are assembled by /entry_1/instrument_1/detector_1/" in text
        assert "40 in gaps between detector modules" in text

    def test_european_xfel_hits_of_2026(self, path: Path) -> None:
        mask = np.zeros(self.modules, "u4")
        mask[1, 2, 0] = 4
        with h5py.File(self.write_hits(path), "a") as file:
            del file[f"{DETECTOR}/good_pixels"]
            file[f"{DETECTOR}/mask"] = mask
            file["cxi_version"] = 160
        patterns = open_patterns(path)
        assert patterns.layout.name == "CXI"
        assert patterns.bad_pixels[2, 5]
        assert np.count_nonzero(patterns.bad_pixels) == 41
        assert "CXI bits, 0 = good" in patterns.describe()

    def test_positions_of_wrong_shape(self, path: Path) -> None:
        with h5py.File(self.write_hits(path), "a") as file:
            del file[f"{DETECTOR}/xyz_map"]
            file[f"{DETECTOR}/xyz_map"] = self.positions()[:2]
        problem = problem_of(path)
        assert "xyz_map has shape (2, 4, 6, 3); expected (3, 4, 6, 3)" in problem

    @pytest.mark.parametrize("value", [0, np.nan, 1e300])
    def test_impossible_positions(self, value: float, path: Path) -> None:
        positions = self.positions()
        positions[0, 0, 0, 0] = np.nan if value else 0
        positions *= value
        with h5py.File(self.write_hits(path), "a") as file:
            file[f"{DETECTOR}/xyz_map"][...] = positions
        assert "positions that can be those of no detector" in problem_of(path)

    def write_virtual(self, path: Path, gain: bool = False) -> Path:
        values = self.values
        if gain:
            values = np.stack([values, values + 7], axis=2)
        write(path.with_name("raw.h5"), {"image/data": values})
        layout = h5py.VirtualLayout(values.shape, values.dtype)
        layout[:] = h5py.VirtualSource("raw.h5", "image/data", values.shape)
        mask = np.zeros(self.values.shape, "u4")
        mask[:, 1, 2, 0] = 4
        with h5py.File(path, "w") as file:
            file["cxi_version"] = 150
            file[f"{DETECTOR}/mask"] = mask
            file[f"{DETECTOR}/module_identifier"] = np.arange(4)
            file.create_virtual_dataset(f"{DETECTOR}/data", layout)
            file[f"{ENTRY}/data_1/data"] = h5py.SoftLink(f"{DETECTOR}/data")
        return path

    @pytest.mark.parametrize("gain", [False, True])
    def test_extra_data_virtual_cxi(self, gain: bool, path: Path) -> None:
        with pytest.warns(UserWarning, match="stacked, not assembled: the file has no"):
            patterns = open_patterns(self.write_virtual(path, gain))
        assert patterns.layout.name == "EXtra-data virtual CXI"
        assert patterns.shape == (N, 24, 3)
        np.testing.assert_array_equal(
            patterns.read_raw(2), self.values[2].reshape(24, 3)
        )
        assert np.argwhere(patterns.bad_pixels).tolist() == [[8, 0]]
        text = patterns.describe()
        assert "4 modules of 6 × 3 pixels are stacked, the first at the top." in text
        assert ("Of the 2 values of each pixel the first is read" in text) == gain

    def test_one_module_is_an_image(self, path: Path) -> None:
        content = {f"{ENTRY}/data_1/data": COUNTS[:, None]}
        content[f"{ENTRY}/data_1/mask"] = BITS[None]
        check(open_patterns(write(path, content)), "CXI", BAD)

    def test_geometry_without_extra_geom(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "extra_geom", None)
        path.with_name("run.geom").write_text("res = 5000")
        with pytest.warns(UserWarning, match="extra-geom, which is not installed"):
            open_patterns(self.write_virtual(path))

    @pytest.mark.parametrize("turned", [False, True])
    def test_geometry_by_extra_geom(self, turned: bool, path: Path) -> None:
        extra_geom = pytest.importorskip("extra_geom", reason="extra euxfel is absent")
        values = np.random.default_rng(0).poisson(1, (2, 16, 512, 128)).astype("u1")
        geometry = extra_geom.AGIPD_1MGeometry.example()
        geometry.write_crystfel_geom(str(path.with_name("run.geom")))
        stored = np.swapaxes(values, -1, -2) if turned else values
        patterns = open_patterns(write(path, {f"{ENTRY}/data_1/data": stored}))
        expected, _ = geometry.position_modules(values.astype(float))
        gaps = np.isnan(expected[0])
        np.testing.assert_array_equal(patterns.bad_pixels, gaps)
        np.testing.assert_array_equal(patterns[:], np.where(gaps, 0, expected))
        said = f"are assembled{' turned' if turned else ''} by run.geom, read by AGIPD"
        assert said in patterns.describe()


DRAGONFLY_NAMES = {".emc": "Dragonfly .emc", ".h5": "Dragonfly, sparse HDF5"}


class TestDragonfly:
    """Sparse photons, whose shape is said by a person or a detector file."""

    def write(self, folder: Path, ending: str) -> Path:
        path = folder / f"photons{ending}"
        write_photons = write_emc if ending == ".emc" else write_sparse
        write_photons(path, COUNTS)
        return path

    def write_detector(self, path: Path) -> Path:
        """Write a flat detector as Dragonfly makes it: x along the rows' axis."""
        x, y = (a.ravel() - 1.7 for a in np.mgrid[:ROWS, :COLUMNS].astype(float))
        distance, radius = 20.0, 30.0
        norm = np.sqrt(x**2 + y**2 + distance**2)
        qz = radius * (distance / norm - 1)
        mask = np.where(BAD, 2, 0).astype("u1").ravel()
        mask[0] = 1  # good, but not for orientation
        content = {"qx": radius * x / norm, "qy": radius * y / norm, "qz": qz}
        rest = {
            "corr": np.ones(x.size),
            "mask": mask,
            "detd": 20.0,
            "ewald_rad": radius,
        }
        return write(path, content | rest)

    @pytest.mark.parametrize("ending", [".emc", ".h5"])
    def test_shape_as_given(self, ending: str, tmp_path: Path) -> None:
        path = self.write(tmp_path, ending)
        patterns = open_patterns(path, dataset="5x4")
        check(patterns, DRAGONFLY_NAMES[ending], unit="photons")
        text = patterns.describe()
        assert text.startswith("6 patterns of 5 × 4 pixels (rows × columns), recorded")
        assert f"in {path}." in text
        assert "5 rows × 4 columns, as given." in text
        turned = open_patterns(path, dataset="4x5")
        np.testing.assert_array_equal(turned[0].ravel(), COUNTS[0].ravel())

    @pytest.mark.parametrize("ending", [".emc", ".h5"])
    def test_shape_and_mask_by_the_detector_beside(
        self, ending: str, tmp_path: Path
    ) -> None:
        path = self.write(tmp_path, ending)
        self.write_detector(tmp_path / "det_sim.h5")
        patterns = open_patterns(path)
        check(patterns, DRAGONFLY_NAMES[ending], BAD, "photons")
        assert "5 rows × 4 columns by det_sim.h5." in patterns.describe()

    @pytest.mark.parametrize("ending", [".emc", ".h5"])
    def test_detector_file_that_is_named(self, ending: str, tmp_path: Path) -> None:
        detector = self.write_detector(tmp_path / "sub_other.h5")
        patterns = open_patterns(self.write(tmp_path, ending), dataset=str(detector))
        check(patterns, DRAGONFLY_NAMES[ending], BAD)
        assert patterns.layout.patterns == "5x4"

    @pytest.mark.parametrize("ending", [".emc", ".h5"])
    def test_shape_is_never_guessed(self, ending: str, tmp_path: Path) -> None:
        path = self.write(tmp_path, ending)
        problem = problem_of(path)
        assert "have 20 pixels, and it is not known in how many rows" in problem
        assert "dataset='5x4' or dataset='4x5'" in problem
        assert "not 7x4" in problem_of(path, dataset="7x4")
        for name in ("det_a.h5", "det_b.h5"):
            self.write_detector(tmp_path / name)
        assert "2 detector files (*det*.h5) are beside it" in problem_of(path)

    def test_detector_file_that_is_none(self, path: Path, tmp_path: Path) -> None:
        write(path, {"patterns": COUNTS})
        problem = problem_of(self.write(tmp_path, ".emc"), dataset=str(path))
        assert "is no Dragonfly detector of 20 pixels" in problem

    @pytest.mark.parametrize(
        ("integer", "value", "said"),
        [
            (0, -1, "is not a sparse .emc file"),
            (1, 0, "is not a sparse .emc file"),
            (2, 1, "is not a sparse .emc file"),  # dense, as newer versions write it
            (0, N - 1, "integers of 4 bytes; expected"),
            (256, -1, "a negative number of pixels"),
        ],
    )
    def test_emc_that_does_not_add_up(
        self, integer: int, value: int, said: str, tmp_path: Path
    ) -> None:
        path = self.write(tmp_path, ".emc")
        content = np.fromfile(path, "<i4")
        content[integer] = value
        content.tofile(path)
        assert said in problem_of(path, dataset="5x4")

    @pytest.mark.parametrize("ending", [".emc", ".h5"])
    def test_photons_outside_the_detector(self, ending: str, tmp_path: Path) -> None:
        path = self.write(tmp_path, ending)
        if ending == ".emc":
            content = np.fromfile(path, "<i4")
            content[256 + 2 * N] = 99
            content.tofile(path)
        else:
            with h5py.File(path, "a") as file:
                file["place_multi"][0] = np.array([2, -1], "i4")
        patterns = open_patterns(path, dataset="5x4")
        with pytest.raises(PatternsFileError, match="has photons at pixels"):
            patterns[0]

    def test_emc_cut_short(self, tmp_path: Path) -> None:
        path = self.write(tmp_path, ".emc")
        path.write_bytes(path.read_bytes()[:-6])
        with pytest.warns(UserWarning, match="The 5 patterns that are there are read"):
            patterns = open_patterns(path, dataset="5x4")
        np.testing.assert_array_equal(patterns[:], COUNTS[:5])
        path.write_bytes(path.read_bytes()[:1100])
        assert "cannot be told apart" in problem_of(path, dataset="5x4")

    def test_lists_of_different_lengths(self, tmp_path: Path) -> None:
        path = self.write(tmp_path, ".h5")
        with h5py.File(path, "a") as file:
            del file["count_multi"], file["num_pix"]
            file.create_dataset("count_multi", (N - 1,), h5py.vlen_dtype("i4"))
        assert "there is no /num_pix" in problem_of(path)
        with h5py.File(path, "a") as file:
            file["num_pix"] = 20
        assert "expected one length" in problem_of(path, dataset="5x4")


class TestMeasuredFiles:
    def test_singfel(self, real_file: Callable[[str], Path]) -> None:
        path = real_file("diffr_0.2_diffr_out_0000001.h5")
        patterns = open_patterns(path)
        assert "mask has one value for all pixels" in patterns.describe()
        assert patterns.shape == (3, 101, 101)
        assert patterns.layout.name == "singfel / SimEx"
        with h5py.File(path) as file:
            np.testing.assert_array_equal(patterns[1], file["data/0000016/data"])

    def test_file_of_nothing_but_a_version(
        self, real_file: Callable[[str], Path]
    ) -> None:
        problem = problem_of(real_file("diffr_newstyle.h5"))
        assert "its layout is not known" in problem


DOCUMENT = Path(__file__).parents[1] / "docs" / "layouts.md"


class TestDocument:
    def test_every_layout_stands_in_it(self) -> None:
        text = DOCUMENT.read_text("utf-8")
        assert [x.name for x in (*LAYOUTS, EMC) if f"{x.name}" not in text] == []

    def test_every_test_that_it_names_exists(self) -> None:
        named = re.findall(r"`(test_\w+\.py)::([\w:]+)`", DOCUMENT.read_text("utf-8"))
        assert len(named) >= 5
        for file, name in named:
            text = (Path(__file__).parent / file).read_text("utf-8")
            *_, test = name.split("::")
            assert f"def {test}(" in text, (file, name)

    def test_every_source_that_users_have_stands_in_it(self) -> None:
        rows = Path(__file__).parents[2] / "shared" / "LAYOUTS.md"
        if not rows.exists():
            pytest.skip("the list of layouts is not beside the repository")
        table = rows.read_text("utf-8").split("## Input")[1].split("\n\n")[1]
        sources = [row.split("|")[1].split("(")[0] for row in table.splitlines()[2:]]
        text = DOCUMENT.read_text("utf-8")
        assert [x for each in sources if (x := each.strip(" `")) not in text] == []


def test_an_array_file_that_a_worker_does_not_find_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "run.npz", counts=COUNTS)
    packed = pickle.dumps(open_patterns(tmp_path / "run.npz").read_later([0]))
    (tmp_path / "run.npz").unlink()
    with pytest.raises(PatternsFileError, match=r"run\.npz: patterns 0 .*FileNotFound"):
        pickle.loads(packed)()
