"""Any particle before any detector: what the encoder is trained on."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from helpers.simulate import Detector, Sample, Simulation, Simulator, pnccd_bad_pixels

SIDE = 128  # pixels
SMALL_SIDES = (64, 96)
SHARE_SMALL = 0.15
PIXEL_MM = 0.3
UNSEEN_BODIES = (
    "truncated octahedron",
    "tetrahedron",
    "dodecahedron",
    "bipyramid",
    "capped rod",
    "lens",
    "two lobes",
)
"""Bodies that no network has seen: what is measured on them is no memory."""
SEEN_BODIES = (
    "icosahedron",
    "octahedron",
    "cube",
    "rod",
    "brick",
    "prism",
    "ellipsoid",
    "polyhedron",
    "core and shell",
    "clump",
    "filament",
)


class AnySample(NamedTuple):
    """A sample before a detector.

    Attributes
    ----------
    simulation
        Patterns and truth.
    bad_pixels
        bool (rows, columns).
    centre
        (row, column) as an experimenter would find it, in pixels.
    step_nm
        Length of a step of the Patterson map of the whole pattern.
    body
        Name of the particles' body.
    """

    simulation: Simulation
    bad_pixels: NDArray[np.bool_]
    centre: tuple[float, float]
    step_nm: float
    body: str


def simulate_any(seed: int, n: int, bodies: tuple[str, ...] = SEEN_BODIES) -> AnySample:
    """Draw a particle, a beam, a background, a detector and a mask; then patterns.

    Parameters
    ----------
    seed
        The same seed gives the same patterns.
    n
        How many.
    bodies
        Of which names.

    Notes
    -----
    Particles are 3.5 to 20 steps of the Patterson map wide, 1,500 to 120,000 photons
    bright, of any body; half of the patterns are single. The second particle of a
    multiple is anywhere from touching to ten sizes away, down to 2 % as bright.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(2,)))
    body = str(rng.choice(bodies))
    is_small = rng.random() < SHARE_SMALL
    side = int(rng.choice(SMALL_SIDES)) if is_small else SIDE
    size_nm = draw_evenly(rng, 45, 110)
    steps = draw_evenly(rng, 3.5, 20 * side / SIDE)
    step_nm = size_nm / steps
    middle = (side - 1) / 2 + rng.normal(scale=3, size=2)
    detector = Detector(
        shape=(side, side),
        centre=(float(middle[0]), float(middle[1])),
        pixel_mm=PIXEL_MM,
        distance_mm=step_nm * side * PIXEL_MM / Detector().wavelength_nm,
    )
    sample = draw_sample(
        rng,
        body=body,
        body_seed=seed,
        size_nm=size_nm,
        widest_focus_nm=0.7 * side * step_nm,
    )
    bad_pixels = draw_bad_pixels(rng, detector)
    simulator = Simulator(seed, sample=sample, detector=detector, bad_pixels=bad_pixels)
    _, simulation = next(simulator.blocks(n, n))
    row, column = middle + rng.normal(scale=0.3, size=2)
    return AnySample(simulation, bad_pixels, (row, column), step_nm, body)


def draw_sample(
    rng: np.random.Generator,
    *,
    body: str,
    body_seed: int,
    size_nm: float,
    widest_focus_nm: float,
) -> Sample:
    """Draw beam and background of a sample, and how its particles come together."""
    photons = draw_evenly(rng, 1_500, 120_000)
    weak_share = rng.uniform(0, 0.5)
    return Sample(
        single=0.5,
        multiple=0.42,
        other=0,
        blank=0.08,
        body=body,
        body_seed=body_seed,
        size_nm=size_nm,
        size_spread=draw_evenly(rng, 0.005, 0.1),
        lumpiness=rng.uniform(0, 0.1),
        photons=photons,
        fluence_spread=rng.uniform(0.2, 0.9),
        background=photons * draw_evenly(rng, 0.005, 0.3),
        weak_share=weak_share,
        close_share=rng.uniform(0, 0.9 - weak_share) * 0.6,
        focus_nm=min(draw_evenly(rng, 2.5, 10) * size_nm, widest_focus_nm),
        streak_share=float(rng.choice([0, 0, 0.1, 0.2])),
        read_noise=float(rng.choice([0, 0, rng.uniform(0.05, 0.3)])),
        jitter_px=float(rng.choice([0, rng.uniform(0, 1.2)])),
    )


def draw_evenly(rng: np.random.Generator, lowest: float, highest: float) -> float:
    """Draw a number whose logarithm is spread evenly."""
    return float(np.exp(rng.uniform(np.log(lowest), np.log(highest))))


def draw_bad_pixels(rng: np.random.Generator, detector: Detector) -> NDArray[np.bool_]:
    """Draw a beam stop or a hole, gaps, a lost module or quadrant, dead pixels."""
    shape = detector.shape
    if rng.random() < 0.15:
        return pnccd_bad_pixels(shape)
    rows, columns = np.indices(shape)
    down, right = rows - detector.centre[0], columns - detector.centre[1]
    bad = rng.random(shape) < draw_evenly(rng, 1e-4, 0.01)
    reach = rng.uniform(0, 6)
    is_round = rng.random() < 0.5
    square = np.maximum(np.abs(down), np.abs(right))
    bad |= (np.hypot(down, right) if is_round else square) < reach
    if rng.random() < 0.3:  # the wire that holds the beam stop
        angle = rng.uniform(0, 2 * np.pi)
        beside = np.abs(down * np.cos(angle) - right * np.sin(angle))
        bad |= (beside < rng.uniform(0.5, 1.5)) & (
            down * np.sin(angle) + right * np.cos(angle) > 0
        )
    for along in (down, right):
        for _ in range(rng.choice(3, p=[0.4, 0.4, 0.2])):
            place, width = rng.normal(scale=12), rng.uniform(0.5, 4)
            bad |= np.abs(along - place) < width
    if rng.random() < 0.1:
        bad |= (down * rng.choice([-1, 1]) > 0) & (right * rng.choice([-1, 1]) > 0)
    return bad
