"""The map of the patterns: layout, clusters, file, order and figures."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from matplotlib import pyplot as plt
from numpy.typing import NDArray
from sklearn.metrics import adjusted_mutual_info_score

from helpers import pattern_map, plots
from helpers.errors import OtherPatternsError, ParameterError, WorkFolderError
from helpers.labels import LabelStore, open_label_store
from helpers.pattern_map import (
    FittedMap,
    PatternMap,
    describe_groups,
    estimate_sizes,
    find_groups,
    fit_map,
    make_map,
    order_by_cluster,
    read_map,
    sort_inside_out,
    write_map,
)
from helpers.patterns import Patterns, open_patterns
from helpers.simulate import Detector, pnccd_bad_pixels, write_simulated
from helpers.widgets import MapView, show_map
from helpers.work_folder import MAP

SIZES = (60, 40, 30)
SHAPE = (64, 62)
N = 90


def make_blobs(seed: int, far: float = 8.0) -> tuple[NDArray[np.floating], list[int]]:
    """Give features of three kinds, and which is of which."""
    rng = np.random.default_rng(seed)
    kind = np.repeat(np.arange(3), SIZES)
    middle = far * np.eye(3, 10)
    return middle[kind] + rng.normal(size=(kind.size, 10)), kind.tolist()


@pytest.fixture(scope="module")
def fitted() -> FittedMap:
    """Give a map of three kinds."""
    return fit_map(make_blobs(1)[0])


def test_kinds_become_clusters_and_the_largest_is_0(fitted: FittedMap) -> None:
    kind = make_blobs(1)[1]
    assert adjusted_mutual_info_score(kind, fitted.cluster) > 0.95
    assert [np.bincount(fitted.cluster[fitted.cluster >= 0])[i] for i in range(3)] == [
        *sorted(np.bincount(fitted.cluster[fitted.cluster >= 0]), reverse=True)
    ]
    assert (fitted.position.dtype, fitted.cluster.dtype) == (np.float32, np.int32)


def make_near_groups(seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Give places of two groups side by side, and of many patterns far away."""
    rng = np.random.default_rng(seed)
    kind = np.repeat(np.arange(3), (100, 90, 90))
    middle = np.array([[0, 0], [4, 0], [60, 0]])
    return (middle[kind] + rng.normal(size=(280, 2))).astype(np.float32), kind


def test_a_cluster_of_most_patterns_is_cut_where_its_members_lie_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    position, kind = make_near_groups(0)
    found = pattern_map._find_clusters(position)
    assert adjusted_mutual_info_score(kind, found) > 0.9
    assert found[0] == 0
    assert (np.bincount(found) == np.sort(np.bincount(found))[::-1]).all()
    monkeypatch.setattr(pattern_map, "DOMINANT", 1.0)
    assert pattern_map._find_clusters(position).max() < found.max()


def test_a_cluster_without_parts_stays_whole() -> None:
    position = np.stack([np.arange(150), np.zeros(150)], axis=1).astype(np.float32)
    assert (pattern_map._cut_cluster(position) == 0).all()


def test_blocks_of_features_have_their_share_of_the_variance() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(400, 12)) * rng.uniform(1, 9, 12)
    fitted = fit_map(features[:60], blocks=((10, 1.0), (2, 4.0)))
    other = fit_map(features[:60] * 7 + 3, blocks=((10, 1.0), (2, 4.0)))
    np.testing.assert_allclose(fitted.points, other.points, atol=1e-4)
    spread = fitted.points.var(axis=0)
    assert spread.sum() == pytest.approx(5.0, rel=1e-3)
    assert spread[:2].sum() > 3.5  # the last two features, which lead


def test_the_same_seed_gives_the_same_map(fitted: FittedMap) -> None:
    again = fit_map(make_blobs(1)[0])
    np.testing.assert_array_equal(again.position, fitted.position)
    np.testing.assert_array_equal(again.cluster, fitted.cluster)


def test_others_are_placed_among_their_kind(fitted: FittedMap) -> None:
    features, kind = make_blobs(2)
    position, cluster = fitted.place(features)
    assert adjusted_mutual_info_score(kind, cluster) > 0.9
    for number in range(3):
        own = fitted.position[fitted.cluster == number]
        there = position[cluster == number]
        assert (there >= own.min(axis=0) - 1e-3).all()
        assert (there <= own.max(axis=0) + 1e-3).all()


def test_placing_is_the_vote_of_the_nearest_five(fitted: FittedMap) -> None:
    features = make_blobs(3, far=1.0)[0][:20]
    position, cluster = fitted.place(features)
    for own, at, number in zip(
        fitted.project(features), position, cluster, strict=True
    ):
        apart = np.linalg.norm(fitted.points - own, axis=1)
        near = np.argsort(apart, kind="stable")[:5]
        votes = [(fitted.cluster[near] == fitted.cluster[i]).sum() for i in near]
        assert number == fitted.cluster[near[int(np.argmax(votes))]]
        mean = fitted.position[near[fitted.cluster[near] == number]].mean(axis=0)
        np.testing.assert_allclose(at, mean, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("n", [1, 2, 3, 11, 12, 20])
def test_few_patterns_and_features_that_never_change_are_laid_out(n: int) -> None:
    features = np.random.default_rng(0).normal(size=(n, 6))
    features[:, 2] = 4.0
    found = fit_map(features)
    assert found.position.shape == (n, 2)
    assert np.isfinite(found.position).all()
    position, _ = found.place(features + 0.01)
    assert np.isfinite(position).all()


def test_patterns_that_are_all_the_same_are_laid_out() -> None:
    found = fit_map(np.ones((30, 6)))
    assert np.isfinite(found.position).all()


# ---- a stack ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a file of simulated patterns."""
    path = tmp_path_factory.mktemp("map") / "patterns.h5"
    write_simulated(
        path,
        N,
        seed=1,
        bad_pixels=pnccd_bad_pixels(SHAPE),
        detector=Detector.of_shape(SHAPE),
    )
    return path


@pytest.fixture
def patterns(path: Path) -> Patterns:
    return open_patterns(path)


@pytest.fixture(scope="module")
def mapped(path: Path) -> PatternMap:
    """Give the map of that file; most patterns are placed."""
    return make_map(open_patterns(path), (31.5, 30.5), n_fitted=60)


def test_every_pattern_has_a_place(patterns: Patterns, mapped: PatternMap) -> None:
    assert mapped.position.shape == (N, 2)
    assert np.isfinite(mapped.position).all()
    expected = np.sort(patterns.shuffled()[:60])
    np.testing.assert_array_equal(mapped.fitted, expected)
    assert "60 patterns made the map, 30 were placed into it" in mapped.describe()


def test_a_short_stack_makes_its_map_as_a_whole(
    patterns: Patterns, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(FittedMap, "place", refuse)
    found = make_map(patterns, (31.5, 30.5))
    assert found.fitted.size == N
    assert "placed" not in found.describe()


def test_no_patterns_to_make_the_map_of_are_refused(patterns: Patterns) -> None:
    with pytest.raises(ParameterError, match="n_fitted is 0; expected 1 or more"):
        make_map(patterns, (31.5, 30.5), n_fitted=0)


def test_what_is_written_is_read(mapped: PatternMap, tmp_path: Path) -> None:
    path = write_map(tmp_path, mapped)
    with h5py.File(path) as file:
        assert file["position"].dtype == np.float32
        assert file["cluster"].dtype == np.int32
        assert file.attrs["features"].startswith("invariant, encoder ")
    again = read_map(tmp_path)
    for name in ("position", "cluster", "fitted"):
        np.testing.assert_array_equal(getattr(again, name), getattr(mapped, name))
    assert again.fingerprint == mapped.fingerprint
    assert again.made_from == mapped.made_from


def test_a_map_that_is_missing_or_damaged_is_reported(
    mapped: PatternMap, tmp_path: Path
) -> None:
    with pytest.raises(WorkFolderError, match=r"map\.h5 is not there.*Run 02-map"):
        read_map(tmp_path)
    path = write_map(tmp_path, mapped)
    with h5py.File(path, "a") as file:
        del file["position"]
        file["position"] = np.zeros((N, 3), np.float32)
    with pytest.raises(WorkFolderError, match=r"not on a plane\. Run 02-map again"):
        read_map(tmp_path)
    path = write_map(tmp_path, mapped)
    with h5py.File(path, "a") as file:
        file["fitted"][0] = N
    with pytest.raises(WorkFolderError, match="made of patterns that it does not hold"):
        read_map(tmp_path)
    path = write_map(tmp_path, mapped)
    with h5py.File(path, "a") as file:
        file["cluster"][0] = 10**9
    with pytest.raises(WorkFolderError, match="more clusters than it has patterns"):
        read_map(tmp_path)


def test_a_map_of_other_patterns_is_refused(mapped: PatternMap, tmp_path: Path) -> None:
    write_map(tmp_path, mapped)
    (tmp_path / "experiment.json").write_text('{"fingerprint": "others"}')
    with pytest.raises(OtherPatternsError, match=f"{MAP.name} .*Run 02-map again"):
        read_map(tmp_path)


# ---- groups ----------------------------------------------------------------------


def test_each_cluster_comes_once_in_turn() -> None:
    rng = np.random.default_rng(0)
    cluster = rng.choice([-1, 0, 0, 0, 1, 2], 40).astype(np.int32)
    shuffled = rng.permutation(40)
    waiting = {
        k: [i for i in shuffled.tolist() if cluster[i] == k] for k in range(-1, 3)
    }
    expected = []
    while any(waiting.values()):
        expected += [own.pop(0) for own in waiting.values() if own]
    assert order_by_cluster(cluster, shuffled).tolist() == expected


def test_a_group_is_described_by_its_members(
    patterns: Patterns, mapped: PatternMap
) -> None:
    photons = patterns[:].sum(axis=(1, 2))
    words = np.full(N, "", "<U8")
    largest = np.flatnonzero(mapped.cluster == 0)
    words[largest[:4]] = ["single", "single", "single", "other"]
    sizes = estimate_sizes(patterns, (31.5, 30.5), mapped)
    assert np.flatnonzero(np.isfinite(sizes)).tolist() == mapped.fitted.tolist()
    groups = find_groups(patterns, mapped, photons, sizes, words)
    assert sum(group.index.size for group in groups) == N
    first = groups[0]
    assert sorted(first.index) == largest.tolist()
    assert first.photons == pytest.approx(np.median(photons[largest]))
    assert first.size == pytest.approx(np.nanmedian(sizes[largest]))
    assert (first.share["single"], first.share["other"]) == (0.75, 0.25)
    np.testing.assert_allclose(
        first.powder, patterns[largest].mean(axis=0), rtol=1e-4, atol=1e-4
    )
    lines = describe_groups(groups).splitlines()
    assert len(lines) == 1 + len(groups)
    assert "4: single 75%, other 25%" in lines[1]


def test_patterns_are_picked_from_the_middle_and_from_the_edge(
    patterns: Patterns, mapped: PatternMap
) -> None:
    index = sort_inside_out(mapped, 0)
    position = mapped.position[index]
    apart = np.linalg.norm(position - np.median(position, axis=0), axis=1)
    assert (np.diff(apart) >= 0).all()
    nothing = np.full(N, np.nan)
    words = np.full(N, "")
    group = find_groups(patterns, mapped, nothing, nothing, words)[0]
    assert group.pick(5).tolist() == [*index[:3], *index[-2:]]
    assert sorted(group.pick(1000)) == sorted(index)
    assert np.isnan(group.size)


# ---- figures ---------------------------------------------------------------------


def test_maps_are_drawn_by_cluster_number_and_label(mapped: PatternMap) -> None:
    words = np.full(N, "", "<U8")
    numbers = {"hit_score": np.arange(N), "prediction": np.full(N, np.nan)}
    figure = plots.show_maps(mapped.position, mapped.cluster, words, **numbers)
    titles = [ax.get_title() for ax in figure.axes if ax.get_visible()]
    assert [title for title in titles if title] == [
        "cluster",
        "hit score",
        "prediction",
    ]
    words[3] = "single"
    figure = plots.show_maps(mapped.position, mapped.cluster, words)
    assert figure.axes[1].get_title() == "label"
    shown = [text.get_text() for text in figure.axes[1].get_legend().get_texts()]
    assert shown == ["no label", "single"]
    plt.close("all")


def test_each_cluster_has_a_line_with_its_powder(
    patterns: Patterns, mapped: PatternMap
) -> None:
    nothing = np.full(N, np.nan)
    groups = find_groups(patterns, mapped, nothing, nothing, np.full(N, ""))
    figure = plots.show_groups(patterns, groups, n_shown=4)
    assert len(figure.axes) == len(groups)
    captions = [text.get_text() for text in figure.axes[0].texts]
    assert captions == ["powder", *(f"{i:,}" for i in groups[0].pick(4))]
    plt.close("all")


def test_colours_repeat_and_what_is_in_no_cluster_is_grey() -> None:
    colours = plots.colour_clusters(np.array([0, 7, -1]))
    assert colours[0] == colours[1] != colours[2] == plots.NO_COLOUR


# ---- the widget ------------------------------------------------------------------


@pytest.fixture
def view(
    patterns: Patterns, mapped: PatternMap, tmp_path: Path
) -> Iterator[tuple[MapView, LabelStore]]:
    """Give a map to be pointed at, and the store behind it."""
    path = tmp_path / "labels.sqlite"
    with open_label_store(path, patterns.fingerprint, N) as store:
        photons = np.arange(N, dtype=float)
        yield (
            show_map(patterns, mapped, store=store, labeller="anna", photons=photons),
            store,
        )


def test_a_lasso_fills_the_gallery_and_nothing_chosen_leaves_it(view: tuple) -> None:
    widget, _ = view
    assert sorted(widget.gallery.index()) == list(range(N))
    widget.scatter.selection = np.array([7, 3, 12])
    assert widget.gallery.index().tolist() == [3, 7, 12]
    widget.scatter.selection = np.array([], dtype=int)
    assert widget.gallery.index().tolist() == [3, 7, 12]


def test_a_cluster_can_be_chosen_without_the_map(
    view: tuple, mapped: PatternMap
) -> None:
    widget, _ = view
    widget.cluster.value = "0"
    expected = sort_inside_out(mapped, 0).tolist()
    assert widget.gallery.index().tolist() == expected
    widget.cluster.value = "all"
    assert widget.gallery.index().size == N


def test_pointing_shows_the_pattern_and_the_gallery_marks_its_point(
    view: tuple,
) -> None:
    widget, store = view
    store.record(5, "other", labeller="anna", session="x", seq=1)
    widget.scatter.hovering = 5
    assert bytes(widget.picture.value).startswith(b"\x89PNG")
    assert "<b>pattern 5</b>" in widget.caption.value
    assert widget.caption.value.endswith("<br>photons 5<br>other")
    widget.gallery.cursor = 9
    assert widget.scatter.hovering == 9
    assert "<b>pattern 9</b>" in widget.caption.value


def test_points_have_the_colours_of_what_is_chosen(view: tuple) -> None:
    widget, store = view
    widget.colour_by.value = "label"
    before = np.asarray(widget.scatter.points).copy()
    store.record(5, "single", labeller="anna", session="x", seq=1)
    widget.gallery.n_stored += 1
    after = np.asarray(widget.scatter.points)
    assert np.flatnonzero((before != after).any(axis=1)).tolist() == [5]
    widget.colour_by.value = "photons"
    assert (np.asarray(widget.scatter.points) != after).any()


def test_labels_are_read_again_only_when_there_are_others(
    view: tuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    widget, store = view
    read: list[str | None] = []
    current = store.current_labels
    monkeypatch.setattr(
        store, "current_labels", lambda who=None: read.append(who) or current(who)
    )
    for pattern in range(3):
        widget.scatter.hovering = pattern
    assert read == []
    event = {"seq": 1, "kind": "label", "pattern": 2, "label": "blank"}
    widget.gallery._store_labels({"session": "s", "events": [event]})
    widget.scatter.hovering = 1
    widget.scatter.hovering = 2
    assert read == []
    assert widget.caption.value.endswith("<br>blank")
    store.record(1, "other", labeller="bob", session="x", seq=1)
    widget.scatter.hovering = 1
    assert sorted(read) == ["anna", "bob"]
    assert widget.caption.value.endswith("<br>other")


def test_the_map_has_the_background_of_its_page(view: tuple) -> None:
    widget, _ = view
    widget.colour_by.value = "label"
    on_white = widget.scatter.color
    widget.page.background = [17, 17, 17]
    assert widget.scatter.background_color == pytest.approx([17 / 255] * 3 + [1])
    assert widget.scatter.color != on_white
    widget.page.background = [255, 255, 255]
    assert widget.scatter.color == on_white


def test_a_map_of_another_stack_is_refused(
    patterns: Patterns, mapped: PatternMap
) -> None:
    other = replace(mapped, cluster=mapped.cluster[:-1])
    with pytest.raises(ParameterError, match=r"found a map of 89 .*Run 02-map again"):
        show_map(patterns, other)
