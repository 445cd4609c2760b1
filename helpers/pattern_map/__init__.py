"""A map of the patterns, made without a single label, and the groups that show in it.

`make_map` lays a stack out on a plane so that patterns of one kind lie together, in
whatever orientation and however bright; `write_map` keeps it as `map.h5`. `find_groups`
says what each cluster is, `order_by_cluster` lets one meet small groups early.
"""

from helpers.pattern_map.mapping import (
    FittedMap,
    Group,
    PatternMap,
    choose_features,
    describe_groups,
    estimate_sizes,
    find_groups,
    fit_map,
    make_map,
    name_cluster,
    order_by_cluster,
    read_map,
    sort_inside_out,
    write_map,
)

__all__ = [
    "FittedMap",
    "Group",
    "PatternMap",
    "choose_features",
    "describe_groups",
    "estimate_sizes",
    "find_groups",
    "fit_map",
    "make_map",
    "name_cluster",
    "order_by_cluster",
    "read_map",
    "sort_inside_out",
    "write_map",
]
