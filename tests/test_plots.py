import h5py
import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure

from helpers import plots
from helpers.patterns import open_patterns
from helpers.plots.pattern_plots import find_crop
from helpers.simulate import write_simulated

mpl.use("agg")


@pytest.fixture
def ax():
    """Give Axes whose figure is drawn when the test ends, so that drawing is tested."""
    figure = Figure()
    yield figure.subplots()
    figure.canvas.draw()


@pytest.mark.parametrize("value", [0.0, -3.0, np.nan, np.inf, 1e30])
def test_constant_patterns_can_be_shown(ax, value):
    plots.plot_pattern(ax, np.full((6, 5), value), centre=(2, 3), unit="ADU")


def test_bad_pixels_are_grey(ax):
    bad = np.zeros((6, 5), bool)
    bad[2, 3] = True
    image = plots.plot_pattern(ax, np.ones((6, 5)), bad)
    colours = image.cmap(image.norm(image.get_array()))
    assert mpl.colors.to_hex(colours[2, 3]) == "#8c8c8c"
    assert mpl.colors.to_hex(colours[0, 0]) != "#8c8c8c"


def test_pixels_without_light_are_dark_and_not_grey(ax):
    pattern = np.zeros((6, 5))
    pattern[1, 1] = 7
    image = plots.plot_pattern(ax, pattern)
    colours = image.cmap(image.norm(image.get_array()))
    assert mpl.colors.to_hex(colours[0, 0]) == mpl.colors.to_hex(image.cmap(0.0))


@pytest.mark.parametrize("n", [1, 8, 11])
def test_a_gallery_has_a_caption_for_each_pattern(ax, n):
    captions = [f"no. {k}" for k in range(n)]
    plots.plot_gallery(ax, np.ones((n, 6, 5)), captions, colours=["red"] * n)
    assert [text.get_text() for text in ax.texts] == captions


def test_a_gallery_keeps_the_patterns_in_order(ax):
    patterns = np.zeros((3, 6, 5))
    patterns[1, 2, 3] = 9
    plots.plot_gallery(ax, patterns, ["a", "b", "c"], columns=2)
    canvas = ax.images[0].get_array()
    differs = np.abs(canvas[2, 8 + 3] - canvas[2, 3]).max()
    assert differs > 0.1  # the second thumbnail starts at column 5 + 3


def test_an_empty_gallery_says_so(ax):
    plots.plot_gallery(ax, np.ones((0, 6, 5)), [])
    assert ax.texts[0].get_text() == "no pattern to show"


def test_patterns_of_a_stack_are_shown_with_index_numbers_and_words(tmp_path):
    write_simulated(tmp_path / "patterns.h5", 12, seed=1)
    labels, score = np.full(12, "", dtype="<U8"), np.full(12, 0.5)
    labels[7], score[7] = "single", -0.0001
    figure = plots.show_patterns(
        open_patterns(tmp_path / "patterns.h5"),
        [7, 2],
        "{score:z.3f}",
        labels=labels,
        score=score,
    )
    captions = {text.get_text(): text.get_color() for text in figure.axes[0].texts}
    single = plots.CLASS_COLOURS["single"]
    assert captions == {"7 · 0.000": single, "2 · 0.500": "black"}
    figure.canvas.draw()
    plt.close(figure)


def test_histogram_bars_count_the_patterns_of_each_label(ax):
    values = np.array([1.0, 1.0, 2.0, 5.0])
    labels = np.array(["single", "single", "", "blank"])
    plots.plot_histogram(ax, values, xlabel="photons", labels=labels, threshold=3)
    heights = [sum(bar.get_height() for bar in bars) for bars in ax.containers]
    names = ax.get_legend_handles_labels()[1]
    assert heights == [1, 2, 1]
    assert names == ["no label", "single", "blank", "3"]


@pytest.mark.parametrize("values", [[], [0, 0], [3], [-1, np.nan, 2]])
def test_histograms_of_odd_values_can_be_drawn(ax, values):
    values = np.array(values, float)
    plots.plot_histogram(ax, values, xlabel="photons", log_values=True)
    plots.plot_histogram(ax, values, xlabel="photons")


@pytest.mark.parametrize("n", [1, 59, 61, 1000])
def test_runs_of_any_length_can_be_drawn(ax, n):
    plots.plot_along_run(ax, np.arange(n), ylabel="photons", threshold=3)


def test_the_distance_curve_marks_only_the_labelled(ax):
    labels = np.array(["", "single", "", "multiple", "single"])
    plots.plot_distance_curve(ax, np.arange(5.0), labels)
    marked = {line.get_label(): line.get_xdata().tolist() for line in ax.lines[1:]}
    assert marked == {"single": [2, 5], "multiple": [4]}


def test_the_precision_curve_is_the_running_share(ax):
    plots.plot_precision_curve(ax, np.array([True, False, True, True]), name="a")
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [1, 1 / 2, 2 / 3, 3 / 4])


def test_the_confusion_matrix_shows_its_counts(ax):
    plots.plot_confusion(ax, np.array([[5, 1], [0, 0]]), ("not single", "single"))
    assert [text.get_text() for text in ax.texts] == ["5", "1", "0", "0"]


def test_precision_and_recall_of_every_threshold_are_drawn(ax):
    is_single = np.array([True, False, True, False])
    probability = np.array([0.9, 0.6, 0.4, 0.1])
    plots.plot_precision_recall(ax, is_single, probability, name="net")
    drawn = set(zip(*ax.lines[0].get_data(), strict=True))
    assert {(0.5, 1.0), (0.5, 0.5), (1.0, 2 / 3), (1.0, 0.5)} <= drawn


def test_reliability_shows_share_interval_and_count(ax):
    numbers = {
        "probability": np.array([0.1, 0.9]),
        "share": np.array([0.0, 0.8]),
        "low": np.array([0.0, 0.5]),
        "high": np.array([0.3, 0.95]),
        "count": np.array([12, 1500]),
    }
    plots.plot_reliability(ax, **numbers, name="net")
    assert [text.get_text() for text in ax.texts] == ["12", "1,500"]
    (bars,) = ax.collections
    ends = [segment[:, 1].tolist() for segment in bars.get_segments()]
    assert ends == [pytest.approx([0, 0.3]), pytest.approx([0.5, 0.95])]


def test_the_learning_curve_names_each_number_of_labels(ax):
    score = np.array([0.8, 0.9, 0.95])
    plots.plot_learning_curve(ax, [500, 1000, 2000], score, score - 0.05, score + 0.02)
    assert [tick.get_text() for tick in ax.get_xticklabels()] == [
        "500",
        "1,000",
        "2,000",
    ]


def test_training_and_validation_are_named(ax):
    plots.plot_training(ax, {"loss": [2, 1], "val_loss": [2, 1.5]}, "loss")
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert names == ["training", "validation"]


def test_radial_averages_may_have_gaps(ax):
    curves = {"a": ([0, 1, 2], [1, np.nan, 3]), "b": ([0, 1], [1, 2])}
    plots.plot_radial_averages(ax, curves, unit="photons")
    assert len(ax.get_legend().get_texts()) == 2


def test_proposed_pixels_are_counted(ax):
    proposed = {"hot": np.eye(4, dtype=bool)}
    plots.plot_proposed_pixels(ax, np.ones((4, 4)), np.zeros((4, 4), bool), proposed)
    assert ax.get_legend().get_texts()[0].get_text() == "hot: 4"


def test_galleries_show_where_the_signal_is(tmp_path):
    rows, columns = np.mgrid[:120, :140]
    spot = 50 * np.exp(-((rows - 70) ** 2 + (columns - 60) ** 2) / 2 / 9**2)
    flat = np.full((120, 140), 0.3)
    rng = np.random.default_rng(0)
    for name, mean in (("spot", spot + 0.01), ("flat", flat), ("dark", 0 * flat)):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["patterns"] = rng.poisson(mean, (9, 120, 140)).astype("u2")
    down, right = find_crop(open_patterns(tmp_path / "spot.h5"))
    assert 70 - 40 < down.start < 70 - 18 < 70 + 18 < down.stop < 70 + 40
    assert 60 - 40 < right.start < 60 - 18 < 60 + 18 < right.stop < 60 + 40
    share = spot[down, right].sum() / spot.sum()
    assert share > 0.98
    patterns = open_patterns(tmp_path / "dark.h5")
    assert find_crop(patterns) == (slice(0, 120), slice(0, 140))
    figure = plots.show_patterns(open_patterns(tmp_path / "spot.h5"), [0, 3])
    assert "of 120 × 140, where the signal is" in figure.axes[0].get_title("left")
    plt.close(figure)


def test_the_way_to_the_selection_has_a_bar_and_a_number_for_each_step() -> None:
    _, ax = plt.subplots()
    plots.plot_way(ax, {"patterns": 1200, "hits": 900, "taken": 0})
    assert [bar.get_width() for bar in ax.patches] == [1200, 900, 0]
    said = [text.get_text().strip() for text in ax.texts]
    assert said == ["1,200 (100.0%)", "900 (75.0%)", "0 (0.0%)"]
    assert ax.yaxis_inverted()


def test_flattened_gallery_says_so(tmp_path) -> None:
    write_simulated(tmp_path / "a.h5", 6, 1, bad_pixels=np.zeros((64, 64), bool))
    patterns = open_patterns(tmp_path / "a.h5")
    plain = plots.show_patterns(patterns, [0, 1])
    flat = plots.show_patterns(patterns, [0, 1], flatten_about=(31.5, 31.5))
    assert flat.axes[0].get_title("right") == "divided by the mean at each radius"
    pictures = [figure.axes[0].images[0].get_array() for figure in (plain, flat)]
    assert not np.array_equal(*pictures)


def test_probabilities_are_shown_on_a_linear_scale():
    kinds = {(100, 90_000): LogNorm, (1e-14, 0.99): Normalize, (1, 7): Normalize}
    for ends, kind in kinds.items():
        assert type(plots.choose_norm(np.array(ends, float))) is kind
    assert [plots.format_number(each) for each in (27743.2, 0.93213)] == [
        "27,743",
        "0.9321",
    ]
