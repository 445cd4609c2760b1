"""Slow and obvious twins of the fast kernels, one or two plain loops each."""

import struct

import h5py
import numpy as np
from scipy.ndimage import rotate


def rank_by_article(patterns, hits_index, angles_deg):
    """Transcribe the article: distance, hit and angle of the nearest template.

    `patterns` is an array (n, rows, columns); an image without positive values stays 0.
    """

    def preprocess(image):
        image = np.maximum(np.asarray(image, dtype=np.float64), 0)
        return image * (255 / image.max()) if image.max() > 0 else image

    templates = [
        (hit, angle, rotate(preprocess(patterns[hit]), angle, reshape=False))
        for hit in hits_index
        for angle in angles_deg
    ]
    nearest = []
    for image in patterns:
        x = preprocess(image)
        distances = [np.linalg.norm(x - template) for _, _, template in templates]
        best = int(np.argmin(distances))
        nearest.append((distances[best], *templates[best][:2]))
    return nearest


def centre_by_trial(powder, bad_pixels, candidates):
    """Try each candidate centre (whole or half pixels): the most symmetric one."""

    def symmetry(centre):
        row, column = (round(2 * c) for c in centre)
        pairs = [
            (image[r, c], image[row - r, column - c])
            for r in range(image.shape[0])
            for c in range(image.shape[1])
            if 0 <= row - r < image.shape[0]
            and 0 <= column - c < image.shape[1]
            and not bad_pixels[r, c]
            and not bad_pixels[row - r, column - c]
        ]
        return np.corrcoef(np.transpose(pairs))[0, 1]

    image = np.sqrt(np.maximum(powder, 0))
    return max(candidates, key=symmetry)


def icosahedron_amplitude(size_nm, rotation, q_rows, q_columns):
    """Add up twenty tetrahedra, each by its exact Fourier integral over four corners.

    `size_nm` is the distance of opposite vertices; the beam is the third axis. The
    formula has no value where q is at right angles to an edge: keep off q = 0.
    """
    golden = (1 + 5**0.5) / 2
    corners = [(0, a, b * golden) for a in (-1, 1) for b in (-1, 1)]
    vertices = np.array([np.roll(c, turn) for c in corners for turn in range(3)])
    faces = [
        (a, b, c)
        for a in range(12)
        for b in range(a)
        for c in range(b)
        if all(
            np.isclose(np.linalg.norm(vertices[i] - vertices[j]), 2)
            for i, j in ((a, b), (b, c), (c, a))
        )
    ]
    vertices = vertices / np.hypot(1, golden) * (size_nm / 2) @ rotation.T
    amplitude = np.zeros((len(q_rows), len(q_columns)), dtype=complex)
    for face in faces:
        tetrahedron = [np.zeros(3), *vertices[list(face)]]
        phases = [np.add.outer(q_rows * p[0], q_columns * p[1]) for p in tetrahedron]
        six_volumes = abs(np.linalg.det(tetrahedron[1:]))
        for corner in range(4):
            others = [phases[k] - phases[corner] for k in range(4) if k != corner]
            amplitude += (
                six_volumes
                * np.exp(-1j * phases[corner])
                / np.prod([1j * difference for difference in others], axis=0)
            )
    return amplitude


def labels_by_replay(actions, n_patterns):
    """Replay presses (labeller, pattern, word) and undos (labeller,) on one list.

    Gives what each undo took back, and for each labeller the word of each pattern.
    """
    presses, taken_back = [], []
    for action in actions:
        if len(action) == 3:
            presses.append(action)
            continue
        own = [i for i, press in enumerate(presses) if press[0] == action[0]]
        taken_back.append(presses.pop(own[-1])[1] if own else None)
    words = {labeller: [""] * n_patterns for labeller, _, _ in presses}
    for labeller, pattern, word in presses:
        words[labeller][pattern] = word
    return taken_back, words


def most_frequent_word(words):
    """Say what most labellers say of one pattern; "unsure" if two words tie."""
    counts = {word: words.count(word) for word in words if word}
    best = [word for word, n in counts.items() if n == max(counts.values())]
    return "" if not best else best[0] if len(best) == 1 else "unsure"


def fleiss_by_pairs(words):
    """Compare every pair of labellers on every pattern, and any two labels at all."""
    rows = [row for row in words if all(row)]
    pairs = [(i, j) for i in range(len(words[0])) for j in range(i)]
    observed = np.mean([row[i] == row[j] for row in rows for i, j in pairs])
    given = [word for row in rows for word in row]
    by_chance = np.mean([a == b for a in given for b in given])
    return (observed - by_chance) / (1 - by_chance)


def photons_of_emc(path):
    """Read Dragonfly's .emc byte by byte: counts (patterns, pixels)."""
    content = path.read_bytes()
    n_patterns, n_pixels = struct.unpack("<2i", content[:8])
    assert not any(content[8:1024])
    numbers = [number for (number,) in struct.iter_unpack("<i", content[1024:])]
    take = iter(numbers)
    ones = [next(take) for _ in range(n_patterns)]
    multi = [next(take) for _ in range(n_patterns)]
    counts = np.zeros((n_patterns, n_pixels), int)
    for pattern, n in enumerate(ones):
        for _ in range(n):
            counts[pattern, next(take)] += 1
    places = [[next(take) for _ in range(n)] for n in multi]
    for pattern, of_pattern in enumerate(places):
        for place in of_pattern:
            counts[pattern, place] += next(take)
    assert next(take, None) is None
    return counts


def photons_of_sparse_hdf5(path):
    """Read Dragonfly's sparse HDF5 pixel by pixel: counts (patterns, pixels)."""
    with h5py.File(path) as file:
        counts = np.zeros((len(file["place_ones"]), file["num_pix"][0]), int)
        for pattern, of_pattern in enumerate(counts):
            for place in file["place_ones"][pattern]:
                of_pattern[place] += 1
            several = zip(
                file["place_multi"][pattern], file["count_multi"][pattern], strict=True
            )
            for place, count in several:
                of_pattern[place] += count
    return counts


def polar_weights(good, centre, width, n_rings, n_angles):
    """Say how much of which pixels is in each cell, {(ring, sector): {pixel: weight}}.

    A large cell takes the pixels in it, a small one interpolates.
    """
    cells = {cell: {} for cell in np.ndindex(n_rings, n_angles)}
    for r, c in np.ndindex(good.shape):
        up, right = centre[0] - r, c - centre[1]
        turn = np.arctan2(up, right) / (2 * np.pi) % 1
        cell = int(np.hypot(up, right) / width), int(turn * n_angles) % n_angles
        if cell in cells:
            cells[cell][r, c] = 1
    for (ring, sector), pixels in cells.items():
        area = np.pi * width**2 * ((ring + 1) ** 2 - ring**2) / n_angles
        if area >= 9:
            total = max(area, len(pixels))
            weights = {pixel: 1 / total for pixel in pixels if good[pixel]}
        else:
            start = ring * width, sector * 2 * np.pi / n_angles
            size = width, 2 * np.pi / n_angles
            weights = _sample_linearly(good, centre, start, size)
        cells[ring, sector] = weights
    return cells


def _sample_linearly(good, centre, start, size):
    """Spread points over a cell from (radius, angle) on; weigh their neighbours."""
    n_radii = int(np.ceil(size[0]))
    n_arc = int(np.ceil((start[0] + size[0]) * size[1]))
    weights = {}
    for i, j in np.ndindex(n_radii, n_arc):
        radius = start[0] + (i + 0.5) * size[0] / n_radii
        angle = start[1] + (j + 0.5) * size[1] / n_arc
        row = centre[0] - radius * np.sin(angle)
        column = centre[1] + radius * np.cos(angle)
        for r in (int(np.floor(row)), int(np.floor(row)) + 1):
            for c in (int(np.floor(column)), int(np.floor(column)) + 1):
                inside = 0 <= r < good.shape[0] and 0 <= c < good.shape[1]
                if inside and good[r, c]:
                    weight = (1 - abs(row - r)) * (1 - abs(column - c))
                    weights[r, c] = weights.get((r, c), 0) + weight / n_radii / n_arc
    return weights


def polar_cell(image, weights):
    """Average one cell: mean, weight, variance of the mean."""
    total = sum(weights.values())
    if total < 0.3:
        return 0.0, 0.0, 0.0
    mean = sum(weight * image[pixel] for pixel, weight in weights.items()) / total
    return mean, total, sum(weight**2 for weight in weights.values()) / total**2


def half_turn_map(image, weights, n_rings, n_angles):
    """Average opposite cells, (n_rings, n_angles / 2), and add up each ring's noise."""
    half = n_angles // 2
    mean, noise = np.zeros((n_rings, half)), np.zeros((n_rings, half))
    pairs = {}
    for ring, place in np.ndindex(n_rings, half):
        one, other = (
            polar_cell(image, weights[ring, sector]) for sector in (place, place + half)
        )
        total = one[1] + other[1]
        if total > 0:
            shares = one[1] / total, other[1] / total
            mean[ring, place] = one[0] * shares[0] + other[0] * shares[1]
            noise[ring, place] = one[2] * shares[0] ** 2 + other[2] * shares[1] ** 2
        if one[1] and other[1]:
            pairs[ring, place] = one[0], other[0], one[2], other[2]
    gain = _gain_of(pairs, np.maximum(_ring_means(mean, noise > 0), 0), half)
    for cell, (one, other, one_variance, other_variance) in pairs.items():
        smaller, larger = sorted([one, other])
        counted = max(smaller, 0) * (one_variance + other_variance)
        photon = gain * np.sqrt(one_variance * other_variance)
        if larger - smaller > 5 * np.sqrt(gain * (counted + photon)) + 0.2 * smaller:
            mean[cell] = smaller
    variance = gain * (np.maximum(mean, 0) * noise).sum(axis=1)
    filled = np.where(noise > 0, mean, _ring_means(mean, noise > 0)[:, None])
    return filled, variance


def _ring_means(mean, filled):
    rings = zip(mean, filled, strict=True)
    return np.array([ring[ok].mean() if ok.any() else 0 for ring, ok in rings])


def _gain_of(pairs, brightness, half):
    floor = 0.02 * np.mean(brightness)
    ratios = []
    for sector in np.split(np.arange(half), 16):
        measured = expected = 0.0
        for (ring, place), (one, other, one_variance, other_variance) in pairs.items():
            if place in sector and brightness[ring] + floor > 0:
                weight = 1 / (brightness[ring] + floor) ** 2
                scatter = one_variance + other_variance
                measured += weight * (one - other) ** 2 / scatter
                expected += weight * brightness[ring]
        ratios.append(measured / expected if expected else 0)
    return np.median(ratios)


def rank_by_rotation(patterns, hits_index, bad_pixels, centre):
    """Distance, nearest hit and angle of each pattern: one rotation at a time."""
    n_rings, n_angles, n_harmonics = 24, 96, 21
    width = 0.375 * min(bad_pixels.shape) / n_rings
    weights = polar_weights(~bad_pixels, centre, width, n_rings, n_angles)
    maps = []
    for image in np.asarray(patterns, dtype=np.float64):
        mean, variance = half_turn_map(image, weights, n_rings, n_angles)
        spectrum = np.fft.rfft(mean, axis=1)
        spectrum[:, n_harmonics:] = 0
        smooth = np.fft.irfft(spectrum, n_angles // 2, axis=1)
        maps.append((smooth, variance * (2 * n_harmonics - 1) / (n_angles // 2)))
    weight = np.arange(n_rings) + 0.5

    def signal(mean, variance):
        power = (weight[:, None] * mean**2).sum()
        return max(power - 0.9 * (weight * variance).sum(), 0.3 * power)

    nearest = []
    for mean, variance in maps:
        best = []
        for hit in hits_index:
            products = [
                (weight[:, None] * mean * np.roll(maps[hit][0], step, axis=1)).sum()
                for step in range(n_angles // 2)
            ]
            step = int(np.argmax(products))
            share = products[step] ** 2 / signal(mean, variance) / signal(*maps[hit])
            best.append((1 - share, hit, step * 360 / n_angles))
        best.sort()
        nearest.append((np.mean([d for d, _, _ in best[:3]]), *best[0][1:]))
    return nearest


def fringe_map(pattern, bad_pixels, centre):
    """Transform a pattern, less its rings and in units of their noise, wave by wave.

    Value [i, j] belongs to the separation (i - rows // 2, j - columns // 2).
    """
    rows, columns = np.indices(pattern.shape)
    ring = np.rint(np.hypot(rows - centre[0], columns - centre[1]))
    mean = np.zeros(pattern.shape)
    for radius in np.unique(ring[~bad_pixels]):
        here = (ring == radius) & ~bad_pixels
        mean[here] = max(pattern[here].mean(), 0)
    level = mean[~bad_pixels].mean()
    white = np.where(bad_pixels, 0, (pattern - mean) / np.sqrt(mean + 0.01 * level))
    highest = 8 * np.abs(white).mean()
    white = np.clip(white, -highest, highest)
    down = np.arange(pattern.shape[0]) - pattern.shape[0] // 2
    right = np.arange(pattern.shape[1]) - pattern.shape[1] // 2
    result = np.zeros(pattern.shape)
    for i, j in np.ndindex(pattern.shape):
        phase = down[i] * (rows - centre[0]) / pattern.shape[0]
        phase = phase + right[j] * (columns - centre[1]) / pattern.shape[1]
        result[i, j] = (white * np.cos(2 * np.pi * phase)).sum()
    return result


def patterson_score(pattern, bad_pixels, centre, nearest, farthest):
    """Take the highest value of the map between two separations over its noise."""
    fringes = fringe_map(pattern, bad_pixels, centre)
    rows, columns = np.indices(fringes.shape)
    separation = np.hypot(rows - len(fringes) // 2, columns - len(fringes) // 2)
    beyond = fringes[(separation > nearest) & (separation < farthest)]
    return beyond.max() / (1.4826 * np.median(np.abs(beyond)))


def without_place(pattern, bad_pixels, centre, ring, sector, *, n_rings, n_sectors):
    """Put the ring means into one piece of a ring and the piece opposite."""
    result = pattern.copy()
    width = min(pattern.shape) / 2 / n_rings
    for r, c in np.ndindex(pattern.shape):
        distance = np.hypot(r - centre[0], c - centre[1])
        angle = np.degrees(np.arctan2(centre[0] - r, c - centre[1])) % 180
        here = (int(distance / width), int(angle / 180 * n_sectors) % n_sectors)
        if bad_pixels[r, c] or here != (ring, sector):
            continue
        like = [
            pattern[i, j]
            for i, j in np.ndindex(pattern.shape)
            if not bad_pixels[i, j]
            and np.rint(np.hypot(i - centre[0], j - centre[1])) == np.rint(distance)
        ]
        result[r, c] = np.mean(like)
    return result
