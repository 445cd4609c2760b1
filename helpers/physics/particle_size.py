"""How large the particle of each pattern is."""

from collections.abc import Iterator
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from helpers.physics.centre import radius_from
from helpers.physics.geometry import Geometry

STEP = 0.005  # between neighbouring diameters, as a share of the diameter
BACKGROUNDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
FIRST_ZERO = 4.4934  # of sin x - x cos x, where the first dark ring is


class Stack(Protocol):
    """What is needed of `patterns.Patterns`, which stands on this room."""

    @property
    def bad_pixels(self) -> NDArray[np.bool_]:
        """(rows, columns), True = leave out."""
        ...

    def map(
        self, function: Any, index: NDArray[np.int64], *, progress: str
    ) -> Iterator[tuple[Any, Any]]:
        """Yield where in the index a part lies, and the function of its patterns."""
        ...


def estimate_diameters(
    patterns: Stack, index: NDArray[np.int64], geometry: Geometry
) -> NDArray[np.float64]:
    """Estimate the diameters of particles from the rings of their patterns.

    The estimate is the diameter of the uniform sphere, on some even background, under
    which the photons of the rings around the centre are most likely. Of an icosahedron
    it finds the sphere that scatters most alike, which is smaller than the distance of
    opposite vertices.

    Parameters
    ----------
    patterns
        The stack; in ADU too, since only the shares of the rings count.
    index
        (m,) which of them.
    geometry
        Where the detector stands.

    Returns
    -------
    ndarray
        (m,) float64, in nm; NaN where a pattern has no photons.

    References
    ----------
    The sphere's form factor: Rayleigh, Proc. R. Soc. A 90, 219 (1914),
    doi:10.1098/rspa.1914.0023.
    """
    rings, n_pixels = _make_rings(geometry, patterns.bad_pixels)
    q = geometry.q_inv_nm(np.arange(n_pixels.size, dtype=np.float64))
    diameters = _make_candidates(q)
    log_shares = _make_log_shares(q, diameters, n_pixels)
    found = np.full(len(index), np.nan)
    add_up = partial(_sum_rings, rings=rings, n_rings=n_pixels.size)
    for here, photons in patterns.map(add_up, index, progress="Estimate sizes"):
        best = (photons @ log_shares.T).argmax(axis=1) % diameters.size
        found[here] = np.where(photons.any(axis=1), diameters[best], np.nan)
    return found


def _make_rings(
    geometry: Geometry, bad_pixels: NDArray[np.bool_]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return each pixel's ring, and how many good pixels are in each ring."""
    radius = radius_from(geometry.centre, bad_pixels.shape)
    rings = np.rint(radius).astype(np.intp)
    n_pixels = np.bincount(rings[~bad_pixels], minlength=int(rings.max()) + 1)
    return rings.ravel(), n_pixels


def _make_candidates(q: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return diameters whose first dark ring is on the detector and rings resolved."""
    smallest = 2 * FIRST_ZERO / q[-1]
    largest = 2 * np.pi / (4 * q[1])  # dark rings four pixels apart
    return np.exp(np.arange(np.log(smallest), np.log(largest), STEP))


def _make_log_shares(
    q: NDArray[np.float64], diameters: NDArray[np.float64], n_pixels: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Return ln of each ring's share of the photons, (backgrounds × diameters, rings).

    Rings without a good pixel are 0: they cannot say anything.
    """
    sphere = _normalise(_sphere(np.outer(diameters / 2, q)) * n_pixels)
    even = n_pixels / n_pixels.sum()
    shares = np.concatenate([(1 - b) * sphere + b * even for b in BACKGROUNDS])
    logs = np.zeros_like(shares)
    np.log(shares, out=logs, where=n_pixels > 0)
    return logs


def _sphere(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what a sphere scatters at x = q × radius; 1 at 0."""
    amplitude = np.ones_like(x)
    far = x > 1e-3
    amplitude[far] = 3 * (np.sin(x[far]) - x[far] * np.cos(x[far])) / x[far] ** 3
    return amplitude**2


def _normalise(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(values / values.sum(axis=1, keepdims=True))


def _sum_rings(
    block: NDArray[np.float32], rings: NDArray[np.intp], n_rings: int
) -> NDArray[np.float64]:
    """Sum what is above 0 over the rings, (m, rings)."""
    flat = np.maximum(block, 0).reshape(len(block), -1)
    return np.array([np.bincount(rings, one, minlength=n_rings) for one in flat])
