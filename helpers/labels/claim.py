"""Which patterns a store of labels is for; the store is made on the first use."""

import sqlalchemy as sa

from helpers import __version__
from helpers.errors import LabelsError, OtherPatternsError
from helpers.labels.database import Database
from helpers.labels.events import now
from helpers.labels.schema import labelled_patterns, metadata


def claim_store(database: Database, fingerprint: str, n_patterns: int) -> None:
    """Make a new store for these patterns, or check that an old one is for them.

    Raises
    ------
    OtherPatternsError
        The store is for other patterns.
    LabelsError
        The database cannot be read, or not be written where the store is new.
    """
    ours = fingerprint, n_patterns
    check_same_patterns(database.name, _find(database) or _make(database, ours), ours)


def check_same_patterns(
    name: str, found: tuple[str, int], expected: tuple[str, int]
) -> None:
    """Raise `OtherPatternsError` unless fingerprint and number of patterns agree."""
    if found == expected:
        return
    message = (
        f"{name}: these are labels of {found[1]} patterns with fingerprint {found[0]}; "
        f"expected labels of {expected[1]} patterns with fingerprint {expected[0]}. "
        "Open the files that were labelled, in the same order, or choose another "
        "work folder."
    )
    raise OtherPatternsError(message)


def _find(database: Database) -> tuple[str, int] | None:
    c = labelled_patterns.c
    with database.reading() as connection:
        if not sa.inspect(connection).has_table(labelled_patterns.name):
            return None
        row = connection.execute(sa.select(c.fingerprint, c.n_patterns)).one()
        return row.fingerprint, row.n_patterns


def _make(database: Database, ours: tuple[str, int]) -> tuple[str, int]:
    facts = {
        "id": 1,
        "fingerprint": ours[0],
        "n_patterns": ours[1],
        "made_by": f"single-hits {__version__}",
        "made_at": now(),
    }
    try:
        with database.writing() as connection:
            metadata.create_all(connection)
            connection.execute(sa.insert(labelled_patterns), facts)
    except LabelsError:
        # Another process may have made the store at this very moment.
        if found := _find(database):
            return found
        raise
    return ours
