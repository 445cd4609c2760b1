"""Simulated patterns: the physics, the chances, the files."""

import csv
from dataclasses import replace

import h5py
import numpy as np
import pytest
import reference
from scipy.ndimage import center_of_mass as centre_of_mass

from helpers.errors import ParameterError, PatternsFileError
from helpers.patterns import open_patterns
from helpers.simulate import (
    SAMPLES,
    Detector,
    FarField,
    Sample,
    Simulation,
    Simulator,
    pnccd_bad_pixels,
    simulate_patterns,
    write_example_labels,
    write_simulated,
)
from helpers.simulate.exposures import scattered_intensity
from helpers.simulate.particles import (
    BODIES,
    ICOSAHEDRON_VERTICES,
    ICOSAHEDRON_VOLUME,
    Composite,
    Polyhedron,
    draw_body,
    draw_direction,
    draw_lumps,
    draw_rotation,
    equal_edge_nm,
    equal_sphere_nm,
    sphere,
)
from helpers.simulate.sample import CLASSES, Particle, draw_shot

SMALL = (64, 63)
CENTRED = Detector(shape=(65, 65), centre=(32.0, 32.0), pixel_mm=1.2)
EDGE_NM = equal_edge_nm(69.0)
NONE_BAD = np.zeros((65, 65), bool)
QUARTER_TURN = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])


def icosahedron(size_nm, rotation, lumps=None):
    return draw_body("icosahedron", 0).place(equal_edge_nm(size_nm), rotation, lumps)


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture
def small():
    return Detector.of_shape(SMALL)


# --- physics -----------------------------------------------------------------------


def test_default_detector_is_the_pnccd_of_the_experiment():
    detector = Detector()
    assert detector.shape == (260, 257)
    assert detector.wavelength_nm == pytest.approx(0.775, abs=1e-3)
    q_rows, q_columns = detector.q_inv_nm()
    # 100 pixels of 0.3 mm at 581 mm: 2 pi / wavelength times the angle.
    apart = np.interp(231.7, np.arange(260), q_rows)
    assert apart == pytest.approx(2 * np.pi / 0.7749 * 30 / 581, rel=1e-3)
    assert np.interp(126.4, np.arange(257), q_columns) == pytest.approx(0, abs=1e-12)


def test_another_shape_covers_the_same_angle():
    wide, narrow = Detector(), Detector.of_shape((130, 128))
    assert narrow.pixel_mm * 130 == pytest.approx(wide.pixel_mm * 260)
    for q_wide, q_narrow in zip(wide.q_inv_nm(), narrow.q_inv_nm(), strict=True):
        assert q_narrow[0] == pytest.approx(q_wide[0], rel=0.02)


def test_default_centre_is_that_of_the_same_shape():
    assert Detector.of_shape((260, 257)) == Detector()


def test_icosahedron_agrees_with_the_exact_integral(rng):
    far_field = FarField(CENTRED)
    # Off the pixels' own places by a hair: the exact formula has no value at q = 0.
    q_rows = far_field.q_rows_inv_nm[:, 0].astype(float) + 1e-5
    q_columns = far_field.q_columns_inv_nm[0].astype(float) + 2e-5
    rotation = draw_rotation(rng)
    exact = reference.icosahedron_amplitude(69.0, rotation, q_rows, q_columns)
    found = icosahedron(69.0, rotation).amplitude(far_field)
    q = np.hypot(q_rows[:, None], q_columns[None, :])
    for lowest, tolerance in ((0.02, 1e-3), (0.4, 0.03)):
        # Samples 1/8 of the finest period apart: 0.1 % in all, 3 % where it is faint.
        there = q > lowest
        difference = np.linalg.norm((found - exact)[there])
        assert difference < tolerance * np.linalg.norm(exact[there])


def test_amplitude_ahead_is_the_volume(rng):
    far_field = FarField(CENTRED)
    volume = ICOSAHEDRON_VOLUME * (69.0 / ICOSAHEDRON_VERTICES) ** 3
    for shape in (
        icosahedron(69.0, draw_rotation(rng)),
        sphere(equal_sphere_nm(69.0)),
        Composite((sphere(equal_sphere_nm(69.0)),), np.array([[40.0, -30.0, 0.0]])),
    ):
        ahead = shape.amplitude(far_field)[32, 32]
        # 0.2 %: a few hundred samples of the thickness.
        assert ahead == pytest.approx(volume, rel=2e-3)


@pytest.mark.parametrize("name", BODIES)
def test_every_body_scatters_as_its_volume_and_reaches_no_further(name, rng):
    far_field = FarField(CENTRED)
    body, turned = draw_body(name, 5), draw_rotation(rng)
    ahead = body.place(50.0, turned, None).amplitude(far_field)[32, 32]
    assert ahead.real == pytest.approx(50.0**3, rel=0.01)
    assert ahead.imag == pytest.approx(0, abs=0.01 * 50.0**3)
    reach = [body.reach(draw_direction(rng)) for _ in range(50)]
    # A ball of this volume reaches 0.62; a rod of 4 : 1 is the longest of all.
    assert 0.2 < min(reach) < 0.65 < max(reach) < 2.5


@pytest.mark.parametrize("name", ["rod", "polyhedron", "clump"])
def test_a_body_depends_on_its_seed(name):
    direction = np.array([0.36, 0.48, 0.8])
    first, again, other = (draw_body(name, k).reach(direction) for k in (1, 1, 2))
    assert first == again != other


def test_two_of_a_body_that_touch_reach_as_far_as_both(rng):
    body = draw_body("rod", 3)
    along = np.array([0.0, 0.0, 1.0])
    edges = body.corners.max(axis=0)
    assert body.reach(along) == pytest.approx(edges[2])
    assert body.reach(-along) == pytest.approx(edges[2])


def test_cube_is_a_product_of_sincs():
    far_field = FarField(CENTRED)
    normals = np.vstack([np.eye(3), -np.eye(3)])
    # Edges between samples: a cut edge is as wide as the samples say.
    half_nm = 20.5 * far_field.step_nm
    cube = Polyhedron(normals, np.full(6, half_nm), 2 * half_nm)
    expected = 2 * half_nm
    for q in (far_field.q_rows_inv_nm, far_field.q_columns_inv_nm):
        expected = expected * 2 * half_nm * np.sinc(q * half_nm / np.pi)
    # 3 %: a wall along the beam is the hardest thing to sample.
    found = cube.amplitude(far_field)
    assert np.linalg.norm(found - expected) < 0.03 * np.linalg.norm(expected)


def test_sphere_by_formula_agrees_with_its_thickness():
    far_field = FarField(CENTRED, samples_per_period=32)
    samples_nm = far_field.samples_nm(30.0)
    squares = 30.0**2 - samples_nm[:, None] ** 2 - samples_nm[None, :] ** 2
    thickness_nm = 2 * np.sqrt(np.maximum(squares, 0)).astype(np.float32)
    by_thickness = far_field.transform(thickness_nm)
    by_formula = sphere(60.0).amplitude(far_field)
    assert np.abs(by_thickness - by_formula).max() < 1e-3 * by_formula.max().real


def test_first_dark_ring_of_a_sphere_is_where_rayleigh_says():
    detector = Detector(shape=(9, 400), centre=(4.0, 0.0), pixel_mm=0.1)
    intensity = np.abs(sphere(58.4).amplitude(FarField(detector))[4]) ** 2
    q_inv_nm = detector.q_inv_nm()[1]
    dark = q_inv_nm[np.flatnonzero(np.diff(np.sign(np.diff(intensity))) > 0)[0] + 1]
    assert dark * 58.4 / 2 == pytest.approx(4.4934, rel=0.01)


def test_twice_the_size_halves_the_rings():
    detector = Detector(shape=(9, 401), centre=(4.0, 0.0), pixel_mm=0.1)
    small, large = (
        icosahedron(size_nm, np.eye(3)).amplitude(FarField(detector, 16))[4].real
        for size_nm in (50.0, 100.0)
    )
    # 0.5 % of the brightest: what sampling leaves.
    assert np.abs(large[:200] / 8 - small[:400:2]).max() < 0.005 * small.max()


def test_even_and_uneven_particles_are_point_symmetric(rng):
    particle = Particle(
        icosahedron(69.0, draw_rotation(rng), draw_lumps(rng, 29.0, EDGE_NM, 0.1)), 69.0
    )
    intensity = scattered_intensity((particle,), FarField(CENTRED))
    # Friedel's law holds for every real density; float32 amplitudes leave 1e-5.
    turned = intensity[::-1, ::-1]
    np.testing.assert_allclose(intensity, turned, rtol=1e-3, atol=1e-5 * turned.max())


def test_rotated_particle_gives_rotated_pattern(rng):
    far_field = FarField(CENTRED)
    rotation, lumps = draw_rotation(rng), draw_lumps(rng, 29.0, EDGE_NM, 0.1)
    turned_lumps = replace(lumps, positions_nm=lumps.positions_nm @ QUARTER_TURN.T)
    before = icosahedron(69.0, rotation, lumps).amplitude(far_field)
    after = icosahedron(69.0, QUARTER_TURN @ rotation, turned_lumps).amplitude(
        far_field
    )
    # Down turns to the right: counter-clockwise as displayed.
    difference = np.abs(after - np.rot90(before, 1))
    assert difference.max() < 1e-4 * np.abs(before).max()
    assert np.abs(after - before).max() > 0.01 * np.abs(before).max()


def test_orientations_are_rotations_and_uniform(rng):
    rotations = np.array([draw_rotation(rng) for _ in range(2000)])
    np.testing.assert_allclose(
        rotations @ rotations.transpose(0, 2, 1),
        np.tile(np.eye(3), (2000, 1, 1)),
        atol=1e-12,
    )
    np.testing.assert_allclose(np.linalg.det(rotations), 1)
    # Each component of a uniform direction is uniform from -1 to 1: variance 1/3.
    assert np.abs(rotations.mean(axis=0)).max() < 0.06
    np.testing.assert_allclose(rotations.var(axis=0), 1 / 3, atol=0.04)


def test_two_particles_make_fringes_of_the_right_period_and_depth():
    far_field = FarField(CENTRED)
    apart_nm, fluence = np.array([60.0, -35.0, 500.0]), 0.1
    one = Particle(sphere(50.0), 50.0)
    two = Particle(sphere(50.0), 50.0, apart_nm, fluence)
    intensity = scattered_intensity((one, two), far_field)
    alone = np.abs(one.shape.amplitude(far_field)) ** 2
    phase = (
        far_field.q_rows_inv_nm * apart_nm[0] + far_field.q_columns_inv_nm * apart_nm[1]
    )
    visibility = far_field.fringe_visibility(apart_nm)
    expected = alone * (1 + fluence + 2 * np.sqrt(fluence) * visibility * np.cos(phase))
    np.testing.assert_allclose(intensity, expected, atol=1e-5 * alone.max())


def test_visibility_is_the_mean_over_a_pixel():
    far_field = FarField(CENTRED)
    apart_nm = np.array([150.0, 90.0])
    fringes = apart_nm / CENTRED.fringe_scale_nm
    offsets = (np.arange(400) + 0.5) / 400 - 0.5
    mean = np.mean(
        np.cos(2 * np.pi * np.add.outer(offsets * fringes[0], offsets * fringes[1]))
    )
    assert far_field.fringe_visibility(apart_nm) == pytest.approx(mean, abs=1e-4)


def test_particles_too_far_apart_for_the_pixels_add_without_fringes():
    far_field = FarField(CENTRED)
    apart_nm = np.array([CENTRED.fringe_scale_nm, 0.0, 0.0])
    one, two = Particle(sphere(50.0), 50.0), Particle(sphere(50.0), 50.0, apart_nm)
    alone = scattered_intensity((one,), far_field)
    together = scattered_intensity((one, two), far_field)
    np.testing.assert_allclose(together, 2 * alone, atol=1e-5 * alone.max())


def test_median_single_hit_has_the_photons_asked_for(small):
    sample = Sample(
        single=1, multiple=0, other=0, blank=0, size_spread=0, fluence_spread=0
    )
    details = simulate_patterns(20, 1, sample=sample, detector=small).details
    np.testing.assert_allclose(details["photons"].mean(), sample.photons, rtol=0.1)


def test_counts_are_poisson():
    sample = Sample(
        single=0, multiple=0, other=0, blank=1, fluence_spread=0, background=20_000
    )
    detector = Detector.of_shape((16, 16))
    good = np.zeros((16, 16), dtype=bool)
    patterns = simulate_patterns(
        300, 3, sample=sample, detector=detector, bad_pixels=good
    ).patterns
    assert patterns.sum(axis=(1, 2)).mean() == pytest.approx(20_000, rel=0.005)
    ratios = patterns.var(axis=0, ddof=1) / patterns.mean(axis=0)
    assert ratios.mean() == pytest.approx(1, abs=0.03)
    np.testing.assert_array_equal(patterns, np.round(patterns))


def test_singles_look_like_the_measured_ones(real_file):
    with h5py.File(real_file("pr772_30.h5")) as file:
        bad = file["mask"][:] > 0
        measured = file["patterns"][file["labels"][:] == 1].astype(float)
    detector = Detector(shape=bad.shape, centre=(63.25, 63.75), pixel_mm=0.6)
    singles = Sample(single=1, multiple=0, other=0, blank=0)
    simulated = simulate_patterns(
        60, 1, sample=singles, detector=detector, bad_pixels=bad
    ).patterns
    totals = np.median((measured * ~bad).sum(axis=(1, 2)))
    assert np.median(simulated.sum(axis=(1, 2))) == pytest.approx(totals, rel=0.25)
    profiles = [
        np.median([_radial_profile(p, detector, bad) for p in patterns], axis=0)
        for patterns in (measured, simulated)
    ]
    # Out to the fourth ring the intensity falls by a factor of 1000.
    ratios = profiles[1][7:55] / profiles[0][7:55]
    assert 0.5 < ratios.min() < ratios.max() < 2
    dark = [14 + int(profile[14:26].argmin()) for profile in profiles]
    assert abs(dark[0] - dark[1]) <= 1


def _radial_profile(pattern, detector, bad_pixels):
    rows, columns = np.indices(pattern.shape)
    radius = np.hypot(rows - detector.centre[0], columns - detector.centre[1])
    ring = radius.round().astype(int)[~bad_pixels]
    scaled = pattern[~bad_pixels] / pattern[~bad_pixels].sum()
    return np.bincount(ring, scaled) / np.maximum(np.bincount(ring), 1)


# --- chance ------------------------------------------------------------------------


def test_same_seed_same_patterns_another_seed_others(small):
    first, again = (simulate_patterns(6, 4, detector=small) for _ in range(2))
    _assert_same(first, again)
    other = simulate_patterns(6, 5, detector=small)
    assert not np.array_equal(first.patterns, other.patterns)


def test_pattern_depends_on_neither_number_nor_block(small):
    whole = simulate_patterns(11, 4, detector=small)
    few = simulate_patterns(5, 4, detector=small)
    np.testing.assert_array_equal(whole.patterns[:5], few.patterns)
    for start, block in Simulator(4, detector=small).blocks(11, block=3):
        rows = slice(start, start + 3)
        _assert_same(block, Simulation(*(values[rows] for values in whole)))


def _assert_same(one, two):
    np.testing.assert_array_equal(one.patterns, two.patterns)
    np.testing.assert_array_equal(one.true_labels, two.true_labels)
    for name in one.details.dtype.names:
        np.testing.assert_array_equal(one.details[name], two.details[name])


def test_classes_come_in_their_shares(rng):
    for name, sample in SAMPLES.items():
        shots = [draw_shot(rng, sample).true_label for _ in range(1500)]
        shares = np.array([shots.count(word) for word in CLASSES]) / 1500
        # Five standard deviations of a share at its widest, 0.5.
        assert np.abs(shares - sample.class_shares).max() < 0.065, name


def test_kinds_of_multiples_come_in_their_shares(rng):
    sample = replace(SAMPLES["hard"], single=0, multiple=1, other=0, blank=0)
    shots = [draw_shot(rng, sample) for _ in range(1500)]
    kinds = [shot.kind for shot in shots]
    assert kinds.count("weak second") / 1500 == pytest.approx(0.38, abs=0.06)
    assert kinds.count("close pair") / 1500 == pytest.approx(0.20, abs=0.06)
    sizes_nm = [shot.particles[0].size_nm for shot in shots]
    assert np.std(np.log(sizes_nm)) == pytest.approx(0.03, rel=0.15)


def test_weak_second_is_weak_and_close_pair_touches(rng):
    sample = Sample(
        single=0, multiple=1, other=0, blank=0, weak_share=0.5, close_share=0.5
    )
    for shot in (draw_shot(rng, sample) for _ in range(100)):
        first, second = shot.particles
        distance_nm = np.linalg.norm(second.position_nm - first.position_nm)
        if shot.kind == "weak second":
            assert 0.02 <= second.fluence / first.fluence <= 0.20
            assert distance_nm >= sample.size_nm
        else:
            assert second.fluence == first.fluence
            assert 0.8 * sample.size_nm <= distance_nm <= 1.1 * sample.size_nm


def test_other_particles_are_of_every_kind_and_never_a_clean_single(rng):
    sample = Sample(single=0, multiple=0, other=1, blank=0)
    shots = [draw_shot(rng, sample) for _ in range(200)]
    kinds = {shot.kind for shot in shots}
    assert kinds == {"sphere", "spheroid", "wrong size", "debris", "aggregate"}
    for shot in shots:
        factor = shot.particles[0].size_nm / sample.size_nm
        if shot.kind in ("sphere", "wrong size"):
            assert factor <= 0.85 or factor >= 1.15


def test_every_shape_scatters_finite_photons(rng, small):
    simulator = Simulator(1, detector=small)
    for sample in SAMPLES.values():
        for _ in range(10):
            photons = simulator.expected_photons(draw_shot(rng, sample))
            assert np.isfinite(photons).all()
            assert photons.min() >= 0


def test_truth_and_details_match(small):
    sample = replace(SAMPLES["hard"], fluence_spread=0)
    patterns, truth, details = simulate_patterns(80, 2, sample=sample, detector=small)
    assert set(truth) == set(CLASSES)
    n_particles = details["n_particles"]
    np.testing.assert_array_equal(n_particles == 0, truth == "blank")
    np.testing.assert_array_equal(n_particles > 1, truth == "multiple")
    np.testing.assert_array_equal(
        np.isnan(details["separation_nm"]), truth != "multiple"
    )
    np.testing.assert_array_equal(np.isnan(details["size_nm"]), truth == "blank")
    np.testing.assert_array_equal(details["photons"] == 0, truth == "blank")
    # Signal and background as expected, to five standard deviations of the counts.
    good = ~pnccd_bad_pixels(SMALL)
    found = patterns[:, good].sum(axis=1)
    background = found[truth == "blank"].mean()
    difference = found - details["photons"] - background
    assert (np.abs(difference) < 5 * np.sqrt(found + background)).all()


def test_streaks_only_where_asked(small):
    sample = Sample(single=1, multiple=0, other=0, blank=0)
    plain, streaked = (
        simulate_patterns(
            4, 1, sample=replace(sample, streak_share=share), detector=small
        ).patterns
        for share in (0.0, 1.0)
    )
    assert (streaked.sum(axis=(1, 2)) > plain.sum(axis=(1, 2))).all()
    below = slice(int(small.centre[0]) + 3, None)
    np.testing.assert_allclose(
        streaked[:, below].sum(axis=(1, 2)), plain[:, below].sum(axis=(1, 2)), rtol=0.1
    )


def test_read_noise_is_normal_about_the_counts(small):
    sample = Sample(
        single=0, multiple=0, other=0, blank=1, background=0, read_noise=0.3
    )
    patterns = simulate_patterns(4, 1, sample=sample, detector=small).patterns
    values = patterns[:, ~pnccd_bad_pixels(SMALL)]
    assert values.std() == pytest.approx(0.3, rel=0.05)
    assert values.min() < 0
    assert not patterns[:, pnccd_bad_pixels(SMALL)].any()


# --- bad pixels and parameters -----------------------------------------------------


def test_pnccd_bad_pixels_have_hole_gap_and_frame():
    bad = pnccd_bad_pixels()
    assert bad.shape == (260, 257)
    assert bad[124:136, 122:135].all()
    assert bad[127:133].all()
    assert bad[0].all()
    assert bad[:, -1].all()
    assert 0.05 < bad.mean() < 0.10


@pytest.mark.parametrize("name", ["default", "noisy"])
def test_own_bad_pixels_hold_nothing_and_give_the_shape(name):
    bad = np.zeros((40, 50), dtype=bool)
    bad[10:14] = True
    bad[30, 7] = True
    patterns = simulate_patterns(12, 3, sample=name, bad_pixels=bad).patterns
    assert patterns.shape == (12, 40, 50)
    assert patterns.dtype == np.float32
    assert not patterns[:, bad].any()
    assert (patterns.sum(axis=0)[~bad] != 0).mean() > 0.95


def test_inputs_are_unchanged(small):
    bad = pnccd_bad_pixels(SMALL)
    before = bad.copy()
    simulate_patterns(3, 1, bad_pixels=bad, detector=small)
    np.testing.assert_array_equal(bad, before)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"single": 0.5}, "add up to 1.2, expected 1"),
        ({"single": -0.1, "blank": 0.5}, "single is -0.1, expected 0 to 1"),
        ({"size_nm": 0}, "size_nm is 0, expected 5 to 300"),
        ({"photons": float("nan")}, "photons is nan"),
        ({"weak_share": 0.7, "close_share": 0.7}, "more than 1"),
        ({"weak_fluence": (0.5, 0.1)}, "weak_fluence is (0.5, 0.1)"),
    ],
)
def test_impossible_sample_is_refused(values, said):
    with pytest.raises(ParameterError) as caught:
        Sample(**values)
    assert said in str(caught.value)


def test_all_problems_of_a_sample_in_one_go():
    with pytest.raises(ParameterError) as caught:
        Sample(size_nm=-1, read_noise=-1, single=0.9)
    for name in ("size_nm", "read_noise", "single"):
        assert name in str(caught.value)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"n": 0}, "n is 0; expected a whole number from 1 on"),
        ({"n": 2.5}, "n is 2.5"),
        ({"seed": -1}, "seed is -1"),
        ({"sample": "nonesuch"}, "'hard'"),
        ({"bad_pixels": np.zeros((4, 64, 63), dtype=bool)}, "(4, 64, 63)"),
        ({"bad_pixels": np.zeros((64, 63))}, "float64"),
        ({"bad_pixels": np.ones((64, 63), dtype=bool)}, "every pixel"),
        (
            {"bad_pixels": np.zeros((64, 64), dtype=bool), "detector": Detector()},
            "(260, 257)",
        ),
    ],
)
def test_impossible_parameter_is_refused(values, said):
    with pytest.raises(ParameterError) as caught:
        simulate_patterns(**{"n": 1, "seed": 1, **values})
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "values", [{"shape": (3, 300)}, {"pixel_mm": 0}, {"distance_mm": float("inf")}]
)
def test_impossible_detector_is_refused(values):
    with pytest.raises(ParameterError, match=next(iter(values))):
        Detector(**values)


# --- files -------------------------------------------------------------------------


@pytest.fixture
def simulated_file(tmp_path, small):
    path = tmp_path / "simulated.h5"
    write_simulated(path, 70, 6, detector=small)
    return path


def test_file_holds_what_memory_would(simulated_file, small):
    expected = simulate_patterns(70, 6, detector=small)
    with h5py.File(simulated_file) as file:
        assert file["patterns"].dtype == np.dtype("<f4")
        assert file["patterns"].attrs["unit"] == "photons"
        np.testing.assert_array_equal(file["patterns"][:], expected.patterns)
        np.testing.assert_array_equal(file["truth"].asstr()[:], expected.true_labels)
        np.testing.assert_array_equal(file["mask"][:], pnccd_bad_pixels(SMALL))
        assert file["mask"].dtype == np.uint8
        for name in expected.details.dtype.names:
            np.testing.assert_array_equal(
                file["truth_details"][name][:], expected.details[name]
            )


def test_file_says_where_it_came_from(simulated_file):
    with h5py.File(simulated_file) as file:
        assert file.attrs["seed"] == 6
        assert '"weak_share"' in file.attrs["sample"]
        assert '"distance_mm": 581' in file.attrs["detector"]
        assert file.attrs["made_by"].startswith("single-hits")


def test_refused_parameters_leave_the_old_file(simulated_file):
    before = simulated_file.read_bytes()
    with pytest.raises(ParameterError):
        write_simulated(simulated_file, 3, -1)
    assert simulated_file.read_bytes() == before


def test_example_labels_are_the_truth(simulated_file, tmp_path):
    write_example_labels(simulated_file, tmp_path / "labels.csv", 25)
    with (tmp_path / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["pattern", "label", "file", "labeller", "labelled_at"]
    assert {row["file"] for row in rows} == {simulated_file.name}
    patterns = [int(row["pattern"]) for row in rows]
    assert len(set(patterns)) == 25
    assert {row["labeller"] for row in rows} == {"simulated"}
    with h5py.File(simulated_file) as file:
        truth = file["truth"].asstr()[:]
        assert {row["labelled_at"] for row in rows} == {file.attrs["made_at"]}
    assert [row["label"] for row in rows] == list(truth[patterns])


def test_example_labels_follow_the_random_order(simulated_file, tmp_path):
    write_example_labels(simulated_file, tmp_path / "labels.csv", 25)
    lines = (tmp_path / "labels.csv").read_text().splitlines()[1:]
    with open_patterns(simulated_file) as patterns:
        first = sorted(patterns.shuffled()[:25])
    assert [int(line.split(",")[0]) for line in lines] == first


def test_fewer_patterns_than_labels_asked_for(simulated_file, tmp_path):
    write_example_labels(simulated_file, tmp_path / "labels.csv", 500)
    lines = (tmp_path / "labels.csv").read_text().splitlines()
    assert [int(line.split(",")[0]) for line in lines[1:]] == list(range(70))


def test_labels_from_a_file_without_truth_are_refused(tmp_path):
    path = tmp_path / "measured.h5"
    with h5py.File(path, "w") as file:
        file["patterns"] = np.zeros((2, 8, 8), dtype=np.float32)
    with pytest.raises(PatternsFileError, match=r"measured\.h5: /truth"):
        write_example_labels(path, tmp_path / "labels.csv")
    with pytest.raises(PatternsFileError, match=r"absent\.h5"):
        write_example_labels(tmp_path / "absent.h5", tmp_path / "labels.csv")
    assert not (tmp_path / "labels.csv").exists()


def test_beam_brightness_and_background_drift_along_the_run():
    calm = Sample(single=1, multiple=0, other=0, blank=0, fluence_spread=0)
    drifting = replace(calm, drift_px=3, fluence_drift=0.7, drift_shots=4)
    first, last = (
        simulate_patterns(4, 1, sample=sample, detector=CENTRED, bad_pixels=NONE_BAD)
        for sample in (calm, drifting)
    )
    ratio = last.details["photons"] / first.details["photons"]
    assert ratio == pytest.approx(np.exp([0, 0.7, 0, -0.7]), rel=0.05)
    still, moved = (
        [centre_of_mass(pattern[24:41, 24:41]) for pattern in some.patterns]
        for some in (first, last)
    )
    shift = np.subtract(moved, still).mean(axis=1)
    assert shift[1] > 1 > abs(shift[0])
    assert shift[3] < -1


def test_pedestal_and_gain_are_put_on_what_was_counted():
    counted = Sample(single=1, multiple=0, other=0, blank=0)
    recorded = replace(counted, adu_per_photon=30, pedestal_adu=-100)
    photons, adu = (
        simulate_patterns(2, 1, sample=sample, bad_pixels=pnccd_bad_pixels(SMALL))
        for sample in (counted, recorded)
    )
    good = ~pnccd_bad_pixels(SMALL)
    assert np.all(adu.patterns[:, good] == 30 * photons.patterns[:, good] - 100)
    assert np.all(adu.patterns[:, ~good] == 0)


def test_an_unknown_body_is_refused():
    with pytest.raises(ParameterError, match="body is 'banana', expected one of"):
        Sample(body="banana")
