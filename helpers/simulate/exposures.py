"""From what is in the beam to counted photons, in memory or as a file."""

import csv
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from itertools import combinations
from operator import index as as_index
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from tqdm.auto import tqdm

from helpers.errors import ParameterError, PatternsFileError
from helpers.outputs import (
    atomic_hdf5,
    atomic_write,
    escape_formula,
    open_to_read,
    write_provenance,
)
from helpers.patterns import open_patterns
from helpers.simulate.detector import Detector, FarField, check_bad_pixels, detector_for
from helpers.simulate.particles import equal_sphere_nm, sphere
from helpers.simulate.sample import Particle, Sample, Shot, draw_shot, find_sample

BLOCK_BYTES = 2**24
DETAILS = np.dtype(
    [
        ("kind", "S20"),
        ("n_particles", "i8"),
        ("size_nm", "f8"),
        ("second_fluence", "f8"),
        ("separation_nm", "f8"),
        ("fluence", "f8"),
        ("photons", "f8"),
    ]
)


class Simulation(NamedTuple):
    """Patterns and what is true of them.

    Attributes
    ----------
    patterns
        float32 (n, rows, columns), photon counts (where the sample says so, ADU), bad
        pixels 0.
    true_labels
        str (n,), class names.
    details
        (n,) with named fields, all float64 unless said: `kind` bytes, what kind of its
        class; `n_particles` int64; `size_nm` of the first particle, NaN in a blank;
        `second_fluence` and `separation_nm` of the second, as a share of the first's
        and across the beam, NaN where there is none; `fluence` as a share of the
        median; `photons` expected on good pixels, without background and streaks.
    """

    patterns: NDArray[np.float32]
    true_labels: NDArray[np.str_]
    details: NDArray[np.void]


class Simulator:
    """One sample before one detector.

    Pattern i depends on the seed and on i alone: not on how many there are, nor on the
    order or the number of threads in which they are made.

    Parameters
    ----------
    seed
        0 or more.
    sample
        A `Sample` or a name in `SAMPLES`.
    detector
        Without it, `Detector.of_shape` of the bad pixels, or the default.
    bad_pixels
        bool (rows, columns), True = leave out; without it, `pnccd_bad_pixels`.

    Raises
    ------
    ParameterError
        If the seed is not a whole number from 0 on, the sample's name unknown, or the
        bad pixels of the wrong shape, or all of them bad.
    """

    def __init__(
        self,
        seed: int,
        *,
        sample: Sample | str = "default",
        detector: Detector | None = None,
        bad_pixels: NDArray[np.bool_] | None = None,
    ) -> None:
        self.seed = check_whole_number("seed", seed, lowest=0)
        self.sample = find_sample(sample)
        self.detector = detector or detector_for(bad_pixels)
        self.bad_pixels = check_bad_pixels(bad_pixels, self.detector)
        self._far_field = FarField(self.detector)
        self._good = (~self.bad_pixels).astype(np.float32)
        self._background = self._background_photons()
        self._photons_per_intensity = self.sample.photons / self._median_intensity()

    def blocks(
        self, n: int, block: int | None = None
    ) -> Iterator[tuple[int, Simulation]]:
        """Yield the first patterns and their truth, `block` at a time.

        Parameters
        ----------
        n
            How many.
        block
            Most of them in memory at once; without it, 16 MiB of them.

        Yields
        ------
        start, simulation
            Index of the block's first pattern, and the block.
        """
        block = block or max(1, BLOCK_BYTES // (4 * self.bad_pixels.size))
        # One pattern a thread: these products are too small to be shared out.
        with (
            threadpool_limits(1, user_api="blas"),
            ThreadPoolExecutor(os.cpu_count()) as threads,
        ):
            for start in range(0, n, block):
                indices = range(start, min(start + block, n))
                patterns, truth, details = zip(
                    *threads.map(self._expose, indices), strict=True
                )
                table = np.array(list(details), dtype=DETAILS)
                yield start, Simulation(np.stack(patterns), np.array(truth), table)

    def draw(self, index: int) -> Shot:
        """Return what is in the beam when pattern `index` is made."""
        return self._draw(index)[1]

    def _draw(self, index: int) -> tuple[np.random.Generator, Shot, float]:
        """Return the source of chance, what it drew, and where in the drift that is."""
        seed = np.random.SeedSequence(self.seed, spawn_key=(index,))
        rng, sample = np.random.default_rng(seed), self.sample
        phase = float(np.sin(2 * np.pi * index / sample.drift_shots))
        shot = draw_shot(rng, sample)
        drifted = shot.fluence * np.exp(sample.fluence_drift * phase)
        return rng, replace(shot, fluence=drifted), phase

    def expected_background(self, fluence: float) -> NDArray[np.float32]:
        """Return the background's photons in each pixel, float32; none in bad ones.

        Parameters
        ----------
        fluence
            As a share of the median.
        """
        return self._background * np.float32(fluence)

    def expected_photons(
        self, shot: Shot, far_field: FarField | None = None
    ) -> NDArray[np.float32]:
        """Return the photons that a shot's particles scatter into each pixel.

        Parameters
        ----------
        shot
            Particles and fluence.
        far_field
            Where the beam hits in this shot, if elsewhere.

        Returns
        -------
        photons
            float32 (rows, columns), expected number, 0 in bad pixels.
        """
        far_field = far_field or self._far_field
        if not shot.particles:
            return np.zeros(self.detector.shape, dtype=np.float32)
        intensity = scattered_intensity(shot.particles, far_field) * self._good
        scale = self._photons_per_intensity * shot.fluence
        if shot.total_share is not None:
            scale = self.sample.photons * shot.total_share / float(intensity.sum())
        return np.asarray(intensity * np.float32(scale))

    def _expose(
        self, index: int
    ) -> tuple[NDArray[np.float32], str, tuple[object, ...]]:
        """Return one pattern, its class name and its row of details."""
        rng, shot, phase = self._draw(index)
        expected = self.expected_photons(shot, self._aim(rng, phase))
        details = _details(shot, float(expected.sum()))
        background = shot.fluence * np.exp(self.sample.background_drift * phase)
        expected += self.expected_background(background)
        if shot.particles and rng.random() < self.sample.streak_share:
            expected += self._streaks(rng, expected)
        return self._count(rng, expected), shot.true_label, details

    def _aim(self, rng: np.random.Generator, phase: float) -> FarField:
        """Return where the beam hits in a shot."""
        sample = self.sample
        if not (sample.jitter_px or sample.drift_px):
            return self._far_field
        moved = rng.normal(scale=sample.jitter_px, size=2) + sample.drift_px * phase
        row, column = np.add(self.detector.centre, moved)
        return FarField(replace(self.detector, centre=(float(row), float(column))))

    def _count(
        self, rng: np.random.Generator, expected: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        counts = rng.poisson(expected).astype(np.float32)
        if self.sample.read_noise:
            noise = rng.standard_normal(counts.shape, dtype=np.float32)
            counts += np.float32(self.sample.read_noise) * noise * self._good
        if self.sample.adu_per_photon != 1 or self.sample.pedestal_adu:
            counts *= np.float32(self.sample.adu_per_photon)
            counts += np.float32(self.sample.pedestal_adu) * self._good
        return counts

    def _streaks(
        self, rng: np.random.Generator, expected: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return charge that ran over along two columns, from the centre outward."""
        row, column = (round(place) for place in self.detector.centre)
        reach = self.detector.shape[1] // 30
        columns = column + rng.integers(-reach, reach + 1, size=2)
        streaks = np.zeros_like(expected)
        rows = slice(int(row * rng.uniform(0, 0.8)), row)
        streaks[rows, np.clip(columns, 0, self.detector.shape[1] - 1)] = 1
        streaks *= self._good * np.float32(expected.max() * rng.uniform(0.1, 1))
        return streaks

    def _median_intensity(self) -> float:
        """Return the sum over good pixels for the sphere of a median particle."""
        diameter_nm = equal_sphere_nm(self.sample.size_nm)
        typical = Particle(sphere(diameter_nm), diameter_nm)
        return float(
            (scattered_intensity((typical,), self._far_field) * self._good).sum()
        )

    def _background_photons(self) -> NDArray[np.float32]:
        """Return half of it spread evenly, half around the beam."""
        q_squared = (
            self._far_field.q_rows_inv_nm**2 + self._far_field.q_columns_inv_nm**2
        )
        around_beam = 1 / (1 + q_squared / 0.1**2)
        shape = 1 / q_squared.size + around_beam / around_beam.sum()
        photons = shape * self._good * self.sample.background / 2
        return np.asarray(photons, dtype=np.float32)


def scattered_intensity(
    particles: tuple[Particle, ...], far_field: FarField
) -> NDArray[np.float32]:
    """Return the intensity of particles whose waves add up.

    The sum of the amplitudes is squared; then the fringes of each pair lose what a
    pixel is too wide to show.

    Parameters
    ----------
    particles
        One or more.
    far_field
        The detector's pixels.

    Returns
    -------
    intensity
        float32 (rows, columns), in nm⁶, 0 or more.
    """
    amplitudes = [
        particle.shape.amplitude(far_field)
        * far_field.shift(particle.position_nm)
        * np.float32(np.sqrt(particle.fluence))
        for particle in particles
    ]
    total = np.sum(amplitudes, axis=0)
    intensity = total.real**2 + total.imag**2
    for one, other in combinations(range(len(particles)), 2):
        apart_nm = particles[other].position_nm - particles[one].position_nm
        lost = np.float32(2 * (1 - far_field.fringe_visibility(apart_nm)))
        intensity -= lost * (amplitudes[one] * amplitudes[other].conj()).real
    return np.asarray(np.maximum(intensity, 0))


def simulate_patterns(
    n: int,
    seed: int,
    *,
    sample: Sample | str = "default",
    detector: Detector | None = None,
    bad_pixels: NDArray[np.bool_] | None = None,
) -> Simulation:
    """Make patterns with known truth, in memory.

    Parameters
    ----------
    n, seed
        As for `write_simulated`.
    sample, detector, bad_pixels
        As for `Simulator`.

    Raises
    ------
    ParameterError
        If a parameter has an impossible value.
    """
    n = check_whole_number("n", n, lowest=1)
    simulator = Simulator(seed, sample=sample, detector=detector, bad_pixels=bad_pixels)
    _, blocks = zip(*simulator.blocks(n), strict=True)
    return Simulation(*(np.concatenate(parts) for parts in zip(*blocks, strict=True)))


def check_whole_number(name: str, value: int, *, lowest: int) -> int:
    """Return `value` as an int, or raise a `ParameterError` that names it."""
    try:
        number = as_index(value)
    except TypeError:
        number = lowest - 1
    if number < lowest:
        message = f"{name} is {value!r}; expected a whole number from {lowest} on."
        raise ParameterError(message)
    return number


def _details(shot: Shot, photons: float) -> tuple[object, ...]:
    size_nm = shot.particles[0].size_nm if shot.particles else np.nan
    second_fluence = separation_nm = np.nan
    if len(shot.particles) > 1:
        first, second = shot.particles[:2]
        second_fluence = second.fluence / first.fluence
        separation_nm = np.hypot(*(second.position_nm - first.position_nm)[:2])
    return (
        shot.kind,
        len(shot.particles),
        size_nm,
        second_fluence,
        separation_nm,
        shot.fluence,
        photons,
    )


def write_simulated(
    path: str | Path,
    n: int,
    seed: int,
    *,
    bad_pixels: NDArray[np.bool_] | None = None,
    sample: Sample | str = "default",
    detector: Detector | None = None,
) -> None:
    """Write a file of patterns with known truth.

    `/patterns` float32 (n, rows, columns), photon counts, bad pixels 0; `/truth` class
    names; `/mask` uint8, 1 = bad; `/truth_details`, a group with one dataset (n,) for
    each field of `Simulation.details`; seed, sample and detector as attributes.

    Parameters
    ----------
    path
        The HDF5 file; replaced if it is there.
    n, seed
        How many patterns, 270 kB each with the default detector; the same seed gives
        the same ones, and the first of a longer file.
    bad_pixels, sample, detector
        As for `Simulator`.

    Raises
    ------
    ParameterError
        If a parameter has an impossible value.
    """
    n = check_whole_number("n", n, lowest=1)
    simulator = Simulator(seed, sample=sample, detector=detector, bad_pixels=bad_pixels)
    with (
        atomic_hdf5(path) as file,
        tqdm(total=n, desc="Simulating", unit="pattern") as progress,
    ):
        _write_frame(file, simulator, n)
        for start, simulation in simulator.blocks(n):
            _write_block(file, start, simulation)
            progress.update(len(simulation.true_labels))


def write_example_labels(
    patterns_path: str | Path, csv_path: str | Path, n_labels: int = 240
) -> None:
    """Write labels as a person would have given them to some simulated patterns.

    The labels are the truth, of the first patterns in the stack's random order.
    `labelled_at` is when the patterns were made, so that the same file gives the same
    labels.

    Parameters
    ----------
    patterns_path
        A file of `write_simulated`.
    csv_path
        The CSV file, with the columns `pattern,label,file,labeller,labelled_at`;
        replaced if it is there.
    n_labels
        How many; a file with fewer patterns gets a label for each.

    Raises
    ------
    ParameterError
        If `n_labels` is impossible.
    PatternsFileError
        If the file cannot be read, or no truth is in it.
    """
    check_whole_number("n_labels", n_labels, lowest=1)
    truth, made_at = _read_truth(patterns_path)
    with open_patterns(patterns_path) as patterns:
        chosen = patterns.shuffled()[:n_labels]
    with (
        atomic_write(csv_path) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["pattern", "label", "file", "labeller", "labelled_at"])
        name = escape_formula(Path(patterns_path).name)
        rows.writerows(
            [i, truth[i], name, "simulated", made_at] for i in np.sort(chosen)
        )


def _write_frame(file: h5py.File, simulator: Simulator, n: int) -> None:
    """Write what is known beforehand, and make room for the patterns."""
    # Contiguous: nothing reads faster, and any slice of patterns is one read.
    shape = (n, *simulator.detector.shape)
    file.create_dataset("patterns", shape, dtype="f4").attrs["unit"] = "photons"
    file.create_dataset("truth", n, dtype=h5py.string_dtype("ascii", length=8))
    file["mask"] = simulator.bad_pixels.astype(np.uint8)
    for name in DETAILS.names or ():
        dtype = DETAILS[name]
        if dtype.kind == "S":
            dtype = h5py.string_dtype("ascii", length=dtype.itemsize)
        file.create_dataset(f"truth_details/{name}", n, dtype=dtype)
    write_provenance(
        file,
        seed=simulator.seed,
        sample=asdict(simulator.sample),
        detector=asdict(simulator.detector),
    )


def _write_block(file: h5py.File, start: int, simulation: Simulation) -> None:
    rows = slice(start, start + len(simulation.true_labels))
    file["patterns"][rows] = simulation.patterns
    file["truth"][rows] = simulation.true_labels.astype("S8")
    for name, values in file["truth_details"].items():
        values[rows] = simulation.details[name]


def _read_truth(path: str | Path) -> tuple[NDArray[np.str_], str]:
    try:
        with open_to_read(path) as file:
            truth = file["truth"].asstr()[:].astype(str)
            return truth, str(file.attrs.get("made_at", ""))
    except KeyError as error:
        problem = "/truth is not there; expected a file of `simulate`."
        raise PatternsFileError(path, [problem]) from error
    except OSError as error:
        problem = f"cannot be read as HDF5 ({error})."
        raise PatternsFileError(path, [problem]) from error
