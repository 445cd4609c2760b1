"""What is in the beam: the knobs of a simulated experiment."""

from collections.abc import Iterator
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from helpers.errors import ParameterError

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
    }
)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A sample, a beam and a background; shares are between 0 and 1.

    Parameters
    ----------
    single, multiple, other, blank
        Share of each class; together 1.
    size_nm
        Median size of the icosahedra, from a vertex to the opposite one.
    size_spread
        Standard deviation of ln(size).
    lumpiness
        Unevenness inside the icosahedra: root mean square of what random lumps scatter
        forward, as a share of the whole amplitude. It fills the dark rings.
    photons
        Photons, on good pixels, from one icosahedron of median size in a pulse of
        median fluence. Two particles scatter about twice as many.
    fluence_spread
        Standard deviation of ln(fluence), pulse energy and place in the focus together.
    background
        Photons on the whole detector that come from no particle, at median fluence.
    weak_share
        Share of multiples whose second particle is weak.
    weak_fluence
        Lowest and highest share of the first particle's intensity that it then has.
    close_share
        Share of multiples that are two touching particles, in any direction: one
        behind the other, they look like a single bright one.
    focus_nm
        Edge of the square over which the particles of other multiples are spread.
    streak_share
        Share of hits in which charge has run over along two columns, as photons that
        no mask leaves out.
    read_noise
        Standard deviation of a normal noise on each good pixel, in photons.

    Raises
    ------
    ParameterError
        If a value is impossible; the message lists all of them.
    """

    single: float = 0.30
    multiple: float = 0.40
    other: float = 0.20
    blank: float = 0.10
    size_nm: float = 69.0
    size_spread: float = 0.025
    lumpiness: float = 0.04
    photons: float = 25_000.0
    fluence_spread: float = 0.5
    background: float = 700.0
    weak_share: float = 0.20
    weak_fluence: tuple[float, float] = (0.02, 0.20)
    close_share: float = 0.40
    focus_nm: float = 600.0
    streak_share: float = 0.0
    read_noise: float = 0.0

    def __post_init__(self) -> None:
        """Check what was given."""
        problems = [*self._problems_of_one(), *self._problems_of_several()]
        if problems:
            message = f"Sample: {'; '.join(problems)}."
            raise ParameterError(message)

    @property
    def class_shares(self) -> NDArray[np.float64]:
        """Shares of `CLASSES`, float64 (4,)."""
        return np.array([getattr(self, name) for name in CLASSES])

    def _problems_of_one(self) -> Iterator[str]:
        for name, (lowest, highest) in RANGES.items():
            value = getattr(self, name)
            if not lowest <= value <= highest:
                yield f"{name} is {value}, expected {lowest:g} to {highest:g}"

    def _problems_of_several(self) -> Iterator[str]:
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
