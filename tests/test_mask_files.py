"""Masks that a person names: of neighbouring programs, and of unsaid polarity."""

import warnings

import h5py
import numpy as np
import pytest
import tifffile

from helpers import handoff
from helpers.errors import PatternsFileError
from helpers.patterns import open_patterns, read_bad_pixels
from helpers.physics import make_geometry
from helpers.simulate import Sample, simulate_patterns

SHAPE = (64, 62)
ROW, COLUMN = np.indices(SHAPE)
BAD = (abs(ROW - 30) < 2) | (COLUMN == 50)
COUNTS = simulate_patterns(
    60, 3, sample=Sample(photons=12_000, background=300), bad_pixels=BAD
).patterns


@pytest.fixture
def run(tmp_path):
    with h5py.File(tmp_path / "run.h5", "w") as file:
        file["patterns"] = COUNTS
    return tmp_path / "run.h5"


def write_detector(path, mask):
    """Write a detector as Dragonfly does: one value for each pixel, row by row."""
    with h5py.File(path, "w") as file:
        for name, values in (("qx", ROW), ("qy", COLUMN), ("qz", 0 * ROW)):
            file[name] = values.ravel() / 100.0
        file["corr"] = np.ones(mask.size)
        file["mask"] = mask.ravel().astype("u1")
        file["detd"], file["ewald_rad"] = 500.0, 1000.0


@pytest.mark.parametrize("named", ["{}", "{}:/mask"])
def test_the_mask_of_a_detector_of_dragonfly(run, tmp_path, named):
    mask = np.where(BAD, 2, ROW < 5)  # 1: good, but not for the orientation
    write_detector(tmp_path / "det.h5", mask)
    patterns = open_patterns(run, bad_pixels=named.format(tmp_path / "det.h5"))
    np.testing.assert_array_equal(patterns.bad_pixels, BAD)
    assert "Dragonfly" in patterns.describe()


@pytest.mark.parametrize("head", ["{n}", "{n} 500.0 1000.0"])
def test_the_mask_of_a_detector_as_text(run, tmp_path, head):
    mask = np.where(BAD, 2, ROW < 5).ravel()
    rows = [f"0.1 {i / 100} 0 1.0 {value}" for i, value in enumerate(mask)]
    lines = [head.format(n=mask.size), *rows]
    (tmp_path / "det.dat").write_text("\n".join(lines) + "\n")
    patterns = open_patterns(run, bad_pixels=tmp_path / "det.dat")
    np.testing.assert_array_equal(patterns.bad_pixels, BAD)


def test_the_detector_that_this_project_hands_on(run, tmp_path):
    patterns = open_patterns(run, bad_pixels=BAD)
    chosen = handoff.select_patterns(np.ones(60, "f4"), 0.5, np.full(60, ""))
    geometry = make_geometry((32.0, 31.0), 75.0, 100.0, 0.8, "none")
    files = handoff.write_handoff(tmp_path, "emc", patterns, chosen, geometry=geometry)
    (detector,) = (path for path in files if path.name == "detector.h5")
    again = open_patterns(run, bad_pixels=detector)
    np.testing.assert_array_equal(again.bad_pixels, BAD)


def test_a_detector_of_other_pixels_is_refused(run, tmp_path):
    write_detector(tmp_path / "det.h5", np.zeros((64, 61), int))
    with pytest.raises(PatternsFileError, match=r"has shape \(3904,\); expected"):
        open_patterns(run, bad_pixels=tmp_path / "det.h5")


def test_an_hdf5_file_with_one_array_that_fits(run, tmp_path):
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file["entry/good_pixels"] = (~BAD).astype("u1")
        file["other"] = np.zeros(7)
    patterns = open_patterns(run, bad_pixels=tmp_path / "m.h5")
    np.testing.assert_array_equal(patterns.bad_pixels, BAD)
    with h5py.File(tmp_path / "m.h5", "a") as file:
        file["entry/more"] = BAD.astype("u1")
    with pytest.raises(PatternsFileError, match=r"holds 2 datasets of shape .* Say wh"):
        open_patterns(run, bad_pixels=tmp_path / "m.h5")


@pytest.mark.parametrize("name", ["mask.npy", "good_pixels.npy"])
@pytest.mark.parametrize("bad_is", [0, 1])
def test_the_patterns_decide_what_a_named_mask_means(run, tmp_path, name, bad_is):
    np.save(tmp_path / name, np.where(BAD, bad_is, 1 - bad_is))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        patterns = open_patterns(run, bad_pixels=tmp_path / name)
    np.testing.assert_array_equal(patterns.bad_pixels, BAD)
    assert "as the patterns decide" in patterns.describe()
    assert patterns.unclear_masks == ()


@pytest.mark.parametrize(
    ("name", "bad_is"), [("mask.npy", 1), ("bad.npy", 1), ("good_ones.npy", 0)]
)
def test_where_they_do_not_its_name_does(run, tmp_path, name, bad_is):
    half = np.roll(ROW < 20, 30, axis=1)  # what nothing in the patterns speaks for
    np.save(tmp_path / name, np.where(half, bad_is, 1 - bad_is))
    other = "== 0" if bad_is else "!= 0"
    with pytest.warns(UserWarning, match=f"do not decide .* {other}'") as caught:
        patterns = open_patterns(run, bad_pixels=tmp_path / name)
    assert caught[0].filename == __file__
    np.testing.assert_array_equal(patterns.bad_pixels, half)
    (unclear,) = patterns.unclear_masks
    np.testing.assert_array_equal(unclear.not_zero, half if bad_is else ~half)


PANELS = """
photon_energy = 9000
adu_per_photon = 1
res = 13333   ; pixels per metre
data = /patterns
dim0 = %
dim1 = ss
dim2 = fs
rigid_group_all = top,low
top/min_fs = 0
top/max_fs = 61
top/min_ss = 0
top/max_ss = 31
top/corner_x = -31
top/corner_y = 0.5
top/fs = +x
top/ss = -1.0y
low/min_fs = 0
low/max_fs = 61
low/min_ss = 34
low/max_ss = 63
low/corner_x = 31
low/corner_y = -2
low/fs = -0.999999x +0.000001y
low/ss = y
"""
IN_NO_PANEL = (ROW == 32) | (ROW == 33)


def open_by_geometry(run, text):
    path = run.parent / "detector.geom"
    path.write_text(PANELS + text)
    return open_patterns(run, bad_pixels=path).bad_pixels


def test_bad_regions_in_the_data(run):
    text = """
    badstripe/min_fs = 10
    badstripe/max_fs = 12 ; inclusive
    badstripe/min_ss = 0
    badstripe/max_ss = 63
    badhalf/min_fs = 40
    badhalf/max_fs = 41
    badhalf/min_ss = 0
    badhalf/max_ss = 63
    badhalf/panel = low
    """
    expected = IN_NO_PANEL | ((COLUMN >= 10) & (COLUMN <= 12))
    expected |= (COLUMN >= 40) & (COLUMN <= 41) & (ROW >= 34)
    np.testing.assert_array_equal(open_by_geometry(run, text), expected)


def test_bad_regions_in_the_laboratory(run):
    text = """
    badbeam/min_x = -5
    badbeam/max_x = 5
    badbeam/min_y = -4
    badbeam/max_y = 0.6
    """
    x, y = -31 + COLUMN, 0.5 - ROW
    expected = (ROW < 32) & (abs(x) <= 5) & (y >= -4) & (y <= 0.6)
    x, y = 31 - 0.999999 * COLUMN, -2 + ROW - 34 + 1e-6 * COLUMN
    expected |= (ROW >= 34) & (abs(x) <= 5) & (y >= -4) & (y <= 0.6)
    found = open_by_geometry(run, text)
    np.testing.assert_array_equal(found, expected | IN_NO_PANEL)


def test_a_panel_that_is_not_used(run):
    found = open_by_geometry(run, "low/no_index = 1\n")
    np.testing.assert_array_equal(found, ROW >= 32)


@pytest.mark.parametrize(
    ("said", "bad"),
    [
        ("mask = /m\nmask_file = m.h5\nmask_bad = 0x5\nmask_good = 0x0", [1, 4, 5]),
        ("mask = /m\nmask_file = m.h5\nmask_good = 0x2\nmask_bad = 0x0", [0, 1, 4, 5]),
        ("mask = /m\nmask_file = m.h5", [1, 2, 4, 5]),
        ("mask0_data = /m\nmask0_file = m.h5\nmask0_badbits = 4", [4, 5]),
    ],
)
def test_the_mask_that_a_geometry_names(run, said, bad):
    words = np.choose(COLUMN % 5, [0, 1, 2, 4, 5])
    with h5py.File(run.parent / "m.h5", "w") as file:
        file["m"] = words
    path = run.parent / "detector.geom"
    path.write_text(said + PANELS)
    found = open_patterns(run, bad_pixels=path).bad_pixels
    np.testing.assert_array_equal(found, IN_NO_PANEL | np.isin(words, bad))


def test_a_geometry_of_modules(tmp_path):
    rng = np.random.default_rng(0)
    with h5py.File(tmp_path / "run.cxi", "w") as file:
        file["entry_1/data_1/data"] = rng.poisson(2, (5, 2, 20, 30))
    text = "".join(
        f"p{n}/dim0 = %\np{n}/dim1 = {n}\np{n}/dim2 = ss\np{n}/dim3 = fs\n"
        f"p{n}/min_fs = 0\np{n}/max_fs = 29\np{n}/min_ss = 0\np{n}/max_ss = 19\n"
        for n in range(2)
    )
    text += "bad0/min_fs=3\nbad0/max_fs=4\nbad0/min_ss=5\nbad0/max_ss=6\nbad0/panel=p1"
    place = tmp_path / "elsewhere" / "mask.geom"  # not beside: it assembles nothing
    place.parent.mkdir()
    place.write_text(text)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # modules are stacked
        patterns = open_patterns(tmp_path / "run.cxi", bad_pixels=place)
    expected = np.zeros((40, 30), bool)
    expected[25:27, 3:5] = True
    np.testing.assert_array_equal(patterns.bad_pixels, expected)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nothing here", "names no panel"),
        ("a/min_fs = 0\n", "a lacks max_fs, min_ss, max_ss"),
        ("a/min_fs=0\na/max_fs=70\na/min_ss=0\na/max_ss=9", "reaches to ss 9, fs 70"),
        ("a/min_fs=0\na/max_fs=x\na/min_ss=0\na/max_ss=9", "could not convert"),
        ("a/min_fs=0\na/max_fs=inf\na/min_ss=0\na/max_ss=9", "cannot convert"),
        (PANELS + "bad/min_x = 1\n", "bad region lacks max_x, min_y, max_y"),
        (
            "a/min_fs=0\na/max_fs=9\na/min_ss=0\na/max_ss=9\n"
            "bad/min_x=1\nbad/max_x=2\nbad/min_y=1\nbad/max_y=2",
            "a lacks corner_x, corner_y",
        ),
    ],
)
def test_a_geometry_that_cannot_be_says_so(run, text, said):
    (run.parent / "detector.geom").write_text(text)
    with pytest.raises(PatternsFileError, match=said):
        open_patterns(run, bad_pixels=run.parent / "detector.geom")


def test_without_patterns_the_polarity_must_be_said(tmp_path):
    np.save(tmp_path / "mask.npy", BAD.astype(int))
    with pytest.raises(PatternsFileError, match="not known which of its values"):
        read_bad_pixels(tmp_path / "mask.npy", SHAPE)


@pytest.mark.parametrize("condition", ["", " != 0", " & 1"])
def test_a_mask_of_texts_says_so(run, tmp_path, condition):
    np.save(tmp_path / "mask.npy", np.where(BAD, "bad", "good"))
    with pytest.raises(PatternsFileError, match="the mask holds <U4; expected numbers"):
        open_patterns(run, bad_pixels=f"{tmp_path}/mask.npy{condition}")


@pytest.mark.parametrize("name", ["mask.h5", "mask.h5:/mask", "mask.h5:/mask != 0"])
def test_a_mask_that_cannot_be_unpacked_says_so(run, tmp_path, name):
    path = tmp_path / "mask.h5"
    with h5py.File(path, "w") as file:
        stored = file.create_dataset("mask", data=BAD.astype("u1"), compression=4)
        chunk = stored.id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset : chunk.byte_offset + chunk.size] = bytes(chunk.size)
    path.write_bytes(content)
    with pytest.raises(PatternsFileError, match=r"mask\.h5: the mask cannot be read"):
        open_patterns(run, bad_pixels=tmp_path / name)


def test_a_damaged_image_that_asks_for_all_memory_says_so(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise MemoryError

    values = COUNTS[:3].astype("u2")
    tifffile.imwrite(tmp_path / "run.tif", values, photometric="minisblack")
    patterns = open_patterns(tmp_path / "run.tif")
    monkeypatch.setattr(tifffile.TiffFile, "asarray", fail)
    with pytest.raises(PatternsFileError, match=r"cannot be read .*MemoryError"):
        patterns[:]
    np.save(tmp_path / "mask.npy", BAD)
    monkeypatch.setattr(np, "load", fail)
    with pytest.raises(PatternsFileError, match=r"not a mask that can .*MemoryError"):
        read_bad_pixels(tmp_path / "mask.npy", SHAPE)
    monkeypatch.setattr(tifffile, "TiffFile", fail)
    with pytest.raises(PatternsFileError, match=r"cannot be read as \.tif .*Memory"):
        open_patterns(tmp_path / "run.tif")


@pytest.mark.parametrize("name", ["masks", "mask.byt", "mask.npy", "mask.geom"])
def test_what_is_no_file_of_a_mask_says_so(run, tmp_path, name):
    path = tmp_path / name
    with pytest.raises(PatternsFileError, match="there is no such file"):
        open_patterns(run, bad_pixels=path)
    path.touch()
    with pytest.raises(PatternsFileError, match=r"is empty .* expected a mask"):
        open_patterns(run, bad_pixels=path)
    path.unlink()
    path.mkdir()
    with pytest.raises(PatternsFileError, match=r"is a folder; expected a mask\. Name"):
        open_patterns(run, bad_pixels=path)
