"""Which key does what in the widgets, its help text, and the keys a person prefers.

`save_keys` keeps preferences in a file of the person's own, `keys.json` in the folder
for settings (on Linux `~/.config/single-hits`), so they hold in every notebook.
"""

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from platformdirs import user_config_path

from helpers.errors import ParameterError
from helpers.labels import LABELS
from helpers.outputs import write_json


class Key(NamedTuple):
    """The keys of one action of a widget."""

    keys: Sequence[str]
    does: str  # for the help panel
    repeats: bool = False  # while the key is held down


KeyTable = Mapping[str, Key]

_HELP: KeyTable = {"help": Key(["?", "h"], "show or hide these keys")}
_WORD_KEYS = {word: [str(i), word[0]] for i, word in enumerate(LABELS, start=1)}
_UNDO_KEYS = ["z", "Backspace"]
_DISPLAY: KeyTable = {
    "linear": Key(["l"], "log or linear scale"),
    "map": Key(["c"], "next colour map"),
    "darker": Key(["["], "darker", True),
    "brighter": Key(["]"], "brighter", True),
    "floorDown": Key(["{"], "show more of the weak signal", True),
    "floorUp": Key(["}"], "hide more of the weak signal", True),
    "hold": Key(["k"], "keep this scale for all patterns, or give each its own"),
    "bad": Key(["x"], "bad pixels in a colour of their own, or as dark as zero"),
    "reset": Key(["0"], "scale and colours as at first"),
}
_ZOOM: KeyTable = {
    "zoomIn": Key(["+", "="], "zoom in; drag to move"),
    "zoomOut": Key(["-"], "zoom out"),
    "crop": Key(["v"], "where the signal is, or the whole detector"),
    "flatten": Key(["t"], "flatten: divide by the mean at each radius, or not"),
}

LABELLER_KEYS: KeyTable = {
    **{word: Key(keys, f"label {word}") for word, keys in _WORD_KEYS.items()},
    "undo": Key(_UNDO_KEYS, "take the last label back, as often as you like"),
    "back": Key(["ArrowLeft"], "previous pattern", True),
    "forward": Key(["ArrowRight"], "next pattern", True),
    "skip": Key([" "], "skip to the next unlabelled pattern"),
    "first": Key(["f", "Home"], "first unlabelled pattern"),
    "jump": Key(["g"], "go to a pattern by its index"),
    **_DISPLAY,
    **_ZOOM,
    **_HELP,
}
GALLERY_KEYS: KeyTable = {
    **{
        word: Key(keys, f"label {word}: the selected ones, or the one under the cursor")
        for word, keys in _WORD_KEYS.items()
    },
    **{
        f"all {word}": Key([word[0].upper()], f"label {word}: all on this page")
        for word in LABELS
    },
    "undo": Key(_UNDO_KEYS, "take the last label, or page of labels, back"),
    "toggle": Key([" "], "select the pattern under the cursor, or not"),
    "page": Key(["a"], "select all on this page"),
    "rest": Key(["r"], "select the unlabelled ones on this page"),
    "none": Key(["d"], "select nothing"),
    "whole": Key(["A"], "select the whole list, on all its pages"),
    "left": Key(["ArrowLeft"], "cursor left; with Shift, select on the way", True),
    "right": Key(["ArrowRight"], "cursor right; likewise", True),
    "up": Key(["ArrowUp"], "cursor up; likewise", True),
    "down": Key(["ArrowDown"], "cursor down; likewise", True),
    "back": Key([",", "PageUp"], "previous page", True),
    "forward": Key([".", "PageDown"], "next page", True),
    "enlarge": Key(["Enter", "e"], "enlarge the pattern under the cursor, or stop"),
    **_DISPLAY,
    **_HELP,
}
BROWSER_KEYS: KeyTable = {
    "back": Key(["ArrowLeft"], "previous pattern", True),
    "forward": Key(["ArrowRight", " "], "next pattern", True),
    "farBack": Key(["PageUp"], "ten patterns back", True),
    "farForward": Key(["PageDown"], "ten patterns on", True),
    "byScore": Key(
        ["n"], "next by hit score: the highest first, then one lower each time"
    ),
    "jump": Key(["g"], "go to a pattern by its index"),
    **_DISPLAY,
    **_ZOOM,
    **_HELP,
}
TABLES = {"labeller": LABELLER_KEYS, "gallery": GALLERY_KEYS, "browser": BROWSER_KEYS}


def choose_keys(
    table: KeyTable, preferred: Mapping[str, str | Sequence[str]] | None = None
) -> dict[str, Key]:
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


def _replace(table: KeyTable, preferred: dict[str, list[str]]) -> dict[str, Key]:
    problems = [*_find_reserved(preferred), *_find_unknown(preferred)]
    capitals = {
        f"all {word}": [keys[0].upper()]
        for word, keys in preferred.items()
        if word in LABELS and keys and keys[0].isalpha()
    }
    wanted = {**capitals, **preferred}
    keys = {
        name: own._replace(keys=list(wanted.get(name, own.keys)))
        for name, own in table.items()
    }
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


def _find_conflicts(keys: KeyTable) -> Iterator[str]:
    owners: dict[str, str] = {}
    for name, key in ((n, key) for n, own in keys.items() for key in own.keys):
        owner = owners.setdefault(key, name)
        if owner != name:
            yield (
                f"found '{key}' for both '{owner}' and '{name}'; expected each key "
                "once. Give one of them another key too."
            )
