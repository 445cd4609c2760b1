"""Labels as a CSV file: `pattern,label`, and who gave them when, where known."""

import csv
import io
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from helpers.errors import LabelsError
from helpers.labels.schema import LABELS, NAME_LENGTH
from helpers.outputs import atomic_write

Locate = Callable[[int], tuple[Path, int]]
"""Gives the file of a pattern, and its row there: `Patterns.locate`."""

COLUMNS = ("pattern", "label", "file", "labeller", "labelled_at")
UNNAMED = "imported"
"""The labeller of words that come without a name."""

_MOST_PROBLEMS = 50


@dataclass(frozen=True)
class GivenLabel:
    """A label that somebody gave elsewhere.

    Parameters
    ----------
    pattern
        Its index in the stack.
    label
        One of `LABELS`.
    labeller
        Who gave it.
    labelled_at
        When, in UTC; None = not known.
    """

    pattern: int
    label: str
    labeller: str
    labelled_at: datetime | None


def read_labels_csv(
    path: str | Path,
    n_patterns: int,
    labeller: str | None = None,
    locate: Locate | None = None,
) -> list[GivenLabel]:
    """Read labels from a CSV file, all of them or none.

    Parameters
    ----------
    path
        UTF-8 text, separated by commas (or semicolons, as some spreadsheets do).
    n_patterns
        How many patterns the stack has.
    labeller
        Who gave the labels for which the file names nobody.
    locate
        Gives the file of a pattern, against which the column `file` is checked.

    Raises
    ------
    LabelsError
        The file cannot be read; every bad line is listed.
    """
    path = Path(path)
    reader = _open_table(path)
    _check_header(path, reader.fieldnames or ())
    parser = _RowParser(n_patterns, labeller or UNNAMED, locate)
    given = [row for fields in reader for row in parser.parse(reader.line_num, fields)]
    if parser.problems:
        raise LabelsError(all_problems(path, parser.problems))
    return given


def write_labels_csv(
    path: str | Path, labels: Iterable[GivenLabel], locate: Locate | None = None
) -> None:
    """Write labels as a CSV file that `read_labels_csv` reads.

    Parameters
    ----------
    path
        Written whole or not at all.
    labels
        One line each, in this order.
    locate
        Gives the file of a pattern, for the column `file`; without it there is none.
    """
    columns = [name for name in COLUMNS if name != "file" or locate]
    with atomic_write(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(_as_fields(each, locate) for each in labels)


def read_text(path: Path) -> str:
    """Return the text of a file without its byte-order mark, or raise `LabelsError`."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        message = f"{path}: cannot be read ({error.strerror}). Check the path."
        raise LabelsError(message) from error
    except UnicodeDecodeError as error:
        message = (
            f"{path}: byte {error.start} is not UTF-8 text. Save the file as UTF-8 "
            "(in a spreadsheet: «CSV UTF-8»), and import it again."
        )
        raise LabelsError(message) from error


def _open_table(path: Path) -> "csv.DictReader[str]":
    text = read_text(path)
    header = text.partition("\n")[0]
    delimiter = ";" if ";" in header and "," not in header else ","
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
    return reader


def _check_header(path: Path, header: Sequence[str]) -> None:
    if "event_num" in header:
        message = (
            f"{path}: this is SpeckleNN's form ({','.join(header)}). Read it with "
            "labels.read_specklenn and pass the words to import_words."
        )
        raise LabelsError(message)
    if missing := {"pattern", "label"} - set(header):
        message = (
            f"{path}: the first line is «{','.join(header)[:80]}», without "
            f"{' and '.join(sorted(missing))}. Expected pattern,label and, when known, "
            "file,labeller,labelled_at; pattern counts from 0 through the stack."
        )
        raise LabelsError(message)
    if unknown := [name for name in header if name not in COLUMNS]:
        message = f"{path}: columns {', '.join(unknown)} are not read"
        warnings.warn(message, stacklevel=4)


class _RowParser:
    """Turns lines into labels, and keeps what is wrong with them."""

    def __init__(self, n_patterns: int, labeller: str, locate: Locate | None) -> None:
        self.problems: list[str] = []
        self._n_patterns = n_patterns
        self._labeller = labeller
        self._locate = locate
        self._undated: dict[tuple[str, int], tuple[str, int]] = {}

    def parse(self, line: int, fields: dict[str, str]) -> Iterator[GivenLabel]:
        """Give the label of a line; of a bad line none, and note why."""
        try:
            given = self._given(fields)
            self._check_contradiction(given, line)
        except ValueError as error:
            self.problems.append(f"line {line}: {error}")
        else:
            yield given

    def _given(self, fields: dict[str, str]) -> GivenLabel:
        text = {name: (fields.get(name) or "").strip() for name in COLUMNS}
        pattern = parse_pattern(text["pattern"], self._n_patterns)
        self._check_file(pattern, text["file"])
        return GivenLabel(
            pattern=pattern,
            label=_word(text["label"]),
            labeller=_labeller(text["labeller"] or self._labeller),
            labelled_at=_moment(text["labelled_at"]),
        )

    def _check_file(self, pattern: int, file: str) -> None:
        if not file or self._locate is None:
            return
        expected = self._locate(pattern)[0].name
        if Path(file).name != expected:
            message = f"pattern {pattern} is in {expected}, the line says {file}"
            raise ValueError(message)

    def _check_contradiction(self, given: GivenLabel, line: int) -> None:
        if given.labelled_at is not None:
            return
        key = given.labeller, given.pattern
        label, earlier = self._undated.setdefault(key, (given.label, line))
        if label != given.label:
            message = (
                f"pattern {given.pattern} is {given.label}, but {label} in line "
                f"{earlier}, both by {given.labeller} and without labelled_at"
            )
            raise ValueError(message)


def parse_pattern(text: str, n_patterns: int) -> int:
    """Return the index of a pattern; `ValueError` if there is no such pattern."""
    try:
        pattern = int(text)
    except ValueError:
        message = f"pattern «{text}» is no whole number"
        raise ValueError(message) from None
    if not 0 <= pattern < n_patterns:
        message = f"pattern {pattern} is not within 0 … {n_patterns - 1}"
        raise ValueError(message)
    return pattern


def _word(text: str) -> str:
    word = text.lower()
    if word not in LABELS:
        message = f"label «{text}» is none of {', '.join(LABELS)}"
        raise ValueError(message)
    return word


def _labeller(text: str) -> str:
    if len(text) > NAME_LENGTH:
        message = f"labeller has {len(text)} characters, {NAME_LENGTH} at most"
        raise ValueError(message)
    return text


def _moment(text: str) -> datetime | None:
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        message = f"labelled_at «{text}» is no time such as 2026-11-22T14:33:00Z"
        raise ValueError(message) from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    # A label of the future would stay the newest, whatever is pressed later.
    if moment > datetime.now(UTC) + timedelta(days=1):
        message = f"labelled_at «{text}» lies in the future"
        raise ValueError(message)
    return moment.astimezone(UTC)


def all_problems(path: Path, problems: Sequence[str]) -> str:
    """Say what is wrong with every line, in one message."""
    shown = [f"{path}: {problem}." for problem in problems[:_MOST_PROBLEMS]]
    if more := len(problems) - len(shown):
        shown.append(f"{path}: and {more} more.")
    return "\n".join([*shown, "Nothing was imported. Mend these lines and try again."])


def _as_fields(given: GivenLabel, locate: Locate | None) -> dict[str, str]:
    fields = {
        "pattern": str(given.pattern),
        "label": given.label,
        "labeller": given.labeller,
        "labelled_at": given.labelled_at.isoformat() if given.labelled_at else "",
    }
    if locate:
        fields["file"] = locate(given.pattern)[0].name
    return fields
