"""CSV files of labels, and of patterns to be labelled next."""

import codecs
import csv
import io
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from helpers.errors import LabelsError, OtherPatternsError, ParameterError
from helpers.labels.database import LABELS, NAME_LENGTH
from helpers.made_from import digest, read_origin
from helpers.outputs import atomic_write, escape_formula, unescape_formula
from helpers.work_folder import EXPERIMENT, QUEUE

Locate = Callable[[int], tuple[Path, int]]
"""Gives the file of a pattern, and its row there: `Patterns.locate`."""

COLUMNS = ("pattern", "label", "file", "labeller", "labelled_at")
UNNAMED = "imported"
"""The labeller of words that come without a name."""

LARGEST_TABLE = 256 * 2**20
"""Bytes, some millions of labels; a larger file is none."""

_MOST_PROBLEMS = 50
_MOST_ALIKE = 3
OUTSIDE = "is not within"
_WHOLE = re.compile(r"^(\d+)[.,]0*$")  # 12.0, as programs for tables write 12
_PREAMBLE = re.compile(r"\A(?:[ \t]*(?:(?:#|sep=).*)?\n)*", re.IGNORECASE)


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
    *,
    first_index: int = 0,
    words: Mapping[str, str] | None = None,
) -> list[GivenLabel]:
    """Read labels from a CSV file, all of them or none.

    Parameters
    ----------
    path
        A table with a header, as spreadsheets save it: separated by commas, semicolons
        or tabs, UTF-8 or UTF-16 with a byte-order mark or Windows-1252, empty rows at
        the end, indices as `12.0`, comments (`#`) in front.
    n_patterns
        How many patterns the stack has.
    labeller
        Who gave the labels for which the file names nobody.
    locate
        Gives the file of a pattern, against which the column `file` is checked.
    first_index
        How the first pattern of the stack is counted, 0 or 1.
    words
        What its words or codes mean where they are not `LABELS`: {"hit": "single"}.

    Raises
    ------
    LabelsError
        The file cannot be read; every bad line is listed.
    """
    path = Path(path)
    header, rows = _read_table(path)
    _check_header(path, header)
    lower = {code.lower(): word for code, word in (words or {}).items()}
    parser = _RowParser(n_patterns, labeller or UNNAMED, locate, first_index, lower)
    given, problems = [], []
    for line, fields in rows:
        try:
            given.append(parser.parse(line, dict(zip(header, fields, strict=False))))
        except ValueError as error:
            problems.append(f"line {line}: {error}")
    if problems:
        raise LabelsError(all_problems(path, problems))
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
    with (
        atomic_write(path, private=True) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(_as_fields(each, locate) for each in labels)


def read_text(path: Path) -> str:
    """Return the text of a file, however a spreadsheet saved it.

    UTF-8 and UTF-16 with or without a byte-order mark; else Windows-1252, which
    spreadsheets write where nobody chose, with a warning. Lines end in a line feed.

    Raises
    ------
    LabelsError
        The file cannot be read, or is no text.
    """
    try:
        if (size := path.stat().st_size) > LARGEST_TABLE:
            message = (
                f"{path}: has {size:,} bytes; a table of labels has fewer than "
                f"{LARGEST_TABLE:,}. Check that it is the right file."
            )
            raise LabelsError(message)
        content = path.read_bytes()
    except OSError as error:
        message = f"{path}: cannot be read ({error.strerror}). Check the path."
        raise LabelsError(message) from error
    is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if is_utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        if is_utf16 or b"\0" in content:
            message = (
                f"{path}: byte {error.start} is not UTF-8 text. Save the file as UTF-8 "
                "(in a spreadsheet: «CSV UTF-8»), and import it again."
            )
            raise LabelsError(message) from error
        text = content.decode("cp1252", errors="replace")
        message = (
            f"{path}: is not UTF-8, and was read as Windows-1252; look whether names "
            "are right. In a spreadsheet save it as «CSV UTF-8»."
        )
        warnings.warn(message, stacklevel=5)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def find_header(text: str) -> str:
    """Return the first line that is no comment and no `sep=` of a spreadsheet."""
    table = _PREAMBLE.sub("", text, count=1)
    return table.split("\n", 1)[0].lower()


def _read_table(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the names of the columns, and line number and fields of each row."""
    text = read_text(path)
    table = _PREAMBLE.sub("", text, count=1)
    n_before = text.count("\n") - table.count("\n")
    header = find_header(table)
    reader = csv.reader(
        io.StringIO(table, newline=""),
        delimiter=max(",;\t", key=header.count),
        skipinitialspace=True,
    )
    with explain_csv_errors(path, reader):
        filled = [
            (reader.line_num + n_before, fields)
            for fields in reader
            if any(field.strip() for field in fields)
        ]
    names = [_unquote(name).lower() for name in filled[0][1]] if filled else []
    return names, filled[1:]


@contextmanager
def explain_csv_errors(path: Path, reader: Any) -> Iterator[None]:
    """Turn what `csv` says of a text that is no table into a `LabelsError`."""
    try:
        yield
    except csv.Error as error:
        message = (
            f"{path}: line {reader.line_num + 1} cannot be read as a line of a table "
            f"({error}). Check that quotes are closed and that it is the right file."
        )
        raise LabelsError(message) from error


def _unquote(field: str) -> str:
    """Take the quotes off a field that had a space before them.

    Only where a quote can mean nothing: the name of a person may begin with one.
    """
    return field.strip().strip('"').strip()


def _check_header(path: Path, header: Sequence[str]) -> None:
    if "event_num" in header:
        message = (
            f"{path}: this is SpeckleNN's form ({','.join(header)}). Read it with "
            "labels.import_labels, which knows it."
        )
        raise LabelsError(message)
    if missing := {"pattern", "label"} - set(header):
        message = (
            f"{path}: the first line is «{','.join(header)[:80]}», without "
            f"{' and '.join(sorted(missing))}. Expected pattern,label and, when known, "
            "file,labeller,labelled_at; pattern counts from 0 through the stack."
        )
        raise LabelsError(message)
    if unknown := [name for name in header if name and name not in COLUMNS]:
        message = f"{path}: columns {', '.join(unknown)} are not read"
        warnings.warn(message, stacklevel=4)


@dataclass(frozen=True)
class _RowParser:
    """Turns the fields of a line into a label; `ValueError` says what is wrong."""

    n_patterns: int
    labeller: str
    locate: Locate | None
    first_index: int
    words: Mapping[str, str]  # by code, in small letters
    undated: dict[tuple[str, int], tuple[str, int]] = field(default_factory=dict)

    def parse(self, line: int, fields: Mapping[str, str]) -> GivenLabel:
        text = {name: fields.get(name, "").strip() for name in COLUMNS}
        number = _unquote(text["pattern"])
        pattern = parse_pattern(number, self.n_patterns, self.first_index)
        self._check_file(pattern, unescape_formula(text["file"]))
        given = GivenLabel(
            pattern,
            self._find_word(_unquote(text["label"])),
            _labeller(unescape_formula(text["labeller"]) or self.labeller),
            _moment(text["labelled_at"]),
        )
        self._check_contradiction(given, line)
        return given

    def _find_word(self, text: str) -> str:
        code = _WHOLE.sub(r"\1", text.lower())
        word = self.words.get(text.lower(), self.words.get(code, text.lower()))
        if word not in LABELS:
            message = (
                f"label «{text}» is none of {', '.join(LABELS)}; say what it means: "
                f"label_words=['{text or 'hit'} single']"
            )
            raise ValueError(message)
        return word

    def _check_file(self, pattern: int, file: str) -> None:
        if not file or self.locate is None:
            return
        expected = self.locate(pattern)[0].name
        if Path(file).name != expected:
            message = f"pattern {pattern} is in {expected}, the line says {file}"
            raise ValueError(message)

    def _check_contradiction(self, given: GivenLabel, line: int) -> None:
        if given.labelled_at is not None:
            return
        key = given.labeller, given.pattern
        label, earlier = self.undated.setdefault(key, (given.label, line))
        if label != given.label:
            message = (
                f"pattern {given.pattern} is {given.label}, but {label} in line "
                f"{earlier}, both by {given.labeller} and without labelled_at"
            )
            raise ValueError(message)


def parse_pattern(text: str, n_patterns: int, first_index: int = 0) -> int:
    """Return the index of a pattern; `ValueError` if there is no such pattern."""
    try:
        pattern = int(_WHOLE.sub(r"\1", text)) - first_index
    except ValueError:
        message = f"pattern «{text}» is no whole number"
        raise ValueError(message) from None
    if not 0 <= pattern < n_patterns:
        last = n_patterns - 1 + first_index
        message = f"pattern {text} {OUTSIDE} {first_index} … {last}"
        raise ValueError(message)
    return pattern


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
    """Say what is wrong with every line of a file of labels, in one message."""
    are_alike = all(OUTSIDE in problem for problem in problems)
    most = _MOST_ALIKE if are_alike else _MOST_PROBLEMS
    advice = "Nothing was imported. Mend these lines and try again."
    if are_alike:
        advice += " If the labels are of another run, give no labels file."
    return _list_problems(path, problems, most, advice)


def _list_problems(path: Path, problems: Sequence[str], most: int, advice: str) -> str:
    shown = [f"{path}: {problem}." for problem in problems[:most]]
    if more := len(problems) - len(shown):
        shown.append(f"{path}: and {more} more.")
    return "\n".join([*shown, advice])


def _as_fields(given: GivenLabel, locate: Locate | None) -> dict[str, str]:
    fields = {
        "pattern": str(given.pattern),
        "label": given.label,
        "labeller": escape_formula(given.labeller),
        "labelled_at": given.labelled_at.isoformat() if given.labelled_at else "",
    }
    if locate:
        fields["file"] = escape_formula(locate(given.pattern)[0].name)
    return fields


QUEUE_COLUMNS = ["pattern", "reason"]
STACK = "stack"  # a third column, where the work folder says which stack it is
_MOST_QUEUE_PROBLEMS = 20


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
        return f"Patterns asked for: {len(self):,} ({reasons})."


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
        stack = _name_stack(work_dir)
        more = {STACK: stack} if stack else {}
        writer.writerow([*QUEUE_COLUMNS, *more])
        for pattern, word in zip(index, words, strict=True):
            writer.writerow([pattern, escape_formula(word), *more.values()])
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
    text = read_text(path) if path.exists() else ",".join(QUEUE_COLUMNS)
    reader = csv.reader(io.StringIO(text, newline=""))
    with explain_csv_errors(path, reader):
        header, *lines = list(reader) or [[]]
    patterns, problems = _read_patterns(header, lines, n_patterns)
    if problems:
        advice = "Run the notebook that wrote it again, or remove the file."
        raise LabelsError(_list_problems(path, problems, _MOST_QUEUE_PROBLEMS, advice))
    rows = [fields for fields in lines if fields]
    stack = _name_stack(work_dir)
    if stack and STACK in header and any(row[-1] != stack for row in rows):
        message = (
            f"{path} asks for patterns of another stack than {EXPERIMENT.name} in its "
            f"folder describes. Run {QUEUE.writer} again, or remove the file."
        )
        raise OtherPatternsError(message)
    reasons = [unescape_formula(row[1]) for row in rows]
    return Queue(np.array(patterns, np.int64), np.array(reasons, np.str_))


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
    indices: list[int] = index.tolist()
    return indices


def _check_reason(reason: str) -> str:
    word = " ".join(str(reason).split())
    if not word:
        message = (
            "reasons: found an empty one; expected a short word such as 'uncertain'. "
            f"{QUEUE.name} was not written."
        )
        raise ParameterError(message)
    return word


def _read_patterns(
    header: list[str], lines: list[list[str]], n_patterns: int
) -> tuple[list[int], list[str]]:
    """Return the pattern of each line that is not empty, and all that is wrong."""
    if header not in (QUEUE_COLUMNS, [*QUEUE_COLUMNS, STACK]):
        found, expected = ",".join(header)[:80], ",".join(QUEUE_COLUMNS)
        return [], [f"the first line is «{found}»; expected «{expected}»"]
    line_of: dict[int, int] = {}
    problems = []
    filled = ((line, fields) for line, fields in enumerate(lines, start=2) if fields)
    for line, fields in filled:
        problem = ""
        try:
            pattern = parse_pattern(fields[0], n_patterns)
            earlier = line_of.setdefault(pattern, line)
        except ValueError as error:
            problem = str(error)
        else:
            if len(fields) != len(header):
                problem = f"{len(fields)} fields; expected {len(header)}"
            elif earlier < line:
                problem = f"pattern {pattern} again, as in line {earlier}"
        if problem:
            problems.append(f"line {line}: {problem}")
    return list(line_of), problems
