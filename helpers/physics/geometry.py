"""Where the detector stands: what a pattern's pixels mean in the experiment."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from helpers.errors import ParameterError

POLARISATIONS = ("horizontal", "vertical", "none")


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """A flat detector, at right angles to the beam.

    Parameters
    ----------
    centre
        (row, column) of the beam in pixels, fractions allowed.
    pixel_size_um
        Edge of a square pixel.
    distance_mm
        From the particle to the detector.
    wavelength_nm
        Of the X-rays.
    polarisation
        Of the X-rays, as the pattern is displayed: "horizontal" is along its rows, from
        column to column; "none" for no correction.

    Raises
    ------
    ParameterError
        If a length is not above 0, or the polarisation is not known; the message holds
        all that is wrong.
    """

    centre: tuple[float, float]
    pixel_size_um: float
    distance_mm: float
    wavelength_nm: float
    polarisation: str = "horizontal"

    def __post_init__(self) -> None:
        """Check what was given."""
        lengths = ("pixel_size_um", "distance_mm", "wavelength_nm")
        problems = [
            f"{name} is {getattr(self, name)}, expected a number above 0"
            for name in lengths
            if not 0 < getattr(self, name) < np.inf
        ]
        if self.polarisation not in POLARISATIONS:
            known = ", ".join(POLARISATIONS)
            problems.append(
                f"polarisation is {self.polarisation!r}, expected one of {known}"
            )
        if problems:
            message = f"Geometry: {'; '.join(problems)}."
            raise ParameterError(message)

    @property
    def distance_pixels(self) -> float:
        """Distance from the particle to the detector, in pixels."""
        return self.distance_mm * 1000 / self.pixel_size_um

    @property
    def voxel_inv_nm(self) -> float:
        """Edge of a voxel as q / 2π, in 1/nm, where a pixel on the axis is one."""
        return 1 / (self.wavelength_nm * self.distance_pixels)

    def directions(self, shape: tuple[int, int]) -> NDArray[np.float64]:
        """Return unit vectors from the particle to each pixel.

        Parameters
        ----------
        shape
            (rows, columns) of a pattern.

        Returns
        -------
        NDArray[np.float64]
            (3, rows, columns): along the columns' numbers (x), along the rows' numbers
            (y), along the beam (z); a right-handed system.
        """
        row, column = self.centre
        y, x = np.indices(shape, dtype=np.float64)
        z = np.full(shape, self.distance_pixels)
        vectors = np.stack([x - column, y - row, z])
        return np.asarray(vectors / np.linalg.norm(vectors, axis=0))

    def correction(self, shape: tuple[int, int]) -> NDArray[np.float64]:
        """Return what share of a pixel's photons arrives, 1 for a pixel on the axis.

        Solid angle times polarisation, (rows, columns). A pixel at the scattering angle
        2θ is seen under cos³(2θ) of the solid angle of one on the axis; of the light
        that is polarised along x, the share 1 - x² is scattered to the direction
        (x, y, z).
        """
        x, y, z = self.directions(shape)
        across = {"horizontal": x, "vertical": y, "none": np.zeros_like(x)}
        return np.asarray(z**3 * (1 - across[self.polarisation] ** 2))

    def q_inv_nm(self, radius: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return q = 4π sin(θ) / λ in 1/nm at a distance from the centre, in pixels."""
        theta = np.arctan(radius / self.distance_pixels) / 2
        return np.asarray(4 * np.pi / self.wavelength_nm * np.sin(theta))


def make_geometry(
    centre: tuple[float, float],
    pixel_size_um: float | None = None,
    distance_mm: float | None = None,
    wavelength_nm: float | None = None,
    polarisation: str = "horizontal",
) -> Geometry | None:
    """Return a geometry, or None where nothing of it is known.

    Raises
    ------
    ParameterError
        If a part of it is known and another is not, or a value is impossible.
    """
    lengths = {
        "pixel_size_um": pixel_size_um,
        "distance_mm": distance_mm,
        "wavelength_nm": wavelength_nm,
    }
    known = {name: value for name, value in lengths.items() if value is not None}
    if not known:
        return None
    if missing := ", ".join(lengths.keys() - known):
        message = (
            f"The geometry lacks {missing}; found {', '.join(known)}. "
            "Give all of them, or none."
        )
        raise ParameterError(message)
    return Geometry(centre=centre, polarisation=polarisation, **known)
