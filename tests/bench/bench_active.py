"""What are well-chosen labels worth? Chosen ones beside random ones.

Run `make bench-labels`, or `python tests/bench/bench_active.py --quick`. How patterns
are chosen was settled on the samples "default", "hard" and "dim" with seed 101, after a
look at "rare" and "crowded" with seed 2001; that half of 50 labels is worth choosing,
on drawn kinds (`draw_kind` of bench_models.py) with seeds 10001 to 10025. What is
printed is measured on other seeds; the kinds of "drawn", another one for each seed,
took no part in anything.

For each sample and seed: 1,000 patterns to draw labels from, 2,000 to judge on. Random
labels are the first of a shuffled list, five of each class among the first 25. Of
chosen ones, so many are the first of that list, and as many more
`pick_uncertain_and_diverse` asks for, a fifth of which is the random audit (the next of
the list). Everything is trained as `helpers.classifier` does it, the threshold from the
labels alone. Each stack is shuffled four times; an interval is that of the mean over
the stacks, 95 %.
"""

import argparse
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from bench_models import DRAWN, draw_kind
from numpy.typing import NDArray
from scipy.stats import t as student
from sklearn.metrics import average_precision_score, f1_score

from helpers.classifier import (
    InvariantNetwork,
    choose_threshold,
    expected_calibration_error,
    fit_calibration_in_stack,
    pick_uncertain_and_diverse,
)
from helpers.classifier.kernel_head import fit_head
from helpers.classifier.network_base import predict_inputs
from helpers.classifier.networks import encode_pixels
from helpers.features import name_encoder
from helpers.simulate import SAMPLES, Simulator

N_POOL, N_JUDGED = 1000, 2000
AUDIT_SHARE = 0.2
BUDGETS = (50, 100, 200, 400)
HALVES = (25, 50)  # labels before the choice, and chosen with their help
FEWEST = 5  # of each class among the first 25
N_SHUFFLES = 4
FIRST_SEED, FIRST_DRAWN_SEED = 3000, 4001
SCORES = ("F1", "AP", "calibration error")
BETTER = np.array([1, 1, -1])

Floats = NDArray[np.floating]
Index = NDArray[np.int64]


class Stack(NamedTuple):
    """The inputs of a simulated stack by a network, and the truth."""

    network: InvariantNetwork
    inputs: Floats
    single: NDArray[np.bool_]


def main() -> None:
    """Print one table for each sample."""
    arguments = read_arguments()
    for sample in arguments.samples:
        first = FIRST_DRAWN_SEED if sample == DRAWN else FIRST_SEED
        seeds = range(first, first + arguments.seeds)
        stacks = (simulate(sample, seed) for seed in seeds)
        report(sample, np.array([measure(stack) for stack in stacks]))


def read_arguments() -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(description="What are chosen labels worth?")
    parser.add_argument("--quick", action="store_true", help="one sample, two seeds")
    parser.add_argument("--seeds", type=int, default=6, help="stacks of each sample")
    parser.add_argument("--samples", nargs="*", default=[*SAMPLES, DRAWN])
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.samples, arguments.seeds = ["hard"], 2
    return arguments


def simulate(sample: str, seed: int) -> Stack:
    """Simulate a stack; keep the invariant network's inputs alone."""
    made_of = draw_kind(seed) if sample == DRAWN else sample
    simulator = Simulator(seed, sample=made_of)
    bad_pixels = simulator.bad_pixels
    network = InvariantNetwork(
        bad_pixels.shape,
        simulator.detector.centre,
        encode_pixels(bad_pixels),
        name_encoder(),
    )
    blocks = [
        (network.make_inputs(block.patterns), block.true_labels == "single")
        for _, block in simulator.blocks(N_POOL + N_JUDGED)
    ]
    return Stack(
        network, *(np.concatenate(parts) for parts in zip(*blocks, strict=True))
    )


def measure(stack: Stack) -> Floats:
    """Return the mean over the shuffles of `compare`."""
    orders = (shuffle_pool(stack, seed) for seed in range(N_SHUFFLES))
    return np.mean([compare(stack, order) for order in orders], axis=0)


def compare(stack: Stack, order: Index) -> Floats:
    """Return (rows, scores): of each number of random labels, then of chosen ones."""
    random = [order[:budget] for budget in BUDGETS]
    chosen = [choose(stack, order, half) for half in HALVES]
    return np.array([judge(stack, labelled)[0] for labelled in [*random, *chosen]])


def shuffle_pool(stack: Stack, seed: int) -> Index:
    """Shuffle the pool, with some of each class among the first."""
    rng = np.random.default_rng(seed)
    while True:
        order = rng.permutation(N_POOL)
        n_single = stack.single[order[: HALVES[0]]].sum()
        if FEWEST <= n_single <= HALVES[0] - FEWEST:
            return order


def choose(stack: Stack, order: Index, half: int) -> Index:
    """Return the first labels, the audit and what is chosen with the first's help."""
    _, probability, points = judge(stack, order[:half])
    n_audit = round(AUDIT_SHARE * half)
    random, rest = np.split(order, [half + n_audit])
    picked = pick_uncertain_and_diverse(points[rest], probability[rest], half - n_audit)
    return np.concatenate([random, rest[picked]])


def judge(stack: Stack, labelled: Index) -> tuple[tuple[float, ...], Floats, Floats]:
    """Train on some labels: scores, probabilities, and what tells patterns apart."""
    network, inputs, single = stack
    head = network.build()
    out_of_fold = fit_head(head, inputs[labelled], single[labelled])
    raw = predict_inputs(head, inputs)
    others = np.setdiff1d(np.arange(N_POOL), labelled)
    calibration = fit_calibration_in_stack(out_of_fold, single[labelled], raw[others])
    threshold = choose_threshold(calibration.apply(out_of_fold), single[labelled])
    probability = calibration.apply(raw)
    points = head.place(inputs)
    judged = slice(N_POOL, None)
    scores = (
        f1_score(single[judged], probability[judged] >= threshold),
        average_precision_score(single[judged], probability[judged]),
        expected_calibration_error(probability[judged], single[judged]),
    )
    return scores, probability, points


def report(sample: str, scores: Floats) -> None:
    """Print the means, what chosen labels gain, and how many random ones match them."""
    print(f"\n{sample}, {len(scores)} seeds")
    print(f"{'labels':>22}" + "".join(f"{name:>24}" for name in SCORES))
    chosen = [f"{half} random + {half} chosen" for half in HALVES]
    names = [*(f"{budget} random" for budget in BUDGETS), *chosen]
    for name, values in zip(names, np.moveaxis(scores, 1, 0), strict=True):
        print(f"{name:>22}" + "".join(f"{text:>24}" for text in say_means(values)))
    means = scores.mean(axis=0)
    random = means[: len(BUDGETS)]
    for name, reached in zip(chosen, means[len(BUDGETS) :], strict=True):
        worth = ", ".join(say_worth(random, reached))
        print(f"{name} are as good as random labels: {worth}", flush=True)


def say_means(values: Floats) -> Iterator[str]:
    """Say the mean over the seeds of each score, with its interval."""
    n = len(values)
    half = student.ppf(0.975, n - 1) * values.std(axis=0, ddof=1) / np.sqrt(n)
    for mean, width in zip(values.mean(axis=0), half, strict=True):
        yield f"{mean:.4f} ± {width:.4f}"


def say_worth(random: Floats, reached: Floats) -> Iterator[str]:
    """Say how many random labels reach the same mean score."""
    for name, sign, column, score in zip(
        SCORES, BETTER, random.T, reached, strict=True
    ):
        rising = np.maximum.accumulate(sign * column)
        if sign * score >= rising[-1]:
            yield f"{name} {BUDGETS[-1]} or more"
        elif sign * score <= rising[0]:
            yield f"{name} {BUDGETS[0]} or less"
        else:
            worth = np.exp(np.interp(sign * score, rising, np.log(BUDGETS)))
            yield f"{name} {worth:.0f}"


if __name__ == "__main__":
    main()
