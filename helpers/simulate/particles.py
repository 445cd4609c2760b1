"""What one particle may look like, and the amplitude that it scatters.

A `Body` is a form of unit volume: a sample is of one kind and all its particles have
the same body, in another size and orientation each. Where a kind leaves something open
(how long a rod is, how a random polyhedron is cut), its numbers are drawn once per
sample. A `Shape` is a body of some size, turned.

Places and directions are (along rows, along columns, along the beam). An amplitude is
complex64 (rows, columns), in nm³: the particle's volume at q = 0.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from types import MappingProxyType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull, HalfspaceIntersection

from helpers.simulate.detector import FarField

GOLDEN = (1 + np.sqrt(5)) / 2
# Per edge of length 1: vertex to opposite vertex, volume.
ICOSAHEDRON_VERTICES = np.sqrt(GOLDEN * np.sqrt(5))
ICOSAHEDRON_VOLUME = 5 * GOLDEN**2 / 6
N_LUMPS = 60
LUMP_NM = 3.7  # standard deviation of a lump's density along any line


class Shape(Protocol):
    """Anything that scatters."""

    def amplitude(self, far_field: FarField) -> NDArray[np.complex64]:
        """Return the scattered amplitude at every pixel."""
        ...


@dataclass(frozen=True, eq=False)
class Lumps:
    """Round regions that are denser or lighter than the body about them.

    Parameters
    ----------
    positions_nm
        float64 (n_lumps, 3).
    volumes_nm3
        float64 (n_lumps,), what each adds to the body's volume; negative = takes away.
    """

    positions_nm: NDArray[np.float64]
    volumes_nm3: NDArray[np.float64]

    def thickness_nm(self, samples_nm: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return what the lumps add to the length along the beam: float32 (m, m)."""
        along_rows, along_columns = (
            np.exp(-(((samples_nm - places_nm[:, None]) / LUMP_NM) ** 2) / 2)
            for places_nm in self.positions_nm.T[:2]
        )
        peaks_nm = self.volumes_nm3 / (2 * np.pi * LUMP_NM**2)
        return np.asarray((along_rows.T * peaks_nm) @ along_columns, dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Polyhedron:
    """A convex body: what lies behind all of its planes.

    Parameters
    ----------
    normals
        float64 (n_planes, 3), unit vectors, outward.
    distances_nm
        float64 (n_planes,), from the origin to each plane.
    radius_nm
        No point of the body is farther from the origin.
    lumps
        What makes its density uneven; None = even.
    """

    normals: NDArray[np.float64]
    distances_nm: NDArray[np.float64]
    radius_nm: float
    lumps: Lumps | None = None

    def thickness_nm(self, samples_nm: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return the length of the body along the beam.

        Parameters
        ----------
        samples_nm
            float64 (m,), places along rows and along columns.

        Returns
        -------
        thickness
            float32 (m, m), 0 beside the body.
        """
        along_rows, along_columns, along_beam = self.normals.T
        # A plane along the beam is tilted a little, so that it still cuts.
        slope = np.where(np.abs(along_beam) < 1e-6, 1e-6, along_beam)
        row_heights = np.outer(along_rows / slope, samples_nm)
        column_heights = np.outer(along_columns / slope, samples_nm)
        column_heights -= (self.distances_nm / slope)[:, None]
        heights = -(row_heights[:, :, None] + column_heights[:, None, :])
        length_nm = heights[slope > 0].min(axis=0) - heights[slope < 0].max(axis=0)
        return np.asarray(np.maximum(length_nm, 0), dtype=np.float32)

    def amplitude(self, far_field: FarField) -> NDArray[np.complex64]:
        """Return the amplitude: the Fourier transform of the thickness."""
        samples_nm = far_field.samples_nm(self.radius_nm)
        thickness_nm = self.thickness_nm(samples_nm)
        if self.lumps is not None:
            thickness_nm += self.lumps.thickness_nm(samples_nm)
        return far_field.transform(thickness_nm)


@dataclass(frozen=True, eq=False)
class Ellipsoid:
    """A sphere, spheroid or ellipsoid.

    Parameters
    ----------
    semi_axes_nm
        float64 (3,).
    rotation
        float64 (3, 3), applied to the axes.
    """

    semi_axes_nm: NDArray[np.float64]
    rotation: NDArray[np.float64]

    def amplitude(self, far_field: FarField) -> NDArray[np.complex64]:
        """Return the amplitude, by the formula for a sphere, stretched.

        References
        ----------
        J. S. Pedersen (1997), Adv. Colloid Interface Sci. 70, 171, form factors 1 and
        6, https://doi.org/10.1016/S0001-8686(97)00312-6
        """
        squares = (self.rotation * self.semi_axes_nm**2) @ self.rotation.T
        along_rows, along_columns = far_field.q_rows_inv_nm, far_field.q_columns_inv_nm
        u_squared = (
            np.float32(squares[0, 0]) * along_rows**2
            + np.float32(2 * squares[0, 1]) * along_rows * along_columns
            + np.float32(squares[1, 1]) * along_columns**2
        )
        volume = 4 / 3 * np.pi * np.prod(self.semi_axes_nm)
        return np.float32(volume) * sphere_amplitude(u_squared).astype(np.complex64)


@dataclass(frozen=True, eq=False)
class Composite:
    """Several bodies that stick together, or lie one within another.

    Parameters
    ----------
    parts
        The bodies.
    positions_nm
        float64 (n_parts, 3), where each one's origin lies.
    densities
        float64 (n_parts,), relative; where bodies overlap, they add up. None = 1.
    """

    parts: tuple[Shape, ...]
    positions_nm: NDArray[np.float64]
    densities: NDArray[np.float64] | None = None

    def amplitude(self, far_field: FarField) -> NDArray[np.complex64]:
        """Return the amplitude: the sum over the parts, each with its phase."""
        densities = (
            np.ones(len(self.parts)) if self.densities is None else self.densities
        )
        amplitudes = [
            part.amplitude(far_field)
            * far_field.shift(position_nm)
            * np.float32(density)
            for part, position_nm, density in zip(
                self.parts, self.positions_nm, densities, strict=True
            )
        ]
        return np.asarray(np.sum(amplitudes, axis=0), dtype=np.complex64)


def sphere_amplitude(u_squared: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return 3 (sin u - u cos u) / u³, which is 1 at u = 0.

    Parameters
    ----------
    u_squared
        float32, any shape: (q times radius)², without unit.
    """
    # Below u = 0.3 the difference cancels in float32; three terms are right to 1e-7.
    series = 1 - u_squared / 10 + u_squared**2 / 280
    u = np.sqrt(np.maximum(u_squared, np.float32(0.01)))
    formula = 3 * (np.sin(u) - u * np.cos(u)) / u**3
    return np.where(u_squared < 0.09, series, formula)


def equal_edge_nm(size_nm: float) -> float:
    """Return the edge of the cube that has the volume of an icosahedron, tip to tip."""
    return float(np.cbrt(ICOSAHEDRON_VOLUME)) * size_nm / float(ICOSAHEDRON_VERTICES)


def equal_sphere_nm(size_nm: float) -> float:
    """Return the diameter of the sphere of an icosahedron's volume."""
    return float(np.cbrt(6 / np.pi)) * equal_edge_nm(size_nm)


def sphere(diameter_nm: float) -> Ellipsoid:
    """Return a sphere about the origin."""
    return Ellipsoid(np.full(3, diameter_nm / 2), np.eye(3))


def draw_lumps(
    rng: np.random.Generator, radius_nm: float, edge_nm: float, lumpiness: float
) -> Lumps:
    """Draw the lumps of a body.

    Parameters
    ----------
    rng
        Source of chance.
    radius_nm
        Of the ball about the origin in which they lie.
    edge_nm
        Edge of the cube of the body's volume.
    lumpiness
        Root mean square of what all lumps scatter at q = 0, as a share of the body's
        amplitude.
    """
    directions = rng.normal(size=(N_LUMPS, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    # Uniform in a ball that leaves the lumps' outskirts inside the body.
    inner_nm = max(radius_nm - LUMP_NM, 0)
    radii_nm = inner_nm * np.cbrt(rng.random((N_LUMPS, 1)))
    typical_nm3 = lumpiness * edge_nm**3 / np.sqrt(N_LUMPS)
    return Lumps(directions * radii_nm, typical_nm3 * rng.normal(size=N_LUMPS))


def draw_rotation(rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw an orientation, all equally likely.

    Returns
    -------
    rotation
        float64 (3, 3), orthogonal, determinant 1.

    References
    ----------
    K. Shoemake (1992), Uniform random rotations, Graphics Gems III, 124,
    https://doi.org/10.1016/B978-0-08-050755-2.50036-1 (unit quaternions)
    """
    quaternion = rng.normal(size=4)
    w, x, y, z = quaternion / np.linalg.norm(quaternion)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.asarray(np.eye(3) + 2 * (w * cross + cross @ cross))


def draw_direction(rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw a unit vector, all directions equally likely: float64 (3,)."""
    vector = rng.normal(size=3)
    return np.asarray(vector / np.linalg.norm(vector))


def _face_normals() -> NDArray[np.float64]:
    # The faces of an icosahedron look to the vertices of a dodecahedron.
    cube = list(product((-1, 1), repeat=3))
    planes = [(0, a * GOLDEN, b / GOLDEN) for a, b in product((-1, 1), repeat=2)]
    turned = [tuple(np.roll(corner, turn)) for corner in planes for turn in range(3)]
    return np.asarray(np.array(cube + turned) / np.sqrt(3))


FACE_NORMALS = _face_normals()


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
    """Ellipsoids along the same axes that scatter together, as a core in its shell.

    Parameters
    ----------
    semi_axes, centres
        float64 (n, 3).
    densities
        float64 (n,); where two overlap, their densities add up.
    """

    semi_axes: Vectors
    centres: Vectors
    densities: Vectors

    @classmethod
    def of_parts(
        cls,
        semi_axes: Vectors,
        centres: Vectors | None = None,
        densities: Vectors | None = None,
    ) -> "EllipsoidsBody":
        """Return the body about its centre of mass, scaled so that it scatters as 1."""
        n = len(semi_axes)
        places = np.zeros((n, 3)) if centres is None else centres
        density = np.ones(n) if densities is None else densities
        masses = density * 4 / 3 * np.pi * np.prod(semi_axes, axis=1)
        middle = masses @ places / masses.sum()
        scale = float(np.cbrt(masses.sum()))
        return cls(semi_axes / scale, (places - middle) / scale, density)

    def place(self, edge_nm: float, rotation: Vectors, lumps: Lumps | None) -> Shape:
        """Return the ellipsoids; they take no lumps."""
        parts = tuple(
            Ellipsoid(semi_axes * edge_nm, rotation) for semi_axes in self.semi_axes
        )
        return Composite(parts, self.centres @ rotation.T * edge_nm, self.densities)

    def reach(self, direction: Vectors) -> float:
        """Return how far it extends from its origin along a unit vector."""
        along = self.semi_axes * direction
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
    """Draw a body of a kind in `BODIES`; the same seed gives the same body."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1,)))
    return BODIES[name](rng)
