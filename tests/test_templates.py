"""Ranking by templates: the article's numbers, and what every metric promises."""

from dataclasses import replace

import h5py
import numpy as np
import pytest
import reference
from scipy import ndimage

from helpers import plots
from helpers.errors import ParameterError, WorkFolderError
from helpers.features import PatternFeatures
from helpers.patterns import open_patterns
from helpers.ranking import (
    METRICS,
    Metric,
    Nearest,
    choose_metric,
    compare_rankings,
    match_template,
    pick_turned,
    precision_at,
    rank_patterns,
    read_clean_single_hits,
    read_ranking,
    write_clean_single_hits,
    write_ranking,
)
from helpers.ranking.match import turn
from helpers.ranking.metric import rotate_templates, scale_to_255
from helpers.simulate import (
    Detector,
    Sample,
    pnccd_bad_pixels,
    simulate_patterns,
    write_simulated,
)

ANGLES = np.arange(36) * 5.0


@pytest.fixture
def stack_of(tmp_path):
    """Write images as a file and open it."""

    def write(images, bad_pixels=None, dtype=np.float32, **options):
        path = tmp_path / f"patterns{len(list(tmp_path.iterdir()))}.h5"
        with h5py.File(path, "w") as file:
            values = np.asarray(images).astype(dtype)
            file.create_dataset("patterns", data=values, **options)
        return open_patterns(path, bad_pixels=bad_pixels)

    return write


@pytest.fixture(scope="module")
def simulated():
    return simulate_patterns(240, seed=11, bad_pixels=pnccd_bad_pixels((130, 128)))


def pick_singles(truth, n):
    return np.flatnonzero(truth == "single")[:n]


@pytest.fixture
def noisy():
    rng = np.random.default_rng(5)
    rate = rng.gamma(0.3, 40, size=(40, 22, 19))
    return rng.poisson(ndimage.gaussian_filter(rate, (0, 2, 2))) - 0.5


def assert_same_as_article(stack, hits, **options):
    ranking = rank_patterns(stack, hits, metric="article", **options)
    slow = reference.rank_by_article(stack[:], hits, ANGLES)
    distance, template, angle = (np.array(values) for values in zip(*slow, strict=True))
    # float32 images up to 255 have steps of 1e-5
    np.testing.assert_allclose(
        ranking.distance, distance[ranking.index], rtol=1e-5, atol=1e-3
    )
    np.testing.assert_array_equal(ranking.template, template[ranking.index])
    np.testing.assert_array_equal(ranking.angle_deg, angle[ranking.index])
    assert set(ranking.index) == set(range(len(stack))) - set(hits)


@pytest.mark.parametrize("max_bytes", [2**30, 10**6, 1])
def test_the_article_metric_is_the_article(stack_of, noisy, max_bytes):
    assert_same_as_article(stack_of(noisy), [3, 0, 17], max_bytes=max_bytes)


def test_nearly_identical_patterns_keep_their_digits(stack_of):
    rng = np.random.default_rng(6)
    hit = rng.poisson(900, size=(40, 41)).astype(float)
    copies = np.stack([hit, *(hit + 1e-3 * k * (hit > 950) for k in range(8))])
    assert_same_as_article(stack_of(copies), [0])


def test_a_copy_of_a_template_has_distance_zero(stack_of, noisy):
    noisy[30] = noisy[2]
    ranking = rank_patterns(stack_of(noisy), [2, 5], metric="article")
    assert (ranking.index[0], ranking.template[0], ranking.angle_deg[0]) == (30, 2, 0)
    assert ranking.distance[0] == pytest.approx(0, abs=1e-3)


def test_patterns_without_photons_do_not_divide_by_zero(stack_of, noisy):
    noisy[:4] = np.array([0, -3, 9, 0])[:, None, None]
    assert_same_as_article(stack_of(noisy), [0, 2, 10])


def test_scaling_to_255_sets_negatives_to_zero_and_leaves_the_input_alone():
    images = np.array([[[-1.0, 2.0, 4.0]], [[-1.0, -2.0, 0.0]], [[np.nan, 1, np.inf]]])
    before = images.copy()
    scaled = scale_to_255(images)
    np.testing.assert_array_equal(scaled[:2], [[[0, 127.5, 255]], [[0, 0, 0]]])
    np.testing.assert_array_equal(scaled[2], [[0, 255, 0]])
    np.testing.assert_array_equal(images, before)


@pytest.mark.parametrize("shape", [(70, 26, 25), (3, 1, 9), (2, 4, 2), (1, 3, 3)])
def test_rotations_are_those_of_scipy(shape):
    images = np.random.default_rng(7).random(shape) * 255
    rotated = rotate_templates(images, ANGLES)
    for image, turns in zip(images, rotated, strict=True):
        slow = [ndimage.rotate(image, angle, reshape=False) for angle in ANGLES]
        np.testing.assert_allclose(turns, slow, rtol=1e-6, atol=1e-4)  # float32 of 255


def test_a_positive_angle_turns_counter_clockwise_as_displayed():
    image = np.zeros((21, 21))
    image[10, 18] = 1  # right of the centre
    turned = rotate_templates(image[None], np.array([90.0]))[0, 0]
    assert np.unravel_index(turned.argmax(), turned.shape) == (2, 10)  # above it


@pytest.mark.parametrize("angle", [15.0, 70.0, 140.0])
def test_a_rotated_template_is_found_at_its_angle(stack_of, noisy, angle):
    noisy[8] = ndimage.rotate(np.maximum(noisy[1], 0), angle, reshape=False)
    ranking = rank_patterns(stack_of(noisy), [0, 1], metric="article")
    place = list(ranking.index).index(8)
    assert ranking.template[place] == 1
    assert abs(ranking.angle_deg[place] - angle) <= 5


@pytest.mark.parametrize("metric", METRICS)
def test_bad_pixels_and_scale_change_no_rank(stack_of, simulated, metric):
    bad = pnccd_bad_pixels((130, 128))
    images = simulated.patterns[:90].copy()
    hits = pick_singles(simulated.true_labels[:90], 5)
    before = rank_patterns(stack_of(images, bad), hits, metric)
    images *= np.geomspace(0.1, 50, 90, dtype=np.float32)[:, None, None]
    images[:, bad] = np.random.default_rng(8).choice([-1e6, 1e6, np.nan], bad.sum())
    after = rank_patterns(stack_of(images, bad), hits, metric)
    np.testing.assert_array_equal(after.index, before.index)
    np.testing.assert_array_equal(after.template, before.template)
    # the same float32 sums in other units
    np.testing.assert_allclose(after.distance, before.distance, rtol=1e-4, atol=1e-5)


def test_the_rotation_metric_is_its_formula(stack_of, simulated):
    images, hits = simulated.patterns[:12], [3, 0, 8, 5]
    bad, centre = pnccd_bad_pixels((130, 128)), (64.9, 62.2)
    ranking = rank_patterns(stack_of(images, bad), hits, centre=centre)
    slow = reference.rank_by_rotation(images, hits, bad, centre)
    distance, template, angle = (np.array(values) for values in zip(*slow, strict=True))
    # sums of 10⁴ pixels in float32
    np.testing.assert_allclose(ranking.distance, distance[ranking.index], atol=1e-4)
    np.testing.assert_array_equal(ranking.template, template[ranking.index])
    step_deg = 180 / ranking.n_rotations
    apart = np.abs(ranking.angle_deg - angle[ranking.index])
    assert np.minimum(apart, 180 - apart).max() <= step_deg / 2 + 1e-3


@pytest.mark.parametrize("angle", [0.0, 33.0, 90.0, 171.0])
def test_the_rotation_metric_finds_a_rotated_template(stack_of, angle):
    shape = (129, 129)
    detector = replace(Detector.of_shape(shape), centre=(64.0, 64.0))
    no_bad = np.zeros(shape, bool)
    images, truth, _ = simulate_patterns(24, 13, detector=detector, bad_pixels=no_bad)
    images = images[truth == "multiple"][:8]  # with fringes: they have an orientation
    # counted once and then smoothed: what spline interpolation can rotate
    images = ndimage.gaussian_filter(images, (0, 1.5, 1.5))
    turned = ndimage.rotate(images[2], angle, reshape=False)
    stack = stack_of(np.concatenate([images, 3 * turned[None]]), no_bad)
    ranking = rank_patterns(stack, range(8), centre=(64, 64))
    assert ranking.template[0] == 2
    apart = abs(ranking.angle_deg[0] - angle)
    assert min(apart, 180 - apart) < 180 / ranking.n_rotations / 2


def test_rotating_a_pattern_by_right_angles_changes_no_rank(stack_of):
    square = (64, 64)
    bad = pnccd_bad_pixels(square)
    bad |= np.rot90(bad) | np.rot90(bad, 2) | np.rot90(bad, 3)
    patterns, truth, _ = simulate_patterns(80, 12, bad_pixels=bad)
    hits = pick_singles(truth, 4)
    before = rank_patterns(stack_of(patterns, bad), hits, centre=(31.5, 31.5))
    turned = np.stack([np.rot90(one, k % 4) for k, one in enumerate(patterns)])
    turned[hits] = patterns[hits]
    after = rank_patterns(stack_of(turned, bad), hits, centre=(31.5, 31.5))
    np.testing.assert_array_equal(after.index, before.index)
    np.testing.assert_allclose(after.distance, before.distance, atol=1e-5)


def test_a_streak_on_one_side_does_not_matter(stack_of, simulated):
    bad = pnccd_bad_pixels((130, 128))
    hits = pick_singles(simulated.true_labels, 6)
    images = simulated.patterns[hits].copy()
    clean = rank_patterns(stack_of(images, bad), range(5), centre=(65.6, 62.7))
    images[5, :60, 55] += images[5].max()
    streaky = rank_patterns(stack_of(images, bad), range(5), centre=(65.6, 62.7))
    assert streaky.distance[0] == pytest.approx(clean.distance[0], abs=0.02)


def test_rotation_and_encoder_rank_singles_first(stack_of, simulated):
    hits = pick_singles(simulated.true_labels, 15)
    stack = stack_of(simulated.patterns, pnccd_bad_pixels((130, 128)))
    is_single = simulated.true_labels == "single"
    n = np.count_nonzero(is_single) - len(hits)
    precision = {
        metric: precision_at(is_single[rank_patterns(stack, hits, metric).index], n)
        for metric in ("rotation", "encoder", "article")
    }
    by_article = precision.pop("article").value
    assert min(each.value for each in precision.values()) > max(0.85, by_article)


def test_patterns_without_photons_rank_last(stack_of, simulated):
    images = simulated.patterns[:40].copy()
    images[[7, 9]] = 0
    hits = [7, *pick_singles(simulated.true_labels, 3)]
    ranking = rank_patterns(stack_of(images), hits, centre=(65.6, 62.7))
    assert ranking.distance[list(ranking.index).index(9)] == 1
    assert np.isfinite(ranking.distance).all()
    assert not (ranking.template[:-1] == 7).any()


@pytest.mark.parametrize("metric", METRICS)
def test_one_template_is_enough(stack_of, noisy, metric):
    ranking = rank_patterns(stack_of(noisy), [4], metric, centre=(10.5, 9.0))
    assert len(ranking) == 39
    assert set(ranking.template) == {4}


@pytest.mark.parametrize(
    ("hits", "options", "message"),
    [
        ([], {}, "No clean single hits"),
        ([40], {}, r"from 40 to 40 .*expected whole numbers from 0 to 39"),
        ([-1], {}, "from -1 to -1"),
        ([0.5], {}, "float64"),
        ([1, 2, 1], {}, "names a pattern twice"),
        ([1], {"metric": "best"}, "'best'; expected one of"),
        ([1], {"n_rotations": 0}, "n_rotations is 0"),
    ],
)
def test_impossible_requests_are_refused(stack_of, noisy, hits, options, message):
    with pytest.raises(ParameterError, match=message):
        rank_patterns(stack_of(noisy), hits, **options)


@pytest.mark.parametrize("metric", METRICS)
def test_templates_of_another_shape_are_refused(stack_of, noisy, metric):
    smaller = stack_of(noisy[:, 1:])
    with pytest.raises(ParameterError, match=r"templates are of shape .*same detector"):
        rank_patterns(smaller, [1], metric, source=stack_of(noisy))


def test_a_metric_is_a_line_in_the_table(stack_of, noisy, monkeypatch):
    def by_number(patterns, hits, options):
        apart = np.abs(np.arange(len(patterns))[:, None] - hits)
        angle = np.zeros(len(patterns), np.float32)
        return Nearest(apart.min(axis=1) * 1.0, apart.argmin(axis=1), angle, 1)

    metric = Metric("number", turns_about_centre=False, nearest=by_number)
    monkeypatch.setitem(METRICS, "number", metric)
    ranking = rank_patterns(stack_of(noisy), [20, 3], "number")
    assert ranking.metric == "number"
    assert ranking.index[:4].tolist() == [2, 4, 19, 21]
    assert ranking.template[:4].tolist() == [3, 3, 20, 20]
    with pytest.raises(ParameterError, match=f"expected one of {', '.join(METRICS)}"):
        rank_patterns(stack_of(noisy), [20, 3], "nombre")


@pytest.fixture(scope="module")
def rods(tmp_path_factory):
    """Simulate rods, single and in pairs, in a jittering beam."""
    path = tmp_path_factory.mktemp("rods") / "rods.h5"
    sample = Sample(
        body="rod", single=0.4, multiple=0.4, other=0.1, blank=0.1, jitter_px=1.0
    )
    write_simulated(path, 240, 3, sample=sample, detector=Detector.of_shape((64, 64)))
    with open_patterns(path) as patterns:
        yield patterns


def test_the_encoder_metric_is_its_formula(rods):
    hits = pick_singles(rods.true_labels, 9)
    centre = (31.0, 32.5)
    ranking = rank_patterns(rods, hits, "encoder", centre=centre)
    features = PatternFeatures(rods.bad_pixels, centre, with_encoder=True)(rods[:])
    standard = (features - features.mean(0)) / np.maximum(features.std(0), 1e-6)
    standard = np.clip(standard, -3, 3)
    groups = np.split(standard, [standard.shape[1] - 67, standard.shape[1] - 3], 1)
    squares = [
        np.square(group[:, None] - group[hits]).mean(axis=-1) for group in groups
    ]
    distances = np.sqrt(sum(squares))
    expected = np.sort(distances, axis=1)[:, :3].mean(axis=1)
    np.testing.assert_allclose(ranking.distance, expected[ranking.index], rtol=1e-4)
    template = hits[distances.argmin(axis=1)]
    np.testing.assert_array_equal(ranking.template, template[ranking.index])
    assert np.isnan(ranking.angle_deg).all()


def test_the_encoder_metric_takes_templates_of_another_run(stack_of, rods):
    hits, bad = pick_singles(rods.true_labels, 12), np.zeros((64, 64), bool)
    bad[:, 50:53] = True
    other = stack_of(rods[:], bad)
    centres = {"centre": (31, 32), "source_centre": (31, 32)}
    same, masked = (
        rank_patterns(stack, hits, "encoder", source=rods, **centres)
        for stack in (rods, other)
    )
    alone = rank_patterns(rods, hits, "encoder", centre=(31, 32))
    place = np.isin(same.index, alone.index)
    np.testing.assert_array_equal(same.index[place], alone.index)
    # behind other bad pixels the numbers of rings are others, those of the encoder not
    order = compare_rankings(same, masked)
    assert order.spearman > 0.5


def test_the_labels_choose_the_metric(rods):
    labels = rods.true_labels.copy()
    labels[150:] = ""
    hits = pick_singles(labels, 40)
    choice = choose_metric(rods, hits, labels)
    assert choice.metric == "encoder"
    assert choice.average_precision["encoder"] > choice.average_precision["rotation"]
    assert (choice.n_single, choice.n_other) == (
        np.count_nonzero(labels == "single"),
        np.count_nonzero(~np.isin(labels, ["", "single"])),
    )
    assert "encoder 0." in choice.describe()
    assert "rotation 0." in choice.describe()


def test_what_is_ranked_does_not_depend_on_what_was_ranked_before(rods):
    def rank(patterns, hits, centre):
        found = rank_patterns(patterns, hits, "encoder", centre=centre)
        return found.index.tobytes() + found.distance.tobytes()

    few, many = (pick_singles(rods.true_labels, n) for n in (8, 20))
    asked = [(few, (31.0, 32.0)), (many, (31.0, 32.0)), (few, (32.0, 31.0))]
    anew = [rank(rods.with_bad_pixels(rods.bad_pixels), *each) for each in asked]
    assert [rank(rods, *each) for each in asked] == anew
    choose_metric(rods, few, rods.true_labels, centre=(31.0, 32.0))
    assert rank(rods, *asked[0]) == anew[0]
    assert len(set(anew)) == 3


def test_no_template_judges_itself(rods, monkeypatch):
    hits = pick_singles(rods.true_labels, 8)
    labels = np.full(len(rods), "", dtype="U8")
    labels[hits] = "single"
    labels[np.flatnonzero(rods.true_labels == "blank")[:8]] = "blank"

    def compare(_, index, hits, __):
        """Find each pattern farther from templates the less their indices differ."""
        return 1.0 * (index[:, None] != hits) * (1 + np.isin(index, hits))[:, None]

    rotation = replace(METRICS["rotation"], compare=compare)
    monkeypatch.setitem(METRICS, "rotation", rotation)
    choice = choose_metric(rods, hits, labels)
    assert choice.metric == "encoder"
    assert choice.average_precision["rotation"] == pytest.approx(0.5)  # all last


def test_few_labels_choose_no_metric(rods):
    labels = np.full(len(rods), "", dtype="U8")
    choice = choose_metric(rods, pick_singles(rods.true_labels, 4), labels)
    assert choice.metric == "encoder"
    assert choice.average_precision == {}
    assert "4 single hits and 0 other patterns are too few" in choice.describe()


def test_a_match_finds_the_angle_that_the_metric_did_not_ask_for(turned_stack):
    ranking = rank_patterns(turned_stack, [2], "encoder", centre=(64, 64))
    assert np.isnan(ranking.angle_deg).all()
    match = match_template(turned_stack, ranking, 4, centre=(64, 64))
    assert match.angle_deg == pytest.approx(70, abs=2)


def test_templates_without_photons_have_no_centre(stack_of):
    with pytest.raises(ParameterError, match="No template has photons"):
        rank_patterns(stack_of(np.zeros((5, 20, 20))), [1])


@pytest.fixture
def ranking(stack_of, noisy):
    return rank_patterns(stack_of(noisy), [1, 2], metric="article")


def test_a_ranking_survives_its_file(tmp_path, ranking):
    path = tmp_path / "ranking.h5"
    write_ranking(path, ranking)
    back = read_ranking(path)
    for name, value in vars(ranking).items():
        np.testing.assert_array_equal(getattr(back, name), value)
    with h5py.File(path) as file:
        assert file["index"].dtype == np.int64
        assert file["distance"].dtype == np.float32
        assert file.attrs["metric"] == "article"
        assert file.attrs["n_rotations"] == 36
        assert file.attrs["n_templates"] == 2


def test_clean_single_hits_survive_their_file(tmp_path, stack_of, noisy):
    path, stack = tmp_path / "clean_single_hits.h5", stack_of(noisy)
    write_clean_single_hits(path, stack, [7, 3])
    hits, index = read_clean_single_hits(path)
    np.testing.assert_array_equal(index, [7, 3])
    np.testing.assert_array_equal(hits, stack[[7, 3]])
    assert hits.dtype == np.float32


def test_a_missing_or_foreign_ranking_says_what_to_do(tmp_path):
    path = tmp_path / "ranking.h5"
    with pytest.raises(WorkFolderError, match=r"ranking\.h5 is not there.*Run 04-rank"):
        read_ranking(path)
    path.write_text("not HDF5")
    with pytest.raises(
        WorkFolderError, match=r"ranking\.h5 cannot be read.*Run 04-rank again"
    ):
        read_ranking(path)
    with h5py.File(path, "w") as file:
        file["index"] = [1]
    with pytest.raises(WorkFolderError, match="distance"):
        read_ranking(path)


def test_the_precision_of_the_best_counts_the_singles_among_them():
    found = precision_at(np.array([True, True, True, False, False]), 4)
    assert (found.n_sample, found.n_counted, found.value) == (4, 3, 0.75)


def test_the_precision_at_the_edges():
    all_single = np.ones(3, dtype=bool)
    assert precision_at(all_single, 99).n_sample == 3
    assert precision_at(all_single, 3).high == 1
    assert np.isnan(precision_at(all_single[:0], 3).value)
    with pytest.raises(ParameterError, match="n is -1"):
        precision_at(all_single, -1)


def assert_same_ranking(one, other):
    np.testing.assert_array_equal(one.index, other.index)
    np.testing.assert_array_equal(one.template, other.template)
    np.testing.assert_allclose(one.distance, other.distance, rtol=1e-6, atol=1e-6)


STORED = (
    ("u1", {}),
    ("i8", {"chunks": (1, 130, 128), "compression": "gzip"}),
    ("u2", {"chunks": (7, 130, 128), "shuffle": True, "compression": "lzf"}),
    ("f8", {"chunks": (60, 13, 16)}),
)


@pytest.mark.parametrize("metric", METRICS)
def test_how_the_file_stores_patterns_changes_nothing(stack_of, simulated, metric):
    images, bad = simulated.patterns[:60], pnccd_bad_pixels((130, 128))
    images = np.minimum(np.rint(images), 255)
    before = rank_patterns(stack_of(images, bad), [3, 0, 7], metric)
    for dtype, options in STORED:
        stack = stack_of(images, bad, dtype, **options)
        assert_same_ranking(before, rank_patterns(stack, [3, 0, 7], metric))


@pytest.mark.parametrize("metric", METRICS)
def test_what_is_not_finite_counts_as_0(stack_of, simulated, metric):
    images, bad = simulated.patterns[:60].copy(), pnccd_bad_pixels((130, 128))
    places = np.s_[5, 40:50, 70], np.s_[0, 30, 90], np.s_[3, 70, 70]
    for place in places:
        images[place] = 0
    before = rank_patterns(stack_of(images, bad), [3, 0, 7], metric)
    for place, value in zip(places, (np.nan, np.inf, -np.inf), strict=True):
        images[place] = value
    after = rank_patterns(stack_of(images, bad), [3, 0, 7], metric)
    assert_same_ranking(before, after)


def test_the_order_of_the_templates_changes_no_rank(stack_of, simulated):
    stack, hits = stack_of(simulated.patterns[:60]), [3, 0, 7, 12, 20]
    options = {"centre": (65.6, 62.7)}
    before = rank_patterns(stack, hits, **options)
    assert_same_ranking(before, rank_patterns(stack, hits[::-1], **options))


@pytest.mark.parametrize("metric", METRICS)
def test_an_interrupted_ranking_leaves_no_file(
    stack_of, simulated, tmp_path, monkeypatch, metric
):
    stack = stack_of(simulated.patterns)

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("helpers.patterns.scan.run_parts", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_ranking(tmp_path / "ranking.h5", rank_patterns(stack, [1, 2], metric))
    assert not list(tmp_path.glob("*ranking*"))


def test_a_ranking_that_cannot_be_written_whole_leaves_no_file(
    tmp_path, ranking, monkeypatch
):
    def fail(*_, **__):
        message = "the disk is full"
        raise OSError(message)

    monkeypatch.setattr("helpers.ranking.ranking.write_provenance", fail)
    with pytest.raises(OSError, match="full"):
        write_ranking(tmp_path / "ranking.h5", ranking)
    assert not list(tmp_path.glob("*ranking*"))


def test_a_turned_image_is_what_the_article_turns_but_for_its_splines():
    image = ndimage.gaussian_filter(np.random.default_rng(3).random((41, 41)), 3)
    turned = turn(image.astype(np.float32), 25.0, (20.0, 20.0))
    expected = ndimage.rotate(image, 25.0, reshape=False, order=1)
    np.testing.assert_allclose(turned[10:-10, 10:-10], expected[10:-10, 10:-10], 1e-4)


def test_what_a_turned_image_lacks_comes_from_the_opposite_side():
    image = np.ones((31, 31), np.float32)
    image[:, :9] = np.nan
    turned = turn(image, 90.0, (15.0, 15.0))
    np.testing.assert_array_equal(turned, np.ones_like(image))
    image[:] = np.nan
    assert np.isnan(turn(image, 30.0, (15.0, 15.0))).all()


@pytest.fixture
def turned_stack(stack_of):
    shape, no_bad = (129, 129), np.zeros((129, 129), bool)
    detector = replace(Detector.of_shape(shape), centre=(64.0, 64.0))
    images, truth, _ = simulate_patterns(24, 13, detector=detector, bad_pixels=no_bad)
    images = ndimage.gaussian_filter(images[truth == "multiple"][:4], (0, 1.5, 1.5))
    turned = ndimage.rotate(images[2], 70.0, reshape=False)
    return stack_of(np.concatenate([images, 3 * turned[None]]), no_bad)


def test_a_match_is_the_template_turned_and_as_bright(turned_stack):
    ranking = rank_patterns(turned_stack, range(4), centre=(64, 64))
    match = match_template(turned_stack, ranking, 4, (64, 64))
    assert (match.index, match.template) == (4, 2)
    assert match.angle_deg == pytest.approx(70, abs=2)
    assert match.pattern.shape == match.turned.shape == (97, 97)
    middle = (slice(20, -20), slice(20, -20))
    # interpolated twice, by cubics and lines
    apart = np.abs(match.pattern - match.turned)[middle]
    assert apart.max() < 0.1 * match.pattern.max()
    assert np.abs(match.difference[middle]).mean() < 0.5


def test_a_match_without_a_centre_turns_about_the_middle(turned_stack):
    ranking = rank_patterns(turned_stack, range(4), centre=(64, 64))
    one = match_template(turned_stack, ranking, 4, (64.0, 64.0))
    other = match_template(turned_stack, ranking, 4)
    np.testing.assert_array_equal(one.turned, other.turned)


def test_templates_have_no_match(stack_of, noisy, ranking):
    with pytest.raises(ParameterError, match=r"pattern 2 is not in the ranking.*38"):
        match_template(stack_of(noisy), ranking, 2)


def test_templates_of_another_stack_have_no_match(stack_of, noisy, ranking):
    elsewhere = replace(ranking, template=np.full_like(ranking.template, 40))
    with pytest.raises(ParameterError, match="template 40 is of another stack"):
        match_template(stack_of(noisy), elsewhere, int(ranking.index[0]))


def test_the_telling_match_is_bright_good_and_turned(ranking):
    n_best = round(0.1 * len(ranking))
    angles = np.zeros(len(ranking), np.float32)
    angles[[1, 2, n_best]] = 90, 170, 90
    chosen = replace(ranking, angle_deg=angles)
    photons = np.zeros(40)
    photons[ranking.index[[0, 1, 2, n_best]]] = 5, 1, 6, 9
    assert pick_turned(chosen, photons) == ranking.index[1]
    chosen = replace(ranking, angle_deg=np.zeros_like(angles))
    assert pick_turned(chosen, photons) == ranking.index[2]
    empty = replace(ranking, index=ranking.index[:0])
    with pytest.raises(ParameterError, match="every pattern is a template"):
        pick_turned(empty, photons)


def test_rankings_agree_with_themselves_and_not_with_their_reverse(ranking):
    same = compare_rankings(ranking, ranking)
    assert (same.spearman, same.share_in_both(10)) == (pytest.approx(1), 1)
    reverse = replace(ranking, index=ranking.index[::-1])
    other = compare_rankings(ranking, reverse)
    np.testing.assert_array_equal(other.other_rank, np.arange(len(ranking), 0, -1))
    assert (other.spearman, other.share_in_both(10)) == (pytest.approx(-1), 0)
    assert np.isnan(other.share_in_both(0))


def test_rankings_of_different_patterns_are_not_compared(ranking):
    other = replace(ranking, index=ranking.index + 1)
    with pytest.raises(ParameterError, match="different patterns: 38 and 38"):
        compare_rankings(ranking, other)


def test_match_and_agreement_are_drawn(turned_stack):
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    ranking = rank_patterns(turned_stack, [0, 1], centre=(64, 64))
    _, axes = plt.subplots(1, 4)
    plots.plot_match(axes[:3], match_template(turned_stack, ranking, 4))
    assert "pattern 4, distance" in axes[0].get_title()
    nearest = ranking.template[list(ranking.index).index(4)]
    assert f"template {nearest}, turned by" in axes[1].get_title()
    assert axes[0].images[0].norm is axes[1].images[0].norm
    agreement = compare_rankings(ranking, ranking)
    labels = np.array(["single", "", "multiple"])
    plots.plot_rank_agreement(axes[3], agreement, labels, ("one", "two"))
    names = axes[3].get_legend_handles_labels()[1]
    assert names == ["no label", "single", "multiple"]
    assert (axes[3].get_xlabel(), axes[3].get_ylabel()) == (
        "rank by one",
        "rank by two",
    )
    plt.close()
