"""What the files of a stack hold and say, put together."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from helpers.patterns.pattern_file import PatternFile

NOTES_SHOWN = 8


def find_common_dtype(dtypes: Sequence[np.dtype[Any]]) -> np.dtype[Any]:
    """Return a dtype that holds all values; the recorded one where all agree."""
    return dtypes[0] if len(set(dtypes)) == 1 else np.result_type(*dtypes)


def join_words(
    parts: Sequence[NDArray[np.str_] | None], lengths: Sequence[int]
) -> NDArray[np.str_] | None:
    """Put the words of all files end to end, "" where a file has none."""
    if all(part is None for part in parts):
        return None
    pairs = zip(parts, lengths, strict=True)
    return np.concatenate([np.full(n, "") if p is None else p for p, n in pairs])


def join_shots(
    parts: Sequence[Mapping[str, NDArray[np.int64]]], lengths: Sequence[int]
) -> dict[str, NDArray[np.int64]]:
    """Put the numbers of all files end to end, -1 where a file has none."""
    names = dict.fromkeys(name for part in parts for name in part)
    pairs = list(zip(parts, lengths, strict=True))
    return {
        name: np.concatenate([part.get(name, np.full(n, -1)) for part, n in pairs])
        for name in names
    }


def gather_notes(pattern_files: Sequence[PatternFile]) -> list[str]:
    """Return what was found and assumed in the files, each once, a few at most."""
    kinds = ("notes", "warnings")
    found = [
        note for kind in kinds for one in pattern_files for note in getattr(one, kind)
    ]
    notes = list(dict.fromkeys(found))
    more = [f"There are {len(notes) - NOTES_SHOWN} more such notes."]
    return notes[:NOTES_SHOWN] + (more if len(notes) > NOTES_SHOWN else [])


def name_files(files: Sequence[Path]) -> str:
    """Name one file, or the first and the last of many."""
    if len(files) == 1:
        return str(files[0])
    return f"{len(files)} files, {files[0]} to {files[-1]}"


def name_shots(shots: Mapping[str, NDArray[np.int64]]) -> str:
    """Name the range of each kind of number."""
    return ", ".join(
        f"{name} {ids.min()} to {ids.max()}" for name, ids in shots.items()
    )


def count_words(words: NDArray[np.str_]) -> str:
    """Say how often each word occurs, the most frequent first."""
    counts = Counter(words.tolist()).most_common()
    return ", ".join(f"{n} {word or 'unlabelled'}" for word, n in counts)
