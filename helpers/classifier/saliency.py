"""Why a pattern is judged as it is: what changes when a part of it is taken away."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.special import expit

from helpers.classifier.calibration import logit_of
from helpers.classifier.trained_model import TrainedModel
from helpers.physics import (
    PattersonMaps,
    angle_about,
    number_rings,
    radial_average,
    radius_from,
)

N_RINGS = 12
N_SECTORS = 12
AT_ONCE = 64
TINY = 1e-37  # the sigmoid of float32 resolves small outputs, not those near 1


@dataclass(frozen=True, eq=False)
class Saliency:
    """What speaks for and against a single hit in one pattern.

    A part's value is how far it moves the log odds of a single hit: above 0 it speaks
    for a single hit, below 0 against one.

    Attributes
    ----------
    by_place
        (rows, columns) float64: of the places on the detector; NaN = bad pixels, and
        what is too far out.
    by_separation
        (size, size) float64: of the fringes that belong to a separation; 0 in the
        middle, at [size / 2, size / 2]; NaN outside the circle.
    patterson
        (size, size) float32: the Patterson map itself, in units of its noise.
    period
        In pixels; fringes of a separation repeat every period / separation pixels.
    by_rings
        Of the mean intensity of all rings, which depends on size and shape of the
        particle.
    log_odds
        Of the whole pattern.
    """

    by_place: NDArray[np.float64]
    by_separation: NDArray[np.float64]
    patterson: NDArray[np.float32]
    period: int
    by_rings: float
    log_odds: float

    @property
    def telling_separation(self) -> tuple[float, float]:
        """Length and direction of the separation that matters most.

        In steps of the map; in degrees, counter-clockwise as displayed, 0 to 180. That
        is where effect and height of the Patterson map are large together: where the
        network is sure, no single part moves it much, and noise may move it as far.
        """
        row, column = self._telling_cell
        middle = len(self.by_separation) // 2
        down, right = row - middle, column - middle
        angle = np.degrees(np.arctan2(-down, right)) % 180
        return float(np.hypot(down, right)), float(angle)

    @property
    def by_telling_separation(self) -> float:
        """How far the fringes of that separation move the log odds."""
        return float(self.by_separation[self._telling_cell])

    @property
    def _telling_cell(self) -> tuple[int, int]:
        effect = np.abs(self.by_separation) * np.maximum(self.patterson, 0)
        effect[len(effect) // 2, len(effect) // 2] = 0  # no separation at all
        row, column = np.unravel_index(np.nanargmax(effect), effect.shape)
        return int(row), int(column)


def explain_pattern(
    pattern: NDArray[np.float32],
    model: TrainedModel,
    bad_pixels: NDArray[np.bool_],
    centre: tuple[float, float],
    typical: NDArray[np.floating],
) -> Saliency:
    """Take parts of a pattern away, one after the other, and ask the network again.

    A place is a piece of a ring together with the opposite piece; it is taken away by
    putting the mean of the ring there. A separation is a small range of directions and
    lengths; it is taken away by subtracting the fringes that two particles so far apart
    would make. Fringes cross the whole pattern, so their separation says more than any
    one place. The rings are taken away by giving them the means that a typical single
    hit has. Works with every network.

    Parameters
    ----------
    pattern
        (rows, columns) float32, clean.
    model
        The trained model.
    bad_pixels
        (rows, columns) bool, True = left out.
    centre
        (row, column) of the beam, in pixels.
    typical
        (rows, columns): mean of many single hits, for its rings.

    References
    ----------
    Zeiler and Fergus, ECCV (2014) 818, section 4.2,
    doi 10.1007/978-3-319-10590-1_53 (occlusion).
    """
    maps = PattersonMaps(bad_pixels, centre)
    rings = _ring_means(pattern, bad_pixels, centre)
    places = np.where(bad_pixels, -1, _cut_places(pattern.shape, centre))
    separations = _cut_separations(pattern.shape, maps.window.side)
    log_odds = _log_odds(model, pattern[np.newaxis])[0]
    of_place, of_separation = (
        log_odds - np.concatenate([_log_odds(model, some) for some in without])
        for without in (
            _without_places(pattern, rings, places),
            _without_separations(pattern, rings, bad_pixels, separations),
        )
    )
    usual = _ring_means(typical, bad_pixels, centre)
    usual *= rings[~bad_pixels].sum() / max(usual[~bad_pixels].sum(), 1e-12)
    with_usual = np.where(bad_pixels, 0, pattern - rings + usual)
    size = maps.window.size
    shown = fft.fftshift(_cut_separations((size, size), size))
    return Saliency(
        by_place=np.append(of_place, np.nan)[places],
        by_separation=np.append(of_separation, np.nan)[shown],
        period=maps.window.side,
        patterson=maps.make_maps(pattern[np.newaxis])[0],
        by_rings=float(log_odds - _log_odds(model, with_usual[np.newaxis])[0]),
        log_odds=float(log_odds),
    )


def describe_saliency(saliency: Saliency) -> str:
    """Say in plain words what matters most in a pattern.

    Parameters
    ----------
    saliency
        From `explain_pattern`.
    """
    length, angle = saliency.telling_separation
    odds = saliency.log_odds
    return (
        f"Probability of a single hit: {expit(odds):.2g}. "
        f"Without the fringes every {saliency.period / length:.1f} pixels, "
        f"which belong to the separation {length:.0f} at {angle:.0f}°: "
        f"{expit(odds - saliency.by_telling_separation):.2g}. "
        "With the rings of a typical single hit: "
        f"{expit(odds - saliency.by_rings):.2g}."
    )


def _log_odds(
    model: TrainedModel, patterns: NDArray[np.float32]
) -> NDArray[np.float64]:
    raw = model.predict_uncalibrated(patterns)
    return model.calibration.calibrated_logit(logit_of(raw, lowest=TINY))


def _ring_means(
    pattern: NDArray[np.floating],
    bad_pixels: NDArray[np.bool_],
    centre: tuple[float, float],
) -> NDArray[np.float32]:
    """Return (rows, columns): each pixel's mean over its ring, 0 or more."""
    _, mean = radial_average(pattern, centre, bad_pixels)
    known = np.nan_to_num(np.maximum(mean, 0)).astype(np.float32)
    return known[number_rings(centre, pattern.shape)]


def _cut_places(
    shape: tuple[int, ...], centre: tuple[float, float]
) -> NDArray[np.intp]:
    """Return the number of each pixel's place, opposite pixels alike; -1 = none."""
    radius, angle = radius_from(centre, shape), angle_about(centre, shape)
    return _number(radius / (min(shape) / 2), angle)


def _cut_separations(shape: tuple[int, ...], period: float) -> NDArray[np.intp]:
    """Return the number of each wave's separation in a Fourier transform; -1 = none."""
    down = fft.fftfreq(shape[0])[:, np.newaxis] * period
    right = fft.fftfreq(shape[1])[np.newaxis] * period
    angle = np.degrees(np.arctan2(-down, right))
    return _number(np.hypot(down, right) / (period / 2), angle)


def _number(reach: NDArray[np.float64], angle: NDArray[np.float64]) -> NDArray[np.intp]:
    ring = (reach * N_RINGS).astype(np.intp)
    sector = ((angle % 180) / 180 * N_SECTORS).astype(np.intp) % N_SECTORS
    return np.where(reach < 1, ring * N_SECTORS + sector, -1)


def _without_places(
    pattern: NDArray[np.float32], rings: NDArray[np.float32], places: NDArray[np.intp]
) -> Iterator[NDArray[np.float32]]:
    for some in _some_numbers(places):
        yield np.where(places == some, rings, pattern)


def _without_separations(
    pattern: NDArray[np.float32],
    rings: NDArray[np.float32],
    bad_pixels: NDArray[np.bool_],
    separations: NDArray[np.intp],
) -> Iterator[NDArray[np.float32]]:
    noise = np.sqrt(rings)
    per_noise = np.divide(1, noise, out=np.zeros_like(noise), where=noise > 0)
    waves = fft.fft2(np.where(bad_pixels, 0, (pattern - rings) * per_noise))
    for some in _some_numbers(separations):
        fringes = fft.ifft2(np.where(separations == some, waves, 0)).real * noise
        yield np.where(bad_pixels, 0, pattern - fringes).astype(np.float32)


def _some_numbers(parts: NDArray[np.intp]) -> Iterator[NDArray[np.intp]]:
    """Give the numbers from 0 to the highest, a few at a time, (k, 1, 1)."""
    numbers = np.arange(parts.max() + 1)[:, np.newaxis, np.newaxis]
    for start in range(0, len(numbers), AT_ONCE):
        yield numbers[start : start + AT_ONCE]
