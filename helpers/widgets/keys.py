"""Which key does what in the widgets, and the keys that a person prefers.

`save_keys` keeps preferences in a file of the person's own, `keys.json` in the folder
for settings (on Linux `~/.config/single-hits`), so they hold in every notebook.
"""

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from platformdirs import user_config_path

from helpers.errors import ParameterError
from helpers.labels import LABELS
from helpers.outputs import write_json

KeyTable = Mapping[str, Sequence[str]]

_HELP: KeyTable = {"help": ["?", "h"]}
_LABEL: KeyTable = {
    **{word: [str(i), word[0]] for i, word in enumerate(LABELS, start=1)},
    "undo": ["z", "Backspace"],
}
_DISPLAY: KeyTable = {
    "linear": ["l"],
    "map": ["c"],
    "darker": ["["],
    "brighter": ["]"],
    "floorDown": ["{"],
    "floorUp": ["}"],
    "hold": ["k"],
    "bad": ["x"],
    "reset": ["0"],
}
_ZOOM: KeyTable = {"zoomIn": ["+", "="], "zoomOut": ["-"]}

LABELLER_KEYS: KeyTable = {
    **_LABEL,
    "back": ["ArrowLeft"],
    "forward": ["ArrowRight"],
    "skip": [" "],
    "first": ["f", "Home"],
    "jump": ["g"],
    **_DISPLAY,
    **_ZOOM,
    **_HELP,
}
GALLERY_KEYS: KeyTable = {
    **_LABEL,
    **{f"all {word}": [word[0].upper()] for word in LABELS},
    "toggle": [" "],
    "page": ["a"],
    "rest": ["r"],
    "none": ["d"],
    "left": ["ArrowLeft"],
    "right": ["ArrowRight"],
    "up": ["ArrowUp"],
    "down": ["ArrowDown"],
    "back": [",", "PageUp"],
    "forward": [".", "PageDown"],
    "enlarge": ["Enter", "e"],
    **_DISPLAY,
    **_HELP,
}
BROWSER_KEYS: KeyTable = {
    "back": ["ArrowLeft"],
    "forward": ["ArrowRight", " "],
    "farBack": ["PageUp"],
    "farForward": ["PageDown"],
    "byScore": ["n"],
    "jump": ["g"],
    **_DISPLAY,
    **_ZOOM,
    **_HELP,
}
TABLES = {"labeller": LABELLER_KEYS, "gallery": GALLERY_KEYS, "browser": BROWSER_KEYS}


def choose_keys(
    table: KeyTable, preferred: Mapping[str, str | Sequence[str]] | None = None
) -> dict[str, list[str]]:
    """Return the keys of each action of a widget.

    Parameters
    ----------
    table
        The widget's own keys.
    preferred
        Other keys for some of the actions, which replace its own; None = those that
        `save_keys` has kept, or none where they do not fit.

    Raises
    ------
    ParameterError
        If there is no such action, a key is reserved, or one key has two meanings.
    """
    if preferred is not None:
        return _replace(table, _as_lists(preferred))
    try:
        return _replace(table, read_keys())
    except ParameterError as error:
        warnings.warn(f"{keys_file()} is not followed: {error}", stacklevel=2)
        return _replace(table, {})


def keys_file() -> Path:
    """Return where a person's preferred keys are kept."""
    return user_config_path("single-hits", appauthor=False) / "keys.json"


def save_keys(preferred: Mapping[str, str | Sequence[str]]) -> Path:
    """Keep preferred keys for all notebooks of this person.

    Parameters
    ----------
    preferred
        A key, or several, for each action to be changed, such as `{"single": "j"}`;
        `{}` goes back to the keys that the help panel shows at first.

    Returns
    -------
        The file, written whole or not at all.

    Raises
    ------
    ParameterError
        If there is no such action, a key is reserved, or one key has two meanings.
    """
    keys = _as_lists(preferred)
    for table in TABLES.values():
        _replace(table, keys)
    path = keys_file()
    write_json(path, keys)
    return path


def read_keys() -> dict[str, list[str]]:
    """Return the keys that `save_keys` has kept; {} where there are none.

    Raises
    ------
    ParameterError
        If the file cannot be read.
    """
    path = keys_file()
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text("utf-8"))
        return _as_lists(content)
    except (OSError, ValueError, AttributeError, TypeError) as error:
        message = (
            f"{path}: cannot be read ({error}). Expected such as "
            '{"single": ["j"]}. Write it again with save_keys, or remove it.'
        )
        raise ParameterError(message) from error


def _as_lists(preferred: Mapping[str, str | Sequence[str]]) -> dict[str, list[str]]:
    return {
        name: [keys] if isinstance(keys, str) else [str(key) for key in keys]
        for name, keys in preferred.items()
    }


def _replace(table: KeyTable, preferred: dict[str, list[str]]) -> dict[str, list[str]]:
    problems = [*_find_reserved(preferred), *_find_unknown(preferred)]
    capitals = {
        f"all {word}": [keys[0].upper()]
        for word, keys in preferred.items()
        if word in LABELS and keys and keys[0].isalpha()
    }
    wanted = {**capitals, **preferred}
    keys = {name: list(wanted.get(name, own)) for name, own in table.items()}
    problems += _find_conflicts(keys)
    if problems:
        raise ParameterError(" ".join(f"keys: {problem}" for problem in problems))
    return keys


def _find_unknown(preferred: dict[str, list[str]]) -> Iterator[str]:
    names = {name for table in TABLES.values() for name in table}
    unknown = sorted(set(preferred) - names)
    if unknown:
        known = ", ".join(sorted(names))
        yield f"found {', '.join(unknown)}; expected some of {known}."


def _find_reserved(preferred: dict[str, list[str]]) -> Iterator[str]:
    for name, keys in preferred.items():
        if not keys:
            yield f"found no key for '{name}'; expected one or more."
        for key in keys:
            if len(key) != 1 or not key.isprintable() or key != key.lower():
                yield (
                    f"found '{key}' for '{name}'; expected one character, such as 'j' "
                    "or '7': capitals are for whole pages, and other keys for moving "
                    "and for the notebook."
                )


def _find_conflicts(keys: dict[str, list[str]]) -> Iterator[str]:
    owners: dict[str, str] = {}
    for name, key in ((name, key) for name, own in keys.items() for key in own):
        owner = owners.setdefault(key, name)
        if owner != name:
            yield (
                f"found '{key}' for both '{owner}' and '{name}'; expected each key "
                "once. Give one of them another key too."
            )
