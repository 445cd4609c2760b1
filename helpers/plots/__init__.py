"""Draw on a given Axes: patterns, galleries, runs, curves and scores.

Images are shown as recorded, row 0 on top. Bad pixels are grey. Classes have the same
colour everywhere, chosen from colours that colour-blind people tell apart (Okabe and
Ito), and always a word beside it.
"""

from helpers.plots.curve_plots import (
    plot_along_run,
    plot_confusion,
    plot_distance_curve,
    plot_histogram,
    plot_learning_curve,
    plot_match,
    plot_precision_curve,
    plot_precision_recall,
    plot_purity_curve,
    plot_radial_averages,
    plot_rank_agreement,
    plot_reliability,
    plot_taken_and_left,
    plot_training,
    plot_values,
    plot_way,
)
from helpers.plots.map_plots import (
    CLUSTER_COLOURS,
    NO_COLOUR,
    colour_clusters,
    plot_clusters,
    plot_labels,
    plot_on_map,
    show_groups,
    show_maps,
)
from helpers.plots.pattern_plots import (
    CLASS_COLOURS,
    find_crop,
    plot_gallery,
    plot_pattern,
    plot_patterson,
    plot_proposed_pixels,
    plot_saliency,
    show_patterns,
    show_unclear_masks,
)

__all__ = [
    "CLASS_COLOURS",
    "CLUSTER_COLOURS",
    "NO_COLOUR",
    "colour_clusters",
    "find_crop",
    "plot_along_run",
    "plot_clusters",
    "plot_confusion",
    "plot_distance_curve",
    "plot_gallery",
    "plot_histogram",
    "plot_labels",
    "plot_learning_curve",
    "plot_match",
    "plot_on_map",
    "plot_pattern",
    "plot_patterson",
    "plot_precision_curve",
    "plot_precision_recall",
    "plot_proposed_pixels",
    "plot_purity_curve",
    "plot_radial_averages",
    "plot_rank_agreement",
    "plot_reliability",
    "plot_saliency",
    "plot_taken_and_left",
    "plot_training",
    "plot_values",
    "plot_way",
    "show_groups",
    "show_maps",
    "show_patterns",
    "show_unclear_masks",
]
