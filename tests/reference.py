"""Slow and obvious twins of the fast kernels, one or two plain loops each."""

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


def median_around(image, size):
    """Take the median of the finite pixels in the square around each pixel."""
    found = np.full(image.shape, np.nan)
    half = size // 2
    for r in range(image.shape[0]):
        for c in range(image.shape[1]):
            rows = slice(max(0, r - half), r + half + 1)
            columns = slice(max(0, c - half), c + half + 1)
            values = image[rows, columns]
            if np.isfinite(values).any():
                found[r, c] = np.nanmedian(values)
    return found


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
