"""Give each notebook its own parameters, of the type that its parameters cell says.

Papermill only warns about a name that no notebook has, and puts any value into any
parameter. Both are refused here, all of them in one message, before anything runs.
"""

import ast
import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.errors import ParameterError

FROM_THE_RUNNER = {
    "patterns_file": "--patterns",
    "work_dir": "--work-dir",
    "labels_file": "--labels",
}
PATH_ENDINGS = ("_file", "_files", "_dir", "_folder", "_url")  # a URL may be a path
WORDS_FOR_TRUE = ("true", "yes", "on", "1")
WORDS_FOR_FALSE = ("false", "no", "off", "0")


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
    known = [read_parameters(notebook) for notebook in notebooks]
    problems = [
        *_missing_names(known, from_the_runner, notebooks),
        *_unknown_names(dict(zip(notebooks, known, strict=True)), from_the_user),
    ]
    assigned = []
    for notebook, of_notebook in zip(notebooks, known, strict=True):
        values, wrong = _read_values(of_notebook, _given_to(notebook, from_the_user))
        problems += wrong
        own = {k: v for k, v in from_the_runner.items() if k in of_notebook}
        assigned.append(own | values)
    if problems:
        raise ParameterError("\n".join(problems))
    return assigned


def _missing_names(
    known: Sequence[Mapping[str, Parameter]],
    needed: Mapping[str, Any],
    notebooks: Sequence[Path],
) -> list[str]:
    names = ", ".join(notebook.stem for notebook in notebooks)
    return [
        f"{FROM_THE_RUNNER[name]} was given, but no notebook that runs ({names}) has "
        f"the parameter {name}."
        for name, value in needed.items()
        if value and not any(name in of_notebook for of_notebook in known)
    ]


def _given_to(notebook: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is meant for a notebook; what names it counts more than what not."""
    to_all, to_this = {}, {}
    for name, value in given.items():
        called, dot, own_name = name.partition(".")
        if not dot:
            to_all[name] = value
        elif is_called(notebook, called):
            to_this[own_name] = value
    return to_all | to_this


def _unknown_names(
    known: Mapping[Path, Mapping[str, Parameter]], given: Mapping[str, Any]
) -> list[str]:
    problems, n_unknown = [], 0
    for name in given:
        own_name = name.rpartition(".")[2]
        if own_name in FROM_THE_RUNNER:
            set_by = FROM_THE_RUNNER[own_name]
            problems.append(f"{name} is set by {set_by}, not as a parameter.")
        elif not any(own_name in _meant(each, name, known[each]) for each in known):
            n_unknown += 1
            problems.append(_unknown_name(name, known))
    if n_unknown:
        free = _free_parameters(known.values())
        problems += ["Known parameters:", *(f"  {each}" for each in free.values())]
    return problems


def _meant(
    notebook: Path, name: str, known: Mapping[str, Parameter]
) -> Mapping[str, Parameter]:
    """Return the parameters of a notebook, if `name` may mean one of them."""
    called, dot, _ = name.partition(".")
    return known if not dot or is_called(notebook, called) else {}


def _unknown_name(name: str, known: Mapping[Path, Mapping[str, Parameter]]) -> str:
    called, dot, own_name = name.rpartition(".")
    meant = [path for path in known if not dot or is_called(path, called)]
    if not meant:
        names = ", ".join(notebook.stem for notebook in known)
        return f"{name}: no notebook that runs is called {called}. There are {names}."
    free = _free_parameters(known[path] for path in meant)
    closest = difflib.get_close_matches(own_name, free, n=1)
    question = f" Did you mean {called + dot}{closest[0]}?" if closest else ""
    whom = meant[0].stem if dot else "No notebook that runs"
    has = "has no" if dot else "has a"
    return f"{whom} {has} parameter {own_name}.{question}"


def _free_parameters(known: Iterable[Mapping[str, Parameter]]) -> dict[str, Parameter]:
    """Return all parameters but those that the runner gives, by name."""
    return {
        name: parameter
        for of_notebook in known
        for name, parameter in of_notebook.items()
        if name not in FROM_THE_RUNNER
    }


def _read_values(
    known: Mapping[str, Parameter], given: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    values, problems = {}, []
    for name in [name for name in given if name in known]:
        try:
            values[name] = read_value(given[name], known[name])
        except ParameterError as error:
            problems.append(str(error))
    return values, problems


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
    if isinstance(given, bool):
        return given
    if str(given).lower() in WORDS_FOR_TRUE:
        return True
    if str(given).lower() in WORDS_FOR_FALSE:
        return False
    raise ValueError


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
