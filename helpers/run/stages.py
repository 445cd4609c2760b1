"""Notebooks as stages of a run: their parameters, and whether they have to run again.

Papermill only warns about a name that no notebook has, and puts any value into any
parameter. Both are refused here, all of them in one message, before anything runs.

`stages.json` in the work folder keeps, for each notebook, a short text for everything
that it depended on and for everything that it wrote. Values of parameters are kept as
digests: an address of a database may hold a password.
"""

import ast
import difflib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers import __version__
from helpers.errors import ParameterError, WorkFolderError
from helpers.made_from import digest
from helpers.outputs import write_json
from helpers.patterns import match_files
from helpers.work_folder import CANNOT_BE_READ, EXPERIMENT, LABELS_NAME, read_json

if TYPE_CHECKING:
    from helpers.labels import LabelStore

FROM_THE_RUNNER = {
    "patterns_file": "--patterns",
    "work_dir": "--work-dir",
    "labels_file": "--labels",
}
PATH_ENDINGS = ("_file", "_files", "_dir", "_folder", "_url")  # a URL may be a path
BOOLS = {
    **dict.fromkeys(("true", "yes", "on", "1"), True),
    **dict.fromkeys(("false", "no", "off", "0"), False),
}


@dataclass(frozen=True)
class Parameter:
    """One line of a notebook's parameters cell.

    Attributes
    ----------
    notebook
        Name of the notebook, such as "04-rank".
    name
        Name of the parameter.
    annotation
        Its type as written: int, float, bool, str, or a list of one of these.
    default
        Its value as written.
    comment
        What the comment beside it says.
    """

    notebook: str
    name: str
    annotation: str
    default: str
    comment: str

    def __str__(self) -> str:
        """Say what the parameter is, as a help text does."""
        about = f"{self.annotation}, {self.default} by default, in {self.notebook}"
        return f"{self.name} ({about}): {self.comment}"


# the parameters of each notebook
ParameterTables = Mapping[Path, Mapping[str, Parameter]]


def is_called(notebook: Path, name: str) -> bool:
    """Tell whether a notebook is meant by `name`: its number, its verb, its beginning.

    Parameters
    ----------
    notebook
        Path of the notebook, such as 04-rank.ipynb.
    name
        Such as "rank", "04", "4" or "04-rank".
    """
    number, _, verb = notebook.stem.partition("-")
    return notebook.name.startswith(name) or name.zfill(2) == number or name == verb


def papermill_path(path: Path) -> str:
    """Write a path so that papermill does not fill in what stands between braces.

    Parameters
    ----------
    path
        Any path.
    """
    return str(path).replace("{", "{{").replace("}", "}}")


def read_parameters(notebook: Path) -> dict[str, Parameter]:
    """Read the parameters cell of a notebook.

    Parameters
    ----------
    notebook
        Path of the notebook; one of its cells is tagged `parameters`.
    """
    import papermill

    inspected = papermill.inspect_notebook(papermill_path(notebook))
    return {
        name: Parameter(
            notebook.stem,
            name,
            _type_name(found["inferred_type_name"], found["default"]),
            found["default"],
            found["help"],
        )
        for name, found in inspected.items()
    }


def _type_name(annotation: str, default: str) -> str:
    """Return the annotation, or the type of the default where none is written."""
    if annotation != "None":
        return annotation
    try:
        return type(ast.literal_eval(default)).__name__
    except (SyntaxError, ValueError):
        return "of unknown type"


def assign_parameters(
    notebooks: Sequence[Path],
    from_the_runner: Mapping[str, Any],
    from_the_user: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """Return what each notebook gets, its own parameters and no others.

    Parameters
    ----------
    notebooks
        Paths of the notebooks that will run.
    from_the_runner
        Patterns, work folder and labels: given to every notebook that knows the name.
    from_the_user
        Values by parameter name, for one notebook alone if its name and a dot stand
        before, such as "rank.n_shown". A string is read as the type that the notebook
        gives the parameter; a relative path is seen from the current folder.

    Raises
    ------
    ParameterError
        If a name is in none of the notebooks or a value is of the wrong type; the
        message holds all that is wrong.
    """
    known = {notebook: read_parameters(notebook) for notebook in notebooks}
    problems = [
        *_missing_names(known, from_the_runner),
        *_unknown_names(known, from_the_user),
    ]
    assigned = []
    for notebook, of_notebook in known.items():
        values = {k: v for k, v in from_the_runner.items() if k in of_notebook}
        for name, value in _given_to(notebook, from_the_user).items():
            if name in of_notebook:
                try:
                    values[name] = read_value(value, of_notebook[name])
                except ParameterError as error:
                    problems.append(str(error))
        assigned.append(values)
    if problems:
        raise ParameterError("\n".join(problems))
    return assigned


def _missing_names(known: ParameterTables, needed: Mapping[str, Any]) -> list[str]:
    return [
        f"{FROM_THE_RUNNER[name]} was given, but no notebook that runs "
        f"({_list_names(known)}) has the parameter {name}."
        for name, value in needed.items()
        if value and not any(name in of_notebook for of_notebook in known.values())
    ]


def _list_names(notebooks: Iterable[Path]) -> str:
    return ", ".join(notebook.stem for notebook in notebooks)


def _given_to(notebook: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values for a notebook; those for it alone go before those for all."""
    to_all, to_this = {}, {}
    for name, value in given.items():
        called, dot, own_name = name.rpartition(".")
        if not dot:
            to_all[name] = value
        elif is_called(notebook, called):
            to_this[own_name] = value
    return to_all | to_this


def _unknown_names(known: ParameterTables, given: Mapping[str, Any]) -> list[str]:
    problems, n_unknown = [], 0
    for name in given:
        called, dot, own_name = name.rpartition(".")
        meant = {k: v for k, v in known.items() if not dot or is_called(k, called)}
        if own_name in FROM_THE_RUNNER:
            set_by = FROM_THE_RUNNER[own_name]
            problems.append(f"{name} is set by {set_by}, not as a parameter.")
        elif not any(own_name in of_notebook for of_notebook in meant.values()):
            n_unknown += 1
            problems.append(_describe_unknown(name, meant, known))
    if n_unknown:
        free = _free_parameters(known)
        problems += ["Known parameters:", *(f"  {each}" for each in free.values())]
    return problems


def _describe_unknown(name: str, meant: ParameterTables, known: ParameterTables) -> str:
    called, dot, own_name = name.rpartition(".")
    if not meant:
        names = _list_names(known)
        return f"{name}: no notebook that runs is called {called}. There are {names}."
    closest = difflib.get_close_matches(own_name, _free_parameters(meant), n=1)
    question = f" Did you mean {called + dot}{closest[0]}?" if closest else ""
    if not dot:
        return f"No notebook that runs has a parameter {own_name}.{question}"
    return f"{next(iter(meant)).stem} has no parameter {own_name}.{question}"


def _free_parameters(known: ParameterTables) -> dict[str, Parameter]:
    """Return all parameters but those that the runner gives, by name."""
    return {
        name: parameter
        for of_notebook in known.values()
        for name, parameter in of_notebook.items()
        if name not in FROM_THE_RUNNER
    }


def read_value(given: Any, parameter: Parameter) -> Any:
    """Return a value as the type that the notebook gives the parameter.

    Parameters
    ----------
    given
        A value of that type, or the text of one as typed on a command line.
    parameter
        The parameter.

    Raises
    ------
    ParameterError
        If it is not of that type.
    """
    outer, _, inner = parameter.annotation.rstrip("]").partition("[")
    try:
        if outer == "list":
            value: Any = [READERS[inner](item) for item in _read_list(given)]
        else:
            value = READERS[outer](given)
    except (KeyError, SyntaxError, TypeError, ValueError) as error:
        message = (
            f"{parameter.name} = {given!r}: expected {parameter.annotation}, such as "
            f"{parameter.default} ({parameter.notebook}: {parameter.comment})."
        )
        raise ParameterError(message) from error
    is_path = parameter.name.endswith(PATH_ENDINGS)
    return _absolute(value) if is_path or _names_a_file(value) else value


def _names_a_file(value: Any) -> bool:
    """Tell whether a text is the name of a file here, such as a detector's `det.h5`."""
    return isinstance(value, str) and bool(Path(value).suffix) and Path(value).is_file()


def _read_list(given: Any) -> list[Any]:
    value = ast.literal_eval(given) if isinstance(given, str) else given
    if not isinstance(value, list | tuple):
        raise ValueError
    return list(value)


def _read_bool(given: Any) -> bool:
    return BOOLS[str(given).lower()]


def _read_int(given: Any) -> int:
    if isinstance(given, bool | float):
        raise ValueError
    return int(given)


def _read_float(given: Any) -> float:
    if isinstance(given, bool):
        raise ValueError
    return float(given)


def _read_str(given: Any) -> str:
    if not isinstance(given, str | Path):
        raise ValueError
    return str(given)


READERS: dict[str, Callable[[Any], Any]] = {
    "bool": _read_bool,
    "float": _read_float,
    "int": _read_int,
    "str": _read_str,
}


def _absolute(value: Any) -> Any:
    """Make paths absolute, since a notebook runs in its own folder."""
    if isinstance(value, list):
        return [_absolute(item) for item in value]
    if not value or "://" in value:
        return value
    return str(Path(value).expanduser().absolute())


BOOK_NAME = "stages.json"
LABELS = "the labels"
IMPORTS_LABELS = "labels_file"
CLUSTER = "cluster"
READS_LABELS = (IMPORTS_LABELS, "store_url")  # parameters of notebooks that do

Marks = dict[str, str]


class StageBook:
    """The record of the notebooks that were run in a work folder.

    Parameters
    ----------
    work_dir
        The work folder.
    reports
        Its folder of executed copies.
    every
        All notebooks of the pipeline, in order.
    """

    def __init__(self, work_dir: Path, reports: Path, every: Sequence[Path]) -> None:
        self._work_dir = work_dir
        self._reports = reports
        self._every = [notebook.name for notebook in every]
        self._book = _read_book(work_dir / BOOK_NAME)
        self._before: Marks = {}
        self._depends_on: Marks = {}

    def why_run(self, notebook: Path, values: Mapping[str, Any]) -> str | None:
        """Say why a notebook has to run, "" if it never did; None: it need not.

        Parameters
        ----------
        notebook
            Its path.
        values
            Its parameters.
        """
        stage = self._book.get(notebook.name)
        if stage is None or not (self._reports / notebook.name).exists():
            return ""
        now = self._find_dependencies(notebook, values)
        before = stage["depends_on"]
        changed = [name for name, mark in now.items() if before.get(name) != mark]
        wrote: Marks = stage["wrote"]
        there = _mark_files(self._work_dir)
        changed += [name for name, mark in wrote.items() if there.get(name) != mark]
        return ", ".join(dict.fromkeys(changed)) or None

    def warnings_of(self, notebook: Path) -> list[str]:
        """Return the warnings that a notebook showed when it ran."""
        return list(self._book[notebook.name]["warnings"])

    def begin(self, notebook: Path, values: Mapping[str, Any]) -> None:
        """Forget a notebook that is about to run, and see what it will depend on."""
        self._book.pop(notebook.name, None)
        self._write()
        self._before = _mark_files(self._work_dir)
        self._depends_on = self._find_dependencies(notebook, values)

    def finish(
        self, notebook: Path, values: Mapping[str, Any], warnings: Sequence[str]
    ) -> None:
        """Keep what a notebook depended on and wrote, once it has ended well."""
        now = _mark_files(self._work_dir)
        wrote = {k: mark for k, mark in now.items() if self._before.get(k) != mark}
        for stage in self._book.values():  # a file belongs to who wrote it last
            for name in wrote:
                stage["wrote"].pop(name, None)
        if IMPORTS_LABELS in values:  # it is not to run again for what it brought in
            self._depends_on[LABELS] = _mark_labels(self._work_dir, values)
        self._book[notebook.name] = {
            "depends_on": self._depends_on,
            "wrote": wrote,
            "warnings": list(warnings),
        }
        self._write()

    def _write(self) -> None:
        write_json(self._work_dir / BOOK_NAME, self._book)

    def _find_dependencies(self, notebook: Path, values: Mapping[str, Any]) -> Marks:
        found = {
            "the notebook": _digest_notebook(notebook),
            "the package": _digest_package(),
        }
        for name, value in values.items():
            if name == CLUSTER:  # wherever work is done, results are the same
                continue
            marks = [] if name == "work_dir" else _mark_paths(value)
            found[name] = digest(json.dumps([value, *marks]).encode())
        if any(name in values for name in READS_LABELS):
            found[LABELS] = _mark_labels(self._work_dir, values)
        there = _mark_files(self._work_dir)
        place = self._every.index(notebook.name)
        for earlier in self._every[:place]:
            for name in self._book.get(earlier, {}).get("wrote", {}):
                found[name] = there.get(name, "")
        return found


def _read_book(path: Path) -> dict[str, Any]:
    """Return what is known of each notebook; of a damaged record what can be used."""
    with suppress(*CANNOT_BE_READ):
        book = read_json(path)
        return {name: stage for name, stage in book.items() if _is_stage(stage)}
    return {}


def _is_stage(found: Any) -> bool:
    kinds = {"depends_on": dict, "wrote": dict, "warnings": list}
    return isinstance(found, dict) and all(
        isinstance(found.get(name), kind) for name, kind in kinds.items()
    )


def _mark_files(work_dir: Path) -> Marks:
    """Return a mark for each file and folder of a work folder that notebooks write."""
    left_out = ("reports", LABELS_NAME, BOOK_NAME)
    return {
        path.name: _mark(path)
        for path in sorted(work_dir.iterdir())
        if not path.name.startswith((".", *left_out))
    }


def _mark(path: Path) -> str:
    """Return a text that changes when a file does, or any in a folder; "" of none."""
    try:
        if path.is_dir():
            inside = [p for p in sorted(path.rglob("*")) if p.is_file()]
            marks = [[str(p.relative_to(path)), _mark(p)] for p in inside]
            return digest(json.dumps(marks).encode())
        found = path.stat()
    except OSError:
        return ""
    return f"{found.st_size} {found.st_mtime_ns}"


def _mark_paths(value: Any) -> Iterator[str]:
    """Give the marks of the files that a parameter names."""
    for each in value if isinstance(value, list) else [value]:
        if isinstance(each, str) and os.sep in each and "://" not in each:
            named = each.rsplit(":/", 1)[0]  # a dataset in a file
            found = [Path(each), Path(named), *match_files(Path(each))]
            yield from (_mark(path) for path in dict.fromkeys(found))


def open_labels(work_dir: Path, store_url: str) -> "LabelStore":
    """Open the labels of a work folder; a store that is not there is not made.

    Parameters
    ----------
    work_dir
        The work folder.
    store_url
        SQLAlchemy URL of the labels; "" takes `labels.sqlite` in the work folder.

    Raises
    ------
    Exception
        One of `CANNOT_BE_READ`, such as a `FileNotFoundError`.
    """
    from helpers.labels import open_label_store  # slow to import

    metadata = read_json(work_dir / EXPERIMENT.name)
    path = work_dir / LABELS_NAME
    if not store_url:
        path.stat()  # opening it would make it
    return open_label_store(
        store_url or path, metadata["fingerprint"], metadata["shape"][0]
    )


def _mark_labels(work_dir: Path, values: Mapping[str, Any]) -> str:
    store_url = values.get("store_url", "")
    with suppress(*CANNOT_BE_READ), open_labels(work_dir, store_url) as store:
        told = [str(event) for event in store.history()]
        return digest(json.dumps(told).encode())
    return "unknown"


def _digest_notebook(notebook: Path) -> str:
    content = json.loads(notebook.read_text(encoding="utf-8"))
    sources = [
        [cell["cell_type"], "".join(cell["source"])] for cell in content["cells"]
    ]
    return digest(json.dumps(sources).encode())


@cache
def _digest_package() -> str:
    """Return a text that changes with the package, also where that is being written."""
    folder = Path(__file__).parents[1]
    files = sorted(path for path in folder.rglob("*.py"))
    return digest(b"".join([__version__.encode(), *(p.read_bytes() for p in files)]))


@contextmanager
def lock_folder(work_dir: Path, log: Callable[[str], None]) -> Iterator[None]:
    """Keep other runs out of a work folder while the block runs.

    The system lets go of it with the process, however that ends.

    Parameters
    ----------
    work_dir
        The work folder.
    log
        Called with a line of text where the disk has no locks to give.

    Raises
    ------
    WorkFolderError
        If another run works there.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    folder = os.open(work_dir, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(folder)
        message = (
            f"{work_dir} is in use by another run. Two runs in one work folder would "
            "overwrite each other's files. Wait until it has ended, or give another "
            "--work-dir."
        )
        raise WorkFolderError(message) from error
    except OSError:
        log(f"  {work_dir} has no locks: start no second run in it.")
    try:
        yield
    finally:
        os.close(folder)
