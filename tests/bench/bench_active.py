"""What are well-chosen labels worth? Chosen ones beside random ones.

Run `python tests/bench/bench_active.py`, or with `--quick`. How patterns are chosen was
settled on the samples "default", "hard" and "dim" with seed 101, after a look at "rare"
and "crowded" with seed 2001; what is printed is measured on other seeds.

For each sample and seed: 1,000 patterns to draw labels from, 2,000 to judge on. Random
labels are the first of a shuffled list; the chosen 100 are the first 50 of that list
and 50 more that `pick_uncertain_and_diverse` asks for, a fifth of which is the random
audit (the next of the list). Everything is trained as `helpers.training` does it, the
threshold from the labels alone. Each stack is shuffled four times; an interval is that
of the mean over the stacks, 95 %.
"""

import argparse
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student
from sklearn.metrics import average_precision_score, f1_score

from helpers.models import InvariantNetwork
from helpers.models.invariant import encode_pixels, make_head
from helpers.models.trained import predict_inputs
from helpers.review import pick_uncertain_and_diverse
from helpers.simulate import SAMPLES, Simulator
from helpers.training import choose_threshold, fit_calibration_in_stack
from helpers.training.exact import fit_exactly

N_POOL, N_JUDGED = 1000, 2000
FIRST, CHOSEN, AUDIT_SHARE = 50, 50, 0.2
BUDGETS = (50, 100, 200, 400)
N_SHUFFLES = 4
SCORES = ("F1", "AP")

Floats = NDArray[np.floating]
Index = NDArray[np.int64]


class Stack(NamedTuple):
    """The inputs of a simulated stack, and the truth."""

    inputs: Floats
    single: NDArray[np.bool_]


def main() -> None:
    """Print one table for each sample."""
    arguments = read_arguments()
    for sample in arguments.samples:
        stacks = (simulate(sample, 3000 + seed) for seed in range(arguments.seeds))
        report(sample, np.array([measure(stack) for stack in stacks]))


def read_arguments() -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(description="What are chosen labels worth?")
    parser.add_argument("--quick", action="store_true", help="one sample, two seeds")
    parser.add_argument("--seeds", type=int, default=6, help="stacks of each sample")
    parser.add_argument("--samples", nargs="*", default=list(SAMPLES))
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.samples, arguments.seeds = ["hard"], 2
    return arguments


def simulate(sample: str, seed: int) -> Stack:
    """Simulate a stack; keep the invariant network's inputs alone."""
    simulator = Simulator(seed, sample=sample)
    bad_pixels = simulator.bad_pixels
    network = InvariantNetwork(
        bad_pixels.shape, simulator.detector.centre, encode_pixels(bad_pixels)
    )
    blocks = [
        (network.make_inputs(block.patterns), block.truth == "single")
        for _, block in simulator.blocks(N_POOL + N_JUDGED)
    ]
    return Stack(*(np.concatenate(parts) for parts in zip(*blocks, strict=True)))


def measure(stack: Stack) -> Floats:
    """Return the mean over the shuffles of `compare`."""
    orders = (shuffle_pool(stack, seed) for seed in range(N_SHUFFLES))
    return np.mean([compare(stack, order) for order in orders], axis=0)


def compare(stack: Stack, order: Index) -> Floats:
    """Return (labels, scores): of each number of random labels, then the chosen 100."""
    rows = [judge(stack, order[:budget])[0] for budget in BUDGETS]
    return np.array([*rows, judge(stack, choose(stack, order))[0]])


def shuffle_pool(stack: Stack, seed: int) -> Index:
    """Shuffle the pool, with at least five of each class among the first."""
    rng = np.random.default_rng(seed)
    while True:
        order = rng.permutation(N_POOL)
        if 5 <= stack.single[order[:FIRST]].sum() <= FIRST - 5:
            return order


def choose(stack: Stack, order: Index) -> Index:
    """Return the first labels, the audit and what is chosen with the first's help."""
    _, probability, last_inputs = judge(stack, order[:FIRST])
    n_audit = round(AUDIT_SHARE * CHOSEN)
    random, rest = np.split(order, [FIRST + n_audit])
    picked = pick_uncertain_and_diverse(
        last_inputs(rest), probability[rest], CHOSEN - n_audit
    )
    return np.concatenate([random, rest[picked]])


def judge(
    stack: Stack, labelled: Index
) -> tuple[tuple[float, float], Floats, Callable[[Index], Floats]]:
    """Train on some labels: scores, probabilities, and what the last layer is given."""
    import keras

    inputs, single = stack
    keras_model = make_head(inputs.shape[1])
    unseen = fit_exactly(keras_model, inputs[labelled], single[labelled])
    raw = predict_inputs(keras_model, inputs, 4096)
    others = np.setdiff1d(np.arange(N_POOL), labelled)
    stack = np.concatenate([unseen, raw[others]])
    calibration = fit_calibration_in_stack(unseen, single[labelled], stack)
    threshold = choose_threshold(calibration.apply(unseen), single[labelled])
    probability = calibration.apply(raw)
    before = keras.Model(keras_model.input, keras_model.layers[-1].input)
    judged = slice(N_POOL, None)
    scores = (
        f1_score(single[judged], probability[judged] >= threshold),
        average_precision_score(single[judged], probability[judged]),
    )
    return scores, probability, lambda index: np.asarray(before(inputs[index]))


def report(sample: str, scores: Floats) -> None:
    """Print the means, what chosen labels gain, and how many random ones match them."""
    print(f"\n{sample}, {len(scores)} seeds")
    print(f"{'labels':>22}" + "".join(f"{name:>24}" for name in SCORES))
    names = [*(f"{budget} random" for budget in BUDGETS), "50 random + 50 chosen"]
    for name, values in zip(names, np.moveaxis(scores, 1, 0), strict=True):
        print(f"{name:>22}" + "".join(f"{text:>24}" for text in say_means(values)))
    for budget in (100, 200):
        gain = scores[:, -1] - scores[:, BUDGETS.index(budget)]
        name = f"gain over {budget}"
        print(f"{name:>22}" + "".join(f"{text:>24}" for text in say_means(gain)))
    print("as good as random labels: " + ", ".join(say_worth(scores.mean(axis=0))))


def say_means(values: Floats) -> Iterator[str]:
    """Say the mean over the seeds of each score, with its interval."""
    n = len(values)
    half = student.ppf(0.975, n - 1) * values.std(axis=0, ddof=1) / np.sqrt(n)
    for mean, width in zip(values.mean(axis=0), half, strict=True):
        yield f"{mean:.4f} ± {width:.4f}"


def say_worth(means: Floats) -> Iterator[str]:
    """Say how many random labels reach the mean scores of the chosen 100."""
    for name, column in zip(SCORES, means.T, strict=True):
        rising = np.maximum.accumulate(column[:-1])
        if column[-1] >= rising[-1]:
            yield f"{name} {BUDGETS[-1]} or more"
        else:
            worth = np.exp(np.interp(column[-1], rising, np.log(BUDGETS)))
            yield f"{name} {worth:.0f}"


if __name__ == "__main__":
    main()
