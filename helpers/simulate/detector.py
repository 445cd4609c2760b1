"""Where the pixels lie, in millimetres and in reciprocal space, and which are bad."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from helpers.errors import ParameterError

PNCCD_SHAPE = (260, 257)
PNCCD_PIXEL_MM = 0.3
OFF_MIDDLE = (2.2, -1.6)
SMALLEST_SHAPE = 8
COARSEST_STEP_NM = 2.0
HC_KEV_NM = 1.239842


@dataclass(frozen=True, kw_only=True)
class Detector:
    """A flat detector across the beam.

    The defaults are a pnCCD read out in 4 x 4 bins, 581 mm behind the focus.

    Parameters
    ----------
    shape
        Rows and columns.
    centre
        (row, column) where the undisturbed beam would hit, in pixels, counted from the
        middle of pixel (0, 0).
    pixel_mm
        Edge of a square pixel.
    distance_mm
        From the focus to the detector.
    photon_energy_kev
        Energy of a photon.

    Raises
    ------
    ParameterError
        If a length or the energy is not positive, or the shape too small.
    """

    shape: tuple[int, int] = PNCCD_SHAPE
    centre: tuple[float, float] = (131.7, 126.4)
    pixel_mm: float = PNCCD_PIXEL_MM
    distance_mm: float = 581.0
    photon_energy_kev: float = 1.6

    def __post_init__(self) -> None:
        """Check what was given."""
        if len(self.shape) != 2 or min(self.shape) < SMALLEST_SHAPE:
            message = (
                f"Detector: shape is {self.shape}; expected (rows, columns), at least "
                f"{SMALLEST_SHAPE} each."
            )
            raise ParameterError(message)
        for name in ("pixel_mm", "distance_mm", "photon_energy_kev"):
            value = getattr(self, name)
            if not 0 < value < np.inf:
                message = f"Detector: {name} is {value}; expected more than 0."
                raise ParameterError(message)

    @classmethod
    def of_shape(cls, shape: tuple[int, int]) -> "Detector":
        """Return a detector of another shape that covers the same angle.

        A particle fills the same part of the picture whatever the number of pixels;
        the beam hits as far beside the middle, in parts of the picture.

        Parameters
        ----------
        shape
            Rows and columns.
        """
        zoom = max(shape) / max(PNCCD_SHAPE)
        row, column = ((length - 1) / 2 for length in shape)
        centre = (row + OFF_MIDDLE[0] * zoom, column + OFF_MIDDLE[1] * zoom)
        return cls(shape=shape, centre=centre, pixel_mm=PNCCD_PIXEL_MM / zoom)

    @property
    def wavelength_nm(self) -> float:
        """Wavelength of the photons, in nm."""
        return HC_KEV_NM / self.photon_energy_kev

    @property
    def fringe_scale_nm(self) -> float:
        """Distance of two particles, in nm, whose fringes lie one pixel apart."""
        return self.wavelength_nm * self.distance_mm / self.pixel_mm

    def q_inv_nm(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the scattering vector's two components across the beam.

        Returns
        -------
        rows, columns
            float64 (rows,) and (columns,), in radians per nm, 0 at the centre. The
            angle's sine is taken as the angle: 0.2 % at the default's corners.
        """
        per_pixel = 2 * np.pi / self.fringe_scale_nm
        rows, columns = (
            np.asarray(per_pixel * (np.arange(length) - middle), dtype=np.float64)
            for length, middle in zip(self.shape, self.centre, strict=True)
        )
        return rows, columns


def pnccd_bad_pixels(shape: tuple[int, int] = PNCCD_SHAPE) -> NDArray[np.bool_]:
    """Return bad pixels like those of a pnCCD, in parts of the picture's size.

    A square hole for the beam, the gap between the two halves, the seam down the
    middle, the frame, two dead lines and a few single pixels: 8 % of all.

    Parameters
    ----------
    shape
        Rows and columns.

    Returns
    -------
    bad_pixels
        bool (rows, columns), True = leave out.
    """
    bad = np.zeros(shape, dtype=bool)
    row, column = (
        np.abs(np.arange(length) / (length - 1) - 0.5) * 260 for length in shape
    )
    bad[row < 3] = True
    bad[:, column < 1.6] = True
    bad |= (row < 8.5)[:, None] & (column < 8.5)
    bad[row > 128] = True
    bad[:, column > 128] = True
    rows, columns = shape
    bad[rows * 42 // 260, columns // 2 :] = True
    bad[rows * 54 // 260, : columns // 2] = True
    bad[[rows // 3, rows * 3 // 4], [columns // 3, columns * 9 // 10]] = True
    return bad


def detector_for(bad_pixels: NDArray[np.bool_] | None) -> Detector:
    """Return a detector of the shape of the bad pixels, or the default."""
    if bad_pixels is None:
        return Detector()
    if np.ndim(bad_pixels) != 2:
        message = (
            f"bad_pixels has shape {np.shape(bad_pixels)}; expected (rows, columns)."
        )
        raise ParameterError(message)
    return Detector.of_shape(bad_pixels.shape)


def check_bad_pixels(
    bad_pixels: NDArray[np.bool_] | None, detector: Detector
) -> NDArray[np.bool_]:
    """Return the bad pixels, or those of a pnCCD; refuse those that do not fit."""
    if bad_pixels is None:
        return pnccd_bad_pixels(detector.shape)
    bad_pixels = np.asarray(bad_pixels)
    if bad_pixels.shape != detector.shape or bad_pixels.dtype != bool:
        message = (
            f"bad_pixels is {bad_pixels.dtype} of shape {bad_pixels.shape}; expected "
            f"bool of the detector's shape {detector.shape}, True = leave out."
        )
        raise ParameterError(message)
    if bad_pixels.all():
        message = "bad_pixels leaves out every pixel; is True and False exchanged?"
        raise ParameterError(message)
    return bad_pixels


class FarField:
    """The Fourier transform from a plane across the beam to the detector's pixels.

    Flat Ewald sphere: a particle counts by its thickness along the beam alone, and the
    transform separates into one matrix for the rows and one for the columns.

    Parameters
    ----------
    detector
        Gives the pixels' places.
    samples_per_period
        Samples of a thickness map in the shortest period that the detector sees. With
        8, amplitudes of an icosahedron are right to 2 % at the edge of the detector.
        Samples are never farther apart than 2 nm, so that small features are not lost.

    Attributes
    ----------
    q_rows_inv_nm, q_columns_inv_nm
        float32 (rows, 1) and (1, columns), radians per nm.
    step_nm
        Distance of two samples of a thickness map.
    """

    def __init__(self, detector: Detector, samples_per_period: float = 8) -> None:
        q_rows, q_columns = detector.q_inv_nm()
        q_highest = max(np.abs(q_rows).max(), np.abs(q_columns).max())
        self.q_rows_inv_nm = q_rows[:, None].astype(np.float32)
        self.q_columns_inv_nm = q_columns[None, :].astype(np.float32)
        self.step_nm = min(2 * np.pi / q_highest / samples_per_period, COARSEST_STEP_NM)
        self._fringe_scale_nm = detector.fringe_scale_nm
        self._waves: dict[int, tuple[NDArray[np.complex64], NDArray[np.complex64]]] = {}

    def samples_nm(self, radius_nm: float) -> NDArray[np.float64]:
        """Return the places of an odd number of samples that reach `radius_nm`.

        Parameters
        ----------
        radius_nm
            Half of the length to be covered.

        Returns
        -------
        places
            float64 (m,), in nm, symmetric about 0.
        """
        half = int(np.ceil(radius_nm / self.step_nm))
        return self._places_nm(half)

    def transform(self, thickness_nm: NDArray[np.float32]) -> NDArray[np.complex64]:
        """Return the amplitude of a thickness map at every pixel.

        Parameters
        ----------
        thickness_nm
            float32 (m, m) on `samples_nm`, along rows and columns.

        Returns
        -------
        amplitude
            complex64 (rows, columns), in nm³: the volume at q = 0.
        """
        row_waves, column_waves = self._waves_for(len(thickness_nm))
        return row_waves @ (thickness_nm @ column_waves)

    def shift(self, position_nm: NDArray[np.float64]) -> NDArray[np.complex64]:
        """Return the phase factor of a particle beside the beam's axis.

        Parameters
        ----------
        position_nm
            float64, along rows and columns; a third number, along the beam, is free.

        Returns
        -------
        phase
            complex64 (rows, columns) of absolute value 1.
        """
        along_rows = np.exp(-1j * self.q_rows_inv_nm * np.float32(position_nm[0]))
        along_columns = np.exp(-1j * self.q_columns_inv_nm * np.float32(position_nm[1]))
        phase: NDArray[np.complex64] = along_rows * along_columns
        return phase

    def fringe_visibility(self, distance_nm: NDArray[np.float64]) -> float:
        """Return what a pixel's width leaves of the fringes of two particles.

        Parameters
        ----------
        distance_nm
            float64 from one to the other, along rows and columns.

        Returns
        -------
        visibility
            1 = all of it; the mean of the fringes over a pixel.
        """
        fringes_per_pixel = np.asarray(distance_nm[:2]) / self._fringe_scale_nm
        return float(np.prod(np.sinc(fringes_per_pixel)))

    def _waves_for(
        self, n_samples: int
    ) -> tuple[NDArray[np.complex64], NDArray[np.complex64]]:
        if n_samples not in self._waves:
            places_nm = self._places_nm(n_samples // 2)
            rows = np.exp(-1j * self.q_rows_inv_nm * places_nm) * self.step_nm**2
            columns = np.exp(-1j * places_nm[:, None] * self.q_columns_inv_nm)
            self._waves[n_samples] = (
                rows.astype(np.complex64),
                columns.astype(np.complex64),
            )
        return self._waves[n_samples]

    def _places_nm(self, half: int) -> NDArray[np.float64]:
        return np.asarray(np.arange(-half, half + 1) * self.step_nm, dtype=np.float64)
