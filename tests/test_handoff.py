import csv
import json
import struct
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from reference import photons_of_emc, photons_of_sparse_hdf5

from helpers.__main__ import main
from helpers.errors import ParameterError, WorkFolderError
from helpers.experiment import Measurements, write_experiment
from helpers.handoff import (
    FORMATS,
    add_diameters,
    cut_selection,
    read_threshold,
    select_patterns,
    write_handoff,
    write_selection,
)
from helpers.handoff.formats import find_photons
from helpers.labels import open_label_store, read_foreign_labels
from helpers.outputs import write_provenance
from helpers.patterns import open_patterns, scan
from helpers.physics import Geometry, make_geometry
from helpers.simulate import pnccd_bad_pixels, simulate_patterns, write_simulated
from helpers.simulate.detector import Detector
from helpers.simulate.particles import equal_sphere_nm

SHAPE = (26, 24)
CHOSEN = [1, 3, 4, 6]
GEOMETRY = Geometry(
    centre=(10.0, 12.0), pixel_size_um=300, distance_mm=6, wavelength_nm=0.8
)


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory):
    """Two files of photon counts, 3 and 4 patterns, as one stack."""
    folder = tmp_path_factory.mktemp("runs")
    for name, n in (("run1.h5", 3), ("run2.h5", 4)):
        write_simulated(folder / name, n, n, bad_pixels=pnccd_bad_pixels(SHAPE))
    return open_patterns([folder / "run1.h5", folder / "run2.h5"])


@pytest.fixture
def adu_run(tmp_path, two_runs):
    """Give the same patterns in ADU, 20 for a photon, with read noise."""
    noise = np.random.default_rng(5).normal(0, 6, two_runs.shape)
    with h5py.File(tmp_path / "adu.h5", "w") as file:
        file["patterns"] = (two_runs[:] * 20 + noise).astype(np.float32)
    return open_patterns(tmp_path / "adu.h5", bad_pixels=two_runs.bad_pixels)


def choose(patterns, chosen=CHOSEN, labels=None, photons=None):
    predictions = np.isin(np.arange(len(patterns)), chosen).astype(np.float32)
    words = np.full(len(patterns), "", "U8") if labels is None else labels
    return select_patterns(predictions, 0.5, words, photons)


def read(files, name):
    return next(path for path in files if path.name == name).read_text("utf-8")


# Choosing


def test_labels_count_more_than_the_threshold():
    predictions = np.array([0.9, 0.9, 0.1, 0.1, 0.9], np.float32)
    labels = np.array(["", "multiple", "single", "", "unsure"])
    selection = select_patterns(predictions, 0.5, labels)
    assert selection.index.tolist() == [0, 2, 4]
    assert selection.from_label.tolist() == [False, True, False]


def test_a_pattern_at_the_threshold_is_taken():
    predictions = np.array([0.5, 0.49], np.float32)
    assert select_patterns(predictions, 0.5, np.array(["", ""])).index.tolist() == [0]


def test_cut_by_photons_keeps_both_limits():
    photons = np.array([99.0, 100, 150, 200, 201])
    selection = select_patterns(np.ones(5, np.float32), 0.5, np.full(5, ""), photons)
    cut = cut_selection(selection, photons=(100, 200))
    assert cut.index.tolist() == [1, 2, 3]
    assert cut.photons.tolist() == [100, 150, 200]
    assert cut.cuts == {"photons": (100, 200)}
    assert len(selection) == 5  # the one that was cut is as it was


def test_cut_by_probability_leaves_what_a_person_called_single():
    predictions = np.array([0.95, 0.6, 0.1], np.float32)
    labels = np.array(["", "", "single"])
    selection = select_patterns(predictions, 0.5, labels)
    cut = cut_selection(selection, probability=(0.9, 1))
    assert cut.index.tolist() == [0, 2]


def test_cuts_add_up():
    photons = np.array([1.0, 2, 3, 4])
    selection = select_patterns(
        np.array([0.6, 0.9, 0.9, 0.9], np.float32), 0.5, np.full(4, ""), photons
    )
    once = cut_selection(selection, photons=(1, 3), probability=(0.8, 1))
    twice = cut_selection(
        cut_selection(selection, photons=(1, 3)), probability=(0.8, 1)
    )
    assert once.index.tolist() == twice.index.tolist() == [1, 2]
    assert once.cuts == twice.cuts


@pytest.mark.parametrize(
    ("cut", "message"),
    [
        ({"photons": (0, 1)}, "holds no photons.*select_patterns"),
        ({"diameter_nm": (0, 1)}, "holds no diameter_nm.*add_diameters"),
        ({"probability": (0.9, 0.1)}, "lowest, highest"),
        ({"probability": (np.nan, 1)}, "NaN"),
    ],
)
def test_an_impossible_cut_says_why(cut, message):
    selection = select_patterns(np.ones(2, np.float32), 0.5, np.full(2, ""))
    with pytest.raises(ParameterError, match=message):
        cut_selection(selection, **cut)


@pytest.mark.parametrize("sample", ["broad", "noisy"])
def test_diameters_are_those_of_the_particles(sample, tmp_path):
    detector = Detector()
    simulation = simulate_patterns(60, seed=3, sample=sample)
    with h5py.File(tmp_path / "run.h5", "w") as file:
        file["patterns"] = 12.5 * simulation.patterns  # any unit will do
        file["mask"] = pnccd_bad_pixels().astype(np.uint8)
    patterns = open_patterns(
        tmp_path / "run.h5", bad_pixels=f"{tmp_path}/run.h5:/mask != 0"
    )
    geometry = Geometry(
        centre=detector.centre,
        pixel_size_um=detector.pixel_mm * 1000,
        distance_mm=detector.distance_mm,
        wavelength_nm=detector.wavelength_nm,
    )
    singles = np.flatnonzero(simulation.true_labels == "single")
    selection = add_diameters(choose(patterns, singles), patterns, geometry)
    sizes = simulation.details["size_nm"][singles]
    ratio = selection.diameter_nm / [equal_sphere_nm(size) for size in sizes]
    assert np.median(ratio) == pytest.approx(1, abs=0.01)
    assert np.abs(ratio - 1).max() < 0.06  # an icosahedron is no sphere
    cut = cut_selection(selection, diameter_nm=(0, np.median(selection.diameter_nm)))
    assert cut.diameter_nm.max() <= np.median(selection.diameter_nm)


def test_a_pattern_without_photons_has_no_diameter(tmp_path):
    with h5py.File(tmp_path / "run.h5", "w") as file:
        file["patterns"] = np.zeros((2, *SHAPE), np.int32)
    patterns = open_patterns(tmp_path / "run.h5")
    selection = add_diameters(choose(patterns, [0, 1]), patterns, GEOMETRY)
    assert np.isnan(selection.diameter_nm).all()
    assert len(cut_selection(selection, diameter_nm=(0, np.inf))) == 0


# Our own files


def test_the_selection_says_which_file_and_row(two_runs, tmp_path):
    predictions = np.array([0, 0, 1, 0, 1, 1, 0], np.float32)
    selection = select_patterns(predictions, 0.5, np.full(7, ""))
    folder = write_selection(tmp_path / "work", two_runs, selection, model="article")
    assert (folder / "selection.txt").read_text() == "2\n4\n5\n"
    with h5py.File(folder / "selection.h5") as file:
        assert file["index"][()].tolist() == [2, 4, 5]
        assert file["file"][()].tolist() == [0, 1, 1]
        assert file["row"][()].tolist() == [2, 1, 2]
        assert file["prediction"].dtype == np.float32
        assert file.attrs["threshold"] == 0.5
        assert file.attrs["model"] == "article"
        assert file.attrs["fingerprint"] == two_runs.fingerprint


def test_the_threshold_of_a_selection_is_read_back(two_runs, tmp_path):
    with pytest.raises(
        WorkFolderError, match=r"selection\.h5 is not there.* 06-review"
    ):
        read_threshold(tmp_path)
    for threshold in (0.7, 1.5, 0.0):
        selection = select_patterns(np.ones(7, np.float32), threshold, np.full(7, ""))
        write_selection(tmp_path, two_runs, selection)
        assert read_threshold(tmp_path) == threshold


def test_an_empty_selection_is_a_whole_file(two_runs, tmp_path):
    selection = select_patterns(np.zeros(7, np.float32), 0.5, np.full(7, ""))
    folder = write_selection(tmp_path, two_runs, selection)
    assert (folder / "selection.txt").read_text() == ""
    with h5py.File(folder / "selection.h5") as file:
        assert file["index"].shape == (0,)


# Every format


def details(name):
    return {"experiment": "amo86615"} if name == "specklenn" else {}


@pytest.mark.parametrize("name", FORMATS)
def test_an_empty_selection_can_be_handed_on(name, two_runs, tmp_path):
    selection = choose(two_runs, [])
    files = write_handoff(
        tmp_path, name, two_runs, selection, geometry=GEOMETRY, **details(name)
    )
    assert all(path.exists() for path in files)


@pytest.mark.parametrize("name", FORMATS)
def test_what_was_written_is_reported_and_explained(name, two_runs, tmp_path):
    selection = choose(two_runs)
    files = write_handoff(tmp_path, name, two_runs, selection, **details(name))
    folder = tmp_path / "selection" / name
    assert set(files) == set(folder.iterdir())
    readme = json.loads((folder / "README.json").read_text("utf-8"))
    assert readme["description"] == FORMATS[name].description
    assert readme["files"] == [path.name for path in files[:-1]]
    assert readme["n_selected"] == 4
    assert readme["threshold"] == 0.5
    assert readme["fingerprint"] == two_runs.fingerprint


def test_an_unknown_format_names_the_known_ones(two_runs, tmp_path):
    with pytest.raises(ParameterError, match=r"'cbf'.*indices, emc, .*list"):
        write_handoff(tmp_path, "cbf", two_runs, choose(two_runs))
    assert not (tmp_path / "selection").exists()


def test_a_later_selection_replaces_the_files(two_runs, tmp_path):
    write_handoff(tmp_path, "emc", two_runs, choose(two_runs), geometry=GEOMETRY)
    files = write_handoff(tmp_path, "emc", two_runs, choose(two_runs, [0]))
    assert [path.name for path in files] == ["selection.emc", "README.json"]
    assert len(photons_of_emc(files[0])) == 1


def test_a_failure_leaves_the_earlier_files(adu_run, tmp_path):
    write_handoff(tmp_path, "emc", adu_run, choose(adu_run), adu_per_photon=20)
    before = (tmp_path / "selection/emc/selection.emc").read_bytes()
    with pytest.raises(ParameterError, match="adu_per_photon"):
        write_handoff(tmp_path, "emc", adu_run, choose(adu_run, [0]))
    assert [path.name for path in (tmp_path / "selection").iterdir()] == ["emc"]
    assert (tmp_path / "selection/emc/selection.emc").read_bytes() == before


# Photons for Dragonfly

READERS = {
    "emc": ("selection.emc", photons_of_emc),
    "dragonfly-h5": ("photons.h5", photons_of_sparse_hdf5),
}


def hand_on_photons(name, work_dir, patterns, selection, **options):
    files = write_handoff(work_dir, name, patterns, selection, **options)
    file_name, photons_of = READERS[name]
    path = next(path for path in files if path.name == file_name)
    return photons_of(path).reshape(-1, *patterns.shape[1:])


@pytest.mark.parametrize("name", READERS)
def test_photons_come_back(name, two_runs, tmp_path):
    photons = hand_on_photons(name, tmp_path, two_runs, choose(two_runs))
    np.testing.assert_array_equal(photons, two_runs[CHOSEN])
    assert photons.max() > 1


@pytest.mark.parametrize(
    ("name", "file_name"),
    [
        ("emc", "selection.emc"),
        ("dragonfly-h5", "photons.h5"),
        ("cxi", "selection.cxi"),
    ],
)
def test_what_holds_patterns_can_be_opened_here(name, file_name, two_runs, tmp_path):
    write_handoff(tmp_path, name, two_runs, choose(two_runs), geometry=GEOMETRY)
    back = open_patterns(tmp_path / "selection" / name / file_name)
    assert back.unit == "photons"
    np.testing.assert_array_equal(back[:], two_runs[CHOSEN])
    np.testing.assert_array_equal(back.bad_pixels, two_runs.bad_pixels)


@pytest.mark.parametrize("name", READERS)
def test_adu_become_the_nearest_photons(name, adu_run, two_runs, tmp_path):
    selection = choose(adu_run)
    photons = hand_on_photons(name, tmp_path, adu_run, selection, adu_per_photon=20)
    expected = np.maximum(np.rint(adu_run[CHOSEN] / 20), 0)
    np.testing.assert_array_equal(photons, expected)
    assert (adu_run[CHOSEN] < -10).any()  # would be -1 photon
    wrong = photons != two_runs[CHOSEN]
    assert wrong.mean() < 0.15  # noise of 0.3 photons is above half of one in a tenth


@pytest.mark.parametrize("name", READERS)
def test_a_selection_that_is_handed_on_in_parts(name, two_runs, tmp_path, monkeypatch):
    monkeypatch.setattr(scan, "PART_BYTES", 2 * 4 * SHAPE[0] * SHAPE[1])
    chosen = [0, 1, 2, 5, 6]
    photons = hand_on_photons(name, tmp_path, two_runs, choose(two_runs, chosen))
    np.testing.assert_array_equal(photons, two_runs[chosen])


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("scale", [0, -3, np.nan])
def test_an_impossible_scale_is_refused(name, scale, two_runs, tmp_path):
    with pytest.raises(ParameterError, match="above 0"):
        write_handoff(tmp_path, name, two_runs, choose(two_runs), adu_per_photon=scale)


def test_adu_without_a_scale_say_what_to_pass(adu_run, tmp_path):
    with pytest.raises(ParameterError, match=r"adu\.h5.*ADU.*adu_per_photon"):
        write_handoff(tmp_path, "emc", adu_run, choose(adu_run))


def test_the_emc_file_is_laid_out_byte_by_byte(tmp_path):
    with h5py.File(tmp_path / "run.h5", "w") as file:
        file["patterns"] = np.array([[[0, 1], [7, 1]], [[0, 0], [2, 3]]], np.int32)
    patterns = open_patterns(tmp_path / "run.h5")
    files = write_handoff(tmp_path, "emc", patterns, choose(patterns, [0, 1]))
    header = struct.pack("<2i", 2, 4) + bytes(1016)
    ones, multi = (2, 0), (1, 2)
    place_ones, place_multi, count_multi = (1, 3), (2, 2, 3), (7, 2, 3)
    body = struct.pack("<12i", *ones, *multi, *place_ones, *place_multi, *count_multi)
    assert files[0].read_bytes() == header + body


@pytest.mark.parametrize("name", READERS)
def test_patterns_with_equally_many_photons_come_back(name, tmp_path):
    counts = np.tile(np.array([[0, 1], [7, 1]]), (3, 1, 1))
    with h5py.File(tmp_path / "run.h5", "w") as file:
        file["patterns"] = counts
    patterns = open_patterns(tmp_path / "run.h5")
    photons = hand_on_photons(name, tmp_path, patterns, choose(patterns, [0, 1, 2]))
    assert photons.tolist() == counts.tolist()


def test_an_empty_emc_file_is_its_header(two_runs, tmp_path):
    files = write_handoff(tmp_path, "emc", two_runs, choose(two_runs, []))
    n_pixels = SHAPE[0] * SHAPE[1]
    assert files[0].read_bytes() == struct.pack("<2i", 0, n_pixels) + bytes(1016)


def test_sparse_hdf5_has_the_types_that_its_readers_expect(two_runs, tmp_path):
    files = write_handoff(tmp_path, "dragonfly-h5", two_runs, choose(two_runs))
    with h5py.File(next(path for path in files if path.name == "photons.h5")) as file:
        assert file["num_pix"][()].tolist() == [SHAPE[0] * SHAPE[1]]
        for name in ("place_ones", "place_multi", "count_multi"):
            assert file[name].shape == (4,)
            assert h5py.check_vlen_dtype(file[name].dtype) == np.int32
        assert file.attrs["fingerprint"] == two_runs.fingerprint


@given(arrays(np.int32, (3, 8), elements=st.integers(0, 4)))
def test_photons_are_found_where_they_are(counts):
    found = find_photons(counts)
    for i, pattern in enumerate(counts):
        ones = slice(found.ones[:i].sum(), found.ones[: i + 1].sum())
        multi = slice(found.multi[:i].sum(), found.multi[: i + 1].sum())
        rebuilt = np.zeros(8, int)
        rebuilt[found.place_ones[ones]] = 1
        rebuilt[found.place_multi[multi]] = found.count_multi[multi]
        assert rebuilt.tolist() == pattern.tolist()


# The detector


def read_detector(folder):
    with h5py.File(folder / "detector.h5") as file:
        return {name: dataset[()] for name, dataset in file.items()}


@pytest.mark.parametrize("name", READERS)
def test_the_detector_lies_on_the_ewald_sphere(name, two_runs, tmp_path):
    write_handoff(tmp_path, name, two_runs, choose(two_runs), geometry=GEOMETRY)
    found = read_detector(tmp_path / "selection" / name)
    assert set(found) == {*("qx", "qy", "qz", "corr", "mask", "detd", "ewald_rad")}
    assert found["detd"] == found["ewald_rad"] == pytest.approx(20)  # 6 mm / 300 um
    q = np.stack([found["qx"], found["qy"], found["qz"] + 20])
    np.testing.assert_allclose(np.linalg.norm(q, axis=0), 20)
    for row, column in ((10, 12), (10, 13), (25, 0), (3, 17)):
        pixel = row * SHAPE[1] + column
        away = np.hypot(row - 10, column - 12)
        two_theta = np.arctan2(away, 20)
        across = np.hypot(found["qx"][pixel], found["qy"][pixel])
        assert across == pytest.approx(20 * np.sin(two_theta))
        assert found["qz"][pixel] == pytest.approx(20 * (np.cos(two_theta) - 1))
        polarised = 1 - (found["qx"][pixel] / 20) ** 2
        assert found["corr"][pixel] == pytest.approx(np.cos(two_theta) ** 3 * polarised)
    bad = two_runs.bad_pixels.ravel()
    assert found["mask"].tolist() == np.where(bad, 2, 0).tolist()


def test_q_grows_with_column_and_row(two_runs, tmp_path):
    write_handoff(tmp_path, "emc", two_runs, choose(two_runs), geometry=GEOMETRY)
    found = read_detector(tmp_path / "selection" / "emc")
    assert (np.diff(found["qx"].reshape(SHAPE), axis=1) > 0).all()
    assert (np.diff(found["qy"].reshape(SHAPE), axis=0) > 0).all()


def test_a_voxel_is_a_pixel_on_the_axis():
    q = GEOMETRY.q_inv_nm(np.array([0.01]))[0] / 0.01
    assert q == pytest.approx(2 * np.pi * GEOMETRY.voxel_inv_nm, rel=1e-6)


@pytest.mark.parametrize(
    ("polarisation", "along_rows", "along_columns"),
    [("horizontal", 0.5, 1), ("vertical", 1, 0.5), ("none", 1, 1)],
)
def test_polarisation_dims_what_lies_along_it(polarisation, along_rows, along_columns):
    geometry = Geometry(
        centre=(0, 0),
        pixel_size_um=1000,
        distance_mm=2,  # two pixels: the third one is seen at 45 degrees
        wavelength_nm=1,
        polarisation=polarisation,
    )
    correction = geometry.correction((3, 3)) * 2**1.5
    assert correction[0, 2] == pytest.approx(along_rows)
    assert correction[2, 0] == pytest.approx(along_columns)


def test_without_a_geometry_there_is_no_detector_file(two_runs, tmp_path):
    files = write_handoff(tmp_path, "emc", two_runs, choose(two_runs))
    assert [path.name for path in files] == ["selection.emc", "README.json"]


def test_an_impossible_geometry_names_all_that_is_wrong():
    with pytest.raises(ParameterError) as caught:
        Geometry(
            centre=(0, 0),
            pixel_size_um=0,
            distance_mm=-1,
            wavelength_nm=np.nan,
            polarisation="round",
        )
    for name in ("pixel_size_um", "distance_mm", "wavelength_nm", "'round'"):
        assert name in str(caught.value)


def test_a_geometry_is_whole_or_absent():
    assert make_geometry((1, 2)) is None
    assert make_geometry((10, 12), 300, 6, 0.8) == GEOMETRY
    with pytest.raises(ParameterError, match="lacks wavelength_nm"):
        make_geometry((1, 2), 300, 6)


# Text

LABELS = np.array(["other", "single", "", "blank", "", "multiple", "unsure"])


@pytest.fixture
def labelled(two_runs):
    return two_runs, choose(two_runs, CHOSEN, LABELS), LABELS  # 1, 4 and 6


def test_indices(labelled, tmp_path):
    files = write_handoff(tmp_path, "indices", *labelled)
    assert read(files, "indices.txt") == "1\n4\n6\n"
    assert read(files, "run1.txt") == "1\n"
    assert read(files, "run2.txt") == "1\n3\n"


def test_indices_of_one_file_are_one_text(adu_run, tmp_path):
    files = write_handoff(tmp_path, "indices", adu_run, choose(adu_run))
    assert [path.name for path in files] == ["indices.txt", "README.json"]
    assert read(files, "indices.txt") == "1\n3\n4\n6\n"


def test_files_of_one_name_get_texts_of_their_own(tmp_path):
    for folder in ("a", "b"):
        write_simulated(tmp_path / folder / "hits.h5", 2, 1, bad_pixels=np.eye(24) > 0)
    patterns = open_patterns([tmp_path / "a/hits.h5", tmp_path / "b/hits.h5"])
    files = write_handoff(tmp_path, "indices", patterns, choose(patterns, [0, 1, 3]))
    assert read(files, "000-hits.txt") == "0\n1\n"
    assert read(files, "001-hits.txt") == "1\n"


def test_blacklist(labelled, tmp_path):
    files = write_handoff(tmp_path, "blacklist", *labelled)
    assert read(files, "blacklist.dat") == "1\n0\n1\n1\n0\n1\n0\n"


def test_classes(labelled, tmp_path):
    files = write_handoff(tmp_path, "classes", *labelled)
    assert read(files, "classes.dat") == "o\ns\n-\nb\ns\nm\ns\n"


def test_a_single_that_was_cut_has_no_class(two_runs, tmp_path):
    selection = choose(two_runs, CHOSEN, LABELS, photons=np.arange(7.0))
    cut = cut_selection(selection, photons=(2, 5))
    files = write_handoff(tmp_path, "classes", two_runs, cut, LABELS)
    assert read(files, "classes.dat") == "o\n-\n-\nb\ns\nm\nu\n"


def test_liu_lab(labelled, tmp_path):
    files = write_handoff(tmp_path, "liulab", *labelled)
    assert read(files, "run1.txt") == "1\n"
    assert read(files, "run2.txt") == "1\n3\n"
    index = "run1.h5,0\nrun1.h5,1\nrun2.h5,0\nrun2.h5,2\n"
    assert read(files, "train_index.dat") == index
    assert read(files, "train_labels.dat") == "0\n1\n0\n0\n"


def test_liu_lab_training_labels_are_read_back(labelled, tmp_path):
    patterns, _, labels = labelled
    write_handoff(tmp_path, "liulab", *labelled)
    folder = tmp_path / "selection/liulab"
    back = read_foreign_labels(folder, patterns, first_index=0)
    decided = (labels != "") & (labels != "unsure")
    assert ((back == "single") == (labels == "single"))[decided].all()
    assert (back[~decided] == "").all()


def test_specklenn(labelled, tmp_path):
    files = write_handoff(tmp_path, "specklenn", *labelled, experiment="amo86615")
    expected = [
        ["exp", "run", "event_num", "label"],
        ["amo86615", "1", "0", "0"],
        ["amo86615", "1", "1", "1"],
        ["amo86615", "2", "0", "9"],
        ["amo86615", "2", "1", "1"],
        ["amo86615", "2", "2", "2"],
        ["amo86615", "2", "3", "1"],
    ]
    text = read(files, "labels.csv")
    assert list(csv.reader(text.splitlines())) == expected
    second = {"files": (Path("run2.h5"),), "file_index": np.zeros(4, int), "shots": {}}
    back = read_foreign_labels(files[0], SimpleNamespace(**second))
    assert back.tolist() == ["blank", "single", "multiple", "single"]


def test_specklenn_takes_the_run_of_a_single_file(adu_run, tmp_path):
    files = write_handoff(
        tmp_path, "specklenn", adu_run, choose(adu_run, [2]), experiment="x", run=182
    )
    assert read(files, "labels.csv") == "exp,run,event_num,label\nx,182,2,1\n"


@pytest.mark.parametrize(
    ("name", "run"), [("r0012-detector2", 12), ("amoRun12", 12), ("laser12", None)]
)
def test_specklenn_takes_the_run_from_the_name_of_the_file(name, run, tmp_path):
    write_simulated(tmp_path / f"{name}.h5", 1, 1)
    patterns = open_patterns(tmp_path / f"{name}.h5")
    given = tmp_path, "specklenn", patterns, choose(patterns, [0])
    if run is None:
        with pytest.raises(ParameterError, match="expected one run a file"):
            write_handoff(*given, experiment="x")
    else:
        files = write_handoff(*given, experiment="x")
        assert read(files, "labels.csv").splitlines()[1] == f"x,{run},0,1"


@pytest.mark.parametrize(
    ("options", "message"),
    [({}, "name of the experiment"), ({"experiment": "x"}, r"adu\.h5.*run=")],
)
def test_specklenn_says_what_it_lacks(options, message, adu_run, tmp_path):
    with pytest.raises(ParameterError, match=message):
        write_handoff(tmp_path, "specklenn", adu_run, choose(adu_run), **options)


def test_list(labelled, two_runs, tmp_path):
    files = write_handoff(tmp_path, "list", *labelled)
    run1, run2 = (path.resolve() for path in two_runs.files)
    assert read(files, "selection.lst") == f"{run1} //1\n{run2} //1\n{run2} //3\n"


# CXI


def test_cxi_holds_the_patterns_as_they_were_recorded(adu_run, tmp_path):
    files = write_handoff(tmp_path, "cxi", adu_run, choose(adu_run), geometry=GEOMETRY)
    back = open_patterns(files[0])
    assert back.unit == "ADU"
    np.testing.assert_array_equal(back.read_raw(slice(None)), adu_run.read_raw(CHOSEN))
    np.testing.assert_array_equal(back.bad_pixels, adu_run.bad_pixels)
    with h5py.File(files[0]) as file:
        detector = file["/entry_1/instrument_1/detector_1"]
        assert detector["mask"].dtype == np.uint32
        assert detector["distance"][()] == pytest.approx(0.006)  # metres
        assert detector["x_pixel_size"][()] == pytest.approx(3e-4)


def test_cxi_keeps_what_the_facility_calls_each_shot(tmp_path):
    with h5py.File(tmp_path / "run.cxi", "w") as file:
        file["/entry_1/data_1/data"] = np.ones((7, 5, 4), "u2")
        file["/entry_1/trainId"] = np.arange(7) // 2 + 10**9
        file["/entry_1/pulseId"] = np.arange(7) % 2
    run = open_patterns(tmp_path / "run.cxi")
    written, *_ = write_handoff(tmp_path, "cxi", run, choose(run))
    back = open_patterns(written)
    assert back.layout.name == "CXI"
    assert sorted(back.shots) == ["pulse", "train"]
    for name, ids in back.shots.items():
        assert ids.tolist() == run.shots[name][CHOSEN].tolist()


def test_cxi_has_the_members_that_its_readers_look_for(two_runs, tmp_path):
    photons = np.arange(7.0)
    selection = choose(two_runs, CHOSEN, LABELS, photons)
    files = write_handoff(tmp_path, "cxi", two_runs, selection)
    with h5py.File(files[0]) as file:
        assert file["cxi_version"][()] == 160
        link = file.get("/entry_1/data_1/data", getlink=True)
        assert isinstance(link, h5py.SoftLink)
        assert link.path == "/entry_1/instrument_1/detector_1/data"
        assert file["/entry_1/data_1/data"].attrs["axes"] == "experiment_identifier:y:x"
        events = file["/entry_1/data_1/experiment_identifier"].asstr()[()]
        assert events.tolist() == ["run1.h5 //1", "run2.h5 //1", "run2.h5 //3"]
        for name, values in (("photons", [1, 4, 6]), ("row", [1, 1, 3])):
            per_event = file[f"/entry_1/result_1/{name}"]
            assert per_event[()].tolist() == values
            assert per_event.attrs["axes"] == "experiment_identifier"
        tags = file["/entry_1/instrument_1/detector_1/tags"]
        assert tags[()].tolist() == [[1, 0, 0], [0, 1, 1]]
        assert tags.attrs["headings"][0] == "single by label"
        assert {*file["/entry_1/process_1"]} == {
            "program",
            "version",
            "date",
            "command",
        }
        assert file.attrs["fingerprint"] == two_runs.fingerprint


# The command


def make_work_dir(work_dir, patterns, adu_per_photon):
    n, *frame = patterns.shape
    photons = 100.0 * np.arange(n)
    measured = Measurements(
        photons,
        np.zeros(n, np.int64),
        *np.zeros((3, *frame)),
        no_measurement=np.zeros(n, np.uint8),
    )
    scaled = patterns.with_scale(0, adu_per_photon)
    write_experiment(work_dir, scaled, measured, (13.0, 12.0))
    with h5py.File(work_dir / "predictions.h5", "w") as file:
        file["predictions"] = file["raw"] = np.linspace(0, 0.6, n, dtype=np.float32)
        file.attrs["threshold"] = 0.45
        files = [str(path) for path in patterns.files]
        write_provenance(file, patterns_files=files, fingerprint=patterns.fingerprint)
    return work_dir


@pytest.fixture
def work_dir(two_runs, tmp_path):
    return make_work_dir(tmp_path / "work", two_runs, 1.0)


def hand_over(work_dir, *options):
    return main(["handoff", "--work-dir", str(work_dir), "--to", *options])


def test_command_writes_and_says_what(work_dir, capsys):
    assert hand_over(work_dir, "indices") == 0
    said = capsys.readouterr().out
    path = work_dir / "selection/indices/indices.txt"
    assert "2 patterns" in said
    assert str(path) in said
    assert path.read_text() == "5\n6\n"
    assert not (work_dir / "labels.sqlite").exists()


def test_command_takes_labels_threshold_and_cuts(work_dir, two_runs):
    fingerprint, n = two_runs.fingerprint, len(two_runs)
    with open_label_store(work_dir / "labels.sqlite", fingerprint, n) as store:
        store.record(0, "single", labeller="me", session="s", seq=0)
        store.record(5, "other", labeller="me", session="s", seq=1)
        store.record(1, "single", labeller="me", session="s", seq=2)
    options = ("--threshold", "0.3", "--photons", "100", "inf")
    assert hand_over(work_dir, "indices", *options) == 0
    lines = (work_dir / "selection/indices/indices.txt").read_text().split()
    assert lines == ["1", "3", "4", "6"]
    readme = json.loads((work_dir / "selection/indices/README.json").read_text())
    assert readme["threshold"] == 0.3
    assert readme["cuts"] == {"photons": "100 to inf"}


def test_command_writes_the_detector_from_the_centre_of_the_experiment(work_dir):
    options = ["--pixel-size-um", "300", "--distance-mm", "6", "--wavelength-nm", "0.8"]
    options += ["--diameter-nm", "0", "inf"]
    assert hand_over(work_dir, "emc", *options) == 0
    found = read_detector(work_dir / "selection/emc")
    assert found["qx"].reshape(SHAPE)[13, 12] == 0
    assert found["qy"].reshape(SHAPE)[13, 12] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["cbf"], "Known: indices"),
        (["emc", "--diameter-nm", "1", "2"], "needs the geometry"),
        (["emc", "--distance-mm", "6"], "lacks"),
        (["specklenn"], "name of the experiment"),
        (["emc", "--adu-per-photon", "0"], "above 0"),
    ],
)
def test_command_fails_with_the_reason(options, message, work_dir, capsys):
    assert hand_over(work_dir, *options) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("told", "options", "scale"),
    [(20.0, [], 20), (20.0, ["--adu-per-photon", "10"], 10)],
)
def test_command_knows_adu_per_photon(told, options, scale, adu_run, tmp_path):
    work_dir = make_work_dir(tmp_path / "work", adu_run, told)
    assert hand_over(work_dir, "emc", *options) == 0
    photons = photons_of_emc(work_dir / "selection/emc/selection.emc")
    expected = np.maximum(np.rint(adu_run[[5, 6]] / scale), 0)
    np.testing.assert_array_equal(photons, expected.reshape(2, -1))


def test_adu_per_photon_of_1_was_never_told(adu_run, tmp_path, capsys):
    work_dir = make_work_dir(tmp_path / "work", adu_run, 1.0)
    assert hand_over(work_dir, "emc") == 1
    assert "adu_per_photon" in capsys.readouterr().err


def test_command_needs_what_05_review_writes(work_dir, capsys):
    (work_dir / "predictions.h5").unlink()
    assert hand_over(work_dir, "indices") == 1
    assert "06-review" in capsys.readouterr().err


def test_command_lists_the_formats(capsys):
    with pytest.raises(SystemExit):
        main(["handoff", "--help"])
    said = capsys.readouterr().out
    assert all(name in said for name in FORMATS)
