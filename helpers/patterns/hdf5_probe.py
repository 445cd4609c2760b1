"""The process that reads HDF5 files on trial: see `helpers.patterns.hdf5_trial`.

On its standard input it is told, in one line of JSON each, the name of a file and how
much CPU time a step may take. It answers with a line for everything that it touches,
the place in the file, and with `null` when it has nothing to do. Whether it answers at
all is what it is there for.
"""

import faulthandler
import json
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import h5py

from helpers.errors import PatternsFileError
from helpers.patterns.hdf5 import DAMAGE, follow, open_untried

AT_ONCE = 1024  # values of variable length that are read by one call
VALUES_TRIED = 1_000_000  # of a longer dataset, the beginning
OBJECTS_TRIED = 5_000  # of a file with more groups and datasets, those at the top
MINUTES_WITHOUT_CPU_LIMIT = 5

Tell = Callable[[str], None]


def main() -> None:
    """Touch each file that is named on stdin; see the module."""
    answers = _take_stdout()
    _say(answers, None)
    for line in sys.stdin:
        path, seconds = json.loads(line)
        with suppress(Exception):  # only whether it survives is of interest
            touch(Path(path), partial(_begin_step, answers, seconds))
        _say(answers, None)


def _take_stdout() -> TextIO:
    """Keep stdout for the answers; what a compression filter prints goes nowhere."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="ascii")
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
    return answers


def _begin_step(answers: TextIO, seconds: float, place: str) -> None:
    end_unless_called_again(seconds)
    _say(answers, place)


def _say(answers: TextIO, place: str | None) -> None:
    answers.write(json.dumps(place) + "\n")
    answers.flush()


def end_unless_called_again(seconds: float) -> None:
    """End this process once it has used so much CPU time without calling this again.

    Parameters
    ----------
    seconds
        CPU time, so that no disk is too slow. Where the system does not measure it
        (Windows), minutes of any time count instead.
    """
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, seconds)
    else:
        faulthandler.dump_traceback_later(60 * MINUTES_WITHOUT_CPU_LIMIT, exit=True)


def touch(path: Path, tell: Tell) -> None:
    """Open everything in a file, and read what has no fixed length.

    Errors are left to those who open the file afterwards and can explain them.

    Parameters
    ----------
    path
        An HDF5 file.
    tell
        Called with each place in the file, before anything is done there.
    """
    with suppress(PatternsFileError, *DAMAGE):
        tell("/")
        with open_untried(path) as file:
            for place, item in islice(_visit(file, tell), OBJECTS_TRIED):
                _read_attributes(item)
                with suppress(*DAMAGE):
                    _read_loose_values(item, partial(tell, place))


def _visit(file: h5py.File, tell: Tell) -> Iterator[tuple[str, Any]]:
    """Open every object once, also what lies beside a damaged one."""
    seen = {file}
    waiting = deque([("", file)])
    yield "/", file
    while waiting:
        folder, group = waiting.popleft()
        for name in _list_names(group):
            place = f"{folder}/{name}"
            tell(place)
            with suppress(*DAMAGE):
                item = follow(group, name)
                if item is None or item in seen:
                    continue
                seen.add(item)
                if isinstance(item, h5py.Group):
                    waiting.append((place, item))
                yield place, item


def _list_names(names: h5py.Group | h5py.AttributeManager) -> list[str]:
    with suppress(*DAMAGE):
        return list(names)
    return []


def _read_attributes(item: Any) -> None:
    for name in _list_names(item.attrs):
        with suppress(*DAMAGE):
            item.attrs[name]


def _read_loose_values(item: Any, begin_step: Callable[[], None]) -> None:
    """Read texts and lists, which lie elsewhere in the file than the dataset."""
    if not (isinstance(item, h5py.Dataset) and item.dtype.hasobject):
        return
    if not item.shape:
        item[()]
        return
    each = max(1, item.size // max(1, len(item)))
    step = max(1, AT_ONCE // each)
    for start in range(0, min(len(item), VALUES_TRIED // each), step):
        begin_step()
        item[start : start + step]


if __name__ == "__main__":
    main()
