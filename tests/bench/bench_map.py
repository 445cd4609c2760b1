"""Measure whether kinds fall apart on the map, and what it is worth for labelling.

Run `make bench-map`, or a part: `--only clusters labels speed`, `--kinds 6`.

`clusters`: for samples of one body each, how well the clusters agree with the true
classes (adjusted mutual information, 1 = the same, 0 = by chance) and how pure the best
cluster for single hits is (of those that hold a tenth of the single hits or more). Ours
stands beside spectral clustering of pixels, as Yoon et al. sort snapshots, Opt. Express
19, 16542 (2011): a graph of nearest neighbours of the normalised patterns, the first
eigenvectors of its diffusion operator, k-means on these; beside the same on our
features; and beside principal components of pixels with the same HDBSCAN and with
k-means. Spectral clustering and k-means are told to find 8 clusters. Then: how many
labels it takes until 5 of each class were met, in random order and cluster by cluster.

`labels`: drawn kinds (`draw_kind` of bench_models.py with seeds 20001, …, the bodies of
`BODIES` in turn), clusters and network as 02 and 05 make them; F1 at its best threshold
on patterns that were not labelled, from 50 labels in random order, by clusters in turn,
or half and half; and with 25 more after 25 random ones, which are the least certain and
unlike each other, as 07 asks for them, or the least certain of each cluster in turn.
Too few of a class to learn from count as a network that calls everything single.

`speed`: 30,000 patterns of 260 × 257, which are a few repeated by a virtual dataset.
"""

import argparse
import resource
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
from bench_models import draw_kind
from numpy.typing import NDArray
from scipy import stats
from sklearn.cluster import HDBSCAN, KMeans, SpectralClustering
from sklearn.decomposition import PCA
from sklearn.metrics import (
    adjusted_mutual_info_score,
    average_precision_score,
    precision_recall_curve,
)

from helpers.classifier import pick_uncertain_and_diverse
from helpers.classifier.kernel_head import KernelHead, fit_head
from helpers.classifier.network_base import predict_inputs
from helpers.classifier.networks import make_head
from helpers.pattern_map import (
    FittedMap,
    choose_features,
    fit_map,
    make_map,
    order_by_cluster,
)
from helpers.patterns import Patterns, open_patterns
from helpers.physics import find_centre
from helpers.simulate import BODIES, Detector, Sample, pnccd_bad_pixels, write_simulated

SHAPE = (130, 128)
N_MAPPED = 1_200
N_POOL = 600
N_JUDGED = 600
N_LABELS = 50
N_DRAWS = 5
N_ORDERS = 20
N_CLUSTERS = 8
ENOUGH = 5
N_KINDS = 24
N_BODIES = 9
FIRST_SEED = 20_001
PARTS = ("clusters", "labels", "speed")

Floats = NDArray[np.floating]
Ints = NDArray[np.int64]
Words = NDArray[np.str_]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--only", nargs="+", default=PARTS, choices=PARTS)
    parser.add_argument("--kinds", type=int, default=N_KINDS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    parts = {
        "clusters": report_clusters,
        "labels": lambda: report_labels(options.kinds),
        "speed": report_speed,
    }
    for part in options.only:
        parts[part]()


def simulate(sample: Sample, n: int, seed: int, folder: str) -> Patterns:
    """Write patterns and open them."""
    path = Path(folder) / f"{seed}.h5"
    bad_pixels, detector = pnccd_bad_pixels(SHAPE), Detector.of_shape(SHAPE)
    write_simulated(
        path, n, seed, bad_pixels=bad_pixels, detector=detector, sample=sample
    )
    return open_patterns(path)


def make_features(
    patterns: Patterns, n_fitted: int
) -> tuple[NDArray[np.float32], FittedMap]:
    """Return the features of all patterns, and the map of the first of them."""
    sample = patterns[np.arange(0, len(patterns), 5)].mean(axis=0, dtype=float)
    centre = find_centre(sample, patterns.bad_pixels)
    make, blocks = choose_features(patterns, centre)
    features = np.concatenate([part for _, part in patterns.map(make)])
    return features, fit_map(features[:n_fitted], blocks=blocks)


# --- clusters -------------------------------------------------------------------------


def report_clusters() -> None:
    """Print how well clusters agree with the classes, and how soon all are met."""
    print("| body | way | AMI | purity | its share of singles | clusters |")
    print("|---|---|---:|---:|---:|---:|")
    found: dict[str, list[tuple[float, ...]]] = {}
    met: list[str] = []
    for seed, body in enumerate(list(BODIES)[:N_BODIES], start=FIRST_SEED):
        with tempfile.TemporaryDirectory() as folder:
            patterns = simulate(
                Sample(body=body, body_seed=seed), N_MAPPED, seed, folder
            )
            words, ways = patterns.true_labels, dict(find_clusters(patterns))
        for way, cluster in ways.items():
            scores = score_clusters(cluster, words)
            found.setdefault(way, []).append(scores)
            print(f"| {body} | {way} | {say(scores)} |", flush=True)
        met.append(f"| {body} | {count_until_met(ways['map'], words)} |")
    for way, scores in found.items():
        print(f"| **mean** | {way} | {say(np.mean(scores, axis=0))} |")
    print("\n| labels until 5 of each class | random | clusters in turn |")
    print("|---|---:|---:|", *met, sep="\n", flush=True)


def find_clusters(patterns: Patterns) -> Iterator[tuple[str, NDArray[np.int32]]]:
    """Give the clusters that each way finds."""
    _, fitted = make_features(patterns, len(patterns))
    yield "map", fitted.cluster
    pixels = patterns[:][:, ~patterns.bad_pixels].astype(np.float64)
    pixels /= np.linalg.norm(pixels, axis=1, keepdims=True) + 1e-12
    yield "spectral, pixels", find_spectral(pixels)
    yield "spectral, our features", find_spectral(fitted.points)
    components = PCA(30, random_state=0).fit_transform(pixels)
    smallest = round(0.02 * len(pixels))
    yield (
        "PCA of pixels, HDBSCAN",
        HDBSCAN(smallest, 5, copy=True).fit_predict(components),
    )
    yield "PCA of pixels, k-means", find_by_means(components)
    yield "PCA of our features, k-means", find_by_means(fitted.points)


def find_spectral(points: Floats) -> NDArray[np.int32]:
    """Cluster by the eigenvectors of a diffusion on the graph of neighbours."""
    spectral = SpectralClustering(
        N_CLUSTERS, affinity="nearest_neighbors", n_neighbors=15, random_state=0
    )
    found: NDArray[np.int32] = spectral.fit_predict(points)
    return found


def find_by_means(points: Floats) -> NDArray[np.int32]:
    """Cluster by k-means."""
    found: NDArray[np.int32] = KMeans(N_CLUSTERS, random_state=0).fit_predict(points)
    return found


def score_clusters(cluster: NDArray[np.int32], words: Words) -> tuple[float, ...]:
    """Return AMI, purity and share of the best cluster for singles, and how many."""
    single = words == "single"
    best = (0.0, 0.0)
    for number in np.unique(cluster[cluster >= 0]):
        own = cluster == number
        share = float((own & single).sum() / single.sum())
        if share >= 0.1:
            best = max(best, (float(single[own].mean()), share))
    agreement = float(adjusted_mutual_info_score(words, cluster))
    return agreement, *best, float(cluster.max() + 1)


def say(scores: NDArray[np.floating] | tuple[float, ...]) -> str:
    """Write scores as cells."""
    return " | ".join(f"{score:.2f}" for score in scores[:3]) + f" | {scores[3]:.0f}"


def count_until_met(cluster: NDArray[np.int32], words: Words) -> str:
    """Return how many labels it takes to meet each class, as two cells."""
    rng = np.random.default_rng(0)
    counts: list[list[int]] = [[], []]
    for _ in range(N_ORDERS):
        shuffled = rng.permutation(len(words))
        orders = shuffled, order_by_cluster(cluster, shuffled)
        for order, column in zip(orders, counts, strict=True):
            places = [np.flatnonzero(words[order] == word) for word in np.unique(words)]
            column.append(1 + max(int(place[ENOUGH - 1]) for place in places))
    return " | ".join(f"{np.mean(column):.0f}" for column in counts)


# --- labels ---------------------------------------------------------------------------


def report_labels(n_kinds: int) -> None:
    """Print F1 and average precision for each order of labelling."""
    found: dict[str, list[tuple[float, float]]] = {}
    for k in range(n_kinds):
        seed = FIRST_SEED + k
        body = list(BODIES)[k % len(BODIES)]
        sample = replace(draw_kind(seed), body=body, body_seed=seed)
        with tempfile.TemporaryDirectory() as folder:
            patterns = simulate(sample, N_POOL + N_JUDGED, seed, folder)
            inputs, fitted = make_features(patterns, N_POOL)
            single = patterns.true_labels == "single"
        for way, scores in judge_ways(inputs, single, fitted.cluster).items():
            found.setdefault(way, []).append(scores)
        print(f"{k + 1} of {n_kinds} kinds", flush=True)
    print("\n| 50 labels | F1 | average precision | better than random in |")
    print("|---|---:|---:|---:|")
    first = np.array(next(iter(found.values())))
    for way, scores in found.items():
        values = np.array(scores)
        half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
        cells = [f"{m:.3f} ±{h:.3f}" for m, h in zip(values.mean(0), half, strict=True)]
        won = np.mean(values[:, 0] > first[:, 0])
        change = values[:, 0] - first[:, 0]
        error = stats.t.ppf(0.975, len(values) - 1) * stats.sem(change)
        cells.append(f"{won:.0%} of kinds, {change.mean():+.3f} ±{error:.3f}")
        print(f"| {way} | {' | '.join(cells)} |", flush=True)


def judge_ways(
    inputs: NDArray[np.float32], single: NDArray[np.bool_], cluster: NDArray[np.int32]
) -> dict[str, tuple[float, float]]:
    """Return the mean scores of each way to choose 50 labels."""
    rng = np.random.default_rng(0)
    half = N_LABELS // 2
    scores: dict[str, list[tuple[float, float]]] = {}
    for _ in range(N_DRAWS):
        order = rng.permutation(N_POOL)
        by_cluster = order_by_cluster(cluster, order)
        begun, rest = order[:half], order[half:]
        ways: dict[str, Callable[[], Ints]] = {
            "random": lambda order=order: order[:N_LABELS],
            "clusters in turn": lambda own=by_cluster: own[:N_LABELS],
            "25 random + 25 by cluster": lambda own=by_cluster, begun=begun: np.append(
                begun, own[~np.isin(own, begun)][:half]
            ),
            "25 random + 25 uncertain and diverse": lambda begun=begun, rest=rest: (
                np.append(begun, choose(inputs, single, begun, rest, None))
            ),
            "25 random + 25 uncertain across clusters": lambda begun=begun, rest=rest: (
                np.append(begun, choose(inputs, single, begun, rest, cluster))
            ),
        }
        for way, pick in ways.items():
            score = judge(ask(teach(inputs, single, pick()), inputs[N_POOL:]), single)
            scores.setdefault(way, []).append(score)
    return {
        way: (
            float(np.mean([s[0] for s in each])),
            float(np.mean([s[1] for s in each])),
        )
        for way, each in scores.items()
    }


def teach(
    inputs: NDArray[np.float32], single: NDArray[np.bool_], labelled: Ints
) -> KernelHead | None:
    """Return a network that learnt from some labels; None if there are too few."""
    given = single[labelled]
    if min(given.sum(), (~given).sum()) < 2:
        return None
    network = make_head(inputs.shape[1], with_encoder=True)
    fit_head(network, inputs[labelled], given)
    return network


def ask(network: KernelHead | None, inputs: NDArray[np.float32]) -> Floats:
    """Return what a network says of patterns."""
    if network is None:
        return np.full(len(inputs), 0.5)
    return predict_inputs(network, inputs)


def choose(
    inputs: NDArray[np.float32],
    single: NDArray[np.bool_],
    begun: Ints,
    rest: Ints,
    cluster: NDArray[np.int32] | None,
) -> Ints:
    """Choose as many patterns again, by what was learnt from the first ones."""
    network = teach(inputs, single, begun)
    probability = ask(network, inputs[rest])
    if network is None:
        return rest[: begun.size]
    if cluster is None:
        seen = network.place(inputs[rest])
        return rest[pick_uncertain_and_diverse(seen, probability, begun.size)]
    least_certain = np.argsort(np.abs(probability - 0.5), kind="stable")
    own = cluster[rest]
    return rest[order_by_cluster(own, least_certain)][: begun.size]


def judge(probability: Floats, single: NDArray[np.bool_]) -> tuple[float, float]:
    """Return the best F1, and the average precision."""
    truth = single[N_POOL:]
    precision, recall, _ = precision_recall_curve(truth, probability)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    return float(f1.max()), float(average_precision_score(truth, probability))


# --- speed ----------------------------------------------------------------------------


def report_speed() -> None:
    """Print time and memory for runs of several lengths."""
    print("\n| patterns of 260 × 257 | wall, s | CPU, s | peak memory so far, MiB |")
    print("|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        few = Path(folder) / "few.h5"
        write_simulated(few, 300, seed=1)
        for n in (3_000, 30_000):
            patterns = open_patterns(repeat(few, n))
            some = patterns[np.arange(0, 300, 5)]
            centre = find_centre(some.mean(axis=0, dtype=float), patterns.bad_pixels)
            begun = time.perf_counter(), time.process_time()
            make_map(patterns, centre)
            ended = time.perf_counter(), time.process_time()
            wall, cpu = np.subtract(ended, begun)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(f"| {n:,} | {wall:.0f} | {cpu:.0f} | {peak:,.0f} |", flush=True)


def repeat(few: Path, n: int) -> Path:
    """Write a virtual dataset that repeats a few patterns up to `n`."""
    path = few.with_name(f"{n}.h5")
    with h5py.File(few) as file, h5py.File(path, "w") as long:
        patterns = file["patterns"]
        layout = h5py.VirtualLayout((n, *patterns.shape[1:]), patterns.dtype)
        source = h5py.VirtualSource(patterns)
        for start in range(0, n, len(patterns)):
            stop = min(start + len(patterns), n)
            layout[start:stop] = source[: stop - start]
        long.create_virtual_dataset("patterns", layout)
        long["patterns"].attrs["unit"] = "photons"
        long["mask"] = file["mask"][()]
    return path


if __name__ == "__main__":
    main()
