"""Ranking by templates: the article's numbers, and what every metric promises."""

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pytest
import reference
from scipy import ndimage

from helpers import templates
from helpers.errors import ParameterError, WorkFolderError
from helpers.templates import precision_at, rank_patterns
from helpers.templates.article import rotate_templates, scale_to_255

ANGLES = np.arange(36) * 5.0


@dataclass
class Stack:
    """Patterns in memory."""

    images: np.ndarray
    bad_pixels: np.ndarray
    fingerprint: str = "of these patterns"
    files: tuple[Path, ...] = ()

    @property
    def shape(self):
        return self.images.shape

    def __len__(self):
        return len(self.images)

    def __getitem__(self, key):
        return np.where(self.bad_pixels, 0, self.images[key]).astype(np.float32)

    def blocks(self, max_bytes, progress=""):
        n = max(1, max_bytes // (4 * self.images[0].size))
        for start in range(0, len(self), n):
            yield start, self[start : start + n]


def stack_of(images, bad_pixels=None):
    images = np.asarray(images)
    bad = np.zeros(images.shape[1:], bool) if bad_pixels is None else bad_pixels
    return Stack(images, bad)


@pytest.fixture
def noisy_stack():
    rng = np.random.default_rng(5)
    rate = rng.gamma(0.3, 40, size=(40, 22, 19))
    return stack_of(rng.poisson(ndimage.gaussian_filter(rate, (0, 2, 2))) - 0.5)


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
def test_the_article_metric_is_the_article(noisy_stack, max_bytes):
    assert_same_as_article(noisy_stack, [3, 0, 17], max_bytes=max_bytes)


def test_nearly_identical_patterns_keep_their_digits():
    rng = np.random.default_rng(6)
    hit = rng.poisson(900, size=(40, 41)).astype(float)
    copies = np.stack([hit, *(hit + 1e-3 * k * (hit > 950) for k in range(8))])
    assert_same_as_article(stack_of(copies), [0])


def test_a_copy_of_a_template_has_distance_zero(noisy_stack):
    noisy_stack.images[30] = noisy_stack.images[2]
    ranking = rank_patterns(noisy_stack, [2, 5], metric="article")
    assert (ranking.index[0], ranking.template[0], ranking.angle_deg[0]) == (30, 2, 0)
    assert ranking.distance[0] == pytest.approx(0, abs=1e-3)


def test_patterns_without_photons_do_not_divide_by_zero(noisy_stack):
    noisy_stack.images[:4] = np.array([0, -3, 9, 0])[:, None, None]
    assert_same_as_article(noisy_stack, [0, 2, 10])


def test_scaling_to_255_sets_negatives_to_zero_and_leaves_the_input_alone():
    images = np.array([[[-1.0, 2.0, 4.0]], [[-1.0, -2.0, 0.0]], [[np.nan, 1, np.inf]]])
    before = images.copy()
    scaled = scale_to_255(images)
    np.testing.assert_array_equal(scaled[:2], [[[0, 127.5, 255]], [[0, 0, 0]]])
    np.testing.assert_array_equal(scaled[2], [[0, 255, 0]])
    np.testing.assert_array_equal(images, before)


def test_rotations_are_those_of_scipy():
    images = np.random.default_rng(7).random((3, 26, 25)) * 255
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
def test_a_rotated_template_is_found_at_its_angle(noisy_stack, angle):
    noisy_stack.images[8] = ndimage.rotate(
        np.maximum(noisy_stack.images[1], 0), angle, reshape=False
    )
    ranking = rank_patterns(noisy_stack, [0, 1], metric="article")
    place = list(ranking.index).index(8)
    assert ranking.template[place] == 1
    assert abs(ranking.angle_deg[place] - angle) <= 5


def test_bad_pixels_and_scale_change_no_distance(noisy_stack):
    noisy_stack.images = np.maximum(noisy_stack.images, 0)
    noisy_stack.bad_pixels[9:12] = True
    before = rank_patterns(noisy_stack, [4], metric="article")
    noisy_stack.images[:, 10] = 1e5
    noisy_stack.images *= np.arange(1, 41)[:, None, None]
    after = rank_patterns(noisy_stack, [4], metric="article")
    np.testing.assert_array_equal(after.index, before.index)
    np.testing.assert_allclose(after.distance, before.distance, rtol=1e-5)


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
def test_impossible_requests_are_refused(noisy_stack, hits, options, message):
    with pytest.raises(ParameterError, match=message):
        rank_patterns(noisy_stack, hits, **options)


@pytest.fixture
def ranking(noisy_stack):
    return rank_patterns(noisy_stack, [1, 2], metric="article")


def test_a_ranking_survives_its_file(tmp_path, ranking):
    path = tmp_path / "ranking.h5"
    templates.write_ranking(path, ranking)
    back = templates.read_ranking(path)
    for name, value in vars(ranking).items():
        np.testing.assert_array_equal(getattr(back, name), value)
    with h5py.File(path) as file:
        assert file["index"].dtype == np.int64
        assert file["distance"].dtype == np.float32
        assert file.attrs["metric"] == "article"
        assert file.attrs["n_rotations"] == 36
        assert file.attrs["n_templates"] == 2


def test_clean_single_hits_survive_their_file(tmp_path, noisy_stack):
    path = tmp_path / "clean_single_hits.h5"
    templates.write_clean_single_hits(path, noisy_stack, [7, 3])
    hits, index = templates.read_clean_single_hits(path)
    np.testing.assert_array_equal(index, [7, 3])
    np.testing.assert_array_equal(hits, noisy_stack[[7, 3]])
    assert hits.dtype == np.float32


def test_a_missing_or_foreign_ranking_says_what_to_do(tmp_path):
    path = tmp_path / "ranking.h5"
    with pytest.raises(WorkFolderError, match=r"ranking\.h5: no such file.*again"):
        templates.read_ranking(path)
    path.write_text("not HDF5")
    with pytest.raises(WorkFolderError, match=r"ranking\.h5: cannot be read.*again"):
        templates.read_ranking(path)
    with h5py.File(path, "w") as file:
        file["index"] = [1]
    with pytest.raises(WorkFolderError, match="distance"):
        templates.read_ranking(path)


def test_the_precision_of_the_best_has_the_wilson_interval():
    found = precision_at(np.array([True, True, True, False, False]), 4)
    assert (found.n, found.n_single, found.value) == (4, 3, 0.75)
    # by the formula, by hand
    assert (found.low, found.high) == pytest.approx((0.3006, 0.9544), abs=1e-4)


def test_the_precision_at_the_edges():
    all_single = np.ones(3, dtype=bool)
    assert precision_at(all_single, 99).n == 3
    assert precision_at(all_single, 3).high == 1
    assert np.isnan(precision_at(all_single[:0], 3).value)
    with pytest.raises(ParameterError, match="n is -1"):
        precision_at(all_single, -1)
