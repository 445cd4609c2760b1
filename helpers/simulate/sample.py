"""What is in the beam: the parameters of a simulated experiment, and each shot."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from helpers.errors import ParameterError
from helpers.simulate.particles import (
    BODIES,
    Body,
    Composite,
    ConvexBody,
    Ellipsoid,
    Polyhedron,
    Shape,
    draw_body,
    draw_direction,
    draw_lumps,
    draw_rotation,
    equal_edge_nm,
    equal_sphere_nm,
    sphere,
)

ICOSAHEDRON = "icosahedron"
CLASSES = ("single", "multiple", "other", "blank")
RANGES = MappingProxyType(
    {
        **dict.fromkeys(CLASSES, (0, 1)),
        "size_nm": (5, 300),
        "size_spread": (0, 0.5),
        "lumpiness": (0, 0.5),
        "photons": (1, 1e8),
        "fluence_spread": (0, 3),
        "background": (0, 1e8),
        "weak_share": (0, 1),
        "close_share": (0, 1),
        "focus_nm": (1, 1e5),
        "streak_share": (0, 1),
        "read_noise": (0, 1e3),
        "jitter_px": (0, 20),
        "drift_px": (0, 50),
        "fluence_drift": (0, 3),
        "background_drift": (0, 3),
        "drift_shots": (2, 1e9),
        "adu_per_photon": (1e-3, 1e5),
        "pedestal_adu": (-1e5, 1e5),
    }
)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A sample, a beam and a background; shares are between 0 and 1.

    Raises
    ------
    ParameterError
        If a value is impossible; the message lists all of them.
    """

    # Share of each class; together 1.
    single: float = 0.30
    multiple: float = 0.40
    other: float = 0.20
    blank: float = 0.10
    # What all its particles look like: a name in `BODIES`; what such a kind leaves open
    # (how long a rod is) is drawn with the seed.
    body: str = ICOSAHEDRON
    body_seed: int = 0
    # Median size of the icosahedron, from a vertex to the opposite one, that has the
    # volume of a particle, and the standard deviation of ln(size).
    size_nm: float = 69.0
    size_spread: float = 0.025
    # Unevenness inside convex bodies with flat faces: root mean square of what random
    # lumps scatter forward, as a share of the whole amplitude. It fills dark rings.
    lumpiness: float = 0.04
    # Photons, on good pixels, from a sphere of a median particle's volume in a pulse of
    # median fluence. Two particles scatter about twice as many.
    photons: float = 25_000.0
    # Standard deviation of ln(fluence), pulse energy and place in the focus together.
    fluence_spread: float = 0.5
    # Photons on the whole detector that come from no particle, at median fluence.
    background: float = 700.0
    # Share of multiples whose second particle is weak, and the lowest and highest share
    # of the first one's intensity that it then has.
    weak_share: float = 0.20
    weak_fluence: tuple[float, float] = (0.02, 0.20)
    # Share of multiples that are two touching particles, in any direction: one behind
    # the other, they look like a single bright one.
    close_share: float = 0.40
    # Edge of the square over which the particles of other multiples are spread.
    focus_nm: float = 600.0
    # Share of hits in which charge has run over along two columns, as photons that no
    # mask leaves out.
    streak_share: float = 0.0
    # Standard deviation of a normal noise on each good pixel, in photons.
    read_noise: float = 0.0
    # Standard deviation of the beam's place from shot to shot, along either axis.
    jitter_px: float = 0.0
    # How far the beam moves along the run, and ln(fluence) and ln(background) change:
    # amplitudes of a sine, and its period.
    drift_px: float = 0.0
    fluence_drift: float = 0.0
    background_drift: float = 0.0
    drift_shots: float = 1000.0
    # What a photon adds to a pixel's value, and what a pixel without one has.
    adu_per_photon: float = 1.0
    pedestal_adu: float = 0.0

    def __post_init__(self) -> None:
        """Check what was given."""
        if problems := "; ".join(self._find_problems()):
            message = f"Sample: {problems}."
            raise ParameterError(message)

    @cached_property
    def drawn_body(self) -> Body:
        """What all its particles look like."""
        return draw_body(self.body, self.body_seed)

    @property
    def class_shares(self) -> NDArray[np.float64]:
        """Shares of `CLASSES`, float64 (4,)."""
        return np.array([getattr(self, name) for name in CLASSES])

    def _find_problems(self) -> Iterator[str]:
        for name, (lowest, highest) in RANGES.items():
            value = getattr(self, name)
            if not lowest <= value <= highest:
                yield f"{name} is {value}, expected {lowest:g} to {highest:g}"
        if self.body not in BODIES:
            yield f"body is {self.body!r}, expected one of {', '.join(BODIES)}"
        total = float(self.class_shares.sum())
        if not np.isclose(total, 1):
            yield f"{', '.join(CLASSES)} add up to {total:.4g}, expected 1"
        if self.weak_share + self.close_share > 1:
            yield "weak_share and close_share add up to more than 1"
        lowest, highest = self.weak_fluence
        if not 0 < lowest <= highest <= 1:
            yield f"weak_fluence is {self.weak_fluence}, expected 0 < low <= high <= 1"


SAMPLES = MappingProxyType(
    {
        "default": Sample(),
        "easy": Sample(
            weak_share=0, close_share=0, size_spread=0.01, fluence_spread=0.3
        ),
        "hard": Sample(weak_share=0.38, close_share=0.20, size_spread=0.03),
        "dim": Sample(photons=6_000, fluence_spread=0.8),
        "broad": Sample(size_spread=0.08),
        "noisy": Sample(background=5_000, read_noise=0.15, streak_share=0.2),
        "rare": Sample(single=0.05, multiple=0.15, other=0.20, blank=0.60),
        "crowded": Sample(
            single=0.20, multiple=0.60, other=0.15, blank=0.05, close_share=0.6
        ),
    }
)
"""Named samples, each harder or easier than "default" in its own way (read only)."""


def find_sample(sample: Sample | str) -> Sample:
    """Return a sample by its name in `SAMPLES`; a `Sample` is returned as it is.

    Raises
    ------
    ParameterError
        If there is no sample of that name.
    """
    if isinstance(sample, Sample):
        return sample
    if sample not in SAMPLES:
        message = f"sample {sample!r}: expected a Sample or one of {list(SAMPLES)}."
        raise ParameterError(message)
    return SAMPLES[sample]


Vector = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Particle:
    """A shape at its place in the focus.

    Parameters
    ----------
    shape
        What it is.
    size_nm
        Its size, for the record.
    position_nm
        float64 (3,): along rows, along columns, along the beam.
    fluence
        Photons per area that it meets, as a share of the shot's.
    """

    shape: Shape
    size_nm: float
    position_nm: Vector = field(default_factory=lambda: np.zeros(3))
    fluence: float = 1.0


@dataclass(frozen=True, eq=False)
class Shot:
    """Everything that is decided before the photons are counted.

    Parameters
    ----------
    true_label
        Class name.
    kind
        What kind of it: "icosahedron", "weak second", "close pair", "sphere" …
    particles
        What scatters together.
    fluence
        As a share of the median.
    total_share
        If given, the photons of the whole shot, as a share of those of a median single
        hit, whatever the particles' sizes. None = by their sizes and the fluence.
    """

    true_label: str
    kind: str
    particles: tuple[Particle, ...]
    fluence: float
    total_share: float | None = None


def draw_shot(rng: np.random.Generator, sample: Sample) -> Shot:
    """Draw a class and what belongs to it.

    Parameters
    ----------
    rng
        Source of chance; a shot takes from it in a fixed order.
    sample
        Shares and spreads.
    """
    truth = CLASSES[rng.choice(len(CLASSES), p=sample.class_shares)]
    fluence = float(np.exp(rng.normal(scale=sample.fluence_spread)))
    return DRAW[truth](rng, sample, fluence)


def _draw_blank(_: np.random.Generator, __: Sample, fluence: float) -> Shot:
    return Shot("blank", "blank", (), fluence)


def _draw_single(rng: np.random.Generator, sample: Sample, fluence: float) -> Shot:
    return Shot("single", sample.body, (_draw_particle(rng, sample),), fluence)


def _draw_multiple(rng: np.random.Generator, sample: Sample, fluence: float) -> Shot:
    others = 1 - sample.weak_share - sample.close_share
    kind = rng.choice(
        ["weak second", "close pair", "several"],
        p=[sample.weak_share, sample.close_share, max(others, 0)],
    )
    draw = {"weak second": _draw_weak_second, "close pair": _draw_close_pair}
    particles = draw.get(kind, _draw_several)(rng, sample)
    return Shot("multiple", str(kind), particles, fluence)


def _draw_other(rng: np.random.Generator, sample: Sample, fluence: float) -> Shot:
    kind = str(rng.choice(list(DRAW_OTHER)))
    particle = DRAW_OTHER[kind](rng, sample)
    share = fluence * float(np.exp(rng.normal(scale=0.5)))
    return Shot("other", kind, (particle,), fluence, total_share=share)


def _draw_particle(
    rng: np.random.Generator,
    sample: Sample,
    position_nm: Vector | None = None,
    fluence: float = 1.0,
    rotation: Vector | None = None,
) -> Particle:
    size_nm = float(sample.size_nm * np.exp(rng.normal(scale=sample.size_spread)))
    place = np.zeros(3) if position_nm is None else position_nm
    return Particle(
        _draw_shape(rng, sample, size_nm, rotation), size_nm, place, fluence
    )


def _draw_shape(
    rng: np.random.Generator,
    sample: Sample,
    size_nm: float,
    rotation: Vector | None = None,
) -> Shape:
    body, edge_nm = sample.drawn_body, equal_edge_nm(size_nm)
    lumps = None
    if isinstance(body, ConvexBody):
        lumps = draw_lumps(rng, body.lump_radius * edge_nm, edge_nm, sample.lumpiness)
    turned = draw_rotation(rng) if rotation is None else rotation
    return body.place(edge_nm, turned, lumps)


def _draw_several(rng: np.random.Generator, sample: Sample) -> tuple[Particle, ...]:
    first = _draw_particle(rng, sample)
    more = (
        _draw_particle(
            rng, sample, _draw_place(rng, sample), fluence=rng.uniform(0.2, 1)
        )
        for _ in range(rng.choice([1, 2, 3], p=[0.65, 0.25, 0.10]))
    )
    return (first, *more)


def _draw_weak_second(rng: np.random.Generator, sample: Sample) -> tuple[Particle, ...]:
    fluence = rng.uniform(*sample.weak_fluence)
    second = _draw_particle(rng, sample, _draw_place(rng, sample), fluence)
    return _draw_particle(rng, sample), second


def _draw_close_pair(rng: np.random.Generator, sample: Sample) -> tuple[Particle, ...]:
    if sample.body == ICOSAHEDRON:
        # Two of them touch at 0.79 (face to face) to 1 (tip to tip) of their size.
        apart_nm = sample.size_nm * rng.uniform(0.8, 1.1) * draw_direction(rng)
        second = _draw_particle(rng, sample, apart_nm)
        return _draw_particle(rng, sample), second
    direction = draw_direction(rng)
    rotations = [draw_rotation(rng) for _ in range(2)]
    reach = [
        sample.drawn_body.reach(rotation.T @ (sign * direction))
        for sign, rotation in zip((1, -1), rotations, strict=True)
    ]
    touch_nm = sum(reach) * equal_edge_nm(sample.size_nm)
    apart_nm = touch_nm * rng.uniform(0.9, 1.1) * direction
    second = _draw_particle(rng, sample, apart_nm, rotation=rotations[1])
    return _draw_particle(rng, sample, rotation=rotations[0]), second


def _draw_place(rng: np.random.Generator, sample: Sample) -> Vector:
    """Draw the distance of two places in the focus, at least a particle's size."""
    distance_nm = 0.0
    while distance_nm < min(sample.size_nm, sample.focus_nm / 2):
        places = rng.uniform(-0.5, 0.5, size=(2, 2)) * sample.focus_nm
        apart_nm = places[1] - places[0]
        distance_nm = float(np.hypot(*apart_nm))
    return np.append(apart_nm, 0.0)


def _draw_sphere(rng: np.random.Generator, sample: Sample) -> Particle:
    size_nm = sample.size_nm * _draw_wrong_factor(rng, 0.45, 2.5)
    return Particle(sphere(equal_sphere_nm(size_nm)), size_nm)


def _draw_spheroid(rng: np.random.Generator, sample: Sample) -> Particle:
    size_nm = sample.size_nm * float(np.exp(rng.uniform(*np.log((0.7, 1.8)))))
    stretch = rng.uniform(1.3, 2.5) ** rng.choice([-1, 1])
    axes = np.array([1, 1, stretch]) / np.cbrt(stretch)
    semi_axes_nm = axes * equal_sphere_nm(size_nm) / 2
    return Particle(Ellipsoid(semi_axes_nm, draw_rotation(rng)), size_nm)


def _draw_wrong_size(rng: np.random.Generator, sample: Sample) -> Particle:
    size_nm = sample.size_nm * _draw_wrong_factor(rng, 0.5, 1.8)
    return Particle(_draw_shape(rng, sample, size_nm), size_nm)


def _draw_debris(rng: np.random.Generator, sample: Sample) -> Particle:
    """Draw a brick with some corners and edges cut off."""
    half_nm = sample.size_nm * rng.uniform(0.2, 0.7, size=3)
    cuts = np.array([draw_direction(rng) for _ in range(rng.integers(3, 9))])
    reach_nm = np.linalg.norm(cuts * half_nm, axis=1)
    normals = np.vstack([np.eye(3), -np.eye(3), cuts]) @ draw_rotation(rng).T
    cuts_nm = reach_nm * rng.uniform(0.6, 1.1, size=len(cuts))
    distances_nm = np.concatenate([half_nm, half_nm, cuts_nm])
    radius_nm = float(np.linalg.norm(half_nm))
    return Particle(Polyhedron(normals, distances_nm, radius_nm), 2 * radius_nm)


def _draw_aggregate(rng: np.random.Generator, sample: Sample) -> Particle:
    """Draw a few droplets, each stuck to one that was there before."""
    diameters_nm = sample.size_nm * rng.uniform(0.3, 0.8, size=rng.integers(3, 8))
    places_nm = np.zeros((len(diameters_nm), 3))
    for new in range(1, len(diameters_nm)):
        old = rng.integers(new)
        touch_nm = (diameters_nm[new] + diameters_nm[old]) / 2
        places_nm[new] = places_nm[old] + touch_nm * draw_direction(rng)
    drops = tuple(sphere(diameter_nm) for diameter_nm in diameters_nm)
    across_nm = float(np.ptp(places_nm, axis=0).max() + diameters_nm.mean())
    return Particle(Composite(drops, places_nm), across_nm)


def _draw_wrong_factor(
    rng: np.random.Generator, lowest: float, highest: float
) -> float:
    """Draw a size that is wrong by 15 % or more, as a share of the right one."""
    smaller = rng.random() < 0.5
    bounds = (lowest, 0.85) if smaller else (1.15, highest)
    return float(np.exp(rng.uniform(*np.log(bounds))))


DrawOther = Callable[[np.random.Generator, Sample], Particle]
DRAW_OTHER: MappingProxyType[str, DrawOther] = MappingProxyType(
    {
        "sphere": _draw_sphere,
        "spheroid": _draw_spheroid,
        "wrong size": _draw_wrong_size,
        "debris": _draw_debris,
        "aggregate": _draw_aggregate,
    }
)
DrawClass = Callable[[np.random.Generator, Sample, float], Shot]
DRAW: MappingProxyType[str, DrawClass] = MappingProxyType(
    {
        "single": _draw_single,
        "multiple": _draw_multiple,
        "other": _draw_other,
        "blank": _draw_blank,
    }
)
