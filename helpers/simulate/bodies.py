"""What one particle may look like: bodies of unit volume, by name.

A sample is of one kind and all its particles have the same body, in another size and
orientation each. Where a kind leaves something open (how long a rod is, how a random
polyhedron is cut), its numbers are drawn once per sample.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from types import MappingProxyType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull, HalfspaceIntersection

from helpers.simulate.shapes import (
    FACE_NORMALS,
    GOLDEN,
    ICOSAHEDRON_VOLUME,
    Composite,
    Ellipsoid,
    Lumps,
    Polyhedron,
    Shape,
    draw_direction,
)

Vectors = NDArray[np.float64]
LONGEST_ROD = 4.0
BALL = np.cbrt(3 / (4 * np.pi))  # radius of the ball of volume 1
# How far lumps lie, over the nearest face: in an icosahedron, within the equal ball.
LUMPS_REACH = 2 * BALL * np.cbrt(ICOSAHEDRON_VOLUME) * np.sqrt(3) / GOLDEN**2


class Body(Protocol):
    """A particle's form; its volume is 1."""

    def place(self, edge_nm: float, rotation: Vectors, lumps: Lumps | None) -> Shape:
        """Return it with a volume of `edge_nm` cubed, turned."""
        ...

    def reach(self, direction: Vectors) -> float:
        """Return how far it extends from its origin along a unit vector."""
        ...


@dataclass(frozen=True, eq=False)
class ConvexBody:
    """What lies behind all of its planes.

    Parameters
    ----------
    normals
        float64 (n_planes, 3), unit vectors, outward.
    distances
        float64 (n_planes,).
    corners
        float64 (n_corners, 3).
    """

    normals: Vectors
    distances: Vectors
    corners: Vectors

    @classmethod
    def of_planes(cls, normals: Vectors, distances: Vectors) -> "ConvexBody":
        """Return the body behind some planes, scaled to a volume of 1."""
        unit = normals / np.linalg.norm(normals, axis=1, keepdims=True)
        planes = np.column_stack([unit, -np.broadcast_to(distances, len(unit))])
        corners = HalfspaceIntersection(planes, np.zeros(3)).intersections
        scale = float(np.cbrt(ConvexHull(corners).volume))
        return cls(unit, -planes[:, 3] / scale, corners / scale)

    @property
    def lump_radius(self) -> float:
        """How far from the origin lumps may lie."""
        return float(min(LUMPS_REACH * self.distances.min(), BALL))

    def place(self, edge_nm: float, rotation: Vectors, lumps: Lumps | None) -> Shape:
        """Return the polyhedron."""
        radius_nm = float(np.linalg.norm(self.corners, axis=1).max()) * edge_nm
        return Polyhedron(
            self.normals @ rotation.T, self.distances * edge_nm, radius_nm, lumps
        )

    def reach(self, direction: Vectors) -> float:
        """Return how far it extends from its origin along a unit vector."""
        return float((self.corners @ direction).max())


@dataclass(frozen=True, eq=False)
class EllipsoidsBody:
    """Ellipsoids that scatter together, such as a core in its shell.

    Parameters
    ----------
    semi_axes, centres
        float64 (n, 3).
    axes
        float64 (n, 3, 3), rotation of each one's axes.
    densities
        float64 (n,); where two overlap, their densities add up.
    """

    semi_axes: Vectors
    centres: Vectors
    axes: Vectors
    densities: Vectors

    @classmethod
    def of_parts(
        cls,
        semi_axes: Vectors,
        centres: Vectors | None = None,
        axes: Vectors | None = None,
        densities: Vectors | None = None,
    ) -> "EllipsoidsBody":
        """Return the body about its centre of mass, scaled so that it scatters as 1."""
        n = len(semi_axes)
        places = np.zeros((n, 3)) if centres is None else centres
        turned = np.tile(np.eye(3), (n, 1, 1)) if axes is None else axes
        density = np.ones(n) if densities is None else densities
        masses = density * 4 / 3 * np.pi * np.prod(semi_axes, axis=1)
        middle = masses @ places / masses.sum()
        scale = float(np.cbrt(masses.sum()))
        return cls(semi_axes / scale, (places - middle) / scale, turned, density)

    def place(self, edge_nm: float, rotation: Vectors, lumps: Lumps | None) -> Shape:
        """Return the ellipsoids; they take no lumps."""
        parts = tuple(
            Ellipsoid(semi_axes * edge_nm, rotation @ axes)
            for semi_axes, axes in zip(self.semi_axes, self.axes, strict=True)
        )
        return Composite(parts, self.centres @ rotation.T * edge_nm, self.densities)

    def reach(self, direction: Vectors) -> float:
        """Return how far it extends from its origin along a unit vector."""
        along = np.einsum("nij,i->nj", self.axes, direction) * self.semi_axes
        return float((self.centres @ direction + np.linalg.norm(along, axis=1)).max())


def _box(edges: Vectors) -> ConvexBody:
    planes = np.vstack([np.eye(3), -np.eye(3)])
    return ConvexBody.of_planes(planes, np.tile(edges / 2, 2))


def _prism(n_sides: int, length: float) -> ConvexBody:
    """Return a regular prism, `length` times as long as its circle's diameter."""
    angle = 2 * np.pi * np.arange(n_sides) / n_sides
    sides = np.column_stack([np.cos(angle), np.sin(angle), 0 * angle])
    ends = np.array([[0, 0, 1.0], [0, 0, -1.0]])
    distances = np.concatenate(
        [np.full(n_sides, np.cos(np.pi / n_sides)), [length] * 2]
    )
    return ConvexBody.of_planes(np.vstack([sides, ends]), distances)


def _bipyramid(n_sides: int, length: float) -> ConvexBody:
    angle = 2 * np.pi * (np.arange(n_sides) + 0.5) / n_sides
    around = np.column_stack([np.cos(angle), np.sin(angle), 0 * angle])
    up = np.array([0, 0, 1 / length])
    return ConvexBody.of_planes(np.vstack([around + up, around - up]), np.ones(1))


def _octahedron(cut: float = 1.0) -> ConvexBody:
    """Return an octahedron whose corners are cut at a share of their distance."""
    faces = np.array(list(product((-1.0, 1.0), repeat=3)))
    if cut >= 1:
        return ConvexBody.of_planes(faces, np.ones(1))
    ends = np.vstack([np.eye(3), -np.eye(3)])
    distances = np.concatenate([np.ones(8), np.full(6, cut * np.sqrt(3))])
    return ConvexBody.of_planes(np.vstack([faces, ends]), distances)


def _tetrahedron() -> ConvexBody:
    faces = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1.0]])
    return ConvexBody.of_planes(faces, np.ones(1))


def _dodecahedron() -> ConvexBody:
    signs = list(product((-1.0, 1.0), repeat=2))
    corners = np.array([[0, a, b * GOLDEN] for a, b in signs])
    faces = np.vstack([np.roll(corners, turn, axis=1) for turn in range(3)])
    return ConvexBody.of_planes(faces, np.ones(1))


def _draw_polyhedron(rng: np.random.Generator) -> Body:
    """Cut a ball at random, and stretch what is left."""
    normals = np.array([draw_direction(rng) for _ in range(rng.integers(8, 22))])
    box = np.vstack([np.eye(3), -np.eye(3)])
    distances = np.concatenate([rng.uniform(0.7, 1, len(normals)), np.full(6, 1.1)])
    stretch = np.exp(rng.normal(scale=0.25, size=3))
    # Behind n · x = d before stretching is behind (n / s) · x = d after it.
    planes = np.vstack([normals, box]) / stretch
    return ConvexBody.of_planes(planes, distances / np.linalg.norm(planes, axis=1))


def _draw_core_and_shell(rng: np.random.Generator) -> Body:
    flat = np.exp(rng.normal(scale=0.15, size=3))
    share = rng.uniform(0.4, 0.85)
    axes = np.vstack([flat, flat * share])
    return EllipsoidsBody.of_parts(axes, densities=np.array([1, rng.uniform(-0.9, 2)]))


def _draw_clump(rng: np.random.Generator) -> Body:
    """Stick spheres together, each to one that was there before."""
    radii = rng.uniform(0.6, 1, size=rng.integers(3, 9))
    centres = np.zeros((len(radii), 3))
    for new in range(1, len(radii)):
        old = rng.integers(new)
        touch = radii[new] + radii[old]
        centres[new] = centres[old] + 0.95 * touch * draw_direction(rng)
    return EllipsoidsBody.of_parts(np.repeat(radii[:, None], 3, axis=1), centres)


def _draw_filament(rng: np.random.Generator) -> Body:
    """Put ellipsoids in a row that bends."""
    n, bend = int(rng.integers(4, 9)), rng.uniform(0, 0.35)
    angle = np.cumsum(rng.normal(scale=bend, size=n))
    steps = np.column_stack([np.cos(angle), np.sin(angle), 0 * angle])
    centres = np.cumsum(1.4 * steps, axis=0)
    return EllipsoidsBody.of_parts(np.ones((n, 3)), centres)


def _draw_rod(rng: np.random.Generator) -> Body:
    return _box(np.array([1, 1, rng.uniform(1.5, LONGEST_ROD)]))


def _draw_prism(rng: np.random.Generator) -> Body:
    length = float(np.exp(rng.uniform(*np.log((0.4, LONGEST_ROD)))))
    return _prism(int(rng.choice([3, 5, 6, 8])), length)


def _draw_ellipsoid(rng: np.random.Generator) -> Body:
    return EllipsoidsBody.of_parts(np.exp(rng.normal(scale=0.3, size=(1, 3))))


def _draw_brick(rng: np.random.Generator) -> Body:
    return _box(np.exp(rng.uniform(0, np.log(3), size=3)))


def _draw_lens(rng: np.random.Generator) -> Body:
    return EllipsoidsBody.of_parts(np.array([[1, 1, rng.uniform(0.3, 0.6)]]))


def _draw_capped_rod(rng: np.random.Generator) -> Body:
    """Put overlapping spheres so close that they make a rod with round ends."""
    length = rng.uniform(1.5, 3.5)
    places = np.linspace(-length, length, int(np.ceil(8 * length)))
    centres = np.column_stack([0 * places, 0 * places, places])
    return EllipsoidsBody.of_parts(np.ones((len(places), 3)), centres)


def _draw_bipyramid(rng: np.random.Generator) -> Body:
    return _bipyramid(int(rng.choice([5, 6])), rng.uniform(0.8, 2.5))


def _draw_two_lobes(rng: np.random.Generator) -> Body:
    """Grow two spheres together, as a dumbbell or a budding particle."""
    small = rng.uniform(0.5, 1)
    apart = np.array([[0, 0, 0], [0, 0, rng.uniform(0.7, 1) * (1 + small)]])
    return EllipsoidsBody.of_parts(np.array([[1.0] * 3, [small] * 3]), apart)


DrawBody = Callable[[np.random.Generator], Body]
BODIES: MappingProxyType[str, DrawBody] = MappingProxyType(
    {
        "icosahedron": lambda _: ConvexBody.of_planes(FACE_NORMALS, np.ones(1)),
        "octahedron": lambda _: _octahedron(),
        "cube": lambda _: _box(np.ones(3)),
        "rod": _draw_rod,
        "brick": _draw_brick,
        "prism": _draw_prism,
        "ellipsoid": _draw_ellipsoid,
        "polyhedron": _draw_polyhedron,
        "core and shell": _draw_core_and_shell,
        "clump": _draw_clump,
        "filament": _draw_filament,
        "truncated octahedron": lambda rng: _octahedron(rng.uniform(0.55, 0.9)),
        "tetrahedron": lambda _: _tetrahedron(),
        "dodecahedron": lambda _: _dodecahedron(),
        "bipyramid": _draw_bipyramid,
        "capped rod": _draw_capped_rod,
        "lens": _draw_lens,
        "two lobes": _draw_two_lobes,
    }
)
"""How the body of each kind is drawn."""


def draw_body(name: str, seed: int) -> Body:
    """Draw a body of a kind.

    Parameters
    ----------
    name
        A key of `BODIES`.
    seed
        The same seed gives the same body.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1,)))
    return BODIES[name](rng)
