"""Which patterns a person should label next, and why: `to_label.csv`."""

import csv
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from helpers.errors import LabelsError, OtherPatternsError, ParameterError
from helpers.labels.label_csv import explain_csv_errors, parse_pattern, read_text
from helpers.made_from import digest, read_origin
from helpers.outputs import atomic_write, escape_formula, unescape_formula
from helpers.work_folder import EXPERIMENT, QUEUE

COLUMNS = ["pattern", "reason"]
STACK = "stack"  # a third column, where the work folder says which stack it is
_MOST_PROBLEMS = 20


@dataclass(frozen=True, eq=False)
class Queue:
    """Patterns that a person should label next, the most useful first.

    Attributes
    ----------
    pattern
        (m,) int64: pattern indices, each once.
    reason
        (m,) str: why each is asked for, a short word such as "uncertain".
    """

    pattern: NDArray[np.int64]
    reason: NDArray[np.str_]

    def __len__(self) -> int:
        """Return how many patterns are asked for."""
        return len(self.pattern)

    def describe(self) -> str:
        """Say how many patterns are asked for, and why."""
        if len(self) == 0:
            return (
                "No pattern is asked for: the queue is empty. Later notebooks write "
                f"into {QUEUE.name} which patterns to label next."
            )
        counts = Counter(self.reason.tolist()).most_common()
        reasons = ", ".join(f"{n:,} {reason}" for reason, n in counts)
        return f"Patterns asked for in {QUEUE.name}: {len(self):,} ({reasons})."


def write_queue(
    work_dir: str | Path, patterns: ArrayLike, reasons: Sequence[str]
) -> Path:
    """Say which patterns a person should label next; replaces what was asked before.

    Parameters
    ----------
    work_dir
        The work folder; the file in it is `to_label.csv`, header `pattern,reason`.
    patterns
        (m,) pattern indices, the most useful first, each once.
    reasons
        (m,) why each is asked for: a short word such as "likely single", "uncertain",
        "diverse" or "audit".

    Returns
    -------
        The file, written whole or not at all.

    Raises
    ------
    ParameterError
        If a pattern comes twice or is no index, or there is not one reason for each.
    """
    index = _check_patterns(patterns)
    words = [_check_reason(reason) for reason in reasons]
    if len(words) != len(index):
        message = (
            f"reasons: found {len(words)} for {len(index)} patterns; expected one for "
            f"each. {QUEUE.name} was not written."
        )
        raise ParameterError(message)
    path = Path(work_dir).expanduser() / QUEUE.name
    with (
        atomic_write(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        said = map(escape_formula, words)
        stack = _name_stack(work_dir)
        columns = [STACK] if stack else []
        writer.writerow(COLUMNS + columns)
        more = [stack] if stack else []
        writer.writerows([*row, *more] for row in zip(index, said, strict=True))
    return path


def read_queue(work_dir: str | Path, n_patterns: int) -> Queue:
    """Read which patterns a person should label next.

    Parameters
    ----------
    work_dir
        The work folder; where the file is missing, nothing is asked for.
    n_patterns
        How many patterns the stack has.

    Raises
    ------
    LabelsError
        If the file cannot be read; every bad line is listed.
    OtherPatternsError
        If it asks for patterns of another stack than the work folder is for.
    """
    path = Path(work_dir).expanduser() / QUEUE.name
    text = read_text(path) if path.exists() else ",".join(COLUMNS)
    reader = csv.reader(io.StringIO(text, newline=""))
    with explain_csv_errors(path, reader):
        header, *lines = list(reader) or [[]]
    problems = list(_find_problems(header, lines, n_patterns))
    if problems:
        raise LabelsError(_say_problems(path, problems))
    rows = [fields for fields in lines if fields]
    stack = _name_stack(work_dir)
    if stack and header[len(COLUMNS) :] and any(row[-1] != stack for row in rows):
        message = (
            f"{path} asks for patterns of another stack than {EXPERIMENT.name} in its "
            f"folder describes. Run {QUEUE.writer} again, or remove the file."
        )
        raise OtherPatternsError(message)
    pattern = np.array([fields[0] for fields in rows], dtype=np.int64)
    said = [unescape_formula(fields[1]) for fields in rows]
    return Queue(pattern, np.array(said, dtype=np.str_))


def _name_stack(work_dir: str | Path) -> str:
    """Return a short text for the stack of a work folder; "" where none says it."""
    told = read_origin(Path(work_dir) / EXPERIMENT.name).get("patterns")
    return digest(told.encode()) if told else ""


def _check_patterns(patterns: ArrayLike) -> list[int]:
    index = np.atleast_1d(np.asarray(patterns))
    problem = ""
    if index.size and (index.dtype.kind not in "iu" or index.min() < 0):
        problem = f"{index.dtype} values from {index.min()}; expected indices from 0"
    elif np.unique(index).size < index.size:
        problem = "a pattern twice; expected each once"
    if problem:
        message = f"patterns: found {problem}. {QUEUE.name} was not written."
        raise ParameterError(message)
    return [int(pattern) for pattern in index]


def _check_reason(reason: str) -> str:
    word = " ".join(str(reason).split())
    if not word:
        message = (
            "reasons: found an empty one; expected a short word such as 'uncertain'. "
            f"{QUEUE.name} was not written."
        )
        raise ParameterError(message)
    return word


def _find_problems(
    header: list[str], lines: list[list[str]], n_patterns: int
) -> Iterator[str]:
    if header not in (COLUMNS, [*COLUMNS, STACK]):
        found = ",".join(header)[:80]
        yield f"the first line is «{found}»; expected «{','.join(COLUMNS)}»"
        return
    seen: dict[int, int] = {}
    filled = ((n, fields) for n, fields in enumerate(lines, start=2) if fields)
    for number, fields in filled:
        try:
            pattern = _parse_line(fields, len(header), n_patterns)
        except ValueError as error:
            yield f"line {number}: {error}"
        else:
            earlier = seen.setdefault(pattern, number)
            if earlier < number:
                yield f"line {number}: pattern {pattern} again, as in line {earlier}"


def _parse_line(fields: list[str], n_columns: int, n_patterns: int) -> int:
    if len(fields) != n_columns:
        message = f"{len(fields)} fields; expected {n_columns}"
        raise ValueError(message)
    return parse_pattern(fields[0], n_patterns)


def _say_problems(path: Path, problems: list[str]) -> str:
    shown = [f"{path}: {problem}." for problem in problems[:_MOST_PROBLEMS]]
    if more := len(problems) - len(shown):
        shown.append(f"{path}: and {more} more.")
    advice = "Run the notebook that wrote it again, or remove the file."
    return "\n".join([*shown, advice])
