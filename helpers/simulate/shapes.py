"""Particles of one density, and the amplitudes that they scatter.

Places and directions are (along rows, along columns, along the beam). An amplitude is
complex64 (rows, columns), in nm³: the particle's volume at q = 0.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

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
        product = (
            np.float32(squares[0, 0]) * along_rows**2
            + np.float32(2 * squares[0, 1]) * along_rows * along_columns
            + np.float32(squares[1, 1]) * along_columns**2
        )
        volume = 4 / 3 * np.pi * np.prod(self.semi_axes_nm)
        return np.float32(volume) * sphere_amplitude(product).astype(np.complex64)


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
    """Return the edge of the cube that has an icosahedron's volume.

    Parameters
    ----------
    size_nm
        The icosahedron, from a vertex to the opposite one.
    """
    return float(np.cbrt(ICOSAHEDRON_VOLUME)) * size_nm / float(ICOSAHEDRON_VERTICES)


def equal_sphere_nm(size_nm: float) -> float:
    """Return the diameter of the sphere that has an icosahedron's volume.

    Parameters
    ----------
    size_nm
        The icosahedron, from a vertex to the opposite one.
    """
    return float(np.cbrt(6 / np.pi)) * equal_edge_nm(size_nm)


def sphere(diameter_nm: float) -> Ellipsoid:
    """Return a sphere about the origin.

    Parameters
    ----------
    diameter_nm
        Its diameter.
    """
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
    signs = (-1, 1)
    cube = [(a, b, c) for a in signs for b in signs for c in signs]
    planes = [(0, a * GOLDEN, b / GOLDEN) for a in signs for b in signs]
    turned = [tuple(np.roll(corner, turn)) for corner in planes for turn in range(3)]
    return np.asarray(np.array(cube + turned) / np.sqrt(3))


FACE_NORMALS = _face_normals()
