"""The map of the patterns to be pointed at, and the gallery that it fills."""

import warnings
from collections.abc import Mapping
from typing import Any

import anywidget
import ipywidgets
import numpy as np
import traitlets
from numpy.typing import ArrayLike, NDArray

from helpers.errors import ParameterError
from helpers.labels import LABELS, LabelStore
from helpers.pattern_map import PatternMap, name_cluster, sort_inside_out
from helpers.patterns import Patterns
from helpers.plots import (
    CLASS_COLOURS,
    CLUSTER_COLOURS,
    NO_COLOUR,
    choose_norm,
    find_crop,
    format_number,
)
from helpers.widgets.gallery import Gallery, show_gallery
from helpers.widgets.label_service import number_words
from helpers.widgets.pattern_table import NUMBERS
from helpers.widgets.pattern_widget import STATIC
from helpers.widgets.pixels import make_pixels, preview_png

EVERYTHING = "all"
PREVIEW_SIDE = 160
LOOK_SIDE = 170  # pixels on the page
HEIGHT, WIDTH = 420, 600
MARGIN = 0.05  # of the sides of the map, left free beyond the points
FEW = 10_000  # points that are drawn larger
LEVELS = 64  # of a scale of numbers
ON_DARK = {"blank": "#9a9a9a"}  # in place of its own colour, as in js/common.css
FAINT = {False: "#cccccc", True: "#484848"}  # without a label; True = on dark
DARKEST_ON_DARK = 0.25  # of the scale of colours


class MapPage(anywidget.AnyWidget):
    """Says on the page if it cannot draw the map, and tells its background.

    The background is red, green and blue, 0 to 255, and follows the theme.
    """

    _esm = STATIC / "map_page.js"
    _css = STATIC / "map_page.css"
    background = traitlets.List(traitlets.Float(), [255, 255, 255]).tag(sync=True)

    @property
    def is_dark(self) -> bool:
        """Whether what is drawn had better be bright."""
        return float(np.mean(self.background)) < 128


class MapView(ipywidgets.VBox):
    """A map whose points are patterns, above a gallery; `show_map` makes one.

    Parameters
    ----------
    pattern_map
        Where the patterns lie.
    gallery
        What a lasso fills.
    numbers
        (n,) each, by the name under which one can colour by it.

    Attributes
    ----------
    scatter
        The widget of the points.
    gallery
        As given.
    """

    def __init__(
        self,
        pattern_map: PatternMap,
        gallery: Gallery,
        numbers: Mapping[str, NDArray[np.float64]],
    ) -> None:
        self._map = pattern_map
        self._numbers = dict(numbers)
        self.gallery = gallery
        right, up = pattern_map.position.T.astype(np.float64)
        self._plot = _make_scatter(right, up)
        self._plot.options(regl_scatterplot_options={"showReticle": False})
        self._plot.axes(axes=False)
        self._plot.mouse(mode="lasso")
        self._plot.size(default=5 if right.size < FEW else 3)
        self.scatter = self._plot.widget
        self._build()
        self._follow_theme()
        super().__init__([self._head, self._body, gallery])
        self.scatter.observe(self._fill, "selection")
        self.scatter.observe(self._look, "hovering")
        gallery.tells_cursor = True
        gallery.observe(self._mark, "cursor")
        gallery.observe(self._note_labels, "n_stored")
        self.page.observe(lambda _: self._follow_theme(), "background")

    def _build(self) -> None:
        clusters = [EVERYTHING, *map(str, range(self._map.n_clusters))]
        if (self._map.cluster < 0).any():
            clusters.append(name_cluster(-1))
        self.colour_by = ipywidgets.Dropdown(
            options=["cluster", "label", *self._numbers],
            description="colour by",
            layout={"width": "220px"},
        )
        self.cluster = ipywidgets.Dropdown(
            options=clusters,
            description="show cluster",
            style={"description_width": "initial"},
            layout={"width": "200px"},
        )
        self.colour_by.observe(lambda _: self._recolour(), "value")
        self.cluster.observe(self._choose_cluster, "value")
        self.picture = ipywidgets.Image(
            format="png", width=LOOK_SIDE, height=LOOK_SIDE, layout={"margin": "4px"}
        )
        self.caption = ipywidgets.HTML(
            "Rest the pointer on a point to see its pattern."
        )
        self.page = MapPage()
        hint = ipywidgets.HTML(
            "Drag to draw a line round points: their patterns come into the gallery "
            "below. The wheel zooms; the arrows on the left let you move the map."
        )
        self._head = ipywidgets.VBox(
            [ipywidgets.HBox([self.colour_by, self.cluster]), hint, self.page]
        )
        side = ipywidgets.VBox(
            [self.picture, self.caption], layout={"width": f"{LOOK_SIDE + 20}px"}
        )
        points = ipywidgets.Box([self._plot.show()], layout={"flex": "0 0 auto"})
        self._body = ipywidgets.HBox([points, side])

    def _fill(self, change: Mapping[str, Any]) -> None:
        chosen = change["new"]
        if chosen is not None and len(chosen):
            self.gallery.show_only(np.unique(np.asarray(chosen, dtype=np.int64)))

    def _choose_cluster(self, change: Mapping[str, Any]) -> None:
        name = change["new"]
        if name == EVERYTHING:
            self.gallery.show_only(np.arange(len(self._map.cluster)))
        else:
            number = -1 if name == name_cluster(-1) else int(name)
            self.gallery.show_only(sort_inside_out(self._map, number))

    def _look(self, change: Mapping[str, Any]) -> None:
        if change["new"] is None:
            return
        pattern = int(change["new"])
        patterns = self.gallery.patterns
        crop = find_crop(patterns)
        (pixels,) = make_pixels(patterns, [pattern], PREVIEW_SIDE, crop)
        self.picture.value = preview_png(pixels.codes)
        name = name_cluster(int(self._map.cluster[pattern]))
        known = {
            key: format_number(values[pattern])
            for key, values in self._numbers.items()
            if np.isfinite(values[pattern])
        }
        lines = [f"<b>pattern {pattern:,}</b>", f"cluster {name}"]
        lines += [f"{key} {value}" for key, value in known.items()]
        word = self.gallery.label_of(pattern) or "unlabelled"
        self.caption.value = "<br>".join([*lines, word])

    def _mark(self, change: Mapping[str, Any]) -> None:
        self.scatter.hovering = int(change["new"])

    def _follow_theme(self) -> None:
        # not by the plot's own method, which draws axes and a legend unasked
        ink = 1.0 if self.page.is_dark else 0.0
        self.scatter.background_color = [*(c / 255 for c in self.page.background), 1.0]
        self.scatter.reticle_color = [ink, ink, ink, 0.1]
        self._recolour()

    def _note_labels(self, _: object) -> None:
        if self.colour_by.value == "label":
            self._recolour()

    def _recolour(self) -> None:
        name = self.colour_by.value
        if name == "cluster":
            number = self._map.cluster
            codes = np.where(number < 0, 0, 1 + number % len(CLUSTER_COLOURS))
            colours = [NO_COLOUR, *CLUSTER_COLOURS]
        elif name == "label":
            codes = number_words(self.gallery.labels())
            own = CLASS_COLOURS | ON_DARK if self.page.is_dark else CLASS_COLOURS
            colours = [FAINT[self.page.is_dark], *(own[word] for word in LABELS)]
        else:
            codes, colours = colour_numbers(self._numbers[name], self.page.is_dark)
        self._plot.color(
            by=codes.astype(np.float64), map=colours, norm=(0, len(colours) - 1)
        )


def _make_scatter(right: NDArray[np.float64], up: NDArray[np.float64]) -> Any:
    import jscatter  # slow to import

    with warnings.catch_warnings():
        # what it asks of its own libraries is no concern of the person who looks
        warnings.simplefilter("ignore")
        sides = {"x_scale": _find_side(right), "y_scale": _find_side(up)}
        plot = jscatter.Scatter(right, up, height=HEIGHT, width=WIDTH, **sides)
        _ = plot.widget  # which is made when it is first asked for
        return plot


def _find_side(at: NDArray[np.float64]) -> list[float]:
    """Return from where to where the map reaches, with room for the points' size."""
    low, high = (float(at.min()), float(at.max())) if at.size else (0.0, 0.0)
    room = MARGIN * max(high - low, 1e-6)
    return [low - room, high + room]


def colour_numbers(
    values: NDArray[np.float64], on_dark: bool = False
) -> tuple[NDArray[np.int64], list[str]]:
    """Return the step of each number on a scale, and the colours of the steps.

    Parameters
    ----------
    values
        (n,); NaN is the first step, which is grey.
    on_dark
        True leaves out the colours that nobody sees on a dark background.
    """
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    scale = np.linspace(DARKEST_ON_DARK if on_dark else 0, 1, LEVELS)
    colours = [to_hex(colour) for colour in colormaps["viridis"](scale)]
    codes = np.zeros(len(values), np.int64)
    known = np.isfinite(values)
    codes[known] = 1 + np.rint((LEVELS - 1) * choose_norm(values)(values[known]))
    return codes, [NO_COLOUR, *colours]


def show_map(
    patterns: Patterns,
    pattern_map: PatternMap,
    *,
    store: LabelStore | None = None,
    labeller: str = "",
    per_page: int = 24,
    **columns: ArrayLike,
) -> MapView:
    """Make a map to be pointed at; the last line of a cell shows it.

    A line drawn round points fills the gallery below with their patterns, where they
    are looked through and labelled: some, a page, or all of them (Shift+A, then the key
    of the class). Run without a browser, the gallery holds all patterns.

    Parameters
    ----------
    patterns
        The stack.
    pattern_map
        Its map.
    store, labeller
        Where labels are kept and who labels; without a store one can only look.
    per_page
        Patterns a page.
    **columns
        As for `show_gallery`: photons, hit_score, prediction, distance, …, work_dir.

    Raises
    ------
    ParameterError
        If the map is of another stack, or an array does not fit.
    LabelsError
        If there is a store but no labeller.
    """
    n = len(patterns)
    if len(pattern_map.cluster) != n:
        message = (
            f"pattern_map: found a map of {len(pattern_map.cluster):,} patterns; "
            f"expected one of this stack, {n:,}. Run 02-map again."
        )
        raise ParameterError(message)
    columns.setdefault("cluster", pattern_map.cluster)
    gallery = show_gallery(
        patterns,
        np.concatenate(
            [
                sort_inside_out(pattern_map, k)
                for k in [*range(pattern_map.n_clusters), -1]
            ]
        ),
        store=store,
        labeller=labeller,
        per_page=per_page,
        way="by map",
        **columns,  # type: ignore[arg-type]
    )
    numbers = {
        name.replace("_", " "): np.asarray(values, dtype=np.float64)
        for name, values in columns.items()
        if name in NUMBERS and name != "cluster"
    }
    return MapView(pattern_map, gallery, numbers)
