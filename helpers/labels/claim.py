"""Which patterns a store of labels is for; the store is made on the first use."""

from typing import Any

import sqlalchemy as sa

from helpers import __version__
from helpers.errors import LabelsError, OtherPatternsError
from helpers.labels.database import Database
from helpers.labels.events import now
from helpers.labels.schema import labelled_patterns, metadata, same_runs

Identity = tuple[str, int]
"""Fingerprint and number of the patterns."""


def claim_store(database: Database, ours: Identity, same_run: bool = False) -> None:
    """Make a new store for these patterns, or check that an old one is for them.

    Parameters
    ----------
    database
        Where the store is, or is to be.
    ours
        Fingerprint and number of the patterns.
    same_run
        True adds them to those that the store is for.

    Raises
    ------
    OtherPatternsError
        The store is for other patterns; or, with `same_run`, for more than these.
    LabelsError
        The database cannot be read, or not be written where the store is new.
    """
    known = _find(database) or _make(database, ours)
    if same_run and ours not in known:
        _check_not_fewer(database.name, known, ours)
        _remember(database, ours)
    elif ours not in known:
        check_same_patterns(database.name, known[-1], ours)


def check_same_patterns(name: str, found: Identity, expected: Identity) -> None:
    """Raise `OtherPatternsError` unless fingerprint and number of patterns agree."""
    if found == expected:
        return
    message = (
        f"{_say_other(name, found, expected)} Open the files that were labelled, in "
        "the same order, or choose another work folder. If you are sure that these "
        "are the same patterns in the same order (the file was recompressed, its "
        "dtype changed, or patterns were appended at the end), say so once with "
        "same_run=True, which is a parameter of 02-label too: the labels stay as "
        "they are."
    )
    raise OtherPatternsError(message)


def _check_not_fewer(name: str, known: list[Identity], ours: Identity) -> None:
    most = max(known, key=lambda identity: identity[1])
    if ours[1] < most[1]:
        message = (
            f"{_say_other(name, most, ours)} They cannot be the same run with patterns "
            "appended, because they are fewer. Open all files that were labelled, in "
            "the same order, or choose another work folder."
        )
        raise OtherPatternsError(message)


def _say_other(name: str, found: Identity, expected: Identity) -> str:
    return (
        f"{name}: these are labels of {found[1]} patterns with fingerprint {found[0]}; "
        f"expected labels of {expected[1]} patterns with fingerprint {expected[0]}."
    )


def _find(database: Database) -> list[Identity]:
    """Return all that the store is for, what it was made for first; [] = no store."""
    with database.reading() as connection:
        tables = sa.inspect(connection).get_table_names()
        # Stores made before a run could change its fingerprint lack the second.
        there = [each for each in (labelled_patterns, same_runs) if each.name in tables]
        queries = [
            sa.select(each.c.fingerprint, each.c.n_patterns).order_by(each.c.id)
            for each in there
        ]
        rows = [row for query in queries for row in connection.execute(query)]
        return [(row.fingerprint, row.n_patterns) for row in rows]


def _make(database: Database, ours: Identity) -> list[Identity]:
    try:
        with database.writing() as connection:
            metadata.create_all(connection)
            connection.execute(sa.insert(labelled_patterns), {"id": 1, **_facts(ours)})
    except LabelsError:
        # Another process may have made the store at this very moment.
        if found := _find(database):
            return found
        raise
    return [ours]


def _remember(database: Database, ours: Identity) -> None:
    try:
        with database.writing() as connection:
            same_runs.create(connection, checkfirst=True)
            connection.execute(sa.insert(same_runs), _facts(ours))
    except LabelsError:
        # Another process may have said so at this very moment.
        if ours not in _find(database):
            raise


def _facts(ours: Identity) -> dict[str, Any]:
    return {
        "fingerprint": ours[0],
        "n_patterns": ours[1],
        "made_by": f"single-hits {__version__}",
        "made_at": now(),
    }
